//! Where a reader's chain begins when the partition's first entries may be trimmed.
//!
//! ```text
//!   trimmed │ 40'   41 ◄── 42 ◄── 43 ◄── 44
//!           │ void   │      ▲             │
//!           │        │      └─ verified ──┘   so 42 is the anchor:
//!           │        └─ by its hash: stands   backwards hashes decide, forwards the rule of the chain
//! ```
//!
//! A frame that any later one calls verified stands, since writers name only what they know to stand. Which entries
//! before it stand follows from hashes, which those after it from the rule. Entries are kept until an anchor is found,
//! which takes three of them in a partition that one writer fills.
//!
//! Whether what was read is the present is not decided here: a reader under which the partition is trimmed skips in
//! silence, and may take a void frame for standing until it meets a frame that has verified more than it knows. So it
//! believes what it has read when the tail, asked for afterwards, was reached without a hole.

use bytes::Bytes;

use super::entry::Entry;
use super::{Chain, Offered, Tail, Unknown};
use crate::Position;
use crate::history::{Frame, Hash};

/// A chain that is read from its earliest entry.
#[derive(Debug)]
pub struct Opening {
    chain: Chain,
    /// None once the chain is anchored.
    kept: Option<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    position: Position,
    hash: Hash,
    payload: Bytes,
    entry: Entry,
}

/// A frame that stands.
#[derive(Debug)]
pub struct Stood {
    pub position: Position,
    /// The size of its payload.
    pub bytes: usize,
    pub frame: Frame,
    /// It says more than this release knows, as [`Frame::passes_over`] has it.
    pub passes_over: bool,
}

impl Stood {
    fn new(position: Position, payload: &[u8], frame: Frame) -> Self {
        let passes_over = frame.passes_over(payload);
        Self { position, bytes: payload.len(), frame, passes_over }
    }
}

/// What an entry, or the end, showed.
#[derive(Debug)]
pub enum Opened {
    /// Frames that are now known to stand, in their order.
    Standing(Vec<Stood>),
    /// Something before this was not read: start again from the earliest entry.
    Hole { number: u64, expected: u64 },
    /// A frame of another release stands: see [`Offered::Unknown`].
    Unknown(Unknown),
}

impl Default for Opening {
    fn default() -> Self {
        Self::new()
    }
}

impl Opening {
    /// Nothing is read yet.
    #[must_use]
    pub fn new() -> Self {
        Self { chain: Chain::new(), kept: Some(Vec::new()) }
    }

    /// Goes on where another reading ended.
    #[must_use]
    pub fn resume(chain: Chain) -> Self {
        let kept = chain.read_to().is_none().then(Vec::new);
        Self { chain, kept }
    }

    /// The position of the last entry that was read.
    #[must_use]
    pub fn read_to(&self) -> Option<Position> {
        self.kept.as_ref().and_then(|kept| kept.last()).map(|kept| kept.position).or(self.chain.read_to())
    }

    /// Reads the next entry of the partition.
    pub fn offer(&mut self, position: Position, payload: Bytes) -> Opened {
        let Some(kept) = &mut self.kept else {
            return match self.chain.offer(position, &payload) {
                Offered::Stands(frame) => Opened::Standing(vec![Stood::new(position, &payload, frame)]),
                Offered::Void(_) | Offered::Unreadable(_) => Opened::Standing(Vec::new()),
                Offered::Hole { number, expected } => Opened::Hole { number, expected },
                Offered::Unknown(unknown) => Opened::Unknown(unknown),
            };
        };
        let entry = Entry::read(&payload);
        let verified = entry.envelope().and_then(|envelope| envelope.verified);
        let anchor = verified.and_then(|verified| {
            let is_it = |kept: &Kept| {
                kept.position == verified.position
                    && kept.entry.envelope().is_some_and(|envelope| envelope.number == verified.number)
            };
            kept.iter().position(is_it)
        });
        kept.push(Kept { position, hash: Hash::of(&payload), payload, entry });
        match anchor {
            Some(anchor) => self.anchor(anchor),
            None => Opened::Standing(Vec::new()),
        }
    }

    /// All was read up to the end: what the chain is. Nothing was ever trimmed from a partition in which no frame calls
    /// another one verified, so its first frame is the chain's first.
    ///
    /// # Errors
    /// A hole, where the first frame that was read is not the chain's first.
    pub fn end(&mut self) -> Opened {
        match &self.kept {
            None => Opened::Standing(Vec::new()),
            Some(kept) => match kept.iter().find_map(|kept| kept.entry.envelope()) {
                Some(first) if first.number != 0 => Opened::Hole { number: first.number, expected: 0 },
                _ => {
                    let kept = self.kept.take().unwrap_or_default();
                    self.forwards(Vec::new(), kept)
                }
            },
        }
    }

    /// The chain, once [`Self::end`] was reached.
    #[must_use]
    pub fn into_chain(self) -> Chain {
        self.chain
    }

    fn anchor(&mut self, anchor: usize) -> Opened {
        let mut kept = self.kept.take().unwrap_or_default();
        let behind = kept.split_off(anchor + 1);
        let mut standing: Vec<(Hash, Stood)> = Vec::new();
        // Backwards: the frame before is the one with the hash that is named; the last one is the anchor itself.
        while let Some(Kept { position, hash, payload, entry }) = kept.pop() {
            let after = standing.last().map(|(_, after)| (after.frame.number, after.frame.previous));
            let is_named = after.is_none_or(|(_, previous)| previous == hash);
            let follows = |number: u64| after.is_none_or(|(after, _)| number.checked_add(1) == Some(after));
            match entry {
                Entry::Frame { frame, .. } if is_named && follows(frame.number) => {
                    standing.push((hash, Stood::new(position, &payload, frame)));
                }
                Entry::Sealed { envelope, reason } if is_named && follows(envelope.number) => {
                    let number = envelope.number;
                    return Opened::Unknown(Unknown { position, number, reason });
                }
                _ => {}
            }
        }
        standing.reverse();
        if let Some((hash, last)) = standing.last() {
            self.chain = Chain::after(Tail { number: last.frame.number, hash: *hash, position: last.position });
        }
        self.forwards(standing.into_iter().map(|(_, stood)| stood).collect(), behind)
    }

    fn forwards(&mut self, mut standing: Vec<Stood>, entries: Vec<Kept>) -> Opened {
        for kept in entries {
            match self.chain.offer(kept.position, &kept.payload) {
                Offered::Stands(frame) => standing.push(Stood::new(kept.position, &kept.payload, frame)),
                Offered::Void(_) | Offered::Unreadable(_) => {}
                Offered::Hole { number, expected } => return Opened::Hole { number, expected },
                Offered::Unknown(unknown) => return Opened::Unknown(unknown),
            }
        }
        Opened::Standing(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, frame};
    use super::*;

    /// A chain of frames, each of which calls the one before verified, and a void rival behind each.
    fn partition(frames: u64) -> Vec<(Position, Bytes)> {
        let mut entries: Vec<(Position, Bytes)> = Vec::new();
        let (mut previous, mut verified) = (Hash::GENESIS, None);
        for number in 0..frames {
            let standing = frame(number, previous, verified, 1);
            let rival = frame(number, previous, verified, 2);
            verified = Some((number, at(number * 2)));
            previous = Hash::of(&standing);
            entries.extend([(at(number * 2), standing), (at(number * 2 + 1), rival)]);
        }
        entries
    }

    fn numbers(entries: &[(Position, Bytes)]) -> Result<Vec<u64>, (u64, u64)> {
        let mut opening = Opening::new();
        let mut numbers = Vec::new();
        let mut take = |opened| match opened {
            Opened::Standing(frames) => {
                for Stood { position, frame, .. } in frames {
                    assert_eq!(position, at(frame.number * 2), "the first of its number stands");
                    numbers.push(frame.number);
                }
                Ok(())
            }
            Opened::Hole { number, expected } => Err((number, expected)),
            Opened::Unknown(unknown) => panic!("{unknown}"),
        };
        for (position, payload) in entries {
            take(opening.offer(*position, payload.clone()))?;
        }
        take(opening.end())?;
        assert_eq!(opening.read_to(), entries.last().map(|(position, _)| *position));
        Ok(numbers)
    }

    #[test]
    fn wherever_a_partition_is_trimmed_the_rest_of_the_chain_is_found() {
        let entries = partition(6);
        for border in 0..entries.len() {
            let first = (border as u64).div_ceil(2);
            let expected: Vec<u64> = (first..6).collect();
            match numbers(&entries[border..]) {
                Ok(found) => assert_eq!(found, expected, "trimmed up to entry {border}"),
                // Nothing that is left calls anything of it verified: no trim goes so far.
                Err(hole) => assert!(first > 4, "{hole:?} at {border}"),
            }
        }
    }

    #[test]
    fn a_partition_in_which_nothing_is_verified_begins_with_the_first_frame() {
        assert_eq!(numbers(&partition(1)), Ok(vec![0]));
        assert_eq!(numbers(&[]), Ok(vec![]));
        assert_eq!(numbers(&partition(2)[3..]), Err((1, 0)));
    }

    #[test]
    fn what_was_trimmed_under_a_reader_is_a_hole() {
        let mut entries = partition(8);
        entries.drain(5..11);
        assert_eq!(numbers(&entries), Err((5, 3)), "the writer of 5 has verified frame 4");
    }
}
