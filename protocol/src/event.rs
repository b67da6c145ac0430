//! Events: what arrives for a run, in frames on the inbox.

use serde::{Deserialize, Serialize};

use crate::codec::{Body, Stored};
use crate::continuation::Continues;
use crate::family::{Caller, Demand, Parent};
use crate::history::Close;
use crate::priority::Priority;
use crate::task::Task;
use crate::{DecodeError, EventId, Failure, FailureKind, Payload, RequestId, RunId, Timestamp, WorkflowId};

/// One message of the inbox: events of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxFrame {
    pub shard: u32,
    pub events: Vec<Event>,
}

impl Stored for InboxFrame {
    const KIND: &'static str = "inbox";
}

/// The envelope of an event, which every release can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What the shard deduplicates by.
    pub id: EventId,
    pub workflow_id: WorkflowId,
    /// The run that is meant, or the one that continues it as new; none: the newest of the workflow id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// That run is meant alone, and not those that continue it. What is of a command of a run is so in any case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// When the sender issued it.
    pub sent_at: Timestamp,
    /// Who wants to hear what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<ReplyTo>,
    /// It was sent before, and is sent once more by a client that waits for an answer, or by a run's owner, which cannot know
    /// whether it arrived. That it is known where it comes says nothing of who has it.
    #[serde(default, skip_serializing_if = "is_not")]
    pub again: bool,
    pub body: Body,
}

fn is_not(flag: &bool) -> bool {
    !flag
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The client, which names its reply topic.
    pub client: String,
    pub request: RequestId,
}

impl Event {
    /// What happened.
    ///
    /// # Errors
    /// When this release does not know the kind, or the bytes are damaged.
    pub fn body(&self) -> Result<EventBody, DecodeError> {
        self.body.open("event")
    }

    /// Whether it only asks, so that whoever does not know it may refuse it, and nothing is lost: its kind begins with
    /// [`QUESTION`].
    #[must_use]
    pub fn only_asks(&self) -> bool {
        self.body.kind().is_some_and(|kind| kind.starts_with(QUESTION))
    }
}

/// How the name of a kind begins that leaves no trace in the run's history, of all that came after `query`. It tells those
/// who do not know the kind: what may be an input has to be taken in, and stops the run until somebody does.
pub const QUESTION: &str = "ask_";

/// What happened, or what is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    // Facts that become records.
    Start(Start),
    /// Begins a run that gets this signal first; where a run of the id is open, only the signal is meant for that one.
    SignalWithStart {
        start: Start,
        name: String,
        value: Payload,
    },
    /// A run's command begins another run. Its event's id becomes that one's id.
    Spawn {
        start: Start,
        parent: Parent,
    },
    /// A run goes on as another one, with these arguments. It is never sent: it stands in the first record of that one, by
    /// the frame that ends the run. Its id is that one's.
    ContinueAsNew {
        start: Start,
        continues: Continues,
        /// Who waits for the first of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
    /// A run asks something of another one.
    Demanded {
        caller: Caller,
        demand: Demand,
    },
    /// A child is in history.
    ChildBegan {
        step: u32,
    },
    /// A child has ended, or never began.
    ChildClosed {
        step: u32,
        close: Box<Close>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        never_began: bool,
    },
    /// What a run asked of another one was taken, or why not.
    Delivered {
        step: u32,
        outcome: Outcome,
    },
    Signal {
        name: String,
        value: Payload,
        /// What its sender said beside; [`Headers`](crate::Headers).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Payload>,
    },
    /// A signal for all runs of a shard that are open and carry the tag: it is sent to each shard. In a run that has taken it
    /// in, it is that run's own copy.
    SignalTagged {
        tag: String,
        name: String,
        value: Payload,
        /// As of a signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Payload>,
    },
    /// A request that the run's code looks at before it is taken, and answers later. What is refused is no record of the run.
    Update {
        /// The same id is the same request: it is taken once by a run and those that go on for it.
        id: String,
        name: String,
        args: Payload,
        /// If the run cannot be asked yet, that is no refusal: it will be sent again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        patient: bool,
        /// What its sender said beside, as of a signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Payload>,
    },
    /// An update that a run has taken and not received goes along to the run that goes on for it. It is never sent.
    UpdateAccepted {
        id: String,
        name: String,
        args: Payload,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Payload>,
    },
    /// An activity came to its end. The first settlement of a step wins.
    ActivitySettled {
        step: u32,
        attempt: u32,
        outcome: Outcome,
    },
    /// A local step came to its end; its worker could not append that itself.
    StepSettled {
        step: u32,
        outcome: Outcome,
    },
    /// Somebody completes a promise, or says that it will not be kept. The first one counts.
    PromiseSettled {
        step: u32,
        outcome: Outcome,
    },
    /// An attempt failed and another one will follow, or an operator is asked.
    AttemptFailed {
        step: u32,
        attempt: u32,
        failure: Failure,
        next: NextAttempt,
    },
    /// An attempt ended without an end: it is to be completed later, from outside, until a time. The task comes along,
    /// for the next attempt.
    AttemptLeft {
        step: u32,
        attempt: u32,
        until: Timestamp,
        task: Box<Task>,
        /// It has not ended: its worker goes on with it, and told how far it is, which the task has with it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        running: bool,
    },
    /// Somebody tells of an attempt that was left to be completed later. The first end counts.
    AttemptReported {
        step: u32,
        attempt: u32,
        report: Report,
    },
    Cancel {
        reason: String,
    },
    Terminate {
        reason: String,
    },
    /// Try a parked run again.
    Resume,
    // Questions and pokes, which leave no trace in the run's history.
    Describe,
    AskResult,
    /// The state that the run published last under this name.
    AskPublished {
        name: String,
    },
    /// What became of an update.
    AskUpdate {
        id: String,
        /// Of which it is thought to be; one of another name is not meant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// What the run's own handler of this name says.
    Query {
        name: String,
        args: Payload,
    },
    /// Look at the shard: timers, parked runs, uncovered local work.
    Wake {
        shard: u32,
        number: u64,
    },
}

impl EventBody {
    /// The start of a run, by whomever.
    #[must_use]
    pub fn as_start(&self) -> Option<&Start> {
        match self {
            Self::Start(start)
            | Self::SignalWithStart { start, .. }
            | Self::Spawn { start, .. }
            | Self::ContinueAsNew { start, .. } => Some(start),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn as_start_mut(&mut self) -> Option<&mut Start> {
        match self {
            Self::Start(start)
            | Self::SignalWithStart { start, .. }
            | Self::Spawn { start, .. }
            | Self::ContinueAsNew { start, .. } => Some(start),
            _ => None,
        }
    }
}

/// What is told from outside of an attempt that was left to be completed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Done(Payload),
    Failed {
        failure: Failure,
        /// Another attempt may go better.
        retryable: bool,
    },
    /// It goes on, and has come so far.
    Beat {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Payload>,
    },
}

impl Report {
    /// How the step ended, if this ends it.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Done(value) => Some(Outcome::Done(value.clone())),
            Self::Failed { failure, retryable: false } => Some(Outcome::Failed(failure.clone())),
            Self::Failed { retryable: true, .. } | Self::Beat { .. } => None,
        }
    }
}

/// What comes after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextAttempt {
    /// It waits in the timers until then.
    At(Timestamp),
    /// It waits in the dead letters until an operator redrives it.
    Redrive,
}

/// How a step or a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done(Payload),
    Failed(Failure),
}

impl Outcome {
    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Done(value) => value.len(),
            Self::Failed(failure) => failure.bytes(),
        }
    }

    /// What is told in place of what is too large: that it is, or how it failed without the rest.
    #[must_use]
    pub fn shortened(self, why: &str) -> Self {
        Self::Failed(match self {
            Self::Done(_) => Failure::new(FailureKind::Failed, why),
            Self::Failed(failure) => failure.shortened(why),
        })
    }
}

/// A request to start a run. Its event's id becomes the run's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub workflow: String,
    /// None: the newest that the first owner has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// A map by parameter name.
    pub args: Payload,
    #[serde(default)]
    pub policy: IdPolicy,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Not before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// The run fails with a time-out this long after its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What travels with the run beside its arguments, to its tasks and children; [`Headers`](crate::Headers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Payload>,
    /// That of its tasks and children, as far as they say nothing else.
    #[serde(default, skip_serializing_if = "Priority::is_default")]
    pub priority: Priority,
}

/// What a start does when its workflow id is known already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IdPolicy {
    /// Refuse the start, whether the other run is open or closed.
    Reject,
    /// Hand out the existing run, open or closed.
    #[default]
    Attach,
    /// Attach to an open run; begin a new one after a closed one.
    RestartWhenClosed,
}
