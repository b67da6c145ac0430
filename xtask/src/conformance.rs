//! `cargo xtask conformance`: the public suite of durable executions. Installs its wheel from PyPI, pinned by version and hash, under
//! `target/conformance`, and lets `everpulse-conformance` play its cases on each arm. What came of them stands in
//! `docs/conformance-aws.md`; this fails when a case that applies does not pass, or when the document says something else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::clients::Arm;
use crate::{pulsar, root, target_of};

/// Where the suite is played.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// A broker; can be given several times. Both if none is named.
    #[arg(long = "arm", value_enum)]
    pub arms: Vec<Arm>,
    /// Only these cases; the document is let be.
    #[arg(long = "case")]
    pub cases: Vec<String>,
    /// Write the document instead of comparing it.
    #[arg(long)]
    pub write: bool,
}

/// What is installed, as `pip` takes it: the suite's own code needs a newer Python than its cases do, so they alone are taken.
const WHEEL: &str = "aws-durable-execution-conformance-tests==1.0.0 \
                     --hash=sha256:59b46cda93c0cbfed6a80f342ab0b93542ad8841196200a15fc716ebaa619c30\n";
const CASES: &str = "aws_durable_execution_conformance_tests/test_requirements";
const DOCUMENT: &str = "docs/conformance-aws.md";

/// Installs the suite and plays it.
///
/// # Errors
/// When it cannot be installed, a case that applies fails, or the document is stale.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let cases = install()?;
    cargo(&["build", "--package", "everpulse-conformance"])?;
    let arms = if options.arms.is_empty() { vec![Arm::Embedded, Arm::Pulsar] } else { options.arms.clone() };
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    for arm in arms {
        let report = home().join(format!("{arm}.json"));
        if report.exists() {
            fs::remove_file(&report).with_context(|| report.display().to_string())?;
        }
        let mut command = Command::new(program());
        command.arg("run").arg("--cases").arg(&cases).arg("--report").arg(&report);
        command.env("EVERPULSE_ARM", arm.to_string());
        options.cases.iter().for_each(|case| {
            command.args(["--case", case]);
        });
        failures.extend(play(arm, &mut command).err());
        // What could not even be begun has left none.
        reports.extend(report.exists().then_some(report));
    }
    // The document first: it says what fails, too.
    let written = if options.cases.is_empty() && !reports.is_empty() { document(options, &reports) } else { Ok(()) };
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => written,
    }
}

/// Compares the document, or writes it.
fn document(options: &Options, reports: &[PathBuf]) -> anyhow::Result<()> {
    let mut command = Command::new(program());
    command.arg("document").arg("--document").arg(root().join(DOCUMENT)).args(reports);
    if options.write {
        command.arg("--write");
    }
    check(&mut command)
}

fn play(arm: Arm, command: &mut Command) -> anyhow::Result<()> {
    let again = format!("cargo xtask conformance --arm {arm}");
    match arm {
        Arm::Embedded => check(command).with_context(|| format!("{again} failed")),
        Arm::Pulsar => {
            let options = pulsar::Options { name: "conformance".to_owned(), fresh: true, ..pulsar::Options::default() };
            match pulsar::run(&options, command)? {
                0 => Ok(()),
                code => bail!("{again} failed ({code})"),
            }
        }
    }
}

fn home() -> PathBuf {
    root().join("target/conformance")
}

/// Whether there is what [`run`] needs on the embedded arm.
#[must_use]
pub fn is_possible() -> bool {
    let mut pip = Command::new("python3");
    let pip = pip.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    pip.is_ok_and(|status| status.success())
}

/// Fetches the wheel, unless it is there, and gives the folder of its cases. `pip` compares the hash before it unpacks. Each hash
/// has a folder of its own, which gets its name when it is whole.
fn install() -> anyhow::Result<PathBuf> {
    let folder = home().join(WHEEL.rsplit(':').next().unwrap_or_default().trim());
    let cases = folder.join("suite").join(CASES);
    if cases.is_dir() {
        return Ok(cases);
    }
    let fresh = folder.with_extension("part");
    for stale in [&folder, &fresh] {
        if stale.exists() {
            fs::remove_dir_all(stale).with_context(|| stale.display().to_string())?;
        }
    }
    fs::create_dir_all(&fresh).with_context(|| fresh.display().to_string())?;
    let requirements = fresh.join("requirements.txt");
    fs::write(&requirements, WHEEL).with_context(|| requirements.display().to_string())?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps", "--require-hashes"]);
    pip.args(["--only-binary=:all:", "--python-version", "3.14", "--dest"]).arg(&fresh);
    check(pip.arg("--requirement").arg(&requirements))?;
    unpack(&fresh)?;
    fs::rename(&fresh, &folder).with_context(|| folder.display().to_string())?;
    if !cases.is_dir() {
        bail!("the wheel has no cases in {CASES}");
    }
    Ok(cases)
}

/// A wheel is a ZIP archive, which Python can read.
fn unpack(folder: &Path) -> anyhow::Result<()> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let wheel = files.iter().find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheel.context("pip said that it downloaded the wheel, and there is none")?;
    check(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(wheel).arg(folder.join("suite")))
}

fn program() -> PathBuf {
    target_of(&root()).join("debug/everpulse-conformance")
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    check(Command::new(program).current_dir(root()).args(arguments))
}

fn check(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{:?} failed ({status})", command.get_program());
    }
    Ok(())
}
