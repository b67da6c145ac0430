//! Which of the waiting tasks of a queue are taken first, and the *lanes* that this makes of a queue.
//!
//! ```text
//!   priority 3, no key ──► activity.QUEUE          the queue itself, as it was before there were lanes
//!   priority 1, no key ──► activity.QUEUE.p1
//!   priority 3, a key ───► activity.QUEUE.p3.f7    one of a few, by the key's hash
//! ```
//! A lane is a topic. Which lanes there are stands in a topic of its own: what is sent into a lane is sent after its
//! name is confirmed there, and workers read all of it. The lane follows from the task alone, so whoever looks for a
//! task knows where it is, and a retry goes where the first attempt went. In which order workers take from lanes is theirs
//! to say.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::codec::Stored;
use crate::topic::is_queue_name;

/// The priority of what names none.
pub const LEVEL: u8 = 3;
/// The last one. The first, and most urgent, is 1.
pub const LEVEL_MAX: u8 = 5;
/// So many lanes the keys of one priority are spread over. Fixed: a task is looked for in its lane.
pub const BUCKETS: u8 = 16;
/// A weight of 1, as it is stored.
pub const WEIGHT: u32 = 1_000;
/// The greatest weight: a thousand.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64;

/// What a task says of its urgency. What is not said is said by the run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Priority {
    /// From 1 to 5; none: 3. While tasks of a smaller number wait, those of greater ones are not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Whose task it is. Keys of one priority take turns, however many tasks of one wait; tasks without are one more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How much of the turns the key has, in thousandths; none: 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl Priority {
    /// Nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The same, and what it does not say as another one says it. A weight belongs to its key.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let (key, weight) = match self.key {
            Some(key) => (Some(key), self.weight),
            None => (other.key.clone(), self.weight.or(other.weight)),
        };
        Self { level: self.level.or(other.level), key, weight }
    }

    /// How much of the turns it has, in thousandths. What no release writes is brought into bounds.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.unwrap_or(WEIGHT).clamp(1, WEIGHT_MAX)
    }

    /// Where a task of a queue waits.
    #[must_use]
    pub fn lane(&self, queue: &str) -> Lane {
        let level = self.level.unwrap_or(LEVEL).clamp(1, LEVEL_MAX);
        let bucket = self.key.as_ref().map(|key| {
            let bucket = xxh3_64(key.as_bytes()) % u64::from(BUCKETS);
            u8::try_from(bucket).expect("there are few buckets")
        });
        Lane { queue: queue.to_owned(), level, bucket }
    }
}

/// A part of a queue with a topic of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    pub queue: String,
    pub level: u8,
    /// That of its keys; none: of tasks without.
    pub bucket: Option<u8>,
}

impl Lane {
    /// The lane of tasks that say nothing: the queue itself.
    #[must_use]
    pub fn of_queue(queue: &str) -> Self {
        Priority::default().lane(queue)
    }

    /// Whether it is the queue itself.
    #[must_use]
    pub fn is_queue(&self) -> bool {
        self.level == LEVEL && self.bucket.is_none()
    }
}

/// Its name, from which [`topic::activity`](crate::topic::activity) makes the topic's: `QUEUE`, `QUEUE.p1`, `QUEUE.p3.f7`.
impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.queue)?;
        if !self.is_queue() {
            write!(f, ".p{}", self.level)?;
        }
        self.bucket.map_or(Ok(()), |bucket| write!(f, ".f{bucket}"))
    }
}

/// A text is no lane's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no lane of a queue")]
pub struct NoLane(pub String);

impl FromStr for Lane {
    type Err = NoLane;

    fn from_str(name: &str) -> Result<Self, NoLane> {
        let mut parts = name.split('.');
        let queue = parts.next().unwrap_or_default().to_owned();
        let (level, bucket) = (parts.next(), parts.next());
        let number = |part: &str, letter| part.strip_prefix(letter)?.parse::<u8>().ok();
        let lane = Self {
            queue,
            level: level.map_or(Some(LEVEL), |part| number(part, 'p')).unwrap_or(0),
            bucket: bucket.map(|part| number(part, 'f').unwrap_or(BUCKETS)),
        };
        let is_known = (1..=LEVEL_MAX).contains(&lane.level) && lane.bucket.is_none_or(|bucket| bucket < BUCKETS);
        // One name for each: `q.p3` and `q.p01` would be other topics.
        if is_known && is_queue_name(&lane.queue) && lane.to_string() == name {
            Ok(lane)
        } else {
            Err(NoLane(name.to_owned()))
        }
    }
}

/// A lane that is in use, as it stands in [`topic::LANES`](crate::topic::LANES).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its name.
    pub lane: String,
}

impl Stored for Opened {
    const KIND: &'static str = "lane";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priority(level: Option<u8>, key: Option<&str>) -> Priority {
        Priority { level, key: key.map(str::to_owned), weight: None }
    }

    #[test]
    fn what_says_nothing_waits_where_it_always_did() {
        for same in [priority(None, None), priority(Some(3), None)] {
            assert_eq!(same.lane("mail").to_string(), "mail");
        }
        assert_eq!(priority(Some(1), None).lane("mail").to_string(), "mail.p1");
        assert_eq!(priority(Some(9), None).lane("mail").to_string(), "mail.p5", "what no release writes");
    }

    #[test]
    fn the_lane_of_a_key_is_the_same_for_ever() {
        let lane = |key| priority(None, Some(key)).lane("mail").to_string();
        assert_eq!([lane("acme"), lane("globex"), lane("")], LANES_OF_KEYS);
    }

    /// Written down once: tasks lie in these topics.
    const LANES_OF_KEYS: [&str; 3] = ["mail.p3.f1", "mail.p3.f15", "mail.p3.f2"];

    #[test]
    fn lanes_come_back_by_their_names_and_nothing_else_is_one() {
        for level in 1..=LEVEL_MAX {
            for bucket in (0..BUCKETS).map(Some).chain([None]) {
                let lane = Lane { queue: "mail".to_owned(), level, bucket };
                assert_eq!(lane.to_string().parse(), Ok(lane));
            }
        }
        for other in
            ["", "a b", "mail.p3", "mail.p0", "mail.p6", "mail.p01", "mail.dead", "mail.p1.f16", "mail.p1.f2.x"]
        {
            assert_eq!(other.parse::<Lane>(), Err(NoLane(other.to_owned())), "{other}");
        }
    }

    #[test]
    fn what_a_call_does_not_say_its_run_says_and_a_weight_goes_with_its_key() {
        let run = Priority { level: Some(2), key: Some("acme".to_owned()), weight: Some(5_000) };
        assert_eq!(Priority::default().or(&run), run);
        let own = priority(None, Some("globex")).or(&run);
        assert_eq!((own.level, own.key.as_deref(), own.weight), (Some(2), Some("globex"), None));
        let urgent = priority(Some(1), None).or(&run);
        assert_eq!((urgent.level, urgent.key.as_deref(), urgent.weight()), (Some(1), Some("acme"), 5_000));
    }
}
