//! Who may ask, and what becomes of requests that nobody understands.

use everpulse_broker::{Embedded, Options};
use serde_json::Value;

use super::*;

// covers: admin_token
#[tokio::test]
async fn with_a_token_everything_but_health_needs_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut options = Options::new(dir.path());
    options.token = Some("secret".into());
    let broker = Embedded::open(options).await.expect("opens");
    let (url, http) = (broker.endpoint().admin_url, reqwest::Client::new());
    let ask = async |path: &str, token: Option<&str>| {
        let request = http.get(format!("{url}{path}"));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    };
    for path in ["/admin/v2/clusters", "/admin/v2/tenants/public", "/metrics", "/nothing"] {
        let (status, body) = ask(path, None).await;
        assert_eq!(status, 401, "{path}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert!(body["reason"].as_str().is_some_and(|reason| reason.contains("Authentication required")), "{body}");
        assert_eq!(ask(path, Some("guess")).await.0, 401, "{path}");
    }
    assert_eq!(ask("/admin/v2/clusters", Some("secret")).await.0, 200);
    assert_eq!(ask("/nothing", Some("secret")).await.0, 404);
    for path in ["/status.html", "/admin/v2/brokers/health", "/admin/v2/brokers/ready"] {
        assert_eq!(ask(path, None).await.0, 200, "{path}");
    }
    broker.close().await;
}

// covers: admin_errors
#[tokio::test]
async fn what_is_not_understood_is_refused_in_words() {
    let (_broker, admin) = shop().await;
    let (status, reason) = admin.refused("GET", "nothing", None).await;
    assert_eq!((status, reason.as_str()), (404, "There is nothing at this path"));
    assert_eq!(admin.refused("GET", "persistent/acme/shop/t/nothing", None).await.0, 404);
    assert_eq!(admin.refused("PATCH", "clusters", None).await.0, 405);
    let (status, reason) = admin.refused("POST", "namespaces/acme/shop/retention", Some("nonsense")).await;
    assert_eq!(status, 400);
    assert!(reason.contains("cannot be understood"), "{reason}");
    let long = "9".repeat(2 * 1024 * 1024);
    assert_eq!(admin.refused("POST", "namespaces/acme/shop/messageTTL", Some(&long)).await.0, 413);
}

// covers: admin_errors
#[tokio::test]
async fn names_come_percent_encoded() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", "persistent/acme/shop/a%2Fb+c", None).await, 204);
    assert_eq!(admin.get("persistent/acme/shop").await, serde_json::json!(["persistent://acme/shop/a/b c"]));
    let earliest = r#"{"ledgerId":-1,"entryId":-1}"#;
    assert_eq!(admin.status("PUT", "persistent/acme/shop/a%2Fb%20c/subscription/s%2B%25", Some(earliest)).await, 204);
    assert_eq!(admin.get("persistent/acme/shop/a%2Fb%20c/subscriptions").await, serde_json::json!(["s+%"]));
    assert_eq!(admin.refused("GET", "persistent/acme/shop/%FF/stats", None).await.0, 400);
}
