//! A scenario under faults, seed by seed; and what of a failing seed's faults it takes to fail.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::environment::Environment;
use crate::storm::{Fault, Storm, Struck, panic_message};

/// So many plays are spent on making a list of faults shorter.
const TRIES_MAX: usize = 200;

thread_local! {
    /// Panics of this thread are expected, and said later.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Plays a scenario so many times, each time under other faults: owners that crash at any effect or are taken for dead, lost
/// receipts, messages that come twice or late, activities whose worker dies when they are done or that fail for a while,
/// runs that are evicted and replayed; and in any order that such a world allows.
///
/// The author's code has to bear them all, so what the scenario asserts holds whatever happens: on results, on what was
/// published, and on the effects: an activity may run again, always with the same
/// [idempotency key](crate::Execution::idempotency_key).
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(card: String, cents: u64) -> Result<u64, everpulse::Error> { Ok(cents) }
/// # #[everpulse::workflow(version = 1, crate = everpulse)]
/// # async fn pay(cents: u64) -> Result<u64, everpulse::Error> { Ok(charge("4711".into(), cents).await?) }
/// use std::collections::BTreeSet;
///
/// everpulse_testing::explore(50, |env| {
///     let env = env.workflow(pay).activity(charge);
///     let run = env.start(pay(42));
///     assert_eq!(run.result().unwrap(), 42);
///     let keys: BTreeSet<String> = env.executions().into_iter().map(|done| done.idempotency_key).collect();
///     assert_eq!(keys.len(), 1, "whoever remembers the key charges once");
/// });
/// ```
///
/// All of a play follows from its seed. One that fails is played again with fewer and fewer faults, and then told, with the
/// line that plays it once more: `EVERPULSE_SEED=17 cargo test name`. `EVERPULSE_SEEDS=100000` plays so many.
///
/// # Panics
/// When a seed fails: with the scenario's own message.
///
/// # Determinism
/// The scenario makes all that it uses itself: what one play leaves behind, in a `static` say, makes the next one another.
#[track_caller]
pub fn explore(seeds: u64, scenario: impl Fn(Environment)) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let seeds = match number("EVERPULSE_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("EVERPULSE_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        if let Err(failed) = play(seed, None, &scenario) {
            panic!("{}", told(seed, &shrink(seed, failed, &scenario)));
        }
    }
}

/// A play that failed.
struct Failed {
    message: String,
    struck: Vec<Struck>,
}

fn play(seed: u64, only: Option<BTreeSet<(Fault, u64)>>, scenario: &impl Fn(Environment)) -> Result<(), Failed> {
    silence();
    let env = Environment::in_storm(Storm::new(seed, only));
    let played = env.clone();
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(|| scenario(env)));
    QUIET.set(before);
    let struck = played.stage().borrow().storm.as_ref().map(|storm| storm.struck.clone()).unwrap_or_default();
    result.map_err(|panic| Failed { message: panic_message(&*panic).to_owned(), struck })
}

/// Leaves out one fault after the other, as long as the play fails.
fn shrink(seed: u64, failed: Failed, scenario: &impl Fn(Environment)) -> Failed {
    let mut least = failed;
    let mut tries = 0;
    let mut place = 0;
    // Perhaps it takes none at all.
    if let Err(without) = play(seed, Some(BTreeSet::new()), scenario) {
        return without;
    }
    while place < least.struck.len() && tries < TRIES_MAX {
        tries += 1;
        let others = least.struck.iter().enumerate().filter(|(at, _)| *at != place);
        let only = others.map(|(_, struck)| (struck.fault, struck.opportunity)).collect();
        match play(seed, Some(only), scenario) {
            Err(smaller) if smaller.struck.len() < least.struck.len() => {
                least = smaller;
                place = 0;
            }
            _ => place += 1,
        }
    }
    least
}

fn told(seed: u64, failed: &Failed) -> String {
    let thread = std::thread::current();
    let name = thread.name().filter(|name| *name != "main").unwrap_or_default();
    let mut text = format!("seed {seed} fails. Play it again: EVERPULSE_SEED={seed} cargo test {name}\n");
    if failed.struck.is_empty() {
        text.push_str("  no fault is needed: the order in which things are done is enough\n");
    } else {
        text.push_str("  the faults that it takes, in order:\n");
        for struck in &failed.struck {
            text.push_str(&format!("    {struck}\n"));
        }
    }
    text.push_str(&format!("  {}", failed.message));
    text
}

/// Keeps the panics of plays from the terminal; others are shown as ever.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                before(panic);
            }
        }));
    });
}
