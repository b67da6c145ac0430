//! Subscriptions of a topic, or of all its partitions: create, delete, move, skip, and their properties.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::json as value;

use super::path::{Subscription, Topic, each};
use super::reply::{Failure, Reply, done, json, parse};
use super::routes::Routes;
use super::tenants::Force;
use super::topics::Shared;
use crate::semantics::{Broker, Position, Refusal, RefusalKind, Start, TopicName};
use crate::server::{Hub, now_ms};

pub(super) fn routes(topic: &str) -> Routes {
    let one = format!("{topic}/subscription/{{subscription}}");
    let of = |rest: &str| format!("{one}/{rest}");
    Routes::default()
        .get(&format!("{topic}/subscriptions"), list)
        .put(&one, create)
        .delete(&one, delete)
        .get(&of("properties"), properties)
        .put(&of("properties"), set_properties)
        .post(&of("resetcursor"), reset_to_position)
        .post(&of("resetcursor/{timestamp}"), reset_to_time)
        .post(&of("skip_all"), skip_all)
        .post(&of("skip/{count}"), skip)
        .post(&of("expireMessages"), expire_to_position)
        .post(&of("expireMessages/{seconds}"), expire)
        .post(&format!("{topic}/all_subscription/expireMessages/{{seconds}}"), expire_all)
        .get(&of("replicatedSubscriptionStatus"), async |_: Subscription| json(value!({})))
        .refuse("POST", &of("analyzeBacklog"), "Backlogs are counted, not read: see the stats")
}

type Parts = Path<BTreeMap<String, String>>;

async fn list(State(hub): Shared, Topic(topic): Topic) -> Reply {
    let names = hub.look(|broker| {
        let mut names = BTreeSet::new();
        for topic in each(broker, &topic)? {
            names.extend(broker.topic_stats(&topic)?.subscriptions.into_iter().map(|subscription| subscription.name));
        }
        Ok::<_, Refusal>(names)
    })?;
    Ok(json(names))
}

/// A message id in a body, as the Java client writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct At {
    ledger_id: i64,
    entry_id: i64,
    /// Of a message in a batch.
    #[serde(default)]
    batch_index: Option<i32>,
    #[serde(default)]
    is_excluded: bool,
    /// What some versions of the Java client call the same.
    #[serde(default)]
    excluded: bool,
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
}

impl At {
    fn start(&self) -> Start {
        match (self.ledger_id, self.entry_id) {
            (..0, _) => Start::Earliest,
            (i64::MAX, _) => Start::Latest,
            (ledger, entry) => {
                let position = Position { ledger: ledger as u64, entry: entry.max(0) as u64 };
                let excluded = self.is_excluded || self.excluded;
                match self.batch_index.and_then(|index| u32::try_from(index).ok()) {
                    Some(index) => Start::Within(position, index + u32::from(excluded)),
                    None if excluded => Start::After(position),
                    None => Start::At(position),
                }
            }
        }
    }
}

async fn create(State(hub): Shared, Subscription { topic, name }: Subscription, body: Bytes) -> Reply {
    let at: Option<At> = if body.is_empty() { None } else { parse(&body)? };
    let start = at.as_ref().map_or(Start::Latest, At::start);
    let properties = at.and_then(|at| at.properties).unwrap_or_default();
    hub.change(|broker| {
        let topics = each(broker, &topic)?;
        let mut outcomes = Vec::new();
        for topic in &topics {
            let created = broker.handle_create_subscription(topic, &name, start);
            outcomes.push(match created {
                Ok(()) if !properties.is_empty() => {
                    broker.handle_set_subscription_properties(topic, &name, properties.clone())
                }
                other => other,
            });
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

/// Does something to a subscription of a topic, or of every partition.
async fn with_each(
    hub: &Hub,
    topic: &TopicName,
    act: impl Fn(&mut Broker, &TopicName) -> Result<(), Refusal>,
) -> Reply {
    hub.change(|broker| each(broker, topic)?.iter().try_for_each(|topic| act(broker, topic))).await?;
    Ok(done())
}

async fn delete(State(hub): Shared, Subscription { topic, name }: Subscription, Query(query): Query<Force>) -> Reply {
    with_each(&hub, &topic, |broker, topic| broker.handle_delete_subscription(topic, &name, query.force)).await
}

async fn properties(State(hub): Shared, Subscription { topic, name }: Subscription) -> Reply {
    let properties = hub.look(|broker| {
        let mut all = BTreeMap::new();
        for topic in each(broker, &topic)? {
            all.extend(broker.subscription_properties(&topic, &name)?);
        }
        Ok::<_, Refusal>(all)
    })?;
    Ok(json(properties))
}

async fn set_properties(State(hub): Shared, Subscription { topic, name }: Subscription, body: Bytes) -> Reply {
    let properties: BTreeMap<String, String> = if body.is_empty() { BTreeMap::new() } else { parse(&body)? };
    with_each(&hub, &topic, |broker, topic| broker.handle_set_subscription_properties(topic, &name, properties.clone()))
        .await
}

async fn reset_to_position(State(hub): Shared, Subscription { topic, name }: Subscription, body: Bytes) -> Reply {
    let start = parse::<At>(&body)?.start();
    if hub.look(|broker| broker.partitions(&topic))? > 0 {
        return Err(Failure::not_allowed("Reset-cursor at position is not allowed for partitioned-topic"));
    }
    with_each(&hub, &topic, |broker, topic| broker.handle_reset_cursor(topic, &name, start)).await
}

async fn reset_to_time(State(hub): Shared, Subscription { topic, name }: Subscription, Path(path): Parts) -> Reply {
    let start = Start::Since(number(&path, "timestamp")?);
    with_each(&hub, &topic, |broker, topic| broker.handle_reset_cursor(topic, &name, start)).await
}

async fn skip_all(State(hub): Shared, Subscription { topic, name }: Subscription) -> Reply {
    with_each(&hub, &topic, |broker, topic| broker.handle_clear_backlog(topic, &name).map(drop)).await
}

async fn skip(State(hub): Shared, Subscription { topic, name }: Subscription, Path(path): Parts) -> Reply {
    let count = number(&path, "count")?;
    if hub.look(|broker| broker.partitions(&topic))? > 0 {
        return Err(Failure::not_allowed("Skip messages on a partitioned topic is not allowed"));
    }
    with_each(&hub, &topic, |broker, topic| broker.handle_skip(topic, &name, count).map(drop)).await
}

/// Messages that are older than so many seconds.
async fn expire(State(hub): Shared, Subscription { topic, name }: Subscription, Path(path): Parts) -> Reply {
    let age_ms = number(&path, "seconds")?.saturating_mul(1000);
    with_each(&hub, &topic, |broker, topic| broker.handle_expire(topic, &name, age_ms, now_ms()).map(drop)).await
}

async fn expire_all(State(hub): Shared, Topic(topic): Topic, Path(path): Parts) -> Reply {
    let age_ms = number(&path, "seconds")?.saturating_mul(1000);
    with_each(&hub, &topic, |broker, topic| {
        for state in broker.topic_stats(topic)?.subscriptions.iter().filter(|state| state.durable) {
            broker.handle_expire(topic, &state.name, age_ms, now_ms())?;
        }
        Ok(())
    })
    .await
}

/// The position is in a field, or the body itself.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Until {
    #[serde(rename_all = "camelCase")]
    Field {
        message_id: At,
        #[serde(default)]
        is_excluded: bool,
    },
    Plain(At),
}

async fn expire_to_position(State(hub): Shared, Subscription { topic, name }: Subscription, body: Bytes) -> Reply {
    let (at, excluded) = match parse(&body)? {
        Until::Field { message_id, is_excluded } => (message_id, is_excluded),
        Until::Plain(at) => {
            let excluded = at.is_excluded || at.excluded;
            (at, excluded)
        }
    };
    if hub.look(|broker| broker.partitions(&topic))? > 0 {
        return Err(Failure::not_allowed("Expire message at position is not supported for partitioned-topic"));
    }
    let ledger = u64::try_from(at.ledger_id).map_err(|_| Failure::precondition("The position must be a message's"))?;
    let position = Position { ledger, entry: at.entry_id.max(0) as u64 };
    with_each(&hub, &topic, |broker, topic| broker.handle_expire_to(topic, &name, position, excluded).map(drop)).await
}

/// A number in a path; anything else is nothing's path.
pub(super) fn number(path: &BTreeMap<String, String>, part: &str) -> Result<u64, Failure> {
    path.get(part).and_then(|text| text.parse().ok()).ok_or_else(Failure::nothing_here)
}
