//! Activities that fail a while: what the suite calls a step with a retry strategy, whose attempts and delays are durable.

use everpulse::prelude::*;
use everpulse::{Error, Worker};
use serde::{Deserialize, Serialize};

use super::RejectedError;
use serde_json::Value;

pub fn register(worker: Worker) -> Worker {
    worker
        .activity(succeeds_on)
        .activity(transient)
        .activity(final_transient)
        .activity(completed_by_others)
        .activity(beating)
        .activity(rarely_beating)
}

/// A failure that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("not this time")]
pub struct TransientError;

/// Fails before its attempt of this number; with none it fails always.
#[activity(timeout = "5s")]
pub async fn succeeds_on(attempt: Option<u32>, value: Value) -> Result<Value, Error> {
    let current = everpulse::activity::context().attempt();
    if attempt.is_some_and(|attempt| current >= attempt) {
        return Ok(value);
    }
    Err(Error::msg(format!("attempt {current} failed")))
}

/// Fails once, in a way that its policy tries again.
#[activity(timeout = "5s", retry(initial = "1s", factor = 1.0, max_attempts = 3))]
pub async fn transient() -> Result<Value, TransientError> {
    if everpulse::activity::context().attempt() == 1 { Err(TransientError) } else { Ok(Value::Null) }
}

/// Fails in the same way, which its own policy takes for final.
#[activity(timeout = "5s", retry(initial = "1s", max_attempts = 3, never = TransientError))]
pub async fn final_transient() -> Result<Value, TransientError> {
    Err(TransientError)
}

/// Is left to be completed from outside, within its time-out.
#[activity(timeout = "60s", retry(max_attempts = 1))]
pub async fn completed_by_others() -> Result<Value, RejectedError> {
    everpulse::activity::context().complete_later().await
}

/// The same, and whoever does it has to tell of it meanwhile.
#[activity(timeout = "60s", heartbeat = "5s", retry(max_attempts = 1))]
pub async fn beating() -> Result<Value, RejectedError> {
    everpulse::activity::context().complete_later().await
}

/// One second after each failed attempt, and so many attempts.
pub fn each_second(attempts: u32) -> Retry {
    Retry::new().initial(Duration::from_secs(1)).factor(1.0).max_attempts(attempts)
}

/// A step that fails for good, at once.
pub async fn fails_for_good(name: &str) -> Result<Value, Error> {
    Ok(step(name, || async { Err::<Value, _>(Error::msg("it cannot be done")) }).await?)
}

/// The same, and rarely.
#[activity(timeout = "60s", heartbeat = "10s", retry(max_attempts = 1))]
pub async fn rarely_beating() -> Result<Value, RejectedError> {
    everpulse::activity::context().complete_later().await
}
