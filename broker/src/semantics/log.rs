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

#[derive(Debug, Default)]
pub struct Log {
    base: u64,
    entries: VecDeque<Entry>,
    spans: VecDeque<Span>,
    bytes: u64,
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
        self.bytes
    }

    /// Bytes on disk from one offset to another (exclusive).
    pub fn bytes_between(&self, start: u64, end: u64) -> u64 {
        let at = |offset: u64| (offset.clamp(self.base, self.end()) - self.base) as usize;
        self.entries.range(at(start)..at(end).max(at(start))).map(|entry| u64::from(entry.location.len)).sum()
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
        self.bytes += u64::from(entry.location.len);
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

    /// Bytes on disk of the entries from this offset on.
    pub fn bytes_from(&self, offset: u64) -> u64 {
        let before = offset.saturating_sub(self.base).min(self.entries.len() as u64) as usize;
        let bytes = |entries: &mut dyn Iterator<Item = &Entry>| -> u64 {
            entries.map(|entry| u64::from(entry.location.len)).sum()
        };
        // Whichever is shorter.
        if before <= self.entries.len() / 2 {
            self.bytes - bytes(&mut self.entries.range(..before))
        } else {
            bytes(&mut self.entries.range(before..))
        }
    }

    /// Forgets all entries before the offset and says which they were.
    pub fn trim_to(&mut self, offset: u64) -> Vec<Entry> {
        let count = offset.min(self.end()).saturating_sub(self.base) as usize;
        let trimmed: Vec<Entry> = self.entries.drain(..count).collect();
        self.base += count as u64;
        self.bytes -= trimmed.iter().map(|entry| u64::from(entry.location.len)).sum::<u64>();
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
}
