//! What a run asks for.

use std::fmt;
use std::time::Duration;

use everpulse_protocol::event::Outcome;
use everpulse_protocol::family::Target;
use everpulse_protocol::history::{CommandKind, CommandMark};
use everpulse_protocol::priority::Priority;
use everpulse_protocol::task::{RetryPolicy, TaskOptions};
use everpulse_protocol::{Coding, CodingError, Payload, Timestamp, WorkflowId};
use futures::future::BoxFuture;

use crate::definition::AttemptError;

/// Something a run wants. Numbers are dense from 0, in the order of the first poll; those of promises are given
/// when they are made.
#[derive(Debug)]
pub enum Command {
    Activity {
        no: u32,
        name: String,
        queue: String,
        args: Payload,
        options: TaskOptions,
        /// Those of the run.
        headers: Option<Payload>,
    },
    Timer {
        no: u32,
        due: Timestamp,
    },
    Step {
        no: u32,
        name: String,
        options: StepOptions,
        body: StepBody,
    },
    /// Something that is completed from outside.
    Promise {
        no: u32,
    },
    /// Another run, which this one begins.
    Child {
        no: u32,
        target: Target,
        spawn: Box<Spawn>,
    },
    /// A signal to another run.
    Signal {
        no: u32,
        target: Target,
        name: String,
        value: Payload,
    },
    /// A request to another run to cancel.
    CancelRun {
        no: u32,
        target: Target,
    },
    /// Another run is to end at once.
    TerminateRun {
        no: u32,
        target: Target,
        reason: String,
    },
    /// The run ends, and another one of its workflow id goes on for it. It is the last command.
    ContinueAsNew {
        no: u32,
        target: Target,
        next: Box<Next>,
        unreceived: Vec<Unreceived>,
        /// The numbers of the updates that were taken and not received, in ascending order.
        updates: Vec<u32>,
    },
    /// What was asked for under this number is wanted no more.
    Cancel {
        no: u32,
    },
    /// The child of this number goes on, whatever becomes of this run.
    Detach {
        no: u32,
    },
    /// The code answers the update of this number.
    Answer {
        no: u32,
        id: String,
        outcome: Outcome,
    },
    /// The run took the new way at an edit of its code, before the command of this number. Nothing is to be done.
    Patch {
        no: u32,
        id: String,
        /// The old way is gone from the code.
        deprecated: bool,
    },
}

impl Command {
    /// What history keeps of it.
    #[must_use]
    pub fn mark(&self) -> CommandMark {
        let mark = CommandMark::new;
        let of = |no, kind, target: &Target, name: &str| CommandMark {
            name: name.to_owned(),
            target: Some(Box::new(target.clone())),
            ..CommandMark::new(no, kind)
        };
        match self {
            Self::Activity { no, name, queue, .. } => {
                CommandMark { name: name.clone(), queue: queue.clone(), ..mark(*no, CommandKind::Activity) }
            }
            Self::Timer { no, due } => CommandMark { due: Some(*due), ..mark(*no, CommandKind::Timer) },
            Self::Step { no, name, .. } => CommandMark { name: name.clone(), ..mark(*no, CommandKind::Step) },
            Self::Promise { no } => mark(*no, CommandKind::Promise),
            Self::Child { no, target, spawn } => of(*no, CommandKind::Child, target, &spawn.workflow),
            Self::Signal { no, target, name, .. } => of(*no, CommandKind::Signal, target, name),
            Self::CancelRun { no, target } => of(*no, CommandKind::CancelRun, target, ""),
            Self::TerminateRun { no, target, .. } => of(*no, CommandKind::TerminateRun, target, ""),
            Self::ContinueAsNew { no, target, next, .. } => of(*no, CommandKind::ContinueAsNew, target, &next.workflow),
            Self::Cancel { no } => mark(*no, CommandKind::Cancel),
            Self::Detach { no } => mark(*no, CommandKind::Detach),
            Self::Answer { no, id, outcome } => CommandMark {
                name: id.clone(),
                answer: Some(Box::new(outcome.clone())),
                ..mark(*no, CommandKind::Answer)
            },
            Self::Patch { no, id, deprecated } => {
                let kind = if *deprecated { CommandKind::DeprecatedPatch } else { CommandKind::Patch };
                CommandMark { name: id.clone(), ..mark(*no, kind) }
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity { no, name, .. } => write!(f, "command {no}, activity `{name}`"),
            Self::Timer { no, due } => write!(f, "command {no}, a timer due at {due}"),
            Self::Step { no, name, .. } => write!(f, "command {no}, step `{name}`"),
            Self::Promise { no } => write!(f, "command {no}, a promise"),
            Self::Child { no, target, spawn } => {
                write!(f, "command {no}, child `{}` with id {}", spawn.workflow, target.workflow_id)
            }
            Self::Signal { no, target, name, .. } => {
                write!(f, "command {no}, signal `{name}` to workflow {}", target.workflow_id)
            }
            Self::CancelRun { no, target } => {
                write!(f, "command {no}, a cancel request to workflow {}", target.workflow_id)
            }
            Self::TerminateRun { no, target, .. } => {
                write!(f, "command {no}, to terminate workflow {}", target.workflow_id)
            }
            Self::ContinueAsNew { no, next, .. } => write!(f, "command {no}, to continue as `{}`", next.workflow),
            Self::Cancel { no } => write!(f, "the cancellation of command {no}"),
            Self::Detach { no } => write!(f, "the detachment of child {no}"),
            Self::Answer { no, id, .. } => write!(f, "the answer to update {no}, `{id}`"),
            Self::Patch { no, id, .. } => write!(f, "patch `{id}` before command {no}"),
        }
    }
}

/// What a child is begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawn {
    pub workflow: String,
    /// None: the newest that its first owner has.
    pub version: Option<u32>,
    pub args: Payload,
    pub tags: Vec<String>,
    pub timeout_ms: Option<u64>,
    /// The run waits to hear that its child is in history.
    pub hears_begin: bool,
    /// Those of the run that begins it.
    pub headers: Option<Payload>,
    /// That of the run that begins it, as far as the call says nothing else.
    pub priority: Priority,
}

/// What the run that goes on for another one is begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    pub workflow: String,
    /// None: the newest that its first owner has, and no older one than that of the run before.
    pub version: Option<u32>,
    pub args: Payload,
    /// None: as the run before.
    pub tags: Option<Vec<String>>,
    /// None: as the run before.
    pub timeout_ms: Option<u64>,
    /// What it does not say is as of the run before.
    pub priority: Priority,
}

/// Signals of one name that a run was sent and has not received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreceived {
    pub name: String,
    /// Which they are of all signals of that name that came, from 0 on; in ascending order.
    pub numbers: Vec<u64>,
}

/// How a step is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOptions {
    /// How long one attempt may take.
    pub timeout: Duration,
    pub retry: RetryPolicy,
}

/// The code of a step. It is run by the worker that owns the run, not by the instance.
pub struct StepBody {
    attempt: Box<dyn FnMut() -> BoxFuture<'static, Result<Payload, AttemptError>> + Send>,
    sealing: Option<(Coding, WorkflowId)>,
}

impl StepBody {
    pub(crate) fn new(
        attempt: impl FnMut() -> BoxFuture<'static, Result<Payload, AttemptError>> + Send + 'static,
    ) -> Self {
        Self { attempt: Box::new(attempt), sealing: None }
    }

    pub(crate) fn sealed_by(&mut self, coding: Coding, workflow_id: WorkflowId) {
        self.sealing = Some((coding, workflow_id));
    }

    /// Seals what the step came to, as its run's values are. To be called before it is told to anybody.
    ///
    /// # Errors
    /// When a layer refuses it.
    pub fn seal(&self, outcome: &mut Outcome) -> Result<(), CodingError> {
        self.sealing.as_ref().map_or(Ok(()), |(coding, workflow_id)| coding.seal(workflow_id, outcome))
    }

    /// One attempt. A panic of the author's code passes through: whoever polls catches it.
    pub fn attempt(&mut self) -> BoxFuture<'static, Result<Payload, AttemptError>> {
        (self.attempt)()
    }
}

impl fmt::Debug for StepBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepBody(..)")
    }
}
