//! `everpulse`: the application from a terminal. Reads arguments, asks by the client, prints; decides nothing.
//!
//! ```text
//! arguments ─► runs ────────► start, result, describe, signal, signal-tag, update, query, cancel, terminate, resume, export
//!           ├► completions ─► complete, fail, heartbeat
//!           ├► schedules ───► schedule create, list, describe, pause, unpause, trigger, backfill, update, delete
//!           ├► letters ─────► dead-letters list, show, redrive, drop
//!           ├► blobs ───────► blobs create, collect
//!           ├► schemas ─────► schema list, show, forget
//!           └► gateway ─────► serve: completions by HTTP
//! ```

mod arguments;
mod blobs;
mod completions;
mod gateway;
mod letters;
mod output;
mod runs;
mod schedules;
mod schemas;

use std::process::ExitCode;

use clap::Parser as _;
use everpulse::client::{self, Client, ErrorKind};
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,pulsar=off")))
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_code(&error)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = connect(&arguments).await?;
    match arguments.command {
        Command::Run(command) => runs::run(&client, command).await,
        Command::Completion(command) => completions::run(&client, command).await,
        Command::Schedule { command } => schedules::run(&client, command).await,
        Command::DeadLetters { command } => letters::run(&client, command).await,
        Command::Blobs { command } => blobs::run(&client, arguments.blobs.clone(), command).await,
        Command::Schema { command } => schemas::run(&client, command).await,
        Command::Serve(options) => gateway::serve(client, options).await,
    }
}

async fn connect(arguments: &Arguments) -> anyhow::Result<Client> {
    let address = client::Address::from_env_or(arguments.url.as_deref()).map_err(client::Error::from)?;
    let options = client::Options::default().timeout(arguments.timeout()).codec(arguments.codec()?);
    let client = Client::connect_to(&address, options).await?;
    Ok(match &arguments.blobs {
        Some(blobs) => client.blobs(blobs.clone()),
        None => client,
    })
}

/// 1: the answer is no. 2: the command is wrong, as clap says it too, or lacks a key. 3: nothing is known, since nobody could be asked.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let kind = error.downcast_ref::<client::Error>().map(client::Error::kind);
    ExitCode::from(match kind {
        Some(ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Undecodable) => 2,
        Some(
            ErrorKind::Timeout
            | ErrorKind::Unreachable
            | ErrorKind::Unauthorized
            | ErrorKind::Refused
            | ErrorKind::Corrupt
            | ErrorKind::Closed,
        ) => 3,
        _ if error.is::<arguments::BadInput>() => 2,
        _ => 1,
    })
}
