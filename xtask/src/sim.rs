//! `cargo xtask sim`: the simulation, built with optimisation and with its assertions, with whatever arguments it is given.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::root;

#[derive(Debug, Clone, Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// Those of the simulation; `--help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// What the simulation is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// To be built soon again.
    Quick,
    /// To play for long: takes minutes to build, and three quarters of the time for each seed.
    Fast,
}

impl Options {
    /// So many seeds at most, and about so many seconds.
    #[must_use]
    pub fn short(seeds: u64, seconds: u64) -> Self {
        let arguments = ["--seeds".to_owned(), seeds.to_string(), "--seconds".to_owned(), seconds.to_string()];
        Self { arguments: arguments.into() }
    }
}

/// # Errors
/// When a rule did not hold, or something was not reached; the line that plays it again stands above.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let status = command(&options.arguments, Build::Quick).status().context("cannot run cargo")?;
    judge(status)
}

/// What it prints, which is shown meanwhile.
///
/// # Errors
/// As for [`run`].
pub fn output(arguments: &[&str], build: Build) -> anyhow::Result<String> {
    let mut child = command(arguments, build).stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let mut text = String::new();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines) {
        let line = line.context("cannot read what the simulation prints")?;
        println!("{line}");
        text.push_str(&line);
        text.push('\n');
    }
    judge(child.wait().context("cannot wait for the simulation")?)?;
    Ok(text)
}

fn command(arguments: &[impl AsRef<OsStr>], build: Build) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["run", "--quiet", "--profile", "sim", "--package", "everpulse-sim"]);
    if build == Build::Fast {
        let settings = ["lto=\"thin\"", "codegen-units=1", "incremental=false", "package.everpulse-sim.opt-level=3"];
        cargo.args(settings.iter().flat_map(|setting| ["--config".to_owned(), format!("profile.sim.{setting}")]));
    }
    let breaks = |argument: &OsStr| argument.to_string_lossy().starts_with("--mutat");
    if arguments.iter().any(|argument| breaks(argument.as_ref())) {
        cargo.args(["--features", "mutations"]);
    }
    cargo.arg("--").args(arguments);
    cargo
}

fn judge(status: ExitStatus) -> anyhow::Result<()> {
    if !status.success() {
        bail!("the simulation found something ({status})");
    }
    Ok(())
}
