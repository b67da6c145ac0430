//! The index of a topic: which positions exist, in order, and where their bytes are.
//!
//! Inside a topic everything is counted in *offsets*: dense numbers across ledgers, so that cursors and
//! queues need no ledger arithmetic. Offsets live as long as the process; what is persisted are positions.

use std::collections::VecDeque;

use super::entry::{Entry, Position};

#[derive(Debug)]
struct Span {
    ledger: u64,
    /// Entry id of the first remaining entry.
    first_entry: u64,
    /// Its offset.
    start: u64,
    len: u64,
}

/// How many entries share one sum of bytes.
const STRIDE: u64 = 64;

#[derive(Debug, Default)]
pub struct Log {
    base: u64,
    entries: VecDeque<Entry>,
    spans: VecDeque<Span>,
    /// Bytes of all entries that ever were.
    pushed: u64,
    /// Bytes of those that are gone.
    trimmed: u64,
    /// Bytes of all entries that ever were before each multiple of [`STRIDE`], from the one at or before the base on:
    /// so that the bytes between two offsets are known without adding up what is between them.
    sums: VecDeque<u64>,
}

impl Log {
    /// Offset of the first entry that is still there.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Offset that the next entry will get.
    pub fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes on disk of all entries that are still there.
    pub fn bytes(&self) -> u64 {
        self.pushed - self.trimmed
    }

    /// Bytes on disk from one offset to another (exclusive).
    pub fn bytes_between(&self, start: u64, end: u64) -> u64 {
        self.bytes_before(end).saturating_sub(self.bytes_before(start))
    }

    /// Bytes of all entries that ever were before an offset; before the base and behind the end these do not change.
    fn bytes_before(&self, offset: u64) -> u64 {
        let offset = offset.clamp(self.base, self.end());
        let block = offset / STRIDE;
        let (from, sum) = if block == self.base / STRIDE {
            (self.base, self.trimmed)
        } else {
            match self.sums.get((block - self.base / STRIDE) as usize) {
                Some(sum) => (block * STRIDE, *sum),
                // The end is where the next block begins.
                None => return self.pushed,
            }
        };
        let rest = self.entries.range((from - self.base) as usize..(offset - self.base) as usize);
        sum + rest.map(|entry| u64::from(entry.location.len)).sum::<u64>()
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
        let start = self.end();
        match self.spans.back_mut() {
            Some(span) if span.ledger == position.ledger && span.first_entry + span.len == position.entry => {
                span.len += 1;
            }
            _ => self.spans.push_back(Span { ledger: position.ledger, first_entry: position.entry, start, len: 1 }),
        }
        if start.is_multiple_of(STRIDE) {
            self.sums.push_back(self.pushed);
        }
        self.pushed += u64::from(entry.location.len);
        self.entries.push_back(entry);
    }

    pub fn get(&self, offset: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(offset.checked_sub(self.base)?).ok()?)
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
        self.base + self.entries.partition_point(|entry| entry.facts.publish_time_ms < time_ms) as u64
    }

    /// Forgets all entries before the offset and says which they were.
    pub fn trim_to(&mut self, offset: u64) -> Vec<Entry> {
        let count = offset.min(self.end()).saturating_sub(self.base) as usize;
        let trimmed: Vec<Entry> = self.entries.drain(..count).collect();
        let block = self.base / STRIDE;
        self.base += count as u64;
        let blocks = (self.base / STRIDE - block) as usize;
        self.sums.drain(..blocks.min(self.sums.len()));
        self.trimmed += trimmed.iter().map(|entry| u64::from(entry.location.len)).sum::<u64>();
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

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        (self.base..).zip(self.entries.iter())
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

    #[test]
    fn a_position_that_does_not_exist_means_the_next_one() {
        let log = log(&[(3, 0), (3, 1), (5, 0)]);
        assert_eq!(log.ceiling(at(0, 0)), 0);
        assert_eq!(log.ceiling(at(3, 7)), 2);
        assert_eq!(log.ceiling(at(4, 0)), 2);
        assert_eq!(log.ceiling(at(5, 1)), 3);
        assert_eq!(log.ceiling(at(8, 0)), 3);
    }

    proptest! {
        #[test]
        fn bytes_are_counted_as_if_added_up(
            steps in proptest::collection::vec((any::<bool>(), 0u32..300), 1..40),
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
    }
}
