//! Ten thousand runs at once from one client: none is lost, and what a run takes in memory is bounded.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use everpulse_integration_tests::Arm;
use serde_json::Value;

/// How much greater than that of 1,000 runs the peak memory of 10,000 may be, beside their payloads: in the one process
/// that is their client, their worker and, on the embedded arm, their broker.
const FACTOR_MAX: f64 = 1.5;
/// The argument and the result of one run.
const PAYLOAD_KB: f64 = 0.03;

fn volume(runs: u64) -> Result<Value> {
    let arm = Arm::new()?;
    let binary =
        std::env::current_exe()?.parent().and_then(|deps| deps.parent()).context("a folder")?.join("everpulse-volume");
    let output = Command::new(&binary)
        .args([arm.url(), &runs.to_string()])
        .output()
        .with_context(|| binary.display().to_string())?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout)?;
    eprintln!("{line}");
    ensure!(line["runs"] == runs, "{line}");
    Ok(line)
}

#[test]
fn ten_thousand_runs_at_once_come_back_in_bounded_memory() -> Result<()> {
    let peak = |line: &Value| line["peak_kb"].as_f64().context("a number");
    let (small, large) = (peak(&volume(1_000)?)?, peak(&volume(10_000)?)?);
    let limit = FACTOR_MAX * small + 10_000.0 * PAYLOAD_KB;
    eprintln!("peak memory: {small} KB with 1,000 runs, {large} KB with 10,000: {:.2} times", large / small);
    ensure!(large <= limit, "{large} KB are more than {limit} KB");
    Ok(())
}
