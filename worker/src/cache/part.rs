//! One file of a shelf. What is put is appended; nothing is ever changed in place.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A checksum stands before the bytes.
const CHECKSUM: usize = 8;
/// So much is gathered before it is written.
const GATHERED: usize = 64 * 1024;

/// A part that is read.
#[derive(Debug)]
pub(super) struct Part {
    number: u32,
    /// Tells this cache from others that may have been in the same place.
    nonce: u64,
    file: File,
    /// What is in the file.
    pub len: u64,
    /// What is to be appended.
    gathered: Vec<u8>,
    /// So much of it is of use.
    pub used: u64,
}

impl Part {
    /// A new one.
    pub fn create(path: &Path, number: u32, nonce: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        Ok(Self { number, nonce, file, len: 0, gathered: Vec::new(), used: 0 })
    }

    /// One of an earlier life, which is only read.
    pub fn open(path: &Path, number: u32, nonce: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { number, nonce, file, len, gathered: Vec::new(), used: 0 })
    }

    /// Where the next bytes come to lie.
    pub fn end(&self) -> u64 {
        self.len + self.gathered.len() as u64
    }

    /// How much room bytes take.
    pub fn room(bytes: u32) -> u64 {
        u64::from(bytes) + CHECKSUM as u64
    }

    /// Appends bytes; gives their offset.
    ///
    /// # Errors
    /// When the disk is full or does not write; then nothing was appended.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<u32> {
        if self.gathered.len() >= GATHERED {
            self.flush()?;
        }
        let offset = u32::try_from(self.end()).map_err(|_| io::Error::other("the part is full"))?;
        self.gathered.extend_from_slice(&self.checksum(offset, bytes).to_le_bytes());
        self.gathered.extend_from_slice(bytes);
        self.used += (CHECKSUM + bytes.len()) as u64;
        Ok(offset)
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// When the disk is full or does not write; what was gathered stays in memory.
    pub fn flush(&mut self) -> io::Result<()> {
        // As a whole: what a full disk took of it is written again at the same place.
        self.file.write_all_at(&self.gathered, self.len)?;
        self.len += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// What was appended there, if it is whole.
    pub fn read(&self, offset: u32, bytes: u32) -> Option<Vec<u8>> {
        let (start, len) = (u64::from(offset), CHECKSUM + bytes as usize);
        let mut found = vec![0; len];
        if start >= self.len {
            let start = usize::try_from(start - self.len).ok()?;
            found.copy_from_slice(self.gathered.get(start..start + len)?);
        } else {
            self.file.read_exact_at(&mut found, start).ok()?;
        }
        let bytes = found.split_off(CHECKSUM);
        let checksum = u64::from_le_bytes(found.try_into().ok()?);
        (checksum == self.checksum(offset, &bytes)).then_some(bytes)
    }

    /// Of the bytes at their place, in this file of this cache.
    fn checksum(&self, offset: u32, bytes: &[u8]) -> u64 {
        let mut hash = Xxh3::with_seed(self.nonce);
        hash.update(&self.number.to_le_bytes());
        hash.update(&offset.to_le_bytes());
        hash.update(bytes);
        hash.digest()
    }
}

/// Of bytes that stand alone.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}
