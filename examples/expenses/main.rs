//! `expenses`: a workflow that waits for a person for days, and its unit tests, which wait for nobody.

mod workflow;

#[cfg(test)]
mod tests;

use anyhow::Context as _;
use everpulse::prelude::*;

use workflow::{Claim, Decision, expense, pay, remind};

/// Starts an expense, approves it, and waits for the payment: all in this process.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let worker = Worker::connect_from_env().await.context("cannot start a worker")?;
    let worker = worker.workflow(expense).activity(pay).activity(remind).spawn().await?;
    let client = Client::connect_from_env().await.context("cannot reach the application")?;
    let claim = Claim { employee: "ada".to_owned(), approver: "grace".to_owned(), cents: 4_200 };
    let run = client.start(expense(claim)).await?;
    run.signal(Decision { by: "grace".to_owned(), approved: true }).await?;
    println!("{}", run.result().await?.reference);
    worker.stop().await;
    Ok(())
}
