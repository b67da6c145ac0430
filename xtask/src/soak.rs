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

#[derive(Debug, Clone, Subcommand)]
pub enum Soak {
    /// Kill the broker by SIGKILL under load, again and again, in both modes.
    BrokerKill(Options),
}

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Kills in each mode that count: at least 1,000 receipts before them, sends in flight.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Repeats the choices of a run.
    #[arg(long)]
    seed: Option<u64>,
}

const HEAD: &str = "\
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

/// # Errors
/// When the test fails, or the report cannot be written.
pub fn run(soak: &Soak) -> anyhow::Result<()> {
    let Soak::BrokerKill(options) = soak;
    let figures = root().join("target/soak-broker-kill.jsonl");
    if figures.exists() {
        fs::remove_file(&figures).with_context(|| format!("cannot remove {}", figures.display()))?;
    }
    let began = Instant::now();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["test", "--package", "everpulse-broker", "--test", "kill"]);
    // One mode after the other, so that the figures of one are not the other's load.
    cargo.args(["--", "--nocapture", "--test-threads", "1"]);
    cargo.env("EVERPULSE_KILLS", options.kills.to_string()).env("EVERPULSE_SOAK_OUT", &figures);
    if let Some(seed) = options.seed {
        cargo.env("EVERPULSE_SEED", seed.to_string());
    }
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the soak failed ({status}); the seed stands above");
    }
    let text = fs::read_to_string(&figures).with_context(|| format!("cannot read {}", figures.display()))?;
    let report = report(&text, began.elapsed().as_secs())?;
    let path = root().join("docs/soak/broker-kill.md");
    fs::create_dir_all(root().join("docs/soak")).context("cannot create docs/soak")?;
    fs::write(&path, report).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", shown(&path));
    Ok(())
}

fn report(figures: &str, seconds: u64) -> anyhow::Result<String> {
    let lines: Vec<Value> = figures.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut report = HEAD.to_owned();
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
    writeln!(report, "\n{date}, commit {commit}{changed}, {seconds} s, load average at the end {load}.\n")?;
    let modes: Vec<&str> = lines.iter().map(|line| line["mode"].as_str().unwrap_or("?")).collect();
    writeln!(report, "| | {} |\n|---|{}", modes.join(" | "), "---|".repeat(modes.len()))?;
    let rows = [
        ("seed", "seed"),
        ("kills, all checks passed", "kills"),
        ("further kills that found nothing in flight", "kills_without_sends_in_flight"),
        ("receipts", "receipts"),
        ("receipts per kill", "receipts_per_kill"),
        ("sends in flight at the kill", "in_flight_at_kill"),
        ("acks that a kill made the broker forget", "acks_forgotten_by_kill"),
        ("start on the directory, ms", "start_ms"),
    ];
    for (words, name) in rows {
        let cells: Vec<String> = lines.iter().map(|line| cell(&line[name])).collect();
        writeln!(report, "| {words} | {} |", cells.join(" | "))?;
    }
    Ok(report)
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
