//! The broker as a program of its own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use everpulse_broker::semantics::limits::Ceilings;
use everpulse_broker::server::Limits;
use everpulse_broker::{Embedded, Mode, Options, storage};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// With `--relaxed`: a client on the same machine has taken its receipt and sent the next message by then. A synced disk
/// takes longer than any waking.
const BUSY_POLL_US: u64 = 100;

/// A single-node broker that speaks Apache Pulsar's protocol.
///
/// Prints one line of JSON with its addresses when it is ready. Ends cleanly on SIGTERM and Ctrl-C.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where messages are kept.
    #[arg(long)]
    data: PathBuf,
    /// Port for clients; 0 is a free one.
    #[arg(long, default_value_t = 6650)]
    port: u16,
    /// Port of the admin REST API; 0 is a free one.
    #[arg(long, default_value_t = 8080)]
    admin_port: u16,
    /// A receipt means written, not synced to disk.
    #[arg(long)]
    relaxed: bool,
    /// Address to listen on; anything but loopback needs a token.
    #[arg(long, default_value = "127.0.0.1")]
    listen: IpAddr,
    /// A file with the token that clients must present.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Microseconds to keep polling after something came, before sleeping: shorter latencies for a busier processor
    /// [default: 100 with --relaxed, else 0]
    #[arg(long, value_parser = number(0..=1_000_000))]
    busy_poll_us: Option<u64>,
    /// The largest message, metadata included.
    #[arg(long, default_value_t = Limits::default().message_bytes as u64, value_parser = number(1 << 10..=128 << 20))]
    max_message_bytes: u64,
    /// For what is on its way between sockets and disk; above it, producers wait.
    #[arg(long, default_value_t = Limits::default().memory_bytes as u64, value_parser = number(16 << 20..=1 << 40))]
    memory_bytes: u64,
    /// For finding the messages that are kept, about 1 to 10 bytes each; above it, producers wait until consumers have
    /// caught up.
    #[arg(long, default_value_t = Limits::default().index_bytes as u64, value_parser = number(1 << 20..=1 << 40))]
    index_bytes: u64,
    /// Further ones are refused.
    #[arg(long, default_value_t = Limits::default().connections as u64, value_parser = number(1..=1 << 20))]
    max_connections: u64,
    /// Topics in all, partitions singly.
    #[arg(long, default_value_t = Ceilings::default().topics as u64, value_parser = number(1..=1 << 32))]
    max_topics: u64,
    /// Durable ones and those of readers.
    #[arg(long, default_value_t = Ceilings::default().subscriptions_per_topic as u64, value_parser = number(1..=1 << 32))]
    max_subscriptions_per_topic: u64,
    /// Further ones are refused.
    #[arg(long, default_value_t = Ceilings::default().producers_per_connection as u64, value_parser = number(1..=1 << 32))]
    max_producers_per_connection: u64,
    /// Further ones are refused.
    #[arg(long, default_value_t = Ceilings::default().consumers_per_connection as u64, value_parser = number(1..=1 << 32))]
    max_consumers_per_connection: u64,
    /// HTTP connections of the admin; further ones wait.
    #[arg(long, default_value_t = Limits::default().admin_connections as u64, value_parser = number(1..=1 << 20))]
    max_admin_connections: u64,
    /// The largest body of a request to the admin.
    #[arg(long, default_value_t = Limits::default().admin_body_bytes as u64, value_parser = number(1 << 10..=1 << 30))]
    max_admin_body_bytes: u64,
    /// Size of the files that the log consists of; space is given back in files.
    #[arg(long, default_value_t = storage::Options::default().segment_bytes, value_parser = segment_bytes())]
    segment_bytes: u32,
}

fn number(range: std::ops::RangeInclusive<u64>) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(range)
}

fn segment_bytes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(64 * 1024..=1024 * 1024 * 1024)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("everpulse-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut options = Options::new(arguments.data);
    options.mode = if arguments.relaxed { Mode::Relaxed } else { Mode::Durable };
    options.port = arguments.port;
    options.admin_port = arguments.admin_port;
    options.listen = arguments.listen;
    let busy_poll_us = arguments.busy_poll_us.unwrap_or(if arguments.relaxed { BUSY_POLL_US } else { 0 });
    options.busy_poll = Duration::from_micros(busy_poll_us);
    options.limits.message_bytes = arguments.max_message_bytes as usize;
    options.limits.memory_bytes = arguments.memory_bytes as usize;
    options.limits.index_bytes = arguments.index_bytes as usize;
    options.limits.connections = arguments.max_connections as usize;
    options.limits.ceilings.topics = arguments.max_topics as usize;
    options.limits.ceilings.subscriptions_per_topic = arguments.max_subscriptions_per_topic as usize;
    options.limits.ceilings.producers_per_connection = arguments.max_producers_per_connection as usize;
    options.limits.ceilings.consumers_per_connection = arguments.max_consumers_per_connection as usize;
    options.limits.admin_connections = arguments.max_admin_connections as usize;
    options.limits.admin_body_bytes = arguments.max_admin_body_bytes as usize;
    options.storage.segment_bytes = arguments.segment_bytes;
    options.follow = false;
    if let Some(path) = arguments.token_file {
        let token = std::fs::read_to_string(&path)
            .map_err(|error| format!("could not read the token file {}: {error}", path.display()))?;
        let token = token.trim();
        if token.is_empty() {
            return Err(format!("the token file {} is empty", path.display()).into());
        }
        options.token = Some(token.into());
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let broker = Embedded::open(options).await?;
    let endpoint = broker.endpoint();
    let ready = serde_json::json!({
        "service_url": endpoint.service_url,
        "admin_url": endpoint.admin_url,
        "pid": std::process::id(),
    });
    println!("{ready}");
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    broker.close().await;
    Ok(())
}
