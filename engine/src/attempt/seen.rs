//! What a process remembers of tasks, so that a delivery that comes twice is not run twice. It is a help, not a guarantee:
//! another process, or this one after a restart, knows nothing of it; the shard lets the first settlement of a step win.

use std::collections::VecDeque;
use std::hash::Hash;

use everpulse_protocol::EventId;
use everpulse_protocol::task::Task;

use crate::{Map, Set};

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

    /// The task that it is made of.
    #[must_use]
    pub fn task(&self) -> EventId {
        self.task
    }

    /// Whether a task in a queue shows that this one was sent there: it is this one, or came of it.
    #[must_use]
    pub fn is_shown_by(&self, there: &Task) -> bool {
        let Self { task, attempt, returned } = Self::of(there);
        self.task == task && (self.attempt, self.returned) <= (attempt, returned)
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
    running: Map<AttemptId, Vec<H>>,
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
        Self { running: Map::default(), settled: Recent::new(SETTLED_MAX) }
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
    values: Set<T>,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    fn new(max: usize) -> Self {
        Self { max, order: VecDeque::new(), values: Set::default() }
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

#[cfg(test)]
mod tests {
    use everpulse_protocol::RunId;

    use super::*;

    fn attempt(task: u32, attempt: u32) -> AttemptId {
        let run = RunId("00000000-0000-0000-0000-000000000001".parse().expect("a UUID"));
        AttemptId { task: EventId::derived(run, task, "task"), attempt, returned: false }
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
}
