//! Shards of one engine thread that broke an invariant: each is read anew after a rest, which grows while it goes on
//! breaking. What arrives meanwhile is kept for it. Throwing a shard away is the thread's.

use std::collections::BTreeMap;
use std::time::Duration;

use everpulse_protocol::Timestamp;

use super::thread::{Arrival, Life};

/// The first rest, and the longest: each is twice the one before.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(30);
/// A shard that was well for so long after its rest begins with the first one again.
const WELL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Broken {
    shards: BTreeMap<u32, Fall>,
}

/// The last fall of a shard.
#[derive(Debug, Default)]
struct Fall {
    /// Of the shard that comes after it.
    life: Life,
    rest: Duration,
    until: Timestamp,
    kept: Vec<Arrival>,
}

impl Broken {
    /// Which life of a shard this is.
    pub fn life(&self, shard: u32) -> Life {
        self.shards.get(&shard).map_or(0, |fall| fall.life)
    }

    /// A shard broke. Says how long it rests.
    pub fn fell(&mut self, shard: u32, now: Timestamp) -> Duration {
        let fall = self.shards.entry(shard).or_default();
        fall.life += 1;
        fall.rest = if now.since(fall.until) > WELL { REST_MIN } else { (fall.rest * 2).clamp(REST_MIN, REST_MAX) };
        fall.until = now.after(fall.rest);
        fall.rest
    }

    /// Keeps what arrives for a shard that rests; gives it back if it does not.
    pub fn keep(&mut self, shard: u32, arrival: Arrival, now: Timestamp) -> Option<Arrival> {
        match self.shards.get_mut(&shard) {
            Some(fall) if now < fall.until => {
                fall.kept.push(arrival);
                None
            }
            _ => Some(arrival),
        }
    }

    /// When something that was kept can be handled.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.shards.values().filter(|fall| !fall.kept.is_empty()).map(|fall| fall.until).min()
    }

    /// What was kept for shards that have rested.
    pub fn rested(&mut self, now: Timestamp) -> Vec<(u32, Arrival)> {
        let rested = self.shards.iter_mut().filter(|(_, fall)| fall.until <= now);
        rested.flat_map(|(shard, fall)| fall.kept.drain(..).map(|arrival| (*shard, arrival))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival() -> Arrival {
        Arrival::Tail { id: 0, tail: None }
    }

    #[test]
    fn a_shard_that_goes_on_breaking_rests_longer_each_time() {
        let (mut broken, mut now) = (Broken::default(), Timestamp(1_000_000));
        let mut rests = Vec::new();
        for _ in 0..7 {
            let rest = broken.fell(3, now);
            rests.push(rest.as_secs());
            now = now.after(rest);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!((broken.life(3), broken.life(4)), (7, 0));
        assert_eq!(broken.fell(3, now.after(2 * WELL)), REST_MIN, "it was well meanwhile");
    }

    #[test]
    fn what_arrives_for_a_shard_that_rests_is_kept_until_then() {
        let (mut broken, now) = (Broken::default(), Timestamp(1_000_000));
        let until = now.after(broken.fell(3, now));
        assert!(broken.deadline().is_none(), "nothing waits for it");
        assert!(broken.keep(3, arrival(), now).is_none());
        assert!(broken.keep(4, arrival(), now).is_some(), "another shard");
        assert_eq!(broken.deadline(), Some(until));
        assert!(broken.rested(Timestamp(until.0 - 1)).is_empty());
        assert_eq!(broken.rested(until).len(), 1);
        assert!(broken.rested(until).is_empty());
        assert!(broken.keep(3, arrival(), until).is_some());
    }
}
