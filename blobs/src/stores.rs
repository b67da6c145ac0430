//! The stores of one process: puts out what is large, and fetches what is named.
//!
//! Whoever sends calls [`Stores::put_out`] when all is sealed; whoever gives values to an author's code calls
//! [`Stores::fetch`] before they are opened. Workflows are polled on threads that do not wait for tasks of the runtime; what
//! they need is [fetched before](Stores::prefetch) it gets there, and where a replay needs what nobody fetched, that thread
//! waits for the store, as a [`Layer`], for so long and no longer.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use everpulse_protocol::blob::{self, Reference};
use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};
use everpulse_protocol::values::{Values, each_payload};
use everpulse_protocol::{CodingError, Payload};
use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::cache::Cache;
use crate::store::{BlobStore, Collected, StoreError};

/// Blobs that were used lately are kept in memory up to so many bytes.
const CACHE_BYTES: usize = 128 * 1024 * 1024;
/// How long one call of a store may take.
const CALL: Duration = Duration::from_secs(60);
/// How long a thread that polls workflows waits for a store, and how long it does not ask again when it waited in vain.
const WAIT: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(5);
/// A store that is away is asked again after these.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// The stores that a process reaches. Clones are the same.
#[derive(Clone)]
pub struct Stores {
    inner: Arc<Inner>,
}

struct Inner {
    /// The first one takes what is new.
    stores: Vec<(String, Arc<dyn BlobStore>)>,
    above: usize,
    up_to: usize,
    cache: Mutex<Cache>,
    /// Since when a store let a thread wait in vain.
    away: Mutex<HashMap<String, Instant>>,
    runtime: Option<Handle>,
}

impl Stores {
    /// The first store takes what has more than `above` and no more than `up_to` bytes.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(stores: Vec<(String, Arc<dyn BlobStore>)>, above: usize, up_to: usize) -> Self {
        assert!(!stores.is_empty(), "a first store takes what is new");
        let (cache, runtime) = (Mutex::new(Cache::new(CACHE_BYTES)), Handle::try_current().ok());
        Self { inner: Arc::new(Inner { stores, above, up_to, cache, away: Mutex::default(), runtime }) }
    }

    /// Values up to so many bytes find room.
    #[must_use]
    pub fn up_to(&self) -> usize {
        self.inner.up_to
    }

    /// Whether so many bytes may have something in them that is to be put out.
    #[must_use]
    pub fn is_large(&self, bytes: usize) -> bool {
        bytes > self.inner.above
    }

    /// Whether something in it is to be put out.
    #[must_use]
    pub fn has_large<T: Values + ?Sized>(&self, values: &mut T) -> bool {
        let mut found = false;
        let looked = each_payload(values, &mut |payload| {
            found |= self.inner.takes(payload);
            Ok(())
        });
        debug_assert!(looked.is_ok(), "nothing is opened");
        found
    }

    /// Puts what is large in it into the first store; when this returns, it may be sent. A store that is away is asked again
    /// for some seconds.
    ///
    /// # Errors
    /// When the store does not take it, by name. Nothing in it has changed then.
    pub async fn put_out<T: Values + Send + ?Sized>(&self, values: &mut T) -> Result<(), CodingError> {
        let mut large = Vec::new();
        each_payload(values, &mut |payload| {
            large.push(self.inner.takes(payload).then(|| payload.data.clone()));
            Ok(())
        })?;
        let mut put = VecDeque::with_capacity(large.len());
        for data in large {
            put.push_back(match data {
                Some(data) => Some(self.inner.put_again(data).await.map_err(as_coding)?),
                None => None,
            });
        }
        if put.iter().all(Option::is_none) {
            return Ok(());
        }
        let (store, _) = self.inner.first();
        // In the order in which they were gathered.
        each_payload(values, &mut |payload| {
            if let Some(reference) = put.pop_front().flatten() {
                *payload = Payload {
                    encoding: format!("{}+{}:{store}", payload.encoding, blob::LAYER),
                    data: reference.to_bytes(),
                };
            }
            Ok(())
        })
    }

    /// Puts the bytes in that lie in stores. What is sealed is sealed still. A store that is away is asked again for some
    /// seconds.
    ///
    /// # Errors
    /// The first that is not to be had, by name. Nothing in it has changed then.
    pub async fn fetch<T: Values + Send + ?Sized>(&self, values: &mut T) -> Result<(), CodingError> {
        let mut found = VecDeque::new();
        for payload in references(values) {
            found.push_back(self.inner.get_again(&payload).await.map_err(as_coding)?);
        }
        fill(values, |_| found.pop_front());
        Ok(())
    }

    /// The same, where one that is not to be had stays a reference.
    pub async fn fetch_what_can_be<T: Values + Send + ?Sized>(&self, values: &mut T) {
        let mut found = VecDeque::new();
        for payload in references(values) {
            found.push_back(self.inner.get_again(&payload).await.ok());
        }
        fill(values, |_| found.pop_front().flatten());
    }

    /// Has the first store forget all that was put for the last time before then.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn collect(&self, before: SystemTime) -> Result<Collected, StoreError> {
        let (_, store) = self.inner.first();
        store.collect(before).await
    }

    /// Has at hand what will be asked for soon. One that is not to be had is asked for again when it is needed.
    pub async fn prefetch<T: Values + Send + ?Sized>(&self, values: &mut T) {
        for payload in references(values) {
            if let Err(error) = self.inner.get(&payload).await {
                tracing::debug!(%error, "a blob could not be fetched in advance");
            }
        }
    }
}

/// Calls a store, for so long and no longer; without a runtime there is nobody who could tell the time.
async fn call<T>(called: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    if Handle::try_current().is_err() {
        return called.await;
    }
    timeout(CALL, called).await.unwrap_or_else(|_| Err(StoreError::unavailable(format!("no answer for {CALL:?}"))))
}

/// What lies elsewhere, in the order in which it stands.
fn references<T: Values + ?Sized>(values: &mut T) -> Vec<Payload> {
    let mut found = Vec::new();
    let looked = each_payload(values, &mut |payload| {
        found.extend(payload.store().is_some().then(|| payload.clone()));
        Ok(())
    });
    debug_assert!(looked.is_ok(), "nothing is opened");
    found
}

fn fill<T: Values + ?Sized>(values: &mut T, mut found: impl FnMut(&Payload) -> Option<Bytes>) {
    let filled = each_payload(values, &mut |payload| {
        if payload.store().is_some()
            && let Some(data) = found(payload)
        {
            let beneath = payload.encoding.rsplit_once('+').map_or("", |(beneath, _)| beneath).to_owned();
            *payload = Payload { encoding: beneath, data };
        }
        Ok(())
    });
    debug_assert!(filled.is_ok(), "nothing is opened");
}

/// As the layer says it.
fn as_coding(error: LayerError) -> CodingError {
    let layer = blob::LAYER.to_owned();
    match error {
        LayerError::Failed { reason } => CodingError::Broken { layer, reason },
        error => CodingError::Away { layer, reason: error.to_string() },
    }
}

impl Inner {
    fn first(&self) -> (&str, &Arc<dyn BlobStore>) {
        let (name, store) = &self.stores[0];
        (name, store)
    }

    fn takes(&self, payload: &Payload) -> bool {
        payload.store().is_none() && payload.len() > self.above && payload.len() <= self.up_to
    }

    async fn put_again(&self, data: Bytes) -> Result<Reference, LayerError> {
        let mut pauses = AGAIN.iter();
        loop {
            match (self.put(data.clone()).await, pauses.next()) {
                (Err(LayerError::Away { reason }), Some(pause)) => {
                    tracing::warn!(reason, "a blob could not be put, next try in {pause:?}");
                    sleep(*pause).await;
                }
                (put, _) => return put,
            }
        }
    }

    async fn put(&self, data: Bytes) -> Result<Reference, LayerError> {
        let (name, store) = self.first();
        let mut reference = Reference::to(&data);
        let put = call(store.put(&reference, data.clone())).await;
        reference.at = put.map_err(|error| {
            LayerError::away(format!("blob {} cannot be put into the store `{name}`: {error}", reference.name()))
        })?;
        lock(&self.cache).insert(reference.hash, data);
        Ok(reference)
    }

    async fn get_again(&self, payload: &Payload) -> Result<Bytes, LayerError> {
        let mut pauses = AGAIN.iter();
        loop {
            match (self.get(payload).await, pauses.next()) {
                (Err(LayerError::Away { reason }), Some(pause)) => {
                    tracing::debug!(reason, "a blob could not be fetched, next try in {pause:?}");
                    sleep(*pause).await;
                }
                (got, _) => return got,
            }
        }
    }

    async fn get(&self, payload: &Payload) -> Result<Bytes, LayerError> {
        let (name, store, reference) = self.named(payload)?;
        if let Some(data) = lock(&self.cache).get(&reference.hash) {
            return Ok(data);
        }
        let blob = reference.name();
        let got = call(store.get(&reference)).await;
        let data = got.map_err(|error| {
            LayerError::away(format!("blob {blob} cannot be fetched from the store `{name}`: {error}"))
        })?;
        if !reference.is_to(&data) {
            let bytes = data.len();
            return Err(LayerError::failed(format!(
                "the {bytes} bytes that the store `{name}` gives as blob {blob} are not those that were put there"
            )));
        }
        lock(&self.cache).insert(reference.hash, data.clone());
        Ok(data)
    }

    fn named(&self, payload: &Payload) -> Result<(String, Arc<dyn BlobStore>, Reference), LayerError> {
        let name = payload.store().unwrap_or_default();
        let Some((_, store)) = self.stores.iter().find(|(known, _)| known == name) else {
            let reason =
                format!("it lies in the store `{name}`, which this process does not have: give it to its blobs");
            return Err(LayerError::away(reason));
        };
        let reference = Reference::from_bytes(&payload.data).map_err(|error| LayerError::failed(error.to_string()))?;
        Ok((name.to_owned(), Arc::clone(store), reference))
    }

    /// Waits on a thread of its own for what is done by tasks of the runtime.
    fn wait<T: Send + 'static>(
        &self,
        store: &str,
        work: impl Future<Output = Result<T, LayerError>> + Send + 'static,
    ) -> Result<T, LayerError> {
        let in_vain = || LayerError::away(format!("the store `{store}` did not answer in time"));
        if lock(&self.away).get(store).is_some_and(|since| since.elapsed() < REST) {
            return Err(in_vain());
        }
        match &self.runtime {
            // A task that waited here would keep others from running, perhaps the one that it waits for.
            _ if Handle::try_current().is_ok() => {
                Err(LayerError::away("nobody has fetched it, and here nobody can wait for it"))
            }
            Some(runtime) => {
                let (done, result) = mpsc::sync_channel(1);
                runtime.spawn(async move {
                    // Whoever waited may have given up.
                    let _ = done.try_send(work.await);
                });
                result.recv_timeout(WAIT).unwrap_or_else(|_| {
                    // The next run of this thread shall not wait as well, and the one after it.
                    lock(&self.away).insert(store.to_owned(), Instant::now());
                    Err(in_vain())
                })
            }
            None => work.now_or_never().unwrap_or_else(|| Err(in_vain())),
        }
    }
}

impl Layer for Stores {
    fn name(&self) -> &'static str {
        blob::LAYER
    }

    fn wrap(&self, data: Bytes, _: Place<'_>) -> Result<Wrapped, LayerError> {
        let inner = &self.inner;
        if data.len() <= inner.above || data.len() > inner.up_to {
            return Ok(Wrapped::Unchanged(data));
        }
        let (store, _) = inner.first();
        let putting = Arc::clone(inner);
        let reference = inner.wait(store, async move { putting.put(data).await })?;
        Ok(Wrapped::Changed { label: Some(store.to_owned()), data: reference.to_bytes() })
    }

    fn unwrap(&self, data: Bytes, label: Option<&str>, _: Place<'_>) -> Result<Bytes, LayerError> {
        let store = label.unwrap_or_default().to_owned();
        let payload = Payload { encoding: format!("+{}:{store}", blob::LAYER), data };
        let (_, _, reference) = self.inner.named(&payload)?;
        if let Some(data) = lock(&self.inner.cache).get(&reference.hash) {
            return Ok(data);
        }
        let getting = Arc::clone(&self.inner);
        self.inner.wait(&store, async move { getting.get(&payload).await })
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.inner.stores.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in these can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
