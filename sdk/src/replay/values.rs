//! Where the values of users stand in what goes into a run and comes out of it.
//!
//! An [`Instance`](super::Instance) opens what is in its inputs and seals what is in its turns, all by this list: a kind
//! of input or command that is not in it does not compile.

use everpulse_protocol::values::{Value, Values, Visit};
use everpulse_protocol::{CodingError, WorkflowId};

use super::{Command, Input, Next, Spawn, Turn, TurnState, Unanswered};

impl Values for Input {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Signal { name: _, value } => value.each(visit),
            Self::SignalByTag { tag, name: _, value } => visit(Value::Of(WorkflowId::of_tag(tag), value)),
            Self::Update { id: _, name: _, args } => args.each(visit),
            Self::Settled { step: _, outcome } => outcome.each(visit),
            // Sealed for the child: the instance opens it with that one's id.
            Self::ChildClosed { step: _, outcome: _, began: _ } => Ok(()),
            Self::ChildBegan { step: _ }
            | Self::Start
            | Self::TimerFired { step: _ }
            | Self::CancelRequested { reason: _ } => Ok(()),
        }
    }
}

impl Values for Command {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Activity { no: _, name: _, queue: _, args, options: _, headers } => {
                args.each(visit)?;
                headers.each(visit)
            }
            Self::Answer { no: _, id: _, outcome } => outcome.each(visit),
            // For the run that it is sent to.
            Self::Child { no: _, target, spawn } => {
                let Spawn {
                    workflow: _,
                    version: _,
                    args,
                    tags: _,
                    timeout_ms: _,
                    hears_begin: _,
                    headers,
                    priority: _,
                } = &mut **spawn;
                visit(Value::Of(target.workflow_id.clone(), args))?;
                visit(Value::Of(target.workflow_id.clone(), headers))
            }
            Self::Signal { no: _, target, name: _, value } => visit(Value::Of(target.workflow_id.clone(), value)),
            // Of its own workflow id, as those of this run.
            Self::ContinueAsNew { no: _, target: _, next, unreceived: _, updates: _ } => {
                let Next { workflow: _, version: _, args, tags: _, timeout_ms: _, priority: _ } = &mut **next;
                args.each(visit)
            }
            // What a step comes to is sealed where it comes to its end: see `StepBody::seal`.
            Self::Step { no: _, name: _, options: _, body: _ }
            | Self::Timer { no: _, due: _ }
            | Self::Promise { no: _ }
            | Self::CancelRun { no: _, target: _ }
            // Said for all to read, as that of a client.
            | Self::TerminateRun { no: _, target: _, reason: _ }
            | Self::Detach { no: _ }
            | Self::Cancel { no: _ }
            | Self::Patch { no: _, id: _, deprecated: _ } => Ok(()),
        }
    }
}

impl Values for TurnState {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Closed(close) => close.each(visit),
            // These words go into the reason why the run is parked, and are sealed there.
            Self::Panicked { message: _ }
            | Self::Stuck { message: _ }
            | Self::Unopened { message: _ }
            | Self::Waiting => Ok(()),
        }
    }
}

impl Values for Turn {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self { commands, notes, published, state } = self;
        commands.each(visit)?;
        notes.each(visit)?;
        published.iter_mut().try_for_each(|(_, value)| value.each(visit))?;
        state.each(visit)
    }
}

impl Values for Unanswered {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        let Self { failure, spoilt: _, missing: _ } = self;
        failure.each(visit)
    }
}
