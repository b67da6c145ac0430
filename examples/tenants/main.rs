//! `tenants`: one customer has a long backlog; another one comes with three documents, and a third with something urgent.
//!
//! ```text
//! cargo run --bin tenants
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::prelude::*;

const BACKLOG: usize = 60;

/// A printer, and in which order it got what it printed.
struct Printer {
    printed: Arc<Mutex<Vec<String>>>,
}

#[activities]
impl Printer {
    #[activity(timeout = "30s")]
    async fn print(&self, document: String) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).push(document);
    }
}

#[workflow(version = 1)]
async fn deliver(document: String) -> Result<(), everpulse::Error> {
    Ok(Printer::print(document).await?)
}

/// Prints for customers who take turns.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-tenants-{}", std::process::id()));
    let url = Arguments::parse().url.unwrap_or_else(|| format!("embedded:{}", dir.display()));
    let played = play(&url).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(url: &str) -> anyhow::Result<()> {
    let printed = Arc::new(Mutex::new(Vec::new()));
    let owner = Worker::connect(url).await.context("cannot start a worker")?.workflow(deliver).spawn().await?;
    let client = Client::connect(url).await.context("cannot reach the application")?;
    let mut runs = Vec::new();
    for n in 0..BACKLOG {
        runs.push(client.start(deliver(format!("acme {n}"))).fairness_key("acme").enqueue().await?);
    }
    for n in 0..3 {
        runs.push(client.start(deliver(format!("globex {n}"))).fairness_key("globex").enqueue().await?);
    }
    runs.push(client.start(deliver("recall".to_owned())).priority(1).enqueue().await?);
    // The printer is switched on when all of them wait.
    let printer = Printer { printed: Arc::clone(&printed) };
    let worker = Worker::connect(url).await?.activities(printer).concurrency(1).spawn().await?;
    for run in &runs {
        run.result().await?;
    }
    worker.stop().await;
    owner.stop().await;
    let printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
    let place = |document: &str| printed.iter().position(|printed| printed == document).unwrap_or(usize::MAX);
    let places = [place("recall"), place("globex 2"), place(&format!("acme {}", BACKLOG - 1))];
    println!(
        "printed: the recall as number {}, the last of globex as {}, the last of acme as {}",
        places[0], places[1], places[2]
    );
    ensure!(places[0] < places[2] && places[1] < places[2], "nobody waits for all of acme's documents");
    Ok(())
}
