//! Schedules on the engine, in virtual time: what is begun when, and what is not.

mod common;

use std::time::Duration;

use common::*;
use everpulse_schedule::{Cause, Control, Overlap, Rfc3339, Spec, View};
use everpulse_testing::{Environment, RunStatus, explore};

#[test]
fn each_night_of_a_year_has_one_run_also_when_clocks_are_changed() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T12:00:00Z"));
    keep(&env, plan(Spec::new().cron("30 2 * * *").time_zone("Europe/Vienna"), 10));
    env.advance(365 * DAY);
    let view = view(&env);
    assert_eq!((view.counts.begun, view.counts.completed), (365, 365));
    assert_eq!((view.counts.skipped, view.counts.missed, view.counts.known), (0, 0, 0));
    assert_eq!(status(&env, "2026-01-02T01:30:00Z"), RunStatus::Completed);
    // 02:30 does not exist, and comes twice.
    assert_eq!(status(&env, "2026-03-29T01:00:00Z"), RunStatus::Completed);
    assert_eq!(status(&env, "2026-10-25T00:30:00Z"), RunStatus::Completed);
    assert_eq!(status(&env, "2026-10-26T01:30:00Z"), RunStatus::Completed);
    assert_eq!(view.coming.first().map(|at| Rfc3339(*at).to_string()).as_deref(), Some("2027-01-02T01:30:00Z"));
}

/// Twelve hours of an hourly schedule whose runs take 150 minutes.
fn overlapping(overlap: Overlap) -> (Environment, View) {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let mut plan = plan(Spec::new().cron("@hourly"), 150);
    plan.overlap = overlap;
    keep(&env, plan);
    env.advance(HOUR * 12);
    let view = view(&env);
    (env, view)
}

#[test]
fn times_for_which_a_run_is_open_are_skipped() {
    let (_, view) = overlapping(Overlap::Skip);
    assert_eq!(recent(&view), ["01:00 completed", "04:00 completed", "07:00 completed", "10:00 completed"]);
    assert_eq!((view.counts.begun, view.counts.skipped, view.open), (4, 8, 0));
}

#[test]
fn one_time_waits_for_the_open_run() {
    let (_, view) = overlapping(Overlap::BufferOne);
    // From 01:00 to 03:30; 02:00 waits and 03:00 does not; from 03:30 to 06:00, when 04:00 and 06:00 are due.
    let expected = ["01:00 completed", "02:00 completed", "04:00 completed", "07:00 completed", "09:00 open"];
    assert_eq!(recent(&view), expected);
}

#[test]
fn all_times_wait_for_their_turn() {
    let (_, view) = overlapping(Overlap::BufferAll);
    let expected = ["01:00 completed", "02:00 completed", "03:00 completed", "04:00 completed", "05:00 open"];
    assert_eq!(recent(&view), expected);
    assert_eq!(view.counts.skipped, 0);
    // What waited for ten hours is not too late, although an hour would be.
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let mut plan = plan(Spec::new().cron("@hourly").until(at("2026-01-01T04:30:00Z")), 600);
    (plan.overlap, plan.catch_up_ms) = (Overlap::BufferAll, 3_600_000);
    keep(&env, plan);
    env.advance(2 * DAY);
    let view = self::view(&env);
    assert_eq!((view.counts.completed, view.counts.missed), (4, 0));
}

#[test]
fn the_open_run_makes_way_for_the_next_time() {
    let (_, view) = overlapping(Overlap::CancelOther);
    assert_eq!((view.counts.begun, view.counts.failed, view.open), (12, 11, 1));
    assert_eq!(recent(&view)[10..], ["11:00 cancelled", "12:00 open"]);
}

#[test]
fn all_times_are_done_beside_each_other() {
    let (_, view) = overlapping(Overlap::AllowAll);
    assert_eq!((view.counts.begun, view.counts.completed, view.open), (12, 10, 2));
}

#[test]
fn a_paused_schedule_begins_nothing_and_times_of_the_pause_are_left() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let kept = keep(&env, plan(Spec::new().cron("@hourly"), 10));
    kept.at(HOUR * 2).signal(Control::Pause { note: "a holiday".to_owned() });
    kept.at(HOUR * 5).signal(Control::Unpause);
    env.advance(HOUR * 3);
    let paused = view(&env).paused.expect("it is paused");
    assert_eq!((paused.note.as_str(), paused.since), ("a holiday", at("2026-01-01T02:30:00Z")));
    env.advance(HOUR * 4);
    assert_eq!(recent(&view(&env)), ["01:00 completed", "02:00 completed", "06:00 completed", "07:00 completed"]);
}

#[test]
fn a_failure_pauses_where_that_is_wanted() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let mut plan = plan(Spec::new().cron("@hourly"), 13);
    plan.pause_on_failure = true;
    keep(&env, plan);
    env.advance(HOUR * 5);
    let view = view(&env);
    assert_eq!(recent(&view), ["01:00 failed"]);
    let note = view.paused.map(|paused| paused.note);
    assert_eq!(note.as_deref(), Some("nightly-2026-01-01T01:00:00Z failed: bad luck"));
}

#[test]
fn runs_are_begun_on_demand_also_while_it_is_paused() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let kept = keep(&env, plan(Spec::new().cron("@daily"), 10));
    kept.signal(Control::Pause { note: String::new() });
    kept.signal(Control::Trigger { overlap: Overlap::AllowAll });
    kept.signal(Control::Trigger { overlap: Overlap::AllowAll });
    kept.signal(Control::Trigger { overlap: Overlap::Skip });
    env.advance(HOUR);
    let view = view(&env);
    assert_eq!((view.counts.begun, view.counts.completed, view.counts.skipped), (2, 2, 1));
    assert_ne!(view.recent[0].workflow_id, view.recent[1].workflow_id);
}

#[test]
fn a_range_is_done_again_one_after_another_and_what_is_known_is_not() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let kept = keep(&env, plan(Spec::new().cron("@hourly"), 10));
    env.advance(HOUR * 3);
    let (from, until) = (at("2025-12-31T22:00:00Z"), at("2026-01-01T02:00:00Z"));
    kept.signal(Control::Backfill { from, until, overlap: Overlap::BufferAll });
    env.advance(HOUR);
    // Three that nobody did, and the one at 01:00 that was.
    assert_eq!(view(&env).counts.known, 1);
    let expected = ["22:00 completed", "23:00 completed", "00:00 completed"];
    let again: Vec<_> = view(&env).recent.into_iter().filter(|recent| recent.cause == Cause::Backfill).collect();
    let again = again.iter().map(|recent| format!("{} completed", &Rfc3339(recent.at).to_string()[11..16]));
    assert_eq!(again.collect::<Vec<_>>(), expected);
}

#[test]
fn so_many_times_are_done_and_no_more() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let mut plan = plan(Spec::new().cron("@hourly"), 10);
    plan.remaining = Some(3);
    keep(&env, plan);
    env.advance(DAY);
    assert_eq!(view(&env).counts.begun, 3);
    assert_eq!(view(&env).plan.remaining, Some(0));
}

#[test]
fn an_update_holds_from_then_on_and_only_once() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let first = plan(Spec::new().cron("@hourly"), 10);
    let kept = keep(&env, first.clone());
    env.advance(HOUR * 2);
    let mut changed = first.clone();
    changed.spec = Spec::new().cron("45 * * * *");
    kept.signal(Control::Update { plan: Box::new(changed), revision: 0, id: String::new(), keeps_remaining: false });
    // Whoever has not seen that changes nothing.
    kept.signal(Control::Update { plan: Box::new(first), revision: 0, id: String::new(), keeps_remaining: false });
    env.advance(HOUR * 2);
    let view = view(&env);
    assert_eq!(view.revision, 1);
    assert_eq!(recent(&view), ["01:00 completed", "02:00 completed", "02:45 completed", "03:45 completed"]);
}

#[test]
fn a_deleted_schedule_leaves_its_runs() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let kept = keep(&env, plan(Spec::new().cron("@hourly"), 50));
    env.advance(Duration::from_secs(40 * 60));
    kept.signal(Control::Delete);
    assert_eq!(kept.result().expect("it ends well").begun, 1);
    assert_eq!(status(&env, "2026-01-01T01:00:00Z"), RunStatus::Open);
    env.advance(HOUR);
    assert_eq!(status(&env, "2026-01-01T01:00:00Z"), RunStatus::Completed);
}

#[test]
fn while_a_run_is_open_for_long_nothing_is_computed() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:30:00Z"));
    let kept = keep(&env, plan(Spec::new().every(Duration::from_secs(1)), 60 * 24 * 2));
    env.advance(2 * DAY + HOUR);
    let view = view(&env);
    assert_eq!((view.counts.completed, view.counts.begun), (1, 2));
    assert_eq!(view.counts.skipped, 2 * 86_400, "all seconds of two days");
    let commands = kept.commands().len();
    assert!(commands < 40, "{commands} commands");
}

/// Whatever dies and comes twice: each time is begun once or was skipped, and a run has the id of its time.
#[test]
fn no_time_is_lost_or_done_twice_under_faults() {
    explore(40, |env| {
        let env = with(env);
        let mut plan = plan(Spec::new().every(Duration::from_secs(600)), 25);
        plan.overlap = Overlap::Skip;
        keep(&env, plan);
        env.advance(HOUR * 6);
        let view = view(&env);
        let counts = view.counts;
        assert_eq!((counts.missed, counts.known), (0, 0));
        let names: std::collections::BTreeSet<_> = view.recent.iter().map(|recent| &recent.workflow_id).collect();
        assert_eq!(names.len(), view.recent.len());
        let (first, last) = (view.recent[0].at.0, view.recent[view.recent.len() - 1].at.0);
        // From the first one that was begun to the last one, every ten minutes.
        let times = (last - first) / 600_000 + 1;
        assert!(counts.begun + counts.skipped >= times, "{counts:?} of {times}");
        assert!(view.recent.iter().all(|recent| recent.at.0.is_multiple_of(600_000)));
    });
}
