//! The broker and the worker as processes of their own, and what the system tells of them (on Linux; elsewhere zero).

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

use crate::Measure;

/// What a worker's shards are about, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Shards that are loaded.
    pub shards: u64,
    /// Open runs.
    pub open: u64,
    /// Frames of history.
    pub frames: u64,
    /// Shards of which history was carried forward and trimmed.
    pub trimmed: u64,
}

/// A broker that ends with this.
pub struct Broker {
    child: Child,
    pub url: String,
}

#[derive(Deserialize)]
struct Ready {
    service_url: String,
    admin_url: String,
}

impl Broker {
    pub async fn start(program: &Path, data: &Path, relaxed: bool) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("--data").arg(data).args(["--port", "0", "--admin-port", "0"]).args(relaxed.then_some("--relaxed"));
        let (child, mut lines) = spawn(command)?;
        let line = lines.next_line().await?.context("the broker ended before it was ready")?;
        let Ready { service_url, admin_url } = serde_json::from_str(&line).context("the broker's first line")?;
        Ok(Self { child, url: format!("{service_url}/public/parked?admin={admin_url}") })
    }

    pub async fn worker(&self, options: &Measure) -> anyhow::Result<WorkerProcess> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", "--url", &self.url]).args(options.set.arguments());
        let (child, mut lines) = spawn(command)?;
        let (told, served) = watch::channel(Served::default());
        let first = lines.next_line().await?.context("the worker ended before it served")?;
        told.send_replace(serde_json::from_str(&first)?);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(served) = serde_json::from_str(&line) {
                    told.send_replace(served);
                }
            }
        });
        Ok(WorkerProcess { child, served })
    }

    pub fn resident_mb(&self) -> f64 {
        self.child.id().map_or(0.0, resident_mb)
    }

    pub async fn stop(mut self, worker: WorkerProcess) -> anyhow::Result<()> {
        worker.kill().await?;
        self.child.kill().await.context("could not end the broker")
    }
}

/// A worker that ends with this.
pub struct WorkerProcess {
    child: Child,
    pub served: watch::Receiver<Served>,
}

impl WorkerProcess {
    pub fn resident_mb(&self) -> f64 {
        self.child.id().map_or(0.0, resident_mb)
    }

    /// The most that it had.
    pub fn peak_mb(&self) -> f64 {
        self.child.id().map_or(0.0, |pid| status_mb(pid, "VmHWM:"))
    }

    /// Returns when history has not grown for two seconds.
    pub async fn quiet(&mut self) -> anyhow::Result<()> {
        let mut frames = 0;
        loop {
            let grew = tokio::time::timeout(Duration::from_secs(2), self.served.wait_for(|now| now.frames > frames));
            match grew.await {
                Ok(Ok(now)) => frames = now.frames,
                Ok(Err(_)) => bail!("the worker ended"),
                Err(_) => return Ok(()),
            }
        }
    }

    /// As `kill -9` does.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("could not kill the worker")
    }
}

fn spawn(mut command: Command) -> anyhow::Result<(Child, Lines<BufReader<ChildStdout>>)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.env_remove("EVERPULSE_URL").env_remove("EVERPULSE_ADMIN_URL");
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let stdout = child.stdout.take().context("its output is piped")?;
    Ok((child, BufReader::new(stdout).lines()))
}

/// The memory that a process has now.
pub fn resident_mb(pid: u32) -> f64 {
    status_mb(pid, "VmRSS:")
}

/// How much a directory holds.
pub fn disk_mb(dir: &Path) -> f64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0.0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_mb(&entry.path()),
        Ok(metadata) => metadata.len() as f64 / 1_048_576.0,
        Err(_) => 0.0,
    };
    entries.flatten().map(of).sum()
}

fn status_mb(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let kb: f64 = value.and_then(|value| value.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or_default();
    kb / 1024.0
}
