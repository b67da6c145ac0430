//! Answers of the admin API.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::semantics::{Refusal, RefusalKind};

/// Why it was not done, as `{"reason": ".."}`.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    reason: String,
}

pub type Reply = Result<Response, Failure>;

/// Words of a framework's own refusal are not longer than this.
const REASON_BYTES_MAX: usize = 64 * 1024;

impl Failure {
    fn new(status: StatusCode, reason: impl Into<String>) -> Failure {
        Failure { status, reason: reason.into() }
    }

    pub fn not_found(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, reason)
    }

    pub fn nothing_here() -> Failure {
        Failure::not_found("There is nothing at this path")
    }

    pub fn invalid(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, reason)
    }

    pub fn precondition(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::PRECONDITION_FAILED, reason)
    }

    pub fn conflict(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::CONFLICT, reason)
    }

    pub fn forbidden(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, reason)
    }

    pub fn not_allowed(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason)
    }

    /// What Apache Pulsar can do and this broker cannot; nothing was changed.
    pub fn not_supported(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_IMPLEMENTED, reason)
    }

    pub fn internal(reason: impl Into<String>) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, reason)
    }

    pub fn unauthorized() -> Failure {
        let reason = "Authentication required: send the broker's token as `Authorization: Bearer TOKEN`";
        Failure::new(StatusCode::UNAUTHORIZED, reason)
    }

    /// Says something else where this is the status, since Apache Pulsar does.
    pub fn instead_of(mut self, status: u16, other: u16) -> Failure {
        if self.status.as_u16() == status {
            self.status = StatusCode::from_u16(other).unwrap_or(self.status);
        }
        self
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let status = match refusal.kind {
            RefusalKind::TopicNotFound
            | RefusalKind::NamespaceNotFound
            | RefusalKind::TenantNotFound
            | RefusalKind::SubscriptionNotFound
            | RefusalKind::ConsumerNotFound => StatusCode::NOT_FOUND,
            RefusalKind::AlreadyExists | RefusalKind::IncompatibleSchema => StatusCode::CONFLICT,
            RefusalKind::InvalidSchema => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::InvalidName
            | RefusalKind::Busy
            | RefusalKind::ConsumerBusy
            | RefusalKind::ConsumerAssign
            | RefusalKind::ProducerBusy
            | RefusalKind::ProducerFenced
            | RefusalKind::TopicTerminated
            | RefusalKind::BacklogHold
            | RefusalKind::BacklogFull
            | RefusalKind::Unencrypted => StatusCode::PRECONDITION_FAILED,
            RefusalKind::NotAllowed => StatusCode::NOT_ACCEPTABLE,
            RefusalKind::Storage => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failure { status, reason: refusal.message }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = (self.status, Json(serde_json::json!({ "reason": self.reason }))).into_response();
        if self.status != StatusCode::UNAUTHORIZED {
            return body;
        }
        ([(header::WWW_AUTHENTICATE, "Bearer")], body).into_response()
    }
}

/// Gives every failure a JSON reason, also those that the framework answers by itself.
pub async fn with_reason(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !(status.is_client_error() || status.is_server_error())
        || kind.is_some_and(|kind| kind.starts_with("application/json"))
    {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let words = to_bytes(body, REASON_BYTES_MAX).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    let reason = if words.is_empty() { format!("HTTP {status}") } else { words.into_owned() };
    parts.headers.remove(header::CONTENT_LENGTH);
    let json = Failure { status, reason }.into_response();
    let (json_parts, body): (_, Body) = json.into_parts();
    parts.headers.extend(json_parts.headers);
    Response::from_parts(parts, body)
}

pub fn json(body: impl Serialize) -> Response {
    Json(body).into_response()
}

/// A policy that may be unset: then there is no content, as in Apache Pulsar.
pub fn maybe(body: Option<impl Serialize>) -> Response {
    match body {
        Some(body) => json(body),
        None => StatusCode::OK.into_response(),
    }
}

pub fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Reads a JSON body whatever its content type says.
///
/// # Errors
/// It is something else.
pub fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::invalid(format!("The body cannot be understood: {error}")))
}
