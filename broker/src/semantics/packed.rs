//! A block of index entries in few bytes, from which any one can be read by itself.
//!
//! Owns the form in which most of a topic's index is in memory and beside the log on disk. It does not know positions.
//!
//! What entries that follow each other have in common is stored once. Of each column the block has a straight line, and of
//! each entry how far it is from that line, in as few bits as the farthest of them needs:
//!
//! ```text
//! offset    350 700 1050 1402 ...   =  350 + 350 * n  +  0 0 0 2 ...      2 bits
//! gap         0   0    0    0 ...   =  0              +  nothing          0 bits
//! published  17  17   18   18 ...   =  17             +  0 0 1 1 ...      1 bit
//! ```
//! So a message of a busy topic takes some bits, of a topic with keys four bytes more, instead of 40 bytes.

use bytes::{Buf, BufMut};

use super::entry::{Entry, Facts, Location};

/// So many entries are packed together. A topic's newest entries, fewer than this, are kept as they are.
pub const BLOCK: usize = 256;
/// Segment, offset, gap to the next entry, hash, batch, publish time, time of delivery.
const COLUMNS: usize = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    count: u32,
    /// Bytes on disk of all entries.
    bytes: u64,
    /// Where the last entry ends in its segment.
    end: u64,
    columns: [Column; COLUMNS],
    /// Row by row, as many bits of each column as it has.
    bits: Box<[u64]>,
}

/// The value of row n is `base + slope * n` and what the row adds; all wrapping, so that any values can be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Column {
    base: u64,
    slope: u64,
    width: u8,
}

impl Column {
    /// A line below all values, and how many bits the distance to it takes.
    fn fit(values: impl Iterator<Item = u64> + Clone) -> Column {
        let first = values.clone().next().unwrap_or(0);
        let (count, last) = values.clone().fold((0i64, first), |(count, _), value| (count + 1, value));
        let slope = ((last.wrapping_sub(first) as i64) / (count - 1).max(1)) as u64;
        let apart = |(row, value): (u64, u64)| value.wrapping_sub(first).wrapping_sub(slope.wrapping_mul(row)) as i64;
        let apart = (0u64..).zip(values).map(apart);
        let (least, most) = apart.fold((0i64, 0i64), |(least, most), apart| (least.min(apart), most.max(apart)));
        let range = (most as u64).wrapping_sub(least as u64);
        Column { base: first.wrapping_add(least as u64), slope, width: (u64::BITS - range.leading_zeros()) as u8 }
    }

    fn line(&self, row: u64) -> u64 {
        self.base.wrapping_add(self.slope.wrapping_mul(row))
    }

    fn is_constant(&self) -> bool {
        self.width == 0 && self.slope == 0
    }
}

/// What a row stores, column by column. The length follows from where the next entry starts, mostly.
fn row(entry: &Entry, next: u64) -> [u64; COLUMNS] {
    let (location, facts) = (entry.location, entry.facts);
    let gap = next.wrapping_sub(u64::from(location.offset)).wrapping_sub(u64::from(location.len));
    [
        u64::from(location.segment),
        u64::from(location.offset),
        gap,
        u64::from(facts.hash),
        u64::from(facts.batch),
        facts.publish_time_ms,
        facts.deliver_at_ms,
    ]
}

impl Packed {
    /// Packs no more than [`BLOCK`] entries.
    pub fn of(entries: &[Entry]) -> Packed {
        let entries = &entries[..entries.len().min(BLOCK)];
        let end = entries.last().map_or(0, |last| u64::from(last.location.offset) + u64::from(last.location.len));
        let next = |at: usize| entries.get(at + 1).map_or(end, |next| u64::from(next.location.offset));
        let rows: Vec<[u64; COLUMNS]> = entries.iter().enumerate().map(|(at, entry)| row(entry, next(at))).collect();
        let columns: [Column; COLUMNS] = std::array::from_fn(|column| Column::fit(rows.iter().map(|row| row[column])));
        let width: usize = columns.iter().map(|column| usize::from(column.width)).sum();
        let mut bits = vec![0; (width * rows.len()).div_ceil(64)].into_boxed_slice();
        let mut at = 0;
        for (n, row) in (0u64..).zip(&rows) {
            for (value, column) in row.iter().zip(&columns) {
                put_bits(&mut bits, at, column.width, value.wrapping_sub(column.line(n)));
                at += usize::from(column.width);
            }
        }
        let bytes = entries.iter().map(|entry| u64::from(entry.location.len)).sum();
        Packed { count: rows.len() as u32, bytes, end, columns, bits }
    }

    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes on disk of all entries.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes on disk from one entry to another (exclusive).
    pub fn bytes_between(&self, start: usize, end: usize) -> u64 {
        let end = end.min(self.count());
        if start == 0 && end == self.count() {
            return self.bytes;
        }
        (start..end).filter_map(|at| self.get(at)).map(|entry| u64::from(entry.location.len)).sum()
    }

    /// What it takes in memory.
    pub fn memory(&self) -> usize {
        size_of::<Packed>() + size_of_val(&*self.bits)
    }

    /// The segment of all entries, if it is one.
    pub fn segment(&self) -> Option<u32> {
        self.columns[0].is_constant().then_some(self.columns[0].base as u32)
    }

    pub fn get(&self, at: usize) -> Option<Entry> {
        if at >= self.count() {
            return None;
        }
        let width: usize = self.columns.iter().map(|column| usize::from(column.width)).sum();
        let mut bit = at * width;
        let mut value = |column: &Column| {
            let apart = get_bits(&self.bits, bit, column.width);
            bit += usize::from(column.width);
            column.line(at as u64).wrapping_add(apart)
        };
        let [segment, offset, gap, hash, batch, publish_time_ms, deliver_at_ms] =
            self.columns.each_ref().map(&mut value);
        let next = if at + 1 == self.count() {
            self.end
        } else {
            let offset = &self.columns[1];
            let bit = (at + 1) * width + usize::from(self.columns[0].width);
            offset.line(at as u64 + 1).wrapping_add(get_bits(&self.bits, bit, offset.width))
        };
        let len = next.wrapping_sub(offset).wrapping_sub(gap) as u32;
        let location = Location { segment: segment as u32, offset: offset as u32, len };
        Some(Entry {
            location,
            facts: Facts { hash: hash as u32, batch: batch as u32, publish_time_ms, deliver_at_ms },
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        (0..self.count()).map_while(|at| self.get(at))
    }

    pub fn put(&self, out: &mut impl BufMut) {
        out.put_u32(self.count);
        out.put_u64(self.bytes);
        out.put_u64(self.end);
        for column in &self.columns {
            out.put_u64(column.base);
            out.put_u64(column.slope);
            out.put_u8(column.width);
        }
        self.bits.iter().for_each(|word| out.put_u64(*word));
    }

    /// Reads what [`Packed::put`] wrote; `None` if it cannot be that.
    pub fn read(bytes: &mut impl Buf) -> Option<Packed> {
        let count = bytes.try_get_u32().ok().filter(|count| *count as usize <= BLOCK)?;
        let (sum, end) = (bytes.try_get_u64().ok()?, bytes.try_get_u64().ok()?);
        let mut columns = [Column::default(); COLUMNS];
        for column in &mut columns {
            let (base, slope) = (bytes.try_get_u64().ok()?, bytes.try_get_u64().ok()?);
            let width = bytes.try_get_u8().ok().filter(|width| u32::from(*width) <= u64::BITS)?;
            *column = Column { base, slope, width };
        }
        let width: usize = columns.iter().map(|column| usize::from(column.width)).sum();
        let words = (width * count as usize).div_ceil(64);
        let bits: Option<Box<[u64]>> = (0..words).map(|_| bytes.try_get_u64().ok()).collect();
        Some(Packed { count, bytes: sum, end, columns, bits: bits? })
    }
}

fn put_bits(words: &mut [u64], at: usize, width: u8, value: u64) {
    if width == 0 {
        return;
    }
    let (word, shift) = (at / 64, at % 64);
    words[word] |= value << shift;
    if shift + usize::from(width) > 64 {
        words[word + 1] |= value >> (64 - shift);
    }
}

fn get_bits(words: &[u64], at: usize, width: u8) -> u64 {
    if width == 0 {
        return 0;
    }
    let (word, shift) = (at / 64, at % 64);
    let low = words[word] >> shift;
    let high = if shift + usize::from(width) > 64 { words[word + 1] << (64 - shift) } else { 0 };
    (low | high) & (u64::MAX >> (64 - width))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let small = (0u32..4, 0u32..4, 0u32..4, 0u32..2, 0u32..3, 0u64..9, 0u64..2);
        let any = any::<(u32, u32, u32, u32, u32, u64, u64)>();
        prop_oneof![small, any].prop_map(|(segment, offset, len, hash, batch, publish_time_ms, deliver_at_ms)| Entry {
            location: Location { segment, offset, len },
            facts: Facts { hash, batch, publish_time_ms, deliver_at_ms },
        })
    }

    fn busy(count: u32, hash: impl Fn(u32) -> u32, len: impl Fn(u32) -> u32) -> Vec<Entry> {
        let mut offset = 1_000_000;
        let entries = (0..count).map(|n| {
            let location = Location { segment: 7, offset, len: len(n) };
            offset += len(n);
            let publish_time_ms = 1_700_000_000_000 + u64::from(n) / 100;
            Entry { location, facts: Facts { hash: hash(n), publish_time_ms, ..Facts::default() } }
        });
        entries.collect()
    }

    proptest! {
        #[test]
        fn any_entries_come_back(entries in proptest::collection::vec(entry(), 0..BLOCK)) {
            let packed = Packed::of(&entries);
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), entries.clone());
            prop_assert_eq!(packed.get(entries.len()), None);
            prop_assert_eq!(packed.bytes(), entries.iter().map(|entry| u64::from(entry.location.len)).sum::<u64>());
            if let Some(segment) = packed.segment() {
                prop_assert!(entries.iter().all(|entry| entry.location.segment == segment));
            }
            let mut stored = Vec::new();
            packed.put(&mut stored);
            let mut rest = &stored[..];
            prop_assert_eq!(Packed::read(&mut rest), Some(packed));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(packed) = Packed::read(&mut &bytes[..]) {
                prop_assert_eq!(packed.iter().count(), packed.count());
            }
        }
    }

    #[test]
    fn what_follows_a_pattern_takes_next_to_nothing() {
        let none = |_| 0;
        let scattered = |n: u32| n.wrapping_mul(0x9e37_79b9);
        let per_entry = |entries: &[Entry]| Packed::of(entries).memory() as f64 / entries.len() as f64;
        let block = BLOCK as u32;
        assert!(per_entry(&busy(block, none, |_| 350)) < 2.0);
        assert!(per_entry(&busy(block, none, |n| 300 + scattered(n) % 4000)) < 4.0);
        assert!(per_entry(&busy(block, scattered, |_| 350)) < 6.0);
    }
}
