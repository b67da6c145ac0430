//! `cargo xtask soak`: what tests check in short, at length, with a report that is committed.
//!
//! The test does the checking and gives figures, one JSON line per mode; this adds when, where and on which commit.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::root;

mod simulation;

#[derive(Debug, Clone, Subcommand)]
pub enum Soak {
    /// Kill the broker by SIGKILL under load, again and again, in both modes.
    BrokerKill(BrokerKill),
    /// Let runs live longer than history is kept, with a worker that is killed now and then.
    Retention(Retention),
    /// Play seeds for minutes, then break each rule in turn until the simulation notices.
    Simulation(simulation::Options),
}

#[derive(Debug, Clone, Args)]
pub struct Retention {
    #[arg(long, default_value_t = 5)]
    minutes: u32,
}

#[derive(Debug, Clone, Args)]
pub struct BrokerKill {
    /// Kills in each mode that count: at least 1,000 receipts before them, sends in flight.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Repeats the choices of a run.
    #[arg(long)]
    seed: Option<u64>,
}

const BROKER_KILL: &str = "\
# Soak: a broker that is killed

Written by `cargo xtask soak broker-kill`; the test is `broker/tests/kill`. In each life of the broker four producers
write to three topics (one under deduplication, whose producer sends again what had no receipt), three Shared consumers
receive and acknowledge most of it, and after at least 1,000 receipts the process is killed by SIGKILL at a random moment.
After each restart everything that is delivered is compared with what the clients know: each message with a receipt is
there, at its position, once and in its producer's order; nothing acknowledged returns except the newest acks of the life
that ended (cursors are persisted about once a second, as in Apache Pulsar): the acks of a subscription are known up to
some point and forgotten from there on, and an ack that a restarted broker knew is never forgotten later.

This is a killed process, not a lost machine: what the operating system had been given is there, synced or not. Lost
unsynced writes are the subject of `broker/src/storage/crash.rs`, in simulation.
";

const RETENTION: &str = "\
# Soak: runs that outlive their history

Written by `cargo xtask soak retention`; the test is `integration-tests/tests/retention.rs`. History is kept for a minute.
Twice a second two dozen runs with an argument of 3 kB start and end, and eight runs that live from the first second to
the last are sent a signal each, while the only worker is killed by SIGKILL and followed by another every 97 turns. At the
end each of the eight runs has got each of its signals once and in order, and the checker finds no fault in what is left of
history: what was carried forward says what stood, and nothing was trimmed that is needed.

*Needed* is what the cursor `janitor` has not let go of both history partitions; *stored* is what the broker still has of
them. The embedded broker gives space back by segments of 64 MiB that all topics share, so what it stores is ahead of what
is needed by up to that much.
";

/// # Errors
/// When the test fails, or the report cannot be written.
pub fn run(soak: &Soak) -> anyhow::Result<()> {
    let began = Instant::now();
    let (name, head, columns, rows, figures): (_, _, _, &[(&str, &str)], _) = match soak {
        Soak::Simulation(options) => return write("simulation", simulation::run(options)?),
        Soak::BrokerKill(options) => {
            let seed = options.seed.map(|seed| ("EVERPULSE_SEED", seed.to_string()));
            let vars = [("EVERPULSE_KILLS", options.kills.to_string())].into_iter().chain(seed);
            let figures = figures("broker-kill", ["everpulse-broker", "kill"], vars)?;
            ("broker-kill", BROKER_KILL, "mode", BROKER_KILL_ROWS, figures)
        }
        Soak::Retention(options) => {
            let vars = [("EVERPULSE_SOAK_MINUTES", options.minutes.to_string())];
            let figures = figures("retention", ["everpulse-integration-tests", "retention"], vars)?;
            ("retention", RETENTION, "arm", RETENTION_ROWS, figures)
        }
    };
    write(name, report(head, columns, rows, &figures, began.elapsed().as_secs())?)
}

fn write(name: &str, report: String) -> anyhow::Result<()> {
    let path = root().join(format!("docs/soak/{name}.md"));
    fs::create_dir_all(root().join("docs/soak")).context("cannot create docs/soak")?;
    fs::write(&path, report).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", shown(&path));
    Ok(())
}

/// Runs the test; gives its figures, one JSON line each.
fn figures(
    name: &str,
    [package, test]: [&str; 2],
    vars: impl IntoIterator<Item = (&'static str, String)>,
) -> anyhow::Result<String> {
    let figures = root().join(format!("target/soak-{name}.jsonl"));
    if figures.exists() {
        fs::remove_file(&figures).with_context(|| format!("cannot remove {}", figures.display()))?;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo.args(["test", "--package", package, "--bins", "--test", test]);
    // One after the other, so that the figures of one are not the other's load.
    cargo.args(["--", "--nocapture", "--test-threads", "1"]);
    cargo.envs(vars).env("EVERPULSE_SOAK_OUT", &figures);
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the soak failed ({status}); what it found stands above");
    }
    fs::read_to_string(&figures).with_context(|| format!("cannot read {}", figures.display()))
}

const BROKER_KILL_ROWS: &[(&str, &str)] = &[
    ("seed", "seed"),
    ("kills, all checks passed", "kills"),
    ("further kills that found nothing in flight", "kills_without_sends_in_flight"),
    ("receipts", "receipts"),
    ("receipts per kill", "receipts_per_kill"),
    ("sends in flight at the kill", "in_flight_at_kill"),
    ("acks that a kill made the broker forget", "acks_forgotten_by_kill"),
    ("start on the directory, ms", "start_ms"),
];

const RETENTION_ROWS: &[(&str, &str)] = &[
    ("seconds", "seconds"),
    ("retention, seconds", "retention_seconds"),
    ("kills of the worker", "kills"),
    ("runs that came and went", "short_runs"),
    ("runs that lived from the beginning to the end", "long_runs"),
    ("signals that these got", "signals"),
    ("appended to history, bytes", "appended_bytes"),
    ("needed at most, first half, bytes", "needed_max_first_half"),
    ("needed at most, second half, bytes", "needed_max_second_half"),
    ("needed in the middle, bytes", "needed_middle"),
    ("needed at the end, bytes", "needed_end"),
    ("stored at most, bytes", "stored_max"),
    ("stored in the middle, bytes", "stored_middle"),
    ("stored at the end, bytes", "stored_end"),
    ("disk of the whole broker at most, bytes", "disk_max"),
    ("disk in the middle, bytes", "disk_middle"),
    ("disk at the end, bytes", "disk_end"),
];

fn report(head: &str, columns: &str, rows: &[(&str, &str)], figures: &str, seconds: u64) -> anyhow::Result<String> {
    let lines: Vec<Value> = figures.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut report = head.to_owned();
    report.push_str(&stamp(seconds)?);
    let names: Vec<&str> = lines.iter().map(|line| line[columns].as_str().unwrap_or("?")).collect();
    writeln!(report, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()))?;
    for (words, name) in rows {
        let cells: Vec<String> = lines.iter().map(|line| cell(&line[name])).collect();
        writeln!(report, "| {words} | {} |", cells.join(" | "))?;
    }
    Ok(report)
}

/// When, on what, and how long it took.
fn stamp(seconds: u64) -> anyhow::Result<String> {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(root()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]).context("cannot ask git for the commit")?;
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let changed = if changed { ", with changes" } else { "" };
    Ok(format!("\n{date}, commit {commit}{changed}, {seconds} s, load average at the end {load}.\n\n"))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Object(spread) => {
            let of = |name: &str| spread.get(name).map(Value::to_string).unwrap_or_default();
            format!("{} / {} / {} (min / median / max)", of("min"), of("median"), of("max"))
        }
        value => value.to_string(),
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
