//! Which wake-up a shard needs.
//!
//! A shard with an open run, or with history that is to be carried forward and trimmed, always has a current wake-up,
//! named in history, no more than an hour ahead. It is due for the earliest need: a timer, local work that no hold
//! protects, inputs that were taken in and can be applied, a parked run that may go on. Carrying waits for the hour:
//! whoever is woken has the shard, and carries when it is time.

use everpulse_protocol::history::ParkedKind;
use everpulse_protocol::timer::{WAKE_AHEAD_MS_MAX, Wake};
use everpulse_protocol::{RunId, Timestamp};

use crate::book::Book;
use crate::holds::Locals;

/// A wake-up that is this much later than needed is good enough: delayed messages are no more exact.
const SLACK_MS: u64 = 1_000;
/// How often parked runs are tried again.
const PARKED_MS: u64 = 60_000;
/// A wake-up that is overdue by this is taken for lost; its successor does no harm if it is not.
const LOST_MS: u64 = 120_000;
/// Inputs that were taken in are applied at once, unless their owner dies first: then after so long at the latest.
const READY_MS: u64 = 60_000;
/// Local work past its deadline is looked after this often.
const OVERDUE_MS: u64 = 10_000;

/// When somebody has to look at the shard next; none if no run is open and nothing is to be carried.
///
/// `all`: not only for the local work that asked for cover, but for whatever is open. The successor of a wake-up is for
/// all of it, and for what its own frame begins: what is held here may be acked by another worker, whose book is older.
pub(crate) fn need(book: &Book, locals: &Locals, all: bool, carries: bool, at: Timestamp) -> Option<Timestamp> {
    let lingers = book.lingers_unknown();
    if book.open_runs() == 0 && !carries && !lingers {
        return None;
    }
    let mut due = Timestamp(at.0 + WAKE_AHEAD_MS_MAX);
    if let Some((timer, ..)) = book.timers.iter().find(|(_, run, no)| book.may_fire(*run, *no)) {
        due = due.min(*timer);
    }
    for local in locals.values().filter(|local| all || local.wants_cover) {
        due = due.min(if local.deadline <= at { Timestamp(at.0 + OVERDUE_MS) } else { local.deadline });
    }
    if !book.ready.is_empty() {
        due = due.min(Timestamp(at.0 + READY_MS));
    }
    // Somebody else may know what this release does not.
    let may_go_on =
        |run: &RunId| book.runs.get(run).is_some_and(|run| is_retried(run.parked.as_ref().map(|parked| parked.kind)));
    if lingers || book.parked.iter().any(may_go_on) {
        due = due.min(Timestamp(at.0 + PARKED_MS));
    }
    Some(due.max(at))
}

/// Whether the current wake-up is not enough for the need: it comes too late, or should have come long ago.
pub(crate) fn is_missing(current: Option<Wake>, need: Option<Timestamp>, at: Timestamp) -> bool {
    match (current, need) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(current), Some(need)) => {
            need.0.saturating_add(SLACK_MS) < current.due.0 || current.due.0.saturating_add(LOST_MS) < at.0
        }
    }
}

/// Whether a parked run is tried again by itself: another worker may know the code, or have the key.
pub(crate) fn is_retried(kind: Option<ParkedKind>) -> bool {
    matches!(kind, Some(ParkedKind::NoCode | ParkedKind::Diverged | ParkedKind::UnknownKind | ParkedKind::Unopened))
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::WorkflowId;

    use super::*;
    use crate::holds::Local;
    use crate::run::Run;

    fn wake(due: u64) -> Option<Wake> {
        Some(Wake { shard: 0, number: 1, due: Timestamp(due) })
    }

    #[test]
    fn a_later_wake_up_is_missing_and_an_earlier_one_is_enough() {
        let now = Timestamp(0);
        assert!(is_missing(None, Some(Timestamp(5)), now));
        assert!(!is_missing(None, None, now));
        assert!(!is_missing(wake(10_000), Some(Timestamp(9_500)), now), "within the slack");
        assert!(is_missing(wake(10_000), Some(Timestamp(5_000)), now));
        assert!(!is_missing(wake(10_000), Some(Timestamp(60_000)), now));
        assert!(is_missing(wake(10_000), Some(Timestamp(900_000)), Timestamp(800_000)), "long overdue");
    }

    #[test]
    fn a_shard_without_open_runs_needs_no_wake_up() {
        assert_eq!(need(&Book::default(), &Locals::new(), false, false, Timestamp(5)), None);
        let soon = need(&Book::default(), &Locals::new(), false, true, Timestamp(5));
        assert_eq!(soon, Some(Timestamp(5 + WAKE_AHEAD_MS_MAX)), "but for what is to be carried");
    }

    #[test]
    fn what_is_open_locally_or_taken_in_and_not_applied_is_looked_after_soon() {
        let (run, workflow_id) = (RunId(uuid::Uuid::from_u128(1)), WorkflowId::new("a").expect("a good id"));
        let mut book = Book::default();
        book.runs.insert(run, Box::new(Run::new(workflow_id, run)));
        let local = |wants_cover| Locals::from([((run, 0), Local { deadline: Timestamp(20_000), wants_cover })]);
        let (hour, now) = (Some(Timestamp(WAKE_AHEAD_MS_MAX)), Timestamp(0));
        assert_eq!(need(&book, &local(false), false, false, now), hour, "an input is held for it");
        assert_eq!(need(&book, &local(true), false, false, now), Some(Timestamp(20_000)));
        assert_eq!(need(&book, &local(false), true, false, now), Some(Timestamp(20_000)));
        book.ready.insert(run);
        assert_eq!(need(&book, &Locals::new(), false, false, now), Some(Timestamp(READY_MS)));
    }
}
