//! Where a shard lays runs that wait, as bytes, so that they need no memory; and where it keeps what it knows for its
//! next life.
//!
//! A shelf is a cache, never a truth: all that lies there follows from history, and may be gone at any time. What it
//! gives is what was laid there, or nothing. It is given to the shard as a value whose calls return at once, since a
//! run is needed in the midst of a round; what it does with disks is the worker's.

use std::fmt::Debug;

/// Where bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub part: u32,
    pub offset: u32,
    pub bytes: u32,
}

/// Bytes that a shard can do without.
pub trait Shelf: Debug {
    /// Lays bytes down; none if there is no room: then they stay in memory.
    fn put(&mut self, bytes: &[u8]) -> Option<Place>;

    /// What was laid there; none if it is not there exactly as it was.
    fn get(&mut self, place: Place) -> Option<Vec<u8>>;

    /// Nobody asks for this place any more, except whoever begins with what was saved last.
    fn free(&mut self, place: Place);

    /// A part of which little is in use: what is there should be put again, and freed.
    fn sparse(&self) -> Option<u32>;

    /// Keeps `saved` in place of what was saved before, and with it all places that are in use.
    fn save(&mut self, saved: &[u8]);

    /// What was saved last, if it is there and whole.
    fn load(&mut self) -> Option<Vec<u8>>;

    /// Begins with what was saved last: only these places are in use.
    fn resume(&mut self, places: &mut dyn Iterator<Item = Place>);

    /// Begins with nothing.
    fn clear(&mut self);
}

/// A shelf in memory: runs take a third of what they take at hand, and nothing outlives the process.
#[derive(Debug, Default)]
pub struct MemoryShelf {
    laid: Vec<Option<Box<[u8]>>>,
    unused: Vec<u32>,
}

impl Shelf for MemoryShelf {
    fn put(&mut self, bytes: &[u8]) -> Option<Place> {
        let offset = match self.unused.pop() {
            Some(offset) => offset,
            None => {
                self.laid.push(None);
                u32::try_from(self.laid.len() - 1).ok()?
            }
        };
        *self.laid.get_mut(offset as usize)? = Some(bytes.into());
        Some(Place { part: 0, offset, bytes: u32::try_from(bytes.len()).ok()? })
    }

    fn get(&mut self, place: Place) -> Option<Vec<u8>> {
        Some(self.laid.get(place.offset as usize)?.as_ref()?.to_vec())
    }

    fn free(&mut self, place: Place) {
        if let Some(laid) = self.laid.get_mut(place.offset as usize)
            && laid.take().is_some()
        {
            self.unused.push(place.offset);
        }
    }

    fn sparse(&self) -> Option<u32> {
        None
    }

    fn save(&mut self, _: &[u8]) {}

    fn load(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn resume(&mut self, _: &mut dyn Iterator<Item = Place>) {}

    fn clear(&mut self) {
        *self = Self::default();
    }
}
