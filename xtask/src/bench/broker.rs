//! `cargo xtask bench broker`: our broker and Apache Pulsar's standalone in one run, by the same clients.
//!
//! Two clients measure: a thin one of ours (`broker/examples/load.rs`), whose own work is small, and `pulsar-perf` of the
//! distribution. All messages are single and have 300 bytes. One JSON line per broker and repetition on stdout. `ready_ms`
//! is from starting the process to its being ready for clients; memory is the process's greatest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::pulsar;

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    reps: u32,
    /// Of each of the thin client's figures.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Of each run of pulsar-perf; 0 leaves it out.
    #[arg(long, default_value_t = 20)]
    perf_seconds: u64,
    /// Only one of them: durable, relaxed, pulsar or pulsar-synced.
    #[arg(long)]
    only: Option<String>,
}

/// A consumer lives so many seconds longer than the producer beside it: its virtual machine starts first.
const PERF_MARGIN: u64 = 6;

struct Running {
    service_url: String,
    pid: u32,
    ready_ms: f64,
    ours: Option<(Child, PathBuf)>,
}

/// # Errors
/// When something cannot be built, started or measured.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let broker = super::build(&["--package", "everpulse-broker", "--bin", "everpulse-broker"])?;
    let load = super::build(&["--package", "everpulse-broker", "--example", "load"])?;
    let systems = ["durable", "relaxed", "pulsar-synced", "pulsar"];
    for repetition in 1..=options.reps {
        for system in systems.iter().filter(|system| options.only.as_deref().is_none_or(|only| only == **system)) {
            eprintln!("{system}, {repetition} of {}; load {}", options.reps, load_average());
            let mut line = Map::from_iter([
                ("system".to_owned(), Value::from(*system)),
                ("repetition".to_owned(), repetition.into()),
                ("load".to_owned(), load_average().into()),
            ]);
            let running = start(system, &broker)?;
            let measured = measure(options, &running, &load, &mut line);
            line.insert("ready_ms".into(), running.ready_ms.round().into());
            end(running)?;
            measured?;
            println!("{}", Value::from(line));
        }
    }
    Ok(())
}

fn start(system: &str, broker: &Path) -> anyhow::Result<Running> {
    if let Some(kind) = system.strip_prefix("pulsar") {
        let start = pulsar::Options {
            name: "bench-broker".to_owned(),
            fresh: true,
            journal_sync: kind == "-synced",
            ..pulsar::Options::default()
        };
        let began = Instant::now();
        let instance = pulsar::start(&start)?;
        let ready_ms = began.elapsed().as_secs_f64() * 1000.0;
        return Ok(Running { service_url: instance.service_url, pid: instance.pid, ready_ms, ours: None });
    }
    let dir = crate::root().join("target/bench").join(format!("broker-{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut command = Command::new(broker);
    command.args(["--port", "0", "--admin-port", "0", "--data"]).arg(&dir).env("RUST_LOG", "warn");
    if system == "relaxed" {
        command.arg("--relaxed");
    }
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the broker")?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no stdout")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
    let ready_ms = began.elapsed().as_secs_f64() * 1000.0;
    let ready: Value = serde_json::from_str(&line).context("the broker did not say where it is")?;
    let service_url = ready["service_url"].as_str().context("no service_url")?.to_owned();
    Ok(Running { service_url, pid: child.id(), ready_ms, ours: Some((child, dir)) })
}

fn end(running: Running) -> anyhow::Result<()> {
    match running.ours {
        Some((mut child, dir)) => {
            child.kill().and_then(|()| child.wait()).context("cannot end the broker")?;
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))
        }
        None => pulsar::stop("bench-broker"),
    }
}

fn measure(options: &Options, running: &Running, load: &Path, line: &mut Map<String, Value>) -> anyhow::Result<()> {
    line.insert("idle_mb".into(), memory_mb(running.pid, "VmRSS").into());
    let output = Command::new(load)
        .args([&running.service_url, &options.seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the thin client")?;
    if !output.status.success() {
        bail!("the thin client failed ({})", output.status);
    }
    let figures: Map<String, Value> = serde_json::from_slice(&output.stdout).context("the thin client's figures")?;
    line.extend(figures);
    line.insert("peak_mb".into(), memory_mb(running.pid, "VmHWM").into());
    if options.perf_seconds > 0 {
        perf(options.perf_seconds, &running.service_url, line)?;
    }
    Ok(())
}

/// `pulsar-perf`: a producer as fast as it goes; then a producer with a consumer beside it. Each figure is the median of
/// what it says every second once it is warm.
fn perf(seconds: u64, url: &str, line: &mut Map<String, Value>) -> anyhow::Result<()> {
    let program = pulsar::distribution()?.join("bin/pulsar-perf");
    let command = |arguments: &[&str], seconds: u64| {
        let mut command = Command::new(&program);
        command.args(arguments).args(["-i", "1", "-time", &seconds.to_string()]);
        command.env("PULSAR_MEM", "-Xmx512m").stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    // -r: faster than any; -o: in flight.
    let produce = ["produce", "-u", url, "-s", "300", "-db", "-r", "10000000", "-o", "1000"];
    let said = ended("pulsar-perf produce", command(&produce, seconds).arg("perf-publish").output())?;
    line.insert("perf_publish_per_s".into(), steady(&said, "Publish throughput:", " msg/s")?.into());
    line.insert("perf_publish_p50_ms".into(), steady(&said, "Publish throughput:", "med: ")?.into());
    let consume = ["consume", "-u", url, "-ss", "perf", "-sp", "Earliest"];
    // It begins earlier and ends later; a second in which nothing came does not count.
    let consumer = command(&consume, seconds + PERF_MARGIN).arg("perf-through").spawn();
    let consumer = consumer.context("cannot run pulsar-perf consume")?;
    let produced = ended("pulsar-perf produce", command(&produce, seconds).arg("perf-through").output());
    let said = ended("pulsar-perf consume", consumer.wait_with_output())?;
    produced?;
    line.insert("perf_end_to_end_per_s".into(), steady(&said, "Consume throughput received:", " msgs/s")?.into());
    Ok(())
}

fn ended(what: &str, output: std::io::Result<std::process::Output>) -> anyhow::Result<String> {
    let output = output.with_context(|| format!("cannot run {what}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{what} failed ({}):\n{said}", output.status);
    }
    Ok(said)
}

/// The median of the numbers beside `near` in the lines that have `start`; the first third, in which the client's own
/// machine compiles, is left out.
fn steady(said: &str, start: &str, near: &str) -> anyhow::Result<f64> {
    let lines = said.lines().filter(|line| line.contains(start));
    let figures: Vec<f64> = lines.filter_map(|line| number(line, near)).filter(|figure| *figure > 0.0).collect();
    let mut warm = figures[figures.len() / 3..].to_vec();
    warm.sort_by(f64::total_cmp);
    warm.get(warm.len() / 2).copied().with_context(|| format!("pulsar-perf did not say `{start} .. {near}`:\n{said}"))
}

/// The number before a unit, or behind a name.
fn number(line: &str, near: &str) -> Option<f64> {
    let (before, after) = line.split_once(near)?;
    let word = if near.ends_with("/s") { before.rsplit(' ').next() } else { after.split_whitespace().next() };
    word?.parse().ok()
}

fn memory_mb(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1)?.parse::<f64>().ok());
    (kb.unwrap_or(0.0) / 102.4).round() / 10.0
}

pub(super) fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pulsar_perf_says_is_read() {
        let said = "\
            Stats - [t] [p] --- Publish throughput: 100.00 msg/s --- 7.8 Mbit/s --- Latency: med: 9.500 ms - 95pct: 1 ms\n\
            Stats - [t] [p] --- Publish throughput: 200.00 msg/s --- 7.8 Mbit/s --- Latency: med: 2.500 ms - 95pct: 1 ms\n\
            Stats - [t] [p] --- Publish throughput: 300.00 msg/s --- 7.8 Mbit/s --- Latency: med: 1.500 ms - 95pct: 1 ms\n\
            Stats - [t] [p] --- Publish throughput: 0.00 msg/s --- 0.0 Mbit/s --- Latency: med: 0.000 ms - 95pct: 0 ms\n";
        assert_eq!(steady(said, "Publish throughput:", " msg/s").ok(), Some(300.0));
        assert_eq!(steady(said, "Publish throughput:", "med: ").ok(), Some(2.5));
        assert!(steady(said, "Consume throughput received:", " msgs/s").is_err());
    }
}
