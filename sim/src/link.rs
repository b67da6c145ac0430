//! The transport, played: one connection of a process with its producers, consumers and readers, which are built again
//! whenever they are gone. What `everpulse-transport` promises is promised here, and no more: what is published until it
//! is confirmed may be stored twice, what is published once may be stored although nobody says so, deliveries can be
//! double and late, and an ack is a hint.
//!
//! The time-outs are its own; the code of the transport itself is bound to sockets and is not run here.

mod consuming;
mod producing;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use everpulse_broker::semantics::{ConnectionId, Kind};
use everpulse_protocol::Position;

use crate::lanes::Part;
use crate::party::Ctx;
use crate::wire::{Act, Again, Down, Heard, Timer};

/// A message without a receipt for so long is sent by another producer, or given up.
const OVERDUE_MS: u64 = 10_000;
const BACKOFF_MS_MIN: u64 = 20;
const BACKOFF_MS_MAX: u64 = 3_000;
/// What could not be had is asked for again after this.
const AGAIN_MS: u64 = 200;
const READER_PERMITS: u32 = 200;
/// A read that is not at its end after this asks again where that is: it may have been trimmed away.
const SILENCE_MS: u64 = 1_000;
/// Before all positions: ledgers begin at 1.
const START: Position = Position { ledger: 0, entry: 0 };

/// What a process hears of what it asked for, with its own words (`T`) for that.
#[derive(Debug)]
pub enum News<T> {
    /// An error: the outcome is open.
    Published {
        tag: T,
        receipt: Result<Option<Position>, ()>,
    },
    /// The frame of a lane has its receipt: the next one may leave.
    Landed(Lane),
    Delivered {
        consumer: u64,
        position: Position,
        payload: Bytes,
    },
    Tail {
        tag: T,
        position: Option<Position>,
    },
    Read {
        tag: T,
        entries: Vec<(Position, Bytes)>,
    },
}

/// What is to be published.
#[derive(Debug)]
pub struct Parcel<T> {
    pub tags: Vec<T>,
    pub key: Option<String>,
    pub payload: Bytes,
    pub deliver_at: Option<u64>,
    /// It is given up when no receipt comes in time.
    pub once: bool,
    pub lane: Option<Lane>,
}

/// What shares frames: one leaves when the one before it has its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Shard(u32),
    Tasks(Part),
    /// That a lane is in use.
    Opened(Part),
}

#[derive(Debug)]
struct Publisher<T> {
    producer_id: u64,
    name: String,
    epoch: u64,
    /// Which producer under fresh names this is.
    serial: u64,
    state: State,
    next: u64,
    next_sequence: u64,
    waiting: BTreeMap<u64, Parcel<T>>,
    /// By sequence id, with the number.
    sent: BTreeMap<u64, (u64, Parcel<T>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Gone,
    Asked,
    Ready,
}

#[derive(Debug)]
struct Consumer<T> {
    topic: String,
    subscription: String,
    kind: Kind,
    permits: u32,
    state: State,
    acks: Vec<Position>,
    /// It wants nothing more.
    paused: bool,
    role: Role<T>,
}

#[derive(Debug)]
enum Role<T> {
    Deliver {
        durable: bool,
        /// It hears what is there already, too.
        all: bool,
    },
    /// Answers where a topic ends: those that wait, and those that the question on its way is for.
    Tail { waiting: Vec<T>, asked: Vec<T> },
    Read {
        tag: T,
        seen: Option<Position>,
        to: Option<Position>,
        end: Option<Position>,
        entries: Vec<(Position, Bytes)>,
    },
}

#[derive(Debug)]
enum Request {
    Producer(String),
    Consumer(u64),
    Last(u64),
}

#[derive(Debug)]
pub struct Link<T> {
    /// Of this process, never used again.
    name: String,
    connection: Option<ConnectionId>,
    connecting: bool,
    backoff_ms: u64,
    next: u64,
    publishers: BTreeMap<String, Publisher<T>>,
    consumers: BTreeMap<u64, Consumer<T>>,
    tails: BTreeMap<String, u64>,
    requests: BTreeMap<u64, Request>,
    news: VecDeque<News<T>>,
}

impl<T: Clone> Link<T> {
    pub fn new(name: String) -> Self {
        Self {
            name,
            connection: None,
            connecting: false,
            backoff_ms: BACKOFF_MS_MIN,
            next: 0,
            publishers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            tails: BTreeMap::new(),
            requests: BTreeMap::new(),
            news: VecDeque::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn news(&mut self) -> Option<News<T>> {
        self.news.pop_front()
    }

    /// Whether nothing waits for a receipt.
    pub fn is_idle(&self) -> bool {
        self.publishers.values().all(|publisher| publisher.waiting.is_empty() && publisher.sent.is_empty())
    }

    fn connect(&mut self, ctx: &mut Ctx<'_>) {
        if self.connection.is_none() && !std::mem::replace(&mut self.connecting, true) {
            ctx.acts.push(Act::Connect);
        }
    }

    fn later(&mut self, ctx: &mut Ctx<'_>) {
        let wait = ctx.dice.within(self.backoff_ms / 2, self.backoff_ms);
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS_MAX);
        self.connecting = true;
        ctx.remind(wait, Timer::Reconnect);
    }

    /// Takes what concerns the link; gives back what does not.
    pub fn handle(&mut self, heard: Heard, ctx: &mut Ctx<'_>) -> Option<Heard> {
        match heard {
            Heard::Connected(connection) => {
                self.connecting = false;
                self.backoff_ms = BACKOFF_MS_MIN;
                self.connection = Some(connection);
                let topics: Vec<String> = self.publishers.keys().cloned().collect();
                for topic in topics {
                    let publisher = &self.publishers[&topic];
                    if !publisher.waiting.is_empty() || !publisher.sent.is_empty() {
                        self.pump(&topic, ctx);
                    }
                }
                let consumers: Vec<u64> = self.consumers.keys().copied().collect();
                for id in consumers {
                    self.open(id, ctx);
                }
            }
            Heard::Unreachable => self.later(ctx),
            Heard::Cut(connection) if self.connection == Some(connection) => self.cut(ctx),
            Heard::Cut(_) => {}
            Heard::Message(connection, down) if self.connection == Some(connection) => self.message(down, ctx),
            Heard::Message(..) => {}
            Heard::Timer(Timer::Reconnect) => {
                self.connecting = false;
                self.connect(ctx);
            }
            Heard::Timer(Timer::Again(Again::Producer(topic))) => self.pump(&topic, ctx),
            Heard::Timer(Timer::Again(Again::Consumer(id))) => self.open(id, ctx),
            Heard::Timer(Timer::Silent(id)) => self.ask_last(id, ctx),
            Heard::Timer(Timer::Overdue { topic, number, serial }) => self.overdue(&topic, number, serial, ctx),
            other => return Some(other),
        }
        None
    }

    /// The connection is gone. Most often the producers come back under their names and send again under the same
    /// sequence ids; now and then they give up, and others take their place.
    fn cut(&mut self, ctx: &mut Ctx<'_>) {
        self.connection = None;
        self.requests.clear();
        let topics: Vec<String> = self.publishers.keys().cloned().collect();
        for topic in topics {
            if let Some(publisher) = self.publishers.get_mut(&topic) {
                publisher.state = State::Gone;
                publisher.epoch += 1;
            }
            if ctx.dice.percent(30) {
                self.renew(&topic, ctx);
            }
        }
        for consumer in self.consumers.values_mut() {
            consumer.state = State::Gone;
            match &mut consumer.role {
                Role::Tail { waiting, asked } => waiting.append(asked),
                Role::Read { end, .. } => *end = None,
                Role::Deliver { .. } => {}
            }
        }
        self.later(ctx);
    }

    fn message(&mut self, down: Down, ctx: &mut Ctx<'_>) {
        match down {
            Down::Success { request_id } => {
                if let Some(Request::Consumer(id)) = self.requests.remove(&request_id) {
                    self.opened(id, ctx);
                }
            }
            Down::ProducerReady { request_id } => {
                if let Some(Request::Producer(topic)) = self.requests.remove(&request_id) {
                    self.produces(&topic, ctx);
                }
            }
            Down::Refused { request_id } => match self.requests.remove(&request_id) {
                Some(Request::Producer(topic)) => {
                    if let Some(publisher) = self.publishers.get_mut(&topic) {
                        publisher.state = State::Gone;
                    }
                    ctx.remind(AGAIN_MS, Timer::Again(Again::Producer(topic)));
                }
                Some(Request::Consumer(id) | Request::Last(id)) => self.lost(id, ctx),
                None => {}
            },
            Down::ProducerClosed { producer_id } => {
                let closed = self.publishers.iter().find(|(_, publisher)| publisher.producer_id == producer_id);
                if let Some(topic) = closed.map(|(topic, _)| topic.clone()) {
                    self.renew(&topic, ctx);
                }
            }
            Down::ConsumerClosed { consumer_id } => self.lost(consumer_id, ctx),
            Down::Receipt { producer_id, sequence_id, position } => {
                let publisher = self.publishers.values_mut().find(|publisher| publisher.producer_id == producer_id);
                if let Some((_, parcel)) = publisher.and_then(|publisher| publisher.sent.remove(&sequence_id)) {
                    let receipt = Ok(position);
                    self.news.extend(parcel.lane.map(News::Landed));
                    self.news.extend(parcel.tags.into_iter().map(|tag| News::Published { tag, receipt }));
                }
            }
            Down::SendError { producer_id } => {
                let failed = self.publishers.iter().find(|(_, publisher)| publisher.producer_id == producer_id);
                if let Some(topic) = failed.map(|(topic, _)| topic.clone()) {
                    self.renew(&topic, ctx);
                }
            }
            Down::Deliver { consumer_id, position, payload } => {
                self.delivered(consumer_id, position, payload, ctx);
            }
            Down::Last { request_id, position } => {
                if let Some(Request::Last(id)) = self.requests.remove(&request_id) {
                    self.last(id, position, ctx);
                }
            }
        }
    }
}
