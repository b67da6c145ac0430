//! Tenants.

use serde_json::json;

use super::*;

const INFO: &str = r#"{"adminRoles":[],"allowedClusters":["standalone"]}"#;

// covers: admin_tenants
#[tokio::test]
async fn tenants_are_created_listed_and_deleted() {
    let broker = Broker::start().await;
    let admin = broker.admin();
    assert_eq!(admin.status("PUT", "tenants/acme", Some(INFO)).await, 204);
    assert_eq!(admin.refused("PUT", "tenants/acme", Some(INFO)).await.0, 409);
    assert_eq!(admin.get("tenants").await, json!(["acme", "public"]));
    assert_eq!(admin.get("tenants/acme").await, json!({ "adminRoles": [], "allowedClusters": ["standalone"] }));
    assert_eq!(admin.status("POST", "tenants/acme", Some(INFO)).await, 204);
    assert_eq!(admin.refused("POST", "tenants/none", Some(INFO)).await.0, 404);
    let broker = broker.restart().await;
    let admin = broker.admin();
    assert_eq!(admin.status("PUT", "namespaces/acme/shop", None).await, 204);
    assert_eq!(admin.refused("DELETE", "tenants/acme", None).await.0, 409, "it has a namespace");
    assert_eq!(admin.status("DELETE", "tenants/acme?force=true", None).await, 204);
    assert_eq!(admin.refused("DELETE", "tenants/acme", None).await, (404, "Tenant doesn't exist".into()));
    assert_eq!(admin.refused("GET", "tenants/acme", None).await, (404, "Tenant does not exist".into()));
}

// covers: admin_tenants
#[tokio::test]
async fn a_tenant_needs_a_name_and_the_cluster() {
    let broker = Broker::start().await;
    let admin = broker.admin();
    for (name, info, reason) in [
        ("bad*name", INFO, "Tenant name is not valid"),
        ("acme", "", "TenantInfo is null"),
        ("acme", "{}", "Clusters cannot be null"),
        ("acme", r#"{"allowedClusters":[]}"#, "Clusters cannot be empty or blank"),
        ("acme", r#"{"allowedClusters":["nope"]}"#, "Clusters do not exist"),
    ] {
        let refused = admin.refused("PUT", &format!("tenants/{name}"), Some(info)).await;
        assert_eq!(refused, (412, reason.to_owned()));
    }
    assert_eq!(admin.refused("PUT", "tenants/acme", Some("{nonsense")).await.0, 400);
    let roles = r#"{"adminRoles":["me"],"allowedClusters":["standalone"]}"#;
    assert_eq!(admin.status("PUT", "tenants/acme", Some(roles)).await, 204);
    let broker = broker.restart().await;
    let admin = broker.admin();
    assert_eq!(admin.get("tenants/acme").await, json!({ "adminRoles": ["me"], "allowedClusters": ["standalone"] }));
    assert_eq!(admin.status("POST", "tenants/acme", Some(INFO)).await, 204);
    assert_eq!(admin.get("tenants/acme").await["adminRoles"], json!([]));
}
