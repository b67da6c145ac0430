//! Clusters, tenants, namespaces and their policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use serde_json::{Value, json as value};

use super::reply::{Failure, Reply, done, json, maybe, parse};
use crate::semantics::Policies;
use crate::semantics::policies::Retention;
use crate::server::Hub;

type Shared = State<Arc<Hub>>;
type Name = Path<(String, String)>;

/// What is below `/admin/v2/namespaces/{tenant}/{namespace}`.
pub fn router() -> Router<Arc<Hub>> {
    Router::new()
        .route("/", get(policies).put(create).delete(delete))
        .route("/topics", get(topics))
        .route("/retention", get(retention).post(set_retention).delete(clear_retention))
        .route("/deduplication", get(deduplication).post(set_deduplication).delete(clear_deduplication))
        .route("/messageTTL", get(ttl).post(set_ttl).delete(clear_ttl))
        .route("/backlogQuotaMap", get(backlog_quotas))
        .route("/backlogQuota", post(set_backlog_quota).delete(clear_backlog_quota))
        .route("/inactiveTopicPolicies", get(inactive).post(set_inactive).delete(clear_inactive))
        .route("/persistence", get(persistence).post(set_persistence).delete(clear_persistence))
        .route("/properties", get(properties).put(set_properties).delete(clear_properties))
        .route("/replication", get(replication))
}

pub async fn cluster(State(hub): Shared, Path(cluster): Path<String>) -> Reply {
    if cluster != "standalone" {
        return Err(Failure::not_found("Cluster does not exist"));
    }
    let settings = &hub.settings;
    Ok(json(value!({ "serviceUrl": settings.admin_url, "brokerServiceUrl": settings.service_url })))
}

pub async fn tenants(State(hub): Shared) -> Reply {
    Ok(json(hub.look(|broker| broker.catalog().tenants.clone())))
}

pub async fn tenant(State(hub): Shared, Path(tenant): Path<String>) -> Reply {
    if !hub.look(|broker| broker.catalog().tenants.contains(&tenant)) {
        return Err(Failure::not_found("Tenant does not exist"));
    }
    Ok(json(value!({ "adminRoles": [], "allowedClusters": ["standalone"] })))
}

pub async fn create_tenant(State(hub): Shared, Path(tenant): Path<String>) -> Reply {
    hub.change(|broker| broker.handle_create_tenant(&tenant)).await?;
    Ok(done())
}

pub async fn delete_tenant(State(hub): Shared, Path(tenant): Path<String>) -> Reply {
    hub.change(|broker| broker.handle_delete_tenant(&tenant)).await?;
    Ok(done())
}

pub async fn list(State(hub): Shared, Path(tenant): Path<String>) -> Reply {
    let prefix = format!("{tenant}/");
    let names = hub.look(|broker| {
        let catalog = broker.catalog();
        let names = catalog.namespaces.keys().filter(|name| name.starts_with(&prefix)).cloned().collect::<Vec<_>>();
        catalog.tenants.contains(&tenant).then_some(names)
    });
    names.map(json).ok_or_else(|| Failure::not_found("Tenant does not exist"))
}

async fn create(State(hub): Shared, Path((tenant, namespace)): Name, body: Bytes) -> Reply {
    let policies = if body.is_empty() { Policies::default() } else { from_pulsar(&parse(&body)?) };
    hub.change(|broker| broker.handle_create_namespace(&format!("{tenant}/{namespace}"), policies)).await?;
    Ok(done())
}

async fn delete(State(hub): Shared, Path((tenant, namespace)): Name, Query(query): Query<Force>) -> Reply {
    let name = format!("{tenant}/{namespace}");
    hub.change(|broker| broker.handle_delete_namespace(&name, query.force)).await?;
    Ok(done())
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Force {
    pub force: bool,
}

async fn policies(State(hub): Shared, name: Name) -> Reply {
    let policies = look(&hub, name, Policies::clone)?;
    Ok(json(value!({
        "auth_policies": { "namespace_auth": {}, "destination_auth": {}, "subscription_auth_roles": {} },
        "replication_clusters": ["standalone"],
        "bundles": { "boundaries": ["0x00000000", "0xffffffff"], "numBundles": 1 },
        "backlog_quota_map": policies.backlog_quotas,
        "retention_policies": policies.retention,
        "message_ttl_in_seconds": policies.message_ttl_seconds,
        "deduplicationEnabled": policies.deduplication,
        "inactive_topic_policies": policies.inactive_topics,
        "persistence": policies.persistence,
        "properties": policies.properties,
        "deleted": false,
    })))
}

/// The policies that a namespace can be created with.
fn from_pulsar(body: &Value) -> Policies {
    let field = |name: &str| body.get(name).filter(|value| !value.is_null());
    Policies {
        retention: field("retention_policies").and_then(|value| serde_json::from_value(value.clone()).ok()),
        deduplication: field("deduplicationEnabled").and_then(Value::as_bool),
        message_ttl_seconds: field("message_ttl_in_seconds").and_then(Value::as_i64),
        inactive_topics: field("inactive_topic_policies").cloned(),
        persistence: field("persistence").cloned(),
        backlog_quotas: field("backlog_quota_map")
            .and_then(|value| serde_json::from_value(value.clone()).ok())
            .unwrap_or_default(),
        ..Policies::default()
    }
}

async fn topics(State(hub): Shared, Path((tenant, namespace)): Name) -> Reply {
    let name = format!("{tenant}/{namespace}");
    let topics = hub.look(|broker| broker.catalog().namespace(&name).map(|_| broker.topics_of(&name)))?;
    Ok(json(topics.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

fn look<R>(hub: &Hub, Path((tenant, namespace)): Name, get: impl FnOnce(&Policies) -> R) -> Result<R, Failure> {
    Ok(hub.look(|broker| broker.catalog().namespace(&format!("{tenant}/{namespace}")).map(get))?)
}

async fn edit(hub: &Hub, Path((tenant, namespace)): Name, edit: impl FnOnce(&mut Policies)) -> Reply {
    hub.change(|broker| broker.handle_set_policies(&format!("{tenant}/{namespace}"), edit)).await?;
    Ok(done())
}

async fn retention(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |policies| policies.retention).map(maybe)
}

async fn set_retention(State(hub): Shared, name: Name, body: Bytes) -> Reply {
    let retention: Retention = parse(&body)?;
    let (minutes, size) = (retention.minutes, retention.size_mb);
    if minutes < -1 || size < -1 || (minutes == 0) != (size == 0) {
        return Err(Failure::precondition("Invalid retention policy: time and size are both 0, or both above 0 or -1"));
    }
    edit(&hub, name, |policies| policies.retention = Some(retention)).await
}

async fn clear_retention(State(hub): Shared, name: Name) -> Reply {
    edit(&hub, name, |policies| policies.retention = None).await
}

async fn deduplication(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |policies| policies.deduplication).map(maybe)
}

async fn set_deduplication(State(hub): Shared, name: Name, body: Bytes) -> Reply {
    let enabled: bool = parse(&body)?;
    edit(&hub, name, |policies| policies.deduplication = Some(enabled)).await
}

async fn clear_deduplication(State(hub): Shared, name: Name) -> Reply {
    edit(&hub, name, |policies| policies.deduplication = None).await
}

async fn ttl(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |policies| policies.message_ttl_seconds).map(maybe)
}

async fn set_ttl(State(hub): Shared, name: Name, body: Bytes) -> Reply {
    let seconds: i64 = parse(&body)?;
    if seconds < 0 {
        return Err(Failure::precondition("Invalid value for message TTL"));
    }
    edit(&hub, name, |policies| policies.message_ttl_seconds = Some(seconds)).await
}

async fn clear_ttl(State(hub): Shared, name: Name) -> Reply {
    edit(&hub, name, |policies| policies.message_ttl_seconds = None).await
}

#[derive(Debug, serde::Deserialize)]
struct QuotaType {
    #[serde(rename = "backlogQuotaType", default = "storage_quota")]
    kind: String,
}

fn storage_quota() -> String {
    "destination_storage".into()
}

async fn backlog_quotas(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |policies| json(&policies.backlog_quotas))
}

async fn set_backlog_quota(State(hub): Shared, name: Name, Query(query): Query<QuotaType>, body: Bytes) -> Reply {
    let quota: Value = parse(&body)?;
    edit(&hub, name, |policies| {
        policies.backlog_quotas.insert(query.kind, quota);
    })
    .await
}

async fn clear_backlog_quota(State(hub): Shared, name: Name, Query(query): Query<QuotaType>) -> Reply {
    edit(&hub, name, |policies| {
        policies.backlog_quotas.remove(&query.kind);
    })
    .await
}

async fn inactive(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |policies| policies.inactive_topics.clone()).map(maybe)
}

async fn set_inactive(State(hub): Shared, name: Name, body: Bytes) -> Reply {
    let inactive: Value = parse(&body)?;
    edit(&hub, name, |policies| policies.inactive_topics = Some(inactive)).await
}

async fn clear_inactive(State(hub): Shared, name: Name) -> Reply {
    edit(&hub, name, |policies| policies.inactive_topics = None).await
}

async fn persistence(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |policies| policies.persistence.clone()).map(maybe)
}

async fn set_persistence(State(hub): Shared, name: Name, body: Bytes) -> Reply {
    let persistence: Value = parse(&body)?;
    edit(&hub, name, |policies| policies.persistence = Some(persistence)).await
}

async fn clear_persistence(State(hub): Shared, name: Name) -> Reply {
    edit(&hub, name, |policies| policies.persistence = None).await
}

async fn properties(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |policies| json(&policies.properties))
}

async fn set_properties(State(hub): Shared, name: Name, body: Bytes) -> Reply {
    let properties: BTreeMap<String, String> = parse(&body)?;
    edit(&hub, name, |policies| policies.properties.extend(properties)).await
}

async fn clear_properties(State(hub): Shared, name: Name) -> Reply {
    edit(&hub, name, |policies| policies.properties.clear()).await
}

async fn replication(State(hub): Shared, name: Name) -> Reply {
    look(&hub, name, |_| json(["standalone"]))
}
