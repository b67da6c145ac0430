//! The broker: the embedded broker's own state machine, with its storage played here. What was not synced is lost when
//! it crashes, except that the beginning of what was being written may be there.
//!
//! ```text
//! Up ──► semantics ──► given ──► writing ── synced ──► disk
//!            │                                           │ crash: a new one is restored from it
//!            └──► Down
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use everpulse_broker::semantics::packed::Packed;
use everpulse_broker::semantics::restore::Restore;
use everpulse_broker::semantics::{
    Broker, Change, ConnectionId, ConsumerKey, CreateProducer, Effect, Entry, Location, MessageId, Policies, Publish,
    Snapshot, Source, Start, TopicId, TopicName,
};
use everpulse_protocol::{Position, topic};

use crate::dice::Dice;
use crate::wire::{self, Down, Up, ours, theirs};
use crate::workflows::QUEUE;

/// How many shards and partitions of the inbox there are.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub shards: u32,
    pub partitions: u32,
}

#[derive(Debug)]
pub struct Server {
    broker: Broker,
    pub up: bool,
    /// Counts its starts.
    pub life: u64,
    /// Its clock against the world's.
    pub skew: i64,
    given: VecDeque<Effect>,
    writing: Option<Vec<Effect>>,
    disk: Vec<Effect>,
    topics: BTreeMap<String, TopicId>,
    /// Who is connected.
    pub connected: BTreeMap<ConnectionId, usize>,
    ghosts: BTreeMap<String, u64>,
    ghost_sequence: u64,
    effects: Vec<Effect>,
}

/// The connection by which messages are stored a second time.
const GHOST: ConnectionId = ConnectionId(0);

impl Server {
    /// A broker on an empty disk, with an application set up: rule 10.
    pub fn new(layout: Layout) -> Self {
        let mut server = Self {
            broker: Restore::new(Snapshot::initial()).finish(),
            up: true,
            life: 1,
            skew: 0,
            given: VecDeque::new(),
            writing: None,
            disk: Vec::new(),
            topics: BTreeMap::new(),
            connected: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            ghost_sequence: 0,
            effects: Vec::new(),
        };
        let policies = Policies { deduplication: Some(true), ..Policies::default() };
        let name = |topic: &str| TopicName::parse(&wire::stored(topic)).expect("names of ours are good");
        let made = server.broker.handle_create_namespace(wire::NAMESPACE, policies);
        made.expect("nothing is there yet");
        for (topic, partitions) in [(topic::HISTORY, layout.shards), (topic::INBOX, layout.partitions)] {
            server.broker.handle_set_partitions(&name(topic), partitions, false).expect("nothing is there yet");
        }
        let (tasks, dead) = (topic::activity(QUEUE), topic::activity_dead(QUEUE));
        for topic in [topic::TIMERS, topic::INBOX_DEAD, tasks.as_str(), dead.as_str()] {
            server.broker.handle_create_topic(&name(topic)).expect("nothing is there yet");
        }
        let mut subscriptions: Vec<(String, &str)> = vec![
            (topic::TIMERS.to_owned(), topic::RELAY),
            (topic::INBOX_DEAD.to_owned(), topic::OPERATORS),
            (tasks, topic::WORKERS),
            (dead, topic::OPERATORS),
        ];
        subscriptions.extend((0..layout.shards).map(|n| (topic::partition(topic::HISTORY, n), topic::JANITOR)));
        subscriptions.extend((0..layout.partitions).map(|n| (topic::partition(topic::INBOX, n), topic::OWNERS)));
        for (topic, subscription) in subscriptions {
            let made = server.broker.handle_create_subscription(&name(&topic), subscription, Start::Earliest);
            made.expect("nothing is there yet");
        }
        while server.is_busy(0) {
            server.written(0);
        }
        server
    }

    fn is_busy(&mut self, now_ms: u64) -> bool {
        self.poll(now_ms, &mut Vec::new());
        self.begin_write()
    }

    fn clock(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.skew)
    }

    pub fn connect(&mut self, connection: ConnectionId, party: usize) {
        self.connected.insert(connection, party);
    }

    /// Takes note that a connection is gone.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        if self.connected.remove(&connection).is_some() && self.up {
            self.broker.handle_disconnected(connection);
        }
    }

    pub fn handle(&mut self, connection: ConnectionId, up: Up, now_ms: u64, out: &mut Vec<(ConnectionId, Down)>) {
        if !self.connected.contains_key(&connection) {
            return;
        }
        self.broker.handle_now(self.clock(now_ms));
        let key = |consumer_id| ConsumerKey { connection, consumer_id };
        match up {
            Up::CreateProducer(request) => self.broker.handle_create_producer(connection, *request),
            Up::CloseProducer { producer_id, request_id } => {
                self.broker.handle_close_producer(connection, producer_id, request_id);
            }
            Up::Publish(publish) => self.broker.handle_publish(connection, *publish),
            Up::Subscribe(request) => self.broker.handle_subscribe(connection, *request),
            Up::CloseConsumer { consumer_id, request_id } => {
                self.broker.handle_close_consumer(key(consumer_id), request_id);
            }
            Up::Flow { consumer_id, permits } => self.broker.handle_flow(key(consumer_id), permits),
            Up::Ack { consumer_id, position } => {
                let id = MessageId { position: theirs(position), ack_set: Vec::new() };
                // An ack of a consumer that is gone is lost.
                let _ = self.broker.handle_ack(key(consumer_id), false, &[id]);
            }
            Up::Last { consumer_id, request_id } => {
                let answer = match self.broker.last_message_id(key(consumer_id)) {
                    Some(last) => Down::Last { request_id, position: last.position.map(ours) },
                    None => Down::Refused { request_id },
                };
                out.push((connection, answer));
            }
        }
    }

    /// Takes a message as if its sender had sent it twice, under another producer's name.
    pub fn store_again(&mut self, topic: &str, publish: &Publish, now_ms: u64) {
        let next = self.ghosts.len() as u64 + 1;
        let producer_id = match self.ghosts.get(topic) {
            Some(producer_id) => *producer_id,
            None => {
                let name = Some(format!("ghost-{}-{next}", self.life));
                let request = CreateProducer { topic: topic.to_owned(), producer_id: next, name, ..Default::default() };
                self.broker.handle_create_producer(GHOST, request);
                self.ghosts.insert(topic.to_owned(), next);
                next
            }
        };
        self.broker.handle_now(self.clock(now_ms));
        self.ghost_sequence += 1;
        let sequence_id = self.ghost_sequence;
        let publish = Publish { producer_id, sequence_id, highest_sequence_id: 0, ..publish.clone() };
        self.broker.handle_publish(GHOST, publish);
    }

    /// Carries out what follows from the inputs so far.
    pub fn poll(&mut self, now_ms: u64, out: &mut Vec<(ConnectionId, Down)>) {
        loop {
            let mut effects = std::mem::take(&mut self.effects);
            effects.clear();
            self.broker.poll_effects(self.clock(now_ms), &mut effects);
            if effects.is_empty() {
                self.effects = effects;
                return;
            }
            for effect in effects.drain(..) {
                self.carry_out(effect, out);
            }
            self.effects = effects;
        }
    }

    fn carry_out(&mut self, effect: Effect, out: &mut Vec<(ConnectionId, Down)>) {
        match effect {
            Effect::Append { .. } | Effect::Log(_) => self.given.push_back(effect),
            Effect::Receipt { connection, producer_id, sequence_id, position, .. } => {
                out.push((connection, Down::Receipt { producer_id, sequence_id, position: position.map(ours) }));
            }
            Effect::SendError { connection, producer_id, .. } => {
                out.push((connection, Down::SendError { producer_id }));
            }
            Effect::Deliver { consumer, position, source, .. } => {
                let (payload, publish_time_ms) = match source {
                    Source::Inline(payload) => (payload, 0),
                    Source::Stored(location) => self.stored(location),
                };
                let ConsumerKey { connection, consumer_id } = consumer;
                let position = ours(position);
                out.push((connection, Down::Deliver { consumer_id, position, payload, publish_time_ms }));
            }
            Effect::Success { connection, request_id } => out.push((connection, Down::Success { request_id })),
            Effect::Refused { connection, request_id, .. } => out.push((connection, Down::Refused { request_id })),
            Effect::ProducerReady { connection, request_id, ready: true, .. } => {
                out.push((connection, Down::ProducerReady { request_id }));
            }
            Effect::ProducerClosed { connection, producer_id } => {
                out.push((connection, Down::ProducerClosed { producer_id }));
            }
            Effect::ConsumerClosed { consumer } => {
                out.push((consumer.connection, Down::ConsumerClosed { consumer_id: consumer.consumer_id }));
            }
            _ => {}
        }
    }

    fn stored(&self, location: Location) -> (Bytes, u64) {
        match self.disk.get(location.offset as usize) {
            Some(Effect::Append { payload, facts, .. }) => (payload.clone(), facts.publish_time_ms),
            _ => (Bytes::new(), 0),
        }
    }

    /// Whether a write begins now: [`Self::written`] or [`Self::failed`] ends it.
    pub fn begin_write(&mut self) -> bool {
        if self.writing.is_some() || self.given.is_empty() {
            return false;
        }
        self.writing = Some(self.given.drain(..).collect());
        true
    }

    /// The write that was begun is synced.
    pub fn written(&mut self, now_ms: u64) {
        for effect in self.writing.take().unwrap_or_default() {
            let location = self.keep(effect);
            self.broker.handle_appended(self.clock(now_ms), location);
        }
    }

    fn keep(&mut self, effect: Effect) -> Location {
        if let Effect::Log(Change::Topic { id, name }) = &effect {
            self.topics.insert(name.clone(), *id);
        }
        let len = match &effect {
            Effect::Append { payload, .. } => payload.len() as u32,
            _ => 0,
        };
        let offset = u32::try_from(self.disk.len()).expect("a simulation stores less");
        self.disk.push(effect);
        Location { segment: 1, offset, len }
    }

    /// The disk takes nothing: all that it was given fails, in its order.
    pub fn failed(&mut self) {
        let writing = self.writing.take().unwrap_or_default().len() + self.given.len();
        self.given.clear();
        for _ in 0..writing {
            self.broker.handle_append_failed("no space left on device");
        }
    }

    /// It is killed. Of what was being written any beginning may have reached the disk. Gives who was connected.
    pub fn crash(&mut self, dice: &mut Dice) -> Vec<(ConnectionId, usize)> {
        let mut writing = self.writing.take().unwrap_or_default();
        let kept = dice.within(0, writing.len() as u64) as usize;
        for effect in writing.drain(..kept) {
            self.keep(effect);
        }
        self.given.clear();
        self.ghosts.clear();
        self.up = false;
        std::mem::take(&mut self.connected).into_iter().collect()
    }

    /// It comes back, with what is on its disk.
    pub fn restart(&mut self) {
        let mut restore = Restore::new(Snapshot { generation: self.life, ..Snapshot::initial() });
        for (offset, effect) in (0..).zip(&self.disk) {
            match effect {
                Effect::Append { topic, position, facts, origin, payload } => {
                    let location = Location { segment: 1, offset, len: payload.len() as u32 };
                    restore.messages(*topic, *position, Packed::of(&[Entry { location, facts: *facts }]));
                    if let Some((name, sequence)) = origin {
                        restore.sequence(*topic, name, *sequence, facts.publish_time_ms);
                    }
                }
                Effect::Log(change) => restore.change(change.clone()),
                _ => {}
            }
        }
        self.broker = restore.finish();
        self.life += 1;
        self.up = true;
    }

    /// About once a second.
    pub fn tick(&mut self, now_ms: u64) {
        self.broker.handle_tick(self.clock(now_ms));
    }

    /// Delayed messages that are due can go.
    pub fn timeout(&mut self, now_ms: u64) {
        self.broker.handle_timeout(self.clock(now_ms));
    }

    /// When [`Self::timeout`] is due, by the world's clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.broker.poll_timeout().map(|due| due.saturating_add_signed(-self.skew))
    }

    /// All that was ever stored in a topic, by its raw bytes.
    pub fn entries(&self, topic: &str) -> Vec<(Position, Bytes)> {
        let Some(id) = self.topics.get(topic) else { return Vec::new() };
        let of_topic = |effect: &Effect| match effect {
            Effect::Append { topic, position, payload, .. } if topic == id => Some((ours(*position), payload.clone())),
            _ => None,
        };
        self.disk.iter().filter_map(of_topic).collect()
    }

    /// How much is on the disk: a mark in time for what comes of it.
    pub fn stored_count(&self) -> usize {
        self.disk.len()
    }

    /// Where a stored message lies on the disk.
    pub fn place(&self, topic: &str, at: Position) -> Option<usize> {
        let id = self.topics.get(topic)?;
        self.disk.iter().position(
            |effect| matches!(effect, Effect::Append { topic, position, .. } if topic == id && ours(*position) == at),
        )
    }

    /// Messages of a durable subscription that are not acknowledged.
    pub fn backlog(&self, topic: &str, subscription: &str) -> u64 {
        let stats = TopicName::parse(topic).ok().and_then(|name| self.broker.topic_stats(&name).ok());
        let subscriptions = stats.map(|stats| stats.subscriptions).unwrap_or_default();
        subscriptions.iter().filter(|of| of.name == subscription).map(|of| of.backlog).sum()
    }
}
