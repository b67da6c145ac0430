//! `orders`: a checkout for each line of a CSV file, in one process with no server, or on another broker by `--url`.
//!
//! ```text
//!   orders.csv ──► input ──► start "order-ID" ──► checkout ──► result ──► report ◄── orders.sqlite
//!                            (attaches to the run   │  ▲
//!                             of an earlier start)  ▼  │
//!                                               Warehouse, Payments ──► store
//! ```
//! Kill it at any moment and start it again: what was begun is finished, and nothing is charged twice.

mod input;
mod report;
mod shop;
mod store;

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use everpulse::client::{ErrorKind, ResultError};
use everpulse::prelude::*;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::input::{Input, Order};
use crate::report::{Ending, Report, contradictions};
use crate::shop::{CheckoutError, Payments, Warehouse, checkout};
use crate::store::Store;

/// Runs a checkout for each order of a CSV file. Stopped at any moment and started again, it finishes the rest.
///
/// Exit code 0: every order ended, and the database agrees.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where orders.sqlite and the broker's files lie
    #[arg(long)]
    data: PathBuf,
    /// The file of orders: order_id,customer,sku,quantity,cents [default: the one that comes with the example]
    #[arg(long, value_name = "FILE.csv")]
    orders: Option<PathBuf>,
    /// Another broker than the one in this process: pulsar://HOST:PORT/TENANT/NAMESPACE
    #[arg(long)]
    url: Option<String>,
    /// End with one line of JSON on stdout
    #[arg(long)]
    json: bool,
    /// Orders that are on their way at a time
    #[arg(long, default_value_t = 200)]
    in_flight: usize,
}

const SHIPPED: &[u8] = include_bytes!("data/orders.csv");
/// Bad lines that are shown; all are counted.
const BAD_SHOWN: usize = 5;

#[tokio::main]
async fn main() -> ExitCode {
    // RUST_LOG overrides it. The client library below tells every reconnect, which is not for users.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "error,pulsar=off".to_owned());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let input = read(arguments.orders.as_deref())?;
    let (bad_lines, duplicates) = (input.bad.len(), input.duplicates);
    std::fs::create_dir_all(&arguments.data)
        .with_context(|| format!("cannot make the directory {}", arguments.data.display()))?;
    let database = arguments.data.join("orders.sqlite");
    let store = Store::open(&database).with_context(|| format!("cannot open {}", database.display()))?;
    let store = Arc::new(store);
    let url = arguments.url.unwrap_or_else(|| format!("embedded:{}", arguments.data.display()));

    let worker = Worker::connect(&url)
        .await?
        .workflow(checkout)
        .activities(Payments { store: Arc::clone(&store) })
        .activities(Warehouse { store: Arc::clone(&store) })
        .spawn()
        .await?;
    let client = Client::connect(&url).await?;
    let ended = tokio::select! {
        ended = all(&client, input.orders, arguments.in_flight.max(1)) => Some(ended?),
        interrupted = tokio::signal::ctrl_c() => { interrupted?; None }
    };
    worker.stop().await;
    let Some(ended) = ended else {
        eprintln!("stopped; start again with the same --data to finish the rest");
        return Ok(ExitCode::from(130));
    };

    let facts = store.facts().context("cannot read the database")?;
    let report = Report::new(&ended, &facts, bad_lines, duplicates);
    for (order, why) in ended.iter().filter_map(|(order, ending)| match ending {
        Ending::Failed { why } => Some((order, why)),
        _ => None,
    }) {
        eprintln!("order {:?} failed: {why}", order.id);
    }
    let (attempts, repeated) = store.attempts().context("cannot read the database")?;
    eprintln!("the payment provider was asked {attempts} times, {repeated} of them again with the same key");
    if arguments.json {
        writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(std::io::stdout().lock(), "{report}")?;
    }
    let contradictions = contradictions(&ended, &facts);
    for contradiction in contradictions.iter().take(BAD_SHOWN) {
        eprintln!("{contradiction}");
    }
    if !contradictions.is_empty() {
        bail!(
            "{} orders do not add up with {}; were they run before with another database? then use another namespace",
            contradictions.len(),
            database.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: Option<&Path>) -> anyhow::Result<Input> {
    let input = match path {
        None => Input::read(SHIPPED),
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            Input::read(file).with_context(|| format!("{} is no file of orders", path.display()))
        }
    }?;
    for bad in input.bad.iter().take(BAD_SHOWN) {
        eprintln!("left out: {bad}");
    }
    if input.bad.len() > BAD_SHOWN {
        eprintln!("left out: {} more bad lines", input.bad.len() - BAD_SHOWN);
    }
    Ok(input)
}

/// Starts every order and waits for its end, a bounded number at a time.
async fn all(client: &Client, orders: Vec<Order>, in_flight: usize) -> anyhow::Result<Vec<(Order, Ending)>> {
    let progress = Progress::new(orders.len());
    let mut ends =
        futures::stream::iter(orders).map(async |order| (one(client, &order).await, order)).buffer_unordered(in_flight);
    let mut ended = Vec::new();
    while let Some((ending, order)) = ends.next().await {
        ended.push((order, ending?));
        progress.ended(ended.len());
    }
    progress.done();
    Ok(ended)
}

/// One order. Its id is that of the order, so a second start, now or after a crash, attaches to the same run.
async fn one(client: &Client, order: &Order) -> anyhow::Result<Ending> {
    loop {
        let run = match client.start(checkout(order.clone())).id(format!("order-{}", order.id)).await {
            Ok(run) => run,
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unreachable) => continue,
            Err(error) => return Err(error.into()),
        };
        return Ok(match run.result().await {
            Ok(receipt) => Ending::Charged { took: receipt.took },
            Err(ResultError::Failed(Failure::Failed(CheckoutError::Declined { took }))) => Ending::Declined { took },
            Err(ResultError::Failed(failure)) => Ending::Failed { why: failure.to_string() },
            // The run goes on; only the answer is late.
            Err(ResultError::Timeout(_) | ResultError::Unreachable(_)) => continue,
            Err(error) => bail!("order {:?}: {error}", order.id),
        });
    }
}

/// A bar where a person looks at it, and a line for each tenth where nobody does.
struct Progress {
    bar: ProgressBar,
    orders: usize,
}

impl Progress {
    fn new(orders: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(orders as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {eta} to go");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, orders }
    }

    fn ended(&self, ended: usize) {
        self.bar.set_position(ended as u64);
        let tenth = (self.orders / 10).max(1);
        if !std::io::stderr().is_terminal() && ended.is_multiple_of(tenth) {
            eprintln!("{ended} of {} orders ended", self.orders);
        }
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}
