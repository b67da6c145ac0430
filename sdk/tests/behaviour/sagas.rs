//! Sagas: what was done is undone in reverse, through cancellation and through compensations that fail.

use std::time::Duration;

use everpulse::replay::Input;
use everpulse::{
    Error, Failure, SagaFailure, Semaphore, activity, join, saga, select, shielded, sleep, timeout, workflow,
};
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
    SagaFailure(#[from] SagaFailure),
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
    let Some(TravelError::SagaFailure(uncompensated)) = result::<travel>(turn).unwrap_err().into_error() else {
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
    assert_eq!(run.done(6, ()), ["cancelled: it was cancelled"]);
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
    assert_eq!(run.done(3, ()), ["cancelled: it was cancelled"]);
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
    assert_eq!(run.done(2, ()), ["cancelled: it was cancelled"]);
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

#[test]
fn a_cancelled_run_that_could_not_undo_everything_has_failed() {
    let mut run = run(travel(false));
    run.start();
    run.done(0, 10);
    run.cancel();
    let turn = run.turn(failed(2, &Error::msg("no refund")));
    assert_eq!(show(&turn), ["failed: not booked; and not all could be undone: no refund"]);
    let Some(TravelError::SagaFailure(failure)) = result::<travel>(turn).unwrap_err().into_error() else {
        panic!("a client is told")
    };
    assert_eq!(failure.failures, ["no refund"]);
}

fn failed(step: u32, with: &Error) -> Input {
    Input::Settled { step, outcome: everpulse_protocol::event::Outcome::Failed(error(with)) }
}

/// Two branches hand a permit to each other; the one that waits for it is polled first.
#[workflow]
async fn hands_over() -> Result<(), Error> {
    saga(async |saga| {
        let gate = Semaphore::new(1);
        let first = async {
            let booking = shielded(book("a".into())).await?;
            let _turn = gate.acquire().await;
            saga.compensate(unbook(booking));
            Ok::<_, Error>(())
        };
        let second = async {
            let _turn = gate.acquire().await;
            let booking = shielded(book("b".into())).await?;
            saga.compensate(unbook(booking));
            Ok::<_, Error>(())
        };
        let (one, two) = join!(first, second);
        one.and(two)?;
        sleep(Duration::from_secs(60)).await;
        Ok(())
    })
    .await
}

#[test]
fn a_body_is_dropped_only_when_nothing_of_it_can_go_on() {
    let mut run = run(hands_over());
    assert_eq!(run.start(), ["0 activity book", "1 activity book", "waiting"]);
    assert_eq!(run.done(0, 10), ["waiting"], "its turn has not come");
    assert_eq!(run.cancel(), ["waiting"]);
    assert_eq!(run.done(1, 11), ["2 timer 61000", "cancel 2", "3 activity unbook", "waiting"]);
    assert_eq!(run.done(3, ()), ["4 activity unbook", "waiting"], "both are undone");
    assert_eq!(run.done(4, ()), ["cancelled: it was cancelled"]);
}

#[workflow]
async fn side_by_side() -> Result<(), Error> {
    let lock = everpulse::Mutex::new(());
    let one = saga(async |saga| {
        let _mine = lock.lock().await;
        saga.compensate(unbook(1));
        sleep(Duration::from_secs(60)).await;
        Ok::<_, Error>(())
    });
    let two = saga(async |saga| {
        saga.compensate(unbook(2));
        sleep(Duration::from_secs(60)).await;
        Ok::<_, Error>(())
    });
    let (one, two) = join!(one, two);
    one.and(two)
}

#[test]
fn sagas_beside_each_other_are_undone_at_the_same_time() {
    let mut run = run(side_by_side());
    assert_eq!(run.start(), ["0 timer 61000", "1 timer 61000", "waiting"]);
    assert_eq!(run.cancel(), ["cancel 0", "2 activity unbook", "cancel 1", "3 activity unbook", "waiting"]);
    run.done(3, ());
    assert_eq!(run.done(2, ()), ["cancelled: it was cancelled"]);
}

#[workflow]
async fn hurries() -> Result<(), Error> {
    timeout(Duration::from_secs(1), travel_once()).await??;
    Ok(())
}

async fn travel_once() -> Result<(), Error> {
    saga(async |saga| {
        let booking = book("flight".into()).await?;
        saga.compensate(unbook(booking));
        sleep(Duration::from_secs(60)).await;
        Ok(())
    })
    .await
}

#[test]
fn a_saga_that_is_dropped_with_parts_to_undo_is_told() {
    let mut first = run(hurries());
    assert_eq!(first.start(), ["0 activity book", "1 timer 2000", "waiting"]);
    assert_eq!(first.fired(1), ["cancel 0", "failed: it took longer than it may"], "there was nothing to undo");

    let mut second = run(hurries());
    second.start();
    second.done(0, 10);
    let shown = second.fired(1);
    assert!(shown[0].starts_with("panicked: a saga with parts to undo was dropped"), "{shown:?}");
}

#[workflow]
async fn forgets() -> Result<(), Error> {
    let mut trip = std::pin::pin!(travel_once());
    select! {
        done = trip.as_mut() => done?,
        () = sleep(Duration::from_secs(1)) => {}
    }
    sleep(Duration::from_secs(3_600)).await;
    trip.await
}

#[test]
fn a_saga_that_is_not_awaited_when_the_run_is_cancelled_is_told() {
    let mut run = run(forgets());
    run.start();
    run.done(0, 10);
    run.fired(1);
    let shown = run.cancel();
    assert!(shown[0].contains("a saga that has parts to undo is not awaited"), "{shown:?}");
}

#[workflow]
async fn shielded_saga() -> Result<(), Error> {
    shielded(travel_once()).await
}

#[test]
fn a_saga_in_a_shield_goes_on() {
    let mut run = run(shielded_saga());
    run.start();
    assert_eq!(run.cancel(), ["waiting"]);
    assert_eq!(run.done(0, 10), ["1 timer 61000", "waiting"]);
    assert_eq!(run.fired(1), ["completed with 1 bytes"]);
}

#[test]
fn a_run_that_is_cancelled_before_its_start_does_nothing() {
    let mut run = run(travel(false));
    assert_eq!(run.cancel(), ["waiting"]);
    assert_eq!(run.start(), ["cancelled: not booked: it was cancelled"]);
}
