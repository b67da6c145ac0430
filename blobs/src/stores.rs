//! The stores of one process: puts out what is large, and fetches what is named.
//!
//! Whoever sends calls [`Stores::put_out`] when all is sealed; whoever gives values to an author's code calls
//! [`Stores::fetch`] before they are opened. Workflows are polled on threads that do not wait for tasks of the runtime; what
//! they need is [fetched before](Stores::prefetch) it gets there, and where a replay needs what nobody fetched, that thread
//! [waits](crate::waits) for the store, as a [`Layer`], for so long and no longer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use everpulse_protocol::blob::{self, Reference};
use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};
use everpulse_protocol::values::{Values, each_payload};
use everpulse_protocol::{CodingError, Payload};

use crate::calls::{Calls, as_coding};
use crate::store::{BlobStore, Collected, StoreError};
use crate::waits::{WAIT, Waits, Works};

/// Blobs that were used lately are kept in memory up to so many bytes.
const CACHE_BYTES: usize = 128 * 1024 * 1024;

/// The stores that a process reaches. Clones are the same.
#[derive(Clone)]
pub struct Stores {
    calls: Arc<Calls>,
    inner: Arc<Inner>,
}

struct Inner {
    waits: Waits,
    /// By what is put there, or what stays the same of it when it is sealed anew, and what lies beneath.
    puts: Works<([u8; 32], String), Reference>,
    gets: Works<[u8; 32], Bytes>,
}

impl Stores {
    /// The first store takes what has more than `above` and no more than `up_to` bytes.
    ///
    /// # Panics
    /// When there is none, or nothing would be put there.
    #[must_use]
    pub fn new(stores: Vec<(String, Arc<dyn BlobStore>)>, above: usize, up_to: usize) -> Self {
        Self::with_wait(stores, above, up_to, WAIT)
    }

    /// The same, where a thread that polls workflows waits for so long on behalf of a run, and no longer.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_wait(stores: Vec<(String, Arc<dyn BlobStore>)>, above: usize, up_to: usize, wait: Duration) -> Self {
        let inner = Inner { waits: Waits::new(wait), puts: Works::default(), gets: Works::default() };
        Self { calls: Arc::new(Calls::new(stores, above, up_to, CACHE_BYTES)), inner: Arc::new(inner) }
    }

    /// Values up to so many bytes find room.
    #[must_use]
    pub fn up_to(&self) -> usize {
        self.calls.up_to
    }

    /// Whether so many bytes may have something in them that is to be put out.
    #[must_use]
    pub fn is_large(&self, bytes: usize) -> bool {
        bytes > self.calls.above
    }

    /// Whether something in it is to be put out, or refused.
    #[must_use]
    pub fn has_large<T: Values + ?Sized>(&self, values: &mut T) -> bool {
        let mut found = false;
        let looked = each_payload(values, &mut |payload| {
            found |= self.calls.is_large(payload);
            Ok(())
        });
        debug_assert!(looked.is_ok(), "nothing is opened");
        found
    }

    /// Puts what is large in it into the first store; when this returns, it may be sent. A store that is away is asked again
    /// for some seconds.
    ///
    /// # Errors
    /// [`CodingError::Refused`] when something in it is larger than what stores take; else when the store does not take it
    /// now, by name. Nothing in it has changed then.
    pub async fn put_out<T: Values + Send + ?Sized>(&self, values: &mut T) -> Result<(), CodingError> {
        let mut large = Vec::new();
        each_payload(values, &mut |payload| {
            let is_large = self.calls.is_large(payload);
            if let Some(reason) = self.calls.refuses(payload.len()).filter(|_| is_large) {
                return Err(CodingError::Refused { layer: blob::LAYER.to_owned(), reason });
            }
            large.push(is_large.then(|| payload.data.clone()));
            Ok(())
        })?;
        let mut put = VecDeque::with_capacity(large.len());
        for data in large {
            put.push_back(match data {
                Some(data) => Some(self.calls.put_again(data).await.map_err(as_coding)?),
                None => None,
            });
        }
        if put.iter().all(Option::is_none) {
            return Ok(());
        }
        let (store, _) = self.calls.first();
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

    /// The same, however long a store is away: for what was worked for, and would be lost.
    ///
    /// # Errors
    /// When it is refused: later it would be as well.
    pub async fn put_out_patiently<T: Values + Send + ?Sized>(&self, values: &mut T) -> Result<(), CodingError> {
        loop {
            match self.put_out(values).await {
                Err(error) if error.is_missing() => {
                    tracing::warn!(%error, "what is large cannot leave; it is tried again");
                }
                done => return done,
            }
        }
    }

    /// Puts the bytes in that lie in stores. What is sealed is sealed still. A store that is away is asked again for some
    /// seconds.
    ///
    /// # Errors
    /// The first that is not to be had, by name. Nothing in it has changed then.
    pub async fn fetch<T: Values + Send + ?Sized>(&self, values: &mut T) -> Result<(), CodingError> {
        let mut found = VecDeque::new();
        for payload in references(values) {
            found.push_back(self.calls.get_again(&payload).await.map_err(as_coding)?);
        }
        fill(values, |_| found.pop_front());
        Ok(())
    }

    /// The same, where one that is not to be had stays a reference.
    pub async fn fetch_what_can_be<T: Values + Send + ?Sized>(&self, values: &mut T) {
        let mut found = VecDeque::new();
        for payload in references(values) {
            found.push_back(self.calls.get_again(&payload).await.ok());
        }
        fill(values, |_| found.pop_front().flatten());
    }

    /// Has the first store forget all that was put for the last time before then.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn collect(&self, before: SystemTime) -> Result<Collected, StoreError> {
        self.calls.collect(before).await
    }

    /// Has at hand what will be asked for soon. One that is not to be had is asked for again when it is needed.
    pub async fn prefetch<T: Values + Send + ?Sized>(&self, values: &mut T) {
        for payload in references(values) {
            if let Err(error) = self.calls.get_ahead(&payload).await {
                tracing::debug!(%error, "a blob could not be fetched in advance");
            }
        }
    }
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

impl Layer for Stores {
    fn name(&self) -> &'static str {
        blob::LAYER
    }

    fn wrap(&self, data: Bytes, place: Place<'_>) -> Result<Wrapped, LayerError> {
        let calls = &self.calls;
        if let Some(reason) = calls.refuses(data.len()) {
            return Err(LayerError::failed(reason));
        }
        if data.len() <= calls.above {
            return Ok(Wrapped::Unchanged(data));
        }
        let (store, _) = calls.first();
        let key = (place.again.unwrap_or_else(|| Reference::to(&data).hash), place.beneath.to_owned());
        let putting = Arc::clone(calls);
        let put = async move { putting.put(data).await };
        let reference = self.inner.waits.wait(&self.inner.puts, &key, (place.workflow_id, store), put)?;
        Ok(Wrapped::Changed { label: Some(store.to_owned()), data: reference.to_bytes() })
    }

    fn unwrap(&self, data: Bytes, label: Option<&str>, place: Place<'_>) -> Result<Bytes, LayerError> {
        let payload = Payload { encoding: format!("+{}:{}", blob::LAYER, label.unwrap_or_default()), data };
        let (store, _, reference) = self.calls.named(&payload).map_err(|(error, _)| error)?;
        if let Some(data) = self.calls.at_hand(&reference.hash) {
            return Ok(data);
        }
        let (getting, asked) = (Arc::clone(&self.calls), payload.clone());
        let get = async move { getting.get(&asked).await };
        self.inner.waits.wait(&self.inner.gets, &reference.hash, (place.workflow_id, store), get)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.calls.names()).finish()
    }
}
