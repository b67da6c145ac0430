//! The two brokers: ours, as its binary on free ports with a directory of its own, and Apache Pulsar.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::{pulsar, root, target_of};

/// Which broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Arm {
    /// Our broker.
    Embedded,
    /// Apache Pulsar standalone.
    Pulsar,
}

/// The first is off in the standalone's configuration and always on in ours; the second is a minute there, and no test waits so
/// long.
const PULSAR_SETTINGS: [&str; 2] =
    ["acknowledgmentAtBatchIndexLevelEnabled=true", "backlogQuotaCheckIntervalInSeconds=2"];

/// A broker that was started for the suites.
#[derive(Debug)]
pub struct Broker {
    pub service_url: String,
    pub admin_url: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Ours { child: Child, data: PathBuf },
    Pulsar { name: String },
}

impl Arm {
    /// Starts the broker with no data.
    ///
    /// # Errors
    /// When it cannot be built or does not say that it is ready.
    pub fn start(self) -> anyhow::Result<Broker> {
        match self {
            Arm::Embedded => start_ours(),
            Arm::Pulsar => start_pulsar(),
        }
    }
}

impl Broker {
    /// Ends it and throws its data away.
    ///
    /// # Errors
    /// When Apache Pulsar does not end.
    pub fn stop(self) -> anyhow::Result<()> {
        match &self.kind {
            // Dropping ends it.
            Kind::Ours { .. } => Ok(()),
            Kind::Pulsar { name } => pulsar::stop(name),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Kind::Ours { child, data } = &mut self.kind {
            // Nothing can be done about a failure here, and nothing depends on it.
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_dir_all(data);
        }
    }
}

fn start_ours() -> anyhow::Result<Broker> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).current_dir(root()).args(["build", "--package", "everpulse-broker"]).status()?;
    if !built.success() {
        bail!("cargo build --package everpulse-broker failed ({built})");
    }
    let data = root().join(format!("target/clients/broker-{}", std::process::id()));
    fs::create_dir_all(root().join("target/clients")).context("cannot create target/clients")?;
    let log = fs::File::create(root().join("target/clients/broker.log")).context("cannot create broker.log")?;
    let program = target_of(&root()).join("debug/everpulse-broker");
    let mut child = Command::new(&program)
        .arg("--data")
        .arg(&data)
        .args(["--port", "0", "--admin-port", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let stdout = child.stdout.take().expect("it is piped");
    let mut broker = Broker { service_url: String::new(), admin_url: String::new(), kind: Kind::Ours { child, data } };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let ready: Value = serde_json::from_str(&line).with_context(|| {
        format!("the broker did not say that it is ready, but {line:?}; see target/clients/broker.log")
    })?;
    let url = |name: &str| {
        let url = ready.get(name).and_then(Value::as_str).map(str::to_owned);
        url.with_context(|| format!("the broker did not say its {name}"))
    };
    broker.service_url = url("service_url")?;
    broker.admin_url = url("admin_url")?;
    Ok(broker)
}

fn start_pulsar() -> anyhow::Result<Broker> {
    let name = "clients".to_owned();
    let settings = PULSAR_SETTINGS.map(str::to_owned).to_vec();
    let options = pulsar::Options { name: name.clone(), fresh: true, settings, ..pulsar::Options::default() };
    let pulsar::Instance { service_url, admin_url, .. } = pulsar::start(&options)?;
    Ok(Broker { service_url, admin_url, kind: Kind::Pulsar { name } })
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arm::Embedded => "embedded",
            Arm::Pulsar => "pulsar",
        })
    }
}
