//! Runs that go on as other ones, and histories that become too long, on either arm; and with an owner that is killed between any
//! two events of a series.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use everpulse::WorkerHandle;
use everpulse::client::{ErrorKind, ResultError};
use everpulse::prelude::*;
use everpulse::worker::HistorySize;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};
use everpulse_protocol::view::RunStatus;

async fn both(arm: &Arm) -> Result<(WorkerHandle, Client)> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    Ok((worker, Client::connect(arm.url()).await.context("connecting a client")?))
}

async fn is_clean(arm: &Arm) -> Result<everpulse_checker::Report> {
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn series_receive_every_signal_once_in_its_order() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let run = client.start(series(40, Vec::new())).id("series").await?;
    let first = run.run_id().context("it began")?;
    // Some by the first run, some by the workflow id, and all of them faster than the runs come and go.
    let newest = client.run(series, "series");
    for n in 0..40 {
        if n % 2 == 0 { run.signal(Heard { n }).await? } else { newest.signal(Heard { n }).await? }
    }
    assert_eq!(run.result().await?, (0..40).collect::<Vec<u64>>());
    assert_eq!(newest.result().await?.len(), 40);
    let only = run.only(first);
    let described = only.describe().await?;
    assert_eq!(described.status, RunStatus::ContinuedAsNew);
    let next = described.continued_as.context("it says as which")?;
    assert!(matches!(only.result().await, Err(ResultError::Failed(Failure::ContinuedAsNew { .. }))));
    assert_eq!(only.signal(Heard { n: 0 }).await.map_err(|error| error.kind()), Err(ErrorKind::AlreadyClosed));
    assert!(run.only(next).export().await?.contains("\"continued\""));
    worker.stop().await;
    // From history alone, with no worker.
    let cold = Client::connect(arm.url()).await?;
    assert_eq!(cold.run(series, "series").result().await?.len(), 40);
    assert_eq!(cold.run(series, "series").only(first).describe().await?.continued_as, Some(next));
    let last = cold.run(series, "series").describe().await?;
    assert_eq!(last.continues.as_ref().map(|it| (it.first, it.number)), Some((first, 39)));
    let report = is_clean(&arm).await?;
    assert_eq!((report.counts().continued_as_new, report.counts().completed), (39, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_asked_cancelled_and_ended_by_whoever_knows_one_of_them() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let went_on = async |run: &everpulse::Run<_>, at_least: u64| {
        let described = async || {
            let view = run.describe().await?;
            Ok(view.continues.filter(|it| u64::from(it.number) >= at_least))
        };
        eventually("it went on", described).await
    };
    let told = client.start(rounds(0)).id("told").await?;
    let ended = client.start(rounds(0)).id("ended").await?;
    let asked = client.start(rounds(0)).id("asked").await?;
    for run in [&told, &ended, &asked] {
        went_on(run, 3).await?;
    }
    assert!(told.published::<u64>().await?.is_some_and(|n| n >= 3), "whoever goes on is asked");
    told.signal(Heard { n: 7 }).await?;
    assert_eq!(told.result().await? % 1_000, 7);
    ended.terminate("enough").await?;
    assert!(matches!(ended.result().await, Err(ResultError::Failed(Failure::Terminated))));
    asked.cancel("enough").await?;
    assert!(matches!(asked.result().await, Err(ResultError::Failed(Failure::Cancelled))));

    let parent = client.start(raises("p".to_owned())).await?;
    assert_eq!(parent.result().await?, (vec![0, 1, 2], true));
    let child = client.run(rounds, "p-round").describe().await?;
    assert_eq!(child.status, RunStatus::Cancelled);
    worker.stop().await;
    let cold = Client::connect(arm.url()).await?;
    let child = cold.run(rounds, "p-round").describe().await?;
    assert!(child.continues.is_some(), "its parent knew the first one");
    is_clean(&arm).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn series_whose_history_is_too_long_fail_with_the_figures() -> Result<()> {
    let arm = Arm::new()?;
    let limit = HistorySize { events: 8, bytes: u64::MAX };
    let worker = workflows::serve_all(Worker::connect(arm.url()).await?).history_limit(limit).spawn().await?;
    let client = Client::connect(arm.url()).await?;
    let run = client.start(gathers(20)).await?;
    for n in 0..20 {
        // The later ones find it closed.
        let _ = run.signal(Word { text: n.to_string() }).await;
    }
    let Err(ResultError::Failed(Failure::HistoryExceeded { message })) = run.result().await else {
        anyhow::bail!("it should have failed")
    };
    assert!(message.contains("has 8 events") && message.contains("continue_as_new"), "{message}");
    assert_eq!(run.describe().await?.status, RunStatus::Failed);
    worker.stop().await;
    Ok(())
}

/// What `bills` comes to in so many months.
const MONTHS: u64 = 4;
const PAID: u64 = 1 + 2 + 3;

/// The owner of all shards ends itself at a point, once for each time that a series passes it.
async fn killed_at(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _activities = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    for hit in 1..=10 {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let (bill, words) = (format!("{point}-{hit}-bills"), format!("{point}-{hit}-series"));
        let paying = client.start(bills(0, MONTHS, 0)).id(&bill).enqueue().await?;
        let hearing = client.start(series(4, Vec::new())).id(&words).enqueue().await?;
        let said = tokio::spawn({
            let hearing = hearing.clone();
            async move {
                for n in 0..4 {
                    hearing.signal(Heard { n }).await?;
                }
                anyhow::Ok(())
            }
        });
        victim.wait_killed().with_context(context)?;
        ensure!(failpoint.file.exists(), "{}: the point was not hit", context());
        let mut heir = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
        let paid = tokio::time::timeout(Duration::from_secs(120), paying.result()).await;
        ensure!(paid.with_context(context)?.with_context(context)? == PAID, "{}", context());
        said.await?.with_context(context)?;
        let heard = hearing.result().await.with_context(context)?;
        ensure!(heard == [0, 1, 2, 3], "{}: {heard:?}", context());
        heir.leave()?;
    }
    let report = is_clean(&arm).await?;
    let counts = report.counts();
    ensure!(counts.open == 0 && counts.completed == 20, "{point}: {counts:?}");
    ensure!(counts.continued_as_new == 10 * (3 + 3), "{point}: {counts:?}");
    Ok(())
}

macro_rules! killed {
    ($($name:ident: $point:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            killed_at($point).await
        }
    )*};
}

killed! {
    series_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    series_bear_an_owner_killed_before_the_append: "append-before";
    series_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent";
    series_bear_an_owner_killed_with_the_receipt: "append-receipt";
    series_bear_an_owner_killed_when_a_command_is_sent: "command-sent";
    series_bear_an_owner_killed_before_the_ack: "ack-before";
    series_bear_an_owner_killed_after_the_ack: "ack-sent";
}
