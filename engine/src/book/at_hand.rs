//! What is kept in memory of open runs: all of those that something is to be done for, some of those that only wait, and
//! the futures of a few. The others lie on the shelf, and are brought when something is said of them.
//!
//! Where a run is changes nothing of what is known: laying it down and bringing it back gives the same run.

use std::collections::VecDeque;

use everpulse_protocol::{RunId, WorkflowId};

use super::Book;
use super::shelved::Shelved;
use crate::run::Run;
use crate::shelf::Shelf;

/// So many runs are looked at, at a time, whether they can be laid down. A frame has not as many.
const LOOKS: usize = 512;

impl Book {
    pub fn on(shelf: Box<dyn Shelf>) -> Self {
        Self { shelved: Shelved::on(shelf), ..Self::default() }
    }

    /// Forgets everything, but for the shelf itself.
    pub fn reset(&mut self) {
        let shelf = std::mem::take(&mut self.shelved).into_shelf();
        *self = Self::on(shelf);
    }

    /// How many runs are open.
    pub fn open_runs(&self) -> usize {
        self.runs.len() + self.shelved.len()
    }

    /// Whether a run is open, wherever it is.
    pub fn is_open(&self, run_id: RunId) -> bool {
        self.runs.contains_key(&run_id) || self.shelved.contains(run_id)
    }

    /// Brings an open run to hand.
    pub fn bring(&mut self, run_id: RunId) {
        if !self.runs.contains_key(&run_id)
            && let Some(run) = self.shelved.take(run_id)
        {
            self.lay_at_hand(run);
        }
    }

    /// The newest run of a workflow id, which is at hand if it is open.
    pub fn newest_of(&mut self, workflow_id: &WorkflowId) -> Option<RunId> {
        // An open run is the newest of its id, and those on the shelf are open.
        if let Some(run) = self.shelved.take_of(workflow_id) {
            self.lay_at_hand(run);
        }
        self.newest.get(workflow_id).copied()
    }

    fn lay_at_hand(&mut self, run: Box<Run>) {
        self.newest.insert(run.workflow_id.clone(), run.run_id);
        self.recent.push_back((run.last_frame, run.run_id));
        self.runs.insert(run.run_id, run);
    }

    /// The run that an event is for: the one that it names, or the newest of its workflow id. It is at hand if it is
    /// open.
    pub fn addressed(&mut self, workflow_id: &WorkflowId, run_id: Option<RunId>) -> Option<RunId> {
        match run_id {
            Some(run_id) => self.bring(run_id),
            None => {
                self.newest_of(workflow_id);
            }
        }
        self.addressed_at_hand(workflow_id, run_id)
    }

    /// The same of what is at hand.
    pub fn addressed_at_hand(&self, workflow_id: &WorkflowId, run_id: Option<RunId>) -> Option<RunId> {
        match run_id {
            Some(run_id) => {
                let known = match (self.runs.get(&run_id), self.closed.get(&run_id)) {
                    (Some(run), _) => &run.workflow_id == workflow_id,
                    (None, Some(closed)) => &closed.workflow_id == workflow_id,
                    (None, None) => false,
                };
                known.then_some(run_id)
            }
            None => self.newest.get(workflow_id).copied(),
        }
    }

    /// Lays runs down that only wait, beyond the budget, those first of which nothing was heard for longest.
    pub fn lay_down(&mut self, at_hand_max: usize) {
        if self.runs.len() <= at_hand_max {
            // Some more entries are let be, so that the list need not be cleaned for each frame.
            if self.recent.len() > 2 * at_hand_max + LOOKS {
                let runs = &self.runs;
                self.recent.retain(|(frame, run)| runs.get(run).is_some_and(|run| run.last_frame == *frame));
            }
            return;
        }
        for _ in 0..LOOKS.min(self.recent.len()) {
            if self.runs.len() <= at_hand_max {
                break;
            }
            let Some((frame, run_id)) = self.recent.pop_front() else { break };
            // A later frame has another entry for it.
            let Some(run) = self.runs.get(&run_id).filter(|run| run.last_frame == frame) else { continue };
            if !run.only_waits(self.sent_below) {
                self.recent.push_back((frame, run_id));
                continue;
            }
            let Some(run) = self.runs.remove(&run_id) else { continue };
            let workflow_id = run.workflow_id.clone();
            if let Err(run) = self.shelved.lay(run) {
                self.runs.insert(run_id, run);
                self.recent.push_back((frame, run_id));
                break;
            }
            self.newest.remove(&workflow_id);
        }
        self.shelved.tidy();
    }

    /// Notes that the future of a run was needed for a frame.
    pub fn touch(&mut self, run_id: RunId, frame: u64) {
        if let Some(live) = self.runs.get_mut(&run_id).and_then(|run| run.live.as_mut())
            && live.used != Some(frame)
        {
            live.used = Some(frame);
            self.touched.push_back((frame, run_id));
        }
    }

    /// Lets go of futures beyond the budget, those first that were needed longest ago.
    pub fn evict(&mut self, live_max: usize) {
        // Some more are let live, so that the list need not be cleaned for each frame.
        if self.touched.len() <= live_max + live_max / 4 {
            return;
        }
        let runs = &mut self.runs;
        let is_current = |(frame, run): &(u64, RunId)| {
            runs.get(run).and_then(|run| run.live.as_ref()).is_some_and(|live| live.used == Some(*frame))
        };
        self.touched.retain(is_current);
        let surplus = self.touched.len().saturating_sub(live_max);
        for (_, run) in self.touched.drain(..surplus) {
            if let Some(run) = runs.get_mut(&run) {
                run.live = None;
            }
        }
        self.touched.shrink_to(2 * live_max);
    }
}

/// Runs by the frame that told of them last, with entries that a later one of the same run has overtaken.
pub(super) type Recent = VecDeque<(u64, RunId)>;
