//! The schema registry over HTTP.

use serde_json::{Value, json};

use super::*;

const BASE: &str = "schemas/acme/shop/t";

fn avro(fields: Value) -> String {
    let definition = json!({ "type": "record", "name": "Order", "fields": fields }).to_string();
    json!({ "type": "AVRO", "schema": definition, "properties": { "a": "b" } }).to_string()
}

// covers: admin_schemas
#[tokio::test]
async fn schemas_are_added_read_checked_and_deleted() {
    let (broker, admin) = shop().await;
    let missing = admin.refused("GET", &format!("{BASE}/schema"), None).await;
    assert_eq!(missing, (404, "Schema not found".into()));
    assert_eq!(admin.get(&format!("{BASE}/schemas")).await, json!({ "getSchemaResponses": [] }));
    let id = json!({ "name": "id", "type": "string" });
    let (first, second) = (avro(json!([id])), avro(json!([id, { "name": "n", "type": "int", "default": 0 }])));
    let put = async |admin: &Admin, schema: &str| {
        let (status, body) = admin.call("POST", &format!("{BASE}/schema"), Some(schema)).await;
        (status, serde_json::from_str::<Value>(&body).expect("JSON"))
    };
    assert_eq!(put(&admin, &first).await, (200, json!({ "version": { "version": 0 } })));
    assert_eq!(put(&admin, &first).await, (200, json!({ "version": { "version": 0 } })), "it is there already");
    let checked = admin.call("POST", &format!("{BASE}/compatibility"), Some(&second)).await;
    assert_eq!(checked.0, 202);
    let checked: Value = serde_json::from_str(&checked.1).expect("JSON");
    assert_eq!(checked, json!({ "schemaCompatibilityStrategy": "FULL", "compatibility": true }));
    assert_eq!(put(&admin, &second).await.1, json!({ "version": { "version": 1 } }));
    let incompatible = avro(json!([{ "name": "id", "type": "int" }]));
    assert_eq!(put(&admin, &incompatible).await.0, 409);
    let broker = broker.restart().await;
    let admin = broker.admin();
    let last = admin.get(&format!("{BASE}/schema")).await;
    assert_eq!((&last["version"], &last["type"], &last["properties"]), (&json!(1), &json!("AVRO"), &json!({"a":"b"})));
    assert!(last["timestamp"].as_u64() > Some(0), "{last}");
    let definition: Value = serde_json::from_str(last["data"].as_str().expect("text")).expect("JSON");
    assert_eq!(definition["fields"].as_array().map(Vec::len), Some(2));
    assert_eq!(admin.get(&format!("{BASE}/schema/0")).await["version"], 0);
    assert_eq!(admin.refused("GET", &format!("{BASE}/schema/9"), None).await.0, 404);
    let all = admin.get(&format!("{BASE}/schemas")).await;
    assert_eq!(all["getSchemaResponses"].as_array().map(Vec::len), Some(2));
    let version = admin.call("POST", &format!("{BASE}/version"), Some(&second)).await;
    assert_eq!(version, (200, r#"{"version":1}"#.into()));
    assert_eq!(admin.refused("POST", &format!("{BASE}/version"), Some(&incompatible)).await.0, 404);
    let deleted = admin.call("DELETE", &format!("{BASE}/schema"), None).await;
    assert_eq!(deleted, (200, r#"{"version":2}"#.into()));
    assert_eq!(admin.refused("GET", &format!("{BASE}/schema"), None).await.0, 404);
    assert_eq!(admin.refused("GET", "schemas/acme/none/t/schema", None).await.0, 404);
    let unknown = r#"{"type":"NONSENSE","schema":"","properties":{}}"#;
    assert_eq!(admin.refused("POST", &format!("{BASE}/schema"), Some(unknown)).await.0, 400);
}
