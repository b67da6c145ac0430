//! Chance by a named algorithm (ChaCha8): a seed and a stream say all. What is drawn can be drawn again; when the
//! machine comes to it cannot.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// One stream of chance.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(stream);
        Self(chance)
    }

    /// Below `end`; 0 where there is nothing below it.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end.max(1)
    }

    /// From `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    pub fn permille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    /// One of them by its weight.
    pub fn weighted<T: Copy>(&mut self, all: &[(T, u64)]) -> Option<T> {
        let mut at = self.below(all.iter().map(|(_, weight)| weight).sum());
        for (one, weight) in all {
            if at < *weight {
                return Some(*one);
            }
            at -= weight;
        }
        None
    }

    /// Milliseconds from `low` to `high`.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.within(low, high))
    }

    /// A pause with this mean, as between things that know nothing of each other; at most five times the mean.
    pub fn pause(&mut self, mean: Duration) -> Duration {
        let part = (self.below(1 << 32) + 1) as f64 / (1_u64 << 32) as f64;
        mean.mul_f64((-part.ln()).min(5.0))
    }
}
