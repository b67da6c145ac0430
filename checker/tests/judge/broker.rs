//! The judge at a real broker: it reads what was published, over ledgers, up to the end and no further.
//!
//! Runs against the Apache Pulsar of `EVERPULSE_TEST_PULSAR_URL` and `EVERPULSE_TEST_PULSAR_ADMIN_URL` (which
//! `cargo xtask pulsar run -- cargo test -p everpulse-checker` sets), and says aloud when there is none.

use std::time::Duration;

use crate::hand_made::*;
use everpulse_checker::{Archive, Options, Rules, check};
use pulsar::producer::Message;
use pulsar::{Pulsar, TokioExecutor};

/// A fresh namespace of the broker under test.
struct Arm {
    url: String,
    admin: String,
    namespace: String,
    http: reqwest::Client,
}

impl Arm {
    async fn open() -> Option<Self> {
        let (Ok(url), Ok(admin)) =
            (std::env::var("EVERPULSE_TEST_PULSAR_URL"), std::env::var("EVERPULSE_TEST_PULSAR_ADMIN_URL"))
        else {
            eprintln!("SKIPPED: there is no Apache Pulsar in EVERPULSE_TEST_PULSAR_URL");
            return None;
        };
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
        let arm = Self { url, admin, namespace: format!("public/checker-{unique}"), http: reqwest::Client::new() };
        arm.put(&format!("namespaces/{}", arm.namespace), None).await;
        Some(arm)
    }

    async fn put(&self, path: &str, body: Option<&'static str>) {
        let mut request = self.http.put(format!("{}/admin/v2/{path}", self.admin));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.expect("it answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    fn topic(&self, name: &str) -> String {
        format!("persistent/{}/{name}", self.namespace)
    }

    async fn publish(&self, topic: &str, payloads: &[Vec<u8>]) {
        let pulsar: Pulsar<_> = Pulsar::builder(&self.url, TokioExecutor).build().await.expect("it connects");
        let topic = format!("persistent://{}/{topic}", self.namespace);
        let mut producer = pulsar.producer().with_topic(topic).build().await.expect("a producer");
        for payload in payloads {
            let message = Message { payload: payload.clone(), ..Message::default() };
            let receipt = producer.send_non_blocking(message).await.expect("it is sent");
            tokio::time::timeout(Duration::from_secs(30), receipt).await.expect("in time").expect("a receipt");
        }
    }

    fn options(&self) -> Options {
        Options {
            service_url: self.url.clone(),
            admin_url: Some(self.admin.clone()),
            namespace: self.namespace.clone(),
            rules: Rules::default(),
            ..Options::default()
        }
    }
}

#[tokio::test]
async fn every_partition_is_read_over_its_ledgers_up_to_its_end() {
    let Some(arm) = Arm::open().await else { return };
    arm.put(&format!("{}/partitions", arm.topic("history")), Some("3")).await;
    // XXH3 of "order-1" modulo 3 is 2.
    let mut partition = Partition::default();
    let mine = |frame: Frame| frame.set("shard", 2);
    let first = mine(partition.next([Record::new(1, 0, 1, started("checkout"))]).set("config", config(3)));
    partition.stand(&first);
    arm.publish("history-partition-2", &[first.bytes()]).await;
    arm.put(&format!("{}/unload", arm.topic("history-partition-2")), None).await;
    // Marks of positions are left out: where the frames come to stand is the broker's choice.
    let mut rest = Vec::new();
    for seq in 1..2_500_u32 {
        let frame = partition.next([Record::new(1, seq, 1_000 + u128::from(seq), bare("resumed"))]);
        let frame = mine(frame).set("verified", rmpv::Value::Nil);
        partition.stand(&frame);
        rest.push(frame.bytes());
    }
    rest.push(b"foreign".to_vec());
    arm.publish("history-partition-2", &rest).await;

    let report = check(&arm.options()).await.expect("it reads");
    assert_eq!(report.violations.len(), 1, "{report}");
    let entries: Vec<usize> = report.shards.iter().map(|shard| shard.entries).collect();
    assert_eq!(entries, [0, 0, 2_501]);
    assert_eq!((report.shards[2].standing, report.shards[2].unreadable), (2_500, 1));
    assert_eq!(report.runs[0].records, 2_500);
    assert!(report.backlog.is_some());
}

#[tokio::test]
async fn an_archive_goes_on_where_it_was_left() {
    let Some(arm) = Arm::open().await else { return };
    arm.put(&format!("{}/partitions", arm.topic("history")), Some("3")).await;
    let folder = tempfile::tempdir().expect("a directory");
    let mut archive = Archive::create(folder.path()).expect("a folder");
    let mut partition = Partition::default();
    let mut written = Vec::new();
    for seq in 0..30_u32 {
        let body = if seq == 0 { started("checkout") } else { bare("resumed") };
        let frame = partition.next([Record::new(1, seq, 1 + u128::from(seq), body)]).set("shard", 2);
        let frame = if seq == 0 { frame.set("config", config(3)) } else { frame.set("verified", rmpv::Value::Nil) };
        partition.stand(&frame);
        written.push(frame.bytes());
    }
    for (turn, frames) in written.chunks(10).enumerate() {
        arm.publish("history-partition-2", frames).await;
        if turn == 1 {
            arm.put(&format!("{}/unload", arm.topic("history-partition-2")), None).await;
        }
        assert_eq!(archive.read_on(&arm.options()).await.expect("it reads"), 10);
        assert_eq!(archive.read_on(&arm.options()).await.expect("it reads"), 0, "there is nothing new");
    }
    let kept: Vec<Vec<u8>> = archive.entries(2).expect("it reads").into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(kept, written);
    let report = archive.check(archive.shard_of("order-1"), &Rules::default()).expect("it reads");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.runs[0].records, 30);
}

#[tokio::test]
async fn a_namespace_without_an_application_is_refused() {
    let Some(arm) = Arm::open().await else { return };
    let error = check(&arm.options()).await.expect_err("there is no history");
    let ending = format!("is {} the namespace of an application?", arm.namespace);
    assert!(error.to_string().ends_with(&ending), "{error:#}");
}
