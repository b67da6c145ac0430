//! Tenants. All belong to the one cluster. Roles are kept as they were given and grant nothing: whoever has the
//! broker's token may do everything, and without a token everybody may.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::json as value;

use super::clusters::CLUSTER;
use super::reply::{Failure, Reply, done, json, parse};
use super::routes::Routes;
use crate::semantics::name::is_part;
use crate::server::Hub;

type Shared = State<Arc<Hub>>;

pub(super) fn routes() -> Routes {
    let one = "/admin/v2/tenants/{tenant}";
    Routes::default()
        .get("/admin/v2/tenants", list)
        .get(one, get)
        .put(one, create)
        .post(one, update)
        .delete(one, delete)
}

/// `?force=true`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Force {
    pub force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TenantInfo {
    #[serde(default)]
    admin_roles: Option<BTreeSet<String>>,
    allowed_clusters: Option<Vec<String>>,
}

async fn list(State(hub): Shared) -> Reply {
    Ok(json(hub.look(|broker| broker.catalog().tenants.clone())))
}

async fn get(State(hub): Shared, Path(tenant): Path<String>) -> Reply {
    exists(&hub, &tenant, "Tenant does not exist")?;
    let roles = hub.look(|broker| broker.catalog().tenant_roles.get(&tenant).cloned().unwrap_or_default());
    Ok(json(value!({ "adminRoles": roles, "allowedClusters": [CLUSTER] })))
}

async fn create(State(hub): Shared, Path(tenant): Path<String>, body: Bytes) -> Reply {
    if !is_part(&tenant) {
        return Err(Failure::precondition("Tenant name is not valid"));
    }
    let roles = roles_in(&body)?;
    hub.change(|broker| {
        broker.handle_create_tenant(&tenant)?;
        broker.handle_set_tenant_roles(&tenant, roles)
    })
    .await?;
    Ok(done())
}

async fn update(State(hub): Shared, Path(tenant): Path<String>, body: Bytes) -> Reply {
    let roles = roles_in(&body)?;
    hub.change(|broker| broker.handle_set_tenant_roles(&tenant, roles)).await?;
    Ok(done())
}

async fn delete(State(hub): Shared, Path(tenant): Path<String>, Query(query): Query<Force>) -> Reply {
    exists(&hub, &tenant, "Tenant doesn't exist")?;
    hub.change(|broker| {
        if query.force {
            let prefix = format!("{tenant}/");
            let names = broker.catalog().namespaces.keys().filter(|name| name.starts_with(&prefix));
            for namespace in names.cloned().collect::<Vec<_>>() {
                broker.handle_delete_namespace(&namespace, true)?;
            }
        }
        broker.handle_delete_tenant(&tenant)
    })
    .await
    .map_err(|refusal| Failure::from(refusal).instead_of(412, 409))?;
    Ok(done())
}

fn exists(hub: &Hub, tenant: &str, otherwise: &str) -> Result<(), Failure> {
    let exists = hub.look(|broker| broker.catalog().tenants.contains(tenant));
    exists.then_some(()).ok_or_else(|| Failure::not_found(otherwise))
}

fn roles_in(body: &[u8]) -> Result<BTreeSet<String>, Failure> {
    if body.is_empty() {
        return Err(Failure::precondition("TenantInfo is null"));
    }
    let info: TenantInfo = parse(body)?;
    let clusters = info.allowed_clusters.ok_or_else(|| Failure::precondition("Clusters cannot be null"))?;
    if clusters.iter().all(|cluster| cluster.trim().is_empty()) {
        return Err(Failure::precondition("Clusters cannot be empty or blank"));
    }
    if clusters.iter().any(|cluster| cluster != CLUSTER) {
        return Err(Failure::precondition("Clusters do not exist"));
    }
    Ok(info.admin_roles.unwrap_or_default())
}
