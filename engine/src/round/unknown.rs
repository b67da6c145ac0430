//! What this release does not know: events of unknown kinds, and whatever comes for a run of which it does not know all.
//!
//! Nothing is guessed of either. What may be an input is taken in, once, and its run stands still until somebody has the
//! shard who knows (`run::unknown`); what only asks is answered by name.

use everpulse_protocol::RunId;
use everpulse_protocol::event::{Event, EventBody, NextAttempt, ReplyTo};
use everpulse_protocol::history::{CommandKind, Parked};
use everpulse_protocol::reply::ReplyBody;

use super::{Applier, failed};
use crate::effect::LocalResult;
use crate::run::{Run, why_unknown};

impl Applier<'_> {
    /// An event of an unknown kind, or one that cannot be read.
    pub(super) fn unknown(&mut self, event: Event, error: &str) -> Option<RunId> {
        if event.only_asks() {
            let message = format!(
                "{error}, so workflow {} cannot be asked that here; ask again when all workers run a release that knows it",
                event.workflow_id
            );
            self.reply(event.reply_to.as_ref(), ReplyBody::Invalid { message });
            return None;
        }
        let run_id = self.book.meant(&event);
        if let Some(run_id) = run_id.filter(|run_id| self.book.runs.contains_key(run_id)) {
            let Some(run) = self.book.runs.get(&run_id) else { return Some(run_id) };
            let (has_it, stands_still) = (run.has_received(event.id), run.parked.is_some());
            if !has_it && !self.book.inputs.contains_key(&event.id) {
                let Some(event) = self.timely(event, "the input") else { return Some(run_id) };
                let parked = unreadable(&event, error);
                self.receive(run_id, event, 0);
                // What it stands still for already may not be tried again by itself, as this would be.
                if !stands_still {
                    self.park(run_id, parked);
                }
            }
            return Some(run_id);
        }
        self.reply(event.reply_to.as_ref(), ReplyBody::Invalid { message: error.to_owned() });
        self.bury(event, format!("an event for no open run that cannot be read: {error}"));
        None
    }

    /// Keeps what comes for a run of which this release does not know all, once, and parks the run.
    pub(super) fn keep(&mut self, run_id: RunId, event: Event) {
        if !self.book.inputs.contains_key(&event.id) {
            self.receive_once(run_id, event, 0);
        }
        self.park_unknown(run_id);
    }

    /// Parks a run of which this release does not know all, unless it is parked already.
    pub fn park_unknown(&mut self, run_id: RunId) {
        let run = self.book.runs.get(&run_id).filter(|run| run.parked.is_none());
        if let Some(reason) = run.and_then(|run| run.why_unknown()) {
            self.park(run_id, reason);
        }
    }

    pub(super) fn is_unknown(&self, run_id: RunId) -> bool {
        self.book.runs.get(&run_id).is_some_and(|run| run.unknown.is_some())
    }

    /// Nobody guesses what is not known.
    pub(super) fn reply_unknown(&mut self, run_id: RunId, reply_to: &ReplyTo) {
        let why = self.book.runs.get(&run_id).and_then(|run| run.why_unknown());
        let message = why.map(|parked| parked.message).unwrap_or_default();
        self.reply(Some(reply_to), ReplyBody::Invalid { message });
    }
}

/// Whether a completion may be of something that this release does not know that it was asked for.
pub(super) fn may_count(run: &Run, body: &EventBody) -> bool {
    match body {
        EventBody::PromiseSettled { step, .. } | EventBody::AttemptReported { step, .. } => {
            run.unknown.is_some() && !run.pending.contains_key(step) && run.may_have_asked(*step)
        }
        _ => false,
    }
}

pub(super) fn unreadable(event: &Event, error: &str) -> Parked {
    why_unknown(&format!("event {} for workflow {}: {error}", event.id, event.workflow_id))
}

/// The end of local work as the event that a worker would send for it, and the word of its id.
pub(super) fn told(step: u32, kind: CommandKind, result: LocalResult) -> (String, EventBody) {
    match result {
        LocalResult::Settled { outcome, .. } if kind == CommandKind::Step => {
            ("settled".to_owned(), EventBody::StepSettled { step, outcome })
        }
        LocalResult::Settled { attempt, outcome } => {
            ("settled".to_owned(), EventBody::ActivitySettled { step, attempt, outcome })
        }
        LocalResult::Left { task, until } => {
            let attempt = task.attempt;
            (format!("attempt {attempt} left"), EventBody::AttemptLeft { step, attempt, until, task, running: false })
        }
        LocalResult::Retry { attempt, failure, at } => {
            let next = NextAttempt::At(at);
            (failed(attempt), EventBody::AttemptFailed { step, attempt, failure, next })
        }
        LocalResult::Parked { attempt, failure } => {
            let next = NextAttempt::Redrive;
            (failed(attempt), EventBody::AttemptFailed { step, attempt, failure, next })
        }
    }
}
