//! Acknowledging: the cursor moves, and whatever was known about the message is forgotten.

use super::{Dispatcher, Pending, Subscription, UNACKED_PER_CONSUMER_MAX, UNACKED_PER_SUBSCRIPTION_MAX};
use crate::semantics::batch::Unacked;
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
        if offset >= log.end() || !self.cursor.ack(offset, log) {
            return false;
        }
        self.settle(offset, log);
        self.unsaved = true;
        true
    }

    /// Acknowledges all but these messages of a batch. True if it was news.
    pub fn handle_ack_part(&mut self, offset: u64, words: &[u64], log: &Log) -> bool {
        let Some(entry) = log.get(offset).filter(|_| !self.cursor.is_acked(offset)) else { return false };
        let unacked = Unacked::new(words.to_vec(), entry.facts.batch);
        if unacked.is_empty() {
            return self.handle_ack(offset, log);
        }
        match self.cursor.ack_part(offset, &unacked, log) {
            None => return false,
            Some(0) => self.settle(offset, log),
            Some(left) => self.shrink_pending(offset, left),
        }
        self.unsaved = true;
        true
    }

    /// Fewer messages of a delivered batch are unacked.
    fn shrink_pending(&mut self, offset: u64, left: u32) {
        let Some(pending) = self.pending.get_mut(&offset) else { return };
        let acked = pending.messages.saturating_sub(left);
        pending.messages -= acked;
        let slot = pending.slot;
        self.count_acked(slot, acked);
    }

    /// Acknowledges everything below the offset.
    pub fn handle_ack_below(&mut self, offset: u64, log: &Log) -> bool {
        let before = self.cursor.next();
        let offset = offset.min(log.end());
        if !self.cursor.ack_below(offset, log) {
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
        if let Some(consumer) = self.consumers.get_mut(&slot) {
            consumer.unacked.remove(&offset);
        }
        self.count_acked(slot, messages);
        if let Dispatcher::Keys(queue) = &mut self.dispatcher
            && let Some(entry) = log.get(offset)
        {
            queue.release(queue.place(entry.facts.hash));
        }
        true
    }

    /// So many messages are no longer unacked at the consumer, which may be gone.
    fn count_acked(&mut self, slot: u32, messages: u32) {
        self.unacked_messages -= u64::from(messages);
        if self.unacked_messages <= UNACKED_PER_SUBSCRIPTION_MAX / 2 {
            self.blocked = false;
        }
        let Some(consumer) = self.consumers.get_mut(&slot) else { return };
        consumer.unacked_messages -= u64::from(messages);
        if consumer.blocked && consumer.unacked_messages <= UNACKED_PER_CONSUMER_MAX / 2 {
            consumer.blocked = false;
            if let Dispatcher::Keys(queue) = &mut self.dispatcher {
                queue.feed(slot);
            }
        }
    }
}
