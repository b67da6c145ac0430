//! What became of the orders: counted from the runs' ends as history has them, and compared with the database.
//! Nothing is remembered between runs of the program, so a report after a crash is like any other.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::input::Order;
use crate::store::Facts;

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Charged { took: Duration },
    Declined { took: Duration },
    Failed { why: String },
}

/// The last line of `--json`, and the table without.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub orders: usize,
    pub bad_lines: usize,
    pub duplicates: usize,
    pub charged: usize,
    pub declined: usize,
    pub compensated: usize,
    pub failed: usize,
    pub p50_ms: u64,
    pub p99_ms: u64,
}

impl Report {
    /// Counts endings; the percentiles are those of the time from a run's start to its end.
    #[must_use]
    pub fn new(ended: &[(Order, Ending)], facts: &HashMap<String, Facts>, bad_lines: usize, duplicates: usize) -> Self {
        let mut took: Vec<Duration> = ended
            .iter()
            .filter_map(|(_, ending)| match ending {
                Ending::Charged { took } | Ending::Declined { took } => Some(*took),
                Ending::Failed { .. } => None,
            })
            .collect();
        took.sort_unstable();
        let count = |is: fn(&Ending) -> bool| ended.iter().filter(|(_, ending)| is(ending)).count();
        let released = |order: &Order| facts.get(&order.id).is_some_and(|facts| facts.releases > 0);
        Self {
            orders: ended.len(),
            bad_lines,
            duplicates,
            charged: count(|ending| matches!(ending, Ending::Charged { .. })),
            declined: count(|ending| matches!(ending, Ending::Declined { .. })),
            compensated: ended.iter().filter(|(order, _)| released(order)).count(),
            failed: count(|ending| matches!(ending, Ending::Failed { .. })),
            p50_ms: percentile(&took, 50),
            p99_ms: percentile(&took, 99),
        }
    }
}

/// The least value that so many percent do not exceed; 0 of nothing.
fn percentile(sorted: &[Duration], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0, |value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
}

/// Compares how the runs ended with what the services did: one sentence for each order that does not add up.
#[must_use]
pub fn contradictions(ended: &[(Order, Ending)], facts: &HashMap<String, Facts>) -> Vec<String> {
    let mut found = Vec::new();
    for (order, ending) in ended {
        let facts = facts.get(&order.id).copied().unwrap_or_default();
        let expected = match ending {
            Ending::Charged { .. } => {
                let cents = i64::try_from(order.cents).unwrap_or(i64::MAX);
                Facts { charges: 1, cents, reservations: 1, ..Facts::default() }
            }
            Ending::Declined { .. } => Facts { declines: 1, reservations: 1, releases: 1, ..Facts::default() },
            // Whatever was done before it failed, nobody was charged twice.
            Ending::Failed { .. } if facts.charges <= 1 => continue,
            Ending::Failed { .. } => Facts { charges: 1, ..facts },
        };
        if facts != expected {
            found.push(format!("order {:?} ended as {ending:?}, but the database has {facts:?}", order.id));
        }
    }
    found
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { orders, bad_lines, duplicates, charged, declined, compensated, failed, p50_ms, p99_ms } = self;
        writeln!(f, "orders       {orders} ({duplicates} duplicates and {bad_lines} bad lines left out)")?;
        writeln!(f, "  charged    {charged}")?;
        writeln!(f, "  declined   {declined}")?;
        writeln!(f, "  failed     {failed}")?;
        writeln!(f, "compensated  {compensated}")?;
        write!(f, "an order took {p50_ms} ms (half of them) to {p99_ms} ms (99 of 100)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(id: &str) -> Order {
        Order { id: id.to_owned(), customer: "Bo".to_owned(), sku: "TEA".to_owned(), quantity: 1, cents: 500 }
    }

    fn charged(ms: u64) -> Ending {
        Ending::Charged { took: Duration::from_millis(ms) }
    }

    const PAID: Facts = Facts { charges: 1, cents: 500, declines: 0, reservations: 1, releases: 0 };
    const PUT_BACK: Facts = Facts { charges: 0, cents: 0, declines: 1, reservations: 1, releases: 1 };

    #[test]
    fn orders_are_counted_by_their_ends() {
        let declined = Ending::Declined { took: Duration::from_millis(900) };
        let failed = Ending::Failed { why: "no worker".to_owned() };
        let ended =
            vec![(order("a"), charged(10)), (order("b"), charged(20)), (order("c"), declined), (order("d"), failed)];
        let facts = [("a", PAID), ("b", PAID), ("c", PUT_BACK)].map(|(id, facts)| (id.to_owned(), facts)).into();
        let report = Report::new(&ended, &facts, 3, 2);
        assert_eq!(
            serde_json::to_string(&report).expect("it is plain"),
            r#"{"orders":4,"bad_lines":3,"duplicates":2,"charged":2,"declined":1,"compensated":1,"failed":1,"p50_ms":20,"p99_ms":900}"#
        );
        assert_eq!(contradictions(&ended, &facts), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_add_up_is_told() {
        let ended = [(order("a"), charged(10)), (order("b"), charged(10)), (order("c"), charged(10))];
        let twice = Facts { charges: 2, cents: 1_000, ..PAID };
        let facts = [("a", PAID), ("b", twice)].map(|(id, facts)| (id.to_owned(), facts)).into();
        let found = contradictions(&ended, &facts);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("order \"b\" ended as Charged"), "{found:?}");
        assert!(found[1].starts_with("order \"c\" ended as Charged"), "{found:?}");
    }

    #[test]
    fn percentiles_of_nothing_are_zero() {
        assert_eq!(percentile(&[], 99), 0);
        assert_eq!(percentile(&[Duration::from_millis(7)], 50), 7);
    }
}
