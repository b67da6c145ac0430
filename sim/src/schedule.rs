//! Virtual time: what happens when, in one order. What is due at the same moment happens in the order in which it was
//! asked for.

use std::collections::BTreeMap;

/// Events by their time in milliseconds.
#[derive(Debug)]
pub struct Schedule<E> {
    now: u64,
    next: u64,
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Schedule<E> {
    /// Time begins at `now`.
    pub fn new(now: u64) -> Self {
        Self { now, next: 0, events: BTreeMap::new() }
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn at(&mut self, at: u64, event: E) {
        self.next += 1;
        self.events.insert((at.max(self.now), self.next), event);
    }

    pub fn after(&mut self, wait: u64, event: E) {
        self.at(self.now.saturating_add(wait), event);
    }

    /// The next event; time goes on to it.
    pub fn pop(&mut self) -> Option<E> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }
}
