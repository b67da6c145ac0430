//! The wall clock, as the value that is stored. The pure crates get time as an argument; it comes from here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpulse_protocol::Timestamp;

/// The time now. A clock before 1970 counts as 1970.
pub(crate) fn now() -> Timestamp {
    Timestamp(0).after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// How long until `due`; zero when it has come.
pub(crate) fn until(due: Timestamp) -> Duration {
    due.since(now())
}
