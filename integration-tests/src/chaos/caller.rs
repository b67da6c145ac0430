//! A process of callers, which is killed while they are at it: its program, and what becomes of the runs that it leaves.
//!
//! It writes `begin N` before the first call for a run and `end N` when it has heard the result. Whoever finds a run
//! begun and not ended plays it again from its start, under the same id: so only kinds are played here of which that is
//! the same run.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::interval;

use super::clients::Clients;
use super::mix::{Kind, Play};
use super::player::{Heard, Stage, play};

/// What the program is told.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[arg(long)]
    pub url: String,
    #[arg(long)]
    pub seed: u64,
    /// The first number; those of kinds that are not played here are left out
    #[arg(long)]
    pub first: u32,
    /// What was begun and ended
    #[arg(long)]
    pub notes: PathBuf,
    /// For how long ends are kept
    #[arg(long)]
    pub retention_ms: u64,
}

/// Numbers that one process may use.
pub const NUMBERS: u32 = 1_000;
const RATE: f64 = 10.0;
const IN_FLIGHT: usize = 40;

fn is_repeatable(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Hello
            | Kind::Toil
            | Kind::Sequence
            | Kind::FanOut
            | Kind::Paces
            | Kind::Nap
            | Kind::Retried
            | Kind::Declined
            | Kind::Race
    )
}

/// The program: plays runs until it is killed.
///
/// # Errors
/// When it cannot connect or write.
pub async fn run(arguments: Arguments) -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let url = arguments.url.clone();
    let stage = std::sync::Arc::new(Stage {
        quick: Clients::quick(vec![url.clone()]).await?,
        patient: Clients::patient(vec![url]).await?,
        heard: Heard::default(),
        retention_ms: arguments.retention_ms,
    });
    let file = OpenOptions::new().create(true).append(true).open(&arguments.notes);
    let notes = std::sync::Arc::new(Mutex::new(file.with_context(|| arguments.notes.display().to_string())?));
    let mut ticks = interval(Duration::from_secs_f64(1.0 / RATE));
    let mut playing = JoinSet::new();
    let plays = (arguments.first..arguments.first + NUMBERS).map(|number| Play::of(arguments.seed, number));
    for one in plays.filter(|play| is_repeatable(play.kind)) {
        ticks.tick().await;
        while playing.len() >= IN_FLIGHT {
            playing.join_next().await;
        }
        note(&notes, &format!("begin {}", one.number))?;
        let (stage, notes, seed) = (stage.clone(), notes.clone(), arguments.seed);
        playing.spawn(async move {
            let line = match play(&stage, seed, one).await {
                Ok(()) => format!("end {}", one.number),
                Err(wrong) => format!("wrong {}", wrong.replace('\n', " ")),
            };
            note(&notes, &line)
        });
    }
    while playing.join_next().await.is_some() {}
    // Until it is killed.
    std::future::pending().await
}

fn note(notes: &Mutex<File>, line: &str) -> Result<()> {
    let mut file = notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    file.write_all(format!("{line}\n").as_bytes()).context("noting what is played")
}

/// A process of callers.
#[derive(Debug)]
pub struct Callers {
    child: Child,
    notes: PathBuf,
    seed: u64,
}

/// What a process of callers leaves.
#[derive(Debug, Default)]
pub struct Left {
    pub ended: Vec<Play>,
    /// To be played again.
    pub begun: Vec<Play>,
    pub wrong: Vec<String>,
}

impl Callers {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(arguments: &Arguments, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["caller", &format!("--url={}", arguments.url), &format!("--seed={}", arguments.seed)]);
        command.args([&format!("--first={}", arguments.first), &format!("--notes={}", arguments.notes.display())]);
        command.arg(format!("--retention-ms={}", arguments.retention_ms));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let child = command.spawn().context("starting callers")?;
        Ok(Self { child, notes: arguments.notes.clone(), seed: arguments.seed })
    }

    /// Ends it with SIGKILL, and says what it leaves.
    ///
    /// # Errors
    /// When its notes cannot be read.
    pub async fn kill(mut self) -> Result<Left> {
        // While the broker is away it may have given up to connect.
        let _ = self.child.kill().await;
        if !self.notes.exists() {
            return Ok(Left::default());
        }
        let text = std::fs::read_to_string(&self.notes).with_context(|| self.notes.display().to_string())?;
        let mut left = Left::default();
        for line in text.lines() {
            let Some((word, rest)) = line.split_once(' ') else { bail!("{}: {line}", self.notes.display()) };
            match (word, rest.parse()) {
                ("begin", Ok(number)) => left.begun.push(Play::of(self.seed, number)),
                ("end", Ok(number)) => {
                    left.begun.retain(|play| play.number != number);
                    left.ended.push(Play::of(self.seed, number));
                }
                _ => left.wrong.push(rest.to_owned()),
            }
        }
        Ok(left)
    }
}
