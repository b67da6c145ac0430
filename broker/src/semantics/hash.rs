//! Which consumer of a Key_Shared subscription a key belongs to.
//!
//! As the Java broker does it: murmur3 (32 bits, seed 0) of the sticky key without the sign bit, cut to 1 to
//! 65535, on a ring where every consumer has 100 points (`ConsistentHashingStickyKeyConsumerSelector`, Apache
//! Pulsar 4.0). So consumers of the same names have the same keys on both brokers.

use std::collections::BTreeMap;

const POINTS_PER_CONSUMER: u32 = 100;
const MASK: u32 = i32::MAX as u32;
/// The last place on the ring; the first is one.
pub const RING_END: u32 = 65535;

/// Hash of a sticky key; zero is not used, since it means "not set" in the Java broker.
pub fn sticky_hash(key: &[u8]) -> u32 {
    (murmur3_32(key) & MASK).max(1)
}

/// The place of a sticky key's hash on the ring.
pub fn ring_place(hash: u32) -> u32 {
    hash % RING_END + 1
}

/// The points of all consumers of a subscription, each known by a number.
#[derive(Debug, Default)]
pub struct Ring {
    /// Several consumers may claim one point; the first of them has it.
    points: BTreeMap<u32, Vec<u32>>,
    /// Name and index among the consumers of that name, so that one that comes back gets the same keys.
    members: BTreeMap<u32, (String, u32)>,
}

impl Ring {
    pub fn add(&mut self, consumer: u32, name: &str) {
        let taken: Vec<u32> =
            self.members.values().filter(|(other, _)| other == name).map(|(_, index)| *index).collect();
        let index = (0..).find(|index| !taken.contains(index)).unwrap_or(0);
        for point in points(name, index) {
            self.points.entry(point).or_default().push(consumer);
        }
        self.members.insert(consumer, (name.to_owned(), index));
    }

    pub fn remove(&mut self, consumer: u32) {
        let Some((name, index)) = self.members.remove(&consumer) else { return };
        for point in points(&name, index) {
            if let Some(claims) = self.points.get_mut(&point) {
                claims.retain(|claim| *claim != consumer);
                if claims.is_empty() {
                    self.points.remove(&point);
                }
            }
        }
    }

    /// The consumer of a place on the ring.
    pub fn owner(&self, place: u32) -> Option<u32> {
        let point = self.points.range(place..).next().or_else(|| self.points.first_key_value());
        point.and_then(|(_, claims)| claims.first().copied())
    }

    /// Which places belong to a consumer: first and last of each range.
    pub fn ranges(&self, consumer: u32) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut start = 1;
        let ends = self.points.keys().copied().chain([RING_END]);
        for end in ends.filter(|_| !self.points.is_empty()) {
            if start <= end && self.owner(start) == Some(consumer) {
                match ranges.last_mut() {
                    Some((_, last)) if *last + 1 == start => *last = end,
                    _ => ranges.push((start, end)),
                }
            }
            start = end + 1;
        }
        ranges
    }
}

fn points(name: &str, index: u32) -> impl Iterator<Item = u32> + '_ {
    (0..POINTS_PER_CONSUMER).map(move |point| ring_place(sticky_hash(format!("{name}\0{index}\0{point}").as_bytes())))
}

/// Which of these consumers is active on a topic without partitions: a ring of their own, with other points.
pub fn elected<'a>(topic: &str, names: impl Iterator<Item = &'a str>) -> usize {
    let mut ring = BTreeMap::new();
    for (index, name) in names.enumerate() {
        for point in 0..POINTS_PER_CONSUMER {
            // Who comes last has a point that several claim.
            ring.insert(murmur3_32(format!("{name}{point}").as_bytes()) & MASK, index);
        }
    }
    let hash = murmur3_32(topic.as_bytes()) & MASK;
    ring.range(hash..).next().or_else(|| ring.first_key_value()).map_or(0, |(_, index)| *index)
}

/// MurmurHash3 x86 32 with seed 0.
fn murmur3_32(bytes: &[u8]) -> u32 {
    fn mixed(block: u32) -> u32 {
        block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
    }
    let mut hash = 0u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        hash ^= mixed(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let block = tail.iter().rev().fold(0u32, |block, byte| block << 8 | u32::from(*byte));
        hash ^= mixed(block);
    }
    hash ^= bytes.len() as u32;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur_matches_its_published_vectors() {
        assert_eq!(murmur3_32(b""), 0);
        assert_eq!(murmur3_32(b"test"), 0xba6b_d213);
        assert_eq!(murmur3_32(b"Hello, world!"), 0xc036_3e43);
        assert_eq!(murmur3_32(b"The quick brown fox jumps over the lazy dog"), 0x2e4f_f723);
    }

    #[test]
    fn a_joining_consumer_only_takes_keys_it_never_swaps_others() {
        let mut ring = Ring::default();
        ring.add(1, "a");
        ring.add(2, "b");
        let hashes: Vec<u32> = (0..2000u32).map(|key| ring_place(sticky_hash(&key.to_be_bytes()))).collect();
        let before: Vec<_> = hashes.iter().map(|hash| ring.owner(*hash)).collect();
        ring.add(3, "c");
        let mut moved = 0;
        for (hash, before) in hashes.iter().zip(&before) {
            let after = ring.owner(*hash);
            if after != *before {
                assert_eq!(after, Some(3));
                moved += 1;
            }
        }
        assert!((400..1000).contains(&moved), "{moved} of 2000 keys moved to the third consumer");
        let mut places: Vec<u32> = (1..=3)
            .flat_map(|consumer| ring.ranges(consumer).into_iter().map(move |range| (consumer, range)))
            .flat_map(|(consumer, (start, end))| {
                assert!((start..=end).all(|place| ring.owner(place) == Some(consumer)));
                start..=end
            })
            .collect();
        places.sort_unstable();
        assert_eq!(places, (1..=RING_END).collect::<Vec<u32>>(), "the ranges cover the ring once");
        ring.remove(3);
        let again: Vec<_> = hashes.iter().map(|hash| ring.owner(*hash)).collect();
        assert_eq!(before, again);
    }
}
