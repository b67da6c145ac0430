//! The pace at which attempts of one queue begin: no more than a rate, evenly spread. What was not used is not saved up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Who asks for a turn gets it when it is time. In the order of asking.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// So many turns in a second.
    pub(super) fn new(per_second: f64) -> Self {
        // A rate that is no rate at all is that of a turn in an hour; a worker refuses to be given one.
        let interval = Duration::try_from_secs_f64(per_second.recip()).unwrap_or(Duration::from_secs(3_600));
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits for a turn. One that is waited for no more is lost.
    pub(super) async fn turn(&self) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + self.interval;
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_evenly_spread_and_not_saved_up() {
        let pace = Pace::new(4.0);
        let began = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..3 {
            pace.turn().await;
            turns.push(began.elapsed().as_millis());
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        for _ in 0..3 {
            pace.turn().await;
            turns.push(began.elapsed().as_millis());
        }
        assert_eq!(turns, [0, 250, 500, 10_500, 10_750, 11_000]);
    }
}
