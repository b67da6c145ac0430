//! Open runs by their tags, and how far signals have come that were sent to all runs with one.
//!
//! The index is a function of the open runs: a run is in it from its first record to its end, at hand or on the shelf. It
//! takes some 60 bytes for each tag of a run, and knows a tag by 64 bits of its hash alone; whoever is found by them is brought,
//! and says itself which tags it has.
//!
//! Runs are ordered by the first of their series: whoever goes through them meets a series where it was, also if another run
//! goes on for it meanwhile.

use std::collections::BTreeMap;
use std::ops::Bound;

use everpulse_protocol::{EventId, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Book;
use super::memory::Noted;
use crate::mutation::{self, Mutation};
use crate::run::Run;

/// Which open runs carry which tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tags {
    /// By the tag's hash and the first run of the series.
    runs: BTreeMap<(u64, RunId), RunId>,
}

impl Tags {
    pub fn insert(&mut self, run: &Run) {
        self.runs.extend(run.tags.iter().map(|tag| ((hash(tag), run.first()), run.run_id)));
    }

    pub fn remove(&mut self, run: &Run) {
        for tag in &run.tags {
            self.runs.remove(&(hash(tag), run.first()));
        }
    }

    /// Runs that may carry a tag, behind a series, with the first runs of theirs.
    fn behind(&self, tag: &str, after: Option<RunId>) -> impl Iterator<Item = (RunId, RunId)> {
        let hash = hash(tag);
        let from = after.map_or(Bound::Included((hash, RunId::NIL)), |after| Bound::Excluded((hash, after)));
        let behind = self.runs.range((from, Bound::Unbounded));
        behind.take_while(move |((of, _), _)| *of == hash).map(|((_, first), run)| (*first, *run))
    }
}

/// How far a signal to all runs with a tag has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// The last frame that says so.
    pub frame: u64,
    /// The first one, as far as that was known.
    pub since: u64,
    /// So many runs have taken it.
    pub runs: u32,
    /// It is not given to another one.
    pub all: bool,
}

impl Book {
    /// A signal by tag has come so far. When it has come to all, it is known by its id, as any input.
    pub(super) fn absorb_reached(&mut self, event: EventId, reached: Reached, at: Timestamp) {
        if reached.all && !mutation::is(Mutation::ForgetsTagged) {
            self.inputs.insert(event, Noted { base: reached.frame, at });
        }
        self.reached.insert(event, reached);
    }

    /// How far a signal has come, as long as the frame that says so is needed.
    pub fn reached(&self, event: EventId) -> Option<Reached> {
        self.reached.get(&event).copied()
    }

    /// The next open run that carries a tag, behind a series, with the first run of its own. It is at hand then.
    pub fn next_tagged(&mut self, tag: &str, mut after: Option<RunId>) -> Option<(RunId, RunId)> {
        loop {
            let (first, run_id) = self.tags.behind(tag, after).next()?;
            self.bring(run_id);
            // One that cannot be read from the shelf is passed over: the whole round is, then.
            if self.runs.get(&run_id).is_some_and(|run| run.has_tag(tag)) {
                return Some((first, run_id));
            }
            after = Some(first);
        }
    }

    /// The open runs that took a signal by tag and are at hand: those on the shelf only wait.
    pub fn took_at_hand(&self, event: EventId, tag: &str) -> Vec<RunId> {
        let took = |(first, run_id): &(RunId, RunId)| {
            self.runs.get(run_id).is_some_and(|run| run.has_tag(tag))
                && self.inputs.contains_key(&event.for_run(*first))
        };
        self.tags.behind(tag, None).filter(took).map(|(_, run_id)| run_id).collect()
    }
}

/// Stands in saved books: it never changes.
fn hash(tag: &str) -> u64 {
    xxh3_64(tag.as_bytes())
}
