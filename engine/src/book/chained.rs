//! Which run is meant where the one that is named has ended, and another one goes on for it.
//!
//! A run is known by the first one of those that it continues for as long as it is open, and after its end as long as any
//! other; by those between for as long as they are remembered. All of them have one workflow id, and so one shard.
//!
//! What its runs have taken under an id is taken for the whole series. So the ids of updates that a run of a series had taken
//! are noted when it ends, as those of inputs are, and with them which run it was, for as long as its history is kept.

use everpulse_protocol::event::Event;
use everpulse_protocol::{EventId, RunId, Timestamp, WorkflowId};

use super::memory::Noted;
use super::{Book, Taker};
use crate::mutation::{self, Mutation};

impl Book {
    /// The run that an event means. It is at hand if it is open.
    pub fn meant(&mut self, event: &Event) -> Option<RunId> {
        if event.exact || mutation::is(Mutation::NamesTheEnded) {
            return self.addressed(&event.workflow_id, event.run_id);
        }
        self.going_on(&event.workflow_id, event.run_id)
    }

    /// The run that is named, or the one that goes on for it; if none is, the newest. It is at hand if it is open.
    pub fn going_on(&mut self, workflow_id: &WorkflowId, run_id: Option<RunId>) -> Option<RunId> {
        // All that may be found is at hand then: open runs are the newest of their ids.
        self.newest_of(workflow_id);
        if let Some(run_id) = run_id {
            self.bring(run_id);
        }
        self.going_on_at_hand(workflow_id, run_id)
    }

    /// The same of what is at hand.
    pub fn going_on_at_hand(&self, workflow_id: &WorkflowId, run_id: Option<RunId>) -> Option<RunId> {
        let known = self.addressed_at_hand(workflow_id, run_id);
        match (run_id, known) {
            (_, Some(known)) => Some(self.last_of(known)),
            // The first run may be forgotten long before the last one ends, and that one have another series behind it.
            (Some(first), None) => {
                let last = self.series.get(&first).copied();
                last.filter(|last| self.addressed_at_hand(workflow_id, Some(*last)).is_some())
            }
            (None, None) => None,
        }
    }

    /// The last run that is known of those that go on for one.
    pub fn last_of(&self, run_id: RunId) -> RunId {
        let first = self.first_of(run_id).unwrap_or(run_id);
        self.series.get(&first).copied().filter(|last| self.is_known(*last)).unwrap_or(run_id)
    }

    fn is_known(&self, run_id: RunId) -> bool {
        self.is_open(run_id) || self.closed.contains_key(&run_id)
    }

    /// A run is one of those that go on for a first one; they need not become known in their order.
    ///
    /// It is the last one that is known, unless that stands there already: of a whole series only the last one has none that goes
    /// on for it, so once it is there nothing takes its place.
    pub(super) fn note_in_series(&mut self, first: RunId, run_id: RunId) {
        let is_last = |last: &RunId| match self.closed.get(last) {
            Some(closed) => closed.next().is_none(),
            None => self.is_open(*last),
        };
        if !self.series.get(&first).is_some_and(is_last) {
            self.series.insert(first, run_id);
        }
    }

    /// A run of a series ends: what it has taken under their ids stays taken.
    ///
    /// `at`: when it ends; for so long after that its updates are known, as inputs are.
    pub(super) fn note_updates(&mut self, run_id: RunId, at: Timestamp, frame: u64) {
        let Some(run) = self.runs.get(&run_id).filter(|run| run.continues.is_some() || run.continued_as.is_some())
        else {
            return;
        };
        let first = run.continues.as_ref().map_or(run_id, |continues| continues.first);
        let noted = Noted { base: run.base, at };
        for id in run.updates_taken() {
            let key = update_of(first, id);
            self.inputs.insert(key, noted);
            self.updates.insert(key, Taker { run_id, frame });
        }
    }

    /// Whether a run that has ended, of those that a series is, has taken an update: it, as long as its history is kept.
    pub fn taker_of(&self, run_id: RunId, id: &str) -> Option<Option<RunId>> {
        let key = update_of(self.first_of(run_id).unwrap_or(run_id), id);
        self.inputs.contains_key(&key).then(|| self.updates.get(&key).map(|taker| taker.run_id))
    }

    /// The first run of those that one goes on for.
    pub fn first_of(&self, run_id: RunId) -> Option<RunId> {
        match (self.runs.get(&run_id), self.closed.get(&run_id)) {
            (Some(run), _) => run.continues.as_ref().map(|continues| continues.first),
            (None, Some(closed)) => closed.chain.as_ref().and_then(|chain| chain.first),
            (None, None) => None,
        }
    }
}

/// By what an update of a series is known.
fn update_of(first: RunId, id: &str) -> EventId {
    EventId::derived(first, 0, &format!("update {id}"))
}
