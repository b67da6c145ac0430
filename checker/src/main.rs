//! `everpulse-checker`: judges the history of a running application. Reads arguments and prints; decides nothing.

use std::path::PathBuf;
use std::process::ExitCode;

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
    #[arg(long, env = "EVERPULSE_TOKEN", hide_env_values = true)]
    token: Option<String>,
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
    let options = Options {
        service_url: arguments.url,
        admin_url: arguments.admin_url,
        token: arguments.token,
        namespace: arguments.namespace,
        ledger: arguments.ledger,
        rules: Rules { ordered_workflows: arguments.ordered },
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
