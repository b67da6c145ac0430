//! The suite's words for values, failures, times and ids.

use everpulse_protocol::{Failure, FailureKind, Payload, Timestamp};
use serde_json::{Value, json};

use crate::payload;

/// Whether a scope of this kind is a part of a run to the suite.
pub(super) fn is_part(kind: &str) -> bool {
    !matches!(kind, "WaitForCondition" | "Callback")
}

pub(super) fn scope_id(no: u32) -> String {
    format!("scope-{no}")
}

/// The id of what a run asked for with this command.
#[must_use]
pub fn operation_id(no: u32) -> String {
    format!("command-{no}")
}

/// A value that a run or a part of it came to.
pub(super) fn result(value: &Payload) -> Value {
    json!({ "Payload": payload::text(value), "Truncated": false })
}

/// A failure, by the name of its type alone.
pub(super) fn error(failure: &Failure) -> Value {
    let path = failure.type_name.split('<').next().unwrap_or_default();
    let name = path.rsplit("::").next().filter(|name| !name.is_empty()).unwrap_or("Error");
    json!({ "Payload": { "ErrorType": name, "ErrorMessage": failure.message } })
}

/// Why an attempt is overdue, by what is recorded of it: one time-out, or the other.
pub(super) fn overdue(failure: &Failure) -> Value {
    let kind = match failure.kind {
        FailureKind::TimedOut if failure.message.contains("gave no heartbeat") => "Callback.Heartbeat",
        FailureKind::TimedOut => "Callback.Timeout",
        _ => return error(failure),
    };
    json!({ "Payload": { "ErrorType": kind, "ErrorMessage": failure.message } })
}

/// Whole seconds between two times. A part of one counts as one: what is said of an attempt is recorded a little after it ended.
pub(super) fn seconds(until: Timestamp, from: Timestamp) -> Value {
    json!(until.0.saturating_sub(from.0).div_ceil(1_000))
}
