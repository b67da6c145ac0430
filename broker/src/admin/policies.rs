//! Single policies that the broker honours: read, set and removed one by one, of namespaces and of topics.
//!
//! A topic's own policy goes before that of its namespace. With `?applied=true` the one that counts is read.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json as value};

use super::path::{Namespace, Topic};
use super::reply::{Failure, Reply, done, json, maybe, parse};
use super::routes::Routes;
use crate::semantics::policies::{AutoTopicCreation, Retention, SchemaCompatibility, TopicKind};
use crate::semantics::{Kind, Policies};
use crate::server::Hub;

type Shared = State<Arc<Hub>>;

/// Where a policy is in [`Policies`].
type Field<T> = fn(&mut Policies) -> &mut Option<T>;
type Check<T> = fn(&T) -> Result<(), Failure>;

/// Below a namespace.
pub(super) fn of_namespaces(base: &str) -> Routes {
    let of = |rest: &str| format!("{base}/{rest}");
    let mut routes = of_both::<Namespace>(base)
        .get(&of("backlogQuotaMap"), backlog_quotas)
        .post(&of("backlogQuota"), set_backlog_quota)
        .delete(&of("backlogQuota"), clear_backlog_quota);
    routes = policy::<Namespace, _>(routes, &of("deduplication"), "POST", |all| &mut all.deduplication, anything);
    routes = policy::<Namespace, _>(
        routes,
        &of("compactionThreshold"),
        "PUT",
        |all| &mut all.compaction_threshold,
        anything,
    );
    routes = policy::<Namespace, _>(routes, &of("maxProducersPerTopic"), "POST", max_producers, anything);
    routes = policy::<Namespace, _>(routes, &of("maxConsumersPerTopic"), "POST", max_consumers, anything);
    routes = policy::<Namespace, _>(
        routes,
        &of("maxTopicsPerNamespace"),
        "POST",
        |all| &mut all.max_topics_per_namespace,
        anything,
    );
    routes =
        policy::<Namespace, _>(routes, &of("autoTopicCreation"), "POST", |all| &mut all.auto_topic_creation, creation);
    routes = flag(routes, &of("encryptionRequired"), |all| &mut all.encryption_required);
    routes = flag(routes, &of("schemaValidationEnforced"), |all| &mut all.schema_validation_enforced);
    routes
        .get(&of("isAllowAutoUpdateSchema"), async |State(hub): Shared, at: Namespace| -> Reply {
            Ok(json(at.look(&hub, false, |all| all.allow_auto_update_schema)?.unwrap_or(true)))
        })
        .post(&of("isAllowAutoUpdateSchema"), async |State(hub): Shared, at: Namespace, body: Bytes| -> Reply {
            let allowed: bool = parse(&body)?;
            at.edit(&hub, |all| all.allow_auto_update_schema = Some(allowed)).await
        })
        .get(&of("schemaCompatibilityStrategy"), async |State(hub): Shared, at: Namespace| -> Reply {
            let strategy = at.look(&hub, false, |all| all.schema_compatibility)?;
            Ok(json(strategy.unwrap_or(SchemaCompatibility::Undefined)))
        })
        .put(&of("schemaCompatibilityStrategy"), async |State(hub): Shared, at: Namespace, body: Bytes| -> Reply {
            let strategy: SchemaCompatibility = parse(&body)?;
            at.edit(&hub, |all| all.schema_compatibility = Some(strategy)).await
        })
}

/// Below a topic.
pub(super) fn of_topics(base: &str) -> Routes {
    let of = |rest: &str| format!("{base}/{rest}");
    let mut routes = of_both::<Topic>(base);
    routes = policy::<Topic, _>(routes, &of("deduplicationEnabled"), "POST", |all| &mut all.deduplication, anything);
    routes = policy::<Topic, _>(routes, &of("maxProducers"), "POST", max_producers, anything);
    routes =
        policy::<Topic, _>(routes, &of("compactionThreshold"), "POST", |all| &mut all.compaction_threshold, anything);
    routes = policy::<Topic, _>(routes, &of("maxConsumers"), "POST", max_consumers, anything);
    routes.delete(&of("policies"), async |State(hub): Shared, at: Topic| -> Reply {
        at.edit(&hub, |all| *all = Policies::default()).await
    })
}

/// What namespaces and topics have at the same paths.
fn of_both<At: Holder>(base: &str) -> Routes {
    let of = |rest: &str| format!("{base}/{rest}");
    let mut routes = Routes::default();
    routes = policy::<At, _>(routes, &of("retention"), "POST", |all| &mut all.retention, retention);
    routes = policy::<At, _>(routes, &of("messageTTL"), "POST", |all| &mut all.message_ttl_seconds, ttl);
    routes = policy::<At, _>(
        routes,
        &of("maxConsumersPerSubscription"),
        "POST",
        |all| &mut all.max_consumers_per_subscription,
        anything,
    );
    routes = policy::<At, _>(
        routes,
        &of("maxSubscriptionsPerTopic"),
        "POST",
        |all| &mut all.max_subscriptions_per_topic,
        anything,
    );
    routes = policy::<At, _>(
        routes,
        &of("autoSubscriptionCreation"),
        "POST",
        |all| &mut all.auto_subscription_creation,
        anything,
    );
    routes = routes
        .get(&of("subscriptionTypesEnabled"), async |State(hub): Shared, at: At| -> Reply {
            Ok(json(at.look(&hub, false, |all| all.subscription_types.clone().unwrap_or_default())?))
        })
        .post(&of("subscriptionTypesEnabled"), async |State(hub): Shared, at: At, body: Bytes| -> Reply {
            let kinds: Vec<String> = parse(&body)?;
            kinds.iter().try_for_each(kind_exists)?;
            at.edit(&hub, |all| all.subscription_types = Some(kinds)).await
        })
        .delete(&of("subscriptionTypesEnabled"), async |State(hub): Shared, at: At| -> Reply {
            at.edit(&hub, |all| all.subscription_types = None).await
        });
    routes = policy::<At, _>(routes, &of("inactiveTopicPolicies"), "POST", |all| &mut all.inactive_topics, inactive);
    routes = policy::<At, _>(routes, &of("persistence"), "POST", |all| &mut all.persistence, persistence);
    routes
}

/// Who has policies.
pub(super) trait Holder: FromRequestParts<Arc<Hub>, Rejection = Failure> + Send + 'static {
    /// # Errors
    /// It does not exist.
    fn look<R>(&self, hub: &Hub, applied: bool, get: impl Fn(&Policies) -> R) -> Result<R, Failure>;

    fn edit(&self, hub: &Hub, edit: impl FnOnce(&mut Policies) + Send) -> impl Future<Output = Reply> + Send;
}

impl Holder for Namespace {
    fn look<R>(&self, hub: &Hub, _: bool, get: impl Fn(&Policies) -> R) -> Result<R, Failure> {
        let missing = |_| Failure::not_found("Namespace does not exist");
        hub.look(|broker| broker.catalog().namespace(&self.0).map(get)).map_err(missing)
    }

    async fn edit(&self, hub: &Hub, edit: impl FnOnce(&mut Policies) + Send) -> Reply {
        self.look(hub, false, |_| ())?;
        hub.change(|broker| broker.handle_set_policies(&self.0, edit)).await?;
        Ok(done())
    }
}

impl Holder for Topic {
    fn look<R>(&self, hub: &Hub, applied: bool, get: impl Fn(&Policies) -> R) -> Result<R, Failure> {
        hub.look(|broker| {
            let catalog = broker.catalog();
            let namespace = catalog.namespace(self.0.namespace())?;
            if !broker.has_topic(&self.0) && !catalog.partitioned.contains_key(self.0.base()) {
                return Err(Failure::not_found(format!("Topic {} not found", self.0)));
            }
            let own = catalog.topic_policies.get(self.0.base()).cloned().unwrap_or_default();
            Ok(get(&if applied { over(own, namespace) } else { own }))
        })
    }

    async fn edit(&self, hub: &Hub, edit: impl FnOnce(&mut Policies) + Send) -> Reply {
        hub.change(|broker| broker.handle_set_topic_policies(&self.0, edit)).await?;
        Ok(done())
    }
}

/// What counts for a topic with policies of its own.
fn over(own: Policies, namespace: &Policies) -> Policies {
    Policies {
        retention: own.retention.or(namespace.retention),
        deduplication: own.deduplication.or(namespace.deduplication),
        message_ttl_seconds: own.message_ttl_seconds.or(namespace.message_ttl_seconds),
        persistence: own.persistence.or_else(|| namespace.persistence.clone()),
        compaction_threshold: own.compaction_threshold.or(namespace.compaction_threshold),
        max_producers_per_topic: own.max_producers_per_topic.or(namespace.max_producers_per_topic),
        max_consumers_per_topic: own.max_consumers_per_topic.or(namespace.max_consumers_per_topic),
        max_consumers_per_subscription: own.max_consumers_per_subscription.or(namespace.max_consumers_per_subscription),
        max_subscriptions_per_topic: own.max_subscriptions_per_topic.or(namespace.max_subscriptions_per_topic),
        subscription_types: own.subscription_types.or_else(|| namespace.subscription_types.clone()),
        auto_subscription_creation: own.auto_subscription_creation.or(namespace.auto_subscription_creation),
        ..namespace.clone()
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Asked {
    applied: bool,
}

/// The value of a policy that is set by a query parameter instead of a body, as a topic's time to live is.
struct InQuery(Option<String>);

impl<S: Sync> FromRequestParts<S> for InQuery {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<InQuery, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        let value = query.split('&').find_map(|pair| pair.strip_prefix("messageTTL="));
        Ok(InQuery(value.map(str::to_owned)))
    }
}

/// Adds one policy; an empty body or `null` unsets it, as in Apache Pulsar.
fn policy<At, T>(routes: Routes, path: &str, set_by: &str, field: Field<T>, check: Check<T>) -> Routes
where
    At: Holder,
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
{
    let set = async move |State(hub): Shared, at: At, InQuery(query): InQuery, body: Bytes| -> Reply {
        let body = query.map_or(body, Bytes::from);
        let new: Option<T> = if body.is_empty() { None } else { parse_policy(&body)? };
        if let Some(new) = &new {
            check(new)?;
        }
        at.edit(&hub, |all| *field(all) = new).await
    };
    let routes = routes
        .get(path, async move |State(hub): Shared, at: At, Query(asked): Query<Asked>| -> Reply {
            Ok(maybe(at.look(&hub, asked.applied, |all| field(&mut all.clone()).clone())?))
        })
        .delete(path, async move |State(hub): Shared, at: At| -> Reply {
            at.edit(&hub, |all| *field(all) = None).await
        });
    if set_by == "PUT" { routes.put(path, set) } else { routes.post(path, set) }
}

/// Reads a policy's value; a number where none may be below zero is refused as Apache Pulsar does.
fn parse_policy<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, Failure> {
    parse(body).map_err(|failure| match parse::<i64>(body) {
        Ok(..0) => Failure::precondition("The value must be 0 or more"),
        _ => failure,
    })
}

/// A policy that is on or off.
fn flag(routes: Routes, path: &str, field: fn(&mut Policies) -> &mut bool) -> Routes {
    routes
        .get(path, async move |State(hub): Shared, at: Namespace| -> Reply {
            Ok(json(at.look(&hub, false, |all| *field(&mut all.clone()))?))
        })
        .post(path, async move |State(hub): Shared, at: Namespace, body: Bytes| -> Reply {
            let on: bool = parse(&body)?;
            at.edit(&hub, |all| *field(all) = on).await
        })
}

fn max_producers(all: &mut Policies) -> &mut Option<u32> {
    &mut all.max_producers_per_topic
}

fn max_consumers(all: &mut Policies) -> &mut Option<u32> {
    &mut all.max_consumers_per_topic
}

fn kind_exists(kind: &String) -> Result<(), Failure> {
    let kinds = [Kind::Exclusive, Kind::Shared, Kind::Failover, Kind::KeyShared];
    if kinds.iter().any(|known| known.name() == kind) {
        return Ok(());
    }
    Err(Failure::precondition(format!("There is no subscription type {kind}")))
}

fn anything<T>(_: &T) -> Result<(), Failure> {
    Ok(())
}

fn retention(retention: &Retention) -> Result<(), Failure> {
    let (minutes, size) = (retention.minutes, retention.size_mb);
    let words = if minutes < -1 {
        "time limit must be >= -1"
    } else if size < -1 {
        "size limit must be >= -1"
    } else if (minutes == 0) != (size == 0) {
        "Setting a single time or size limit to 0 is invalid when one of the limits has a non-zero value. Use \
         the value of -1 instead of 0 to ignore a specific limit. To disable retention both limits must be set to 0."
    } else {
        return Ok(());
    };
    Err(Failure::invalid(format!("Invalid retention policy: {words}")))
}

fn ttl(seconds: &i64) -> Result<(), Failure> {
    if *seconds >= 0 {
        return Ok(());
    }
    Err(Failure::precondition("Invalid value for message TTL, message TTL must >= 0"))
}

fn creation(creation: &AutoTopicCreation) -> Result<(), Failure> {
    if creation.kind == Some(TopicKind::Partitioned) && creation.partitions.unwrap_or(0) == 0 {
        return Err(Failure::precondition(
            "Invalid configuration for autoTopicCreationOverride. the detail is [defaultNumPartitions] cannot be \
             less than 1 for partition type.",
        ));
    }
    Ok(())
}

/// How often a message is stored is not this broker's to choose, so any sensible wish is taken.
fn persistence(wish: &Value) -> Result<(), Failure> {
    let count = |name: &str| wish.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (ensemble, writes) = (count("bookkeeperEnsemble"), count("bookkeeperWriteQuorum"));
    let acks = count("bookkeeperAckQuorum");
    if ensemble >= writes && writes >= acks {
        return Ok(());
    }
    Err(Failure::invalid(format!("Bookkeeper Ensemble ({ensemble}) >= WriteQuorum ({writes}) >= AckQuorum ({acks})")))
}

fn inactive(policy: &Value) -> Result<(), Failure> {
    let modes = ["delete_when_no_subscriptions", "delete_when_subscriptions_caught_up"];
    let mode = policy.get("inactiveTopicDeleteMode").and_then(Value::as_str).unwrap_or(modes[0]);
    let seconds = policy.get("maxInactiveDurationSeconds").and_then(Value::as_i64).unwrap_or(0);
    if modes.contains(&mode) && seconds >= 0 {
        return Ok(());
    }
    Err(Failure::precondition("Invalid policies of inactive topics: an unknown mode, or a time below zero"))
}

#[derive(Debug, serde::Deserialize)]
struct QuotaKind {
    #[serde(rename = "backlogQuotaType", default = "storage_quota")]
    kind: String,
}

fn storage_quota() -> String {
    "destination_storage".into()
}

async fn backlog_quotas(State(hub): Shared, at: Namespace) -> Reply {
    Ok(json(at.look(&hub, false, |all| all.backlog_quotas.clone())?))
}

/// A quota as Apache Pulsar gives it back; `limit` is the former name of `limitSize`.
fn quota(body: &Value) -> Result<Value, Failure> {
    let number = |name: &str| body.get(name).and_then(Value::as_i64);
    let policy = body.get("policy").and_then(Value::as_str).unwrap_or_default();
    if !["producer_request_hold", "producer_exception", "consumer_backlog_eviction"].contains(&policy) {
        return Err(Failure::invalid("The backlog quota's attribute policy cannot be null"));
    }
    let (size, time) = (number("limitSize").or(number("limit")).unwrap_or(0), number("limitTime").unwrap_or(-1));
    Ok(value!({ "limit": size, "limitSize": size, "limitTime": time, "policy": policy }))
}

async fn set_backlog_quota(State(hub): Shared, at: Namespace, Query(query): Query<QuotaKind>, body: Bytes) -> Reply {
    let quota = quota(&parse(&body)?)?;
    at.edit(&hub, |all| {
        all.backlog_quotas.insert(query.kind, quota);
    })
    .await
}

async fn clear_backlog_quota(State(hub): Shared, at: Namespace, Query(query): Query<QuotaKind>) -> Reply {
    at.edit(&hub, |all| {
        all.backlog_quotas.remove(&query.kind);
    })
    .await
}
