//! The newest part of the log in memory, as it was written, for consumers that keep up.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::semantics::Location;

/// Regions of the log, oldest first, with at most so many bytes.
#[derive(Debug)]
pub struct Cache {
    limit: usize,
    regions: Mutex<Regions>,
}

#[derive(Debug, Default)]
struct Regions {
    bytes: usize,
    list: VecDeque<Region>,
}

#[derive(Debug)]
struct Region {
    segment: u32,
    start: u32,
    bytes: Bytes,
}

impl Cache {
    pub fn new(limit: usize) -> Cache {
        Cache { limit, regions: Mutex::default() }
    }

    pub fn insert(&self, segment: u32, start: u32, bytes: Bytes) {
        // A panic elsewhere cannot leave regions half changed: they are only pushed and popped.
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        regions.bytes += bytes.len();
        regions.list.push_back(Region { segment, start, bytes });
        while regions.bytes > self.limit && regions.list.len() > 1 {
            if let Some(oldest) = regions.list.pop_front() {
                regions.bytes -= oldest.bytes.len();
            }
        }
    }

    /// The record at this place, if it is still here.
    pub fn get(&self, location: Location) -> Option<Bytes> {
        let regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (location.segment, location.offset);
        let after = regions.list.partition_point(|region| (region.segment, region.start) <= key);
        let region = regions.list.get(after.checked_sub(1)?)?;
        if region.segment != location.segment {
            return None;
        }
        let at = (location.offset - region.start) as usize;
        let end = at + location.len as usize;
        (end <= region.bytes.len()).then(|| region.bytes.slice(at..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_stay() {
        let cache = Cache::new(10);
        cache.insert(1, 0, Bytes::from_static(b"abcdef"));
        cache.insert(1, 6, Bytes::from_static(b"ghijk"));
        cache.insert(2, 0, Bytes::from_static(b"lm"));
        assert_eq!(cache.get(Location { segment: 1, offset: 2, len: 2 }), None);
        assert_eq!(cache.get(Location { segment: 1, offset: 7, len: 3 }).as_deref(), Some(&b"hij"[..]));
        assert_eq!(cache.get(Location { segment: 2, offset: 0, len: 2 }).as_deref(), Some(&b"lm"[..]));
        assert_eq!(cache.get(Location { segment: 2, offset: 1, len: 2 }), None);
    }
}
