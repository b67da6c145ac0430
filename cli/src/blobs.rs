//! Values that lie out of line, as an operator tends them.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use everpulse::Blobs;
use everpulse::client::Client;

use crate::arguments::BlobCommand;

/// Carries out what was said on the command line.
///
/// # Errors
/// Those of the client, and of the file system.
pub async fn run(client: &Client, blobs: Option<Blobs>, command: BlobCommand) -> anyhow::Result<()> {
    let older_than_days = match command {
        BlobCommand::Create => {
            blobs.context("say by --blobs where they are to lie")?.create().context("the directories of --blobs")?;
            return Ok(());
        }
        BlobCommand::Collect { older_than_days } => older_than_days,
    };
    let age = Duration::from_secs(u64::from(older_than_days) * 24 * 3_600);
    let before = SystemTime::now().checked_sub(age).context("there was no time so long ago")?;
    let collected = client.collect_blobs(before).await?;
    println!("{} blobs, {} bytes", collected.blobs, collected.bytes);
    Ok(())
}
