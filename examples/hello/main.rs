//! `hello`: the smallest application, one workflow and one activity; as one process, or as two.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use everpulse::prelude::*;

#[activity(timeout = "10s")]
async fn greeting(name: String) -> String {
    format!("Hello, {name}!")
}

#[workflow(version = 1)]
async fn hello(name: String) -> Result<String, everpulse::Error> {
    Ok(greeting(name).await?)
}

/// Greets, durably.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory of yours, with no server]
    #[arg(long, env = "EVERPULSE_URL", global = true)]
    url: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until Ctrl-C
    Worker,
    /// Start one run, and wait for its greeting
    Start { name: String },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // RUST_LOG overrides it. The client library below tells every reconnect, which is not for users.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let Arguments { url, command } = Arguments::parse();
    match command {
        Some(Command::Worker) => worker(url.as_deref()).await?.run().await?,
        Some(Command::Start { name }) => greet(url.as_deref(), name).await?,
        None => {
            let worker = worker(url.as_deref()).await?.spawn().await?;
            greet(url.as_deref(), "world".to_owned()).await?;
            worker.stop().await;
        }
    }
    Ok(())
}

async fn worker(url: Option<&str>) -> anyhow::Result<Worker> {
    let worker = match url {
        Some(url) => Worker::connect(url).await,
        None => Worker::connect_from_env().await,
    };
    Ok(worker.context("cannot start a worker")?.workflow(hello).activity(greeting))
}

async fn greet(url: Option<&str>, name: String) -> anyhow::Result<()> {
    let client = match url {
        Some(url) => Client::connect(url).await,
        None => Client::connect_from_env().await,
    };
    let run = client.context("cannot reach the application")?.start(hello(name)).await?;
    println!("{}", run.result().await?);
    Ok(())
}
