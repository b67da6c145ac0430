//! What is to be done next: first what somebody asked for now, then the schedule's own times, then what is done again.

use everpulse_protocol::Timestamp;

use super::{Counting, Left, Move, Now, Open, State};
use crate::compute::{COUNTED_MAX, Wanted};
use crate::control::Cause;
use crate::plan::{CATCH_UP_MIN_MS, Overlap};
use crate::times::Time;

/// So many runs of a range that is done again are open at once at most.
const RANGE_OPEN_MAX: usize = 50;
/// So many runs of one schedule are open at once at most: all of them are a part of its state.
const OPEN_MAX: usize = 1_000;
/// So many times wait for their turn at most; of more, the first are skipped.
pub(super) const LINE_MAX: u64 = 1_000;
/// How often that is looked at.
const LOOKED_MS: u64 = 60_000;
/// Times are computed anew after a week: the rules of a zone may have changed.
const BELIEVED_MS: u64 = 7 * 86_400_000;

impl State {
    /// What is to be done now. What it returns but waiting has to be done, and told.
    pub(crate) fn next(&mut self, now: &Now<'_>) -> Move {
        if self.deleted && self.left.is_none() {
            return Move::End;
        }
        if let Some(next) = self.next_trigger() {
            return next;
        }
        let own = self.next_own(now);
        if !matches!(own, Move::Wait { .. }) {
            return own;
        }
        self.next_of_range(now).unwrap_or(own)
    }

    fn next_trigger(&mut self) -> Option<Move> {
        for (at, overlap) in self.asked.triggers() {
            let begin = Move::Begin { at, cause: Cause::Trigger };
            match overlap {
                _ if self.open.is_empty() => return Some(begin),
                Overlap::AllowAll if self.open.len() < OPEN_MAX => return Some(begin),
                Overlap::Skip => {
                    self.counts.skipped += 1;
                    self.asked.pass_trigger(at);
                }
                Overlap::CancelOther | Overlap::TerminateOther => {
                    if let Some(making) = self.make_way(overlap, |_| true) {
                        return Some(making);
                    }
                }
                Overlap::AllowAll | Overlap::BufferOne | Overlap::BufferAll => {}
            }
        }
        None
    }

    /// The schedule's own times.
    fn next_own(&mut self, now: &Now<'_>) -> Move {
        if let Some(Left { spec, until }) = &self.left {
            let wanted = Wanted { spec: spec.clone(), after: self.cursor() };
            return Move::Count { wanted, due_by: *until, count_max: COUNTED_MAX, why: Counting::Left };
        }
        let wanted = Wanted { spec: self.plan.spec.clone(), after: self.cursor() };
        let count = |wanted, due_by, why| Move::Count { wanted, due_by, count_max: COUNTED_MAX, why };
        if let Some(then) = self.passing {
            // Whatever its jitter is, what comes before it is due.
            let due = Timestamp(then.0.saturating_sub(self.plan.spec.jitter_ms.saturating_add(1)));
            self.cursor = Some(self.cursor().max(due));
            return count(Wanted { after: self.cursor(), ..wanted }, then, Counting::Passed);
        }
        if self.paused.is_some() || self.plan.remaining == Some(0) {
            return Move::Wait { until: None };
        }
        let overlap = self.plan.overlap;
        let makes_way = overlap.makes_way();
        // Whoever has runs make way means those of the schedule's own times.
        let in_the_way = match overlap {
            Overlap::AllowAll => self.open.len() >= OPEN_MAX,
            Overlap::CancelOther | Overlap::TerminateOther => self.open.iter().any(Open::is_own),
            Overlap::Skip | Overlap::BufferOne | Overlap::BufferAll => !self.open.is_empty(),
        };
        if let Some(at) = self.held
            && !in_the_way
        {
            return Move::Begin { at, cause: Cause::Time };
        }
        // The policy may be another one than when that time came.
        if self.held.is_some()
            && makes_way
            && let Some(making) = self.make_way(overlap, Open::is_own)
        {
            return making;
        }
        let asked_to = self.open.iter().filter(|open| open.is_own()).all(|open| open.is_asked(overlap));
        if in_the_way && (!makes_way || asked_to) {
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
        let all_are_done = matches!(overlap, Overlap::BufferAll | Overlap::AllowAll);
        if self.waits {
            if !all_are_done {
                return count(wanted, now.at, Counting::Waited);
            }
            self.in_line_until = now.at;
            self.waits = false;
        }
        if self.is_too_late(first, now.at) {
            let due_by = Timestamp(now.at.0 - self.catch_up_ms() - 1);
            return count(wanted, due_by, Counting::Missed);
        }
        if all_are_done {
            if self.line.excess > 0 {
                let (due_by, count_max) = (now.at, self.line.excess);
                return Move::Count { wanted, due_by, count_max, why: Counting::Excess };
            }
            let looked = now.at.0.saturating_sub(self.line.looked_at.0) < LOOKED_MS;
            let many = !coming.end && coming.times.back().is_some_and(|last| last.due <= now.at);
            if many && !looked {
                self.line.looked_at = now.at;
                return count(wanted, now.at, Counting::Line);
            }
        }
        if makes_way && let Some(making) = self.make_way(overlap, Open::is_own) {
            return making;
        }
        Move::Begin { at: first.at, cause: Cause::Time }
    }

    fn catch_up_ms(&self) -> u64 {
        self.plan.catch_up_ms.max(CATCH_UP_MIN_MS)
    }

    fn is_too_late(&self, time: &Time, now: Timestamp) -> bool {
        time.at > self.in_line_until && now.0.saturating_sub(time.due.0) > self.catch_up_ms()
    }

    fn next_of_range(&mut self, now: &Now<'_>) -> Option<Move> {
        let open_of_ranges = self.open.iter().filter(|open| open.cause == Cause::Backfill).count();
        loop {
            let range = self.asked.range()?;
            let Some(at) = range.times.front().copied() else {
                if range.end {
                    self.asked.pass_range();
                    continue;
                }
                let (after, before) = (range.after, range.until.min(now.at));
                let wanted = Wanted { spec: self.plan.spec.clone(), after };
                return Some(Move::ComputeRange { wanted, before, done: self.done.clone() });
            };
            match range.overlap {
                _ if self.open.is_empty() => {}
                Overlap::AllowAll if open_of_ranges < RANGE_OPEN_MAX && self.open.len() < OPEN_MAX => {}
                Overlap::Skip => {
                    range.pass(at);
                    self.counts.skipped += 1;
                    continue;
                }
                overlap @ (Overlap::CancelOther | Overlap::TerminateOther) => return self.make_way(overlap, |_| true),
                Overlap::AllowAll | Overlap::BufferOne | Overlap::BufferAll => return None,
            }
            return Some(Move::Begin { at, cause: Cause::Backfill });
        }
    }

    /// Has open runs come to an end, as far as they were not asked to. None: all were.
    fn make_way(&mut self, overlap: Overlap, which: impl Fn(&Open) -> bool) -> Option<Move> {
        let at_once = overlap == Overlap::TerminateOther;
        let in_the_way = self.open.iter_mut().filter(|open| !open.is_asked(overlap) && which(open));
        let ask = |open: &mut Open| {
            open.making_way = true;
            open.ending |= at_once;
            open.runner.clone()
        };
        let runners: Vec<String> = in_the_way.map(ask).collect();
        (!runners.is_empty()).then_some(Move::MakeWay { runners, at_once })
    }
}

impl Open {
    fn is_own(&self) -> bool {
        self.cause == Cause::Time
    }

    /// Whether it was asked to make way as the policy says: one that does not heed a request may have to end at once later.
    fn is_asked(&self, overlap: Overlap) -> bool {
        if overlap == Overlap::TerminateOther { self.ending } else { self.making_way }
    }
}
