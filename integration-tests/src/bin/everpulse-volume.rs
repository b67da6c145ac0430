//! `everpulse-volume URL RUNS`: one worker and one client in one process; all runs of `hello` are started at
//! once. Says in one JSON line how many came back, how long it took, and the greatest memory of the process.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse_integration_tests::workflows::{self, hello};
use futures::future::try_join_all;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(runs)) = (args.next(), args.next()) else {
        anyhow::bail!("usage: everpulse-volume URL RUNS");
    };
    let runs: usize = runs.parse().context("RUNS is a number")?;
    let worker = workflows::serve_all(Worker::connect(&url).await?).spawn().await?;
    let client = Client::connect(&url).await?;
    let began = Instant::now();
    let started = (0..runs).map(|n| {
        let client = client.clone();
        async move {
            let name = format!("{n:06}");
            let result = client.start(hello(name.clone())).id(format!("v-{name}")).await?.result().await?;
            ensure!(result == format!("hello {name}"), "{name}: {result}");
            Ok(())
        }
    });
    let done = try_join_all(started).await?.len();
    let seconds = began.elapsed().as_secs_f64();
    worker.stop().await;
    let line = serde_json::json!({"runs": done, "seconds": seconds, "peak_kb": peak_kb()?});
    println!("{line}");
    Ok(())
}

/// The greatest resident memory of this process so far.
fn peak_kb() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("this test reads Linux's /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
