//! The arms that the same test body runs on, and a proxy that injures connections.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use everpulse_transport::{Address, Delivery, Message, Options, Publisher, PublisherOptions, SetUp, Transport};

pub mod certificates;
pub mod issuer;
pub mod proxy;
pub mod turnstile;

/// Long enough for a loaded machine: a test that waits this long has failed.
pub const LONG: Duration = Duration::from_secs(60);

/// A broker to test against.
pub struct Arm {
    pub name: &'static str,
    pub address: Address,
    /// Holds the embedded broker's files.
    _dir: Option<tempfile::TempDir>,
}

impl Arm {
    /// The arms of this run, each with a namespace that nobody has used. EVERPULSE_ARM names the only one.
    pub fn all() -> Vec<Arm> {
        let only = std::env::var("EVERPULSE_ARM").ok();
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        let mut arms = Vec::new();
        if wanted("pulsar") {
            match pulsar_urls() {
                Some((service, admin)) => arms.push(Arm::pulsar(&service, &admin)),
                None if only.is_some() => panic!("EVERPULSE_ARM is pulsar, and EVERPULSE_TEST_PULSAR_URL is not set"),
                None => eprintln!(
                    "NOT RUN on Apache Pulsar: EVERPULSE_TEST_PULSAR_URL is not set; use cargo xtask pulsar run -- CMD"
                ),
            }
        }
        #[cfg(feature = "embedded")]
        if wanted("embedded") {
            arms.push(Arm::embedded());
        }
        arms
    }

    pub fn pulsar(service: &str, admin: &str) -> Arm {
        let namespace = format!("test-{}", uuid::Uuid::new_v4().simple());
        let address = format!("{service}/public/{namespace}?admin={admin}").parse().expect("a good address");
        Arm { name: "pulsar", address, _dir: None }
    }

    #[cfg(feature = "embedded")]
    fn embedded() -> Arm {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Arm { name: "embedded", address: Address::embedded(dir.path()), _dir: Some(dir) }
    }

    /// Connected, in another namespace of the same broker.
    pub async fn in_fresh_namespace(&self) -> Transport {
        let namespace = format!("test-{}", uuid::Uuid::new_v4().simple());
        let address = self.address.clone().with_namespace("public", &namespace).expect("a good name");
        let options = Options::default().connect_timeout(LONG);
        Transport::connect(&address, options).await.expect("connected")
    }

    /// Connected and set up, with few shards.
    pub async fn transport(&self) -> Transport {
        let transport = self.connect().await;
        let wanted = SetUp::default().shards(Some(2)).inbox_partitions(Some(2));
        transport.set_up(&wanted).await.expect("set up");
        transport
    }

    pub async fn connect(&self) -> Transport {
        let options = Options::default().connect_timeout(LONG);
        Transport::connect(&self.address, options).await.expect("connected")
    }
}

/// Where the test's Apache Pulsar is.
pub fn pulsar_urls() -> Option<(String, String)> {
    let variable = |name| std::env::var(name).ok();
    Some((variable("EVERPULSE_TEST_PULSAR_URL")?, variable("EVERPULSE_TEST_PULSAR_ADMIN_URL")?))
}

/// Runs a test body on every arm.
pub async fn on_each_arm(body: impl AsyncFn(&Arm)) {
    logging();
    for arm in Arm::all() {
        eprintln!("arm: {}", arm.name);
        body(&arm).await;
    }
}

pub fn logging() {
    // Only the first of a process's tests sets it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}

/// Fails the test instead of hanging it.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"))
}

pub fn publisher(transport: &Transport, topic: &str) -> Publisher {
    transport.publisher(topic, PublisherOptions::default().timeout(LONG))
}

pub fn numbered(key: Option<&str>, number: u64) -> Message {
    Message::new(key.map(str::to_owned), number.to_string())
}

pub fn number(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).expect("a number").parse().expect("a number")
}

pub fn number_of(delivery: &Delivery) -> u64 {
    number(&delivery.payload)
}
