//! One broker per directory: a file lock that ends with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::error::Error;

/// Held as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Creates the directory if need be and takes its lock; [`Error::Locked`] if another process, or another
    /// broker of this one, has it.
    ///
    /// # Errors
    /// Locked, or the directory cannot be made or written.
    pub fn acquire(dir: &Path) -> Result<DirectoryLock, Error> {
        if !dir.exists() {
            std::fs::create_dir_all(dir).map_err(Error::io("create the directory", dir))?;
            // What is made in it counts on it after a power failure, too.
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                let synced = File::open(parent).and_then(|parent| parent.sync_all());
                synced.map_err(Error::io("sync the directory of", dir))?;
            }
        }
        let path = dir.join("LOCK");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(Error::io("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(DirectoryLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked { path }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }
}
