//! Single policies of namespaces: unset they read as nothing, set they read as set and survive a restart.

use serde_json::{Value, json};

use super::*;

const BASE: &str = "namespaces/acme/shop";

// covers: admin_policies
#[tokio::test]
async fn each_policy_is_read_set_kept_and_removed() {
    let (broker, admin) = shop().await;
    let policies = [
        ("retention", "POST", r#"{"retentionTimeInMinutes":60,"retentionSizeInMB":1024}"#),
        ("deduplication", "POST", "true"),
        ("messageTTL", "POST", "120"),
        ("compactionThreshold", "PUT", "1000"),
        ("maxProducersPerTopic", "POST", "2"),
        ("maxConsumersPerTopic", "POST", "3"),
        ("maxConsumersPerSubscription", "POST", "4"),
        ("maxSubscriptionsPerTopic", "POST", "5"),
        ("maxTopicsPerNamespace", "POST", "6"),
        ("autoSubscriptionCreation", "POST", r#"{"allowAutoSubscriptionCreation":false}"#),
        (
            "autoTopicCreation",
            "POST",
            r#"{"allowAutoTopicCreation":true,"topicType":"partitioned","defaultNumPartitions":3}"#,
        ),
        (
            "inactiveTopicPolicies",
            "POST",
            r#"{"inactiveTopicDeleteMode":"delete_when_no_subscriptions","maxInactiveDurationSeconds":60,"deleteWhileInactive":true}"#,
        ),
        (
            "persistence",
            "POST",
            r#"{"bookkeeperEnsemble":1,"bookkeeperWriteQuorum":1,"bookkeeperAckQuorum":1,"managedLedgerMaxMarkDeleteRate":0.0}"#,
        ),
    ];
    for (policy, method, value) in policies {
        let path = format!("{BASE}/{policy}");
        assert_eq!(admin.call("GET", &path, None).await, (200, String::new()), "{policy} is unset");
        assert_eq!(admin.status(method, &path, Some(value)).await, 204, "{policy}");
    }
    let broker = broker.restart().await;
    let admin = broker.admin();
    for (policy, _, value) in policies {
        let path = format!("{BASE}/{policy}");
        let value: Value = serde_json::from_str(value).expect("JSON");
        assert_eq!(admin.get(&path).await, value);
        assert_eq!(admin.status("DELETE", &path, None).await, 204, "{policy}");
        assert_eq!(admin.call("GET", &path, None).await, (200, String::new()), "{policy} is removed");
    }
    assert_eq!(admin.refused("GET", "namespaces/acme/none/retention", None).await.0, 404);
    assert_eq!(admin.refused("POST", "namespaces/acme/none/messageTTL", Some("1")).await.0, 404);
}

// covers: admin_policies
#[tokio::test]
async fn policies_of_schemas_and_encryption_have_defaults() {
    let (_broker, admin) = shop().await;
    for (policy, method, default, other) in [
        ("schemaCompatibilityStrategy", "PUT", json!("UNDEFINED"), json!("BACKWARD")),
        ("schemaValidationEnforced", "POST", json!(false), json!(true)),
        ("isAllowAutoUpdateSchema", "POST", json!(true), json!(false)),
        ("encryptionRequired", "POST", json!(false), json!(true)),
        ("subscriptionTypesEnabled", "POST", json!([]), json!(["Shared", "Key_Shared"])),
    ] {
        let path = format!("{BASE}/{policy}");
        assert_eq!(admin.get(&path).await, default);
        assert_eq!(admin.status(method, &path, Some(&other.to_string())).await, 204, "{policy}");
        assert_eq!(admin.get(&path).await, other);
    }
    assert_eq!(admin.refused("PUT", &format!("{BASE}/schemaCompatibilityStrategy"), Some("\"NO\"")).await.0, 400);
    assert_eq!(admin.refused("POST", &format!("{BASE}/subscriptionTypesEnabled"), Some("[\"No\"]")).await.0, 412);
}

// covers: admin_policies
#[tokio::test]
async fn impossible_values_are_refused() {
    let (_broker, admin) = shop().await;
    for (policy, method, value, status) in [
        ("retention", "POST", r#"{"retentionTimeInMinutes":10,"retentionSizeInMB":0}"#, 400),
        ("retention", "POST", r#"{"retentionTimeInMinutes":-5,"retentionSizeInMB":10}"#, 400),
        ("messageTTL", "POST", "-1", 412),
        ("compactionThreshold", "PUT", "-1", 412),
        ("maxProducersPerTopic", "POST", "-2", 412),
        ("maxTopicsPerNamespace", "POST", "-2", 412),
        ("backlogQuota", "POST", r#"{"limit":7}"#, 400),
        (
            "autoTopicCreation",
            "POST",
            r#"{"allowAutoTopicCreation":true,"topicType":"partitioned","defaultNumPartitions":0}"#,
            412,
        ),
        (
            "persistence",
            "POST",
            r#"{"bookkeeperEnsemble":1,"bookkeeperWriteQuorum":3,"bookkeeperAckQuorum":2,"managedLedgerMaxMarkDeleteRate":0.0}"#,
            400,
        ),
    ] {
        assert_eq!(admin.refused(method, &format!("{BASE}/{policy}"), Some(value)).await.0, status, "{policy} {value}");
    }
    assert_eq!(admin.status("POST", &format!("{BASE}/retention"), None).await, 204, "an empty body unsets");
}

// covers: admin_policies
#[tokio::test]
async fn backlog_quotas_are_kept_by_their_type() {
    let (_broker, admin) = shop().await;
    let path = format!("{BASE}/backlogQuota");
    assert_eq!(admin.get(&format!("{BASE}/backlogQuotaMap")).await, json!({}));
    let size = r#"{"limitSize":1000,"limitTime":-1,"policy":"producer_request_hold"}"#;
    assert_eq!(admin.status("POST", &path, Some(size)).await, 204);
    let age = r#"{"limitTime":3600,"policy":"consumer_backlog_eviction"}"#;
    assert_eq!(admin.status("POST", &format!("{path}?backlogQuotaType=message_age"), Some(age)).await, 204);
    let both = json!({
        "destination_storage": { "limit": 1000, "limitSize": 1000, "limitTime": -1, "policy": "producer_request_hold" },
        "message_age": { "limit": 0, "limitSize": 0, "limitTime": 3600, "policy": "consumer_backlog_eviction" },
    });
    assert_eq!(admin.get(&format!("{BASE}/backlogQuotaMap")).await, both);
    assert_eq!(admin.status("DELETE", &path, None).await, 204);
    assert_eq!(admin.get(&format!("{BASE}/backlogQuotaMap")).await.as_object().map(serde_json::Map::len), Some(1));
}

// covers: admin_policies_refused
#[tokio::test]
async fn policies_that_are_not_honoured_are_refused_and_never_stored() {
    let (_broker, admin) = shop().await;
    let before = admin.get(BASE).await;
    for (policy, method, value) in [
        ("publishRate", "POST", r#"{"publishThrottlingRateInMsg":10}"#),
        ("dispatchRate", "POST", r#"{"dispatchThrottlingRateInMsg":10}"#),
        ("subscriptionExpirationTime", "POST", "30"),
        ("replication", "POST", r#"["standalone","other"]"#),
        ("offloadThreshold", "PUT", "1000"),
        ("maxUnackedMessagesPerConsumer", "POST", "100"),
        ("delayedDelivery", "POST", r#"{"active":false,"tickTime":1000}"#),
        ("antiAffinity", "POST", "\"group\""),
        ("permissions/me", "POST", r#"["produce"]"#),
    ] {
        let (status, reason) = admin.refused(method, &format!("{BASE}/{policy}"), Some(value)).await;
        assert_eq!(status, 501, "{policy}: {reason}");
    }
    assert_eq!(admin.get(BASE).await, before);
    for (policy, method, value) in [
        ("publishRate", "POST", r#"{"publishThrottlingRateInMsg":-1}"#),
        ("subscriptionExpirationTime", "POST", "0"),
        ("replication", "POST", r#"["standalone"]"#),
        ("delayedDelivery", "POST", r#"{"active":true,"tickTime":100}"#),
    ] {
        assert_eq!(admin.status(method, &format!("{BASE}/{policy}"), Some(value)).await, 204, "{policy} asks nothing");
    }
    assert_eq!(admin.get(&format!("{BASE}/replication")).await, json!(["standalone"]));
    assert_eq!(admin.get(&format!("{BASE}/offloadThreshold")).await, json!(-1));
    assert_eq!(admin.get(&format!("{BASE}/permissions")).await, json!({}));
}
