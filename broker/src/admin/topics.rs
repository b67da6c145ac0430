//! Topics: creating, deleting, partitions, subscriptions, stats, unloading.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post, put};
use serde_json::{Map, Value, json as value};

use super::namespaces::Force;
use super::reply::{Failure, Reply, done, json, parse};
use crate::semantics::stats::{SubscriptionStats, TopicStats};
use crate::semantics::{Broker, Position, Refusal, RefusalKind, Start, TopicName};
use crate::server::Hub;

/// What handlers need beside the path: which of the two domains the path was of.
#[derive(Debug, Clone, Copy)]
struct Domain(&'static str);

type Shared = State<Arc<Hub>>;
type In = axum::Extension<Domain>;
type Name = Path<(String, String, String)>;
type SubscriptionName = Path<(String, String, String, String)>;

/// What is below `/admin/v2/persistent` and `/admin/v2/non-persistent`.
pub fn router(domain: &'static str) -> Router<Arc<Hub>> {
    let topic = Router::new()
        .route("/", put(create).delete(delete))
        .route("/partitions", get(partitions).put(create_partitions).post(update_partitions).delete(delete_partitions))
        .route("/stats", get(stats))
        .route("/partitioned-stats", get(partitioned_stats))
        .route("/internalStats", get(internal_stats))
        .route("/lastMessageId", get(last_message_id))
        .route("/unload", put(unload))
        .route("/subscriptions", get(subscriptions))
        .route("/subscription/{subscription}", put(create_subscription).delete(delete_subscription))
        .route("/subscription/{subscription}/resetcursor", post(reset_to_position))
        .route("/subscription/{subscription}/resetcursor/{timestamp}", post(reset_to_time))
        .route("/subscription/{subscription}/skip_all", post(skip_all));
    Router::new()
        .route("/{tenant}/{namespace}", get(list))
        .route("/{tenant}/{namespace}/partitioned", get(list_partitioned))
        .nest("/{tenant}/{namespace}/{topic}", topic)
        .layer(axum::Extension(Domain(domain)))
}

fn name(Domain(domain): Domain, tenant: &str, namespace: &str, topic: &str) -> Result<TopicName, Failure> {
    TopicName::parse(&format!("{domain}://{tenant}/{namespace}/{topic}"))
        .map_err(|error| Failure::precondition(error.to_string()))
}

fn of_path(domain: Domain, Path((tenant, namespace, topic)): &Name) -> Result<TopicName, Failure> {
    name(domain, tenant, namespace, topic)
}

async fn list(State(hub): Shared, domain: In, Path((tenant, namespace)): Path<(String, String)>) -> Reply {
    let persistent = domain.0.0 == "persistent";
    let namespace = format!("{tenant}/{namespace}");
    let topics = hub.look(|broker| broker.catalog().namespace(&namespace).map(|_| broker.topics_of(&namespace)))?;
    let topics = topics.iter().filter(|topic| topic.is_persistent() == persistent);
    Ok(json(topics.map(ToString::to_string).collect::<Vec<_>>()))
}

async fn list_partitioned(State(hub): Shared, domain: In, Path((tenant, namespace)): Path<(String, String)>) -> Reply {
    let persistent = domain.0.0 == "persistent";
    let namespace = format!("{tenant}/{namespace}");
    let topics =
        hub.look(|broker| broker.catalog().namespace(&namespace).map(|_| broker.partitioned_of(&namespace)))?;
    let topics = topics.iter().filter(|topic| topic.is_persistent() == persistent);
    Ok(json(topics.map(ToString::to_string).collect::<Vec<_>>()))
}

async fn create(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    hub.change(|broker| broker.handle_create_topic(&topic)).await?;
    Ok(done())
}

async fn delete(State(hub): Shared, domain: In, path: Name, Query(query): Query<Force>) -> Reply {
    let topic = of_path(domain.0, &path)?;
    hub.change(|broker| {
        if broker.partitions(&topic)? > 0 {
            let message = format!("{topic} is partitioned: delete it with /partitions");
            return Err(Refusal::new(RefusalKind::AlreadyExists, message));
        }
        broker.handle_delete_topic(&topic, query.force)
    })
    .await?;
    Ok(done())
}

async fn partitions(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    let partitions = hub.look(|broker| match broker.partitions(&topic)? {
        0 => broker.topic_stats(&topic).map(|_| 0),
        count => Ok(count),
    })?;
    Ok(json(value!({ "partitions": partitions, "deleted": false })))
}

async fn create_partitions(State(hub): Shared, domain: In, path: Name, body: Bytes) -> Reply {
    let (topic, count) = (of_path(domain.0, &path)?, count_in(&body)?);
    hub.change(|broker| broker.handle_set_partitions(&topic, count, false)).await?;
    Ok(done())
}

async fn update_partitions(State(hub): Shared, domain: In, path: Name, body: Bytes) -> Reply {
    let (topic, count) = (of_path(domain.0, &path)?, count_in(&body)?);
    hub.change(|broker| broker.handle_set_partitions(&topic, count, true)).await?;
    Ok(done())
}

async fn delete_partitions(State(hub): Shared, domain: In, path: Name, Query(query): Query<Force>) -> Reply {
    let topic = of_path(domain.0, &path)?;
    hub.change(|broker| broker.handle_delete_partitioned(&topic, query.force)).await?;
    Ok(done())
}

/// A plain number, or the object that newer clients send.
fn count_in(body: &[u8]) -> Result<u32, Failure> {
    let body: Value = parse(body)?;
    let count = body.as_u64().or_else(|| body.get("partitions").and_then(Value::as_u64));
    count.and_then(|count| u32::try_from(count).ok()).ok_or_else(|| Failure::invalid("Expected a number of partitions"))
}

async fn unload(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    hub.change(|broker| broker.handle_unload(&topic)).await?;
    Ok(done())
}

/// The topic itself, or its partitions.
fn each(broker: &Broker, topic: &TopicName) -> Result<Vec<TopicName>, Refusal> {
    let count = broker.partitions(topic)?;
    if count == 0 {
        return Ok(vec![topic.clone()]);
    }
    Ok(broker.partition_names(topic, count))
}

async fn stats(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    Ok(json(shown(&hub.look(|broker| broker.topic_stats(&topic))?)))
}

async fn partitioned_stats(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    let all = hub.look(|broker| {
        if broker.partitions(&topic)? == 0 {
            return Err(Refusal::new(RefusalKind::TopicNotFound, "Partitioned topic not found"));
        }
        let partitions = each(broker, &topic)?;
        Ok(partitions
            .into_iter()
            .filter_map(|name| Some((name.to_string(), broker.topic_stats(&name).ok()?)))
            .collect::<Vec<_>>())
    })?;
    let sum = |of: fn(&TopicStats) -> u64| all.iter().map(|(_, stats)| of(stats)).sum::<u64>();
    let partitions: Map<String, Value> = all.iter().map(|(name, stats)| (name.clone(), shown(stats))).collect();
    Ok(json(value!({
        "storageSize": sum(|stats| stats.bytes),
        "msgInCounter": sum(|stats| stats.entries),
        "metadata": { "partitions": all.len() },
        "partitions": partitions,
    })))
}

fn shown(stats: &TopicStats) -> Value {
    let subscription = |subscription: &SubscriptionStats| {
        let consumers = subscription.consumers.iter().map(|consumer| {
            value!({
                "consumerName": consumer.name,
                "availablePermits": consumer.permits,
                "unackedMessages": consumer.unacked,
            })
        });
        value!({
            "type": kind(subscription),
            "durable": subscription.durable,
            "msgBacklog": subscription.backlog,
            "unackedMessages": subscription.unacked,
            "msgDelayed": subscription.delayed,
            "consumers": consumers.collect::<Vec<_>>(),
        })
    };
    let subscriptions: Map<String, Value> =
        stats.subscriptions.iter().map(|each| (each.name.clone(), subscription(each))).collect();
    let producers = stats.producers.iter().map(|name| value!({ "producerName": name }));
    value!({
        "storageSize": stats.bytes,
        "msgInCounter": stats.entries,
        "publishers": producers.collect::<Vec<_>>(),
        "subscriptions": subscriptions,
    })
}

fn kind(subscription: &SubscriptionStats) -> &'static str {
    use crate::semantics::Kind;
    match subscription.kind {
        Kind::Exclusive => "Exclusive",
        Kind::Shared => "Shared",
        Kind::Failover => "Failover",
        Kind::KeyShared => "Key_Shared",
    }
}

fn shown_position(position: Option<Position>) -> String {
    position.map_or_else(|| "-1:-1".to_owned(), |position| position.to_string())
}

async fn internal_stats(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    let stats = hub.look(|broker| broker.topic_stats(&topic))?;
    let cursors: Map<String, Value> = stats
        .subscriptions
        .iter()
        .filter(|subscription| subscription.durable)
        .map(|subscription| {
            let position = shown_position(subscription.mark_delete);
            (subscription.name.clone(), value!({ "markDeletePosition": position, "backlog": subscription.backlog }))
        })
        .collect();
    let ledgers = stats.ledgers.iter().map(|(ledger, entries)| value!({ "ledgerId": ledger, "entries": entries }));
    Ok(json(value!({
        "numberOfEntries": stats.entries,
        "totalSize": stats.bytes,
        "lastConfirmedEntry": shown_position(stats.last),
        "state": "LedgerOpened",
        "ledgers": ledgers.collect::<Vec<_>>(),
        "cursors": cursors,
    })))
}

async fn last_message_id(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    let last = hub.look(|broker| broker.topic_stats(&topic))?.last;
    let (ledger, entry) = last.map_or((-1, -1), |last| (last.ledger as i64, last.entry as i64));
    let partition = topic.partition().map_or(-1, i64::from);
    Ok(json(value!({ "ledgerId": ledger, "entryId": entry, "partitionIndex": partition })))
}

async fn subscriptions(State(hub): Shared, domain: In, path: Name) -> Reply {
    let topic = of_path(domain.0, &path)?;
    let names = hub.look(|broker| {
        let mut names = std::collections::BTreeSet::new();
        for topic in each(broker, &topic)? {
            names.extend(broker.topic_stats(&topic)?.subscriptions.into_iter().map(|subscription| subscription.name));
        }
        Ok::<_, Refusal>(names)
    })?;
    Ok(json(names))
}

/// A message id in a body, as the Java client writes it.
#[derive(Debug, serde::Deserialize)]
struct At {
    #[serde(rename = "ledgerId")]
    ledger: i64,
    #[serde(rename = "entryId")]
    entry: i64,
    #[serde(rename = "isExcluded", default)]
    excluded: bool,
}

impl At {
    fn start(&self) -> Start {
        match (self.ledger, self.entry) {
            (..0, _) => Start::Earliest,
            (i64::MAX, _) => Start::Latest,
            (ledger, entry) => {
                let position = Position { ledger: ledger as u64, entry: entry.max(0) as u64 };
                if self.excluded { Start::After(position) } else { Start::At(position) }
            }
        }
    }
}

async fn create_subscription(State(hub): Shared, domain: In, path: SubscriptionName, body: Bytes) -> Reply {
    let Path((tenant, namespace, topic, subscription)) = path;
    let topic = name(domain.0, &tenant, &namespace, &topic)?;
    let start = if body.is_empty() { Start::Latest } else { parse::<At>(&body)?.start() };
    hub.change(|broker| {
        let topics = each(broker, &topic)?;
        let mut outcomes = Vec::new();
        for topic in &topics {
            outcomes.push(broker.handle_create_subscription(topic, &subscription, start));
        }
        // Where some partitions have it already the others get it; only if all have it is that a conflict.
        let failed = outcomes
            .iter()
            .find(|outcome| !matches!(outcome, Err(refusal) if refusal.kind == RefusalKind::AlreadyExists));
        failed.or(outcomes.first()).cloned().unwrap_or(Ok(()))
    })
    .await?;
    Ok(done())
}

async fn delete_subscription(
    State(hub): Shared,
    domain: In,
    path: SubscriptionName,
    Query(query): Query<Force>,
) -> Reply {
    let Path((tenant, namespace, topic, subscription)) = path;
    let topic = name(domain.0, &tenant, &namespace, &topic)?;
    hub.change(|broker| {
        for topic in each(broker, &topic)? {
            broker.handle_delete_subscription(&topic, &subscription, query.force)?;
        }
        Ok(())
    })
    .await?;
    Ok(done())
}

async fn reset(hub: &Hub, topic: TopicName, subscription: String, start: Start) -> Reply {
    hub.change(|broker| {
        for topic in each(broker, &topic)? {
            broker.handle_reset_cursor(&topic, &subscription, start)?;
        }
        Ok(())
    })
    .await?;
    Ok(done())
}

async fn reset_to_position(State(hub): Shared, domain: In, path: SubscriptionName, body: Bytes) -> Reply {
    let Path((tenant, namespace, topic, subscription)) = path;
    let start = parse::<At>(&body)?.start();
    reset(&hub, name(domain.0, &tenant, &namespace, &topic)?, subscription, start).await
}

async fn reset_to_time(
    State(hub): Shared,
    domain: In,
    Path((tenant, namespace, topic, subscription, time_ms)): Path<(String, String, String, String, u64)>,
) -> Reply {
    reset(&hub, name(domain.0, &tenant, &namespace, &topic)?, subscription, Start::Since(time_ms)).await
}

async fn skip_all(State(hub): Shared, domain: In, path: SubscriptionName) -> Reply {
    let Path((tenant, namespace, topic, subscription)) = path;
    reset(&hub, name(domain.0, &tenant, &namespace, &topic)?, subscription, Start::Latest).await
}

pub async fn lookup(State(hub): Shared, Path((domain, tenant, namespace, topic)): SubscriptionName) -> Reply {
    hub.look(|broker| broker.resolve(&format!("{domain}://{tenant}/{namespace}/{topic}")))?;
    let (service, admin) = (&hub.settings.service_url, &hub.settings.admin_url);
    Ok(json(value!({ "brokerUrl": service, "httpUrl": admin, "nativeUrl": service })))
}
