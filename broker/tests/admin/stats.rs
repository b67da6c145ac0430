//! Numbers of topics are true, and in the shape of Apache Pulsar's.

use pulsar::SubType;
use serde_json::{Value, json};

use super::*;
use support::*;

/// What tools read of a topic, a subscription, a consumer and a publisher; all seen from Apache Pulsar.
const TOPIC: &[&str] = &[
    "msgRateIn",
    "msgThroughputIn",
    "msgRateOut",
    "msgThroughputOut",
    "bytesInCounter",
    "msgInCounter",
    "bytesOutCounter",
    "msgOutCounter",
    "averageMsgSize",
    "storageSize",
    "backlogSize",
    "publishers",
    "waitingPublishers",
    "subscriptions",
    "replication",
    "deduplicationStatus",
    "ownerBroker",
];
const SUBSCRIPTION: &[&str] = &[
    "msgRateOut",
    "msgThroughputOut",
    "bytesOutCounter",
    "msgOutCounter",
    "msgRateRedeliver",
    "msgBacklog",
    "backlogSize",
    "msgBacklogNoDelayed",
    "blockedSubscriptionOnUnackedMsgs",
    "msgDelayed",
    "unackedMessages",
    "type",
    "lastConsumedFlowTimestamp",
    "lastConsumedTimestamp",
    "lastAckedTimestamp",
    "consumers",
    "isDurable",
    "isReplicated",
    "allowOutOfOrderDelivery",
    "consumersAfterMarkDeletePosition",
    "nonContiguousDeletedMessagesRanges",
    "subscriptionProperties",
    "durable",
    "replicated",
];
const CONSUMER: &[&str] = &[
    "msgRateOut",
    "msgThroughputOut",
    "bytesOutCounter",
    "msgOutCounter",
    "consumerName",
    "availablePermits",
    "unackedMessages",
    "blockedConsumerOnUnackedMsgs",
    "address",
    "connectedSince",
    "clientVersion",
    "lastAckedTimestamp",
    "lastConsumedTimestamp",
    "metadata",
];
const PUBLISHER: &[&str] = &[
    "accessMode",
    "msgRateIn",
    "msgThroughputIn",
    "averageMsgSize",
    "producerId",
    "producerName",
    "address",
    "connectedSince",
    "clientVersion",
    "metadata",
];

fn has(fields: &[&str], object: &Value) {
    for field in fields {
        assert!(object.get(*field).is_some_and(|value| !value.is_null()), "{field} is missing in {object}");
    }
}

// covers: admin_stats
#[tokio::test]
async fn stats_say_who_is_there_and_what_went_through() {
    let (broker, admin) = shop().await;
    let (sending, receiving) = (broker.client().await, broker.client().await);
    let path = "persistent/acme/shop/t/stats";
    let mut producer = producer(&sending, "acme/shop/t").await;
    let mut consumer = consumer(&receiving, "acme/shop/t", "s", SubType::KeyShared, "alice").await;
    for index in 0..5 {
        send(&mut producer, keyed("k", format!("message {index}"))).await;
    }
    for _ in 0..3 {
        text(&mut consumer).await;
    }
    // Acks have no answer: the numbers tell when they arrived.
    eventually("three are acknowledged", async || admin.get(path).await["subscriptions"]["s"]["msgBacklog"] == 2).await;
    let stats = admin.get(path).await;
    has(TOPIC, &stats);
    assert_eq!((&stats["msgInCounter"], &stats["msgOutCounter"]), (&json!(5), &json!(5)));
    assert!(stats["bytesInCounter"].as_u64() >= Some(45), "{stats}");
    assert!(stats["storageSize"].as_u64() >= stats["bytesInCounter"].as_u64(), "{stats}");
    let subscription = &stats["subscriptions"]["s"];
    has(SUBSCRIPTION, subscription);
    assert_eq!((&subscription["type"], &subscription["keySharedMode"]), (&json!("Key_Shared"), &json!("AUTO_SPLIT")));
    assert_eq!((&subscription["unackedMessages"], &subscription["msgDelayed"]), (&json!(2), &json!(0)));
    let consumer = &subscription["consumers"][0];
    has(CONSUMER, consumer);
    assert_eq!((&consumer["consumerName"], &consumer["unackedMessages"]), (&json!("alice"), &json!(2)));
    assert!(consumer["address"].as_str().is_some_and(|address| address.starts_with("/127.0.0.1:")), "{consumer}");
    let publisher = &stats["publishers"][0];
    has(PUBLISHER, publisher);
    assert_eq!(publisher["accessMode"], "Shared");
    let bare = admin.get(&format!("{path}?excludePublishers=true&excludeConsumers=true")).await;
    assert_eq!((&bare["publishers"], &bare["subscriptions"]["s"]["consumers"]), (&json!([]), &json!([])));
}

// covers: admin_stats
#[tokio::test]
async fn a_partitioned_topics_numbers_are_the_sums() {
    let (broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", "persistent/acme/shop/p/partitions", Some("2")).await, 204);
    assert_eq!(admin.status("PUT", "persistent/acme/shop/p/subscription/s", None).await, 204);
    let client = broker.client().await;
    for partition in 0..2 {
        let mut producer = producer(&client, &format!("acme/shop/p-partition-{partition}")).await;
        send(&mut producer, plain("x")).await;
    }
    let stats = admin.get("persistent/acme/shop/p/partitioned-stats").await;
    assert_eq!((&stats["msgInCounter"], &stats["metadata"]["partitions"]), (&json!(2), &json!(2)));
    assert_eq!(stats["subscriptions"]["s"]["msgBacklog"], 2);
    assert_eq!(stats["partitions"]["persistent://acme/shop/p-partition-1"]["msgInCounter"], 1);
    let short = admin.get("persistent/acme/shop/p/partitioned-stats?perPartition=false").await;
    assert_eq!(short["partitions"], json!({}));
    assert_eq!(admin.refused("GET", "persistent/acme/shop/p/stats", None).await.0, 404);
    assert_eq!(admin.refused("GET", "persistent/acme/shop/none/partitioned-stats", None).await.0, 404);
}

// covers: admin_internal_stats
#[tokio::test]
async fn internal_stats_show_ledgers_and_cursors() {
    let (broker, admin) = shop().await;
    let base = "persistent/acme/shop/t";
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    let path = format!("{base}/subscription/s");
    assert_eq!(admin.status("PUT", &path, None).await, 204);
    let (ledger, _) = send(&mut producer, plain("x")).await;
    send(&mut producer, plain("y")).await;
    assert_eq!(admin.status("POST", &format!("{path}/skip/1"), None).await, 204);
    let stats = admin.get(&format!("{base}/internalStats")).await;
    assert_eq!((&stats["numberOfEntries"], &stats["state"]), (&json!(2), &json!("LedgerOpened")));
    assert_eq!(stats["lastConfirmedEntry"], format!("{ledger}:1"));
    assert_eq!(stats["ledgers"][0]["ledgerId"], ledger);
    let cursor = &stats["cursors"]["s"];
    assert_eq!(cursor["markDeletePosition"], format!("{ledger}:0"));
    assert_eq!((&cursor["individuallyDeletedMessages"], &cursor["backlog"]), (&json!("[]"), &json!(1)));
    let info = admin.get(&format!("{base}/internal-info")).await;
    assert_eq!(info["cursors"]["s"]["markDelete"], json!({ "ledgerId": ledger, "entryId": 0 }));
    assert_eq!(admin.status("PUT", "persistent/acme/shop/p/partitions", Some("2")).await, 204);
    let stats = admin.get("persistent/acme/shop/p/partitioned-internalStats").await;
    assert_eq!(stats["partitions"].as_object().map(serde_json::Map::len), Some(2));
}
