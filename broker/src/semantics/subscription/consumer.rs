//! One consumer of a subscription: who it is, what it may take, what it has.

use std::collections::{BTreeMap, BTreeSet};

use crate::semantics::ConnectionId;
use crate::semantics::meter::Rate;
use crate::semantics::selector::{KeyPolicy, range_place};

/// A consumer as its connection knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerKey {
    pub connection: ConnectionId,
    pub consumer_id: u64,
}

impl ConsumerKey {
    pub(in crate::semantics) fn all_of(connection: ConnectionId) -> std::ops::RangeInclusive<ConsumerKey> {
        ConsumerKey { connection, consumer_id: 0 }..=ConsumerKey { connection, consumer_id: u64::MAX }
    }
}

/// What a consumer says of itself when it subscribes.
#[derive(Debug, Clone)]
pub struct Joining {
    pub key: ConsumerKey,
    pub name: String,
    pub priority: i32,
    pub metadata: BTreeMap<String, String>,
    pub epoch: Option<u64>,
    pub keys: KeyPolicy,
    /// First and last hash of the ranges of keys that it wants: of Key_Shared with ranges, and of a reader.
    pub ranges: Vec<(u32, u32)>,
    pub now_ms: u64,
}

#[derive(Debug)]
pub struct Consumer {
    pub key: ConsumerKey,
    pub name: String,
    /// Lower is served first.
    pub priority: i32,
    pub metadata: BTreeMap<String, String>,
    pub connected_ms: u64,
    /// Counts the times that its client threw away what it had and asked again (PIP-84).
    pub epoch: Option<u64>,
    pub permits: i64,
    /// Of a reader that wants only some keys; else empty.
    filter: Vec<(u32, u32)>,
    /// Offsets delivered and not acked; not kept for Exclusive and Failover, whose cursor just rewinds.
    pub unacked: BTreeSet<u64>,
    /// Messages in these, those of a batch counted singly.
    pub unacked_messages: u64,
    pub(super) blocked: bool,
    /// Its connection does not take what was delivered.
    pub(super) congested: bool,
    pub traffic: Traffic,
}

/// What went to a consumer or a subscription since it was loaded, and when last. Times are zero for "never".
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Traffic {
    pub messages_out: u64,
    pub bytes_out: u64,
    pub redelivered: u64,
    /// Messages and bytes per second, and messages delivered again.
    pub rate_out: Rate,
    pub throughput_out: Rate,
    pub rate_redelivered: Rate,
    pub last_delivered_ms: u64,
    pub last_acked_ms: u64,
    pub last_flow_ms: u64,
}

impl Traffic {
    pub(super) fn delivered(&mut self, messages: u64, bytes: u64, again: bool, now_ms: u64) {
        self.messages_out += messages;
        self.bytes_out += bytes;
        if again {
            self.redelivered += messages;
        }
        self.last_delivered_ms = now_ms;
    }

    pub(super) fn roll(&mut self, elapsed_ms: u64) {
        self.rate_out.roll(self.messages_out, elapsed_ms);
        self.throughput_out.roll(self.bytes_out, elapsed_ms);
        self.rate_redelivered.roll(self.redelivered, elapsed_ms);
    }
}

impl Consumer {
    pub(super) fn new(joining: Joining) -> Consumer {
        Consumer {
            key: joining.key,
            name: joining.name,
            priority: joining.priority,
            metadata: joining.metadata,
            connected_ms: joining.now_ms,
            epoch: joining.epoch,
            permits: 0,
            filter: joining.ranges,
            unacked: BTreeSet::new(),
            unacked_messages: 0,
            blocked: false,
            congested: false,
            traffic: Traffic::default(),
        }
    }

    pub(super) fn can_take(&self) -> bool {
        self.permits > 0 && !self.blocked && !self.congested
    }

    /// Whether a reader wants messages with such a key.
    pub(super) fn wants(&self, hash: u32) -> bool {
        let place = range_place(hash);
        self.filter.is_empty() || self.filter.iter().any(|(start, end)| (start..=end).contains(&&place))
    }

    /// It has acknowledged too little to get more.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }
}
