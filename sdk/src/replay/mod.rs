//! One run as a deterministic machine: events in, commands out.
//!
//! An [`Instance`] holds the future of a run. [`apply`](Instance::apply) takes one event, polls the
//! future until nothing is left to do, and gives back what the run asked for. The same events in the
//! same order give the same commands, in whatever batches, processes and years they come; comparing
//! commands with recorded ones is the engine's work.
//!
//! ```text
//!          ┌────────────────────────── Instance ──────────────────────────┐
//!  Input ─►│ core: slots, signals, time, random ──wakes──► future ──┐     │
//!          │   ▲                                                    │     ├─► Turn { commands, notes, published, state }
//!          │   └────────── ambient context: sleep, call, recv ◄─────┘     │
//!          └──────────────────────────────────────────────────────────────┘
//! ```

mod command;
pub(crate) mod core;
mod instance;
mod ticket;
mod values;
pub(crate) mod waker;

use everpulse_protocol::continuation::Continues;
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::Close;
use everpulse_protocol::note::Note;
use everpulse_protocol::priority::Priority;
use everpulse_protocol::{CodingError, Failure, FailureKind, Payload, RunId, Timestamp, WorkflowId};

pub use command::{Command, Next, Spawn, StepBody, StepOptions, Unreceived};
pub use instance::Instance;
pub(crate) use ticket::{Settlement, Ticket};

/// Which run an instance is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    pub workflow: String,
    pub version: u32,
    pub started_at: Timestamp,
    /// The words by which it is found.
    pub tags: Vec<String>,
    /// What the code that began it was built from.
    pub build: Option<String>,
    /// What came with its start, as it is stored; [`Headers`](everpulse_protocol::Headers).
    pub headers: Option<Payload>,
    /// That of its tasks and children, as far as calls and definitions say nothing else.
    pub priority: Priority,
    /// The runs before it, if it continues one as new.
    pub continues: Option<Continues>,
}

/// One event, as far as it concerns the run's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Comes first, and once.
    Start,
    Signal {
        name: String,
        value: Payload,
    },
    /// One that was sent to all runs with the tag, for which it is sealed.
    SignalByTag {
        tag: String,
        name: String,
        value: Payload,
    },
    /// One that was let pass.
    Update {
        id: String,
        name: String,
        args: Payload,
    },
    /// An activity or a step has come to its end.
    Settled {
        step: u32,
        outcome: Outcome,
    },
    TimerFired {
        step: u32,
    },
    /// A child is in its history.
    ChildBegan {
        step: u32,
    },
    /// A child has come to its end.
    ChildClosed {
        step: u32,
        outcome: Outcome,
        /// False: it never began.
        began: bool,
    },
    CancelRequested {
        reason: String,
    },
}

/// What came of one event.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    /// In the order in which the run asked. Empty when the run panicked or is stuck.
    pub commands: Vec<Command>,
    /// What the code says about them, for people. None when an event is replayed.
    pub notes: Vec<Note>,
    /// Names and values, the last of a name counts.
    pub published: Vec<(String, Payload)>,
    pub state: TurnState,
}

/// What a run's code waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// The command of this number: an activity, a timer, a step, a promise, a child, or what is asked of another run.
    Command(u32),
    /// A signal of this name.
    Signal(String),
    /// An update of this name.
    Update(String),
    /// That the run is asked to cancel.
    CancelRequest,
}

/// How a run stands after an event.
#[allow(clippy::large_enum_variant, reason = "a run ends once, and its end is moved on at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnState {
    /// It waits for an activity, a step, a timer or a signal.
    Waiting,
    Closed(Close),
    /// The code panicked, or a signal cannot be decoded as the type that the code waits for.
    Panicked {
        message: String,
    },
    /// It waits for something that will not come by an event.
    Stuck {
        message: String,
    },
    /// A value that this process has no key for, or that is damaged. Nothing was applied.
    Unopened {
        message: String,
    },
}

/// Why a run's handler gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// For whoever asked.
    pub failure: Box<Failure>,
    /// The handler may have changed what it was to look at: the instance must be dropped, and the run replayed.
    pub spoilt: bool,
    /// A key, a layer or a store is missing here, or away: elsewhere, or later, it may be there.
    pub missing: bool,
}

impl Unanswered {
    fn unspoilt(kind: FailureKind, message: String) -> Self {
        Self { failure: Box::new(Failure::new(kind, message)), spoilt: false, missing: false }
    }

    /// A value could not be opened or sealed.
    fn unopened(error: &CodingError) -> Self {
        Self { missing: error.is_missing(), ..Self::unspoilt(FailureKind::Undecodable, error.to_string()) }
    }
}
