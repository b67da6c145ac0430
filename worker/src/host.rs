//! Serves workflows: the inbox, engine threads with their shards, and the way of effects into the world.
//!
//! ```text
//!   inbox ─► intake (one task) ─► engine thread 0: shards 0, 2, 4 ..  ─► carrier ─► history, queues, timers, replies
//!                              └► engine thread 1: shards 1, 3, 5 ..  ─► carrier      │
//!                                        ▲                                            │
//!                                        └──────────── receipts, results ◄────────────┘
//! ```

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use everpulse_blobs::Stores;
use everpulse_engine::{Delivery, DeliveryToken, Eager, Options, Status};
use everpulse_protocol::codec::later_version;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::InboxFrame;
use everpulse_protocol::shard::Config;
use everpulse_protocol::timer::Wake;
use everpulse_protocol::{Position, WriterId, decode, topic};
use everpulse_sdk::definition::Registry;
use everpulse_transport::{Consumer, Layout, Subscription, SubscriptionKind, Transport};
use futures::future::{join_all, try_join_all};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle as Task;
use tokio::time::{Instant, timeout, timeout_at};

use self::carrier::{Carrier, Unacked};
use self::eager::HostEager;
use self::observers::Observers;
use self::returning::Returning;
use self::thread::{Arrival, Message, Shared};
use crate::activity::ActivityRunner;
use crate::cache::Cache;
use crate::outbox::Outbox;
use crate::seldom::Seldom;
use crate::{clock, failpoint};

mod broken;
mod carrier;
mod eager;
mod observers;
mod pieces;
mod returning;
pub(crate) mod step;
mod thread;

/// What a message that is not read counts for beside its bytes: many small ones are many, too.
const UNREAD_BYTES: usize = 1024;

/// What a stop waits for beside the work itself.
const LEAVING: Duration = Duration::from_secs(5);

/// What a host needs.
pub(crate) struct Setting {
    pub transport: Transport,
    pub layout: Layout,
    pub outbox: Outbox,
    pub registry: Arc<Registry>,
    pub runner: Option<ActivityRunner>,
    pub writer: WriterId,
    pub threads: usize,
    pub eager: bool,
    pub engine: Options,
    pub queue: u32,
    /// Where runs that wait lie; none: in memory.
    pub cache: Option<Cache>,
}

/// Engine threads and the intake of their inbox.
pub(crate) struct Host {
    mailboxes: Vec<Sender<Message>>,
    threads: Vec<JoinHandle<()>>,
    /// None once it was told.
    stop_intake: Option<oneshot::Sender<()>>,
    intake: tokio::task::JoinHandle<Consumer>,
    closing: Arc<AtomicBool>,
}

impl Host {
    /// Subscribes to the inbox and begins to serve.
    ///
    /// # Errors
    /// When the inbox cannot be subscribed to, or a thread cannot be started.
    pub async fn start(setting: Setting) -> Result<Self, crate::Error> {
        let subscription =
            Subscription::new(topic::INBOX, topic::OWNERS, SubscriptionKind::KeyShared).queue(setting.queue);
        // By positions, and not by clocks: the publisher's may differ from this one's, and both may be set.
        let ends = (0..setting.layout.inbox_partitions).map(|partition| {
            let (transport, topic) = (&setting.transport, topic::partition(topic::INBOX, partition));
            async move { transport.last_position_once(&topic).await }
        });
        let ends = try_join_all(ends).await?;
        let consumer = setting.transport.subscribe(subscription).await?;
        let unacked = Arc::new(Unacked::default());
        let returning = Returning::new(consumer.acker(), unacked.clone());
        let shared = Arc::new(Shared {
            writer: setting.writer,
            config: Config::new(setting.layout.shards, setting.layout.inbox_partitions),
            registry: setting.registry.clone(),
            options: setting.engine.clone(),
            cache: setting.cache.clone(),
        });
        let (mut mailboxes, mut threads) = (Vec::new(), Vec::new());
        let interceptors = setting.registry.interceptors().clone();
        let (observers, telling) = Observers::start(interceptors, Handle::current()).map_err(crate::Error::thread)?;
        for number in 0..setting.threads.max(1) {
            let (mailbox, messages) = channel();
            let (shared, mine) = (shared.clone(), mailbox.clone());
            let (transport, outbox, runner) =
                (setting.transport.clone(), setting.outbox.clone(), setting.runner.clone());
            let observers = observers.clone();
            let (returning, runtime) = (returning.clone(), Handle::current());
            let enabled = setting.eager;
            let thread = std::thread::Builder::new()
                .name(format!("everpulse-engine-{number}"))
                .spawn(move || {
                    let host_eager = Rc::new(HostEager::new(runner.clone(), enabled));
                    let eager: Rc<dyn Eager> = host_eager.clone();
                    let carrier = Carrier::new(runtime, transport, outbox, runner, observers, host_eager, returning);
                    thread::run(&messages, &mine, &shared, &carrier, &eager);
                })
                .map_err(crate::Error::thread)?;
            mailboxes.push(mailbox);
            threads.push(thread);
        }
        // It ends when the others have.
        threads.extend(telling);
        tokio::spawn(look_at_all(setting.outbox.clone(), setting.layout.shards));
        let (stop_intake, stopped) = oneshot::channel();
        let closing = Arc::new(AtomicBool::new(false));
        let intake = Intake {
            consumer,
            mailboxes: mailboxes.clone(),
            unacked,
            returning,
            unread: Seldom::default(),
            outbox: setting.outbox,
            layout: setting.layout,
            ends,
            next: 0,
            fetching: HashMap::new(),
            closing: closing.clone(),
        };
        let intake = tokio::spawn(intake.run(stopped));
        Ok(Self { mailboxes, threads, stop_intake: Some(stop_intake), intake, closing })
    }

    /// What the shards are about.
    pub async fn status(&self) -> Vec<(u32, Status)> {
        let mut all = Vec::new();
        for mailbox in &self.mailboxes {
            let (answer, status) = oneshot::channel();
            if mailbox.send(Message::Status(answer)).is_ok() {
                all.extend(status.await.unwrap_or_default());
            }
        }
        all.sort_unstable_by_key(|(shard, _)| *shard);
        all
    }

    /// Takes nothing new, finishes what is under way within `drain`, marks what was sent, acks, and leaves.
    ///
    /// What does not end in time is dropped, and not lost: its inputs are not acked, or a wake-up covers it. Workflow
    /// code that blocks its thread is not waited for.
    pub async fn stop(mut self, drain: Duration) {
        let until = Instant::now() + drain;
        self.closing.store(true, Ordering::Release);
        // After two seconds wake-ups cover the local work that is open, and no input is held for it.
        self.settled(until, |status| status.held == 0).await;
        // The shards are others' from here on, while local work goes on: its results find their way past them.
        if let Some(stop_intake) = self.stop_intake.take() {
            let _ = stop_intake.send(());
        }
        match timeout(LEAVING, &mut self.intake).await {
            Ok(Ok(consumer)) => consumer.close().await,
            Ok(Err(error)) => tracing::warn!(%error, "the intake ended badly"),
            // It is burying a message at a broker that does not answer.
            Err(_) => self.intake.abort(),
        }
        let idle = |status: &Status| status.idle && status.local_work == 0;
        self.settled(until, idle).await;
        for mailbox in &self.mailboxes {
            // A thread that is gone has nothing to mark.
            let _ = mailbox.send(Message::Drain);
        }
        // The marks are a frame of their own.
        tokio::task::yield_now().await;
        self.settled(until.max(Instant::now() + Duration::from_secs(2)), idle).await;
        for mailbox in &self.mailboxes {
            let _ = mailbox.send(Message::Stop);
        }
        let threads = std::mem::take(&mut self.threads);
        let (ended, end) = oneshot::channel();
        // Joining blocks, so it has a thread of its own; a panicked thread has said so itself.
        let joining = std::thread::Builder::new().spawn(move || {
            threads.into_iter().map(JoinHandle::join).count();
            // Whoever waited may have given up.
            let _ = ended.send(());
        });
        if joining.is_err() || timeout(LEAVING, end).await.is_err() {
            tracing::warn!(
                "workflow code blocks an engine thread, or an interceptor that looks on its own; it is left behind"
            );
        }
    }

    async fn settled(&self, until: Instant, enough: impl Fn(&Status) -> bool) {
        while Instant::now() < until {
            // A thread that does not answer is blocked by workflow code.
            let Ok(status) = timeout_at(until, self.status()).await else { return };
            if status.iter().all(|(_, status)| enough(status)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Asks for a look at every shard. A worker that comes may have code for which runs are parked: those of its shards are
/// tried again now, and not with the shard's next message or wake-up. Nothing hangs on it, so a look that is lost is.
async fn look_at_all(outbox: Outbox, shards: u32) {
    let now = clock::now();
    let looks = (0..shards).map(|shard| {
        // Of no frame: whoever gets it looks at the shard, and gives it no successor.
        let wake = Wake { shard, number: u64::MAX, due: now };
        outbox.event_to_shard(shard, wake.to_event(now))
    });
    if let Some(error) = join_all(looks).await.into_iter().find_map(Result::err) {
        tracing::debug!(%error, "not every shard was asked to be looked at");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Whoever did not stop it does not want to wait either. The intake ends with its stop, the carriers with
        // their threads; a thread that is gone needs no word.
        for mailbox in &self.mailboxes {
            let _ = mailbox.send(Message::Stop);
        }
    }
}

/// A frame waits so long for the blobs that it names, before it goes to the thread of its shard.
const PREFETCH: Duration = Duration::from_secs(10);

/// Gives a frame to the thread of its shard when what it names is at hand, and those before it have gone there: a start that
/// is fetched for is not overtaken by a question about it. Other shards do not wait, and the thread does not either.
async fn arrive_fetched(
    stores: Option<Stores>,
    before: Option<Task<()>>,
    mailbox: Sender<Message>,
    shard: u32,
    token: DeliveryToken,
    mut frame: InboxFrame,
    suspect: bool,
) {
    if let Some(stores) = stores
        && tokio::time::timeout(PREFETCH, stores.prefetch(&mut frame.events)).await.is_err()
    {
        tracing::debug!(shard, "what a frame names was not fetched in time");
    }
    if let Some(before) = before {
        // It panics nowhere; and whether or not, it is over.
        let _ = before.await;
    }
    let arrival = Arrival::Delivery(Delivery { token, frame, suspect });
    // The thread is gone only when the worker stops; the message is not acked and comes again.
    let _ = mailbox.send(Message::Arrived { shard, life: 0, arrival });
}

/// Whether bytes may hold an encoding that names a blob.
fn names_blobs(payload: &[u8]) -> bool {
    payload.windows(6).any(|bytes| bytes == b"+blob:")
}

/// Receives the inbox and gives each message to the thread of its shard.
struct Intake {
    consumer: Consumer,
    mailboxes: Vec<Sender<Message>>,
    unacked: Arc<Unacked>,
    returning: Arc<Returning>,
    unread: Seldom,
    outbox: Outbox,
    layout: Layout,
    /// Where each partition ended before this worker subscribed.
    ends: Vec<Option<Position>>,
    next: u64,
    /// Per shard the last frame that waits for blobs, or behind one that does.
    fetching: HashMap<u32, Task<()>>,
    closing: Arc<AtomicBool>,
}

impl Intake {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Consumer {
        loop {
            let delivery = tokio::select! {
                delivery = async {
                    self.unacked.room().await;
                    self.consumer.recv().await
                } => delivery,
                _ = &mut stopped => return self.consumer,
            };
            if self.closing.load(Ordering::Acquire) {
                // It comes to another worker when this one has left.
                continue;
            }
            failpoint::hit("inbox-received");
            let frame = match decode::<InboxFrame>(&delivery.payload) {
                Ok(frame) if frame.shard < self.layout.shards => frame,
                Ok(frame) => {
                    let reason = format!("a frame for shard {}; there are {}", frame.shard, self.layout.shards);
                    self.bury(reason, &delivery).await;
                    continue;
                }
                Err(error) => {
                    match later_version::<InboxFrame>(&delivery.payload) {
                        Some(version) => self.leave(version, &delivery),
                        None => self.bury(error.to_string(), &delivery).await,
                    }
                    continue;
                }
            };
            self.next += 1;
            let token = DeliveryToken(self.next);
            let shard = frame.shard;
            self.unacked.insert(token, shard, delivery.token, delivery.payload.len());
            // Published before this worker was there: it may be what took the one before down.
            let end = self.ends.get(delivery.partition as usize).copied().flatten();
            let suspect = end.is_some_and(|end| delivery.position <= end);
            let mailbox = &self.mailboxes[shard as usize % self.mailboxes.len()];
            let stores = self.outbox.stores().filter(|_| names_blobs(&delivery.payload)).cloned();
            let before = self.fetching.remove(&shard).filter(|before| !before.is_finished());
            if stores.is_some() || before.is_some() {
                let mailbox = mailbox.clone();
                let arriving =
                    async move { arrive_fetched(stores, before, mailbox, shard, token, frame, suspect).await };
                self.fetching.insert(shard, tokio::spawn(arriving));
                continue;
            }
            let arrival = Arrival::Delivery(Delivery { token, frame, suspect });
            // The thread is gone only when the worker stops; the message is not acked and comes again.
            let _ = mailbox.send(Message::Arrived { shard, life: 0, arrival });
        }
    }

    /// A message of a later release is left to workers that can read it: it goes back in a moment, by then perhaps to one of them.
    fn leave(&mut self, version: u8, delivery: &everpulse_transport::Delivery) {
        if let Some(times) = self.unread.count() {
            tracing::error!(
                topic = %delivery.topic, position = %delivery.position, version, times,
                "a message is of a later format version than this release reads; it waits for a worker of that release"
            );
        }
        self.next += 1;
        let token = DeliveryToken(self.next);
        // Of no shard that there is: which one it is for, only others can read.
        self.unacked.insert(token, u32::MAX, delivery.token, delivery.payload.len() + UNREAD_BYTES);
        self.returning.unread(token, &Handle::current());
    }

    /// Bytes that are no frame of ours go to the dead letters, and are acked when they are there.
    async fn bury(&self, reason: String, delivery: &everpulse_transport::Delivery) {
        tracing::warn!(topic = %delivery.topic, position = %delivery.position, reason, "a message cannot be read");
        let letter = Letter::Unreadable { topic: delivery.topic.to_string(), bytes: delivery.payload.clone() };
        let letter = DeadLetter { at: clock::now(), reason, letter };
        if self.outbox.dead_letter(topic::INBOX_DEAD, letter).await.is_ok() {
            self.consumer.acker().ack(delivery.token);
        }
    }
}
