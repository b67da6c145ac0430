//! What users can rely on, on either arm.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use everpulse::client::{ErrorKind, ResultError};
use everpulse::prelude::*;
use everpulse::{IdPolicy, WorkerHandle};
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::arm::eventually;
use everpulse_integration_tests::workflows::{self, *};
use everpulse_protocol::history::{CloseStatus, ParkedKind};
use futures::future::try_join_all;

async fn worker(arm: &Arm) -> Result<WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    workflows::serve_all(worker).spawn().await.context("starting a worker")
}

async fn both(arm: &Arm) -> Result<(WorkerHandle, Client)> {
    let worker = worker(arm).await?;
    Ok((worker, Client::connect(arm.url()).await.context("connecting a client")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_comes_back() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(hello("world".to_owned())).id("hello-1").await?;
    assert_eq!(run.result().await?, "hello world");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_activities_come_one_after_another() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(sequence()).id("sequence").await?;
    assert_eq!(run.result().await?, (0..10).collect::<Vec<u64>>());
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_local_steps_come_one_after_another() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(ten_steps("steps".to_owned())).id("steps").await?;
    assert_eq!(run.result().await?, (0..10).collect::<Vec<u64>>());
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_activities_are_joined() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(fan_out(1_000)).id("fan-out").await?;
    assert_eq!(run.result().await?, (0..1_000).sum::<u64>());
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn eager_activities_give_the_same_results() -> Result<()> {
    let arm = Arm::new()?;
    let worker = workflows::serve_all(Worker::connect(arm.url()).await?).eager(true).spawn().await?;
    let client = Client::connect(arm.url()).await?;
    let runs = [client.start(sequence()).id("s").await?, client.start(sequence()).id("t").await?];
    for run in runs {
        assert_eq!(run.result().await?, (0..10).collect::<Vec<u64>>());
    }
    assert_eq!(client.start(fan_out(200)).id("f").await?.result().await?, (0..200).sum::<u64>());
    assert_eq!(client.start(persists(3)).id("retry").await?.result().await?, "ok at 3");
    assert_eq!(client.start(persists(99)).id("exhausted").await?.result().await?, "exhausted after 5");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_activity_is_tried_until_it_succeeds() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    assert_eq!(client.start(persists(3)).id("retry").await?.result().await?, "ok at 3");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_attempts_leave_a_dead_letter_with_the_whole_chain() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(persists(99)).id("exhausted").await?;
    assert_eq!(run.result().await?, "exhausted after 5");
    let letters = client.dead_letters("default")?.list().await?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let everpulse_protocol::dead_letter::Letter::Task(task) = &letters[0].letter.letter else {
        anyhow::bail!("a task was expected: {letters:?}")
    };
    assert_eq!(task.workflow_id.as_str(), "exhausted");
    let chain: Vec<String> = task.failures.iter().map(|failure| failure.message.clone()).collect();
    assert_eq!(chain, (1..=5).map(|attempt| format!("flaky at attempt {attempt}")).collect::<Vec<_>>());
    // The step has failed for good: redriving its task would be for nobody.
    let refused = client.dead_letters("default")?.redrive(letters[0].id).await.expect_err("the run has gone on");
    assert_eq!(refused.kind(), ErrorKind::AlreadyFailed, "{refused}");
    client.dead_letters("default")?.drop(letters[0].id).await?;
    eventually("the dropped letter is gone", || async {
        Ok(client.dead_letters("default")?.list().await?.is_empty().then_some(()))
    })
    .await?;
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_step_is_redriven_with_the_same_key() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    SWITCH.store(0, Ordering::SeqCst);
    let run = client.start(waits_for_operator()).id("parked").await?;
    let letter =
        eventually("a dead letter", || async { Ok(client.dead_letters("default")?.list().await?.into_iter().next()) })
            .await?;
    let view = eventually("the step shows as parked", || async {
        let view = run.describe().await?;
        Ok(view.pending.iter().any(|step| step.parked).then_some(view))
    })
    .await?;
    assert_eq!(view.pending[0].name, "guarded");
    assert!(view.pending[0].last_error.as_deref().is_some_and(|error| error.contains("flaky at attempt 2")));
    SWITCH.store(1, Ordering::SeqCst);
    client.dead_letters("default")?.redrive(letter.id).await?;
    let key = run.result().await?;
    assert!(key.starts_with("parked/") && key.ends_with("/0"), "{key}");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_error_is_not_tried_again() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    assert_eq!(client.start(persists(0)).id("final").await?.result().await?, "failed: final");
    assert!(client.dead_letters("default")?.list().await?.is_empty());
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_short_long_and_past() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    for (id, ms) in [("past", 0), ("short", 30), ("long", 2_500)] {
        let slept = client.start(naps(ms)).id(id).await?.result().await?;
        assert!(slept >= ms, "{id}: recorded {slept} ms");
    }
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_survives_a_restart_of_the_worker() -> Result<()> {
    let arm = Arm::new()?;
    let (first, client) = both(&arm).await?;
    // The embedded broker has to outlive the worker.
    let keeper = Client::connect(arm.url()).await?;
    let run = client.start(naps(3_000)).id("nap").await?;
    first.stop().await;
    let second = worker(&arm).await?;
    assert!(run.result().await? >= 3_000);
    second.stop().await;
    drop(keeper);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_its_time_and_a_run_for_its_time_out() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let at = SystemTime::now() + Duration::from_millis(1_500);
    let later = client.start(hello("later".to_owned())).id("later").start_at(at).await?;
    let late = client.start(naps(600_000)).id("late").timeout(Duration::from_millis(300)).await?;
    let error = late.result().await.expect_err("it times out");
    assert!(matches!(error.failure(), Some(Failure::TimedOut)), "{error}");
    assert_eq!(later.result().await?, "hello later");
    assert!(SystemTime::now() >= at);
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_one_run() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let starts = (0..20).map(|n| {
        let client = client.clone();
        async move { client.start(naps(300 + n)).id("same").await }
    });
    let runs = try_join_all(starts).await?;
    let ids: std::collections::BTreeSet<_> = runs.iter().map(|run| run.run_id().map(|id| id.to_string())).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let results = try_join_all(runs.iter().map(|run| run.result())).await?;
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");

    let rejected = client.start(naps(1)).id("same").policy(IdPolicy::Reject).await.expect_err("the id is taken");
    assert_eq!(rejected.kind(), ErrorKind::Taken, "{rejected}");
    let again = client.start(naps(1)).id("same").policy(IdPolicy::RestartWhenClosed).await?;
    assert_ne!(again.run_id(), runs[0].run_id());
    assert!(again.result().await? < 300);
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_early_and_late_are_received_in_order() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let word = |text: &str| Word { text: text.to_owned() };
    // Before the run is there.
    let handle = client.run(gathers, "words");
    let early = tokio::spawn(async move { handle.signal(word("one")).await });
    let run = client.start(gathers(3)).id("words").await?;
    early.await??;
    run.signal(word("two")).await?;
    run.signal(word("three")).await?;
    let mut words = run.result().await?;
    words.sort();
    assert_eq!(words, ["one", "three", "two"]);
    let late = run.signal(word("four")).await.expect_err("it has ended");
    assert_eq!(late.kind(), ErrorKind::AlreadyClosed, "{late}");
    let nobody = client.run(gathers, "nobody").signal(word("x")).await.expect_err("there is no such run");
    assert_eq!(nobody.kind(), ErrorKind::NotFound, "{nobody}");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cancellation_reaches_the_run_and_its_activity() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(endless_run()).id("endless").await?;
    eventually("the activity is pending", || async { Ok((!run.describe().await?.pending.is_empty()).then_some(())) })
        .await?;
    run.cancel("enough").await?;
    let error = run.result().await.expect_err("cancelled");
    assert!(matches!(error.failure(), Some(Failure::Cancelled)), "{error}");
    let view = run.describe().await?;
    assert_eq!(view.close.map(|close| close.status), Some(CloseStatus::Cancelled));

    let sleeper = client.start(naps(600_000)).id("sleeper").await?;
    sleeper.terminate("now").await?;
    let error = sleeper.result().await.expect_err("terminated");
    assert!(matches!(error.failure(), Some(Failure::Terminated)), "{error}");

    assert_eq!(client.start(races()).id("race").await?.result().await?, "timer");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_code_parks_its_run_with_a_reason_and_nothing_else() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let cases: [(&str, ParkedKind, &str); 3] = [
        ("panics", ParkedKind::Panicked, "on purpose"),
        ("waits_for_a_channel", ParkedKind::Stuck, "not durable"),
        ("no_such_workflow", ParkedKind::NoCode, "no_such_workflow"),
    ];
    for (workflow, kind, words) in cases {
        let run = client.start_named(workflow, &BTreeMap::<String, u8>::new()).id(workflow).await?;
        let parked = eventually("the run is parked", || async { Ok(run.describe().await?.parked) }).await?;
        assert_eq!(parked.kind, kind, "{parked:?}");
        assert!(parked.message.contains(words) && parked.message.contains(workflow), "{}", parked.message);
    }
    let wrong = client.start_named("hello", &BTreeMap::from([("name", 7)])).id("wrong").await?;
    let error = wrong.result().await.expect_err("a number is no name");
    assert!(error.to_string().contains("hello"), "{error}");
    assert_eq!(client.start(hello("still".to_owned())).id("good").await?.result().await?, "hello still");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_descriptions_come_from_history_when_no_worker_lives() -> Result<()> {
    let arm = Arm::new()?;
    let keeper = Client::connect(arm.url()).await?;
    let (worker, client) = both(&arm).await?;
    let open = client.start(naps(600_000)).id("open").await?;
    assert_eq!(client.start(hello("gone".to_owned())).id("done").await?.result().await?, "hello gone");
    worker.stop().await;
    let late = Client::connect(arm.url()).await?;
    assert_eq!(late.run(hello, "done").result().await?, "hello gone");
    let view = late.run(naps, "open").describe().await?;
    assert_eq!((view.workflow.as_str(), view.pending.len()), ("naps", 1));
    let unanswered = open.result_timeout(Duration::from_millis(500)).await.expect_err("it sleeps");
    assert!(matches!(&unanswered, ResultError::Timeout(_)), "{unanswered}");
    drop(keeper);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_an_error_that_says_what_to_do() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let control = client.start(hello(String::new())).id("a\nb").await.expect_err("a line feed in an id");
    assert_eq!(control.kind(), ErrorKind::Invalid, "{control}");
    assert!(control.to_string().contains("control character"), "{control}");
    let large = client.start(hello("x".repeat(6 << 20))).id("large").await.expect_err("6 MiB");
    assert_eq!(large.kind(), ErrorKind::TooLarge, "{large}");
    let unreachable = Client::connect("pulsar://127.0.0.1:1/public/default").await.expect_err("nobody listens there");
    assert_eq!(unreachable.kind(), ErrorKind::Unreachable, "{unreachable}");
    let nonsense = Client::connect("http://example").await.expect_err("not an address");
    assert_eq!(nonsense.kind(), ErrorKind::Invalid, "{nonsense}");
    assert_eq!(client.start(hello("fine".to_owned())).id("fine").await?.result().await?, "hello fine");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_messages_stop_nobody() -> Result<()> {
    use everpulse_transport::{Address, Message, Options, PublisherOptions, Transport};
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let transport = Transport::connect(&arm.url().parse::<Address>()?, Options::default()).await?;
    for topic in ["inbox-partition-0", "inbox-partition-1", "activity.default", "timers"] {
        let publisher = transport.publisher(topic, PublisherOptions::default());
        publisher.publish(Message::new(Some("shard-0".to_owned()), &b"not a frame"[..])).await?;
    }
    assert_eq!(client.start(hello("after".to_owned())).id("after").await?.result().await?, "hello after");
    eventually("the bytes are in the dead letters", || async {
        let inbox = client.inbox_dead_letters().list().await?.len();
        let queue = client.dead_letters("default")?.list().await?.len();
        Ok((inbox == 3 && queue == 1).then_some(()))
    })
    .await?;
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_definitions_of_one_name_are_refused_with_both_places() -> Result<()> {
    mod other {
        #[everpulse::workflow(version = 1)]
        pub async fn hello(name: u64) -> u64 {
            name
        }
    }
    let arm = Arm::new()?;
    let error = Worker::connect(arm.url()).await?.workflow(hello).workflow(other::hello).spawn().await;
    let error = error.map(drop).expect_err("one name, two definitions");
    let text = error.to_string();
    assert!(text.contains("workflows.rs:") && text.contains("conformance.rs:"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_shards() -> Result<()> {
    let arm = Arm::with_shards(32)?;
    let keeper = Client::connect(arm.url()).await?;
    let (first, second) = (worker(&arm).await?, worker(&arm).await?);
    let client = Client::connect(arm.url()).await?;
    let starts = (0..200).map(|n| {
        let client = client.clone();
        async move { anyhow::Ok(client.start(hello(n.to_string())).id(format!("h-{n}")).await?.result().await?) }
    });
    let results = try_join_all(starts).await?;
    assert_eq!(results.len(), 200);
    let written = |shards: Vec<(u32, everpulse::worker::Status)>| {
        shards.iter().map(|(_, status)| status.runs_closed).sum::<u64>()
    };
    let (a, b) = (written(first.shards().await), written(second.shards().await));
    assert_eq!(a + b, 200);
    assert!(a >= 40 && b >= 40, "each takes a fifth at least: {a} and {b}");
    first.stop().await;
    second.stop().await;
    drop(keeper);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_join_and_leave_under_load() -> Result<()> {
    let arm = Arm::with_shards(8)?;
    let keeper = Client::connect(arm.url()).await?;
    let first = worker(&arm).await?;
    let client = Client::connect(arm.url()).await?;
    let load = {
        let client = client.clone();
        tokio::spawn(async move {
            let runs = (0..100).map(|n| {
                let client = client.clone();
                async move { anyhow::Ok(client.start(sequence()).id(format!("s-{n}")).await?.result().await?) }
            });
            try_join_all(runs).await
        })
    };
    let second = worker(&arm).await?;
    first.stop().await;
    let third = worker(&arm).await?;
    let results = load.await??;
    assert!(results.iter().all(|result| result == &(0..10).collect::<Vec<u64>>()));
    second.stop().await;
    third.stop().await;
    drop(keeper);
    Ok(())
}
