//! Completions by HTTP, for systems and web hooks that have a token and no client.
//!
//! ```text
//! POST /v1/completions/TOKEN              body: the value                               204
//! POST /v1/completions/TOKEN/failure      body: {"message", "value"?, "final"?}         204
//! POST /v1/completions/TOKEN/heartbeat    body: the details                             204
//! GET  /healthz                                                                         200
//! ```
//! Bodies are JSON; an empty one is `null`. An error is `{"error": KIND, "message": ..}`; 409: somebody was faster; 410: nobody
//! waits any more; 202: stored, and it takes effect when a worker comes.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path as OfPath, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use everpulse::client::{Client, Error, ErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::arguments::{BadInput, ServeOptions};
use crate::completions::{Token, Told, fail};

/// What is under way when it is asked to end may take so long.
const DRAINING: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Gateway {
    client: Client,
    secret: Option<Arc<str>>,
}

/// Listens until it is asked to end; prints one line of JSON with its address when it is ready.
///
/// # Errors
/// When it may not listen there without a token, or cannot.
pub async fn serve(client: Client, options: ServeOptions) -> anyhow::Result<()> {
    let secret = options.token_file.as_deref().map(read_secret).transpose()?;
    if secret.is_none() && !options.listen.ip().is_loopback() {
        let message = format!("listening on {}, beyond this machine, needs a --token-file", options.listen);
        bail!(BadInput::new(message));
    }
    let listener =
        TcpListener::bind(options.listen).await.with_context(|| format!("cannot listen on {}", options.listen))?;
    let address: SocketAddr = listener.local_addr()?;
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ending = watch::Sender::new(false);
    let mut ended = ending.subscribe();
    let body_bytes = usize::try_from(options.max_body_bytes).unwrap_or(usize::MAX);
    let serving =
        axum::serve(listener, routes(Gateway { client, secret }, body_bytes)).with_graceful_shutdown(async move {
            // An error: whoever would say it is gone.
            let _ = ended.wait_for(|ended| *ended).await;
        });
    let mut serving = tokio::spawn(serving.into_future());
    println!("{}", json!({ "url": format!("http://{address}") }));
    tokio::select! {
        served = &mut serving => return Ok(served??),
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    ending.send_replace(true);
    // What is cut off then was stored or not, as with any connection that breaks; it can be asked again.
    let _ = tokio::time::timeout(DRAINING, serving).await;
    Ok(())
}

fn read_secret(file: &Path) -> anyhow::Result<Arc<str>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read the token file {}", file.display()))?;
    match text.trim() {
        "" => bail!(BadInput::new(format!("the token file {} is empty", file.display()))),
        secret => Ok(secret.into()),
    }
}

fn routes(gateway: Gateway, body_bytes: usize) -> Router {
    Router::new()
        .route("/v1/completions/{token}", post(complete))
        .route("/v1/completions/{token}/failure", post(failure))
        .route("/v1/completions/{token}/heartbeat", post(heartbeat))
        .layer(DefaultBodyLimit::max(body_bytes))
        .route("/healthz", get(async || "ok"))
        .with_state(gateway)
}

async fn complete(
    _: Allowed,
    State(gateway): State<Gateway>,
    OfPath(token): OfPath<String>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let (token, value) = (parsed(&token)?, value(&body)?);
    told(gateway.client.complete(&token, value).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureBody {
    message: String,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default, rename = "final")]
    is_final: bool,
}

async fn failure(
    _: Allowed,
    State(gateway): State<Gateway>,
    OfPath(token): OfPath<String>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let token = parsed(&token)?;
    let FailureBody { message, value, is_final } =
        serde_json::from_slice(&body).map_err(|error| Refusal::invalid(format!("the body is no failure: {error}")))?;
    told(fail(&gateway.client, &token, Told::new(message, value), is_final).await)
}

async fn heartbeat(
    _: Allowed,
    State(gateway): State<Gateway>,
    OfPath(token): OfPath<String>,
    body: Bytes,
) -> Result<StatusCode, Refusal> {
    let (token, details) = (parsed(&token)?, value(&body)?);
    told(gateway.client.activity(&token).heartbeat(details).await)
}

fn parsed(token: &str) -> Result<Token, Refusal> {
    token.parse().map_err(|error: everpulse::client::InvalidToken| Refusal::invalid(error.to_string()))
}

fn value(body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("the body is no JSON: {error}")))
}

fn told(result: Result<(), Error>) -> Result<StatusCode, Refusal> {
    result.map(|()| StatusCode::NO_CONTENT).map_err(Refusal::from)
}

/// The request bears the token, if one is asked for.
struct Allowed;

impl FromRequestParts<Gateway> for Allowed {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Refusal> {
        let Some(secret) = &gateway.secret else { return Ok(Self) };
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if bool::from(given.as_bytes().ct_eq(secret.as_bytes())) {
            return Ok(Self);
        }
        Err(Refusal {
            status: StatusCode::UNAUTHORIZED,
            kind: "unauthorized",
            message: "the request needs `Authorization: Bearer TOKEN` with this gateway's token".to_owned(),
        })
    }
}

/// Why it was not done.
#[derive(Debug, PartialEq)]
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Refusal {
    fn invalid(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "invalid", message }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, kind) = match error.kind() {
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            ErrorKind::AlreadyCompleted => (StatusCode::CONFLICT, "already_completed"),
            ErrorKind::AlreadyClosed => (StatusCode::GONE, "already_closed"),
            ErrorKind::Expired => (StatusCode::GONE, "expired"),
            ErrorKind::Timeout => (StatusCode::ACCEPTED, "stored"),
            ErrorKind::Unreachable | ErrorKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "unreachable"),
            // Ours towards the broker, and not the caller's towards us.
            ErrorKind::Unauthorized | ErrorKind::Refused => (StatusCode::BAD_GATEWAY, "refused"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self { status, kind, message: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.kind, "message": self.message }));
        if self.status == StatusCode::UNAUTHORIZED {
            return (self.status, [(WWW_AUTHENTICATE, "Bearer")], body).into_response();
        }
        (self.status, body).into_response()
    }
}
