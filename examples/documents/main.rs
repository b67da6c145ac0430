//! `documents`: a document of 20 MB passes through a workflow, and the broker sees references alone.
//!
//! ```text
//! cargo run --bin documents
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Parser;
use everpulse::Blobs;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Scan {
    title: String,
    pages: Vec<String>,
}

/// Stands for a machine that takes its time.
#[activity(timeout = "5m")]
async fn scan(title: String, megabytes: usize) -> Scan {
    let page = "All that is said here is said twice. ".repeat(30_000);
    Scan { title, pages: vec![page[..1_000_000].to_owned(); megabytes] }
}

#[activity(timeout = "5m")]
async fn count_words(scan: Scan) -> usize {
    scan.pages.iter().map(|page| page.split_whitespace().count()).sum()
}

#[workflow(version = 1)]
async fn archive(title: String, megabytes: usize) -> Result<String, everpulse::Error> {
    let scan = scan(title, megabytes).await?;
    let title = scan.title.clone();
    let words = count_words(scan).await?;
    Ok(format!("{title}: {words} words"))
}

/// Scans a document and counts its words.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory that is removed afterwards]
    #[arg(long, env = "EVERPULSE_URL")]
    url: Option<String>,
    /// Keep the documents on the broker, and not in a directory
    #[arg(long)]
    on_broker: bool,
    /// How many megabytes the document has
    #[arg(long, default_value_t = 20)]
    megabytes: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("everpulse-documents-{}", std::process::id()));
    let played = play(&dir, Arguments::parse()).await;
    // It may never have been made.
    let _ = std::fs::remove_dir_all(&dir);
    played
}

async fn play(dir: &Path, arguments: Arguments) -> anyhow::Result<()> {
    let url = arguments.url.unwrap_or_else(|| format!("embedded:{}", dir.join("broker").display()));
    let files = dir.join("documents");
    let blobs = match arguments.on_broker {
        true => Blobs::on_broker("documents"),
        false => Blobs::in_directory("documents", &files).create()?,
    };
    let worker = Worker::connect(&url).await.context("cannot start a worker")?.blobs(blobs.clone());
    let worker = worker.workflow(archive).activity(scan).activity(count_words).spawn().await?;
    let client = Client::connect(&url).await?.blobs(blobs);
    let id = format!("document-{}", std::process::id());
    let run = client.start(archive("Proverbs".to_owned(), arguments.megabytes)).id(&id).await?;
    println!("{}", run.result().await?);
    if !arguments.on_broker {
        let blobs = sizes(&files)?;
        let (count, bytes): (usize, u64) = (blobs.len(), blobs.iter().sum());
        println!("in the store: {count} documents, {bytes} bytes");
        ensure!(bytes >= arguments.megabytes as u64 * 1_000_000, "the document went another way");
    }
    worker.stop().await;
    Ok(())
}

fn sizes(dir: &Path) -> anyhow::Result<Vec<u64>> {
    let mut sizes = Vec::new();
    let mut dirs: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => dirs.push(entry.path()),
                false => sizes.push(entry.metadata()?.len()),
            }
        }
    }
    Ok(sizes)
}
