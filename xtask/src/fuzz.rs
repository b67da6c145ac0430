//! `cargo xtask fuzz`: every format against bytes that were damaged, and the broker against clients that send anything,
//! on stable Rust, for a bounded time.

use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::root;

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Half of them for each.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Repeats what was found with it.
    #[arg(long)]
    pub seed: Option<u64>,
}

/// Unoptimised, so that overflows are seen.
///
/// # Errors
/// When something was found: the seed and the input stand above.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let half = options.seconds.div_ceil(2);
    search(&["--package", "everpulse-fuzz"], half, options.seed)?;
    search(&["--package", "everpulse-broker", "--features", "fuzzing", "--example", "fuzz"], half, options.seed)
}

fn search(what: &[&str], seconds: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()).args(["run", "--quiet"]).args(what).args(["--", &seconds.to_string()]);
    cargo.args(seed.map(|seed| seed.to_string()));
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the fuzzer found something ({status}); if it says not what, see target/fuzz-running");
    }
    Ok(())
}
