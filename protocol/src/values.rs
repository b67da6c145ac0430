//! Where the values of users stand in what is stored and sent: the one list of them.
//!
//! Every type is taken apart here by all of its fields, so that a new field or kind is not forgotten: it does not compile
//! until somebody says whether it holds a value.

use crate::codec::Body;
use crate::coding::CodingError;
use crate::dead_letter::{DeadLetter, Letter};
use crate::event::{Event, EventBody, Outcome, Report, Start};
use crate::family::Demand;
use crate::history::{Close, CommandMark, Parked, Record, RecordBody};
use crate::note::Note;
use crate::reply::{ReplyBody, UpdateState};
use crate::task::Task;
use crate::view::{PendingStep, RunView};
use crate::{Failure, Payload, WorkflowId};

/// Something of a user's.
pub enum Value<'a> {
    Payload(&'a mut Payload),
    /// Its message, the messages of its sources, and its value.
    Failure(&'a mut Failure),
    /// Its message, where that may be an author's.
    Parked(&'a mut Parked),
    /// How its last attempt failed.
    Pending(&'a mut PendingStep),
    /// What belongs to another workflow id than all around it, such as what one run sends to another.
    Of(WorkflowId, &'a mut dyn Values),
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Payload(payload) => payload.fmt(f),
            Self::Failure(failure) => write!(f, "{:?} failure", failure.kind),
            Self::Parked(parked) => write!(f, "{:?}", parked.kind),
            Self::Pending(pending) => write!(f, "number {}", pending.no),
            Self::Of(workflow_id, _) => write!(f, "values of {workflow_id}"),
        }
    }
}

/// What is done to each value.
pub type Visit<'a> = dyn FnMut(Value<'_>) -> Result<(), CodingError> + 'a;

/// What holds values of users.
pub trait Values {
    /// Visits all of them, in the order in which they stand.
    ///
    /// # Errors
    /// The first one that a visit ends with.
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError>;
}

impl Values for Value<'_> {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        visit(match self {
            Self::Payload(payload) => Value::Payload(payload),
            Self::Failure(failure) => Value::Failure(failure),
            Self::Parked(parked) => Value::Parked(parked),
            Self::Pending(pending) => Value::Pending(pending),
            Self::Of(workflow_id, values) => Value::Of(workflow_id.clone(), &mut **values),
        })
    }
}

impl Values for Payload {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        visit(Value::Payload(self))
    }
}

impl Values for Failure {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        visit(Value::Failure(self))
    }
}

impl Values for Parked {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        visit(Value::Parked(self))
    }
}

impl Values for PendingStep {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        visit(Value::Pending(self))?;
        self.heartbeat.each(visit)
    }
}

impl<T: Values> Values for Option<T> {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        self.iter_mut().try_for_each(|value| value.each(visit))
    }
}

impl<T: Values> Values for Vec<T> {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        self.iter_mut().try_for_each(|value| value.each(visit))
    }
}

impl<T: Values + ?Sized> Values for Box<T> {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        (**self).each(visit)
    }
}

impl Values for Outcome {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Done(value) => value.each(visit),
            Self::Failed(failure) => failure.each(visit),
        }
    }
}

impl Values for Report {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Done(value) => value.each(visit),
            Self::Failed { failure, retryable: _ } => failure.each(visit),
            Self::Beat { details } => details.each(visit),
        }
    }
}

impl Values for Close {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self { status: _, outcome } = self;
        outcome.each(visit)
    }
}

impl Values for Start {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self {
            workflow: _,
            version: _,
            args,
            policy: _,
            tags: _,
            start_at: _,
            timeout_ms: _,
            headers,
            priority: _,
        } = self;
        args.each(visit)?;
        headers.each(visit)
    }
}

impl Values for Task {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self {
            id: _,
            workflow_id: _,
            run_id: _,
            shard: _,
            step: _,
            queue: _,
            activity: _,
            args,
            attempt: _,
            scheduled_at: _,
            options: _,
            heartbeat,
            failures,
            attempts_before: _,
            returned,
            headers,
        } = self;
        args.each(visit)?;
        heartbeat.each(visit)?;
        failures.each(visit)?;
        returned.each(visit)?;
        headers.each(visit)
    }
}

impl Values for EventBody {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Start(start)
            | Self::Spawn { start, parent: _ }
            | Self::ContinueAsNew { start, continues: _, parent: _ } => start.each(visit),
            Self::SignalWithStart { start, name: _, value } => {
                start.each(visit)?;
                value.each(visit)
            }
            Self::Signal { name: _, value, headers } => {
                value.each(visit)?;
                headers.each(visit)
            }
            Self::SignalTagged { tag, name: _, value, headers } => of_tag(tag, value, headers, visit),
            Self::Demanded { caller: _, demand } => demand.each(visit),
            // Sealed for the child, whose id its parent knows by the command.
            Self::ChildClosed { step: _, close: _, never_began: _ } => Ok(()),
            // Whether it was taken is not the author's.
            Self::Delivered { step: _, outcome: _ } | Self::ChildBegan { step: _ } => Ok(()),
            Self::ActivitySettled { step: _, attempt: _, outcome }
            | Self::StepSettled { step: _, outcome }
            | Self::PromiseSettled { step: _, outcome } => outcome.each(visit),
            Self::AttemptFailed { step: _, attempt: _, failure, next: _ } => failure.each(visit),
            Self::AttemptLeft { step: _, attempt: _, until: _, task, running: _ } => task.each(visit),
            Self::AttemptReported { step: _, attempt: _, report } => report.each(visit),
            Self::Update { id: _, name: _, args, patient: _, headers }
            | Self::UpdateAccepted { id: _, name: _, args, headers } => {
                args.each(visit)?;
                headers.each(visit)
            }
            Self::Query { name: _, args } => args.each(visit),
            Self::Cancel { reason: _ }
            | Self::Terminate { reason: _ }
            | Self::Resume
            | Self::Describe
            | Self::AskResult
            | Self::AskPublished { name: _ }
            | Self::AskUpdate { id: _, name: _ }
            | Self::Wake { shard: _, number: _ } => Ok(()),
        }
    }
}

impl Values for Demand {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Signal { name: _, value } => value.each(visit),
            Self::Cancel { reason: _ } | Self::Terminate { reason: _ } => Ok(()),
        }
    }
}

impl Values for Event {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self { id: _, workflow_id: _, run_id: _, exact: _, sent_at: _, reply_to: _, again: _, body } = self;
        in_envelope::<EventBody>(body, "event", visit)
    }
}

impl Values for RecordBody {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Started { start, version: _, reply_to: _, build: _ }
            | Self::Spawned { start, version: _, parent: _, build: _ }
            | Self::Continued { start, version: _, continues: _, parent: _, build: _ } => start.each(visit),
            // As in the events of these names.
            Self::ChildClosed { step: _, close: _, never_began: _ }
            | Self::Delivered { step: _, outcome: _ }
            | Self::ChildBegan { step: _ }
            | Self::NeverBegan { workflow: _, parent: _ } => Ok(()),
            Self::Signalled { name: _, value, headers } => {
                value.each(visit)?;
                headers.each(visit)
            }
            Self::SignalledByTag { tag, name: _, value, headers } => of_tag(tag, value, headers, visit),
            Self::UpdateAccepted { id: _, name: _, args, headers } => {
                args.each(visit)?;
                headers.each(visit)
            }
            Self::ActivitySettled { step: _, attempt: _, outcome }
            | Self::StepSettled { step: _, outcome }
            | Self::PromiseSettled { step: _, outcome } => outcome.each(visit),
            Self::AttemptFailed { step: _, attempt: _, failure, next: _ }
            | Self::AttemptOverdue { step: _, attempt: _, failure } => failure.each(visit),
            Self::AttemptLeft { step: _, attempt: _, until: _, task, running: _ } => task.each(visit),
            Self::AttemptReported { step: _, attempt: _, report } => report.each(visit),
            Self::Received { event, attempt: _ } => event.each(visit),
            Self::Parked { reason } => reason.each(visit),
            Self::Carried { piece: _, pieces: _, records, commands: _ } => records.each(visit),
            Self::TimerFired { step: _ }
            | Self::CancelRequested { reason: _ }
            | Self::Terminated { reason: _ }
            | Self::TimedOut
            | Self::HistoryExceeded { size: _, limit: _ }
            | Self::Applied { event: _ }
            | Self::Resumed
            | Self::TagReached { event: _, tag: _, since: _, runs: _, all: _ }
            | Self::Remembered { closed: _, inputs: _, window: _ } => Ok(()),
        }
    }
}

impl Values for CommandMark {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self { no: _, kind: _, name: _, queue: _, due: _, eager: _, target: _, answer } = self;
        answer.each(visit)
    }
}

impl Values for UpdateState {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::NotYet(failure) | Self::Refused(failure) => failure.each(visit),
            Self::Answered(outcome) => outcome.each(visit),
            Self::Accepted | Self::Unanswered | Self::Unknown | Self::TakenBefore => Ok(()),
        }
    }
}

impl Values for Record {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self { workflow_id: _, run_id: _, seq: _, event: _, at: _, body, commands, notes, close } = self;
        in_envelope::<RecordBody>(body, "record", visit)?;
        commands.each(visit)?;
        notes.each(visit)?;
        close.each(visit)
    }
}

impl Values for Note {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self { kind: _, no: _, scope: _, name: _, before: _, value, failure } = self;
        value.each(visit)?;
        failure.each(visit)
    }
}

impl Values for RunView {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self {
            workflow_id: _,
            run_id: _,
            workflow: _,
            version: _,
            build: _,
            status: _,
            tags: _,
            started_at: _,
            closed_at: _,
            close,
            parked,
            cancel_requested: _,
            records: _,
            pending,
            updates: _,
            parent: _,
            continues: _,
            continued_as: _,
            history_bytes: _,
        } = self;
        close.each(visit)?;
        parked.each(visit)?;
        pending.each(visit)
    }
}

impl Values for ReplyBody {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Closed { run_id: _, close } => close.each(visit),
            Self::Description(view) => view.each(visit),
            Self::Published { value } => value.each(visit),
            Self::Answered { outcome } => outcome.each(visit),
            Self::Update { run_id: _, state } => state.each(visit),
            Self::Started { run_id: _, attached: _ }
            | Self::Taken { run_id: _, open: _ }
            | Self::Open { run_id: _ }
            | Self::Accepted
            | Self::Reached { runs: _ }
            | Self::AlreadyClosed { run_id: _ }
            | Self::AlreadyCompleted
            | Self::NotFound
            | Self::Expired { message: _ }
            | Self::Invalid { message: _ } => Ok(()),
        }
    }
}

impl Values for DeadLetter {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        // The reason is made of a failure's words as they are: sealed, if they are.
        let Self { at: _, reason: _, letter } = self;
        match letter {
            Letter::Task(task) => task.each(visit),
            Letter::Event(event) => event.each(visit),
            Letter::Unreadable { topic: _, bytes: _ } => Ok(()),
        }
    }
}

/// What is sent to all runs that carry a tag is of no workflow id: it is sealed for the tag, which is beside it wherever it
/// stands.
///
/// # Errors
/// The first one that a visit ends with.
pub fn of_tag(
    tag: &str,
    value: &mut Payload,
    headers: &mut Option<Payload>,
    visit: &mut Visit<'_>,
) -> Result<(), CodingError> {
    visit(Value::Of(WorkflowId::of_tag(tag), value))?;
    visit(Value::Of(WorkflowId::of_tag(tag), headers))
}

/// Visits all bytes of values, also those that the words of failures were sealed into.
///
/// # Errors
/// The first one that a visit ends with.
pub fn each_payload<T: Values + ?Sized>(
    values: &mut T,
    visit: &mut dyn FnMut(&mut Payload) -> Result<(), CodingError>,
) -> Result<(), CodingError> {
    values.each(&mut |value| match value {
        Value::Payload(payload) => visit(payload),
        Value::Failure(Failure { value, .. }) => value.as_mut().map_or(Ok(()), &mut *visit),
        Value::Parked(Parked { sealed, .. }) => sealed.as_mut().map_or(Ok(()), &mut *visit),
        Value::Pending(PendingStep { sealed_error, .. }) => sealed_error.as_mut().map_or(Ok(()), &mut *visit),
        Value::Of(_, values) => each_payload(values, visit),
    })
}

/// Visits what an envelope holds. One whose kind is unknown here stays closed, as does one without values.
fn in_envelope<T>(body: &mut Body, expected: &'static str, visit: &mut Visit<'_>) -> Result<(), CodingError>
where
    T: Values + Clone + PartialEq + serde::Serialize + serde::de::DeserializeOwned,
{
    let Ok(mut opened) = body.open::<T>(expected) else { return Ok(()) };
    let before = opened.clone();
    opened.each(visit)?;
    // What a later release says in more fields stays, unless a value did not stay as it was.
    if opened != before {
        *body = Body::of(&opened);
    }
    Ok(())
}
