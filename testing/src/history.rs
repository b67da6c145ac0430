//! A run's history as people read it, and the commands in it as values.

use std::fmt;
use std::time::Duration;

use everpulse_protocol::continuation::Continues;
use everpulse_protocol::event::{NextAttempt, Outcome};
use everpulse_protocol::golden::shown_payload;
use everpulse_protocol::history::{CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::view::RunStatus;
use everpulse_protocol::{Payload, Timestamp, codec};
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use crate::world::Told;

/// Something that a run asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    no: u32,
    kind: CommandKind,
    name: String,
    wait: Option<Duration>,
    args: Option<Payload>,
}

impl Command {
    fn of(told: &Told, record: &Record, mark: &CommandMark) -> Self {
        let is_activity = mark.kind == CommandKind::Activity;
        Self {
            no: mark.no,
            kind: mark.kind,
            name: mark.name.clone(),
            wait: mark.due.map(|due| due.since(record.at)),
            args: is_activity.then(|| told.arguments.get(&mark.no).cloned()).flatten(),
        }
    }

    /// Its number in the run, from 0; of a cancellation the number of what it cancels.
    #[must_use]
    pub fn no(&self) -> u32 {
        self.no
    }

    /// Whether it is an activity, a timer, a step and so on.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        self.kind
    }

    /// The activity's, step's, child's or signal's name; empty for others.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long a timer waits.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// An argument of an activity; none if there is none of that name.
    ///
    /// # Panics
    /// When it is no `T`.
    #[must_use]
    #[track_caller]
    pub fn argument<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let args = self.args.as_ref()?;
        let field = Field { name, value: std::marker::PhantomData };
        field.deserialize(&mut codec::reader(&args.data)).unwrap_or_else(|error| {
            panic!("argument `{name}` of `{}` is no {}: {error}", self.name, std::any::type_name::<T>())
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { no, kind, name, wait, args } = self;
        match kind {
            CommandKind::Activity => {
                let args = args.as_ref().map(shown_payload).unwrap_or_default();
                write!(f, "activity {no} `{name}` {args}")
            }
            CommandKind::Step => write!(f, "step {no} `{name}`"),
            CommandKind::Timer => write!(f, "timer {no}, {:?}", wait.unwrap_or_default()),
            CommandKind::Promise => write!(f, "promise {no}"),
            CommandKind::Child => write!(f, "child {no} `{name}`"),
            CommandKind::Signal => write!(f, "signal {no} `{name}` to another run"),
            CommandKind::CancelRun => write!(f, "cancel request {no} to another run"),
            CommandKind::TerminateRun => write!(f, "termination {no} of another run"),
            CommandKind::ContinueAsNew => write!(f, "continue as new {no} `{name}`"),
            CommandKind::Detach => write!(f, "detach {no}"),
            CommandKind::Answer => write!(f, "answer to update {no}, `{name}`"),
            CommandKind::Patch => write!(f, "patch `{name}`"),
            CommandKind::DeprecatedPatch => write!(f, "deprecated patch `{name}`"),
            CommandKind::Cancel => write!(f, "cancel {no}"),
            CommandKind::Unknown(kind) => write!(f, "{kind} {no}, which this release does not know"),
        }
    }
}

/// Finds one entry of a map.
struct Field<'a, T> {
    name: &'a str,
    value: std::marker::PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Field<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Field<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("arguments by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        while let Some(key) = entries.next_key::<String>()? {
            if key == self.name {
                found = Some(entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// One thing that happened to a run, and what the run asked for then.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// How long after the beginning of the test.
    pub at: Duration,
    /// The kind of record, as it is stored: `started`, `signalled`, `activity_settled` and so on.
    pub kind: String,
    /// What happened, for people.
    pub what: String,
    pub commands: Vec<Command>,
    /// How the run ended, if this was its end.
    pub end: Option<RunStatus>,
    shown_end: Option<String>,
}

/// A run's history. `{}` shows it, a line for each event and each command, and says the same in each run of a test: it is fit
/// for a snapshot.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # use std::time::Duration;
/// # use everpulse_testing::Environment;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(card: String, cents: u64) -> Result<u64, everpulse::Error> { Ok(cents) }
/// #[everpulse::workflow(version = 1, crate = everpulse)]
/// async fn pay(cents: u64) -> Result<u64, everpulse::Error> {
///     everpulse::sleep(Duration::from_secs(5)).await;
///     Ok(charge("4711".into(), cents).await?)
/// }
///
/// let env = Environment::new().workflow(pay).activity(charge).fail_first(charge, 1, everpulse::Error::msg("closed"));
/// let run = env.start(pay(42)).id("order-42");
/// run.result().unwrap();
/// assert_eq!(run.history().to_string(), "\
/// order-42
///   +0ns        started `pay` version 1 {\"cents\":42}
///                 > timer 0, 5s
///   +5s         timer 0 fired
///                 > activity 1 `charge` {\"card\":\"4711\",\"cents\":42}
///   +5s         attempt 1 of activity 1 `charge` failed: closed; the next one is due at +5.2s
///   +5.2s       activity 1 `charge` done 42
///                 completed 42
/// ");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    id: String,
    entries: Vec<Entry>,
}

impl History {
    pub(crate) fn of(told: &Told, begin: Timestamp) -> Self {
        let entry = |record: &Record| Entry {
            at: record.at.since(begin),
            kind: record.body.kind().unwrap_or_default(),
            what: what(told, record, begin),
            commands: record.commands.iter().map(|mark| Command::of(told, record, mark)).collect(),
            end: record.close.as_ref().map(|close| close.status.into()),
            shown_end: record
                .close
                .as_ref()
                .map(|close| format!("{} {}", RunStatus::from(close.status), outcome(&close.outcome))),
        };
        Self { id: told.workflow_id.to_string(), entries: told.records.iter().map(entry).collect() }
    }

    /// What happened, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All commands, in order.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.entries.iter().flat_map(|entry| &entry.commands)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.id)?;
        for entry in &self.entries {
            writeln!(f, "  {:<11} {}", format!("+{:?}", entry.at), entry.what)?;
            for command in &entry.commands {
                writeln!(f, "                > {command}")?;
            }
            if let Some(end) = &entry.shown_end {
                writeln!(f, "                {end}")?;
            }
        }
        Ok(())
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(value) => shown_payload(value),
        Outcome::Failed(failure) => format!("({failure})"),
    }
}

fn settled(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(value) => format!("done {}", shown_payload(value)),
        Outcome::Failed(failure) => format!("failed: {failure}"),
    }
}

/// What a record says, in a line.
fn what(told: &Told, record: &Record, begin: Timestamp) -> String {
    let name = |step: u32| {
        let asked = |mark: &CommandMark| mark.no == step && mark.kind.is_work();
        let mark = told.marks().map(|(_, mark)| mark).find(|mark| asked(mark));
        mark.map(|mark| format!(" `{}`", mark.name)).unwrap_or_default()
    };
    let body = match record.body() {
        Ok(body) => body,
        Err(error) => return error.to_string(),
    };
    match body {
        RecordBody::Started { start, version, .. } => {
            format!("started `{}` version {version} {}", start.workflow, shown_payload(&start.args))
        }
        RecordBody::Spawned { start, version, parent, .. } => {
            let args = shown_payload(&start.args);
            format!("begun `{}` version {version} {args} by workflow {}", start.workflow, parent.workflow_id)
        }
        RecordBody::Continued { start, version, continues, .. } => {
            let Continues { previous, number, .. } = continues;
            format!(
                "`{}` version {version} {} goes on for run {previous}, as number {number}",
                start.workflow,
                shown_payload(&start.args)
            )
        }
        RecordBody::NeverBegan { parent, .. } => format!("refused, or dropped by workflow {}", parent.workflow_id),
        RecordBody::ChildBegan { step } => format!("child {step}{} has begun", name(step)),
        RecordBody::ChildClosed { step, close, never_began } => {
            let never = if never_began { "never began, " } else { "" };
            format!("child {step}{} {never}{}", name(step), settled(&close.outcome))
        }
        RecordBody::Delivered { step, outcome } => match outcome {
            Outcome::Done(_) => format!("what {step}{} told another run was taken", name(step)),
            Outcome::Failed(failure) => format!("what {step}{} told another run was not taken: {failure}", name(step)),
        },
        RecordBody::Signalled { name, value, .. } => format!("signal `{name}` {}", shown_payload(&value)),
        RecordBody::SignalledByTag { tag, name, value, .. } => {
            format!("signal `{name}` {} to all with the tag {tag:?}", shown_payload(&value))
        }
        RecordBody::UpdateAccepted { id, name, args, .. } => format!("update {id}, `{name}` {}", shown_payload(&args)),
        RecordBody::ActivitySettled { step, outcome, .. } => {
            format!("activity {step}{} {}", name(step), settled(&outcome))
        }
        RecordBody::AttemptFailed { step, attempt, failure, next } => {
            let next = match next {
                NextAttempt::At(at) => format!("the next one is due at +{:?}", at.since(begin)),
                NextAttempt::Redrive => "it waits for an operator".to_owned(),
            };
            format!("attempt {attempt} of activity {step}{} failed: {failure}; {next}", name(step))
        }
        RecordBody::StepSettled { step, outcome } => format!("step {step}{} {}", name(step), settled(&outcome)),
        RecordBody::PromiseSettled { step, outcome } => format!("promise {step} {}", settled(&outcome)),
        RecordBody::AttemptLeft { step, attempt, .. } => {
            format!("attempt {attempt} of activity {step}{} is to be completed from outside", name(step))
        }
        RecordBody::AttemptReported { step, attempt, report } => match report.outcome() {
            Some(outcome) => format!("activity {step}{} {}, from outside", name(step), settled(&outcome)),
            None => format!("attempt {attempt} of activity {step}{} was told of from outside", name(step)),
        },
        RecordBody::AttemptOverdue { step, attempt, failure } => {
            format!("attempt {attempt} of activity {step}{} was not completed in time: {failure}", name(step))
        }
        RecordBody::TimerFired { step } => format!("timer {step} fired"),
        RecordBody::CancelRequested { reason } => format!("asked to cancel: {reason}"),
        RecordBody::Terminated { reason } => format!("terminated: {reason}"),
        RecordBody::TimedOut => "the run timed out".to_owned(),
        RecordBody::HistoryExceeded { size, .. } => {
            format!("the history is too long: {} events, {} bytes", size.events, size.bytes)
        }
        RecordBody::Received { event, .. } => {
            format!("`{}` was taken in, for later", event.body.kind().unwrap_or_default())
        }
        RecordBody::Applied { .. } => "what was taken in is applied".to_owned(),
        RecordBody::Parked { reason } => format!("parked: {}", reason.message),
        RecordBody::Resumed => "resumed".to_owned(),
        RecordBody::Carried { .. } | RecordBody::Remembered { .. } => "carried forward".to_owned(),
        RecordBody::TagReached { tag, runs, .. } => {
            format!("a signal to all with the tag {tag:?} has come to {runs} runs")
        }
    }
}
