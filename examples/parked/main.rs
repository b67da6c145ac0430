//! `parked`: what very many waiting runs cost. Half of them sleep for days, half wait for a signal.
//!
//! ```text
//!   measure (client) ── starts, signals ──► everpulse-broker ◄──► worker   a process each, so that the memory of
//!        └─────────────── kill -9, another one ──────────────────────┘     each is known
//! ```
//!
//! It prints one JSON line of figures; `cargo xtask bench --workload W7` builds and runs it.

mod process;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use everpulse::prelude::*;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::process::{Broker, Served};

/// Measures parked runs, and prints one JSON line.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The client, which starts the two others.
    Measure(Measure),
    /// Serves the workflows until it is killed, and prints what its shards are about.
    Worker(Serve),
}

#[derive(Debug, Args)]
struct Measure {
    /// The program `everpulse-broker`
    #[arg(long)]
    broker: PathBuf,
    /// An empty directory for the broker's data and the worker's cache
    #[arg(long)]
    dir: PathBuf,
    /// Runs
    #[arg(long)]
    n: u64,
    /// Starts that are on their way at a time
    #[arg(long, default_value_t = 1_000)]
    in_flight: usize,
    /// Runs that are woken one after another, each time
    #[arg(long, default_value_t = 1_000)]
    wakes: u64,
    /// A receipt means written, not synced to disk
    #[arg(long)]
    relaxed: bool,
    #[command(flatten)]
    set: Set,
}

#[derive(Debug, Clone, Args)]
struct Set {
    /// The worker's retention: open runs are carried forward when history is older
    #[arg(long, default_value_t = 86_400)]
    retention_s: u64,
    /// Runs that wait stay in memory
    #[arg(long)]
    no_cache: bool,
    /// Runs that stay in memory though they only wait, per shard
    #[arg(long)]
    at_hand: Option<usize>,
    /// The worker's cache
    #[arg(long)]
    cache_dir: Option<PathBuf>,
}

impl Set {
    /// As the worker's command line has it.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--retention-s".to_owned(), self.retention_s.to_string()];
        arguments.extend(self.no_cache.then(|| "--no-cache".to_owned()));
        if let Some(at_hand) = self.at_hand {
            arguments.extend(["--at-hand".to_owned(), at_hand.to_string()]);
        }
        if let Some(dir) = &self.cache_dir {
            arguments.extend(["--cache-dir".to_owned(), dir.display().to_string()]);
        }
        arguments
    }
}

#[derive(Debug, Args)]
struct Serve {
    #[arg(long)]
    url: String,
    #[command(flatten)]
    set: Set,
}

#[everpulse::signal]
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wake {
    /// When it was sent, in milliseconds since 1970.
    at: u64,
}

/// Waits for a signal, and says how much later than it was sent that is recorded.
#[workflow(version = 1)]
async fn waiter(order: String) -> Result<u64, everpulse::Error> {
    let wake = signal::<Wake>().recv().await;
    ensure_order(&order);
    Ok(u64::try_from(now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis())?.saturating_sub(wake.at))
}

/// Sleeps for days.
#[workflow(version = 1)]
async fn sleeper(order: String, days: u64) -> Result<(), everpulse::Error> {
    sleep(Duration::from_secs(days * 86_400)).await;
    ensure_order(&order);
    Ok(())
}

/// A run keeps its arguments while it waits, as real ones do.
fn ensure_order(order: &str) {
    assert!(!order.is_empty(), "the arguments are there");
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "error,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match Arguments::parse().role {
        Role::Measure(options) => measure(&options).await,
        Role::Worker(options) => serve(options).await,
    }
}

async fn serve(options: Serve) -> anyhow::Result<()> {
    let worker = Worker::connect(&options.url).await?.workflow(waiter).workflow(sleeper);
    let worker = worker.retention(Duration::from_secs(options.set.retention_s));
    let worker = match options.set.at_hand {
        Some(runs) => worker.options(|options| options.runs_at_hand_per_shard = runs),
        None => worker,
    };
    let worker = match options.set.cache_dir.filter(|_| !options.set.no_cache) {
        Some(dir) => worker.cache_dir(dir),
        None => worker,
    };
    let worker = worker.spawn().await?;
    loop {
        let shards = worker.shards().await;
        let of = |of: fn(&everpulse::worker::Status) -> u64| shards.iter().map(|(_, status)| of(status)).sum::<u64>();
        let served = Served {
            shards: shards.iter().filter(|(_, status)| !status.cold).count() as u64,
            open: of(|status| status.open_runs as u64),
            frames: of(|status| status.next_number),
            trimmed: shards.iter().filter(|(_, status)| status.first_needed > 0).count() as u64,
        };
        println!("{}", serde_json::to_string(&served)?);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// What an order may look like.
fn order(number: u64) -> String {
    format!("order {number}: two of the blue ones, to be delivered in the afternoon")
}

async fn measure(options: &Measure) -> anyhow::Result<()> {
    ensure!(options.n > 0, "there is nothing to measure");
    let broker = Broker::start(&options.broker, &options.dir.join("broker"), options.relaxed).await?;
    let mut worker = broker.worker(options).await?;
    let client = Client::connect(&broker.url).await?;
    let mut woken = Woken::new(options.n);

    let idle_mb = worker.resident_mb();
    let began = Instant::now();
    let mut starts =
        futures::stream::iter(0..options.n).map(|number| start(&client, number)).buffer_unordered(options.in_flight);
    while let Some(started) = starts.next().await {
        started?;
    }
    drop(starts);
    let took = began.elapsed();
    let mut figures = json!({
        "n": options.n,
        "start_s": took.as_secs_f64(),
        "starts_per_s": options.n as f64 / took.as_secs_f64(),
        "worker_idle_mb": idle_mb,
    });
    worker.quiet().await?;
    figures["worker_mb"] = json!(worker.resident_mb());
    figures["worker_peak_mb"] = json!(worker.peak_mb());
    figures["bytes_per_run"] = json!((worker.resident_mb() - idle_mb) * 1_048_576.0 / options.n as f64);
    figures["broker_mb"] = json!(broker.resident_mb());
    figures["disk_mb"] = json!(process::disk_mb(&options.dir));
    figures["client_mb"] = json!(process::resident_mb(std::process::id()));
    figures["wake"] = woken.wake_some(&client, options.wakes).await?;

    eprintln!("killing the worker");
    worker.kill().await?;
    let began = Instant::now();
    let mut worker = broker.worker(options).await?;
    figures["restart_ready_s"] = json!(began.elapsed().as_secs_f64());
    woken.wake_one(&client).await?;
    figures["restart_first_wake_s"] = json!(began.elapsed().as_secs_f64());
    woken.wake_at_once(&client, 200).await?;
    figures["restart_all_shards_s"] = json!(began.elapsed().as_secs_f64());
    figures["restart_wake"] = woken.wake_some(&client, options.wakes).await?;
    worker.quiet().await?;
    figures["restart_worker_mb"] = json!(worker.resident_mb());
    figures["restart_worker_peak_mb"] = json!(worker.peak_mb());
    println!("{figures}");
    broker.stop(worker).await
}

async fn start(client: &Client, number: u64) -> anyhow::Result<()> {
    if number.is_multiple_of(2) {
        client.start(waiter(order(number))).id(format!("run-{number}")).await?;
    } else {
        client.start(sleeper(order(number), 2 + number % 30)).id(format!("run-{number}")).await?;
    }
    Ok(())
}

/// Runs that were woken already.
struct Woken {
    n: u64,
    done: HashSet<u64>,
    dice: u64,
}

impl Woken {
    fn new(n: u64) -> Self {
        Self { n, done: HashSet::new(), dice: 7 }
    }

    /// One of the runs that wait for a signal, anywhere among them.
    fn next(&mut self) -> String {
        loop {
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (self.dice >> 33) % self.n.div_ceil(2) * 2;
            if self.done.insert(number) {
                return format!("run-{number}");
            }
        }
    }

    /// One after another: from the client's signal to the result that it reads.
    async fn wake_some(&mut self, client: &Client, wakes: u64) -> anyhow::Result<Value> {
        let mut took = Vec::new();
        for _ in 0..wakes.min(self.n / 10) {
            took.push(self.wake_one(client).await?.as_secs_f64() * 1_000.0);
        }
        took.sort_unstable_by(f64::total_cmp);
        let percentile = |percent: usize| took.get((took.len() * percent).div_ceil(100).max(1) - 1).copied();
        Ok(json!({ "n": took.len(), "p50_ms": percentile(50), "p99_ms": percentile(99), "max_ms": took.last() }))
    }

    async fn wake_one(&mut self, client: &Client) -> anyhow::Result<Duration> {
        let id = self.next();
        wake(client, id).await
    }

    async fn wake_at_once(&mut self, client: &Client, wakes: u64) -> anyhow::Result<()> {
        let ids: Vec<String> = (0..wakes.min(self.n / 10)).map(|_| self.next()).collect();
        let all = futures::future::join_all(ids.into_iter().map(|id| wake(client, id))).await;
        all.into_iter().collect::<anyhow::Result<Vec<_>>>().map(|_| ())
    }
}

async fn wake(client: &Client, id: String) -> anyhow::Result<Duration> {
    let run = client.run(waiter, &id);
    let began = Instant::now();
    let at = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    run.signal(Wake { at }).await.with_context(|| format!("could not wake {id}"))?;
    run.result_timeout(Duration::from_secs(300)).await.with_context(|| format!("{id} did not end"))?;
    Ok(began.elapsed())
}
