//! What is persisted beside messages: single changes in the log, and the whole state as of a point of the log.
//!
//! Every change says what is, not what to add, so that applying some again in their order ends in the same
//! state. Cursors are positions, since offsets do not outlive the process.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::TopicId;
use super::batch::Unacked;
use super::compaction::CompactionMeta;
use super::entry::Position;
use super::policies::Policies;
use super::schema::SchemaVersion;
use super::subscription::Kind;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    Tenant { tenant: String },
    TenantRoles { tenant: String, roles: BTreeSet<String> },
    TenantDeleted { tenant: String },
    Namespace { namespace: String, policies: Box<Policies> },
    NamespaceDeleted { namespace: String },
    TopicPolicies { topic: String, policies: Option<Box<Policies>> },
    Partitioned { topic: String, partitions: u32 },
    PartitionedDeleted { topic: String },
    PartitionedProperties { topic: String, properties: BTreeMap<String, String> },
    Schema { topic: String, version: SchemaVersion },
    SchemasForgotten { topic: String },
    Topic { id: TopicId, name: String },
    TopicMeta { id: TopicId, meta: Box<TopicMeta> },
    TopicDeleted { id: TopicId },
    Subscription { topic: TopicId, state: SubscriptionState },
    SubscriptionDeleted { topic: TopicId, name: String },
}

/// Of so many batches a subscription remembers over a restart that a part is acknowledged, as in Apache Pulsar's
/// default; the messages of the others come again.
pub const PARTIAL_MAX: usize = 10_000;

/// A durable subscription and what it has acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionState {
    pub name: String,
    pub kind: Kind,
    /// All before is acknowledged; none if the topic never had a message.
    pub next: Option<Position>,
    /// First and last position of each acknowledged range above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acked: Vec<(Position, Position)>,
    /// Batches of which a part is acknowledged, with what is not. No more than [`PARTIAL_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partial: Vec<(Position, Unacked)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// It reads what compaction kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compacted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicState {
    pub id: TopicId,
    pub name: String,
    /// The last position that was ever stored.
    pub last: Option<Position>,
    pub subscriptions: Vec<SubscriptionState>,
    /// Producer name, highest sequence id stored, time of its last message.
    pub producers: Vec<(String, u64, u64)>,
    #[serde(default)]
    pub meta: TopicMeta,
}

/// What is known of a topic beside its messages, producers and subscriptions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicMeta {
    /// Counts its exclusive producers from zero; a producer that comes back with an older one was fenced
    /// (PIP-68).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compaction: Option<CompactionMeta>,
    /// Under which id a compaction is storing what it keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compacting: Option<TopicId>,
    /// It takes no more messages.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminated: bool,
    /// Of the user.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts the starts of the broker on this directory.
    pub generation: u64,
    pub next_topic: u64,
    pub next_ledger: u64,
    pub tenants: Vec<String>,
    #[serde(default)]
    pub tenant_roles: BTreeMap<String, BTreeSet<String>>,
    pub namespaces: BTreeMap<String, Policies>,
    #[serde(default)]
    pub topic_policies: BTreeMap<String, Policies>,
    pub partitioned: BTreeMap<String, u32>,
    #[serde(default)]
    pub partitioned_properties: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    pub schemas: BTreeMap<String, Vec<SchemaVersion>>,
    pub topics: Vec<TopicState>,
}

impl Snapshot {
    /// A directory in which nothing has happened yet: as a new Apache Pulsar standalone.
    pub fn initial() -> Snapshot {
        Snapshot {
            generation: 0,
            next_topic: 1,
            next_ledger: 1,
            tenants: vec!["public".into()],
            tenant_roles: BTreeMap::new(),
            namespaces: BTreeMap::from([("public/default".into(), Policies::default())]),
            topic_policies: BTreeMap::new(),
            partitioned: BTreeMap::new(),
            partitioned_properties: BTreeMap::new(),
            schemas: BTreeMap::new(),
            topics: Vec::new(),
        }
    }
}
