//! What a schedule has decided so far, and what it does next: without a workflow around it, so that it can be tried by
//! itself.
//!
//! ```text
//!              ┌───────────────── next(now) ──────────────────┐
//!  controls ─► State ─► Begin · Compute · Count · MakeWay · Wait   ─► the workflow does it, and tells the state
//! ```
//!
//! # Invariants
//!
//! 1. Each time is decided once: it is begun, skipped, missed or known, and then the cursor is at it or behind it. The cursor
//!    never goes back.
//! 2. No time is decided before it is due, and none that is not due yet is left out by a pause.
//! 3. While a time waits for an open run nothing is computed: however long the run goes on, the schedule sleeps, and what went
//!    by is counted in one piece when it has ended.
//! 4. All that is decided is in here, also what is open: another run of the workflow goes on with it as this one would.

mod next;
mod outcome;

use std::collections::VecDeque;

use everpulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::asked::{Asked, Range, Waiting};
use crate::compute::{Coming, Wanted};
use crate::control::{Cause, Control, Counts, Paused, Recent};
use crate::done::Done;
use crate::plan::Plan;
use crate::rfc3339::Rfc3339;
use crate::spec::Spec;

/// So many updates are remembered by their ids.
const UPDATES_MAX: usize = 8;

/// What a schedule has decided. It is the argument of its run, and goes from one run to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(crate) name: String,
    pub(crate) plan: Plan,
    #[serde(default)]
    pub(crate) revision: u64,
    #[serde(default)]
    pub(crate) updates: VecDeque<String>,
    #[serde(default)]
    pub(crate) paused: Option<Paused>,
    #[serde(default)]
    pub(crate) recent: VecDeque<Recent>,
    #[serde(default)]
    pub(crate) counts: Counts,
    /// All times up to it are decided. None: it has not begun.
    #[serde(default)]
    cursor: Option<Timestamp>,
    /// Times went by, or may have, that wait for an open run.
    #[serde(default)]
    waits: bool,
    /// A time that waits no longer: it is next.
    #[serde(default)]
    held: Option<Timestamp>,
    /// Times up to it waited for their turn, and are not too late.
    #[serde(default)]
    in_line_until: Timestamp,
    /// Times that are left, since the schedule was paused or other times were asked for.
    #[serde(default)]
    left: Option<Left>,
    #[serde(default)]
    asked: Waiting,
    #[serde(default)]
    last_trigger: Timestamp,
    /// It ends when what waits is counted.
    #[serde(default)]
    deleted: bool,
    /// Its runs that have not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<Open>,
    /// The number of the next run.
    #[serde(default, skip_serializing_if = "is_zero")]
    next_no: u64,
    #[serde(default, skip_serializing_if = "Done::is_empty")]
    done: Done,
    /// Times that are due up to it are no concern: they went by in a pause, or before they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passing: Option<Timestamp>,
    /// A time of what was asked for before, of which the moment had come and not its jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undone: Option<Timestamp>,
    /// When it was looked at how many times wait for their turn, and how many of them are too many.
    #[serde(default, skip_serializing_if = "Line::is_none")]
    line: Line,
    /// It continues as new after so many events, whatever is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) events_max: Option<u64>,
}

/// A run that has not ended, or of which that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    /// Which it is among all runs of the schedule.
    pub no: u64,
    pub at: Timestamp,
    pub cause: Cause,
    /// The workflow id of the run that began it and awaits its end.
    pub runner: String,
    /// It was asked to make way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub making_way: bool,
    /// It was to be ended at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// Times of a specification up to one instant are skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    spec: Spec,
    until: Timestamp,
}

/// Of times that all wait for their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Line {
    looked_at: Timestamp,
    excess: u64,
}

impl Line {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Move {
    /// Compute the next times of the schedule.
    Compute(Wanted),
    /// Compute the next times of the range that is done again: those before an instant that were not begun.
    ComputeRange {
        wanted: Wanted,
        before: Timestamp,
        done: Done,
    },
    /// Count the times that are due up to an instant, no more than so many, and say so by `counted`.
    Count {
        wanted: Wanted,
        due_by: Timestamp,
        count_max: u64,
        why: Counting,
    },
    Begin {
        at: Timestamp,
        cause: Cause,
    },
    /// Have these open runs come to an end.
    MakeWay {
        runners: Vec<String>,
        /// At once, and not by a request.
        at_once: bool,
    },
    /// It is deleted, and all is counted.
    End,
    /// Until then, or until something happens.
    Wait {
        until: Option<Timestamp>,
    },
}

/// What a count is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// What a pause or an update left.
    Left,
    /// What went by in a pause, or before other times were asked for.
    Passed,
    /// What waited for an open run.
    Waited,
    /// What nobody could do in time.
    Missed,
    /// How many wait for their turn.
    Line,
    /// Those of them that are too many.
    Excess,
}

/// How things are beside what was decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now<'a> {
    pub at: Timestamp,
    /// None: not computed.
    pub coming: Option<&'a Coming>,
}

impl State {
    /// A schedule that begins.
    #[must_use]
    pub fn new(name: impl Into<String>, plan: Plan) -> Self {
        Self {
            name: name.into(),
            plan,
            revision: 0,
            updates: VecDeque::new(),
            paused: None,
            recent: VecDeque::new(),
            counts: Counts::default(),
            cursor: None,
            waits: false,
            held: None,
            in_line_until: Timestamp(0),
            left: None,
            asked: Waiting::default(),
            last_trigger: Timestamp(0),
            deleted: false,
            open: Vec::new(),
            next_no: 0,
            done: Done::default(),
            passing: None,
            undone: None,
            line: Line::default(),
            events_max: None,
        }
    }

    /// Times after it are done, also those before it begins; without it, those after it has begun.
    #[must_use]
    pub fn since(mut self, since: Timestamp) -> Self {
        self.cursor = Some(since);
        self
    }

    /// It continues as new after so many events, whatever is open: for tests, which play that often.
    #[doc(hidden)]
    #[must_use]
    pub fn short_lived(mut self, events_max: u64) -> Self {
        self.events_max = Some(events_max);
        self
    }

    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.cursor.get_or_insert(now);
    }

    fn cursor(&self) -> Timestamp {
        self.cursor.unwrap_or_default()
    }

    /// All times up to it are decided.
    pub(crate) fn decided_until(&self) -> Timestamp {
        self.cursor()
    }

    /// How many things that were asked for wait.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Its runs that have not ended.
    pub(crate) fn open(&self) -> &[Open] {
        &self.open
    }

    /// The workflow id of the run of a time. It follows from the time alone, so that a time has one run, whoever asks for it, and
    /// however often.
    pub(crate) fn workflow_id(&self, at: Timestamp) -> String {
        format!("{}-{}", self.name, Rfc3339(at))
    }

    /// Does what was told.
    pub(crate) fn control(&mut self, control: Control, now: Timestamp) {
        match control {
            Control::Pause { note } => {
                if self.paused.is_none() {
                    self.leave(now);
                }
                self.paused = Some(Paused { since: now, note });
            }
            Control::Unpause => {
                if self.paused.take().is_some() {
                    self.passing = Some(now);
                }
            }
            Control::Trigger { overlap } => {
                // Each has a time of its own, since that names its run.
                let at = now.max(Timestamp(self.last_trigger.0.saturating_add(1)));
                self.last_trigger = at;
                self.asked.push(Asked::Trigger { at, overlap });
            }
            Control::Backfill { from, until, overlap } => {
                self.asked.push(Asked::Backfill(Range::new(from, until, overlap)));
            }
            Control::Update { plan, revision, id, keeps_remaining } if revision == self.revision => {
                self.revision += 1;
                if self.updates.len() == UPDATES_MAX {
                    self.updates.pop_front();
                }
                self.updates.push_back(id);
                self.change(*plan, keeps_remaining, now);
            }
            // Somebody else was faster, and is not overwritten.
            Control::Update { .. } => {}
            Control::Delete => {
                if self.paused.is_none() {
                    self.leave(now);
                }
                self.asked.clear();
                self.deleted = true;
            }
        }
    }

    fn change(&mut self, plan: Plan, keeps_remaining: bool, now: Timestamp) {
        let mut plan = plan;
        if keeps_remaining {
            plan.remaining = self.plan.remaining;
        }
        let others = plan.spec != self.plan.spec;
        // Times that went by while there was nothing more to be done are nobody's.
        let again = self.plan.remaining == Some(0) && plan.remaining != Some(0);
        if self.paused.is_none() && (others || again) {
            if !again {
                self.leave(now);
            }
            self.passing = Some(now);
        }
        if others {
            self.asked.look_again();
        }
        self.plan = plan;
    }

    /// What waits is left, by the specification that made it wait.
    fn leave(&mut self, now: Timestamp) {
        self.counts.skipped += u64::from(self.held.take().is_some());
        if self.left.is_none() && self.passing.is_none() {
            self.left = Some(Left { spec: self.plan.spec.clone(), until: now });
        }
    }

    /// It cannot go on by itself: what was asked for is forgotten, and it is paused.
    pub(crate) fn give_up(&mut self, note: String, now: Timestamp) {
        self.asked.clear();
        (self.left, self.passing, self.undone, self.line) = (None, None, None, Line::default());
        self.paused = Some(Paused { since: now, note });
    }
}
