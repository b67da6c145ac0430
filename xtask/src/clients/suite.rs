//! How each suite is installed and run. Versions are pinned by the lock files beside the suites.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::arm::Broker;
use crate::{pulsar, root};

/// A folder of `client-suites`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Suite {
    /// The C++ client, through Python.
    Python,
    /// The C++ client, through Node.
    Node,
    /// The Java client and its admin client.
    Java,
    /// `pulsar-admin`, `pulsar-perf` and `pulsar-client` of Apache Pulsar's distribution.
    Tools,
}

impl Suite {
    pub const ALL: [Suite; 4] = [Suite::Python, Suite::Node, Suite::Java, Suite::Tools];

    fn folder(self) -> PathBuf {
        root().join("client-suites").join(self.to_string())
    }

    /// Fetches what the suite needs into `target/clients`, if the pinned versions changed since the last time.
    ///
    /// # Errors
    /// When a tool is missing or a package cannot be had.
    pub fn install(self) -> anyhow::Result<()> {
        match self {
            Suite::Python => install_python(),
            // Node's addon uses the C++ library that the Python package ships.
            Suite::Node => install_python().and_then(|()| install_node()),
            // Maven fetches what is missing when it runs.
            Suite::Java => Ok(()),
            Suite::Tools => pulsar::distribution().map(drop),
        }
    }

    /// Runs it on `broker`; its output goes where ours goes.
    ///
    /// # Errors
    /// When it cannot be run or a test failed.
    pub fn run(self, broker: &Broker) -> anyhow::Result<()> {
        let mut command = match self {
            Suite::Python => Command::new(python("pytest")),
            Suite::Node => {
                let mut command = Command::new("npm");
                command.args(["--silent", "test"]).env("NODE_PATH", node().join("node_modules"));
                command
            }
            Suite::Java => {
                let mut command = Command::new("mvn");
                command.args(["--batch-mode", "--no-transfer-progress", "test"]);
                command
            }
            Suite::Tools => {
                // What they need is in the standard library.
                let mut command = Command::new("python3");
                command.args(["-m", "unittest"]).env("PULSAR_HOME", pulsar::distribution()?);
                command
            }
        };
        command.current_dir(self.folder());
        command.env("PULSAR_SERVICE_URL", &broker.service_url).env("PULSAR_ADMIN_URL", &broker.admin_url);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        check(&mut command)
    }
}

fn home() -> PathBuf {
    root().join("target/clients")
}

/// A program of the Python environment.
fn python(program: &str) -> PathBuf {
    home().join("python/bin").join(program)
}

/// Where the Node client is built.
fn node() -> PathBuf {
    home().join("node")
}

fn install_python() -> anyhow::Result<()> {
    let requirements = Suite::Python.folder().join("requirements.txt");
    let installed = home().join("python/installed.txt");
    if same(&[&requirements], &installed) {
        return Ok(());
    }
    fs::create_dir_all(home()).context("cannot create target/clients")?;
    check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home().join("python")))?;
    let mut pip = Command::new(python("python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--require-hashes", "-r"]);
    check(pip.arg(&requirements))?;
    remember(&[&requirements], &installed)
}

fn install_node() -> anyhow::Result<()> {
    let folder = Suite::Node.folder();
    let pinned = ["package-lock.json", "build.sh", "include/pulsar/c.h", "../python/requirements.txt"];
    let pinned = pinned.map(|file| folder.join(file));
    let pinned: Vec<&Path> = pinned.iter().map(PathBuf::as_path).collect();
    let installed = node().join("installed.txt");
    if same(&pinned, &installed) {
        return Ok(());
    }
    check(Command::new(folder.join("build.sh")).arg(node()).arg(python("python")))?;
    remember(&pinned, &installed)
}

fn same(pinned: &[&Path], installed: &Path) -> bool {
    fs::read_to_string(installed).is_ok_and(|text| contents(pinned).is_ok_and(|now| now == text))
}

fn remember(pinned: &[&Path], installed: &Path) -> anyhow::Result<()> {
    fs::write(installed, contents(pinned)?).with_context(|| format!("cannot write {}", installed.display()))
}

fn contents(files: &[&Path]) -> anyhow::Result<String> {
    let read = |file: &&Path| fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()));
    files.iter().map(read).collect()
}

fn check(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}: is it installed?"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Suite::Python => "python",
            Suite::Node => "node",
            Suite::Java => "java",
            Suite::Tools => "tools",
        })
    }
}
