//! What users can rely on, on either arm.

use anyhow::{Context as _, Result};
use everpulse::prelude::*;
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::workflows::{self, hello};

async fn worker(arm: &Arm) -> Result<everpulse::WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?;
    workflows::serve_all(worker).spawn().await.context("starting a worker")
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_comes_back() -> Result<()> {
    let arm = Arm::new()?;
    let worker = worker(&arm).await?;
    let client = Client::connect(arm.url()).await?;
    let run = client.start(hello("world".to_owned())).id("hello-1").await?;
    assert_eq!(run.result().await?, "hello world");
    worker.stop().await;
    Ok(())
}
