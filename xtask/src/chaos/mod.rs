//! `cargo xtask chaos`: real processes under real faults on one arm, with a report that is committed.
//!
//! The program `everpulse-chaos` of the integration tests does the work and gives figures; this builds it in release,
//! gives it a folder, and adds when, where and on which commit.

mod earlier;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{root, target_of};

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[arg(long, default_value_t = 60)]
    pub minutes: u64,
    #[arg(long, value_enum, default_value = "embedded")]
    pub arm: Arm,
    /// Repeats what is drawn; what the machine makes of it differs
    #[arg(long)]
    pub seed: Option<u64>,
    /// Runs that are started in a second, at most; 80, or 50 on Apache Pulsar
    #[arg(long)]
    pub rate: Option<u64>,
    /// How long a storm lasts, in seconds; then comes a calm in which everything must end
    #[arg(long, default_value_t = 150)]
    pub storm_seconds: u64,
    /// How long history is kept, in seconds
    #[arg(long, default_value_t = 120)]
    pub retention_seconds: u64,
    /// Use the programs of this folder, instead of building them
    #[arg(long)]
    pub programs: Option<PathBuf>,
    /// A rolling deploy: about every other worker is of this earlier commit, and they share the shards
    #[arg(long, value_name = "COMMIT")]
    pub earlier: Option<String>,
    /// The same with programs that were built before
    #[arg(long, value_name = "FOLDER", conflicts_with = "earlier")]
    pub earlier_programs: Option<PathBuf>,
    /// Where data, logs, the archive of history and, where something was found, the evidence go; it is removed when
    /// nothing was found, unless it was named
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Write no report
    #[arg(long)]
    pub no_report: bool,
    /// Build without optimisation
    #[arg(long)]
    pub debug: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arm {
    Embedded,
    Pulsar,
}

impl Arm {
    fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Pulsar => "pulsar",
        }
    }
}

/// # Errors
/// When a rule did not hold, or something cannot be built or started.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let source = report::source()?;
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() % 1_000_000,
    };
    let programs = match &options.programs {
        Some(folder) => folder.clone(),
        None => build_in(&root(), None, options.debug)?,
    };
    let earlier = match (&options.earlier, &options.earlier_programs) {
        (Some(commit), _) => Some(earlier::programs(commit, options.debug)?),
        (None, Some(folder)) => Some((folder.clone(), "an earlier commit".to_owned())),
        (None, None) => None,
    };
    let kind = if earlier.is_some() { "rolling-" } else { "" };
    let rate = options.rate.unwrap_or(if options.arm == Arm::Embedded { 80 } else { 50 });
    let folder = match &options.folder {
        Some(folder) => folder.clone(),
        None => root().join(format!("target/chaos/{kind}{}-{seed}", options.arm.name())),
    };
    if options.folder.is_none() && folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut arguments = vec![format!("--minutes={}", options.minutes), format!("--arm={}", options.arm.name())];
    arguments.push(format!("--seed={seed}"));
    arguments.push(format!("--rate={rate}"));
    arguments.push(format!("--storm-seconds={}", options.storm_seconds));
    arguments.push(format!("--retention-seconds={}", options.retention_seconds));
    let mut again = format!("cargo xtask chaos {}", arguments.join(" "));
    if let Some((folder, commit)) = &earlier {
        again.push_str(&format!(" --earlier={commit}"));
        arguments.push(format!("--previous={}", folder.join("everpulse-chaos").display()));
    }
    eprintln!("{again}");
    let mut command = Command::new(programs.join("everpulse-chaos"));
    command.arg("conduct").args(&arguments).arg("--folder").arg(&folder).stdout(Stdio::piped());
    let output = command.spawn().and_then(std::process::Child::wait_with_output);
    let output = output.with_context(|| format!("cannot run {}", programs.join("everpulse-chaos").display()))?;
    let Ok(figures) = serde_json::from_slice::<Value>(&output.stdout) else {
        bail!("the chaos ended with {} and no figures; what there is lies in {}", output.status, folder.display());
    };
    if !options.no_report {
        let path = root().join(format!("docs/chaos/{kind}{}.md", options.arm.name()));
        fs::create_dir_all(root().join("docs/chaos")).context("cannot create docs/chaos")?;
        let report = report::written(&figures, &source, &again)?;
        fs::write(&path, report).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.strip_prefix(root()).unwrap_or(&path).display());
    }
    if figures["ok"] != true || !output.status.success() {
        bail!("the rules did not hold; the evidence lies in {}; again: {again}", folder.display());
    }
    println!("{} runs, {} kills: the rules held", figures["runs"], figures["kills"]);
    if options.folder.is_none() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Builds the programs of a checkout; the folder that they are in.
fn build_in(source: &Path, target: Option<&Path>, debug: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(source).args(["build", "--quiet", "-p", "everpulse-integration-tests", "-p", "everpulse-broker"]);
    cargo.args(["--bins"]);
    if !debug {
        cargo.arg("--release");
    }
    if let Some(target) = target {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the programs of {} cannot be built ({status})", source.display());
    }
    let target = target.map_or_else(|| target_of(source), Path::to_owned);
    Ok(target.join(if debug { "debug" } else { "release" }))
}
