//! Runs activities: takes tasks from the queues that this process serves, makes attempts, and settles them. Eager
//! attempts, which the owner of a run makes right here, share its slots.
//!
//! ```text
//! activity.QUEUE, its lanes ─► queue ─► room ─► attempt ─► verdict ─► settle ─► inbox, timers, *.dead
//!                     ▲                 ▲                     │
//!                     └── ack ◄─────────┼── confirmed ◄───────┘
//!                     control ── cancel ┘
//! ```
//! A task is acked last, when what it came to is confirmed. The queue owns deliveries, `attempt` the author's code while
//! it runs, the engine's `attempt` what follows. Delays are the relay's, records the shard's.

mod attempt;
mod batch;
mod cancelled;
mod kept;
mod lanes;
mod pace;
mod queue;
mod room;
mod settle;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everpulse_blobs::Stores;
use everpulse_engine::attempt::{End, Seen, Verdict, judge, too_late};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::task::{Control, Task};
use everpulse_protocol::{Coding, CodingError, EventId, Failure, FailureKind, decode, topic};
use everpulse_sdk::activity::ActivityContext;
use everpulse_sdk::definition::Registry;
use everpulse_transport::{Consumer, Error, Subscription, SubscriptionKind, Transport};
use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::options::Options;
use crate::outbox::Outbox;
use crate::permits::Permits;
use crate::{clock, failpoint};
use attempt::{Bounds, Pulse};
use batch::{Batches, is_alone};
use cancelled::Cancelled;
use kept::{Kept, KeptHere};
use pace::Pace;
use queue::{FrameHold, Queue};
use room::{Needs, Room};

pub use room::Slot;
pub(crate) use settle::unsendable;

/// What an eager attempt came to.
pub type EagerResult = Verdict;

/// Runs the activities of this process. Clones are the same runner.
#[derive(Clone)]
pub struct ActivityRunner {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    control: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// When the draining is over, once it has begun.
    stop: watch::Sender<Option<Instant>>,
}

/// What all queues of a runner share.
struct Shared {
    registry: Arc<Registry>,
    outbox: Outbox,
    transport: Transport,
    options: Options,
    rooms: HashMap<String, Room>,
    /// Of queues that have a rate.
    paces: HashMap<String, Pace>,
    seen: Mutex<Seen<Arc<FrameHold>>>,
    cancelled: Mutex<Cancelled>,
    batches: Batches,
    kept_here: KeptHere,
    /// The attempts that run now, by task and attempt.
    running: Mutex<BTreeMap<(EventId, u32), ActivityContext>>,
}

impl ActivityRunner {
    /// Subscribes to the served queues and begins to run what comes.
    ///
    /// # Errors
    /// When a queue cannot be set up or subscribed to.
    pub async fn start(
        registry: Arc<Registry>,
        outbox: Outbox,
        transport: Transport,
        options: Options,
    ) -> Result<Self, Error> {
        let queues: Vec<String> = match &options.queues {
            Some(queues) => queues.clone(),
            None => registry.activity_queues().into_iter().collect(),
        };
        let room = |queue: &String| {
            let open = |rule| Permits::open(transport.clone(), queue, rule);
            let permits = options.rules_of(queue).map(open).collect();
            (queue.clone(), Room::new(options.concurrency_of(queue), permits))
        };
        let shared = Arc::new(Shared {
            rooms: queues.iter().map(room).collect(),
            paces: options.rates.iter().map(|(queue, rate)| (queue.clone(), Pace::new(*rate))).collect(),
            registry,
            outbox,
            transport: transport.clone(),
            options,
            seen: Mutex::new(Seen::new()),
            cancelled: Mutex::default(),
            batches: Batches::default(),
            kept_here: KeptHere::default(),
            running: Mutex::default(),
        });
        // Before the queues: a cancellation that is missed here is missed for good.
        let stop = watch::Sender::new(None);
        let listening =
            if queues.is_empty() { None } else { Some(hear_control(&shared, &transport, stop.subscribe()).await?) };
        let mut tasks = Vec::new();
        for name in queues {
            transport.set_up_queue(&name).await?;
            let queue = Queue::open(Arc::clone(&shared), name, stop.subscribe()).await?;
            tasks.push(tokio::spawn(queue.serve()));
        }
        Ok(Self { shared, tasks: Arc::new(Mutex::new(tasks)), control: Arc::new(Mutex::new(listening)), stop })
    }

    /// Room for an eager attempt: this process serves the queue, knows the activity, has a free slot, and is not
    /// shutting down.
    #[must_use]
    pub fn try_slot(&self, queue: &str, activity: &str) -> Option<Slot> {
        let is_paced = self.shared.paces.contains_key(queue);
        if self.stop.borrow().is_some() || is_paced || self.shared.registry.activity(activity).is_none() {
            return None;
        }
        self.shared.rooms.get(queue)?.try_enter()
    }

    /// Whether this process serves the queue and knows the activity.
    #[must_use]
    pub fn serves(&self, queue: &str, activity: &str) -> bool {
        self.shared.rooms.contains_key(queue) && self.shared.registry.activity(activity).is_some()
    }

    /// Makes one attempt right here, in a slot that was taken before or else in the next free one. Nothing is sent:
    /// what follows is for the caller to send and to record.
    ///
    /// Dropping the future drops the attempt.
    pub fn run_eager(&self, slot: Option<Slot>, task: Task) -> impl Future<Output = EagerResult> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            let slot = match (slot, shared.rooms.get(&task.queue)) {
                (Some(slot), _) => Some(slot),
                (None, Some(room)) => room.enter(Needs::All).await,
                (None, None) => None,
            };
            shared.attempt(&task, slot, None).await.unwrap_or_else(|| {
                let failure = Failure::new(FailureKind::Cancelled, "nobody waits for it any more");
                Verdict::Settled { attempt: task.attempt, outcome: Outcome::Failed(failure) }
            })
        }
    }

    /// Stops taking tasks, waits for those that run up to `limit`, and leaves the rest unacked: they go to other
    /// workers.
    pub async fn drain(&self, limit: Duration) {
        // It is kept, and there may be no queue that listens.
        self.stop.send_replace(Some(Instant::now() + limit));
        self.shared.batches.close();
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::warn!(%error, "a queue ended badly");
            }
        }
        // Nothing of theirs begins here any more.
        join_all(self.shared.rooms.values().map(Room::leave)).await;
        // Last, since what still runs may be cancelled.
        if let Some(listening) = lock(&self.control).take() {
            listening.abort();
        }
    }
}

async fn hear_control(
    shared: &Arc<Shared>,
    transport: &Transport,
    alive: watch::Receiver<Option<Instant>>,
) -> Result<JoinHandle<()>, Error> {
    // Each worker hears all of it, so each has a subscription of its own.
    let name = format!("worker-{}", uuid::Uuid::now_v7());
    let topic = transport.non_persistent(topic::CONTROL);
    let consumer = transport.subscribe(Subscription::new(topic, name, SubscriptionKind::Exclusive)).await?;
    Ok(tokio::spawn(hear(Arc::clone(shared), consumer, alive)))
}

async fn hear(shared: Arc<Shared>, mut consumer: Consumer, mut alive: watch::Receiver<Option<Instant>>) {
    loop {
        let delivery = tokio::select! {
            delivery = consumer.recv() => delivery,
            // It ends with an error alone: the runner is gone.
            _ = alive.wait_for(|_| false) => return,
        };
        match decode::<Control>(&delivery.payload) {
            Ok(control) => shared.cancel(&control.cancelled),
            Err(error) => tracing::debug!(%error, "a control message cannot be read"),
        }
    }
}

impl Shared {
    /// Makes one attempt, from the slot to the verdict. The slot is free again when the author's code has ended.
    /// `kept`: who tells its owner of it; an eager one is its owner's.
    async fn attempt(&self, task: &Task, slot: Option<Slot>, kept: Option<&Kept<'_>>) -> Option<Verdict> {
        let end = self.run(task, slot, kept).await;
        judge(task, end, clock::now())
    }

    async fn run(&self, task: &Task, mut slot: Option<Slot>, kept: Option<&Kept<'_>>) -> End {
        if let Some(failure) = &task.returned {
            return End::Failed { failure: failure.clone(), retryable: true, heartbeat: None };
        }
        if let Some(failure) = too_late(task, clock::now()) {
            return End::Failed { failure, retryable: false, heartbeat: None };
        }
        let Some(entry) = self.registry.activity(&task.activity) else {
            let (queue, activity) = (&task.queue, &task.activity);
            tracing::warn!(queue, activity, "this worker of the queue does not know the activity; another may");
            return End::Unknown;
        };
        let coding = self.registry.coding();
        let mut opened = task.clone();
        if let Err(error) = open(coding, self.outbox.stores(), &mut opened).await {
            let Task { queue, activity, workflow_id, .. } = task;
            // Also where it looks damaged: another worker may have the right key of that name, or a later release.
            tracing::warn!(queue, activity, %workflow_id, %error, "this worker cannot open the task; another may");
            return End::Unopened(error.to_string());
        }
        if let Some(pace) = self.paces.get(&task.queue) {
            pace.turn().await;
        }
        // What never begins counts for no rate.
        if self.is_cancelled(task.id) {
            return End::Cancelled;
        }
        let pulse = Pulse::new();
        let context = ActivityContext::new(&opened, pulse.clone()).with_format(coding.format());
        let _running = Running::enter(self, task, &context);
        // Asked after it can be found, so that a cancellation meets it here or there.
        if self.is_cancelled(task.id) {
            return End::Cancelled;
        }
        if let Some(slot) = &mut slot {
            // What others have meanwhile is waited for again, perhaps for long.
            tokio::select! {
                biased;
                _ = slot.hold() => {}
                () = context.cancelled() => return End::Cancelled,
                Some(failure) = attempt::left_waiting(task) => return End::Failed { failure, retryable: false, heartbeat: None },
            }
            slot.begin();
            pulse.renew();
        }
        let Options { cancel_grace, payload_bytes_max, .. } = self.options;
        let bounds = Bounds { cancel_grace, payload_bytes_max };
        let joining = entry.batch.as_ref().map(|batch| {
            let room = self.rooms.get(&task.queue).cloned();
            self.batches.joining((entry, batch), task, (&context, &pulse), (slot.take(), room))
        });
        let code = (joining.as_ref().unwrap_or(entry), self.registry.interceptors());
        let telling = async {
            match kept {
                Some(kept) => kept.tell(&pulse).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            biased;
            end = attempt::run(code, &opened, context, &pulse, bounds, slot) => end,
            never = telling => match never {},
        };
        sealed(coding, self.outbox.stores(), task, end).await
    }

    /// What permits a task needs before it is begun with.
    fn needs(&self, task: &Task) -> Needs {
        let joins = || {
            let is_batch = self.registry.activity(&task.activity).is_some_and(|entry| entry.batch.is_some());
            // While a batch is full and waits, the next one does not gather others here.
            let is_full = || self.rooms.get(&task.queue).is_some_and(|room| *room.full().borrow() > 0);
            is_batch && !is_alone(task) && !is_full()
        };
        match &task.returned {
            Some(_) => Needs::None,
            None if joins() => Needs::ToBegin,
            None => Needs::All,
        }
    }

    fn cancel(&self, tasks: &[EventId]) {
        let now = std::time::Instant::now();
        for &task in tasks {
            lock(&self.cancelled).insert(task, now);
            for context in lock(&self.running).range((task, 0)..=(task, u32::MAX)).map(|(_, context)| context) {
                context.cancel();
            }
        }
    }

    fn is_cancelled(&self, task: EventId) -> bool {
        lock(&self.cancelled).contains(&task)
    }
}

/// Opens what the author's code is given. How earlier attempts failed is for others to read.
async fn open(coding: &Coding, stores: Option<&Stores>, task: &mut Task) -> Result<(), CodingError> {
    if let Some(stores) = stores {
        stores.fetch(&mut task.args).await?;
        stores.fetch(&mut task.heartbeat).await?;
        stores.fetch(&mut task.headers).await?;
    }
    coding.open(&task.workflow_id, &mut task.args)?;
    coding.open(&task.workflow_id, &mut task.heartbeat)?;
    coding.open(&task.workflow_id, &mut task.headers)
}

/// Seals what an attempt came to, before anything follows from it, and puts out what is large.
async fn sealed(coding: &Coding, stores: Option<&Stores>, task: &Task, end: End) -> End {
    let mut end = end.bounded();
    let sealed = match (coding.seal(&task.workflow_id, &mut end), stores) {
        (Ok(()), Some(stores)) if stores.has_large(&mut end) => {
            // It was worked for: a store that is away is waited for.
            let put = stores.put_out_patiently(&mut end).await;
            failpoint::hit("blob-put");
            put
        }
        (sealed, _) => sealed,
    };
    match sealed {
        Ok(()) => end,
        Err(error) => {
            let message = format!("what activity `{}` came to cannot leave: {error}", task.activity);
            let failure = Failure::new(FailureKind::Undecodable, message);
            // What is too large is so again.
            End::Failed { failure, retryable: !matches!(error, CodingError::Refused { .. }), heartbeat: None }
        }
    }
}

/// An attempt that can be found by its task's id, for as long as this lives.
struct Running<'a> {
    shared: &'a Shared,
    key: (EventId, u32),
}

impl<'a> Running<'a> {
    fn enter(shared: &'a Shared, task: &Task, context: &ActivityContext) -> Self {
        let key = (task.id, task.attempt);
        lock(&shared.running).insert(key, context.clone());
        Self { shared, key }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.shared.running).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in these can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for ActivityRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActivityRunner").field("queues", &self.shared.rooms.keys()).finish_non_exhaustive()
    }
}
