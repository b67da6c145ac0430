//! Which run is meant where the one that is named has ended, and another one goes on for it.
//!
//! A run is known by the first one of those that it continues for as long as it is open, and after its end as long as any
//! other; by those between for as long as they are remembered. All of them have one workflow id, and so one shard.

use everpulse_protocol::event::Event;
use everpulse_protocol::{RunId, WorkflowId};

use super::Book;
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
            // The first run may be forgotten long before the last one ends.
            (Some(first), None) => {
                self.newest_at_hand(workflow_id).filter(|newest| self.first_of(*newest) == Some(first))
            }
            (None, None) => None,
        }
    }

    /// The last run that is known of those that go on for one.
    pub fn last_of(&self, run_id: RunId) -> RunId {
        let mut last = run_id;
        while let Some(next) = self.closed.get(&last).and_then(|closed| closed.next())
            && (self.is_open(next) || self.closed.contains_key(&next))
        {
            last = next;
        }
        last
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
