//! What runs are told with more than a plain signal, on either arm, and with an owner that is killed in the midst of it.

use anyhow::{Context as _, Result, ensure};
use everpulse::WorkerHandle;
use everpulse::client::{ErrorKind, IdPolicy};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};

async fn both(arm: &Arm) -> Result<(WorkerHandle, Client)> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    Ok((worker, Client::connect(arm.url()).await.context("connecting a client")?))
}

async fn judged(arm: &Arm) -> Result<()> {
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_signal_begins_a_run_or_signals_the_open_one() -> Result<()> {
    let arm = Arm::new()?;
    let (worker, client) = both(&arm).await?;
    let add = |n| client.start(adds_up(3)).id("sum").signal(Heard { n });
    let begin = |n| add(n).into_future();
    let (first, second, third) = futures::try_join!(begin(1), begin(2), begin(4))?;
    assert_eq!(first.result().await?, 7);
    let runs = [&first, &second, &third].map(|run| run.run_id());
    ensure!(runs.iter().flatten().all(|run| Some(*run) == runs.iter().flatten().next().copied()), "{runs:?}");
    // After its end a new one begins, unless that is refused.
    let refused = add(8).policy(IdPolicy::Attach).await.expect_err("there is to be no second run");
    assert_eq!(refused.kind(), ErrorKind::Taken);
    let next = add(8).await?;
    ensure!(next.run_id() != first.run_id(), "a second run");
    let open = add(16).policy(IdPolicy::Reject).await.expect_err("it is open");
    assert_eq!(open.kind(), ErrorKind::Taken);
    let both = add(1).signal(Heard { n: 1 }).await.expect_err("two signals");
    assert_eq!(both.kind(), ErrorKind::Invalid);
    next.terminate("enough").await?;
    worker.stop().await;
    judged(&arm).await
}

/// The owner of all shards ends itself at a point while runs are begun by their signals.
async fn killed_with_signals(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    for hit in 1..=4 {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Workflows, &ledger, Some(&failpoint)).with_context(context)?;
        let id = format!("{point}-{hit}");
        let add = |n| client.start(adds_up(4)).id(&id).signal(Heard { n });
        let adding = async {
            let run = add(1).await?;
            for n in [10, 100, 1_000] {
                add(n).await?;
            }
            anyhow::Ok(run)
        };
        let heir = async {
            eventually("it is killed", || async { Ok(failpoint.file.exists().then_some(())) }).await?;
            victim.wait_killed()?;
            Party::start(arm.url(), Role::Workflows, &ledger, None)
        };
        let (run, heir) = futures::join!(adding, heir);
        let mut heir = heir.with_context(context)?;
        let sum = run.with_context(context)?.result().await.with_context(context)?;
        ensure!(sum == 1_111, "{}: {sum}", context());
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().completed == 4 && report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

macro_rules! killed {
    ($body:ident: $($name:ident: $point:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            $body($point).await
        }
    )*};
}

killed! {
    killed_with_signals:
    signals_with_starts_bear_an_owner_killed_when_an_input_arrives: "inbox-received";
    signals_with_starts_bear_an_owner_killed_before_the_append: "append-before";
    signals_with_starts_bear_an_owner_killed_when_the_append_is_on_its_way: "append-sent";
    signals_with_starts_bear_an_owner_killed_with_the_receipt: "append-receipt";
    signals_with_starts_bear_an_owner_killed_before_the_ack: "ack-before";
    signals_with_starts_bear_an_owner_killed_after_the_ack: "ack-sent";
}
