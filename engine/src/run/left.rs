//! Attempts that their owner keeps, as the records say: those that were left to be completed from outside, and those whose
//! worker told how far they are.
//!
//! ```text
//! left ──────────┬─► reported done, or failed for good ──► the step is settled
//!                └─► reported failed, or overdue ────────► returned: the task goes back to its queue, to be judged
//! reported first: kept until it is left
//! ```
//! A worker judges what came back as any failed attempt: it is tried again, dead-lettered, or fails the step.

use everpulse_protocol::event::Report;
use everpulse_protocol::history::RecordBody;
use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, Payload, Timestamp};

use super::Pending;
use crate::mutation::{self, Mutation};

/// A worker that runs an attempt keeps its time itself, and tells of it now and then. Its owner waits so much longer, and as
/// long as the heartbeat time-out at least, before it takes the worker for gone.
const GONE_MS_MIN: u64 = 5_000;

/// An attempt that is completed from outside, or told of by the worker that runs it.
#[derive(Debug, Clone)]
pub(crate) struct Left {
    pub attempt: u32,
    /// Its worker goes on with it.
    pub running: bool,
    /// None: somebody told of it before it was left.
    task: Option<Box<Task>>,
    until: Timestamp,
    /// When it was left, or last told of.
    heard: Timestamp,
    details: Option<Payload>,
    /// How it ended, if it has to be judged.
    pub failure: Option<Failure>,
    /// The frame that ended it: what follows is to be sent when that stands.
    pub frame: Option<u64>,
}

impl Pending {
    /// Takes a record that tells of an attempt which is completed from outside.
    pub(super) fn left_by(&mut self, body: &RecordBody, at: Timestamp, frame: u64) {
        let (RecordBody::AttemptLeft { attempt, .. }
        | RecordBody::AttemptReported { attempt, .. }
        | RecordBody::AttemptOverdue { attempt, .. }) = body
        else {
            return;
        };
        // Of another attempt nothing is known any more.
        let known = self.left.take().filter(|left| left.attempt == *attempt);
        let blank = Left {
            attempt: *attempt,
            running: false,
            task: None,
            until: Timestamp(u64::MAX),
            heard: at,
            details: None,
            failure: None,
            frame: None,
        };
        let mut left = known.unwrap_or_else(|| Box::new(blank));
        if !(mutation::is(Mutation::DeafToBeats) && matches!(body, RecordBody::AttemptReported { .. })) {
            left.heard = at;
        }
        match body {
            RecordBody::AttemptLeft { until, task, running, .. } => {
                left.running = *running;
                self.attempt = self.attempt.max(*attempt);
                // Whatever comes next comes from outside, or through its queue.
                self.eager = false;
                left.until = *until;
                left.details = left.details.take().or_else(|| task.heartbeat.clone());
                left.task = Some(task.clone());
            }
            RecordBody::AttemptReported { report: Report::Beat { details }, .. }
                if !mutation::is(Mutation::ForgetsBeats) =>
            {
                left.details = details.clone().or(left.details.take());
            }
            RecordBody::AttemptReported { report: Report::Failed { failure, .. }, .. }
            | RecordBody::AttemptOverdue { failure, .. } => {
                left.failure = Some(failure.clone());
                // If it was received before, that is over: the step is open.
                self.answered = false;
            }
            _ => {}
        }
        if left.task.is_some() && left.failure.is_some() {
            left.frame.get_or_insert(frame);
        }
        self.left = Some(left);
    }

    /// The task that goes back to its queue, to be judged there.
    pub fn returned(&self) -> Option<Box<Task>> {
        let left = self.left.as_ref()?;
        let mut task = left.task.clone()?;
        task.returned = Some(left.failure.clone()?);
        task.heartbeat.clone_from(&left.details);
        Some(task)
    }

    /// Whether an attempt was left, so that its task was surely sent.
    pub fn was_left(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.task.is_some())
    }
}

impl Left {
    /// When it is over, if nobody tells of it: with the time until then, and with what was missing.
    pub fn overdue_at(&self) -> Option<Timestamp> {
        let is_watched = self.failure.is_none() && !(self.running && mutation::is(Mutation::KeptUnwatched));
        let task = self.task.as_ref().filter(|_| is_watched)?;
        Some(self.until.min(self.silent_at(task)))
    }

    fn silent_at(&self, task: &Task) -> Timestamp {
        let Some(silence_ms) = task.options.heartbeat_ms else { return Timestamp(u64::MAX) };
        let gone_ms = if self.running { silence_ms.max(GONE_MS_MIN) } else { 0 };
        Timestamp(self.heard.0.saturating_add(silence_ms).saturating_add(gone_ms))
    }

    /// What is wrong with it, at its time.
    pub fn complaint(&self) -> Option<String> {
        let task = self.task.as_ref()?;
        let Task { attempt, activity, .. } = &**task;
        let silence_ms = task.options.heartbeat_ms.unwrap_or_default();
        if self.running {
            return Some(format!(
                "nothing was heard of attempt {attempt} of activity `{activity}` for longer than its heartbeat time-out of \
                 {silence_ms} ms; its worker may be gone"
            ));
        }
        let what = if self.silent_at(task) < self.until {
            format!("gave no heartbeat for {silence_ms} ms")
        } else {
            format!("was not completed within {} ms", task.options.start_to_close_ms)
        };
        Some(format!("attempt {attempt} of activity `{activity}`, which was left to be completed later, {what}"))
    }
}
