//! Single messages, with their metadata in headers.

use std::collections::HashMap;

use serde_json::json;

use super::*;
use support::*;

const BASE: &str = "persistent/acme/shop/t";

/// Status, payload, and the headers that start with `x-pulsar-`, without that.
async fn look(admin: &Admin, path: &str) -> (u16, String, HashMap<String, String>) {
    let response = admin.http.get(format!("{}/admin/v2/{BASE}/{path}", admin.url)).send().await.expect("an answer");
    let headers = response.headers().iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-pulsar-")?;
        Some((name.to_owned(), value.to_str().expect("text").to_owned()))
    });
    let (status, headers) = (response.status().as_u16(), headers.collect());
    (status, response.text().await.expect("a body"), headers)
}

// covers: admin_peek
#[tokio::test]
async fn a_message_is_peeked_by_its_place_in_the_backlog() {
    let (broker, admin) = shop().await;
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    let earliest = r#"{"ledgerId":-1,"entryId":-1}"#;
    assert_eq!(admin.status("PUT", &format!("{BASE}/subscription/s"), Some(earliest)).await, 204);
    let mut message = keyed("key", "first");
    message.properties.insert("a".into(), "b".into());
    message.event_time = Some(12_345);
    let id = send(&mut producer, message).await;
    send(&mut producer, plain("second")).await;
    let (status, payload, headers) = look(&admin, "subscription/s/position/1").await;
    assert_eq!((status, payload.as_str()), (200, "first"));
    assert_eq!(headers["message-id"], format!("{}:{}", id.0, id.1));
    assert_eq!(headers["property"], r#"{"a":"b"}"#);
    assert_eq!(headers["partition-key"], "key");
    assert_eq!(headers["event-time"], "1970-01-01T00:00:12.345Z");
    assert!(headers["publish-time"].ends_with('Z') && headers.contains_key("producer-name"), "{headers:?}");
    assert!(!headers.contains_key("num-batch-message"));
    assert_eq!(look(&admin, "subscription/s/position/2").await.1, "second");
    assert_eq!(look(&admin, "subscription/s/position/3").await.0, 404);
    assert_eq!(look(&admin, "subscription/s/position/0").await.0, 412);
    assert_eq!(admin.status("POST", &format!("{BASE}/subscription/s/skip/1"), None).await, 204);
    assert_eq!(look(&admin, "subscription/s/position/1").await.1, "second");
    assert_eq!(look(&admin, "subscription/none/position/1").await.0, 404);
}

// covers: admin_peek, admin_last_message_id
#[tokio::test]
async fn a_message_is_found_by_id_by_place_and_by_time() {
    let (broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", BASE, None).await, 204);
    assert_eq!(look(&admin, "examinemessage").await.0, 412, "there is none");
    let none = json!({ "ledgerId": -1, "entryId": -1, "partitionIndex": -1, "batchIndex": -1, "batchSize": 0 });
    assert_eq!(admin.get(&format!("{BASE}/lastMessageId")).await, none);
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    let (ledger, first) = send(&mut producer, plain("first")).await;
    let (_, last) = send(&mut producer, plain("last")).await;
    assert_eq!(look(&admin, &format!("ledger/{ledger}/entry/{first}")).await.1, "first");
    assert_eq!(look(&admin, &format!("ledger/{ledger}/entry/99")).await.0, 404);
    assert_eq!(look(&admin, "examinemessage?initialPosition=earliest&messagePosition=2").await.1, "last");
    assert_eq!(look(&admin, "examinemessage?initialPosition=latest&messagePosition=2").await.1, "first");
    assert_eq!(look(&admin, "examinemessage").await.1, "last");
    let at = |entry: u64| json!({ "ledgerId": ledger, "entryId": entry, "partitionIndex": -1, "batchIndex": -1, "batchSize": 0 });
    assert_eq!(admin.get(&format!("{BASE}/lastMessageId")).await, at(last));
    assert_eq!(admin.get(&format!("{BASE}/messageid/1000")).await, at(first));
    assert_eq!(admin.get(&format!("{BASE}/messageid/99999999999999")).await, at(last + 1));
    assert_eq!(admin.status("PUT", "non-persistent/acme/shop/n", None).await, 204);
    let unstored = admin.refused("GET", "non-persistent/acme/shop/n/lastMessageId", None).await;
    assert_eq!(unstored.0, 405, "{}", unstored.1);
}
