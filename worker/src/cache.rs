//! The cache on a worker's disk: what its shards lay down, in a directory that one process has to itself.
//!
//! ```text
//!   DIR/LOCK                held as long as the worker lives
//!   DIR/shard-3/saved       what the shard saved last, with a checksum over all of it
//!             /7 /8 /9      parts: what was laid down, each with a checksum over it and its place
//! ```
//!
//! Nothing here is synced: whatever a crash leaves is either as it was written, or recognised as damaged by its checksum,
//! and then history is read. Deleting the directory while no worker runs costs a longer start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::shelf::FileShelf;
use crate::error::Error;

mod part;
mod shelf;
#[cfg(test)]
mod tests;

/// A cache directory that is this process's.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: Arc<PathBuf>,
    /// The lock goes with the last one who needs it.
    lock: Arc<File>,
}

impl Cache {
    /// Takes a directory; none, and a word in the log, if another process has it.
    ///
    /// # Errors
    /// When the directory cannot be made or written.
    pub fn open(dir: &Path) -> Result<Option<Self>, Error> {
        let failed = |what: &str, error: io::Error| {
            let what = format!("could not {what} the cache directory {}; set another one, or none", dir.display());
            Error::cache(what, error)
        };
        fs::create_dir_all(dir).map_err(|error| failed("make", error))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("LOCK"));
        let lock = lock.map_err(|error| failed("write to", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { dir: Arc::new(dir.to_owned()), lock: Arc::new(lock) })),
            Err(fs::TryLockError::WouldBlock) => {
                tracing::warn!(
                    dir = %dir.display(),
                    "another worker uses this cache directory: this one keeps runs in memory, and reads all of history \
                     when it starts. Give it a directory of its own"
                );
                Ok(None)
            }
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", error)),
        }
    }

    /// The shelf of a shard.
    pub fn shelf(&self, shard: u32) -> FileShelf {
        FileShelf::open(self.dir.join(format!("shard-{shard}")), self.lock.clone())
    }
}
