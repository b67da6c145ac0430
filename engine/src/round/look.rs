//! What a run's own handlers are asked, between events. It leaves no trace in history, whatever comes of it.
//!
//! A handler that did more than look has spoilt the live future: it is thrown away, and the run is replayed when
//! something happens to it. So a query can never change what a run does, and never parks it.

use everpulse_protocol::event::Outcome;
use everpulse_protocol::{Failure, FailureKind, Payload, RunId};
use everpulse_sdk::replay::{Instance, Unanswered};

use super::Applier;

impl Applier<'_> {
    /// What an open run's handler answers; none if the run has ended.
    pub(super) fn query(&mut self, run_id: RunId, name: &str, args: &Payload) -> Option<Outcome> {
        let run = self.book.runs.get(&run_id)?;
        if run.started.is_none() {
            let message = format!("workflow {} has not begun yet, so nothing can be asked of it", run.workflow_id);
            return Some(Outcome::Failed(Failure::new(FailureKind::NotFound, message)));
        }
        let workflow_id = run.workflow_id.clone();
        let mut outcome = match self.look(run_id, |instance| instance.query(name, args)) {
            Ok(value) => self.answered(Outcome::Done(value)),
            Err(failure) => Outcome::Failed(*failure),
        };
        // What the run said is sealed already; why it could not be asked is not.
        if let Err(error) = self.registry.coding().seal(&workflow_id, &mut outcome) {
            outcome = Outcome::Failed(Failure::new(FailureKind::Undecodable, error.to_string()));
        }
        self.round.bytes += match &outcome {
            Outcome::Done(value) => value.len(),
            Outcome::Failed(failure) => failure.message.len(),
        };
        Some(outcome)
    }

    /// Has a run looked at by its own code, as far as that can be replayed.
    fn look<T>(
        &mut self,
        run_id: RunId,
        look: impl FnOnce(&mut Instance) -> Result<T, Unanswered>,
    ) -> Result<T, Box<Failure>> {
        // A run that cannot be replayed is parked by the next thing that happens to it, not by a question.
        self.enliven(run_id).map_err(|parked| Box::new(Failure::new(FailureKind::NotFound, parked.message)))?;
        let run = self.book.runs.get_mut(&run_id).filter(|run| run.live.is_some());
        let run = run.ok_or_else(|| Box::new(Failure::new(FailureKind::NotFound, "the run is not there any more")))?;
        let live = run.live.as_mut().expect("it was looked for just now");
        look(&mut live.instance).map_err(|Unanswered { failure, spoilt, .. }| {
            if spoilt {
                run.live = None;
            }
            failure
        })
    }
}
