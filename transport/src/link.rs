//! One client of the `pulsar` crate, replaceable: built when somebody needs it, thrown away when it is suspect.
//!
//! A transport has two links, one to produce and one to consume: the crate leaves Nagle's algorithm on, and mixed
//! traffic on one connection waits 40 ms at a time for delayed acknowledgements.
//!
//! Where a certificate of ours is asked for, the crate dials a tunnel (`tunnel.rs`), each client its own.
//!
//! Every call into the crate goes through [`call`]: it has our own time-out, and when that is over the call goes on
//! by itself, because a connection attempt of the crate that is dropped half-way blocks all later ones.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use pulsar::{ConnectionRetryOptions, OperationRetryOptions, Pulsar, TokioExecutor};
use tokio::sync::{Semaphore, watch};

use crate::access::{Access, Showing};
use crate::tunnel::Tunnel;
use crate::{Error, ErrorKind, handshake};

/// How often a connection is pinged, and how long the crate waits for any answer. Together with the probes of
/// `feed.rs` they decide how fast a connection that swallows everything is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
pub(crate) const OPERATION: Duration = Duration::from_secs(5);
/// Our own limit for one call: several of the crate's operations one after another.
const CALL: Duration = Duration::from_secs(12);

/// Bytes and messages in flight per link, in units: what is not limited here is not limited at all, and an
/// overflow of the crate's own queue leaks.
const SEND_UNITS: usize = 64 * 1024;
const UNIT_BYTES: usize = 1024;
/// 128 messages at most: each send is a future of about 40 KB in the crate, and more in flight are no faster.
const UNITS_PER_MESSAGE: usize = 512;
/// Far more than the units let through, acks among it, so that it never overflows. Each place takes 5 KB from the
/// beginning.
const OUTBOUND: usize = 2_048;

/// Where a broker serves just now. The embedded one moves when another process takes over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    pub service_url: String,
    pub admin_url: String,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    Produce,
    Consume,
}

impl Role {
    /// How often the crate itself tries again. A subscription never: the crate does not close what the broker may have
    /// opened at the try before, and would not tell of it.
    fn retries(self) -> u32 {
        match self {
            Role::Produce => 3,
            Role::Consume => 0,
        }
    }
}

pub(crate) type CratePulsar = Pulsar<TokioExecutor>;

/// One client of the crate and what belongs to it.
pub(crate) struct Connected {
    pub pulsar: CratePulsar,
    pub endpoint: Endpoint,
    /// Permits for sends in flight, see [`units`].
    pub sends: Arc<Semaphore>,
    id: u64,
    left: watch::Sender<bool>,
}

impl Connected {
    /// Whether whoever uses this has to leave it, see [`Link::abandon`].
    pub fn is_abandoned(&self) -> bool {
        *self.left.borrow()
    }

    /// Comes when it is.
    ///
    /// Cancel safe.
    pub async fn abandoned(&self) {
        // The sender lives as long as this.
        let _ = self.left.subscribe().wait_for(|left| *left).await;
    }
}

type Building = Shared<BoxFuture<'static, Result<Arc<Connected>, Error>>>;

pub(crate) struct Link {
    role: Role,
    endpoints: Arc<watch::Sender<Endpoint>>,
    access: Access,
    state: Mutex<State>,
    next_id: AtomicU64,
}

#[derive(Default)]
struct State {
    connected: Option<Arc<Connected>>,
    building: Option<Building>,
}

impl Link {
    pub fn new(role: Role, endpoints: Arc<watch::Sender<Endpoint>>, access: Access) -> Arc<Self> {
        Arc::new(Link { role, endpoints, access, state: Mutex::default(), next_id: AtomicU64::new(0) })
    }

    /// Tells when the broker has moved. The sender lives as long as this link.
    pub fn endpoints(&self) -> watch::Receiver<Endpoint> {
        self.endpoints.subscribe()
    }

    /// The client, built now if there is none for the current endpoint. Those who ask at once share one attempt.
    pub async fn connected(self: &Arc<Self>) -> Result<Arc<Connected>, Error> {
        let building = {
            let endpoint = self.endpoints.borrow().clone();
            let mut state = self.state();
            if let Some(connected) = &state.connected
                && connected.endpoint == endpoint
            {
                return Ok(connected.clone());
            }
            state.connected = None;
            state.building.get_or_insert_with(|| self.clone().build(endpoint).boxed().shared()).clone()
        };
        building.await
    }

    /// Makes the next user build a client anew. Whoever still has this one keeps it until it fails for them.
    pub fn discard(&self, suspect: &Connected) {
        let mut state = self.state();
        if state.connected.as_ref().is_some_and(|connected| connected.id == suspect.id) {
            tracing::debug!(role = ?self.role, url = suspect.endpoint.service_url, "connection is suspect, next one");
            state.connected = None;
        }
    }

    /// Makes everybody leave a client, so that its connections end: a subscription was not answered in time. The broker
    /// may have made the consumer all the same, of which the crate then knows nothing. It would have its share of the
    /// messages, or of the keys, and give it to nobody, for ever: only the end of its connection ends it.
    pub fn abandon(&self, suspect: &Connected) {
        self.discard(suspect);
        if !suspect.left.send_replace(true) {
            tracing::info!(role = ?self.role, "a subscription was not answered in time; its connection is given up");
        }
    }

    async fn build(self: Arc<Self>, endpoint: Endpoint) -> Result<Arc<Connected>, Error> {
        let built = connect(self.role, &endpoint, &self.access).await;
        let mut state = self.state();
        state.building = None;
        let connected = Arc::new(Connected {
            pulsar: built?,
            endpoint,
            sends: Arc::new(Semaphore::new(SEND_UNITS)),
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            left: watch::Sender::new(false),
        });
        state.connected = Some(connected.clone());
        tracing::debug!(role = ?self.role, url = connected.endpoint.service_url, "connected");
        Ok(connected)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("role", &self.role).finish_non_exhaustive()
    }
}

/// How much of [`Connected::sends`] a message of this size takes.
pub(crate) fn units(bytes: usize) -> u32 {
    let units = (bytes / UNIT_BYTES).clamp(UNITS_PER_MESSAGE, SEND_UNITS);
    u32::try_from(units).expect("clamped to SEND_UNITS")
}

/// Runs one call into the crate with our own time-out; it is never dropped half-way.
pub(crate) async fn call<T: Send + 'static>(
    attempt: &str,
    future: impl Future<Output = Result<T, pulsar::Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL, tokio::spawn(future)).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(Error::from_pulsar(attempt, &error)),
        Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, format!("{attempt}: the runtime is shutting down"))),
        Err(_) => Err(Error::new(ErrorKind::Unreachable, format!("{attempt}: no answer in {CALL:?}"))),
    }
}

async fn connect(role: Role, endpoint: &Endpoint, access: &Access) -> Result<CratePulsar, Error> {
    // Read once here, so that a missing file is named instead of hidden in the crate's own error.
    let token = access.token().await?;
    match connect_once(role, endpoint, access).await {
        Err(error) if error.kind() == ErrorKind::Unauthorized && access.forget(token.as_deref()).await => {
            connect_once(role, endpoint, access).await
        }
        result => result,
    }
}

async fn connect_once(role: Role, endpoint: &Endpoint, access: &Access) -> Result<CratePulsar, Error> {
    let url = endpoint.service_url.as_str();
    let attempt = format!("cannot connect to {url}");
    let tunnel = match access.tls.identity {
        Some(_) => Some(Tunnel::open(url, access.clone()).await?),
        None => None,
    };
    let dialled = tunnel.as_ref().map_or(url, |tunnel| tunnel.url());
    let mut builder = Pulsar::builder(dialled, TokioExecutor)
        .with_outbound_channel_size(OUTBOUND)
        .with_connection_retry_options(ConnectionRetryOptions {
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(200),
            max_retries: 1,
            connection_timeout: OPERATION,
            keep_alive: KEEP_ALIVE,
            ..ConnectionRetryOptions::default()
        })
        .with_operation_retry_options(OperationRetryOptions {
            operation_timeout: OPERATION,
            retry_delay: Duration::from_millis(200),
            max_retries: Some(role.retries()),
        });
    if let Some(tunnel) = &tunnel {
        builder = builder.with_auth_provider(Box::new(Showing::Tunnel(tunnel.clone())));
    } else if let Some(shown) = access.for_the_crate() {
        builder = builder.with_auth_provider(shown);
    }
    if let Some(ca) = &access.tls.ca {
        builder = builder.with_certificate_chain(read_file("certificates", ca)?);
    }
    match call(&attempt, builder.build()).await {
        Ok(pulsar) => Ok(pulsar),
        Err(error) if error.kind() == ErrorKind::Unreachable => {
            // The crate hides why a broker turned it away; ask once more by hand.
            Err(handshake::diagnose(url, access).await.unwrap_or(error))
        }
        Err(error) => Err(error),
    }
}

fn read_file(what: &str, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| {
        Error::with_source(ErrorKind::Invalid, format!("cannot read the {what} in {}: {error}", file.display()), error)
    })
}
