//! The admin REST API: paths, verbs, bodies and status codes as Apache Pulsar 4.0.8 was seen to answer them.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod clusters;
mod lifecycle;
mod limits;
mod messages;
mod metrics;
mod namespaces;
mod policies;
mod schemas;
mod stats;
mod subscriptions;
mod tenants;
mod topic_policies;
mod topics;

use support::{Admin, Broker};

/// A broker with the tenant `acme` and its namespace `acme/shop`.
async fn shop() -> (Broker, Admin) {
    let broker = Broker::start().await;
    let admin = broker.admin();
    let tenant = r#"{"adminRoles":[],"allowedClusters":["standalone"]}"#;
    assert_eq!(admin.call("PUT", "tenants/acme", Some(tenant)).await.0, 204);
    assert_eq!(admin.call("PUT", "namespaces/acme/shop", None).await.0, 204);
    (broker, admin)
}

impl Admin {
    /// Does it and looks only at the status.
    async fn status(&self, method: &str, path: &str, body: Option<&str>) -> u16 {
        self.call(method, path, body).await.0
    }

    /// The status and the words of a failure, which is JSON with a reason.
    async fn refused(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        let (status, text) = self.call(method, path, body).await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {status} {text}"));
        (status, json["reason"].as_str().unwrap_or_else(|| panic!("{path}: {text}")).to_owned())
    }
}
