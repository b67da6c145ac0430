//! The handle to an application, from any process: it starts runs, addresses them, and tends dead letters.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use everpulse_blobs::{Blobs, Collected};
use everpulse_protocol::priority::Priority;
use everpulse_protocol::{Coding, topic};
use everpulse_schemas::{Board, Kind, Standing};
use everpulse_sdk::definition::WorkflowFn;
use everpulse_sdk::{Call, WorkflowDefinition};
use everpulse_transport::{Address, SetUp, Transport};
use serde::Serialize;

use crate::core::Core;
use crate::dead_letter::DeadLetters;
use crate::error::{Error, ErrorKind};
use crate::intercept::{self, CallKind, Interceptor};
use crate::run::Run;
use crate::schedule::{self, Schedule};
use crate::start::Start;
use crate::untyped::Untyped;

/// Younger blobs may be on their way to be named.
const YOUNG: Duration = Duration::from_secs(3_600);

/// What can be set on a client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a call waits for an answer, except for results, which are waited for without end. 60 s.
    pub timeout: Duration,
    /// How values are written and read; see [`Client::codec`].
    pub codec: Coding,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), codec: Coding::default() }
    }
}

impl Options {
    /// How long a call waits for an answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same, with values written so.
    #[must_use]
    pub fn codec(mut self, codec: impl Into<Coding>) -> Self {
        self.codec = codec.into();
        self
    }
}

/// A connection to an application. Clones share it; thousands of calls may be in flight on one.
#[derive(Debug, Clone)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// Connects to `embedded:DIR[?mode=relaxed]` or `pulsar[+ssl]://HOST:PORT[/TENANT/NAMESPACE][?admin=URL]`, and sets
    /// the application up if nobody has.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a bad address, [`ErrorKind::Unreachable`], [`ErrorKind::Unauthorized`], and
    /// [`ErrorKind::Refused`] when the namespace's policies contradict the application's, by name.
    ///
    /// # Cancel safety
    /// Safe: what was set up stays, and is found by the next one.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::connect_to(&Address::from_env_or(Some(url.as_ref()))?, Options::default()).await
    }

    /// Connects to the address in `EVERPULSE_URL`, or else to the embedded broker in the user's data directory.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_from_env() -> Result<Self, Error> {
        Self::connect_to(&Address::from_env_or(None)?, Options::default()).await
    }

    /// Connects with options.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_to(address: &Address, options: Options) -> Result<Self, Error> {
        let transport = Transport::connect(address, everpulse_transport::Options::default()).await?;
        Self::over(transport, options).await
    }

    /// A client on a transport that is connected already, for a process that has a worker too.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn over(transport: Transport, options: Options) -> Result<Self, Error> {
        let (shards, partitions) = (transport.address().shards(), transport.address().inbox_partitions());
        let layout = transport.set_up(&SetUp::default().shards(shards).inbox_partitions(partitions)).await?;
        let core =
            Core::open(transport, layout.shards, layout.inbox_partitions, options.timeout, options.codec).await?;
        Ok(Self { core })
    }

    /// The same connection, on which values are written so, and those that were written so are read. It has to be what the
    /// workers of the application were given.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use everpulse_client::Client;
    /// use everpulse_codecs::{Codec, Key, Keys};
    ///
    /// let key = Key::from_base64(&std::env::var("ORDERS_KEY")?)?;
    /// let client = Client::connect("embedded:./data").await?.codec(Codec::json().encrypt(Keys::new("k1", key)));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn codec(self, codec: impl Into<Coding>) -> Self {
        Self { core: self.core.with_coding(codec.into()) }
    }

    /// The same connection, on which values that are large are put into a store, and those that lie in one are fetched. It has
    /// to be what the workers of the application were given.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use everpulse_blobs::{Blobs, Collected};
    /// use everpulse_client::Client;
    ///
    /// let client = Client::connect("embedded:./data").await?.blobs(Blobs::in_directory("documents", "/mnt/documents"));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn blobs(self, blobs: Blobs) -> Self {
        Self { core: self.core.with_blobs(&blobs) }
    }

    /// Forgets all that was put into this client's [`blobs`](Self::blobs) for the last time before then. Nothing may name it any
    /// more: the time has to be longer ago than your longest run lives from when it was asked for (a start can wait for its
    /// time), the retention, and what a dead letter waits for an operator, together.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when this client has none, or the time is less than an hour ago; [`ErrorKind::Unreachable`] when the
    /// store is.
    ///
    /// # Cancel safety
    /// What is forgotten is forgotten; the rest is forgotten next time.
    pub async fn collect_blobs(&self, before: SystemTime) -> Result<Collected, Error> {
        let call = intercept::Call::new(CallKind::CollectBlobs);
        self.core.interceptors.around(call, |_| self.collect(before)).await
    }

    async fn collect(&self, before: SystemTime) -> Result<Collected, Error> {
        let Some(stores) = &self.core.stores else {
            return Err(Error::new(ErrorKind::Invalid, "this client has no store for blobs: give it one".to_owned()));
        };
        // What was put a moment ago may not have been named to anybody yet, however short your runs are.
        if SystemTime::now().duration_since(before).is_ok_and(|age| age < YOUNG) || before > SystemTime::now() {
            return Err(Error::new(ErrorKind::Invalid, format!("blobs younger than {YOUNG:?} are not collected")));
        }
        stores
            .collect(before)
            .await
            .map_err(|error| Error::new(ErrorKind::Unreachable, format!("the blobs could not be collected: {error}")))
    }

    /// The same connection, with something that stands around each call: it puts headers on starts and signals, refuses, or
    /// only looks on. Several are asked in the order in which they were added, the first one outermost.
    ///
    /// ```no_run
    /// use everpulse_client::intercept::{Answered, Call, Interceptor, Next};
    /// use everpulse_client::{Client, Error};
    ///
    /// struct Timed;
    ///
    /// impl Interceptor for Timed {
    ///     async fn call(&self, call: Call, next: Next<'_>) -> Result<Answered, Error> {
    ///         let (kind, begun) = (call.kind, std::time::Instant::now());
    ///         let answered = next.run(call).await;
    ///         println!("{kind:?} took {:?}", begun.elapsed());
    ///         answered
    ///     }
    /// }
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect("embedded:./data").await?.intercept(Timed);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn intercept(self, interceptor: impl Interceptor) -> Self {
        Self { core: self.core.with_interceptor(interceptor) }
    }

    /// What the application's workflows, activities, signals and queries take and give, as its workers have published it.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn schemas(&self) -> Result<Standing, Error> {
        let call = intercept::Call::new(CallKind::Schemas);
        let board = Board::new(self.core.transport.clone());
        self.core.interceptors.around(call, |_| async move { board.read().await.map_err(Error::from) }).await
    }

    /// Lets anything be published in the place of a schema: when nothing is left that was written by it, or would be read by
    /// code from before.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    ///
    /// # Cancel safety
    /// When it is dropped, it may be forgotten or not.
    pub async fn forget_schema(&self, kind: Kind, name: &str, version: Option<u32>) -> Result<(), Error> {
        let call = intercept::Call::new(CallKind::ForgetSchema).named(Some(name.to_owned()));
        let board = Board::new(self.core.transport.clone());
        let forgotten = |_| async move { board.forget(kind, name, version).await.map_err(Error::from) };
        self.core.interceptors.around(call, forgotten).await
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Begins a run: `client.start(checkout(order)).id("order-42").await?`. Nothing happens before it is awaited.
    pub fn start<D: WorkflowDefinition>(&self, call: Call<D>) -> Start<D> {
        let request = call.into_request(self.core.coding.format());
        Start::new(Arc::clone(&self.core), request.map_err(|error| Error::payload("the arguments", &error)))
    }

    /// Begins a run of a workflow whose code is not here, by its name. `args` is a map by parameter name.
    pub fn start_named<A: Serialize + ?Sized>(&self, workflow: &str, args: &A) -> Start<Untyped> {
        let args = self.core.encode(args).map_err(|error| Error::payload("the arguments", &error));
        let request = args.map(|args| everpulse_sdk::Request {
            workflow: workflow.to_owned(),
            version: None,
            args,
            id: None,
            tags: Vec::new(),
            timeout: None,
            priority: Priority::default(),
        });
        Start::new(Arc::clone(&self.core), request)
    }

    /// The newest run of a workflow id: `client.run(checkout, "order-42")`. Nothing is asked, so it may not exist; a
    /// text that cannot be an id is refused by whatever is called first.
    pub fn run<Arguments, F: WorkflowFn<Arguments>>(&self, _: F, id: impl AsRef<str>) -> Run<F::Definition> {
        Run::of(Arc::clone(&self.core), id.as_ref())
    }

    /// The newest run of a workflow id, whatever its workflow is.
    #[must_use]
    pub fn run_named(&self, id: impl AsRef<str>) -> Run<Untyped> {
        Run::of(Arc::clone(&self.core), id.as_ref())
    }

    /// A schedule, which there may not be yet: `client.schedule("nightly").cron("0 2 * * *").create(report()).await?`.
    #[must_use]
    pub fn schedule(&self, name: impl Into<String>) -> Schedule {
        Schedule::new(Arc::clone(&self.core), name.into())
    }

    /// The names of all schedules. They are read from history, all of which is looked through.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`], and [`ErrorKind::Corrupt`] or [`ErrorKind::Refused`] when history cannot be read.
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn schedules(&self) -> Result<Vec<String>, Error> {
        let call = intercept::Call::new(CallKind::Schedules);
        self.core.interceptors.around(call, |_| schedule::names(&self.core)).await
    }

    /// Tries a parked run again.
    ///
    /// # Errors
    /// As [`Run::resume`].
    ///
    /// # Cancel safety
    /// As [`Run::resume`].
    pub async fn resume(&self, id: impl AsRef<str>) -> Result<(), Error> {
        self.run_named(id).resume().await
    }

    /// The tasks of a queue whose attempts ran out, and what nobody could read there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a text that cannot be a queue's name.
    pub fn dead_letters(&self, queue: &str) -> Result<DeadLetters, Error> {
        if !topic::is_queue_name(queue) {
            let message = format!("{queue:?} is no name of a queue: 1 to 64 letters, digits, `-` and `_`");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(DeadLetters::new(Arc::clone(&self.core), Some(queue.to_owned())))
    }

    /// Events that no run could take, and messages that nobody could read.
    #[must_use]
    pub fn inbox_dead_letters(&self) -> DeadLetters {
        DeadLetters::new(Arc::clone(&self.core), None)
    }
}
