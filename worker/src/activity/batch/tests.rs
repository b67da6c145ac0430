//! How tasks are put together, in virtual time: no broker.

use std::sync::{LazyLock, Mutex as StdMutex};
use std::time::Duration;

use everpulse_engine::attempt::End;
use everpulse_sdk::definition::FunctionActivity;
use everpulse_sdk::intercept::Interceptors;
use tokio::time::Instant;

use super::super::attempt::{self, Bounds, Pulse};
use super::*;
use crate::trial::task;

type Failed = everpulse_sdk::Error;

/// An activity's name, and what one execution of it was given.
type Given = (&'static str, Vec<u64>);

/// What each execution was given. A test has names of its own.
static GIVEN: LazyLock<StdMutex<Vec<Given>>> = LazyLock::new(StdMutex::default);

fn note(name: &'static str, items: &[u64]) {
    GIVEN.lock().expect("unpoisoned").push((name, items.to_vec()));
}

/// What the executions of an activity were given, each in its order.
fn given(name: &str) -> Vec<Vec<u64>> {
    let given = GIVEN.lock().expect("unpoisoned");
    given.iter().filter(|(of, _)| *of == name).map(|(_, items)| items.clone()).collect()
}

#[everpulse_sdk::activity(batch(max = 3, wait = "10ms"), crate = everpulse_sdk)]
async fn gathered(ns: Vec<u64>) -> Vec<String> {
    note("gathered", &ns);
    let contexts = activity::contexts();
    ns.iter().zip(contexts).map(|(n, context)| format!("{n} of {}", context.workflow_id())).collect()
}

#[everpulse_sdk::activity(batch(max = 3, wait = "10ms"), crate = everpulse_sdk)]
async fn kept_out(ns: Vec<u64>) -> Vec<String> {
    note("kept_out", &ns);
    ns.iter().map(ToString::to_string).collect()
}

#[everpulse_sdk::activity(batch(max = 10, wait = "10ms"), crate = everpulse_sdk)]
async fn picky(ns: Vec<u64>) -> Vec<Result<u64, Failed>> {
    note("picky", &ns);
    ns.into_iter().map(|n| if n % 2 == 0 { Ok(n) } else { Err(Failed::msg(format!("{n} is odd"))) }).collect()
}

#[everpulse_sdk::activity(batch(max = 10, wait = "10ms"), crate = everpulse_sdk)]
async fn fragile(ns: Vec<u64>) -> Vec<u64> {
    note("fragile", &ns);
    assert!(!ns.contains(&13), "thirteen");
    ns
}

#[everpulse_sdk::activity(batch(max = 10, wait = "10ms"), crate = everpulse_sdk)]
async fn forgetful(ns: Vec<u64>) -> Vec<u64> {
    ns.into_iter().filter(|n| n % 2 == 0).collect()
}

/// Takes a second, and does no more than one.
#[everpulse_sdk::activity(batch(max = 10, wait = "10ms"), crate = everpulse_sdk)]
async fn ponderous(ns: Vec<u64>) -> Vec<u64> {
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ns.len(), 1, "one after the other");
    ns
}

#[everpulse_sdk::activity(batch(max = 3, wait = "10ms"), crate = everpulse_sdk)]
async fn few_tries(ns: Vec<u64>) -> Vec<u64> {
    note("few_tries", &ns);
    ns
}

#[everpulse_sdk::activity(batch(max = 2, wait = "1h"), crate = everpulse_sdk)]
async fn full(ns: Vec<u64>) -> Vec<u64> {
    ns
}

#[everpulse_sdk::activity(batch(max = 10, wait = "1h"), crate = everpulse_sdk)]
async fn patient(ns: Vec<u64>) -> Vec<u64> {
    sleep(Duration::from_millis(400)).await;
    ns
}

#[everpulse_sdk::activity(batch(max = 10, wait = "1h"), crate = everpulse_sdk)]
async fn belated(ns: Vec<u64>) -> Vec<u64> {
    note("belated", &ns);
    ns
}

#[everpulse_sdk::activity(batch(max = 10, wait = "1h"), crate = everpulse_sdk)]
async fn hurried(ns: Vec<u64>) -> Vec<u64> {
    note("hurried", &ns);
    ns
}

#[everpulse_sdk::activity(batch(max = 10, wait = "10ms"), crate = everpulse_sdk)]
async fn slow(ns: Vec<u64>) -> Vec<u64> {
    note("slow", &ns);
    sleep(Duration::from_secs(60)).await;
    note("slow", &[]);
    ns
}

#[everpulse_sdk::activity(batch(max = 2, wait = "1h"), crate = everpulse_sdk)]
async fn busy(ns: Vec<u64>) -> Vec<u64> {
    note("busy", &ns);
    sleep(Duration::from_secs(1)).await;
    ns
}

#[everpulse_sdk::activity(batch(max = 10, wait = "10ms"), crate = everpulse_sdk)]
fn plain(ns: Vec<u64>) -> Vec<u64> {
    note("plain", &ns);
    assert_eq!(activity::contexts().len(), ns.len());
    ns.into_iter().map(|n| n + 1).collect()
}

fn of<V: serde::Serialize>(name: &str, n: V) -> Task {
    let args = std::collections::BTreeMap::from([("ns", n)]);
    task(name, Payload::encode(&args).expect("it can be written"))
}

/// One attempt at a task, as a runner makes it.
async fn run<D: FunctionActivity>(batches: Batches, task: Task, room: Option<Room>) -> End {
    let slot = match &room {
        Some(room) => room.enter(Needs::All).await,
        None => None,
    };
    let pulse = Pulse::new();
    let context = ActivityContext::new(&task, pulse.clone());
    let entry = D::entry();
    let batch = entry.batch.clone().expect("it is one");
    let joining = batches.joining((&entry, &batch), &task, (&context, &pulse), (slot, room));
    let bounds = Bounds { cancel_grace: Duration::from_secs(5), payload_bytes_max: 1_000 };
    attempt::run((&joining, &Interceptors::default()), &task, context, &pulse, bounds, ()).await
}

async fn run_all<D: FunctionActivity>(batches: &Batches, tasks: Vec<Task>) -> Vec<End> {
    join_all(tasks.into_iter().map(|task| run::<D>(batches.clone(), task, None))).await
}

fn value<T: serde::de::DeserializeOwned>(end: &End) -> T {
    match end {
        End::Done(value) => value.decode().expect("of that type"),
        other => panic!("{other:?}"),
    }
}

fn failure(end: &End) -> Failure {
    match end {
        End::Failed { failure, .. } => failure.clone(),
        other => panic!("{other:?}"),
    }
}

fn failed(end: &End) -> (FailureKind, String, bool) {
    match end {
        End::Failed { failure, retryable, .. } => (failure.kind.clone(), failure.message.clone(), *retryable),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_of_several_runs_are_one_execution_and_a_full_one_does_not_wait() {
    let (batches, began) = (Batches::default(), Instant::now());
    let tasks: Vec<Task> = (0..4).map(|n| of("gathered", n)).collect();
    let ids: Vec<String> = tasks.iter().map(|task| task.workflow_id.to_string()).collect();
    let full = run_all::<gathered>(&batches, tasks[..3].to_vec()).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    let rest = run_all::<gathered>(&batches, tasks[3..].to_vec()).await;
    assert_eq!(began.elapsed(), Duration::from_millis(10));
    assert_eq!(given("gathered"), [vec![0, 1, 2], vec![3]]);
    for (n, end) in full.iter().chain(&rest).enumerate() {
        assert_eq!(value::<String>(end), format!("{n} of {}", ids[n]));
    }
}

#[tokio::test(start_paused = true)]
async fn each_task_has_an_end_of_its_own() {
    let mut tasks: Vec<Task> = (0..4).map(|n| of("picky", n)).collect();
    tasks.insert(2, of("picky", "two"));
    let ends = run_all::<picky>(&Batches::default(), tasks).await;
    assert_eq!((value::<u64>(&ends[0]), value::<u64>(&ends[3])), (0, 2));
    for (at, n) in [(1, 1), (4, 3)] {
        assert_eq!(failed(&ends[at]), (FailureKind::Failed, format!("{n} is odd"), true));
    }
    let (kind, _, retryable) = failed(&ends[2]);
    assert_eq!((kind, retryable), (FailureKind::Undecodable, false));
    assert_eq!(given("picky"), [vec![0, 1, 2, 3]], "what cannot be read is not given to the code");
}

/// A task that has one attempt.
fn once<V: serde::Serialize>(name: &str, n: V) -> Task {
    let mut task = of(name, n);
    task.options.retry.max_attempts = Some(1);
    task
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_the_execution_down_does_so_once_and_then_alone() {
    let batches = Batches::default();
    let tasks: Vec<Task> = [1, 13, 2].into_iter().map(|n| once("fragile", n)).collect();
    let ends = run_all::<fragile>(&batches, tasks.clone()).await;
    assert_eq!((value::<u64>(&ends[0]), value::<u64>(&ends[2])), (1, 2), "no attempt of theirs has failed");
    assert_eq!(failed(&ends[1]), (FailureKind::Panicked, "activity panicked: thirteen".to_owned(), true));
    let mut executions = given("fragile");
    executions[1..].sort();
    assert_eq!(executions, [vec![1, 13, 2], vec![1], vec![2], vec![13]]);
    let again = tasks[1].next_attempt(failure(&ends[1]));
    let _ = run_all::<fragile>(&batches, vec![again, of("fragile", 3)]).await;
    assert_eq!(given("fragile")[4..], [vec![13], vec![3]], "nor does its next attempt");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_results_is_nobodys_but_his_with_whom_it_is_wrong_alone() {
    let tasks = [1, 2, 4].into_iter().map(|n| once("forgetful", n)).collect();
    let ends = run_all::<forgetful>(&Batches::default(), tasks).await;
    assert_eq!((value::<u64>(&ends[1]), value::<u64>(&ends[2])), (2, 4));
    let (kind, message, retryable) = failed(&ends[0]);
    assert_eq!((kind, retryable), (FailureKind::Panicked, true));
    assert_eq!(
        message,
        "batch activity `forgetful` was given 1 items and gave 0 results; it gives one for each, in their order"
    );
}

#[tokio::test(start_paused = true)]
async fn those_that_are_done_again_alone_have_slots_and_all_of_their_time() {
    let room = Room::new(1, Vec::new());
    let tasks: Vec<Task> = [1, 2, 3]
        .into_iter()
        .map(|n| {
            let mut task = once("ponderous", n);
            task.options.start_to_close_ms = 1_500;
            task
        })
        .collect();
    let began = Instant::now();
    let batches = Batches::default();
    let ends = join_all(tasks.into_iter().map(|task| run::<ponderous>(batches.clone(), task, Some(room.clone()))));
    assert_eq!(ends.await.iter().map(value::<u64>).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(began.elapsed(), Duration::from_millis(4_010), "once together, and then one after the other");
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_of_several_is_made_alone() {
    let (mut last, other) = (of("few_tries", 1), of("few_tries", 2));
    last.attempt = 3;
    let began = Instant::now();
    let batches = Batches::default();
    let ends = run_all::<few_tries>(&batches, vec![last, other]).await;
    assert_eq!(ends.iter().map(value::<u64>).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((given("few_tries"), began.elapsed()), (vec![vec![1], vec![2]], Duration::from_millis(10)));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_others_counts_against_no_time_out_of_the_attempt() {
    let mut task = of("patient", 1);
    task.options.start_to_close_ms = 1_000;
    task.options.heartbeat_ms = Some(500);
    let began = Instant::now();
    let ends = run_all::<patient>(&Batches::default(), vec![task]).await;
    assert_eq!(value::<u64>(&ends[0]), 1);
    assert_eq!(began.elapsed(), Duration::from_secs(3_600) + Duration::from_millis(400));
    let mut silent = of("patient", 0);
    silent.options.start_to_close_ms = 1_000;
    silent.options.heartbeat_ms = Some(300);
    let ends = run_all::<patient>(&Batches::default(), vec![silent]).await;
    assert!(failed(&ends[0]).1.ends_with("gave no heartbeat for 300ms"), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_longer_than_from_schedule_to_start_is_not_given_to_the_code() {
    let mut task = of("belated", 1);
    task.options.schedule_to_start_ms = Some(60_000);
    let began = Instant::now();
    let batches = Batches::default();
    let ends = run_all::<belated>(&batches, vec![task, of("belated", 2)]).await;
    let (kind, message, retryable) = failed(&ends[0]);
    assert_eq!((kind, retryable), (FailureKind::TimedOut, false));
    assert!(message.ends_with("its schedule-to-start time-out is 60000 ms"), "{message}");
    assert_eq!((value::<u64>(&ends[1]), given("belated")), (2, vec![vec![2]]));
    assert_eq!(began.elapsed(), Duration::from_secs(3_600));
}

#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_for_others_when_its_worker_shuts_down() {
    let (batches, began) = (Batches::default(), Instant::now());
    let ends = run_all::<hurried>(&batches, vec![of("hurried", 1), of("hurried", 2)]);
    let closing = async {
        sleep(Duration::from_secs(1)).await;
        batches.close();
    };
    let (ends, ()) = tokio::join!(ends, closing);
    assert_eq!(ends.iter().map(value::<u64>).collect::<Vec<_>>(), [1, 2]);
    let ends = run_all::<hurried>(&batches, vec![of("hurried", 3)]).await;
    assert_eq!(value::<u64>(&ends[0]), 3);
    assert_eq!((given("hurried"), began.elapsed()), (vec![vec![1, 2], vec![3]], Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn nobody_gathers_for_a_batch_that_was_full() {
    let room = Room::new(2, Vec::new());
    let batches = Batches::default();
    let tasks = (0..2).map(|n| run::<full>(batches.clone(), of("full", n), Some(room.clone())));
    assert_eq!(join_all(tasks).await.iter().map(value::<u64>).collect::<Vec<_>>(), [0, 1]);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_times_out_leaves_the_others_and_the_last_one_ends_the_execution() {
    let batches = Batches::default();
    let (mut hasty, mut patient) = (of("slow", 1), of("slow", 2));
    hasty.options.start_to_close_ms = 1_000;
    patient.options.start_to_close_ms = 100_000;
    let ends = run_all::<slow>(&batches, vec![hasty.clone(), patient]).await;
    assert_eq!(failed(&ends[0]).0, FailureKind::TimedOut);
    assert_eq!(value::<u64>(&ends[1]), 2);
    assert_eq!(given("slow"), [vec![1, 2], vec![]]);
    let ends = run_all::<slow>(&batches, vec![hasty]).await;
    assert_eq!(failed(&ends[0]).0, FailureKind::TimedOut);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(given("slow"), [vec![1, 2], vec![], vec![1]], "nobody waits for it: it is dropped");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_wait_for_others_keep_no_slot_and_an_execution_has_one() {
    let (batches, room) = (Batches::default(), Room::new(1, Vec::new()));
    let tasks: Vec<Task> = (0..4).map(|n| of("busy", n)).collect();
    let began = Instant::now();
    let run = |task| run::<busy>(batches.clone(), task, Some(room.clone()));
    let ends = join_all(tasks.into_iter().map(run)).await;
    assert_eq!(ends.iter().map(value::<u64>).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(given("busy"), [vec![0, 1], vec![2, 3]]);
    assert_eq!(began.elapsed(), Duration::from_secs(2), "one after the other");
    assert_eq!(room.free(), 1);
}

#[tokio::test]
async fn a_plain_function_does_a_batch_on_a_blocking_thread() {
    let ends = run_all::<plain>(&Batches::default(), vec![of("plain", 1), of("plain", 2)]).await;
    assert_eq!(ends.iter().map(value::<u64>).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(given("plain"), [vec![1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cancelled_before_is_not_given_to_the_code() {
    let batches = Batches::default();
    let entry = kept_out::entry();
    let batch = entry.batch.clone().expect("it is one");
    let (task, other) = (of("kept_out", 77), of("kept_out", 78));
    let pulse = Pulse::new();
    let context = ActivityContext::new(&task, pulse.clone());
    let joining = batches.joining((&entry, &batch), &task, (&context, &pulse), (None, None));
    let cancelled = joining.run(task.args.clone());
    context.cancel();
    let (cancelled, other) = tokio::join!(cancelled, run::<kept_out>(batches.clone(), other, None));
    assert_eq!(cancelled.expect_err("it is left out").failure.kind, FailureKind::Cancelled);
    assert_eq!(value::<String>(&other), "78");
    assert_eq!(given("kept_out"), [vec![78]]);
}
