//! The world outside: a payment provider and a warehouse, on one SQLite file.
//!
//! Both deduplicate by the idempotency key they are given, as real ones do: in one transaction they look the key
//! up and act only if it is absent. No table has a unique index, so that a mistake of theirs would show as a
//! second row. What they answer is unreliable on purpose, by a hash of order and attempt ([`Trouble`]); the same
//! order has the same troubles in every run.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use xxhash_rust::xxh3::xxh3_64;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS charges(key TEXT, order_id TEXT, cents INTEGER, at TEXT);
    CREATE TABLE IF NOT EXISTS attempts(key TEXT, attempt INTEGER, at TEXT);
    CREATE TABLE IF NOT EXISTS declines(key TEXT, order_id TEXT, at TEXT);
    CREATE TABLE IF NOT EXISTS reservations(key TEXT, order_id TEXT, sku TEXT, quantity INTEGER, at TEXT);
    CREATE TABLE IF NOT EXISTS releases(key TEXT, order_id TEXT, at TEXT);
    CREATE INDEX IF NOT EXISTS charges_by_key ON charges(key);
    CREATE INDEX IF NOT EXISTS declines_by_key ON declines(key);
    CREATE INDEX IF NOT EXISTS reservations_by_key ON reservations(key);
    CREATE INDEX IF NOT EXISTS releases_by_key ON releases(key);
";

/// The time, as SQLite writes it.
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// The database. Calls block: they belong on blocking threads.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

/// Who asks, and for the how-manieth time.
#[derive(Debug, Clone)]
pub struct Request {
    pub key: String,
    pub attempt: u32,
    pub order_id: String,
}

/// What the payment provider answers when it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Charged,
    Declined,
}

/// The provider or the warehouse did not answer; trying again is right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the {0} is busy")]
    Busy(&'static str),
    #[error("the connection to the {0} was lost before the answer came")]
    AnswerLost(&'static str),
    #[error("the database failed: {0}")]
    Database(#[from] rusqlite::Error),
}

impl Store {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened or is no database.
    pub fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // Another process may be at work on the same file.
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A transaction that was interrupted by a panic has been rolled back: the connection is good.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transact<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Takes the money, unless this key has taken it before, or the card is declined.
    ///
    /// # Errors
    /// As unreliable as a provider is: also after the money was taken.
    pub fn charge(&self, request: &Request, cents: u64) -> Result<Answer, Error> {
        let trouble = Trouble::of("charge", request);
        let cents = i64::try_from(cents).unwrap_or(i64::MAX);
        let answer = self.transact(|t| {
            let attempt = format!("INSERT INTO attempts(key, attempt, at) VALUES (?1, ?2, {NOW})");
            t.prepare_cached(&attempt)?.execute(params![request.key, request.attempt])?;
            if trouble == Trouble::Busy {
                return Ok(Answer::Declined);
            }
            if is_declined(&request.order_id) {
                if !is_known(t, "declines", &request.key)? {
                    let decline = format!("INSERT INTO declines(key, order_id, at) VALUES (?1, ?2, {NOW})");
                    t.prepare_cached(&decline)?.execute(params![request.key, request.order_id])?;
                }
                return Ok(Answer::Declined);
            }
            if !is_known(t, "charges", &request.key)? {
                let charge = format!("INSERT INTO charges(key, order_id, cents, at) VALUES (?1, ?2, ?3, {NOW})");
                t.prepare_cached(&charge)?.execute(params![request.key, request.order_id, cents])?;
            }
            Ok(Answer::Charged)
        })?;
        trouble.or(answer, "payment provider")
    }

    /// Sets goods aside, unless this key has done so before.
    ///
    /// # Errors
    /// As unreliable as a warehouse is.
    pub fn reserve(&self, request: &Request, sku: &str, quantity: u32) -> Result<(), Error> {
        let trouble = Trouble::of("reserve", request);
        if trouble != Trouble::Busy {
            self.transact(|t| {
                if !is_known(t, "reservations", &request.key)? {
                    let reserve = format!(
                        "INSERT INTO reservations(key, order_id, sku, quantity, at) VALUES (?1, ?2, ?3, ?4, {NOW})"
                    );
                    t.prepare_cached(&reserve)?.execute(params![request.key, request.order_id, sku, quantity])?;
                }
                Ok(())
            })?;
        }
        trouble.or((), "warehouse")
    }

    /// Puts an order's goods back, unless this key has done so before.
    ///
    /// # Errors
    /// As unreliable as a warehouse is.
    pub fn release(&self, request: &Request) -> Result<(), Error> {
        let trouble = Trouble::of("release", request);
        if trouble != Trouble::Busy {
            self.transact(|t| {
                if !is_known(t, "releases", &request.key)? {
                    let release = format!("INSERT INTO releases(key, order_id, at) VALUES (?1, ?2, {NOW})");
                    t.prepare_cached(&release)?.execute(params![request.key, request.order_id])?;
                }
                Ok(())
            })?;
        }
        trouble.or((), "warehouse")
    }

    /// What the database holds of each order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn facts(&self) -> rusqlite::Result<HashMap<String, Facts>> {
        let connection = self.connection();
        let mut facts: HashMap<String, Facts> = HashMap::new();
        let mut charges = connection.prepare("SELECT order_id, count(*), sum(cents) FROM charges GROUP BY order_id")?;
        let rows = charges.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for row in rows {
            let (order, count, cents): (String, u64, i64) = row?;
            let of_order = facts.entry(order).or_default();
            (of_order.charges, of_order.cents) = (count, cents);
        }
        type Field = fn(&mut Facts) -> &mut u64;
        let counted: [(&str, Field); 3] = [
            ("declines", |facts| &mut facts.declines),
            ("reservations", |facts| &mut facts.reservations),
            ("releases", |facts| &mut facts.releases),
        ];
        for (table, field) in counted {
            let mut counts =
                connection.prepare(&format!("SELECT order_id, count(*) FROM {table} GROUP BY order_id"))?;
            for row in counts.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))? {
                let (order, count): (String, u64) = row?;
                *field(facts.entry(order).or_default()) = count;
            }
        }
        Ok(facts)
    }

    /// How often the payment provider was asked, and how often more than once with one key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn attempts(&self) -> rusqlite::Result<(u64, u64)> {
        let count = "SELECT count(*), count(*) - count(DISTINCT key) FROM attempts";
        self.connection().query_row(count, (), |row| Ok((row.get(0)?, row.get(1)?)))
    }
}

/// Rows of one order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    pub charges: u64,
    pub cents: i64,
    pub declines: u64,
    pub reservations: u64,
    pub releases: u64,
}

fn is_known(transaction: &Transaction<'_>, table: &str, key: &str) -> rusqlite::Result<bool> {
    transaction.prepare_cached(&format!("SELECT 1 FROM {table} WHERE key = ?1"))?.exists(params![key])
}

/// What goes wrong with one attempt: with about one in seven, something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// Nothing was done.
    Busy,
    /// It was done, but nobody hears of it.
    AnswerLost,
}

impl Trouble {
    fn of(what: &str, request: &Request) -> Self {
        match xxh3_64(format!("{what}/{}/{}", request.order_id, request.attempt).as_bytes()) % 100 {
            0..8 => Self::Busy,
            8..15 => Self::AnswerLost,
            _ => Self::None,
        }
    }

    fn or<T>(self, answer: T, who: &'static str) -> Result<T, Error> {
        match self {
            Self::None => Ok(answer),
            Self::Busy => Err(Error::Busy(who)),
            Self::AnswerLost => Err(Error::AnswerLost(who)),
        }
    }
}

/// Whether the order's card is declined, whenever it is tried: one in twenty is.
#[must_use]
pub fn is_declined(order_id: &str) -> bool {
    xxh3_64(format!("card/{order_id}").as_bytes()).is_multiple_of(20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a place for files");
        let store = Store::open(&dir.path().join("orders.sqlite")).expect("it opens");
        (dir, store)
    }

    fn request(order: &str, attempt: u32) -> Request {
        Request { key: format!("order-{order}/run/1"), attempt, order_id: order.to_owned() }
    }

    /// An order with this trouble at its first attempt to be charged.
    fn order_with(trouble: Trouble, declined: bool) -> String {
        let orders = (0..10_000).map(|number| format!("O-{number}"));
        let fits =
            |order: &String| Trouble::of("charge", &request(order, 1)) == trouble && is_declined(order) == declined;
        orders.filter(fits).find(|order| Trouble::of("charge", &request(order, 2)) == Trouble::None).expect("many")
    }

    #[test]
    fn a_charge_whose_answer_was_lost_is_not_made_again() {
        let (_dir, store) = store();
        let order = order_with(Trouble::AnswerLost, false);
        assert!(matches!(store.charge(&request(&order, 1), 500), Err(Error::AnswerLost(_))));
        assert!(matches!(store.charge(&request(&order, 2), 500), Ok(Answer::Charged)));
        assert!(matches!(store.charge(&request(&order, 2), 500), Ok(Answer::Charged)));
        assert_eq!(store.facts().expect("it reads")[&order], Facts { charges: 1, cents: 500, ..Facts::default() });
        assert_eq!(store.attempts().expect("it reads"), (3, 2));
    }

    #[test]
    fn a_busy_provider_does_nothing_but_count() {
        let (_dir, store) = store();
        let order = order_with(Trouble::Busy, false);
        assert!(matches!(store.charge(&request(&order, 1), 500), Err(Error::Busy(_))));
        assert!(store.facts().expect("it reads").is_empty());
        assert_eq!(store.attempts().expect("it reads"), (1, 0));
    }

    #[test]
    fn a_declined_card_is_never_charged() {
        let (_dir, store) = store();
        let order = order_with(Trouble::None, true);
        assert!(matches!(store.charge(&request(&order, 1), 500), Ok(Answer::Declined)));
        assert_eq!(store.facts().expect("it reads")[&order], Facts { declines: 1, ..Facts::default() });
    }

    #[test]
    fn another_key_would_show_as_a_second_row() {
        let (_dir, store) = store();
        let order = order_with(Trouble::None, false);
        store.charge(&request(&order, 1), 500).expect("no trouble");
        let other = Request { key: "another".to_owned(), ..request(&order, 1) };
        store.charge(&other, 500).expect("no trouble");
        assert_eq!(store.facts().expect("it reads")[&order].charges, 2);
    }

    #[test]
    fn goods_are_reserved_and_released_once() {
        let (_dir, store) = store();
        for attempt in 1..9 {
            let _ = store.reserve(&request("O-1", attempt), "TEA", 2);
            let _ = store.release(&request("O-1", attempt));
        }
        assert_eq!(store.facts().expect("it reads")["O-1"], Facts { reservations: 1, releases: 1, ..Facts::default() });
    }
}
