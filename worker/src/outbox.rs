//! Everything that leaves a worker, behind one handle. What is confirmed here is stored; it may be stored twice, and
//! its receiver knows it by its id.
//!
//! ```text
//! event ────────► a lane per shard ───► inbox-partition-N          confirmed
//! task ─────────► tasks.rs, per lane ─► activity.QUEUE, its lanes  confirmed
//! timer ────────► delayed messages ───► timers                     confirmed
//! dead_letter ──► ────────────────────► *.dead                     confirmed
//! reply ────────► a lane per client ──► replies.CLIENT             once, may be lost
//! cancel_tasks ─► one lane ───────────► control                    once, may be lost
//! ```
//! Values that are large are put into a store first, where there is one; what is sent names them.
//! What is to be sent, and when, is decided elsewhere. Dropping a future of these takes nothing back.

mod replies;
mod tasks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use everpulse_blobs::Stores;
use everpulse_engine::delayed::deliver_at;
use everpulse_protocol::dead_letter::DeadLetter;
use everpulse_protocol::event::{Event, InboxFrame};
use everpulse_protocol::priority::Lane as QueueLane;
use everpulse_protocol::reply::Reply;
use everpulse_protocol::task::{Control, Task};
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::values::Values;
use everpulse_protocol::{EventId, Position, encode, shard, topic};
use everpulse_transport::{Error, ErrorKind, Lane, Layout, Limits, Message, Publisher, PublisherOptions, Transport};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Either};

use crate::lanes::Directory;
use crate::{clock, dead_letter, failpoint};
use replies::Replies;
use tasks::Queue;

/// What leaves a worker. Clones share everything.
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    shards: u32,
    inbox: Vec<OnceLock<Publisher>>,
    events: Vec<OnceLock<Lane<Event>>>,
    queues: Mutex<HashMap<QueueLane, Arc<Queue>>>,
    lanes: Directory,
    timers: OnceLock<Publisher>,
    dead: Mutex<HashMap<String, Publisher>>,
    replies: Replies,
    control: OnceLock<Lane<EventId>>,
    /// Where what is large goes before it is named to anybody.
    stores: Option<Stores>,
}

/// Where it is stored, in which frame; none when the broker did not say.
pub type Confirmed = Result<Option<Position>, Error>;

/// About what an event's ids and times take in a frame.
const ENVELOPE_BYTES: usize = 256;

impl Outbox {
    /// The outbox of an application that was set up.
    #[must_use]
    pub fn new(transport: Transport, layout: Layout) -> Self {
        let inner = Inner {
            shards: layout.shards.max(1),
            inbox: (0..layout.inbox_partitions.max(1)).map(|_| OnceLock::new()).collect(),
            events: (0..layout.shards.max(1)).map(|_| OnceLock::new()).collect(),
            queues: Mutex::default(),
            lanes: Directory::new(transport.clone()),
            timers: OnceLock::new(),
            dead: Mutex::default(),
            replies: Replies::new(transport.clone()),
            control: OnceLock::new(),
            stores: None,
            transport,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same, which puts what is large into a store first.
    ///
    /// # Panics
    /// When it was shared before.
    #[must_use]
    pub fn with_stores(mut self, stores: Option<Stores>) -> Self {
        Arc::get_mut(&mut self.inner).expect("nobody else has it yet").stores = stores;
        self
    }

    /// The stores of this worker.
    #[must_use]
    pub fn stores(&self) -> Option<&Stores> {
        self.inner.stores.as_ref()
    }

    /// Which lanes are in use.
    #[must_use]
    pub(crate) fn lanes(&self) -> &Directory {
        &self.inner.lanes
    }

    /// The count of shards.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.inner.shards
    }

    /// An event, to the shard of its workflow id.
    ///
    /// # Errors
    /// When it is too large, or the transport is closed.
    pub fn event(&self, event: Event) -> impl Future<Output = Confirmed> + Send + use<> {
        self.event_to_shard(shard::of(&event.workflow_id, self.inner.shards), event)
    }

    /// An event, to a shard.
    ///
    /// # Errors
    /// When it is too large, or the transport is closed.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn event_to_shard(&self, shard: u32, mut event: Event) -> impl Future<Output = Confirmed> + Send + use<> {
        let large = self.stores().is_some_and(|stores| {
            // Nearly all are small, and need not be opened for it.
            stores.is_large(event.body.0.len()) && stores.has_large(&mut event)
        });
        match large {
            false => Either::Left(self.inner.lane(shard).send(event)),
            true => Either::Right(
                self.put_out_first(event, move |outbox, event| outbox.inner.lane(shard).send(event).boxed()),
            ),
        }
    }

    /// A task, to its queue.
    ///
    /// # Errors
    /// When it is too large, its queue's name cannot be one, or the transport is closed.
    pub fn task(&self, mut task: Task) -> impl Future<Output = Confirmed> + Send + use<> {
        match self.has_large(&mut task) {
            false => Either::Left(self.queue(&task).send(task)),
            true => Either::Right(self.put_out_first(task, |outbox, task| outbox.queue(&task).send(task).boxed())),
        }
    }

    fn queue(&self, task: &Task) -> Arc<Queue> {
        let lane = task.lane();
        let mut queues = self.inner.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match queues.get(&lane) {
            Some(queue) => Arc::clone(queue),
            None => {
                let queue = Queue::open(self.inner.transport.clone(), self.inner.lanes.clone(), lane.clone());
                let queue = Arc::new(queue);
                queues.insert(lane, Arc::clone(&queue));
                queue
            }
        }
    }

    fn has_large<T: Values>(&self, values: &mut T) -> bool {
        self.stores().is_some_and(|stores| stores.has_large(values))
    }

    /// Sends what is large when it is put out. It is on its way also when nobody waits for it.
    fn put_out_first<T, S>(&self, mut values: T, send: S) -> impl Future<Output = Confirmed> + Send + use<T, S>
    where
        T: Values + Send + 'static,
        S: FnOnce(Self, T) -> BoxFuture<'static, Confirmed> + Send + 'static,
    {
        let outbox = self.clone();
        let sent = tokio::spawn(async move {
            outbox.put_out(&mut values).await;
            failpoint::hit("blob-put");
            send(outbox, values).await
        });
        async move {
            match sent.await {
                Ok(confirmed) => confirmed,
                // The runtime is shutting down: nobody hears it.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Puts out what is large, however long that takes: as with everything that leaves, there is nothing else to do with it.
    /// What no store takes is for the broker to refuse, if it does not fit there either.
    async fn put_out<T: Values + Send>(&self, values: &mut T) {
        let Some(stores) = self.stores() else { return };
        if let Err(error) = stores.put_out_patiently(values).await {
            tracing::warn!(%error, "what is large leaves as it is");
        }
    }

    /// A message that is delivered when it is due, or in an hour if that is earlier: a delayed message keeps all that
    /// was stored after it, acked or not.
    ///
    /// # Errors
    /// When it is too large, or the transport is closed.
    pub fn timer(&self, mut message: TimerMessage) -> impl Future<Output = Confirmed> + Send + use<> {
        let large = match &mut message {
            TimerMessage::Retry { task, .. } => self.has_large(task),
            TimerMessage::Wake(_) => false,
        };
        match message {
            TimerMessage::Retry { due, task } if large => {
                let send = move |outbox: Self, task| outbox.delayed(&TimerMessage::Retry { due, task }).boxed();
                Either::Right(self.put_out_first(task, send))
            }
            message => Either::Left(self.delayed(&message)),
        }
    }

    fn delayed(&self, message: &TimerMessage) -> impl Future<Output = Confirmed> + Send + use<> {
        let timers =
            self.inner.timers.get_or_init(|| self.inner.transport.publisher(topic::TIMERS, Default::default()));
        let mut delayed = Message::new(None, encode(message));
        delayed.deliver_at_ms = Some(deliver_at(message.due(), clock::now()).0);
        timers.publish_until_confirmed(delayed)
    }

    /// A dead letter, to the topic that [`crate::dead_letter::topic_for`] names. An unreadable message that fills all
    /// the room that there is for a letter is cut: what nobody can put away stays in everybody's way.
    ///
    /// # Errors
    /// When it is too large, or the transport is closed.
    pub async fn dead_letter(&self, topic: &str, mut letter: DeadLetter) -> Confirmed {
        self.put_out(&mut letter).await;
        let known = self.inner.dead.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned();
        let publisher = match known {
            Some(publisher) => publisher,
            None => {
                // Its subscription has to be there first, or the letter is gone with the next trim.
                if let Some(queue) = topic.strip_prefix("activity.").and_then(|name| name.strip_suffix(".dead")) {
                    tasks::set_up(&self.inner.transport, &QueueLane::of_queue(queue)).await?;
                }
                let publisher = self.inner.transport.publisher(topic, Default::default());
                let mut dead = self.inner.dead.lock().unwrap_or_else(PoisonError::into_inner);
                dead.entry(topic.to_owned()).or_insert(publisher).clone()
            }
        };
        match publisher.publish_until_confirmed(Message::new(None, encode(&letter))).await {
            Err(error) if error.kind() == ErrorKind::TooLarge && dead_letter::cut(&mut letter) => {
                publisher.publish_until_confirmed(Message::new(None, encode(&letter))).await
            }
            confirmed => confirmed,
        }
    }

    /// An answer, once.
    pub fn reply(&self, client: &str, mut reply: Reply) {
        if !self.has_large(&mut reply.body) {
            return self.inner.replies.send(client, reply);
        }
        let (outbox, client) = (self.clone(), client.to_owned());
        tokio::spawn(async move {
            outbox.put_out(&mut reply.body).await;
            outbox.inner.replies.send(&client, reply);
        });
    }

    /// Tells all activity workers, once, that nobody waits for these tasks any more.
    pub fn cancel_tasks(&self, tasks: Vec<EventId>) {
        let lane = self.inner.control.get_or_init(|| {
            let topic = self.inner.transport.non_persistent(topic::CONTROL);
            let publisher = self.inner.transport.publisher(&topic, Default::default());
            let encode = |ids: &[EventId]| encode(&Control { cancelled: ids.to_vec() });
            Lane::new(publisher, None, Limits::default(), |_| size_of::<EventId>() + 2, encode)
        });
        for task in tasks {
            // Dropped: nobody waits for it, and it leaves all the same.
            drop(lane.send(task));
        }
    }
}

impl Inner {
    fn lane(&self, shard: u32) -> &Lane<Event> {
        self.events[shard as usize].get_or_init(|| {
            let partitions = u32::try_from(self.inbox.len()).expect("it was made from a u32");
            let partition = shard::inbox_partition(shard, partitions);
            let publisher = self.inbox[partition as usize].get_or_init(|| {
                let options = PublisherOptions::default().leaving_room();
                self.transport.publisher(&topic::partition(topic::INBOX, partition), options)
            });
            let weigh = |event: &Event| event.body.0.len() + ENVELOPE_BYTES;
            let encode = move |events: &[Event]| encode(&InboxFrame { shard, events: events.to_vec() });
            Lane::new(publisher.clone(), Some(topic::shard_key(shard)), Limits::default(), weigh, encode)
        })
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("shards", &self.inner.shards).finish_non_exhaustive()
    }
}
