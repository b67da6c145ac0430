//! The one cluster, and the one broker in it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json as value;

use super::reply::{Failure, Reply, done, json};
use super::routes::Routes;
use crate::server::{Hub, Settings};

/// What the only cluster is called, as in a standalone Apache Pulsar.
pub(super) const CLUSTER: &str = "standalone";

type Shared = State<Arc<Hub>>;

const ONE_CLUSTER: &str = "There is one cluster, `standalone`: clusters are not created, changed or deleted";
const NO_ISOLATION: &str = "Isolation policies and failure domains are not supported: there is one broker";
const NO_DYNAMIC: &str = "The configuration is given when the broker starts and does not change";

pub(super) fn routes() -> Routes {
    let cluster = "/admin/v2/clusters/{cluster}";
    let of = |rest: &str| format!("{cluster}/{rest}");
    Routes::default()
        .get("/admin/v2/clusters", async || json([CLUSTER]))
        .get(cluster, get)
        .get(&of("peers"), peers)
        .get(&of("failureDomains"), failure_domains)
        .get(&of("namespaceIsolationPolicies"), isolation)
        .refuse("PUT", cluster, ONE_CLUSTER)
        .refuse("POST", cluster, ONE_CLUSTER)
        .refuse("DELETE", cluster, ONE_CLUSTER)
        .refuse("GET", &of("migrate"), ONE_CLUSTER)
        .refuse("POST", &of("migrate"), ONE_CLUSTER)
        .refuse("POST", &of("peers"), ONE_CLUSTER)
        .refuse("GET", &of("failureDomains/{domain}"), NO_ISOLATION)
        .refuse("POST", &of("failureDomains/{domain}"), NO_ISOLATION)
        .refuse("DELETE", &of("failureDomains/{domain}"), NO_ISOLATION)
        .refuse("GET", &of("namespaceIsolationPolicies/{policy}"), NO_ISOLATION)
        .refuse("POST", &of("namespaceIsolationPolicies/{policy}"), NO_ISOLATION)
        .refuse("DELETE", &of("namespaceIsolationPolicies/{policy}"), NO_ISOLATION)
        .refuse("GET", &of("namespaceIsolationPolicies/brokers/{broker}"), NO_ISOLATION)
        .get("/status.html", async || "OK")
        .get("/admin/v2/brokers", brokers)
        .get("/admin/v2/brokers/{cluster}", brokers_of)
        .get("/admin/v2/brokers/health", health)
        .get("/admin/v2/brokers/ready", health)
        .get("/admin/v2/brokers/version", async || ok(env!("CARGO_PKG_VERSION")))
        .get("/admin/v2/brokers/leaderBroker", leader)
        .get("/admin/v2/brokers/backlog-quota-check", async || done())
        .get("/admin/v2/brokers/configuration", async || json([(); 0]))
        .get("/admin/v2/brokers/configuration/values", async || json(value!({})))
        .get("/admin/v2/brokers/configuration/runtime", configuration)
        .get("/admin/v2/brokers/{cluster}/{broker}/ownedNamespaces", owned)
        .refuse("GET", "/admin/v2/brokers/internal-configuration", "There is no metadata store beside the broker")
        .refuse("POST", "/admin/v2/brokers/configuration/{name}/{value}", NO_DYNAMIC)
        .refuse("DELETE", "/admin/v2/brokers/configuration/{name}", NO_DYNAMIC)
        .refuse("POST", "/admin/v2/brokers/shutdown", "The broker ends by SIGTERM")
}

/// Bare words, with the content type that Apache Pulsar gives them.
fn ok(words: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], words)
}

async fn health(State(hub): Shared) -> Reply {
    // A disk that cannot be written is what a single broker can suffer from.
    hub.look(|broker| broker.check_storage())?;
    Ok(ok("ok").into_response())
}

/// `host:port` of the admin API, by which brokers are named.
pub(super) fn broker_id(settings: &Settings) -> &str {
    settings.admin_url.split_once("://").map_or(settings.admin_url.as_str(), |(_, address)| address)
}

fn check(cluster: &str) -> Result<(), Failure> {
    if cluster == CLUSTER { Ok(()) } else { Err(Failure::not_found("Cluster does not exist")) }
}

async fn get(State(hub): Shared, Path(cluster): Path<String>) -> Reply {
    check(&cluster)?;
    Ok(json(value!({
        "serviceUrl": hub.settings.admin_url,
        "brokerServiceUrl": hub.settings.service_url,
        "brokerClientTlsEnabled": false,
        "tlsAllowInsecureConnection": false,
        "brokerClientTlsEnabledWithKeyStore": false,
    })))
}

async fn peers(Path(cluster): Path<String>) -> Reply {
    check(&cluster)?;
    Ok(StatusCode::OK.into_response())
}

async fn failure_domains(Path(cluster): Path<String>) -> Reply {
    check(&cluster)?;
    Ok(json(value!({})))
}

async fn isolation(Path(cluster): Path<String>) -> Reply {
    check(&cluster)?;
    Err(Failure::not_found(format!("NamespaceIsolationPolicies for cluster {cluster} does not exist")))
}

async fn brokers(State(hub): Shared) -> Reply {
    Ok(json([broker_id(&hub.settings)]))
}

async fn brokers_of(State(hub): Shared, Path(cluster): Path<String>) -> Reply {
    check(&cluster)?;
    Ok(json([broker_id(&hub.settings)]))
}

async fn leader(State(hub): Shared) -> Reply {
    Ok(json(value!({ "serviceUrl": hub.settings.admin_url, "brokerId": broker_id(&hub.settings) })))
}

async fn configuration(State(hub): Shared) -> Reply {
    let settings = &hub.settings;
    Ok(json(value!({
        "clusterName": CLUSTER,
        "brokerServiceUrl": settings.service_url,
        "webServiceAddress": settings.admin_url,
        "authenticationEnabled": settings.token.is_some().to_string(),
        "transactionCoordinatorEnabled": "false",
        "functionsWorkerEnabled": "false",
    })))
}

async fn owned(State(hub): Shared, Path((cluster, broker)): Path<(String, String)>) -> Reply {
    check(&cluster)?;
    if broker != broker_id(&hub.settings) {
        return Err(Failure::not_found(format!("Broker id '{broker}' not found in available brokers.")));
    }
    let bundle = |namespace: &String| {
        let status = value!({ "broker_assignment": "shared", "is_controlled": false, "is_active": true });
        (format!("{namespace}/{}", super::namespaces::BUNDLE), status)
    };
    let owned = hub.look(|broker| {
        broker.catalog().namespaces.keys().map(bundle).collect::<serde_json::Map<String, serde_json::Value>>()
    });
    Ok(json(owned))
}
