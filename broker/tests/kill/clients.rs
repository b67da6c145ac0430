//! The clients of a broker that is killed: they go on until their connection breaks, and say what they know.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::dice::Dice;
use crate::model::{Id, Position};
use crate::thin::{self, Answer, Thin};

const SUBSCRIPTION: &str = "all";
const SHARED: i32 = 1;
const WINDOW: u64 = 200;
/// The producer that says where a restarted broker's messages end.
const MARKER: u32 = 99;

/// A consumer that has read all that was there when it came.
pub struct Consumer {
    connection: Thin,
    dice: Dice,
    /// Delivered and not acked yet.
    held: Vec<(Id, Position)>,
}

pub struct Consumed {
    pub delivered: Vec<(Id, Position)>,
    pub acked: Vec<Id>,
}

impl Consumer {
    /// Subscribes and reads up to a message that it sends itself.
    pub fn start(url: &str, topic: &str, life: u32, dice: Dice) -> (Consumer, Vec<(Id, Position)>) {
        let start = || -> io::Result<_> {
            let mut connection = Thin::connect(url)?;
            connection.consumer(topic, SUBSCRIPTION, 1, SHARED)?;
            connection.producer(topic, 2, None)?;
            let marker = Id { producer: MARKER, life, n: 0 };
            connection.write(&thin::send(2, 0, &marker.payload(0)))?;
            connection.write(&thin::flow(1, 10_000_000))?;
            let mut delivered = Vec::new();
            while delivered.last().is_none_or(|(id, _)| *id != marker) {
                delivered.extend(message(&connection.next()?)?);
            }
            Ok((connection, delivered))
        };
        let (connection, delivered) = start().expect("a broker that nobody has killed yet");
        (Consumer { connection, dice, held: delivered.clone() }, delivered)
    }

    /// Receives and acks until the connection breaks; some messages are never acked, some late.
    pub fn run(mut self) -> Consumed {
        let mut consumed = Consumed { delivered: Vec::new(), acked: Vec::new() };
        // A broken connection is what ends it.
        let _ = self.go_on(&mut consumed);
        consumed
    }

    fn go_on(&mut self, consumed: &mut Consumed) -> io::Result<()> {
        loop {
            let mut acks = Vec::new();
            // Some are left, so that the backlog has holes and does not grow.
            let left = self.held.len() / 10;
            while self.held.len() > left && !self.dice.one_in(500) {
                let at = self.held.len() - 1 - self.dice.below(self.held.len().min(8) as u64) as usize;
                let (id, (ledger, entry)) = self.held.swap_remove(at);
                consumed.acked.push(id);
                acks.extend(thin::ack(1, ledger, entry));
            }
            self.connection.write(&acks)?;
            self.connection.fill()?;
            while let Some(answer) = self.connection.buffered()? {
                let delivered = message(&answer)?;
                consumed.delivered.extend(delivered);
                self.held.extend(delivered);
            }
        }
    }

    /// Acks everything and waits until the broker has understood that.
    pub fn ack_all(mut self, delivered: &[(Id, Position)]) -> Vec<Id> {
        let acks = delivered.iter().flat_map(|(_, (ledger, entry))| thin::ack(1, *ledger, *entry));
        let mut bytes: Vec<u8> = acks.collect();
        bytes.extend(thin::ping());
        self.connection.write(&bytes).expect("written");
        while self.connection.next().expect("an answer").command.pong.is_none() {}
        delivered.iter().map(|(id, _)| *id).collect()
    }
}

fn message(answer: &Answer) -> io::Result<Option<(Id, Position)>> {
    let Some(message) = &answer.command.message else { return Ok(None) };
    let id = Id::of(&thin::payload(answer.entry.clone())?);
    Ok(Some((id, (message.message_id.ledger_id, message.message_id.entry_id))))
}

/// What the producer under deduplication must send again: its messages without a receipt, in order.
#[derive(Clone, Default)]
pub struct Once(Arc<Mutex<OnceState>>);

#[derive(Default)]
struct OnceState {
    unanswered: Vec<(u64, usize)>,
    next: u64,
}

impl Once {
    fn lock(&self) -> std::sync::MutexGuard<'_, OnceState> {
        self.0.lock().expect("no panic elsewhere")
    }
}

pub struct Producer {
    connection: Thin,
    id: u32,
    life: u32,
    dice: Dice,
    once: Option<Once>,
    next: u64,
}

pub struct Sent {
    pub receipts: Vec<(Id, Option<Position>)>,
    pub unanswered: u64,
}

impl Producer {
    pub fn start(url: &str, topic: &str, id: u32, life: u32, dice: Dice, once: Option<Once>) -> Option<Producer> {
        let mut connection = Thin::connect(url).ok()?;
        let name = once.as_ref().map(|_| "once");
        let last = connection.producer(topic, 1, name).ok()?;
        let next = once.as_ref().map_or(0, |once| once.lock().next);
        if let Some(once) = &once {
            let first = once.lock().unanswered.first().map_or(next, |(n, _)| *n);
            assert!(last + 1 >= first as i64, "the broker knows {last}, and {first} is the first without a receipt");
        }
        Some(Producer { connection, id, life: if once.is_some() { 0 } else { life }, dice, once, next })
    }
}

/// Sends until the connection breaks; a producer may also have come too late.
pub fn produce(producer: Option<Producer>, receipts: &AtomicU64) -> Sent {
    let mut sent = Sent { receipts: Vec::new(), unanswered: 0 };
    let Some(mut producer) = producer else { return sent };
    let mut unanswered = VecDeque::new();
    if let Some(once) = &producer.once {
        unanswered.extend(std::mem::take(&mut once.lock().unanswered));
    }
    // A broken connection is what ends it; what had come before it broke still counts.
    let _ = producer.go_on(&mut unanswered, &mut sent.receipts, receipts);
    while producer.receipts(&mut unanswered, &mut sent.receipts, receipts).is_ok() {}
    sent.unanswered = unanswered.len() as u64;
    if let Some(once) = &producer.once {
        let mut once = once.lock();
        once.unanswered = unanswered.into();
        once.next = producer.next;
    }
    sent
}

impl Producer {
    /// Sends what `unanswered` has, then new messages, with a window.
    fn go_on(
        &mut self,
        unanswered: &mut VecDeque<(u64, usize)>,
        known: &mut Vec<(Id, Option<Position>)>,
        receipts: &AtomicU64,
    ) -> io::Result<()> {
        let again = unanswered.iter().flat_map(|(n, filler)| self.send(*n, *filler));
        let mut bytes: Vec<u8> = again.collect();
        loop {
            let more = self.dice.below(32) + 1;
            for _ in 0..more {
                // Mostly small, some of many pages.
                let filler = if self.dice.one_in(50) { 20_000 } else { 600 };
                let filler = self.dice.below(filler) as usize;
                bytes.extend(self.send(self.next, filler));
                unanswered.push_back((self.next, filler));
                self.next += 1;
            }
            self.connection.write(&bytes)?;
            bytes.clear();
            while unanswered.len() as u64 > WINDOW {
                self.receipts(unanswered, known, receipts)?;
            }
        }
    }

    fn send(&self, n: u64, filler: usize) -> Vec<u8> {
        thin::send(1, n, &Id { producer: self.id, life: self.life, n }.payload(filler))
    }

    fn receipts(
        &mut self,
        unanswered: &mut VecDeque<(u64, usize)>,
        known: &mut Vec<(Id, Option<Position>)>,
        receipts: &AtomicU64,
    ) -> io::Result<()> {
        self.connection.fill()?;
        while let Some(answer) = self.connection.buffered()? {
            assert!(answer.command.send_error.is_none(), "{:?}", answer.command.send_error);
            let Some(receipt) = answer.command.send_receipt else { continue };
            let (n, _) = unanswered.pop_front().expect("a receipt for something");
            assert_eq!(receipt.sequence_id, n, "receipts come in order");
            let at = receipt.message_id.expect("a receipt has an id");
            // -1:-1 is a duplicate's.
            let position = (at.ledger_id != u64::MAX).then_some((at.ledger_id, at.entry_id));
            assert!(position.is_some() || self.once.is_some(), "only the one under deduplication repeats");
            known.push((Id { producer: self.id, life: self.life, n }, position));
            receipts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
