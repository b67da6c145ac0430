//! One subscription of a persistent topic: its consumers, its cursor, and who gets which message when.
//!
//! Owns delivery order, permits, redelivery and delays. It neither reads payloads nor knows topics by name;
//! the topic's [`Log`] is lent to it.
//!
//! ```text
//! log ──read──► (delayed ─due─►) queue ──permits──► consumer: pending ──ack──► cursor
//!                                  ▲                             │
//!                                  └── redeliver, consumer gone ─┘
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ConnectionId;
use super::cursor::Cursor;
use super::entry::Entry;
use super::log::Log;
use super::queue::{KeyQueue, Route, SharedQueue};

/// A consumer with this many unacked messages gets no more until it has acked half of them, as in Apache Pulsar.
pub const UNACKED_PER_CONSUMER_MAX: usize = 50_000;

/// How far a Key_Shared subscription reads ahead of blocked keys. Only offsets wait, so this is memory of a
/// few megabytes; Apache Pulsar stops after 2,000 per consumer, since it keeps whole messages.
pub const KEYS_LOOK_AHEAD_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    Exclusive,
    Shared,
    Failover,
    KeyShared,
}

/// A consumer as its connection knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerKey {
    pub connection: ConnectionId,
    pub consumer_id: u64,
}

#[derive(Debug)]
pub struct Consumer {
    pub key: ConsumerKey,
    pub name: String,
    pub priority: i32,
    pub permits: i64,
    /// Offsets delivered and not acked; not kept for Exclusive and Failover, whose cursor just rewinds.
    pub unacked: BTreeSet<u64>,
    blocked: bool,
    pub delivered: u64,
}

impl Consumer {
    fn can_take(&self) -> bool {
        self.permits > 0 && !self.blocked
    }
}

/// One message on its way to one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub consumer: ConsumerKey,
    pub offset: u64,
    pub entry: Entry,
    pub redelivery_count: u32,
}

#[derive(Debug)]
enum Dispatcher {
    /// Exclusive and Failover: one consumer gets everything, in order.
    Single {
        active: Option<u32>,
    },
    Shared(SharedQueue),
    Keys(Box<KeyQueue>),
}

#[derive(Debug)]
pub struct Subscription {
    pub name: String,
    pub durable: bool,
    pub kind: Kind,
    cursor: Cursor,
    /// Next offset that has never been looked at since the last rewind.
    read: u64,
    /// By a number that is never reused within the subscription.
    consumers: BTreeMap<u32, Consumer>,
    next_slot: u32,
    dispatcher: Dispatcher,
    /// Unacked offset to the consumer that has it.
    pending: HashMap<u64, u32>,
    redeliveries: HashMap<u64, u32>,
    /// Due time and offset.
    delayed: BTreeSet<(u64, u64)>,
    /// Something changed since the cursor was last persisted.
    pub unsaved: bool,
    /// Ticks since the last consumer left.
    pub idle_ticks: u32,
    /// Already listed for the next dispatch.
    pub scheduled: bool,
    /// The due time that the broker's timer list has for it.
    pub timer: Option<u64>,
}

impl Subscription {
    pub fn new(name: &str, kind: Kind, durable: bool, next: u64) -> Subscription {
        Subscription {
            name: name.to_owned(),
            durable,
            kind,
            cursor: Cursor::at(next),
            read: next,
            consumers: BTreeMap::new(),
            next_slot: 1,
            dispatcher: Dispatcher::of(kind),
            pending: HashMap::new(),
            redeliveries: HashMap::new(),
            delayed: BTreeSet::new(),
            unsaved: false,
            idle_ticks: 0,
            scheduled: false,
            timer: None,
        }
    }

    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.values()
    }

    pub fn consumer(&self, slot: u32) -> Option<&Consumer> {
        self.consumers.get(&slot)
    }

    pub fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    pub fn unacked(&self) -> usize {
        self.pending.len()
    }

    pub fn delayed(&self) -> usize {
        self.delayed.len()
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// The consumer that gets everything, of an Exclusive or Failover subscription.
    pub fn active(&self) -> Option<u32> {
        match &self.dispatcher {
            Dispatcher::Single { active } => *active,
            _ => None,
        }
    }

    pub fn add_consumer(
        &mut self,
        kind: Kind,
        key: ConsumerKey,
        name: String,
        priority: i32,
        partition: Option<u32>,
    ) -> u32 {
        if self.consumers.is_empty() {
            if self.kind != kind {
                self.kind = kind;
                self.dispatcher = Dispatcher::of(kind);
            }
            self.rewind();
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.ring.add(slot, &name);
            queue.rering();
        }
        let unacked = BTreeSet::new();
        let consumer = Consumer { key, name, priority, permits: 0, unacked, blocked: false, delivered: 0 };
        self.consumers.insert(slot, consumer);
        self.elect(partition);
        slot
    }

    /// What the consumer had unacked goes back to the others.
    pub fn remove_consumer(&mut self, slot: u32, log: &Log, partition: Option<u32>) -> Option<Consumer> {
        let consumer = self.consumers.remove(&slot)?;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.ring.remove(slot);
        }
        for offset in &consumer.unacked {
            self.requeue(*offset, log);
        }
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.rering();
        }
        if self.consumers.is_empty() {
            self.rewind();
        }
        self.elect(partition);
        Some(consumer)
    }

    /// Chooses who is active: by priority, then by partition among the names in order.
    fn elect(&mut self, partition: Option<u32>) {
        let Dispatcher::Single { active } = &self.dispatcher else { return };
        let mut order: Vec<(i32, &str, u32)> =
            self.consumers.iter().map(|(slot, consumer)| (consumer.priority, consumer.name.as_str(), *slot)).collect();
        order.sort_unstable();
        let best = order.first().map_or(0, |first| order.partition_point(|other| other.0 == first.0));
        let chosen = order.get(partition.unwrap_or(0) as usize % best.max(1)).map(|(_, _, slot)| *slot);
        if chosen != *active {
            self.dispatcher = Dispatcher::Single { active: chosen };
            // What the one before had unacked comes again.
            self.read = self.cursor.next();
        }
    }

    pub fn handle_flow(&mut self, slot: u32, permits: u32) {
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.permits = consumer.permits.saturating_add(i64::from(permits));
            if let Dispatcher::Keys(queue) = &mut self.dispatcher {
                queue.feed(slot);
            }
        }
    }

    /// Any consumer's ack counts, whoever has the message. True if it was news.
    pub fn handle_ack(&mut self, offset: u64, log: &Log) -> bool {
        if offset >= log.end() || !self.cursor.ack(offset) {
            return false;
        }
        self.settle(offset, log);
        self.unsaved = true;
        true
    }

    /// Acknowledges everything below the offset.
    pub fn handle_ack_below(&mut self, offset: u64, log: &Log) -> bool {
        let before = self.cursor.next();
        let offset = offset.min(log.end());
        if !self.cursor.ack_below(offset) {
            return false;
        }
        if !self.is_single() {
            for offset in before..offset {
                self.settle(offset, log);
            }
        }
        self.read = self.read.max(self.cursor.next());
        self.unsaved = true;
        true
    }

    fn is_single(&self) -> bool {
        matches!(self.dispatcher, Dispatcher::Single { .. })
    }

    /// Forgets all that was known about an offset that is acknowledged now.
    fn settle(&mut self, offset: u64, log: &Log) {
        self.redeliveries.remove(&offset);
        if self.is_single() {
            return;
        }
        if self.take_pending(offset, log) {
            return;
        }
        let Some(entry) = log.get(offset) else { return };
        if entry.facts.deliver_at_ms > 0 {
            self.delayed.remove(&(entry.facts.deliver_at_ms, offset));
        }
        match &mut self.dispatcher {
            Dispatcher::Shared(queue) => {
                queue.replay.remove(&offset);
            }
            Dispatcher::Keys(queue) => queue.remove(offset, entry.facts.hash),
            Dispatcher::Single { .. } => {}
        }
    }

    /// The message is no longer with its consumer.
    fn take_pending(&mut self, offset: u64, log: &Log) -> bool {
        let Some(slot) = self.pending.remove(&offset) else { return false };
        let mut feed = false;
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.unacked.remove(&offset);
            if consumer.blocked && consumer.unacked.len() <= UNACKED_PER_CONSUMER_MAX / 2 {
                consumer.blocked = false;
                feed = true;
            }
        }
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            if let Some(entry) = log.get(offset) {
                queue.release(entry.facts.hash);
            }
            if feed {
                queue.feed(slot);
            }
        }
        true
    }

    fn requeue(&mut self, offset: u64, log: &Log) {
        if !self.take_pending(offset, log) || self.cursor.is_acked(offset) {
            return;
        }
        match &mut self.dispatcher {
            Dispatcher::Shared(queue) => {
                queue.replay.insert(offset);
            }
            Dispatcher::Keys(queue) => {
                if let Some(entry) = log.get(offset) {
                    queue.push(offset, entry.facts.hash);
                }
            }
            Dispatcher::Single { .. } => {}
        }
    }

    /// The consumer wants messages again: these, or all that it has. An Exclusive or Failover subscription
    /// repeats everything unacked, since single messages would break its order.
    pub fn handle_redeliver(&mut self, slot: u32, offsets: Option<Vec<u64>>, log: &Log) {
        if self.is_single() {
            if self.active() == Some(slot) {
                self.read = self.cursor.next();
            }
            return;
        }
        let Some(consumer) = self.consumers.get(&slot) else { return };
        let offsets = match offsets {
            Some(offsets) => offsets.into_iter().filter(|offset| consumer.unacked.contains(offset)).collect(),
            None => consumer.unacked.iter().copied().collect::<Vec<u64>>(),
        };
        for offset in offsets {
            *self.redeliveries.entry(offset).or_insert(0) += 1;
            self.requeue(offset, log);
        }
    }

    /// Moves the cursor; everything from there on comes again. Consumers must have been disconnected.
    pub fn seek(&mut self, next: u64) {
        self.cursor = Cursor::at(next);
        self.unsaved = true;
        self.rewind();
    }

    /// Used while a topic is loaded: what was acknowledged before.
    pub fn restore_cursor(&mut self, next: u64, acked: impl Iterator<Item = u64>) {
        self.cursor = Cursor::at(next);
        for offset in acked {
            self.cursor.ack(offset);
        }
        self.rewind();
    }

    /// Starts again at the first unacknowledged message, with nothing delivered.
    pub fn rewind(&mut self) {
        self.read = self.cursor.next();
        self.pending.clear();
        self.redeliveries.clear();
        self.delayed.clear();
        for consumer in self.consumers.values_mut() {
            consumer.unacked.clear();
            consumer.blocked = false;
        }
        match &mut self.dispatcher {
            Dispatcher::Single { .. } => {}
            Dispatcher::Shared(queue) => queue.replay.clear(),
            Dispatcher::Keys(queue) => queue.clear(),
        }
    }

    /// Entries before the offset are gone.
    pub fn handle_trimmed(&mut self, base: u64) {
        self.cursor.ack_below(base);
        self.read = self.read.max(base);
    }

    /// Hands out whatever can go now.
    pub fn dispatch(&mut self, log: &Log, now_ms: u64, out: &mut Vec<Delivery>) {
        self.read = self.read.max(log.base());
        match &self.dispatcher {
            Dispatcher::Single { active } => self.dispatch_single(*active, log, out),
            Dispatcher::Shared(_) => {
                self.promote_due(log, now_ms);
                self.dispatch_shared(log, now_ms, out);
            }
            Dispatcher::Keys(_) => {
                self.promote_due(log, now_ms);
                self.dispatch_keys(log, now_ms, out);
            }
        }
    }

    fn dispatch_single(&mut self, active: Option<u32>, log: &Log, out: &mut Vec<Delivery>) {
        let Some(consumer) = active.and_then(|slot| self.consumers.get_mut(&slot)) else { return };
        while consumer.permits > 0 {
            let offset = self.read;
            let Some(entry) = log.get(offset) else { return };
            self.read += 1;
            if self.cursor.is_acked(offset) {
                continue;
            }
            consumer.permits -= entry.facts.permits();
            consumer.delivered += 1;
            out.push(Delivery { consumer: consumer.key, offset, entry: *entry, redelivery_count: 0 });
        }
    }

    fn promote_due(&mut self, log: &Log, now_ms: u64) {
        while let Some(&(due, offset)) = self.delayed.first() {
            if due > now_ms {
                return;
            }
            self.delayed.pop_first();
            match &mut self.dispatcher {
                Dispatcher::Shared(queue) => {
                    queue.replay.insert(offset);
                }
                Dispatcher::Keys(queue) => {
                    if let Some(entry) = log.get(offset) {
                        queue.push(offset, entry.facts.hash);
                    }
                }
                Dispatcher::Single { .. } => {}
            }
        }
    }

    /// The next message that was never looked at and may go now.
    fn read_next(&mut self, log: &Log, now_ms: u64) -> Option<(u64, Entry)> {
        loop {
            let offset = self.read;
            let entry = *log.get(offset)?;
            self.read += 1;
            if self.cursor.is_acked(offset) || self.pending.contains_key(&offset) {
                continue;
            }
            if entry.facts.deliver_at_ms > now_ms {
                self.delayed.insert((entry.facts.deliver_at_ms, offset));
                continue;
            }
            return Some((offset, entry));
        }
    }

    fn dispatch_shared(&mut self, log: &Log, now_ms: u64, out: &mut Vec<Delivery>) {
        loop {
            let Dispatcher::Shared(queue) = &mut self.dispatcher else { return };
            let last = queue.last_served;
            let able = |(slot, consumer): (&u32, &Consumer)| consumer.can_take().then_some((consumer.priority, *slot));
            // Round robin among the best priority that can take something.
            let Some(best) = self.consumers.iter().filter_map(able).map(|(priority, _)| priority).min() else { return };
            let mut turn = self.consumers.range(last + 1..).chain(self.consumers.range(..=last)).filter_map(able);
            let Some((_, slot)) = turn.find(|(priority, _)| *priority == best) else { return };
            let replayed = queue.replay.pop_first().and_then(|offset| log.get(offset).map(|entry| (offset, *entry)));
            let Some((offset, entry)) = replayed.or_else(|| self.read_next(log, now_ms)) else { return };
            if let Dispatcher::Shared(queue) = &mut self.dispatcher {
                queue.last_served = slot;
            }
            self.deliver(slot, offset, entry, out);
        }
    }

    fn dispatch_keys(&mut self, log: &Log, now_ms: u64, out: &mut Vec<Delivery>) {
        loop {
            let Dispatcher::Keys(queue) = &mut self.dispatcher else { return };
            let Some((offset, hash)) = queue.next_ready() else { break };
            let Some(entry) = log.get(offset) else {
                queue.remove(offset, hash);
                continue;
            };
            match queue.route(hash) {
                Route::Nobody | Route::Draining => {}
                Route::Consumer(slot) if self.consumers.get(&slot).is_some_and(Consumer::can_take) => {
                    queue.remove(offset, hash);
                    self.deliver(slot, offset, *entry, out);
                }
                Route::Consumer(slot) => queue.starve(slot, offset, hash),
            }
        }
        while self.consumers.values().any(Consumer::can_take) {
            let Dispatcher::Keys(queue) = &self.dispatcher else { return };
            if queue.count() >= KEYS_LOOK_AHEAD_MAX {
                return;
            }
            let Some((offset, entry)) = self.read_next(log, now_ms) else { return };
            let hash = entry.facts.hash;
            let Dispatcher::Keys(queue) = &mut self.dispatcher else { return };
            if queue.has_waiting(hash) {
                queue.push_behind(offset, hash);
                continue;
            }
            match queue.route(hash) {
                Route::Consumer(slot) if self.consumers.get(&slot).is_some_and(Consumer::can_take) => {
                    self.deliver(slot, offset, entry, out);
                }
                Route::Consumer(slot) => {
                    queue.push_behind(offset, hash);
                    queue.starve(slot, offset, hash);
                }
                Route::Draining | Route::Nobody => queue.push_behind(offset, hash),
            }
        }
    }

    fn deliver(&mut self, slot: u32, offset: u64, entry: Entry, out: &mut Vec<Delivery>) {
        let Some(consumer) = self.consumers.get_mut(&slot) else { return };
        consumer.permits -= entry.facts.permits();
        consumer.delivered += 1;
        consumer.unacked.insert(offset);
        consumer.blocked = consumer.unacked.len() >= UNACKED_PER_CONSUMER_MAX;
        self.pending.insert(offset, slot);
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.hold(entry.facts.hash, slot);
        }
        let redelivery_count = self.redeliveries.get(&offset).copied().unwrap_or(0);
        out.push(Delivery { consumer: consumer.key, offset, entry, redelivery_count });
    }

    /// The consumer that an entry of a non-persistent topic goes to, or `None` if nobody has permits: it is dropped.
    pub fn route_unstored(&mut self, hash: u32, permits: i64) -> Option<ConsumerKey> {
        let slot = match &mut self.dispatcher {
            Dispatcher::Single { active } => (*active)?,
            Dispatcher::Keys(queue) => queue.ring.owner(hash)?,
            Dispatcher::Shared(queue) => {
                let last = queue.last_served;
                let mut turn = self.consumers.range(last + 1..).chain(self.consumers.range(..=last));
                let (slot, _) = turn.find(|(_, consumer)| consumer.permits > 0)?;
                queue.last_served = *slot;
                *slot
            }
        };
        let consumer = self.consumers.get_mut(&slot).filter(|consumer| consumer.permits > 0)?;
        consumer.permits -= permits;
        consumer.delivered += 1;
        Some(consumer.key)
    }
}

impl Dispatcher {
    fn of(kind: Kind) -> Dispatcher {
        match kind {
            Kind::Exclusive | Kind::Failover => Dispatcher::Single { active: None },
            Kind::Shared => Dispatcher::Shared(SharedQueue::default()),
            Kind::KeyShared => Dispatcher::Keys(Box::default()),
        }
    }
}
