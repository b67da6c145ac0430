//! Which runs there are: their numbers, given out once, and whether a caller has seen them end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::mix::Play;

/// All runs, by their numbers.
#[derive(Debug)]
pub struct Plays {
    pub seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether a caller has seen it end. The next number is its length.
    ended: Vec<bool>,
    /// Runs whose callers were killed.
    orphans: Vec<Play>,
}

impl Plays {
    /// None yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of some numbers, which nobody else gets.
    pub fn numbers(&self, count: u32) -> u32 {
        let mut inner = self.inner();
        let first = inner.ended.len();
        let count = usize::try_from(count).unwrap_or(0);
        inner.ended.resize(first + count, false);
        u32::try_from(first).unwrap_or(u32::MAX)
    }

    /// The next run that is to be played: one whose caller was killed, or a new one.
    pub fn next(&self) -> Play {
        let orphan = self.orphan();
        orphan.unwrap_or_else(|| Play::of(self.seed, self.numbers(1)))
    }

    /// A run whose caller was killed, if there is one.
    pub fn orphan(&self) -> Option<Play> {
        self.inner().orphans.pop()
    }

    /// Runs have lost their callers.
    pub fn orphans(&self, plays: impl IntoIterator<Item = Play>) {
        self.inner().orphans.extend(plays);
    }

    /// A caller has seen it end.
    pub fn ended(&self, play: &Play) {
        let at = usize::try_from(play.number).unwrap_or(usize::MAX);
        if let Some(ended) = self.inner().ended.get_mut(at) {
            *ended = true;
        }
    }

    /// By number: whether a caller has seen it end.
    #[must_use]
    pub fn all(&self) -> Vec<bool> {
        self.inner().ended.clone()
    }
}
