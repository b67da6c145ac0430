//! Local steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use everpulse::definition::AttemptError;
use everpulse::replay::{Command, Input, StepBody, Turn};
use everpulse::{Error, Failure, Retry, step, workflow};
use everpulse_protocol::Payload;
use everpulse_protocol::event::Outcome;
use futures::executor::block_on;

use crate::harness::{run, value};

fn only_step(turn: &mut Turn) -> (u32, &mut StepBody, everpulse::replay::StepOptions) {
    match &mut turn.commands[..] {
        [Command::Step { no, body, options, .. }] => (*no, body, *options),
        other => panic!("{other:?}"),
    }
}

#[workflow]
async fn reads(path: String) -> Result<usize, Error> {
    let text =
        step("read", || async move { if path.is_empty() { Err(Error::msg("no path")) } else { Ok(path) } }).await?;
    Ok(text.len())
}

#[test]
fn a_step_is_run_by_its_owner_and_its_result_is_recorded() {
    let mut run = run(reads("abc".into()));
    let mut turn = run.turn(Input::Start);
    let (no, body, options) = only_step(&mut turn);
    assert_eq!((no, options.timeout, options.retry.max_attempts), (0, Duration::from_secs(10), Some(1)));
    let recorded = block_on(body.attempt()).unwrap();
    let turn = run.turn(Input::Settled { step: no, outcome: Outcome::Done(recorded) });
    assert_eq!(value::<usize>(&turn), 3);
}

#[test]
fn a_steps_error_comes_back_typed() {
    let mut run = run(reads(String::new()));
    let mut turn = run.turn(Input::Start);
    let AttemptError { failure, retryable } = block_on(only_step(&mut turn).1.attempt()).unwrap_err();
    assert!(retryable);
    assert_eq!(run.failed(0, failure), ["failed: no path"]);
}

#[workflow]
async fn persistent(text: String) -> Result<String, Failure<Error>> {
    let tries = Arc::new(AtomicU32::new(0));
    step("try", move || async move {
        // `text` is captured by value, so each attempt has its own.
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Error::msg("not yet")),
            _ => Ok(text),
        }
    })
    .retry(Retry::new().max_attempts(3))
    .timeout(Duration::from_millis(1_500))
    .await
}

#[test]
fn a_step_with_retry_can_be_tried_again() {
    let mut run = run(persistent("x".into()));
    let mut turn = run.turn(Input::Start);
    let (_, body, options) = only_step(&mut turn);
    assert_eq!((options.timeout, options.retry.max_attempts), (Duration::from_millis(1_500), Some(3)));
    assert_eq!(block_on(body.attempt()).unwrap_err().to_string(), "not yet");
    let recorded = block_on(body.attempt()).unwrap();
    assert_eq!(recorded, Payload::encode("x").unwrap());
}

#[test]
fn a_step_without_retry_has_one_attempt() {
    let mut turn = run(reads("abc".into())).turn(Input::Start);
    let (_, body, _) = only_step(&mut turn);
    block_on(body.attempt()).unwrap();
    assert!(!block_on(body.attempt()).unwrap_err().retryable);
}
