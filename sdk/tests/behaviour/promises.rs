//! Promises: a number that is fixed at once, an end that comes from outside.

use std::time::Duration;

use everpulse::replay::{Command, Input};
use everpulse::{CompletionToken, Error, Failure, activity, join, promise, publish, select, shielded, sleep, workflow};
use everpulse_protocol::{self as protocol, FailureKind};
use serde::{Deserialize, Serialize};

use crate::harness::{done, error, run, value};

#[activity]
async fn ask(token: CompletionToken<String>) {
    drop(token);
}

#[workflow]
async fn approval() -> Result<String, Failure<Error>> {
    let approval = promise::<String>();
    let _ = ask(approval.token()).await;
    approval.await
}

#[test]
fn a_promise_is_made_at_once_and_its_token_names_it() {
    let mut run = run(approval());
    let turn = run.turn(Input::Start);
    let [Command::Promise { no: 0 }, Command::Activity { no: 1, args, .. }] = &turn.commands[..] else {
        panic!("{turn:?}")
    };
    #[derive(Deserialize)]
    struct Arguments {
        token: CompletionToken<String>,
    }
    let Arguments { token } = args.decode().unwrap();
    assert_eq!(token.to_string().parse(), Ok(token.clone()));
    let parts = token.parts();
    assert_eq!((parts.workflow_id.as_str(), parts.step, parts.attempt), ("order-42", 0, None));
    assert_eq!(run.done(1, ()), ["waiting"]);
    assert_eq!(value::<String>(&run.turn(done(0, "yes"))), "yes");
}

#[test]
fn what_comes_before_it_is_awaited_is_kept() {
    let mut run = run(approval());
    run.start();
    assert_eq!(run.done(0, "early"), ["waiting"]);
    assert_eq!(run.done(0, "second"), ["waiting"]);
    assert_eq!(value::<String>(&run.turn(done(1, ()))), "early");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("refused by {by}")]
struct Refused {
    by: String,
}

#[workflow]
async fn refusable() -> String {
    match promise::<u64>().or::<Refused>().await {
        Ok(cents) => format!("{cents} granted"),
        Err(Failure::Failed(Refused { by })) => format!("no, says {by}"),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn it_fails_with_the_authors_error() {
    let mut given = run(refusable());
    assert_eq!(given.start(), ["0 promise", "waiting"]);
    assert_eq!(value::<String>(&given.turn(done(0, 12_u64))), "12 granted");

    let mut refused = run(refusable());
    refused.start();
    let outcome = protocol::event::Outcome::Failed(error(&Refused { by: "the bank".into() }));
    assert_eq!(value::<String>(&refused.turn(Input::Settled { step: 0, outcome })), "no, says the bank");

    let mut wrong = run(refusable());
    wrong.start();
    let said: String = value(&wrong.turn(done(0, "twelve")));
    assert!(said.contains("u64"), "{said}");
}

#[workflow]
async fn impatient() -> Option<u64> {
    select! {
        value = promise::<u64>() => value.ok(),
        () = sleep(Duration::from_secs(1)) => None,
    }
}

#[test]
fn a_promise_that_is_dropped_is_cancelled_and_one_that_was_kept_is_not() {
    let mut run = run(impatient());
    assert_eq!(run.start(), ["0 promise", "1 timer 2000", "waiting"]);
    assert_eq!(run.fired(1), ["cancel 0", "completed with 1 bytes"]);

    let mut kept = crate::harness::run(impatient());
    kept.start();
    assert_eq!(kept.done(0, 3_u64), ["cancel 1", "completed with 1 bytes"]);
}

#[workflow]
async fn again_and_again() -> u64 {
    let mut answer = promise::<u64>();
    for nap in 0_u64.. {
        let came = select! {
            value = &mut answer => value.ok(),
            () = sleep(Duration::from_secs(1)) => None,
        };
        if let Some(value) = came {
            return value + nap;
        }
    }
    0
}

#[test]
fn one_promise_can_be_waited_for_several_times() {
    let mut run = run(again_and_again());
    assert_eq!(run.start(), ["0 promise", "1 timer 2000", "waiting"]);
    assert_eq!(run.fired(1), ["2 timer 2000", "waiting"]);
    assert_eq!(run.fired(2), ["3 timer 2000", "waiting"]);
    assert_eq!(value::<u64>(&run.turn(done(0, 40_u64))), 42);
}

#[workflow]
async fn cancelled_and_shielded() -> Result<u64, Failure<Error>> {
    let (outer, inner) = join!(promise::<u64>(), shielded(async { promise::<u64>().await }));
    let late = promise::<u64>();
    publish(&late.token().to_string());
    assert_eq!(outer, Err(Failure::Cancelled));
    assert_eq!(late.await, Err(Failure::Cancelled));
    inner
}

#[test]
fn a_cancelled_run_keeps_the_promises_of_its_shields_alone() {
    let mut run = run(cancelled_and_shielded());
    assert_eq!(run.start(), ["0 promise", "1 promise", "waiting"]);
    assert_eq!(run.cancel(), ["cancel 0", "waiting"]);
    // Made in a cancelled run, it has a number all the same, since its token may be given away.
    assert_eq!(run.done(1, 5_u64), ["2 promise", "cancel 2", "publish String", "completed with 1 bytes"]);
}

#[test]
fn a_failure_of_ours_comes_as_it_is() {
    let mut run = run(approval());
    run.start();
    run.done(1, ());
    let failure = protocol::Failure::new(FailureKind::Cancelled, "withdrawn");
    let lines = run.failed(0, failure);
    assert_eq!(lines, ["failed: it was cancelled"]);
}
