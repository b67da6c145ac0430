//! A worker with one slot: whoever waits for tasks keeps it from nobody who has one.

use super::*;

#[everpulse_sdk::activity(batch(max = 2, wait = "10ms"), crate = everpulse_sdk)]
async fn lone(ns: Vec<u64>) -> Vec<u64> {
    ns
}

/// Nothing but a second task completes it.
#[everpulse_sdk::activity(batch(max = 2, wait = "1h"), crate = everpulse_sdk)]
async fn pair(ns: Vec<u64>) -> Vec<u64> {
    ns
}

/// How many one execution of `large` was given.
static LARGE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

#[everpulse_sdk::activity(batch(max = 4_200, wait = "1h"), crate = everpulse_sdk)]
async fn large(ns: Vec<u64>) -> Vec<u64> {
    LARGE.lock().expect("unpoisoned").push(ns.len());
    ns
}

async fn narrow(trial: &Trial) -> ActivityRunner {
    let mut registry = Registry::new();
    registry.activity_fn(lone).expect("once");
    registry.activity_fn(pair).expect("once");
    registry.activity_fn(large).expect("once");
    registry.activity_fn(double).expect("once");
    let options =
        Options { queues: Some(vec!["trial".to_owned()]), concurrency: 1, prefetch: Some(64), ..Options::default() };
    let starting = ActivityRunner::start(Arc::new(registry), trial.outbox.clone(), trial.transport.clone(), options);
    starting.await.expect("started")
}

async fn done(trial: &Trial, tasks: usize) {
    let mut inbox = trial.inbox();
    for _ in 0..tasks {
        let (_, body) = inbox.next().await;
        assert!(matches!(body, EventBody::ActivitySettled { attempt: 1, outcome: Outcome::Done(_), .. }), "{body:?}");
    }
    acked(trial).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_alone_in_its_batch_is_done_though_no_other_comes() {
    for trial in Trial::all().await {
        let runner = narrow(&trial).await;
        trial.outbox.task(task("lone", args("ns", 1))).await.expect("sent");
        done(&trial, 1).await;
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_full_is_done_though_no_other_task_comes() {
    for trial in Trial::all().await {
        let runner = narrow(&trial).await;
        for n in 0..2 {
            trial.outbox.task(task("pair", args("ns", n))).await.expect("sent");
        }
        done(&trial, 2).await;
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_have_more_tasks_than_may_wait_to_be_confirmed() {
    for trial in Trial::all().await {
        let runner = narrow(&trial).await;
        let tasks = (0..4_200).map(|n| {
            let mut task = task("large", args("ns", n));
            // Such tasks travel together; and it counts from the execution.
            task.options.start_to_close_ms = 1_000;
            trial.outbox.task(task)
        });
        for sent in futures::future::join_all(tasks).await {
            sent.expect("sent");
        }
        acked(&trial).await;
        assert_eq!(LARGE.lock().expect("unpoisoned").drain(..).collect::<Vec<_>>(), [4_200]);
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_attempt_finds_the_slot_of_a_queue_that_is_empty() {
    for trial in Trial::all().await {
        let runner = narrow(&trial).await;
        for slot in [runner.try_slot("trial", "double"), None] {
            let attempt = runner.run_eager(slot, task("double", args("n", 21)));
            let end = tokio::time::timeout(LONG, attempt).await.expect("a slot");
            let EagerResult::Settled { attempt: 1, outcome: Outcome::Done(value) } = end else { panic!("{end:?}") };
            assert_eq!(value.decode::<u64>().expect("a number"), 42);
        }
        let slot = runner.try_slot("trial", "double");
        assert!(slot.is_some(), "nothing waits, so it is free");
        assert!(runner.try_slot("trial", "double").is_none(), "there is one");
        drop(slot);
        runner.drain(LONG).await;
    }
}
