//! Producers: who may write to a topic, alone or with others (PIP-68), and under which name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::broker::Broker;
use super::effect::{Effect, Refusal, RefusalKind};
use super::meter::Meter;
use super::schema::Schema;
use super::subscription::{Kind, Subscription};
use super::topic::Topic;
use super::{ConnectionId, TopicId};

/// What a stored message has room for: deduplication keeps the name beside it. A longer one would be cut, and cut within
/// a character it could not be read again.
pub const PRODUCER_NAME_BYTES_MAX: usize = u16::MAX as usize;

/// A producer as its connection knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProducerKey {
    pub connection: ConnectionId,
    pub producer_id: u64,
}

impl ProducerKey {
    pub(super) fn all_of(connection: ConnectionId) -> RangeInclusive<ProducerKey> {
        ProducerKey { connection, producer_id: 0 }..=ProducerKey { connection, producer_id: u64::MAX }
    }
}

#[derive(Debug)]
pub(super) struct Producer {
    pub topic: TopicId,
    pub name: Arc<str>,
    /// Which life of the producer; see [`super::broker::StoringMessage`].
    pub serial: u64,
    epoch: u64,
    user_named: bool,
    pub access: Access,
    /// What it knew of the topic's epoch when it came.
    topic_epoch: Option<u64>,
    /// Says that it encrypts, and is held to it.
    pub encrypted: bool,
    /// Of its schema, if it has one.
    schema_version: Option<u64>,
    /// Waits for exclusive access.
    pub waiting: bool,
    /// A message of it could not be stored; it must be created again.
    pub failed: bool,
    pub metadata: BTreeMap<String, String>,
    pub connected_ms: u64,
    pub sent: Meter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    #[default]
    Shared,
    Exclusive,
    WaitForExclusive,
    ExclusiveWithFencing,
}

#[derive(Debug, Clone, Default)]
pub struct CreateProducer {
    pub topic: String,
    pub producer_id: u64,
    pub request_id: u64,
    /// A unique one is made if there is none.
    pub name: Option<String>,
    pub user_named: bool,
    pub epoch: u64,
    pub access: Access,
    pub topic_epoch: Option<u64>,
    pub encrypted: bool,
    /// What its messages are of.
    pub schema: Option<Schema>,
    /// A durable subscription to make, at the earliest message, before the first message is sent.
    pub initial_subscription: Option<String>,
    /// What its client says of it, for the stats.
    pub metadata: BTreeMap<String, String>,
}

impl Broker {
    pub fn handle_create_producer(&mut self, connection: ConnectionId, request: CreateProducer) {
        let request_id = request.request_id;
        if let Err(refusal) = self.create_producer(connection, request) {
            self.emit(Effect::Refused { connection, request_id, refusal });
        }
    }

    fn create_producer(&mut self, connection: ConnectionId, request: CreateProducer) -> Result<(), Refusal> {
        let key = ProducerKey { connection, producer_id: request.producer_id };
        // Before the topic is made: what is refused for this leaves nothing behind.
        if !self.producers.contains_key(&key) {
            self.check_new_producer(connection)?;
        }
        let topic_id = self.client_topic(&request.topic, true)?;
        match self.producers.get(&key) {
            // Asked again on the same connection: it is there.
            Some(existing) if !existing.failed && existing.topic == topic_id && !existing.waiting => {
                self.answer_ready(key, request.request_id, true);
                return Ok(());
            }
            Some(_) => self.remove_producer(key),
            None => {}
        }
        self.check_policies(topic_id, &request)?;
        if request.name.as_ref().is_some_and(|name| name.len() > PRODUCER_NAME_BYTES_MAX) {
            let message = format!("Producer names have at most {PRODUCER_NAME_BYTES_MAX} bytes");
            return Err(Refusal::new(RefusalKind::NotAllowed, message));
        }
        let name: Arc<str> = match request.name.filter(|name| !name.is_empty()) {
            Some(name) => name.into(),
            None => format!("everpulse-{}-{}", self.generation, self.next_serial).into(),
        };
        let schema_version = self.take_schema(topic_id, request.schema)?;
        self.take_name(topic_id, &name, &request.user_named, request.epoch)?;
        let access = request.access;
        let waiting = self.take_access(topic_id, access, request.topic_epoch)?;
        self.next_serial += 1;
        let producer = Producer {
            topic: topic_id,
            name,
            serial: self.next_serial,
            epoch: request.epoch,
            user_named: request.user_named,
            access,
            topic_epoch: request.topic_epoch,
            encrypted: request.encrypted,
            schema_version,
            waiting,
            failed: false,
            metadata: request.metadata,
            connected_ms: self.now_ms,
            sent: Meter::default(),
        };
        self.producers.insert(key, producer);
        if let Some(topic) = self.topics.get_mut(&topic_id) {
            if waiting {
                topic.waiting.push_back((key, request.request_id));
            } else {
                topic.producers.push(key);
                self.enter_epoch(key);
            }
        }
        self.create_initial_subscription(topic_id, request.initial_subscription);
        self.answer_ready(key, request.request_id, !waiting);
        Ok(())
    }

    /// What the namespace asks of its producers.
    fn check_policies(&self, topic: TopicId, request: &CreateProducer) -> Result<(), Refusal> {
        let Some(topic) = self.topics.get(&topic) else { return Ok(()) };
        if topic.meta.terminated {
            let message = format!("Topic {} was terminated: it takes no more messages", topic.name);
            return Err(Refusal::new(RefusalKind::TopicTerminated, message));
        }
        self.check_backlog(topic)?;
        if let Some(name) = &request.initial_subscription {
            self.check_subscription_ceiling(topic, name)?;
        }
        let Some(policies) = self.catalog.namespaces.get(topic.name.namespace()) else { return Ok(()) };
        if policies.encryption_required && !request.encrypted {
            return Err(Refusal::new(RefusalKind::Unencrypted, format!("Encryption is required in {}", topic.name)));
        }
        let max = self.catalog.policy(&topic.name, |policies| policies.max_producers_per_topic).unwrap_or(0) as usize;
        if max > 0 && topic.producers.len() + topic.waiting.len() >= max {
            let message = format!("Topic {} has reached its limit of {max} producers", topic.name);
            return Err(Refusal::new(RefusalKind::ProducerBusy, message));
        }
        Ok(())
    }

    fn take_schema(&mut self, topic: TopicId, schema: Option<Schema>) -> Result<Option<u64>, Refusal> {
        let Some(name) = self.topics.get(&topic).map(|topic| topic.name.clone()) else { return Ok(None) };
        self.schema_of_producer(&name, schema)
    }

    /// Whether the topic can be had this way; true if it must be waited for. A fencing producer ends all others.
    fn take_access(&mut self, id: TopicId, access: Access, known: Option<u64>) -> Result<bool, Refusal> {
        let Some(topic) = self.topics.get_mut(&id) else { return Ok(false) };
        let fenced = |message: String| Err(Refusal::new(RefusalKind::ProducerFenced, message));
        let owner = topic.exclusive.and_then(|key| self.producers.get(&key));
        let owner = owner.map_or("a waiting one", |owner| &*owner.name);
        let owned = topic.exclusive.is_some() || !topic.waiting.is_empty();
        match access {
            Access::Shared if owned => {
                let message = format!("Topic has an existing exclusive producer: {owner}");
                return Err(Refusal::new(RefusalKind::ProducerBusy, message));
            }
            Access::Shared => return Ok(false),
            Access::Exclusive if owned => {
                return fenced(format!("Topic has an existing exclusive producer: {owner}"));
            }
            Access::Exclusive if !topic.producers.is_empty() => return fenced("Topic has existing producers".into()),
            Access::WaitForExclusive if owned || !topic.producers.is_empty() => return Ok(true),
            _ => {}
        }
        if let Some(message) = moved_on(topic.meta.epoch, known) {
            return fenced(message);
        }
        if access == Access::ExclusiveWithFencing {
            let ended = std::mem::take(&mut topic.producers);
            let waiting = std::mem::take(&mut topic.waiting);
            topic.exclusive = None;
            for key in ended {
                self.producers.remove(&key);
                self.emit(Effect::ProducerClosed { connection: key.connection, producer_id: key.producer_id });
            }
            for (key, request_id) in waiting {
                self.producers.remove(&key);
                let refusal = Refusal::new(RefusalKind::ProducerFenced, "Fenced out");
                self.emit(Effect::Refused { connection: key.connection, request_id, refusal });
            }
        }
        Ok(false)
    }

    /// A producer that has the topic for itself begins its next epoch, or continues the one that it knows.
    fn enter_epoch(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get(&key).filter(|producer| producer.access != Access::Shared) else {
            return;
        };
        let (id, known) = (producer.topic, producer.topic_epoch);
        if let Some(topic) = self.topics.get_mut(&id) {
            topic.exclusive = Some(key);
        }
        self.edit_meta(id, |meta| {
            meta.epoch = known.or_else(|| Some(meta.epoch.map_or(0, |epoch| epoch.saturating_add(1))));
        });
    }

    fn create_initial_subscription(&mut self, id: TopicId, name: Option<String>) {
        let (Some(name), Some(topic)) = (name, self.topics.get_mut(&id)) else { return };
        if topic.name.is_persistent() && topic.subscription_id(&name).is_none() {
            let base = topic.log.base();
            topic.add_subscription(Subscription::new(&name, Kind::Exclusive, true, base));
            self.log_subscription(id, &name);
        }
    }

    /// A name belongs to one producer of a topic; a reconnecting one with a newer epoch replaces its former self.
    fn take_name(&mut self, topic: TopicId, name: &str, user_named: &bool, epoch: u64) -> Result<(), Refusal> {
        let Some(state) = self.topics.get(&topic) else { return Ok(()) };
        let holders = state.producers.iter().chain(state.waiting.iter().map(|(key, _)| key));
        let holder = holders.copied().find(|key| self.producers.get(key).is_some_and(|other| &*other.name == name));
        let Some(holder) = holder else { return Ok(()) };
        let replaces =
            self.producers.get(&holder).is_some_and(|old| !user_named && !old.user_named && epoch > old.epoch);
        if !replaces {
            return Err(Refusal::new(
                RefusalKind::ProducerBusy,
                format!("Producer with name '{name}' is already connected to topic"),
            ));
        }
        self.remove_producer(holder);
        self.emit(Effect::ProducerClosed { connection: holder.connection, producer_id: holder.producer_id });
        Ok(())
    }

    fn answer_ready(&mut self, key: ProducerKey, request_id: u64, ready: bool) {
        let Some(producer) = self.producers.get(&key) else { return };
        let Some(topic) = self.topics.get(&producer.topic) else { return };
        let last = topic.deduplication.get(&producer.name).and_then(|sequence| sequence.stored);
        let effect = Effect::ProducerReady {
            connection: key.connection,
            request_id,
            name: producer.name.to_string(),
            last_sequence_id: last.map_or(-1, |last| last as i64),
            topic_epoch: topic.meta.epoch.filter(|_| ready),
            schema_version: producer.schema_version,
            ready,
        };
        self.answer(effect);
    }

    pub fn handle_close_producer(&mut self, connection: ConnectionId, producer_id: u64, request_id: u64) {
        self.remove_producer(ProducerKey { connection, producer_id });
        // After the receipts of what it has sent.
        self.answer_last(Effect::Success { connection, request_id });
    }

    pub(super) fn remove_producer(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.remove(&key) else { return };
        let Some(topic) = self.topics.get_mut(&producer.topic) else { return };
        topic.producers.retain(|other| *other != key);
        topic.waiting.retain(|(other, _)| *other != key);
        if topic.exclusive == Some(key) {
            topic.exclusive = None;
        }
        self.promote_waiting(producer.topic);
    }

    /// Gives a free topic to the first producer that waits for it and has not been fenced meanwhile.
    fn promote_waiting(&mut self, id: TopicId) {
        while let Some(topic) = self.topics.get_mut(&id).filter(|topic| topic.producers.is_empty())
            && let Some((next, request_id)) = topic.waiting.pop_front()
        {
            let Some(producer) = self.producers.get_mut(&next) else { continue };
            if let Some(message) = moved_on(topic.meta.epoch, producer.topic_epoch) {
                self.producers.remove(&next);
                let refusal = Refusal::new(RefusalKind::ProducerFenced, message);
                self.emit(Effect::Refused { connection: next.connection, request_id, refusal });
                continue;
            }
            producer.waiting = false;
            topic.producers.push(next);
            self.enter_epoch(next);
            self.answer_ready(next, request_id, true);
        }
    }

    pub(super) fn log_subscription(&mut self, topic: TopicId, name: &str) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(id) = state.subscription_id(name) else { return };
        if let Some(subscription) = state.subscriptions.get_mut(&id) {
            (subscription.unsaved, subscription.ticks_unsaved) = (false, 0);
        }
        let Some(change) = subscription_change(state, id) else { return };
        self.log(change);
    }
}

/// Why a producer that knows this epoch was fenced, if it was.
fn moved_on(current: Option<u64>, known: Option<u64>) -> Option<String> {
    let (current, known) = (current?, known?);
    (known < current)
        .then(|| format!("Topic epoch has already moved. Current epoch: {current}, producer epoch: {known}"))
}

pub(super) fn subscription_change(topic: &Topic, id: u32) -> Option<super::Change> {
    let subscription = topic.subscriptions.get(&id).filter(|subscription| subscription.durable)?;
    Some(super::Change::Subscription { topic: topic.id, state: topic.subscription_state(subscription) })
}
