//! A subscription to one topic (or one partition, by name) that never ends: it rebuilds itself for ever, whatever
//! the crate's stream says last. Consumers, readers and the questions for the last position all stand on it.
//!
//! ```text
//!   next() ──► crate consumer ── Ok ─────────────► Incoming
//!                 │  Err, None, silence that fails a probe, a replay behind our position, the broker moved
//!                 └──► dropped, built again (back-off) at Earliest / after our own position / at the subscription
//! ```
//!
//! The crate's futures are tens of kilobytes each and are boxed here, so that callers' stay small.
//!
//! It owns no task: whoever has it polls it, always, because the crate's acks wait behind its messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use pulsar::consumer::{ConsumerOptions, InitialPosition};
use pulsar::proto::MessageIdData;
use pulsar::{Consumer, SubType, TokioExecutor};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use everpulse_protocol::Position;

use crate::backoff::Backoff;
use crate::link::{Connected, Endpoint, Link, OPERATION, call};
use crate::{Error, ErrorKind};

/// A feed that hears nothing for this long asks the broker whether it still knows it...
const PROBE_AFTER: Duration = Duration::from_secs(4);
/// ... and is rebuilt on a new connection when no answer comes in this time.
const PROBE: Duration = Duration::from_secs(3);
const CLOSE: Duration = Duration::from_secs(2);

/// What to subscribe to.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// The full name; of a partitioned topic one partition.
    pub topic: String,
    pub subscription: String,
    pub kind: SubType,
    pub consumer_name: String,
    /// How many messages may wait here; about half as many again may be on their way.
    pub queue: u32,
    pub start: Start,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// A durable subscription: it knows itself where it stands; a new one starts at the earliest message.
    Subscription,
    /// Not durable, from the earliest message on; rebuilt after the last position that was seen.
    Earliest,
    /// Not durable, after this position; rebuilt after the last position that was seen.
    After(Position),
    /// Not durable, only what comes from now on.
    Latest,
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub position: Position,
    pub key: Option<String>,
    pub payload: Bytes,
    pub publish_time_ms: u64,
}

type CrateConsumer = Consumer<Raw, TokioExecutor>;

/// Leaves payloads alone.
pub(crate) struct Raw;

impl pulsar::DeserializeMessage for Raw {
    type Output = ();

    fn deserialize_message(_: &pulsar::Payload) {}
}

struct Live {
    consumer: CrateConsumer,
    connected: Arc<Connected>,
    /// What this consumer gave last.
    last: Option<Position>,
}

pub(crate) struct Feed {
    link: Arc<Link>,
    endpoints: watch::Receiver<Endpoint>,
    spec: Spec,
    persistent: bool,
    live: Option<Live>,
    building: Option<BoxFuture<'static, Result<Live, Error>>>,
    backoff: Backoff,
    /// Came while something else was asked.
    buffer: VecDeque<pulsar::consumer::Message<Raw>>,
    /// The furthest position that was given out.
    seen: Option<Position>,
    /// Acks that wait for a consumer to carry them.
    acks: Vec<(Position, Reply)>,
    heard: Instant,
    builds: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Ack,
    Nack,
}

impl Feed {
    pub fn new(link: Arc<Link>, spec: Spec) -> Self {
        let seen = match spec.start {
            Start::After(position) => Some(position),
            _ => None,
        };
        Feed {
            endpoints: link.endpoints(),
            link,
            persistent: is_persistent(&spec.topic),
            spec,
            live: None,
            building: None,
            backoff: Backoff::new(),
            buffer: VecDeque::new(),
            seen,
            acks: Vec::new(),
            heard: Instant::now(),
            builds: 0,
        }
    }

    pub fn topic(&self) -> &str {
        &self.spec.topic
    }

    /// The furthest position that was given out.
    pub fn seen(&self) -> Option<Position> {
        self.seen
    }

    /// How often it was built again; 0 while the first one lives.
    pub fn rebuilt(&self) -> u64 {
        self.builds.saturating_sub(1)
    }

    /// One attempt to be connected, with the reason when it fails.
    ///
    /// Cancel safe: the attempt goes on at the next call.
    pub async fn open(&mut self) -> Result<(), Error> {
        self.leave_abandoned();
        if self.live.is_some() {
            return Ok(());
        }
        let start = self.start();
        let building = self.building.get_or_insert_with(|| {
            let mut spec = Spec { start, ..self.spec.clone() };
            // The broker may hold the one before for alive, and then the name is taken.
            if !matches!(start, Start::Subscription) {
                spec.subscription = format!("reader-{}", uuid::Uuid::new_v4());
            } else if !self.persistent && self.spec.kind == SubType::Exclusive {
                // Nothing is kept under the name, so any will do.
                spec.subscription = format!("{}-{}", spec.subscription, uuid::Uuid::new_v4());
            }
            build(self.link.clone(), spec).boxed()
        });
        let built = building.await;
        self.building = None;
        self.live = Some(built?);
        self.builds += 1;
        self.heard = Instant::now();
        for (position, reply) in std::mem::take(&mut self.acks) {
            self.reply(position, reply).await;
        }
        Ok(())
    }

    /// The next message, however long it takes and whatever happens meanwhile.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Incoming {
        loop {
            if let Some(message) = self.buffer.pop_front() {
                if let Some(incoming) = self.accept(message) {
                    return incoming;
                }
                continue;
            }
            self.leave_abandoned();
            self.ensure_open().await;
            let probe_at = self.heard + PROBE_AFTER;
            let Some(live) = &mut self.live else { continue };
            tokio::select! {
                biased;
                () = live.connected.abandoned() => {}
                item = live.consumer.next() => match item {
                    Some(Ok(message)) => {
                        self.heard = Instant::now();
                        self.backoff.reset();
                        if let Some(incoming) = self.accept(message) {
                            return incoming;
                        }
                    }
                    // Either can be the crate's last word.
                    Some(Err(error)) => self.drop_live(&error.to_string()),
                    None => self.drop_live("the stream ended"),
                },
                Ok(()) = self.endpoints.changed() => self.drop_live("the broker moved"),
                () = sleep_until(probe_at) => self.probe().await,
            }
        }
    }

    /// Leaves a connection that everybody has to leave, when that is so: for whoever takes no messages just now.
    ///
    /// Cancel safe.
    pub async fn abandoned(&mut self) {
        match &self.live {
            Some(live) => live.connected.abandoned().await,
            None => std::future::pending().await,
        }
        self.leave_abandoned();
    }

    /// Sends an ack or a nack on its way, or keeps it until there is a consumer again. Both are hints.
    pub async fn reply(&mut self, position: Position, reply: Reply) {
        let Some(live) = &mut self.live else {
            self.acks.push((position, reply));
            return;
        };
        let id = message_id(position);
        let topic = self.spec.topic.as_str();
        let sent = match reply {
            Reply::Ack => live.consumer.ack_with_id(topic, id).await,
            Reply::Nack => live.consumer.nack_with_id(topic, id).await,
        };
        if let Err(error) = sent {
            self.acks.push((position, reply));
            self.drop_live(&error.to_string());
        }
    }

    /// The position of the topic's last message, asked now; none when the topic is empty.
    ///
    /// Tries again on new connections until `until`.
    pub async fn last(&mut self, until: Instant) -> Result<Option<Position>, Error> {
        loop {
            let error = match self.ask_last().await {
                Ok(last) => return Ok(last),
                Err(error) => error,
            };
            if !error.is_passing() || Instant::now() >= until {
                return Err(error);
            }
            sleep(self.backoff.next()).await;
        }
    }

    async fn ask_last(&mut self) -> Result<Option<Position>, Error> {
        self.open().await?;
        for _ in 0..3 {
            let Some(live) = &mut self.live else { break };
            match timeout(PROBE / 3, live.consumer.get_last_message_id().boxed()).await {
                Ok(Ok(ids)) => return Ok(ids.first().and_then(position_of)),
                Ok(Err(error)) => {
                    let attempt = format!("cannot ask for the last position of {}", self.spec.topic);
                    let error = Error::from_pulsar(attempt, &error);
                    self.drop_live(&error.to_string());
                    return Err(error);
                }
                // The crate answers after the messages that wait before the question.
                Err(_) => self.take_ready(),
            }
        }
        self.discard_connection();
        self.drop_live("no answer");
        let message = format!("cannot ask for the last position of {}: no answer in {PROBE:?}", self.spec.topic);
        Err(Error::new(ErrorKind::Unreachable, message))
    }

    /// Leaves the subscription, acks first.
    pub async fn close(mut self) {
        let until = Instant::now() + CLOSE;
        while let Some(live) = &mut self.live {
            match timeout(CLOSE / 8, live.consumer.close().boxed()).await {
                Ok(_) => return,
                // The close waits behind messages: make room, their positions are not acked.
                Err(_) if Instant::now() < until => {
                    self.take_ready();
                    self.buffer.clear();
                }
                Err(_) => return,
            }
        }
    }

    async fn ensure_open(&mut self) {
        while self.live.is_none() {
            if let Err(error) = self.open().await {
                let wait = self.backoff.next();
                tracing::debug!(topic = self.spec.topic, %error, ?wait, "subscription is down");
                tokio::select! {
                    () = sleep(wait) => {}
                    // A new broker need not wait for the old one's back-off.
                    Ok(()) = self.endpoints.changed() => self.backoff.reset(),
                }
            }
        }
    }

    /// Asks the broker something that it only answers while it knows this consumer.
    async fn probe(&mut self) {
        self.heard = Instant::now();
        // Non-persistent topics have no last position to ask for.
        if !self.persistent {
            return;
        }
        let Some(live) = &mut self.live else { return };
        match timeout(PROBE, live.consumer.get_last_message_id().boxed()).await {
            Ok(Ok(_)) => self.backoff.reset(),
            Ok(Err(error)) => self.drop_live(&error.to_string()),
            Err(_) => {
                self.take_ready();
                // Messages came instead of the answer: it lives.
                if self.buffer.is_empty() && self.live.is_some() {
                    self.discard_connection();
                    self.drop_live("it does not answer");
                }
            }
        }
    }

    fn take_ready(&mut self) {
        let Some(live) = &mut self.live else { return };
        let mut end = None;
        while let Some(item) = live.consumer.next().now_or_never() {
            match item {
                Some(Ok(message)) => self.buffer.push_back(message),
                Some(Err(error)) => end = Some(error.to_string()),
                None => end = Some("the stream ended".to_owned()),
            }
            if end.is_some() {
                break;
            }
        }
        if let Some(reason) = end {
            self.drop_live(&reason);
        }
    }

    fn accept(&mut self, message: pulsar::consumer::Message<Raw>) -> Option<Incoming> {
        let position = match position_of(message.message_id()) {
            Some(position) if self.persistent => position,
            // Nothing is stored, so there is nothing to compare with.
            _ => return Some(incoming(Position { ledger: 0, entry: 0 }, message)),
        };
        let live_last = self.live.as_mut().and_then(|live| live.last.replace(position));
        if self.reads() && self.seen.is_some_and(|seen| position <= seen) {
            // A broker may begin with the very message that it was asked to begin after. But one that comes behind
            // another says that the crate resubscribed at its first position: begin again behind ours instead of
            // reading all that once more.
            if live_last.is_some_and(|last| position <= last) {
                self.buffer.clear();
                self.drop_live("it started over");
            }
            return None;
        }
        self.seen = self.seen.max(Some(position));
        Some(incoming(position, message))
    }

    fn reads(&self) -> bool {
        matches!(self.spec.start, Start::Earliest | Start::After(_))
    }

    /// Where a consumer that is built now begins.
    fn start(&self) -> Start {
        match (self.spec.start, self.seen) {
            (Start::Earliest | Start::After(_), Some(seen)) => Start::After(seen),
            (start, _) => start,
        }
    }

    fn leave_abandoned(&mut self) {
        if self.live.as_ref().is_some_and(|live| live.connected.is_abandoned()) {
            self.drop_live("its connection is given up");
        }
    }

    fn drop_live(&mut self, reason: &str) {
        if self.live.take().is_some() {
            tracing::debug!(topic = self.spec.topic, reason, "subscription is rebuilt");
        }
    }

    fn discard_connection(&self) {
        if let Some(live) = &self.live {
            self.link.discard(&live.connected);
        }
    }
}

async fn build(link: Arc<Link>, spec: Spec) -> Result<Live, Error> {
    let connected = link.connected().await?;
    let mut options = ConsumerOptions::default()
        .with_receiver_queue_size(spec.queue)
        .durable(matches!(spec.start, Start::Subscription) && is_persistent(&spec.topic))
        .with_initial_position(InitialPosition::Earliest);
    match spec.start {
        Start::Subscription | Start::Earliest => {}
        Start::After(position) => options = options.starting_on_message(message_id(position)),
        Start::Latest => options = options.with_initial_position(InitialPosition::Latest),
    }
    let attempt = format!("cannot subscribe to {} as {}", spec.topic, spec.subscription);
    let building = connected
        .pulsar
        .consumer()
        .with_topic(&spec.topic)
        .with_subscription(&spec.subscription)
        .with_subscription_type(spec.kind)
        .with_consumer_name(&spec.consumer_name)
        .with_batch_size(spec.queue)
        .with_options(options)
        .build::<Raw>();
    // A reader's subscription has a name of its own, so what is left of it takes nothing from anybody.
    let shared = matches!(spec.start, Start::Subscription) && is_persistent(&spec.topic);
    let (on, its_link) = (connected.clone(), link.clone());
    let built = async move {
        let began = Instant::now();
        let built = building.await;
        // Only here, where it is never dropped half-way, is it known what the crate gave up.
        if shared && built.is_err() && began.elapsed() >= OPERATION {
            its_link.abandon(&on);
        }
        built
    };
    match call(&attempt, built).await {
        Ok(consumer) => Ok(Live { consumer, connected, last: None }),
        Err(error) => {
            if error.kind() == ErrorKind::Unreachable {
                link.discard(&connected);
            }
            Err(error)
        }
    }
}

fn incoming(position: Position, message: pulsar::consumer::Message<Raw>) -> Incoming {
    let pulsar::Payload { metadata, data } = message.payload;
    Incoming {
        position,
        key: metadata.partition_key,
        payload: Bytes::from(data),
        publish_time_ms: metadata.publish_time,
    }
}

pub(crate) fn message_id(position: Position) -> MessageIdData {
    MessageIdData { ledger_id: position.ledger, entry_id: position.entry, ..MessageIdData::default() }
}

pub(crate) fn is_persistent(topic: &str) -> bool {
    !topic.starts_with("non-persistent://")
}

/// `-1` stands for "none" in either part.
pub(crate) fn position_of(id: &MessageIdData) -> Option<Position> {
    let known = id.ledger_id != u64::MAX && id.entry_id != u64::MAX;
    known.then_some(Position { ledger: id.ledger_id, entry: id.entry_id })
}
