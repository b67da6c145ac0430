//! What goes into a round: local results, parked runs, timers, inputs that were taken in, and what arrived.

use everpulse_protocol::event::Event;
use everpulse_protocol::{RunId, Timestamp};

use super::Shard;
use super::early::{EARLY, Early};
use crate::effect::{DeliveryToken, LocalResult};
use crate::mutation::{self, Mutation};
use crate::round::{Applier, FRAME_BYTES, Round};

/// While so many commands are not confirmed, no messages are taken: what is on its way out takes more room than what
/// waits. A confirmation needs no input, so this always ends.
const UNCONFIRMED_MAX: usize = 1_024;

impl Shard {
    pub(super) fn applier<'a>(&'a mut self, round: &'a mut Round, frame: u64, at: Timestamp) -> Applier<'a> {
        let skew_ms = self.skew_ms();
        Applier {
            book: &mut self.book,
            round,
            registry: &self.registry,
            eager: &*self.eager,
            shard: self.shard,
            frame,
            at,
            skew_ms,
            payload_bytes_max: self.options.payload_bytes_max,
            record_bytes_max: self.options.record_bytes_max,
            refusals: &mut self.refusals,
            build: self.options.build.as_deref(),
            check_determinism: self.options.check_determinism,
            history_warning: self.options.history_warning,
            history_limit: self.options.history_limit,
        }
    }

    /// Takes what arrived, in a fixed order, up to a frame's size.
    pub(super) fn gather(
        &mut self,
        round: &mut Round,
        locals: &mut Vec<(RunId, u32, LocalResult)>,
        number: u64,
        (at, now): (Timestamp, Timestamp),
    ) {
        if self.try_alone(round, number, at) {
            return;
        }
        while round.bytes < FRAME_BYTES {
            let Some((run, step, result)) = self.local_results.pop_front() else { break };
            if !self.is_pending(run, step) {
                self.end_local(run, step);
                continue;
            }
            locals.push((run, step, result.clone()));
            self.applier(round, number, at).local(run, step, result);
        }
        self.revive_parked(round, number, at);
        let until = if mutation::is(Mutation::TimersEarly) { Timestamp(at.0 + 20) } else { at };
        let due: Vec<(Timestamp, RunId, u32)> =
            self.book.timers.iter().take_while(|(due, ..)| *due <= until).copied().collect();
        for timer in due {
            if round.bytes >= FRAME_BYTES {
                break;
            }
            // What fired just now may have cancelled this one, or parked or ended its run.
            let (_, run, no) = timer;
            if self.book.timers.contains(&timer) && self.can_fire(run, no) {
                self.applier(round, number, at).fire(run, no);
            }
        }
        // That a run is let go on stands before one of its inputs can take the worker down.
        let ready = self.book.ready.iter().filter(|run| !round.revived.contains(run));
        for run in ready.copied().collect::<Vec<RunId>>() {
            self.applier(round, number, at).apply_received(run, false);
        }
        while let Some(token) = self.arrived.front().copied() {
            if self.is_full(round) {
                break;
            }
            self.arrived.pop_front();
            if !self.take_delivery(round, token, number, (at, now)) {
                self.arrived.push_front(token);
                break;
            }
        }
        // What they wait for may be among what came.
        while self.arrived.is_empty()
            && let Some(early) = self.early.late(now)
        {
            self.take_early(early, round, number, at);
        }
    }

    /// Whether the round takes no more messages.
    fn is_full(&self, round: &Round) -> bool {
        round.bytes >= FRAME_BYTES || self.sends.len() + round.sends.len() >= UNCONFIRMED_MAX
    }

    /// Takes a signal whose run has come, or will not come.
    pub(super) fn take_early(&mut self, early: Early, round: &mut Round, number: u64, at: Timestamp) {
        let Early { token, event, .. } = early;
        round.touches.push(token);
        let suspect = self.deliveries.get(&token).is_some_and(|kept| kept.suspect);
        let (again, orphaned) = (event.again, round.orphaned.len());
        let run = self.applier(round, number, at).deliver(token, event, suspect, true);
        if again {
            round.orphaned.truncate(orphaned);
        }
        if let Some(kept) = self.deliveries.get_mut(&token) {
            kept.early -= 1;
            kept.runs.extend(run);
            kept.finish(token, round);
        }
    }

    /// How long a signal waits for its run, by this worker's clock: since its message was looked at first, also when the book was
    /// thrown away meanwhile. Where another owner writes all the time, it would wait for ever.
    fn wait_until(&mut self, token: DeliveryToken, now: Timestamp) -> Timestamp {
        let since = self.deliveries.get_mut(&token).map_or(now, |kept| *kept.early_since.get_or_insert(now));
        // Nor does it wait longer because the clock was set back.
        since.min(now).after(EARLY)
    }

    /// Takes the events of one message; false if the frame is full before its end.
    pub(super) fn take_delivery(
        &mut self,
        round: &mut Round,
        token: DeliveryToken,
        number: u64,
        (at, now): (Timestamp, Timestamp),
    ) -> bool {
        round.touches.push(token);
        loop {
            let Some(kept) = self.deliveries.get_mut(&token) else { return true };
            let Some(event) = kept.events.get(kept.next).cloned() else {
                kept.finish(token, round);
                return true;
            };
            if round.bytes >= FRAME_BYTES || self.sends.len() + round.sends.len() >= UNCONFIRMED_MAX {
                return false;
            }
            let is_news = kept.next >= kept.heeded && !event.again;
            kept.next += 1;
            let suspect = kept.suspect;
            let id = event.workflow_id.clone();
            let orphaned = round.orphaned.len();
            round.tagged.after = kept.tagged_after.take();
            let run = self.applier(round, number, at).deliver(token, event, suspect, false);
            if !is_news {
                // It was here all along, or is said once more: whoever does what it led to may well be there.
                round.orphaned.truncate(orphaned);
            }
            let early: Vec<(DeliveryToken, Event)> = std::mem::take(&mut round.early);
            let tagged = std::mem::take(&mut round.tagged);
            if let Some(kept) = self.deliveries.get_mut(&token) {
                kept.early += early.len();
                kept.runs.extend(run.into_iter().chain(tagged.runs));
                if tagged.goes_on {
                    // It goes on with the next round, behind the series that it came to.
                    kept.next -= 1;
                    kept.tagged_after = tagged.after;
                    return false;
                }
            }
            for (token, event) in early {
                let until = self.wait_until(token, now);
                self.early.push(Early { until, token, event });
            }
            // Signals that waited for this run come before those behind its start.
            if self.early.is_empty() {
                continue;
            }
            self.book.newest_of(&id);
            let book = &self.book;
            let is_there = |event: &Event| book.going_on_at_hand(&event.workflow_id, event.run_id).is_some();
            let there = self.early.of(&id, is_there);
            for early in there {
                self.take_early(early, round, number, at);
            }
        }
    }
}
