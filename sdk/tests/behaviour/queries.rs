//! Queries: answered from the state between two events; what a handler does beyond looking is noticed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use everpulse::replay::{Input, Unanswered};
use everpulse::{Query, Semaphore, join, on_query, promise, publish, query, random, signal, sleep, workflow};
use everpulse_protocol::{FailureKind, Payload};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use crate::harness::{Run, run, value};

#[signal]
#[derive(Serialize, Deserialize)]
struct Add(u32);

#[query(reply = u32)]
#[derive(Serialize, Deserialize)]
struct SumTimes {
    factor: u32,
}

#[query(reply = Vec<u32>, name = "all-of-them")]
#[derive(Serialize, Deserialize)]
struct All;

fn ask<Q: Query>(run: &mut Run, query: Q) -> Result<Q::Reply, Unanswered> {
    let value = run.instance.query(Q::NAME, &Payload::encode(&query).unwrap())?;
    Ok(value.decode().unwrap())
}

#[workflow]
async fn adds(count: u32) -> u32 {
    let all = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&all);
    on_query(move |query: SumTimes| seen.borrow().iter().sum::<u32>() * query.factor);
    let seen = Rc::clone(&all);
    on_query(move |_: All| seen.borrow().clone());
    for _ in 0..count {
        let Add(n) = signal::<Add>().recv().await;
        all.borrow_mut().push(n);
    }
    all.borrow().iter().sum()
}

#[test]
fn a_query_is_answered_from_the_state_after_each_event() {
    let mut run = run(adds(3));
    run.start();
    assert_eq!(ask(&mut run, SumTimes { factor: 2 }), Ok(0));
    run.signal(&Add(3));
    run.signal(&Add(4));
    assert_eq!(ask(&mut run, SumTimes { factor: 2 }), Ok(14));
    assert_eq!(ask(&mut run, All), Ok(vec![3, 4]));
    let turn = run.turn(Input::Signal { name: "Add".into(), value: Payload::encode(&Add(5)).unwrap() });
    assert_eq!(value::<u32>(&turn), 12);
    assert_eq!(turn.commands.len(), 0, "and nothing of it shows");
}

#[test]
fn a_query_without_a_handler_is_told_which_there_are() {
    let mut run = run(adds(1));
    run.start();
    let error = run.instance.query("Total", &Payload::encode(&()).unwrap()).unwrap_err();
    assert_eq!((&error.failure.kind, error.spoilt), (&FailureKind::NotFound, false));
    assert!(
        error.failure.message.contains("no handler for query `Total`, it has `SumTimes`, `all-of-them`"),
        "{error:?}"
    );
}

#[test]
fn arguments_of_another_type_are_an_error_for_the_asker_alone() {
    let mut run = run(adds(1));
    run.start();
    let error = run.instance.query("SumTimes", &Payload::encode("two").unwrap()).unwrap_err();
    assert_eq!((&error.failure.kind, error.spoilt), (&FailureKind::Undecodable, false));
    assert_eq!(ask(&mut run, SumTimes { factor: 1 }), Ok(0));
    assert_eq!(run.signal(&Add(1)), ["completed with 1 bytes"]);
}

#[query(reply = ())]
#[derive(Serialize, Deserialize)]
enum Mischief {
    Panics,
    Schedules,
    Promises,
    Polls,
    Draws,
    Publishes,
    Receives,
    Registers,
    DropsAnother,
    Unlocks,
    Swallows,
}

#[workflow]
async fn tempted() -> u32 {
    let permits = Semaphore::new(1);
    let permit = RefCell::new(Some(permits.acquire().await));
    on_query(move |mischief: Mischief| match mischief {
        Mischief::Panics => panic!("the bottom fell out"),
        Mischief::Schedules => drop(sleep(Duration::from_secs(1)).now_or_never()),
        Mischief::Promises => std::mem::forget(promise::<u32>()),
        Mischief::Polls => {}
        Mischief::Draws => {
            let _: u64 = random();
        }
        Mischief::Publishes => publish("news"),
        Mischief::Receives => drop(signal::<Add>().recv().now_or_never()),
        Mischief::Registers => on_query(|_: All| Vec::new()),
        Mischief::DropsAnother => {}
        Mischief::Unlocks => drop(permit.borrow_mut().take()),
        Mischief::Swallows => {
            let _ = std::panic::catch_unwind(random::<u64>);
        }
    });
    let (_permit, go) = join!(permits.acquire(), signal::<Add>().recv());
    go.0
}

fn mischief(mischief: Mischief) -> Unanswered {
    let mut run = run(tempted());
    assert_eq!(run.start(), ["waiting"]);
    ask(&mut run, mischief).unwrap_err()
}

#[test]
fn a_handler_that_does_more_than_look_is_found_out_and_spoils_its_instance() {
    for (done, kind, says) in [
        (Mischief::Panics, FailureKind::Panicked, "the bottom fell out"),
        (Mischief::Schedules, FailureKind::Panicked, "cannot start an activity, a step or a timer, as it only looks"),
        (Mischief::Promises, FailureKind::Panicked, "cannot make a promise"),
        (Mischief::Draws, FailureKind::Panicked, "cannot draw a random value"),
        (Mischief::Publishes, FailureKind::Panicked, "cannot publish a state"),
        (Mischief::Receives, FailureKind::Panicked, "cannot receive a signal"),
        (Mischief::Registers, FailureKind::Panicked, "cannot register a handler"),
        (Mischief::Unlocks, FailureKind::Failed, "woke a part of it"),
        (Mischief::Swallows, FailureKind::Failed, "did draw a random value"),
    ] {
        let error = mischief(done);
        assert!(error.spoilt, "{error:?}");
        assert_eq!(error.failure.kind, kind, "{error:?}");
        assert!(error.failure.message.contains(says), "{error:?}");
    }
}

#[workflow]
async fn holds_a_timer() -> u32 {
    let timer = Rc::new(RefCell::new(None));
    let held = Rc::clone(&timer);
    on_query(move |mischief: Mischief| match mischief {
        Mischief::Polls => {
            let _ = held.borrow_mut().as_mut().map(|timer: &mut LocalBoxFuture<'_, ()>| timer.now_or_never());
        }
        _ => drop(held.borrow_mut().take()),
    });
    let mut sleeping = sleep(Duration::from_secs(9)).boxed_local();
    assert!(futures::poll!(&mut sleeping).is_pending());
    timer.replace(Some(sleeping));
    signal::<Add>().recv().await.0
}

#[test]
fn a_timer_that_a_handler_drops_spoils_the_instance_too() {
    let mut run = run(holds_a_timer());
    assert_eq!(run.start(), ["0 timer 10000", "waiting"]);
    let error = ask(&mut run, Mischief::DropsAnother).unwrap_err();
    assert!(error.spoilt && error.failure.message.contains("drop a call that is under way"), "{error:?}");
    let mut another = crate::harness::run(holds_a_timer());
    another.start();
    let error = ask(&mut another, Mischief::Polls).unwrap_err();
    assert!(error.spoilt && error.failure.message.contains("cannot await what is under way"), "{error:?}");
}

#[workflow]
async fn phases() -> u32 {
    on_query(|_: All| vec![1]);
    signal::<Add>().recv().await;
    on_query(|_: All| vec![2]);
    signal::<Add>().recv().await.0
}

#[test]
fn the_handler_that_was_registered_last_answers() {
    let mut run = run(phases());
    run.start();
    assert_eq!(ask(&mut run, All), Ok(vec![1]));
    run.signal(&Add(1));
    assert_eq!(ask(&mut run, All), Ok(vec![2]));
}
