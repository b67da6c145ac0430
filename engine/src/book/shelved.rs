//! Runs that lie on the shelf: which, and where. They are found by run and by workflow id, with 60 bytes or so of memory
//! for each.
//!
//! A workflow id is known by 32 bits of its hash alone; whoever is found by them is read, and says itself who it is.

use everpulse_protocol::{RunId, WorkflowId};
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::run::Run;
use crate::shelf::{MemoryShelf, Place, Shelf};

/// A run on the shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Plain", into = "Plain")]
pub(crate) struct Entry {
    pub run_id: RunId,
    /// Of the workflow id's hash.
    tag: u32,
    place: Place,
    /// As [`Run::base`].
    pub base: u64,
}

/// An entry without names, as there are very many of them.
type Plain = (RunId, u64, u32, u32, u32, u32);

impl From<Plain> for Entry {
    fn from((run_id, base, tag, part, offset, bytes): Plain) -> Self {
        Self { run_id, tag, place: Place { part, offset, bytes }, base }
    }
}

impl From<Entry> for Plain {
    fn from(entry: Entry) -> Self {
        let Place { part, offset, bytes } = entry.place;
        (entry.run_id, entry.base, entry.tag, part, offset, bytes)
    }
}

/// The shelf, and what lies there.
#[derive(Debug)]
pub(crate) struct Shelved {
    shelf: Box<dyn Shelf>,
    entries: Vec<Entry>,
    /// Places in `entries`.
    by_run: HashTable<u32>,
    by_workflow: HashTable<u32>,
    /// Something that was laid down could not be read. What the book says is not to be trusted any more.
    is_damaged: bool,
    /// So many bytes were laid down since this was asked last.
    written: u64,
    /// How far the entries were looked through for those in a sparse part.
    swept: usize,
}

/// So many entries are looked at, at a time, for those in a part of which little is in use.
const SWEEP: usize = 4_096;
/// Of these so many are laid down again.
const MOVES: usize = 64;

impl Default for Shelved {
    fn default() -> Self {
        Self::on(Box::<MemoryShelf>::default())
    }
}

impl Shelved {
    pub fn on(shelf: Box<dyn Shelf>) -> Self {
        Self {
            shelf,
            entries: Vec::new(),
            by_run: HashTable::new(),
            by_workflow: HashTable::new(),
            is_damaged: false,
            written: 0,
            swept: 0,
        }
    }

    /// The shelf itself, to be begun with anew.
    pub fn into_shelf(self) -> Box<dyn Shelf> {
        self.shelf
    }

    pub fn shelf(&mut self) -> &mut dyn Shelf {
        &mut *self.shelf
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// How many bytes were laid down since [`Self::forget_written`]: runs that come and go leave what only the cache that was
    /// saved last needs.
    pub fn written(&self) -> u64 {
        self.written
    }

    pub fn forget_written(&mut self) {
        self.written = 0;
    }

    /// Begins with entries that were saved, on the shelf that was saved with them.
    pub fn resume(&mut self, entries: Vec<Entry>) {
        self.shelf.resume(&mut entries.iter().map(|entry| entry.place));
        self.by_run.reserve(entries.len(), |_| 0);
        self.by_workflow.reserve(entries.len(), |_| 0);
        self.entries.reserve_exact(entries.len());
        for entry in entries {
            self.insert(entry);
        }
    }

    /// Lays a run down; gives it back if there is no room.
    pub fn lay(&mut self, run: Box<Run>) -> Result<(), Box<Run>> {
        let bytes = run.freeze();
        let Some(place) = self.shelf.put(&bytes) else { return Err(run) };
        self.written += bytes.len() as u64;
        self.insert(Entry { run_id: run.run_id, tag: tag(&run.workflow_id), place, base: run.base });
        Ok(())
    }

    pub fn contains(&self, run_id: RunId) -> bool {
        self.find(run_id).is_some()
    }

    /// Takes a run from the shelf.
    pub fn take(&mut self, run_id: RunId) -> Option<Box<Run>> {
        let at = self.find(run_id)?;
        let run = self.read(at)?;
        self.remove(at);
        Some(run)
    }

    /// Takes the run of a workflow id from the shelf: there is at most one, as only open runs lie there.
    pub fn take_of(&mut self, workflow_id: &WorkflowId) -> Option<Box<Run>> {
        let tag = tag(workflow_id);
        let same = |at: &&u32| self.entries.get(**at as usize).is_some_and(|entry| entry.tag == tag);
        let candidates: Vec<u32> = self.by_workflow.iter_hash(spread(tag)).filter(same).copied().collect();
        for at in candidates {
            let run = self.read(at)?;
            if run.workflow_id == *workflow_id {
                self.remove(at);
                return Some(run);
            }
        }
        None
    }

    /// A copy of a run that stays where it is.
    pub fn peek(&mut self, run_id: RunId) -> Option<Box<Run>> {
        let at = self.find(run_id)?;
        self.read(at)
    }

    /// The first frame that is needed for a run is another one now. False if it does not lie here.
    pub fn rebase(&mut self, run_id: RunId, base: u64) -> bool {
        let Some(at) = self.find(run_id) else { return false };
        self.entries[at as usize].base = base;
        true
    }

    /// Moves some runs out of a part of the shelf of which little is in use, so that it can go.
    pub fn tidy(&mut self) {
        let Some(part) = self.shelf.sparse() else { return };
        let mut moves = MOVES;
        for _ in 0..SWEEP {
            if moves == 0 {
                return;
            }
            let Some(entry) = self.entries.get(self.swept).copied() else {
                self.swept = 0;
                return;
            };
            self.swept += 1;
            if entry.place.part != part {
                continue;
            }
            moves -= 1;
            let Some(bytes) = self.shelf.get(entry.place) else {
                self.is_damaged = true;
                return;
            };
            let Some(place) = self.shelf.put(&bytes) else { return };
            self.written += bytes.len() as u64;
            self.shelf.free(entry.place);
            self.entries[self.swept - 1].place = place;
        }
    }

    fn read(&mut self, at: u32) -> Option<Box<Run>> {
        let entry = self.entries[at as usize];
        let run = self.shelf.get(entry.place).and_then(|bytes| Run::thaw(&bytes, entry.run_id, entry.base));
        self.is_damaged |= run.is_none();
        run.map(Box::new)
    }

    fn find(&self, run_id: RunId) -> Option<u32> {
        self.by_run.find(hash(run_id), |at| self.entries[*at as usize].run_id == run_id).copied()
    }

    fn insert(&mut self, entry: Entry) {
        let at = u32::try_from(self.entries.len()).expect("a shard has no four billion runs");
        self.entries.push(entry);
        let entries = &self.entries;
        self.by_run.insert_unique(hash(entry.run_id), at, |at| hash(entries[*at as usize].run_id));
        self.by_workflow.insert_unique(spread(entry.tag), at, |at| spread(entries[*at as usize].tag));
    }

    fn remove(&mut self, at: u32) {
        let entry = self.entries[at as usize];
        self.shelf.free(entry.place);
        for (table, hash) in [(&mut self.by_run, hash(entry.run_id)), (&mut self.by_workflow, spread(entry.tag))] {
            if let Ok(found) = table.find_entry(hash, |other| *other == at) {
                found.remove();
            }
        }
        self.entries.swap_remove(at as usize);
        // The last one took its place.
        let was = u32::try_from(self.entries.len()).expect("it was counted by a u32");
        if let Some(moved) = self.entries.get(at as usize) {
            let hashes = [hash(moved.run_id), spread(moved.tag)];
            for (table, hash) in [&mut self.by_run, &mut self.by_workflow].into_iter().zip(hashes) {
                if let Some(place) = table.find_mut(hash, |other| *other == was) {
                    *place = at;
                }
            }
        }
    }
}

/// Stands in saved books: it never changes.
fn tag(workflow_id: &WorkflowId) -> u32 {
    (xxh3_64(workflow_id.as_str().as_bytes()) >> 32) as u32
}

/// A table looks at the highest and the lowest bits.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn hash(run_id: RunId) -> u64 {
    xxh3_64(run_id.0.as_bytes())
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::codec::Body;
    use everpulse_protocol::event::{IdPolicy, Start};
    use everpulse_protocol::history::{CommandKind, CommandMark, Record, RecordBody};
    use everpulse_protocol::{EventId, Payload, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn run(n: u128) -> Box<Run> {
        let (run_id, workflow_id) = (RunId(Uuid::from_u128(n)), WorkflowId::new(format!("w-{n}")).expect("a good id"));
        let start = Start {
            workflow: "w".to_owned(),
            version: None,
            args: Payload::encode(&n.to_string()).expect("encodes"),
            policy: IdPolicy::Attach,
            tags: Vec::new(),
            start_at: None,
            timeout_ms: Some(9),
            headers: None,
            priority: Default::default(),
        };
        let body = RecordBody::Started { start, version: 1, reply_to: None, build: None };
        let timer = CommandMark { due: Some(Timestamp(77)), ..CommandMark::new(0, CommandKind::Timer) };
        let record = Record {
            workflow_id: workflow_id.clone(),
            run_id,
            seq: 0,
            event: EventId(run_id.0),
            at: Timestamp(5),
            body: Body::of(&body),
            commands: vec![timer],
            notes: Vec::new(),
            close: None,
        };
        let mut run = Run { base: 3, ..Run::new(workflow_id, run_id) };
        run.absorb(&record, Some(&body), 4);
        Box::new(run)
    }

    #[test]
    fn runs_are_found_by_their_ids_and_are_as_they_were() {
        let mut shelved = Shelved::default();
        for n in 0..500 {
            shelved.lay(run(n)).expect("there is room");
        }
        for n in (0..500).step_by(3) {
            assert_eq!(format!("{:?}", shelved.take(RunId(Uuid::from_u128(n)))), format!("{:?}", Some(run(n))));
        }
        for n in (1..500).step_by(3) {
            let id = WorkflowId::new(format!("w-{n}")).expect("a good id");
            assert_eq!(format!("{:?}", shelved.take_of(&id)), format!("{:?}", Some(run(n))));
            assert!(shelved.take_of(&id).is_none(), "it was taken");
        }
        assert_eq!(shelved.len(), 166);
        for n in (2..500).step_by(3) {
            let run_id = RunId(Uuid::from_u128(n));
            assert!(shelved.rebase(run_id, 90));
            assert_eq!(shelved.take(run_id).map(|run| run.base), Some(90));
        }
        assert!(!shelved.is_damaged() && shelved.len() == 0);
    }

    #[test]
    fn what_is_not_there_any_more_is_damage_and_what_never_was_is_not() {
        let mut shelved = Shelved::default();
        shelved.lay(run(1)).expect("there is room");
        assert!(shelved.take(RunId(Uuid::from_u128(2))).is_none());
        assert!(!shelved.is_damaged());
        shelved.shelf().clear();
        assert!(shelved.take(RunId(Uuid::from_u128(1))).is_none());
        assert!(shelved.is_damaged());
    }
}
