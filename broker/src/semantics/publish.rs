//! Messages: which are duplicates, where they go, and when a sender hears of its message.
//!
//! A message gets its position when it is handed to the storage and becomes visible when it is stored. If
//! storing fails, the topic goes on in a new ledger, and its producer is refused until it has been created
//! again: so nothing that was sent later can be stored before what failed.

use bytes::Bytes;

use super::broker::{Broker, StoringMessage};
use super::effect::{Effect, Refusal, RefusalKind, Source};
use super::entry::{Entry, Facts, Location, Position};
use super::produce::ProducerKey;
use super::{ConnectionId, TopicId};

/// One `Send`: a message or a batch.
#[derive(Debug, Clone)]
pub struct Publish {
    pub producer_id: u64,
    pub sequence_id: u64,
    pub highest_sequence_id: u64,
    pub facts: Facts,
    /// One of several chunks of a message, and not the last: duplicates are told by the last one only, since
    /// all have the same sequence id.
    pub partial_chunk: bool,
    pub encrypted: bool,
    pub payload: Bytes,
}

impl Broker {
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
        let encrypts = producer.encrypted;
        if let Err(refusal) = self.check_storage() {
            if let Some(producer) = self.producers.get_mut(&key) {
                producer.failed = true;
            }
            return self.emit(refuse(refusal));
        }
        let Some(topic) = self.topics.get_mut(&topic_id) else { return };
        let policies = self.catalog.namespaces.get(topic.name.namespace());
        if !publish.encrypted && (encrypts || policies.is_some_and(|policies| policies.encryption_required)) {
            return self.emit(refuse(Refusal::new(RefusalKind::Unencrypted, "Messages must be encrypted")));
        }
        if !topic.name.is_persistent() {
            return self.publish_unstored(key, topic_id, publish);
        }
        let highest = publish.highest_sequence_id.max(publish.sequence_id);
        let deduplicates = self.catalog.policy(&topic.name, |policies| policies.deduplication).unwrap_or(false);
        let deduplicated = (deduplicates && !publish.partial_chunk).then(|| name.clone());
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
        let (permits, bytes) = (publish.facts.permits(), publish.payload.len() as u64);
        topic.received.count(permits as u64, bytes);
        if let Some(producer) = self.producers.get_mut(&key) {
            producer.sent.count(permits as u64, bytes);
        }
        let mut deliveries = Vec::new();
        for subscription in topic.subscriptions.values_mut() {
            if let Some(consumer) = subscription.route_unstored(publish.facts.hash, permits, bytes, self.now_ms) {
                deliveries.push(Effect::Deliver {
                    consumer,
                    position,
                    partition,
                    redelivery_count: 0,
                    permits: permits as u32,
                    ack_set: Vec::new(),
                    epoch: None,
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
                topic.received.count(message.facts.permits() as u64, message.bytes as u64);
                topic.log.push(message.position, Entry { location, facts: message.facts });
                topic.compaction.fresh_bytes += u64::from(location.len);
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
        let (connection, bytes) = (message.producer.connection, message.bytes);
        let producer = self.producers.get_mut(&message.producer).filter(|producer| producer.serial == message.serial);
        let Some(producer) = producer else {
            return self.emit(Effect::Unanswered { connection, bytes });
        };
        producer.sent.count(message.facts.permits() as u64, bytes as u64);
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
}
