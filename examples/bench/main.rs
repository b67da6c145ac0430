//! `bench`: the program that `cargo xtask bench` measures. One workload, once, on one broker; worker and client are
//! this process. It prints one JSON line of raw figures; repetitions, medians and both arms are `xtask`'s.
//!
//! Latency is from the client's start call to its result. CPU seconds are those of the measured part; memory is the
//! greatest of the whole process, which includes the embedded broker where that is in use.

mod usage;
mod workloads;

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use everpulse::prelude::*;
use futures::StreamExt as _;
use serde_json::json;

use crate::usage::Usage;
use crate::workloads::{Ran, Workload};

/// Measures one workload once, and prints one JSON line.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR[?mode=relaxed] or pulsar://HOST:PORT/TENANT/NAMESPACE
    #[arg(long)]
    url: String,
    #[arg(long, value_enum)]
    workload: Workload,
    /// Runs
    #[arg(long)]
    n: usize,
    /// Runs that are on their way at a time
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Activities (W2, W3) or steps (W4) of a run
    #[arg(long, default_value_t = 10)]
    width: u32,
    /// Activities are started by the owner of their run, not through their topic
    #[arg(long)]
    eager: bool,
    /// A broker's process, whose CPU seconds and memory are told beside those of this one
    #[arg(long)]
    broker_pid: Option<u32>,
}

/// Runs before the measured ones, all at once: enough that each of the sixteen shards has had some.
const WARM_UP: usize = 128;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // RUST_LOG overrides it. The client library below tells every reconnect, which is not for users.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "error,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let arguments = Arguments::parse();
    ensure!(arguments.n > 0 && arguments.in_flight > 0, "there is nothing to measure");
    let worker = workloads::serve(Worker::connect(&arguments.url).await?.eager(arguments.eager)).spawn().await?;
    let client = Client::connect(&arguments.url).await?;

    // Connections, lookups, first ledgers and the first loading of each shard are not what is measured.
    run(&client, arguments.workload, arguments.width.min(10), WARM_UP, WARM_UP).await?;
    let before = usage(arguments.broker_pid);
    let began = Instant::now();
    let ran = run(&client, arguments.workload, arguments.width, arguments.n, arguments.in_flight).await?;
    let took = began.elapsed();
    let after = usage(arguments.broker_pid);
    worker.stop().await;

    let mut latencies: Vec<f64> = ran.iter().map(|ran| ran.latency_ms).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    let mut late: Vec<f64> = ran.iter().filter_map(|ran| ran.late_ms).collect();
    late.sort_unstable_by(f64::total_cmp);
    let per_s = arguments.n as f64 / took.as_secs_f64();
    let mut figures = json!({
        "p50_ms": percentile(&latencies, 50),
        "p99_ms": percentile(&latencies, 99),
        "per_s": per_s,
        "cpu_s": after.0.cpu_since(&before.0),
        "peak_mb": after.0.peak_mb,
    });
    if let (Some(before), Some(after)) = (&before.1, &after.1) {
        figures["broker_cpu_s"] = json!(after.cpu_since(before));
        figures["broker_peak_mb"] = json!(after.peak_mb);
    }
    if matches!(arguments.workload, Workload::W2 | Workload::W3) {
        figures["activities_per_s"] = json!(per_s * f64::from(arguments.width));
    }
    if !late.is_empty() {
        figures["fired_late_p50_ms"] = json!(percentile(&late, 50));
        figures["fired_late_p99_ms"] = json!(percentile(&late, 99));
    }
    println!("{figures}");
    Ok(())
}

/// Runs a workload so many times, so many at a time.
async fn run(client: &Client, workload: Workload, width: u32, n: usize, in_flight: usize) -> anyhow::Result<Vec<Ran>> {
    let mut ends =
        futures::stream::iter(0..n).map(|_| workloads::one(client, workload, width)).buffer_unordered(in_flight);
    let mut ran = Vec::with_capacity(n);
    while let Some(end) = tokio::time::timeout(Duration::from_secs(120), ends.next()).await? {
        ran.push(end?);
    }
    Ok(ran)
}

fn usage(broker: Option<u32>) -> (Usage, Option<Usage>) {
    (Usage::of_self(), broker.map(Usage::of_process))
}

/// The least value that so many percent do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
