//! A workflow that is begun at times, and a schedule that begins it.
#![allow(dead_code, reason = "each of the tests takes what it needs")]

use std::time::{Duration, SystemTime};

use everpulse_protocol::{Payload, Timestamp};
use everpulse_schedule::{Action, Describe, End, Plan, Rfc3339, Spec, State, View, schedule, scheduled_run};
use everpulse_sdk::{self as everpulse, Error, shielded, sleep, workflow};
use everpulse_testing::{Environment, Run, RunStatus};

pub const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);

#[workflow(version = 1, crate = everpulse)]
pub async fn report(minutes: u64) -> Result<u64, Error> {
    sleep(Duration::from_secs(60 * minutes)).await;
    if minutes % 100 == 13 { Err(Error::msg("bad luck")) } else { Ok(minutes) }
}

/// Does not heed that it is to cancel.
#[workflow(version = 1, crate = everpulse)]
pub async fn deaf(minutes: u64) -> u64 {
    shielded(sleep(Duration::from_secs(60 * minutes))).await;
    minutes
}

pub fn at(text: &str) -> Timestamp {
    text.parse::<Rfc3339>().expect("a time").0
}

pub fn clock(text: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at(text).0)
}

pub fn plan(spec: Spec, minutes: u64) -> Plan {
    let args = Payload::encode(&std::collections::BTreeMap::from([("minutes", minutes)])).expect("encoded");
    Plan::new(
        spec,
        Action {
            workflow: "report".to_owned(),
            version: None,
            args,
            tags: Vec::new(),
            timeout_ms: None,
            priority: Default::default(),
        },
    )
}

pub fn with(env: Environment) -> Environment {
    env.workflow(schedule).workflow(scheduled_run).workflow(report).workflow(deaf)
}

pub fn keep(env: &Environment, plan: Plan) -> Run<everpulse_schedule::schedule> {
    env.start(schedule(State::new("nightly", plan))).id("schedule/nightly")
}

/// The same, of which each run ends after some thirty events.
pub fn keep_briefly(env: &Environment, plan: Plan) -> Run<everpulse_schedule::schedule> {
    env.start(schedule(State::new("nightly", plan).short_lived(30))).id("schedule/nightly")
}

/// How it stands, in whichever of its runs.
pub fn view(env: &Environment) -> View {
    env.run(schedule, "schedule/nightly").query(Describe { now: Timestamp(0), coming: 10 })
}

/// The hours and minutes of what was begun, and how it ended.
pub fn recent(view: &View) -> Vec<String> {
    let shown = |at: Timestamp| Rfc3339(at).to_string()[11..16].to_owned();
    view.recent
        .iter()
        .map(|recent| {
            let end = match &recent.end {
                None => "open".to_owned(),
                Some(End::Failed { .. }) => "failed".to_owned(),
                Some(end) => format!("{end:?}").to_lowercase(),
            };
            format!("{} {end}", shown(recent.at))
        })
        .collect()
}

pub fn status(env: &Environment, time: &str) -> RunStatus {
    env.run(report, format!("nightly-{time}")).status()
}
