//! Metrics in Prometheus' text format.

use std::collections::BTreeMap;

use super::*;
use support::*;

// covers: admin_metrics
#[tokio::test]
async fn metrics_name_topics_and_subscriptions_as_pulsars_dashboards_do() {
    let (broker, admin) = shop().await;
    let client = broker.client().await;
    let mut producer = producer(&client, "acme/shop/t").await;
    assert_eq!(admin.status("PUT", "persistent/acme/shop/t/subscription/s", None).await, 204);
    for _ in 0..3 {
        send(&mut producer, plain("x")).await;
    }
    let response = admin.http.get(format!("{}/metrics/", admin.url)).send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.expect("text");
    let samples: BTreeMap<&str, f64> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name, value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect();
    let topic = r#"cluster="standalone",namespace="acme/shop",topic="persistent://acme/shop/t""#;
    let of = |name: String| *samples.get(name.as_str()).unwrap_or_else(|| panic!("{name} is missing in {text}"));
    assert_eq!(of(r#"pulsar_topics_count{cluster="standalone",namespace="acme/shop"}"#.into()), 1.0);
    assert_eq!(of(format!("pulsar_producers_count{{{topic}}}")), 1.0);
    assert_eq!(of(format!("pulsar_in_messages_total{{{topic}}}")), 3.0);
    assert_eq!(of(format!("pulsar_msg_backlog{{{topic}}}")), 3.0);
    assert_eq!(of(format!("pulsar_subscription_back_log{{{topic},subscription=\"s\"}}")), 3.0);
    assert!(of(format!("pulsar_storage_size{{{topic}}}")) > 0.0);
    for name in ["pulsar_rate_in", "pulsar_rate_out", "pulsar_throughput_in", "pulsar_consumers_count"] {
        of(format!("{name}{{{topic}}}"));
    }
    for name in ["pulsar_broker_topics_count", "pulsar_active_connections", "process_resident_memory_bytes"] {
        assert!(of(format!("{name}{{cluster=\"standalone\"}}")) > 0.0, "{name}");
    }
    // Each name is introduced once, with all its samples behind it.
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let distinct: std::collections::BTreeSet<&&str> = types.iter().collect();
    assert_eq!(types.len(), distinct.len());
    assert_eq!(admin.http.get(format!("{}/metrics", admin.url)).send().await.expect("an answer").status(), 200);
}
