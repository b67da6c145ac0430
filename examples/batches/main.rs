//! `batches`: a hundred runs, each of which stores one measurement, and a database that is asked a few times only.
//!
//! ```text
//! cargo run --bin batches
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

const SENSORS: u64 = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Measurement {
    sensor: u64,
    degrees: f64,
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum StoreError {
    #[error("{0} degrees are no temperature")]
    Impossible(f64),
}

/// What stands for a database here: it counts how often it is asked.
struct Database {
    asked: Arc<AtomicUsize>,
}

#[activities]
impl Database {
    /// One `INSERT` for all rows that came meanwhile, whatever runs they are of.
    #[activity(batch(max = 50, wait = "100ms"), retry(never = StoreError::Impossible(_)))]
    async fn store(&self, rows: Vec<Measurement>) -> Vec<Result<u64, StoreError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let store = |row: Measurement| match row.degrees {
            degrees if degrees < -273.15 => Err(StoreError::Impossible(degrees)),
            _ => Ok(row.sensor),
        };
        rows.into_iter().map(store).collect()
    }
}

/// It stores one row, and knows nothing of the others.
#[workflow(version = 1)]
async fn measure(sensor: u64, degrees: f64) -> Result<u64, everpulse::Error> {
    Ok(Database::store(Measurement { sensor, degrees }).await?)
}

/// Stores measurements in batches.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-batches-{}", std::process::id()));
    let url = Arguments::parse().url.unwrap_or_else(|| format!("embedded:{}", dir.display()));
    let played = play(&url).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(url: &str) -> anyhow::Result<()> {
    let asked = Arc::new(AtomicUsize::new(0));
    let worker = Worker::connect(url).await.context("cannot start a worker")?;
    let worker = worker.workflow(measure).activities(Database { asked: Arc::clone(&asked) }).spawn().await?;
    let client = Client::connect(url).await.context("cannot reach the application")?;
    let mut runs = Vec::new();
    for sensor in 0..SENSORS {
        let degrees = if sensor == 13 { -300.0 } else { 20.0 };
        runs.push(client.start(measure(sensor, degrees)).enqueue().await?);
    }
    let mut stored = 0;
    for (sensor, run) in (0..).zip(&runs) {
        match run.result().await {
            Ok(own) => {
                ensure!(own == sensor, "each run gets its own result");
                stored += 1;
            }
            Err(error) => println!("sensor {sensor}: {error}"),
        }
    }
    let asked = asked.load(Ordering::Relaxed);
    println!("{stored} rows were stored in {asked} executions");
    ensure!(stored == SENSORS - 1 && asked < runs.len(), "the rows went in together");
    worker.stop().await;
    Ok(())
}
