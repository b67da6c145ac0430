//! Back from disk: a snapshot, then every change and message after it, in their order.

use std::collections::BTreeMap;

use super::TopicId;
use super::broker::Broker;
use super::change::{Change, Snapshot, SubscriptionState, TopicMeta, TopicState};
use super::entry::Position;
use super::log::Log;
use super::name::TopicName;
use super::packed::Packed;
use super::subscription::Subscription;
use super::topic::{SINCE_START, Sequence, Topic};

/// Builds a [`Broker`] from what was stored.
#[derive(Debug)]
pub struct Restore {
    broker: Broker,
    /// Cursors are positions; they become offsets when all entries are known.
    cursors: BTreeMap<TopicId, Vec<SubscriptionState>>,
    /// What compactions keep or kept, by the id under which it is stored.
    kept: BTreeMap<TopicId, Log>,
}

impl Restore {
    pub fn new(snapshot: Snapshot) -> Restore {
        let mut broker = Broker::default();
        broker.generation = snapshot.generation + 1;
        broker.next_topic = snapshot.next_topic;
        broker.next_ledger = snapshot.next_ledger;
        broker.catalog.tenants.extend(snapshot.tenants);
        broker.catalog.tenant_roles.extend(snapshot.tenant_roles);
        broker.catalog.namespaces.extend(snapshot.namespaces);
        broker.catalog.topic_policies.extend(snapshot.topic_policies);
        broker.catalog.partitioned.extend(snapshot.partitioned);
        broker.catalog.partitioned_properties.extend(snapshot.partitioned_properties);
        broker.catalog.schemas.extend(snapshot.schemas);
        let mut restore = Restore { broker, cursors: BTreeMap::new(), kept: BTreeMap::new() };
        for state in snapshot.topics {
            restore.topic(state);
        }
        restore
    }

    fn topic(&mut self, state: TopicState) {
        // Written by us from a parsed name; one that does not parse now has no way to be reached.
        let Ok(name) = TopicName::parse(&state.name) else { return };
        self.broker.next_topic = self.broker.next_topic.max(state.id.0 + 1);
        self.broker.names.insert(name.as_str().to_owned(), state.id);
        let mut topic = Topic::new(state.id, name);
        topic.last = state.last;
        self.expect_kept(&state.meta);
        topic.meta = state.meta;
        for (name, sequence, active_ms) in state.producers {
            let stored = Some(sequence);
            topic.deduplication.insert(name.into(), Sequence { pushed: stored, stored, active_ms });
        }
        self.broker.topics.insert(state.id, topic);
        self.cursors.insert(state.id, state.subscriptions);
    }

    pub fn change(&mut self, change: Change) {
        let catalog = &mut self.broker.catalog;
        match change {
            Change::Tenant { tenant } => {
                catalog.tenants.insert(tenant);
            }
            Change::TenantRoles { tenant, roles } => {
                catalog.tenant_roles.insert(tenant, roles);
            }
            Change::TenantDeleted { tenant } => {
                catalog.tenants.remove(&tenant);
                catalog.tenant_roles.remove(&tenant);
            }
            Change::Namespace { namespace, policies } => {
                catalog.namespaces.insert(namespace, *policies);
            }
            Change::NamespaceDeleted { namespace } => {
                catalog.namespaces.remove(&namespace);
            }
            Change::TopicPolicies { topic, policies: Some(policies) } => {
                catalog.topic_policies.insert(topic, *policies);
            }
            Change::TopicPolicies { topic, policies: None } => {
                catalog.topic_policies.remove(&topic);
            }
            Change::Partitioned { topic, partitions } => {
                catalog.partitioned.insert(topic, partitions);
            }
            Change::PartitionedDeleted { topic } => {
                catalog.partitioned.remove(&topic);
                catalog.partitioned_properties.remove(&topic);
            }
            Change::PartitionedProperties { topic, properties } => {
                catalog.partitioned_properties.insert(topic, properties);
            }
            Change::Schema { topic, version } => {
                let versions = catalog.schemas.entry(topic).or_default();
                versions.retain(|other| other.version < version.version);
                versions.push(version);
            }
            Change::SchemasForgotten { topic } => {
                catalog.schemas.remove(&topic);
            }
            Change::Topic { id, name } => {
                if !self.broker.topics.contains_key(&id) {
                    let (subscriptions, producers, meta) = (Vec::new(), Vec::new(), TopicMeta::default());
                    self.topic(TopicState { id, name, last: None, subscriptions, producers, meta });
                }
            }
            Change::TopicMeta { id, meta } => {
                self.expect_kept(&meta);
                if let Some(topic) = self.broker.topics.get_mut(&id) {
                    topic.meta = *meta;
                }
            }
            Change::TopicDeleted { id } => {
                if let Some(topic) = self.broker.topics.remove(&id) {
                    self.broker.names.remove(topic.name.as_str());
                }
                self.cursors.remove(&id);
            }
            Change::Subscription { topic, state } => {
                if let Some(cursors) = self.cursors.get_mut(&topic) {
                    cursors.retain(|other| other.name != state.name);
                    cursors.push(state);
                }
            }
            Change::SubscriptionDeleted { topic, name } => {
                if let Some(cursors) = self.cursors.get_mut(&topic) {
                    cursors.retain(|other| other.name != name);
                }
            }
        }
    }

    /// Messages of these ids are what a compaction keeps.
    fn expect_kept(&mut self, meta: &TopicMeta) {
        for id in meta.compaction.map(|compaction| compaction.kept).into_iter().chain(meta.compacting) {
            self.broker.next_topic = self.broker.next_topic.max(id.0 + 1);
            self.kept.entry(id).or_default();
        }
    }

    /// Stored messages that follow each other in a ledger; those of a topic that does not exist (any more) are passed over.
    pub fn messages(&mut self, topic: TopicId, first: Position, entries: Packed) {
        let Some(last) = (entries.count() as u64).checked_sub(1) else { return };
        self.broker.next_ledger = self.broker.next_ledger.max(first.ledger + 1);
        if let Some(kept) = self.kept.get_mut(&topic) {
            return kept.push_packed(first, entries);
        }
        let Some(topic) = self.broker.topics.get_mut(&topic) else { return };
        topic.log.push_packed(first, entries);
        topic.last = topic.last.max(Some(Position { entry: first.entry + last, ..first }));
    }

    /// The highest sequence id that a topic has of a producer, and when its last message was published.
    pub fn sequence(&mut self, topic: TopicId, name: &str, highest: u64) {
        let Some(topic) = self.broker.topics.get_mut(&topic) else { return };
        if !topic.deduplication.contains_key(name) {
            topic.deduplication.insert(name.into(), Sequence::default());
        }
        if let Some(sequence) = topic.deduplication.get_mut(name) {
            sequence.stored = sequence.stored.max(Some(highest));
            sequence.pushed = sequence.stored;
            sequence.active_ms = SINCE_START;
        }
    }

    pub fn finish(mut self) -> Broker {
        for topic in self.broker.topics.values_mut() {
            // A compaction that did not end has never been.
            topic.meta.compacting = None;
            let kept = topic.meta.compaction.and_then(|compaction| self.kept.remove(&compaction.kept));
            topic.compaction.kept = kept.unwrap_or_default();
            let from = topic.uncompacted_from();
            topic.compaction.fresh_bytes = topic.log.bytes_between(from, topic.log.end());
        }
        for (id, cursors) in self.cursors {
            let Some(topic) = self.broker.topics.get_mut(&id) else { continue };
            for state in cursors {
                let next = state.next.map_or(topic.log.base(), |next| topic.log.ceiling(next));
                let mut subscription = Subscription::new(&state.name, state.kind, true, next);
                let acked = state.acked.iter().map(|(first, last)| {
                    let end = topic.log.find(*last).map_or(topic.log.ceiling(*last), |offset| offset + 1);
                    (topic.log.ceiling(*first), end)
                });
                let partial = state.partial.into_iter();
                let partial = partial.filter_map(|(position, unacked)| Some((topic.log.find(position)?, unacked)));
                subscription.restore_cursor(next, acked, partial, &topic.log);
                subscription.compacted.wanted = state.compacted;
                subscription.compacted.next = state.next;
                subscription.properties = state.properties;
                topic.add_subscription(subscription);
            }
        }
        self.broker
    }
}

impl Broker {
    /// The whole state, to be stored after all effects that came out so far.
    pub fn snapshot(&self) -> Snapshot {
        let ids = self.topic_ids();
        let topics = ids.iter().filter_map(|id| self.topics.get(id)).filter(|topic| topic.name.is_persistent());
        Snapshot {
            generation: self.generation,
            next_topic: self.next_topic,
            next_ledger: self.next_ledger,
            tenants: self.catalog.tenants.iter().cloned().collect(),
            tenant_roles: self.catalog.tenant_roles.clone(),
            namespaces: self.catalog.namespaces.clone(),
            topic_policies: self.catalog.topic_policies.clone(),
            partitioned: self.catalog.partitioned.clone(),
            partitioned_properties: self.catalog.partitioned_properties.clone(),
            schemas: self.catalog.schemas.clone(),
            topics: topics.map(Topic::state).collect(),
        }
    }
}
