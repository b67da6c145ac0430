//! The times of a specification: which one is next, when it is done, and how many there are.

use everpulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::cron::Cron;
use crate::error::InvalidSpec;
use crate::rfc3339::Rfc3339;
use crate::spec::{Interval, Spec};
use crate::zone::Zone;

/// The shortest interval.
const SECOND_MS: u64 = 1_000;
/// So many stretches of excluded times (days, hours, minutes) are passed over before that is taken for an end.
const EXCLUDED_MAX: u32 = 10_000;

/// What a [`Spec`] means, by the rules of the zones that this release was built with.
#[derive(Debug, Clone)]
pub struct Times {
    crons: Vec<Cron>,
    intervals: Vec<Interval>,
    exceptions: Vec<Cron>,
    zone: Zone,
    from: Timestamp,
    until: Option<Timestamp>,
    jitter_ms: u64,
}

/// One of the times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// The time itself: what the run is named by.
    pub at: Timestamp,
    /// When it is done, which is later by its jitter.
    pub due: Timestamp,
}

/// What was counted of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    pub count: u64,
    pub first: Option<Time>,
    pub last: Option<Time>,
    /// There were more than were to be counted.
    pub more: bool,
    /// A time within the stretch that is due behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Time>,
}

impl Times {
    pub(crate) fn new(spec: &Spec) -> Result<Self, InvalidSpec> {
        if spec.crons.is_empty() && spec.intervals.is_empty() {
            return Err(InvalidSpec::Empty);
        }
        for Interval { every_ms, offset_ms } in spec.intervals.iter().copied() {
            if every_ms < SECOND_MS {
                return Err(InvalidSpec::Interval { every_ms });
            }
            if offset_ms >= every_ms {
                return Err(InvalidSpec::Offset { every_ms, offset_ms });
            }
        }
        let from = spec.from.unwrap_or_default();
        if let Some(until) = spec.until
            && until <= from
        {
            let (from, until) = (Rfc3339(from).to_string(), Rfc3339(until).to_string());
            return Err(InvalidSpec::Bounds { from, until });
        }
        let times = Self {
            crons: spec.crons.iter().map(|cron| Cron::new(cron)).collect::<Result<_, _>>()?,
            intervals: spec.intervals.clone(),
            exceptions: spec.exceptions.iter().map(|cron| Cron::of_minutes(cron)).collect::<Result<_, _>>()?,
            zone: Zone::named(&spec.time_zone)?,
            from,
            until: spec.until,
            jitter_ms: spec.jitter_ms,
        };
        let begin = Timestamp(from.0.saturating_sub(1));
        if times.wanted(begin).is_some() && times.next_after(begin).is_none() && spec.until.is_none() {
            return Err(InvalidSpec::Excluded);
        }
        Ok(times)
    }

    /// The first time after an instant, which may be none.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut after = after;
        if after < self.from {
            after = Timestamp(self.from.0 - 1);
        }
        for _ in 0..EXCLUDED_MAX {
            let at = self.wanted(after)?;
            if self.until.is_some_and(|until| at >= until) {
                return None;
            }
            match self.excluded_up_to(at) {
                None => return Some(at),
                Some(end) => after = end,
            }
        }
        None
    }

    /// When a time is done: up to the jitter later, and before the next one. Two schedules have the same times and not the
    /// same jitter.
    #[must_use]
    pub fn due(&self, name: &str, at: Timestamp) -> Timestamp {
        if self.jitter_ms == 0 {
            return at;
        }
        let gap = self.next_after(at).map_or(u64::MAX, |next| next.0 - at.0 - 1);
        Timestamp(at.0.saturating_add(jitter(name, at, self.jitter_ms.min(gap))))
    }

    /// The first time after an instant, with its jitter.
    #[must_use]
    pub fn time_after(&self, name: &str, after: Timestamp) -> Option<Time> {
        let at = self.next_after(after)?;
        Some(Time { at, due: self.due(name, at) })
    }

    /// The times after an instant that are due up to another one: how many, and which are the first and the last. No more
    /// than `count_max` are counted.
    #[must_use]
    pub fn survey(&self, name: &str, after: Timestamp, due_by: Timestamp, count_max: u64) -> Survey {
        let mut survey = Survey { count: 0, first: None, last: None, more: false, begun: None };
        let mut after = after;
        while let Some(at) = self.next_after(after)
            && at <= due_by
        {
            let time = Time { at, due: self.due(name, at) };
            if time.due > due_by {
                survey.begun = Some(time);
                break;
            }
            if survey.count == count_max {
                survey.more = true;
                break;
            }
            survey.count += 1;
            survey.first.get_or_insert(time);
            survey.last = Some(time);
            after = at;
        }
        survey
    }

    /// The first time after an instant, exceptions and the end not looked at.
    fn wanted(&self, after: Timestamp) -> Option<Timestamp> {
        let crons = self.crons.iter().filter_map(|cron| cron.next_after(&self.zone, after));
        let intervals = self.intervals.iter().filter_map(|interval| interval.next_after(after));
        crons.chain(intervals).min()
    }

    /// An instant up to which nothing is a time, if this one is excluded.
    fn excluded_up_to(&self, at: Timestamp) -> Option<Timestamp> {
        if self.exceptions.is_empty() {
            return None;
        }
        let local = self.zone.local(at)?;
        let end = self.exceptions.iter().filter_map(|exception| exception.covers(local)).max()?;
        // Where clocks are changed before, only this instant: what comes after the change is looked at anew.
        match self.zone.unchanged(at, end) {
            Some((end, change)) if change.is_none_or(|change| end < change) => Some(end.max(at)),
            _ => Some(at),
        }
    }
}

impl Interval {
    fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let Self { every_ms, offset_ms } = *self;
        let next = match after.0.checked_sub(offset_ms) {
            Some(since) => (since / every_ms + 1).checked_mul(every_ms)?.checked_add(offset_ms)?,
            None => offset_ms,
        };
        // What no calendar has is no time.
        crate::rfc3339::instant(Timestamp(next)).map(|_| Timestamp(next))
    }
}

/// Up to `max` milliseconds, evenly, by xxh3-64 of the name, a zero byte and the time in eight bytes, the least first.
fn jitter(name: &str, at: Timestamp, max: u64) -> u64 {
    let bytes = [name.as_bytes(), &[0], &at.0.to_le_bytes()].concat();
    let scaled = (u128::from(xxh3_64(&bytes)) * (u128::from(max) + 1)) >> 64;
    u64::try_from(scaled).unwrap_or(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every release: what is due when is not to change with one.
    #[test]
    fn the_jitter_is_a_named_algorithm() {
        let jitter = |name| jitter(name, Timestamp(1_774_746_000_000), 60_000);
        assert_eq!([jitter("nightly"), jitter("hourly"), jitter("")], [8_411, 45_418, 33_757]);
    }
}
