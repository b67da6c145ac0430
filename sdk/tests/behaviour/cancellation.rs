//! Cancellation: what waits ends at once, compensation runs to its end, and the run closes as cancelled.

use std::time::Duration;

use everpulse::replay::{Input, TurnState};
use everpulse::{Error, Failure, activity, cancelled, join, select, shielded, signal, sleep, step, workflow};
use everpulse_protocol::FailureKind;
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::{Close, CloseStatus};
use serde::{Deserialize, Serialize};

use crate::harness::run;

#[activity]
async fn charge(_order: String) -> Result<u32, Error> {
    Ok(1)
}

#[activity]
async fn refund(_order: String) -> Result<(), Error> {
    Ok(())
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Approved;

#[workflow]
async fn sleeps() {
    sleep(Duration::from_secs(60)).await;
}

#[test]
fn a_run_that_sleeps_is_closed_at_once() {
    let mut run = run(sleeps());
    run.start();
    assert_eq!(run.cancel(), ["cancelled: no longer wanted"]);
    assert_eq!(run.fired(0), ["cancelled: no longer wanted"], "and nothing happens after");
}

#[workflow]
async fn waits_for_approval() {
    signal::<Approved>().recv().await;
}

#[test]
fn so_is_one_that_waits_for_a_signal_or_has_not_started() {
    let mut waiting = run(waits_for_approval());
    waiting.start();
    assert_eq!(waiting.cancel(), ["cancelled: no longer wanted"]);

    let mut early = run(waits_for_approval());
    assert_eq!(early.cancel(), ["waiting"]);
    assert_eq!(early.start(), ["cancelled: no longer wanted"]);
}

#[workflow]
async fn passes_on() -> Result<(), Error> {
    let (one, two) = join!(charge("a".into()), step("local", || async { Ok::<_, Error>(()) }));
    assert!(matches!(two, Err(Failure::Cancelled)));
    one?;
    Ok(())
}

#[test]
fn open_calls_and_steps_are_cancelled_and_fail_and_the_run_is_cancelled_with_its_own_error() {
    let mut run = run(passes_on());
    assert_eq!(run.start(), ["0 activity charge", "1 step local", "waiting"]);
    let turn = run.turn(Input::CancelRequested { reason: "no longer wanted".into() });
    assert_eq!(crate::harness::show(&turn), ["cancel 0", "cancel 1", "cancelled: it was cancelled"]);
    let TurnState::Closed(Close { status: CloseStatus::Cancelled, outcome: Outcome::Failed(failure) }) = turn.state
    else {
        panic!("{turn:?}")
    };
    assert_eq!(failure.kind, FailureKind::Cancelled);
    let error: Error = failure.value.expect("the author's error").decode().unwrap();
    assert_eq!(error.to_string(), "it was cancelled");
}

#[workflow]
async fn compensates(order: String) -> Result<u32, Error> {
    match charge(order.clone()).await {
        Ok(receipt) => Ok(receipt),
        Err(failure) => {
            let unshielded = charge(order.clone()).await;
            assert!(matches!(unshielded, Err(Failure::Cancelled)));
            shielded(async {
                sleep(Duration::from_secs(1)).await;
                refund(order.clone()).await
            })
            .await?;
            Err(failure.into())
        }
    }
}

#[test]
fn compensation_in_a_shield_runs_to_its_end() {
    let mut run = run(compensates("o-1".into()));
    run.start();
    assert_eq!(run.cancel(), ["cancel 0", "1 timer 2000", "waiting"]);
    assert_eq!(run.cancel(), ["waiting"], "once is enough");
    assert_eq!(run.fired(1), ["2 activity refund", "waiting"]);
    assert_eq!(run.done(2, ()), ["cancelled: it was cancelled"]);
}

#[workflow]
async fn shield_first(order: String) -> Result<u32, Error> {
    let charged = shielded(charge(order)).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(charged)
}

#[test]
fn a_shield_begun_before_the_cancellation_holds_and_what_follows_it_does_not() {
    let mut run = run(shield_first("o-1".into()));
    run.start();
    assert_eq!(run.cancel(), ["waiting"]);
    assert_eq!(run.done(0, 7), ["1 timer 2000", "cancelled: no longer wanted"]);
}

#[workflow]
async fn finishes_anyway(order: String) -> Result<u32, Error> {
    Ok(charge(order).await.unwrap_or(0))
}

#[test]
fn a_run_that_comes_to_its_result_is_completed() {
    let mut run = run(finishes_anyway("o-1".into()));
    run.start();
    assert_eq!(run.cancel(), ["cancel 0", "completed with 1 bytes"]);
}

#[workflow]
async fn handles(order: String) -> Result<u32, Error> {
    let open = charge(order.clone()).start();
    let kept = charge(order.clone()).start();
    let compensation = shielded(async { Ok::<_, Error>(refund(order.clone()).start()) }).await?;
    kept.await.ok();
    assert!(matches!(charge(order.clone()).start().await, Err(Failure::Cancelled)));
    compensation.await?;
    Ok(open.await.unwrap_or(0))
}

#[test]
fn what_was_started_in_a_shield_goes_on_outside_of_it() {
    let mut run = run(handles("o-1".into()));
    assert_eq!(run.start(), ["0 activity charge", "1 activity charge", "2 activity refund", "waiting"]);
    // The handle from the shield is awaited outside of one: the run is not kept open for it.
    assert_eq!(run.cancel(), ["cancel 0", "cancel 1", "cancelled: no longer wanted"]);
}

#[workflow]
async fn says_goodbye(order: String) -> Result<(), Error> {
    select! {
        () = cancelled() => shielded(refund(order)).await?,
        charged = charge(order.clone()) => { charged?; }
    }
    Ok(())
}

#[test]
fn who_waits_for_the_request_hears_of_it_once() {
    let mut asked = run(says_goodbye("o-1".into()));
    assert_eq!(asked.start(), ["0 activity charge", "waiting"]);
    assert_eq!(asked.cancel(), ["cancel 0", "1 activity refund", "waiting"]);
    assert_eq!(asked.done(1, ()), ["completed with 1 bytes"], "it came to its result");

    let mut done = run(says_goodbye("o-1".into()));
    done.start();
    assert_eq!(done.done(0, 1), ["completed with 1 bytes"]);
}

#[workflow]
async fn until_cancelled(order: String) -> Result<(), Error> {
    cancelled().await;
    cancelled().await;
    shielded(refund(order)).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

#[test]
fn a_run_may_wait_for_nothing_but_the_request() {
    let mut run = run(until_cancelled("o-1".into()));
    assert_eq!(run.start(), ["waiting"]);
    assert_eq!(run.cancel(), ["0 activity refund", "waiting"]);
    assert_eq!(run.done(0, ()), ["1 timer 2000", "cancelled: no longer wanted"]);
}
