//! The worker as users see it: what it serves, how it starts, how it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everpulse_blobs::{Blobs, Stores};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{Coding, WriterId, topic};
use everpulse_sdk::definition::{Activities, ActivityFn, Duplicate, FunctionActivity, Registry, WorkflowFn};
use everpulse_sdk::intercept::Interceptor;
use everpulse_sdk::{Query, Signal, Update};
use everpulse_transport::{Address, SetUp, Transport};
use uuid::Uuid;

use crate::activity::ActivityRunner;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Setting};
use crate::options::Options;
use crate::outbox::Outbox;
use crate::relay::Relay;
use crate::schemas;

/// How the names of our own workflows begin.
const OURS: &str = "everpulse.";

/// Serves workflows and activities.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use everpulse_worker::Worker;
///
/// // .workflow(checkout).activity(charge)
/// Worker::connect("embedded:./data").await?.concurrency(100).run().await?;
/// # Ok(()) }
/// ```
pub struct Worker {
    transport: Transport,
    registry: Registry,
    duplicates: Vec<Duplicate>,
    blobs: Option<Blobs>,
    options: Options,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("registry", &self.registry)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// Connects to a broker: `embedded:DIR`, or `pulsar://HOST:PORT/TENANT/NAMESPACE`.
    ///
    /// # Errors
    /// When the address is not valid, nobody answers there, or the token is refused.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::connect_to(Address::from_env_or(Some(url.as_ref()))?).await
    }

    /// Connects to the broker that `EVERPULSE_URL` names; without it, to the embedded one in the user's data
    /// directory.
    ///
    /// # Errors
    /// As [`Worker::connect`].
    pub async fn connect_from_env() -> Result<Self, Error> {
        Self::connect_to(Address::from_env_or(None)?).await
    }

    async fn connect_to(address: Address) -> Result<Self, Error> {
        let transport = Transport::connect(&address, everpulse_transport::Options::default()).await?;
        Ok(Self {
            transport,
            registry: Registry::new(),
            duplicates: Vec::new(),
            blobs: None,
            options: Options::default(),
        })
    }

    /// Serves a workflow.
    #[must_use]
    pub fn workflow<Arguments, F: WorkflowFn<Arguments>>(mut self, workflow: F) -> Self {
        let result = self.registry.workflow_fn(workflow);
        self.note(result)
    }

    /// Serves an activity.
    #[must_use]
    pub fn activity<Arguments, F>(mut self, activity: F) -> Self
    where
        F: ActivityFn<Arguments>,
        F::Definition: FunctionActivity,
    {
        let result = self.registry.activity_fn(activity);
        self.note(result)
    }

    /// Serves every activity of a value with an `#[activities] impl`.
    #[must_use]
    pub fn activities<T: Activities>(mut self, value: T) -> Self {
        let result = self.registry.activities_of(value);
        self.note(result)
    }

    fn note(mut self, result: Result<(), Duplicate>) -> Self {
        self.duplicates.extend(result.err());
        self
    }

    /// Says that workflows here take a signal, so that its schema is published and compared as theirs are.
    #[must_use]
    pub fn signal<T: Signal>(mut self) -> Self {
        self.registry.signal::<T>();
        self
    }

    /// Says that workflows here answer a query, so that its schema and that of its reply are published and compared.
    #[must_use]
    pub fn query<Q: Query>(mut self) -> Self {
        self.registry.query::<Q>();
        self
    }

    /// Says that workflows here take an update, so that its schema and those of its reply and its error are published and compared.
    #[must_use]
    pub fn update<U: Update>(mut self) -> Self {
        self.registry.update::<U>();
        self
    }

    /// How the values of workflows and activities are written: as MessagePack or JSON, compressed, sealed. Set it alike on
    /// all workers and clients of an application; the book's chapter on values says how to change it while runs are open.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use everpulse_codecs::{Codec, Key, Keys};
    /// use everpulse_worker::Worker;
    ///
    /// let key = Key::from_base64(&std::env::var("ORDERS_KEY")?)?;
    /// Worker::connect("embedded:./data").await?.codec(Codec::json().compress().encrypt(Keys::new("k1", key))).run().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn codec(mut self, codec: impl Into<Coding>) -> Self {
        self.registry.set_coding(codec.into());
        self
    }

    /// Where values lie that are large: what is stored and sent names them only, and with it they may be larger than
    /// without, where the limit is [`Options::payload_bytes_max`]. Set it alike on all workers and clients of an application.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use everpulse_blobs::Blobs;
    /// use everpulse_worker::Worker;
    ///
    /// Worker::connect("embedded:./data").await?.blobs(Blobs::in_directory("documents", "/mnt/documents")).run().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = Some(blobs);
        self
    }

    /// Stands around each attempt at an activity, and is told what happens to the runs of this worker: for tracing, metrics and
    /// checks of who may do what. Several are asked in the order in which they were added, the first one outermost.
    ///
    /// ```no_run
    /// use everpulse_sdk::activity::ActivityContext;
    /// use everpulse_sdk::intercept::{Attempted, Interceptor, Next, RunEvent};
    /// use everpulse_worker::Worker;
    ///
    /// struct Timed;
    ///
    /// impl Interceptor for Timed {
    ///     async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
    ///         let begun = std::time::Instant::now();
    ///         let end = next.run().await;
    ///         println!("{} took {:?}", context.activity(), begun.elapsed());
    ///         end
    ///     }
    ///     fn observe(&self, event: &RunEvent) {
    ///         println!("{}: {:?}", event.workflow_id, event.what);
    ///     }
    /// }
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// Worker::connect("embedded:./data").await?.intercept(Timed).run().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn intercept(mut self, interceptor: impl Interceptor) -> Self {
        self.registry.intercept(interceptor);
        self
    }

    /// How many attempts of one queue run at a time in this process; 64 by default.
    #[must_use]
    pub fn concurrency(mut self, attempts: usize) -> Self {
        self.options.concurrency = attempts.max(1);
        self
    }

    /// The same for one queue.
    #[must_use]
    pub fn queue_concurrency(mut self, queue: impl Into<String>, attempts: usize) -> Self {
        self.options.queue_concurrency.insert(queue.into(), attempts.max(1));
        self
    }

    /// How many attempts of a queue this process begins in a second, evenly spread: 0.5 is one every two seconds. For what
    /// others can bear, such as an interface with a limit. With several workers each has this rate; what waits for its
    /// turn can be taken by none of the others.
    ///
    /// # Panics
    /// When the rate is not more than nothing.
    #[must_use]
    pub fn rate(mut self, queue: impl Into<String>, per_second: f64) -> Self {
        assert!(per_second > 0.0 && per_second.is_finite(), "a rate of {per_second} attempts in a second is none");
        self.options.rates.insert(queue.into(), per_second);
        self
    }

    /// How many attempts of a queue run at a time in all workers together, for what has so many connections or licences; from 1
    /// to 1,000,000, else the worker does not start. An execution of a batch counts as one. Say it alike on all workers of the
    /// queue: where they differ, the one that began last is right, and one that does not say it is not bound by it. In each
    /// process it has its slots beside that ([`concurrency`](Self::concurrency)).
    ///
    /// What a worker had that died others have when they have not heard of it for about twelve seconds (six at the least). One that
    /// is stopped for so long, or cut off from the broker, goes on with what it runs, beside what others begin meanwhile, and begins
    /// nothing itself. A worker that does not serve the queue does not start.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use everpulse_worker::Worker;
    ///
    /// Worker::connect("embedded:./data").await?.concurrency_across_workers("maps", 20).run().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn concurrency_across_workers(mut self, queue: impl Into<String>, attempts: usize) -> Self {
        self.options.concurrency_across_workers.insert(queue.into(), attempts);
        self
    }

    /// How many attempts of a queue all workers together begin in a second, from 1.0 / 3600.0 (one in an hour) to 10,000, else the
    /// worker does not start. In any time no more begin than the rate times that time, and one second's worth (at least one) at
    /// once. Each task of a batch counts as one. Say it alike on all workers of the queue, as
    /// [`concurrency_across_workers`](Self::concurrency_across_workers).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use everpulse_worker::Worker;
    ///
    /// Worker::connect("embedded:./data").await?.rate_across_workers("maps", 50.0).run().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn rate_across_workers(mut self, queue: impl Into<String>, per_second: f64) -> Self {
        self.options.rates_across_workers.insert(queue.into(), per_second);
        self
    }

    /// Serves these queues and no others.
    #[must_use]
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.options.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// How long a shutdown waits for what runs; 30 s by default.
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.options.drain = drain;
        self
    }

    /// Whether activities that this worker serves are started by the owner of their run at once, without their
    /// queue, while there are free slots.
    #[must_use]
    pub fn eager(mut self, eager: bool) -> Self {
        self.options.eager = eager;
        self
    }

    /// How long ends of runs can be asked for; 24 hours by default. Open runs are kept however old they are, and what
    /// is older than this and not needed by them is given back to the broker. Set it alike on all workers.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.options.retention = retention;
        self
    }

    /// How long ids of closed runs and of inputs are remembered; the retention by default (at least an hour), and never
    /// less than the retention. Until then a second start of a workflow id finds the first one, and an input that comes
    /// twice counts once.
    #[must_use]
    pub fn id_memory(mut self, memory: Duration) -> Self {
        self.options.id_memory = Some(memory);
        self
    }

    /// Where runs that wait lie, and what makes a restart short; see [`Options::cache_dir`]. With an embedded broker that
    /// is the directory `cache` in its own, where nothing else is set.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.options.cache_dir = Some(dir.into());
        self
    }

    /// What this worker is built from, as it is recorded in the runs that it begins and shown by `describe` and
    /// `workflow::info()`. Without it that is `EVERPULSE_BUILD` from the environment, and without that what the workflow's
    /// crate was compiled from: `EVERPULSE_BUILD` then, or its git revision.
    #[must_use]
    pub fn build(mut self, build: impl Into<String>) -> Self {
        self.options.build = Some(build.into());
        self
    }

    /// How long a run's history may become: one that reaches the limit fails, with both figures. 51,200 events or 50 MiB by
    /// default; a run that lives for long continues as new before. What it was is recorded, so another worker may have another
    /// limit.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use everpulse_worker::{HistorySize, Worker};
    ///
    /// let limit = HistorySize { events: 100_000, bytes: 200 << 20 };
    /// Worker::connect("embedded:./data").await?.history_limit(limit).run().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn history_limit(mut self, limit: HistorySize) -> Self {
        self.options.history_limit = limit;
        self
    }

    /// How long a run's history becomes before that is logged, once, with its name and id; 10,240 events or 10 MiB by default.
    #[must_use]
    pub fn history_warning(mut self, warning: HistorySize) -> Self {
        self.options.history_warning = warning;
        self
    }

    /// Whether each run is replayed from its beginning after every event, and parked with what differs if the same code
    /// does not do the same again: for tests, in which a `HashMap` that is iterated, or a clock that is read by a helper,
    /// is found at its first event and not after a restart. What a run costs grows with the square of its events.
    ///
    /// Nothing leaves of a turn that is not the same twice.
    #[must_use]
    pub fn check_determinism(mut self, check: bool) -> Self {
        self.options.check_determinism = check;
        self
    }

    /// Whether a worker that serves workflows keeps schedules, too; it does unless this says otherwise. A schedule whose shard
    /// goes to a worker that does not is parked there, until another one has it.
    #[must_use]
    pub fn schedules(mut self, keep: bool) -> Self {
        self.options.schedules = keep;
        self
    }

    /// Sets what has no method of its own: `.options(|options| options.give_back = ..)`. What was set before stays.
    #[must_use]
    pub fn options(mut self, set: impl FnOnce(&mut Options)) -> Self {
        set(&mut self.options);
        self
    }

    /// Serves until SIGTERM or Ctrl-C, then finishes what is under way and leaves.
    ///
    /// # Errors
    /// When the worker cannot start: see [`Worker::spawn`].
    pub async fn run(self) -> Result<(), Error> {
        let handle = self.spawn().await?;
        shutdown_signal().await;
        tracing::info!("leaving: running work is finished first");
        handle.stop().await;
        Ok(())
    }

    /// Begins to serve, and gives a handle that ends it.
    ///
    /// # Errors
    /// Two definitions of one name and version, a queue's name that cannot be a topic's, or a broker that cannot be
    /// set up; the message says which.
    pub async fn spawn(mut self) -> Result<WorkerHandle, Error> {
        if let Some(duplicate) = self.duplicates.first() {
            return Err(Error::new(ErrorKind::Invalid, duplicate.to_string()));
        }
        let queues = self.served_queues()?;
        self.check_limits(&queues)?;
        let address = self.transport.address();
        let wanted = SetUp::default().shards(address.shards()).inbox_partitions(address.inbox_partitions());
        let layout = self.transport.set_up(&wanted).await?;
        for queue in &queues {
            self.transport.set_up_queue(queue).await?;
        }
        if self.options.schemas {
            let build = self.options.build.clone().or_else(build_from_env);
            schemas::publish(&self.transport, &self.registry, build.as_deref()).await?;
        }
        let stores = self.blobs.as_ref().map(|blobs| blobs.open(&self.transport));
        if let Some(stores) = &stores {
            let coding = self.registry.coding().clone().with_blobs(Arc::new(stores.clone()));
            self.registry.set_coding(coding);
        }
        // In a store or in a message, of which others take a part.
        let inline = || self.options.payload_bytes_max.min(everpulse_engine::INLINE_BYTES_MAX);
        self.options.payload_bytes_max = stores.as_ref().map_or_else(inline, Stores::up_to);
        let registry = self.served()?;
        let outbox = Outbox::new(self.transport.clone(), layout).with_stores(stores);
        let runner = if queues.is_empty() {
            None
        } else {
            let mut options = self.options.clone();
            options.queues = Some(queues);
            Some(ActivityRunner::start(registry.clone(), outbox.clone(), self.transport.clone(), options).await?)
        };
        let writer = WriterId(Uuid::now_v7());
        let (retention, id_memory) = self.options.memory();
        let relay = Relay::start(&self.transport, outbox.clone()).await?;
        let cache_dir = self.options.cache_dir.clone().or_else(|| address.embedded_dir().map(|dir| dir.join("cache")));
        let host = if registry.workflows().next().is_some() {
            let setting = Setting {
                transport: self.transport.clone(),
                layout,
                outbox,
                registry,
                runner: runner.clone(),
                writer,
                threads: self.options.engine_threads,
                eager: self.options.eager,
                engine: everpulse_engine::Options {
                    payload_bytes_max: self.options.payload_bytes_max,
                    live_runs_max: self.options.live_runs_per_shard,
                    runs_at_hand_max: self.options.runs_at_hand_per_shard,
                    retention_ms: milliseconds(retention),
                    id_memory_ms: milliseconds(id_memory),
                    build: self.options.build.clone().or_else(build_from_env),
                    history_warning: self.options.history_warning,
                    history_limit: self.options.history_limit,
                    check_determinism: self.options.check_determinism,
                    ..everpulse_engine::Options::default()
                },
                queue: self.options.inbox_prefetch,
                cache: match cache_dir {
                    Some(dir) => Cache::open(&dir)?,
                    None => None,
                },
            };
            Some(Host::start(setting).await?)
        } else {
            None
        };
        tracing::info!(broker = %self.transport.service_url(), "the worker serves");
        Ok(WorkerHandle { transport: self.transport, host, writer, runner, relay, drain: self.options.drain })
    }

    /// What is registered, and our own workflows.
    fn served(&self) -> Result<Arc<Registry>, Error> {
        if let Some(entry) = self.registry.workflows().find(|entry| entry.name.starts_with(OURS)) {
            let message = format!(
                "workflow `{}` at {} has a name that begins with `{OURS}`, as those of Everpulse itself do: give it another \
                 with `name = \"..\"`",
                entry.name, entry.location
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let mut registry = self.registry.clone();
        if self.options.schedules && registry.workflows().next().is_some() {
            let added = registry
                .workflow_fn(everpulse_schedule::schedule)
                .and_then(|()| registry.workflow_fn(everpulse_schedule::scheduled_run));
            added.map_err(|duplicate| Error::new(ErrorKind::Invalid, duplicate.to_string()))?;
        }
        Ok(Arc::new(registry))
    }

    /// Limits across workers that cannot hold, and those of queues that are not served: a name that is another one would be no
    /// limit.
    fn check_limits(&self, queues: &[String]) -> Result<(), Error> {
        for queue in self.options.limited_queues() {
            for rule in self.options.rules_of(queue) {
                if let Some(refused) = rule.refused() {
                    let message = format!("the limit of queue `{queue}` across workers is none: {refused}");
                    return Err(Error::new(ErrorKind::Invalid, message));
                }
                if !queues.contains(queue) {
                    let message = format!(
                        "queue `{queue}` has a limit across workers of {rule}, and this worker does not serve it; say it on those \
                         that do, or is it another name?"
                    );
                    return Err(Error::new(ErrorKind::Invalid, message));
                }
                tracing::info!(queue, limit = %rule, "a queue has a limit across workers");
            }
        }
        Ok(())
    }

    fn served_queues(&self) -> Result<Vec<String>, Error> {
        let queues: Vec<String> = match &self.options.queues {
            Some(queues) => queues.clone(),
            None => self.registry.activity_queues().into_iter().collect(),
        };
        match queues.iter().find(|queue| !topic::is_queue_name(queue)) {
            None => Ok(queues),
            Some(queue) => Err(Error::new(
                ErrorKind::Invalid,
                format!("{queue:?} cannot be a queue's name: use letters, digits, `-` and `_`, at most 64"),
            )),
        }
    }
}

/// What the environment says that the worker is built from.
fn build_from_env() -> Option<String> {
    std::env::var("EVERPULSE_BUILD").ok().filter(|build| !build.is_empty())
}

/// A worker that serves. Dropping it ends it at once: what runs is dropped, and goes to other workers.
pub struct WorkerHandle {
    transport: Transport,
    host: Option<Host>,
    writer: WriterId,
    runner: Option<ActivityRunner>,
    relay: Relay,
    drain: Duration,
}

impl std::fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerHandle").field("broker", &self.transport.service_url()).finish_non_exhaustive()
    }
}

impl WorkerHandle {
    /// What the shards are about that this worker has touched, by number.
    pub async fn shards(&self) -> Vec<(u32, everpulse_engine::Status)> {
        match &self.host {
            Some(host) => host.status().await,
            None => Vec::new(),
        }
    }

    /// As whom this worker writes history; none if it serves no workflows.
    #[must_use]
    pub fn writer(&self) -> Option<WriterId> {
        self.host.as_ref().map(|_| self.writer)
    }

    /// Where the broker is.
    #[must_use]
    pub fn service_url(&self) -> String {
        self.transport.service_url()
    }

    /// Finishes what is under way within the drain time, hands over the rest, and leaves.
    pub async fn stop(self) {
        let drain = self.drain;
        // Activities first: their results still find the host, and through it history.
        let activities = async {
            if let Some(runner) = &self.runner {
                runner.drain(drain).await;
            }
        };
        let host = async {
            if let Some(host) = self.host {
                host.stop(drain).await;
            }
        };
        tokio::join!(activities, host);
        self.relay.stop().await;
        self.transport.close().await;
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use everpulse_protocol::codec::Body;
    use everpulse_protocol::event::{Event, EventBody, IdPolicy, Start};
    use everpulse_protocol::{EventId, Payload, WorkflowId};
    use tokio::sync::Notify;

    use super::*;
    use crate::trial::{LONG, Trial};

    static STEP_BEGUN: Notify = Notify::const_new();
    static STEP_LEFT: Notify = Notify::const_new();
    static BLOCKED: Notify = Notify::const_new();
    static FREE: OnceLock<()> = OnceLock::new();
    static GATED: Notify = Notify::const_new();
    static GATE: Notify = Notify::const_new();
    static GATED_LEFT: Notify = Notify::const_new();
    static QUICK: Notify = Notify::const_new();

    struct Left;

    impl Drop for Left {
        fn drop(&mut self) {
            STEP_LEFT.notify_one();
        }
    }

    #[everpulse_sdk::workflow(crate = everpulse_sdk)]
    async fn endless_step() -> Result<(), everpulse_sdk::Error> {
        let endless = || async {
            let _left = Left;
            STEP_BEGUN.notify_one();
            std::future::pending::<Result<(), everpulse_sdk::Error>>().await
        };
        everpulse_sdk::step("endless", endless).timeout(10 * LONG).await?;
        Ok(())
    }

    struct GateLeft;

    impl Drop for GateLeft {
        fn drop(&mut self) {
            GATED_LEFT.notify_one();
        }
    }

    #[everpulse_sdk::workflow(crate = everpulse_sdk)]
    async fn gated_step() -> Result<(), everpulse_sdk::Error> {
        let gated = || async {
            let _left = GateLeft;
            GATED.notify_one();
            GATE.notified().await;
            Ok::<(), everpulse_sdk::Error>(())
        };
        everpulse_sdk::step("gated", gated).timeout(10 * LONG).await?;
        Ok(())
    }

    #[everpulse_sdk::workflow(crate = everpulse_sdk)]
    async fn quick() -> Result<(), everpulse_sdk::Error> {
        QUICK.notify_one();
        Ok(())
    }

    #[everpulse_sdk::workflow(crate = everpulse_sdk)]
    async fn blocking() -> Result<(), everpulse_sdk::Error> {
        BLOCKED.notify_one();
        FREE.wait();
        Ok(())
    }

    async fn start(trial: &Trial, workflow: &str) {
        let start = Start {
            workflow: workflow.to_owned(),
            version: None,
            args: Payload::encode(&std::collections::BTreeMap::<String, u8>::new()).expect("encodes"),
            policy: IdPolicy::Attach,
            tags: Vec::new(),
            start_at: None,
            timeout_ms: None,
            headers: None,
            priority: Default::default(),
        };
        let event = Event {
            id: EventId(Uuid::now_v7()),
            workflow_id: WorkflowId::new(workflow).expect("a good id"),
            run_id: None,
            exact: false,
            sent_at: crate::clock::now(),
            reply_to: None,
            again: false,
            body: Body::of(&EventBody::Start(start)),
        };
        trial.outbox.event(event).await.expect("sent");
    }

    async fn worker(trial: &Trial) -> WorkerHandle {
        on(trial.transport.clone(), Duration::ZERO).await
    }

    async fn on(transport: Transport, drain: Duration) -> WorkerHandle {
        let options = Options::default();
        let worker = Worker { transport, registry: Registry::new(), duplicates: Vec::new(), blobs: None, options };
        let worker = worker.workflow(endless_step).workflow(blocking).workflow(gated_step).workflow(quick);
        worker.drain(drain).spawn().await.expect("it serves")
    }

    async fn another(trial: &Trial) -> Transport {
        let options = everpulse_transport::Options::default();
        Transport::connect(trial.transport.address(), options).await.expect("connected")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_limit_across_workers_that_is_none_is_refused_by_name() {
        for trial in Trial::all().await {
            let transport = another(&trial).await;
            let new = || {
                let options = Options::default();
                let (transport, registry) = (transport.clone(), Registry::new());
                Worker { transport, registry, duplicates: Vec::new(), blobs: None, options }
            };
            let refused = [
                (new().concurrency_across_workers("maps", 0), "0 attempts at a time"),
                (new().rate_across_workers("maps", f64::NAN), "NaN attempts in a second"),
                (new().rate_across_workers("maps", -1.0), "-1 attempts in a second"),
                (new().concurrency_across_workers("maps", 2), "this worker does not serve it"),
            ];
            for (worker, said) in refused {
                let error = worker.spawn().await.expect_err("it does not start");
                assert_eq!(error.kind(), ErrorKind::Invalid);
                let message = error.to_string();
                assert!(message.contains("`maps`") && message.contains(said), "{message}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_step_that_outlives_the_drain_time_is_dropped() {
        for trial in Trial::all().await {
            let worker = worker(&trial).await;
            start(&trial, "endless_step").await;
            tokio::time::timeout(LONG, STEP_BEGUN.notified()).await.expect("it begins");
            worker.stop().await;
            tokio::time::timeout(LONG, STEP_LEFT.notified()).await.expect("it is dropped");
        }
    }

    /// One test for both, as they share the gate.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_drains_hands_its_shards_over_and_one_that_is_dropped_stops() {
        for trial in Trial::all().await {
            let leaving = on(another(&trial).await, 10 * LONG).await;
            start(&trial, "gated_step").await;
            tokio::time::timeout(LONG, GATED.notified()).await.expect("it begins");
            let staying = on(another(&trial).await, Duration::ZERO).await;
            let leaving = tokio::spawn(leaving.stop());
            start(&trial, "quick").await;
            tokio::time::timeout(LONG, QUICK.notified()).await.expect("another worker has the shard");
            assert!(!leaving.is_finished(), "its step still runs");
            GATE.notify_one();
            tokio::time::timeout(LONG, leaving).await.expect("it leaves").expect("no panic");
            tokio::time::timeout(LONG, GATED_LEFT.notified()).await.expect("the step has ended");
            staying.stop().await;
        }
        for trial in Trial::all().await {
            let dropped = worker(&trial).await;
            start(&trial, "gated_step").await;
            tokio::time::timeout(LONG, GATED.notified()).await.expect("it begins");
            drop(dropped);
            tokio::time::timeout(LONG, GATED_LEFT.notified()).await.expect("its step is dropped");
            // Nobody is in the way of the next one.
            let next = worker(&trial).await;
            start(&trial, "quick").await;
            tokio::time::timeout(LONG, QUICK.notified()).await.expect("it is taken");
            next.stop().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_workflow_that_blocks_its_thread_does_not_keep_a_worker_from_leaving() {
        for trial in Trial::all().await {
            let worker = worker(&trial).await;
            start(&trial, "blocking").await;
            tokio::time::timeout(LONG, BLOCKED.notified()).await.expect("it begins");
            tokio::time::timeout(LONG, worker.stop()).await.expect("it leaves");
        }
        FREE.set(()).expect("once");
    }
}
