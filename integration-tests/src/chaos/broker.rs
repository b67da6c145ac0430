//! The broker, as a process of its own on either arm, which is killed, stopped and brought back.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::disk::Disk;
use super::worker::send;

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arm {
    Embedded,
    Pulsar,
}

impl Arm {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Pulsar => "pulsar",
        }
    }
}

/// How long ours may take to be ready, with what it has on its disk.
const READY: Duration = Duration::from_secs(60);

/// A broker at an address that stays.
#[derive(Debug)]
pub struct Broker {
    pub service_url: String,
    pub admin_url: String,
    way: Way,
    /// How long it took to be ready again.
    pub starts_ms: Vec<u64>,
}

#[derive(Debug)]
enum Way {
    Embedded { program: PathBuf, disk: Disk, log: PathBuf, ports: [u16; 2], child: Box<Option<Child>> },
    Pulsar { name: String, pid: u32 },
}

impl Broker {
    /// Starts ours on a disk below a folder, or a fresh Apache Pulsar.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(arm: Arm, folder: &Path) -> Result<Self> {
        match arm {
            Arm::Embedded => {
                let program = beside("everpulse-broker")?;
                let ports = free_ports()?;
                let (disk, log) = (Disk::make(folder)?, folder.join("logs").join("broker.log"));
                let mut broker = Self {
                    service_url: format!("pulsar://127.0.0.1:{}", ports[0]),
                    admin_url: format!("http://127.0.0.1:{}", ports[1]),
                    way: Way::Embedded { program, disk, log, ports, child: Box::new(None) },
                    starts_ms: Vec::new(),
                };
                broker.again().await?;
                Ok(broker)
            }
            Arm::Pulsar => {
                let name = format!("chaos-{}", std::process::id());
                let options = xtask::pulsar::Options { name: name.clone(), fresh: true, ..Default::default() };
                let instance = tokio::task::spawn_blocking(move || xtask::pulsar::start(&options)).await??;
                Ok(Self {
                    service_url: instance.service_url,
                    admin_url: instance.admin_url,
                    way: Way::Pulsar { name, pid: instance.pid },
                    starts_ms: Vec::new(),
                })
            }
        }
    }

    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &self.way {
            Way::Embedded { child, .. } => (**child).as_ref().and_then(Child::id),
            Way::Pulsar { pid, .. } => Some(*pid),
        }
    }

    /// Its disk, if that is ours to fill.
    #[must_use]
    pub fn disk(&self) -> Option<&Disk> {
        match &self.way {
            Way::Embedded { disk, .. } => Some(disk),
            Way::Pulsar { .. } => None,
        }
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it had ended by itself, which it must not.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.way {
            Way::Embedded { child, log, .. } => {
                let Some(mut child) = child.take() else { return Ok(()) };
                if let Some(status) = child.try_wait()? {
                    bail!("the broker ended by itself with {status}; see {}", log.display());
                }
                child.kill().await.context("killing the broker")
            }
            Way::Pulsar { name, .. } => {
                let name = name.clone();
                tokio::task::spawn_blocking(move || xtask::pulsar::kill(&name)).await?
            }
        }
    }

    /// Ends it with SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// When it does not end, or badly.
    pub async fn leave(&mut self) -> Result<()> {
        match &mut self.way {
            Way::Embedded { child, log, .. } => {
                let Some(mut child) = child.take() else { return Ok(()) };
                send(child.id().context("the broker ended by itself")?, Signal::TERM)?;
                let status = timeout(READY, child.wait()).await;
                let status = status.with_context(|| format!("the broker did not end within {READY:?}"))??;
                if !status.success() {
                    bail!("the broker ended with {status}; see {}", log.display());
                }
                Ok(())
            }
            Way::Pulsar { name, .. } => {
                let name = name.clone();
                tokio::task::spawn_blocking(move || xtask::pulsar::stop(&name)).await?
            }
        }
    }

    /// Stops it where it is.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn freeze(&self) -> Result<()> {
        send(self.pid().context("the broker runs")?, Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn thaw(&self) -> Result<()> {
        send(self.pid().context("the broker runs")?, Signal::CONT)
    }

    /// Starts it again on the same data and ports, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn again(&mut self) -> Result<()> {
        let began = Instant::now();
        match &mut self.way {
            Way::Embedded { program, disk, log, ports, child } => {
                let file = OpenOptions::new().create(true).append(true).open(&*log)?;
                let mut command = Command::new(&*program);
                command.arg("--data").arg(disk.data());
                command.args(["--port", &ports[0].to_string(), "--admin-port", &ports[1].to_string()]);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
                let mut started = command.spawn().with_context(|| program.display().to_string())?;
                let stdout = started.stdout.take().context("its output")?;
                let mut line = String::new();
                let said = timeout(READY, BufReader::new(stdout).read_line(&mut line)).await;
                said.with_context(|| format!("the broker was not ready within {READY:?}; see {}", log.display()))??;
                if !line.contains("service_url") {
                    bail!("the broker ended before it was ready; see {}", log.display());
                }
                **child = Some(started);
            }
            Way::Pulsar { name, pid } => {
                let options = xtask::pulsar::Options { name: name.clone(), ..Default::default() };
                *pid = tokio::task::spawn_blocking(move || xtask::pulsar::start(&options)).await??.pid;
            }
        }
        self.starts_ms.push(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Way::Pulsar { name, .. } = &self.way {
            // It may be gone already.
            let _ = xtask::pulsar::stop(name);
        }
    }
}

/// A program that was built beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.with_file_name(name);
    if !program.exists() {
        bail!("{} is missing: build it with `cargo build -p everpulse-broker`", program.display());
    }
    Ok(program)
}

/// Ports of five digits, so that a proxy's can stand for one inside a frame.
fn free_ports() -> Result<[u16; 2]> {
    let mut held = Vec::new();
    while held.len() < 2 {
        let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
        if listener.local_addr()?.port() >= 10_000 {
            held.push(listener);
        }
    }
    Ok([held[0].local_addr()?.port(), held[1].local_addr()?.port()])
}
