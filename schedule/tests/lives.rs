//! Schedules that live long: they continue as new, and nobody can tell.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::*;
use everpulse_protocol::Timestamp;
use everpulse_schedule::{Cause, Control, End, Overlap, Rfc3339, Spec};
use everpulse_testing::{Environment, RunStatus, explore};

const MINUTE: Duration = Duration::from_secs(60);

/// Of a schedule's runs none has a history that is longer.
const EVENTS_MAX: usize = 2_600;

#[test]
fn thousands_of_times_are_done_once_each_by_runs_with_short_histories() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:00:30Z"));
    let kept = keep(&env, plan(Spec::new().every(MINUTE), 0));
    env.advance(2 * DAY);
    let view = view(&env);
    let counts = (view.counts.begun, view.counts.completed, view.open);
    assert_eq!(counts, (2_880, 2_880, 0));
    assert_eq!((view.counts.skipped, view.counts.missed, view.counts.known), (0, 0, 0));
    let series = kept.series();
    assert!(series.len() > 10, "{} runs", series.len());
    for history in &series {
        assert!(history.entries().len() < 600, "{} events", history.entries().len());
    }
    for minute in [1, 1_439, 1_440, 2_880] {
        let at = Timestamp(at("2026-01-01T00:00:00Z").0 + 60_000 * minute);
        assert_eq!(status(&env, &Rfc3339(at).to_string()), RunStatus::Completed);
    }
}

#[test]
fn what_is_open_goes_along_with_all_that_is_said_meanwhile() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:00:30Z"));
    // Some fifty are open at any time.
    let mut plan = plan(Spec::new().every(MINUTE), 50);
    plan.overlap = Overlap::AllowAll;
    let kept = keep(&env, plan);
    let hours = 36;
    for hour in 0..hours {
        kept.at(HOUR * hour + 7 * MINUTE).signal(Control::Trigger { overlap: Overlap::AllowAll });
    }
    env.advance(HOUR * hours);
    let view = self::view(&env);
    let minutes = u64::from(hours) * 60;
    assert_eq!(view.counts.begun, minutes + u64::from(hours), "{view:?}");
    assert_eq!(view.counts.completed + view.open as u64, view.counts.begun);
    assert_eq!(view.open, 50);
    assert_eq!(view.recent.iter().filter(|recent| recent.cause == Cause::Trigger).count(), 0, "of the last minutes");
    let series = kept.series();
    assert!(series.len() > 2, "{} runs", series.len());
    assert!(series.iter().all(|history| history.entries().len() < EVENTS_MAX));
    kept.signal(Control::Delete);
    assert_eq!(kept.result().expect("it ends well").begun, minutes + u64::from(hours));
}

#[test]
fn the_end_of_a_run_that_an_earlier_one_began_still_counts() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:00:30Z"));
    // The first one takes two hours, and fails; others come and go beside it.
    let mut failing = plan(Spec::new().every(MINUTE), 113);
    (failing.overlap, failing.pause_on_failure) = (Overlap::AllowAll, true);
    let kept = keep_briefly(&env, failing.clone());
    env.advance(MINUTE);
    let mut short = failing;
    short.action = plan(Spec::new().every(MINUTE), 1).action;
    let (plan, id) = (Box::new(short), "u".to_owned());
    kept.signal(Control::Update { plan, revision: 0, id, keeps_remaining: true });
    env.advance(2 * HOUR);
    let view = view(&env);
    assert!(kept.series().len() > 3);
    let note = view.paused.map(|paused| paused.note);
    assert_eq!(note.as_deref(), Some("nightly-2026-01-01T00:01:00Z failed: bad luck"));
    assert_eq!((view.counts.failed, view.open), (1, 0));
}

/// Whatever dies and comes twice, also while one run of the schedule makes room for the next one.
#[test]
fn nothing_is_lost_or_done_twice_between_two_runs_under_faults() {
    explore(40, |env| {
        let env = with(env);
        let mut plan = plan(Spec::new().every(Duration::from_secs(20)), 1);
        plan.overlap = Overlap::AllowAll;
        let kept = keep_briefly(&env, plan);
        env.advance(15 * MINUTE);
        kept.signal(Control::Pause { note: String::new() });
        env.advance(HOUR);
        let view = view(&env);
        assert!(kept.series().len() > 1);
        assert_eq!((view.open, view.counts.failed, view.counts.known), (0, 0, 0), "{view:?}");
        assert_eq!(view.counts.begun, view.counts.completed);
        assert!(view.counts.begun + view.counts.missed + view.counts.skipped >= 44, "{:?}", view.counts);
        let names: BTreeSet<_> = view.recent.iter().map(|recent| &recent.workflow_id).collect();
        assert_eq!(names.len(), view.recent.len());
        assert!(view.recent.iter().all(|recent| recent.end == Some(End::Completed)));
    });
}

#[test]
fn who_cancels_a_schedule_cancels_its_runs_whichever_of_its_own_began_them() {
    let env = with(Environment::new()).starting_at(clock("2026-01-01T00:00:30Z"));
    let mut plan = plan(Spec::new().every(MINUTE), 60 * 30);
    plan.overlap = Overlap::AllowAll;
    let kept = keep_briefly(&env, plan);
    env.advance(HOUR);
    assert!(kept.series().len() > 1);
    kept.cancel();
    assert!(kept.result().is_err());
    env.advance(MINUTE);
    for time in ["2026-01-01T00:01:00Z", "2026-01-01T01:00:00Z"] {
        assert_eq!(status(&env, time), RunStatus::Cancelled, "{time}");
    }
}
