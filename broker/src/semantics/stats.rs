//! What the admin can see of a topic.

use super::broker::Broker;
use super::effect::Refusal;
use super::entry::Position;
use super::name::TopicName;
use super::subscription::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStats {
    pub producers: Vec<String>,
    pub subscriptions: Vec<SubscriptionStats>,
    pub entries: u64,
    pub bytes: u64,
    pub last: Option<Position>,
    pub ledgers: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionStats {
    pub name: String,
    pub kind: Kind,
    pub durable: bool,
    pub backlog: u64,
    pub unacked: u64,
    pub delayed: u64,
    /// The last position below which everything is acknowledged.
    pub mark_delete: Option<Position>,
    pub consumers: Vec<(String, i64, u64)>,
}

impl Broker {
    /// # Errors
    /// No such topic.
    pub fn topic_stats(&self, name: &TopicName) -> Result<TopicStats, Refusal> {
        let topic = self.topic(name)?;
        let producers = topic.producers.iter().filter_map(|key| self.producers.get(key));
        let subscriptions = topic.subscriptions.values().map(|subscription| {
            let cursor = subscription.cursor();
            let consumers = subscription.consumers();
            SubscriptionStats {
                name: subscription.name.clone(),
                kind: subscription.kind,
                durable: subscription.durable,
                backlog: cursor.backlog(topic.log.end()),
                unacked: subscription.unacked() as u64,
                delayed: subscription.delayed() as u64,
                mark_delete: cursor.next().checked_sub(1).and_then(|offset| topic.log.position(offset)),
                consumers: consumers
                    .map(|consumer| (consumer.name.clone(), consumer.permits, consumer.unacked.len() as u64))
                    .collect(),
            }
        });
        Ok(TopicStats {
            producers: producers.map(|producer| producer.name.to_string()).collect(),
            subscriptions: subscriptions.collect(),
            entries: topic.log.count() as u64,
            bytes: topic.log.bytes(),
            last: topic.log.last_position(),
            ledgers: topic.log.ledgers().collect(),
        })
    }
}
