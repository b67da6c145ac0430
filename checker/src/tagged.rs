//! Signals to all runs with a tag.
//!
//! | rule | how it is seen |
//! |---|---|
//! | a series of runs that carries the tag when it comes, and until all have it, has it | where history says that all have it: of each open run whose series carried the tag before, its copy stands, by the id that follows from the signal and the first run of the series |
//! | behind that nobody gets it | no copy of it is new, and it comes to its end once |
//!
//! That a copy counts once is the rule of all events. Of a run whose beginning was trimmed it is known when it is carried; one that ends
//! before has handed on copies that nothing left says of.

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use crate::format::{Body, Id, Record};
use crate::report::{Kind, Place, Violation};

/// What is known of a shard's runs with tags.
#[derive(Default)]
pub struct Tagged {
    /// The first frame that was read, and this one.
    frames: Option<(u64, u64)>,
    open: HashMap<Id, Carrier>,
    /// Runs that ended in this frame: others may go on for them.
    ended: HashMap<Id, Carrier>,
    /// All copies that stand, by their ids.
    copies: HashSet<Id>,
    /// Signals that all have.
    over: HashSet<Id>,
}

/// An open run that carries tags.
struct Carrier {
    workflow_id: String,
    /// With the frames since which its series carries them; of a run that is carried alone, the last that was not read.
    tags: HashMap<String, u64>,
    first: Id,
    /// The frame in which it went on for a run whose beginning was trimmed.
    heir: Option<u64>,
}

impl Tagged {
    pub fn frame(&mut self, number: u64) {
        self.frames = Some((self.frames.map_or(number, |(first, _)| first), number));
        self.ended.clear();
    }

    /// A record of a run. What is wrong with it.
    pub fn takes(&mut self, record: &Record) -> Option<String> {
        let (_, number) = self.frames.unwrap_or_default();
        if record.seq == 0 {
            self.begins(record, number);
        }
        let is_new = copy(record).filter(|copy| self.copies.insert(*copy));
        let late = is_new.and_then(|copy| {
            let Carrier { first, heir, .. } = self.open.get(&record.run_id)?;
            if *heir == Some(number) {
                return None;
            }
            let over = self.over.iter().find(|signal| of_run(**signal, *first) == copy)?;
            Some(format!("the run takes signal {over} to all with a tag, which all that it was meant for had"))
        });
        if record.close.is_some() {
            self.ended.extend(self.open.remove_entry(&record.run_id));
        }
        late
    }

    /// All records of a run that is known by them alone, and is open.
    pub fn is_carried(&mut self, records: &[Record]) {
        let (first, _) = self.frames.unwrap_or_default();
        self.copies.extend(records.iter().filter_map(copy));
        if let Some(begins) = records.first().filter(|_| records.iter().all(|record| record.close.is_none())) {
            self.begins(begins, first.saturating_sub(1));
        }
    }

    fn begins(&mut self, record: &Record, begun: u64) {
        let body = match &record.body {
            Body::Received { body, .. } => body,
            body => body,
        };
        let (first, previous, heir) = match body {
            Body::Continued { before, .. } => {
                let previous = self.ended.get(&before.previous);
                (before.first, previous, previous.is_none().then_some(begun))
            }
            _ => (record.run_id, None, None),
        };
        let since = |tag: &String| previous.and_then(|previous| previous.tags.get(tag)).copied().unwrap_or(begun);
        let tags = record.tags.iter().map(|tag| (tag.clone(), since(tag))).collect();
        // Who carries none may get a copy that went along.
        self.open.insert(record.run_id, Carrier { workflow_id: record.workflow_id.clone(), tags, first, heir });
    }

    /// History says how far a signal has come. `since`: the first frame in which runs took it.
    pub fn reached(&mut self, (signal, tag): (Id, &str), since: u64, all: bool, place: Place) -> Vec<Violation> {
        if self.over.contains(&signal) {
            let message = format!("signal {signal} to all with the tag {tag:?} goes on, and all had it");
            return vec![place.fault(Kind::Tagged, message)];
        }
        if !all {
            return Vec::new();
        }
        self.over.insert(signal);
        let is_meant = |run: &Carrier| run.tags.get(tag).is_some_and(|begun| *begun < since);
        let lacks = |run: &Carrier| !self.copies.contains(&of_run(signal, run.first));
        let without = self.open.iter().filter(|(_, run)| is_meant(run) && lacks(run));
        let fault = |(run_id, run): (&Id, &Carrier)| {
            let message = format!("the run carries the tag {tag:?}, and has no copy of signal {signal} that all have");
            place.fault(Kind::Tagged, message).of(run.workflow_id.clone(), *run_id)
        };
        let mut faults: Vec<(Id, Violation)> = without.map(|(id, run)| (*id, fault((id, run)))).collect();
        faults.sort_by_key(|(id, _)| *id);
        faults.into_iter().map(|(_, fault)| fault).collect()
    }
}

/// The id of the copy that a record takes, or takes in.
fn copy(record: &Record) -> Option<Id> {
    match &record.body {
        Body::SignalledByTag => Some(record.event),
        Body::Received { event, body, .. } if matches!(**body, Body::SignalledByTag) => Some(*event),
        _ => None,
    }
}

/// The id of a run's copy: the first 16 bytes of SHA-256 over the id of its series' first run and that of the signal.
fn of_run(signal: Id, first: Id) -> Id {
    let mut hash = Sha256::new();
    hash.update(first.0);
    hash.update(signal.0);
    let digest = hash.finalize();
    let mut id = Id::default();
    id.0.copy_from_slice(&digest[..16]);
    id
}
