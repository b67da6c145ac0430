//! The tasks that nobody waits for any more, so that their deliveries are not run at all. A help, not a guarantee: another
//! process, or this one after a restart, knows nothing of it.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use everpulse_protocol::EventId;

/// The tasks that were cancelled lately: a cancellation may overtake its task.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    order: VecDeque<(Instant, EventId)>,
    ids: HashSet<EventId>,
}

/// A cancelled id is remembered for so long.
const CANCELLED_FOR: Duration = Duration::from_secs(600);
/// So many cancelled ids are remembered.
const CANCELLED_MAX: usize = 100_000;

impl Cancelled {
    pub(crate) fn insert(&mut self, id: EventId, now: Instant) {
        while let Some((since, oldest)) = self.order.front()
            && (self.order.len() >= CANCELLED_MAX || now.duration_since(*since) > CANCELLED_FOR)
        {
            self.ids.remove(oldest);
            self.order.pop_front();
        }
        if self.ids.insert(id) {
            self.order.push_back((now, id));
        }
    }

    pub(crate) fn contains(&self, id: &EventId) -> bool {
        self.ids.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::RunId;

    use super::*;

    fn id(n: u32) -> EventId {
        let run = RunId("00000000-0000-0000-0000-000000000001".parse().expect("a UUID"));
        EventId::derived(run, n, "task")
    }

    #[test]
    fn cancelled_ids_are_forgotten_after_a_while() {
        let mut cancelled = Cancelled::default();
        let start = Instant::now();
        cancelled.insert(id(1), start);
        cancelled.insert(id(2), start + CANCELLED_FOR);
        assert!(cancelled.contains(&id(1)) && cancelled.contains(&id(2)));
        cancelled.insert(id(3), start + CANCELLED_FOR + Duration::from_secs(1));
        assert!(!cancelled.contains(&id(1)));
        assert!(cancelled.contains(&id(2)) && cancelled.contains(&id(3)));
    }
}
