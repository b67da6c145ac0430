//! Metrics in Prometheus' text format, by the names that Apache Pulsar's dashboards use.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::clusters::CLUSTER;
use super::reply::Reply;
use super::routes::Routes;
use super::topics::Shared;
use crate::semantics::stats::{SubscriptionStats, TopicStats};
use crate::semantics::{Broker, TopicName};

/// The stats of so many topics are taken before connections get their turn.
const TOPICS_AT_ONCE: usize = 100;

pub(super) fn routes() -> Routes {
    Routes::default().get("/metrics", metrics).get("/metrics/", metrics)
}

/// Samples by the metric's name, so that each name is one group, as the format wants it.
#[derive(Debug, Default)]
struct Samples(BTreeMap<&'static str, String>);

impl Samples {
    fn add(&mut self, name: &'static str, labels: &str, value: impl Display) {
        let text = self.0.entry(name).or_default();
        let separator = if labels.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}{{cluster=\"{CLUSTER}\"{separator}{labels}}} {value}");
    }

    fn text(self) -> String {
        let mut all = String::new();
        for (name, samples) in self.0 {
            let counter = name.ends_with("_total");
            let _ = write!(all, "# TYPE {name} {}\n{samples}", if counter { "counter" } else { "gauge" });
        }
        all
    }
}

async fn metrics(State(hub): Shared) -> Reply {
    let names: Vec<TopicName> = hub.look(Broker::topics);
    let mut topics: Vec<(TopicName, TopicStats)> = Vec::with_capacity(names.len());
    for some in names.chunks(TOPICS_AT_ONCE) {
        let found = |name: &TopicName| {
            // It may have been deleted meanwhile.
            let stats = hub.look(|broker| broker.topic_stats(name).ok())?;
            Some((name.clone(), stats))
        };
        topics.extend(some.iter().filter_map(found));
        // Connections are served on this thread, too.
        tokio::task::yield_now().await;
    }
    let healthy = hub.look(|broker| broker.check_storage().is_ok());
    let mut samples = Samples::default();
    broker(&mut samples, &topics, healthy, hub.connections());
    let mut count: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, stats) in &topics {
        *count.entry(name.namespace()).or_default() += 1;
        topic(&mut samples, name, stats);
    }
    for (namespace, count) in count {
        samples.add("pulsar_topics_count", &format!("namespace=\"{}\"", escaped(namespace)), count);
    }
    process(&mut samples);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], samples.text()).into_response())
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn broker(samples: &mut Samples, topics: &[(TopicName, TopicStats)], healthy: bool, connections: usize) {
    let sum = |of: fn(&TopicStats) -> u64| topics.iter().map(|(_, stats)| of(stats)).sum::<u64>();
    let rate = |of: fn(&TopicStats) -> f64| topics.iter().map(|(_, stats)| of(stats)).sum::<f64>();
    samples.add("pulsar_broker_topics_count", "", topics.len());
    samples.add("pulsar_broker_subscriptions_count", "", sum(|stats| stats.subscriptions.len() as u64));
    samples.add("pulsar_broker_producers_count", "", sum(|stats| stats.producers.len() as u64));
    samples.add("pulsar_broker_consumers_count", "", sum(consumers));
    samples.add("pulsar_broker_rate_in", "", rate(|stats| stats.received.rate.per_second()));
    samples.add("pulsar_broker_rate_out", "", rate(|stats| rate_out(stats).0));
    samples.add("pulsar_broker_throughput_in", "", rate(|stats| stats.received.throughput.per_second()));
    samples.add("pulsar_broker_throughput_out", "", rate(|stats| rate_out(stats).1));
    samples.add("pulsar_broker_storage_size", "", sum(|stats| stats.bytes));
    samples.add("pulsar_broker_storage_logical_size", "", sum(|stats| stats.bytes));
    samples.add("pulsar_broker_msg_backlog", "", sum(backlog));
    samples.add("pulsar_broker_in_bytes_total", "", sum(|stats| stats.received.bytes));
    samples.add("pulsar_active_connections", "", connections);
    samples.add("pulsar_health", "", u8::from(healthy));
    samples.add("pulsar_version_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
}

fn consumers(stats: &TopicStats) -> u64 {
    stats.subscriptions.iter().map(|state| state.consumers.len() as u64).sum()
}

fn backlog(stats: &TopicStats) -> u64 {
    stats.subscriptions.iter().map(|state| state.backlog).sum()
}

/// Messages and bytes per second.
fn rate_out(stats: &TopicStats) -> (f64, f64) {
    let traffic = || stats.subscriptions.iter().map(|state| &state.traffic);
    let messages = traffic().map(|traffic| traffic.rate_out.per_second()).sum();
    (messages, traffic().map(|traffic| traffic.throughput_out.per_second()).sum())
}

fn topic(samples: &mut Samples, name: &TopicName, stats: &TopicStats) {
    let labels = format!("namespace=\"{}\",topic=\"{}\"", escaped(name.namespace()), escaped(name.as_str()));
    let (rate, throughput) = rate_out(stats);
    samples.add("pulsar_subscriptions_count", &labels, stats.subscriptions.len());
    samples.add("pulsar_producers_count", &labels, stats.producers.len());
    samples.add("pulsar_consumers_count", &labels, consumers(stats));
    samples.add("pulsar_rate_in", &labels, stats.received.rate.per_second());
    samples.add("pulsar_rate_out", &labels, rate);
    samples.add("pulsar_throughput_in", &labels, stats.received.throughput.per_second());
    samples.add("pulsar_throughput_out", &labels, throughput);
    samples.add("pulsar_average_msg_size", &labels, stats.received.average_bytes());
    samples.add("pulsar_in_bytes_total", &labels, stats.received.bytes);
    samples.add("pulsar_in_messages_total", &labels, stats.received.messages);
    samples.add("pulsar_storage_size", &labels, stats.bytes);
    samples.add("pulsar_storage_logical_size", &labels, stats.bytes);
    let backlog_bytes = stats.subscriptions.iter().map(|state| state.backlog_bytes).max().unwrap_or(0);
    samples.add("pulsar_storage_backlog_size", &labels, backlog_bytes);
    samples.add("pulsar_msg_backlog", &labels, backlog(stats));
    for state in &stats.subscriptions {
        let labels = format!("{labels},subscription=\"{}\"", escaped(&state.name));
        subscription(samples, &labels, state);
    }
}

fn subscription(samples: &mut Samples, labels: &str, state: &SubscriptionStats) {
    let traffic = &state.traffic;
    samples.add("pulsar_subscription_back_log", labels, state.backlog);
    samples.add("pulsar_subscription_back_log_no_delayed", labels, state.backlog.saturating_sub(state.delayed));
    samples.add("pulsar_subscription_delayed", labels, state.delayed);
    samples.add("pulsar_subscription_unacked_messages", labels, state.unacked);
    samples.add("pulsar_subscription_blocked_on_unacked_messages", labels, u8::from(state.blocked_on_unacked));
    samples.add("pulsar_subscription_consumers_count", labels, state.consumers.len());
    samples.add("pulsar_subscription_msg_rate_out", labels, traffic.rate_out.per_second());
    samples.add("pulsar_subscription_msg_throughput_out", labels, traffic.throughput_out.per_second());
    samples.add("pulsar_subscription_msg_rate_redeliver", labels, traffic.rate_redelivered.per_second());
    samples.add("pulsar_subscription_last_acked_timestamp", labels, traffic.last_acked_ms);
    samples.add("pulsar_subscription_last_consumed_timestamp", labels, traffic.last_delivered_ms);
    samples.add("pulsar_subscription_last_consumed_flow_timestamp", labels, traffic.last_flow_ms);
    samples.add("pulsar_subscription_last_expire_timestamp", labels, state.last_expired_ms);
    samples.add("pulsar_out_bytes_total", labels, traffic.bytes_out);
    samples.add("pulsar_out_messages_total", labels, traffic.messages_out);
}

/// What the operating system knows of this process, where it tells.
fn process(samples: &mut Samples) {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let kilobytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    for (name, field) in [
        ("process_resident_memory_bytes", "VmRSS:"),
        ("process_resident_memory_max_bytes", "VmHWM:"),
        ("process_virtual_memory_bytes", "VmSize:"),
    ] {
        if let Some(kilobytes) = kilobytes(field) {
            samples.add(name, "", kilobytes * 1024);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        samples.add("process_open_fds", "", open.count());
    }
}
