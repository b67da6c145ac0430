//! Compaction and the end of topics.

use serde_json::json;

use super::*;
use support::*;

const BASE: &str = "persistent/acme/shop/t";

// covers: admin_compaction
#[tokio::test]
async fn a_topic_is_compacted_on_request() {
    let (broker, admin) = shop().await;
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    for (key, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        send(&mut producer, keyed(key, value)).await;
    }
    let path = format!("{BASE}/compaction");
    assert_eq!(admin.get(&path).await, json!({ "status": "NOT_RUN", "lastError": "" }));
    assert_eq!(admin.status("PUT", &path, None).await, 204);
    eventually("it is compacted", async || admin.get(&path).await["status"] == "SUCCESS").await;
    assert_eq!(admin.refused("PUT", "persistent/acme/shop/none/compaction", None).await.0, 404);
    assert_eq!(admin.refused("GET", "persistent/acme/shop/none/compaction", None).await.0, 404);
}

// covers: admin_terminate
#[tokio::test]
async fn a_terminated_topic_has_a_last_message() {
    let (broker, admin) = shop().await;
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    let (ledger, entry) = send(&mut producer, plain("x")).await;
    let last = json!({ "ledgerId": ledger, "entryId": entry, "partitionIndex": -1, "batchIndex": -1, "batchSize": 0 });
    for _ in 0..2 {
        let (status, body) = admin.call("POST", &format!("{BASE}/terminate"), None).await;
        assert_eq!((status, serde_json::from_str(&body).ok()), (200, Some(last.clone())), "{body}");
    }
    let refused = client.producer().with_topic("acme/shop/t").build().await;
    assert!(refused.is_err(), "it takes no more messages");
    assert_eq!(admin.refused("POST", "persistent/acme/shop/none/terminate", None).await.0, 404);
    assert_eq!(admin.status("PUT", "persistent/acme/shop/p/partitions", Some("2")).await, 204);
    assert_eq!(admin.refused("POST", "persistent/acme/shop/p/terminate", None).await.0, 405);
    let (status, body) = admin.call("POST", "persistent/acme/shop/p/terminate/partitions", None).await;
    let ends: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, ends.as_object().map(serde_json::Map::len)), (200, Some(2)), "{body}");
}

// covers: admin_unload, admin_truncate
#[tokio::test]
async fn an_unloaded_topic_goes_on_and_a_truncated_one_is_empty() {
    let (broker, admin) = shop().await;
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    assert_eq!(admin.status("PUT", &format!("{BASE}/subscription/s"), None).await, 204);
    let (ledger, _) = send(&mut producer, plain("x")).await;
    assert_eq!(admin.status("PUT", &format!("{BASE}/unload"), None).await, 204);
    let (next, _) = send(&mut producer, plain("y")).await;
    assert!(next > ledger, "a new ledger");
    assert_eq!(admin.get(&format!("{BASE}/stats")).await["subscriptions"]["s"]["msgBacklog"], 2);
    assert_eq!(admin.status("DELETE", &format!("{BASE}/truncate"), None).await, 204);
    assert_eq!(admin.get(&format!("{BASE}/stats")).await["subscriptions"]["s"]["msgBacklog"], 0);
    assert_eq!(admin.refused("PUT", "persistent/acme/shop/none/unload", None).await.0, 404);
}
