//! Which consumer of a Key_Shared subscription a key belongs to.
//!
//! As the Java broker does it: murmur3 (32 bits, seed 0) of the sticky key without the sign bit, on a ring
//! where every consumer has 100 points (`ConsistentHashingStickyKeyConsumerSelector`, Apache Pulsar 4.0).

use std::collections::BTreeMap;

const POINTS_PER_CONSUMER: u32 = 100;
const MASK: u32 = i32::MAX as u32;

/// Hash of a sticky key; zero is not used, since it means "not set" in the Java broker.
pub fn sticky_hash(key: &[u8]) -> u32 {
    (murmur3_32(key) & MASK).max(1)
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

    pub fn owner(&self, hash: u32) -> Option<u32> {
        let point = self.points.range(hash..).next().or_else(|| self.points.first_key_value());
        point.and_then(|(_, claims)| claims.first().copied())
    }
}

fn points(name: &str, index: u32) -> impl Iterator<Item = u32> + '_ {
    (0..POINTS_PER_CONSUMER).map(move |point| sticky_hash(format!("{name}\0{index}\0{point}").as_bytes()))
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
        let hashes: Vec<u32> = (0..2000u32).map(|key| sticky_hash(&key.to_be_bytes())).collect();
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
        ring.remove(3);
        let again: Vec<_> = hashes.iter().map(|hash| ring.owner(*hash)).collect();
        assert_eq!(before, again);
    }
}
