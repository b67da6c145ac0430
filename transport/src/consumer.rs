//! Messages of a subscription, from all partitions of its topic, for ever; acks without waiting.
//!
//! ```text
//!   partition 0 ─ task, Feed ─┐                        ┌─ recv()
//!   partition 1 ─ task, Feed ─┼── bounded queue ───────┘
//!        ▲                    ┘
//!        └── acks, one unbounded queue per partition ◄── Acker (clones)
//! ```
//!
//! One task per partition instead of the crate's own consumer of several topics: a partition that is down does not
//! disturb the others, and each is rebuilt alone.
//!
//! What a caller must know: deliveries can be late, double, and of messages that others have handled; an ack is a
//! hint. While nobody receives, the queue is full, and acks wait behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use everpulse_protocol::Position;
use pulsar::SubType;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::feed::{Feed, Incoming, Reply, Spec, Start};
use crate::link::{Link, call};
use crate::{Error, ErrorKind};

/// How messages are shared among the consumers of a subscription.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SubscriptionKind {
    /// One consumer; a second one waits until the first is gone.
    Exclusive,
    /// Any message to any consumer.
    Shared,
    /// All messages of a key to one consumer.
    KeyShared,
}

/// What to subscribe to, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Subscription {
    /// A topic's short name, of a partitioned one without the partition; or a full name.
    pub topic: String,
    /// The subscription's name.
    pub name: String,
    pub kind: SubscriptionKind,
    /// How many messages may wait here per partition; up to twice as many are kept from other consumers. 64.
    pub queue: u32,
    /// The consumer's name, by which Key_Shared spreads the keys. Fresh by default.
    pub consumer_name: Option<String>,
    /// How long the first subscription is tried. 15 s.
    pub timeout: Duration,
}

impl Subscription {
    #[must_use]
    pub fn new(topic: impl Into<String>, name: impl Into<String>, kind: SubscriptionKind) -> Self {
        Subscription {
            topic: topic.into(),
            name: name.into(),
            kind,
            queue: 64,
            consumer_name: None,
            timeout: Duration::from_secs(15),
        }
    }

    #[must_use]
    pub fn queue(mut self, queue: u32) -> Self {
        self.queue = queue.max(1);
        self
    }

    #[must_use]
    pub fn consumer_name(mut self, name: impl Into<String>) -> Self {
        self.consumer_name = Some(name.into());
        self
    }
}

/// One message for this consumer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The full name of the topic it came from; of a partitioned topic the partition's.
    pub topic: Arc<str>,
    /// 0 for a topic without partitions.
    pub partition: u32,
    pub position: Position,
    pub key: Option<String>,
    pub payload: Bytes,
    /// The publisher's clock.
    pub publish_time_ms: u64,
    /// What to ack it with.
    pub token: AckToken,
}

/// Names a message for its ack.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AckToken {
    pub partition: u32,
    pub position: Position,
}

/// Receives the messages of a subscription. Dropping it leaves the subscription; what was not acked goes to others.
#[derive(Debug)]
pub struct Consumer {
    deliveries: mpsc::Receiver<Delivery>,
    acker: Acker,
    rebuilt: Arc<AtomicU64>,
}

/// Sends acks from anywhere.
#[derive(Clone, Debug)]
pub struct Acker {
    partitions: Arc<[mpsc::UnboundedSender<Command>]>,
}

#[derive(Debug)]
enum Command {
    Reply(Position, Reply),
    Close(oneshot::Sender<()>),
}

impl Consumer {
    /// The next message. It never ends: whatever breaks is built again.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when it is dropped.
    pub async fn recv(&mut self) -> Delivery {
        match self.deliveries.recv().await {
            Some(delivery) => delivery,
            // Only while the runtime shuts down; there is nothing to say to anybody any more.
            None => std::future::pending().await,
        }
    }

    /// The next message, for whoever polls several consumers.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Delivery> {
        match self.deliveries.poll_recv(context) {
            Poll::Ready(Some(delivery)) => Poll::Ready(delivery),
            // None: as in `recv`.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// What is here already, without waiting.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        self.deliveries.try_recv().ok()
    }

    /// How many messages are here already.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.deliveries.len()
    }

    /// A handle that acks; it works also after connections were rebuilt.
    #[must_use]
    pub fn acker(&self) -> Acker {
        self.acker.clone()
    }

    /// How often a partition's subscription was built again. What came before may come once more.
    #[must_use]
    pub fn rebuilt(&self) -> u64 {
        self.rebuilt.load(Ordering::Relaxed)
    }

    /// Leaves the subscription after the acks that were given before, within about three seconds.
    pub async fn close(self) {
        let Consumer { deliveries, acker, .. } = self;
        // Nobody waits for room in the queue any more.
        drop(deliveries);
        let closing = acker.partitions.iter().map(|partition| {
            let (done, closed) = oneshot::channel();
            let told = partition.send(Command::Close(done));
            async move {
                if told.is_ok() {
                    // An error only says that the task has ended already.
                    let _ = closed.await;
                }
            }
        });
        let _ = tokio::time::timeout(Duration::from_secs(3), futures::future::join_all(closing)).await;
    }
}

impl Acker {
    /// Acks a message. Does not wait; a message whose ack is lost comes again.
    pub fn ack(&self, token: AckToken) {
        self.send(token, Reply::Ack);
    }

    /// Asks for a message again, at once and from any consumer.
    pub fn nack(&self, token: AckToken) {
        self.send(token, Reply::Nack);
    }

    fn send(&self, token: AckToken, reply: Reply) {
        if let Some(partition) = self.partitions.get(token.partition as usize) {
            // A closed consumer acks no more; the message comes again.
            let _ = partition.send(Command::Reply(token.position, reply));
        }
    }
}

/// Subscribes to all partitions of `topic` (a full name) and returns when each of them is subscribed.
pub(crate) async fn subscribe(link: Arc<Link>, topic: String, subscription: Subscription) -> Result<Consumer, Error> {
    let until = Instant::now() + subscription.timeout;
    let count = partitions(&link, &topic, until).await?;
    let names: Vec<String> = match count {
        0 => vec![topic],
        _ => (0..count).map(|partition| everpulse_protocol::topic::partition(&topic, partition)).collect(),
    };
    let consumer_name =
        subscription.consumer_name.clone().unwrap_or_else(|| format!("everpulse-{}", uuid::Uuid::new_v4()));
    let queue = (subscription.queue as usize).saturating_mul(names.len());
    let (deliver, deliveries) = mpsc::channel(queue.max(1));
    let rebuilt = Arc::new(AtomicU64::new(0));
    let mut opening = Vec::new();
    let mut partitions = Vec::new();
    for (partition, topic) in (0u32..).zip(names) {
        let spec = Spec {
            topic,
            subscription: subscription.name.clone(),
            kind: match subscription.kind {
                SubscriptionKind::Exclusive => SubType::Exclusive,
                SubscriptionKind::Shared => SubType::Shared,
                SubscriptionKind::KeyShared => SubType::KeyShared,
            },
            consumer_name: consumer_name.clone(),
            queue: subscription.queue,
            start: Start::Subscription,
        };
        let (command, commands) = mpsc::unbounded_channel();
        let (opened, first) = oneshot::channel();
        let task = Task {
            partition,
            topic: spec.topic.as_str().into(),
            feed: Feed::new(link.clone(), spec),
            deliver: deliver.clone(),
            commands,
            rebuilt: rebuilt.clone(),
        };
        tokio::spawn(task.run(opened, until));
        partitions.push(command);
        opening.push(first);
    }
    for first in opening {
        first.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime is shutting down")))?;
    }
    Ok(Consumer { deliveries, acker: Acker { partitions: partitions.into() }, rebuilt })
}

/// How many partitions a topic has; 0 for one without.
pub(crate) async fn partitions(link: &Arc<Link>, topic: &str, until: Instant) -> Result<u32, Error> {
    let mut backoff = Backoff::new();
    loop {
        let error = match ask_partitions(link, topic).await {
            Ok(count) => return Ok(count),
            Err(error) => error,
        };
        if !error.is_passing() || Instant::now() >= until {
            return Err(error);
        }
        sleep(backoff.next()).await;
    }
}

async fn ask_partitions(link: &Arc<Link>, topic: &str) -> Result<u32, Error> {
    let connected = link.connected().await?;
    let pulsar = connected.pulsar.clone();
    let name = topic.to_owned();
    let asked = async move { pulsar.lookup_partitioned_topic_number(name).await };
    match call(&format!("cannot ask for the partitions of {topic}"), asked).await {
        Ok(count) => Ok(count),
        // Pulsar 4 says so when nobody has made the topic yet.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => {
            if error.kind() == ErrorKind::Unreachable {
                link.discard(&connected);
            }
            Err(error)
        }
    }
}

struct Task {
    partition: u32,
    topic: Arc<str>,
    feed: Feed,
    deliver: mpsc::Sender<Delivery>,
    commands: mpsc::UnboundedReceiver<Command>,
    rebuilt: Arc<AtomicU64>,
}

impl Task {
    async fn run(mut self, opened: oneshot::Sender<Result<(), Error>>, until: Instant) {
        let first = self.open(until).await;
        let failed = first.is_err();
        if opened.send(first).is_err() || failed {
            return;
        }
        let deliver = self.deliver.clone();
        let mut room = None;
        let mut commands = Vec::new();
        let mut counted = 0;
        loop {
            tokio::select! {
                biased;
                count = self.commands.recv_many(&mut commands, 256) => {
                    if count == 0 {
                        // All ackers and the consumer are gone.
                        return self.feed.close().await;
                    }
                    for command in commands.drain(..) {
                        match command {
                            Command::Reply(position, reply) => self.feed.reply(position, reply).await,
                            Command::Close(done) => {
                                self.feed.close().await;
                                // The closer may have run out of patience.
                                let _ = done.send(());
                                return;
                            }
                        }
                    }
                }
                () = deliver.closed() => return self.drain().await,
                Ok(permit) = deliver.reserve(), if room.is_none() => room = Some(permit),
                incoming = next(&mut self.feed, room.is_some()) => {
                    if let Some((incoming, permit)) = incoming.zip(room.take()) {
                        permit.send(delivery(self.partition, &self.topic, incoming));
                    }
                }
            }
            let rebuilt = self.feed.rebuilt();
            if rebuilt > counted {
                self.rebuilt.fetch_add(rebuilt - counted, Ordering::Relaxed);
                counted = rebuilt;
            }
        }
    }

    async fn open(&mut self, until: Instant) -> Result<(), Error> {
        let mut backoff = Backoff::new();
        loop {
            let error = match self.feed.open().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_passing() || Instant::now() >= until || self.deliver.is_closed() {
                return Err(error);
            }
            sleep(backoff.next()).await;
        }
    }

    /// The consumer was dropped: what was acked before that still counts, nothing after it.
    async fn drain(mut self) {
        let mut closed = None;
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Reply(position, reply) => self.feed.reply(position, reply).await,
                Command::Close(done) => closed = Some(done),
            }
        }
        self.feed.close().await;
        if let Some(done) = closed {
            // The closer may have run out of patience.
            let _ = done.send(());
        }
    }
}

/// The next message where there is room for it. Also without room it leaves a connection that everybody has to leave.
///
/// Cancel safe.
async fn next(feed: &mut Feed, room: bool) -> Option<Incoming> {
    if room {
        return Some(feed.next().await);
    }
    feed.abandoned().await;
    None
}

fn delivery(partition: u32, topic: &Arc<str>, incoming: Incoming) -> Delivery {
    Delivery {
        topic: topic.clone(),
        partition,
        position: incoming.position,
        key: incoming.key,
        payload: incoming.payload,
        publish_time_ms: incoming.publish_time_ms,
        token: AckToken { partition, position: incoming.position },
    }
}
