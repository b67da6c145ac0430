//! Attempts that owners keep: a task that goes back to its queue is of one of which it stands that it is over, and bears what
//! was told of it last.

use std::collections::BTreeMap;

use everpulse_protocol::event::Report;
use everpulse_protocol::history::RecordBody;
use everpulse_protocol::task::Task;
use everpulse_protocol::{Payload, RunId};

/// What stands of them, by run, step and attempt.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<(RunId, u32, u32), Attempt>);

#[derive(Debug, Default)]
struct Attempt {
    /// What was told last.
    details: Option<Payload>,
    is_over: bool,
}

impl Kept {
    /// Takes a record that stands.
    pub fn note(&mut self, run: RunId, body: &RecordBody) {
        let (RecordBody::AttemptLeft { step, attempt, .. }
        | RecordBody::AttemptReported { step, attempt, .. }
        | RecordBody::AttemptOverdue { step, attempt, .. }) = body
        else {
            return;
        };
        let kept = self.0.entry((run, *step, *attempt)).or_default();
        match body {
            RecordBody::AttemptLeft { task, .. } => {
                kept.details = kept.details.take().or_else(|| task.heartbeat.clone());
            }
            RecordBody::AttemptReported { report: Report::Beat { details }, .. } => {
                kept.details = details.clone().or(kept.details.take());
            }
            _ => kept.is_over = true,
        }
    }

    /// What is wrong with a task that goes back to its queue, to be judged there.
    pub fn fault(&self, task: &Task) -> Option<String> {
        let Task { workflow_id, run_id, step, attempt, .. } = task;
        let what = format!("attempt {attempt} of step {step} of {workflow_id} goes back to its queue");
        let Some(kept) = self.0.get(&(*run_id, *step, *attempt)).filter(|kept| kept.is_over) else {
            return Some(format!("{what}, and no frame that stands says that it is over"));
        };
        (task.heartbeat != kept.details).then(|| format!("{what} without what was told of it last"))
    }
}
