//! Sagas: what was done is undone in reverse, through cancellation and through compensations that fail.

use std::time::Duration;

use everpulse::replay::Input;
use everpulse::{Error, Failure, Uncompensated, activity, saga, shielded, sleep, workflow};
use serde::{Deserialize, Serialize};

use crate::harness::{done, error, result, run, show};

#[activity]
async fn book(_what: String) -> Result<u32, Error> {
    Ok(1)
}

#[activity]
async fn unbook(_booking: u32) -> Result<(), Error> {
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum TravelError {
    #[error("not booked")]
    Booking(#[from] Failure<Error>),
    #[error(transparent)]
    Uncompensated(#[from] Uncompensated),
}

#[workflow]
async fn travel(parallel: bool) -> Result<u32, TravelError> {
    saga(async |saga| {
        if parallel {
            saga.in_parallel();
        }
        let mut sum = 0;
        for part in ["flight", "hotel", "car"] {
            let booking = book(part.into()).await?;
            saga.compensate(unbook(booking));
            sum += booking;
        }
        sleep(Duration::from_secs(60)).await;
        Ok(sum)
    })
    .await
}

fn refused() -> everpulse_protocol::Failure {
    error(&Error::msg("no car left"))
}

#[test]
fn what_succeeds_undoes_nothing() {
    let mut run = run(travel(false));
    assert_eq!(run.start(), ["0 activity book", "waiting"]);
    assert_eq!(run.done(0, 10), ["1 activity book", "waiting"]);
    assert_eq!(run.done(1, 20), ["2 activity book", "waiting"]);
    assert_eq!(run.done(2, 30), ["3 timer 61000", "waiting"]);
    let turn = run.turn(Input::TimerFired { step: 3 });
    assert_eq!(result::<travel>(turn), Ok(60));
}

#[test]
fn what_fails_is_undone_in_reverse_and_the_error_is_the_body_s() {
    let mut run = run(travel(false));
    run.start();
    run.done(0, 10);
    run.done(1, 20);
    assert_eq!(run.failed(2, refused()), ["3 activity unbook", "waiting"]);
    assert_eq!(run.done(3, ()), ["4 activity unbook", "waiting"]);
    let turn = run.turn(done(4, ()));
    let failure = result::<travel>(turn).unwrap_err();
    assert_eq!(failure.into_error(), Some(TravelError::Booking(Failure::Failed(Error::msg("no car left")))));
}

#[test]
fn on_request_everything_is_undone_at_the_same_time() {
    let mut run = run(travel(true));
    run.start();
    run.done(0, 10);
    run.done(1, 20);
    assert_eq!(run.failed(2, refused()), ["3 activity unbook", "4 activity unbook", "waiting"]);
    assert_eq!(run.done(4, ()), ["waiting"]);
    assert_eq!(run.done(3, ()), ["failed: not booked: no car left"]);
}

#[test]
fn a_compensation_that_fails_is_told_and_keeps_none_from_being_done() {
    let mut run = run(travel(false));
    run.start();
    run.done(0, 10);
    run.done(1, 20);
    run.failed(2, refused());
    assert_eq!(run.failed(3, error(&Error::msg("hotel is closed"))), ["4 activity unbook", "waiting"]);
    let turn = run.turn(done(4, ()));
    let Some(TravelError::Uncompensated(uncompensated)) = result::<travel>(turn).unwrap_err().into_error() else {
        panic!("it says what could not be undone")
    };
    assert_eq!(uncompensated.failures, ["hotel is closed"]);
    assert_eq!(uncompensated.to_string(), "not booked; and not all could be undone: hotel is closed");
}

#[test]
fn a_cancelled_call_is_an_error_like_others() {
    let mut run = run(travel(false));
    run.start();
    run.done(0, 10);
    assert_eq!(run.cancel(), ["cancel 1", "2 activity unbook", "waiting"]);
    assert_eq!(run.done(2, ()), ["cancelled: not booked: it was cancelled"]);
}

#[test]
fn a_run_that_is_cancelled_while_it_sleeps_undoes_what_it_did_and_is_closed() {
    let mut run = run(travel(false));
    run.start();
    for (step, booking) in [(0, 10), (1, 20), (2, 30)] {
        run.done(step, booking);
    }
    assert_eq!(run.cancel(), ["cancel 3", "4 activity unbook", "waiting"]);
    assert_eq!(run.done(4, ()), ["5 activity unbook", "waiting"]);
    assert_eq!(run.done(5, ()), ["6 activity unbook", "waiting"]);
    assert_eq!(run.done(6, ()), ["cancelled: no longer wanted"]);
}

#[workflow]
async fn with_a_shield() -> Result<(), Error> {
    saga(async |saga| {
        let booking = book("flight".into()).await?;
        saga.compensate(unbook(booking));
        shielded(book("insurance".into())).await?;
        sleep(Duration::from_secs(60)).await;
        Ok(())
    })
    .await
}

#[test]
fn a_shield_in_the_body_ends_first() {
    let mut run = run(with_a_shield());
    run.start();
    assert_eq!(run.done(0, 10), ["1 activity book", "waiting"]);
    assert_eq!(run.cancel(), ["waiting"], "the shield holds");
    assert_eq!(run.done(1, 11), ["2 timer 61000", "cancel 2", "3 activity unbook", "waiting"]);
    assert_eq!(run.done(3, ()), ["cancelled: no longer wanted"]);
}

#[workflow]
async fn nested() -> Result<(), Error> {
    saga(async |outer| {
        outer.compensate(unbook(1));
        saga(async |inner| {
            inner.compensate(unbook(2));
            sleep(Duration::from_secs(60)).await;
            Ok::<_, Error>(())
        })
        .await
    })
    .await
}

#[test]
fn the_inner_of_two_sagas_is_undone_first() {
    let mut run = run(nested());
    assert_eq!(run.start(), ["0 timer 61000", "waiting"]);
    assert_eq!(run.cancel(), ["cancel 0", "1 activity unbook", "waiting"]);
    assert_eq!(run.done(1, ()), ["2 activity unbook", "waiting"]);
    assert_eq!(run.done(2, ()), ["cancelled: no longer wanted"]);
}

#[workflow]
async fn stands_still() -> Result<(), Error> {
    saga(async |_| {
        std::future::pending::<()>().await;
        Ok(())
    })
    .await
}

#[test]
fn a_body_that_waits_for_nothing_durable_is_still_found() {
    let turn = run(stands_still()).turn(Input::Start);
    assert!(show(&turn)[0].starts_with("stuck: "), "{turn:?}");
}
