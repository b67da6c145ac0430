//! Runs the suite on the arm that `EVERPULSE_ARM` names, and writes what came of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use everpulse::Worker;
use everpulse::client::Client;
use everpulse_conformance::case::Stage;
use everpulse_conformance::logs::Logs;
use everpulse_conformance::report::{self, Report, Row};
use everpulse_conformance::suite::{self, Case};
use everpulse_conformance::{case, crash, gaps, handlers, plugins};
use everpulse_integration_tests::Arm;
use futures::StreamExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays all cases.
    Run {
        /// The folder of the suite's requirements.
        #[arg(long)]
        cases: PathBuf,
        /// Where the report goes.
        #[arg(long)]
        report: PathBuf,
        /// Only these; the report has no others.
        #[arg(long = "case")]
        only: Vec<String>,
    },
    /// Is a worker that is killed: the program starts it itself.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        url: String,
        /// Where it says what its runs log.
        #[arg(long)]
        logs: PathBuf,
    },
    /// Compares the document with reports, or writes it.
    Document {
        #[arg(long)]
        document: PathBuf,
        #[arg(long)]
        write: bool,
        reports: Vec<PathBuf>,
    },
}

/// So many cases are played at a time: some of them give whoever calls back only seconds.
const AT_ONCE: usize = 12;

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run { cases, report, only } => run(&cases, &report, &only),
        Command::Serve { url, logs } => {
            serve(&url, logs)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Document { document, write, reports } => {
            compare(&document, write, &reports)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn listen(logs: &Logs) {
    let shown =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(EnvFilter::from_default_env());
    tracing_subscriber::registry().with(logs.clone()).with(shown).init();
    logs.hear_replays();
}

#[tokio::main]
async fn serve(url: &str, logs: PathBuf) -> Result<()> {
    listen(&Logs::in_file(logs));
    crash::serve(url).await
}

#[tokio::main]
async fn run(cases: &Path, report: &Path, only: &[String]) -> Result<ExitCode> {
    let logs = Logs::default();
    listen(&logs);
    let mut cases = suite::read(cases)?;
    if let Some(unknown) = only.iter().find(|id| cases.iter().all(|case| case.id != **id)) {
        bail!("the suite has no case {unknown}");
    }
    cases.retain(|case| only.is_empty() || only.contains(&case.id));
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await.context("connecting a client")?;
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?.check_determinism(true);
    let worker = plugins::register(handlers::register(worker), &logs).spawn().await.context("starting a worker")?;
    let stage = Stage { client, logs, frames: None };
    let played = cases.into_iter().map(|case| played(&stage, case));
    let cases = futures::stream::iter(played).buffered(AT_ONCE).collect().await;
    worker.stop().await;
    let name = std::env::var("EVERPULSE_ARM").unwrap_or_else(|_| "embedded".to_owned());
    let told = Report { arm: name, cases };
    for row in told.cases.iter().filter(|row| !row.differences.is_empty()) {
        eprintln!("{} fails:\n  {}", row.id, row.differences.join("\n  "));
    }
    let (apply, pass) = told.counts();
    eprintln!("{} cases on the arm {}: {apply} apply, {pass} of them pass", told.cases.len(), told.arm);
    std::fs::write(report, serde_json::to_string_pretty(&told)?).with_context(|| report.display().to_string())?;
    Ok(if apply == pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn played(stage: &Stage, case: Case) -> Row {
    let gap = gaps::reason(&case.id);
    let played = match (gap, crash::of(&case.id)) {
        (Some(_), _) => Ok(Vec::new()),
        (None, Some(crash)) => crash::play(&case, crash).await,
        (None, None) => case::play(stage, &case).await,
    };
    let differences = played.unwrap_or_else(|error| vec![format!("{error:#}")]);
    let composed = gaps::composed(&case.id).map(str::to_owned);
    Row { id: case.id, family: case.family, gap: gap.map(str::to_owned), composed, differences }
}

fn compare(document: &Path, write: bool, reports: &[PathBuf]) -> Result<()> {
    let reports = reports.iter().map(|file| report::read(file)).collect::<Result<Vec<_>>>()?;
    let before = std::fs::read_to_string(document).unwrap_or_default();
    let now = report::document(&reports, &before)?;
    if write {
        return std::fs::write(document, now).with_context(|| document.display().to_string());
    }
    if now != before {
        bail!("{} is not what came of the cases; `cargo xtask conformance --write` writes it anew", document.display());
    }
    Ok(())
}
