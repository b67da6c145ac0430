//! A token passes through a worker and a client that log everything, fail, and go on: it is in nothing that their process
//! writes. What `transport` itself says is looked through in `transport/tests/secrets.rs`.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use everpulse::client::{Address, Options};
use everpulse::prelude::*;
use everpulse_broker::Embedded;
use everpulse_integration_tests::arm::eventually;
use everpulse_integration_tests::workflows::{self, hello, panics, persists};

const CANARY: &str = "canary-5b0d";
/// Where the other process finds its broker.
const SERVICE: &str = "EVERPULSE_TEST_SECRETS_URL";

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_in_nothing_that_a_worker_and_a_client_write() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut options = everpulse_broker::Options::new(dir.path());
    options.token = Some(CANARY.into());
    let broker = Embedded::open(options).await?;
    let endpoint = broker.endpoint();
    let url = format!("{}?admin={}&shards=2&inbox_partitions=2", endpoint.service_url, endpoint.admin_url);
    let this = std::env::current_exe()?;
    let output = tokio::task::spawn_blocking(move || {
        Command::new(this)
            .args(["--exact", "the_process_with_the_secret", "--include-ignored", "--nocapture"])
            .env(SERVICE, url)
            .env("EVERPULSE_TOKEN", CANARY)
            .env("RUST_BACKTRACE", "full")
            .output()
    })
    .await??;
    broker.close().await;
    let written = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{written}");
    // It was listened to: to all of ours, to the crate that has the handshake in hand, and to what was said of failures.
    for heard in
        ["everpulse_worker", "everpulse_transport", "pulsar::connection", "on purpose", "said: ", "turned us away"]
    {
        assert!(written.contains(heard), "{heard} is not in {} bytes of output", written.len());
    }
    let bytes: Vec<String> = CANARY.bytes().map(|byte| byte.to_string()).collect();
    for spelling in ["canary", &bytes.join(", "), &bytes.join(",")] {
        let line = written.lines().find(|line| line.contains(spelling));
        assert_eq!(line, None, "the token is in the output");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the test above runs it, in a process of its own"]
async fn the_process_with_the_secret() -> Result<()> {
    let url = std::env::var(SERVICE).context("the test above sets it")?;
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let say = |what: &dyn std::fmt::Debug| writeln!(std::io::stderr(), "said: {what:?}");

    let worker = workflows::serve_all(Worker::connect(&url).await?);
    say(&worker)?;
    let worker = worker.spawn().await?;
    say(&worker)?;
    let client = Client::connect(&url).await?;
    say(&client)?;

    assert_eq!(client.start(hello("world".to_owned())).id("hello").await?.result().await?, "hello world");
    let broken = client.start(panics()).id("broken").await?;
    say(&eventually("the run is parked", || async { Ok(broken.describe().await?.parked) }).await?)?;
    assert_eq!(client.start(persists(99)).id("exhausted").await?.result().await?, "exhausted after 5");
    let letters = client.dead_letters("default")?.list().await?;
    assert_eq!(letters.len(), 1);
    say(&letters)?;

    // Nobody there, and a token that is not the right one.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let nobody = format!("pulsar://{free}?admin=http://{free}");
    let error = Worker::connect(&nobody).await.err().context("nobody is there")?;
    writeln!(std::io::stderr(), "said: {error} {error:?}")?;
    let address = url.parse::<Address>()?.with_token(format!("{CANARY}-wrong"));
    let error = Client::connect_to(&address, Options::default()).await.err();
    let error = error.context("the token is wrong")?;
    writeln!(std::io::stderr(), "said: {address} {address:?} {error} {error:?}")?;
    worker.stop().await;
    Ok(())
}
