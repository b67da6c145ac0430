//! Calls of stores: how long each may take, what is made of an answer, and of a store that panics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use everpulse_protocol::Payload;
use everpulse_protocol::blob::{self, Reference};
use everpulse_protocol::codec::later_version;
use everpulse_protocol::coding::{CodingError, LayerError};
use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::cache::Cache;
use crate::store::{BlobStore, Collected, StoreError};

/// How long a call of a store may take, beside what its bytes take at so many in a second.
const CALL: Duration = Duration::from_secs(60);
const BYTES_PER_SECOND: u64 = 128 * 1024;
/// A store that is away is asked again after these.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// So many bytes are fetched in advance at once: they come into memory whether or not somebody looks at them soon.
const AHEAD_BYTES: u32 = 64 * 1024 * 1024;

/// A store with its name, and what stands for what lies there.
type Named<'a> = (&'a str, &'a Arc<dyn BlobStore>, Reference);

/// The stores of a process, and what was put or fetched lately.
pub(crate) struct Calls {
    /// The first one takes what is new.
    stores: Vec<(String, Arc<dyn BlobStore>)>,
    pub above: usize,
    pub up_to: usize,
    cache: Mutex<Cache>,
    ahead: Semaphore,
}

impl Calls {
    pub fn new(stores: Vec<(String, Arc<dyn BlobStore>)>, above: usize, up_to: usize, cache_bytes: usize) -> Self {
        assert!(!stores.is_empty(), "a first store takes what is new");
        assert!(above <= up_to, "what is put out has more than {above} bytes, and no value has more than {up_to}");
        let cache = Mutex::new(Cache::new(cache_bytes));
        Self { stores, above, up_to, cache, ahead: Semaphore::new(AHEAD_BYTES as usize) }
    }

    pub fn first(&self) -> (&str, &Arc<dyn BlobStore>) {
        let (name, store) = &self.stores[0];
        (name, store)
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.stores.iter().map(|(name, _)| name)
    }

    /// Whether it is for the store, or for nobody.
    pub fn is_large(&self, payload: &Payload) -> bool {
        payload.store().is_none() && payload.len() > self.above
    }

    /// Why so many bytes are for nobody.
    pub fn refuses(&self, bytes: usize) -> Option<String> {
        let max = self.up_to;
        (bytes > max).then(|| format!("a value has {bytes} bytes, and blobs take up to {max}; say `up_to` for more"))
    }

    /// Puts it, and asks a store that is away again for some seconds.
    pub async fn put_again(&self, data: Bytes) -> Result<Reference, LayerError> {
        let mut pauses = AGAIN.iter();
        loop {
            match (self.keep(data.clone()).await, pauses.next()) {
                (Err(LayerError::Away { reason }), Some(pause)) => {
                    tracing::warn!(reason, "a blob could not be put, next try in {pause:?}");
                    sleep(*pause).await;
                }
                (put, _) => return put,
            }
        }
    }

    /// Puts it for a run. What a store says is for the log: what is said of a run stands in history, for all to read.
    pub async fn put(&self, data: Bytes) -> Result<Reference, LayerError> {
        let (name, _) = self.first();
        self.keep(data).await.map_err(|error| {
            tracing::warn!(%error, "a run waits for its store");
            LayerError::away(format!("what it came to cannot be put into the store `{name}` now"))
        })
    }

    async fn keep(&self, data: Bytes) -> Result<Reference, LayerError> {
        let (name, store) = self.first();
        let mut reference = Reference::to(&data);
        let put = call(reference.bytes, async { store.put(&reference, data.clone()).await }).await;
        reference.at = put.map_err(|error| {
            LayerError::away(format!("blob {} cannot be put into the store `{name}`: {error}", reference.name()))
        })?;
        lock(&self.cache).insert(reference.hash, data);
        Ok(reference)
    }

    /// Fetches it, and asks a store that is away again for some seconds. What is not there is not asked for again.
    pub async fn get_again(&self, payload: &Payload) -> Result<Bytes, LayerError> {
        let mut pauses = AGAIN.iter();
        loop {
            let (error, is_missing) = match self.ask(payload).await {
                Ok(data) => return Ok(data),
                Err(error) => error,
            };
            match (&error, pauses.next()) {
                (LayerError::Away { reason }, Some(pause)) if !is_missing => {
                    tracing::debug!(reason, "a blob could not be fetched, next try in {pause:?}");
                    sleep(*pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Fetches it for a run, with words as in [`put`](Self::put).
    pub async fn get(&self, payload: &Payload) -> Result<Bytes, LayerError> {
        self.ask(payload).await.map_err(|(error, is_known)| match self.named(payload) {
            Ok((name, _, reference)) if !is_known => {
                tracing::warn!(%error, "a run waits for its store");
                let blob = reference.name();
                LayerError::away(format!("blob {blob} cannot be fetched from the store `{name}` now"))
            }
            _ => error,
        })
    }

    /// Has it at hand, when there is room for that.
    pub async fn get_ahead(&self, payload: &Payload) -> Result<(), LayerError> {
        let (_, _, reference) = self.named(payload).map_err(|(error, _)| error)?;
        let room = u32::try_from(reference.bytes).unwrap_or(AHEAD_BYTES).min(AHEAD_BYTES);
        // It is never closed.
        let _taken = self.ahead.acquire_many(room).await;
        self.get(payload).await.map(drop)
    }

    /// What is at hand.
    pub fn at_hand(&self, hash: &[u8; 32]) -> Option<Bytes> {
        lock(&self.cache).get(hash)
    }

    pub async fn collect(&self, before: SystemTime) -> Result<Collected, StoreError> {
        let (_, store) = self.first();
        caught(async { store.collect(before).await }).await
    }

    /// With an error comes whether asking again is in vain.
    async fn ask(&self, payload: &Payload) -> Result<Bytes, (LayerError, bool)> {
        let (name, store, reference) = self.named(payload)?;
        if let Some(data) = self.at_hand(&reference.hash) {
            return Ok(data);
        }
        let blob = reference.name();
        let got = call(reference.bytes, async { store.get(&reference).await }).await;
        let data = got.map_err(|error| {
            let is_missing = error == StoreError::Missing;
            (LayerError::away(format!("blob {blob} cannot be fetched from the store `{name}`: {error}")), is_missing)
        })?;
        if !reference.is_to(&data) {
            let bytes = data.len();
            let reason = format!(
                "the {bytes} bytes that the store `{name}` gives as blob {blob} are not those that were put there"
            );
            return Err((LayerError::failed(reason), true));
        }
        lock(&self.cache).insert(reference.hash, data.clone());
        Ok(data)
    }

    /// Where it lies, and what stands for it; or why this process does not even ask.
    pub fn named(&self, payload: &Payload) -> Result<Named<'_>, (LayerError, bool)> {
        let name = payload.store().unwrap_or_default();
        let Some((name, store)) = self.stores.iter().find(|(known, _)| known == name) else {
            return Err((LayerError::NoStore { store: name.to_owned() }, true));
        };
        let reference = Reference::from_bytes(&payload.data).map_err(|error| {
            let error = match later_version::<Reference>(&payload.data) {
                // A process of that release reads it.
                Some(version) => LayerError::away(format!("what names it is of a later format version, {version}")),
                None => LayerError::failed(error.to_string()),
            };
            (error, true)
        })?;
        let max = self.up_to as u64;
        if reference.bytes > max {
            let (blob, bytes) = (reference.name(), reference.bytes);
            let reason =
                format!("blob {blob} has {bytes} bytes, and blobs take up to {max} here; say `up_to` for more");
            return Err((LayerError::away(reason), true));
        }
        Ok((name, store, reference))
    }
}

/// Calls a store, for so long and no longer; without a runtime there is nobody who could tell the time.
async fn call<T>(bytes: u64, called: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    if Handle::try_current().is_err() {
        return caught(called).await;
    }
    let limit = CALL + Duration::from_secs(bytes / BYTES_PER_SECOND);
    let late = || Err(StoreError::unavailable(format!("no answer for {limit:?}")));
    timeout(limit, caught(called)).await.unwrap_or_else(|_| late())
}

/// A store is others' code: where it panics, it did not do what it was asked to.
async fn caught<T>(called: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let done = AssertUnwindSafe(called).catch_unwind().await;
    done.unwrap_or_else(|panic| Err(StoreError::unavailable(format!("it panicked: {}", said(&*panic)))))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// As it is said of the layer.
pub(crate) fn as_coding(error: LayerError) -> CodingError {
    CodingError::of_layer(blob::LAYER, error)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in these can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
