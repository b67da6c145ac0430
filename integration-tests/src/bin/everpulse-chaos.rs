//! `everpulse-chaos conduct`: chaos on real processes, judged from outside; the figures go to `FOLDER/figures.json`.
//! `everpulse-chaos worker` and `everpulse-chaos caller` are what the conductor starts.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use everpulse_integration_tests::chaos::{caller, conduct, worker};

#[derive(Debug, Parser)]
#[command(version, about = "Real processes under real faults, judged from outside")]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    Conduct(conduct::Options),
    Worker(worker::Arguments),
    Caller(caller::Arguments),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let part = Arguments::parse().part;
    // What a worker did is looked up when something was found.
    let usual = if matches!(part, Part::Worker(_)) { "info,pulsar=error" } else { "error" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match part {
        Part::Worker(arguments) => worker::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Part::Caller(arguments) => caller::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Part::Conduct(options) => {
            let figures = conduct::run(&options).await?;
            println!("{figures}");
            Ok(if figures["ok"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
