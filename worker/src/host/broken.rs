//! Shards of one engine thread that broke an invariant, or cannot be served here: each is read anew after a rest, which grows
//! while it goes on so. Of what arrives meanwhile one message is kept, near the end, so that there is something to look for; the others go
//! back to the broker, which may have somebody else for them. Throwing a shard away is the thread's.

use std::collections::BTreeMap;
use std::time::Duration;

use everpulse_engine::DeliveryToken;
use everpulse_protocol::Timestamp;

use super::returning::HOLD;
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

/// What is to be done with an arrival.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all that arrives is for a shard that is well")]
pub(super) enum Turn {
    /// Its shard is well.
    Now(Arrival),
    /// It is kept until its shard has rested.
    Kept,
    /// Its message goes back to the broker.
    Back(DeliveryToken),
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

    /// Keeps what arrives for a shard that rests, if it is to be kept.
    pub fn turn(&mut self, shard: u32, arrival: Arrival, now: Timestamp) -> Turn {
        let Some(fall) = self.shards.get_mut(&shard).filter(|fall| now < fall.until) else { return Turn::Now(arrival) };
        if let Arrival::Delivery(delivery) = &arrival {
            let has_one = fall.kept.iter().any(|kept| matches!(kept, Arrival::Delivery(_)));
            if has_one || fall.until.since(now) > HOLD {
                return Turn::Back(delivery.token);
            }
        }
        fall.kept.push(arrival);
        Turn::Kept
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
    use everpulse_engine::{Delivery, LocalResult};
    use everpulse_protocol::event::InboxFrame;
    use everpulse_protocol::{Failure, FailureKind, RunId};

    use super::*;

    fn delivery(token: u64) -> Arrival {
        let frame = InboxFrame { shard: 3, events: Vec::new() };
        Arrival::Delivery(Delivery { token: DeliveryToken(token), frame, suspect: false })
    }

    fn local() -> Arrival {
        let result = LocalResult::Parked { attempt: 1, failure: Failure::new(FailureKind::Failed, "no") };
        Arrival::Local { run: RunId::NIL, step: 0, result }
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
    fn of_what_arrives_for_a_shard_that_rests_one_message_is_kept_and_the_others_go_back() {
        let (mut broken, now) = (Broken::default(), Timestamp(1_000_000));
        let until = now.after(broken.fell(3, now));
        assert!(broken.deadline().is_none(), "nothing waits for it");
        assert!(matches!(broken.turn(3, delivery(7), now), Turn::Kept));
        for token in 8..100 {
            assert!(matches!(broken.turn(3, delivery(token), now), Turn::Back(back) if back == DeliveryToken(token)));
        }
        // What was done here is nowhere else.
        for _ in 0..3 {
            assert!(matches!(broken.turn(3, local(), now), Turn::Kept));
        }
        assert!(matches!(broken.turn(4, delivery(1), now), Turn::Now(_)), "another shard");
        assert_eq!(broken.deadline(), Some(until));
        assert!(broken.rested(Timestamp(until.0 - 1)).is_empty());
        assert_eq!(broken.rested(until).len(), 4);
        assert!(broken.rested(until).is_empty());
        assert!(matches!(broken.turn(3, delivery(1), until), Turn::Now(_)));
    }

    #[test]
    fn no_message_is_held_for_longer_than_its_key_may_be_blocked() {
        let (mut broken, mut now) = (Broken::default(), Timestamp(1_000_000));
        for _ in 0..5 {
            now = now.after(broken.fell(3, now));
        }
        let until = now.after(broken.fell(3, now));
        assert_eq!(until.since(now), REST_MAX);
        let nearly = Timestamp(until.0 - HOLD.as_millis() as u64);
        assert!(matches!(broken.turn(3, delivery(1), now), Turn::Back(_)));
        assert!(matches!(broken.turn(3, delivery(2), Timestamp(nearly.0 - 1)), Turn::Back(_)));
        assert!(matches!(broken.turn(3, delivery(3), nearly), Turn::Kept));
        assert_eq!(broken.rested(until).len(), 1, "there is something to look for");
    }
}
