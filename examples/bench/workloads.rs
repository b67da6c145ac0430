//! The workloads: what a run does, and how one run is timed.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use everpulse::prelude::*;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Workload {
    /// Hello: one activity that echoes a short string
    W1,
    /// Sequence: activities one after another
    W2,
    /// Fan-out: activities in parallel, joined
    W3,
    /// Local steps one after another
    W4,
    /// A sleep of two seconds: the latency is how much later than that the run has ended
    W5,
}

/// One run, as its client saw it.
#[derive(Debug)]
pub struct Ran {
    pub latency_ms: f64,
    /// How late a timer fired, by recorded time.
    pub late_ms: Option<f64>,
}

const SLEEP: Duration = Duration::from_secs(2);

// With a time-out of a second or less tasks may share a frame.
#[activity(timeout = "1s")]
async fn echo(text: String) -> String {
    text
}

#[workflow(version = 1)]
async fn hello(text: String) -> Result<String, everpulse::Error> {
    Ok(echo(text).await?)
}

#[workflow(version = 1)]
async fn sequence(text: String, width: u32) -> Result<String, everpulse::Error> {
    let mut text = text;
    for _ in 0..width {
        text = echo(text).await?;
    }
    Ok(text)
}

#[workflow(version = 1)]
async fn fan_out(text: String, width: u32) -> Result<usize, everpulse::Error> {
    let mut length = 0;
    for echoed in join_all((0..width).map(|_| echo(text.clone()))).await {
        length += echoed?.len();
    }
    Ok(length)
}

#[workflow(version = 1)]
async fn local_steps(text: String, width: u32) -> Result<usize, everpulse::Error> {
    let mut length = 0;
    for _ in 0..width {
        let text = text.clone();
        length += step("measure", move || {
            let text = text.clone();
            async move { Ok::<_, everpulse::Error>(text.len()) }
        })
        .await?;
    }
    Ok(length)
}

/// How late its timer fired, in milliseconds of recorded time.
#[workflow(version = 1)]
async fn sleeper(ms: u64) -> Result<u64, everpulse::Error> {
    let length = Duration::from_millis(ms);
    let due = now() + length;
    sleep(length).await;
    let late = now().duration_since(due).unwrap_or_default();
    Ok(u64::try_from(late.as_millis())?)
}

/// A worker for all of them.
pub fn serve(worker: Worker) -> Worker {
    worker.workflow(hello).workflow(sequence).workflow(fan_out).workflow(local_steps).workflow(sleeper).activity(echo)
}

/// One run, from the start call to its result.
pub async fn one(client: &Client, workload: Workload, width: u32) -> anyhow::Result<Ran> {
    let text = || "hello".to_owned();
    let began = Instant::now();
    let mut late_ms = None;
    match workload {
        Workload::W1 => {
            client.start(hello(text())).await?.result().await?;
        }
        Workload::W2 => {
            client.start(sequence(text(), width)).await?.result().await?;
        }
        Workload::W3 => {
            client.start(fan_out(text(), width)).await?.result().await?;
        }
        Workload::W4 => {
            client.start(local_steps(text(), width)).await?.result().await?;
        }
        Workload::W5 => {
            let ms = u64::try_from(SLEEP.as_millis())?;
            late_ms = Some(client.start(sleeper(ms)).await?.result().await? as f64);
        }
    }
    let mut latency = began.elapsed();
    if workload == Workload::W5 {
        latency = latency.saturating_sub(SLEEP);
    }
    Ok(Ran { latency_ms: latency.as_secs_f64() * 1_000.0, late_ms })
}
