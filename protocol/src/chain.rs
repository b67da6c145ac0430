//! The rule that makes history a lock: which frames of a partition stand.
//!
//! A frame stands if its predecessor stands and it is the first in the partition to name it. Every
//! reader that applies this to the same partition comes to the same answer, so an append is a
//! compare-and-swap.
//!
//! That holds for releases, too: what a release cannot read of a frame changes nothing in whether it stands. Where a frame
//! stands that this release does not know, reading ends with [`Unknown`], by name; whoever went on would write in a place
//! that is taken.
//!
//! ```text
//!   0 ◄── 1 ◄── 2 ◄── 3          stands
//!               ▲
//!               └──── 3'         void: 3 was the first to name 2
//!                     ▲
//!                     └── 4'     void: its predecessor is
//! ```

use self::entry::Entry;
use self::envelope::Envelope;
use crate::history::{Frame, Hash, Verified};
use crate::{DecodeError, Position};

pub use self::opening::{Opened, Opening, Stood};

mod entry;
mod envelope;
mod opening;

/// The end of a chain, as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    pub number: u64,
    pub hash: Hash,
    pub position: Position,
}

/// A reader's place on the chain of one shard.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    tail: Option<Tail>,
    read_to: Option<Position>,
}

/// What became of one entry.
#[derive(Debug)]
pub enum Offered {
    /// The frame stands; the chain now ends with it.
    Stands(Frame),
    /// The frame is not on the chain, for any reader.
    Void(Frame),
    /// Damaged or foreign bytes, which are on no chain; or a frame that this release cannot read, and that is void.
    Unreadable(DecodeError),
    /// A frame of another release stands here: this release cannot go on. What is behind it is not to be read.
    Unknown(Unknown),
    /// Something before this entry was not read: start again from the earliest entry.
    Hole { number: u64, expected: u64 },
}

/// Where a frame belongs.
enum Place {
    /// It is the next one of the chain.
    Next,
    /// Behind frames that were not read.
    Behind,
    /// On no chain.
    Off,
}

/// The chain goes on with a frame that this release does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "frame {number} at {position} stands, and is one that this release does not know ({reason}): run the release that wrote \
     it, or a later one"
)]
pub struct Unknown {
    pub position: Position,
    pub number: u64,
    pub reason: DecodeError,
}

impl Chain {
    /// A chain of which nothing was read.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A chain that goes on after a frame that is known to stand; everything up to there was read.
    #[must_use]
    pub fn after(tail: Tail) -> Self {
        Self { tail: Some(tail), read_to: Some(tail.position) }
    }

    /// The last frame known to stand.
    #[must_use]
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// The last frame known to stand, as a writer names it.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.tail.map(|tail| Verified { number: tail.number, position: tail.position })
    }

    /// The number that the next frame has to have.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.tail.map_or(0, |tail| tail.number + 1)
    }

    /// The hash that the next frame has to name.
    #[must_use]
    pub fn next_previous(&self) -> Hash {
        self.tail.map_or(Hash::GENESIS, |tail| tail.hash)
    }

    /// The position of the last entry that was read or proven, whether it stands or not.
    #[must_use]
    pub fn read_to(&self) -> Option<Position> {
        self.read_to
    }

    /// Reads the next entry of the partition.
    pub fn offer(&mut self, position: Position, payload: &[u8]) -> Offered {
        match Entry::read(payload) {
            Entry::Frame { envelope, frame } => match self.place(envelope) {
                Place::Next => {
                    self.advance(frame.number, Hash::of(payload), position);
                    Offered::Stands(frame)
                }
                Place::Behind => Offered::Hole { number: frame.number, expected: self.next_number() },
                Place::Off => {
                    self.read_to = Some(position);
                    Offered::Void(frame)
                }
            },
            Entry::Sealed { envelope, reason } => match self.place(envelope) {
                Place::Next => Offered::Unknown(Unknown { position, number: envelope.number, reason }),
                Place::Behind => Offered::Hole { number: envelope.number, expected: self.next_number() },
                Place::Off => {
                    self.read_to = Some(position);
                    Offered::Unreadable(reason)
                }
            },
            Entry::Foreign(reason) => {
                self.read_to = Some(position);
                Offered::Unreadable(reason)
            }
        }
    }

    /// Where a frame belongs, by its envelope alone.
    fn place(&self, frame: Envelope) -> Place {
        if frame.number == self.next_number() && frame.previous == self.next_previous() {
            return Place::Next;
        }
        // Somebody has seen a frame stand that we have not: entries before this one were trimmed or lost to us.
        if frame.verified.is_some_and(|verified| verified.number >= self.next_number()) {
            return Place::Behind;
        }
        Place::Off
    }

    /// Takes the receipt of a frame that was appended on the tail.
    ///
    /// True if that alone proves it: nothing can lie between the last entry read and the receipt.
    /// False: read on up to the receipt.
    #[must_use]
    pub fn prove(&mut self, hash: Hash, receipt: Option<Position>) -> bool {
        match (receipt, self.read_to) {
            (Some(receipt), Some(read_to)) if receipt.follows(read_to) => {
                self.advance(self.next_number(), hash, receipt);
                true
            }
            _ => false,
        }
    }

    fn advance(&mut self, number: u64, hash: Hash, position: Position) {
        self.tail = Some(Tail { number, hash, position });
        self.read_to = Some(position);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Timestamp, WriterId, encode};
    use bytes::Bytes;
    use uuid::Uuid;

    pub fn frame(number: u64, previous: Hash, verified: Option<(u64, Position)>, writer: u128) -> Bytes {
        encode(&Frame {
            shard: 0,
            number,
            previous,
            writer: WriterId(Uuid::from_u128(writer)),
            verified: verified.map(|(number, position)| Verified { number, position }),
            at: Timestamp(0),
            config: None,
            wake: None,
            sent_below: 0,
            queues: Vec::new(),
            records: Vec::new(),
        })
    }

    pub fn at(entry: u64) -> Position {
        Position { ledger: 1, entry }
    }

    #[test]
    fn the_first_to_name_a_predecessor_stands_and_all_later_ones_are_void() {
        let mut chain = Chain::new();
        let zero = frame(0, Hash::GENESIS, None, 1);
        let one = frame(1, Hash::of(&zero), Some((0, at(0))), 1);
        let rival = frame(1, Hash::of(&zero), Some((0, at(0))), 2);
        let behind_rival = frame(2, Hash::of(&rival), Some((0, at(0))), 2);
        assert!(matches!(chain.offer(at(0), &zero), Offered::Stands(_)));
        assert!(matches!(chain.offer(at(1), &one), Offered::Stands(_)));
        assert!(matches!(chain.offer(at(2), &rival), Offered::Void(_)));
        assert!(matches!(chain.offer(at(3), &behind_rival), Offered::Void(_)));
        assert_eq!(chain.next_number(), 2);
        assert_eq!(chain.read_to(), Some(at(3)));
    }

    #[test]
    fn a_receipt_right_after_what_was_read_is_a_proof() {
        let mut chain = Chain::new();
        let zero = frame(0, Hash::GENESIS, None, 1);
        chain.offer(at(0), &zero);
        let one = frame(1, Hash::of(&zero), Some((0, at(0))), 1);
        assert!(!chain.clone().prove(Hash::of(&one), Some(at(2))), "an entry lies between");
        assert!(!chain.clone().prove(Hash::of(&one), Some(Position { ledger: 2, entry: 0 })), "the ledger rolled");
        assert!(!chain.clone().prove(Hash::of(&one), None), "a duplicate's receipt");
        assert!(chain.prove(Hash::of(&one), Some(at(1))));
        assert_eq!(chain.next_previous(), Hash::of(&one));
    }

    #[test]
    fn a_frame_that_verified_more_than_was_read_shows_a_hole() {
        let mut chain = Chain::new();
        let zero = frame(0, Hash::GENESIS, None, 1);
        chain.offer(at(0), &zero);
        let four = frame(4, Hash([7; 32]), Some((3, at(3))), 1);
        assert!(matches!(chain.offer(at(4), &four), Offered::Hole { number: 4, expected: 1 }));
        assert_eq!(chain.read_to(), Some(at(0)), "a hole is not read past");
    }

    #[test]
    fn foreign_bytes_are_on_no_chain() {
        let mut chain = Chain::new();
        assert!(matches!(chain.offer(at(0), b"hello"), Offered::Unreadable(_)));
        assert_eq!(chain.next_number(), 0);
    }
}
