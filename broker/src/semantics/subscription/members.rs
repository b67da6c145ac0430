//! Consumers come and go: who is active of an Exclusive or Failover subscription, whose keys are whose.

use super::{Consumer, Dispatcher, Joining, Kind, Subscription};
use crate::semantics::effect::{Refusal, RefusalKind};
use crate::semantics::hash::elected;
use crate::semantics::log::Log;
use crate::semantics::name::TopicName;
use crate::semantics::selector::{Conflict, Ranges, Selector};

impl Subscription {
    /// Whether such a consumer can join those that are there. The words are Apache Pulsar's.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_joining(&self, kind: Kind, joining: &Joining) -> Result<(), Refusal> {
        let taken = self.has_consumers();
        let busy = |message: String| Err(Refusal::new(RefusalKind::ConsumerBusy, message));
        if taken && kind != self.kind {
            return busy(format!(
                "Subscription is of different type. Active subscription type of '{}' is different than the \
                 connecting consumer's type '{}'.",
                self.kind.name(),
                kind.name()
            ));
        }
        if taken && kind == Kind::Exclusive {
            return busy("Exclusive consumer is already connected".to_owned());
        }
        if kind != Kind::KeyShared {
            return Ok(());
        }
        let none = Ranges::default();
        let ranges = match &self.dispatcher {
            Dispatcher::Keys(queue) if taken => {
                if let Some(conflict) = queue.policy().conflict(joining.keys) {
                    return busy(format!("Subscription is of different type. {conflict}"));
                }
                match &queue.selector {
                    Selector::Sticky(ranges) => ranges,
                    Selector::Split(_) => &none,
                }
            }
            _ => &none,
        };
        if !joining.keys.sticky {
            return Ok(());
        }
        ranges.check(&joining.ranges).map_err(|conflict| {
            let message = match conflict {
                Conflict::Empty => "Ranges for KeyShared policy must not be empty.".to_owned(),
                Conflict::Reversed(start, end) => format!("Fixed hash range start > end for range: [{start},{end}]"),
                Conflict::Own(a, b) => {
                    format!("Consumer's own ranges conflict: [{},{}] overlaps with [{},{}]", a.0, a.1, b.0, b.1)
                }
                Conflict::Taken(slot) => {
                    let name = self.consumer(slot).map_or("?", |consumer| &consumer.name);
                    format!("Range conflict with consumer {name}")
                }
            };
            Refusal::new(RefusalKind::ConsumerAssign, message)
        })
    }

    /// It must have been checked by [`Subscription::check_joining`].
    pub fn add_consumer(&mut self, kind: Kind, joining: Joining, topic: &TopicName) -> u32 {
        if self.consumers.is_empty() {
            let same = match &self.dispatcher {
                Dispatcher::Keys(queue) => queue.policy() == joining.keys,
                _ => true,
            };
            if self.kind != kind || !same {
                self.kind = kind;
                self.dispatcher = Dispatcher::of(kind, joining.keys);
            }
            self.rewind();
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.join(slot, &joining.name, &joining.ranges);
        }
        self.consumers.insert(slot, Consumer::new(joining));
        self.elect(topic);
        slot
    }

    /// What the consumer had unacked goes back to the others.
    pub fn remove_consumer(&mut self, slot: u32, log: &Log, topic: &TopicName) -> Option<Consumer> {
        let consumer = self.consumers.remove(&slot)?;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher {
            queue.leave(slot);
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
        self.elect(topic);
        Some(consumer)
    }

    /// Chooses who is active: among those of the best priority, in the order of their names, the topic's partition
    /// says which; without partitions, a hash of the topic's name does. As the Java broker
    /// (`AbstractDispatcherSingleActiveConsumer`, Apache Pulsar 4.0), so that topics are spread over consumers.
    fn elect(&mut self, topic: &TopicName) {
        let Dispatcher::Single { active } = &self.dispatcher else { return };
        let best = self.consumers.values().map(|consumer| consumer.priority).min();
        let best = self.consumers.iter().filter(|(_, consumer)| Some(consumer.priority) == best);
        let mut names: Vec<(&str, u32)> = best.map(|(slot, consumer)| (consumer.name.as_str(), *slot)).collect();
        names.sort_unstable();
        let chosen = match topic.partition() {
            _ if names.is_empty() => None,
            Some(partition) => names.get(partition as usize % names.len()),
            None => names.get(elected(topic.as_str(), names.iter().map(|(name, _)| *name))),
        };
        let chosen = chosen.map(|(_, slot)| *slot);
        if chosen != *active {
            self.dispatcher = Dispatcher::Single { active: chosen };
            // What the one before had unacked comes again.
            self.read = self.cursor.next();
            self.compacted.rewind();
        }
    }

    /// Its connection takes nothing at present, or takes it again.
    pub fn handle_congestion(&mut self, slot: u32, congested: bool) {
        let Some(consumer) = self.consumers.get_mut(&slot) else { return };
        consumer.congested = congested;
        if let Dispatcher::Keys(queue) = &mut self.dispatcher
            && !congested
        {
            queue.feed(slot);
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
