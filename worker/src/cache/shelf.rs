//! A shelf in files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everpulse_engine::{Place, Shelf};
use uuid::Uuid;

use super::part::{self, Part};

/// A part is as large as this, and what was put last.
const PART_BYTES: u64 = 16 * 1024 * 1024;
/// With more small ones than this, the smallest goes into others.
const PARTS_MAX: u64 = 8;
/// Before what was saved: this, the nonce, and a checksum over the nonce and the rest.
const MAGIC: &[u8; 8] = b"evpulse1";
const HEAD: usize = 24;

/// The shelf of one shard.
#[derive(Debug)]
pub(crate) struct FileShelf {
    dir: PathBuf,
    _lock: Arc<File>,
    nonce: u64,
    parts: BTreeMap<u32, Part>,
    /// The one that is appended to.
    current: Option<u32>,
    /// No file had this number yet.
    next: u32,
    /// Files that only what was saved last needs.
    dead: Vec<u32>,
    /// Nothing could be written the last time.
    is_full: bool,
}

impl FileShelf {
    pub fn open(dir: PathBuf, lock: Arc<File>) -> Self {
        let mut shelf = Self {
            dir,
            _lock: lock,
            nonce: nonce(),
            parts: BTreeMap::new(),
            current: None,
            next: 1,
            dead: Vec::new(),
            is_full: false,
        };
        if let Err(error) = fs::create_dir_all(&shelf.dir) {
            shelf.complain("make", &error);
        }
        shelf.next = shelf.files().into_iter().max().map_or(1, |last| last.saturating_add(1));
        shelf
    }

    /// The numbers of the parts that lie there.
    fn files(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn path(&self, part: u32) -> PathBuf {
        self.dir.join(part.to_string())
    }

    fn saved(&self) -> PathBuf {
        self.dir.join("saved")
    }

    /// Says once that the disk does not take what is to be written.
    fn complain(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(dir = %self.dir.display(), %error, "could not {what} the cache; runs stay in memory meanwhile");
        }
    }

    fn remove(&self, path: &Path) {
        // What cannot be removed is in nobody's way: no number is used twice.
        if let Err(error) = fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(path = %path.display(), %error, "a file of the cache stays");
        }
    }

    /// The part that was appended to is full.
    fn leave_current(&mut self) -> io::Result<()> {
        let Some(number) = self.current else { return Ok(()) };
        if let Some(full) = self.parts.get_mut(&number) {
            full.flush()?;
            if full.used == 0 {
                self.parts.remove(&number);
                self.dead.push(number);
            }
        }
        self.current = None;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<Place> {
        let is_room = |part: &Part| part.end() < PART_BYTES;
        let current = self.current.filter(|number| self.parts.get(number).is_some_and(is_room));
        let number = match current {
            Some(number) => number,
            None => {
                self.leave_current()?;
                let number = self.next;
                self.next += 1;
                self.parts.insert(number, Part::create(&self.path(number), number, self.nonce)?);
                self.current = Some(number);
                number
            }
        };
        let part = self.parts.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        Ok(Place { part: number, offset: part.append(bytes)?, bytes: len })
    }

    fn write(&mut self, saved: &[u8]) -> io::Result<()> {
        if let Some(current) = self.current.and_then(|number| self.parts.get_mut(&number)) {
            current.flush()?;
        }
        let mut file = Vec::with_capacity(HEAD + saved.len());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&self.nonce.to_le_bytes());
        file.extend_from_slice(&(part::checksum(saved) ^ self.nonce).to_le_bytes());
        file.extend_from_slice(saved);
        let beside = self.dir.join("saving");
        fs::write(&beside, &file)?;
        fs::rename(&beside, self.saved())
    }
}

impl Shelf for FileShelf {
    fn put(&mut self, bytes: &[u8]) -> Option<Place> {
        match self.append(bytes) {
            Ok(place) => {
                self.is_full = false;
                Some(place)
            }
            Err(error) => {
                self.complain("write", &error);
                None
            }
        }
    }

    fn get(&mut self, place: Place) -> Option<Vec<u8>> {
        self.parts.get(&place.part)?.read(place.offset, place.bytes)
    }

    fn free(&mut self, place: Place) {
        let Some(part) = self.parts.get_mut(&place.part) else { return };
        part.used = part.used.saturating_sub(Part::room(place.bytes));
        if part.used == 0 && self.current != Some(place.part) {
            self.parts.remove(&place.part);
            self.dead.push(place.part);
        }
    }

    fn sparse(&self) -> Option<u32> {
        let others = || self.parts.iter().filter(|(number, _)| self.current != Some(**number));
        let half_empty = others().filter(|(_, part)| 2 * part.used < part.len).min_by_key(|(_, part)| part.used);
        let len: u64 = self.parts.values().map(|part| part.len).sum();
        let too_many = self.parts.len() as u64 > PARTS_MAX + 2 * len / PART_BYTES;
        let smallest = || others().min_by_key(|(_, part)| part.len).filter(|_| too_many);
        half_empty.or_else(smallest).map(|(number, _)| *number)
    }

    fn save(&mut self, saved: &[u8]) {
        if let Err(error) = self.write(saved) {
            self.complain("write", &error);
            // What was saved before holds files that nobody else needs; on a full disk they are what is in the way.
            self.remove(&self.dir.join("saving"));
            self.remove(&self.saved());
        }
        for part in std::mem::take(&mut self.dead) {
            self.remove(&self.path(part));
        }
    }

    fn load(&mut self) -> Option<Vec<u8>> {
        let mut file = fs::read(self.saved()).ok().filter(|file| file.len() >= HEAD)?;
        let saved = file.split_off(HEAD);
        let field = |at: usize| Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?));
        let nonce = field(8)?;
        if !file.starts_with(MAGIC) || field(16)? != part::checksum(&saved) ^ nonce {
            tracing::info!(dir = %self.dir.display(), "the cache is damaged, or another release's");
            return None;
        }
        self.nonce = nonce;
        Some(saved)
    }

    fn resume(&mut self, places: &mut dyn Iterator<Item = Place>) {
        let mut used: BTreeMap<u32, u64> = BTreeMap::new();
        for place in places {
            *used.entry(place.part).or_default() += Part::room(place.bytes);
        }
        (self.current, self.dead) = (None, Vec::new());
        self.parts.clear();
        for number in self.files() {
            let path = self.path(number);
            match used.get(&number) {
                // One that cannot be opened is missed when somebody asks for what lies there.
                Some(used) => {
                    if let Ok(mut part) = Part::open(&path, number, self.nonce) {
                        part.used = *used;
                        self.parts.insert(number, part);
                    }
                }
                None => self.remove(&path),
            }
        }
    }

    fn clear(&mut self) {
        (self.current, self.dead, self.nonce) = (None, Vec::new(), nonce());
        self.parts.clear();
        self.remove(&self.saved());
        for number in self.files() {
            self.remove(&self.path(number));
        }
    }
}

fn nonce() -> u64 {
    // The lower half of such an id is random.
    Uuid::now_v7().as_u64_pair().1
}
