//! Runs a local step with its attempts, time-outs and back-offs.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use everpulse_blobs::Stores;
use everpulse_engine::LocalResult;
use everpulse_engine::attempt::{Next, after};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::{Failure, FailureKind, Payload};
use everpulse_sdk::definition::AttemptError;
use everpulse_sdk::replay::{StepBody, StepOptions};
use futures::FutureExt as _;

use crate::failpoint;

/// Runs a step to its end.
///
/// # Cancel safety
/// Dropping it drops the attempt that runs.
pub(super) async fn run(name: &str, options: StepOptions, mut body: StepBody, stores: Option<&Stores>) -> LocalResult {
    failpoint::hit("step-before");
    let mut attempt = 1;
    let mut outcome = loop {
        match after(&options, attempt, try_once(name, options.timeout, &mut body).await) {
            Next::Settled(outcome) => break outcome,
            Next::Again(wait) => tokio::time::sleep(wait).await,
        }
        attempt += 1;
    };
    let sealed = match (body.seal(&mut outcome), stores) {
        (Ok(()), Some(stores)) if stores.has_large(&mut outcome) => {
            // It was worked for: a store that is away is waited for.
            let put = stores.put_out_patiently(&mut outcome).await;
            failpoint::hit("blob-put");
            put
        }
        (sealed, _) => sealed,
    };
    if let Err(error) = sealed {
        let message = format!("what step `{name}` came to cannot leave: {error}");
        outcome = Outcome::Failed(Failure::new(FailureKind::Undecodable, message));
    }
    failpoint::hit("step-done");
    LocalResult::Settled { attempt, outcome }
}

async fn try_once(name: &str, timeout: Duration, body: &mut StepBody) -> Result<Payload, AttemptError> {
    let retryable = |failure| AttemptError { failure, retryable: true };
    // The author's closure itself may panic too, so it is called inside.
    let attempt = AssertUnwindSafe(async { body.attempt().await }).catch_unwind();
    match tokio::time::timeout(timeout, attempt).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let message = format!("step `{name}` panicked: {}", panic_message(&*panic));
            Err(retryable(Failure::new(FailureKind::Panicked, message)))
        }
        Err(_) => {
            let message = format!("step `{name}` took longer than {timeout:?}");
            Err(retryable(Failure::new(FailureKind::TimedOut, message)))
        }
    }
}

/// What a panic said, as far as it said it in words.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
