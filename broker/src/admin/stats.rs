//! Numbers of topics, in the shape of Apache Pulsar's. What this broker does not measure is left out.

use axum::extract::{Query, State};
use serde_json::{Map, Value, json as value};

use super::clusters::broker_id;
use super::internal::partitions;
use super::path::Topic;
use super::reply::{Reply, json};
use super::routes::Routes;
use super::topics::Shared;
use crate::semantics::compaction::LastCompaction;
use crate::semantics::stats::{ConsumerStats, ProducerStats, SubscriptionStats, TopicStats};
use crate::semantics::subscription::Traffic;
use crate::semantics::{Access, Broker};
use crate::timestamp::iso_8601;

pub(super) fn routes(topic: &str) -> Routes {
    Routes::default()
        .get(&format!("{topic}/stats"), stats)
        .get(&format!("{topic}/partitioned-stats"), partitioned_stats)
}

#[derive(Debug, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wanted {
    exclude_publishers: bool,
    exclude_consumers: bool,
    per_partition: bool,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { exclude_publishers: false, exclude_consumers: false, per_partition: true }
    }
}

async fn stats(State(hub): Shared, Topic(topic): Topic, Query(wanted): Query<Wanted>) -> Reply {
    let stats = hub.look(|broker| broker.topic_stats(&topic))?;
    let mut shown = shown(&stats, &wanted);
    shown["ownerBroker"] = broker_id(&hub.settings).into();
    shown["deduplicationStatus"] = if stats.deduplicates { "Enabled" } else { "Disabled" }.into();
    Ok(json(shown))
}

async fn partitioned_stats(State(hub): Shared, Topic(topic): Topic, Query(wanted): Query<Wanted>) -> Reply {
    let all = partitions(&hub, &topic, Broker::topic_stats)?;
    let mut sum = value!({});
    let mut each = Map::new();
    for (name, stats) in &all {
        let shown = shown(stats, &wanted);
        add(&mut sum, &shown);
        if wanted.per_partition {
            each.insert(name.to_string(), shown);
        }
    }
    sum["metadata"] = value!({ "partitions": all.len(), "deleted": false });
    sum["partitions"] = each.into();
    Ok(json(sum))
}

/// Adds numbers up and joins what has names; of anything else the first one stays.
fn add(sum: &mut Value, more: &Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (name, more) in more {
                match sum.get_mut(name) {
                    // Times, and averages: the sum would mean nothing.
                    Some(sum) if name.ends_with("Timestamp") || name.starts_with("average") => larger(sum, more),
                    Some(sum) => add(sum, more),
                    None => {
                        sum.insert(name.clone(), more.clone());
                    }
                }
            }
        }
        (Value::Array(sum), Value::Array(more)) => sum.extend(more.iter().cloned()),
        (sum, more) => {
            *sum = match (sum.as_i64(), more.as_i64(), sum.as_f64(), more.as_f64()) {
                (Some(sum), Some(more), ..) => value!(sum + more),
                (_, _, Some(sum), Some(more)) => value!(sum + more),
                _ => return,
            };
        }
    }
}

fn larger(sum: &mut Value, more: &Value) {
    if more.as_f64() > sum.as_f64() {
        *sum = more.clone();
    }
}

/// Numbers as a map, so that a long list of fields stays readable.
macro_rules! fields {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut map = Map::new();
        $(map.insert($name.to_owned(), value!($value));)*
        map
    }};
}

fn shown(stats: &TopicStats, wanted: &Wanted) -> Value {
    let subscriptions = &stats.subscriptions;
    let all: Map<String, Value> =
        subscriptions.iter().map(|state| (state.name.clone(), subscription(state, wanted))).collect();
    let publishers = stats.producers.iter().filter(|_| !wanted.exclude_publishers).map(publisher);
    let received = &stats.received;
    let rate_out: f64 = subscriptions.iter().map(|state| state.traffic.rate_out.per_second()).sum();
    let throughput_out: f64 = subscriptions.iter().map(|state| state.traffic.throughput_out.per_second()).sum();
    Value::Object(fields! {
        "msgRateIn": received.rate.per_second(),
        "msgThroughputIn": received.throughput.per_second(),
        "msgRateOut": rate_out,
        "msgThroughputOut": throughput_out,
        "bytesInCounter": received.bytes,
        "msgInCounter": received.messages,
        "bytesOutCounter": subscriptions.iter().map(|state| state.traffic.bytes_out).sum::<u64>(),
        "msgOutCounter": subscriptions.iter().map(|state| state.traffic.messages_out).sum::<u64>(),
        "averageMsgSize": received.average_bytes(),
        "storageSize": stats.bytes,
        "backlogSize": subscriptions.iter().map(|state| state.backlog_bytes).max().unwrap_or(0),
        "earliestMsgPublishTimeInBacklogs": oldest(subscriptions),
        "offloadedStorageSize": 0,
        "ongoingTxnCount": 0,
        "abortedTxnCount": 0,
        "committedTxnCount": 0,
        "publishers": publishers.collect::<Vec<_>>(),
        "waitingPublishers": stats.waiting_producers,
        "subscriptions": all,
        "replication": Map::new(),
        "compaction": compaction(&stats.compaction),
        "nonContiguousDeletedMessagesRanges":
            subscriptions.iter().map(|state| state.acked_ranges).sum::<u64>(),
    })
}

fn compaction(last: &LastCompaction) -> Value {
    value!({
        "lastCompactionRemovedEventCount": last.removed,
        "lastCompactionSucceedTimestamp": last.succeeded_ms,
        "lastCompactionFailedTimestamp": last.failed_ms,
        "lastCompactionDurationTimeInMills": last.took_ms,
    })
}

/// Publish time of the oldest message that somebody has not acknowledged; zero if there is none.
fn oldest(subscriptions: &[SubscriptionStats]) -> u64 {
    subscriptions.iter().map(|state| state.oldest_backlog_ms).filter(|at| *at > 0).min().unwrap_or(0)
}

fn publisher(producer: &ProducerStats) -> Value {
    Value::Object(fields! {
        "accessMode": match producer.access {
            Access::Shared => "Shared",
            Access::Exclusive => "Exclusive",
            Access::WaitForExclusive => "WaitForExclusive",
            Access::ExclusiveWithFencing => "ExclusiveWithFencing",
        },
        "msgRateIn": producer.sent.rate.per_second(),
        "msgThroughputIn": producer.sent.throughput.per_second(),
        "averageMsgSize": producer.sent.average_bytes(),
        "producerId": producer.key.producer_id,
        "producerName": producer.name,
        "address": address(&producer.address),
        "connectedSince": iso_8601(producer.connected_ms),
        "clientVersion": producer.client_version,
        "metadata": producer.metadata,
    })
}

/// With the slash that Java writes before a numeric address.
fn address(address: &str) -> String {
    if address.is_empty() || address.starts_with('/') { address.to_owned() } else { format!("/{address}") }
}

/// What a subscription and a consumer have in common.
fn went_out(traffic: &Traffic) -> Map<String, Value> {
    fields! {
        "msgRateOut": traffic.rate_out.per_second(),
        "msgThroughputOut": traffic.throughput_out.per_second(),
        "bytesOutCounter": traffic.bytes_out,
        "msgOutCounter": traffic.messages_out,
        "msgRateRedeliver": traffic.rate_redelivered.per_second(),
        "lastConsumedFlowTimestamp": traffic.last_flow_ms,
        "lastConsumedTimestamp": traffic.last_delivered_ms,
        "lastAckedTimestamp": traffic.last_acked_ms,
    }
}

fn subscription(state: &SubscriptionStats, wanted: &Wanted) -> Value {
    let consumers = state.consumers.iter().filter(|_| !wanted.exclude_consumers).map(consumer);
    let mut all = went_out(&state.traffic);
    all.extend(fields! {
        "msgBacklog": state.backlog,
        "backlogSize": state.backlog_bytes,
        "earliestMsgPublishTimeInBacklog": state.oldest_backlog_ms,
        "msgBacklogNoDelayed": state.backlog.saturating_sub(state.delayed),
        "blockedSubscriptionOnUnackedMsgs": state.blocked_on_unacked,
        "msgDelayed": state.delayed,
        "unackedMessages": state.unacked,
        "type": if state.consumers.is_empty() { "None" } else { state.kind.name() },
        "lastExpireTimestamp": state.last_expired_ms,
        "lastMarkDeleteAdvancedTimestamp": state.last_mark_delete_ms,
        "consumers": consumers.collect::<Vec<_>>(),
        "isDurable": state.durable,
        "durable": state.durable,
        "isReplicated": false,
        "replicated": false,
        "allowOutOfOrderDelivery": state.keys.as_ref().is_some_and(|keys| keys.policy.out_of_order),
        "consumersAfterMarkDeletePosition": Map::new(),
        "nonContiguousDeletedMessagesRanges": state.acked_ranges,
        "subscriptionProperties": state.properties,
    });
    if let Some(active) = &state.active_consumer {
        all.insert("activeConsumerName".into(), value!(active));
    }
    if let Some(keys) = &state.keys {
        all.insert("keySharedMode".into(), if keys.policy.sticky { "STICKY" } else { "AUTO_SPLIT" }.into());
        all.insert("drainingHashesCount".into(), value!(keys.draining.keys));
        all.insert("drainingHashesUnackedMessages".into(), value!(keys.draining.messages));
    }
    Value::Object(all)
}

fn consumer(consumer: &ConsumerStats) -> Value {
    let traffic = &consumer.traffic;
    let mut all = went_out(traffic);
    all.extend(fields! {
        "consumerName": consumer.name,
        "availablePermits": consumer.permits,
        "unackedMessages": consumer.unacked,
        "blockedConsumerOnUnackedMsgs": consumer.blocked_on_unacked,
        "address": address(&consumer.address),
        "connectedSince": iso_8601(consumer.connected_ms),
        "clientVersion": consumer.client_version,
        "metadata": consumer.metadata,
        "lastAckedTime": iso_8601(traffic.last_acked_ms),
        "lastConsumedTime": iso_8601(traffic.last_delivered_ms),
    });
    if !consumer.key_ranges.is_empty() {
        let ranges: Vec<[u32; 2]> = consumer.key_ranges.iter().map(|(first, last)| [*first, *last]).collect();
        all.insert("keyHashRangeArrays".into(), value!(ranges));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_add_up() {
        let mut sum = value!({});
        add(&mut sum, &value!({ "n": 1, "r": 0.5, "lastAckedTimestamp": 7, "s": { "x": { "n": 1 } }, "p": [1] }));
        add(&mut sum, &value!({ "n": 2, "r": 1.0, "lastAckedTimestamp": 5, "s": { "y": { "n": 2 } }, "p": [2] }));
        let expected = value!({
            "n": 3, "r": 1.5, "lastAckedTimestamp": 7, "s": { "x": { "n": 1 }, "y": { "n": 2 } }, "p": [1, 2]
        });
        assert_eq!(sum, expected);
    }
}
