//! W7: very many runs that wait. The program `parked` of the examples measures; broker, worker and client are a process
//! each.
//!
//! Rows: 100,000 and 1,000,000 runs, then 100,000 without a cache directory, and 100,000 that all stay at hand.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

const ROWS: [(u64, &[&str]); 4] = [
    (100_000, &[]),
    (1_000_000, &[]),
    (100_000, &["--no-cache"]),
    (100_000, &["--no-cache", "--at-hand", "1000000000"]),
];

/// # Errors
/// When something cannot be built, started or measured.
pub fn run(percent: u32, relaxed: bool) -> anyhow::Result<()> {
    let broker = super::build(&["--package", "everpulse-broker", "--bin", "everpulse-broker"])?;
    let program = super::build(&["--package", "everpulse-examples", "--bin", "parked"])?;
    for (n, arguments) in ROWS {
        let n = n * u64::from(percent) / 100;
        let dir = crate::root().join(format!("target/bench/parked-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        eprintln!("W7, {n} runs {}; load {}", arguments.join(" "), super::broker::load_average());
        let mut command = Command::new(&program);
        command.args(["measure", "--n", &n.to_string(), "--broker"]).arg(&broker).arg("--dir").arg(&dir);
        command.arg("--cache-dir").arg(dir.join("cache")).args(arguments).args(relaxed.then_some("--relaxed"));
        let status = command.stdin(Stdio::null()).status();
        fs::remove_dir_all(&dir).ok();
        if !status.with_context(|| format!("cannot run {}", program.display()))?.success() {
            bail!("{command:?} failed");
        }
    }
    Ok(())
}
