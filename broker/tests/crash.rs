//! `kill -9`, takeover, stopping, a full disk: what was confirmed stays.

#[path = "support/program.rs"]
mod program;
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everpulse_broker::{Embedded, ErrorKind, Options};
use program::Program;
use pulsar::SubType;
use support::*;

// covers: send
#[tokio::test]
async fn every_receipt_survives_kill_9_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut confirmed: Vec<String> = Vec::new();
    let mut last = None;
    for round in 0..3 {
        let program = Program::start(dir.path());
        let sending = client(&program.service_url).await;
        let mut producer = producer(&sending, "survivors").await;
        let receipts = Arc::new(AtomicUsize::new(0));
        let mut sends = Vec::new();
        for n in 0..3000 {
            let text = format!("{round}-{n}");
            let receipt = producer.send_non_blocking(plain(text.clone())).await.expect("queued");
            let counted = receipts.clone();
            sends.push((
                text,
                tokio::spawn(async move {
                    let receipt = receipt.await;
                    counted.fetch_add(1, Ordering::Relaxed);
                    receipt
                }),
            ));
            if n >= 1500 && receipts.load(Ordering::Relaxed) >= 500 {
                break;
            }
            if n % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        counted("receipts", 500, || receipts.load(Ordering::Relaxed)).await;
        program.kill();
        drop(producer);
        drop(sending);
        for (text, receipt) in sends {
            if !receipt.is_finished() {
                receipt.abort();
            } else if let Ok(Ok(receipt)) = receipt.await {
                let id = receipt.message_id.expect("a position");
                let position = Some((id.ledger_id, id.entry_id));
                assert!(position > last, "positions ascend across restarts");
                last = position;
                confirmed.push(text);
            }
        }
    }
    assert!(confirmed.len() >= 1500);
    let program = Program::start(dir.path());
    let receiving = client(&program.service_url).await;
    let mut consumer = consumer(&receiving, "survivors", "all", SubType::Exclusive, "c").await;
    // Sends without a receipt may be there, too; those with one are, in their order.
    for expected in &confirmed {
        while text(&mut consumer).await != *expected {}
    }
    assert!(program.terminate().success(), "SIGTERM is a clean end");
}

#[tokio::test]
async fn a_follower_takes_over_when_the_holder_is_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = Program::start(dir.path());
    let follower = Embedded::open(Options::new(dir.path())).await.expect("follows");
    assert!(!follower.is_holder());
    assert_eq!(follower.endpoint().service_url, program.service_url);
    let sending = client(&program.service_url).await;
    let before = send(&mut producer(&sending, "t").await, plain("before")).await;
    let service_url = program.service_url.clone();
    program.kill();
    eventually("the follower takes over", async || follower.is_holder()).await;
    assert_eq!(follower.endpoint().service_url, service_url, "on the same port, since it is free");
    let sending = client(&service_url).await;
    let after = send(&mut producer(&sending, "t").await, plain("after")).await;
    assert!(after.0 > before.0);
    let mut consumer = consumer(&sending, "t", "s", SubType::Shared, "c").await;
    let seen = BTreeSet::from([text(&mut consumer).await, text(&mut consumer).await]);
    assert_eq!(seen, BTreeSet::from(["before".to_owned(), "after".to_owned()]));
}

#[tokio::test]
async fn within_one_process_the_second_follows_and_takes_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Embedded::open(Options::new(dir.path())).await.expect("opens");
    let second = Embedded::open(Options::new(dir.path())).await.expect("follows");
    let third = Embedded::open(Options::new(dir.path())).await.expect("follows");
    assert!(first.is_holder() && !second.is_holder() && !third.is_holder());
    assert_eq!(first.endpoint(), second.endpoint());
    first.close().await;
    eventually("one of them takes over", async || second.is_holder() != third.is_holder()).await;
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Embedded::open(Options::new(dir.path())).await.expect("opens");
    let mut options = Options::new(dir.path());
    options.follow = false;
    assert_eq!(Embedded::open(options).await.expect_err("locked").kind(), ErrorKind::InUse);

    let other = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(other.path());
    options.port = broker.endpoint().service_url.rsplit_once(':').expect("a port").1.parse().expect("a number");
    let error = Embedded::open(options).await.expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::PortInUse);
    assert!(error.to_string().contains("choose another port"), "{error}");

    let mut options = Options::new(other.path());
    options.listen = "0.0.0.0".parse().expect("an address");
    assert_eq!(Embedded::open(options).await.expect_err("no token").kind(), ErrorKind::Invalid);

    std::fs::write(other.path().join("log-00000001.seg"), "this is no segment of a log").expect("written");
    let error = Embedded::open(Options::new(other.path())).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupted);
    assert!(error.to_string().contains("log-00000001.seg"), "{error}");

    let file = other.path().join("file");
    std::fs::write(&file, "").expect("written");
    Embedded::open(Options::new(file)).await.expect_err("a file is no directory");
}

// covers: send_errors
#[tokio::test]
async fn a_full_disk_is_told_and_sending_goes_on_when_there_is_space() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new(dir.path());
    let disk = options.storage.disk.clone();
    let embedded = Embedded::open(options).await.expect("opens");
    let sending = client(&embedded.endpoint().service_url).await;
    let mut producer = producer(&sending, "t").await;
    send(&mut producer, plain("before")).await;
    disk.set(0);
    // More than what is reserved already.
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(producer.send_non_blocking(plain(vec![b'x'; 100_000])).await.expect("queued"));
    }
    let receiving = client(&embedded.endpoint().service_url).await;
    let mut consumer = consumer(&receiving, "t", "s", SubType::Shared, "c").await;
    assert_eq!(text(&mut consumer).await, "before");
    disk.set(u64::MAX);
    // The client sends again by itself what was answered with an error.
    for receipt in waiting {
        let receipt = tokio::time::timeout(PATIENCE, receipt).await.expect("in time");
        receipt.expect("stored after all");
    }
    assert_eq!(text(&mut consumer).await.len(), 100_000);
}

// covers: retention
#[tokio::test]
async fn disk_space_comes_back_when_messages_are_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(dir.path());
    options.storage.segment_bytes = 64 * 1024;
    let embedded = Embedded::open(options).await.expect("opens");
    let url = embedded.endpoint().service_url;
    let (sending, receiving) = (client(&url).await, client(&url).await);
    let mut consumer = consumer(&receiving, "t", "s", SubType::Shared, "c").await;
    let mut producer = producer(&sending, "t").await;
    let mut first = None;
    for _ in 0..60 {
        let position = send(&mut producer, plain(vec![b'x'; 10_000])).await;
        first.get_or_insert(position);
    }
    let segments = || {
        let files = std::fs::read_dir(dir.path()).expect("listed");
        files
            .filter(|file| file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|end| end == "seg")))
            .count()
    };
    assert!(segments() > 8, "nothing is deleted that is not acknowledged");
    for _ in 0..60 {
        text(&mut consumer).await;
    }
    eventually("closed segments are deleted", async || segments() <= 2).await;
    // What is left is still a whole log, and the last message is still known.
    let last = consumer.get_last_message_id().await.expect("answered");
    assert_eq!(Some((last[0].ledger_id, last[0].entry_id)), first.map(|(ledger, _)| (ledger, 59)));
    embedded.close().await;
    let embedded = Embedded::open(Options::new(dir.path())).await.expect("opens again");
    assert!(embedded.is_holder());
}

// covers: token
#[tokio::test]
async fn a_token_is_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut options = Options::new(dir.path());
    options.token = Some("secret".into());
    let embedded = Embedded::open(options).await.expect("opens");
    let endpoint = embedded.endpoint();
    let build = |token: Option<&str>| {
        let builder = pulsar::Pulsar::builder(&endpoint.service_url, pulsar::TokioExecutor);
        let builder = builder
            .with_connection_retry_options(pulsar::ConnectionRetryOptions { max_retries: 0, ..Default::default() });
        match token {
            Some(token) => builder.with_auth(pulsar::Authentication { name: "token".into(), data: token.into() }),
            None => builder,
        }
        .build()
    };
    assert!(build(None).await.is_err());
    assert!(build(Some("wrong")).await.is_err());
    let sending = build(Some("secret")).await.expect("connects");
    send(&mut producer(&sending, "t").await, plain("x")).await;
    let tenants = format!("{}/admin/v2/tenants", endpoint.admin_url);
    let http = reqwest::Client::new();
    assert_eq!(http.get(&tenants).send().await.expect("answered").status(), 401);
    assert_eq!(http.get(&tenants).bearer_auth("secret").send().await.expect("answered").status(), 200);
}
