//! Where a cursor starts, and moving it.

use super::TopicId;
use super::batch::Unacked;
use super::broker::Broker;
use super::cursor::Cursor;
use super::effect::{Effect, Refusal, RefusalKind};
use super::entry::Position;
use super::log::Log;
use super::subscription::ConsumerKey;
use super::topic::Topic;

/// Where a cursor starts or seeks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// This message is the first.
    At(Position),
    /// The first message after this one is the first.
    After(Position),
    /// The message of this index in this batch is the first.
    Within(Position, u32),
    /// The first message published at or after this time.
    Since(u64),
}

/// The place in a topic that a [`Start`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub offset: u64,
    /// What of the entry there is still to come, if it is a batch that is entered in its middle.
    pub unacked: Option<Unacked>,
}

impl Target {
    pub fn cursor(&self, log: &Log) -> Cursor {
        let mut cursor = Cursor::at(self.offset);
        if let Some(unacked) = &self.unacked {
            cursor.ack_part(self.offset, unacked, log);
        }
        cursor
    }
}

impl Topic {
    pub fn target(&self, start: Start) -> Target {
        let unacked = None;
        match start {
            Start::Within(position, index) => match self.log.find(position) {
                Some(offset) => {
                    let batch = self.log.get(offset).map_or(1, |entry| entry.facts.batch.max(1));
                    if index >= batch {
                        return Target { offset: offset + 1, unacked };
                    }
                    let part = (index > 0).then(|| Unacked::since(index, batch)).flatten();
                    Target { offset, unacked: part }
                }
                None => Target { offset: self.log.ceiling(position), unacked },
            },
            start => Target { offset: self.offset_of(start), unacked },
        }
    }

    fn offset_of(&self, start: Start) -> u64 {
        match start {
            Start::Earliest => self.log.base(),
            Start::Latest => self.log.end(),
            Start::At(position) | Start::Within(position, _) => self.log.ceiling(position),
            Start::After(position) => match self.log.find(position) {
                Some(offset) => offset + 1,
                None => self.log.ceiling(position),
            },
            Start::Since(time_ms) => self.log.published_since(time_ms),
        }
    }
}

impl Broker {
    /// Moves the subscription's cursor. Its consumers are disconnected and come back by themselves, as with
    /// Apache Pulsar; of a Failover subscription only the active one.
    pub fn handle_seek(&mut self, consumer: ConsumerKey, request_id: u64, start: Start) {
        let connection = consumer.connection;
        let Some(at) = self.consumers.get(&consumer).copied() else {
            let refusal = Refusal::new(RefusalKind::ConsumerNotFound, "Consumer not found");
            return self.emit(Effect::Refused { connection, request_id, refusal });
        };
        self.seek(at.topic, at.subscription, start);
        self.answer(Effect::Success { connection, request_id });
    }

    pub(super) fn seek(&mut self, topic_id: TopicId, id: u32, start: Start) {
        let Some(topic) = self.topics.get_mut(&topic_id) else { return };
        let target = topic.target(start);
        let Some(subscription) = topic.subscriptions.get_mut(&id) else { return };
        // Those of a Failover subscription that only wait have received nothing that would have to be forgotten.
        let consumers = match subscription.active() {
            Some(active) => subscription.consumer(active).map(|consumer| consumer.key).into_iter().collect(),
            None => subscription.consumer_keys(),
        };
        // A reader's subscription ends with its last consumer. When it comes back it says itself where it
        // starts; but the client's seek decides that, so the subscription is kept for it.
        let (name, durable) = (subscription.name.clone(), subscription.durable);
        if !durable {
            subscription.durable = true;
        }
        for consumer in consumers {
            self.remove_consumer(consumer);
            self.emit(Effect::ConsumerClosed { consumer });
        }
        let Some(topic) = self.topics.get_mut(&topic_id) else { return };
        let Some(subscription) = topic.subscriptions.get_mut(&id) else { return };
        subscription.durable = durable;
        subscription.seek(target, &topic.log);
        subscription.compacted.start_at(start);
        if durable {
            self.log_subscription(topic_id, &name);
        }
        self.schedule(topic_id, id);
    }
}
