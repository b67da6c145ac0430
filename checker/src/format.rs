//! The stored format, read without the crate that writes it.
//!
//! ```text
//! frame  = version (1 byte) | kind (MessagePack string) | map with field names
//! body   = version (1 byte) | {kind: map}, or the kind alone when it has no fields
//! ```
//! Ids are 16 bytes, hashes 32, times milliseconds since 1970. Only what the rules speak of is taken out; how it
//! is judged is not known here.
//!
//! Later versions and kinds are no garbage. In every version a frame has `number`, `previous` and `verified`, under these
//! names: of one that cannot be read otherwise they tell where it belongs. Kinds of records, events and commands that are
//! not known are kept by name.

use std::fmt;

use rmpv::ValueRef;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

mod place;

/// Where a message stands in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    pub ledger: u64,
    pub entry: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ledger, self.entry)
    }
}

/// A UUID: of a run, an event or a writer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Id(pub [u8; 16]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub type Hash = [u8; 32];

/// The one version that this judge reads.
const VERSION: u8 = 1;

#[derive(Debug, Clone)]
pub struct Frame {
    pub shard: u32,
    pub number: u64,
    pub previous: Hash,
    pub writer: Id,
    pub verified: Option<Verified>,
    pub at: u64,
    pub config: Option<Config>,
    pub wake: Option<Wake>,
    pub sent_below: u64,
    pub records: Vec<Record>,
    /// Why nothing but its place is known of it, if so.
    pub sealed: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub struct Verified {
    pub number: u64,
    pub position: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub format: u64,
    pub shards: u32,
    pub hash: String,
}

#[derive(Debug, Clone, Copy)]
pub struct Wake {
    pub shard: u32,
    pub due: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub workflow_id: String,
    pub run_id: Id,
    pub seq: u32,
    pub event: Id,
    pub at: u64,
    pub body: Body,
    pub commands: Vec<Mark>,
    /// The status of the run's end.
    pub close: Option<String>,
    /// Of all that the end says.
    pub close_digest: Option<Hash>,
    /// Of all that it says, also of what is not looked at here.
    pub digest: Hash,
    /// Of a run's first record: the tags that its start gives it.
    pub tags: Vec<String>,
}

/// What happened, as far as the rules speak of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Started {
        workflow: String,
    },
    /// A run that another one began.
    Spawned {
        workflow: String,
        parent: Link,
    },
    /// A run that goes on for another one.
    Continued {
        workflow: String,
        before: Before,
        /// Who waits for all of them.
        parent: Option<Link>,
    },
    /// All that there is of a child that never began.
    NeverBegan {
        parent: Link,
    },
    ChildBegan {
        step: u32,
    },
    ChildClosed {
        step: u32,
        done: bool,
        /// Of all that the child's end said.
        close: Hash,
        never_began: bool,
    },
    /// What was asked of another run was taken, or not.
    Delivered {
        step: u32,
        done: bool,
    },
    Signalled,
    /// A signal that was sent to all runs with a tag.
    SignalledByTag,
    /// Of the shard: how far such a signal has come.
    TagReached {
        signal: Id,
        tag: String,
        /// The first frame in which runs took it.
        since: u64,
        all: bool,
    },
    /// An update was taken.
    UpdateAccepted {
        id: String,
    },
    ActivitySettled {
        step: u32,
        done: bool,
    },
    AttemptFailed {
        step: u32,
        attempt: u32,
    },
    StepSettled {
        step: u32,
        done: bool,
    },
    PromiseSettled {
        step: u32,
        done: bool,
    },
    /// An attempt is to be completed from outside, or told of by the worker that goes on with it.
    AttemptLeft {
        step: u32,
        attempt: u32,
        until: u64,
        /// Its heartbeat time-out.
        silence: Option<u64>,
        running: bool,
    },
    /// It was told of: it goes on, or ended.
    AttemptReported {
        step: u32,
        attempt: u32,
        end: Option<AttemptEnd>,
    },
    AttemptOverdue {
        step: u32,
        attempt: u32,
    },
    TimerFired {
        step: u32,
    },
    CancelRequested,
    Terminated,
    TimedOut,
    /// The run's history became too long.
    HistoryExceeded,
    /// Of a kind that is not known here.
    Unknown {
        kind: String,
    },
    Received {
        event: Id,
        body: Box<Body>,
        attempt: u32,
    },
    Applied {
        event: Id,
    },
    Parked {
        kind: String,
        message: String,
    },
    Resumed,
    /// A piece of a run that is carried forward: it repeats what stands elsewhere.
    Carried {
        piece: u32,
        /// None before the last piece.
        pieces: Option<u32>,
        records: Vec<Record>,
    },
    /// Ids that are carried forward, and up to where history may be trimmed.
    Remembered {
        closed: Vec<(String, Id)>,
        /// Inputs of clients.
        inputs: Vec<Id>,
        /// The first frame that is needed.
        first: Option<u64>,
    },
}

/// A command of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Link {
    #[serde(serialize_with = "crate::report::as_text")]
    pub run_id: Id,
    pub step: u32,
}

impl Link {
    /// The id of the run that the command begins: the first 16 bytes of SHA-256 over the run id, the number (big endian) and
    /// the word `child`.
    pub fn child(&self) -> Id {
        self.derived("child")
    }

    /// The id of the run that goes on, where the command says so: the same with the words `continued as new`.
    pub fn next(&self) -> Id {
        self.derived("continued as new")
    }

    /// The id of the event by which the command ends another run: the same with the word `terminate`.
    pub fn termination(&self) -> Id {
        self.derived("terminate")
    }

    fn derived(&self, what: &str) -> Id {
        let mut hash = Sha256::new();
        hash.update(self.run_id.0);
        hash.update(self.step.to_be_bytes());
        hash.update(what.as_bytes());
        let digest = hash.finalize();
        let mut id = Id::default();
        id.0.copy_from_slice(&digest[..16]);
        id
    }
}

/// The runs before one that goes on for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Before {
    #[serde(serialize_with = "crate::report::as_text")]
    pub first: Id,
    #[serde(serialize_with = "crate::report::as_text")]
    pub previous: Id,
    pub number: u32,
}

/// What becomes of a child when its parent ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnClose {
    RequestCancel,
    Terminate,
    Abandon,
}

/// How an attempt ended that was completed from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The step ended with it, successfully or not.
    Settled(bool),
    /// Another one may follow.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub no: u32,
    pub kind: MarkKind,
    pub name: String,
    pub due: Option<u64>,
    /// Of a child.
    pub child: Option<(Id, OnClose)>,
    /// The run that goes on.
    pub next: Option<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    Activity,
    Timer,
    Step,
    Promise,
    /// Another run, which this one begins.
    Child,
    /// Something that is asked of another run.
    Message,
    /// Another run is to end at once.
    Termination,
    /// The run ends, and another one goes on for it.
    ContinueAsNew,
    Cancel,
    /// A child goes on, whatever becomes of its parent.
    Detach,
    /// What an update is answered; the number is that of the update.
    Answer,
    /// A way that the run took at an edit of its code. It has no number of its own.
    Patch,
    /// Of a kind that is not known here. Whether the number is its own is not known either.
    Unknown,
}

impl MarkKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Timer => "timer",
            Self::Step => "step",
            Self::Promise => "promise",
            Self::Child => "child",
            Self::Message => "message",
            Self::Termination => "termination",
            Self::ContinueAsNew => "continuation",
            Self::Cancel => "cancellation",
            Self::Detach => "detachment",
            Self::Answer => "answer",
            Self::Patch => "patch",
            Self::Unknown => "unknown command",
        }
    }
}

/// The format needs a dozen levels.
const DEPTH_MAX: usize = 128;

/// Why bytes are no frame; a clause that follows "the entry".
type Reason = String;

/// Reads one message of a history partition.
pub fn frame(bytes: &[u8]) -> Result<Frame, Reason> {
    let (&version, mut rest) = bytes.split_first().ok_or("is empty")?;
    let is_frame = read(&mut &*rest).is_ok_and(|kind| text(&kind) == Some("history"));
    if version < VERSION || version > VERSION && !is_frame {
        return Err(format!("has format version {version}"));
    }
    let kind = read(&mut rest)?;
    if !is_frame {
        return Err(format!("is of kind {kind}, not \"history\""));
    }
    // Where it belongs hangs on this alone. Whatever is behind it, no release minds.
    let place = place::fields(rest)?;
    let known = match version {
        VERSION => read(&mut rest).and_then(|value| whole(&value)),
        later => Err(format!("has format version {later}")),
    };
    known.or_else(|reason| sealed(&ValueRef::Map(place), reason))
}

/// Of a frame that cannot be read: its place.
fn sealed(value: &ValueRef<'_>, reason: Reason) -> Result<Frame, Reason> {
    let map = Map::of(value, "frame")?;
    Ok(Frame {
        shard: 0,
        number: map.number("number")?,
        previous: map.bytes("previous")?,
        writer: Id::default(),
        verified: map.optional("verified").map(verified).transpose()?,
        at: 0,
        config: None,
        wake: None,
        sent_below: 0,
        records: Vec::new(),
        sealed: Some(reason),
    })
}

fn whole(value: &ValueRef<'_>) -> Result<Frame, Reason> {
    let map = Map::of(value, "frame")?;
    Ok(Frame {
        shard: map.number("shard")?,
        number: map.number("number")?,
        previous: map.bytes("previous")?,
        writer: Id(map.bytes("writer")?),
        verified: map.optional("verified").map(verified).transpose()?,
        at: map.number("at")?,
        config: map.optional("config").map(config).transpose()?,
        wake: map.optional("wake").map(wake).transpose()?,
        sent_below: map.number("sent_below")?,
        records: map.list("records")?.iter().map(|value| record(value, body)).collect::<Result<_, _>>()?,
        sealed: None,
    })
}

fn read<'a>(rest: &mut &'a [u8]) -> Result<ValueRef<'a>, Reason> {
    rmpv::decode::read_value_ref_with_max_depth(rest, DEPTH_MAX).map_err(|error| format!("is no MessagePack: {error}"))
}

fn verified(value: &ValueRef<'_>) -> Result<Verified, Reason> {
    let map = Map::of(value, "verified")?;
    let position = Map::of(map.required("position")?, "position")?;
    Ok(Verified {
        number: map.number("number")?,
        position: Position { ledger: position.number("ledger")?, entry: position.number("entry")? },
    })
}

fn config(value: &ValueRef<'_>) -> Result<Config, Reason> {
    let map = Map::of(value, "config")?;
    Ok(Config { format: map.number("format")?, shards: map.number("shards")?, hash: map.text("hash")?.to_owned() })
}

fn wake(value: &ValueRef<'_>) -> Result<Wake, Reason> {
    let map = Map::of(value, "wake")?;
    Ok(Wake { shard: map.number("shard")?, due: map.number("due")? })
}

fn record(value: &ValueRef<'_>, body: fn(&[u8]) -> Result<Body, Reason>) -> Result<Record, Reason> {
    let map = Map::of(value, "record")?;
    let close = map.optional("close").map(|value| {
        let close = Map::of(value, "close")?;
        done(close.required("outcome")?)?;
        Ok::<_, Reason>((close.text("status")?.to_owned(), digest(value)?))
    });
    let (close, close_digest) = close.transpose()?.unzip();
    let seq = map.number("seq")?;
    Ok(Record {
        workflow_id: map.text("workflow_id")?.to_owned(),
        run_id: Id(map.bytes("run_id")?),
        seq,
        event: Id(map.bytes("event")?),
        at: map.number("at")?,
        tags: if seq == 0 { tags(map.binary("body")?)? } else { Vec::new() },
        body: body(map.binary("body")?)?,
        commands: map.list("commands")?.iter().map(mark).collect::<Result<_, _>>()?,
        close,
        close_digest,
        digest: digest(value)?,
    })
}

fn digest(value: &ValueRef<'_>) -> Result<Hash, Reason> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value_ref(&mut bytes, value).map_err(|error| format!("cannot be written again: {error}"))?;
    Ok(Sha256::digest(&bytes).into())
}

fn mark(value: &ValueRef<'_>) -> Result<Mark, Reason> {
    let map = Map::of(value, "command")?;
    let word = map.text("kind")?;
    let kind = match word {
        "activity" => MarkKind::Activity,
        "timer" => MarkKind::Timer,
        "step" => MarkKind::Step,
        "promise" => MarkKind::Promise,
        "child" => MarkKind::Child,
        "signal" | "cancel_run" => MarkKind::Message,
        "terminate_run" => MarkKind::Termination,
        "continue_as_new" => MarkKind::ContinueAsNew,
        "cancel" => MarkKind::Cancel,
        "detach" => MarkKind::Detach,
        "answer" => MarkKind::Answer,
        "patch" | "deprecated_patch" => MarkKind::Patch,
        _ => MarkKind::Unknown,
    };
    let target = map.optional("target").map(|target| Map::of(target, "target")).transpose()?;
    let next = match (kind, &target) {
        (MarkKind::ContinueAsNew, Some(target)) => Some(Id(target.bytes("run_id")?)),
        (MarkKind::ContinueAsNew, None) => return Err("continues as new without a target".to_owned()),
        _ => None,
    };
    let child = match (kind, target) {
        (MarkKind::Child, None) => return Err("has a child without a target".to_owned()),
        (MarkKind::Child, Some(target)) => {
            let on_close = match target.text("on_close")? {
                "request_cancel" => OnClose::RequestCancel,
                "terminate" => OnClose::Terminate,
                "abandon" => OnClose::Abandon,
                other => return Err(format!("has a child of which {other:?} is to become")),
            };
            Some((Id(target.bytes("run_id")?), on_close))
        }
        _ => None,
    };
    if kind == MarkKind::Answer {
        done(map.required("answer")?)?;
    }
    let name = map.optional("name").and_then(text).unwrap_or_default();
    Ok(Mark {
        no: map.number("no")?,
        kind,
        name: if kind == MarkKind::Unknown { word } else { name }.to_owned(),
        due: map.optional("due").and_then(ValueRef::as_u64),
        child,
        next,
    })
}

/// A body of a later version.
fn later(bytes: &[u8]) -> Option<Body> {
    let version = bytes.first().filter(|version| **version > VERSION)?;
    Some(Body::Unknown { kind: format!("of format version {version}") })
}

/// Opens an envelope: `(kind, fields)`; a kind without fields has nil.
fn body(bytes: &[u8]) -> Result<Body, Reason> {
    if let Some(later) = later(bytes) {
        return Ok(later);
    }
    envelope(bytes, |kind, fields| {
        let map = || Map::of(fields, kind);
        let step = || map()?.number("step");
        Ok(match kind {
            "started" => {
                let map = map()?;
                map.number::<u32>("version")?;
                Body::Started { workflow: Map::of(map.required("start")?, "start")?.text("workflow")?.to_owned() }
            }
            "spawned" => {
                let map = map()?;
                map.number::<u32>("version")?;
                spawned(&map)?
            }
            "continued" => {
                let map = map()?;
                map.number::<u32>("version")?;
                continued(&map)?
            }
            "never_began" => Body::NeverBegan { parent: link(map()?.required("parent")?)? },
            "child_began" => Body::ChildBegan { step: step()? },
            "child_closed" => child_closed(&map()?)?,
            "delivered" => Body::Delivered { step: step()?, done: done(map()?.required("outcome")?)? },
            "signalled" => map().map(|_| Body::Signalled)?,
            "signalled_by_tag" => map().map(|_| Body::SignalledByTag)?,
            "tag_reached" => {
                let map = map()?;
                Body::TagReached {
                    signal: Id(map.bytes("event")?),
                    tag: map.text("tag")?.to_owned(),
                    since: map.number("since")?,
                    all: matches!(map.required("all")?, ValueRef::Boolean(true)),
                }
            }
            "update_accepted" => Body::UpdateAccepted { id: map()?.text("id")?.to_owned() },
            "activity_settled" => Body::ActivitySettled { step: step()?, done: done(map()?.required("outcome")?)? },
            "attempt_failed" => Body::AttemptFailed { step: step()?, attempt: map()?.number("attempt")? },
            "step_settled" => Body::StepSettled { step: step()?, done: done(map()?.required("outcome")?)? },
            "promise_settled" => Body::PromiseSettled { step: step()?, done: done(map()?.required("outcome")?)? },
            "attempt_left" => left(&map()?)?,
            "attempt_reported" => reported(&map()?)?,
            "attempt_overdue" => Body::AttemptOverdue { step: step()?, attempt: map()?.number("attempt")? },
            "timer_fired" => Body::TimerFired { step: step()? },
            "cancel_requested" => Body::CancelRequested,
            "terminated" => Body::Terminated,
            "timed_out" => Body::TimedOut,
            "history_exceeded" => map().map(|_| Body::HistoryExceeded)?,
            "received" => {
                let map = map()?;
                let event = Map::of(map.required("event")?, "event")?;
                Body::Received {
                    event: Id(event.bytes("id")?),
                    body: Box::new(event_body(event.binary("body")?)?),
                    attempt: map.number("attempt")?,
                }
            }
            "applied" => Body::Applied { event: Id(map()?.bytes("event")?) },
            "parked" => {
                let map = map()?;
                let reason = Map::of(map.required("reason")?, "reason")?;
                Body::Parked { kind: reason.text("kind")?.to_owned(), message: reason.text("message")?.to_owned() }
            }
            "resumed" => Body::Resumed,
            "carried" => {
                let map = map()?;
                let pieces: u32 = map.number("pieces")?;
                let records = map
                    .list("records")?
                    .iter()
                    .map(|value| record(value, carried_body))
                    .collect::<Result<Vec<_>, _>>()?;
                Body::Carried { piece: map.number("piece")?, pieces: (pieces > 0).then_some(pieces), records }
            }
            "remembered" => {
                let map = map()?;
                let closed = map.list("closed")?.iter().map(|run| {
                    let run = Map::of(run, "closed run")?;
                    Ok::<_, Reason>((run.text("workflow_id")?.to_owned(), Id(run.bytes("run_id")?)))
                });
                // With the time at which each was recorded; at first without.
                let inputs = map.list("inputs")?.iter().map(|input| match input {
                    ValueRef::Array(pair) if pair.len() == 2 => id(&pair[0]),
                    alone => id(alone),
                });
                let window = map.optional("window").map(|window| Map::of(window, "window")?.number("first"));
                Body::Remembered {
                    closed: closed.collect::<Result<_, _>>()?,
                    inputs: inputs.collect::<Result<_, _>>()?,
                    first: window.transpose()?,
                }
            }
            other => Body::Unknown { kind: other.to_owned() },
        })
    })
}

fn spawned(map: &Map<'_>) -> Result<Body, Reason> {
    let workflow = Map::of(map.required("start")?, "start")?.text("workflow")?.to_owned();
    Ok(Body::Spawned { workflow, parent: link(map.required("parent")?)? })
}

fn continued(map: &Map<'_>) -> Result<Body, Reason> {
    let workflow = Map::of(map.required("start")?, "start")?.text("workflow")?.to_owned();
    let before = Map::of(map.required("continues")?, "continues")?;
    let before = Before {
        first: Id(before.bytes("first")?),
        previous: Id(before.bytes("previous")?),
        number: before.number("number")?,
    };
    Ok(Body::Continued { workflow, before, parent: map.optional("parent").map(link).transpose()? })
}

fn link(value: &ValueRef<'_>) -> Result<Link, Reason> {
    let map = Map::of(value, "parent")?;
    Ok(Link { run_id: Id(map.bytes("run_id")?), step: map.number("step")? })
}

fn child_closed(map: &Map<'_>) -> Result<Body, Reason> {
    let value = map.required("close")?;
    let close = Map::of(value, "close")?;
    Ok(Body::ChildClosed {
        step: map.number("step")?,
        done: done(close.required("outcome")?)?,
        close: digest(value)?,
        never_began: matches!(map.optional("never_began"), Some(ValueRef::Boolean(true))),
    })
}

fn left(map: &Map<'_>) -> Result<Body, Reason> {
    let task = Map::of(map.required("task")?, "task")?;
    let silence = Map::of(task.required("options")?, "options")?.optional("heartbeat_ms").and_then(ValueRef::as_u64);
    Ok(Body::AttemptLeft {
        step: map.number("step")?,
        attempt: map.number("attempt")?,
        until: map.number("until")?,
        silence,
        running: matches!(map.optional("running"), Some(ValueRef::Boolean(true))),
    })
}

fn reported(map: &Map<'_>) -> Result<Body, Reason> {
    let report = Map::of(map.required("report")?, "report")?;
    let end = if report.optional("done").is_some() {
        Some(AttemptEnd::Settled(true))
    } else if let Some(failed) = report.optional("failed") {
        match Map::of(failed, "report")?.required("retryable")? {
            ValueRef::Boolean(true) => Some(AttemptEnd::Failed),
            ValueRef::Boolean(false) => Some(AttemptEnd::Settled(false)),
            _ => return Err("has a report whose \"retryable\" is no truth value".to_owned()),
        }
    } else {
        report.required("beat")?;
        None
    };
    Ok(Body::AttemptReported { step: map.number("step")?, attempt: map.number("attempt")?, end })
}

fn id(value: &ValueRef<'_>) -> Result<Id, Reason> {
    match value {
        ValueRef::Binary(bytes) => (*bytes).try_into().map(Id).map_err(|_| "has an id of another size".to_owned()),
        _ => Err("has an id that is no bytes".to_owned()),
    }
}

/// Of a record that is carried. Nesting has an end, which is decided before what is inside is read.
fn carried_body(bytes: &[u8]) -> Result<Body, Reason> {
    let is_later = bytes.first().is_some_and(|version| *version > VERSION);
    match !is_later && envelope(bytes, |kind, _| Ok(matches!(kind, "carried" | "remembered" | "tag_reached")))? {
        true => Err("carries what is itself only carried".to_owned()),
        false => body(bytes),
    }
}

/// What a received event will be once it is applied.
fn event_body(bytes: &[u8]) -> Result<Body, Reason> {
    if let Some(later) = later(bytes) {
        return Ok(later);
    }
    envelope(bytes, |kind, fields| {
        let map = || Map::of(fields, kind);
        Ok(match kind {
            "start" => Body::Started { workflow: map()?.text("workflow")?.to_owned() },
            "signal_with_start" => {
                Body::Started { workflow: Map::of(map()?.required("start")?, "start")?.text("workflow")?.to_owned() }
            }
            "spawn" => spawned(&map()?)?,
            "continue_as_new" => continued(&map()?)?,
            "demanded" => {
                let map = map()?;
                let demand = Map::of(map.required("demand")?, "demand")?;
                match (demand.optional("signal"), demand.optional("cancel"), demand.optional("terminate")) {
                    (Some(_), ..) => Body::Signalled,
                    (_, Some(_), _) => Body::CancelRequested,
                    (.., Some(_)) => Body::Terminated,
                    _ => return Err("received a demand of unknown kind".to_owned()),
                }
            }
            "child_began" => Body::ChildBegan { step: map()?.number("step")? },
            "child_closed" => child_closed(&map()?)?,
            "delivered" => Body::Delivered { step: map()?.number("step")?, done: done(map()?.required("outcome")?)? },
            "signal" => Body::Signalled,
            "update" | "update_accepted" => Body::UpdateAccepted { id: map()?.text("id")?.to_owned() },
            "signal_tagged" => Body::SignalledByTag,
            "activity_settled" => {
                Body::ActivitySettled { step: map()?.number("step")?, done: done(map()?.required("outcome")?)? }
            }
            "step_settled" => {
                Body::StepSettled { step: map()?.number("step")?, done: done(map()?.required("outcome")?)? }
            }
            "promise_settled" => {
                Body::PromiseSettled { step: map()?.number("step")?, done: done(map()?.required("outcome")?)? }
            }
            "attempt_failed" => {
                Body::AttemptFailed { step: map()?.number("step")?, attempt: map()?.number("attempt")? }
            }
            "attempt_reported" => reported(&map()?)?,
            "cancel" => Body::CancelRequested,
            "terminate" => Body::Terminated,
            "resume" => Body::Resumed,
            other => Body::Unknown { kind: other.to_owned() },
        })
    })
}

/// The tags that a run begins with, if the body is its start, or a start that was taken in.
fn tags(bytes: &[u8]) -> Result<Vec<String>, Reason> {
    if later(bytes).is_some() {
        return Ok(Vec::new());
    }
    envelope(bytes, |kind, fields| {
        let start = match kind {
            "received" => {
                let event = Map::of(Map::of(fields, kind)?.required("event")?, "event")?;
                return tags(event.binary("body")?);
            }
            // The event's fields are those of the start itself.
            "start" => Some(fields),
            "started" | "spawned" | "continued" | "signal_with_start" | "spawn" | "continue_as_new" => {
                Some(Map::of(fields, kind)?.required("start")?)
            }
            _ => None,
        };
        let Some(start) = start else { return Ok(Vec::new()) };
        let tags = Map::of(start, "start")?;
        let tags = tags.list("tags")?.iter().map(|tag| text(tag).map(str::to_owned).ok_or_else(|| tags.wrong("tags")));
        tags.collect()
    })
}

fn envelope<T>(bytes: &[u8], open: impl FnOnce(&str, &ValueRef<'_>) -> Result<T, Reason>) -> Result<T, Reason> {
    let (&version, mut rest) = bytes.split_first().ok_or("has an empty body")?;
    if version != VERSION {
        return Err(format!("has a body of format version {version}"));
    }
    match read(&mut rest)? {
        ValueRef::Map(fields) if fields.len() == 1 => {
            open(text(&fields[0].0).ok_or("has a body whose kind is no text")?, &fields[0].1)
        }
        value => open(text(&value).ok_or("has a body without a kind")?, &ValueRef::Nil),
    }
}

/// Whether an outcome is a success.
fn done(outcome: &ValueRef<'_>) -> Result<bool, Reason> {
    let map = Map::of(outcome, "outcome")?;
    match (map.optional("done").is_some(), map.optional("failed").is_some()) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        _ => Err("has an outcome that is neither done nor failed".to_owned()),
    }
}

fn text<'a>(value: &'a ValueRef<'_>) -> Option<&'a str> {
    match value {
        ValueRef::String(text) => text.as_str(),
        _ => None,
    }
}

/// A map with field names, and what it stands for in messages.
struct Map<'a> {
    fields: &'a [(ValueRef<'a>, ValueRef<'a>)],
    what: &'a str,
}

impl<'a> Map<'a> {
    fn of(value: &'a ValueRef<'a>, what: &'a str) -> Result<Self, Reason> {
        match value {
            ValueRef::Map(fields) => Ok(Self { fields, what }),
            _ => Err(format!("has a {what} that is no map")),
        }
    }

    fn optional(&self, name: &str) -> Option<&'a ValueRef<'a>> {
        let (_, value) = self.fields.iter().find(|(key, _)| text(key) == Some(name))?;
        (*value != ValueRef::Nil).then_some(value)
    }

    fn required(&self, name: &str) -> Result<&'a ValueRef<'a>, Reason> {
        self.optional(name).ok_or_else(|| format!("has a {} without {name:?}", self.what))
    }

    fn wrong(&self, name: &str) -> Reason {
        format!("has a {} whose {name:?} is of another type or size", self.what)
    }

    fn number<N: TryFrom<u64>>(&self, name: &str) -> Result<N, Reason> {
        let number = self.required(name)?.as_u64().ok_or_else(|| self.wrong(name))?;
        N::try_from(number).map_err(|_| self.wrong(name))
    }

    fn text(&self, name: &str) -> Result<&'a str, Reason> {
        text(self.required(name)?).ok_or_else(|| self.wrong(name))
    }

    fn binary(&self, name: &str) -> Result<&'a [u8], Reason> {
        match self.required(name)? {
            ValueRef::Binary(bytes) => Ok(bytes),
            _ => Err(self.wrong(name)),
        }
    }

    fn bytes<const N: usize>(&self, name: &str) -> Result<[u8; N], Reason> {
        self.binary(name)?.try_into().map_err(|_| self.wrong(name))
    }

    /// An absent list is an empty one.
    fn list(&self, name: &str) -> Result<&'a [ValueRef<'a>], Reason> {
        match self.optional(name) {
            None => Ok(&[]),
            Some(ValueRef::Array(values)) => Ok(values),
            Some(_) => Err(self.wrong(name)),
        }
    }
}
