//! What an activity's definition says of its errors.

use std::time::Duration;

use everpulse::activity;
use everpulse_protocol::Payload;
use serde::{Deserialize, Serialize};

use crate::harness::attempt;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum BankError {
    #[error("busy")]
    Busy { seconds: u64 },
    #[error("closed")]
    Closed,
    #[error("down")]
    Down,
    #[error("declined")]
    Declined,
}

#[activity(retry(
    never = BankError::Declined,
    after(BankError::Busy { seconds } = Duration::from_secs(*seconds), BankError::Closed = "12h"),
))]
async fn pay(error: BankError) -> Result<(), BankError> {
    Err(error)
}

/// How long the next attempt waits beyond what the policy says, and whether there is one.
fn wait(error: BankError) -> (Option<u64>, bool) {
    let args = Payload::encode(&std::collections::BTreeMap::from([("error", error)])).unwrap();
    let failed = attempt::<pay>(args).unwrap_err();
    (failed.failure.retry_after_ms, failed.retryable)
}

#[test]
fn an_error_may_say_how_long_to_wait() {
    assert_eq!(wait(BankError::Busy { seconds: 45 }), (Some(45_000), true));
    assert_eq!(wait(BankError::Closed), (Some(43_200_000), true));
    assert_eq!(wait(BankError::Down), (None, true));
    assert_eq!(wait(BankError::Declined), (None, false));
}
