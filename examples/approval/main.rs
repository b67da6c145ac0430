//! `approval`: a run that waits for a person, who may answer from any process, months later.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use everpulse::prelude::*;
use everpulse::{CompletionToken, Error};

/// In earnest this sends a mail with a link, which ends in `client.complete(&token, answer)`.
#[activity(timeout = "10s")]
async fn ask(question: String, token: CompletionToken<bool>) {
    println!("{question}\n  yes: approval answer {token} yes\n  no:  approval answer {token} no");
}

/// Asks, and waits for a week. An answer that comes before the question was asked is an answer, too.
#[workflow(version = 1)]
async fn expense(what: String, cents: u64) -> Result<String, Error> {
    let approval = promise::<bool>();
    ask(format!("May we spend {cents} cents on {what}?"), approval.token()).await?;
    Ok(match timeout(Duration::from_secs(7 * 86_400), approval).await {
        Ok(answer) => match answer? {
            true => format!("{what} is bought"),
            false => format!("no {what}"),
        },
        Err(_) => format!("nobody cares about {what}"),
    })
}

/// Waits for people, durably.
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
    /// Start one run, and wait for what comes of it
    Start { what: String, cents: u64 },
    /// Answer what was asked
    Answer { token: CompletionToken<bool>, answer: Answer },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Answer {
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
            worker.context("cannot start a worker")?.workflow(expense).activity(ask).run().await?;
        }
        Command::Start { what, cents } => {
            println!("{}", client(url).await?.start(expense(what, cents)).await?.result().await?);
        }
        Command::Answer { token, answer } => client(url).await?.complete(&token, answer == Answer::Yes).await?,
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
