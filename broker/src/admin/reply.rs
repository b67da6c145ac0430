//! Answers of the admin API.

use axum::Json;
use axum::http::StatusCode;
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

impl Failure {
    pub fn not_found(reason: impl Into<String>) -> Failure {
        Failure { status: StatusCode::NOT_FOUND, reason: reason.into() }
    }

    pub fn invalid(reason: impl Into<String>) -> Failure {
        Failure { status: StatusCode::BAD_REQUEST, reason: reason.into() }
    }

    pub fn precondition(reason: impl Into<String>) -> Failure {
        Failure { status: StatusCode::PRECONDITION_FAILED, reason: reason.into() }
    }

    pub fn unauthorized() -> Failure {
        let reason = "Authentication required: send the broker's token as `Authorization: Bearer TOKEN`".into();
        Failure { status: StatusCode::UNAUTHORIZED, reason }
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
        (self.status, Json(serde_json::json!({ "reason": self.reason }))).into_response()
    }
}

pub fn json(body: impl Serialize) -> Response {
    Json(body).into_response()
}

/// A policy that may be unset: then there is no content, as in Apache Pulsar.
pub fn maybe(body: Option<impl Serialize>) -> Response {
    match body {
        Some(body) => json(body),
        None => done(),
    }
}

pub fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Reads a JSON body whatever its content type says.
pub fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::invalid(format!("The body cannot be understood: {error}")))
}
