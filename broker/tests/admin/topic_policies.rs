//! Policies and properties of single topics.

use serde_json::json;

use super::*;

// covers: admin_topic_policies
#[tokio::test]
async fn a_topics_policy_goes_before_its_namespaces() {
    let (broker, admin) = shop().await;
    let base = "persistent/acme/shop/t";
    assert_eq!(admin.refused("GET", &format!("{base}/retention"), None).await.0, 404, "there is no such topic");
    assert_eq!(admin.status("PUT", base, None).await, 204);
    let namespace = r#"{"retentionTimeInMinutes":1,"retentionSizeInMB":2}"#;
    assert_eq!(admin.status("POST", "namespaces/acme/shop/retention", Some(namespace)).await, 204);
    let path = format!("{base}/retention");
    assert_eq!(admin.call("GET", &path, None).await, (200, String::new()));
    assert_eq!(admin.get(&format!("{path}?applied=true")).await["retentionSizeInMB"], 2);
    let own = r#"{"retentionTimeInMinutes":-1,"retentionSizeInMB":-1}"#;
    assert_eq!(admin.status("POST", &path, Some(own)).await, 204);
    assert_eq!(admin.status("POST", &format!("{base}/messageTTL?messageTTL=50"), None).await, 204);
    for (policy, value) in [("deduplicationEnabled", "true"), ("maxConsumers", "3"), ("maxProducers", "1")] {
        assert_eq!(admin.status("POST", &format!("{base}/{policy}"), Some(value)).await, 204);
        assert_eq!(admin.call("GET", &format!("{base}/{policy}"), None).await, (200, value.into()));
    }
    let idle = json!({
        "inactiveTopicDeleteMode": "delete_when_no_subscriptions",
        "maxInactiveDurationSeconds": 60,
        "deleteWhileInactive": true,
    });
    assert_eq!(admin.status("POST", &format!("{base}/inactiveTopicPolicies"), Some(&idle.to_string())).await, 204);
    assert_eq!(admin.get(&format!("{base}/inactiveTopicPolicies")).await, idle);
    let broker = broker.restart().await;
    let admin = broker.admin();
    assert_eq!(admin.get(&format!("{path}?applied=true")).await["retentionSizeInMB"], -1);
    assert_eq!(admin.get(&format!("{base}/messageTTL")).await, 50);
    assert_eq!(admin.get(&format!("{base}/stats")).await["deduplicationStatus"], "Enabled");
    assert_eq!(admin.status("DELETE", &path, None).await, 204);
    assert_eq!(admin.get(&format!("{path}?applied=true")).await["retentionSizeInMB"], 2);
    assert_eq!(admin.status("DELETE", base, None).await, 204);
    assert_eq!(admin.status("PUT", base, None).await, 204);
    assert_eq!(admin.call("GET", &format!("{base}/messageTTL"), None).await, (200, String::new()), "a new topic");
}

// covers: admin_topic_policies
#[tokio::test]
async fn a_partitioned_topics_policies_are_those_of_its_partitions() {
    let (_broker, admin) = shop().await;
    let base = "persistent/acme/shop/p";
    assert_eq!(admin.status("PUT", &format!("{base}/partitions"), Some("2")).await, 204);
    assert_eq!(admin.status("POST", &format!("{base}/messageTTL?messageTTL=7"), None).await, 204);
    assert_eq!(admin.get(&format!("{base}-partition-1/messageTTL")).await, 7);
    assert_eq!(
        admin.refused("POST", &format!("{base}/publishRate"), Some(r#"{"publishThrottlingRateInMsg":1}"#)).await.0,
        501
    );
}

// covers: admin_topic_policies
#[tokio::test]
async fn topics_have_properties() {
    let (_broker, admin) = shop().await;
    let base = "persistent/acme/shop/t";
    assert_eq!(admin.status("PUT", base, Some(r#"{"a":"b"}"#)).await, 204);
    let path = format!("{base}/properties");
    assert_eq!(admin.status("PUT", &path, Some(r#"{"c":"d"}"#)).await, 204);
    assert_eq!(admin.get(&path).await, json!({ "a": "b", "c": "d" }));
    assert_eq!(admin.status("DELETE", &format!("{path}?key=a"), None).await, 204);
    assert_eq!(admin.get(&path).await, json!({ "c": "d" }));
    let partitioned = r#"{"partitions":2,"properties":{"x":"y"}}"#;
    assert_eq!(admin.status("PUT", "persistent/acme/shop/p/partitions", Some(partitioned)).await, 204);
    let metadata = json!({ "partitions": 2, "deleted": false, "properties": { "x": "y" } });
    assert_eq!(admin.get("persistent/acme/shop/p/partitions").await, metadata);
}
