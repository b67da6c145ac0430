//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(3);

/// Doubles up to three seconds; each wait is spread, so that those who fail together do not return together.
#[derive(Debug)]
pub(crate) struct Backoff {
    current: Duration,
}

impl Backoff {
    pub fn new() -> Self {
        Backoff { current: FIRST }
    }

    /// The next wait.
    pub fn next(&mut self) -> Duration {
        let longest = self.current;
        self.current = (self.current * 2).min(LONGEST);
        // Between half and all of it; which part is anybody's.
        let spread = uuid::Uuid::new_v4().as_bytes()[0];
        longest.mul_f64(0.5 + f64::from(spread) / 510.0)
    }

    pub fn reset(&mut self) {
        self.current = FIRST;
    }
}
