//! Fan-outs: how many branches are under way, when they are enough or too bad, and what becomes of the others.

use std::num::NonZeroUsize;

use everpulse::replay::{Input, TurnState};
use everpulse::{Error, Failure, Stop, activity, fan_out, workflow};
use everpulse_protocol::event::Outcome;

use crate::harness::{done, error, result, run, show, value};

#[activity]
async fn ask(n: u32) -> Result<u32, Error> {
    Ok(n)
}

fn told(stop: Stop, values: &[u32]) -> String {
    format!("{stop:?} {values:?}")
}

#[workflow]
async fn two_at_once(n: u32) -> String {
    let all = fan_out((0..n).map(ask)).at_once(NonZeroUsize::new(2).unwrap()).await;
    told(all.stop, &all.into_values())
}

#[test]
fn branches_begin_in_order_as_others_end() {
    let mut run = run(two_at_once(3));
    assert_eq!(run.start(), ["0 activity ask", "1 activity ask", "waiting"]);
    assert_eq!(run.done(1, 11), ["2 activity ask", "waiting"]);
    assert_eq!(run.done(0, 10), ["waiting"]);
    let told: String = value(&run.turn(done(2, 12)));
    assert_eq!(told, "AllDone [10, 11, 12]", "in the order of the branches");
}

#[workflow]
async fn two_are_enough(n: u32) -> String {
    let asked = fan_out((0..n).map(ask)).enough(2).await;
    let begun = asked.results.iter().map(Option::is_some).collect::<Vec<_>>();
    format!("{begun:?} {}", told(asked.stop, &asked.into_values()))
}

#[test]
fn when_there_are_enough_the_others_are_cancelled_last_to_first() {
    let mut run = run(two_are_enough(4));
    run.start();
    run.done(3, 13);
    let end = run.turn(done(0, 10));
    assert_eq!(show(&end)[..2], ["cancel 2", "cancel 1"]);
    assert_eq!(value::<String>(&end), "[true, false, false, true] Enough [10, 13]");
}

#[test]
fn the_last_branch_may_make_it_enough() {
    let mut all = run(two_are_enough(2));
    all.start();
    let _ = all.turn(done(0, 10));
    assert_eq!(value::<String>(&all.turn(done(1, 11))), "[true, true] Enough [10, 11]", "as many as there are");
    let mut last = run(two_are_enough(3));
    last.start();
    let _ = last.turn(refused(0));
    let _ = last.turn(done(2, 12));
    assert_eq!(value::<String>(&last.turn(done(1, 11))), "[true, true, true] Enough [11, 12]");
    let mut short = run(two_are_enough(2));
    short.start();
    let _ = short.turn(refused(1));
    assert_eq!(value::<String>(&short.turn(done(0, 10))), "[true, true] AllDone [10]", "one is not enough");
}

#[workflow]
async fn none_is_enough(n: u32) -> String {
    let asked = fan_out((0..n).map(ask)).enough(0).await;
    told(asked.stop, &asked.into_values())
}

#[test]
fn when_none_is_enough_none_begins() {
    let turn = run(none_is_enough(3)).turn(Input::Start);
    assert!(turn.commands.is_empty(), "{:?}", show(&turn));
    assert_eq!(value::<String>(&turn), "Enough []");
}

#[workflow]
async fn asks_again_after_the_end(n: u32) -> bool {
    let mut fan = fan_out((0..n).map(ask));
    let first = (&mut fan).await;
    let again = futures::poll!(&mut fan);
    first.results.is_empty() && again.is_pending()
}

#[test]
fn a_fan_out_that_has_ended_is_not_polled_again() {
    match run(asks_again_after_the_end(0)).turn(Input::Start).state {
        TurnState::Panicked { message, .. } => assert!(message.contains("polled after it had ended"), "{message}"),
        other => panic!("{other:?}"),
    }
}

fn refused(step: u32) -> Input {
    Input::Settled { step, outcome: Outcome::Failed(error(&Error::msg("no"))) }
}

#[workflow]
async fn one_may_fail(n: u32) -> String {
    let asked = fan_out((0..n).map(ask)).at_once(NonZeroUsize::MIN).tolerate(1).tolerate_percent(50).await;
    let failed = asked.errors().count();
    format!("{failed} failed, {}", told(asked.stop, &asked.into_values()))
}

#[test]
fn more_failures_than_are_tolerated_end_it_before_the_next_branch_begins() {
    let mut bad = run(one_may_fail(4));
    bad.start();
    assert_eq!(show(&bad.turn(refused(0))), ["1 activity ask", "waiting"]);
    assert_eq!(value::<String>(&bad.turn(refused(1))), "2 failed, TooManyFailures []");
    let mut last = run(one_may_fail(3));
    last.start();
    let _ = last.turn(refused(0));
    let _ = last.turn(done(1, 11));
    assert_eq!(value::<String>(&last.turn(refused(2))), "2 failed, TooManyFailures [11]", "also by the last branch");
    let mut half = run(one_may_fail(2));
    half.start();
    let _ = half.turn(refused(0));
    assert_eq!(value::<String>(&half.turn(done(1, 11))), "1 failed, AllDone [11]", "half is not more than half");
}

#[workflow]
async fn all_or_the_first_error(n: u32) -> Result<Vec<u32>, Error> {
    Ok(fan_out((0..n).map(ask)).await.into_result()?)
}

#[test]
fn nothing_to_do_is_done_and_the_first_error_is_given() {
    assert!(value::<Vec<u32>>(&run(all_or_the_first_error(0)).turn(Input::Start)).is_empty());
    let mut run = run(all_or_the_first_error(2));
    run.start();
    let _ = run.turn(done(0, 10));
    match result::<all_or_the_first_error>(run.turn(refused(1))) {
        Err(Failure::Failed(error)) => assert_eq!(error.to_string(), "no"),
        other => panic!("{other:?}"),
    }
}
