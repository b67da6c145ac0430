//! Namespaces: list, create, delete, their policies as a whole, properties, and what is done to all their topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json as value};

use super::clusters::CLUSTER;
use super::path::Namespace;
use super::policies::Holder as _;
use super::reply::{Failure, Reply, done, json, maybe, parse};
use super::routes::Routes;
use super::tenants::Force;
use crate::semantics::policies::SchemaCompatibility;
use crate::semantics::{Broker, Policies, Refusal, RefusalKind, TopicName, name::is_part};
use crate::server::Hub;

/// The only bundle of every namespace.
pub(super) const BUNDLE: &str = "0x00000000_0xffffffff";

type Shared = State<Arc<Hub>>;

/// What is below `/admin/v2/namespaces`.
pub(super) fn routes() -> Routes {
    let base = "/admin/v2/namespaces/{tenant}/{namespace}";
    let of = |rest: &str| format!("{base}/{rest}");
    Routes::default()
        .get("/admin/v2/namespaces/{tenant}", list)
        .get(base, policies)
        .put(base, create)
        .delete(base, delete)
        .get(&of("topics"), topics)
        .get(&of("bundles"), bundles)
        .get(&of("permissions"), no_permissions)
        .get(&of("permissions/subscription"), no_permissions)
        .get(&of("properties"), properties)
        .put(&of("properties"), set_properties)
        .delete(&of("properties"), clear_properties)
        .get(&of("property/{key}"), property)
        .put(&of("property/{key}/{value}"), set_property)
        .delete(&of("property/{key}"), clear_property)
        .put(&of("unload"), unload)
        .put(&of("{bundle}/unload"), unload)
        .post(&of("clearBacklog"), clear_backlog)
        .post(&of("{bundle}/clearBacklog"), clear_backlog)
        .post(&of("clearBacklog/{subscription}"), clear_backlog)
        .post(&of("{bundle}/clearBacklog/{subscription}"), clear_backlog)
        .post(&of("unsubscribe/{subscription}"), unsubscribe)
        .post(&of("{bundle}/unsubscribe/{subscription}"), unsubscribe)
        .merge(super::policies::of_namespaces(base))
        .merge(super::unsupported::of_namespaces(base))
}

async fn list(State(hub): Shared, Path(tenant): Path<String>) -> Reply {
    let prefix = format!("{tenant}/");
    let names = hub.look(|broker| {
        let catalog = broker.catalog();
        let names = catalog.namespaces.keys().filter(|name| name.starts_with(&prefix)).cloned().collect::<Vec<_>>();
        catalog.tenants.contains(&tenant).then_some(names)
    });
    names.map(json).ok_or_else(|| Failure::not_found("Tenant not found"))
}

async fn create(State(hub): Shared, namespace: Namespace, body: Bytes) -> Reply {
    if !namespace.0.split('/').all(is_part) {
        return Err(Failure::precondition("Namespace name is not valid"));
    }
    let policies = if body.is_empty() { Policies::default() } else { from_pulsar(&parse(&body)?)? };
    hub.change(|broker| broker.handle_create_namespace(&namespace.0, policies)).await?;
    Ok(done())
}

async fn delete(State(hub): Shared, namespace: Namespace, Query(query): Query<Force>) -> Reply {
    let deleted = hub.change(|broker| broker.handle_delete_namespace(&namespace.0, query.force)).await;
    deleted.map_err(|refusal| Failure::from(refusal).instead_of(412, 409))?;
    Ok(done())
}

async fn policies(State(hub): Shared, namespace: Namespace) -> Reply {
    Ok(json(shown(&namespace.look(&hub, false, Policies::clone)?)))
}

/// What is unset is left out, as in Apache Pulsar.
fn shown(policies: &Policies) -> Value {
    let mut all = value!({
        "auth_policies": { "namespace_auth": {}, "destination_auth": {}, "subscription_auth_roles": {} },
        "replication_clusters": [CLUSTER],
        "allowed_clusters": [],
        "bundles": bundles_data(),
        "backlog_quota_map": policies.backlog_quotas,
        "clusterDispatchRate": {},
        "topicDispatchRate": {},
        "subscriptionDispatchRate": {},
        "replicatorDispatchRate": {},
        "clusterSubscribeRate": {},
        "publishMaxMessageRate": {},
        "latency_stats_sample_rate": {},
        "retention_policies": policies.retention,
        "message_ttl_in_seconds": policies.message_ttl_seconds,
        "deduplicationEnabled": policies.deduplication,
        "inactive_topic_policies": policies.inactive_topics,
        "persistence": policies.persistence,
        "properties": policies.properties,
        "deleted": false,
        "encryption_required": policies.encryption_required,
        "max_producers_per_topic": policies.max_producers_per_topic,
        "max_consumers_per_topic": policies.max_consumers_per_topic,
        "max_consumers_per_subscription": policies.max_consumers_per_subscription,
        "max_subscriptions_per_topic": policies.max_subscriptions_per_topic,
        "max_topics_per_namespace": policies.max_topics_per_namespace,
        "compaction_threshold": policies.compaction_threshold,
        "autoSubscriptionCreationOverride": policies.auto_subscription_creation,
        "autoTopicCreationOverride": policies.auto_topic_creation,
        "subscription_auth_mode": "None",
        "offload_threshold": -1,
        "offload_threshold_in_seconds": -1,
        "schema_compatibility_strategy": policies.schema_compatibility.unwrap_or(SchemaCompatibility::Undefined),
        "is_allow_auto_update_schema": policies.allow_auto_update_schema.unwrap_or(true),
        "schema_validation_enforced": policies.schema_validation_enforced,
        "subscription_types_enabled": policies.subscription_types.clone().unwrap_or_default(),
        "migrated": false,
    });
    if let Some(fields) = all.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    all
}

/// Fields of a whole set of policies that may say anything, since they place what a single broker does not place.
const HINTS: [&str; 2] = ["bundles", "clusterThatCanDeleteNamespace"];

/// The policies that a namespace is created with; one that would not be honoured refuses the creation.
fn from_pulsar(body: &Value) -> Result<Policies, Failure> {
    let Some(fields) = body.as_object() else {
        return Err(Failure::invalid("The policies of a namespace are a JSON object"));
    };
    let known = shown(&Policies::default());
    let mut policies = Policies::default();
    for (name, field) in fields.iter().filter(|(_, field)| !field.is_null()) {
        match name.as_str() {
            "retention_policies" => policies.retention = read(name, field)?,
            "deduplicationEnabled" => policies.deduplication = read(name, field)?,
            "message_ttl_in_seconds" => policies.message_ttl_seconds = read(name, field)?,
            "inactive_topic_policies" => policies.inactive_topics = Some(field.clone()),
            "backlog_quota_map" => policies.backlog_quotas = read(name, field)?,
            "properties" => policies.properties = read(name, field)?,
            "encryption_required" => policies.encryption_required = read(name, field)?,
            "max_producers_per_topic" => policies.max_producers_per_topic = read(name, field)?,
            "max_consumers_per_topic" => policies.max_consumers_per_topic = read(name, field)?,
            "max_consumers_per_subscription" => policies.max_consumers_per_subscription = read(name, field)?,
            "max_subscriptions_per_topic" => policies.max_subscriptions_per_topic = read(name, field)?,
            "max_topics_per_namespace" => policies.max_topics_per_namespace = read(name, field)?,
            "subscription_types_enabled" => policies.subscription_types = read(name, field)?,
            "autoSubscriptionCreationOverride" => policies.auto_subscription_creation = read(name, field)?,
            "compaction_threshold" => policies.compaction_threshold = read(name, field)?,
            "autoTopicCreationOverride" => policies.auto_topic_creation = read(name, field)?,
            "schema_compatibility_strategy" => policies.schema_compatibility = read(name, field)?,
            "is_allow_auto_update_schema" => policies.allow_auto_update_schema = read(name, field)?,
            "schema_validation_enforced" => policies.schema_validation_enforced = read(name, field)?,
            "persistence" => policies.persistence = Some(field.clone()),
            "replication_clusters" => {
                let clusters: Vec<String> = read(name, field)?;
                if let Some(other) = clusters.iter().find(|cluster| *cluster != CLUSTER) {
                    return Err(Failure::forbidden(format!("Cluster [{other}] is not in the list of clusters")));
                }
            }
            other if HINTS.contains(&other) || known.get(other) == Some(field) || is_nothing(field) => {}
            other => {
                return Err(Failure::not_supported(format!("The policy {other} is not supported by this broker")));
            }
        }
    }
    Ok(policies)
}

fn read<T: serde::de::DeserializeOwned>(name: &str, field: &Value) -> Result<T, Failure> {
    serde_json::from_value(field.clone())
        .map_err(|error| Failure::invalid(format!("The policy {name} cannot be understood: {error}")))
}

fn is_nothing(field: &Value) -> bool {
    match field {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64().is_some_and(|number| number <= 0.0),
        Value::String(text) => ["", "None", "UNDEFINED"].contains(&text.as_str()),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

fn bundles_data() -> Value {
    value!({ "boundaries": ["0x00000000", "0xffffffff"], "numBundles": 1 })
}

async fn bundles(State(hub): Shared, namespace: Namespace) -> Reply {
    namespace.look(&hub, false, |_| json(bundles_data()))
}

async fn no_permissions(State(hub): Shared, namespace: Namespace) -> Reply {
    namespace.look(&hub, false, |_| json(value!({})))
}

#[derive(Debug, serde::Deserialize)]
struct Mode {
    #[serde(default)]
    mode: String,
}

async fn topics(State(hub): Shared, namespace: Namespace, Query(Mode { mode }): Query<Mode>) -> Reply {
    let topics = topics_of(&hub, &namespace)?;
    let wanted = topics.iter().filter(|topic| match mode.to_ascii_uppercase().as_str() {
        "ALL" => true,
        "NON_PERSISTENT" => !topic.is_persistent(),
        _ => topic.is_persistent(),
    });
    Ok(json(wanted.map(ToString::to_string).collect::<Vec<_>>()))
}

pub(super) fn topics_of(hub: &Hub, namespace: &Namespace) -> Result<Vec<TopicName>, Failure> {
    namespace.look(hub, false, |_| ())?;
    Ok(hub.look(|broker| broker.topics_of(&namespace.0)))
}

async fn properties(State(hub): Shared, namespace: Namespace) -> Reply {
    namespace.look(&hub, false, |policies| json(&policies.properties))
}

async fn set_properties(State(hub): Shared, namespace: Namespace, body: Bytes) -> Reply {
    let properties: BTreeMap<String, String> = parse(&body)?;
    namespace.edit(&hub, |policies| policies.properties.extend(properties)).await
}

async fn clear_properties(State(hub): Shared, namespace: Namespace) -> Reply {
    namespace.edit(&hub, |policies| policies.properties.clear()).await
}

type Key = Path<BTreeMap<String, String>>;

fn key(path: &BTreeMap<String, String>, part: &str) -> String {
    path.get(part).cloned().unwrap_or_default()
}

async fn property(State(hub): Shared, namespace: Namespace, Path(path): Key) -> Reply {
    namespace.look(&hub, false, |policies| bare(policies.properties.get(&key(&path, "key"))))
}

async fn set_property(State(hub): Shared, namespace: Namespace, Path(path): Key) -> Reply {
    namespace
        .edit(&hub, |policies| {
            policies.properties.insert(key(&path, "key"), key(&path, "value"));
        })
        .await
}

async fn clear_property(State(hub): Shared, namespace: Namespace, Path(path): Key) -> Reply {
    let key = key(&path, "key");
    let removed = namespace.look(&hub, false, |policies| policies.properties.get(&key).cloned())?;
    namespace
        .edit(&hub, |policies| {
            policies.properties.remove(&key);
        })
        .await?;
    Ok(bare(removed.as_ref()))
}

/// A property's value is given without quotes, though as JSON; so does Apache Pulsar.
fn bare(text: Option<&String>) -> axum::response::Response {
    use axum::http::header::CONTENT_TYPE;
    use axum::response::IntoResponse;
    match text {
        Some(text) => ([(CONTENT_TYPE, "application/json")], text.clone()).into_response(),
        None => maybe(None::<()>),
    }
}

/// There is one bundle; a path that names another names nothing.
fn check_bundle(path: &BTreeMap<String, String>) -> Result<(), Failure> {
    match path.get("bundle") {
        Some(bundle) if bundle != BUNDLE => {
            Err(Failure::precondition(format!("Bundle {bundle} does not exist: the only one is {BUNDLE}")))
        }
        _ => Ok(()),
    }
}

/// Does something to every topic of a namespace.
async fn with_each(
    hub: &Hub,
    namespace: &Namespace,
    path: &BTreeMap<String, String>,
    act: impl Fn(&mut Broker, &TopicName) -> Result<(), Refusal>,
) -> Reply {
    check_bundle(path)?;
    let topics = topics_of(hub, namespace)?;
    hub.change(|broker| {
        for topic in &topics {
            match act(broker, topic) {
                Err(refusal)
                    if matches!(refusal.kind, RefusalKind::TopicNotFound | RefusalKind::SubscriptionNotFound) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    })
    .await?;
    Ok(done())
}

async fn unload(State(hub): Shared, namespace: Namespace, Path(path): Key) -> Reply {
    with_each(&hub, &namespace, &path, |broker, topic| broker.handle_unload(topic)).await
}

async fn clear_backlog(State(hub): Shared, namespace: Namespace, Path(path): Key) -> Reply {
    with_each(&hub, &namespace, &path, |broker, topic| {
        let names = match path.get("subscription") {
            Some(name) => vec![name.clone()],
            None => broker.topic_stats(topic)?.subscriptions.into_iter().map(|state| state.name).collect(),
        };
        for name in names {
            broker.handle_clear_backlog(topic, &name)?;
        }
        Ok(())
    })
    .await
}

async fn unsubscribe(State(hub): Shared, namespace: Namespace, Path(path): Key) -> Reply {
    let name = key(&path, "subscription");
    with_each(&hub, &namespace, &path, |broker, topic| broker.handle_delete_subscription(topic, &name, false)).await
}
