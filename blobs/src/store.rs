//! What a store has to do.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use everpulse_protocol::blob::Reference;
use futures::future::BoxFuture;

/// Keeps bytes under the hash of what they are. Implement it for the object store that you have.
///
/// It is given what is compressed and sealed already, and need not check what it gives back: that is done against the hash.
pub trait BlobStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps the bytes, and says where, if their hash alone will not find them. When it returns they must outlive this
    /// process and a loss of power: what names them is sent next. To put the same again is harmless, and makes it
    /// young again for [`collect`](Self::collect).
    fn put<'a>(&'a self, blob: &'a Reference, data: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>>;

    /// The bytes that were put.
    fn get<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>>;

    /// Forgets them; false when they are not there, or this store forgets by age alone.
    fn delete<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Forgets all that was put for the last time before then. What may be forgotten, only the application knows: nothing
    /// must name it any more.
    fn collect(&self, before: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>>;
}

/// What a store forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Collected {
    pub blobs: u64,
    pub bytes: u64,
}

impl Collected {
    /// One more of so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.blobs += 1;
        self.bytes += bytes;
    }
}

/// Why a store could not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It was deleted, or put into another store of that name.
    #[error("it is not there")]
    Missing,
    /// It may be done later.
    #[error("{reason}")]
    Unavailable { reason: String },
}

impl StoreError {
    /// For whatever may be gone later.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable { reason: reason.to_string() }
    }
}
