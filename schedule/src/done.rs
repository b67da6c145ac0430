//! Which times were begun: so that a range that is done again leaves them out, long after the ids of their runs are forgotten.
//!
//! They are kept as stretches: from one time up to another one, and all times of the specification between them. A stretch
//! is broken by each time that was not begun. So what a schedule has to know of years in which nothing was left out are two
//! instants.

use std::collections::VecDeque;

use everpulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::spec::Spec;
use crate::times::Times;

/// So many stretches are remembered. Of a schedule that leaves out every second time these are as many of its last ones.
const STRETCHES_MAX: usize = 128;
/// So many specifications are remembered, with what was begun by each.
const SPECS_MAX: usize = 4;

/// The times that were begun, by the specifications that had them; the newest last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Done(VecDeque<BySpec>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BySpec {
    spec: Spec,
    /// In order, and apart.
    stretches: VecDeque<Stretch>,
}

/// All times of a specification from one up to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    from: Timestamp,
    to: Timestamp,
}

/// The same, to be asked.
#[derive(Debug)]
pub(crate) struct Known(Vec<(Option<Times>, VecDeque<Stretch>)>);

impl Done {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A time was begun. `previous`: the time before it that was decided; if that was begun too, nothing lies between.
    pub fn add(&mut self, spec: &Spec, previous: Timestamp, at: Timestamp) {
        let place = self.0.iter().position(|by| by.spec == *spec).and_then(|place| self.0.remove(place));
        self.0.push_back(place.unwrap_or_else(|| BySpec { spec: spec.clone(), stretches: VecDeque::new() }));
        if self.0.len() > SPECS_MAX {
            self.0.pop_front();
        }
        if let Some(by) = self.0.back_mut() {
            by.add(previous, at);
        }
        if self.0.iter().map(|by| by.stretches.len()).sum::<usize>() > STRETCHES_MAX
            && let Some(oldest) = self.0.front_mut()
        {
            oldest.stretches.pop_front();
            if oldest.stretches.is_empty() {
                self.0.pop_front();
            }
        }
    }

    /// What a range of these times need not do. What another specification had counts only if it was one of its times; of
    /// one that this release cannot read nothing is known.
    pub fn known(&self, spec: &Spec) -> Known {
        let times = |by: &BySpec| if by.spec == *spec { Some(None) } else { by.spec.times().ok().map(Some) };
        Known(self.0.iter().filter_map(|by| Some((times(by)?, by.stretches.clone()))).collect())
    }
}

impl BySpec {
    fn add(&mut self, previous: Timestamp, at: Timestamp) {
        match self.stretches.iter_mut().find(|stretch| stretch.to == previous && previous < at) {
            Some(stretch) => stretch.to = at,
            None => self.stretches.push_back(Stretch { from: at, to: at }),
        }
        self.stretches.make_contiguous().sort_unstable_by_key(|stretch| stretch.from);
        let mut apart: VecDeque<Stretch> = VecDeque::with_capacity(self.stretches.len());
        for stretch in self.stretches.drain(..) {
            match apart.back_mut() {
                Some(last) if stretch.from <= last.to => last.to = last.to.max(stretch.to),
                _ => apart.push_back(stretch),
            }
        }
        self.stretches = apart;
    }
}

impl Known {
    /// Whether a time was begun.
    pub fn covers(&self, at: Timestamp) -> bool {
        self.0.iter().any(|(times, stretches)| {
            stretches.iter().any(|stretch| (stretch.from..=stretch.to).contains(&at))
                && times.as_ref().is_none_or(|times| times.next_after(Timestamp(at.0.saturating_sub(1))) == Some(at))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn minutely() -> Spec {
        Spec::new().every(Duration::from_secs(60))
    }

    fn minute(minute: u64) -> Timestamp {
        Timestamp(60_000 * minute)
    }

    fn stretches(done: &Done) -> Vec<(u64, u64)> {
        let all = done.0.iter().flat_map(|by| &by.stretches);
        all.map(|stretch| (stretch.from.0 / 60_000, stretch.to.0 / 60_000)).collect()
    }

    #[test]
    fn times_without_a_gap_are_one_stretch_and_stretches_that_meet_become_one() {
        let mut done = Done::default();
        for at in [1, 2, 3, 6, 7] {
            done.add(&minutely(), minute(at - 1), minute(at));
        }
        assert_eq!(stretches(&done), [(1, 3), (6, 7)]);
        // What lay between is done afterwards, up to a time that is done already.
        for at in 4..=6 {
            done.add(&minutely(), minute(at - 1), minute(at));
        }
        assert_eq!(stretches(&done), [(1, 7)]);
    }

    #[test]
    fn a_time_counts_as_begun_only_if_it_was_a_time_then() {
        let mut done = Done::default();
        for at in 1..=120 {
            done.add(&minutely(), minute(at - 1), minute(at));
        }
        let half_minutes = Spec::new().every(Duration::from_secs(30));
        let known = done.known(&half_minutes);
        assert!(known.covers(minute(60)));
        assert!(!known.covers(Timestamp(minute(60).0 + 30_000)), "nobody did that one");
        assert!(!known.covers(minute(121)));
    }

    #[test]
    fn of_very_many_stretches_the_last_ones_are_remembered() {
        let mut done = Done::default();
        for at in 1..=300 {
            done.add(&minutely(), Timestamp(0), minute(2 * at));
        }
        let known = done.known(&minutely());
        assert_eq!(stretches(&done).len(), STRETCHES_MAX);
        assert!(known.covers(minute(600)) && !known.covers(minute(2)) && !known.covers(minute(599)));
    }
}
