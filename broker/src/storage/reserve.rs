//! A little room that is kept for the worst moment: on a disk that is full to the last byte, what was acknowledged makes
//! room only after a snapshot has been written, and that takes some.
//!
//! A file of zeros, made when a segment is half full and there is room for it twice, given up for a snapshot that finds the
//! disk full and after which segments can go, and made again later. Never for messages: they would take it at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::store::Shared;

/// A snapshot has some hundred bytes for each topic, subscription and hole in a cursor.
const BYTES: u64 = 1024 * 1024;

#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    /// What the file has.
    bytes: u64,
}

impl Reserve {
    /// Goes on with what an earlier process left.
    pub fn new(dir: &Path, options: Options, shared: Arc<Shared>) -> Reserve {
        let path = dir.join("reserve");
        let bytes = options.files.len(&path).unwrap_or(0);
        shared.add_disk_bytes(bytes as i64);
        Reserve { path, options, shared, bytes }
    }

    /// Makes it, if there is none and there is room for it.
    pub fn keep(&mut self) {
        if self.bytes >= BYTES || self.shared.check_space(2 * BYTES, &self.options).is_err() {
            return;
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if self.options.files.room(dir).is_ok_and(|room| room >= 2 * BYTES) {
            self.give_up();
            match self.write() {
                Ok(()) => {
                    self.bytes = BYTES;
                    self.shared.add_disk_bytes(BYTES as i64);
                }
                Err(error) => {
                    tracing::info!(path = %self.path.display(), %error, "no room could be kept for a full disk");
                    self.remove();
                }
            }
        }
    }

    /// Removes it. True if there is more room now.
    pub fn give_up(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.bytes);
        self.shared.add_disk_bytes(-(bytes as i64));
        bytes > 0 && self.remove()
    }

    fn write(&self) -> io::Result<()> {
        // Not synced: it is only there to be removed. Zeros, since a file without bytes would take no room.
        self.options.files.create(&self.path)?.write_all_at(&vec![0; BYTES as usize], 0)
    }

    fn remove(&self) -> bool {
        self.options.files.remove(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::DiskLimit;
    use super::super::simulated::MemoryFiles;
    use super::*;

    const DIR: &str = "/broker";

    #[test]
    fn it_is_kept_where_there_is_room_and_given_up_once() {
        let (files, shared) = (MemoryFiles::default(), Arc::new(Shared::new(0, 0)));
        let disk = DiskLimit::default();
        let options = Options { disk: disk.clone(), files: Arc::new(files.clone()), ..Options::default() };
        let mut reserve = Reserve::new(Path::new(DIR), options.clone(), shared.clone());
        assert!(!reserve.give_up());
        files.set_capacity(Some(2 * BYTES - 1));
        reserve.keep();
        assert_eq!(files.used(), 0, "the disk");
        files.set_capacity(None);
        disk.set(2 * BYTES - 1);
        reserve.keep();
        assert_eq!(files.used(), 0, "the limit");
        disk.set(u64::MAX);
        reserve.keep();
        reserve.keep();
        assert_eq!((files.used(), shared.disk_bytes()), (BYTES, BYTES));
        // The next process has it, too.
        let shared = Arc::new(Shared::new(0, 0));
        let mut reserve = Reserve::new(Path::new(DIR), options, shared.clone());
        assert_eq!(shared.disk_bytes(), BYTES);
        assert!(reserve.give_up() && !reserve.give_up());
        assert_eq!((files.used(), shared.disk_bytes()), (0, 0));
    }
}
