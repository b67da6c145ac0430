//! Schedules of earlier releases go on with today's code: a schedule is a run that is replayed, for years.
//!
//! A change of `run.rs`, `runner.rs` or `state` that these tests notice would park every schedule that has gone that way. What to do
//! instead stands in `docs/decisions/schedules-are-runs.md`. Files are named `WHAT.VERSION.json`, are recorded once and never edited.

mod common;

use std::path::Path;

use common::*;
use everpulse_schedule::{Control, Overlap, Plan, Scheduled, Spec, State, schedule, scheduled_run};
use everpulse_testing::{Environment, Run, replay_dir};
use serde_json::json;

const HISTORIES: usize = 14;

#[test]
fn recorded_schedules_go_on_with_todays_code() {
    assert_eq!(replay_dir!("tests/histories", schedule, scheduled_run), HISTORIES);
}

fn hourly() -> Environment {
    with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"))
}

fn of_each_hour(minutes: u64, overlap: Overlap) -> Plan {
    let mut plan = plan(Spec::new().cron("@hourly"), minutes);
    plan.overlap = overlap;
    plan
}

fn update(plan: Plan, revision: u64) -> Control {
    Control::Update { plan: Box::new(plan), revision, id: "u".to_owned(), keeps_remaining: true }
}

fn keep_file(name: &str, json: String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories").join(format!("{name}.json"));
    assert!(!file.exists(), "{name} is there already");
    std::fs::write(file, json).expect("written");
}

/// Writes the histories that the test above replays.
#[test]
#[ignore = "it records new histories"]
fn record() {
    told_and_asked();
    makes_way();
    lives_long();
    ends();
    runners();
}

fn told_and_asked() {
    let env = hourly();
    let kept = keep(&env, of_each_hour(90, Overlap::Skip));
    kept.signal(Control::Trigger { overlap: Overlap::AllowAll });
    env.advance(5 * HOUR);
    kept.signal(Control::Pause { note: "a holiday".to_owned() });
    let (from, until) = (at("2025-12-31T20:00:00Z"), at("2026-01-01T02:00:00Z"));
    kept.signal(Control::Backfill { from, until, overlap: Overlap::BufferAll });
    env.advance(9 * HOUR);
    kept.signal(Control::Unpause);
    env.advance(2 * HOUR);
    keep_file("asked.2", kept.export());

    // Times wait for their turn, are counted where nobody was there, and a failure pauses.
    let env = hourly();
    let mut line = of_each_hour(113, Overlap::BufferAll);
    line.pause_on_failure = true;
    line.spec = line.spec.jitter(10 * (HOUR / 60));
    let kept = keep(&env, line.clone());
    env.advance(4 * HOUR);
    kept.signal(Control::Unpause);
    line.overlap = Overlap::BufferOne;
    kept.signal(update(line, 0));
    env.advance(7 * HOUR);
    keep_file("in-line.2", kept.export());
}

fn makes_way() {
    let env = hourly();
    let mut plan = of_each_hour(600, Overlap::CancelOther);
    plan.action.workflow = "deaf".to_owned();
    let kept = keep(&env, plan.clone());
    env.advance(3 * HOUR);
    plan.overlap = Overlap::TerminateOther;
    kept.signal(update(plan, 0));
    env.advance(3 * HOUR);
    keep_file("makes-way.2", kept.export());
}

/// Of a series the run that was made, one that goes on and makes room again, and the last one.
fn lives_long() {
    let env = hourly();
    let kept = keep_briefly(&env, of_each_hour(150, Overlap::AllowAll));
    env.advance(30 * HOUR);
    let mut series = kept.export_series();
    assert!(series.len() > 3, "{}", series.len());
    keep_file("last.2", series.pop().expect("it is one of them"));
    keep_file("goes-on.2", series.swap_remove(1));
    keep_file("goes-on-first.2", series.swap_remove(0));
}

fn ends() {
    let env = hourly();
    let kept = keep(&env, of_each_hour(90, Overlap::Skip));
    env.advance(2 * HOUR);
    kept.signal(Control::Delete);
    kept.result().expect("it ends well");
    keep_file("deleted.2", kept.export());

    let env = hourly();
    let kept = keep(&env, of_each_hour(90, Overlap::AllowAll));
    env.advance(2 * HOUR);
    kept.cancel();
    kept.result().expect_err("it is cancelled");
    keep_file("cancelled.2", kept.export());

    let env = hourly();
    let mut limited = of_each_hour(10, Overlap::Skip);
    limited.remaining = Some(2);
    let kept = env.start(schedule(State::new("nightly", limited))).id("schedule/nightly");
    env.advance(5 * HOUR);
    keep_file("limited.2", kept.export());
}

fn runners() {
    let begun = |env: &Environment, workflow: &str, minutes: u64| -> Run<scheduled_run> {
        let mut action = plan(Spec::new(), minutes).action;
        action.workflow = workflow.to_owned();
        let scheduled = json!({
            "schedule": "schedule/nightly",
            "no": 7,
            "workflow_id": "nightly-7",
            "action": serde_json::to_value(action).expect("it can be written"),
        });
        let scheduled: Scheduled = serde_json::from_value(scheduled).expect("it is one");
        env.start(scheduled_run(scheduled))
    };
    const ASK: &str = "everpulse.schedule.ask";
    let env = hourly();
    let runner = begun(&env, "report", 90);
    runner.result().expect("it ends well");
    keep_file("runner.1", runner.export());

    let env = hourly();
    let failed = begun(&env, "report", 113);
    env.advance(HOUR);
    failed.signal_named(ASK, "report");
    failed.result().expect("it ends well");
    keep_file("runner-reports.1", failed.export());

    let env = hourly();
    let ended = begun(&env, "deaf", 600);
    env.advance(HOUR);
    ended.signal_named(ASK, "cancel");
    env.advance(HOUR);
    ended.signal_named(ASK, "terminate");
    ended.result().expect("it ends well");
    keep_file("runner-ends-it.1", ended.export());

    let env = hourly();
    let first = begun(&env, "report", 600);
    env.settle();
    let second = begun(&env, "report", 600);
    second.result().expect("it ends well");
    first.cancel();
    first.result().expect("it ends well, too");
    keep_file("runner-refused.1", second.export());
    keep_file("runner-cancelled.1", first.export());
}
