//! What a subscription has acknowledged: everything below a mark, ranges above it, and parts of batches.

use std::collections::BTreeMap;

use super::batch::Unacked;
use super::log::Log;

#[derive(Debug, Default, Clone)]
pub struct Cursor {
    /// All offsets below are acknowledged.
    next: u64,
    /// Acknowledged ranges above, start to end (exclusive), never touching each other or `next`.
    ranges: BTreeMap<u64, u64>,
    /// What is in these, counted as they change: asking for the backlog looks at none of them.
    above: Above,
    /// Batches of which a part is acknowledged, with what is not; never empty, never of acknowledged offsets.
    partial: BTreeMap<u64, Unacked>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Above {
    entries: u64,
    bytes: u64,
}

impl Above {
    fn add(&mut self, start: u64, end: u64, log: &Log) {
        self.entries += end - start;
        self.bytes += log.bytes_between(start, end);
    }

    fn take(&mut self, start: u64, end: u64, log: &Log) {
        self.entries -= end - start;
        self.bytes -= log.bytes_between(start, end);
    }
}

impl Cursor {
    pub fn at(next: u64) -> Cursor {
        Cursor { next, ..Cursor::default() }
    }

    /// The first offset that is not acknowledged.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn is_acked(&self, offset: u64) -> bool {
        offset < self.next || self.ranges.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// True if the offset was not acknowledged before.
    pub fn ack(&mut self, offset: u64, log: &Log) -> bool {
        if self.is_acked(offset) {
            return false;
        }
        self.partial.remove(&offset);
        if offset == self.next {
            self.next += 1;
            if let Some(end) = self.ranges.remove(&self.next) {
                self.above.take(self.next, end, log);
                self.next = end;
            }
            return true;
        }
        self.above.add(offset, offset + 1, log);
        let end = self.ranges.remove(&(offset + 1)).unwrap_or(offset + 1);
        match self.ranges.range_mut(..offset).next_back() {
            Some((_, before)) if *before == offset => *before = end,
            _ => {
                self.ranges.insert(offset, end);
            }
        }
        true
    }

    /// Acknowledges everything from one offset to another (exclusive).
    pub fn ack_range(&mut self, start: u64, end: u64, log: &Log) {
        if start <= self.next {
            self.ack_below(end, log);
            return;
        }
        if start >= end {
            return;
        }
        // What touches it becomes a part of it.
        let touching = self.ranges.range(..=end).rev().take_while(|(_, stop)| **stop >= start);
        let touching: Vec<(u64, u64)> = touching.map(|(from, to)| (*from, *to)).collect();
        let (mut start, mut end) = (start, end);
        for (from, to) in touching {
            self.ranges.remove(&from);
            self.above.take(from, to, log);
            (start, end) = (start.min(from), end.max(to));
        }
        self.ranges.insert(start, end);
        self.above.add(start, end, log);
        self.partial.retain(|offset, _| !(start..end).contains(offset));
    }

    /// Acknowledges everything below the offset; true if that was news. What the log lets go of must be acknowledged so
    /// before.
    pub fn ack_below(&mut self, offset: u64, log: &Log) -> bool {
        if offset <= self.next {
            return false;
        }
        self.next = offset;
        while self.partial.first_key_value().is_some_and(|(first, _)| *first < offset) {
            self.partial.pop_first();
        }
        while let Some((&start, &end)) = self.ranges.first_key_value() {
            if start > self.next {
                break;
            }
            self.ranges.remove(&start);
            self.above.take(start, end, log);
            self.next = self.next.max(end);
        }
        true
    }

    /// Acknowledges all but these messages of a batch. Says how many are left; none if the batch was acknowledged
    /// as a whole before.
    pub fn ack_part(&mut self, offset: u64, unacked: &Unacked, log: &Log) -> Option<u32> {
        if self.is_acked(offset) {
            return None;
        }
        let left = self.partial.entry(offset).or_insert_with(|| unacked.clone());
        left.intersect(unacked);
        let count = left.count();
        if count == 0 {
            self.ack(offset, log);
        }
        Some(count)
    }

    /// What is not acknowledged of a batch, if a part of it is.
    pub fn unacked(&self, offset: u64) -> Option<&Unacked> {
        self.partial.get(&offset)
    }

    /// Batches of which a part is acknowledged, with what is not.
    pub fn partial(&self) -> impl Iterator<Item = (u64, &Unacked)> {
        self.partial.iter().map(|(offset, unacked)| (*offset, unacked))
    }

    /// Acknowledged ranges above the mark, start to end (exclusive).
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }

    /// How many ranges these are.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// What must be said of it beside its mark: ranges, and batches of which a part is acknowledged.
    pub fn hole_count(&self) -> usize {
        self.ranges.len() + self.partial.len()
    }

    /// The n-th offset from the mark on that is not acknowledged, counted from one.
    pub fn nth_unacked(&self, n: u64, end: u64) -> Option<u64> {
        let mut left = n.checked_sub(1)?;
        let mut from = self.next;
        for (start, stop) in self.ranges() {
            if left < start - from {
                break;
            }
            left -= start - from;
            from = stop;
        }
        from.checked_add(left).filter(|offset| *offset < end)
    }

    /// How many offsets below `end` are not acknowledged.
    pub fn backlog(&self, end: u64) -> u64 {
        end.saturating_sub(self.next).saturating_sub(self.above.entries)
    }

    /// Bytes on disk of what is not acknowledged.
    pub fn backlog_bytes(&self, log: &Log) -> u64 {
        log.bytes_between(self.next, log.end()).saturating_sub(self.above.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::semantics::entry::{Entry, Facts, Location, Position};

    /// Forty entries of different sizes.
    fn log() -> Log {
        let mut log = Log::default();
        for entry in 0..40 {
            let location = Location { segment: 1, offset: 0, len: entry * entry + 1 };
            let position = Position { ledger: 1, entry: u64::from(entry) };
            log.push(position, Entry { location, facts: Facts::default() });
        }
        log
    }

    proptest! {
        #[test]
        fn a_range_is_all_of_its_offsets(acks in proptest::collection::vec((0u64..40, 0u64..9), 0..20)) {
            let (mut at_once, mut one_by_one, log) = (Cursor::default(), Cursor::default(), log());
            for (start, len) in acks {
                let end = (start + len).min(40);
                at_once.ack_range(start, end, &log);
                (start..end).for_each(|offset| {
                    one_by_one.ack(offset, &log);
                });
                prop_assert_eq!(at_once.next(), one_by_one.next());
                prop_assert_eq!(at_once.ranges().collect::<Vec<_>>(), one_by_one.ranges().collect::<Vec<_>>());
                prop_assert_eq!(at_once.backlog(40), one_by_one.backlog(40));
                prop_assert_eq!(at_once.backlog_bytes(&log), one_by_one.backlog_bytes(&log));
            }
        }

        #[test]
        fn it_agrees_with_a_plain_set(acks in proptest::collection::vec((0u64..40, 0..4), 0..60)) {
            let (mut cursor, mut log) = (Cursor::default(), log());
            let mut plain = BTreeSet::new();
            for (offset, how) in acks {
                let before = plain.len();
                match how {
                    0 => {
                        plain.extend(0..offset);
                        prop_assert_eq!(cursor.ack_below(offset, &log), plain.len() > before);
                    }
                    1 => {
                        // The log lets go of its beginning, acknowledged or not.
                        let base = (log.base() + 3).min(offset);
                        plain.extend(0..base);
                        cursor.ack_below(base, &log);
                        log.trim_to(base);
                    }
                    _ => prop_assert_eq!(cursor.ack(offset, &log), plain.insert(offset)),
                }
                for offset in 0..42 {
                    prop_assert_eq!(cursor.is_acked(offset), plain.contains(&offset));
                }
                let left: Vec<u64> = (0..40).filter(|offset| !plain.contains(offset)).collect();
                prop_assert_eq!(cursor.backlog(40), left.len() as u64);
                let bytes: u64 = left.iter().map(|offset| offset * offset + 1).sum();
                prop_assert_eq!(cursor.backlog_bytes(&log), bytes);
                let nth: Vec<u64> = (1..).map_while(|n| cursor.nth_unacked(n, 40)).collect();
                prop_assert_eq!(nth, left);
                let starts: Vec<u64> = cursor.ranges().map(|(start, _)| start).collect();
                prop_assert!(starts.iter().all(|start| *start > cursor.next()));
                prop_assert_eq!(cursor.range_count(), starts.len());
            }
        }
    }
}
