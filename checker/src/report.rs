//! What was found: counts, violations, and how they are shown. Nothing is judged here.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::backlog::Backlog;
use crate::chain::VoidFrame;
use crate::effects::{self, Effects};
use crate::format::{Id, Position};
use crate::run::{Run, Status};

/// The judgement on an application's history.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub shards: Vec<ShardReport>,
    /// Every run that stands in history, by shard and in the order of their beginnings.
    pub runs: Vec<Run>,
    pub violations: Vec<Violation>,
    /// What the ledger of effects says, if one was given.
    pub effects: Option<Effects>,
    /// What lies unacknowledged in the other topics, if an admin address was given.
    pub backlog: Option<Backlog>,
}

/// One partition.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ShardReport {
    pub shard: u32,
    pub entries: usize,
    pub standing: usize,
    pub unreadable: usize,
    pub void: Vec<VoidFrame>,
    /// Its first frames are gone.
    pub trimmed: bool,
    pub records: usize,
    /// Runs without an end.
    pub open: usize,
    /// The number of the last frame that stands.
    pub last_number: Option<u64>,
    pub recorded_time_ms: Option<u64>,
    /// When the current wake-up is due, as the last frame has it.
    pub wake_due_ms: Option<u64>,
}

/// Runs by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub runs: usize,
    pub open: usize,
    /// Of those open.
    pub parked: usize,
    pub completed: usize,
    pub failed: usize,
    pub cancelled: usize,
    pub terminated: usize,
    pub timed_out: usize,
    pub continued_as_new: usize,
}

/// Which rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// An entry that is no frame.
    Unreadable,
    /// History says what this judge does not know: a later release wrote it. What is known of it was judged, and no more.
    Unknown,
    /// Positions that do not grow: the judge's own reading is at fault.
    Reading,
    /// A frame's number does not follow on its predecessor's.
    Number,
    /// A writer took a frame for verified that does not stand.
    Fork,
    /// A frame or a run is in a partition where it does not belong.
    Shard,
    /// What is carried forward differs from what stood, lacks something, or is trimmed before it stands.
    Carried,
    /// Recorded time goes back.
    Time,
    /// What the application fixed is missing or another.
    Config,
    /// A wake-up of another shard, or too far ahead.
    Wake,
    /// Commands were marked as sent before their frame was verified.
    SentEarly,
    /// A run's records are not dense from 0.
    Sequence,
    /// A run does not begin with its start, or is started twice.
    Start,
    /// A run's id is not the id of the event that began it, or names two runs.
    RunId,
    /// A run begins while another of its workflow id is open.
    OpenTwice,
    /// An event took effect twice.
    EventTwice,
    /// An input is applied that was not received, or its tries do not count up.
    Received,
    ScheduledTwice,
    /// A run's commands are not dense from 0.
    CommandGap,
    /// Something is settled, tried or cancelled that was never scheduled, or as something else.
    Unscheduled,
    SettledTwice,
    TimerEarly,
    /// An attempt is given up that nobody keeps, or that may still be told of.
    Overdue,
    /// A command is cancelled twice, or after it was settled.
    Cancel,
    /// Steps of an ordered workflow settled in another order.
    Order,
    /// A run that ended so that another one could go on has none in its frame, or one that does not continue it; or what goes along was
    /// never sent to it.
    Succession,
    /// Parents and children that do not know of each other what is so, or a child that goes on against what was agreed.
    Family,
    /// A signal to all runs with a tag that one of them did not get, or got when it was over.
    Tagged,
    /// An update that is taken or answered twice, or answered without being taken.
    Update,
    /// A run's end is missing where it must be, or cannot be understood.
    Close,
    AfterClose,
    /// An effect without a command in history that asked for it.
    EffectWithoutCause,
    /// History says that it was done, but it was never executed.
    NeverExecuted,
    /// A line of the ledger cannot be read.
    Ledger,
}

/// Where in the history something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    shard: u32,
    frame: Option<u64>,
    position: Position,
}

impl Place {
    pub fn frame(shard: u32, number: u64, position: Position) -> Self {
        Self { shard, frame: Some(number), position }
    }

    pub fn entry(shard: u32, position: Position) -> Self {
        Self { shard, frame: None, position }
    }

    pub fn fault(self, kind: Kind, message: String) -> Violation {
        let Self { shard, frame, position } = self;
        Violation { shard: Some(shard), frame, position: Some(position), ..Violation::of_effects(kind, message) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.position)?;
        self.frame.map_or(Ok(()), |frame| write!(f, " in frame {frame}"))
    }
}

/// A broken rule: where, which, and in words what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Violation {
    pub kind: Kind,
    pub shard: Option<u32>,
    /// The frame's number.
    pub frame: Option<u64>,
    #[serde(serialize_with = "as_text_if_any")]
    pub position: Option<Position>,
    pub workflow_id: Option<String>,
    #[serde(serialize_with = "as_text_if_any")]
    pub run_id: Option<Id>,
    pub message: String,
}

impl Violation {
    pub(crate) fn of_effects(kind: Kind, message: String) -> Self {
        Self { kind, shard: None, frame: None, position: None, workflow_id: None, run_id: None, message }
    }

    pub(crate) fn of(self, workflow_id: String, run_id: Id) -> Self {
        Self { workflow_id: Some(workflow_id), run_id: Some(run_id), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = Vec::new();
        place.extend(self.shard.map(|shard| format!("shard {shard}")));
        place.extend(self.frame.map(|frame| format!("frame {frame}")));
        place.extend(self.position.map(|position| format!("position {position}")));
        if let Some(workflow_id) = &self.workflow_id {
            let run = self.run_id.map(|run| format!("/{run}")).unwrap_or_default();
            place.push(format!("run {}{run}", workflow_id.escape_debug()));
        }
        if place.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", place.join(", "), self.message) }
    }
}

pub(crate) fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn as_text_if_any<T: fmt::Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

impl Report {
    /// Whether every rule held.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Runs by how they ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { runs: self.runs.len(), ..Counts::default() };
        for run in &self.runs {
            counts.parked += usize::from(run.parked.is_some());
            *match run.status {
                Status::Open => &mut counts.open,
                Status::Completed => &mut counts.completed,
                Status::Failed => &mut counts.failed,
                Status::Cancelled => &mut counts.cancelled,
                Status::Terminated => &mut counts.terminated,
                Status::TimedOut => &mut counts.timed_out,
                Status::ContinuedAsNew => &mut counts.continued_as_new,
            } += 1;
        }
        counts
    }

    /// Void frames by their writers.
    #[must_use]
    pub fn void_by_writer(&self) -> BTreeMap<Id, usize> {
        let mut writers = BTreeMap::new();
        for void in self.shards.iter().flat_map(|shard| &shard.void) {
            *writers.entry(void.writer).or_default() += 1;
        }
        writers
    }

    /// Runs by the writer whose frame began them.
    #[must_use]
    pub fn started_by_writer(&self) -> BTreeMap<Id, usize> {
        let mut writers = BTreeMap::new();
        for run in self.runs.iter().filter(|run| !run.partial) {
            *writers.entry(run.started_by).or_default() += 1;
        }
        writers
    }

    /// The runs of a workflow id, oldest first.
    pub fn runs_of<'a>(&'a self, workflow_id: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.workflow_id == workflow_id)
    }

    /// Compares history with a ledger of effects: JSON lines `{"key","workflow_id","step","attempt","at_ms"}`.
    pub fn judge_effects(&mut self, ledger: &str) {
        self.effects = Some(effects::judge(ledger, &self.runs, &mut self.violations));
    }

    /// One JSON document; the runs one by one only if they are asked for.
    #[must_use]
    pub fn to_json(&self, with_runs: bool) -> serde_json::Value {
        let by_writer = |writers: BTreeMap<Id, usize>| -> BTreeMap<String, usize> {
            writers.into_iter().map(|(writer, count)| (writer.to_string(), count)).collect()
        };
        let mut json = serde_json::json!({
            "ok": self.is_clean(),
            "counts": self.counts(),
            "void_by_writer": by_writer(self.void_by_writer()),
            "started_by_writer": by_writer(self.started_by_writer()),
            "shards": self.shards,
            "violations": self.violations,
            "effects": self.effects,
            "backlog": self.backlog,
        });
        if with_runs {
            json["runs"] = serde_json::json!(self.runs);
        }
        json
    }
}

/// How many of each list a person is shown.
const SHOWN: usize = 20;

/// For a person: a few lines of counts, then the violations.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |count: fn(&ShardReport) -> usize| self.shards.iter().map(count).sum::<usize>();
        let void = sum(|shard| shard.void.len());
        let (entries, standing, unreadable) =
            (sum(|shard| shard.entries), sum(|shard| shard.standing), sum(|shard| shard.unreadable));
        let trimmed = self.shards.iter().filter(|shard| shard.trimmed).count();
        writeln!(f, "shards      {} ({trimmed} trimmed)", self.shards.len())?;
        writeln!(f, "entries     {entries}: {standing} stand, {void} void, {unreadable} unreadable")?;
        for (writer, count) in self.void_by_writer() {
            writeln!(f, "  void      {count} of writer {writer}")?;
        }
        writeln!(f, "records     {}", sum(|shard| shard.records))?;
        let c = self.counts();
        writeln!(
            f,
            "runs        {}: {} completed, {} failed, {} cancelled, {} terminated, {} timed out, {} continued as new, {} open \
             ({} parked)",
            c.runs, c.completed, c.failed, c.cancelled, c.terminated, c.timed_out, c.continued_as_new, c.open, c.parked
        )?;
        let open: Vec<&Run> = self.runs.iter().filter(|run| run.status == Status::Open).collect();
        for run in open.iter().take(SHOWN) {
            let pending: Vec<String> = run.pending().iter().map(|(no, name)| format!("{no} `{name}`")).collect();
            let waits = if pending.is_empty() { "nothing".to_owned() } else { pending.join(", ") };
            let parked = run.parked.as_ref().map(|reason| format!("; parked: {reason}")).unwrap_or_default();
            let id = run.workflow_id.escape_debug();
            writeln!(f, "  open      {id}/{} of `{}` waits for {waits}{parked}", run.run_id, run.workflow)?;
        }
        more(f, "open", open.len())?;
        if let Some(effects) = &self.effects {
            writeln!(f, "{effects}")?;
        }
        if let Some(backlog) = &self.backlog {
            writeln!(f, "{backlog}")?;
        }
        if self.is_clean() {
            return write!(f, "the rules held");
        }
        writeln!(f, "violations  {}", self.violations.len())?;
        for violation in self.violations.iter().take(SHOWN) {
            writeln!(f, "  {violation}")?;
        }
        more(f, "violations", self.violations.len())?;
        write!(f, "the rules did not hold")
    }
}

pub(crate) fn more(f: &mut fmt::Formatter<'_>, what: &str, count: usize) -> fmt::Result {
    if count > SHOWN { writeln!(f, "  ... and {} {what} more", count - SHOWN) } else { Ok(()) }
}
