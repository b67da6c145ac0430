//! `festival`: a clerk gives the permit, today or in a week; what was booked until then is given back if there is none.
//!
//! ```text
//! cargo run --bin festival -- worker
//! cargo run --bin festival -- plan Woodstock
//! cargo run --bin festival -- decide TOKEN yes
//! ```

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use everpulse::prelude::*;
use everpulse::{CompletionToken, Error, Semaphore};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum PermitError {
    #[error("the town does not want it: {0}")]
    Refused(String),
}

/// The application is on the clerk's desk when this ends, and the activity goes on without any worker: for 30 days, as its
/// time-out says. In earnest the token stands in a mail.
#[activity(timeout = "30d", retry(max_attempts = 1))]
async fn permit(festival: String) -> Result<String, PermitError> {
    let context = activity::context();
    let token = context.token(permit);
    println!("May {festival} take place?\n  yes: festival decide {token} yes\n  no:  festival decide {token} no");
    context.complete_later().await
}

/// What a printer asks for a thousand posters; one of them has much to do.
#[activity(timeout = "10s")]
async fn offer(printer: String) -> String {
    let hours = if printer == "Gutenberg" { 1 } else { 5 };
    tokio::time::sleep(Duration::from_millis(100 * hours)).await;
    printer
}

#[activity(timeout = "10s")]
async fn book(what: String) -> String {
    println!("booked: {what}");
    what
}

#[activity(timeout = "10s")]
async fn give_back(what: String) {
    println!("given back: {what}");
}

#[workflow(version = 1)]
async fn festival(name: String) -> Result<String, Error> {
    saga(async |saga| {
        // All at the same time: nothing of it waits for anything else.
        saga.in_parallel();
        // The agency answers two calls at a time.
        let lines = Semaphore::new(2);
        let bands = ["The Who", "Santana", "Joan Baez"].map(async |band| {
            let _line = lines.acquire().await;
            let booked = book(band.to_owned()).await?;
            saga.compensate(give_back(booked));
            Ok::<_, Error>(())
        });
        try_join_all(bands).await?;
        // The first who answers prints; the other one is told that it is too late.
        let printer = race(["Gutenberg", "Manutius"].map(|printer| offer(printer.to_owned()))).await?;
        // A time that goes on while nothing runs, and without the festival if the clerk lets it pass.
        let number = match timeout(Duration::from_secs(7 * 86_400), permit(name.clone())).await {
            Ok(decided) => decided?,
            Err(_) => return Err(Error::msg("nobody has decided")),
        };
        Ok(format!("{name} takes place by permit {number}, posters by {printer}"))
    })
    .await
}

/// Plans a festival, and waits for its permit.
#[derive(Debug, Parser)]
struct Arguments {
    /// embedded:DIR or pulsar://HOST:PORT [default: a directory of yours, with no server]
    #[arg(long, env = "EVERPULSE_URL", global = true)]
    url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until Ctrl-C
    Worker,
    /// Plan one, and wait for what comes of it
    Plan { name: String },
    /// Decide, as the clerk
    Decide { token: CompletionToken<String, PermitError>, decision: Decision },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Decision {
    Yes,
    No,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // RUST_LOG overrides it. The client library below tells every reconnect, which is not for users.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let Arguments { url, command } = Arguments::parse();
    let url = url.as_deref();
    match command {
        Command::Worker => {
            let worker = match url {
                Some(url) => Worker::connect(url).await,
                None => Worker::connect_from_env().await,
            };
            let worker = worker.context("cannot start a worker")?.workflow(festival).activity(permit);
            worker.activity(offer).activity(book).activity(give_back).run().await?;
        }
        Command::Plan { name } => println!("{}", client(url).await?.start(festival(name)).await?.result().await?),
        Command::Decide { token, decision } => {
            let client = client(url).await?;
            match decision {
                Decision::Yes => client.complete(&token, "47/11".to_owned()).await?,
                Decision::No => client.fail(&token, PermitError::Refused("it is too loud".to_owned())).await?,
            }
        }
    }
    Ok(())
}

async fn client(url: Option<&str>) -> anyhow::Result<Client> {
    let client = match url {
        Some(url) => Client::connect(url).await,
        None => Client::connect_from_env().await,
    };
    client.context("cannot reach the application")
}
