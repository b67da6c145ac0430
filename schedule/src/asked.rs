//! What somebody asks of a schedule beside its times: runs on demand, and ranges that are done again.

use std::collections::VecDeque;

use everpulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::compute::Found;
use crate::plan::Overlap;

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    Trigger { at: Timestamp, overlap: Overlap },
    Backfill(Range),
}

/// The times after one instant and before another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// All times up to it were looked at.
    pub after: Timestamp,
    pub until: Timestamp,
    pub overlap: Overlap,
    /// Those of them that are next.
    pub times: VecDeque<Timestamp>,
    pub end: bool,
    /// The last one that was begun or left.
    #[serde(default)]
    pub decided: Timestamp,
}

impl Range {
    /// From one instant up to and without another one.
    pub fn new(from: Timestamp, until: Timestamp, overlap: Overlap) -> Self {
        let after = Timestamp(from.0.saturating_sub(1));
        Self { after, until, overlap, times: VecDeque::new(), end: false, decided: after }
    }

    pub fn found(&mut self, found: Found) {
        self.times.extend(found.times);
        self.after = found.after;
        self.end = found.end;
    }

    /// Its first time is decided.
    pub fn pass(&mut self, at: Timestamp) {
        self.times.pop_front();
        self.decided = at;
    }

    /// The times are others from now on.
    pub fn look_again(&mut self) {
        self.after = self.decided;
        self.times.clear();
        self.end = false;
    }
}

/// What was asked for and waits: runs on demand before ranges, each in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Waiting(VecDeque<Asked>);

impl Waiting {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, asked: Asked) {
        self.0.push_back(asked);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The runs on demand that wait.
    pub fn triggers(&self) -> Vec<(Timestamp, Overlap)> {
        let trigger = |asked: &Asked| match asked {
            Asked::Trigger { at, overlap } => Some((*at, *overlap)),
            Asked::Backfill(_) => None,
        };
        self.0.iter().filter_map(trigger).collect()
    }

    /// A run on demand is decided.
    pub fn pass_trigger(&mut self, decided: Timestamp) {
        self.0.retain(|asked| !matches!(asked, Asked::Trigger { at, .. } if *at == decided));
    }

    /// The range whose turn it is.
    pub fn range(&mut self) -> Option<&mut Range> {
        self.0.iter_mut().find_map(|asked| match asked {
            Asked::Backfill(range) => Some(range),
            Asked::Trigger { .. } => None,
        })
    }

    /// It has come to its end.
    pub fn pass_range(&mut self) {
        if let Some(place) = self.0.iter().position(|asked| matches!(asked, Asked::Backfill(_))) {
            self.0.remove(place);
        }
    }

    /// The times of all ranges are others from now on.
    pub fn look_again(&mut self) {
        for asked in &mut self.0 {
            if let Asked::Backfill(range) = asked {
                range.look_again();
            }
        }
    }
}
