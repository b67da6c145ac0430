//! Every file operation of the storage, so that a test can be the disk.
//!
//! [`Disk`] is the operating system's. Tests use one in memory that loses what was not synced (`simulated.rs`).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Files by their paths. What is made, renamed or removed is durable after [`Files::sync_dir`].
pub trait Files: fmt::Debug + Send + Sync {
    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// As the operating system says; so for all operations here.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// # Errors
    /// See [`Files::list`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// # Errors
    /// See [`Files::list`].
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// How many bytes a directory's file system has room for.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn room(&self, dir: &Path) -> io::Result<u64>;
    /// An empty file, whether there was one or not.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;
    /// An existing file, to read and write.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;
    /// Replaces `to` at once.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// # Errors
    /// See [`Files::list`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// # Errors
    /// See [`Files::list`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file whose bytes are addressed by position. What is written is durable after a sync.
pub trait OpenFile: fmt::Debug + Send + Sync {
    /// # Errors
    /// See [`Files::list`]; so for all operations here.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// # Errors
    /// See [`Files::list`].
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// # Errors
    /// See [`Files::list`].
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the bytes, and the length if it grew, durable.
    ///
    /// # Errors
    /// See [`Files::list`].
    fn sync_data(&self) -> io::Result<()>;
    /// # Errors
    /// See [`Files::list`].
    fn sync_all(&self) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn room(&self, dir: &Path) -> io::Result<u64> {
        let system = rustix::fs::statvfs(dir)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl OpenFile for File {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }
}
