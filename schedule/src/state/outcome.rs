//! What came of what was done.

use everpulse_protocol::Timestamp;

use super::next::LINE_MAX;
use super::{Counting, Open, State};
use crate::compute::Found;
use crate::control::{Cause, Control, End, Recent};
use crate::plan::Overlap;
use crate::times::Survey;

/// So many runs are shown.
const RECENT_MAX: usize = 20;

impl State {
    /// Times of the range that is done again were computed, as [`Move::ComputeRange`](super::Move::ComputeRange) asked.
    pub(crate) fn found(&mut self, found: Found) {
        self.counts.known += found.known;
        if let Some(range) = self.asked.range() {
            range.found(found);
        }
    }

    /// Times up to an instant were counted, as [`Move::Count`](super::Move::Count) asked.
    pub(crate) fn counted(&mut self, why: Counting, survey: &Survey) {
        if why == Counting::Line {
            self.line.excess = survey.count.saturating_sub(LINE_MAX);
            return;
        }
        match why {
            Counting::Missed => self.counts.missed += survey.count,
            Counting::Left | Counting::Excess => self.counts.skipped += survey.count,
            Counting::Waited => self.count_waited(survey),
            Counting::Passed | Counting::Line => {}
        }
        if let Some(last) = survey.last {
            self.cursor = Some(self.cursor().max(last.at));
        }
        match why {
            Counting::Excess => {
                // Of very many that wait not all were counted.
                self.line.excess = 0;
                self.line.looked_at = Timestamp(0);
            }
            _ if survey.more => {}
            Counting::Left => {
                self.left = None;
                self.waits = false;
                let begun = survey.begun.map(|time| time.at);
                match self.passing {
                    Some(_) => self.undone = begun,
                    None => self.counts.skipped += u64::from(self.deleted && begun.is_some()),
                }
            }
            Counting::Passed => {
                self.passing = None;
                self.waits = false;
                let undone = self.undone.take();
                self.counts.skipped += u64::from(undone.is_some() && undone != survey.begun.map(|time| time.at));
            }
            Counting::Waited => self.waits = false,
            Counting::Missed | Counting::Line => {}
        }
    }

    fn count_waited(&mut self, survey: &Survey) {
        let mut skipped = survey.count;
        match self.plan.overlap {
            Overlap::BufferOne if self.held.is_none() => {
                self.held = survey.first.map(|time| time.at);
                skipped -= u64::from(self.held.is_some());
            }
            Overlap::CancelOther | Overlap::TerminateOther => {
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

    /// The number that the run gets which is begun next.
    pub(crate) fn next_no(&self) -> u64 {
        self.next_no
    }

    /// A run was begun, or could not be; as [`Move::Begin`](super::Move::Begin) asked. `runner`: who awaits its end.
    pub(crate) fn begun(&mut self, at: Timestamp, cause: Cause, runner: String, now: Timestamp) {
        match cause {
            Cause::Time => {
                self.done.add(&self.plan.spec, self.cursor(), at);
                self.cursor = Some(self.cursor().max(at));
                self.held = None;
                if let Some(remaining) = &mut self.plan.remaining {
                    *remaining = remaining.saturating_sub(1);
                }
            }
            Cause::Trigger => self.asked.pass_trigger(at),
            Cause::Backfill => {
                if let Some(range) = self.asked.range() {
                    self.done.add(&self.plan.spec, range.decided, at);
                    range.pass(at);
                }
            }
        }
        self.counts.begun += 1;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        let workflow_id = self.workflow_id(at);
        self.recent.push_back(Recent { at, workflow_id, cause, begun_at: now, end: None });
        self.open.push(Open { no: self.next_no, at, cause, runner, making_way: false, ending: false });
        self.next_no += 1;
    }

    /// A run has come to its end. What is told once more changes nothing.
    pub(crate) fn ended(&mut self, no: u64, end: End, now: Timestamp) {
        let Some(place) = self.open.iter().position(|open| open.no == no) else { return };
        let ended = self.open.remove(place);
        let workflow_id = self.workflow_id(ended.at);
        match &end {
            End::Completed => self.counts.completed += 1,
            End::Failed { .. } | End::Cancelled => self.counts.failed += 1,
            End::Known => {
                self.counts.begun = self.counts.begun.saturating_sub(1);
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
