//! Batch activities on either arm: tasks of many runs are done in few executions, each is settled by itself, and a worker that is
//! killed with a batch in its hands costs time.

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::arm::Arm;
use everpulse_integration_tests::party::{Failpoint, Party, Role};
use everpulse_integration_tests::workflows::{self, *};

const RUNS: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn batches_tasks_of_many_runs_are_done_in_few_executions_and_settled_by_themselves() -> Result<()> {
    let arm = Arm::new()?;
    let worker = Worker::connect(arm.url()).await?.concurrency(2);
    let worker = workflows::serve_all(worker).spawn().await.context("starting a worker")?;
    let client = Client::connect(arm.url()).await?;
    let mut runs = Vec::new();
    for n in 0..RUNS {
        runs.push(client.start(inserts(n)).id(format!("i-{n}")).enqueue().await?);
    }
    let mut together = 0;
    for (n, run) in (0..).zip(&runs) {
        let Inserted { row, with, attempt } = run.result().await.with_context(|| format!("run {n}"))?;
        ensure!(row == n, "run {n} has the result of {row}");
        ensure!(attempt == if n % 5 == 0 { 2 } else { 1 }, "row {n} went in at attempt {attempt}");
        together += u64::from(with > 1);
    }
    ensure!(together > 0, "each row was inserted by an execution of its own");
    let refused = client.start(inserts(NO_ROW)).id("none").await?.result().await;
    ensure!(refused.is_err(), "{refused:?}");
    worker.stop().await;
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{report:#?}");
    Ok(())
}

/// A worker that ends itself with a batch in its hands, once for each of some times that it passes a point.
async fn killed_at(point: &'static str) -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _owner = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
    for hit in [1, 3, 6] {
        let context = || format!("killed at {point}, hit {hit}");
        let file = arm.dir().join(format!("{point}-{hit}"));
        let failpoint = Failpoint { name: point, hit, stops: false, file };
        let mut victim = Party::start(arm.url(), Role::Activities, &ledger, Some(&failpoint)).with_context(context)?;
        let mut runs = Vec::new();
        for n in 0..8 {
            runs.push(client.start(inserts(n)).id(format!("{point}-{hit}-{n}")).enqueue().await?);
        }
        victim.wait_killed().with_context(context)?;
        let mut heir = Party::start(arm.url(), Role::Activities, &ledger, None)?;
        for (n, run) in (0..).zip(&runs) {
            let Inserted { row, .. } = run.result().await.with_context(context)?;
            ensure!(row == n, "{}: run {n} has the result of {row}", context());
        }
        heir.leave()?;
    }
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean(), "{point}: {report:#?}");
    ensure!(report.counts().open == 0, "{point}: {:?}", report.counts());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_bear_a_worker_killed_when_tasks_arrive() -> Result<()> {
    killed_at("task-received").await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_bear_a_worker_killed_when_a_part_is_done() -> Result<()> {
    killed_at("activity-done").await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_bear_a_worker_killed_when_a_part_is_settled() -> Result<()> {
    killed_at("settle-confirmed").await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_bear_a_worker_killed_when_a_task_is_acked() -> Result<()> {
    killed_at("task-acked").await
}
