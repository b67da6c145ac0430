//! Consumers: subscribing, permits, acks, redelivery, and the end of a subscription.

use std::collections::BTreeMap;

use super::broker::Broker;
use super::effect::{Effect, Refusal, RefusalKind};
use super::entry::Position;
use super::schema::{Schema, SchemaKind};
use super::seek::Start;
use super::selector::KeyPolicy;
use super::subscription::{ConsumerKey, Joining, Kind, Subscription};
use super::{ConnectionId, TopicId};

#[derive(Debug, Clone, Copy)]
pub(super) struct ConsumerRef {
    pub topic: TopicId,
    pub subscription: u32,
    pub slot: u32,
    /// It takes messages of any schema.
    pub any_schema: bool,
    /// It knows that its topic is terminated and nothing more comes.
    pub told_end: bool,
}

/// A message as an ack or a redelivery names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId {
    pub position: Position,
    /// Only a part of the batch is acknowledged: a bit for each message that is not. Empty for all.
    pub ack_set: Vec<u64>,
}

#[derive(Debug, Clone)]
pub struct Subscribe {
    pub topic: String,
    pub subscription: String,
    pub kind: Kind,
    pub consumer_id: u64,
    pub request_id: u64,
    pub name: Option<String>,
    pub priority: i32,
    pub durable: bool,
    /// For a subscription that is not durable, or for a new one if it rolls back by time.
    pub start: Option<Start>,
    pub earliest: bool,
    pub create_topic: bool,
    /// Of the consumer, shown in the stats.
    pub metadata: BTreeMap<String, String>,
    /// Of the subscription, if this makes it.
    pub properties: BTreeMap<String, String>,
    /// How often the client threw away what it had and asked again (PIP-84).
    pub epoch: Option<u64>,
    /// It wants what compaction kept, instead of everything.
    pub read_compacted: bool,
    /// What it can read.
    pub schema: Option<Schema>,
    /// For Key_Shared.
    pub keys: KeyPolicy,
    /// First and last hash of the ranges of keys that it wants, for Key_Shared with ranges and for readers.
    pub ranges: Vec<(u32, u32)>,
}

impl Broker {
    pub fn handle_subscribe(&mut self, connection: ConnectionId, request: Subscribe) {
        let request_id = request.request_id;
        match self.subscribe(connection, request) {
            Ok(()) => self.answer(Effect::Success { connection, request_id }),
            Err(refusal) => self.emit(Effect::Refused { connection, request_id, refusal }),
        }
    }

    fn subscribe(&mut self, connection: ConnectionId, request: Subscribe) -> Result<(), Refusal> {
        let key = ConsumerKey { connection, consumer_id: request.consumer_id };
        if request.subscription.is_empty() || request.subscription.chars().any(char::is_control) {
            return Err(Refusal::new(RefusalKind::NotAllowed, "Empty subscription name, or control characters in it"));
        }
        // Before the topic is made: what is refused for this leaves nothing behind.
        if !self.consumers.contains_key(&key) {
            self.check_new_consumer(connection)?;
        }
        let topic_id = self.client_topic(&request.topic, request.create_topic)?;
        if let Some(existing) = self.consumers.get(&key) {
            if existing.topic == topic_id {
                return Ok(());
            }
            self.remove_consumer(key);
        }
        if request.read_compacted {
            self.check_read_compacted(topic_id, request.kind)?;
        }
        self.check_joining(topic_id, &request)?;
        let any_schema = request.schema.as_ref().is_some_and(|schema| schema.kind == SchemaKind::AutoConsume);
        self.check_consumer_schema(topic_id, request.schema)?;
        let known = self.topics.get(&topic_id).and_then(|topic| topic.subscription_id(&request.subscription));
        if known.is_none() {
            self.check_storage()?;
        }
        let Some(topic) = self.topics.get_mut(&topic_id) else { return Ok(()) };
        let durable = request.durable && topic.name.is_persistent();
        let (id, new) = match known {
            Some(id) => (id, false),
            None => {
                let start = match request.start {
                    Some(start @ Start::Since(_)) => start,
                    Some(start) if !durable => start,
                    _ if request.earliest => Start::Earliest,
                    _ => Start::Latest,
                };
                // A reader from "latest" that asks for the earliest position gets it, as in the Java broker.
                let start = if start == Start::Latest && request.earliest { Start::Earliest } else { start };
                let target = topic.target(start);
                let mut subscription = Subscription::new(&request.subscription, request.kind, durable, target.offset);
                subscription.seek(target, &topic.log);
                subscription.properties = request.properties;
                subscription.compacted.start_at(start);
                (topic.add_subscription(subscription), true)
            }
        };
        let Some(subscription) = topic.subscriptions.get_mut(&id) else { return Ok(()) };
        if !new && subscription.durable != durable {
            return Err(Refusal::new(
                RefusalKind::NotAllowed,
                if durable {
                    "NonDurable subscription with the same name already exists."
                } else {
                    "Durable subscription with the same name already exists."
                },
            ));
        }
        let name = request.name.filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("c{}-{}", key.connection.0, key.consumer_id));
        let (priority, metadata, epoch) = (request.priority, request.metadata, request.epoch);
        let (keys, ranges, now_ms) = (request.keys, request.ranges, self.now_ms);
        let joining = Joining { key, name, priority, metadata, epoch, keys, ranges, now_ms };
        if let Err(refusal) = subscription.check_joining(request.kind, &joining) {
            if new {
                topic.subscriptions.remove(&id);
            }
            return Err(refusal);
        }
        subscription.compacted.wanted = request.read_compacted;
        let before = subscription.active();
        let slot = subscription.add_consumer(request.kind, joining, &topic.name);
        self.consumers
            .insert(key, ConsumerRef { topic: topic_id, subscription: id, slot, any_schema, told_end: false });
        if new && durable {
            let name = request.subscription;
            self.log_subscription(topic_id, &name);
        }
        if self.congested.contains(&connection) {
            self.handle_congestion(connection, true);
        }
        self.announce_active(topic_id, id, before, Some(slot));
        self.schedule(topic_id, id);
        Ok(())
    }

    /// Tells the consumers of a Failover subscription who is active now: all of them if that has changed, else
    /// the one that joined.
    fn announce_active(&mut self, topic: TopicId, subscription: u32, before: Option<u32>, joined: Option<u32>) {
        let Some(state) = self.topics.get(&topic).and_then(|topic| topic.subscriptions.get(&subscription)) else {
            return;
        };
        if state.kind != Kind::Failover {
            return;
        }
        let active = state.active();
        let told = state.consumers().filter(|(slot, _)| active != before || joined == Some(*slot));
        let told: Vec<_> = told.map(|(slot, consumer)| (consumer.key, active == Some(slot))).collect();
        for (consumer, active) in told {
            self.answer(Effect::ActiveConsumer { consumer, active });
        }
    }

    fn with_subscription<R>(
        &mut self,
        key: ConsumerKey,
        act: impl FnOnce(&mut Subscription, &super::log::Log, u32) -> R,
    ) -> Option<R> {
        let consumer = *self.consumers.get(&key)?;
        let topic = self.topics.get_mut(&consumer.topic)?;
        let subscription = topic.subscriptions.get_mut(&consumer.subscription)?;
        let result = act(subscription, &topic.log, consumer.slot);
        self.schedule(consumer.topic, consumer.subscription);
        Some(result)
    }

    pub fn handle_flow(&mut self, consumer: ConsumerKey, permits: u32) {
        let now_ms = self.now_ms;
        self.with_subscription(consumer, |subscription, _, slot| subscription.handle_flow(slot, permits, now_ms));
    }

    /// # Errors
    /// There is no such consumer, or cumulative acks on a subscription that several consumers share.
    pub fn handle_ack(&mut self, consumer: ConsumerKey, cumulative: bool, ids: &[MessageId]) -> Result<(), Refusal> {
        let now_ms = self.now_ms;
        let outcome = self.with_subscription(consumer, |subscription, log, slot| {
            subscription.note_ack(slot, now_ms);
            if cumulative {
                if matches!(subscription.kind, Kind::Shared | Kind::KeyShared) {
                    return Err(Refusal::new(
                        RefusalKind::NotAllowed,
                        "Cumulative acks are for exclusive and failover subscriptions",
                    ));
                }
                for id in ids {
                    let part = !id.ack_set.is_empty();
                    if !part {
                        subscription.compacted.handle_ack(id.position, true);
                    }
                    match log.find(id.position) {
                        Some(offset) if part => {
                            subscription.handle_ack_below(offset, log);
                            subscription.handle_ack_part(offset, &id.ack_set, log);
                        }
                        Some(offset) => {
                            subscription.handle_ack_below(offset + 1, log);
                        }
                        None => {
                            subscription.handle_ack_below(log.ceiling(id.position), log);
                        }
                    }
                }
                return Ok(());
            }
            for id in ids {
                if id.ack_set.is_empty() {
                    subscription.compacted.handle_ack(id.position, false);
                }
                let Some(offset) = log.find(id.position) else { continue };
                if id.ack_set.is_empty() {
                    subscription.handle_ack(offset, log);
                } else {
                    subscription.handle_ack_part(offset, &id.ack_set, log);
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|| Err(Refusal::new(RefusalKind::ConsumerNotFound, "Consumer not found")))
    }

    /// The consumer wants these messages again, or all that it has not acked if none are named.
    /// `epoch` is the client's count of such requests, if it counts.
    pub fn handle_redeliver(&mut self, consumer: ConsumerKey, positions: &[Position], epoch: Option<u64>) {
        self.with_subscription(consumer, |subscription, log, slot| {
            let offsets = positions.iter().filter_map(|position| log.find(*position));
            let offsets = (!positions.is_empty()).then(|| offsets.collect());
            subscription.handle_redeliver(slot, offsets, epoch, log);
        });
    }

    pub fn handle_close_consumer(&mut self, consumer: ConsumerKey, request_id: u64) {
        self.remove_consumer(consumer);
        self.emit(Effect::Success { connection: consumer.connection, request_id });
    }

    pub(super) fn remove_consumer(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.remove(&key) else { return };
        let Some(topic) = self.topics.get_mut(&consumer.topic) else { return };
        let Some(subscription) = topic.subscriptions.get_mut(&consumer.subscription) else { return };
        let before = subscription.active();
        subscription.remove_consumer(consumer.slot, &topic.log, &topic.name);
        if !subscription.durable && !subscription.has_consumers() {
            topic.subscriptions.remove(&consumer.subscription);
            return;
        }
        self.announce_active(consumer.topic, consumer.subscription, before, None);
        self.schedule(consumer.topic, consumer.subscription);
    }

    /// The last stored message of the consumer's topic with the size of its batch, and the last one below
    /// which everything is acknowledged.
    pub fn last_message_id(&self, consumer: ConsumerKey) -> Option<LastMessageId> {
        let at = self.consumers.get(&consumer)?;
        let topic = self.topics.get(&at.topic)?;
        let subscription = topic.subscriptions.get(&at.subscription)?;
        let next = subscription.cursor().next();
        let last = topic.log.end().checked_sub(1);
        let batch = last.and_then(|last| topic.log.get(last)).map_or(0, |entry| entry.facts.batch);
        let last = (topic.log.last_position(), batch);
        let kept = self.last_kept(topic).filter(|_| subscription.compacted.wanted);
        let (position, batch) =
            kept.map_or(last, |(position, index)| (Some(position), index.map_or(0, |index| index + 1)));
        Some(LastMessageId {
            position,
            batch,
            partition: topic.partition(),
            mark_delete: next.checked_sub(1).and_then(|offset| topic.log.position(offset)),
        })
    }

    /// Deletes the consumer's subscription; one with other consumers only by `force`, which closes these.
    pub fn handle_unsubscribe(&mut self, consumer: ConsumerKey, request_id: u64, force: bool) {
        let connection = consumer.connection;
        let refused = |kind, message| Effect::Refused { connection, request_id, refusal: Refusal::new(kind, message) };
        let Some(at) = self.consumers.get(&consumer).copied() else {
            return self.emit(refused(RefusalKind::ConsumerNotFound, "Consumer not found"));
        };
        let subscription = self.topics.get(&at.topic).and_then(|topic| topic.subscriptions.get(&at.subscription));
        let consumers = subscription.map(Subscription::consumer_keys).unwrap_or_default();
        if consumers.len() > 1 && !force {
            let message = "Unconnected or shared consumer attempting to unsubscribe";
            return self.emit(refused(RefusalKind::Busy, message));
        }
        for other in consumers {
            self.remove_consumer(other);
            if other != consumer {
                self.emit(Effect::ConsumerClosed { consumer: other });
            }
        }
        self.delete_subscription(at.topic, at.subscription);
        self.answer(Effect::Success { connection, request_id });
    }
}

/// Answer to [`Broker::last_message_id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastMessageId {
    pub position: Option<Position>,
    pub batch: u32,
    pub partition: i32,
    pub mark_delete: Option<Position>,
}
