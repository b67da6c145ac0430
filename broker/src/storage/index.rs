//! What recovery needs of a segment, beside it, so that the segment need not be read.
//!
//! An index is written when its segment has been closed and synced, and is never needed: it says nothing that reading the
//! segment would not say. So it is not synced, a missing one is made at the next start, and these rules hold:
//!
//! - It is believed only as a whole: its checksum covers everything, and it names the segment's salt and end. One that is
//!   missing, torn, of another segment or of another version costs reading the segment.
//! - It is written only after the segment was cut at its end and synced, never of a segment in which a write had failed. So
//!   if an index can be believed and its segment is shorter than it says, confirmed data is lost, and that is said.
//! - Topics' ids are never used twice, and what a segment says of messages and of all else does not depend on each other's
//!   order; so changes are applied first, then messages.
//!
//! ```text
//! ["EVERPIDX"][version u32][segment u32][salt u32][end u32][crc32c u32]
//! [count u32] of changes: [offset u32]                      they are read from the segment, if at all
//! [count u32] of senders: [topic][highest sequence][name]
//! [count u32] of runs:    [topic][ledger][entry][entries, packed]
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};

use super::files::Files;
use crate::semantics::entry::Entry;
use crate::semantics::packed::{BLOCK, Packed};
use crate::semantics::{Position, TopicId};

/// Of this file; the segments' format is another matter.
pub const VERSION: u32 = 2;
const MAGIC: &[u8; 8] = b"EVERPIDX";
const HEADER_LEN: usize = 28;

pub fn path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("log-{segment:08}.idx"))
}

/// The segments that have one, in any order.
///
/// # Errors
/// The directory cannot be read.
pub fn list(files: &dyn Files, dir: &Path) -> io::Result<Vec<u32>> {
    let number = |name: String| name.strip_prefix("log-")?.strip_suffix(".idx")?.parse().ok();
    Ok(files.list(dir)?.into_iter().filter_map(number).collect())
}

/// Of which segment, and up to where: what an index must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    pub segment: u32,
    pub salt: u32,
    pub end: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// Where changes are.
    pub changes: Vec<u32>,
    pub senders: Vec<Sender>,
    /// Of one topic in the order of their positions.
    pub runs: Vec<Run>,
}

/// A producer whose messages are deduplicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub topic: TopicId,
    pub name: Arc<str>,
    pub highest: u64,
}

/// Messages of a topic that follow each other in a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub topic: TopicId,
    pub first: Position,
    pub entries: Packed,
}

/// Gathers the index of a segment while it is written or read.
#[derive(Debug, Default)]
pub struct Builder {
    changes: Vec<u32>,
    topics: BTreeMap<TopicId, Gathering>,
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Gathering {
    first: Position,
    entries: Vec<Entry>,
    senders: HashMap<Arc<str>, u64>,
}

impl Gathering {
    fn next(&self) -> Position {
        Position { entry: self.first.entry + self.entries.len() as u64, ..self.first }
    }

    fn finish(&mut self, topic: TopicId, runs: &mut Vec<Run>) {
        if !self.entries.is_empty() {
            runs.push(Run { topic, first: self.first, entries: Packed::of(&self.entries) });
            self.entries.clear();
        }
    }
}

impl Builder {
    pub fn change(&mut self, offset: u32) {
        self.changes.push(offset);
    }

    /// The next message of a topic; positions ascend.
    pub fn message(&mut self, topic: TopicId, position: Position, entry: Entry, origin: Option<(&str, u64)>) {
        let gathering = self.topics.entry(topic).or_insert_with(|| Gathering {
            first: position,
            entries: Vec::new(),
            senders: HashMap::new(),
        });
        if gathering.next() != position || gathering.entries.len() >= BLOCK {
            gathering.finish(topic, &mut self.runs);
        }
        if gathering.entries.is_empty() {
            gathering.first = position;
        }
        gathering.entries.push(entry);
        let Some((name, highest)) = origin else { return };
        match gathering.senders.get_mut(name) {
            Some(known) => *known = highest.max(*known),
            None => {
                gathering.senders.insert(name.into(), highest);
            }
        }
    }

    pub fn finish(self) -> Index {
        let Builder { changes, topics, mut runs } = self;
        let mut senders = Vec::new();
        for (topic, mut gathering) in topics {
            gathering.finish(topic, &mut runs);
            senders.extend(gathering.senders.into_iter().map(|(name, highest)| Sender { topic, name, highest }));
        }
        senders.sort_by(|a, b| (a.topic, &a.name).cmp(&(b.topic, &b.name)));
        Index { changes, senders, runs }
    }
}

impl Index {
    pub fn encode(&self, subject: Subject) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u32(subject.segment);
        out.put_u32(subject.salt);
        out.put_u32(subject.end);
        out.put_u32(0);
        out.put_u32(self.changes.len() as u32);
        self.changes.iter().for_each(|offset| out.put_u32(*offset));
        out.put_u32(self.senders.len() as u32);
        for sender in &self.senders {
            out.put_u64(sender.topic.0);
            out.put_u64(sender.highest);
            // As long as a message's record has room for.
            out.put_u16(sender.name.len() as u16);
            out.put_slice(sender.name.as_bytes());
        }
        out.put_u32(self.runs.len() as u32);
        for run in &self.runs {
            out.put_u64(run.topic.0);
            out.put_u64(run.first.ledger);
            out.put_u64(run.first.entry);
            run.entries.put(&mut out);
        }
        let crc = checksum(&out);
        out[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// What the file says, and up to where of this segment.
    ///
    /// # Errors
    /// Why it cannot be believed.
    pub fn decode(bytes: &[u8], segment: u32, salt: u32) -> Result<(Index, u32), &'static str> {
        let header = bytes.get(..HEADER_LEN).ok_or("it is cut")?;
        let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if &header[..8] != MAGIC {
            return Err("it is no index");
        }
        if field(8) != VERSION {
            return Err("it is of another version");
        }
        if (field(12), field(16)) != (segment, salt) {
            return Err("it is of another segment");
        }
        if checksum(bytes) != field(24) {
            return Err("its checksum does not fit");
        }
        let index = Index::body(&bytes[HEADER_LEN..]).ok_or("it makes no sense")?;
        Ok((index, field(20)))
    }

    fn body(mut bytes: &[u8]) -> Option<Index> {
        let mut index = Index::default();
        for _ in 0..bytes.try_get_u32().ok()? {
            index.changes.push(bytes.try_get_u32().ok()?);
        }
        for _ in 0..bytes.try_get_u32().ok()? {
            let topic = TopicId(bytes.try_get_u64().ok()?);
            let highest = bytes.try_get_u64().ok()?;
            let len = usize::from(bytes.try_get_u16().ok()?);
            let (name, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            index.senders.push(Sender { topic, name: std::str::from_utf8(name).ok()?.into(), highest });
        }
        for _ in 0..bytes.try_get_u32().ok()? {
            let topic = TopicId(bytes.try_get_u64().ok()?);
            let first = Position { ledger: bytes.try_get_u64().ok()?, entry: bytes.try_get_u64().ok()? };
            index.runs.push(Run { topic, first, entries: Packed::read(&mut bytes)? });
        }
        bytes.is_empty().then_some(index)
    }
}

/// Puts an encoded index beside its segment, which has been synced.
///
/// # Errors
/// It cannot be written; what there is of it is removed.
pub fn write(files: &dyn Files, dir: &Path, segment: u32, bytes: &[u8]) -> io::Result<()> {
    let path = path(dir, segment);
    let written = files.create(&path).and_then(|file| file.write_all_at(bytes, 0));
    if written.is_err() {
        // If this fails, too, what is left is not believed.
        let _ = files.remove(&path);
    }
    written
}

/// Of everything but its own place.
fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER_LEN - 4]), &bytes[HEADER_LEN..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::semantics::{Facts, Location};

    const SUBJECT: Subject = Subject { segment: 3, salt: 4, end: 5 };

    fn entry(n: u32) -> Entry {
        let location = Location { segment: 3, offset: n * 100, len: 100 };
        Entry { location, facts: Facts { publish_time_ms: u64::from(n), ..Facts::default() } }
    }

    /// Three topics in turn; one goes on in another ledger.
    fn index() -> Index {
        let mut builder = Builder::default();
        for n in 0..2000u32 {
            let topic = TopicId(u64::from(n % 3));
            let ledger = if n % 3 == 1 && n > 900 { 9 } else { 1 };
            let position = Position { ledger, entry: u64::from(n / 3) };
            builder.message(topic, position, entry(n), (n % 3 == 2).then_some(("sender", u64::from(n))));
            if n % 50 == 0 {
                builder.change(n);
            }
        }
        builder.finish()
    }

    #[test]
    fn what_was_gathered_is_there_and_comes_back() {
        let index = index();
        assert_eq!(index.changes.len(), 40);
        let sender = Sender { topic: TopicId(2), name: "sender".into(), highest: 1997 };
        assert_eq!(index.senders, [sender]);
        let mut seen = 0;
        for topic in 0..3 {
            let runs = index.runs.iter().filter(|run| run.topic == TopicId(topic));
            let mut last = None;
            for run in runs {
                for (n, entry) in (0..).zip(run.entries.iter()) {
                    let position = Position { entry: run.first.entry + n, ..run.first };
                    assert!(last < Some(position));
                    assert_eq!(u64::from(entry.location.offset) / 100, position.entry * 3 + topic);
                    last = Some(position);
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 2000);
        assert_eq!(Index::decode(&index.encode(SUBJECT), 3, 4), Ok((index, 5)));
    }

    #[test]
    fn what_does_not_fit_is_not_believed() {
        let bytes = index().encode(SUBJECT);
        assert!(Index::decode(&bytes, 4, 4).is_err());
        assert!(Index::decode(&bytes, 3, 5).is_err());
        let mut other_version = bytes.clone();
        other_version[8..12].copy_from_slice(&(VERSION + 1).to_be_bytes());
        assert_eq!(Index::decode(&other_version, 3, 4), Err("it is of another version"));
        for cut in 0..bytes.len() {
            assert!(Index::decode(&bytes[..cut], 3, 4).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn any_damage_is_seen(at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = index().encode(SUBJECT);
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != value);
            bytes[at] = value;
            prop_assert!(Index::decode(&bytes, 3, 4).is_err());
        }

        #[test]
        fn a_body_of_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Index::body(&bytes);
        }
    }
}
