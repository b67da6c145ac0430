//! How activities and steps are tried: the author's options, and what holds where nothing is said.
//!
//! The waiting and counting is done by workers.

use std::time::Duration;

pub use everpulse_protocol::family::ParentClose;
use everpulse_protocol::priority::{KEY_BYTES_MAX, LEVEL_MAX, Priority, WEIGHT_MAX};
use everpulse_protocol::task::{OnExhausted, RetryPolicy, TaskOptions};
use everpulse_protocol::topic;

/// An attempt at an activity may take this long, unless its definition or call says otherwise.
pub const ACTIVITY_TIMEOUT: Duration = Duration::from_secs(60);
/// An attempt at a step may take this long, unless the call says otherwise.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often and after which waits something is tried again.
///
/// ```
/// use everpulse_sdk::Retry;
/// use std::time::Duration;
///
/// let retry = Retry::new().initial(Duration::from_millis(50)).factor(3.0).max_attempts(4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Retry(RetryPolicy);

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

impl Retry {
    /// 200 ms, doubling up to a minute, for ever.
    pub fn new() -> Self {
        Self(RetryPolicy::default())
    }

    /// One attempt, and no other.
    pub fn none() -> Self {
        Self::new().max_attempts(1)
    }

    /// The wait after the first failed attempt.
    pub fn initial(mut self, wait: Duration) -> Self {
        self.0.initial_ms = ms(wait);
        self
    }

    /// The longest wait.
    pub fn max(mut self, wait: Duration) -> Self {
        self.0.max_ms = ms(wait);
        self
    }

    /// How much longer each wait is than the one before; hundredths count, less than 1 is 1.
    pub fn factor(mut self, factor: f64) -> Self {
        // A cast from a float saturates; what is no number becomes 0, and then 1.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is what is wanted")]
        let percent = (factor * 100.0).round() as u32;
        self.0.factor_percent = percent.max(100);
        self
    }

    /// How many attempts there are, the first included; zero is taken as one.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.0.max_attempts = Some(attempts.max(1));
        self
    }
}

impl From<Retry> for RetryPolicy {
    fn from(retry: Retry) -> Self {
        retry.0
    }
}

impl From<RetryPolicy> for Retry {
    fn from(policy: RetryPolicy) -> Self {
        Self(policy)
    }
}

/// What `#[activity(..)]` says of how the activity is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActivityOptions {
    pub timeout: Duration,
    pub heartbeat: Option<Duration>,
    pub schedule_to_start: Option<Duration>,
    pub schedule_to_close: Option<Duration>,
    pub queue: &'static str,
    /// None: that of the run.
    pub priority: Option<u8>,
    pub retry: RetryPolicy,
    pub exhausted: OnExhausted,
}

impl ActivityOptions {
    /// What holds where the definition says nothing.
    pub const DEFAULT: Self = Self {
        timeout: ACTIVITY_TIMEOUT,
        heartbeat: None,
        schedule_to_start: None,
        schedule_to_close: None,
        queue: topic::DEFAULT_QUEUE,
        priority: None,
        retry: RetryPolicy { initial_ms: 200, factor_percent: 200, max_ms: 60_000, max_attempts: None },
        exhausted: OnExhausted::Fail,
    };
}

/// What one call says otherwise than the definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    pub timeout: Option<Duration>,
    pub schedule_to_start: Option<Duration>,
    pub schedule_to_close: Option<Duration>,
    pub queue: Option<String>,
    pub priority: Priority,
    pub retry: Option<RetryPolicy>,
    // Of workflows.
    pub id: Option<String>,
    pub tags: Vec<String>,
    pub version: Option<u32>,
    pub parent_close: ParentClose,
}

impl Overrides {
    /// What is said nowhere is as of the run.
    pub(crate) fn queue_and_options(self, definition: &ActivityOptions, run: &Priority) -> (String, TaskOptions) {
        let defined = Priority { level: definition.priority, ..Priority::default() };
        let options = TaskOptions {
            start_to_close_ms: ms(self.timeout.unwrap_or(definition.timeout)),
            heartbeat_ms: definition.heartbeat.map(ms),
            schedule_to_start_ms: self.schedule_to_start.or(definition.schedule_to_start).map(ms),
            schedule_to_close_ms: self.schedule_to_close.or(definition.schedule_to_close).map(ms),
            retry: self.retry.unwrap_or(definition.retry),
            exhausted: definition.exhausted,
            priority: self.priority.or(&defined).or(run),
        };
        (self.queue.unwrap_or_else(|| definition.queue.to_owned()), options)
    }
}

/// # Panics
/// When it is no priority.
pub(crate) fn check_level(level: u8) {
    assert!((1..=LEVEL_MAX).contains(&level), "{level} is no priority: 1 is taken first, {LEVEL_MAX} last");
}

/// # Panics
/// When it is too long to go along with every task.
pub(crate) fn check_key(key: &str) {
    let bytes = key.len();
    assert!(bytes <= KEY_BYTES_MAX, "a fairness key of {bytes} bytes: it may have {KEY_BYTES_MAX}; use an id");
}

/// As it is stored.
///
/// # Panics
/// When it is out of bounds.
pub(crate) fn weight(weight: f64) -> u32 {
    assert!((0.001..=1_000.0).contains(&weight), "{weight} is no fairness weight: 0.001 to 1,000 are");
    // A cast from a float saturates, and it is within bounds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at just now")]
    let thousandths = (weight * 1_000.0).round() as u32;
    thousandths.clamp(1, WEIGHT_MAX)
}

/// Whole milliseconds, at least one for any time at all.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_default_is_that_of_the_protocol() {
        assert_eq!(ActivityOptions::DEFAULT.retry, RetryPolicy::default());
    }

    #[test]
    fn odd_factors_become_usable_ones() {
        let percent = |factor| RetryPolicy::from(Retry::new().factor(factor)).factor_percent;
        assert_eq!([percent(1.5), percent(0.0), percent(f64::NAN), percent(-3.0)], [150, 100, 100, 100]);
    }

    #[test]
    fn a_call_comes_before_its_definition_and_that_before_the_run() {
        let run = Priority { level: Some(5), key: Some("acme".to_owned()), weight: Some(2_000) };
        let asked = |level, defined| {
            let overrides = Overrides { priority: Priority { level, ..Priority::default() }, ..Overrides::default() };
            let definition = ActivityOptions { priority: defined, ..ActivityOptions::DEFAULT };
            overrides.queue_and_options(&definition, &run).1.priority
        };
        assert_eq!(asked(Some(1), Some(2)).level, Some(1));
        assert_eq!(asked(None, Some(2)).level, Some(2));
        assert_eq!(asked(None, None), run);
        assert_eq!(asked(Some(1), None).key.as_deref(), Some("acme"));
    }

    #[test]
    fn weights_are_kept_in_thousandths() {
        assert_eq!([weight(0.001), weight(1.0), weight(2.5), weight(1_000.0)], [1, 1_000, 2_500, 1_000_000]);
        for other in [0.0, -1.0, f64::NAN, 1_001.0] {
            assert!(std::panic::catch_unwind(|| weight(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn no_attempts_at_all_is_taken_as_one() {
        assert_eq!(RetryPolicy::from(Retry::new().max_attempts(0)).max_attempts, Some(1));
    }
}
