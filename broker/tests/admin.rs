//! The admin REST API: paths, verbs, bodies and status codes of Apache Pulsar 4.0.

mod support;

use pulsar::SubType;
use serde_json::json;
use support::*;

#[tokio::test]
async fn tenants_namespaces_and_policies() {
    let broker = Broker::start().await;
    let admin = broker.admin();
    assert_eq!(admin.get("clusters").await, json!(["standalone"]));
    assert_eq!(admin.call("GET", "brokers/health", None).await, (200, "ok".into()));
    assert_eq!(admin.call("GET", "brokers/ready", None).await, (200, "ok".into()));
    assert_eq!(admin.call("PUT", "namespaces/acme/shop", None).await.0, 404);
    assert_eq!(admin.call("PUT", "tenants/acme", Some(r#"{"allowedClusters":["standalone"]}"#)).await.0, 204);
    assert_eq!(admin.call("PUT", "tenants/acme", Some("{}")).await.0, 409);
    assert_eq!(admin.call("PUT", "namespaces/acme/shop", None).await.0, 204);
    assert_eq!(admin.call("PUT", "namespaces/acme/shop", None).await.0, 409);
    assert_eq!(admin.get("namespaces/acme").await, json!(["acme/shop"]));
    let policies = [
        ("retention", r#"{"retentionTimeInMinutes":60,"retentionSizeInMB":1024}"#),
        ("deduplication", "true"),
        ("messageTTL", "120"),
        (
            "inactiveTopicPolicies",
            r#"{"inactiveTopicDeleteMode":"delete_when_no_subscriptions","maxInactiveDurationSeconds":60,"deleteWhileInactive":false}"#,
        ),
        (
            "persistence",
            r#"{"bookkeeperEnsemble":1,"bookkeeperWriteQuorum":1,"bookkeeperAckQuorum":1,"managedLedgerMaxMarkDeleteRate":0.0}"#,
        ),
    ];
    for (policy, value) in policies {
        let path = format!("namespaces/acme/shop/{policy}");
        assert_eq!(admin.call("GET", &path, None).await, (204, String::new()), "{policy} is unset");
        assert_eq!(admin.call("POST", &path, Some(value)).await.0, 204, "{policy}");
        let value: serde_json::Value = serde_json::from_str(value).expect("JSON");
        assert_eq!(admin.get(&path).await, value);
    }
    let quota = r#"{"limitSize":-1,"limitTime":-1,"policy":"producer_request_hold"}"#;
    assert_eq!(admin.call("POST", "namespaces/acme/shop/backlogQuota", Some(quota)).await.0, 204);
    assert_eq!(admin.get("namespaces/acme/shop/backlogQuotaMap").await["destination_storage"]["limitSize"], -1);
    assert_eq!(admin.call("PUT", "namespaces/acme/shop/properties", Some(r#"{"a":"b"}"#)).await.0, 204);
    let broker = broker.restart().await;
    let admin = broker.admin();
    let all = admin.get("namespaces/acme/shop").await;
    assert_eq!(all["retention_policies"]["retentionTimeInMinutes"], 60);
    assert_eq!((&all["deduplicationEnabled"], &all["message_ttl_in_seconds"]), (&json!(true), &json!(120)));
    assert_eq!(admin.get("namespaces/acme/shop/properties").await, json!({ "a": "b" }));
    assert_eq!(admin.call("DELETE", "namespaces/acme/shop/messageTTL", None).await.0, 204);
    assert_eq!(admin.call("GET", "namespaces/acme/shop/messageTTL", None).await.0, 204);
    let (status, body) = admin.call("GET", "namespaces/acme/none", None).await;
    assert_eq!(status, 404);
    assert!(body.contains("\"reason\""), "{body}");
    assert_eq!(admin.call("POST", "namespaces/acme/shop/retention", Some("nonsense")).await.0, 400);
}

#[tokio::test]
async fn topics_partitions_and_subscriptions() {
    let broker = Broker::start().await;
    let admin = broker.admin();
    let base = "persistent/public/default";
    assert_eq!(admin.call("PUT", &format!("{base}/inbox/partitions"), Some("3")).await.0, 204);
    assert_eq!(admin.call("PUT", &format!("{base}/inbox/partitions"), Some("3")).await.0, 409);
    assert_eq!(admin.get(&format!("{base}/inbox/partitions")).await["partitions"], 3);
    assert_eq!(admin.call("GET", &format!("{base}/none/partitions"), None).await.0, 404);
    assert_eq!(admin.call("POST", &format!("{base}/inbox/partitions"), Some("4")).await.0, 204);
    assert_eq!(admin.get(&format!("{base}/partitioned")).await, json!(["persistent://public/default/inbox"]));
    assert_eq!(admin.call("PUT", &format!("{base}/timers"), None).await.0, 204);
    assert_eq!(admin.call("PUT", &format!("{base}/timers"), None).await.0, 409);
    assert_eq!(admin.get(base).await.as_array().map(Vec::len), Some(5));
    let earliest = r#"{"ledgerId":-1,"entryId":-1,"partitionIndex":-1}"#;
    let subscription = format!("{base}/inbox/subscription/owners");
    assert_eq!(admin.call("PUT", &subscription, Some(earliest)).await.0, 204);
    assert_eq!(admin.call("PUT", &subscription, Some(earliest)).await.0, 409);
    assert_eq!(admin.get(&format!("{base}/inbox/subscriptions")).await, json!(["owners"]));
    let sending = broker.client().await;
    let mut producer = producer(&sending, "inbox-partition-1").await;
    send(&mut producer, plain("x")).await;
    let stats = admin.get(&format!("{base}/inbox-partition-1/stats")).await;
    assert_eq!(stats["subscriptions"]["owners"]["msgBacklog"], 1);
    assert_eq!(stats["publishers"].as_array().map(Vec::len), Some(1));
    let internal = admin.get(&format!("{base}/inbox-partition-1/internalStats")).await;
    assert_eq!(internal["numberOfEntries"], 1);
    assert_eq!(admin.call("PUT", &format!("{base}/inbox/unload"), None).await.0, 204);
    assert_eq!(admin.call("DELETE", &format!("{base}/timers"), None).await.0, 204);
    assert_eq!(admin.call("DELETE", &format!("{base}/timers"), None).await.0, 404);
    drop(producer);
    assert_eq!(admin.call("DELETE", &format!("{base}/inbox/partitions?force=true"), None).await.0, 204);
    assert_eq!(admin.get(base).await, json!([]));
}

#[tokio::test]
async fn an_admins_earliest_subscription_gets_what_is_sent_before_its_consumer() {
    let broker = Broker::start().await;
    let admin = broker.admin();
    let path = "persistent/public/default/t/subscription/s";
    let earliest = r#"{"ledgerId":-1,"entryId":-1}"#;
    assert_eq!(admin.call("PUT", "persistent/public/default/t", None).await.0, 204);
    assert_eq!(admin.call("PUT", path, Some(earliest)).await.0, 204);
    let (sending, receiving) = (broker.client().await, broker.client().await);
    send(&mut producer(&sending, "t").await, plain("x")).await;
    let mut consumer = consumer(&receiving, "t", "s", SubType::KeyShared, "c").await;
    assert_eq!(text(&mut consumer).await, "x");
    assert_eq!(admin.call("DELETE", path, None).await.0, 412, "it has a consumer");
}
