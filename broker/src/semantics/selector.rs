//! How a Key_Shared subscription gives keys to consumers: split among them all, or by ranges that each brings.
//!
//! Ranges: `KeySharedMode.STICKY` of Apache Pulsar, hashes from 0 to 65535
//! (`HashRangeExclusiveStickyKeyConsumerSelector`, 4.0).

use std::collections::BTreeMap;

use super::hash::{Ring, ring_place};

/// Hashes are below this for ranges.
const RANGES_SIZE: u32 = 65536;

/// What all consumers of a Key_Shared subscription must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyPolicy {
    /// Consumers bring their ranges.
    pub sticky: bool,
    /// A key's messages may overtake each other when consumers come and go.
    pub out_of_order: bool,
}

impl KeyPolicy {
    /// In what a consumer's policy differs from this one of its subscription, in Apache Pulsar's words.
    pub fn conflict(self, other: KeyPolicy) -> Option<String> {
        let mode = |policy: KeyPolicy| if policy.sticky { "STICKY" } else { "AUTO_SPLIT" };
        if self.sticky != other.sticky {
            return Some(format!(
                "Active subscription key_shared mode of '{}' is different than the connecting consumer's key_shared \
                 mode '{}'.",
                mode(self),
                mode(other)
            ));
        }
        match (self.out_of_order, other.out_of_order) {
            (true, false) => Some(
                "Active subscription allows out of order delivery while the connecting consumer does not allow it."
                    .to_owned(),
            ),
            (false, true) => Some(
                "Active subscription does not allow out of order delivery while the connecting consumer allows it."
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Which consumer a key belongs to. Keys are known by their place: a hash cut to the size that the mode needs.
#[derive(Debug)]
pub enum Selector {
    Split(Ring),
    Sticky(Ranges),
}

impl Default for Selector {
    fn default() -> Selector {
        Selector::Split(Ring::default())
    }
}

impl Selector {
    pub fn of(policy: KeyPolicy) -> Selector {
        if policy.sticky { Selector::Sticky(Ranges::default()) } else { Selector::default() }
    }

    pub fn place(&self, hash: u32) -> u32 {
        match self {
            Selector::Split(_) => ring_place(hash),
            Selector::Sticky(_) => range_place(hash),
        }
    }

    /// The ranges must have been checked by [`Ranges::check`].
    pub fn add(&mut self, consumer: u32, name: &str, ranges: &[(u32, u32)]) {
        match self {
            Selector::Split(ring) => ring.add(consumer, name),
            Selector::Sticky(own) => own.add(consumer, ranges),
        }
    }

    pub fn remove(&mut self, consumer: u32) {
        match self {
            Selector::Split(ring) => ring.remove(consumer),
            Selector::Sticky(ranges) => ranges.remove(consumer),
        }
    }

    pub fn owner(&self, place: u32) -> Option<u32> {
        match self {
            Selector::Split(ring) => ring.owner(place),
            Selector::Sticky(ranges) => ranges.owner(place),
        }
    }

    /// First and last place of each range that is the consumer's.
    pub fn ranges(&self, consumer: u32) -> Vec<(u32, u32)> {
        match self {
            Selector::Split(ring) => ring.ranges(consumer),
            Selector::Sticky(ranges) => ranges.of(consumer),
        }
    }
}

/// The place of a sticky key's hash among ranges. Zero means "not set" in the Java broker.
pub fn range_place(hash: u32) -> u32 {
    (hash % RANGES_SIZE).max(1)
}

/// Ranges of hashes, each of one consumer; what is in none belongs to nobody.
#[derive(Debug, Default)]
pub struct Ranges {
    /// First place to last place and consumer; they do not overlap.
    taken: BTreeMap<u32, (u32, u32)>,
}

/// Why ranges cannot be given to a consumer.
#[derive(Debug, PartialEq, Eq)]
pub enum Conflict {
    Empty,
    Reversed(u32, u32),
    Own((u32, u32), (u32, u32)),
    /// With those of this consumer.
    Taken(u32),
}

impl Ranges {
    /// # Errors
    /// There are none, or they overlap with each other or with another consumer's.
    pub fn check(&self, ranges: &[(u32, u32)]) -> Result<(), Conflict> {
        if ranges.is_empty() {
            return Err(Conflict::Empty);
        }
        if let Some((start, end)) = ranges.iter().find(|(start, end)| start > end) {
            return Err(Conflict::Reversed(*start, *end));
        }
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].1 >= pair[1].0) {
            return Err(Conflict::Own(pair[0], pair[1]));
        }
        for (start, end) in ranges {
            let before_end = self.taken.range(..=*end).next_back();
            if let Some((_, (_, consumer))) = before_end.filter(|(_, (taken_end, _))| taken_end >= start) {
                return Err(Conflict::Taken(*consumer));
            }
        }
        Ok(())
    }

    fn add(&mut self, consumer: u32, ranges: &[(u32, u32)]) {
        self.taken.extend(ranges.iter().map(|(start, end)| (*start, (*end, consumer))));
    }

    fn remove(&mut self, consumer: u32) {
        self.taken.retain(|_, (_, owner)| *owner != consumer);
    }

    fn owner(&self, place: u32) -> Option<u32> {
        let (_, (end, consumer)) = self.taken.range(..=place).next_back()?;
        (place <= *end).then_some(*consumer)
    }

    fn of(&self, consumer: u32) -> Vec<(u32, u32)> {
        let own = self.taken.iter().filter(|(_, (_, owner))| *owner == consumer);
        own.map(|(start, (end, _))| (*start, *end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_must_not_overlap() {
        let mut ranges = Ranges::default();
        ranges.check(&[(0, 9), (20, 29)]).expect("free");
        ranges.add(1, &[(0, 9), (20, 29)]);
        ranges.check(&[(10, 19)]).expect("the gap is free");
        for taken in [(9, 10), (19, 20), (22, 23), (15, 35), (0, 0), (29, 90)] {
            assert_eq!(ranges.check(&[taken]), Err(Conflict::Taken(1)), "{taken:?}");
        }
        assert_eq!(ranges.check(&[]), Err(Conflict::Empty));
        assert_eq!(ranges.check(&[(12, 11)]), Err(Conflict::Reversed(12, 11)));
        assert_eq!(ranges.check(&[(40, 50), (30, 40)]), Err(Conflict::Own((30, 40), (40, 50))));
        let owners: Vec<_> = [0, 9, 10, 19, 20, 29, 30].iter().map(|place| ranges.owner(*place)).collect();
        assert_eq!(owners, [Some(1), Some(1), None, None, Some(1), Some(1), None]);
        ranges.remove(1);
        ranges.check(&[(0, 65535)]).expect("all is free");
    }
}
