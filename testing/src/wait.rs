//! What a run waits for, and the error of one that waits in vain.

use std::fmt;

use everpulse_protocol::history::{CommandKind, CommandMark};
use everpulse_sdk::definition::{ActivityFn, Definition, WorkflowFn};
use everpulse_sdk::replay::Wait as Waited;
use everpulse_sdk::{Signal, Update};

/// Something that a run waits for.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # use serde::{Deserialize, Serialize};
/// # #[everpulse::signal(crate = everpulse)] #[derive(Serialize, Deserialize)] struct Approved { ok: bool }
/// # #[everpulse::workflow(version = 1, crate = everpulse)]
/// # async fn approval() -> bool { everpulse::signal::<Approved>().recv().await.ok }
/// use everpulse_testing::{Environment, Wait};
///
/// let env = Environment::new().workflow(approval);
/// let run = env.start(approval());
/// assert!(run.is_waiting_for(Wait::signal::<Approved>()));
/// run.signal(Approved { ok: true });
/// assert!(run.result().unwrap());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    Activity(String),
    Step(String),
    Timer,
    Signal(String),
    Update(String),
    /// That the promise of this number is completed from outside.
    Promise(u32),
    /// A child, by the name of its workflow: that it begins, or ends.
    Child(String),
    /// That another run, by its workflow id, takes what it was asked for.
    Delivery(String),
    /// That the run is asked to cancel.
    Cancel,
    /// Something else, as history names it.
    Other(String),
}

impl Wait {
    /// The result of an activity, whichever attempt it is at.
    pub fn activity<Arguments, F: ActivityFn<Arguments>>(_: F) -> Self {
        Self::Activity(F::Definition::NAME.to_owned())
    }

    /// A child: that it begins, or ends.
    pub fn child<Arguments, F: WorkflowFn<Arguments>>(_: F) -> Self {
        Self::Child(F::Definition::NAME.to_owned())
    }

    /// The result of a step.
    pub fn step(name: impl Into<String>) -> Self {
        Self::Step(name.into())
    }

    /// A signal.
    #[must_use]
    pub fn signal<T: Signal>() -> Self {
        Self::Signal(T::NAME.to_owned())
    }

    /// An update.
    #[must_use]
    pub fn update<T: Update>() -> Self {
        Self::Update(T::NAME.to_owned())
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity(name) => write!(f, "activity `{name}`"),
            Self::Step(name) => write!(f, "step `{name}`"),
            Self::Timer => f.write_str("a timer"),
            Self::Signal(name) => write!(f, "signal `{name}`"),
            Self::Update(name) => write!(f, "update `{name}`"),
            Self::Promise(no) => write!(f, "promise {no}"),
            Self::Child(name) => write!(f, "child `{name}`"),
            Self::Delivery(id) => write!(f, "an answer of workflow {id}"),
            Self::Cancel => f.write_str("a request to cancel"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A run that does not come to an end by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unfinished {
    pub(crate) message: String,
    pub(crate) parked: bool,
}

impl Unfinished {
    /// Whether it is parked: its code panicked, waits for something that is not durable, or is not there.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked
    }
}

/// What a replay says of a wait, by the names in history.
pub(crate) fn waited<'a>(mut marks: impl Iterator<Item = &'a CommandMark>, wait: &Waited) -> Wait {
    match wait {
        Waited::Command(no) => match marks.find(|mark| mark.no == *no && mark.kind.is_work()) {
            Some(mark) => match mark.kind {
                CommandKind::Activity => Wait::Activity(mark.name.clone()),
                CommandKind::Step => Wait::Step(mark.name.clone()),
                CommandKind::Timer => Wait::Timer,
                CommandKind::Promise => Wait::Promise(*no),
                CommandKind::Child => Wait::Child(mark.name.clone()),
                CommandKind::Signal | CommandKind::CancelRun | CommandKind::TerminateRun => {
                    let target = mark.target.as_ref().map(|target| target.workflow_id.to_string());
                    Wait::Delivery(target.unwrap_or_default())
                }
                CommandKind::ContinueAsNew
                | CommandKind::Patch
                | CommandKind::DeprecatedPatch
                | CommandKind::Cancel
                | CommandKind::Detach
                | CommandKind::Answer
                | CommandKind::Unknown(_) => {
                    unreachable!("no work")
                }
            },
            None => Wait::Other(format!("command {no}")),
        },
        Waited::Signal(name) => Wait::Signal(name.clone()),
        Waited::Update(name) => Wait::Update(name.clone()),
        Waited::CancelRequest => Wait::Cancel,
        other => Wait::Other(format!("{other:?}")),
    }
}
