//! What is computed of times: in steps, so that a replay takes what they came to.

use std::collections::VecDeque;

use everpulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::done::Done;
use crate::spec::Spec;
use crate::times::{Survey, Time};

/// So many times are computed in one step at most, and none that comes so long after the first.
const COMPUTED_MAX: usize = 16;
const COMPUTED_WITHIN_MS: u64 = 3_600_000;
/// So many are counted, or looked at, in one step.
pub(crate) const COUNTED_MAX: u64 = 50_000;

/// What is computed of which times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub spec: Spec,
    pub after: Timestamp,
}

/// Times that were computed, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Coming {
    pub times: VecDeque<Time>,
    /// There are no others.
    pub end: bool,
    pub computed_at: Timestamp,
}

/// The next times of a range that are to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    pub times: VecDeque<Timestamp>,
    /// How many lie before them, or between them, that were begun already.
    pub known: u64,
    /// All times up to it were looked at.
    pub after: Timestamp,
    /// There are no others.
    pub end: bool,
}

/// The first times after an instant.
pub(crate) fn coming(name: &str, wanted: &Wanted, computed_at: Timestamp) -> Result<Coming, String> {
    let times = wanted.spec.times().map_err(|error| error.to_string())?;
    let mut found = VecDeque::new();
    let mut after = wanted.after;
    let end = loop {
        let Some(time) = times.time_after(name, after) else { break true };
        let is_far = found.front().is_some_and(|first: &Time| time.at.0 - first.at.0 > COMPUTED_WITHIN_MS);
        if is_far || found.len() == COMPUTED_MAX {
            break false;
        }
        found.push_back(time);
        after = time.at;
    };
    Ok(Coming { times: found, end, computed_at })
}

/// How many times after an instant are due by another one.
pub(crate) fn survey(name: &str, wanted: &Wanted, due_by: Timestamp, count_max: u64) -> Result<Survey, String> {
    let times = wanted.spec.times().map_err(|error| error.to_string())?;
    Ok(times.survey(name, wanted.after, due_by, count_max))
}

/// The first times after an instant, and before another one, that were not begun yet.
pub(crate) fn range(wanted: &Wanted, before: Timestamp, done: &Done) -> Result<Found, String> {
    let times = wanted.spec.times().map_err(|error| error.to_string())?;
    let known = done.known(&wanted.spec);
    let mut found = Found { after: wanted.after, ..Found::default() };
    for _ in 0..COUNTED_MAX {
        let Some(at) = times.next_after(found.after).filter(|at| *at < before) else {
            found.end = true;
            break;
        };
        found.after = at;
        match known.covers(at) {
            true => found.known += 1,
            false => found.times.push_back(at),
        }
        if found.times.len() == COMPUTED_MAX {
            break;
        }
    }
    Ok(found)
}
