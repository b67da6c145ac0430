//! One topic, and the life of topics: created on first use or by the admin, unloaded, deleted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::TopicId;
use super::broker::Broker;
use super::change::{Change, PARTIAL_MAX, SubscriptionState, TopicMeta, TopicState};
use super::compaction::Compaction;
use super::effect::{Effect, Refusal, RefusalKind};
use super::entry::Position;
use super::log::{Log, PerSegment};
use super::meter::Meter;
use super::name::TopicName;
use super::produce::ProducerKey;
use super::subscription::Subscription;

#[derive(Debug)]
pub(super) struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub log: Log,
    /// What came in since the topic was loaded.
    pub received: Meter,
    /// The last position ever stored, even if it is gone.
    pub last: Option<Position>,
    /// Where the next message goes; none before the first one since the topic was loaded.
    pub next: Option<Position>,
    pub subscriptions: BTreeMap<u32, Subscription>,
    pub next_subscription: u32,
    pub producers: Vec<ProducerKey>,
    /// The producer that has the topic for itself.
    pub exclusive: Option<ProducerKey>,
    /// Producers that wait to have it, with the request to answer.
    pub waiting: VecDeque<(ProducerKey, u64)>,
    pub meta: TopicMeta,
    pub compaction: Compaction,
    /// Its index has more than its share of the memory that all may take.
    pub index_is_full: bool,
    /// Since when it has had no clients, as far as has been noticed.
    pub idle_since_ms: Option<u64>,
    pub deduplication: BTreeMap<Arc<str>, Sequence>,
}

/// What deduplication knows of one producer name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sequence {
    /// Highest sequence id given to the storage.
    pub pushed: Option<u64>,
    /// Highest that is stored.
    pub stored: Option<u64>,
    /// When it was last heard of, or [`SINCE_START`].
    pub active_ms: u64,
}

/// It is known from a message that an earlier process stored, and nobody knows when: messages bear their clients' clocks, which
/// may say anything. It counts as heard of when this process began.
pub(super) const SINCE_START: u64 = u64::MAX;

impl Topic {
    pub fn new(id: TopicId, name: TopicName) -> Topic {
        Topic {
            id,
            name,
            log: Log::default(),
            received: Meter::default(),
            last: None,
            next: None,
            subscriptions: BTreeMap::new(),
            next_subscription: 1,
            producers: Vec::new(),
            exclusive: None,
            waiting: VecDeque::new(),
            meta: TopicMeta::default(),
            compaction: Compaction::default(),
            index_is_full: false,
            idle_since_ms: None,
            deduplication: BTreeMap::new(),
        }
    }

    /// As it travels in message ids.
    pub fn partition(&self) -> i32 {
        self.name.partition().map_or(-1, |partition| partition as i32)
    }

    /// Its producers, also those that wait.
    pub fn clients_that_write(&self) -> Vec<ProducerKey> {
        self.producers.iter().copied().chain(self.waiting.iter().map(|(key, _)| *key)).collect()
    }

    pub fn subscription_id(&self, name: &str) -> Option<u32> {
        self.subscriptions.iter().find(|(_, subscription)| subscription.name == name).map(|(id, _)| *id)
    }

    pub fn add_subscription(&mut self, subscription: Subscription) -> u32 {
        let id = self.next_subscription;
        self.next_subscription += 1;
        self.subscriptions.insert(id, subscription);
        id
    }

    /// The position that stands for an offset, also for the end.
    pub fn mark(&self, offset: u64) -> Option<Position> {
        self.log.position(offset).or(self.last.map(|last| Position { ledger: last.ledger, entry: last.entry + 1 }))
    }

    /// First and last position of the acknowledged ranges above the mark.
    pub fn acked_ranges(&self, subscription: &Subscription) -> impl Iterator<Item = (Position, Position)> {
        subscription.cursor().ranges().filter_map(|(start, end)| {
            let first = self.log.position(start)?;
            Some((first, self.log.position(end - 1)?))
        })
    }

    pub fn subscription_state(&self, subscription: &Subscription) -> SubscriptionState {
        let cursor = subscription.cursor();
        let partial =
            cursor.partial().filter_map(|(offset, unacked)| Some((self.log.position(offset)?, unacked.clone())));
        SubscriptionState {
            name: subscription.name.clone(),
            kind: subscription.kind,
            next: subscription.lost(&self.log).or_else(|| self.mark(cursor.next())),
            acked: self.acked_ranges(subscription).collect(),
            partial: partial.take(PARTIAL_MAX).collect(),
            properties: subscription.properties.clone(),
            compacted: subscription.compacted.wanted,
        }
    }

    pub fn state(&self) -> TopicState {
        let durable = self.subscriptions.values().filter(|subscription| subscription.durable);
        let producers = self.deduplication.iter();
        TopicState {
            id: self.id,
            name: self.name.to_string(),
            last: self.last,
            subscriptions: durable.map(|subscription| self.subscription_state(subscription)).collect(),
            producers: producers
                .filter_map(|(name, sequence)| Some((name.to_string(), sequence.stored?, sequence.active_ms)))
                .collect(),
            meta: self.meta.clone(),
        }
    }
}

impl Broker {
    /// Changes what is durably known of a topic.
    pub(super) fn edit_meta(&mut self, id: TopicId, edit: impl FnOnce(&mut TopicMeta)) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let before = topic.meta.clone();
        edit(&mut topic.meta);
        if topic.meta != before && topic.name.is_persistent() {
            let meta = Box::new(topic.meta.clone());
            self.log(Change::TopicMeta { id, meta });
        }
    }

    pub(super) fn topic_id(&self, name: &TopicName) -> Option<TopicId> {
        self.names.get(name.as_str()).copied()
    }

    /// Whether there is exactly this topic, or partition.
    pub fn has_topic(&self, name: &TopicName) -> bool {
        self.topic_id(name).is_some()
    }

    /// # Errors
    /// There is no such topic.
    pub(super) fn topic(&self, name: &TopicName) -> Result<&Topic, Refusal> {
        let topic = self.topic_id(name).and_then(|id| self.topics.get(&id));
        topic.ok_or_else(|| Refusal::new(RefusalKind::TopicNotFound, format!("Topic {name} not found")))
    }

    /// All topics, partitions singly, in the order of their names.
    pub fn topics(&self) -> Vec<TopicName> {
        self.names.values().filter_map(|id| Some(self.topics.get(id)?.name.clone())).collect()
    }

    /// All topics of a namespace, partitions singly, in the order of their names.
    pub fn topics_of(&self, namespace: &str) -> Vec<TopicName> {
        self.ids_of(namespace).filter_map(|id| Some(self.topics.get(&id)?.name.clone())).collect()
    }

    /// The topics of a namespace; those of others are not looked at.
    pub(super) fn ids_of(&self, namespace: &str) -> impl Iterator<Item = TopicId> {
        // The character behind the slash.
        let range = |scheme| format!("{scheme}://{namespace}/")..format!("{scheme}://{namespace}0");
        ["non-persistent", "persistent"]
            .map(range)
            .into_iter()
            .flat_map(|range| self.names.range(range))
            .map(|(_, id)| *id)
    }

    /// Parses a name and checks that its namespace exists.
    ///
    /// # Errors
    /// No name, or no such namespace.
    pub fn resolve(&self, name: &str) -> Result<TopicName, Refusal> {
        let name = TopicName::parse(name).map_err(|error| Refusal::new(RefusalKind::InvalidName, error.to_string()))?;
        self.catalog.namespace(name.namespace())?;
        Ok(name)
    }

    /// The topic that a client wants to use, made if need be and allowed.
    pub(super) fn client_topic(&mut self, name: &str, create: bool) -> Result<TopicId, Refusal> {
        let create = create && TopicName::parse(name).is_ok_and(|name| self.auto_creation(&name).allow);
        self.ensure_topic(name, create)
    }

    /// The topic of this name, made if need be.
    pub(super) fn ensure_topic(&mut self, name: &str, create: bool) -> Result<TopicId, Refusal> {
        let name = self.resolve(name)?;
        if self.catalog.partitioned.contains_key(name.as_str()) {
            return Err(Refusal::new(
                RefusalKind::NotAllowed,
                format!("{name} is partitioned: use its partitions {name}-partition-0 and so on"),
            ));
        }
        if let Some(id) = self.topic_id(&name) {
            return Ok(id);
        }
        let beyond = match (name.partition(), self.catalog.partitioned.get(name.base())) {
            (Some(index), Some(count)) => index >= *count,
            _ => false,
        };
        if beyond || !create {
            return Err(Refusal::new(RefusalKind::TopicNotFound, format!("Topic {name} does not exist")));
        }
        self.check_storage()?;
        self.check_new_topics(&name, 1)?;
        Ok(self.create_topic(&name))
    }

    pub(super) fn create_topic(&mut self, name: &TopicName) -> TopicId {
        if let Some(id) = self.topic_id(name) {
            return id;
        }
        let id = TopicId(self.next_topic);
        self.next_topic += 1;
        self.topics.insert(id, Topic::new(id, name.clone()));
        self.names.insert(name.as_str().to_owned(), id);
        self.listing_changed(name);
        if name.is_persistent() {
            self.log(Change::Topic { id, name: name.to_string() });
        }
        id
    }

    /// # Errors
    /// It exists, or its name cannot be used.
    pub fn handle_create_topic(&mut self, name: &TopicName) -> Result<(), Refusal> {
        if self.topic_id(name).is_some() || self.catalog.partitioned.contains_key(name.as_str()) {
            return Err(Refusal::new(RefusalKind::AlreadyExists, "This topic already exists"));
        }
        self.ensure_topic(name.as_str(), true).map(|_| ())
    }

    pub(super) fn check_deletable(&self, name: &TopicName, force: bool) -> Result<(), Refusal> {
        let Ok(topic) = self.topic(name) else { return Ok(()) };
        let used = !topic.producers.is_empty() || topic.subscriptions.values().any(Subscription::has_consumers);
        if used && !force {
            return Err(Refusal::new(
                RefusalKind::Busy,
                format!("Topic {name} has active producers or consumers: close them, or delete with force"),
            ));
        }
        Ok(())
    }

    /// # Errors
    /// It does not exist, or has clients and `force` was not asked for.
    pub fn handle_delete_topic(&mut self, name: &TopicName, force: bool) -> Result<(), Refusal> {
        self.topic(name)?;
        self.check_deletable(name, force)?;
        self.forget_topic_policies(name);
        self.disconnect_clients(name)?;
        let Some(id) = self.names.remove(name.as_str()) else { return Ok(()) };
        self.listing_changed(name);
        if let Some(topic) = self.topics.remove(&id) {
            let mut gone = PerSegment::new();
            topic.log.per_segment(&mut gone);
            topic.compaction.per_segment(&mut gone);
            self.release(gone);
        }
        if name.is_persistent() {
            self.log(Change::TopicDeleted { id });
        }
        if !self.catalog.partitioned.contains_key(name.base()) {
            self.forget_schemas(name);
        }
        Ok(())
    }

    pub(super) fn release(&mut self, gone: PerSegment) {
        for (segment, entries) in gone {
            self.emit(Effect::Released { segment, entries });
        }
    }

    /// Makes all clients connect anew and begins a new ledger, as when Apache Pulsar moves a topic.
    ///
    /// # Errors
    /// It does not exist.
    pub fn handle_unload(&mut self, name: &TopicName) -> Result<(), Refusal> {
        let count = self.catalog.partitioned.get(name.as_str()).copied();
        if let Some(count) = count {
            for partition in self.partition_names(name, count) {
                if self.topic_id(&partition).is_some() {
                    self.handle_unload(&partition)?;
                }
            }
            return Ok(());
        }
        self.disconnect_clients(name)?;
        let id = self.topic(name)?.id;
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.next = None;
            for subscription in topic.subscriptions.values_mut() {
                subscription.rewind();
            }
        }
        Ok(())
    }

    fn disconnect_clients(&mut self, name: &TopicName) -> Result<(), Refusal> {
        let topic = self.topic(name)?;
        let producers = topic.clients_that_write();
        let consumers: Vec<_> = topic.subscriptions.values().flat_map(Subscription::consumer_keys).collect();
        for key in producers {
            self.remove_producer(key);
            self.emit(Effect::ProducerClosed { connection: key.connection, producer_id: key.producer_id });
        }
        for consumer in consumers {
            self.remove_consumer(consumer);
            self.emit(Effect::ConsumerClosed { consumer });
        }
        Ok(())
    }
}
