//! Messages and changes on disk: a log of checksummed records in segments, and snapshots of the state.
//!
//! Owns files, their formats, durability and recovery. It does not know what a subscription is, nor which
//! messages are still needed: it is told how many entries of a segment have been released.
//!
//! ```text
//! DIR/LOCK               held by the broker that serves the directory
//! DIR/log-00000007.seg   records, oldest segment first; written by one thread, one sync for all that is queued
//! DIR/log-00000007.idx   what recovery needs of a closed segment; can be lost
//! DIR/spare.tmp          a segment to be, made ahead
//! DIR/reserve            room for a snapshot when the disk is full
//! DIR/snapshot.json      the state as of a point of the log, so that older segments can go
//! ```

pub mod cache;
#[cfg(test)]
mod crash;
pub mod error;
pub mod files;
pub mod index;
#[cfg(test)]
mod indexed_tests;
pub mod lock;
pub mod record;
pub mod recover;
mod reserve;
pub mod segment;
#[cfg(any(test, feature = "fuzzing"))]
pub mod simulated;
pub mod snapshot;
mod spare;
mod store;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

pub use error::Error;
pub use files::{Disk, Files};
pub use lock::DirectoryLock;
pub use recover::recover;
#[cfg(any(test, feature = "fuzzing"))]
pub use store::ByHand;
pub use store::{Reader, Storage};
pub use writer::Completion;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is written into the files; a directory with a higher one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Whether a receipt means that the message would survive the machine losing power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A receipt comes after fdatasync.
    #[default]
    Durable,
    /// A receipt comes after the write: it survives the process, not the machine.
    Relaxed,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub mode: Mode,
    /// A segment is closed when the next record would exceed this.
    pub segment_bytes: u32,
    /// How many of the bytes written last are kept in memory for consumers that keep up.
    pub cache_bytes: usize,
    pub disk: DiskLimit,
    /// The operating system's, except in tests.
    pub files: Arc<dyn Files>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            mode: Mode::Durable,
            segment_bytes: 64 * 1024 * 1024,
            cache_bytes: 4 * 1024 * 1024,
            disk: DiskLimit::default(),
            files: Arc::new(Disk),
        }
    }
}

/// How many bytes the segments may take, all together; beyond that the disk counts as full. Can be changed
/// while the broker runs.
#[derive(Debug, Clone)]
pub struct DiskLimit(Arc<AtomicU64>);

impl Default for DiskLimit {
    fn default() -> DiskLimit {
        DiskLimit(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl DiskLimit {
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
