//! The way of tasks through a runner and a relay, at a real broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use everpulse_blobs::{BlobStore, BoxFuture, Bytes, Collected, Memory, Reference, StoreError, Stores};
use everpulse_engine::attempt::End;
use everpulse_protocol::dead_letter::Letter;
use everpulse_protocol::event::{EventBody, NextAttempt, Outcome};
use everpulse_protocol::task::{OnExhausted, Task};
use everpulse_protocol::{Coding, FailureKind, Payload, topic};
use everpulse_sdk::activity::context;
use everpulse_sdk::definition::Registry;
use everpulse_transport::{Message, PublisherOptions};
use tokio::sync::Notify;

use super::{ActivityRunner, EagerResult, sealed};
use crate::options::Options;
use crate::relay::Relay;
use crate::trial::{LONG, Trial, task};

mod kept;
mod narrow;
mod shared;

/// How often each run's activity was begun.
static BEGUN: LazyLock<Mutex<BTreeMap<String, u32>>> = LazyLock::new(Mutex::default);
static CHANGED: Notify = Notify::const_new();

fn begin() -> u32 {
    let mut begun = BEGUN.lock().expect("unpoisoned");
    let count = begun.entry(context().idempotency_key().to_owned()).or_default();
    *count += 1;
    CHANGED.notify_waiters();
    *count
}

fn begun(task: &Task) -> u32 {
    BEGUN.lock().expect("unpoisoned").get(&task.idempotency_key()).copied().unwrap_or(0)
}

#[everpulse_sdk::activity(crate = everpulse_sdk)]
async fn double(n: u64) -> u64 {
    begin();
    n * 2
}

/// Fails before the attempt `good`.
#[everpulse_sdk::activity(crate = everpulse_sdk)]
async fn flaky(good: u32) -> Result<u32, everpulse_sdk::Error> {
    begin();
    let attempt = context().attempt();
    if attempt < good { Err(everpulse_sdk::Error::msg(format!("no {attempt}"))) } else { Ok(attempt) }
}

/// The first begun attempt waits for ever, or until it is cancelled.
#[everpulse_sdk::activity(crate = everpulse_sdk)]
async fn stuck() -> String {
    if begin() > 1 {
        return "second".to_owned();
    }
    context().cancelled().await;
    "cancelled".to_owned()
}

fn args<T: serde::Serialize>(name: &str, value: T) -> Payload {
    Payload::encode(&BTreeMap::from([(name, value)])).expect("encodes")
}

async fn runner(trial: &Trial, options: Options) -> ActivityRunner {
    let mut registry = Registry::new();
    registry.activity_fn(double).expect("once");
    registry.activity_fn(flaky).expect("once");
    registry.activity_fn(stuck).expect("once");
    let options = Options { queues: Some(vec!["trial".to_owned()]), ..options };
    ActivityRunner::start(Arc::new(registry), trial.outbox.clone(), trial.transport.clone(), options)
        .await
        .expect("started")
}

async fn acked(trial: &Trial) {
    trial.all_acked(&topic::activity("trial"), topic::WORKERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_settled_once_and_acked_however_often_it_is_sent() {
    for trial in Trial::all().await {
        let runner = runner(&trial, Options::default()).await;
        let (one, two) = (task("double", args("n", 21)), task("double", args("n", 4)));
        for task in [&one, &one, &one, &two] {
            trial.outbox.task(task.clone()).await.expect("sent");
        }
        acked(&trial).await;
        let mut inbox = trial.inbox();
        let mut results = Vec::new();
        for _ in 0..2 {
            let (event, body) = inbox.next().await;
            let EventBody::ActivitySettled { attempt: 1, outcome: Outcome::Done(value), .. } = body else {
                panic!("{body:?}")
            };
            results.push((event.run_id, value.decode::<u64>().expect("a number")));
        }
        results.sort_unstable();
        let mut expected = [(Some(one.run_id), 42), (Some(two.run_id), 8)];
        expected.sort_unstable();
        assert_eq!(results, expected);
        assert_eq!((begun(&one), begun(&two)), (1, 1));
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_comes_again_through_the_timers() {
    for trial in Trial::all().await {
        let runner = runner(&trial, Options::default()).await;
        let relay = Relay::start(&trial.transport, trial.outbox.clone()).await.expect("started");
        let task = task("flaky", args("good", 3));
        trial.outbox.task(task.clone()).await.expect("sent");
        let mut inbox = trial.inbox();
        for expected in 1..=2 {
            let (_, body) = inbox.next().await;
            let EventBody::AttemptFailed { attempt, failure, next: NextAttempt::At(_), .. } = body else {
                panic!("{body:?}")
            };
            assert_eq!((attempt, failure.message), (expected, format!("no {expected}")));
        }
        let (_, body) = inbox.next().await;
        let EventBody::ActivitySettled { attempt: 3, outcome: Outcome::Done(_), .. } = body else { panic!("{body:?}") };
        acked(&trial).await;
        trial.all_acked(topic::TIMERS, topic::RELAY).await;
        relay.stop().await;
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_attempts_run_out_a_dead_letter_has_the_chain_and_the_run_is_told() {
    for trial in Trial::all().await {
        let runner = runner(&trial, Options::default()).await;
        let relay = Relay::start(&trial.transport, trial.outbox.clone()).await.expect("started");
        let task = task("flaky", args("good", 99));
        trial.outbox.task(task.clone()).await.expect("sent");
        let mut inbox = trial.inbox();
        let failure = loop {
            if let (_, EventBody::ActivitySettled { outcome: Outcome::Failed(failure), .. }) = inbox.next().await {
                break failure;
            }
        };
        assert_eq!((failure.kind, failure.attempts), (FailureKind::Exhausted, Some(3)));
        let letter = trial.dead_letter("activity.trial.dead").await;
        let Letter::Task(dead) = letter.letter else { panic!("{letter:?}") };
        let chain: Vec<_> = dead.failures.iter().map(|failure| failure.message.as_str()).collect();
        assert_eq!((dead.id, chain), (task.id, vec!["no 1", "no 2", "no 3"]));
        relay.stop().await;
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_parks_stays_open_and_a_redriven_task_goes_on_counting() {
    for trial in Trial::all().await {
        let runner = runner(&trial, Options::default()).await;
        let mut task = task("flaky", args("good", 2));
        task.options.retry.max_attempts = Some(1);
        task.options.exhausted = OnExhausted::Park;
        trial.outbox.task(task.clone()).await.expect("sent");
        let mut inbox = trial.inbox();
        let (_, body) = inbox.next().await;
        assert!(matches!(body, EventBody::AttemptFailed { attempt: 1, next: NextAttempt::Redrive, .. }), "{body:?}");
        let Letter::Task(dead) = trial.dead_letter("activity.trial.dead").await.letter else { panic!("a task") };
        trial.outbox.task(dead.redriven(crate::clock::now())).await.expect("sent");
        let (_, body) = inbox.next().await;
        let EventBody::ActivitySettled { attempt: 2, outcome: Outcome::Done(_), .. } = body else { panic!("{body:?}") };
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_after_the_drain_time_goes_to_another_worker() {
    for trial in Trial::all().await {
        let first = runner(&trial, Options::default()).await;
        let task = task("stuck", args("none", 0));
        trial.outbox.task(task.clone()).await.expect("sent");
        until_begun(&task).await;
        first.drain(Duration::ZERO).await;
        assert!(first.try_slot("trial", "stuck").is_none(), "it takes no more");
        let second = runner(&trial, Options::default()).await;
        let (event, body) = trial.inbox().next().await;
        let EventBody::ActivitySettled { outcome: Outcome::Done(value), .. } = body else { panic!("{body:?}") };
        assert_eq!((event.run_id, value.decode::<String>().expect("text")), (Some(task.run_id), "second".to_owned()));
        second.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_a_long_task_is_given_to_an_idle_worker() {
    for trial in Trial::all().await {
        let give_back = Duration::from_millis(100);
        let narrow = Options { concurrency: 1, prefetch: Some(4), give_back, ..Options::default() };
        let busy = runner(&trial, narrow.clone()).await;
        let long = task("stuck", args("none", 0));
        trial.outbox.task(long.clone()).await.expect("sent");
        until_begun(&long).await;
        let waiting: Vec<_> = (0..6).map(|n| task("double", args("n", n))).collect();
        for task in &waiting {
            trial.outbox.task(task.clone()).await.expect("sent");
        }
        let idle = runner(&trial, narrow).await;
        let mut inbox = trial.inbox();
        for _ in &waiting {
            let (_, body) = inbox.next().await;
            assert!(matches!(body, EventBody::ActivitySettled { outcome: Outcome::Done(_), .. }), "{body:?}");
        }
        assert_eq!(waiting.iter().map(begun).collect::<Vec<_>>(), [1; 6]);
        idle.drain(LONG).await;
        busy.drain(Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_here_is_given_to_others_when_the_draining_begins() {
    for trial in Trial::all().await {
        let narrow = Options { concurrency: 1, prefetch: Some(4), give_back: LONG, ..Options::default() };
        let leaving = runner(&trial, narrow).await;
        let long = task("stuck", args("none", 0));
        trial.outbox.task(long.clone()).await.expect("sent");
        until_begun(&long).await;
        let waiting: Vec<_> = (0..3).map(|n| task("double", args("n", n))).collect();
        for task in &waiting {
            trial.outbox.task(task.clone()).await.expect("sent");
        }
        let draining = tokio::spawn(async move { leaving.drain(2 * LONG).await });
        let staying = runner(&trial, Options::default()).await;
        let mut inbox = trial.inbox();
        for _ in &waiting {
            let (_, body) = inbox.next().await;
            assert!(matches!(body, EventBody::ActivitySettled { outcome: Outcome::Done(_), .. }), "{body:?}");
        }
        trial.outbox.cancel_tasks(vec![long.id]);
        tokio::time::timeout(LONG, draining).await.expect("it ends").expect("no panic");
        staying.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_ends_and_tells_nobody() {
    for trial in Trial::all().await {
        let runner = runner(&trial, Options::default()).await;
        let task = task("stuck", args("none", 0));
        trial.outbox.task(task.clone()).await.expect("sent");
        until_begun(&task).await;
        trial.outbox.cancel_tasks(vec![task.id]);
        acked(&trial).await;
        // Sent again, it is not even begun.
        trial.outbox.task(Task { attempt: 2, ..task.clone() }).await.expect("sent");
        acked(&trial).await;
        assert_eq!(begun(&task), 1);
        assert_eq!(trial.transport.last_position(&topic::partition(topic::INBOX, 0)).await.expect("asked"), None);
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_activity_waits_for_the_worker_that_knows_it() {
    for trial in Trial::all().await {
        let options = Options { queues: Some(vec!["trial".to_owned()]), ..Options::default() };
        let old = ActivityRunner::start(Arc::default(), trial.outbox.clone(), trial.transport.clone(), options).await;
        let old = old.expect("started");
        let relay = Relay::start(&trial.transport, trial.outbox.clone()).await.expect("started");
        let mut task = task("double", args("n", 21));
        task.options.retry.max_attempts = Some(1);
        trial.outbox.task(task).await.expect("sent");
        let mut inbox = trial.inbox();
        for _ in 0..2 {
            let (_, body) = inbox.next().await;
            let EventBody::AttemptFailed { failure, next: NextAttempt::At(_), .. } = body else { panic!("{body:?}") };
            assert_eq!(failure.kind, FailureKind::NotFound);
            assert!(failure.message.contains("no worker of queue `trial`"), "{failure}");
        }
        let new = runner(&trial, Options::default()).await;
        old.drain(LONG).await;
        let value = loop {
            if let (_, EventBody::ActivitySettled { outcome: Outcome::Done(value), .. }) = inbox.next().await {
                break value;
            }
        };
        assert_eq!(value.decode::<u64>().expect("a number"), 42);
        relay.stop().await;
        new.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_and_is_as_large_as_can_be_becomes_a_shorter_dead_letter() {
    for trial in Trial::all().await {
        let runner = runner(&trial, Options::default()).await;
        let options = PublisherOptions::default();
        let large = vec![7; options.message_bytes_max];
        let publisher = trial.transport.publisher(&topic::activity("trial"), options);
        publisher.publish_until_confirmed(Message::new(None, large.clone())).await.expect("sent");
        let letter = trial.dead_letter("activity.trial.dead").await;
        assert!(letter.reason.contains(&format!("it had {} bytes", large.len())), "{}", letter.reason);
        let Letter::Unreadable { bytes, .. } = letter.letter else { panic!("{letter:?}") };
        assert!(large.starts_with(&bytes) && !bytes.is_empty());
        acked(&trial).await;
        runner.drain(LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_becomes_a_dead_letter_and_stops_nobody() {
    for trial in Trial::all().await {
        let runner = runner(&trial, Options::default()).await;
        let relay = Relay::start(&trial.transport, trial.outbox.clone()).await.expect("started");
        for topic in [topic::activity("trial"), topic::TIMERS.to_owned()] {
            let publisher = trial.transport.publisher(&topic, PublisherOptions::default());
            publisher.publish_until_confirmed(Message::new(None, "what is this?")).await.expect("sent");
        }
        for (from, dead) in [("activity.trial", "activity.trial.dead"), (topic::TIMERS, topic::INBOX_DEAD)] {
            let letter = trial.dead_letter(dead).await;
            let Letter::Unreadable { topic, bytes } = letter.letter else { panic!("{letter:?}") };
            assert_eq!((topic.as_str(), &bytes[..]), (from, &b"what is this?"[..]));
        }
        trial.outbox.task(task("double", args("n", 1))).await.expect("sent");
        assert!(matches!(trial.inbox().next().await.1, EventBody::ActivitySettled { .. }));
        acked(&trial).await;
        trial.all_acked(topic::TIMERS, topic::RELAY).await;
        relay.stop().await;
        runner.drain(LONG).await;
    }
}

async fn until_begun(task: &Task) {
    let beginning = async {
        loop {
            let changed = CHANGED.notified();
            if begun(task) > 0 {
                return;
            }
            changed.await;
        }
    };
    tokio::time::timeout(LONG, beginning).await.expect("it begins");
}

/// A store that is away for so many calls.
#[derive(Debug)]
struct Away(Memory, AtomicU32);

impl BlobStore for Away {
    fn put<'a>(&'a self, blob: &'a Reference, data: Bytes) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Box::pin(async { Err(StoreError::unavailable("the cable is cut")) }),
            Err(_) => self.0.put(blob, data),
        }
    }
    fn get<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<Bytes, StoreError>> {
        self.0.get(blob)
    }
    fn delete<'a>(&'a self, blob: &'a Reference) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.0.delete(blob)
    }
    fn collect(&self, before: SystemTime) -> BoxFuture<'_, Result<Collected, StoreError>> {
        self.0.collect(before)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_turns_no_result_into_a_failure() {
    let task = task("double", args("n", 1));
    let store = Away(Memory::new(), AtomicU32::new(40));
    let stores = Stores::new(vec![("away".to_owned(), Arc::new(store))], 1_000, 50_000);
    let done = |count: usize| End::Done(Payload::encode(&"x".repeat(count)).expect("encodes"));
    let end = sealed(&Coding::default(), Some(&stores), &task, done(2_000)).await;
    assert!(matches!(&end, End::Done(value) if value.store() == Some("away")), "{end:?}");
    let end = sealed(&Coding::default(), Some(&stores), &task, done(60_000)).await;
    let End::Failed { failure, retryable: false, .. } = end else { panic!("the next one would be as large: {end:?}") };
    assert!(failure.message.contains("blobs take up to 50000"), "{failure}");
}
