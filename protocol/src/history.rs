//! History: records of runs, in frames that form a shard's chain.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codec::{self, Body, Stored};
use crate::continuation::Continues;
use crate::event::{Event, NextAttempt, Outcome, ReplyTo, Report, Start};
use crate::family::{Parent, Target};
use crate::kind::KindName;
use crate::note::Note;
use crate::shard::Config;
use crate::size::HistorySize;
use crate::task::Task;
use crate::timer::Wake;
use crate::{DecodeError, EventId, Failure, Payload, Position, RunId, Timestamp, WorkflowId, WriterId};

/// SHA-256 of a frame's message payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl Hash {
    /// What the first frame of a shard names as its predecessor.
    pub const GENESIS: Self = Self([0; 32]);

    /// The hash of a frame, from the bytes that were sent.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(Sha256::digest(payload).into())
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One message of a history partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub shard: u32,
    /// Dense, from 0.
    pub number: u64,
    /// The hash of the frame before; of the first: [`Hash::GENESIS`].
    pub previous: Hash,
    pub writer: WriterId,
    /// The last frame that the writer knew to stand when it wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// The shard's recorded time: never less than that of the frame before.
    pub at: Timestamp,
    /// What the application fixed; in the first frame, and in carried ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// The current wake-up, once the shard has needed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<Wake>,
    /// The commands of all frames with a number below this are known to be sent.
    #[serde(default)]
    pub sent_below: u64,
    /// Tasks of frames that are not marked as sent lie behind these positions of their queues' topics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueMark>,
    pub records: Vec<Record>,
}

impl Stored for Frame {
    const KIND: &'static str = "history";
}

impl Frame {
    /// Whether the bytes that it was read from say more than it does, of what an owner writes again when it carries history
    /// forward: fields that a later release added, or something of the shard that is of an unknown kind. Where that
    /// stands, it must be let stand.
    #[must_use]
    pub fn passes_over(&self, payload: &[u8]) -> bool {
        codec::says_more(payload, &codec::encode(self)) || self.records.iter().any(Record::passes_over)
    }
}

/// A frame that is known to stand, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub number: u64,
    pub position: Position,
}

/// A position of a queue's topic that was confirmed before the frame was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueMark {
    pub queue: String,
    pub position: Position,
}

/// The envelope of one entry of a run's history, which every release can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// The place in the run's history, dense from 0.
    pub seq: u32,
    pub event: EventId,
    pub at: Timestamp,
    pub body: Body,
    /// What the run asked for after this: the fingerprint that a replay must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandMark>,
    /// What the code says about them, for people. A replay is not compared with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// The run's end, if this was it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close: Option<Close>,
}

impl Record {
    /// What happened.
    ///
    /// # Errors
    /// When this release does not know the kind, or the bytes are damaged.
    pub fn body(&self) -> Result<RecordBody, DecodeError> {
        self.body.open("record")
    }

    /// Whether it is of its run: takes a number there and tells what happened to it. Others are of the shard, or repeat what
    /// stands. An unknown kind of record with a run is taken for the run's.
    #[must_use]
    pub fn is_of_its_run(&self) -> bool {
        !self.run_id.is_nil() && !self.body.is_of_kind("carried") && !self.body.is_of_kind("remembered")
    }

    /// The run that goes on for its run, which it ends.
    #[must_use]
    pub fn continued_as(&self) -> Option<RunId> {
        self.close.as_ref().filter(|close| close.status == CloseStatus::ContinuedAsNew)?;
        let mark = self.commands.iter().find(|mark| mark.kind == CommandKind::ContinueAsNew)?;
        mark.target.as_ref()?.run_id
    }

    /// Whether it is of no run, or repeats what stands, and says what this release does not know.
    fn passes_over(&self) -> bool {
        if self.is_of_its_run() {
            return false;
        }
        self.body().map_or(true, |body| codec::says_more(&self.body.0, &Body::of(&body).0))
    }

    /// What of it this release does not know; none if it knows all.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        let place = format!("record {} of workflow {}", self.seq, self.workflow_id);
        if let Err(error) = self.body() {
            return Some(format!("{place}: {error}"));
        }
        self.commands.iter().find_map(|mark| match mark.kind {
            CommandKind::Unknown(kind) => {
                Some(format!("{place}: command kind `{kind}`, of number {}, is not known to this release", mark.no))
            }
            _ => None,
        })
    }

    /// The record as bytes, for memory; in topics records stand in frames.
    ///
    /// # Panics
    /// Never: the stored types have no map keys or lengths that MessagePack cannot write.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("stored types can be written to memory")
    }

    /// Takes a packed record from the head of `bytes`.
    ///
    /// # Errors
    /// When the bytes do not begin with one.
    pub fn unpack(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut reader = rmp_serde::Deserializer::new(bytes);
        reader.set_max_depth(codec::DEPTH_MAX);
        Self::deserialize(&mut reader)
            .map_err(|error| DecodeError::Malformed { expected: "record", reason: error.to_string() })
    }
}

/// What happened to a run, as its owner recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordBody {
    Started {
        start: Start,
        version: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply_to: Option<ReplyTo>,
        /// What the code that began it was built from: a git revision, or what its people call it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        build: Option<String>,
    },
    /// The first record of a run that another one began.
    Spawned {
        start: Start,
        version: u32,
        parent: Parent,
        /// As of those that clients start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        build: Option<String>,
    },
    /// A run that goes on for another one begins.
    Continued {
        start: Start,
        version: u32,
        continues: Continues,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
        /// As of those that clients start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        build: Option<String>,
    },
    /// The only record of a child that was refused, or that its parent did not want any more before it was there. It does
    /// not take its workflow id.
    NeverBegan {
        workflow: String,
        parent: Parent,
    },
    /// A child is in its history.
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
    /// What was asked of another run was taken there, or why not.
    Delivered {
        step: u32,
        outcome: Outcome,
    },
    Signalled {
        name: String,
        value: Payload,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Payload>,
    },
    /// A signal that was sent to all runs that carry the tag.
    SignalledByTag {
        tag: String,
        name: String,
        value: Payload,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Payload>,
    },
    /// The code has let an update pass. Its answer is a command.
    UpdateAccepted {
        id: String,
        name: String,
        args: Payload,
        /// As of a signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        headers: Option<Payload>,
    },
    ActivitySettled {
        step: u32,
        attempt: u32,
        outcome: Outcome,
    },
    AttemptFailed {
        step: u32,
        attempt: u32,
        failure: Failure,
        next: NextAttempt,
    },
    StepSettled {
        step: u32,
        outcome: Outcome,
    },
    PromiseSettled {
        step: u32,
        outcome: Outcome,
    },
    AttemptLeft {
        step: u32,
        attempt: u32,
        until: Timestamp,
        task: Box<Task>,
        /// Its worker goes on with it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        running: bool,
    },
    AttemptReported {
        step: u32,
        attempt: u32,
        report: Report,
    },
    /// Nobody completed the attempt in time.
    AttemptOverdue {
        step: u32,
        attempt: u32,
        failure: Failure,
    },
    TimerFired {
        step: u32,
    },
    CancelRequested {
        reason: String,
    },
    Terminated {
        reason: String,
    },
    /// The run went past its own time-out.
    TimedOut,
    /// The run's history became longer than its worker puts up with: so long it was, and so long it may be.
    HistoryExceeded {
        size: HistorySize,
        limit: HistorySize,
    },
    /// An input was taken in without being applied: the run is parked, is to start later, or the input is on
    /// trial (its try counts from 1). When it is applied, another record bears the same event id.
    /// Of a run whose start is taken in so, this is the first record.
    Received {
        event: Event,
        #[serde(default)]
        attempt: u32,
    },
    /// A received input was applied now.
    Applied {
        event: EventId,
    },
    Parked {
        reason: Parked,
    },
    Resumed,
    /// A piece of a run, carried forward before its first frames are trimmed. The pieces bear all records of the run
    /// up to the last piece, also those that were written since the first; they count when the last one stands.
    Carried {
        /// From 0; another 0 begins anew.
        piece: u32,
        /// How many pieces there are: in the last one. 0 in those before.
        pieces: u32,
        records: Vec<Record>,
        /// In the last piece: the commands that have not come to their end, with the frames that asked for them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        commands: Vec<(u32, u64)>,
    },
    /// Of the shard: how far a signal to all runs that carry the tag has come.
    TagReached {
        /// The signal's event.
        event: EventId,
        tag: String,
        /// The first frame in which runs took it, as far as that is still known: those that began before it are meant.
        since: u64,
        /// So many runs have taken it so far.
        runs: u32,
        /// All that it is meant for have: it is not given to another one.
        all: bool,
    },
    /// What must be remembered after the frames that said it are trimmed.
    Remembered {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        closed: Vec<ClosedRun>,
        /// Ids of clients' inputs, with the time at which each was recorded.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        inputs: Vec<(EventId, Timestamp)>,
        /// All that is needed of earlier frames was carried: they can go.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<Window>,
    },
}

/// What the first record of a run that began says.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    pub start: &'a Start,
    pub version: u32,
    pub reply_to: Option<&'a ReplyTo>,
    pub parent: Option<&'a Parent>,
    pub continues: Option<&'a Continues>,
    pub build: Option<&'a String>,
}

impl RecordBody {
    /// What a run began with, whoever began it.
    #[must_use]
    pub fn begun(&self) -> Option<Begun<'_>> {
        match self {
            Self::Started { start, version, reply_to, build } => Some(Begun {
                start,
                version: *version,
                reply_to: reply_to.as_ref(),
                parent: None,
                continues: None,
                build: build.as_ref(),
            }),
            Self::Spawned { start, version, parent, build } => Some(Begun {
                start,
                version: *version,
                reply_to: None,
                parent: Some(parent),
                continues: None,
                build: build.as_ref(),
            }),
            Self::Continued { start, version, continues, parent, build } => Some(Begun {
                start,
                version: *version,
                reply_to: None,
                parent: parent.as_ref(),
                continues: Some(continues),
                build: build.as_ref(),
            }),
            _ => None,
        }
    }
}

/// What is known of a run when the frames that told of it are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedRun {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    pub workflow: String,
    pub version: u32,
    pub started_at: Timestamp,
    pub closed_at: Timestamp,
    pub status: CloseStatus,
    /// A child that never began: the workflow id is not its.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_began: bool,
    /// Of a run that continued another one: the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_run: Option<RunId>,
    /// The run that goes on for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_as: Option<RunId>,
}

/// What a shard still knows of its past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first frame that is needed; those before may be trimmed, and with them the ends of runs.
    pub first: u64,
    /// Ids that were recorded before this are forgotten.
    pub since: Timestamp,
    /// Inputs that were issued before this are refused, since a memory of them may be gone. Later than `since` by what
    /// clocks may differ.
    pub expired: Timestamp,
}

/// Why a run stands still although it is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    pub kind: ParkedKind,
    /// For a person: what was attempted, on what, and what to do.
    pub message: String,
    /// The message, where nobody without a key is to read it. Another stands in its place meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Payload>,
}

impl Parked {
    /// A reason that anybody may read.
    #[must_use]
    pub fn new(kind: ParkedKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), sealed: None }
    }
}

/// The kinds of [`Parked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkedKind {
    /// Replayed commands differ from recorded ones.
    Diverged,
    /// The workflow's code panicked.
    Panicked,
    /// The future waits for something that is not durable.
    Stuck,
    /// No code of that name or version here.
    NoCode,
    /// A record or event of a kind that this release does not know.
    UnknownKind,
    /// An input took its worker down repeatedly.
    Poisonous,
    /// A value that no key or layer of this process opens.
    Unopened,
}

/// One command as history keeps it: enough to compare a replay with, and to describe the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandMark {
    /// The command's number in its run, dense from 0 over all that is asked for; for a cancellation the number of what it cancels.
    pub no: u32,
    pub kind: CommandKind,
    /// The activity's, step's, child's or signal's name, that of the workflow as which the run goes on, a patch's or an update's id;
    /// empty for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// An activity's queue.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub queue: String,
    /// A timer's due time; of an activity the end of its schedule-to-close time-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The activity was started by the owner itself; no task is in its queue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eager: bool,
    /// Of a child, of what is asked of another run, and of the run that goes on for this one: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<Target>>,
    /// Of an answer: what was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<Outcome>>,
}

impl CommandMark {
    /// A mark of which nothing but number and kind is said.
    #[must_use]
    pub fn new(no: u32, kind: CommandKind) -> Self {
        Self {
            no,
            kind,
            name: String::new(),
            queue: String::new(),
            due: None,
            eager: false,
            target: None,
            answer: None,
        }
    }
}

/// The kinds of [`CommandMark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    Activity,
    Timer,
    Step,
    /// Something that is to be completed from outside, by whoever has its token.
    Promise,
    /// Another run, which this one begins.
    Child,
    /// A signal to another run.
    Signal,
    /// A request to another run to cancel.
    CancelRun,
    /// Another run is to end at once.
    TerminateRun,
    /// The run ends, and another one of its workflow id goes on for it.
    ContinueAsNew,
    /// A dropped call: its activity, timer, step, promise or child is wanted no more.
    Cancel,
    /// A child goes on, whatever becomes of its parent; it bears the child's number.
    Detach,
    /// The run took the new way at an edit of its code, named by its id. It bears the number that the next command gets, and
    /// takes none.
    Patch,
    /// The same where the old way is gone from the code: a replay may pass it over.
    DeprecatedPatch,
    /// The answer to an update; it bears the number of that among the updates of its run, from 0.
    Answer,
    /// What a later release asks for. Whether it is work, whether it was sent and how it ends is not known here.
    #[serde(untagged)]
    Unknown(KindName),
}

impl CommandKind {
    /// Whether it asks for something that comes to an end.
    #[must_use]
    pub fn is_work(self) -> bool {
        match self {
            Self::Activity
            | Self::Timer
            | Self::Step
            | Self::Promise
            | Self::Child
            | Self::Signal
            | Self::CancelRun
            | Self::TerminateRun => true,
            Self::ContinueAsNew
            | Self::Cancel
            | Self::Detach
            | Self::Patch
            | Self::DeprecatedPatch
            | Self::Answer
            | Self::Unknown(_) => false,
        }
    }
}

impl CommandKind {
    /// Whether it is done by another run, so that it goes on until that one has answered, whatever this one does.
    #[must_use]
    pub fn is_of_another_run(self) -> bool {
        matches!(self, Self::Child | Self::Signal | Self::CancelRun | Self::TerminateRun)
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    pub status: CloseStatus,
    pub outcome: Outcome,
}

impl Close {
    /// What is told in place of an end that is too large: a run whose result nobody can be given has failed.
    #[must_use]
    pub fn shortened(self, why: &str) -> Self {
        let status = match self.status {
            CloseStatus::Completed => CloseStatus::Failed,
            status => status,
        };
        Self { status, outcome: self.outcome.shortened(why) }
    }
}

/// The kinds of ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseStatus {
    Completed,
    Failed,
    Cancelled,
    Terminated,
    TimedOut,
    /// It ended so that another run could go on for it: see [`Record::continued_as`].
    ContinuedAsNew,
    /// A way in which runs of a later release end. It has ended; what its outcome means is not known here.
    #[serde(untagged)]
    Unknown(KindName),
}
