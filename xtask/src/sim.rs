//! `cargo xtask sim`: the simulation, built with optimisation and with its assertions, with whatever arguments it is given.

use std::process::Command;

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
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["run", "--quiet", "--profile", "sim", "--package", "everpulse-sim"]);
    if options.arguments.iter().any(|argument| argument.starts_with("--mutat")) {
        cargo.args(["--features", "mutations"]);
    }
    cargo.arg("--").args(&options.arguments);
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the simulation found something ({status})");
    }
    Ok(())
}
