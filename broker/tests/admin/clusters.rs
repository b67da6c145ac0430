//! Clusters and brokers.

use serde_json::json;

use super::*;

// covers: admin_clusters
#[tokio::test]
async fn there_is_one_cluster_with_one_broker() {
    let broker = Broker::start().await;
    let (admin, endpoint) = (broker.admin(), broker.embedded.endpoint());
    let id = endpoint.admin_url.trim_start_matches("http://");
    assert_eq!(admin.get("clusters").await, json!(["standalone"]));
    let cluster = admin.get("clusters/standalone").await;
    assert_eq!(cluster["serviceUrl"], endpoint.admin_url);
    assert_eq!(cluster["brokerServiceUrl"], endpoint.service_url);
    let missing = admin.refused("GET", "clusters/none", None).await;
    assert_eq!(missing, (404, "Cluster does not exist".into()));
    assert_eq!(admin.refused("PUT", "clusters/other", Some("{}")).await.0, 501);
    assert_eq!(admin.get("brokers").await, json!([id]));
    assert_eq!(admin.get("brokers/standalone").await, json!([id]));
    let leader = admin.get("brokers/leaderBroker").await;
    assert_eq!(leader, json!({ "serviceUrl": endpoint.admin_url, "brokerId": id }));
    for path in ["brokers/health", "brokers/health?topicVersion=V2", "brokers/ready"] {
        assert_eq!(admin.call("GET", path, None).await, (200, "ok".into()));
    }
    assert_eq!(admin.status("GET", "brokers/version", None).await, 200);
    assert_eq!(admin.get("brokers/configuration/values").await, json!({}));
    assert_eq!(admin.get("brokers/configuration/runtime").await["clusterName"], "standalone");
    let owned = admin.get(&format!("brokers/standalone/{id}/ownedNamespaces")).await;
    assert!(owned.get("public/default/0x00000000_0xffffffff").is_some(), "{owned}");
}

#[tokio::test]
async fn every_refused_path_is_501_in_words() {
    let (_broker, admin) = shop().await;
    assert_eq!(admin.status("PUT", "persistent/acme/shop/t", None).await, 204);
    let covered = everpulse_broker::admin::covered();
    let refused: Vec<_> = covered.iter().filter_map(|path| Some((path, path.refused?))).collect();
    assert!(refused.len() > 30, "{}", refused.len());
    for (covered, reason) in refused {
        let path = ["tenant", "namespace", "topic", "subscription"]
            .iter()
            .zip(["acme", "shop", "t", "s"])
            .fold(covered.path.clone(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        let url = format!("{}{}", admin.url, path.replace(['{', '}', '*'], ""));
        let method = covered.method.parse().expect("a method");
        let response = admin.http.request(method, &url).send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 501, "{} {url}", covered.method);
        let body: serde_json::Value = response.json().await.expect("JSON");
        assert_eq!(body["reason"], reason);
    }
}
