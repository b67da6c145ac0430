//! `cargo xtask bench`: the workloads W1 to W5 on both arms, one JSON line per row on stdout. W7, which takes minutes, is
//! measured only where it is named (see `parked`).
//!
//! What is measured is the program `bench` of the examples, in release. Each repetition is a fresh process on a fresh
//! directory or namespace, so that no row pays for another; the figures of a row are the medians of its repetitions,
//! memory their greatest, and `spread` is (greatest - least) / median of the row's leading figure: p50 where one run is
//! in flight, runs per second else.
//!
//! The mode says what a receipt means: `durable` is fsynced, in the embedded broker and (by `journalSyncData`) in
//! Pulsar; `relaxed` is not, which is what Pulsar's standalone does by default.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::pulsar;

pub mod broker;
mod parked;

/// `cargo xtask bench`, with a word behind it or not.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Our broker beside Apache Pulsar's standalone, single messages.
    Broker(broker::Options),
}

impl Bench {
    /// # Errors
    /// When something cannot be built, started or measured.
    pub fn run(&self) -> anyhow::Result<()> {
        match &self.other {
            Some(Other::Broker(options)) => broker::run(options),
            None => run(&self.options),
        }
    }
}

/// What is measured; without a choice, all of it in durable mode.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[arg(long, value_enum)]
    arm: Option<Arm>,
    #[arg(long, value_enum, default_value = "durable")]
    mode: Mode,
    /// Whether activities go through their topic (remote) or are started by their run's owner (eager)
    #[arg(long, value_enum)]
    placement: Option<Placement>,
    #[arg(long, value_enum)]
    workload: Option<Workload>,
    /// Repetitions of each row
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    reps: u32,
    /// Pulsar's managedLedgerNewEntriesCheckDelayInMillis, instead of both 10 (its default) and 0
    #[arg(long)]
    check_delay_ms: Option<u64>,
    /// Percent of each row's runs, for a quick look
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    scale: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Arm {
    Embedded,
    Pulsar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Durable,
    Relaxed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Placement {
    Remote,
    Eager,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "verbatim")]
enum Workload {
    W1,
    W2,
    W3,
    W4,
    W5,
    W7,
}

/// One row: so many runs, so many at a time; of W2 to W4 also how many activities or steps a run has.
#[derive(Debug, Clone, Copy)]
struct Row {
    workload: Workload,
    n: u32,
    in_flight: u32,
    width: Option<u32>,
}

const fn row(workload: Workload, n: u32, in_flight: u32, width: Option<u32>) -> Row {
    Row { workload, n, in_flight, width }
}

const ROWS: [Row; 10] = [
    row(Workload::W1, 200, 1, None),
    row(Workload::W1, 4_000, 100, None),
    row(Workload::W1, 10_000, 1_000, None),
    row(Workload::W2, 50, 1, Some(10)),
    row(Workload::W2, 1_000, 100, Some(10)),
    row(Workload::W3, 30, 1, Some(100)),
    row(Workload::W3, 10, 1, Some(1_000)),
    row(Workload::W4, 50, 1, Some(10)),
    row(Workload::W4, 2_000, 100, Some(10)),
    row(Workload::W5, 500, 500, None),
];

impl Row {
    /// The placements that differ for it: where there are no activities there is nothing to place.
    fn placements(self, chosen: Option<Placement>) -> Vec<Placement> {
        match (self.workload, chosen) {
            (Workload::W4 | Workload::W5, _) => vec![Placement::Remote],
            (_, Some(placement)) => vec![placement],
            (_, None) => vec![Placement::Remote, Placement::Eager],
        }
    }
}

/// What the measured program prints.
#[derive(Debug, Clone, Deserialize)]
struct Figures {
    p50_ms: f64,
    p99_ms: f64,
    per_s: f64,
    cpu_s: f64,
    peak_mb: f64,
    broker_cpu_s: Option<f64>,
    broker_peak_mb: Option<f64>,
    activities_per_s: Option<f64>,
    fired_late_p50_ms: Option<f64>,
    fired_late_p99_ms: Option<f64>,
}

/// What is printed, in this order. `cpu_s` and `peak_mb` are worker's and client's (and the embedded broker's); a
/// Pulsar's stand beside them.
#[derive(Debug, Serialize)]
struct Line {
    system: &'static str,
    arm: Arm,
    mode: Mode,
    placement: Placement,
    workload: Workload,
    n: u32,
    in_flight: u32,
    p50_ms: f64,
    p99_ms: f64,
    per_s: f64,
    cpu_s: f64,
    peak_mb: f64,
    reps: u32,
    spread: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    check_delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activities_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fired_late_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fired_late_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker_peak_mb: Option<f64>,
}

/// Builds the measured program, and measures.
///
/// # Errors
/// When it cannot be built, a Pulsar cannot be started, or a run fails.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.workload == Some(Workload::W7) {
        return parked::run(options.scale, options.mode == Mode::Relaxed);
    }
    let program = build(&["--package", "everpulse-examples", "--bin", "bench"])?;
    let chosen = |arm| options.arm.is_none_or(|chosen| chosen == arm);
    if chosen(Arm::Embedded) {
        let place = crate::root().join("target/bench");
        fs::create_dir_all(&place).with_context(|| format!("cannot create {}", place.display()))?;
        rows(options, &program, &Broker::Embedded { place })?;
    }
    if chosen(Arm::Pulsar) {
        let delays = options.check_delay_ms.map_or_else(|| vec![10, 0], |delay| vec![delay]);
        for check_delay_ms in delays {
            let name = format!("bench-{check_delay_ms}");
            let start = pulsar::Options {
                name: name.clone(),
                check_delay_ms: Some(check_delay_ms),
                fresh: true,
                journal_sync: options.mode == Mode::Durable,
                ..pulsar::Options::default()
            };
            let instance = pulsar::start(&start)?;
            let measured = rows(options, &program, &Broker::Pulsar { instance, check_delay_ms });
            pulsar::stop(&name)?;
            measured?;
        }
    }
    Ok(())
}

fn build(what: &[&str]) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::root());
    cargo.args(["build", "--release", "--quiet"]).args(what);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let built = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !built.status.success() {
        bail!("the measured program cannot be built");
    }
    // Cargo knows where its target directory is; the last executable it names is the one that was asked for.
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executable.context("cargo did not say where the measured program is")
}

/// A broker to measure on; every repetition gets a place of its own there.
enum Broker {
    Embedded { place: PathBuf },
    Pulsar { instance: pulsar::Instance, check_delay_ms: u64 },
}

impl Broker {
    fn arm(&self) -> Arm {
        match self {
            Self::Embedded { .. } => Arm::Embedded,
            Self::Pulsar { .. } => Arm::Pulsar,
        }
    }
}

fn rows(options: &Options, program: &Path, broker: &Broker) -> anyhow::Result<()> {
    let mut serial = 0_u32;
    for row in ROWS.iter().filter(|row| options.workload.is_none_or(|workload| workload == row.workload)) {
        for placement in row.placements(options.placement) {
            let scaled = u64::from(row.n) * u64::from(options.scale) / 100;
            let n = u32::try_from(scaled).unwrap_or(row.n).max(row.in_flight.min(row.n)).max(2);
            let mut figures = Vec::new();
            for repetition in 1..=options.reps {
                let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
                let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
                eprintln!(
                    "{:?} {:?} {placement:?}, {} in flight, {repetition} of {}; load {load}",
                    broker.arm(),
                    row.workload,
                    row.in_flight,
                    options.reps
                );
                serial += 1;
                figures.push(measure(program, broker, options.mode, placement, &Row { n, ..*row }, serial)?);
            }
            let line = line(broker, options, placement, &Row { n, ..*row }, &figures);
            println!("{}", serde_json::to_string(&line)?);
        }
    }
    Ok(())
}

fn measure(
    program: &Path,
    broker: &Broker,
    mode: Mode,
    placement: Placement,
    row: &Row,
    serial: u32,
) -> anyhow::Result<Figures> {
    let mut command = Command::new(program);
    command.args(["--workload", &format!("{:?}", row.workload), "--n", &row.n.to_string()]);
    command.args(["--in-flight", &row.in_flight.to_string()]);
    if let Some(width) = row.width {
        command.args(["--width", &width.to_string()]);
    }
    if placement == Placement::Eager {
        command.arg("--eager");
    }
    let mut remove_after = None;
    match broker {
        Broker::Embedded { place } => {
            let dir = place.join(format!("{}-{serial}", std::process::id()));
            let mode = if mode == Mode::Relaxed { "?mode=relaxed" } else { "" };
            command.args(["--url", &format!("embedded:{}{mode}", dir.display())]);
            remove_after = Some(dir);
        }
        Broker::Pulsar { instance, .. } => {
            let (service, admin) = (&instance.service_url, &instance.admin_url);
            command.args(["--url", &format!("{service}/public/bench-{serial}?admin={admin}")]);
            command.args(["--broker-pid", &instance.pid.to_string()]);
        }
    }
    // What the environment says of brokers is not meant for what is measured.
    command.env_remove("EVERPULSE_URL").env_remove("EVERPULSE_ADMIN_URL");
    let output = command.stderr(Stdio::inherit()).output();
    if let Some(dir) = remove_after {
        fs::remove_dir_all(dir).ok();
    }
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("{command:?} failed with {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the measured program did not print its figures")
}

fn line(broker: &Broker, options: &Options, placement: Placement, row: &Row, figures: &[Figures]) -> Line {
    let values = |of: fn(&Figures) -> f64| figures.iter().map(of).collect::<Vec<f64>>();
    let some = |of: fn(&Figures) -> Option<f64>| {
        let values: Option<Vec<f64>> = figures.iter().map(of).collect();
        values.map(|values| rounded(median(&values)))
    };
    let leading = if row.in_flight == 1 { values(|of| of.p50_ms) } else { values(|of| of.per_s) };
    Line {
        system: "everpulse",
        arm: broker.arm(),
        mode: options.mode,
        placement,
        workload: row.workload,
        n: row.n,
        in_flight: row.in_flight,
        p50_ms: rounded(median(&values(|of| of.p50_ms))),
        p99_ms: rounded(median(&values(|of| of.p99_ms))),
        per_s: rounded(median(&values(|of| of.per_s))),
        cpu_s: rounded(median(&values(|of| of.cpu_s))),
        peak_mb: rounded(greatest(&values(|of| of.peak_mb))),
        reps: options.reps,
        spread: rounded((greatest(&leading) - least(&leading)) / median(&leading).max(f64::MIN_POSITIVE)),
        check_delay_ms: match broker {
            Broker::Embedded { .. } => None,
            Broker::Pulsar { check_delay_ms, .. } => Some(*check_delay_ms),
        },
        width: row.width,
        activities_per_s: some(|of| of.activities_per_s),
        fired_late_p50_ms: some(|of| of.fired_late_p50_ms),
        fired_late_p99_ms: some(|of| of.fired_late_p99_ms),
        broker_cpu_s: some(|of| of.broker_cpu_s),
        broker_peak_mb: some(|of| of.broker_peak_mb),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or_default();
    if values.len().is_multiple_of(2) && !values.is_empty() {
        (upper + values[values.len() / 2 - 1]) / 2.0
    } else {
        upper
    }
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_fields_in_their_order_and_medians_of_the_repetitions() {
        let figures = |p50_ms: f64, peak_mb: f64| Figures {
            p50_ms,
            p99_ms: 9.0,
            per_s: 100.0,
            cpu_s: 0.5,
            peak_mb,
            broker_cpu_s: None,
            broker_peak_mb: None,
            activities_per_s: None,
            fired_late_p50_ms: None,
            fired_late_p99_ms: None,
        };
        let options = Options {
            arm: None,
            mode: Mode::Durable,
            placement: None,
            workload: None,
            reps: 3,
            check_delay_ms: None,
            scale: 100,
        };
        let broker = Broker::Embedded { place: PathBuf::new() };
        let figures = [figures(2.0, 30.0), figures(4.0, 50.0), figures(3.0, 40.0)];
        let line = line(&broker, &options, Placement::Remote, &ROWS[0], &figures);
        assert_eq!(
            serde_json::to_string(&line).expect("it is plain"),
            r#"{"system":"everpulse","arm":"embedded","mode":"durable","placement":"remote","workload":"W1","n":200,"in_flight":1,"p50_ms":3.0,"p99_ms":9.0,"per_s":100.0,"cpu_s":0.5,"peak_mb":50.0,"reps":3,"spread":0.667}"#
        );
    }

    #[test]
    fn a_row_without_activities_is_measured_once() {
        assert_eq!(ROWS[8].placements(Some(Placement::Eager)), [Placement::Remote]);
        assert_eq!(ROWS[0].placements(None), [Placement::Remote, Placement::Eager]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
