//! A broker inside this process, or the way to the one that another process runs on the same directory.
//!
//! Of all processes that open a directory, the one that holds its lock is the broker. The others follow:
//! they try the lock every 100 ms, and when the holder ends, however it ends, one of them takes over,
//! recovers and serves, on the same ports if they are free.
//!
//! ```text
//! open ──lock?──► yes: recover, serve, write broker.json ──► holder
//!         ▲  └──► no: read broker.json ──► follower ──┐
//!         └────────────── every 100 ms ───────────────┘
//! ```
//! The broker has a thread and a runtime of its own, so that a busy host does not stall it.

mod address;
mod serve;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::error::{Error, ErrorKind};
use crate::secret::Secret;
use crate::server::Limits;
pub use crate::storage::Mode;
use crate::storage::{self, DirectoryLock};

/// How often a follower tries the lock.
const FOLLOW: Duration = Duration::from_millis(100);
/// How often a follower that does not know an address yet looks for one.
const FOLLOW_FIRST: Duration = Duration::from_millis(10);
/// How long a holder may take to recover and serve before a follower gives up opening.
const HOLDER_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    pub dir: PathBuf,
    pub mode: Mode,
    /// Zero: the one of the last broker on this directory, or a free one.
    pub port: u16,
    pub admin_port: u16,
    /// Anything but loopback needs a token.
    pub listen: IpAddr,
    /// If set, clients and the admin must present it.
    pub token: Option<Secret>,
    /// How long the broker's thread keeps polling after something came from a client, before it sleeps. Zero: not at all.
    /// Shortens the latency of who sends little (100 µs: to a third, in relaxed mode), and takes processor time from others
    /// in a process that has much to do.
    pub busy_poll: Duration,
    /// If false, opening a directory that another process serves fails with [`ErrorKind::InUse`].
    pub follow: bool,
    /// What clients may cost.
    pub limits: Limits,
    /// Sizes of segments and caches.
    pub storage: storage::Options,
}

impl Options {
    /// Durable, on free ports of the loopback interface.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            mode: Mode::Durable,
            port: 0,
            admin_port: 0,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            token: None,
            busy_poll: Duration::ZERO,
            follow: true,
            limits: Limits::default(),
            storage: storage::Options::default(),
        }
    }
}

/// Where the broker of the directory is at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `pulsar://127.0.0.1:PORT`
    pub service_url: String,
    /// `http://127.0.0.1:PORT`
    pub admin_url: String,
}

/// A place at a directory's broker; see the [module](self).
///
/// Dropped, it stops in the background; [`Embedded::close`] waits until everything is on disk.
#[derive(Debug)]
pub struct Embedded {
    endpoint: watch::Receiver<Endpoint>,
    holder: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Embedded {
    /// Serves the directory, or follows whoever does.
    ///
    /// # Errors
    /// See [`ErrorKind`]: a port in use, no permission, a full disk, a damaged file, a newer version.
    ///
    /// # Cancel safety
    /// If the future is dropped, what was begun is stopped.
    pub async fn open(options: Options) -> Result<Embedded, Error> {
        if !options.listen.is_loopback() && options.token.is_none() {
            let message = format!("listening on {} needs a token, since everybody there could connect", options.listen);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let (opened, first) = oneshot::channel();
        let (stop, stopped) = watch::channel(false);
        let holder = Arc::new(AtomicBool::new(false));
        let dir = options.dir.clone();
        let host = Host { options, holder: holder.clone(), stopped, opened: Some(opened), endpoint: None };
        let thread = std::thread::Builder::new().name("everpulse-broker".into()).spawn(move || host.run());
        let thread = Some(thread.map_err(|error| Error::io("start a thread for the broker of", &dir, error))?);
        let ended = || Error::new(ErrorKind::Io, "the broker's thread has ended unexpectedly");
        let endpoint = first.await.map_err(|_| ended())??;
        Ok(Embedded { endpoint, holder, stop, thread })
    }

    pub fn endpoint(&self) -> Endpoint {
        self.endpoint.borrow().clone()
    }

    /// Changes when another process, or this one, has taken over on other ports.
    pub fn watch(&self) -> watch::Receiver<Endpoint> {
        self.endpoint.clone()
    }

    /// Whether this process is the broker.
    pub fn is_holder(&self) -> bool {
        self.holder.load(Ordering::Acquire)
    }

    /// Writes everything, gives up the lock and waits until that is done.
    ///
    /// # Cancel safety
    /// It stops even if the future is dropped.
    pub async fn close(mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.send_replace(true);
        if !matches!(tokio::task::spawn_blocking(move || thread.join()).await, Ok(Ok(()))) {
            tracing::error!("the broker's thread has panicked");
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

type Opened = oneshot::Sender<Result<watch::Receiver<Endpoint>, Error>>;

/// What the broker's thread works with.
struct Host {
    options: Options,
    holder: Arc<AtomicBool>,
    stopped: watch::Receiver<bool>,
    /// Answered once.
    opened: Option<Opened>,
    endpoint: Option<watch::Sender<Endpoint>>,
}

impl Host {
    fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.host()),
            Err(error) => {
                let error = Error::io("start a runtime for the broker of", &self.options.dir, error);
                self.failed(error);
            }
        }
    }

    async fn host(&mut self) {
        let patience = tokio::time::Instant::now() + HOLDER_PATIENCE;
        loop {
            match DirectoryLock::acquire(&self.options.dir) {
                Ok(lock) => match self.serve(lock).await {
                    Ok(()) => return,
                    // It was opened as a follower; the next attempt may do better, or another process.
                    Err(error) if self.opened.is_none() => {
                        tracing::error!(%error, "could not take over as the broker");
                    }
                    Err(error) => return self.failed(error),
                },
                Err(storage::Error::Locked { .. }) if self.options.follow => self.follow().await,
                Err(error) if self.opened.is_some() => return self.failed(error.into()),
                Err(error) => tracing::error!(%error, "could not try the directory's lock"),
            }
            if self.opened.is_some() && tokio::time::Instant::now() > patience {
                let path = address::path(&self.options.dir);
                let message = format!("the broker that holds {} does not answer; end that process", path.display());
                return self.failed(Error::new(ErrorKind::InUse, message));
            }
            let pause = if self.opened.is_some() { FOLLOW_FIRST } else { FOLLOW };
            if tokio::time::timeout(pause, self.stopped.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    /// Another process is the broker: learn its address.
    async fn follow(&mut self) {
        let Some(endpoint) = address::read(&self.options.dir) else { return };
        // The file may be a dead broker's whose successor is still recovering.
        if self.opened.is_some() && !address::answers(&endpoint).await {
            return;
        }
        self.publish(endpoint);
    }

    fn publish(&mut self, endpoint: Endpoint) {
        match &self.endpoint {
            Some(sender) => {
                sender.send_if_modified(|known| std::mem::replace(known, endpoint.clone()) != endpoint);
            }
            None => {
                let (sender, receiver) = watch::channel(endpoint);
                self.endpoint = Some(sender);
                if let Some(opened) = self.opened.take() {
                    // Whoever opened it may have gone; then it was dropped, and stops.
                    let _ = opened.send(Ok(receiver));
                }
            }
        }
    }

    fn failed(&mut self, error: Error) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(Err(error));
        }
    }
}
