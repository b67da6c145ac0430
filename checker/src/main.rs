//! `everpulse-checker`: judges the history of a running application. Reads arguments and prints; decides nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use everpulse_checker::{Options, Rules, check};

/// Reads the raw history of an application and says whether the rules held.
///
/// Exit code 0: they held; 1: they did not; 2: history could not be read.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The broker: pulsar://HOST:PORT
    #[arg(long)]
    url: String,
    /// Its admin address, http://HOST:PORT: adds the backlog's counts
    #[arg(long)]
    admin_url: Option<String>,
    /// TENANT/NAMESPACE of the application
    #[arg(long, default_value = "public/everpulse")]
    namespace: String,
    /// A file that holds a token; or EVERPULSE_TOKEN is one. An argument would be seen by everybody on the machine
    #[arg(long, env = "EVERPULSE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// JSON lines {"key","workflow_id","step","attempt","at_ms"}, one per execution of an activity
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// A workflow whose activities must settle in the order in which they were scheduled (may be repeated)
    #[arg(long = "ordered", value_name = "WORKFLOW")]
    ordered: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// With --json: every run, too
    #[arg(long, requires = "json")]
    runs: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let token = match token(arguments.token_file.as_deref()) {
        Ok(token) => token,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let options = Options {
        service_url: arguments.url,
        admin_url: arguments.admin_url,
        token,
        namespace: arguments.namespace,
        ledger: arguments.ledger,
        rules: Rules { ordered_workflows: arguments.ordered, ..Rules::default() },
    };
    let report = match check(&options).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    if arguments.json {
        println!("{}", report.to_json(arguments.runs));
    } else {
        println!("{report}");
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn token(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    if let Ok(token) = std::env::var("EVERPULSE_TOKEN") {
        return Ok(Some(token));
    }
    let Some(file) = file else { return Ok(None) };
    let token =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the token file {}", file.display()))?;
    Ok(Some(token.trim().to_owned()))
}
