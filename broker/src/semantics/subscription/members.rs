//! Consumers come and go: who is active of an Exclusive or Failover subscription, whose keys are whose.

use super::{Consumer, Dispatcher, Joining, Kind, Subscription};
use crate::semantics::log::Log;

impl Subscription {
    /// Its consumers must be of this kind, if there are any.
    pub fn add_consumer(&mut self, kind: Kind, joining: Joining, partition: Option<u32>) -> u32 {
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
            queue.ring.add(slot, &joining.name);
            queue.rering();
        }
        self.consumers.insert(slot, Consumer::new(joining));
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
            self.compacted.rewind();
        }
    }

    pub fn handle_flow(&mut self, slot: u32, permits: u32, now_ms: u64) {
        self.traffic.last_flow_ms = now_ms;
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.traffic.last_flow_ms = now_ms;
            consumer.permits = consumer.permits.saturating_add(i64::from(permits));
            if let Dispatcher::Keys(queue) = &mut self.dispatcher {
                queue.feed(slot);
            }
        }
    }
}
