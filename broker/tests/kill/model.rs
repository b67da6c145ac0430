//! What the clients of one topic know, and what a broker that was killed may therefore say.
//!
//! Acks have no receipt. The broker keeps cursors in memory and persists them about once a second, as Apache
//! Pulsar does by default (`managedLedgerDefaultMarkDeleteRateLimit=1`): so after a kill the newest acks may
//! be forgotten and their messages come again. Allowed is exactly this: the acks of the life that ended, in the
//! order in which the one consumer sent them, are known up to some point, and forgotten from there on. An ack
//! that a restarted broker knew is known for ever.

use std::collections::{HashMap, HashSet};

pub type Position = (u64, u64);

/// A message, wherever it is stored: its producer, the broker's life in which it was made, its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    pub producer: u32,
    pub life: u32,
    pub n: u64,
}

impl Id {
    /// As a payload of this many bytes and some more.
    pub fn payload(self, filler: usize) -> Vec<u8> {
        let mut payload = Vec::with_capacity(16 + filler);
        payload.extend(self.producer.to_be_bytes());
        payload.extend(self.life.to_be_bytes());
        payload.extend(self.n.to_be_bytes());
        payload.resize(16 + filler, self.n as u8);
        payload
    }

    pub fn of(payload: &[u8]) -> Id {
        let word = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        let n = u64::from_be_bytes(payload[8..16].try_into().expect("eight bytes"));
        assert!(payload[16..].iter().all(|byte| *byte == n as u8), "a payload is not what was sent");
        Id { producer: word(0), life: word(4), n }
    }
}

#[derive(Debug, Default)]
pub struct Topic {
    /// Stored for certain (by a receipt, or because it was delivered) and not known to be forgotten.
    pub stored: HashMap<Id, Option<Position>>,
    /// The acks of the present life, in their order.
    pub acked: Vec<Id>,
    /// Acked, and a restarted broker knew it.
    gone: HashSet<Id>,
    last: Option<Position>,
}

impl Topic {
    /// A receipt; a duplicate's names no position.
    pub fn handle_receipt(&mut self, id: Id, position: Option<Position>) {
        let known = self.stored.entry(id).or_insert(position);
        assert!(position.is_none() || known.is_none() || *known == position, "{id:?} is at two places");
        *known = known.or(position);
    }

    /// A delivery of the present life.
    pub fn handle_delivery(&mut self, id: Id, position: Position) {
        assert!(Some(position) > self.last, "{id:?} at {position:?} came after {:?}", self.last);
        self.last = Some(position);
        assert!(!self.gone.contains(&id), "{id:?} was acked before an earlier kill, gone after it, and is back");
        self.handle_receipt(id, Some(position));
    }

    pub fn handle_ack(&mut self, id: Id) {
        self.acked.push(id);
    }

    /// The broker was restarted, and this is all it delivered. How many acks it had forgotten.
    pub fn handle_restart(&mut self, delivered: &[(Id, Position)]) -> usize {
        self.last = None;
        let mut order: HashMap<(u32, u32), u64> = HashMap::new();
        for (id, position) in delivered {
            self.handle_delivery(*id, *position);
            let before = order.insert((id.producer, id.life), id.n);
            assert!(before < Some(id.n), "{id:?} came after its producer's {before:?}");
        }
        let delivered: HashSet<Id> = delivered.iter().map(|(id, _)| *id).collect();
        let acked: HashSet<Id> = self.acked.iter().copied().collect();
        for id in self.stored.keys().filter(|id| !acked.contains(id)) {
            assert!(delivered.contains(id), "{id:?} was stored and not acked, and is lost");
        }
        let known = self.acked.iter().take_while(|id| !delivered.contains(id)).count();
        for id in &self.acked[known..] {
            assert!(delivered.contains(id), "the ack of {id:?} is known, and an older one is forgotten");
        }
        for id in &self.acked[..known] {
            self.gone.insert(*id);
            self.stored.remove(id);
        }
        let forgotten = self.acked.len() - known;
        self.acked.clear();
        forgotten
    }
}

#[test]
fn the_model_sees_what_it_must_see() {
    let id = |n| Id { producer: 1, life: 1, n };
    let topic = |acked: &[u64]| {
        let mut topic = Topic::default();
        (0..5).for_each(|n| topic.handle_delivery(id(n), (1, n)));
        acked.iter().for_each(|n| topic.handle_ack(id(*n)));
        topic
    };
    let restart = |mut topic: Topic, delivered: &[u64]| {
        let delivered: Vec<_> = delivered.iter().map(|n| (id(*n), (1, *n))).collect();
        std::panic::catch_unwind(move || topic.handle_restart(&delivered))
    };
    assert_eq!(restart(topic(&[3, 0]), &[1, 2, 4]).expect("all known"), 0);
    assert_eq!(restart(topic(&[3, 0]), &[0, 1, 2, 4]).expect("the newest forgotten"), 1);
    assert_eq!(restart(topic(&[3, 0]), &[0, 1, 2, 3, 4]).expect("all forgotten"), 2);
    restart(topic(&[3, 0]), &[1, 2, 3, 4]).expect_err("only an older one forgotten");
    restart(topic(&[3, 0]), &[1, 2]).expect_err("one lost");
    restart(topic(&[]), &[0, 2, 1, 3, 4]).expect_err("out of order");
    let mut again = topic(&[3]);
    again.handle_restart(&[0, 1, 2, 4].map(|n| (id(n), (1, n))));
    restart(again, &[0, 1, 2, 3, 4]).expect_err("back after it was gone");
}
