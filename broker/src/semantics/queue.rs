//! What waits within a Shared or Key_Shared subscription to be delivered: again, late, or when its key is free.
//!
//! Both queues hold offsets only. They do not know permits or connections: the subscription asks for the
//! next offset and says whether its consumer could take it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::selector::{KeyPolicy, Selector};

/// Messages that any consumer may get, oldest first.
#[derive(Debug, Default)]
pub struct SharedQueue {
    pub replay: BTreeSet<u64>,
    /// The consumer that got the last message; the next one is after it.
    pub last_served: u32,
}

/// Messages that only the consumer of their key may get, in order within the key.
///
/// ```text
///             ┌────────── its consumer has no permits ─────────► starved ── permits ──┐
/// ready ──────┼── unacked messages of the key at another ──► (only in waiting) ── acked ──► ready
///             └── delivered; the key's next message ──► ready
/// ```
/// Draining as in PIP-379: a key with unacked messages at a consumer moves to no other before they are
/// acked or that consumer is gone, and blocks no other key meanwhile.
#[derive(Debug, Default)]
pub struct KeyQueue {
    pub selector: Selector,
    policy: KeyPolicy,
    /// Every offset that waits, by key hash.
    waiting: HashMap<u32, BTreeSet<u64>>,
    count: usize,
    /// Keys that may be deliverable, by their oldest offset. A hint: a key whose queue is empty is skipped.
    ready: BTreeSet<(u64, u32)>,
    starved: BTreeMap<u32, BTreeSet<(u64, u32)>>,
    /// Keys with unacked messages: at which consumer, how many.
    held: HashMap<u32, Held>,
    /// Those whose consumer is not the one that they belong to now.
    draining: Draining,
}

/// How many keys have unacked messages at another consumer than theirs, and how many messages these are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    pub keys: u64,
    pub messages: u64,
}

#[derive(Debug)]
struct Held {
    consumer: u32,
    count: u32,
}

/// Whether a key's next message can go now, and to whom.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// To this consumer, if it has permits.
    Consumer(u32),
    /// The key has unacked messages at another consumer.
    Draining,
    Nobody,
}

impl KeyQueue {
    pub fn new(policy: KeyPolicy) -> KeyQueue {
        KeyQueue { selector: Selector::of(policy), policy, ..KeyQueue::default() }
    }

    pub fn policy(&self) -> KeyPolicy {
        self.policy
    }

    pub fn draining(&self) -> Draining {
        self.draining
    }

    /// What is draining, counted anew: keys begin to drain only when consumers come and go.
    pub(super) fn count_draining(&self) -> Draining {
        let draining = self.held.iter().filter(|(place, held)| self.selector.owner(**place) != Some(held.consumer));
        draining.fold(Draining::default(), |sum, (_, held)| Draining {
            keys: sum.keys + 1,
            messages: sum.messages + u64::from(held.count),
        })
    }

    /// What a sticky key's hash is to this queue.
    pub fn place(&self, hash: u32) -> u32 {
        self.selector.place(hash)
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn push(&mut self, offset: u64, hash: u32) {
        if self.waiting.entry(hash).or_default().insert(offset) {
            self.count += 1;
        }
        self.ready.insert((offset, hash));
    }

    /// Adds behind what waits of the key already; the key's readiness does not change.
    pub fn push_behind(&mut self, offset: u64, hash: u32) {
        if self.waiting.entry(hash).or_default().insert(offset) {
            self.count += 1;
        }
    }

    pub fn has_waiting(&self, hash: u32) -> bool {
        self.waiting.contains_key(&hash)
    }

    pub fn remove(&mut self, offset: u64, hash: u32) {
        let Some(offsets) = self.waiting.get_mut(&hash) else { return };
        if offsets.remove(&offset) {
            self.count -= 1;
        }
        match offsets.first() {
            None => {
                self.waiting.remove(&hash);
            }
            Some(first) => {
                self.ready.insert((*first, hash));
            }
        }
    }

    /// The oldest key that may be deliverable: its oldest offset and its hash.
    pub fn next_ready(&mut self) -> Option<(u64, u32)> {
        while let Some((_, hash)) = self.ready.pop_first() {
            if let Some(first) = self.waiting.get(&hash).and_then(|offsets| offsets.first()) {
                return Some((*first, hash));
            }
        }
        None
    }

    pub fn route(&self, hash: u32) -> Route {
        match (self.selector.owner(hash), self.held.get(&hash)) {
            (None, _) => Route::Nobody,
            (Some(owner), Some(held)) if held.consumer != owner => Route::Draining,
            (Some(owner), _) => Route::Consumer(owner),
        }
    }

    /// The key waits until its consumer has permits again.
    pub fn starve(&mut self, consumer: u32, offset: u64, hash: u32) {
        self.starved.entry(consumer).or_default().insert((offset, hash));
    }

    pub fn feed(&mut self, consumer: u32) {
        if let Some(keys) = self.starved.remove(&consumer) {
            self.ready.extend(keys);
        }
    }

    /// One message of the key more is unacked at its consumer. Not kept if keys need no order.
    pub fn hold(&mut self, hash: u32, consumer: u32) {
        if self.policy.out_of_order {
            return;
        }
        self.held.entry(hash).or_insert(Held { consumer, count: 0 }).count += 1;
    }

    /// One message of the key is no longer unacked at its consumer.
    pub fn release(&mut self, hash: u32) {
        let Some(held) = self.held.get_mut(&hash) else { return };
        held.count -= 1;
        let (left, consumer) = (held.count, held.consumer);
        if self.draining.keys > 0 && self.selector.owner(hash) != Some(consumer) {
            self.draining.messages -= 1;
            self.draining.keys -= u64::from(left == 0);
        }
        if left == 0 {
            self.held.remove(&hash);
            if let Some(first) = self.waiting.get(&hash).and_then(|offsets| offsets.first()) {
                self.ready.insert((*first, hash));
            }
        }
    }

    /// A consumer takes its part of the keys.
    pub fn join(&mut self, consumer: u32, name: &str, ranges: &[(u32, u32)]) {
        self.selector.add(consumer, name, ranges);
        self.rering();
    }

    /// A consumer's keys belong to others. What it has of them must be released, then [`KeyQueue::rering`] says who gets it.
    pub fn leave(&mut self, consumer: u32) {
        self.selector.remove(consumer);
        self.draining = self.count_draining();
    }

    /// Keys may belong to other consumers now: all that waits is looked at again.
    pub fn rering(&mut self) {
        self.draining = self.count_draining();
        self.starved.clear();
        self.ready =
            self.waiting.iter().filter_map(|(hash, offsets)| offsets.first().map(|first| (*first, *hash))).collect();
    }

    /// Forgets what waits and what is unacked; the consumers stay.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.count = 0;
        self.ready.clear();
        self.starved.clear();
        self.held.clear();
        self.draining = Draining::default();
    }
}
