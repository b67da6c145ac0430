//! Worker processes of a test, which it can kill, stop and continue.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::arm::PATIENCE;

/// What a party serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Workflows,
    Activities,
    Both,
    /// Nothing: it only holds the embedded broker, if it is the first.
    Broker,
}

impl Role {
    /// The role as an argument.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflows => "workflows",
            Self::Activities => "activities",
            Self::Both => "both",
            Self::Broker => "broker",
        }
    }
}

/// A place at which a party ends or stops itself: its name, and the how-manieth time.
#[derive(Debug, Clone)]
pub struct Failpoint {
    pub name: &'static str,
    pub hit: u32,
    /// It stops there, and goes on when it is thawed.
    pub stops: bool,
    /// Where it is written that it was hit.
    pub file: PathBuf,
}

/// The variable that tells a party how long it keeps history, and remembers ids.
pub const RETENTION_MS: &str = "EVERPULSE_TEST_RETENTION_MS";

/// The variable that tells a party to serve the workflows of [`waits`](crate::waits), too.
pub const WAITS: &str = "EVERPULSE_TEST_WAITS";

/// The variable that tells a party in which directory large values lie.
pub const BLOBS: &str = "EVERPULSE_TEST_BLOBS";

/// The variable that tells a party how many attempts of the queue `seats` all workers together make at a time.
pub const SEATS: &str = "EVERPULSE_TEST_SEATS";

/// A worker process. Dropping it kills it.
#[derive(Debug)]
pub struct Party {
    child: Child,
    /// As history names it; empty for one that owns no runs.
    pub writer: String,
}

impl Party {
    /// Starts a worker process and waits until it serves.
    ///
    /// # Errors
    /// When it does not come to serve.
    pub fn start(url: &str, role: Role, ledger: &Path, failpoint: Option<&Failpoint>) -> Result<Self> {
        Self::start_retaining(url, role, ledger, failpoint, None)
    }

    /// The same for one that keeps history no longer than it must.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_retaining(
        url: &str,
        role: Role,
        ledger: &Path,
        failpoint: Option<&Failpoint>,
        retention: Option<Duration>,
    ) -> Result<Self> {
        let variables = retention.map(|retention| (RETENTION_MS, retention.as_millis().to_string()));
        Self::start_with(url, role, ledger, failpoint, variables.as_slice())
    }

    /// The same for one that is told more.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        url: &str,
        role: Role,
        ledger: &Path,
        failpoint: Option<&Failpoint>,
        variables: &[(&str, String)],
    ) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args([url, role.name()]).arg(ledger).stdout(Stdio::piped()).stdin(Stdio::null());
        command.env_remove("EVERPULSE_FAILPOINT");
        command.envs(variables.iter().map(|(name, value)| (*name, value)));
        if let Some(failpoint) = failpoint {
            command.env("EVERPULSE_FAILPOINT", format!("{}:{}", failpoint.name, failpoint.hit));
            command.env("EVERPULSE_FAILPOINT_FILE", &failpoint.file);
            command.env("EVERPULSE_FAILPOINT_SIGNAL", if failpoint.stops { "stop" } else { "kill" });
        }
        let mut child = command.spawn().context("starting a worker process")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(writer) = line.trim().strip_prefix("serving") else {
            bail!("a worker process said {line:?} where it should have said that it serves");
        };
        Ok(Self { child, writer: writer.trim().to_owned() })
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it with SIGTERM, and waits until it has left.
    ///
    /// # Errors
    /// When it does not leave in time, or ends badly.
    pub fn leave(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait()?;
        if !status.success() {
            bail!("a worker process ended with {status}");
        }
        Ok(())
    }

    /// Whether it has stopped itself, at a place that was given to it.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn is_stopped(&self) -> Result<bool> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // `PID (NAME) STATE ..`; a name may have anything in it.
        Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    }

    /// Stops it, wherever it is (SIGSTOP).
    ///
    /// # Errors
    /// When there is no such process.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When there is no such process.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Waits until it has killed itself.
    ///
    /// # Errors
    /// When it does not, or ends otherwise.
    pub fn wait_killed(&mut self) -> Result<()> {
        let status = self.wait()?;
        if status.signal() != Some(9) {
            bail!("it should have ended by SIGKILL, and ended with {status}");
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, signal)?;
        Ok(())
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                bail!("a worker process did not end within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, which lies beside the folder of the tests.
fn binary() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("a test lies in a folder of the target directory")?;
    let binary = folder.join("everpulse-party");
    if !binary.exists() {
        bail!("{} is missing: build it with `cargo build -p everpulse-integration-tests --bins`", binary.display());
    }
    Ok(binary)
}
