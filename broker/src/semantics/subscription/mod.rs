//! One subscription of a persistent topic: its consumers, its cursor, and who gets which message when.
//!
//! Owns delivery order, permits, redelivery and delays. It neither reads payloads nor knows topics by name;
//! the topic's [`Log`](super::log::Log) is lent to it.
//!
//! ```text
//! log ──read──► (delayed ─due─►) queue ──permits──► consumer: pending ──ack──► cursor
//!                                  ▲                             │
//!                                  └── redeliver, consumer gone ─┘
//! ```

mod acking;
mod compacted;
mod consumer;
mod dispatch;
mod members;
mod redelivery;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::cursor::Cursor;
use super::entry::Entry;
use super::queue::{KeyQueue, SharedQueue};
use super::selector::KeyPolicy;
use super::stats::KeySharedStats;

pub use compacted::{CompactedReading, Kept};
pub use consumer::{Consumer, ConsumerKey, Joining, Traffic};

/// A consumer with this many unacked messages gets no more until it has acked half of them, as in Apache Pulsar.
pub const UNACKED_PER_CONSUMER_MAX: u64 = 50_000;

/// Nor do all its consumers, if they have this many together, likewise.
pub const UNACKED_PER_SUBSCRIPTION_MAX: u64 = 200_000;

/// So many messages are handed out at once; the rest follows when these are on their way, so that neither a large
/// backlog nor a client that grants any number of permits takes memory.
pub const DISPATCH_MAX: usize = 1000;

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

impl Kind {
    /// As Apache Pulsar names it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Exclusive => "Exclusive",
            Kind::Shared => "Shared",
            Kind::Failover => "Failover",
            Kind::KeyShared => "Key_Shared",
        }
    }
}

/// One message on its way to one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub consumer: ConsumerKey,
    pub offset: u64,
    pub entry: Entry,
    pub redelivery_count: u32,
    /// Messages that it counts for.
    pub messages: u32,
    /// What is not acknowledged of a batch, if a part of it is.
    pub ack_set: Vec<u64>,
    /// For Exclusive and Failover.
    pub epoch: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    slot: u32,
    /// Messages that it counts for.
    messages: u32,
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
    /// Of the user, kept with the cursor (PIP-105).
    pub properties: BTreeMap<String, String>,
    pub traffic: Traffic,
    /// When messages were last skipped because of their age, and when the mark last moved.
    pub last_expired_ms: u64,
    pub last_mark_delete_ms: u64,
    cursor: Cursor,
    pub compacted: CompactedReading,
    /// Next offset that has never been looked at since the last rewind.
    read: u64,
    /// By a number that is never reused within the subscription.
    consumers: BTreeMap<u32, Consumer>,
    next_slot: u32,
    dispatcher: Dispatcher,
    /// Unacked offset to the consumer that has it.
    pending: HashMap<u64, Pending>,
    /// Messages that are unacked at consumers, those of a batch counted singly.
    unacked_messages: u64,
    /// Too many are; nothing more is delivered until half of them are acked.
    blocked: bool,
    redeliveries: HashMap<u64, u32>,
    /// Due time and offset.
    delayed: BTreeSet<(u64, u64)>,
    /// Something changed since the cursor was last persisted.
    pub unsaved: bool,
    /// For so many ticks.
    pub ticks_unsaved: usize,
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
            properties: BTreeMap::new(),
            traffic: Traffic::default(),
            last_expired_ms: 0,
            last_mark_delete_ms: 0,
            cursor: Cursor::at(next),
            compacted: CompactedReading::default(),
            read: next,
            consumers: BTreeMap::new(),
            next_slot: 1,
            dispatcher: Dispatcher::of(kind, KeyPolicy::default()),
            pending: HashMap::new(),
            unacked_messages: 0,
            blocked: false,
            redeliveries: HashMap::new(),
            delayed: BTreeSet::new(),
            unsaved: false,
            ticks_unsaved: 0,
            idle_ticks: 0,
            scheduled: false,
            timer: None,
        }
    }

    /// A window of the rates has ended.
    pub fn roll(&mut self, elapsed_ms: u64) {
        self.traffic.roll(elapsed_ms);
        for consumer in self.consumers.values_mut() {
            consumer.traffic.roll(elapsed_ms);
        }
    }

    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// With their slots.
    pub fn consumers(&self) -> impl Iterator<Item = (u32, &Consumer)> {
        self.consumers.iter().map(|(slot, consumer)| (*slot, consumer))
    }

    pub fn consumer_keys(&self) -> Vec<ConsumerKey> {
        self.consumers.values().map(|consumer| consumer.key).collect()
    }

    pub fn consumer(&self, slot: u32) -> Option<&Consumer> {
        self.consumers.get(&slot)
    }

    pub fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// Messages that consumers have and have not acked; of batches every one.
    pub fn unacked(&self) -> u64 {
        self.unacked_messages
    }

    /// Consumers have so much unacked that nothing more is delivered.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The hash ranges of a consumer's keys.
    pub fn key_ranges(&self, slot: u32) -> Vec<(u32, u32)> {
        match &self.dispatcher {
            Dispatcher::Keys(queue) => queue.selector.ranges(slot),
            _ => Vec::new(),
        }
    }

    pub fn key_stats(&self) -> Option<KeySharedStats> {
        let Dispatcher::Keys(queue) = &self.dispatcher else { return None };
        Some(KeySharedStats { policy: queue.policy(), draining: queue.draining() })
    }

    /// What [`Subscription::unacked`] and [`Subscription::key_stats`] say, counted anew.
    #[cfg(test)]
    pub fn recounted(&self) -> (u64, Option<super::queue::Draining>) {
        let unacked = self.pending.values().map(|pending| u64::from(pending.messages)).sum();
        let Dispatcher::Keys(queue) = &self.dispatcher else { return (unacked, None) };
        (unacked, Some(queue.count_draining()))
    }

    /// What consumers have and have not acked.
    #[cfg(test)]
    pub fn pending(&self) -> impl Iterator<Item = u64> {
        self.pending.keys().copied()
    }

    /// The next offset to be read.
    pub fn read(&self) -> u64 {
        self.read
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

    fn is_single(&self) -> bool {
        matches!(self.dispatcher, Dispatcher::Single { .. })
    }
}

impl Dispatcher {
    fn of(kind: Kind, keys: KeyPolicy) -> Dispatcher {
        match kind {
            Kind::Exclusive | Kind::Failover => Dispatcher::Single { active: None },
            Kind::Shared => Dispatcher::Shared(SharedQueue::default()),
            Kind::KeyShared => Dispatcher::Keys(Box::new(KeyQueue::new(keys))),
        }
    }
}
