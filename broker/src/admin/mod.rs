//! The admin REST API: the part of Apache Pulsar's `/admin/v2` that this project and common clients use.
//!
//! Owns paths, verbs, bodies and status codes, as those of Apache Pulsar 4.0; what they do is the state
//! machine's. Errors are JSON, `{"reason": ".."}`.

mod namespaces;
mod reply;
mod topics;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, put};
use tokio::net::TcpListener;

use crate::server::{Hub, same};
use reply::{Failure, json};

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, hub: Arc<Hub>) {
    if let Err(error) = axum::serve(listener, router(hub)).await {
        tracing::error!(%error, "the admin API has ended");
    }
}

fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/admin/v2/clusters", get(async || json(["standalone"])))
        .route("/admin/v2/clusters/{cluster}", get(namespaces::cluster))
        .route("/admin/v2/brokers/health", get(async || "ok"))
        .route("/admin/v2/brokers/ready", get(async || "ok"))
        .route("/admin/v2/brokers/version", get(async || env!("CARGO_PKG_VERSION")))
        .route("/admin/v2/tenants", get(namespaces::tenants))
        .route(
            "/admin/v2/tenants/{tenant}",
            put(namespaces::create_tenant).get(namespaces::tenant).delete(namespaces::delete_tenant),
        )
        .route("/admin/v2/namespaces/{tenant}", get(namespaces::list))
        .nest("/admin/v2/namespaces/{tenant}/{namespace}", namespaces::router())
        .nest("/admin/v2/persistent", topics::router("persistent"))
        .nest("/admin/v2/non-persistent", topics::router("non-persistent"))
        .route("/lookup/v2/topic/{domain}/{tenant}/{namespace}/{topic}", get(topics::lookup))
        .fallback(async || Failure::not_found("There is nothing at this path"))
        .layer(middleware::from_fn_with_state(hub.clone(), authenticate))
        .with_state(hub)
}

async fn authenticate(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Result<Response, Failure> {
    if let Some(token) = &hub.settings.token {
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let given = header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !same(given.as_bytes(), token.as_bytes()) {
            return Err(Failure::unauthorized());
        }
    }
    Ok(next.run(request).await)
}
