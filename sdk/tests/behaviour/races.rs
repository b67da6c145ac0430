//! The first of several, and time-outs.

use std::time::Duration;

use everpulse::replay::Input;
use everpulse::{Elapsed, Error, activity, race, sleep, timeout, workflow};

use crate::harness::{done, result, run};

#[activity]
async fn quote(_supplier: u32) -> Result<u32, Error> {
    Ok(1)
}

#[workflow]
async fn first_quote(suppliers: u32) -> Result<u32, Error> {
    Ok(race((0..suppliers).map(quote)).await?)
}

#[test]
fn the_first_wins_and_the_others_are_cancelled_last_to_first() {
    let mut run = run(first_quote(3));
    assert_eq!(run.start(), ["0 activity quote", "1 activity quote", "2 activity quote", "waiting"]);
    let turn = run.turn(done(1, 7));
    assert_eq!(crate::harness::show(&turn), ["cancel 2", "cancel 0", "completed with 1 bytes"]);
    assert_eq!(result::<first_quote>(turn), Ok(7));
}

#[test]
fn a_race_of_nobody_is_told_at_once() {
    let shown = run(first_quote(0)).start();
    assert!(shown[0].contains("`race` was called with no future"), "{shown:?}");
}

#[workflow]
async fn in_time(seconds: u64) -> Result<Option<u32>, Error> {
    match timeout(Duration::from_secs(seconds), quote(1)).await {
        Ok(quoted) => Ok(Some(quoted?)),
        Err(Elapsed) => Ok(None),
    }
}

#[test]
fn a_result_in_time_cancels_the_timer() {
    let mut run = run(in_time(60));
    assert_eq!(run.start(), ["0 activity quote", "1 timer 61000", "waiting"]);
    let turn = run.turn(done(0, 7));
    assert_eq!(crate::harness::show(&turn), ["cancel 1", "completed with 1 bytes"]);
    assert_eq!(result::<in_time>(turn), Ok(Some(7)));
}

#[test]
fn a_timer_in_time_cancels_the_call() {
    let mut run = run(in_time(60));
    run.start();
    let turn = run.turn(Input::TimerFired { step: 1 });
    assert_eq!(crate::harness::show(&turn), ["cancel 0", "completed with 1 bytes"]);
    assert_eq!(result::<in_time>(turn), Ok(None));
}

#[workflow]
async fn needs_none() -> bool {
    timeout(Duration::from_secs(60), async { 1 }).await == Ok(1)
}

#[test]
fn what_is_ready_needs_no_timer() {
    assert_eq!(run(needs_none()).start(), ["completed with 1 bytes"]);
}

#[workflow]
async fn inner_first() -> bool {
    timeout(Duration::from_secs(60), sleep(Duration::from_secs(60))).await.is_ok()
}

#[test]
fn of_two_that_are_ready_the_future_wins() {
    let mut run = run(inner_first());
    assert_eq!(run.start(), ["0 timer 61000", "1 timer 61000", "waiting"]);
    let turn = run.turn(Input::TimerFired { step: 0 });
    assert_eq!(result::<inner_first>(turn), Ok(true));
}
