//! A queue with permits for all of its workers together.

use everpulse_protocol::priority::Priority;

use super::super::room::Needs;
use super::*;
use crate::permits::{Permits, Rule};

/// What was done, in this order.
static DONE: Mutex<Vec<String>> = Mutex::new(Vec::new());
static BEGAN: Notify = Notify::const_new();
static GO_ON: Notify = Notify::const_new();

#[everpulse_sdk::activity(crate = everpulse_sdk)]
async fn listed(name: String) {
    if name == "first" {
        BEGAN.notify_one();
        GO_ON.notified().await;
    }
    DONE.lock().expect("unpoisoned").push(name);
}

/// Nothing but a second task completes it.
#[everpulse_sdk::activity(batch(max = 2, wait = "1h"), crate = everpulse_sdk)]
async fn both(ns: Vec<u64>) -> Vec<u64> {
    ns
}

#[everpulse_sdk::activity(batch(max = 100, wait = "1h"), crate = everpulse_sdk)]
async fn many(ns: Vec<u64>) -> Vec<u64> {
    ns
}

async fn shared(trial: &Trial, set: impl FnOnce(&mut Options)) -> ActivityRunner {
    let mut registry = Registry::new();
    registry.activity_fn(listed).expect("once");
    registry.activity_fn(both).expect("once");
    registry.activity_fn(many).expect("once");
    registry.activity_fn(double).expect("once");
    let mut options = Options { queues: Some(vec!["trial".to_owned()]), ..Options::default() };
    set(&mut options);
    let starting = ActivityRunner::start(Arc::new(registry), trial.outbox.clone(), trial.transport.clone(), options);
    starting.await.expect("started")
}

fn at_a_time(attempts: usize) -> impl FnOnce(&mut Options) {
    move |options| {
        options.concurrency_across_workers.insert("trial".to_owned(), attempts);
    }
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
async fn a_batch_runs_with_the_permit_of_the_task_that_makes_it_full() {
    for trial in Trial::all().await {
        let runner = shared(&trial, at_a_time(1)).await;
        for n in 0..4 {
            trial.outbox.task(task("both", args("ns", n))).await.expect("sent");
        }
        done(&trial, 4).await;
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_join_a_batch_on_two_workers_while_all_permits_to_run_are_in_use() {
    for trial in Trial::all().await {
        // As another worker has it.
        let other = Permits::open(trial.transport.clone(), "trial", Rule::Concurrency(1));
        let held = tokio::time::timeout(LONG, other.one()).await.expect("it is free");
        let workers = [shared(&trial, at_a_time(1)).await, shared(&trial, at_a_time(1)).await];
        let tasks: Vec<_> = (0..8).map(|n| task("many", args("ns", n))).collect();
        for task in &tasks {
            trial.outbox.task(task.clone()).await.expect("sent");
        }
        trial.all_taken(&topic::activity("trial"), 8).await;
        let gathered = || workers.iter().map(|worker| worker.shared.batches.gathered()).sum::<usize>();
        let joined = async {
            while gathered() < 8 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, joined).await.expect("all of them join");
        workers.iter().for_each(|worker| worker.shared.batches.close());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(gathered(), 8, "none of them runs");
        drop(held);
        done(&trial, 8).await;
        for worker in &workers {
            worker.drain(LONG).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_full_waits_with_no_others_until_it_may_run() {
    for trial in Trial::all().await {
        let other = Permits::open(trial.transport.clone(), "trial", Rule::Concurrency(1));
        let held = tokio::time::timeout(LONG, other.one()).await.expect("it is free");
        let set = |options: &mut Options| {
            at_a_time(1)(options);
            options.give_back = LONG;
        };
        let worker = shared(&trial, set).await;
        for n in 0..5 {
            trial.outbox.task(task("both", args("ns", n))).await.expect("sent");
        }
        let full = worker.shared.rooms.get("trial").expect("it is served").full();
        let is_full = async { full.clone().wait_for(|full| *full == 1).await.map(drop) };
        tokio::time::timeout(LONG, is_full).await.expect("two join").expect("it has the room");
        trial.all_taken(&topic::activity("trial"), 5).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((*full.borrow(), worker.shared.batches.gathered()), (1, 0), "no other one is put together");
        drop(held);
        let mut inbox = trial.inbox();
        for _ in 0..4 {
            inbox.next().await;
        }
        worker.shared.batches.close();
        inbox.next().await;
        acked(&trial).await;
        worker.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_to_be_judged_needs_no_permit() {
    for trial in Trial::all().await {
        let other = Permits::open(trial.transport.clone(), "trial", Rule::Concurrency(1));
        let held = tokio::time::timeout(LONG, other.one()).await.expect("it is free");
        let worker = shared(&trial, at_a_time(1)).await;
        let mut returned = task("double", args("n", 1));
        returned.options.retry.max_attempts = Some(1);
        returned.returned = Some(everpulse_protocol::Failure::new(FailureKind::TimedOut, "its worker is gone"));
        trial.outbox.task(returned).await.expect("sent");
        let (_, body) = trial.inbox().next().await;
        assert!(matches!(body, EventBody::ActivitySettled { outcome: Outcome::Failed(_), .. }), "{body:?}");
        drop(held);
        worker.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_full_needs_no_more_of_a_rate_than_its_tasks() {
    for trial in Trial::all().await {
        let rare = |options: &mut Options| {
            options.rates_across_workers.insert("trial".to_owned(), 1.0 / 3_600.0);
        };
        let runner = shared(&trial, rare).await;
        trial.outbox.task(task("both", args("ns", 1))).await.expect("sent");
        let joined = async {
            while !runner.shared.batches.is_gathering() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, joined).await.expect("it joins");
        // There is no other permit to begin with for an hour.
        runner.shared.batches.close();
        done(&trial, 1).await;
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_tasks_have_begun_finds_the_slot_though_another_task_waits_until_it_may_begin() {
    for trial in Trial::all().await {
        let rare = |options: &mut Options| {
            options.rates_across_workers.insert("trial".to_owned(), 1.0 / 3_600.0);
            options.queue_concurrency.insert("trial".to_owned(), 1);
            options.give_back = LONG;
        };
        let runner = shared(&trial, rare).await;
        for n in 0..2 {
            trial.outbox.task(task("both", args("ns", n))).await.expect("sent");
        }
        let joined = async {
            while !runner.shared.batches.is_gathering() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, joined).await.expect("it joins");
        trial.all_taken(&topic::activity("trial"), 2).await;
        // The other one is about to wait.
        tokio::time::sleep(Duration::from_millis(200)).await;
        runner.shared.batches.close();
        let (_, body) = trial.inbox().next().await;
        assert!(matches!(body, EventBody::ActivitySettled { outcome: Outcome::Done(_), .. }), "{body:?}");
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_permit_again_hears_that_it_is_cancelled_and_that_it_is_too_late() {
    for trial in Trial::all().await {
        let rare = |options: &mut Options| {
            options.rates_across_workers.insert("trial".to_owned(), 1.0 / 3_600.0);
        };
        let runner = shared(&trial, rare).await;
        let room = runner.shared.rooms.get("trial").expect("it is served");
        let enter = || async { tokio::time::timeout(LONG, room.enter(Needs::All)).await.expect("room") };
        let mut lost = Vec::new();
        for _ in 0..2 {
            let mut slot = enter().await.expect("room");
            // As if others had not heard this worker for long.
            slot.lose();
            lost.push(slot);
        }
        enter().await.expect("room").begin();
        let cancelled = task("double", args("n", 1));
        let mut timed_out = task("double", args("n", 2));
        timed_out.options.schedule_to_close_ms = Some(500);
        timed_out.scheduled_at = crate::clock::now();
        let soon = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            runner.shared.cancel(&[cancelled.id]);
        };
        let both = async {
            tokio::join!(
                runner.shared.run(&cancelled, lost.pop(), None),
                runner.shared.run(&timed_out, lost.pop(), None),
                soon
            )
        };
        let (first, second, ()) = tokio::time::timeout(LONG, both).await.expect("they end");
        assert!(matches!(first, End::Cancelled), "{first:?}");
        let End::Failed { failure, retryable: false, .. } = second else { panic!("{second:?}") };
        assert_eq!(failure.kind, FailureKind::TimedOut);
        assert_eq!((begun(&cancelled), begun(&timed_out)), (0, 0));
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eager_attempt_takes_no_permit_from_those_who_wait() {
    for trial in Trial::all().await {
        let runner = shared(&trial, at_a_time(5)).await;
        assert!(runner.try_slot("trial", "double").is_none(), "it goes through the queue");
        // One that was recorded as eager by another worker has a permit.
        let attempt = runner.run_eager(None, task("double", args("n", 21)));
        let end = tokio::time::timeout(LONG, attempt).await.expect("a permit");
        assert!(matches!(end, EagerResult::Settled { attempt: 1, outcome: Outcome::Done(_) }), "{end:?}");
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_urgent_is_first_to_have_a_permit_though_it_came_last() {
    for trial in Trial::all().await {
        DONE.lock().expect("unpoisoned").clear();
        // Nothing is given back, so that all of it is here when the permit is free.
        let set = |options: &mut Options| {
            at_a_time(1)(options);
            options.give_back = LONG;
        };
        let runner = shared(&trial, set).await;
        trial.outbox.task(task("listed", args("name", "first"))).await.expect("sent");
        tokio::time::timeout(LONG, BEGAN.notified()).await.expect("it begins");
        trial.outbox.task(task("listed", args("name", "later"))).await.expect("sent");
        trial.all_taken(&topic::activity("trial"), 2).await;
        let mut urgent = task("listed", args("name", "urgent"));
        urgent.options.priority = Priority { level: Some(1), ..Priority::default() };
        let lane = urgent.lane().to_string();
        trial.outbox.task(urgent).await.expect("sent");
        // Its lane is new, and is found while the permit is waited for.
        trial.all_taken(&topic::activity(&lane), 1).await;
        GO_ON.notify_one();
        done(&trial, 3).await;
        assert_eq!(*DONE.lock().expect("unpoisoned"), ["first", "urgent", "later"]);
        runner.drain(LONG).await;
    }
}
