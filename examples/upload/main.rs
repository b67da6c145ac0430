//! `upload`: a film goes to a store piece by piece, through everything that may happen on the way.
//!
//! ```text
//! cargo run --bin upload
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

const PIECES: u32 = 12;

#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
enum StoreError {
    #[error("the connection is gone")]
    Disconnected,
    #[error("the store is busy, it says, for {ms} ms")]
    Busy { ms: u64 },
    #[error("there is no room for films")]
    NoRoom,
}

/// What stands for a store here: it takes pieces, and makes trouble at some of them, once.
#[derive(Clone, Default)]
struct Store {
    /// How often it got each piece.
    pieces: Arc<Mutex<BTreeMap<u32, u32>>>,
}

#[activities]
impl Store {
    /// An attempt may take ten minutes, but whoever says nothing for half a second is taken for dead. All attempts together have
    /// an hour, and a queue that is an hour long is given up at once. A busy store says itself when to come again.
    #[activity(
        timeout = "10m",
        heartbeat = "500ms",
        schedule_to_start = "1h",
        schedule_to_close = "1h",
        retry(
            initial = "50ms",
            max_attempts = 6,
            never = StoreError::NoRoom,
            after(StoreError::Busy { ms } = Duration::from_millis(*ms))
        )
    )]
    async fn upload(&self, film: String) -> Result<u32, StoreError> {
        let context = activity::context();
        if film == "Empire" {
            return Err(StoreError::NoRoom);
        }
        // How many pieces the attempts before this one have brought over.
        let begin = context.last_heartbeat::<u32>().unwrap_or(0);
        println!("attempt {}: from piece {begin} on", context.attempt());
        for piece in begin..PIECES {
            self.put(context.attempt(), piece).await?;
            context.heartbeat(piece + 1);
        }
        Ok(context.attempt())
    }

    async fn put(&self, attempt: u32, piece: u32) -> Result<(), StoreError> {
        match (attempt, piece) {
            (1, 3) => return Err(StoreError::Disconnected),
            (2, 6) => return Err(StoreError::Busy { ms: 20 }),
            // A line that is dead, and does not say so.
            (3, 9) => std::future::pending().await,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        *self.pieces.lock().unwrap_or_else(PoisonError::into_inner).entry(piece).or_default() += 1;
        Ok(())
    }
}

/// Knows nothing of pieces, attempts and time-outs.
#[workflow(version = 1)]
async fn publish_film(film: String) -> Result<u32, everpulse::Error> {
    Ok(Store::upload(film).await?)
}

/// Uploads a film.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-upload-{}", std::process::id()));
    let url = Arguments::parse().url.unwrap_or_else(|| format!("embedded:{}", dir.display()));
    let played = play(&url).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(url: &str) -> anyhow::Result<()> {
    let store = Store::default();
    let worker = Worker::connect(url).await.context("cannot start a worker")?;
    let worker = worker.workflow(publish_film).activities(store.clone()).spawn().await?;
    let client = Client::connect(url).await.context("cannot reach the application")?;

    let attempts = client.start(publish_film("Metropolis".to_owned())).await?.result().await?;
    let pieces = store.pieces.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let again = pieces.values().filter(|times| **times > 1).count();
    println!("{} pieces are there after {attempts} attempts, {again} of them came twice", pieces.len());
    ensure!(pieces.len() == PIECES as usize, "all pieces are there");

    let refused = client.start(publish_film("Empire".to_owned())).await?.result().await.err();
    println!("Empire: {}", refused.context("there is no room for it")?);
    worker.stop().await;
    Ok(())
}
