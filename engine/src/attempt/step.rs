//! What follows from an attempt at a step.

use std::time::Duration;

use everpulse_protocol::Payload;
use everpulse_protocol::event::Outcome;
use everpulse_sdk::definition::AttemptError;
use everpulse_sdk::replay::StepOptions;

/// What follows from an attempt at a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Settled(Outcome),
    /// One more attempt, after so long.
    Again(Duration),
}

/// Decides what follows from attempt number `attempt`.
#[must_use]
pub fn after(options: &StepOptions, attempt: u32, result: Result<Payload, AttemptError>) -> Next {
    let AttemptError { failure, retryable } = match result {
        Ok(value) => return Next::Settled(Outcome::Done(value)),
        Err(error) => error,
    };
    let most = options.retry.max_attempts;
    if !retryable || most == Some(1) {
        return Next::Settled(Outcome::Failed(failure));
    }
    if most.is_some_and(|most| attempt >= most) {
        return Next::Settled(Outcome::Failed(failure.exhausted(attempt)));
    }
    Next::Again(Duration::from_millis(options.retry.delay_ms(attempt)))
}
