//! Who gets which message when: permits, priorities, keys and delays.

use super::{
    Consumer, ConsumerKey, DISPATCH_MAX, Delivery, Dispatcher, KEYS_LOOK_AHEAD_MAX, Pending, Subscription,
    UNACKED_PER_CONSUMER_MAX, UNACKED_PER_SUBSCRIPTION_MAX,
};
use crate::semantics::batch::Unacked;
use crate::semantics::entry::Entry;
use crate::semantics::log::Log;
use crate::semantics::queue::Route;

impl Subscription {
    /// Hands out what can go now, but not more than [`DISPATCH_MAX`]. True if there may be more.
    pub fn dispatch(&mut self, log: &Log, now_ms: u64, out: &mut Vec<Delivery>) -> bool {
        debug_assert!(out.is_empty(), "what was handed out before is on its way");
        self.read = self.read.max(log.base());
        match &self.dispatcher {
            Dispatcher::Single { active } => self.dispatch_single(*active, log, now_ms, out),
            Dispatcher::Shared(_) => {
                self.promote_due(log, now_ms);
                self.dispatch_shared(log, now_ms, out);
            }
            Dispatcher::Keys(_) => {
                self.promote_due(log, now_ms);
                self.dispatch_keys(log, now_ms, out);
            }
        }
        out.len() >= DISPATCH_MAX
    }

    fn dispatch_single(&mut self, active: Option<u32>, log: &Log, now_ms: u64, out: &mut Vec<Delivery>) {
        let Some(consumer) = active.and_then(|slot| self.consumers.get_mut(&slot)) else { return };
        while consumer.can_take() && out.len() < DISPATCH_MAX {
            let offset = self.read;
            let Some(entry) = log.get(offset) else { return };
            self.read += 1;
            if self.cursor.is_acked(offset) || !consumer.wants(entry.facts.hash) {
                continue;
            }
            let delivery = Delivery::new(consumer, offset, entry, 0, self.cursor.unacked(offset), consumer.epoch);
            consumer.permits -= i64::from(delivery.messages);
            let (messages, bytes) = (u64::from(delivery.messages), u64::from(entry.location.len));
            consumer.traffic.delivered(messages, bytes, false, now_ms);
            self.traffic.delivered(messages, bytes, false, now_ms);
            out.push(delivery);
        }
    }

    fn promote_due(&mut self, log: &Log, now_ms: u64) {
        while let Some(&(due, offset)) = self.delayed.first() {
            if due > now_ms {
                return;
            }
            self.delayed.pop_first();
            self.queue(offset, log);
        }
    }

    /// A message that was looked at before waits to be handed out.
    pub(super) fn queue(&mut self, offset: u64, log: &Log) {
        match &mut self.dispatcher {
            Dispatcher::Shared(queue) => {
                queue.replay.insert(offset);
            }
            Dispatcher::Keys(queue) => {
                if let Some(entry) = log.get(offset) {
                    queue.push(offset, queue.place(entry.facts.hash));
                }
            }
            Dispatcher::Single { .. } => {}
        }
    }

    /// The next message that was never looked at and may go now.
    fn read_next(&mut self, log: &Log, now_ms: u64) -> Option<(u64, Entry)> {
        loop {
            let offset = self.read;
            let entry = log.get(offset)?;
            self.read += 1;
            if self.cursor.is_acked(offset) || self.pending.contains_key(&offset) {
                continue;
            }
            if entry.facts.deliver_at_ms > now_ms {
                self.delayed.insert((entry.facts.deliver_at_ms, offset));
                continue;
            }
            return Some((offset, entry));
        }
    }

    fn dispatch_shared(&mut self, log: &Log, now_ms: u64, out: &mut Vec<Delivery>) {
        while !self.blocked && out.len() < DISPATCH_MAX {
            let Dispatcher::Shared(queue) = &mut self.dispatcher else { return };
            let last = queue.last_served;
            let able = |(slot, consumer): (&u32, &Consumer)| consumer.can_take().then_some((consumer.priority, *slot));
            // Round robin among the best priority that can take something.
            let Some(best) = self.consumers.iter().filter_map(able).map(|(priority, _)| priority).min() else { return };
            let mut turn = self.consumers.range(last + 1..).chain(self.consumers.range(..=last)).filter_map(able);
            let Some((_, slot)) = turn.find(|(priority, _)| *priority == best) else { return };
            let replayed = queue.replay.pop_first().and_then(|offset| log.get(offset).map(|entry| (offset, entry)));
            let Some((offset, entry)) = replayed.or_else(|| self.read_next(log, now_ms)) else { return };
            if let Dispatcher::Shared(queue) = &mut self.dispatcher {
                queue.last_served = slot;
            }
            self.deliver(slot, offset, entry, now_ms, out);
        }
    }

    fn dispatch_keys(&mut self, log: &Log, now_ms: u64, out: &mut Vec<Delivery>) {
        while !self.blocked && out.len() < DISPATCH_MAX {
            let Dispatcher::Keys(queue) = &mut self.dispatcher else { return };
            let Some((offset, hash)) = queue.next_ready() else { break };
            let Some(entry) = log.get(offset) else {
                queue.remove(offset, hash);
                continue;
            };
            match queue.route(hash) {
                Route::Nobody | Route::Draining => {}
                Route::Consumer(slot) if self.consumers.get(&slot).is_some_and(Consumer::can_take) => {
                    queue.remove(offset, hash);
                    self.deliver(slot, offset, entry, now_ms, out);
                }
                Route::Consumer(slot) => queue.starve(slot, offset, hash),
            }
        }
        while !self.blocked && out.len() < DISPATCH_MAX && self.consumers.values().any(Consumer::can_take) {
            let Dispatcher::Keys(queue) = &self.dispatcher else { return };
            if queue.count() >= KEYS_LOOK_AHEAD_MAX {
                return;
            }
            let Some((offset, entry)) = self.read_next(log, now_ms) else { return };
            let Dispatcher::Keys(queue) = &mut self.dispatcher else { return };
            let hash = queue.place(entry.facts.hash);
            if queue.has_waiting(hash) {
                queue.push_behind(offset, hash);
                continue;
            }
            match queue.route(hash) {
                Route::Consumer(slot) if self.consumers.get(&slot).is_some_and(Consumer::can_take) => {
                    self.deliver(slot, offset, entry, now_ms, out);
                }
                Route::Consumer(slot) => {
                    queue.push_behind(offset, hash);
                    queue.starve(slot, offset, hash);
                }
                Route::Draining | Route::Nobody => queue.push_behind(offset, hash),
            }
        }
    }

    fn deliver(&mut self, slot: u32, offset: u64, entry: Entry, now_ms: u64, out: &mut Vec<Delivery>) {
        let Some(consumer) = self.consumers.get_mut(&slot) else { return };
        let redelivery_count = self.redeliveries.get(&offset).copied().unwrap_or(0);
        let delivery = Delivery::new(consumer, offset, entry, redelivery_count, self.cursor.unacked(offset), None);
        let messages = delivery.messages;
        consumer.permits -= i64::from(messages);
        consumer.unacked.insert(offset);
        consumer.unacked_messages += u64::from(messages);
        consumer.blocked = consumer.unacked_messages >= UNACKED_PER_CONSUMER_MAX;
        self.pending.insert(offset, Pending { slot, messages });
        self.unacked_messages += u64::from(messages);
        self.blocked = self.unacked_messages >= UNACKED_PER_SUBSCRIPTION_MAX;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.hold(queue.place(entry.facts.hash), slot);
        }
        let (bytes, again) = (u64::from(entry.location.len), redelivery_count > 0);
        consumer.traffic.delivered(u64::from(messages), bytes, again, now_ms);
        self.traffic.delivered(u64::from(messages), bytes, again, now_ms);
        out.push(delivery);
    }

    /// The consumer that an entry of a non-persistent topic goes to, or `None` if nobody has permits: it is dropped.
    pub fn route_unstored(&mut self, hash: u32, permits: i64, bytes: u64, now_ms: u64) -> Option<ConsumerKey> {
        let slot = match &mut self.dispatcher {
            Dispatcher::Single { active } => (*active)?,
            Dispatcher::Keys(queue) => queue.selector.owner(queue.place(hash))?,
            Dispatcher::Shared(queue) => {
                let last = queue.last_served;
                let mut turn = self.consumers.range(last + 1..).chain(self.consumers.range(..=last));
                let (slot, _) = turn.find(|(_, consumer)| consumer.permits > 0)?;
                queue.last_served = *slot;
                *slot
            }
        };
        let consumer = self.consumers.get_mut(&slot).filter(|consumer| consumer.permits > 0)?;
        consumer.permits -= permits;
        consumer.traffic.delivered(permits as u64, bytes, false, now_ms);
        self.traffic.delivered(permits as u64, bytes, false, now_ms);
        Some(consumer.key)
    }
}

impl Delivery {
    pub(super) fn new(
        consumer: &Consumer,
        offset: u64,
        entry: Entry,
        redelivery_count: u32,
        unacked: Option<&Unacked>,
        epoch: Option<u64>,
    ) -> Delivery {
        let messages = unacked.map_or(entry.facts.permits() as u32, Unacked::count);
        let ack_set = unacked.map_or_else(Vec::new, |unacked| unacked.words().to_vec());
        Delivery { consumer: consumer.key, offset, entry, redelivery_count, messages, ack_set, epoch }
    }
}
