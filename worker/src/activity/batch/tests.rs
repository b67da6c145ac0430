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
    ns.into_iter().skip(1).collect()
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
async fn run<D: FunctionActivity>(batches: Batches, task: Task, slots: Option<Arc<Semaphore>>) -> End {
    let slot = match &slots {
        Some(slots) => Arc::clone(slots).acquire_owned().await.ok(),
        None => None,
    };
    let pulse = Pulse::new();
    let context = ActivityContext::new(&task, pulse.clone());
    let entry = D::entry();
    let batch = entry.batch.clone().expect("it is one");
    let joining = batches.joining((&entry, &batch), &task, &context, (slot, slots));
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

#[tokio::test(start_paused = true)]
async fn one_that_takes_the_execution_down_does_so_once_and_then_alone() {
    let batches = Batches::default();
    let tasks: Vec<Task> = [1, 13, 2].into_iter().map(|n| of("fragile", n)).collect();
    let ends = run_all::<fragile>(&batches, tasks.clone()).await;
    let again = |(task, end): (&Task, &End)| match end {
        End::Failed { failure, retryable: true, .. } => task.next_attempt(failure.clone()),
        other => panic!("{other:?}"),
    };
    let again: Vec<Task> = tasks.iter().zip(&ends).map(again).collect();
    let ends = run_all::<fragile>(&batches, again).await;
    assert_eq!((value::<u64>(&ends[0]), value::<u64>(&ends[2])), (1, 2));
    assert_eq!(failed(&ends[1]).0, FailureKind::Panicked);
    let mut executions = given("fragile");
    executions[1..].sort();
    assert_eq!(executions, [vec![1, 13, 2], vec![1], vec![2], vec![13]]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_number_of_results_is_nobodys_result() {
    let ends = run_all::<forgetful>(&Batches::default(), vec![of("forgetful", 1), of("forgetful", 2)]).await;
    for end in &ends {
        let (kind, message, retryable) = failed(end);
        assert_eq!((kind, retryable), (FailureKind::Panicked, true));
        assert_eq!(
            message,
            "batch activity `forgetful` was given 2 items and gave 1 results; it gives one for each, in their order"
        );
    }
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
    let (batches, slots) = (Batches::default(), Arc::new(Semaphore::new(1)));
    let tasks: Vec<Task> = (0..4).map(|n| of("busy", n)).collect();
    let began = Instant::now();
    let run = |task| run::<busy>(batches.clone(), task, Some(Arc::clone(&slots)));
    let ends = join_all(tasks.into_iter().map(run)).await;
    assert_eq!(ends.iter().map(value::<u64>).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(given("busy"), [vec![0, 1], vec![2, 3]]);
    assert_eq!(began.elapsed(), Duration::from_secs(2), "one after the other");
    assert_eq!(slots.available_permits(), 1);
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
    let context = ActivityContext::new(&task, Pulse::new());
    let joining = batches.joining((&entry, &batch), &task, &context, ((), None));
    let cancelled = joining.run(task.args.clone());
    context.cancel();
    let (cancelled, other) = tokio::join!(cancelled, run::<kept_out>(batches.clone(), other, None));
    assert_eq!(cancelled.expect_err("it is left out").failure.kind, FailureKind::Cancelled);
    assert_eq!(value::<String>(&other), "78");
    assert_eq!(given("kept_out"), [vec![78]]);
}
