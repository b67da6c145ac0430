//! Times as texts in UTC, as they stand in the ids of runs.

use std::fmt;
use std::str::FromStr;

use everpulse_protocol::Timestamp;

/// A time that is written as RFC 3339 in UTC: `2026-03-29T01:00:00Z`, with as many digits after the second as it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match instant(self.0) {
            Some(instant) => write!(f, "{instant}"),
            // After the year 9999: no time of a schedule, but perhaps somebody's bound.
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Rfc3339 {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = |reason: String| InvalidTime { text: text.to_owned(), reason };
        let instant: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| invalid(error.to_string()))?;
        let ms = u64::try_from(instant.as_millisecond()).map_err(|_| invalid("it is before 1970".to_owned()))?;
        Ok(Self(Timestamp(ms)))
    }
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no time such as 2026-03-29T01:00:00Z: {reason}")]
pub struct InvalidTime {
    text: String,
    reason: String,
}

/// The time as the calendar's library has it; none after the year 9999.
pub(crate) fn instant(time: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(time.0).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_from_their_texts() {
        let texts = ["1970-01-01T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00.25Z"];
        for (text, ms) in texts.into_iter().zip([0, 1_774_746_000_000, 1_774_746_000_250]) {
            assert_eq!(text.parse(), Ok(Rfc3339(Timestamp(ms))));
            assert_eq!(Rfc3339(Timestamp(ms)).to_string(), text);
        }
        assert_eq!("2026-03-29T03:00:00+02:00".parse(), Ok(Rfc3339(Timestamp(1_774_746_000_000))));
        let error = "yesterday".parse::<Rfc3339>().expect_err("it is no time").to_string();
        assert!(error.starts_with("`yesterday` is no time such as"), "{error}");
        let error = "1969-12-31T23:59:59Z".parse::<Rfc3339>().expect_err("too early").to_string();
        assert!(error.ends_with("it is before 1970"), "{error}");
    }
}
