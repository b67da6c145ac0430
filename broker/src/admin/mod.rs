//! The admin REST API: the paths of Apache Pulsar 4.0 that `pulsar-admin`, clients and common tools use.
//!
//! Owns paths, verbs, bodies and status codes, as those of Apache Pulsar; what they do is the state machine's.
//! Failures are JSON, `{"reason": ".."}`. [`covered`] lists all paths, with what is refused and why.
//!
//! ```text
//! request ──token?──► routes ──► path (names) ──► a subject's module ──► Hub ──► reply
//! ```

mod clusters;
mod internal;
mod lifecycle;
mod listener;
mod messages;
mod metrics;
mod namespaces;
mod partitions;
mod path;
mod policies;
mod reply;
mod routes;
mod schemas;
mod spelling;
mod stats;
mod subscriptions;
mod tenants;
mod topics;
mod unsupported;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

use crate::server::{Hub, same};
use listener::{Limited, Work, note_work};
use reply::Failure;
pub use routes::Covered;
use routes::Routes;

/// What a load balancer or a supervisor asks without a token.
const OPEN: [&str; 3] = ["/status.html", "/admin/v2/brokers/health", "/admin/v2/brokers/ready"];

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, hub: Arc<Hub>) {
    let limits = &hub.settings.limits;
    let listener = Limited::new(listener, limits.admin_connections, limits.stalled);
    let service = router(hub).into_make_service_with_connect_info::<Work>();
    if let Err(error) = axum::serve(listener, service).await {
        tracing::error!(%error, "the admin API has ended");
    }
}

fn routes() -> Routes {
    clusters::routes()
        .merge(tenants::routes())
        .merge(namespaces::routes())
        .merge(topics::routes())
        .merge(schemas::routes())
        .merge(metrics::routes())
        .merge(unsupported::elsewhere())
}

/// Every path and method that has an answer of its own, sorted.
pub fn covered() -> Vec<Covered> {
    routes().into_covered()
}

fn router(hub: Arc<Hub>) -> Router {
    routes()
        .into_router()
        .fallback(async || Failure::nothing_here())
        .layer(middleware::from_fn(note_work))
        .layer(DefaultBodyLimit::max(hub.settings.limits.admin_body_bytes))
        .layer(middleware::from_fn_with_state(hub.clone(), authenticate))
        .layer(middleware::map_response(reply::with_reason))
        .with_state(hub)
}

async fn authenticate(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    if let Some(token) = &hub.settings.token
        && !OPEN.contains(&request.uri().path())
    {
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let given = header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !same(given.as_bytes(), token.expose().as_bytes()) {
            return Failure::unauthorized().into_response();
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_do_not_contradict_each_other() {
        let covered = covered();
        assert!(covered.iter().any(|path| path.refused.is_none()));
        assert!(covered.windows(2).all(|pair| (&pair[0].path, pair[0].method) != (&pair[1].path, pair[1].method)));
    }
}
