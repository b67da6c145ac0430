//! Disks with shelves on them that outlive owners, and lose what they are told to lose.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use everpulse_engine::{Place, Shelf};

/// What lies on one machine's disk. Nothing is deleted: what was saved long ago can still be begun with.
#[derive(Debug, Default)]
pub struct Disk {
    laid: BTreeMap<Place, Vec<u8>>,
    pub saved: Vec<Vec<u8>>,
    next: u32,
    /// How often a shard began with what was saved.
    pub resumed: usize,
    /// How often something was asked for that was lost.
    pub missed: usize,
}

impl Disk {
    /// Loses one in so many of what was laid down.
    pub fn lose(&mut self, one_in: usize) {
        let mut count = 0;
        self.laid.retain(|_, _| {
            count += 1;
            count % one_in != 0
        });
    }
}

/// A shelf on a disk.
#[derive(Debug)]
pub struct DiskShelf {
    disk: Rc<RefCell<Disk>>,
    used: BTreeSet<Place>,
}

impl DiskShelf {
    pub fn new(disk: Rc<RefCell<Disk>>) -> Self {
        Self { disk, used: BTreeSet::new() }
    }
}

impl Shelf for DiskShelf {
    fn put(&mut self, bytes: &[u8]) -> Option<Place> {
        let mut disk = self.disk.borrow_mut();
        disk.next += 1;
        // Each ninth time there is no room.
        let next = disk.next;
        if next.is_multiple_of(9) {
            return None;
        }
        let place = Place { part: next / 16, offset: next, bytes: u32::try_from(bytes.len()).expect("small") };
        disk.laid.insert(place, bytes.to_vec());
        self.used.insert(place);
        Some(place)
    }

    fn get(&mut self, place: Place) -> Option<Vec<u8>> {
        assert!(self.used.contains(&place), "nobody asks for what was freed");
        let mut disk = self.disk.borrow_mut();
        let found = disk.laid.get(&place).cloned();
        disk.missed += usize::from(found.is_none());
        found
    }

    fn free(&mut self, place: Place) {
        assert!(self.used.remove(&place), "it is freed once");
    }

    fn sparse(&self) -> Option<u32> {
        let newest = self.used.last()?.part;
        let count = |part| self.used.iter().filter(|place| place.part == part).count();
        self.used.iter().map(|place| place.part).find(|part| *part != newest && count(*part) < 8)
    }

    fn save(&mut self, saved: &[u8]) {
        self.disk.borrow_mut().saved.push(saved.to_vec());
    }

    fn load(&mut self) -> Option<Vec<u8>> {
        self.disk.borrow().saved.last().cloned()
    }

    fn resume(&mut self, places: &mut dyn Iterator<Item = Place>) {
        self.used = places.collect();
        self.disk.borrow_mut().resumed += 1;
    }

    fn clear(&mut self) {
        let mut disk = self.disk.borrow_mut();
        disk.saved.clear();
        disk.laid.clear();
        self.used.clear();
    }
}
