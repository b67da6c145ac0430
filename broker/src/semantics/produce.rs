//! Producers: who may write to a topic, which messages are duplicates, and when a sender hears of its message.
//!
//! A message gets its position when it is handed to the storage and becomes visible when it is stored. If
//! storing fails, the topic goes on in a new ledger, and its producer is refused until it has been created
//! again: so nothing that was sent later can be stored before what failed.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;

use super::broker::{Broker, StoringMessage};
use super::effect::{Effect, Refusal, RefusalKind, Source};
use super::entry::{Entry, Facts, Location, Position};
use super::subscription::{Kind, Subscription};
use super::topic::Topic;
use super::{ConnectionId, TopicId};

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
    topic: TopicId,
    pub name: Arc<str>,
    serial: u64,
    epoch: u64,
    user_named: bool,
    /// Waits for exclusive access.
    waiting: bool,
    /// A message of it could not be stored; it must be created again.
    failed: bool,
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
    /// A durable subscription to make, at the earliest message, before the first message is sent.
    pub initial_subscription: Option<String>,
}

/// One `Send`: a message or a batch.
#[derive(Debug, Clone)]
pub struct Publish {
    pub producer_id: u64,
    pub sequence_id: u64,
    pub highest_sequence_id: u64,
    pub facts: Facts,
    pub payload: Bytes,
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
        let topic_id = self.ensure_topic(&request.topic, true)?;
        match self.producers.get(&key) {
            // Asked again on the same connection: it is there.
            Some(existing) if !existing.failed && existing.topic == topic_id && !existing.waiting => {
                self.answer_ready(key, request.request_id, true);
                return Ok(());
            }
            Some(_) => self.remove_producer(key),
            None => {}
        }
        let name: Arc<str> = match request.name.filter(|name| !name.is_empty()) {
            Some(name) => name.into(),
            None => format!("everpulse-{}-{}", self.generation, self.next_serial).into(),
        };
        self.take_name(topic_id, &name, &request.user_named, request.epoch)?;
        let Some(topic) = self.topics.get_mut(&topic_id) else { return Ok(()) };
        let mut waiting = false;
        let mut fenced = Vec::new();
        let others = !topic.producers.is_empty();
        if request.topic_epoch.is_some_and(|epoch| epoch < topic.epoch) && request.access != Access::Shared {
            return Err(Refusal::new(RefusalKind::ProducerFenced, "Producer was fenced by a newer exclusive producer"));
        }
        match request.access {
            Access::Shared if topic.exclusive.is_some() || !topic.waiting.is_empty() => {
                return Err(Refusal::new(RefusalKind::ProducerBusy, "Topic has an existing exclusive producer"));
            }
            Access::Exclusive if others || !topic.waiting.is_empty() => {
                return Err(Refusal::new(RefusalKind::ProducerFenced, "Topic has existing producers"));
            }
            Access::WaitForExclusive if others || !topic.waiting.is_empty() => {
                topic.waiting.push_back((key, request.request_id));
                waiting = true;
            }
            Access::ExclusiveWithFencing => {
                fenced.append(&mut topic.producers);
                fenced.extend(topic.waiting.drain(..).map(|(key, _)| key));
            }
            _ => {}
        }
        if !waiting {
            topic.producers.push(key);
            if request.access != Access::Shared {
                topic.exclusive = Some(key);
                topic.epoch += 1;
            }
        }
        if let Some(name) = request.initial_subscription
            && topic.name.is_persistent()
            && topic.subscription_id(&name).is_none()
        {
            let base = topic.log.base();
            topic.add_subscription(Subscription::new(&name, Kind::Exclusive, true, base));
            self.log_subscription(topic_id, &name);
        }
        for other in fenced {
            self.producers.remove(&other);
            self.emit(Effect::ProducerClosed { connection: other.connection, producer_id: other.producer_id });
        }
        self.next_serial += 1;
        let (serial, epoch, user_named) = (self.next_serial, request.epoch, request.user_named);
        let producer = Producer { topic: topic_id, name, serial, epoch, user_named, waiting, failed: false };
        self.producers.insert(key, producer);
        self.answer_ready(key, request.request_id, !waiting);
        Ok(())
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
            topic_epoch: (topic.exclusive == Some(key)).then_some(topic.epoch),
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
        if topic.producers.is_empty()
            && let Some((next, request_id)) = topic.waiting.pop_front()
        {
            topic.producers.push(next);
            topic.exclusive = Some(next);
            topic.epoch += 1;
            if let Some(producer) = self.producers.get_mut(&next) {
                producer.waiting = false;
            }
            self.answer_ready(next, request_id, true);
        }
    }

    /// A client sent a message. A producer that the broker has closed gets no answer: its client knows
    /// already that it must send again.
    pub fn handle_publish(&mut self, connection: ConnectionId, publish: Publish) {
        let key = ProducerKey { connection, producer_id: publish.producer_id };
        let bytes = publish.payload.len();
        let refuse = |refusal| Effect::SendError {
            connection,
            producer_id: publish.producer_id,
            sequence_id: publish.sequence_id,
            refusal,
            bytes,
        };
        let Some(producer) = self.producers.get_mut(&key) else {
            return self.emit(Effect::Unanswered { connection, bytes });
        };
        if producer.waiting {
            let refusal = Refusal::new(RefusalKind::NotAllowed, "Producer has no exclusive access yet");
            return self.emit(refuse(refusal));
        }
        let topic_id = producer.topic;
        let (name, serial) = (producer.name.clone(), producer.serial);
        if producer.failed {
            let refusal = Refusal::new(RefusalKind::Storage, "an earlier message of this producer could not be stored");
            return self.emit(refuse(refusal));
        }
        if let Err(refusal) = self.check_storage() {
            if let Some(producer) = self.producers.get_mut(&key) {
                producer.failed = true;
            }
            return self.emit(refuse(refusal));
        }
        let Some(topic) = self.topics.get_mut(&topic_id) else { return };
        if !topic.name.is_persistent() {
            return self.publish_unstored(key, topic_id, publish);
        }
        let highest = publish.highest_sequence_id.max(publish.sequence_id);
        let policies = self.catalog.namespaces.get(topic.name.namespace());
        let deduplicated = policies.and_then(|policies| policies.deduplication).unwrap_or(false).then(|| name.clone());
        let partition = topic.partition();
        if let Some(name) = &deduplicated {
            let sequence = topic.deduplication.entry(name.clone()).or_default();
            if sequence.pushed.is_some_and(|pushed| publish.sequence_id <= pushed) {
                return self.answer_last(Effect::Receipt {
                    connection,
                    producer_id: publish.producer_id,
                    sequence_id: publish.sequence_id,
                    highest_sequence_id: highest,
                    position: None,
                    partition,
                    bytes,
                });
            }
            sequence.pushed = Some(highest);
        }
        let position = *topic.next.get_or_insert_with(|| {
            let ledger = self.next_ledger;
            self.next_ledger += 1;
            Position { ledger, entry: 0 }
        });
        topic.next = Some(Position { entry: position.entry + 1, ..position });
        let message = StoringMessage {
            topic: topic_id,
            position,
            facts: publish.facts,
            producer: key,
            serial,
            sequence_id: publish.sequence_id,
            highest_sequence_id: publish.highest_sequence_id,
            deduplicated: deduplicated.clone(),
            bytes,
        };
        let effect = Effect::Append {
            topic: topic_id,
            position,
            facts: publish.facts,
            origin: deduplicated.map(|name| (name, highest)),
            payload: publish.payload,
        };
        self.store(message, effect);
    }

    /// A message of a non-persistent topic goes to who is there and has permits now.
    fn publish_unstored(&mut self, key: ProducerKey, topic: TopicId, publish: Publish) {
        let Some(topic) = self.topics.get_mut(&topic) else { return };
        let partition = topic.partition();
        let position = Position { ledger: 0, entry: 0 };
        let permits = publish.facts.permits();
        let mut deliveries = Vec::new();
        for subscription in topic.subscriptions.values_mut() {
            if let Some(consumer) = subscription.route_unstored(publish.facts.hash, permits) {
                deliveries.push(Effect::Deliver {
                    consumer,
                    position,
                    partition,
                    redelivery_count: 0,
                    permits: permits as u32,
                    source: Source::Inline(publish.payload.clone()),
                });
            }
        }
        for delivery in deliveries {
            self.emit(delivery);
        }
        self.emit(Effect::Receipt {
            connection: key.connection,
            producer_id: key.producer_id,
            sequence_id: publish.sequence_id,
            highest_sequence_id: publish.highest_sequence_id,
            position: Some(position),
            partition,
            bytes: publish.payload.len(),
        });
    }

    pub(super) fn message_stored(&mut self, now_ms: u64, message: StoringMessage, location: Location) {
        let mut partition = -1;
        match self.topics.get_mut(&message.topic) {
            Some(topic) => {
                partition = topic.partition();
                topic.log.push(message.position, Entry { location, facts: message.facts });
                topic.last = Some(message.position);
                if let Some(name) = message.deduplicated {
                    let sequence = topic.deduplication.entry(name).or_default();
                    let highest = message.highest_sequence_id.max(message.sequence_id);
                    sequence.stored = sequence.stored.max(Some(highest));
                    sequence.pushed = sequence.pushed.max(sequence.stored);
                    sequence.active_ms = now_ms;
                }
                self.schedule_all(message.topic);
            }
            // The topic was deleted meanwhile.
            None => self.emit(Effect::Released { segment: location.segment, entries: 1 }),
        }
        let known = self.producers.get(&message.producer).is_some_and(|producer| producer.serial == message.serial);
        let (connection, bytes) = (message.producer.connection, message.bytes);
        if !known {
            return self.emit(Effect::Unanswered { connection, bytes });
        }
        self.emit(Effect::Receipt {
            connection,
            producer_id: message.producer.producer_id,
            sequence_id: message.sequence_id,
            highest_sequence_id: message.highest_sequence_id,
            position: Some(message.position),
            partition,
            bytes,
        });
    }

    pub(super) fn message_failed(&mut self, message: StoringMessage, refusal: &Refusal) {
        if let Some(topic) = self.topics.get_mut(&message.topic) {
            if topic.next.is_some_and(|next| next.ledger == message.position.ledger) {
                topic.next = None;
            }
            if let Some(name) = &message.deduplicated {
                let sequence = topic.deduplication.entry(name.clone()).or_default();
                sequence.pushed = sequence.stored;
            }
        }
        let producer = self.producers.get_mut(&message.producer).filter(|producer| producer.serial == message.serial);
        let known = producer.map(|producer| producer.failed = true).is_some();
        let (connection, bytes) = (message.producer.connection, message.bytes);
        self.emit(if known {
            let (producer_id, sequence_id) = (message.producer.producer_id, message.sequence_id);
            Effect::SendError { connection, producer_id, sequence_id, refusal: refusal.clone(), bytes }
        } else {
            Effect::Unanswered { connection, bytes }
        });
    }

    pub(super) fn log_subscription(&mut self, topic: TopicId, name: &str) {
        let Some(state) = self.topics.get_mut(&topic) else { return };
        let Some(id) = state.subscription_id(name) else { return };
        if let Some(subscription) = state.subscriptions.get_mut(&id) {
            subscription.unsaved = false;
        }
        let Some(change) = subscription_change(state, id) else { return };
        self.log(change);
    }
}

pub(super) fn subscription_change(topic: &Topic, id: u32) -> Option<super::Change> {
    let subscription = topic.subscriptions.get(&id).filter(|subscription| subscription.durable)?;
    Some(super::Change::Subscription { topic: topic.id, state: topic.subscription_state(subscription) })
}
