//! What a schedule has decided so far, and what it does next: without a workflow around it, so that it can be tried by
//! itself.
//!
//! ```text
//!              ┌──────────── next(now, open runs) ─────────────┐
//!  controls ─► State ─► Begin · Compute · Count · MakeWay · Wait   ─► the workflow does it, and tells the state
//! ```
//!
//! # Invariants
//!
//! 1. Each time is decided once: it is begun, skipped, missed or known, and then the cursor is at it or behind it. The cursor
//!    never goes back.
//! 2. No time is decided before it is due.
//! 3. While a time waits for an open run nothing is computed: however long the run goes on, the schedule sleeps, and what went
//!    by is counted in one piece when it has ended.

use std::collections::VecDeque;

use everpulse_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::{Cause, Control, Counts, End, Paused, Recent};
use crate::plan::{Overlap, Plan};
use crate::spec::Spec;
use crate::times::{Survey, Time};

/// So many runs are shown.
const RECENT_MAX: usize = 20;
/// So many updates are remembered by their ids.
const UPDATES_MAX: usize = 8;
/// So many runs of a range that is done again are open at once at most.
const BACKFILL_OPEN_MAX: usize = 50;
/// Times are computed anew after a week: the rules of a zone may have changed.
const BELIEVED_MS: u64 = 7 * 86_400_000;

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
    asked: VecDeque<Asked>,
    #[serde(default)]
    last_trigger: Timestamp,
    /// It ends when what waits is counted.
    #[serde(default)]
    deleted: bool,
}

/// Times of a specification up to one instant are skipped, and those after it up to another one are no concern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    spec: Spec,
    until: Timestamp,
    then: Timestamp,
}

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Trigger {
        at: Timestamp,
        overlap: Overlap,
    },
    /// The times after one instant and before another one, and the first of them, as far as they were computed.
    Backfill {
        after: Timestamp,
        until: Timestamp,
        overlap: Overlap,
        times: VecDeque<Timestamp>,
        end: bool,
    },
}

/// Times that were computed, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Coming {
    pub times: VecDeque<Time>,
    /// There are no others.
    pub end: bool,
    pub computed_at: Timestamp,
}

/// What is computed of which times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub spec: Spec,
    pub after: Timestamp,
    /// No time at it or after it.
    pub before: Option<Timestamp>,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Move {
    /// Compute the next times of the schedule.
    Compute(Wanted),
    /// Compute the next times of the range that is done again.
    ComputeAsked(Wanted),
    /// Count the times that are due up to an instant, and say so by `counted`.
    Count {
        wanted: Wanted,
        due_by: Timestamp,
    },
    Begin {
        at: Timestamp,
        cause: Cause,
    },
    /// Ask the open runs to cancel.
    MakeWay,
    /// It is deleted, and all is counted.
    End,
    /// Until then, or until something happens.
    Wait {
        until: Option<Timestamp>,
    },
}

/// What a count is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    Left,
    Waited,
    Missed,
}

/// How things are beside what was decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now<'a> {
    pub at: Timestamp,
    /// How many runs are open.
    pub open: usize,
    /// They were asked to make way.
    pub making_way: bool,
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
            asked: VecDeque::new(),
            last_trigger: Timestamp(0),
            deleted: false,
        }
    }

    /// Times after it are done, also those before it begins; without it, those after it has begun.
    #[must_use]
    pub fn since(mut self, since: Timestamp) -> Self {
        self.cursor = Some(since);
        self
    }

    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.cursor.get_or_insert(now);
    }

    fn cursor(&self) -> Timestamp {
        self.cursor.unwrap_or_default()
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
                    match &mut self.left {
                        Some(left) => left.then = now,
                        None => self.move_on(now),
                    }
                }
            }
            Control::Trigger { overlap } => {
                // Each has a time of its own, since that names its run.
                let at = now.max(Timestamp(self.last_trigger.0.saturating_add(1)));
                self.last_trigger = at;
                self.asked.push_back(Asked::Trigger { at, overlap });
            }
            Control::Backfill { from, until, overlap } => {
                let after = Timestamp(from.0.saturating_sub(1));
                let (times, end) = (VecDeque::new(), false);
                self.asked.push_back(Asked::Backfill { after, until, overlap, times, end });
            }
            Control::Update { plan, revision, id } if revision == self.revision => {
                self.revision += 1;
                if self.updates.len() == UPDATES_MAX {
                    self.updates.pop_front();
                }
                self.updates.push_back(id);
                if plan.spec != self.plan.spec {
                    self.leave(now);
                }
                self.plan = *plan;
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

    /// What waits is left, by the specification that made it wait.
    fn leave(&mut self, now: Timestamp) {
        self.counts.skipped += u64::from(self.held.take().is_some());
        if self.left.is_none() {
            self.left = Some(Left { spec: self.plan.spec.clone(), until: now, then: now });
        }
    }

    fn move_on(&mut self, to: Timestamp) {
        self.cursor = Some(self.cursor().max(to));
        self.waits = false;
    }

    /// It cannot go on by itself: what was asked for is forgotten, and it is paused.
    pub(crate) fn give_up(&mut self, note: String, now: Timestamp) {
        self.asked.clear();
        self.left = None;
        self.paused = Some(Paused { since: now, note });
    }

    /// How many things that were asked for wait.
    pub(crate) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// All times up to it are decided.
    pub(crate) fn decided_until(&self) -> Timestamp {
        self.cursor()
    }

    /// What is to be done now. What it returns but waiting has to be done, and told.
    pub(crate) fn next(&mut self, now: &Now<'_>) -> Move {
        if self.deleted && self.left.is_none() {
            return Move::End;
        }
        if let Some(next) = self.next_asked(now) {
            return next;
        }
        if let Some(left) = &self.left {
            let wanted = Wanted { spec: left.spec.clone(), after: self.cursor(), before: None };
            return Move::Count { wanted, due_by: left.until };
        }
        if self.paused.is_some() || self.plan.remaining == Some(0) {
            return Move::Wait { until: None };
        }
        if let Some(at) = self.held
            && now.open == 0
        {
            return Move::Begin { at, cause: Cause::Time };
        }
        let wanted = Wanted { spec: self.plan.spec.clone(), after: self.cursor(), before: None };
        let overlap = self.plan.overlap;
        let makes_way = overlap == Overlap::CancelOther;
        if now.open > 0 && (now.making_way && makes_way || !makes_way && overlap != Overlap::AllowAll) {
            self.waits = true;
            return Move::Wait { until: None };
        }
        let Some(coming) = now.coming else { return Move::Compute(wanted) };
        let Some(first) = coming.times.front() else {
            return if coming.end { Move::Wait { until: None } } else { Move::Compute(wanted) };
        };
        if first.due > now.at {
            self.waits = false;
            let believed = Timestamp(coming.computed_at.0.saturating_add(BELIEVED_MS));
            return match believed <= now.at {
                true => Move::Compute(wanted),
                false => Move::Wait { until: Some(first.due.min(believed)) },
            };
        }
        if self.waits {
            if overlap != Overlap::BufferAll {
                return Move::Count { wanted, due_by: now.at };
            }
            self.in_line_until = now.at;
            self.waits = false;
        }
        if self.is_too_late(first, now.at) {
            let due_by = Timestamp(now.at.0 - self.plan.catch_up_ms - 1);
            return Move::Count { wanted, due_by };
        }
        match now.open {
            0 => Move::Begin { at: first.at, cause: Cause::Time },
            _ if makes_way => Move::MakeWay,
            _ => Move::Begin { at: first.at, cause: Cause::Time },
        }
    }

    fn is_too_late(&self, time: &Time, now: Timestamp) -> bool {
        time.at > self.in_line_until && now.0.saturating_sub(time.due.0) > self.plan.catch_up_ms
    }

    fn next_asked(&mut self, now: &Now<'_>) -> Option<Move> {
        loop {
            let (at, overlap, cause) = match self.asked.front()? {
                Asked::Trigger { at, overlap } => (*at, *overlap, Cause::Trigger),
                Asked::Backfill { after, until, overlap, times, end } => match times.front() {
                    Some(at) => (*at, *overlap, Cause::Backfill),
                    None if *end => {
                        self.asked.pop_front();
                        continue;
                    }
                    None => {
                        let before = Some((*until).min(now.at));
                        return Some(Move::ComputeAsked(Wanted {
                            spec: self.plan.spec.clone(),
                            after: *after,
                            before,
                        }));
                    }
                },
            };
            let many = cause == Cause::Backfill && now.open >= BACKFILL_OPEN_MAX;
            match overlap {
                _ if now.open == 0 => return Some(Move::Begin { at, cause }),
                Overlap::AllowAll if !many => return Some(Move::Begin { at, cause }),
                Overlap::CancelOther if !now.making_way => return Some(Move::MakeWay),
                Overlap::Skip => {
                    self.counts.skipped += 1;
                    self.pass_asked(at);
                }
                _ => return None,
            }
        }
    }

    /// Times of the range that is done again were computed, as [`Move::ComputeAsked`] asked.
    pub(crate) fn computed_asked(&mut self, coming: Coming) {
        if let Some(Asked::Backfill { times, end, .. }) = self.asked.front_mut() {
            times.extend(coming.times.into_iter().map(|time| time.at));
            *end = coming.end;
        }
    }

    /// One thing that was asked for is decided.
    fn pass_asked(&mut self, at: Timestamp) {
        match self.asked.front_mut() {
            Some(Asked::Backfill { after, times, .. }) => {
                *after = at;
                times.pop_front();
            }
            Some(Asked::Trigger { .. }) | None => {
                self.asked.pop_front();
            }
        }
    }

    /// Times up to an instant were counted, as [`Move::Count`] asked.
    pub(crate) fn counted(&mut self, survey: &Survey) {
        let last = survey.last.map(|time| time.at);
        let counting = match (&self.left, self.waits) {
            (Some(_), _) => Counting::Left,
            (None, true) => Counting::Waited,
            (None, false) => Counting::Missed,
        };
        match counting {
            Counting::Missed => self.counts.missed += survey.count,
            Counting::Left => self.counts.skipped += survey.count,
            Counting::Waited => self.count_waited(survey),
        }
        if let Some(last) = last {
            self.cursor = Some(self.cursor().max(last));
        }
        if survey.more {
            return;
        }
        match counting {
            Counting::Left => {
                if let Some(left) = self.left.take() {
                    self.move_on(left.then);
                }
            }
            Counting::Waited => self.waits = false,
            Counting::Missed => {}
        }
    }

    fn count_waited(&mut self, survey: &Survey) {
        let mut skipped = survey.count;
        match self.plan.overlap {
            Overlap::BufferOne if self.held.is_none() => {
                self.held = survey.first.map(|time| time.at);
                skipped -= u64::from(self.held.is_some());
            }
            Overlap::CancelOther => {
                // The one that was held until now is overtaken by the last of these.
                if let Some(last) = survey.last
                    && self.held.replace(last.at).is_none()
                {
                    skipped -= 1;
                }
            }
            _ => {}
        }
        self.counts.skipped += skipped;
    }

    /// A run was begun, or could not be; as [`Move::Begin`] asked.
    pub(crate) fn begun(&mut self, at: Timestamp, cause: Cause, workflow_id: String, now: Timestamp) {
        match cause {
            Cause::Time => {
                self.cursor = Some(self.cursor().max(at));
                self.held = None;
                if let Some(remaining) = &mut self.plan.remaining {
                    *remaining -= 1;
                }
            }
            Cause::Trigger | Cause::Backfill => self.pass_asked(at),
        }
        self.counts.begun += 1;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { at, workflow_id, cause, begun_at: now, end: None });
    }

    /// A run has come to its end.
    pub(crate) fn ended(&mut self, workflow_id: &str, end: End, now: Timestamp) {
        match &end {
            End::Completed => self.counts.completed += 1,
            End::Failed { .. } | End::Cancelled => self.counts.failed += 1,
            End::Known => {
                self.counts.begun -= 1;
                self.counts.known += 1;
            }
        }
        if let End::Failed { message } = &end
            && self.plan.pause_on_failure
            && self.paused.is_none()
        {
            let note = format!("{workflow_id} failed: {message}");
            self.control(Control::Pause { note }, now);
        }
        let recent =
            self.recent.iter_mut().rev().find(|recent| recent.end.is_none() && recent.workflow_id == workflow_id);
        if let Some(recent) = recent {
            recent.end = Some(end);
        }
    }
}
