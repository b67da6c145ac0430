//! Topics and their partitions.

use serde_json::json;

use super::*;

const BASE: &str = "persistent/acme/shop";

// covers: admin_topics
#[tokio::test]
async fn topics_are_created_listed_and_deleted() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", &format!("{BASE}/t"), None).await, 204);
    let again = admin.refused("PUT", &format!("{BASE}/t"), None).await;
    assert_eq!(again, (409, "This topic already exists".into()));
    assert_eq!(admin.status("PUT", "non-persistent/acme/shop/n", None).await, 204);
    assert_eq!(admin.get(BASE).await, json!(["persistent://acme/shop/t"]));
    assert_eq!(admin.get("non-persistent/acme/shop").await, json!(["non-persistent://acme/shop/n"]));
    assert_eq!(admin.refused("PUT", "persistent/acme/none/t", None).await.0, 404);
    assert_eq!(admin.refused("GET", "persistent/acme/none", None).await.0, 404);
    assert_eq!(admin.status("DELETE", &format!("{BASE}/t"), None).await, 204);
    assert_eq!(admin.refused("DELETE", &format!("{BASE}/t"), None).await.0, 404);
    for path in ["stats", "internalStats", "lastMessageId", "subscriptions"] {
        assert_eq!(admin.refused("GET", &format!("{BASE}/t/{path}"), None).await.0, 404, "{path}");
    }
    let stray = admin.refused("PUT", &format!("{BASE}/t-partition-0"), None).await;
    assert_eq!(stray.0, 412, "the partition of no partitioned topic: {}", stray.1);
}

// covers: admin_topics
#[tokio::test]
async fn a_topic_in_use_is_deleted_by_force_only() {
    let (broker, admin) = shop().await;
    let client = broker.client().await;
    let _producer = support::producer(&client, "acme/shop/t").await;
    assert_eq!(admin.refused("DELETE", &format!("{BASE}/t"), None).await.0, 412);
    assert_eq!(admin.status("DELETE", &format!("{BASE}/t?force=true"), None).await, 204);
}

// covers: admin_partitions
#[tokio::test]
async fn partitions_are_created_read_grown_and_deleted() {
    let (_broker, admin) = shop().await;
    let path = format!("{BASE}/p/partitions");
    for (body, status) in [("0", 406), ("-1", 406), ("\"x\"", 400), ("", 400)] {
        assert_eq!(admin.refused("PUT", &path, Some(body)).await.0, status, "{body}");
    }
    assert_eq!(admin.status("PUT", &path, Some("3")).await, 204);
    assert_eq!(admin.refused("PUT", &path, Some("3")).await.0, 409);
    assert_eq!(admin.get(&path).await, json!({ "partitions": 3, "deleted": false }));
    assert_eq!(admin.status("POST", &path, Some("4")).await, 204);
    assert_eq!(admin.refused("POST", &path, Some("2")).await.0, 422);
    assert_eq!(admin.get(&format!("{BASE}/partitioned")).await, json!(["persistent://acme/shop/p"]));
    assert_eq!(admin.get(BASE).await.as_array().map(Vec::len), Some(4));
    assert_eq!(admin.status("DELETE", &format!("{BASE}/p-partition-2"), None).await, 204);
    assert_eq!(admin.status("POST", &format!("{BASE}/p/createMissedPartitions"), None).await, 204);
    assert_eq!(admin.get(BASE).await.as_array().map(Vec::len), Some(4));
    let wrong = admin.refused("DELETE", &format!("{BASE}/p"), None).await;
    assert_eq!(wrong.0, 409, "{}", wrong.1);
    assert_eq!(admin.status("DELETE", &path, None).await, 204);
    assert_eq!(admin.refused("DELETE", &path, None).await.0, 404);
    assert_eq!(admin.get(BASE).await, json!([]));
}

// covers: admin_partitions
#[tokio::test]
async fn a_plain_topic_has_no_partitions() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", &format!("{BASE}/t"), None).await, 204);
    assert_eq!(admin.get(&format!("{BASE}/t/partitions")).await, json!({ "partitions": 0, "deleted": false }));
    let missing = admin.refused("GET", &format!("{BASE}/none/partitions"), None).await;
    assert_eq!(missing, (404, "Topic persistent://acme/shop/none not found".into()));
    let may_be_made = admin.get(&format!("{BASE}/none/partitions?checkAllowAutoCreation=true")).await;
    assert_eq!(may_be_made["partitions"], 0);
    assert_eq!(admin.refused("PUT", &format!("{BASE}/t/partitions"), Some("2")).await.0, 409);
    assert_eq!(admin.refused("POST", &format!("{BASE}/t/partitions"), Some("2")).await.0, 409);
    assert_eq!(admin.refused("DELETE", &format!("{BASE}/t/partitions"), None).await.0, 409);
    assert_eq!(admin.refused("POST", &format!("{BASE}/t/createMissedPartitions"), None).await.0, 404);
    let named = admin.refused("PUT", &format!("{BASE}/x-partition-1/partitions"), Some("2")).await;
    assert_eq!(named, (412, "Partitioned Topic Name should not contain '-partition-'".into()));
}

// covers: admin_lookup
#[tokio::test]
async fn a_topics_broker_is_this_one() {
    let (broker, admin) = shop().await;
    let endpoint = broker.embedded.endpoint();
    let url = format!("{}/lookup/v2/topic/persistent/acme/shop/t", admin.url);
    let found: serde_json::Value = reqwest::get(&url).await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&found["brokerUrl"], &found["httpUrl"]), (&json!(endpoint.service_url), &json!(endpoint.admin_url)));
    let bundle = reqwest::get(format!("{url}/bundle")).await.expect("an answer").text().await.expect("text");
    assert_eq!(bundle, "0x00000000_0xffffffff");
    let elsewhere = format!("{}/lookup/v2/topic/persistent/acme/none/t", admin.url);
    assert_eq!(reqwest::get(elsewhere).await.expect("an answer").status().as_u16(), 404);
}
