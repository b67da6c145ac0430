//! Subscriptions and what waits in them.

use pulsar::SubType;
use serde_json::json;

use super::*;
use support::*;

const BASE: &str = "persistent/acme/shop/t";
const EARLIEST: &str = r#"{"ledgerId":-1,"entryId":-1,"partitionIndex":-1}"#;

async fn backlog(admin: &Admin, subscription: &str) -> u64 {
    let stats = admin.get(&format!("{BASE}/stats")).await;
    stats["subscriptions"][subscription]["msgBacklog"].as_u64().unwrap_or_else(|| panic!("{stats}"))
}

// covers: admin_subscriptions
#[tokio::test]
async fn subscriptions_are_created_where_asked_listed_and_deleted() {
    let (broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", BASE, None).await, 204);
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    send(&mut producer, plain("x")).await;
    assert_eq!(admin.status("PUT", &format!("{BASE}/subscription/early"), Some(EARLIEST)).await, 204);
    assert_eq!(admin.status("PUT", &format!("{BASE}/subscription/late"), None).await, 204);
    let again = admin.refused("PUT", &format!("{BASE}/subscription/late"), None).await;
    assert_eq!(again, (409, "Subscription already exists for topic".into()));
    assert_eq!((backlog(&admin, "early").await, backlog(&admin, "late").await), (1, 0));
    assert_eq!(admin.get(&format!("{BASE}/subscriptions")).await, json!(["early", "late"]));
    assert_eq!(admin.status("DELETE", &format!("{BASE}/subscription/early"), None).await, 204);
    assert_eq!(admin.refused("DELETE", &format!("{BASE}/subscription/early"), None).await.0, 404);
    let _consumer = consumer(&client, "acme/shop/t", "late", SubType::Shared, "c").await;
    let used = admin.refused("DELETE", &format!("{BASE}/subscription/late"), None).await;
    assert_eq!(used, (412, "Subscription has active connected consumers".into()));
    assert_eq!(admin.status("DELETE", &format!("{BASE}/subscription/late?force=true"), None).await, 204);
}

// covers: admin_subscriptions
#[tokio::test]
async fn a_partitioned_topics_subscription_is_on_every_partition() {
    let (_broker, admin) = shop().await;
    let base = "persistent/acme/shop/p";
    assert_eq!(admin.status("PUT", &format!("{base}/partitions"), Some("2")).await, 204);
    assert_eq!(admin.status("PUT", &format!("{base}-partition-0/subscription/s"), Some(EARLIEST)).await, 204);
    assert_eq!(admin.status("PUT", &format!("{base}/subscription/s"), Some(EARLIEST)).await, 204);
    assert_eq!(admin.refused("PUT", &format!("{base}/subscription/s"), Some(EARLIEST)).await.0, 409);
    assert_eq!(admin.get(&format!("{base}-partition-1/subscriptions")).await, json!(["s"]));
    assert_eq!(admin.refused("POST", &format!("{base}/subscription/s/skip/1"), None).await.0, 405);
    assert_eq!(admin.status("POST", &format!("{base}/subscription/s/skip_all"), None).await, 204);
    assert_eq!(admin.status("DELETE", &format!("{base}/subscription/s"), None).await, 204);
    assert_eq!(admin.get(&format!("{base}/subscriptions")).await, json!([]));
}

// covers: admin_subscriptions
#[tokio::test]
async fn subscriptions_have_properties() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", BASE, None).await, 204);
    let latest =
        r#"{"ledgerId":9223372036854775807,"entryId":9223372036854775807,"partitionIndex":-1,"properties":{"k":"v"}}"#;
    let path = format!("{BASE}/subscription/s");
    assert_eq!(admin.status("PUT", &path, Some(latest)).await, 204);
    assert_eq!(admin.get(&format!("{path}/properties")).await, json!({ "k": "v" }));
    assert_eq!(admin.status("PUT", &format!("{path}/properties"), Some(r#"{"a":"b"}"#)).await, 204);
    assert_eq!(admin.get(&format!("{path}/properties")).await, json!({ "a": "b" }));
    let stats = admin.get(&format!("{BASE}/stats")).await;
    assert_eq!(stats["subscriptions"]["s"]["subscriptionProperties"], json!({ "a": "b" }));
    assert_eq!(admin.refused("GET", &format!("{BASE}/subscription/none/properties"), None).await.0, 404);
}

// covers: admin_skip, admin_expire, admin_reset_cursor
#[tokio::test]
async fn messages_are_skipped_expired_and_brought_back() {
    let (broker, admin) = shop().await;
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    let path = format!("{BASE}/subscription/s");
    assert_eq!(admin.status("PUT", &path, Some(EARLIEST)).await, 204);
    let mut ids = Vec::new();
    for index in 0..6 {
        ids.push(send(&mut producer, plain(format!("m{index}"))).await);
    }
    assert_eq!(admin.status("POST", &format!("{path}/skip/2"), None).await, 204);
    assert_eq!(backlog(&admin, "s").await, 4);
    assert_eq!(admin.status("POST", &format!("{path}/expireMessages/3600"), None).await, 204);
    assert_eq!(backlog(&admin, "s").await, 4, "none is so old");
    let third = format!(r#"{{"ledgerId":{},"entryId":{}}}"#, ids[2].0, ids[2].1);
    assert_eq!(admin.status("POST", &format!("{path}/expireMessages"), Some(&third)).await, 204);
    assert_eq!(backlog(&admin, "s").await, 3);
    assert_eq!(admin.status("POST", &format!("{path}/skip_all"), None).await, 204);
    assert_eq!(backlog(&admin, "s").await, 0);
    assert_eq!(admin.status("POST", &format!("{path}/resetcursor"), Some(&third)).await, 204);
    assert_eq!(backlog(&admin, "s").await, 4);
    let excluded = third.replace('}', r#","isExcluded":true}"#);
    assert_eq!(admin.status("POST", &format!("{path}/resetcursor"), Some(&excluded)).await, 204);
    assert_eq!(backlog(&admin, "s").await, 3);
    assert_eq!(admin.status("POST", &format!("{path}/resetcursor/1000"), None).await, 204);
    assert_eq!(backlog(&admin, "s").await, 6);
    assert_eq!(admin.status("DELETE", &format!("{BASE}/truncate"), None).await, 204);
    assert_eq!(backlog(&admin, "s").await, 0);
    for action in ["skip/1", "skip_all", "expireMessages/1", "resetcursor/1"] {
        let path = format!("{BASE}/subscription/none/{action}");
        assert_eq!(admin.refused("POST", &path, None).await.0, 404, "{action}");
    }
    assert_eq!(admin.refused("POST", &format!("{path}/skip/many"), None).await.0, 404);
}

// covers: admin_subscriptions
#[tokio::test]
async fn an_admins_earliest_subscription_gets_what_is_sent_before_its_consumer() {
    let (broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", BASE, None).await, 204);
    assert_eq!(admin.status("PUT", &format!("{BASE}/subscription/s"), Some(EARLIEST)).await, 204);
    let (sending, receiving) = (broker.client().await, broker.client().await);
    send(&mut producer(&sending, "acme/shop/t").await, plain("x")).await;
    let mut consumer = consumer(&receiving, "acme/shop/t", "s", SubType::KeyShared, "c").await;
    assert_eq!(text(&mut consumer).await, "x");
}
