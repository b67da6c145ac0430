//! Publishes to one topic or partition, in the order of the calls, and says where each message was stored.
//!
//! ```text
//!   publish() ──► queue ──► task ──► crate producer ──► broker
//!      ▲                      │  ▲                        │
//!      └── position ◄─────────┘  └──── receipts ◄─────────┘
//! ```
//!
//! One task per publisher owns the producer; a message costs no task of ours. The crate resends over short breaks
//! under the same sequence ids. When it gives up, the producer is built anew under a fresh name: a name that is used
//! twice would make the broker take new messages for old ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpulse_protocol::Position;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use pulsar::{Producer, ProducerOptions, TokioExecutor};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::feed::{is_persistent, position_of};
use crate::link::{Connected, Endpoint, Link, call, units};
use crate::{Error, ErrorKind};

/// Pulsar's limit for a message is 5 MiB, metadata included.
const MESSAGE_BYTES_MAX: usize = 5 * 1024 * 1024 - 64 * 1024;
const CLOSE: Duration = Duration::from_secs(2);
/// How exactly messages that wait for a broker run out of time.
const TICK: Duration = Duration::from_millis(100);

/// What to publish.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub key: Option<String>,
    pub payload: Bytes,
    /// Not delivered before this time (of the broker's clock), on Shared and Key_Shared subscriptions.
    pub deliver_at_ms: Option<u64>,
}

impl Message {
    #[must_use]
    pub fn new(key: Option<String>, payload: impl Into<Bytes>) -> Self {
        Message { key, payload: payload.into(), deliver_at_ms: None }
    }
}

/// How a publisher behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublisherOptions {
    /// Larger messages are refused with [`ErrorKind::TooLarge`]. 5 MiB less 64 KiB.
    pub message_bytes_max: usize,
    /// How long [`Publisher::publish`] waits for a receipt. 10 s.
    pub timeout: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        PublisherOptions { message_bytes_max: MESSAGE_BYTES_MAX, timeout: Duration::from_secs(10) }
    }
}

impl PublisherOptions {
    /// For messages that become a part of others, which are to find room as well: 256 KiB less.
    #[must_use]
    pub fn leaving_room(mut self) -> Self {
        self.message_bytes_max = self.message_bytes_max.saturating_sub(256 * 1024);
        self
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Publishes to one topic. Clones share the producer; it is closed after the last of them, when all is sent.
#[derive(Clone, Debug)]
pub struct Publisher {
    commands: mpsc::UnboundedSender<Command>,
    topic: Arc<str>,
    options: PublisherOptions,
}

#[derive(Debug)]
struct Command {
    message: Message,
    /// None: until it is confirmed.
    deadline: Option<Instant>,
    receipt: oneshot::Sender<Receipt>,
}

type Receipt = Result<Option<Position>, Error>;

impl Publisher {
    pub(crate) fn new(link: Arc<Link>, topic: String, options: PublisherOptions) -> Self {
        let topic: Arc<str> = topic.into();
        let (commands, queue) = mpsc::unbounded_channel();
        let task = Task {
            topic: topic.clone(),
            endpoints: link.endpoints(),
            link,
            timeout: options.timeout,
            commands: queue,
            waiting: BTreeMap::new(),
            next: 0,
            producer: None,
            builds: 0,
            building: None,
            permit: None,
            acquiring: None,
            sent: BTreeMap::new(),
            in_flight: FuturesUnordered::new(),
            backoff: Backoff::new(),
        };
        tokio::spawn(task.run());
        Publisher { commands, topic, options }
    }

    /// The full name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Publishes once and resolves to the position. The order of the calls is the order in the topic; dropping the
    /// future does not take the message back.
    ///
    /// The position is `None` when the message is stored but the broker does not say where: it had it already (the
    /// crate sent it twice), or the topic is non-persistent.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`]; [`ErrorKind::Unreachable`] when it was not sent in time;
    /// [`ErrorKind::OutcomeUnknown`] when it was sent and no receipt came: it may be stored, also later.
    pub fn publish(&self, message: Message) -> impl Future<Output = Receipt> + Send + use<> {
        self.enqueue(message, Some(Instant::now() + self.options.timeout))
    }

    /// Publishes until there is a receipt, over any number of producers: at least once, for what its receiver
    /// recognises by an id. After a break the order may differ from that of the calls.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], and [`ErrorKind::Closed`] when the runtime shuts down; nothing else.
    pub fn publish_until_confirmed(&self, message: Message) -> impl Future<Output = Receipt> + Send + use<> {
        self.enqueue(message, None)
    }

    /// Whether a payload of this size can be published.
    #[must_use]
    pub fn fits(&self, bytes: usize) -> bool {
        bytes <= self.options.message_bytes_max
    }

    fn enqueue(&self, message: Message, deadline: Option<Instant>) -> impl Future<Output = Receipt> + Send + use<> {
        let (receipt, received) = oneshot::channel();
        let refused = if self.fits(message.payload.len()) {
            let command = Command { message, deadline, receipt };
            // The task outlives this handle unless the runtime is shut down.
            self.commands.send(command).err().map(|_| closed(&self.topic))
        } else {
            Some(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "a message of {} bytes for {} is larger than the limit of {} bytes; it was not sent",
                    message.payload.len(),
                    self.topic,
                    self.options.message_bytes_max
                ),
            ))
        };
        let topic = self.topic.clone();
        async move {
            match refused {
                Some(error) => Err(error),
                None => received.await.unwrap_or_else(|_| Err(closed(&topic))),
            }
        }
    }
}

fn closed(topic: &str) -> Error {
    Error::new(ErrorKind::Closed, format!("the publisher of {topic} is closed"))
}

struct Built {
    producer: Producer<TokioExecutor>,
    connected: Arc<Connected>,
}

/// Commands are numbered as they come, so that those which have to be sent again keep their place.
type Number = u64;

struct Task {
    topic: Arc<str>,
    link: Arc<Link>,
    endpoints: watch::Receiver<Endpoint>,
    timeout: Duration,
    commands: mpsc::UnboundedReceiver<Command>,
    waiting: BTreeMap<Number, Command>,
    next: Number,
    producer: Option<Built>,
    /// How many producers there were; the last one is the one that there is.
    builds: u64,
    building: Option<BoxFuture<'static, Result<Built, Error>>>,
    /// Room for the first that waits, and the way to get it.
    permit: Option<OwnedSemaphorePermit>,
    acquiring: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    sent: BTreeMap<Number, Command>,
    /// With the producer that sent it.
    in_flight: FuturesUnordered<BoxFuture<'static, (Number, u64, Receipt)>>,
    backoff: Backoff,
}

impl Task {
    async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut arrived = Vec::new();
        let mut open = true;
        while open || !self.waiting.is_empty() || !self.sent.is_empty() {
            self.send_waiting().await;
            tokio::select! {
                biased;
                Some((number, sender, receipt)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.settle(number, sender, receipt);
                }
                count = self.commands.recv_many(&mut arrived, 256), if open => {
                    open = count > 0;
                    for command in arrived.drain(..) {
                        self.waiting.insert(self.next, command);
                        self.next += 1;
                    }
                }
                built = pending_or(&mut self.building), if self.building.is_some() => {
                    self.building = None;
                    self.built(built);
                }
                permit = pending_or(&mut self.acquiring), if self.acquiring.is_some() => {
                    self.acquiring = None;
                    self.permit = permit;
                }
                Ok(()) = self.endpoints.changed() => self.abandon("the broker moved"),
                _ = tick.tick(), if !self.waiting.is_empty() => self.expire(),
            }
        }
        if let Some(Built { mut producer, .. }) = self.producer {
            // The crate closes it in the background if it takes longer.
            let _ = timeout(CLOSE, producer.close().boxed()).await;
        }
    }

    /// Hands what waits to the producer, as far as there is one and there is room.
    async fn send_waiting(&mut self) {
        while let Some((&number, first)) = self.waiting.first_key_value() {
            let Some(built) = &mut self.producer else {
                let (link, topic) = (self.link.clone(), self.topic.clone());
                self.building.get_or_insert_with(|| build(link, topic).boxed());
                return;
            };
            let room = units(first.message.payload.len());
            let permit = match self.permit.take().filter(|permit| permit.num_permits() >= room as usize) {
                Some(permit) => permit,
                None => match built.connected.sends.clone().try_acquire_many_owned(room) {
                    Ok(permit) => permit,
                    Err(_) => {
                        let sends = built.connected.sends.clone();
                        self.acquiring
                            .get_or_insert_with(|| async move { sends.acquire_many_owned(room).await.ok() }.boxed());
                        return;
                    }
                },
            };
            let Some(command) = self.waiting.remove(&number) else { return };
            let message = pulsar::producer::Message {
                // A copy: ours may have to be sent again, and the crate wants its own.
                payload: command.message.payload.to_vec(),
                partition_key: command.message.key.clone(),
                deliver_at_time: command.message.deliver_at_ms.map(|at| i64::try_from(at).unwrap_or(i64::MAX)),
                ..pulsar::producer::Message::default()
            };
            // It returns at once while the connection is good, and else within the crate's operation time-out,
            // except that a broker that moved is not waited for. Until it returns nothing was sent.
            let queued = tokio::select! {
                biased;
                queued = built.producer.send_non_blocking(message) => queued,
                Ok(()) = self.endpoints.changed() => {
                    self.waiting.insert(number, command);
                    self.abandon("the broker moved");
                    return;
                }
            };
            let deadline = command.deadline.unwrap_or_else(|| Instant::now() + self.timeout);
            self.sent.insert(number, command);
            match queued {
                Ok(receipt) => {
                    let (topic, sender) = (self.topic.clone(), self.builds);
                    self.in_flight.push(
                        async move {
                            let received = timeout_at(deadline, receipt).await;
                            drop(permit);
                            (number, sender, receipt_of(&topic, received))
                        }
                        .boxed(),
                    );
                }
                Err(error) => {
                    let attempt = format!("cannot publish to {}", self.topic);
                    self.settle(number, self.builds, Err(Error::from_pulsar(attempt, &error)));
                }
            }
        }
    }

    fn settle(&mut self, number: Number, sender: u64, receipt: Receipt) {
        let Some(command) = self.sent.remove(&number) else { return };
        let Err(error) = receipt else {
            self.backoff.reset();
            return answer(command, receipt);
        };
        // One that was built since has nothing to do with it.
        if sender == self.builds && self.producer.take().is_some() {
            tracing::debug!(topic = &*self.topic, %error, "producer is built anew");
            self.permit = None;
            self.acquiring = None;
            self.build_after_a_while();
        }
        match command.deadline {
            None => {
                self.waiting.insert(number, command);
            }
            Some(_) => answer(command, Err(error)),
        }
    }

    /// Gives up the producer and everything that it has in flight.
    fn abandon(&mut self, reason: &str) {
        self.producer = None;
        self.building = None;
        self.permit = None;
        self.acquiring = None;
        self.in_flight.clear();
        self.backoff.reset();
        for (number, command) in std::mem::take(&mut self.sent) {
            match command.deadline {
                None => {
                    self.waiting.insert(number, command);
                }
                Some(_) => answer(command, Err(unknown(&self.topic, reason))),
            }
        }
    }

    fn built(&mut self, built: Result<Built, Error>) {
        let error = match built {
            Ok(built) => {
                self.builds += 1;
                return self.producer = Some(built);
            }
            Err(error) => error,
        };
        tracing::debug!(topic = &*self.topic, %error, "no producer");
        if !error.is_passing() {
            // Waiting will not help those who wait for one receipt only.
            self.refuse(|command| command.deadline.is_some(), &error);
        }
        self.build_after_a_while();
    }

    fn build_after_a_while(&mut self) {
        let (link, topic, wait) = (self.link.clone(), self.topic.clone(), self.backoff.next());
        let building = async move {
            tokio::time::sleep(wait).await;
            build(link, topic).await
        };
        self.building = Some(building.boxed());
    }

    /// Answers those that waited too long for a producer or for room: they were not sent.
    fn expire(&mut self) {
        let now = Instant::now();
        let message = format!("publishing to {}: no broker took it in {:?}; it was not sent", self.topic, self.timeout);
        let error = Error::new(ErrorKind::Unreachable, message);
        self.refuse(|command| command.deadline.is_some_and(|deadline| deadline <= now), &error);
    }

    fn refuse(&mut self, which: impl Fn(&Command) -> bool, error: &Error) {
        for (_, command) in self.waiting.extract_if(.., |_, command| which(command)) {
            answer(command, Err(error.clone()));
        }
    }
}

fn answer(command: Command, receipt: Receipt) {
    // Whoever asked may have gone; the message stays sent.
    let _ = command.receipt.send(receipt);
}

fn unknown(topic: &str, reason: &str) -> Error {
    let message = format!("publishing to {topic}: {reason} before its receipt came; it may be stored");
    Error::new(ErrorKind::OutcomeUnknown, message)
}

type Received = Result<Result<pulsar::CommandSendReceipt, pulsar::Error>, tokio::time::error::Elapsed>;

fn receipt_of(topic: &str, received: Received) -> Receipt {
    match received {
        // Nothing is stored, whatever the receipt says.
        Ok(Ok(_)) if !is_persistent(topic) => Ok(None),
        Ok(Ok(receipt)) => Ok(receipt.message_id.as_ref().and_then(position_of)),
        Ok(Err(error)) => {
            let error = Error::from_pulsar(format!("publishing to {topic}"), &error);
            // It was on its way: only a refusal says that it is not stored.
            Err(if error.is_passing() { unknown(topic, &error.to_string()) } else { error })
        }
        Err(_) => Err(unknown(topic, "the time-out was over")),
    }
}

async fn pending_or<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn build(link: Arc<Link>, topic: Arc<str>) -> Result<Built, Error> {
    let connected = link.connected().await?;
    let built = connected
        .pulsar
        .producer()
        .with_topic(&*topic)
        .with_name(format!("everpulse-{}", uuid::Uuid::new_v4()))
        // Unbatched: a batch mixes keys, ignores delays, and is acked as one.
        .with_options(ProducerOptions::default())
        .build();
    match call(&format!("cannot publish to {topic}"), built).await {
        Ok(producer) => Ok(Built { producer, connected }),
        Err(error) => {
            if error.kind() == ErrorKind::Unreachable {
                link.discard(&connected);
            }
            Err(error)
        }
    }
}
