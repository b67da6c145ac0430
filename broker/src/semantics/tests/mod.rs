//! The rules of the state machine, one test each, in virtual time and without a disk.

mod access;
mod acking;
mod admin;
mod backlog;
mod batches;
mod compacting;
mod failover;
mod interleavings;
mod keys;
mod limits;
mod lists;
mod namespaces;
mod producing;
mod restoring;
mod schemas;
mod sticky;
mod subscribing;

use std::collections::VecDeque;

use bytes::Bytes;

use super::*;

/// A broker whose storage does what the test says, and all that came out of it.
pub struct World {
    pub broker: Broker,
    pub now_ms: u64,
    /// What the storage was given and has not answered.
    pub storing: VecDeque<Effect>,
    /// Everything that was ever stored, in order.
    pub stored: Vec<Effect>,
    pub out: Vec<Effect>,
    pub automatic: bool,
    next_request: u64,
    next_sequence: u64,
    segment: u32,
}

pub const CLIENT: ConnectionId = ConnectionId(1);
pub const OTHER: ConnectionId = ConnectionId(2);

impl World {
    pub fn new() -> World {
        World::restored(restore::Restore::new(Snapshot::initial()).finish())
    }

    pub fn restored(broker: Broker) -> World {
        World {
            broker,
            now_ms: 1_000_000,
            storing: VecDeque::new(),
            stored: Vec::new(),
            out: Vec::new(),
            automatic: true,
            next_request: 1,
            next_sequence: 0,
            segment: 1,
        }
    }

    /// Lets everything happen that follows from the inputs so far.
    pub fn settle(&mut self) {
        loop {
            let mut effects = Vec::new();
            self.broker.poll_effects(self.now_ms, &mut effects);
            if effects.is_empty() && (self.storing.is_empty() || !self.automatic) {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Append { .. } | Effect::Log(_) => self.storing.push_back(effect),
                    effect => self.out.push(effect),
                }
            }
            if self.automatic {
                while !self.storing.is_empty() {
                    self.store_one();
                }
            }
        }
    }

    pub fn location(&self) -> Location {
        Location { segment: self.segment, offset: self.stored.len() as u32 * 100, len: 100 }
    }

    pub fn store_one(&mut self) {
        let effect = self.storing.pop_front().expect("something is being stored");
        let location = self.location();
        self.stored.push(effect);
        self.broker.handle_appended(self.now_ms, location);
    }

    pub fn fail_one(&mut self) {
        self.storing.pop_front().expect("something is being stored");
        self.broker.handle_append_failed("disk full");
    }

    pub fn begin_segment(&mut self) {
        self.segment += 1;
    }

    pub fn segment(&self) -> u32 {
        self.segment
    }

    pub fn take(&mut self) -> Vec<Effect> {
        self.settle();
        std::mem::take(&mut self.out)
    }

    pub fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    pub fn producer(&mut self, connection: ConnectionId, topic: &str, name: &str, access: Access) -> Vec<Effect> {
        let request_id = self.request();
        let (topic, name, producer_id) = (topic.to_owned(), Some(name.to_owned()), 1);
        let request = CreateProducer { topic, producer_id, request_id, name, access, ..CreateProducer::default() };
        self.broker.handle_create_producer(connection, request);
        self.take()
    }

    pub fn send(&mut self, key: &str, payload: &str) {
        let facts = Facts { hash: hash::sticky_hash(key.as_bytes()), publish_time_ms: self.now_ms, ..Facts::default() };
        self.send_as(facts, payload);
    }

    pub fn send_as(&mut self, facts: Facts, payload: &str) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.send_sequence(sequence, facts, payload);
    }

    pub fn send_sequence(&mut self, sequence_id: u64, facts: Facts, payload: &str) {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        self.publish(Publish { sequence_id, facts, payload, ..publish() });
    }

    pub fn publish(&mut self, publish: Publish) {
        self.broker.handle_publish(CLIENT, publish);
    }

    pub fn subscribe_as(
        &mut self,
        connection: ConnectionId,
        consumer_id: u64,
        edit: impl FnOnce(&mut Subscribe),
    ) -> Vec<Effect> {
        let mut request = Subscribe {
            topic: "t".into(),
            subscription: "s".into(),
            kind: Kind::Shared,
            consumer_id,
            request_id: self.request(),
            name: Some(format!("c{consumer_id}")),
            priority: 0,
            durable: true,
            start: None,
            earliest: true,
            create_topic: true,
            metadata: std::collections::BTreeMap::new(),
            properties: std::collections::BTreeMap::new(),
            epoch: None,
            read_compacted: false,
            schema: None,
            keys: selector::KeyPolicy::default(),
            ranges: Vec::new(),
        };
        edit(&mut request);
        self.broker.handle_subscribe(connection, request);
        self.take()
    }

    /// A consumer of topic `t`, subscription `s`, with permits.
    pub fn consumer(&mut self, consumer_id: u64, kind: Kind, permits: u32) -> ConsumerKey {
        let out = self.subscribe_as(CLIENT, consumer_id, |request| request.kind = kind);
        assert!(out.iter().any(|effect| matches!(effect, Effect::Success { .. })), "{out:?}");
        let key = ConsumerKey { connection: CLIENT, consumer_id };
        self.broker.handle_flow(key, permits);
        key
    }

    /// What was delivered since the last look: consumer id, entry id, redelivery count.
    pub fn delivered(&mut self) -> Vec<(u64, u64, u32)> {
        let delivered = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Deliver { consumer, position, redelivery_count, .. } => {
                Some((consumer.consumer_id, position.entry, redelivery_count))
            }
            _ => None,
        });
        delivered.collect()
    }

    /// Entry ids that one consumer got since the last look.
    pub fn entries(&mut self) -> Vec<u64> {
        self.delivered().into_iter().map(|(_, entry, _)| entry).collect()
    }

    pub fn ack(&mut self, consumer: ConsumerKey, entries: &[u64]) {
        let ids: Vec<MessageId> = entries.iter().map(|entry| self.id(*entry)).collect();
        self.broker.handle_ack(consumer, false, &ids).expect("acked");
    }

    /// Of the first ledger.
    pub fn id(&self, entry: u64) -> MessageId {
        MessageId { position: Position { ledger: 1, entry }, ack_set: Vec::new() }
    }

    pub fn backlog(&self) -> u64 {
        let stats = self.broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists");
        stats.subscriptions.iter().find(|subscription| subscription.name == "s").expect("exists").backlog
    }
}

/// An empty message of producer 1.
pub fn publish() -> Publish {
    Publish {
        producer_id: 1,
        sequence_id: 0,
        highest_sequence_id: 0,
        facts: Facts::default(),
        partial_chunk: false,
        encrypted: false,
        payload: Bytes::new(),
    }
}

/// A world with a producer of topic `t` and this subscription.
pub fn world() -> World {
    let mut world = World::new();
    world.producer(CLIENT, "t", "p", Access::Shared);
    world
}
