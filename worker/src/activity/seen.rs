//! What this process remembers of tasks, so that a delivery that comes twice is not run twice, and one that nobody
//! waits for is not run at all. It is a help, not a guarantee: another process, or this one after a restart, knows
//! nothing of it; the shard lets the first settlement of a step win.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use everpulse_protocol::EventId;
use everpulse_protocol::task::Task;

/// One attempt at one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptId {
    task: EventId,
    attempt: u32,
    /// It was made, and comes back to be judged.
    returned: bool,
}

impl AttemptId {
    /// The attempt that a task is.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        Self { task: task.id, attempt: task.attempt, returned: task.returned.is_some() }
    }
}

/// Whether an attempt has been met.
#[derive(Debug, PartialEq)]
pub enum Sight<H> {
    /// Never: run it. Its delivery comes back with [`Seen::finish`].
    New,
    /// It runs: the delivery waits for the same end.
    Running,
    /// It came to its end: the delivery is handed back.
    Settled(H),
}

/// The attempts that run here, with the deliveries (`H`) that wait for their end, and those that ended here.
#[derive(Debug)]
pub struct Seen<H> {
    running: HashMap<AttemptId, Vec<H>>,
    settled: Recent<AttemptId>,
}

/// So many settled attempts are remembered.
const SETTLED_MAX: usize = 100_000;

impl<H> Default for Seen<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H> Seen<H> {
    /// Nothing was seen.
    #[must_use]
    pub fn new() -> Self {
        Self { running: HashMap::new(), settled: Recent::new(SETTLED_MAX) }
    }

    /// An attempt was delivered.
    pub fn begin(&mut self, id: AttemptId, delivery: H) -> Sight<H> {
        if self.settled.contains(&id) {
            return Sight::Settled(delivery);
        }
        let waiting = self.running.entry(id).or_default();
        waiting.push(delivery);
        if waiting.len() == 1 { Sight::New } else { Sight::Running }
    }

    /// Ends an attempt, and hands out all deliveries of it.
    pub fn finish(&mut self, id: AttemptId) -> Vec<H> {
        self.settled.insert(id);
        self.running.remove(&id).unwrap_or_default()
    }

    /// Forgets an attempt that was not made: it is for somebody else.
    pub fn forget(&mut self, id: AttemptId) -> Vec<H> {
        self.running.remove(&id).unwrap_or_default()
    }
}

/// The last so many values, first in first out.
#[derive(Debug)]
struct Recent<T> {
    max: usize,
    order: VecDeque<T>,
    values: HashSet<T>,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    fn new(max: usize) -> Self {
        Self { max, order: VecDeque::new(), values: HashSet::new() }
    }

    fn contains(&self, value: &T) -> bool {
        self.values.contains(value)
    }

    fn insert(&mut self, value: T) {
        if !self.values.insert(value) {
            return;
        }
        self.order.push_back(value);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

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

    fn attempt(task: u32, attempt: u32) -> AttemptId {
        AttemptId { task: id(task), attempt, returned: false }
    }

    fn id(n: u32) -> EventId {
        let run = RunId("00000000-0000-0000-0000-000000000001".parse().expect("a UUID"));
        EventId::derived(run, n, "task")
    }

    #[test]
    fn a_second_delivery_waits_for_the_first_and_a_later_one_is_handed_back() {
        let mut seen = Seen::new();
        assert_eq!(seen.begin(attempt(1, 1), "first"), Sight::New);
        assert_eq!(seen.begin(attempt(1, 1), "second"), Sight::Running);
        assert_eq!(seen.begin(attempt(1, 2), "next attempt"), Sight::New);
        assert_eq!(seen.finish(attempt(1, 1)), ["first", "second"]);
        assert_eq!(seen.begin(attempt(1, 1), "third"), Sight::Settled("third"));
    }

    #[test]
    fn an_attempt_that_was_not_made_can_be_made_later() {
        let mut seen = Seen::new();
        assert_eq!(seen.begin(attempt(1, 1), "first"), Sight::New);
        assert_eq!(seen.forget(attempt(1, 1)), ["first"]);
        assert_eq!(seen.begin(attempt(1, 1), "again"), Sight::New);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let mut recent = Recent::new(2);
        for n in [1, 2, 2, 3] {
            recent.insert(n);
        }
        assert_eq!([1, 2, 3].map(|n| recent.contains(&n)), [false, true, true]);
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
