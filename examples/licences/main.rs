//! `licences`: a program of which two may be open at a time, anywhere, and three workers that would open four each.
//!
//! ```text
//! cargo run --bin licences
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::prelude::*;

const LICENCES: usize = 2;
const DRAWINGS: usize = 12;

/// The program, and how many of it are open and were at most.
#[derive(Default)]
struct Program {
    open: AtomicUsize,
    most: AtomicUsize,
}

struct Draughtsman {
    program: Arc<Program>,
}

#[activities]
impl Draughtsman {
    #[activity(queue = "drawings", timeout = "30s")]
    async fn draw(&self, _what: String) {
        let open = self.program.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.program.most.fetch_max(open, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.program.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[workflow(version = 1)]
async fn plan(what: String) -> Result<(), everpulse::Error> {
    Ok(Draughtsman::draw(what).await?)
}

/// Draws with as many copies of a program as were paid for.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-licences-{}", std::process::id()));
    let url = Arguments::parse().url.unwrap_or_else(|| format!("embedded:{}", dir.display()));
    let played = play(&url).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(url: &str) -> anyhow::Result<()> {
    let program = Arc::new(Program::default());
    let mut workers = Vec::new();
    for _ in 0..3 {
        let draughtsman = Draughtsman { program: Arc::clone(&program) };
        let worker =
            Worker::connect(url).await.context("cannot start a worker")?.workflow(plan).activities(draughtsman);
        // Each has room for four; the licences are for all of them together.
        let worker = worker.queue_concurrency("drawings", 4).concurrency_across_workers("drawings", LICENCES);
        workers.push(worker.spawn().await?);
    }
    let client = Client::connect(url).await.context("cannot reach the application")?;
    let mut runs = Vec::new();
    for n in 0..DRAWINGS {
        runs.push(client.start(plan(format!("floor {n}"))).enqueue().await?);
    }
    for run in &runs {
        run.result().await?;
    }
    for worker in workers {
        worker.stop().await;
    }
    let most = program.most.load(Ordering::SeqCst);
    println!("{DRAWINGS} drawings, and {most} copies of the program open at a time, at most");
    ensure!(most <= LICENCES, "more than {LICENCES} were open");
    Ok(())
}
