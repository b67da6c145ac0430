//! Schedules: make, look at, tell, change.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand, ValueEnum};
use everpulse::client::schedule::{Cause, End, Plan, Rfc3339, Spec, View};
use everpulse::client::{Client, Timestamp};
use serde_json::{Value, json};

use crate::arguments::{self, BadInput};

/// Runs that are begun at times.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Make a schedule: at each time a run begins, with the id NAME-TIME
    Create {
        name: String,
        /// The workflow's name
        workflow: String,
        /// Its arguments: an object by parameter name
        #[arg(default_value = "{}")]
        args: String,
        #[command(flatten)]
        times: Times,
        #[command(flatten)]
        rules: Rules,
    },
    /// The names of all schedules
    List {
        #[arg(long)]
        json: bool,
    },
    /// Show a schedule: what it does, its next times, and what it did
    Describe {
        name: String,
        #[arg(long)]
        json: bool,
    },
    /// Begin nothing by itself until it is told to go on
    Pause {
        name: String,
        #[arg(default_value = "by an operator")]
        note: String,
    },
    /// Go on with the next time
    Unpause { name: String },
    /// Begin a run now
    Trigger {
        name: String,
        /// What is done if a run of the schedule is open
        #[arg(long, value_enum, default_value = "allow-all")]
        overlap: Overlap,
    },
    /// Do the times of a range, from its beginning up to and without its end, but those that were begun already
    Backfill {
        name: String,
        /// Such as 2026-03-29T01:00:00Z
        from: Rfc3339,
        until: Rfc3339,
        /// What is done at a time while a run of the schedule is open
        #[arg(long, value_enum, default_value = "buffer-all")]
        overlap: Overlap,
    },
    /// Change what is given, and leave the rest; any of cron, every and except replaces all three
    Update {
        name: String,
        #[command(flatten)]
        times: Times,
        #[command(flatten)]
        rules: Rules,
    },
    /// End a schedule; its runs go on
    Delete { name: String },
}

#[derive(Debug, Args)]
pub struct Times {
    /// A cron of 5, 6 (second first) or 7 (year last) fields; may be given several times
    #[arg(long)]
    cron: Vec<String>,
    /// A time every so many seconds, counted from the beginning of 1970
    #[arg(long, value_name = "SECONDS")]
    every_seconds: Vec<u64>,
    /// No time that this cron has: `* * 24-26 12 *` is three days
    #[arg(long, value_name = "CRON")]
    except: Vec<String>,
    /// By whose clocks crons are read, such as Europe/Vienna
    #[arg(long, value_name = "NAME")]
    time_zone: Option<String>,
    /// No time before it
    #[arg(long)]
    from: Option<Rfc3339>,
    /// No time at it or after it
    #[arg(long)]
    until: Option<Rfc3339>,
    /// Each time is done up to so much later
    #[arg(long)]
    jitter_seconds: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Rules {
    /// What is done at a time while a run of the schedule is open
    #[arg(long, value_enum)]
    overlap: Option<Overlap>,
    /// A time that nobody could do is made up for within so long after it: a day, unless this says otherwise
    #[arg(long)]
    catch_up_seconds: Option<u64>,
    /// A run that fails pauses the schedule
    #[arg(long)]
    pause_on_failure: Option<bool>,
    /// So many times, and no more
    #[arg(long, value_name = "TIMES")]
    limit: Option<u64>,
}

/// What is done at a time while a run of the schedule is open.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Overlap {
    /// The time is skipped
    Skip,
    /// The first such time waits, others are skipped
    BufferOne,
    /// All wait for their turn
    BufferAll,
    /// The open run of another time is asked to cancel
    CancelOther,
    /// The open run of another time is ended at once
    TerminateOther,
    /// It is done beside the open run
    AllowAll,
}

impl From<Overlap> for everpulse::client::Overlap {
    fn from(overlap: Overlap) -> Self {
        match overlap {
            Overlap::Skip => Self::Skip,
            Overlap::BufferOne => Self::BufferOne,
            Overlap::BufferAll => Self::BufferAll,
            Overlap::CancelOther => Self::CancelOther,
            Overlap::TerminateOther => Self::TerminateOther,
            Overlap::AllowAll => Self::AllowAll,
        }
    }
}

/// Carries out what was said on the command line.
///
/// # Errors
/// A value that is none, and those of the client.
pub async fn run(client: &Client, command: ScheduleCommand) -> anyhow::Result<()> {
    match command {
        ScheduleCommand::Create { name, workflow, args, times, rules } => {
            let args = arguments::json("the arguments", &args)?;
            if !args.is_object() {
                return Err(BadInput::new("the arguments are an object by parameter name: '{\"order\": ..}'").into());
            }
            let mut new = client.schedule(name).spec(times.applied(Spec::new()));
            if let Some(overlap) = rules.overlap {
                new = new.overlap(overlap.into());
            }
            if let Some(seconds) = rules.catch_up_seconds {
                new = new.catch_up(Duration::from_secs(seconds));
            }
            if let Some(limit) = rules.limit {
                new = new.limit(limit);
            }
            new = new.pause_on_failure(rules.pause_on_failure.unwrap_or_default());
            new.create_named(&workflow, &args).await?;
        }
        ScheduleCommand::List { json } => {
            let names = client.schedules().await?;
            match json {
                true => println!("{:#}", json!(names)),
                false => names.iter().for_each(|name| println!("{name}")),
            }
        }
        ScheduleCommand::Describe { name, json } => {
            let view = client.schedule(name).describe().await?;
            match json {
                true => println!("{:#}", as_json(&view)),
                false => print!("{}", as_text(&view)),
            }
        }
        ScheduleCommand::Pause { name, note } => client.schedule(name).pause(note).await?,
        ScheduleCommand::Unpause { name } => client.schedule(name).unpause().await?,
        ScheduleCommand::Trigger { name, overlap } => {
            client.schedule(name).trigger().overlap(overlap.into()).await?;
        }
        ScheduleCommand::Backfill { name, from, until, overlap } => {
            client.schedule(name).backfill(time(from.0)..time(until.0)).overlap(overlap.into()).await?;
        }
        ScheduleCommand::Update { name, times, rules } => {
            if times.is_empty() && rules.is_empty() {
                return Err(BadInput::new("nothing is given that would change it; `--help` shows what can be").into());
            }
            client
                .schedule(name)
                .update(|plan| {
                    plan.spec = times.applied(std::mem::take(&mut plan.spec));
                    rules.apply(plan);
                })
                .await?;
        }
        ScheduleCommand::Delete { name } => client.schedule(name).delete().await?,
    }
    Ok(())
}

impl Times {
    fn is_empty(&self) -> bool {
        let Self { cron, every_seconds, except, time_zone, from, until, jitter_seconds } = self;
        let no_other_times = cron.is_empty() && every_seconds.is_empty() && except.is_empty();
        no_other_times && time_zone.is_none() && from.is_none() && until.is_none() && jitter_seconds.is_none()
    }

    fn applied(&self, spec: Spec) -> Spec {
        let mut spec = spec;
        if !(self.cron.is_empty() && self.every_seconds.is_empty() && self.except.is_empty()) {
            spec.crons.clone_from(&self.cron);
            spec.exceptions.clone_from(&self.except);
            spec.intervals.clear();
        }
        for seconds in &self.every_seconds {
            spec = spec.every(Duration::from_secs(*seconds));
        }
        if let Some(name) = &self.time_zone {
            spec = spec.time_zone(name);
        }
        spec.from = self.from.map(|from| from.0).or(spec.from);
        spec.until = self.until.map(|until| until.0).or(spec.until);
        if let Some(seconds) = self.jitter_seconds {
            spec = spec.jitter(Duration::from_secs(seconds));
        }
        spec
    }
}

impl Rules {
    fn is_empty(&self) -> bool {
        let Self { overlap, catch_up_seconds, pause_on_failure, limit } = self;
        overlap.is_none() && catch_up_seconds.is_none() && pause_on_failure.is_none() && limit.is_none()
    }

    fn apply(&self, plan: &mut Plan) {
        plan.overlap = self.overlap.map_or(plan.overlap, Into::into);
        plan.catch_up_ms = self.catch_up_seconds.map_or(plan.catch_up_ms, |seconds| seconds.saturating_mul(1_000));
        plan.pause_on_failure = self.pause_on_failure.unwrap_or(plan.pause_on_failure);
        plan.remaining = self.limit.or(plan.remaining);
    }
}

fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0)
}

/// A schedule for people.
fn as_text(view: &View) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name:<10} {value}"));
    let spec = &view.plan.spec;
    line("schedule", view.name.clone());
    line("workflow", view.plan.action.workflow.clone());
    spec.crons.iter().for_each(|cron| line("cron", format!("{cron} ({})", spec.time_zone)));
    spec.intervals.iter().for_each(|interval| line("every", format!("{} s", interval.every_ms / 1_000)));
    spec.exceptions.iter().for_each(|cron| line("except", cron.clone()));
    spec.from.iter().for_each(|from| line("from", Rfc3339(*from).to_string()));
    spec.until.iter().for_each(|until| line("until", Rfc3339(*until).to_string()));
    if spec.jitter_ms > 0 {
        line("jitter", format!("up to {} s", spec.jitter_ms / 1_000));
    }
    line("overlap", word(&view.plan.overlap));
    line("catch-up", format!("within {} s", view.plan.catch_up_ms / 1_000));
    if view.plan.pause_on_failure {
        line("failures", "pause it".to_owned());
    }
    if let Some(remaining) = view.plan.remaining {
        let what =
            if remaining == 0 { "none, its limit is reached".to_owned() } else { format!("{remaining} of its limit") };
        line("remaining", what);
    }
    if let Some(paused) = &view.paused {
        line("paused", format!("since {}: {}", Rfc3339(paused.since), paused.note));
    }
    let remaining = view.plan.remaining.and_then(|remaining| usize::try_from(remaining).ok()).unwrap_or(usize::MAX);
    let unless = if view.paused.is_some() { ", if it is not paused then" } else { "" };
    view.coming.iter().take(remaining).for_each(|at| line("next", format!("{}{unless}", Rfc3339(*at))));
    let counts = &view.counts;
    let counted = [
        ("open", view.open as u64, ""),
        ("begun", counts.begun, ""),
        ("completed", counts.completed, ""),
        ("failed", counts.failed, ", with those that were cancelled or terminated"),
        ("skipped", counts.skipped, ", for an open run, a pause or an update"),
        ("missed", counts.missed, ", as no worker could do them in time"),
        ("known", counts.known, ", done before and not again"),
        ("waiting", view.asked as u64, ", triggers and ranges"),
    ];
    for (name, count, what) in counted {
        line(name, format!("{count}{}", if count > 0 { what } else { "" }));
    }
    for recent in &view.recent {
        let cause = match recent.cause {
            Cause::Time => String::new(),
            cause => format!(" ({})", word(&cause)),
        };
        let end = match &recent.end {
            None => "open".to_owned(),
            Some(End::Failed { message }) => format!("failed: {message}"),
            Some(end) => word(end),
        };
        line("run", format!("{}{cause} {end}", recent.workflow_id));
    }
    lines.join("\n") + "\n"
}

/// A schedule for programs. Arguments stay out: they may be secret.
fn as_json(view: &View) -> Value {
    let mut value = serde_json::to_value(view).unwrap_or_default();
    if let Some(action) = value.pointer_mut("/plan/action").and_then(Value::as_object_mut) {
        action.remove("args");
    }
    value
}

/// The wire's own word, as it is typed at a terminal.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|word| word.as_str().map(|word| word.replace('_', "-")))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> Value {
        json!({
            "name": "nightly",
            "plan": {
                "spec": { "crons": ["0 2 * * *"], "time_zone": "Europe/Vienna", "jitter_ms": 300_000, "until": 1_798_761_600_000_u64 },
                "action": { "workflow": "report", "args": { "data": [192] } },
                "overlap": "terminate_other",
                "catch_up_ms": 60_000,
                "pause_on_failure": true,
                "remaining": 1,
            },
            "revision": 0,
            "paused": { "since": 1_795_388_400_000_u64, "note": "the database moves" },
            "coming": [1_795_395_600_000_u64, 1_795_482_000_000_u64],
            "recent": [
                { "at": 1_795_309_200_000_u64, "workflow_id": "nightly-1", "cause": "time", "begun_at": 1_795_309_200_100_u64, "end": "cancelled" },
                { "at": 1_795_309_300_000_u64, "workflow_id": "nightly-2", "cause": "trigger", "begun_at": 1_795_309_300_000_u64, "end": { "failed": { "message": "no ink" } } },
            ],
            "open": 0,
            "asked": 0,
            "counts": { "begun": 2, "completed": 0, "failed": 2, "skipped": 0, "missed": 3, "known": 0 },
        })
    }

    #[test]
    fn all_that_decides_what_a_schedule_does_next_is_shown() {
        let view: View = serde_json::from_value(view()).expect("it is one");
        let expected = "\
schedule   nightly
workflow   report
cron       0 2 * * * (Europe/Vienna)
until      2027-01-01T00:00:00Z
jitter     up to 300 s
overlap    terminate-other
catch-up   within 60 s
failures   pause it
remaining  1 of its limit
paused     since 2026-11-22T23:00:00Z: the database moves
next       2026-11-23T01:00:00Z, if it is not paused then
open       0
begun      2
completed  0
failed     2, with those that were cancelled or terminated
skipped    0
missed     3, as no worker could do them in time
known      0
waiting    0
run        nightly-1 cancelled
run        nightly-2 (trigger) failed: no ink
";
        assert_eq!(as_text(&view), expected);
    }

    #[test]
    fn the_words_of_a_schedule_are_those_that_are_typed() {
        for overlap in Overlap::value_variants() {
            let typed = overlap.to_possible_value().expect("none is hidden");
            assert_eq!(word(&everpulse::client::Overlap::from(*overlap)), typed.get_name());
        }
    }
}
