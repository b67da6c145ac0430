//! The index of a topic: which positions exist, in order, and where their bytes are.
//!
//! Inside a topic everything is counted in *offsets*: dense numbers across ledgers, so that cursors and
//! queues need no ledger arithmetic. Offsets live as long as the process; what is persisted are positions.
//!
//! The newest entries are kept as they are, all before them in blocks of some bytes per entry ([`super::packed`]).

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Entry, Position};
use super::packed::{BLOCK, Packed};

/// The bytes of so many entries are added up rather than taken from the sums of blocks.
const FEW: u64 = 4;

/// A block with fewer entries is not worth its header: they are added one by one.
const BLOCK_MIN: usize = 64;

#[derive(Debug)]
struct Span {
    ledger: u64,
    /// Entry id of the first remaining entry.
    first_entry: u64,
    /// Its offset.
    start: u64,
    len: u64,
}

#[derive(Debug)]
struct Block {
    /// Offset of its first entry, which may be below the base.
    start: u64,
    /// Bytes of all entries that ever were before it.
    before: u64,
    /// Boxed, so that a list that grows moves little.
    entries: Box<Packed>,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.entries.count() as u64
    }
}

/// How many entries, by segment.
pub type PerSegment = BTreeMap<u32, u64>;

#[derive(Debug, Default)]
pub struct Log {
    base: u64,
    blocks: VecDeque<Block>,
    /// What these take in memory beside their places in the list.
    packed: usize,
    /// Offset of the first entry that is not in a block.
    tail_start: u64,
    tail: Vec<Entry>,
    spans: VecDeque<Span>,
    /// Bytes of all entries that ever were.
    pushed: u64,
    /// Bytes of those that are gone.
    trimmed: u64,
}

impl Log {
    /// Offset of the first entry that is still there.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Offset that the next entry will get.
    pub fn end(&self) -> u64 {
        self.tail_start + self.tail.len() as u64
    }

    pub fn count(&self) -> usize {
        (self.end() - self.base) as usize
    }

    /// Bytes on disk of all entries that are still there.
    pub fn bytes(&self) -> u64 {
        self.pushed - self.trimmed
    }

    /// What the index takes in memory.
    pub fn memory(&self) -> usize {
        self.packed
            + self.blocks.capacity() * size_of::<Block>()
            + self.tail.capacity() * size_of::<Entry>()
            + self.spans.capacity() * size_of::<Span>()
    }

    /// Bytes on disk from one offset to another (exclusive).
    pub fn bytes_between(&self, start: u64, end: u64) -> u64 {
        let (start, end) = (start.clamp(self.base, self.end()), end.clamp(self.base, self.end()));
        if end.saturating_sub(start) <= FEW {
            return self.add_up(start, end);
        }
        self.bytes_before(end) - self.bytes_before(start)
    }

    fn add_up(&self, start: u64, end: u64) -> u64 {
        (start..end).filter_map(|offset| self.get(offset)).map(|entry| u64::from(entry.location.len)).sum()
    }

    /// Bytes of all entries that ever were before an offset that is there, or the end.
    fn bytes_before(&self, offset: u64) -> u64 {
        match self.block_of(offset) {
            Some(block) => block.before + block.entries.bytes_between(0, (offset - block.start) as usize),
            None => self.pushed - self.add_up(offset, self.end()),
        }
    }

    /// The first offset from `start` on behind which no more than so many bytes are.
    pub fn within_bytes(&self, start: u64, bytes: u64) -> u64 {
        let (mut low, mut high) = (start.max(self.base), self.end());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.bytes_between(middle, self.end()) > bytes {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Positions must come in ascending order; an entry id other than the next one starts a new span.
    pub fn push(&mut self, position: Position, entry: Entry) {
        self.extend_spans(position, 1);
        self.pushed += u64::from(entry.location.len);
        self.tail.push(entry);
        if self.tail.len() >= BLOCK {
            self.pack_tail();
        }
    }

    /// Entries that follow each other in a ledger. Positions must come in ascending order.
    pub fn push_packed(&mut self, first: Position, entries: Packed) {
        if entries.count() < BLOCK_MIN {
            for (n, entry) in (0..).zip(entries.iter()) {
                self.push(Position { entry: first.entry + n, ..first }, entry);
            }
            return;
        }
        self.pack_tail();
        self.extend_spans(first, entries.count() as u64);
        let before = self.pushed;
        self.pushed += entries.bytes();
        self.push_block(entries, before);
    }

    fn extend_spans(&mut self, first: Position, count: u64) {
        let start = self.end();
        match self.spans.back_mut() {
            Some(span) if span.ledger == first.ledger && span.first_entry + span.len == first.entry => {
                span.len += count;
            }
            _ => self.spans.push_back(Span { ledger: first.ledger, first_entry: first.entry, start, len: count }),
        }
    }

    fn pack_tail(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            let entries = Packed::of(&tail);
            let before = self.pushed - entries.bytes();
            self.push_block(entries, before);
        }
    }

    fn push_block(&mut self, entries: Packed, before: u64) {
        let start = self.tail_start;
        self.tail_start += entries.count() as u64;
        self.packed += entries.memory();
        self.blocks.push_back(Block { start, before, entries: Box::new(entries) });
    }

    fn block_of(&self, offset: u64) -> Option<&Block> {
        if offset >= self.tail_start {
            return None;
        }
        // Nearly all blocks are full, so this is nearly always it.
        let first = self.blocks.front()?.start;
        let likely = usize::try_from(offset.checked_sub(first)? / BLOCK as u64).ok()?;
        let holds = |block: &&Block| block.start <= offset && offset < block.end();
        if let Some(block) = self.blocks.get(likely).filter(holds) {
            return Some(block);
        }
        let after = self.blocks.partition_point(|block| block.start <= offset);
        self.blocks.get(after.checked_sub(1)?).filter(holds)
    }

    pub fn get(&self, offset: u64) -> Option<Entry> {
        if offset < self.base {
            return None;
        }
        if let Some(at) = offset.checked_sub(self.tail_start) {
            return self.tail.get(usize::try_from(at).ok()?).copied();
        }
        let block = self.block_of(offset)?;
        block.entries.get((offset - block.start) as usize)
    }

    pub fn position(&self, offset: u64) -> Option<Position> {
        if offset < self.base || offset >= self.end() {
            return None;
        }
        let after = self.spans.partition_point(|span| span.start <= offset);
        let span = self.spans.get(after.checked_sub(1)?)?;
        Some(Position { ledger: span.ledger, entry: span.first_entry + (offset - span.start) })
    }

    pub fn last_position(&self) -> Option<Position> {
        self.position(self.end().checked_sub(1)?)
    }

    /// Offset of exactly this position.
    pub fn find(&self, position: Position) -> Option<u64> {
        let offset = self.ceiling(position);
        (self.position(offset) == Some(position)).then_some(offset)
    }

    /// Offset of the first entry at or after this position; the end if there is none.
    pub fn ceiling(&self, position: Position) -> u64 {
        let after =
            self.spans.partition_point(|span| (span.ledger, span.first_entry) <= (position.ledger, position.entry));
        let Some(span) = after.checked_sub(1).and_then(|at| self.spans.get(at)) else { return self.base };
        if span.ledger == position.ledger {
            span.start + (position.entry - span.first_entry).min(span.len)
        } else {
            span.start + span.len
        }
    }

    /// Offset of the first entry published at or after this time. Assumes that publish times ascend, as Apache Pulsar does.
    pub fn published_since(&self, time_ms: u64) -> u64 {
        let (mut low, mut high) = (self.base, self.end());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle) {
                Some(entry) if entry.facts.publish_time_ms < time_ms => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// Forgets all entries before the offset and says where they were.
    pub fn trim_to(&mut self, offset: u64) -> PerSegment {
        let to = offset.clamp(self.base, self.end());
        let mut trimmed = PerSegment::new();
        self.count_segments(self.base, to, &mut trimmed);
        self.trimmed += self.bytes_between(self.base, to);
        self.base = to;
        while let Some(block) = self.blocks.pop_front_if(|block| block.end() <= to) {
            self.packed -= block.entries.memory();
        }
        if to > self.tail_start {
            self.tail.drain(..(to - self.tail_start) as usize);
            self.tail_start = to;
        }
        if self.tail.is_empty() {
            self.tail = Vec::new();
        }
        if self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to_fit();
        }
        while let Some(span) = self.spans.front_mut() {
            if span.start + span.len <= self.base {
                self.spans.pop_front();
                continue;
            }
            let gone = self.base.saturating_sub(span.start);
            span.first_entry += gone;
            span.start += gone;
            span.len -= gone;
            break;
        }
        trimmed
    }

    /// Counts the entries of each segment.
    pub fn per_segment(&self, segments: &mut PerSegment) {
        self.count_segments(self.base, self.end(), segments);
    }

    fn count_segments(&self, from: u64, to: u64, segments: &mut PerSegment) {
        let mut at = from;
        while at < to {
            let block = self.block_of(at);
            let one = block.and_then(|block| Some((block.entries.segment()?, block.end().min(to))));
            let Some((segment, end)) = one.or_else(|| Some((self.get(at)?.location.segment, at + 1))) else { return };
            *segments.entry(segment).or_insert(0) += end - at;
            at = end;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, Entry)> {
        self.iter_from(self.base)
    }

    pub fn iter_from(&self, offset: u64) -> impl Iterator<Item = (u64, Entry)> {
        (offset.max(self.base)..self.end()).map_while(|offset| Some((offset, self.get(offset)?)))
    }

    /// Ledgers with their first remaining entry and count, for the admin's internal stats.
    pub fn ledgers(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.spans.iter().map(|span| (span.ledger, span.len))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::semantics::entry::{Facts, Location};

    fn at(ledger: u64, entry: u64) -> Position {
        Position { ledger, entry }
    }

    fn log(positions: &[(u64, u64)]) -> Log {
        let mut log = Log::default();
        for &(ledger, entry) in positions {
            let location = Location { segment: 1, offset: 0, len: 10 };
            log.push(at(ledger, entry), Entry { location, facts: Facts::default() });
        }
        log
    }

    #[test]
    fn positions_and_offsets_agree_across_ledgers_and_trims() {
        let positions = [(3, 0), (3, 1), (5, 0), (9, 0), (9, 1), (9, 2)];
        let mut log = log(&positions);
        for trim in 0..=positions.len() as u64 {
            log.trim_to(trim);
            for (offset, &(ledger, entry)) in positions.iter().enumerate() {
                let expected = (offset as u64 >= trim).then_some(offset as u64);
                assert_eq!(log.find(at(ledger, entry)), expected);
                assert_eq!(log.position(offset as u64), expected.map(|_| at(ledger, entry)));
            }
        }
        assert_eq!((log.base(), log.end(), log.bytes()), (6, 6, 0));
        assert_eq!(log.last_position(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn bytes_are_counted_as_if_added_up(
            steps in proptest::collection::vec((any::<bool>(), 0u32..300), 1..20),
            (start, end) in (0u64..6000, 0u64..6000),
            bytes in 0u64..400_000,
        ) {
            let mut log = Log::default();
            for (index, (push, many)) in steps.into_iter().enumerate() {
                if push {
                    for len in 0..many {
                        let location = Location { segment: 1, offset: 0, len: len + 1 };
                        log.push(at(0, log.end()), Entry { location, facts: Facts::default() });
                    }
                } else {
                    log.trim_to(log.base() + u64::from(many));
                }
                let sum = |start, end| -> u64 {
                    let between = log.iter().filter(|(offset, _)| (start..end).contains(offset));
                    between.map(|(_, entry)| u64::from(entry.location.len)).sum()
                };
                prop_assert_eq!(log.bytes(), sum(0, u64::MAX), "after step {}", index);
                for (start, end) in [(start, end), (log.base(), log.end()), (log.base(), end), (start, log.end())] {
                    prop_assert_eq!(log.bytes_between(start, end), sum(start, end), "{} to {}", start, end);
                }
                let first = (start.max(log.base())..log.end()).find(|first| sum(*first, u64::MAX) <= bytes);
                let first = first.unwrap_or_else(|| start.max(log.base()).max(log.end()));
                prop_assert_eq!(log.within_bytes(start, bytes), first);
            }
        }

        /// Whatever is pushed, packed and trimmed: as a plain list.
        #[test]
        fn it_agrees_with_a_plain_list(steps in proptest::collection::vec((0u8..4, 0usize..400, 1u32..5), 1..12)) {
            let (mut log, mut plain) = (Log::default(), Vec::new());
            for (step, count, jump) in steps {
                let next = plain.last().map_or(at(1, 0), |(position, _): &(Position, Entry)| position.next());
                let first = if jump == 1 { at(next.ledger + 1, 0) } else { next };
                let entry = |n: usize| Entry {
                    location: Location { segment: 1 + (plain.len() + n) as u32 / 300, offset: n as u32 * 7, len: jump },
                    facts: Facts { publish_time_ms: (plain.len() + n) as u64, ..Facts::default() },
                };
                let count = if step == 1 { count.min(BLOCK) } else { count };
                let entries: Vec<Entry> = (0..count).map(entry).collect();
                let placed = |n: usize| Position { entry: first.entry + n as u64, ..first };
                match step {
                    0 => entries.iter().enumerate().for_each(|(n, entry)| log.push(placed(n), *entry)),
                    1 => log.push_packed(first, Packed::of(&entries)),
                    _ => {
                        let before = log.base();
                        let gone = log.trim_to(before + count as u64 / 2).values().sum::<u64>();
                        prop_assert_eq!(gone, log.base() - before);
                        continue;
                    }
                }
                plain.extend(entries.iter().enumerate().map(|(n, entry)| (placed(n), *entry)));
            }
            prop_assert_eq!(log.end(), plain.len() as u64);
            let base = log.base() as usize;
            prop_assert_eq!(log.iter().map(|(_, entry)| entry).collect::<Vec<_>>(),
                plain[base..].iter().map(|(_, entry)| *entry).collect::<Vec<_>>());
            let bytes = |from: usize, to: usize| plain[from..to].iter().map(|(_, e)| u64::from(e.location.len)).sum::<u64>();
            prop_assert_eq!(log.bytes(), bytes(base, plain.len()));
            let middle = base + (plain.len() - base) / 2;
            prop_assert_eq!(log.bytes_between(0, middle as u64), bytes(base, middle));
            prop_assert_eq!(log.published_since(middle as u64), middle as u64);
            let mut segments = PerSegment::new();
            log.per_segment(&mut segments);
            let mut expected = PerSegment::new();
            plain[base..].iter().for_each(|(_, entry)| *expected.entry(entry.location.segment).or_insert(0) += 1);
            prop_assert_eq!(segments, expected);
            for (offset, (position, _)) in plain.iter().enumerate().skip(base).step_by(37) {
                prop_assert_eq!(log.find(*position), Some(offset as u64));
            }
        }
    }

    #[test]
    fn a_position_that_does_not_exist_means_the_next_one() {
        let log = log(&[(3, 0), (3, 1), (5, 0)]);
        assert_eq!(log.ceiling(at(0, 0)), 0);
        assert_eq!(log.ceiling(at(3, 7)), 2);
        assert_eq!(log.ceiling(at(4, 0)), 2);
        assert_eq!(log.ceiling(at(5, 1)), 3);
        assert_eq!(log.ceiling(at(8, 0)), 3);
    }
}
