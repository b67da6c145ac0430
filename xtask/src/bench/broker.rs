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
    /// Messages of each run of pulsar-perf; 0 leaves it out.
    #[arg(long, default_value_t = 200_000)]
    perf_messages: u64,
    /// Only one of them: durable, relaxed, pulsar or pulsar-synced.
    #[arg(long)]
    only: Option<String>,
}

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
    if options.perf_messages > 0 {
        perf(options.perf_messages, &running.service_url, line)?;
    }
    Ok(())
}

/// `pulsar-perf`: a producer as fast as it goes; then a producer with a consumer beside it.
fn perf(messages: u64, url: &str, line: &mut Map<String, Value>) -> anyhow::Result<()> {
    let program = pulsar::distribution()?.join("bin/pulsar-perf");
    let count = messages.to_string();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env("PULSAR_MEM", "-Xmx512m").stdout(Stdio::piped()).stderr(Stdio::null());
        command
    };
    // -r: faster than any; -o: in flight.
    let produce = ["produce", "-u", url, "-m", &count, "-s", "300", "-db", "-r", "10000000", "-o", "1000"];
    let output = command(&produce).arg("perf-publish").output().context("cannot run pulsar-perf")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    line.insert("perf_publish_per_s".into(), figure(&said, "records sent --- ", " msg/s")?.into());
    line.insert("perf_publish_p50_ms".into(), figure(&said, "Aggregated latency stats --- Latency: ", "med: ")?.into());
    let consume = ["consume", "-u", url, "-m", &count, "-ss", "perf", "-sp", "Earliest", "perf-through"];
    let consumer = command(&consume).spawn().context("cannot run pulsar-perf")?;
    let producer = command(&produce).arg("perf-through").output().context("cannot run pulsar-perf")?;
    if !producer.status.success() {
        bail!("pulsar-perf produce failed ({})", producer.status);
    }
    let output = consumer.wait_with_output().context("pulsar-perf consume")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    line.insert("perf_end_to_end_per_s".into(), figure(&said, "records received --- ", " msg/s")?.into());
    Ok(())
}

/// The number beside `near` in the last line that has `start`.
fn figure(said: &str, start: &str, near: &str) -> anyhow::Result<f64> {
    let line = said.lines().rev().find(|line| line.contains(start) && line.contains(near));
    let line = line.with_context(|| format!("pulsar-perf did not say `{start}`:\n{said}"))?;
    let number = if near.ends_with("/s") {
        line.split(near).next().and_then(|before| before.rsplit(' ').next())
    } else {
        line.split(near).nth(1).and_then(|after| after.split_whitespace().next())
    };
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no number in `{line}`"))
}

fn memory_mb(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kb = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1)?.parse::<f64>().ok());
    (kb.unwrap_or(0.0) / 102.4).round() / 10.0
}

fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
