//! Consumers come and go: who is active of an Exclusive or Failover subscription, whose keys are whose.

use std::collections::BTreeSet;

use super::{Consumer, ConsumerKey, Dispatcher, Kind, Subscription};
use crate::semantics::log::Log;

impl Subscription {
    pub fn add_consumer(
        &mut self,
        kind: Kind,
        key: ConsumerKey,
        name: String,
        priority: i32,
        partition: Option<u32>,
    ) -> u32 {
        if self.consumers.is_empty() {
            if self.kind != kind {
                self.kind = kind;
                self.dispatcher = Dispatcher::of(kind);
            }
            self.rewind();
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.ring.add(slot, &name);
            queue.rering();
        }
        let unacked = BTreeSet::new();
        let consumer = Consumer { key, name, priority, permits: 0, unacked, blocked: false, delivered: 0 };
        self.consumers.insert(slot, consumer);
        self.elect(partition);
        slot
    }

    /// What the consumer had unacked goes back to the others.
    pub fn remove_consumer(&mut self, slot: u32, log: &Log, partition: Option<u32>) -> Option<Consumer> {
        let consumer = self.consumers.remove(&slot)?;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.ring.remove(slot);
        }
        for offset in &consumer.unacked {
            self.requeue(*offset, log);
        }
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.rering();
        }
        if self.consumers.is_empty() {
            self.rewind();
        }
        self.elect(partition);
        Some(consumer)
    }

    /// Chooses who is active: by priority, then by partition among the names in order.
    fn elect(&mut self, partition: Option<u32>) {
        let Dispatcher::Single { active } = &self.dispatcher else { return };
        let mut order: Vec<(i32, &str, u32)> =
            self.consumers.iter().map(|(slot, consumer)| (consumer.priority, consumer.name.as_str(), *slot)).collect();
        order.sort_unstable();
        let best = order.first().map_or(0, |first| order.partition_point(|other| other.0 == first.0));
        let chosen = order.get(partition.unwrap_or(0) as usize % best.max(1)).map(|(_, _, slot)| *slot);
        if chosen != *active {
            self.dispatcher = Dispatcher::Single { active: chosen };
            // What the one before had unacked comes again.
            self.read = self.cursor.next();
        }
    }

    pub fn handle_flow(&mut self, slot: u32, permits: u32) {
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.permits = consumer.permits.saturating_add(i64::from(permits));
            if let Dispatcher::Keys(queue) = &mut self.dispatcher {
                queue.feed(slot);
            }
        }
    }
}
