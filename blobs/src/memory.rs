//! A store for tests, which ends with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use everpulse_protocol::blob::Reference;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

use crate::store::{BlobStore, Collected, StoreError};

/// Blobs in the memory of this process. Clones are the same store.
#[derive(Clone, Default)]
pub struct Memory {
    blobs: Arc<Mutex<Blobs>>,
}

/// With the time at which each was put for the last time, by its hash.
type Blobs = BTreeMap<[u8; 32], (Bytes, SystemTime)>;

impl Memory {
    /// A store with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many blobs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is there.
    #[must_use]
    pub fn all(&self) -> Vec<Bytes> {
        self.lock().values().map(|(data, _)| data.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Blobs> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobStore for Memory {
    fn put<'a>(&'a self, blob: &'a Reference, data: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        self.lock().insert(blob.hash, (data, SystemTime::now()));
        ready(Ok(None)).boxed()
    }

    fn get<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        let found = self.lock().get(&blob.hash).map(|(data, _)| data.clone());
        ready(found.ok_or(StoreError::Missing)).boxed()
    }

    fn delete<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>> {
        ready(Ok(self.lock().remove(&blob.hash).is_some())).boxed()
    }

    fn collect(&self, before: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>> {
        let mut collected = Collected::default();
        self.lock().retain(|_, (data, at)| {
            let keep = *at >= before;
            if !keep {
                collected.add(data.len() as u64);
            }
            keep
        });
        ready(Ok(collected)).boxed()
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} blobs)", self.len())
    }
}
