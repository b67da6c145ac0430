//! One consumer of a subscription: who it is, what it may take, what it has.

use std::collections::BTreeSet;

use crate::semantics::ConnectionId;

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
    pub(super) blocked: bool,
    pub delivered: u64,
}

impl Consumer {
    pub(super) fn can_take(&self) -> bool {
        self.permits > 0 && !self.blocked
    }
}
