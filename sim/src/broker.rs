//! The broker: the embedded broker's own state machine, with its storage played here. What was not synced is lost when
//! it crashes, except that the beginning of what was being written may be there.
//!
//! ```text
//! Up ──► semantics ──► given ──► writing ── synced ──► Disk
//!            │                                           │ crash: a new one is restored from it
//!            └──► Down
//! ```

mod disk;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use everpulse_broker::semantics::policies::Retention;
use everpulse_broker::semantics::{
    Broker, Change, ConnectionId, ConsumerKey, CreateProducer, Effect, Location, MessageId, Policies, Publish, Source,
    Start, TopicId, TopicName,
};
use everpulse_protocol::{Position, topic};

use self::disk::{Disk, Item};
use crate::dice::Dice;
use crate::lanes;
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
    given: VecDeque<Item>,
    writing: Option<Vec<Item>>,
    disk: Disk,
    /// A snapshot is on its way to the disk.
    snapshot_given: bool,
    /// Messages that were let go, and segments.
    pub trimmed: u64,
    pub segments_gone: u64,
    /// What was stored or acknowledged since the witness last looked.
    pub seen: Vec<Seen>,
    topics: BTreeMap<String, TopicId>,
    /// Who is connected.
    pub connected: BTreeMap<ConnectionId, usize>,
    ghosts: BTreeMap<String, u64>,
    ghost_sequence: u64,
    effects: Vec<Effect>,
}

/// What the witness of every moment is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Something was stored, at this place on the disk.
    Stored(usize),
    /// By the party in this slot.
    Acked { topic: String, position: Position, by: usize },
    /// The broker came back: acks that were not stored are forgotten.
    Restarted,
}

/// The connection by which messages are stored a second time.
const GHOST: ConnectionId = ConnectionId(0);

impl Server {
    /// A broker on an empty disk, with an application set up: rule 10.
    ///
    /// `segment_entries`: how much is let go at once, at least.
    pub fn new(layout: Layout, segment_entries: usize) -> Self {
        let mut disk = Disk::new(segment_entries);
        let mut server = Self {
            broker: disk.restore(0),
            up: true,
            life: 1,
            skew: 0,
            given: VecDeque::new(),
            writing: None,
            disk,
            snapshot_given: false,
            trimmed: 0,
            segments_gone: 0,
            seen: Vec::new(),
            topics: BTreeMap::new(),
            connected: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            ghost_sequence: 0,
            effects: Vec::new(),
        };
        let retention = Some(Retention { minutes: 1, size_mb: -1 });
        let policies = Policies { deduplication: Some(true), retention, ..Policies::default() };
        let name = |topic: &str| TopicName::parse(&wire::stored(topic)).expect("names of ours are good");
        let made = server.broker.handle_create_namespace(wire::NAMESPACE, policies);
        made.expect("nothing is there yet");
        for (topic, partitions) in [(topic::HISTORY, layout.shards), (topic::INBOX, layout.partitions)] {
            server.broker.handle_set_partitions(&name(topic), partitions, false).expect("nothing is there yet");
        }
        // A minute is the least that a broker can be told; the windows of the shards are shorter.
        let at_once = |policies: &mut Policies| policies.retention = Some(Retention { minutes: 0, size_mb: 0 });
        server.broker.handle_set_topic_policies(&name(topic::HISTORY), at_once).expect("it was just made");
        let dead = topic::activity_dead(QUEUE);
        let tasks: Vec<String> = lanes::all().iter().map(|lane| topic::activity(&lane.to_string())).collect();
        let others = [topic::TIMERS, topic::INBOX_DEAD, topic::LANES, dead.as_str()];
        for topic in others.into_iter().chain(tasks.iter().map(String::as_str)) {
            server.broker.handle_create_topic(&name(topic)).expect("nothing is there yet");
        }
        let mut subscriptions: Vec<(String, &str)> = vec![
            (topic::TIMERS.to_owned(), topic::RELAY),
            (topic::INBOX_DEAD.to_owned(), topic::OPERATORS),
            (topic::LANES.to_owned(), topic::KEEPER),
            (dead, topic::OPERATORS),
        ];
        subscriptions.extend(tasks.into_iter().map(|tasks| (tasks, topic::WORKERS)));
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
        let Some(by) = self.connected.get(&connection).copied() else { return };
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
            Up::Ack { consumer_id, topic, position } => {
                let id = MessageId { position: theirs(position), ack_set: Vec::new() };
                // An ack of a consumer that is gone is lost.
                if self.broker.handle_ack(key(consumer_id), false, &[id]).is_ok() {
                    self.seen.push(Seen::Acked { topic, position, by });
                }
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
                break;
            }
            for effect in effects.drain(..) {
                self.carry_out(effect, out);
            }
            self.effects = effects;
        }
        if !self.snapshot_given && !self.disk.unneeded().is_empty() {
            let covered = self.disk.unneeded().to_vec();
            self.snapshot_given = true;
            self.given.push_back(Item::Snapshot(Box::new(self.broker.snapshot()), covered));
        }
    }

    fn carry_out(&mut self, effect: Effect, out: &mut Vec<(ConnectionId, Down)>) {
        match effect {
            Effect::Append { .. } | Effect::Log(_) => self.given.push_back(Item::Log(effect)),
            Effect::Released { segment, entries } => {
                self.trimmed += entries;
                self.disk.release(segment, entries);
            }
            Effect::Receipt { connection, producer_id, sequence_id, position, .. } => {
                out.push((connection, Down::Receipt { producer_id, sequence_id, position: position.map(ours) }));
            }
            Effect::SendError { connection, producer_id, .. } => {
                out.push((connection, Down::SendError { producer_id }));
            }
            Effect::Deliver { consumer, position, source, .. } => {
                let payload = match source {
                    Source::Inline(payload) => payload,
                    Source::Stored(location) => self.stored(location),
                };
                let ConsumerKey { connection, consumer_id } = consumer;
                let position = ours(position);
                out.push((connection, Down::Deliver { consumer_id, position, payload }));
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

    fn stored(&self, location: Location) -> Bytes {
        match self.disk.log().get(location.offset as usize) {
            Some(Effect::Append { payload, .. }) => payload.clone(),
            _ => Bytes::new(),
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
        for item in self.writing.take().unwrap_or_default() {
            if let Some(location) = self.keep(item) {
                self.broker.handle_appended(self.clock(now_ms), location);
            }
        }
    }

    /// An item is on the disk; gives where, if the broker waits for that.
    fn keep(&mut self, item: Item) -> Option<Location> {
        match item {
            Item::Log(effect) => {
                if let Effect::Log(Change::Topic { id, name }) = &effect {
                    self.topics.insert(name.clone(), *id);
                }
                self.seen.push(Seen::Stored(self.disk.log().len()));
                Some(self.disk.keep(effect))
            }
            Item::Snapshot(snapshot, covered) => {
                self.snapshot_given = false;
                self.segments_gone += covered.len() as u64;
                self.disk.keep_snapshot(*snapshot, &covered);
                None
            }
        }
    }

    /// The disk takes nothing: all that it was given fails, in its order.
    pub fn failed(&mut self) {
        let failed = self.writing.take().unwrap_or_default().into_iter().chain(self.given.drain(..));
        let awaited = failed.filter(|item| matches!(item, Item::Log(_))).count();
        self.snapshot_given = false;
        for _ in 0..awaited {
            self.broker.handle_append_failed("no space left on device");
        }
    }

    /// It is killed. Of what was being written any beginning may have reached the disk. Gives who was connected.
    pub fn crash(&mut self, dice: &mut Dice) -> Vec<(ConnectionId, usize)> {
        let mut writing = self.writing.take().unwrap_or_default();
        let kept = dice.within(0, writing.len() as u64) as usize;
        for item in writing.drain(..kept) {
            self.keep(item);
        }
        self.given.clear();
        self.snapshot_given = false;
        self.ghosts.clear();
        self.up = false;
        std::mem::take(&mut self.connected).into_iter().collect()
    }

    /// It comes back, with what is on its disk.
    pub fn restart(&mut self, now_ms: u64) {
        self.broker = self.disk.restore(self.life);
        // As the real one does before anybody connects.
        self.broker.handle_restarted(self.clock(now_ms), self.disk.open_segment());
        self.life += 1;
        self.up = true;
        self.seen.push(Seen::Restarted);
    }

    /// About once a second.
    pub fn tick(&mut self, now_ms: u64) {
        self.broker.handle_tick(self.clock(now_ms));
        self.broker.handle_retention(self.clock(now_ms), self.disk.open_segment());
    }

    /// A janitor's cursor moves: what is before and at the position may go.
    pub fn trim(&mut self, topic: &str, upto: Position, now_ms: u64) {
        self.broker.handle_now(self.clock(now_ms));
        if let (true, Ok(name)) = (self.up, TopicName::parse(topic)) {
            // Nobody waits for the answer: the next one goes further.
            let _ = self.broker.handle_expire_to(&name, topic::JANITOR, theirs(upto), false);
        }
    }

    /// A topic moves to another ledger, and all its clients have to come anew.
    pub fn unload(&mut self, topic: &str) {
        if let (true, Ok(name)) = (self.up, TopicName::parse(topic)) {
            // A topic that does not exist yet has no clients.
            let _ = self.broker.handle_unload(&name);
        }
    }

    /// Delayed messages that are due can go.
    pub fn timeout(&mut self, now_ms: u64) {
        self.broker.handle_timeout(self.clock(now_ms));
    }

    /// When [`Self::timeout`] is due, by the world's clock.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.broker.poll_timeout().map(|due| due.saturating_add_signed(-self.skew))
    }

    /// All that was ever stored in a topic, by its raw bytes, with its place on the disk.
    pub fn stored_in(&self, topic: &str) -> impl Iterator<Item = (usize, Position, &Bytes)> + use<'_> {
        let id = self.topics.get(topic).copied();
        self.disk.log().iter().enumerate().filter_map(move |(place, effect)| match effect {
            Effect::Append { topic, position, payload, .. } if Some(*topic) == id => {
                Some((place, ours(*position), payload))
            }
            _ => None,
        })
    }

    /// All that was ever stored in a topic, by its raw bytes.
    pub fn entries(&self, topic: &str) -> Vec<(Position, Bytes)> {
        self.stored_in(topic).map(|(_, position, payload)| (position, payload.clone())).collect()
    }

    /// The first entry of a topic that can still be read.
    pub fn first_position(&self, topic: &str) -> Option<Position> {
        let name = TopicName::parse(topic).ok()?;
        self.broker.examine(&name, false, 1).ok().flatten().map(|peeked| ours(peeked.position))
    }

    /// How much is on the disk: a mark in time for what comes of it.
    pub fn stored_count(&self) -> usize {
        self.disk.log().len()
    }

    /// What was stored at a place on the disk: the topic's id, where it stands there, and its bytes.
    pub fn at(&self, place: usize) -> Option<(TopicId, Position, &Bytes)> {
        match self.disk.log().get(place)? {
            Effect::Append { topic, position, payload, .. } => Some((*topic, ours(*position), payload)),
            _ => None,
        }
    }

    pub fn topic_id(&self, topic: &str) -> Option<TopicId> {
        self.topics.get(topic).copied()
    }

    /// The positions of a durable subscription that are acknowledged: all before the first, and these ranges.
    pub fn acked(&self, topic: &str, subscription: &str) -> (Option<Position>, Vec<(Position, Position)>) {
        let snapshot = self.broker.snapshot();
        let state = snapshot.topics.iter().find(|state| state.name == topic);
        let cursor = state.and_then(|state| state.subscriptions.iter().find(|cursor| cursor.name == subscription));
        match cursor {
            Some(cursor) => {
                let ranges = cursor.acked.iter().map(|(first, last)| (ours(*first), ours(*last))).collect();
                (cursor.next.map(ours), ranges)
            }
            None => (None, Vec::new()),
        }
    }

    /// Messages of a durable subscription that are not acknowledged.
    pub fn backlog(&self, topic: &str, subscription: &str) -> u64 {
        let stats = TopicName::parse(topic).ok().and_then(|name| self.broker.topic_stats(&name).ok());
        let subscriptions = stats.map(|stats| stats.subscriptions).unwrap_or_default();
        subscriptions.iter().filter(|of| of.name == subscription).map(|of| of.backlog).sum()
    }
}
