//! Acknowledging: the cursor moves, and whatever was known about the message is forgotten.

use super::{Dispatcher, Pending, Subscription, UNACKED_PER_CONSUMER_MAX, UNACKED_PER_SUBSCRIPTION_MAX};
use crate::semantics::log::Log;

impl Subscription {
    pub fn note_ack(&mut self, slot: u32, now_ms: u64) {
        self.traffic.last_acked_ms = now_ms;
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.traffic.last_acked_ms = now_ms;
        }
    }

    /// Any consumer's ack counts, whoever has the message. True if it was news.
    pub fn handle_ack(&mut self, offset: u64, log: &Log) -> bool {
        if offset >= log.end() || !self.cursor.ack(offset) {
            return false;
        }
        self.settle(offset, log);
        self.unsaved = true;
        true
    }

    /// Acknowledges everything below the offset.
    pub fn handle_ack_below(&mut self, offset: u64, log: &Log) -> bool {
        let before = self.cursor.next();
        let offset = offset.min(log.end());
        if !self.cursor.ack_below(offset) {
            return false;
        }
        if !self.is_single() {
            for offset in before..offset {
                self.settle(offset, log);
            }
        }
        self.read = self.read.max(self.cursor.next());
        self.unsaved = true;
        true
    }

    /// Forgets all that was known about an offset that is acknowledged now.
    pub(super) fn settle(&mut self, offset: u64, log: &Log) {
        self.redeliveries.remove(&offset);
        if self.is_single() {
            return;
        }
        if self.take_pending(offset, log) {
            return;
        }
        let Some(entry) = log.get(offset) else { return };
        if entry.facts.deliver_at_ms > 0 {
            self.delayed.remove(&(entry.facts.deliver_at_ms, offset));
        }
        match &mut self.dispatcher {
            Dispatcher::Shared(queue) => {
                queue.replay.remove(&offset);
            }
            Dispatcher::Keys(queue) => queue.remove(offset, queue.place(entry.facts.hash)),
            Dispatcher::Single { .. } => {}
        }
    }

    /// The message is no longer with its consumer.
    pub(super) fn take_pending(&mut self, offset: u64, log: &Log) -> bool {
        let Some(Pending { slot, messages }) = self.pending.remove(&offset) else { return false };
        self.unacked_messages -= u64::from(messages);
        if self.unacked_messages <= UNACKED_PER_SUBSCRIPTION_MAX / 2 {
            self.blocked = false;
        }
        let mut feed = false;
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.unacked.remove(&offset);
            consumer.unacked_messages -= u64::from(messages);
            if consumer.blocked && consumer.unacked_messages <= UNACKED_PER_CONSUMER_MAX / 2 {
                consumer.blocked = false;
                feed = true;
            }
        }
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            if let Some(entry) = log.get(offset) {
                queue.release(queue.place(entry.facts.hash));
            }
            if feed {
                queue.feed(slot);
            }
        }
        true
    }
}
