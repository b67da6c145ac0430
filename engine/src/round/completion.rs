//! Completions from outside: what is taken, and what is answered to the others.
//!
//! The first completion that stands in history counts, whether the run's code has come to wait for it or not, and
//! whether the attempt at an activity has been left yet or not. What is not pending was completed, or is wanted no more,
//! or never was; the run's history tells which.
//!
//! An attempt that failed from outside, or that nobody completed in time, ends here with a record; its task goes back to
//! its queue with the failure, once that record stands, and again by an owner that does not find it there. A worker judges
//! it there. So the attempt ends once, however often its task is sent.

use everpulse_protocol::event::{Event, EventBody, Outcome, ReplyTo, Report};
use everpulse_protocol::history::{CommandKind, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::task::Task;
use everpulse_protocol::{EventId, Failure, FailureKind, RunId, Timestamp};

use super::Applier;
use crate::effect::Outgoing;
use crate::run::Run;

impl Applier<'_> {
    /// An attempt is to be completed from outside, or its worker tells how far it is.
    pub(super) fn leave(&mut self, run_id: RunId, id: EventId, task: Box<Task>, until: Timestamp, running: bool) {
        let Task { step, attempt, .. } = *task;
        let workflow_id = task.workflow_id.clone();
        let body = RecordBody::AttemptLeft { step, attempt, until, task, running };
        self.write(&workflow_id, run_id, id, &body, Vec::new(), None);
        self.give_back(run_id, step);
    }

    /// Somebody tells of an attempt. It was looked whether that is in time.
    pub(super) fn report(&mut self, run_id: RunId, event: Event, suspect: bool) {
        match event.body() {
            // It needs no code of the run.
            Ok(EventBody::AttemptReported { step, attempt, report }) if report.outcome().is_none() => {
                let body = RecordBody::AttemptReported { step, attempt, report };
                self.write(&event.workflow_id, run_id, event.id, &body, Vec::new(), None);
                self.give_back(run_id, step);
            }
            _ => self.take(run_id, event, suspect),
        }
    }

    /// Nobody completed an attempt in time.
    pub(super) fn overdue(&mut self, run_id: RunId, step: u32) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let Some(left) = run.pending.get(&step).and_then(|pending| pending.left.as_ref()) else { return };
        let Some(complaint) = left.complaint() else { return };
        let (workflow_id, attempt) = (run.workflow_id.clone(), left.attempt);
        let id = EventId::derived(run_id, step, &format!("attempt {attempt} overdue"));
        let failure = Failure::new(FailureKind::TimedOut, complaint);
        let body = RecordBody::AttemptOverdue { step, attempt, failure };
        self.write(&workflow_id, run_id, id, &body, Vec::new(), None);
        self.give_back(run_id, step);
    }

    /// An activity took too long, with all of its attempts.
    pub(super) fn expire(&mut self, run_id: RunId, step: u32) {
        let Some(pending) = self.book.runs.get(&run_id).and_then(|run| run.pending.get(&step)) else { return };
        let attempt = pending.attempt;
        let message = "the activity was not done within its schedule-to-close time-out".to_owned();
        let failure = Failure { attempts: Some(attempt), ..Failure::new(FailureKind::TimedOut, message) };
        self.cancel(run_id, step);
        let body = RecordBody::ActivitySettled { step, attempt, outcome: Outcome::Failed(failure) };
        // Not under the id of what its worker may say later.
        if let Err(parked) = self.apply(run_id, EventId::derived(run_id, step, "expired"), &body) {
            self.park(run_id, parked);
        }
    }

    /// The task of an attempt that ended without an end of its step.
    fn give_back(&mut self, run_id: RunId, step: u32) {
        let pending = self.book.runs.get(&run_id).and_then(|run| run.pending.get(&step));
        let ended_here = |frame: Option<u64>| frame == Some(self.frame);
        let ended = pending.filter(|pending| pending.left.as_ref().is_some_and(|left| ended_here(left.frame)));
        if let Some(task) = ended.and_then(|pending| pending.returned()) {
            self.round.sends.push(Outgoing::Task(task));
        }
    }

    /// Answers a completion that does not count. True if it was one.
    pub(super) fn refuse_completion(&mut self, run_id: RunId, body: &EventBody, reply_to: Option<&ReplyTo>) -> bool {
        let Some(run) = self.book.runs.get(&run_id) else { return false };
        let refusal = match body {
            EventBody::PromiseSettled { step, .. } => promise_refused(run, *step),
            EventBody::AttemptReported { step, attempt, .. } => attempt_refused(run, *step, *attempt),
            _ => None,
        };
        let Some(refusal) = refusal else { return false };
        self.round.decides = true;
        self.reply(reply_to, refusal);
        true
    }
}

/// Why a promise of an open run cannot be completed now; none if it can.
fn promise_refused(run: &Run, step: u32) -> Option<ReplyBody> {
    match run.pending.get(&step) {
        Some(pending) if pending.kind == CommandKind::Promise => {
            return pending.answered.then_some(ReplyBody::AlreadyCompleted);
        }
        Some(_) => return Some(ReplyBody::NotFound),
        None => {}
    }
    let settled =
        |body: &RecordBody| matches!(body, RecordBody::PromiseSettled { step: settled, .. } if *settled == step);
    Some(found(run, step, CommandKind::Promise, settled))
}

/// Why an attempt of an open run cannot be told of now; none if it can, also before it is left.
fn attempt_refused(run: &Run, step: u32, attempt: u32) -> Option<ReplyBody> {
    match run.pending.get(&step) {
        Some(pending) if pending.kind != CommandKind::Activity => return Some(ReplyBody::NotFound),
        Some(pending) if pending.answered => return Some(ReplyBody::AlreadyCompleted),
        Some(pending) => {
            let has_ended = |left: &crate::run::Left| left.attempt == attempt && left.failure.is_some();
            if run.unknown.is_some() && is_kept_as_ended(run, step, attempt) {
                return Some(ReplyBody::AlreadyCompleted);
            }
            if attempt >= pending.attempt && !pending.left.as_ref().is_some_and(|left| has_ended(left)) {
                return None;
            }
        }
        None => {}
    }
    let reported = |body: &RecordBody| match body {
        RecordBody::AttemptReported { step: of, attempt: told, report } => {
            *of == step && *told == attempt && !matches!(report, Report::Beat { .. })
        }
        _ => false,
    };
    Some(found(run, step, CommandKind::Activity, reported))
}

/// Whether it was told of an attempt that it is over, and this is kept for whoever knows the run.
fn is_kept_as_ended(run: &Run, step: u32, attempt: u32) -> bool {
    run.received.iter().any(|received| match received.event.body() {
        Ok(EventBody::AttemptReported { step: of, attempt: told, report }) => {
            of == step && told == attempt && !matches!(report, Report::Beat { .. })
        }
        _ => false,
    })
}

/// What became of something that waits no more.
fn found(run: &Run, step: u32, kind: CommandKind, is_completion: impl Fn(&RecordBody) -> bool) -> ReplyBody {
    let mut was_asked_for = false;
    for record in run.records.iter() {
        if record.body().is_ok_and(|body| is_completion(&body)) {
            return ReplyBody::AlreadyCompleted;
        }
        was_asked_for |= record.commands.iter().any(|mark| mark.no == step && mark.kind == kind);
    }
    if !was_asked_for {
        return ReplyBody::NotFound;
    }
    let message = format!(
        "nobody waits any more for number {step} of workflow {}, run {}: it took too long, or the run went on without it",
        run.workflow_id, run.run_id
    );
    ReplyBody::Expired { message }
}
