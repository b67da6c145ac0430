//! What clients ask of a running workflow, on either arm.

use anyhow::{Context as _, Result};
use everpulse::WorkerHandle;
use everpulse::client::ErrorKind;
use everpulse::prelude::*;
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::workflows::{self, *};

async fn worker(arm: &Arm) -> Result<WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    workflows::serve_all(worker).spawn().await.context("starting a worker")
}

fn how_often(text: &str) -> HowOften {
    HowOften { text: text.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_answered_from_live_and_from_replayed_runs_and_leave_no_trace() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let first = worker(&arm).await?;
    let run = client.start(gathers(3)).id("words").await?;
    assert_eq!(run.query(how_often("tea")).await?, 0);
    for _ in 0..2 {
        run.signal(Word { text: "tea".to_owned() }).await?;
    }
    assert_eq!(run.query(how_often("tea")).await?, 2, "a query sees every signal that was accepted");
    assert_eq!(client.run(gathers, "words").query(how_often("milk")).await?, 0);
    let records = run.describe().await?.records;
    first.stop().await;
    let second = worker(&arm).await?;
    assert_eq!(run.query(how_often("tea")).await?, 2, "and so does the next owner");
    let by_name: usize = run.query_named("HowOften", &serde_json::json!({ "text": "tea" })).await?;
    assert_eq!(by_name, 2);
    assert_eq!(run.describe().await?.records, records);
    run.signal(Word { text: "milk".to_owned() }).await?;
    assert_eq!(run.result().await?, ["tea", "tea", "milk"]);
    second.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_nobody_can_answer_says_why_and_harms_nothing() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let worker = worker(&arm).await?;
    let nobody = client.run(gathers, "words").query(how_often("tea")).await.expect_err("there is no run");
    assert_eq!(nobody.kind(), ErrorKind::NotFound, "{nobody}");
    let run = client.start(gathers(1)).id("words").await?;
    let unknown = run.query_named::<u64>("Weather", &()).await.expect_err("there is no such query");
    assert_eq!(unknown.kind(), ErrorKind::Unhandled, "{unknown}");
    assert!(unknown.to_string().contains("it has `HowOften`"), "{unknown}");
    let panicked = run.query(how_often("panic")).await.expect_err("it panics");
    assert_eq!(panicked.kind(), ErrorKind::HandlerFailed, "{panicked}");
    assert!(panicked.to_string().contains("asked to"), "{panicked}");
    run.signal(Word { text: "tea".to_owned() }).await?;
    assert_eq!(run.result().await?, ["tea"]);
    let closed = run.query(how_often("tea")).await.expect_err("it has ended");
    assert_eq!(closed.kind(), ErrorKind::AlreadyClosed, "{closed}");
    worker.stop().await;
    Ok(())
}
