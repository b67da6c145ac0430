//! What the admin can see of a topic, its subscriptions and its consumers. Everything here is counted where it changes, so
//! that asking costs nothing per message, but for [`TopicStorage`], which lists.

use std::collections::BTreeMap;

use super::broker::Broker;
use super::compaction::LastCompaction;
use super::effect::Refusal;
use super::entry::Position;
use super::meter::Meter;
use super::name::TopicName;
use super::produce::{Access, Producer, ProducerKey};
use super::queue::Draining;
use super::selector::KeyPolicy;
use super::subscription::{Consumer, ConsumerKey, Kind, Subscription, Traffic};
use super::topic::Topic;

#[derive(Debug, Clone, PartialEq)]
pub struct TopicStats {
    pub producers: Vec<ProducerStats>,
    /// How many producers wait for exclusive access.
    pub waiting_producers: u64,
    /// Since the topic was loaded.
    pub received: Meter,
    pub deduplicates: bool,
    pub subscriptions: Vec<SubscriptionStats>,
    pub compaction: LastCompaction,
    pub entries: u64,
    pub bytes: u64,
    pub last: Option<Position>,
}

/// How a topic is stored, in detail.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicStorage {
    pub stats: TopicStats,
    /// With how many entries each has left.
    pub ledgers: Vec<(u64, u64)>,
    /// First and last position of the acknowledged ranges above the mark of each of the stats' subscriptions.
    pub acked: Vec<Vec<(Position, Position)>>,
}

/// One producer that may send.
#[derive(Debug, Clone, PartialEq)]
pub struct ProducerStats {
    pub key: ProducerKey,
    pub name: String,
    pub access: Access,
    pub connected_ms: u64,
    /// Of its client.
    pub address: String,
    pub client_version: String,
    pub metadata: BTreeMap<String, String>,
    pub sent: Meter,
}

/// One subscription. Times are milliseconds since 1970, zero for "never".
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionStats {
    pub name: String,
    pub kind: Kind,
    pub durable: bool,
    /// Entries that are not acknowledged: a batch counts as one, as in Apache Pulsar.
    pub backlog: u64,
    pub backlog_bytes: u64,
    /// Publish time of the oldest entry that is not acknowledged.
    pub oldest_backlog_ms: u64,
    /// Messages that consumers have and have not acknowledged, those of a batch counted singly.
    pub unacked: u64,
    /// Too much is unacknowledged; nothing is delivered until half of it is.
    pub blocked_on_unacked: bool,
    pub delayed: u64,
    /// The last position below which everything is acknowledged.
    pub mark_delete: Option<Position>,
    /// What is read next.
    pub read: Option<Position>,
    /// How many acknowledged ranges are above the mark.
    pub acked_ranges: u64,
    /// The consumer that gets everything, of an Exclusive or Failover subscription.
    pub active_consumer: Option<String>,
    pub keys: Option<KeySharedStats>,
    pub properties: BTreeMap<String, String>,
    pub traffic: Traffic,
    pub last_expired_ms: u64,
    pub last_mark_delete_ms: u64,
    pub consumers: Vec<ConsumerStats>,
}

/// What a Key_Shared subscription has beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySharedStats {
    pub policy: KeyPolicy,
    /// Keys that wait until another consumer has acknowledged what it has of them.
    pub draining: Draining,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerStats {
    pub key: ConsumerKey,
    pub name: String,
    pub kind: Kind,
    pub priority: i32,
    /// May be below zero after a batch.
    pub permits: i64,
    /// Zero for Exclusive and Failover, as in Apache Pulsar.
    pub unacked: u64,
    pub blocked_on_unacked: bool,
    /// Of the subscription.
    pub backlog: u64,
    pub connected_ms: u64,
    /// Of its client.
    pub address: String,
    pub client_version: String,
    pub metadata: BTreeMap<String, String>,
    /// First and last hash of each range of keys that are its own.
    pub key_ranges: Vec<(u32, u32)>,
    pub traffic: Traffic,
}

impl Broker {
    /// # Errors
    /// No such topic.
    pub fn topic_stats(&self, name: &TopicName) -> Result<TopicStats, Refusal> {
        let topic = self.topic(name)?;
        let producers = topic.producers.iter().filter_map(|key| Some((key, self.producers.get(key)?)));
        let subscriptions = topic.subscriptions.values();
        Ok(TopicStats {
            producers: producers.map(|(key, producer)| self.producer_stats(*key, producer)).collect(),
            waiting_producers: topic.waiting.len() as u64,
            received: topic.received,
            deduplicates: self.catalog.policy(name, |policies| policies.deduplication).unwrap_or(false),
            subscriptions: subscriptions.map(|subscription| self.subscription_stats(topic, subscription)).collect(),
            compaction: topic.compaction.last,
            entries: topic.log.count() as u64,
            bytes: topic.log.bytes(),
            last: topic.log.last_position(),
        })
    }

    /// # Errors
    /// No such topic.
    pub fn topic_storage(&self, name: &TopicName) -> Result<TopicStorage, Refusal> {
        let topic = self.topic(name)?;
        let acked = topic.subscriptions.values().map(|subscription| topic.acked_ranges(subscription).collect());
        let (stats, ledgers) = (self.topic_stats(name)?, topic.log.ledgers().collect());
        Ok(TopicStorage { stats, ledgers, acked: acked.collect() })
    }

    fn producer_stats(&self, key: ProducerKey, producer: &Producer) -> ProducerStats {
        let client = self.clients.get(&key.connection).cloned().unwrap_or_default();
        ProducerStats {
            key,
            name: producer.name.to_string(),
            access: producer.access,
            connected_ms: producer.connected_ms,
            address: client.address,
            client_version: client.version,
            metadata: producer.metadata.clone(),
            sent: producer.sent,
        }
    }

    fn subscription_stats(&self, topic: &Topic, subscription: &Subscription) -> SubscriptionStats {
        let (cursor, log) = (subscription.cursor(), &topic.log);
        let active = subscription.active().and_then(|slot| subscription.consumer(slot));
        let oldest = cursor.nth_unacked(1, log.end()).and_then(|offset| log.get(offset));
        SubscriptionStats {
            name: subscription.name.clone(),
            kind: subscription.kind,
            durable: subscription.durable,
            backlog: cursor.backlog(log.end()),
            backlog_bytes: cursor.backlog_bytes(log),
            oldest_backlog_ms: oldest.map_or(0, |entry| entry.facts.publish_time_ms),
            unacked: subscription.unacked(),
            blocked_on_unacked: subscription.is_blocked(),
            delayed: subscription.delayed() as u64,
            mark_delete: cursor.next().checked_sub(1).and_then(|offset| log.position(offset)),
            read: topic.mark(subscription.read()),
            acked_ranges: cursor.range_count() as u64,
            active_consumer: active.map(|consumer| consumer.name.clone()),
            keys: subscription.key_stats(),
            properties: subscription.properties.clone(),
            traffic: subscription.traffic,
            last_expired_ms: subscription.last_expired_ms,
            last_mark_delete_ms: subscription.last_mark_delete_ms,
            consumers: subscription
                .consumers()
                .map(|(slot, consumer)| self.stats_of(topic, subscription, slot, consumer))
                .collect(),
        }
    }

    fn stats_of(&self, topic: &Topic, subscription: &Subscription, slot: u32, consumer: &Consumer) -> ConsumerStats {
        let client = self.clients.get(&consumer.key.connection).cloned().unwrap_or_default();
        ConsumerStats {
            key: consumer.key,
            name: consumer.name.clone(),
            kind: subscription.kind,
            priority: consumer.priority,
            permits: consumer.permits,
            unacked: consumer.unacked_messages,
            blocked_on_unacked: consumer.is_blocked(),
            backlog: subscription.cursor().backlog(topic.log.end()),
            connected_ms: consumer.connected_ms,
            address: client.address,
            client_version: client.version,
            metadata: consumer.metadata.clone(),
            key_ranges: subscription.key_ranges(slot),
            traffic: consumer.traffic,
        }
    }

    /// One consumer, as its client may ask.
    pub fn consumer_stats(&self, key: ConsumerKey) -> Option<ConsumerStats> {
        let at = self.consumers.get(&key)?;
        let topic = self.topics.get(&at.topic)?;
        let subscription = topic.subscriptions.get(&at.subscription)?;
        Some(self.stats_of(topic, subscription, at.slot, subscription.consumer(at.slot)?))
    }
}
