//! The transport, played: one connection of a process with its producers, consumers and readers, which are built again
//! whenever they are gone. What `everpulse-transport` promises is promised here, and no more: what is published until it
//! is confirmed may be stored twice, what is published once may be stored although nobody says so, deliveries can be
//! double and late, and an ack is a hint.
//!
//! The time-outs are its own; the code of the transport itself is bound to sockets and is not run here.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use everpulse_broker::semantics::selector::KeyPolicy;
use everpulse_broker::semantics::{ConnectionId, CreateProducer, Facts, Kind, Publish, Start, Subscribe, hash};
use everpulse_protocol::Position;

use crate::party::Ctx;
use crate::wire::{Act, Again, Down, Heard, Timer, Up, theirs};

/// A message without a receipt for so long is sent by another producer, or given up.
const OVERDUE_MS: u64 = 10_000;
const BACKOFF_MS_MIN: u64 = 20;
const BACKOFF_MS_MAX: u64 = 3_000;
/// What could not be had is asked for again after this.
const AGAIN_MS: u64 = 200;
const READER_PERMITS: u32 = 200;
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
        publish_time_ms: u64,
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
    Tasks,
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
    role: Role<T>,
}

#[derive(Debug)]
enum Role<T> {
    Deliver {
        durable: bool,
    },
    /// Answers where a topic ends: those that wait, and those that the question on its way is for.
    Tail {
        waiting: Vec<T>,
        asked: Vec<T>,
    },
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

    pub fn publish(&mut self, topic: &str, parcel: Parcel<T>, ctx: &mut Ctx<'_>) {
        if !self.publishers.contains_key(topic) {
            let (producer_id, name) = (self.fresh(), format!("{}-p{}", self.name, self.next));
            let publisher = Publisher {
                producer_id,
                name,
                epoch: 0,
                serial: 1,
                state: State::Gone,
                next: 0,
                next_sequence: 0,
                waiting: BTreeMap::new(),
                sent: BTreeMap::new(),
            };
            self.publishers.insert(topic.to_owned(), publisher);
        }
        let publisher = self.publishers.get_mut(topic).expect("it was just made");
        let number = publisher.next;
        publisher.next += 1;
        if parcel.once {
            ctx.remind(OVERDUE_MS, Timer::Overdue { topic: topic.to_owned(), number, serial: 0 });
        }
        publisher.waiting.insert(number, parcel);
        self.pump(topic, ctx);
    }

    /// Sends what waits, as far as there is a producer.
    fn pump(&mut self, topic: &str, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return self.connect(ctx) };
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        match publisher.state {
            State::Asked => {}
            State::Gone => {
                publisher.state = State::Asked;
                self.next += 1;
                let request_id = self.next;
                let request = CreateProducer {
                    topic: topic.to_owned(),
                    producer_id: publisher.producer_id,
                    request_id,
                    name: Some(publisher.name.clone()),
                    epoch: publisher.epoch,
                    ..CreateProducer::default()
                };
                self.requests.insert(request_id, Request::Producer(topic.to_owned()));
                ctx.acts.push(Act::Send(connection, Up::CreateProducer(Box::new(request))));
            }
            State::Ready => {
                while let Some((number, parcel)) = publisher.waiting.pop_first() {
                    let sequence_id = publisher.next_sequence;
                    publisher.next_sequence += 1;
                    ctx.acts.push(Act::Send(connection, send(publisher.producer_id, sequence_id, &parcel, ctx.now.0)));
                    let timer = Timer::Overdue { topic: topic.to_owned(), number, serial: publisher.serial };
                    ctx.remind(OVERDUE_MS, timer);
                    publisher.sent.insert(sequence_id, (number, parcel));
                }
            }
        }
    }

    /// Another producer under a fresh name: what was sent is sent again, or given up.
    fn renew(&mut self, topic: &str, ctx: &mut Ctx<'_>) {
        self.next += 1;
        let (next, name) = (self.next, format!("{}-p{}", self.name, self.next));
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        if let (Some(connection), State::Ready | State::Asked) = (self.connection, publisher.state) {
            let close = Up::CloseProducer { producer_id: publisher.producer_id, request_id: 0 };
            ctx.acts.push(Act::Send(connection, close));
        }
        (publisher.producer_id, publisher.name, publisher.epoch) = (next, name, 0);
        publisher.serial += 1;
        publisher.state = State::Gone;
        publisher.next_sequence = 0;
        for (_, (number, parcel)) in std::mem::take(&mut publisher.sent) {
            if parcel.once {
                self.news.extend(parcel.tags.into_iter().map(|tag| News::Published { tag, receipt: Err(()) }));
            } else {
                publisher.waiting.insert(number, parcel);
            }
        }
        if !publisher.waiting.is_empty() {
            ctx.remind(AGAIN_MS, Timer::Again(Again::Producer(topic.to_owned())));
        }
    }

    fn overdue(&mut self, topic: &str, number: u64, serial: u64, ctx: &mut Ctx<'_>) {
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        if serial == 0
            && let Some(parcel) = publisher.waiting.remove(&number)
        {
            self.news.extend(parcel.tags.into_iter().map(|tag| News::Published { tag, receipt: Err(()) }));
        } else if publisher.serial == serial && publisher.sent.values().any(|(sent, _)| *sent == number) {
            self.renew(topic, ctx);
        }
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

    /// A durable subscription, or one that hears only what comes from now on. Gives the number of its consumer.
    pub fn subscribe(
        &mut self,
        topic: &str,
        subscription: &str,
        kind: Kind,
        durable: bool,
        permits: u32,
        ctx: &mut Ctx<'_>,
    ) -> u64 {
        self.consume(topic, subscription, kind, permits, Role::Deliver { durable }, ctx)
    }

    /// Asks where a topic ends.
    pub fn ask_tail(&mut self, topic: &str, tag: T, ctx: &mut Ctx<'_>) {
        let id = match self.tails.get(topic) {
            Some(id) => *id,
            None => {
                let name = format!("{}-tail", self.name);
                let role = Role::Tail { waiting: Vec::new(), asked: Vec::new() };
                let id = self.consume(topic, &name, Kind::Exclusive, 0, role, ctx);
                self.tails.insert(topic.to_owned(), id);
                id
            }
        };
        if let Some(Consumer { role: Role::Tail { waiting, .. }, .. }) = self.consumers.get_mut(&id) {
            waiting.push(tag);
        }
        self.ask_last(id, ctx);
    }

    /// Reads a topic behind a position up to another, or to where it ends now if that is earlier.
    pub fn read(&mut self, topic: &str, after: Option<Position>, to: Option<Position>, tag: T, ctx: &mut Ctx<'_>) {
        let name = format!("{}-r{}", self.name, self.next);
        let role = Role::Read { tag, seen: after, to, end: None, entries: Vec::new() };
        self.consume(topic, &name, Kind::Exclusive, READER_PERMITS, role, ctx);
    }

    fn consume(
        &mut self,
        topic: &str,
        subscription: &str,
        kind: Kind,
        permits: u32,
        role: Role<T>,
        ctx: &mut Ctx<'_>,
    ) -> u64 {
        let id = self.fresh();
        let (topic, subscription) = (topic.to_owned(), subscription.to_owned());
        let consumer = Consumer { topic, subscription, kind, permits, state: State::Gone, acks: Vec::new(), role };
        self.consumers.insert(id, consumer);
        self.open(id, ctx);
        id
    }

    fn open(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return self.connect(ctx) };
        let request_id = self.fresh();
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.state == State::Gone) else {
            return;
        };
        consumer.state = State::Asked;
        let (durable, start, earliest) = match &consumer.role {
            Role::Deliver { durable } => (*durable, None, *durable),
            Role::Tail { .. } => (false, Some(Start::Latest), false),
            Role::Read { seen: Some(seen), .. } => (false, Some(Start::After(theirs(*seen))), false),
            Role::Read { seen: None, .. } => (false, Some(Start::Earliest), true),
        };
        let request = Subscribe {
            topic: consumer.topic.clone(),
            // A name of a reader may be taken still by what it was before.
            subscription: if durable {
                consumer.subscription.clone()
            } else {
                format!("{}-{request_id}", consumer.subscription)
            },
            kind: consumer.kind,
            consumer_id: id,
            request_id,
            name: Some(format!("{}-c{id}", self.name)),
            priority: 0,
            durable,
            start,
            earliest,
            create_topic: true,
            metadata: BTreeMap::new(),
            properties: BTreeMap::new(),
            epoch: None,
            read_compacted: false,
            schema: None,
            keys: KeyPolicy::default(),
            ranges: Vec::new(),
        };
        self.requests.insert(request_id, Request::Consumer(id));
        ctx.acts.push(Act::Send(connection, Up::Subscribe(Box::new(request))));
    }

    fn ask_last(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return };
        let request_id = self.fresh();
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.state == State::Ready) else {
            return;
        };
        if let Role::Tail { waiting, asked } = &mut consumer.role {
            if waiting.is_empty() || !asked.is_empty() {
                return;
            }
            std::mem::swap(waiting, asked);
        }
        self.requests.insert(request_id, Request::Last(id));
        ctx.acts.push(Act::Send(connection, Up::Last { consumer_id: id, request_id }));
    }

    /// Acks a message of a consumer, now or when it is there again.
    pub fn ack(&mut self, consumer: u64, position: Position, ctx: &mut Ctx<'_>) {
        let Some(state) = self.consumers.get_mut(&consumer) else { return };
        match (self.connection, state.state) {
            (Some(connection), State::Ready) => {
                ctx.acts.push(Act::Send(connection, Up::Ack { consumer_id: consumer, position }));
            }
            _ => state.acks.push(position),
        }
    }

    /// Leaves a subscription.
    pub fn close(&mut self, consumer: u64, ctx: &mut Ctx<'_>) {
        if self.consumers.remove(&consumer).is_some()
            && let Some(connection) = self.connection
        {
            ctx.acts.push(Act::Send(connection, Up::CloseConsumer { consumer_id: consumer, request_id: 0 }));
        }
    }

    /// Builds the subscription of a consumer again, of which its user hears nothing.
    pub fn resubscribe(&mut self, consumer: u64, ctx: &mut Ctx<'_>) {
        let (Some(connection), Some(state)) = (self.connection, self.consumers.get_mut(&consumer)) else { return };
        if state.state == State::Ready {
            state.state = State::Gone;
            ctx.acts.push(Act::Send(connection, Up::CloseConsumer { consumer_id: consumer, request_id: 0 }));
            self.open(consumer, ctx);
        }
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
            Down::Deliver { consumer_id, position, payload, publish_time_ms } => {
                self.delivered(consumer_id, position, payload, publish_time_ms, ctx);
            }
            Down::Last { request_id, position } => {
                if let Some(Request::Last(id)) = self.requests.remove(&request_id) {
                    self.last(id, position, ctx);
                }
            }
        }
    }

    fn produces(&mut self, topic: &str, ctx: &mut Ctx<'_>) {
        let Some(publisher) = self.publishers.get_mut(topic) else { return };
        let Some(connection) = self.connection else { return };
        publisher.state = State::Ready;
        for (sequence_id, (number, parcel)) in &publisher.sent {
            ctx.acts.push(Act::Send(connection, send(publisher.producer_id, *sequence_id, parcel, ctx.now.0)));
            let timer = Timer::Overdue { topic: topic.to_owned(), number: *number, serial: publisher.serial };
            ctx.acts.push(Act::Remind { after_ms: OVERDUE_MS, timer });
        }
        self.pump(topic, ctx);
    }

    fn opened(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return };
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.state = State::Ready;
        if consumer.permits > 0 {
            ctx.acts.push(Act::Send(connection, Up::Flow { consumer_id: id, permits: consumer.permits }));
        }
        for position in std::mem::take(&mut consumer.acks) {
            ctx.acts.push(Act::Send(connection, Up::Ack { consumer_id: id, position }));
        }
        if !matches!(consumer.role, Role::Deliver { .. }) {
            self.ask_last(id, ctx);
        }
    }

    fn lost(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.state = State::Gone;
        if let Role::Tail { waiting, asked } = &mut consumer.role {
            waiting.append(asked);
        }
        ctx.remind(AGAIN_MS, Timer::Again(Again::Consumer(id)));
    }

    fn delivered(&mut self, id: u64, position: Position, payload: Bytes, publish_time_ms: u64, ctx: &mut Ctx<'_>) {
        let Some(connection) = self.connection else { return };
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        match &mut consumer.role {
            Role::Deliver { .. } => {
                ctx.acts.push(Act::Send(connection, Up::Flow { consumer_id: id, permits: 1 }));
                self.news.push_back(News::Delivered { consumer: id, position, payload, publish_time_ms });
            }
            Role::Tail { .. } => {}
            Role::Read { seen, entries, .. } => {
                if seen.is_none_or(|seen| position > seen) {
                    *seen = Some(position);
                    entries.push((position, payload));
                    if (entries.len() as u32).is_multiple_of(READER_PERMITS / 2) {
                        let permits = READER_PERMITS / 2;
                        ctx.acts.push(Act::Send(connection, Up::Flow { consumer_id: id, permits }));
                    }
                }
                self.finish_read(id, ctx);
            }
        }
    }

    fn last(&mut self, id: u64, position: Option<Position>, ctx: &mut Ctx<'_>) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        match &mut consumer.role {
            Role::Deliver { .. } => {}
            Role::Tail { asked, .. } => {
                let asked = std::mem::take(asked);
                self.news.extend(asked.into_iter().map(|tag| News::Tail { tag, position }));
                self.ask_last(id, ctx);
            }
            Role::Read { to, end, seen, .. } => {
                *end = match (position, *to) {
                    (Some(last), Some(to)) => Some(last.min(to)),
                    (Some(last), None) => Some(last),
                    // Nothing is there: what was seen is all.
                    (None, _) => Some(seen.unwrap_or(START)),
                };
                self.finish_read(id, ctx);
            }
        }
    }

    fn finish_read(&mut self, id: u64, ctx: &mut Ctx<'_>) {
        let Some(Consumer { role: Role::Read { tag, seen, end: Some(end), entries, .. }, .. }) =
            self.consumers.get_mut(&id)
        else {
            return;
        };
        if seen.unwrap_or(START) >= *end {
            let news = News::Read { tag: tag.clone(), entries: std::mem::take(entries) };
            self.news.push_back(news);
            self.close(id, ctx);
        }
    }
}

fn send<T>(producer_id: u64, sequence_id: u64, parcel: &Parcel<T>, now_ms: u64) -> Up {
    let facts = Facts {
        hash: parcel.key.as_ref().map_or(0, |key| hash::sticky_hash(key.as_bytes())),
        batch: 0,
        publish_time_ms: now_ms,
        deliver_at_ms: parcel.deliver_at.unwrap_or(0),
    };
    Up::Publish(Box::new(Publish {
        producer_id,
        sequence_id,
        highest_sequence_id: sequence_id,
        facts,
        partial_chunk: false,
        encrypted: false,
        payload: parcel.payload.clone(),
    }))
}
