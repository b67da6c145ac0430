//! A worker as a process of its own: its program, and the handle by which it is killed, stopped and continued.
//!
//! It ends by itself when its standard input does, so that nothing is left over when the conductor dies. On SIGUSR1 it
//! says on standard error what its shards are about.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use everpulse::prelude::*;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::workflows;
use crate::ledger;

/// What the program is told.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[arg(long)]
    pub url: String,
    /// Where executions are noted
    #[arg(long)]
    pub ledger: PathBuf,
    /// The folder in which an operator allows what waits for one
    #[arg(long)]
    pub allowed: PathBuf,
    #[arg(long)]
    pub retention_ms: u64,
    #[arg(long)]
    pub id_memory_ms: u64,
    /// Start activities in the owner of their run
    #[arg(long)]
    pub eager: bool,
}

impl Arguments {
    fn as_words(&self) -> Vec<String> {
        let mut words = vec!["worker".to_owned(), format!("--url={}", self.url)];
        words.push(format!("--ledger={}", self.ledger.display()));
        words.push(format!("--allowed={}", self.allowed.display()));
        words.push(format!("--retention-ms={}", self.retention_ms));
        words.push(format!("--id-memory-ms={}", self.id_memory_ms));
        words.extend(self.eager.then(|| "--eager".to_owned()));
        words
    }
}

/// The program: serves until SIGTERM.
///
/// # Errors
/// When it cannot begin to serve.
pub async fn run(arguments: Arguments) -> Result<()> {
    ledger::keep_in(&arguments.ledger);
    workflows::allowed_in(arguments.allowed);
    let worker = Worker::connect(&arguments.url).await.context("connecting")?;
    let worker = worker
        .drain(Duration::from_secs(10))
        .retention(Duration::from_millis(arguments.retention_ms))
        .id_memory(Duration::from_millis(arguments.id_memory_ms))
        .eager(arguments.eager);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut asked = signal(SignalKind::user_defined1())?;
    let handle = workflows::serve(worker).spawn().await.context("starting")?;
    println!("serving {}", handle.writer().map_or(String::new(), |writer| writer.to_string()));
    // A thread, since what blocks in the runtime would keep it from ending.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        eprintln!("the conductor is gone");
        std::process::exit(3);
    });
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = asked.recv() => {
                for (shard, status) in handle.shards().await {
                    eprintln!("shard {shard}: {status:?}");
                }
            }
        }
    }
    handle.stop().await;
    eprintln!("left");
    Ok(())
}

/// A worker process that serves. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Kept apart: whoever waits for a child closes the input that it has, by whose end this one ends.
    _stdin: Option<ChildStdin>,
    /// As history names it.
    pub writer: String,
    pub log: PathBuf,
}

/// How long a start may take; after that it is killed and counts as failed.
const START: Duration = Duration::from_secs(90);
/// How long it may take to leave: it drains for ten seconds, and the broker may be away for some time.
const LEAVE: Duration = Duration::from_secs(90);

impl Process {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it does not come to serve, as when the broker is away; the log says why.
    pub async fn start(program: &Path, arguments: &Arguments, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(program);
        command.args(arguments.as_words()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        command.env_remove("EVERPULSE_FAILPOINT").kill_on_drop(true);
        let mut child = command.spawn().context("starting a worker process")?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        let stdout = child.stdout.take().context("its output")?;
        let said = timeout(START, BufReader::new(stdout).read_line(&mut line)).await;
        said.with_context(|| format!("a worker did not serve within {START:?}; see {}", log.display()))??;
        let Some(writer) = line.trim().strip_prefix("serving") else {
            bail!("a worker ended before it served; see {}", log.display());
        };
        Ok(Self { child, _stdin: stdin, writer: writer.trim().to_owned(), log: log.to_owned() })
    }

    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it ended by itself before, which it must not.
    pub async fn kill(mut self) -> Result<()> {
        self.child.start_kill()?;
        let status = self.child.wait().await?;
        if status.signal() != Some(9) {
            bail!("a worker ended by itself with {status}; see {}", self.log.display());
        }
        Ok(())
    }

    /// Ends it with SIGTERM, and waits until it has left.
    ///
    /// # Errors
    /// When it does not leave in time, or ends badly.
    pub async fn leave(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = timeout(LEAVE, self.child.wait()).await;
        let status = status
            .with_context(|| format!("a worker did not leave within {LEAVE:?}; see {}", self.log.display()))??;
        if !status.success() {
            bail!("a worker that was to leave ended with {status}; see {}", self.log.display());
        }
        Ok(())
    }

    /// Stops it where it is.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Has it say what its shards are about, into its log.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn ask(&self) -> Result<()> {
        self.signal(Signal::USR1)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        send(self.child.id().context("it has ended")?, signal)
    }
}

/// Sends a signal to a process of ours.
///
/// # Errors
/// When there is no such process.
pub fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id")?;
    kill_process(pid, signal)?;
    Ok(())
}
