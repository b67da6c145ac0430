//! Namespaces as a whole.

use serde_json::json;

use super::*;

// covers: admin_namespaces
#[tokio::test]
async fn namespaces_are_created_listed_and_deleted() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.refused("PUT", "namespaces/none/shop", None).await.0, 404);
    assert_eq!(admin.refused("PUT", "namespaces/acme/shop", None).await.0, 409);
    let bad = admin.refused("PUT", "namespaces/acme/bad*name", None).await;
    assert_eq!(bad, (412, "Namespace name is not valid".into()));
    assert_eq!(admin.get("namespaces/acme").await, json!(["acme/shop"]));
    assert_eq!(admin.refused("GET", "namespaces/none", None).await, (404, "Tenant not found".into()));
    assert_eq!(admin.refused("GET", "namespaces/acme/none", None).await, (404, "Namespace does not exist".into()));
    assert_eq!(admin.refused("DELETE", "namespaces/acme/none", None).await.0, 404);
    assert_eq!(admin.status("PUT", "persistent/acme/shop/t", None).await, 204);
    assert_eq!(admin.refused("DELETE", "namespaces/acme/shop", None).await.0, 409, "it has a topic");
    assert_eq!(admin.status("DELETE", "namespaces/acme/shop?force=true", None).await, 204);
    assert_eq!(admin.get("namespaces/acme").await, json!([]));
}

// covers: admin_namespaces
#[tokio::test]
async fn policies_can_be_given_at_once() {
    let (_broker, admin) = shop().await;
    let policies = r#"{"bundles":{"numBundles":4},"retention_policies":{"retentionTimeInMinutes":5,"retentionSizeInMB":6},
        "deduplicationEnabled":true,"replication_clusters":["standalone"],"offload_threshold":-1,"topicDispatchRate":{}}"#;
    assert_eq!(admin.status("PUT", "namespaces/acme/other", Some(policies)).await, 204);
    let all = admin.get("namespaces/acme/other").await;
    assert_eq!(all["retention_policies"], json!({ "retentionTimeInMinutes": 5, "retentionSizeInMB": 6 }));
    assert_eq!((&all["deduplicationEnabled"], &all["deleted"]), (&json!(true), &json!(false)));
    assert_eq!(all["replication_clusters"], json!(["standalone"]));
    assert_eq!(all["bundles"], admin.get("namespaces/acme/other/bundles").await);
    assert!(all.get("message_ttl_in_seconds").is_none(), "what is unset is left out");
    let elsewhere = r#"{"replication_clusters":["elsewhere"]}"#;
    assert_eq!(admin.refused("PUT", "namespaces/acme/third", Some(elsewhere)).await.0, 403);
    let limited = r#"{"publishMaxMessageRate":{"standalone":{"publishThrottlingRateInMsg":10}}}"#;
    assert_eq!(admin.refused("PUT", "namespaces/acme/third", Some(limited)).await.0, 501, "it is not honoured");
    assert_eq!(admin.get("namespaces/acme").await, json!(["acme/other", "acme/shop"]));
}

// covers: admin_namespaces
#[tokio::test]
async fn topics_are_listed_by_mode() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", "persistent/acme/shop/p/partitions", Some("2")).await, 204);
    assert_eq!(admin.status("PUT", "non-persistent/acme/shop/n", None).await, 204);
    let partitions = json!(["persistent://acme/shop/p-partition-0", "persistent://acme/shop/p-partition-1"]);
    assert_eq!(admin.get("namespaces/acme/shop/topics").await, partitions);
    let unstored = json!(["non-persistent://acme/shop/n"]);
    assert_eq!(admin.get("namespaces/acme/shop/topics?mode=NON_PERSISTENT").await, unstored);
    let all = admin.get("namespaces/acme/shop/topics?mode=ALL").await;
    assert_eq!(all.as_array().map(Vec::len), Some(3));
    assert_eq!(admin.refused("GET", "namespaces/acme/none/topics", None).await.0, 404);
}

// covers: admin_namespaces
#[tokio::test]
async fn properties_are_set_together_and_singly() {
    let (_broker, admin) = shop().await;
    let base = "namespaces/acme/shop";
    assert_eq!(admin.status("PUT", &format!("{base}/properties"), Some(r#"{"a":"b","c":"d"}"#)).await, 204);
    assert_eq!(admin.status("PUT", &format!("{base}/property/k/v"), None).await, 204);
    assert_eq!(admin.get(&format!("{base}/properties")).await, json!({ "a": "b", "c": "d", "k": "v" }));
    assert_eq!(admin.call("GET", &format!("{base}/property/k"), None).await, (200, "v".into()));
    assert_eq!(admin.call("DELETE", &format!("{base}/property/k"), None).await, (200, "v".into()));
    assert_eq!(admin.call("GET", &format!("{base}/property/k"), None).await, (200, String::new()));
    assert_eq!(admin.status("DELETE", &format!("{base}/properties"), None).await, 204);
    assert_eq!(admin.get(&format!("{base}/properties")).await, json!({}));
}

// covers: admin_namespaces
#[tokio::test]
async fn backlogs_of_all_topics_are_cleared_and_all_are_unloaded() {
    let (broker, admin) = shop().await;
    let base = "persistent/acme/shop/t";
    let sending = broker.client().await;
    let mut producer = support::producer(&sending, "acme/shop/t").await;
    for name in ["a", "b"] {
        assert_eq!(admin.status("PUT", &format!("{base}/subscription/{name}"), None).await, 204);
    }
    support::send(&mut producer, support::plain("x")).await;
    let backlogs = async || {
        let stats = admin.get(&format!("{base}/stats")).await;
        ["a", "b"].map(|name| stats["subscriptions"][name]["msgBacklog"].as_u64())
    };
    assert_eq!(backlogs().await, [Some(1), Some(1)]);
    assert_eq!(admin.status("POST", "namespaces/acme/shop/clearBacklog/a", None).await, 204);
    assert_eq!(backlogs().await, [Some(0), Some(1)]);
    assert_eq!(admin.status("POST", "namespaces/acme/shop/0x00000000_0xffffffff/clearBacklog", None).await, 204);
    assert_eq!(backlogs().await, [Some(0), Some(0)]);
    assert_eq!(admin.status("POST", "namespaces/acme/shop/unsubscribe/b", None).await, 204);
    assert_eq!(admin.get(&format!("{base}/subscriptions")).await, json!(["a"]));
    assert_eq!(admin.status("PUT", "namespaces/acme/shop/unload", None).await, 204);
    assert_eq!(admin.refused("PUT", "namespaces/acme/shop/0x00000000_0x4000/unload", None).await.0, 412);
}
