//! A specification of times, as it is written down, stored and shown.

use std::time::Duration;

use everpulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::InvalidSpec;
use crate::times::Times;

/// When something is to be done: all times of its crons and intervals, in a zone and between two bounds, but for
/// exceptions.
///
/// ```
/// use everpulse_protocol::Timestamp;
/// use everpulse_schedule::{InvalidSpec, Rfc3339, Spec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = Spec::new().cron("0 2 * * *").except("* * 24-26 12 *").time_zone("Europe/Vienna");
/// let Rfc3339(evening) = "2026-12-23T20:00:00Z".parse()?;
/// let next = spec.times()?.next_after(evening).expect("it has no end");
/// assert_eq!(Rfc3339(next).to_string(), "2026-12-27T01:00:00Z");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Spec {
    /// Each of 5, 6 or 7 fields, or a nickname such as `@daily`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crons: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intervals: Vec<Interval>,
    /// Crons: no time is one whose local time they match. One of five fields is about whole minutes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<String>,
    /// A name of the IANA database; crons and exceptions are read by its clocks.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// No time is before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// No time is at it or after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// So long after a time at most it is done, and before the next one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter_ms: u64,
}

/// A time each so often, counted from the beginning of 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub every_ms: u64,
    /// So long after each multiple.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset_ms: u64,
}

fn utc() -> String {
    "UTC".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for Spec {
    fn default() -> Self {
        Self::new()
    }
}

impl Spec {
    /// No times, by the clocks of UTC.
    #[must_use]
    pub fn new() -> Self {
        Self {
            crons: Vec::new(),
            intervals: Vec::new(),
            exceptions: Vec::new(),
            time_zone: utc(),
            from: None,
            until: None,
            jitter_ms: 0,
        }
    }

    /// Also these times.
    #[must_use]
    pub fn cron(mut self, cron: impl Into<String>) -> Self {
        self.crons.push(cron.into());
        self
    }

    /// Also a time each so often, counted from the beginning of 1970: an hour is each full hour of UTC.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        self.every_offset(every, Duration::ZERO)
    }

    /// The same, so long after each multiple.
    #[must_use]
    pub fn every_offset(mut self, every: Duration, offset: Duration) -> Self {
        self.intervals.push(Interval { every_ms: ms(every), offset_ms: ms(offset) });
        self
    }

    /// None of its times is one of these. What has five fields is about whole minutes: `* * 24-26 12 *` is three days.
    #[must_use]
    pub fn except(mut self, cron: impl Into<String>) -> Self {
        self.exceptions.push(cron.into());
        self
    }

    /// By whose clocks crons and exceptions are read.
    #[must_use]
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.time_zone = name.into();
        self
    }

    /// No time is before it.
    #[must_use]
    pub fn from(mut self, from: Timestamp) -> Self {
        self.from = Some(from);
        self
    }

    /// No time is at it or after it.
    #[must_use]
    pub fn until(mut self, until: Timestamp) -> Self {
        self.until = Some(until);
        self
    }

    /// Spreads what has the same times: each time is done up to so much later, always before the next one. How much is a
    /// function of the name and the time.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter_ms = ms(jitter);
        self
    }

    /// What it means.
    ///
    /// # Errors
    /// What of it cannot be read, and why.
    pub fn times(&self) -> Result<Times, InvalidSpec> {
        Times::new(self)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
