//! `sealed`: a workflow whose values nobody but its own processes can read, and a change of the key in the midst of a run.
//!
//! ```text
//! cargo run --bin sealed
//! ```

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::prelude::*;
use everpulse::{Codec, Key, Keys};
use serde::{Deserialize, Serialize};

#[signal]
#[derive(Serialize, Deserialize)]
struct Signed {
    by: String,
}

#[activity(timeout = "10s")]
async fn file_away(contract: String, signed_by: String) -> String {
    format!("{contract}, signed by {signed_by}")
}

#[workflow(version = 1)]
async fn contract(text: String) -> Result<String, everpulse::Error> {
    let Signed { by } = signal::<Signed>().recv().await;
    Ok(file_away(text, by).await?)
}

/// Seals what it hands over.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-sealed-{}", std::process::id()));
    let url = Arguments::parse().url.unwrap_or_else(|| format!("embedded:{}", dir.display()));
    let played = play(&url).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(url: &str) -> anyhow::Result<()> {
    // From where your other secrets come from: these are gone when the example ends.
    let (spring, autumn) = (Key::generate()?, Key::generate()?);
    let before = Codec::json().compress().encrypt(Keys::new("spring", spring.clone()));
    let after = Codec::json().compress().encrypt(Keys::new("autumn", autumn).also("spring", spring));

    let client = Client::connect(url).await.context("cannot reach the application")?;
    let worker = serve(url, before.clone()).await?;
    let id = format!("contract-{}", std::process::id());
    let run = client.clone().codec(before).start(contract("Rent of a flat".to_owned())).id(&id).await?;
    println!("started with the key `spring`");
    let seen = client.run(contract, run.id()).describe().await?;
    println!("whoever has no key sees a run of `{}`, {}", seen.workflow, seen.status);
    worker.stop().await;

    let worker = serve(url, after.clone()).await?;
    let run = client.clone().codec(after).run(contract, &id);
    run.signal(Signed { by: "Ada".to_owned() }).await?;
    println!("finished with the key `autumn`: {}", run.result().await?);

    let error = client.run(contract, &id).result().await.err().context("it is sealed")?;
    println!("whoever has no key is told: {error}");
    ensure!(error.to_string().contains("key `autumn`"), "the key is named");
    worker.stop().await;
    Ok(())
}

async fn serve(url: &str, codec: Codec) -> anyhow::Result<everpulse::WorkerHandle> {
    let worker = Worker::connect(url).await.context("cannot start a worker")?.codec(codec);
    Ok(worker.workflow(contract).activity(file_away).spawn().await?)
}
