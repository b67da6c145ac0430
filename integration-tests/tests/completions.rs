//! What is completed from outside, by whoever has the token, on either arm.

use anyhow::{Context as _, Result};
use everpulse::client::{ErrorKind, RunStatus};
use everpulse::prelude::*;
use everpulse::{CompletionToken, WorkerHandle};
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::arm::eventually;
use everpulse_integration_tests::workflows::Trouble;
use serde::{Deserialize, Serialize};

/// What a workflow gives away.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tokens {
    first: CompletionToken<u64>,
    second: CompletionToken<u64, Trouble>,
    dropped: CompletionToken<u64>,
}

/// Waits for one promise after the other, and tells what came of them.
#[workflow(version = 1)]
async fn entrusts() -> String {
    let (first, second) = (promise::<u64>(), promise::<u64>().or::<Trouble>());
    let dropped = promise::<u64>().token();
    publish(&Tokens { first: first.token(), second: second.token(), dropped });
    let first = first.await.map_or_else(|failure| failure.to_string(), |value| value.to_string());
    let second = second.await.map_or_else(|failure| failure.to_string(), |value| value.to_string());
    format!("{first}, {second}")
}

async fn worker(arm: &Arm) -> Result<WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    worker.workflow(entrusts).spawn().await.context("starting a worker")
}

async fn tokens(client: &Client, id: &str) -> Result<Tokens> {
    eventually("the tokens are published", || async { Ok(client.run(entrusts, id).published::<Tokens>().await?) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_is_kept_once_by_anybody_who_has_its_token() -> Result<()> {
    let arm = Arm::new()?;
    let worker = worker(&arm).await?;
    let client = Client::connect(arm.url()).await?;
    let run = client.start(entrusts()).id("kept").await?;
    let Tokens { first, second, dropped } = tokens(&client, "kept").await?;
    let view = run.describe().await?;
    let shown: Vec<String> = view.pending.iter().filter_map(|step| Some(step.token.as_ref()?.to_string())).collect();
    assert_eq!(shown, [first.to_string(), second.to_string()], "a person sees what may be completed");

    // Another process has the text alone. The second one is completed before the run has come to it.
    let other = Client::connect(arm.url()).await?;
    other.fail(&second.to_string().parse::<CompletionToken<u64, Trouble>>()?, Trouble::Final).await?;
    let again = other.complete(&second, 7).await.expect_err("it was completed");
    assert_eq!(again.kind(), ErrorKind::AlreadyCompleted, "{again}");
    let late = other.complete(&dropped, 7).await.expect_err("nobody waits");
    assert_eq!(late.kind(), ErrorKind::Expired, "{late}");
    other.complete(&first, 42).await?;
    assert_eq!(run.result().await?, "42, final");

    let closed = other.complete(&first, 43).await.expect_err("the run has ended");
    assert_eq!(closed.kind(), ErrorKind::AlreadyClosed, "{closed}");
    let mut unknown = first.parts().clone();
    unknown.run_id = "00000000-0000-4000-8000-000000000001".parse()?;
    let unknown = other.complete(&unknown.to_string().parse::<CompletionToken<u64>>()?, 1).await;
    assert_eq!(unknown.expect_err("there is none").kind(), ErrorKind::NotFound);
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_outlives_its_worker_and_is_completed_while_none_lives() -> Result<()> {
    let arm = Arm::new()?;
    let keeper = Client::connect(arm.url()).await?;
    let first_worker = worker(&arm).await?;
    let run = keeper.start(entrusts()).id("outlives").await?;
    let Tokens { first, second, .. } = tokens(&keeper, "outlives").await?;
    first_worker.stop().await;
    let early = {
        let (client, second) = (keeper.clone(), second.clone());
        tokio::spawn(async move { client.complete(&second, 2).await })
    };
    let view = keeper.run(entrusts, "outlives").describe().await?;
    assert_eq!((view.status, view.pending.len()), (RunStatus::Open, 2), "from history: {view:?}");
    let second_worker = worker(&arm).await?;
    early.await??;
    keeper.complete(&first, 1).await?;
    assert_eq!(run.result().await?, "1, 2");
    second_worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_takes_no_completion_any_more() -> Result<()> {
    let arm = Arm::new()?;
    let worker = worker(&arm).await?;
    let client = Client::connect(arm.url()).await?;
    let run = client.start(entrusts()).id("cancelled").await?;
    let Tokens { first, .. } = tokens(&client, "cancelled").await?;
    run.cancel("no longer wanted").await?;
    let late = client.complete(&first, 1).await.expect_err("it was cancelled");
    assert!(matches!(late.kind(), ErrorKind::AlreadyClosed | ErrorKind::Expired), "{late}");
    worker.stop().await;
    Ok(())
}

/// It is left to whoever signs; `describe` shows the token.
#[activity(timeout = "60s", retry(initial = "50ms", max_attempts = 3))]
async fn sign(contract: String) -> Result<String, Trouble> {
    let context = everpulse::activity::context();
    assert_eq!(contract, "rent");
    context.heartbeat(context.attempt());
    context.complete_later().await
}

/// Waits for a signature.
#[workflow(version = 1)]
async fn signs() -> String {
    sign("rent".to_owned()).await.unwrap_or_else(|failure| format!("unsigned: {failure}"))
}

async fn notary(arm: &Arm) -> Result<WorkerHandle> {
    Ok(Worker::connect(arm.url()).await?.workflow(signs).activity(sign).spawn().await?)
}

/// The token of an attempt that was left, as a person finds it.
async fn token(client: &Client, id: &str, attempt: u32) -> Result<CompletionToken<String, Trouble>> {
    eventually("the attempt is left", || async {
        let view = client.run(signs, id).describe().await?;
        let token = view.pending.first().and_then(|step| step.token.clone());
        Ok(token.filter(|token| token.attempt == Some(attempt)))
    })
    .await?
    .to_string()
    .parse()
    .context("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_was_left_is_completed_by_whoever_has_its_token() -> Result<()> {
    let arm = Arm::new()?;
    let worker = notary(&arm).await?;
    let client = Client::connect(arm.url()).await?;
    let run = client.start(signs()).id("signed").await?;
    let first = token(&client, "signed", 1).await?;
    let other = Client::connect(arm.url()).await?;
    other.activity(&first).heartbeat("it is with the notary").await?;
    // Another attempt, as its retry policy says, with a token of its own.
    other.activity(&first).fail(Trouble::Flaky { attempt: 1 }).await?;
    let second = token(&client, "signed", 2).await?;
    let late = other.activity(&first).complete("late".to_owned()).await.expect_err("the attempt is over");
    assert_eq!(late.kind(), ErrorKind::AlreadyCompleted, "{late}");
    other.activity(&second).complete("signed".to_owned()).await?;
    assert_eq!(run.result().await?, "signed");
    worker.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activity_that_was_left_outlives_every_worker_and_can_fail_for_good() -> Result<()> {
    let arm = Arm::new()?;
    let keeper = Client::connect(arm.url()).await?;
    let first_worker = notary(&arm).await?;
    let run = keeper.start(signs()).id("refused").await?;
    let left = token(&keeper, "refused", 1).await?;
    first_worker.stop().await;
    let second_worker = notary(&arm).await?;
    keeper.activity(&left).fail_for_good(Trouble::Final).await?;
    assert_eq!(run.result().await?, "unsigned: final");
    let exhausted = keeper.start(signs()).id("exhausted").await?;
    for attempt in 1..=3 {
        let left = token(&keeper, "exhausted", attempt).await?;
        keeper.fail(&left, Trouble::Flaky { attempt }).await?;
    }
    assert_eq!(exhausted.result().await?, "unsigned: all 3 attempts failed, the last with: flaky at attempt 3");
    assert_eq!(keeper.dead_letters("default")?.list().await?.len(), 1, "as any other task");
    second_worker.stop().await;
    Ok(())
}
