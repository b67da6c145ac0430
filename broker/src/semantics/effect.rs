//! What the state machine wants done, and why it refuses.

use bytes::Bytes;

use super::change::Change;
use super::entry::{Facts, Location, Position};
use super::subscription::ConsumerKey;
use super::{ConnectionId, TopicId};

/// Where the bytes of a delivered message are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Stored(Location),
    /// Of a non-persistent topic: nowhere else.
    Inline(Bytes),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Store a message. Answered by `handle_appended` or `handle_append_failed`.
    Append {
        topic: TopicId,
        position: Position,
        facts: Facts,
        /// Who sent it and up to which sequence id, if the topic deduplicates.
        origin: Option<(std::sync::Arc<str>, u64)>,
        payload: Bytes,
    },
    /// Store a change. Answered likewise.
    Log(Change),
    /// A message of a topic was stored, or was a duplicate (no position).
    Receipt {
        connection: ConnectionId,
        producer_id: u64,
        sequence_id: u64,
        highest_sequence_id: u64,
        position: Option<Position>,
        partition: i32,
        /// What the message counts for in the limit of unanswered bytes.
        bytes: usize,
    },
    SendError {
        connection: ConnectionId,
        producer_id: u64,
        sequence_id: u64,
        refusal: Refusal,
        bytes: usize,
    },
    /// A message will get no answer, since its producer is gone; its bytes count no longer.
    Unanswered {
        connection: ConnectionId,
        bytes: usize,
    },
    Deliver {
        consumer: ConsumerKey,
        position: Position,
        partition: i32,
        redelivery_count: u32,
        /// Permits to give back if it cannot be delivered.
        permits: u32,
        /// What is not acknowledged of a batch, if a part of it is; bits as in commands.
        ack_set: Vec<u64>,
        /// The consumer's epoch, if it has one (PIP-84).
        epoch: Option<u64>,
        source: Source,
    },
    Success {
        connection: ConnectionId,
        request_id: u64,
    },
    Refused {
        connection: ConnectionId,
        request_id: u64,
        refusal: Refusal,
    },
    ProducerReady {
        connection: ConnectionId,
        request_id: u64,
        name: String,
        last_sequence_id: i64,
        topic_epoch: Option<u64>,
        schema_version: Option<u64>,
        /// False: wait for another `ProducerReady` of the same request.
        ready: bool,
    },
    /// The version of a schema that a client asked to be made, if it brought one.
    SchemaReady {
        connection: ConnectionId,
        request_id: u64,
        outcome: Result<Option<u64>, Refusal>,
    },
    /// The broker closed it; the client should connect anew.
    ProducerClosed {
        connection: ConnectionId,
        producer_id: u64,
    },
    ConsumerClosed {
        consumer: ConsumerKey,
    },
    ActiveConsumer {
        consumer: ConsumerKey,
        active: bool,
    },
    /// All changes that were made before [`super::Broker::handle_sync`] are stored, or could not be.
    Synced {
        token: u64,
        outcome: Result<(), Refusal>,
    },
    /// How many partitions a topic has.
    Partitions {
        connection: ConnectionId,
        request_id: u64,
        outcome: Result<u32, Refusal>,
    },
    /// The topic is terminated, and the consumer has acknowledged everything.
    EndOfTopic {
        consumer: ConsumerKey,
    },
    /// Topics that a watcher asked for came or went.
    TopicsChanged {
        connection: ConnectionId,
        watcher_id: u64,
        created: Vec<String>,
        deleted: Vec<String>,
        /// Of all that match now.
        hash: String,
    },
    /// Somebody who can read payloads should compact this topic; see [`super::compaction`].
    Compact {
        topic: TopicId,
    },
    /// So many entries in a segment are not needed any more.
    Released {
        segment: u32,
        entries: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    InvalidName,
    TopicNotFound,
    NamespaceNotFound,
    TenantNotFound,
    SubscriptionNotFound,
    ConsumerNotFound,
    AlreadyExists,
    /// Clients or subscriptions stand in the way.
    Busy,
    ConsumerBusy,
    /// The hash ranges that a consumer brings cannot be its own.
    ConsumerAssign,
    ProducerBusy,
    ProducerFenced,
    /// The topic takes no more messages.
    TopicTerminated,
    /// Too much waits; the producer should wait, too.
    BacklogHold,
    /// Too much waits; what the producer has sent fails.
    BacklogFull,
    /// The schema does not fit what the topic has.
    IncompatibleSchema,
    /// The definition is none of its type.
    InvalidSchema,
    /// The namespace requires encryption.
    Unencrypted,
    NotAllowed,
    /// The storage could not write; nothing that was confirmed is lost, and it may work later.
    Storage,
}

/// Why a request was not done, in words for whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

impl Refusal {
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into() }
    }
}

impl Effect {
    /// What becomes of an answer that waited for a change that could not be stored.
    pub(super) fn refused(self, why: &Refusal) -> Option<Effect> {
        let refusal = why.clone();
        match self {
            Effect::Success { connection, request_id } | Effect::ProducerReady { connection, request_id, .. } => {
                Some(Effect::Refused { connection, request_id, refusal })
            }
            Effect::Receipt { connection, producer_id, sequence_id, bytes, .. } => {
                Some(Effect::SendError { connection, producer_id, sequence_id, refusal, bytes })
            }
            Effect::Partitions { connection, request_id, .. } => {
                Some(Effect::Partitions { connection, request_id, outcome: Err(refusal) })
            }
            Effect::SchemaReady { connection, request_id, .. } => {
                Some(Effect::SchemaReady { connection, request_id, outcome: Err(refusal) })
            }
            Effect::Synced { token, .. } => Some(Effect::Synced { token, outcome: Err(refusal) }),
            other => Some(other),
        }
    }
}
