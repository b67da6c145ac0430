//! Cases that need a process to end: workers of their own play them in an application of their own, and one of them is killed.
//!
//! ```text
//!   case ──► client ──► broker ◄── first worker, killed with SIGKILL
//!                          ▲
//!                          └────── second worker, which goes on with the run
//! ```

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use everpulse::Worker;
use everpulse::client::Client;
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::arm::eventually;
use everpulse_protocol::history::CommandKind;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::case::{self, Stage};
use crate::frames::Frames;
use crate::handlers;
use crate::logs::Logs;
use crate::suite::Case;

/// When the first worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// When a step was done, and nobody was told what it came to.
    StepDone,
    /// When the run waits for a timer.
    Waits,
}

/// How a case has its worker killed; none: it needs no such thing.
#[must_use]
pub fn of(case: &str) -> Option<Crash> {
    match case {
        "3-11" => Some(Crash::Waits),
        "3-12" => Some(Crash::StepDone),
        _ => None,
    }
}

/// Plays such a case. What comes back differs from what is expected.
///
/// # Errors
/// When it cannot be played.
pub async fn play(case: &Case, crash: Crash) -> Result<Vec<String>> {
    let arm = Arm::with_shards(1)?;
    let logs = Logs::in_file(arm.dir().join("logs.jsonl"));
    let client = Client::connect(arm.url()).await.context("connecting a client")?;
    let stage = Stage { frames: Some(Frames::connect(arm.url()).await?), client, logs };
    let played = case::play(&stage, case);
    tokio::select! {
        differences = played => differences,
        crashed = crashes(&arm, &stage, case, crash) => { crashed?; bail!("the second worker ended") }
    }
}

/// Has one worker end where it should, and another one go on for as long as this is polled.
async fn crashes(arm: &Arm, stage: &Stage, case: &Case, crash: Crash) -> Result<()> {
    let mut first = process(arm, crash).await.context("the first worker")?;
    if crash == Crash::Waits {
        let run = stage.client.run_named(case::workflow_id_of(case));
        eventually("the run waits", || async {
            // Its start may still be on its way.
            let Ok(view) = run.describe().await else { return Ok(None) };
            Ok(view.pending.iter().any(|step| step.kind == CommandKind::Timer).then_some(()))
        })
        .await?;
        first.start_kill()?;
    }
    let status = first.wait().await?;
    if status.code().is_some() {
        bail!("the first worker should have been killed, and ended with {status}");
    }
    let mut second = process(arm, Crash::Waits).await.context("the second worker")?;
    second.wait().await?;
    Ok(())
}

/// A worker process that serves. It is killed when it is dropped.
async fn process(arm: &Arm, crash: Crash) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve").arg("--url").arg(arm.url()).arg("--logs").arg(arm.dir().join("logs.jsonl"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).env_remove("EVERPULSE_FAILPOINT");
    if crash == Crash::StepDone {
        command.env("EVERPULSE_FAILPOINT", "step-done:1");
        command.env("EVERPULSE_FAILPOINT_FILE", arm.dir().join("crashed"));
    }
    let mut child = command.spawn().context("starting it")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line).await?;
    if line.trim() != SERVES {
        bail!("it said {line:?} where it should have said that it serves");
    }
    Ok(child)
}

const SERVES: &str = "serving";

/// Is such a worker, until it is killed.
///
/// # Errors
/// When it cannot serve.
pub async fn serve(url: &str) -> Result<()> {
    let worker = Worker::connect(url).await.context("connecting")?;
    let _worker = handlers::register(worker).spawn().await.context("starting")?;
    println!("{SERVES}");
    std::future::pending().await
}
