//! The broker that a test runs on, with a namespace (or directory) of the test's own.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use uuid::Uuid;

use crate::party::{Party, Role};

/// One application's place on one arm.
#[derive(Debug)]
pub struct Arm {
    url: String,
    own_broker: Option<OwnBroker>,
    /// Where an embedded broker keeps its files, and tests theirs.
    dir: TempDir,
    embedded: bool,
}

#[derive(Debug)]
enum OwnBroker {
    /// The process that holds the directory's lock.
    Embedded(Party),
    /// The name of a server of `cargo xtask pulsar`.
    Pulsar(String),
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        if let Self::Pulsar(name) = self {
            // The test is over; a server that is gone already needs no end.
            let _ = xtask::pulsar::stop(name);
        }
    }
}

/// Nothing in a test may take longer; whatever waits says what it waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Arm {
    /// A fresh application with few shards, which set up quickly.
    ///
    /// # Errors
    /// When the arm that was asked for is not there.
    pub fn new() -> Result<Self> {
        Self::with_shards(4)
    }

    /// A fresh application.
    ///
    /// # Errors
    /// When the arm that was asked for is not there.
    pub fn with_shards(shards: u32) -> Result<Self> {
        init_tracing();
        let dir = tempfile::tempdir().context("making a directory for the test")?;
        match std::env::var("EVERPULSE_ARM").as_deref() {
            Err(_) | Ok("embedded") => {
                let broker = dir.path().join("broker");
                let url = format!("embedded:{}?shards={shards}&inbox_partitions=2", broker.display());
                Ok(Self { url, own_broker: None, dir, embedded: true })
            }
            Ok("pulsar") => {
                let broker = std::env::var("EVERPULSE_TEST_PULSAR_URL").context(
                    "the arm `pulsar` needs EVERPULSE_TEST_PULSAR_URL: run the tests by `cargo xtask pulsar run -- ..`",
                )?;
                let admin = std::env::var("EVERPULSE_TEST_PULSAR_ADMIN_URL")
                    .context("the arm `pulsar` needs EVERPULSE_TEST_PULSAR_ADMIN_URL")?;
                let namespace = format!("t{}", Uuid::new_v4().simple());
                let url = format!("{broker}/public/{namespace}?admin={admin}&shards={shards}&inbox_partitions=2");
                Ok(Self { url, own_broker: None, dir, embedded: false })
            }
            // Apache Pulsar by TLS, where a certificate says who workers and clients are.
            Ok("secured") => {
                let variable = |name: &str| {
                    std::env::var(format!("EVERPULSE_TEST_PULSAR_TLS_{name}")).context(
                        "the arm `secured` needs a broker: run the tests by `cargo xtask pulsar run --tls -- ..`",
                    )
                };
                let (broker, admin, files) = (variable("URL")?, variable("ADMIN_URL")?, variable("DIR")?);
                let namespace = format!("t{}", Uuid::new_v4().simple());
                let identity = format!("tls_ca={files}/ca.pem&tls_cert={files}/client.pem&tls_key={files}/client.key");
                let url =
                    format!("{broker}/public/{namespace}?admin={admin}&{identity}&shards={shards}&inbox_partitions=2");
                Ok(Self { url, own_broker: None, dir, embedded: false })
            }
            Ok(other) => bail!("EVERPULSE_ARM is {other:?}; it can be embedded, pulsar or secured"),
        }
    }

    /// A fresh application on a broker of its own, which can be killed.
    ///
    /// # Errors
    /// When the broker cannot be started.
    pub fn with_own_broker() -> Result<Self> {
        let mut arm = Self::new()?;
        if arm.embedded {
            let party = Party::start(&arm.url, Role::Broker, &arm.dir.path().join("broker.jsonl"), None)?;
            arm.own_broker = Some(OwnBroker::Embedded(party));
            return Ok(arm);
        }
        let name = format!("own-{}", std::process::id());
        let options = xtask::pulsar::Options { name: name.clone(), ..Default::default() };
        let instance = xtask::pulsar::start(&options)?;
        let namespace = format!("t{}", Uuid::new_v4().simple());
        let (service, admin) = (&instance.service_url, &instance.admin_url);
        arm.url = format!("{service}/public/{namespace}?admin={admin}&shards=4&inbox_partitions=2");
        arm.own_broker = Some(OwnBroker::Pulsar(name));
        Ok(arm)
    }

    /// Kills the arm's own broker and brings it back: another holder of the same files, or the same server.
    ///
    /// # Errors
    /// When the arm has no broker of its own, or it does not come back.
    pub fn restart_broker(&mut self) -> Result<()> {
        match &mut self.own_broker {
            Some(OwnBroker::Embedded(party)) => {
                party.kill()?;
                *party = Party::start(&self.url, Role::Broker, &self.dir.path().join("broker.jsonl"), None)?;
                Ok(())
            }
            Some(OwnBroker::Pulsar(name)) => {
                xtask::pulsar::kill(name)?;
                xtask::pulsar::start(&xtask::pulsar::Options { name: name.clone(), ..Default::default() })?;
                Ok(())
            }
            None => bail!("this arm shares its broker with other tests"),
        }
    }

    /// The address behind another one of the same broker: a proxy's.
    ///
    /// # Errors
    /// When nothing was set up yet.
    pub fn url_through(&self, proxy: &str) -> Result<String> {
        let place = self.checked(&[], None)?;
        let admin = place.admin_url.context("an admin address")?;
        Ok(format!("{proxy}/{}?admin={admin}&shards=4&inbox_partitions=2", place.namespace))
    }

    /// The address for workers and clients.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A directory for the test's own files.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Where the checker finds the application, once it is set up.
    ///
    /// # Errors
    /// When nothing was set up yet.
    pub fn checked(&self, ordered: &[&str], ledger: Option<&std::path::Path>) -> Result<everpulse_checker::Options> {
        let (service_url, admin_url, namespace) = if self.embedded {
            let file = self.dir.path().join("broker").join("broker.json");
            let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let broker: serde_json::Value = serde_json::from_str(&text)?;
            let field = |name: &str| broker[name].as_str().map(str::to_owned).with_context(|| text.clone());
            (field("service_url")?, field("admin_url")?, "public/everpulse".to_owned())
        } else {
            let rest = self.url.strip_prefix("pulsar://").context("a pulsar address")?;
            let (host, rest) = rest.split_once('/').context("a namespace")?;
            let (namespace, query) = rest.split_once('?').context("options")?;
            let admin = query.split('&').find_map(|part| part.strip_prefix("admin=")).context("an admin address")?;
            (format!("pulsar://{host}"), admin.to_owned(), namespace.to_owned())
        };
        let rules = everpulse_checker::Rules {
            ordered_workflows: ordered.iter().map(|name| (*name).to_owned()).collect(),
            ..everpulse_checker::Rules::default()
        };
        Ok(everpulse_checker::Options {
            service_url,
            admin_url: Some(admin_url),
            namespace,
            ledger: ledger.map(std::path::Path::to_owned),
            rules,
            ..Default::default()
        })
    }

    /// Whether the broker lives in the processes of the test.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }
}

fn init_tracing() {
    // A second test of the same process finds it set already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}

/// Waits until something holds, and says what did not.
///
/// # Errors
/// After [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= until {
            bail!("waited for {PATIENCE:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
