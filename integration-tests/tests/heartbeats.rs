//! Heartbeats on either arm: what an attempt reported is known to the next one, also when its worker was killed.

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::*;

const PIECES: u64 = 3;

/// A worker that ends itself at a point of an upload; another one takes it up.
async fn killed_at(point: &'static str, at_least: u64) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _owner = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
    let failpoint = Failpoint { name: point, hit: 1, stops: false, file: arm.dir().join(point) };
    let mut victim = Party::start(arm.url(), Role::Activities, &ledger, Some(&failpoint))?;
    let run = client.start(uploads_by_and_by(PIECES)).id("upload").enqueue().await?;
    victim.wait_killed().context("it reports")?;
    let mut heir = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    let Uploaded { from, pieces } = run.result().await?;
    ensure!(pieces == PIECES, "{pieces} pieces went up");
    ensure!(from >= at_least, "killed at {point}, the next attempt began at piece {from}, not at {at_least}");
    heir.leave()?;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_bear_a_worker_killed_between_the_owners_word_and_its_ack() -> Result<()> {
    // The task comes again as it was; the owner, who has more, waits for it.
    killed_at("heartbeat-kept", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_outlive_a_worker_that_is_killed_after_it_told_of_them() -> Result<()> {
    killed_at("heartbeat-told", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_outlive_a_worker_that_is_killed_when_the_next_attempt_is_sure_and_nobody_was_told_of_the_failure()
-> Result<()> {
    killed_at("retry-confirmed", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_shown_while_the_attempt_runs() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _owner = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
    let mut worker = Party::start(arm.url(), Role::Activities, &ledger, None)?;
    let run = client.start(uploads(PIECES)).id("shown").enqueue().await?;
    let shown = eventually("a heartbeat in the description", || async {
        let view = run.describe().await?;
        let heartbeat = view.pending.first().and_then(|step| step.heartbeat.clone());
        Ok(heartbeat.map(|details| details.decode::<u64>()).transpose()?.zip(view.pending.into_iter().next()))
    });
    let (piece, step) = shown.await?;
    ensure!((1..=PIECES).contains(&piece), "{piece}");
    ensure!(step.heard_at.is_some() && step.token.is_none(), "{step:?}");
    ensure!(run.result().await?.pieces == PIECES, "all of it went up");
    worker.leave()?;
    Ok(())
}
