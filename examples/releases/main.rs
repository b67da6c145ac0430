//! `releases`: one workflow through three releases, while runs of it are open.
//!
//! In the first release a checkout waits for approval and charges. The second checks for fraud before it charges: an edit of
//! code that open runs stand in, so it is guarded by `patched`. The third is another flow altogether, so it is another
//! version, and stands beside the old one until its runs are through.

use anyhow::Context as _;
use clap::Parser;
use everpulse::prelude::*;
use everpulse::{Error, Run, WorkerHandle};
use serde::{Deserialize, Serialize};

#[signal]
#[derive(Serialize, Deserialize)]
struct Approved;

#[activity(timeout = "10s")]
async fn check_fraud(order: String) -> String {
    format!("checked {order}")
}

#[activity(timeout = "10s")]
async fn charge(order: String) -> String {
    format!("charged {order}")
}

mod release_1 {
    use super::*;

    #[workflow(version = 1)]
    pub async fn checkout(order: String) -> Result<Vec<String>, Error> {
        signal::<Approved>().recv().await;
        Ok(vec![charge(order).await?])
    }
}

mod release_2 {
    use super::*;

    #[workflow(version = 1)]
    pub async fn checkout(order: String) -> Result<Vec<String>, Error> {
        // True for runs that get here with this code; false for those that passed here with release 1, whose history
        // has no such check.
        let checked = if patched("fraud-check") { Some(check_fraud(order.clone()).await?) } else { None };
        signal::<Approved>().recv().await;
        Ok(checked.into_iter().chain([charge(order).await?]).collect())
    }
}

mod release_3 {
    use super::*;

    /// New runs take the newest version; this one stays until the last of its runs is through.
    #[workflow(name = "checkout", version = 1)]
    pub async fn checkout_v1(order: String) -> Result<Vec<String>, Error> {
        release_2::checkout::body(order).await
    }

    #[workflow(version = 2)]
    pub async fn checkout(order: String) -> Result<Vec<String>, Error> {
        let (checked, charged) = try_join!(check_fraud(order.clone()), charge(order))?;
        Ok(vec![checked, charged])
    }
}

/// Three releases of one workflow, one after the other.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT
    #[arg(long, env = "EVERPULSE_URL", default_value = "embedded:./releases-data")]
    url: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let Arguments { url } = Arguments::parse();
    let client = Client::connect(&url).await.context("cannot reach the application")?;

    let worker = deploy(&url, "release-1", |worker| worker.workflow(release_1::checkout)).await?;
    let first = client.start(release_1::checkout("order-1".to_owned())).await?;
    let first_build = begun(&first).await?;
    worker.stop().await;

    let worker = deploy(&url, "release-2", |worker| worker.workflow(release_2::checkout)).await?;
    let second = client.start(release_2::checkout("order-2".to_owned())).await?;
    let second_build = begun(&second).await?;
    worker.stop().await;

    let both = |worker: Worker| worker.workflow(release_3::checkout_v1).workflow(release_3::checkout);
    let worker = deploy(&url, "release-3", both).await?;
    let third = client.start(release_3::checkout("order-3".to_owned())).await?;
    first.signal(Approved).await?;
    second.signal(Approved).await?;
    println!("begun by {first_build}: {}", first.result().await?.join(", "));
    println!("begun by {second_build}: {}", second.result().await?.join(", "));
    println!("version {}: {}", third.describe().await?.version, third.result().await?.join(", "));
    worker.stop().await;
    Ok(())
}

async fn deploy(url: &str, build: &str, serve: impl FnOnce(Worker) -> Worker) -> anyhow::Result<WorkerHandle> {
    let worker = Worker::connect(url).await.context("cannot start a worker")?;
    Ok(serve(worker.build(build).activity(check_fraud).activity(charge)).spawn().await?)
}

/// Waits until a worker has begun the run, and gives that worker's build.
async fn begun<D: everpulse::Definition>(run: &Run<D>) -> anyhow::Result<String> {
    loop {
        if let Some(build) = run.describe().await?.build {
            return Ok(build);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
