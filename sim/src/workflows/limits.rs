//! Activities with limits: when they may be begun with, how long they may take with all of their attempts, when another attempt makes
//! sense, and when none does.

use std::fmt;
use std::time::Duration;

use everpulse_sdk::{Error, Failure, activity, workflow};
use serde::{Deserialize, Serialize};

use super::double;

/// Why [`moody`] fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mood {
    /// Not so soon.
    Busy,
    /// Not at all.
    Sulks,
}

impl fmt::Display for Mood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Mood {}

/// After [`Mood::Busy`], whatever the policy says.
pub const BUSY_MS: u64 = 1_200;

/// Its first attempt is asked to come later; then it does what it should, or says that it never will.
#[activity(
    timeout = "5s",
    retry(initial = "50ms", never = Mood::Sulks, after(Mood::Busy = Duration::from_millis(BUSY_MS))),
    crate = everpulse_sdk
)]
pub async fn moody(n: u64) -> Result<u64, Mood> {
    match activity::context().attempt() {
        1 => Err(Mood::Busy),
        _ if n.is_multiple_of(2) => Err(Mood::Sulks),
        _ => Ok(n),
    }
}

/// It would be tried for ever.
#[activity(timeout = "5s", retry(initial = "200ms"), crate = everpulse_sdk)]
pub async fn endless(n: u64) -> Result<u64, Error> {
    Err(Error::msg(format!("{n} is not enough")))
}

const SULKED: u64 = 1_000;
const ENDED: u64 = 100;

/// The name of [`limits`]: its first step is [`moody`].
pub const LIMITS: &str = "limits";

#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn limits(n: u64) -> Result<u64, Failure<Error>> {
    let mood = match moody(n).await {
        Ok(value) => value,
        Err(Failure::Failed(Mood::Sulks)) => n + SULKED,
        Err(Failure::Cancelled) => return Err(Failure::Cancelled),
        Err(_) => return Ok(0),
    };
    let ended = match endless(n).schedule_to_close(Duration::from_millis(1_500)).await {
        Err(Failure::TimedOut) => ENDED,
        Err(Failure::Cancelled) => return Err(Failure::Cancelled),
        _ => return Ok(0),
    };
    let begun = match double(n).schedule_to_start(Duration::from_millis(300)).await {
        Ok(double) => double,
        Err(Failure::TimedOut) => n,
        Err(Failure::Cancelled) => return Err(Failure::Cancelled),
        Err(_) => return Ok(0),
    };
    Ok(mood + ended + begun)
}

/// What `limits` may come to: the last activity is begun with in time, or not at all.
pub fn limited(n: u64) -> Vec<u64> {
    let mood = if n.is_multiple_of(2) { n + SULKED } else { n };
    vec![mood + ENDED + 2 * n, mood + ENDED + n]
}
