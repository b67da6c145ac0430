//! Calls of activities: numbering, lazy and eager scheduling, options, dropping, detaching.

use std::time::Duration;

use everpulse::replay::{Command, Input};
use everpulse::{Failure, Retry, activity, workflow};
use everpulse_protocol::Payload;
use everpulse_protocol::payload::Format;
use everpulse_protocol::task::OnExhausted;

use crate::harness::{done, run, show, value};

#[activity]
async fn double(n: u32) -> u32 {
    n * 2
}

#[activity(
    name = "charge-card",
    timeout = "1m30s",
    heartbeat = "5s",
    queue = "pay",
    exhausted = "park",
    retry(initial = "50ms", max = "2s", factor = 1.5, max_attempts = 7)
)]
async fn charge(_card: String) -> u32 {
    1
}

#[workflow]
async fn sequence(n: u32) -> u32 {
    let n = double(n).await.unwrap();
    double(n).await.unwrap()
}

#[test]
fn one_call_after_another() {
    let mut run = run(sequence(5));
    assert_eq!(run.start(), ["0 activity double", "waiting"]);
    assert_eq!(run.done(0, 10), ["1 activity double", "waiting"]);
    assert_eq!(value::<u32>(&run.turn(done(1, 20))), 20);
}

#[test]
fn arguments_travel_as_a_map_by_parameter_name() {
    let turn = run(sequence(5)).turn(Input::Start);
    let [Command::Activity { args, .. }] = &turn.commands[..] else { panic!("{turn:?}") };
    let map: std::collections::BTreeMap<String, u32> = args.decode().unwrap();
    assert_eq!(map.into_iter().collect::<Vec<_>>(), [("n".to_owned(), 5)]);
}

#[test]
fn results_of_unknown_settled_and_closed_steps_are_ignored() {
    let mut run = run(sequence(5));
    run.start();
    assert_eq!(run.done(9, 1), ["waiting"]);
    run.done(0, 10);
    assert_eq!(run.done(0, 99), ["waiting"]);
    assert_eq!(run.fired(1), ["waiting"], "an activity is no timer");
    assert_eq!(run.done(1, 20), ["completed with 1 bytes"]);
    assert_eq!(run.done(1, 20), ["completed with 1 bytes"], "and nothing else happens");
}

#[workflow]
async fn options() -> u32 {
    let call = charge("a".into());
    let other = charge("b".into()).queue("slow").timeout(Duration::from_secs(9)).retry(Retry::none());
    let (one, other) = everpulse::join!(call, other);
    one.unwrap() + other.unwrap()
}

#[test]
fn options_come_from_the_definition_and_the_call_overrides_them() {
    let turn = run(options()).turn(Input::Start);
    let [Command::Activity { name, queue, options, .. }, Command::Activity { queue: slow, options: own, .. }] =
        &turn.commands[..]
    else {
        panic!("{turn:?}")
    };
    assert_eq!((name.as_str(), queue.as_str(), slow.as_str()), ("charge-card", "pay", "slow"));
    assert_eq!((options.start_to_close_ms, options.heartbeat_ms), (90_000, Some(5_000)));
    assert_eq!(options.exhausted, OnExhausted::Park);
    let retry = options.retry;
    assert_eq!((retry.initial_ms, retry.max_ms, retry.factor_percent), (50, 2_000, 150));
    assert_eq!(retry.max_attempts, Some(7));
    assert_eq!((own.start_to_close_ms, own.retry.max_attempts, own.heartbeat_ms), (9_000, Some(1), Some(5_000)));
}

#[workflow]
async fn started_first() -> u32 {
    let unused = double(0);
    let handle = double(1).start();
    let later = double(2);
    let second = double(3).await.unwrap();
    drop(unused);
    handle.await.unwrap() + later.await.unwrap() + second
}

#[test]
fn start_schedules_at_once_and_calls_are_numbered_by_first_poll() {
    let mut run = run(started_first());
    let turn = run.turn(Input::Start);
    assert_eq!(show(&turn), ["0 activity double", "1 activity double", "waiting"]);
    let sent: Vec<u32> = turn
        .commands
        .iter()
        .map(|command| {
            let Command::Activity { args, .. } = command else { panic!("{command:?}") };
            args.decode::<std::collections::BTreeMap<String, u32>>().unwrap()["n"]
        })
        .collect();
    assert_eq!(sent, [1, 3], "the one that was dropped unpolled and the one that was not polled are not there");
    assert_eq!(run.done(0, 10), ["waiting"], "a handle keeps its result until it is awaited");
    assert_eq!(run.done(1, 100), ["2 activity double", "waiting"]);
    assert_eq!(value::<u32>(&run.turn(done(2, 1_000))), 1_110);
}

#[workflow]
async fn dropped() -> u32 {
    let handle = double(0).start();
    double(1).start().detach();
    let settled = double(2).start();
    let last = double(3).await.unwrap();
    drop(handle);
    drop(settled);
    double(5).detach();
    double(last).await.unwrap()
}

#[test]
fn dropping_what_is_open_cancels_it_and_detaching_or_a_result_does_not() {
    let mut run = run(dropped());
    run.start();
    assert_eq!(run.done(2, 0), ["waiting"]);
    assert_eq!(run.done(3, 0), ["cancel 0", "4 activity double", "5 activity double", "waiting"]);
    assert_eq!(run.done(0, 5), ["waiting"], "a cancelled call's result is ignored");
    assert_eq!(run.done(1, 5), ["waiting"], "so is a detached one's");
    assert_eq!(run.done(5, 0), ["completed with 1 bytes"]);
}

#[workflow]
async fn leaves_open() -> u32 {
    let _open = double(0).start();
    double(1).await.unwrap()
}

#[test]
fn what_is_open_at_the_end_is_cancelled() {
    let mut run = run(leaves_open());
    run.start();
    assert_eq!(run.done(1, 2), ["cancel 0", "completed with 1 bytes"]);
}

#[test]
fn taking_a_live_run_down_cancels_nothing() {
    let mut first = run(leaves_open());
    first.start();
    let mut second = run(sequence(1));
    second.start();
    drop(first);
    assert_eq!(second.done(0, 2), ["1 activity double", "waiting"]);
}

#[workflow]
async fn undecodable_result() -> Result<u32, everpulse::Error> {
    match double(1).await {
        Err(Failure::Undecodable { message }) => Err(everpulse::Error::msg(message)),
        other => Ok(other?),
    }
}

#[test]
fn a_result_of_another_type_is_a_failure_that_names_the_type() {
    let mut run = run(undecodable_result());
    run.start();
    let ended = run.done(0, "seven");
    assert!(ended[0].starts_with("failed: cannot decode a payload of 6 bytes as u32: "), "{ended:?}");
}

#[test]
fn a_call_outside_a_workflow_names_what_to_do_instead() {
    let panic = std::panic::catch_unwind(|| futures::executor::block_on(double(1))).unwrap_err();
    assert_eq!(
        *panic.downcast_ref::<String>().unwrap(),
        "activity `double` was called outside a workflow: await it in a function with `#[workflow]`, which a client starts \
         with `client.start(..)`; or run its code right here with `double::body(..)`"
    );
}

#[test]
fn the_body_is_the_authors_function() {
    assert_eq!(futures::executor::block_on(double::body(21)), 42);
}

#[test]
fn a_call_is_send_and_a_request_says_what_to_start() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    drop(assert_send(double(1)));
    let request = assert_send(sequence(5)).into_request(Format::MessagePack).unwrap();
    assert_eq!((request.workflow.as_str(), request.version), ("sequence", None));
    assert_ne!(request.args, Payload::encode(&5_u32).unwrap());
}

#[workflow]
async fn bad_queue() -> u32 {
    double(1).queue("no/slash").await.unwrap()
}

#[test]
fn a_queue_that_cannot_be_a_topic_is_refused() {
    assert_eq!(
        run(bad_queue()).start(),
        ["panicked: \"no/slash\" cannot be the name of a queue: use 1 to 64 letters, digits, `-` and `_`"]
    );
}
