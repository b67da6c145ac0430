//! A worker process for tests: `everpulse-party URL workflows|activities|both|broker LEDGER`.
//!
//! It says `serving`, and as whom it writes history, on stdout when it does, and leaves on SIGTERM.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use everpulse::Blobs;
use everpulse::prelude::*;
use everpulse_integration_tests::{ledger, party, waits, workflows};

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(role), Some(file)) = (args.next(), args.next(), args.next()) else {
        bail!("usage: everpulse-party URL workflows|activities|both|broker LEDGER");
    };
    ledger::keep_in(Path::new(&file));
    let worker = Worker::connect(&url).await.context("connecting")?.drain(Duration::from_secs(10));
    let worker = match std::env::var(party::RETENTION_MS) {
        Ok(text) => {
            let retention = Duration::from_millis(text.parse().context(party::RETENTION_MS)?);
            worker.retention(retention).id_memory(retention)
        }
        Err(_) => worker,
    };
    let worker = match std::env::var_os(party::BLOBS) {
        Some(dir) => worker.blobs(Blobs::in_directory("files", dir)),
        None => worker,
    };
    let worker = match std::env::var(party::SEATS) {
        Ok(text) => worker.concurrency_across_workers("seats", text.parse().context(party::SEATS)?),
        Err(_) => worker,
    };
    let worker = match role.as_str() {
        "workflows" => workflows::serve_workflows(worker),
        "activities" => workflows::serve_activities(worker),
        "both" => workflows::serve_all(worker),
        "broker" => worker,
        other => bail!("no such role: {other}"),
    };
    let worker = match (std::env::var_os(party::WAITS), role.as_str()) {
        (Some(_), "workflows") => waits::serve_workflows(worker),
        (Some(_), "activities") => waits::serve_activities(worker),
        (Some(_), "both") => waits::serve_activities(waits::serve_workflows(worker)),
        _ => worker,
    };
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let handle = worker.spawn().await.context("starting")?;
    println!("serving {}", handle.writer().map_or(String::new(), |writer| writer.to_string()));
    terminate.recv().await;
    handle.stop().await;
    Ok(())
}
