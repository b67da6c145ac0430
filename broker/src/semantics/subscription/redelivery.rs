//! Messages that come again: asked for, left behind by a consumer, or because the cursor was moved.

use super::{Dispatcher, Subscription};
use crate::semantics::batch::Unacked;
use crate::semantics::cursor::Cursor;
use crate::semantics::log::Log;
use crate::semantics::seek::Target;

impl Subscription {
    pub(super) fn requeue(&mut self, offset: u64, log: &Log) {
        if self.take_pending(offset, log) && !self.cursor.is_acked(offset) {
            self.queue(offset, log);
        }
    }

    /// The consumer wants messages again: these, or all that it has. An Exclusive or Failover subscription
    /// repeats everything unacked, since single messages would break its order. What it delivers from now on
    /// bears the new epoch, so that the client knows what it has thrown away from what comes again (PIP-84).
    pub fn handle_redeliver(&mut self, slot: u32, offsets: Option<Vec<u64>>, epoch: Option<u64>, log: &Log) {
        if self.is_single() {
            if let Some(consumer) = self.consumers.get_mut(&slot) {
                consumer.epoch = consumer.epoch.max(epoch);
            }
            if self.active() == Some(slot) {
                self.read = self.cursor.next();
                self.compacted.rewind();
            }
            return;
        }
        let Some(consumer) = self.consumers.get(&slot) else { return };
        let offsets = match offsets {
            Some(offsets) => offsets.into_iter().filter(|offset| consumer.unacked.contains(offset)).collect(),
            None => consumer.unacked.iter().copied().collect::<Vec<u64>>(),
        };
        for offset in offsets {
            *self.redeliveries.entry(offset).or_insert(0) += 1;
            self.requeue(offset, log);
        }
    }

    /// Moves the cursor; everything from there on comes again. Consumers must have been disconnected.
    pub fn seek(&mut self, to: Target, log: &Log) {
        self.cursor = to.cursor(log);
        self.unsaved = true;
        self.rewind();
    }

    /// Used while a topic is loaded: what was acknowledged before.
    pub fn restore_cursor(
        &mut self,
        next: u64,
        acked: impl Iterator<Item = (u64, u64)>,
        partial: impl Iterator<Item = (u64, Unacked)>,
        log: &Log,
    ) {
        self.cursor = Cursor::at(next);
        for (start, end) in acked {
            self.cursor.ack_range(start, end, log);
        }
        for (offset, unacked) in partial {
            self.cursor.ack_part(offset, &unacked, log);
        }
        self.rewind();
    }

    /// Starts again at the first unacknowledged message, with nothing delivered.
    pub fn rewind(&mut self) {
        self.read = self.cursor.next();
        self.compacted.rewind();
        self.pending.clear();
        self.unacked_messages = 0;
        self.blocked = false;
        self.redeliveries.clear();
        self.delayed.clear();
        for consumer in self.consumers.values_mut() {
            consumer.unacked.clear();
            consumer.unacked_messages = 0;
            consumer.blocked = false;
        }
        match &mut self.dispatcher {
            Dispatcher::Single { .. } => {}
            Dispatcher::Shared(queue) => queue.replay.clear(),
            Dispatcher::Keys(queue) => queue.clear(),
        }
    }
}
