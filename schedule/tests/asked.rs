//! What is asked of a schedule beside its times, and what of them is not done.

mod common;

use std::time::Duration;

use common::*;
use everpulse_protocol::Timestamp;
use everpulse_schedule::{Cause, Control, Overlap, Plan, Recent, Rfc3339, Spec, View};
use everpulse_testing::{Environment, RunStatus, explore};

const MINUTE: Duration = Duration::from_secs(60);

fn hourly() -> Environment {
    with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"))
}

fn of(view: &View, cause: Cause) -> Vec<&Recent> {
    view.recent.iter().filter(|recent| recent.cause == cause).collect()
}

fn update(plan: &Plan, revision: u64) -> Control {
    Control::Update { plan: Box::new(plan.clone()), revision, id: String::new(), keeps_remaining: true }
}

#[test]
fn a_range_leaves_out_what_was_begun_when_ids_are_long_forgotten() {
    let env = hourly();
    let mut plan = plan(Spec::new().cron("@hourly"), 10);
    plan.overlap = Overlap::Skip;
    let kept = keep(&env, plan);
    // One hour is not done, and a day has no pause.
    kept.at(5 * HOUR).signal(Control::Pause { note: String::new() });
    kept.at(6 * HOUR).signal(Control::Unpause);
    env.advance(9 * DAY);
    let begun = view(&env).counts.begun;
    let (from, until) = (at("2025-12-31T23:00:00Z"), at("2026-01-04T00:00:00Z"));
    kept.signal(Control::Backfill { from, until, overlap: Overlap::BufferAll });
    env.advance(25 * MINUTE);
    let again = view(&env);
    let done: Vec<String> = of(&again, Cause::Backfill).iter().map(|recent| Rfc3339(recent.at).to_string()).collect();
    assert_eq!(done, ["2025-12-31T23:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T06:00:00Z"]);
    // Of 73 hours.
    assert_eq!((again.counts.known, again.counts.begun), (70, begun + 3));
    // And once more: all are known.
    env.advance(4 * MINUTE);
    kept.signal(Control::Backfill { from, until, overlap: Overlap::BufferAll });
    env.advance(MINUTE);
    assert_eq!((view(&env).counts.known, view(&env).counts.begun), (143, begun + 3));
}

/// A time of an hour with a jitter, of which the moment comes two minutes or more before it is due.
fn jittered() -> (Environment, everpulse_testing::Run<everpulse_schedule::schedule>, Plan, Timestamp, Timestamp) {
    let env = hourly();
    let spec = Spec::new().cron("@hourly").jitter(40 * MINUTE);
    let times = spec.times().expect("it can be used");
    let mut time = times.time_after("nightly", at("2026-01-01T00:30:00Z")).expect("one is next");
    while time.due.0 < time.at.0 + 120_000 {
        time = times.time_after("nightly", time.at).expect("one is next");
    }
    let plan = plan(spec, 0);
    let kept = keep(&env, plan.clone());
    env.advance(Duration::from_millis(time.at.0 + 30_000 - at("2026-01-01T00:30:00Z").0));
    (env, kept, plan, time.at, time.due)
}

#[test]
fn a_time_between_its_moment_and_its_jitter_is_not_lost_at_a_pause_that_ends_before() {
    let (env, kept, _, time, due) = jittered();
    kept.signal(Control::Pause { note: String::new() });
    env.advance(MINUTE);
    kept.signal(Control::Unpause);
    let before = view(&env).counts;
    env.advance(Duration::from_millis(due.0 - time.0));
    let after = view(&env);
    assert_eq!(after.recent.last().map(|recent| recent.at), Some(time), "{after:?}");
    assert_eq!((after.counts.begun, after.counts.skipped), (before.begun + 1, before.skipped));
}

#[test]
fn a_time_between_its_moment_and_its_jitter_is_left_by_a_pause_that_lasts() {
    let (env, kept, _, time, due) = jittered();
    kept.signal(Control::Pause { note: String::new() });
    env.advance(Duration::from_millis(due.0 - time.0));
    kept.signal(Control::Unpause);
    env.advance(MINUTE);
    assert_ne!(view(&env).recent.last().map(|recent| recent.at), Some(time));
}

#[test]
fn a_time_between_its_moment_and_its_jitter_is_done_after_a_change_that_has_it_and_else_counted() {
    for (keeps, begun, skipped) in [(true, 1, 0), (false, 0, 1)] {
        let (env, kept, plan, time, due) = jittered();
        let mut changed = plan;
        changed.spec = match keeps {
            true => changed.spec.except("* * 24-26 12 *"),
            false => Spec::new().cron("@yearly"),
        };
        let before = view(&env).counts;
        kept.signal(update(&changed, 0));
        env.advance(Duration::from_millis(due.0 - time.0));
        let counts = view(&env).counts;
        assert_eq!((counts.begun, counts.skipped), (before.begun + begun, before.skipped + skipped), "{keeps}");
    }
}

#[test]
fn times_make_way_for_each_other_and_leave_what_somebody_asked_for() {
    let env = hourly();
    let mut plan = plan(Spec::new().cron("@hourly"), 150);
    plan.overlap = Overlap::CancelOther;
    let kept = keep(&env, plan);
    kept.at(10 * MINUTE).signal(Control::Trigger { overlap: Overlap::AllowAll });
    let (from, until) = (at("2025-12-31T10:00:00Z"), at("2025-12-31T11:00:00Z"));
    kept.at(20 * MINUTE).signal(Control::Backfill { from, until, overlap: Overlap::AllowAll });
    env.advance(5 * HOUR);
    let view = view(&env);
    assert_eq!(status(&env, "2025-12-31T10:00:00Z"), RunStatus::Completed);
    assert_eq!(of(&view, Cause::Trigger)[0].end, Some(everpulse_schedule::End::Completed));
    assert_eq!(status(&env, "2026-01-01T01:00:00Z"), RunStatus::Cancelled);
    assert_eq!((view.counts.failed, view.counts.skipped), (4, 0), "{view:?}");
}

/// Each hour, and each time something that takes ten of them and does not heed a request to cancel.
fn stubborn(overlap: Overlap) -> Plan {
    let mut plan = plan(Spec::new().cron("@hourly"), 600);
    plan.action.workflow = "deaf".to_owned();
    plan.overlap = overlap;
    plan
}

fn status_of_deaf(env: &Environment, time: &str) -> RunStatus {
    env.run(deaf, format!("nightly-{time}")).status()
}

#[test]
fn times_end_each_other_at_once_where_a_request_is_not_heeded() {
    let env = hourly();
    keep(&env, stubborn(Overlap::CancelOther));
    env.advance(5 * HOUR);
    assert_eq!(status_of_deaf(&env, "2026-01-01T01:00:00Z"), RunStatus::Open);
    assert_eq!((view(&env).counts.begun, view(&env).open), (1, 1));

    let env = hourly();
    let kept = keep(&env, stubborn(Overlap::TerminateOther));
    env.advance(5 * HOUR);
    assert_eq!(status_of_deaf(&env, "2026-01-01T01:00:00Z"), RunStatus::Terminated);
    assert_eq!((view(&env).counts.failed, view(&env).open, view(&env).counts.skipped), (4, 1, 0));
    // Somebody wants to be the only one.
    kept.signal(Control::Trigger { overlap: Overlap::TerminateOther });
    env.advance(MINUTE);
    assert_eq!(status_of_deaf(&env, "2026-01-01T05:00:00Z"), RunStatus::Terminated);
    assert_eq!(of(&view(&env), Cause::Trigger).len(), 1);
}

#[test]
fn what_was_asked_to_cancel_and_did_not_can_be_ended_at_once_later() {
    let env = hourly();
    let kept = keep(&env, stubborn(Overlap::CancelOther));
    env.advance(2 * HOUR);
    assert_eq!((view(&env).counts.begun, view(&env).open), (1, 1));
    // The time that waits is done as soon as somebody says how.
    kept.signal(update(&stubborn(Overlap::TerminateOther), 0));
    env.advance(MINUTE);
    assert_eq!(status_of_deaf(&env, "2026-01-01T01:00:00Z"), RunStatus::Terminated);
    assert_eq!(recent(&view(&env)), ["01:00 cancelled", "02:00 open"]);

    let env = hourly();
    let kept = keep(&env, stubborn(Overlap::CancelOther));
    env.advance(2 * HOUR);
    kept.signal(Control::Trigger { overlap: Overlap::TerminateOther });
    env.advance(MINUTE);
    assert_eq!(status_of_deaf(&env, "2026-01-01T01:00:00Z"), RunStatus::Terminated);
    assert_eq!(of(&view(&env), Cause::Trigger).len(), 1);
}

/// Whoever dies, and whatever comes twice or in another order: no run that does not end by itself is left in the way.
#[test]
fn times_end_each_other_under_faults() {
    explore(25, |env| {
        let env = with(env);
        let mut plan = stubborn(Overlap::TerminateOther);
        plan.spec = Spec::new().every(MINUTE);
        keep(&env, plan);
        env.advance(10 * MINUTE);
        let view = view(&env);
        assert!(view.open <= 1 && view.counts.known == 0, "{view:?}");
        let counts = &view.counts;
        assert_eq!(counts.failed + view.open as u64, counts.begun, "{view:?}");
        assert!(counts.begun + counts.skipped + counts.missed >= 8, "{view:?}");
    });
}

#[test]
fn a_run_on_demand_does_not_wait_behind_a_range() {
    let env = hourly();
    let kept = keep(&env, plan(Spec::new().cron("@daily"), 10));
    let (from, until) = (at("2025-12-01T00:00:00Z"), at("2025-12-31T00:00:00Z"));
    kept.signal(Control::Backfill { from, until, overlap: Overlap::BufferAll });
    env.advance(5 * MINUTE);
    kept.signal(Control::Trigger { overlap: Overlap::AllowAll });
    env.advance(MINUTE);
    assert_eq!(view(&env).open, 2, "beside the first of the range");
    kept.signal(Control::Trigger { overlap: Overlap::BufferAll });
    env.advance(12 * MINUTE);
    let view = view(&env);
    let causes: Vec<Cause> = view.recent.iter().map(|recent| recent.cause).collect();
    assert_eq!(causes, [Cause::Backfill, Cause::Trigger, Cause::Trigger], "{view:?}");
}

#[test]
fn a_range_is_done_again_also_while_it_is_paused() {
    let env = hourly();
    let kept = keep(&env, plan(Spec::new().cron("@daily"), 10));
    kept.signal(Control::Pause { note: String::new() });
    let (from, until) = (at("2025-12-01T00:00:00Z"), at("2025-12-04T00:00:00Z"));
    kept.signal(Control::Backfill { from, until, overlap: Overlap::BufferAll });
    env.advance(2 * HOUR);
    let view = view(&env);
    assert_eq!((view.counts.completed, view.paused.is_some(), view.asked), (3, true, 0));
}

#[test]
fn of_very_many_times_that_wait_for_their_turn_the_first_are_skipped() {
    let env = hourly();
    let mut plan = plan(Spec::new().every(Duration::from_secs(1)).until(at("2026-01-01T02:00:00Z")), 90);
    plan.overlap = Overlap::BufferAll;
    let kept = keep(&env, plan.clone());
    env.advance(91 * MINUTE);
    let view = view(&env);
    // 5,399 seconds, of which the first was done, and a thousand wait: the second run is one of them.
    assert_eq!((view.counts.begun, view.counts.skipped, view.open), (2, 4_398, 1), "{view:?}");
    kept.signal(Control::Delete);
    assert_eq!(kept.result().expect("it ends well").skipped, 5_397);
}

#[test]
fn no_more_than_a_thousand_are_open_and_the_others_wait() {
    let env = hourly();
    let mut plan = plan(Spec::new().every(Duration::from_secs(1)).until(at("2026-01-01T00:48:20Z")), 30);
    plan.overlap = Overlap::AllowAll;
    keep(&env, plan);
    env.advance(19 * MINUTE);
    assert_eq!(view(&env).open, 1_000);
    env.advance(HOUR);
    let counts = view(&env).counts;
    assert_eq!((counts.begun, counts.completed, counts.skipped, counts.missed), (1_099, 1_099, 0, 0));
}

#[test]
fn how_many_times_are_still_to_be_done_survives_a_change_and_a_new_number_brings_none_back() {
    let env = hourly();
    let mut three = plan(Spec::new().cron("@hourly"), 0);
    three.remaining = Some(3);
    let kept = keep(&env, three.clone());
    env.advance(HOUR);
    // As whoever made the change saw it before the first hour.
    three.pause_on_failure = true;
    kept.signal(update(&three, 0));
    env.advance(9 * HOUR);
    assert_eq!((view(&env).counts.begun, view(&env).plan.remaining), (3, Some(0)));
    three.remaining = Some(2);
    let (plan, id) = (Box::new(three), String::new());
    let two = Control::Update { plan, revision: 1, id, keeps_remaining: false };
    kept.signal(two);
    env.advance(MINUTE);
    assert_eq!(view(&env).counts.begun, 3, "what went by is nobody's");
    env.advance(9 * HOUR);
    assert_eq!((view(&env).counts.begun, view(&env).plan.remaining), (5, Some(0)));
}
