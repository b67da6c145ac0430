//! What was put or fetched lately: a run that is given a blob, and the attempt after the first, need not fetch it.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

type Hash = [u8; 32];

/// Blobs up to so many bytes; the one that was not used for longest goes first.
#[derive(Debug)]
pub(crate) struct Cache {
    blobs: HashMap<Hash, (u64, Bytes)>,
    by_use: BTreeMap<u64, Hash>,
    bytes: usize,
    bytes_max: usize,
    uses: u64,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Self {
        Self { blobs: HashMap::new(), by_use: BTreeMap::new(), bytes: 0, bytes_max, uses: 0 }
    }

    pub fn get(&mut self, hash: &Hash) -> Option<Bytes> {
        let (used, data) = self.blobs.get_mut(hash)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *hash);
        Some(data.clone())
    }

    pub fn insert(&mut self, hash: Hash, data: Bytes) {
        if data.len() > self.bytes_max || self.get(&hash).is_some() {
            return;
        }
        self.uses += 1;
        self.bytes += data.len();
        self.by_use.insert(self.uses, hash);
        self.blobs.insert(hash, (self.uses, data));
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            if let Some((_, gone)) = self.blobs.remove(&oldest) {
                self.bytes -= gone.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::new(10);
        let data = |byte: u8, bytes: usize| Bytes::from(vec![byte; bytes]);
        for byte in 0..3 {
            cache.insert([byte; 32], data(byte, 4));
            assert!(byte > 1 || cache.get(&[0; 32]).is_some());
        }
        assert_eq!(cache.get(&[0; 32]), Some(data(0, 4)), "it was used");
        assert_eq!(cache.get(&[1; 32]), None);
        assert_eq!(cache.get(&[2; 32]), Some(data(2, 4)));
        cache.insert([3; 32], data(3, 11));
        assert_eq!((cache.get(&[3; 32]), cache.bytes), (None, 8), "it has no room at all");
    }
}
