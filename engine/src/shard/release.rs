//! What follows from a round that has taken effect: sends, local work, answers, and holds until all that is done.

use everpulse_protocol::{RunId, Timestamp};

use super::local;
use super::{InFlight, Phase, Shard};
use crate::attempt::AttemptId;
use crate::effect::{Effect, Outgoing, SendId};
use crate::holds::{self, Hold, Known};
use crate::mutation::{self, Mutation};
use crate::round::{Round, StartLocal};
use crate::wake;

impl Shard {
    /// Sends, starts, answers and holds what a round caused.
    pub(super) fn release(&mut self, round: Round, frame: Option<u64>, now: Timestamp) {
        let appended = frame.is_some();
        let frame = frame.unwrap_or_else(|| self.chain.next_number().saturating_sub(1));
        // What was neither appended nor asked for says nothing of what is: the book may be old.
        if appended || round.decides {
            self.heed(&round);
        }
        for outgoing in round.sends {
            self.send(frame, outgoing);
        }
        for (client, reply) in round.replies {
            self.effects.push_back(Effect::Reply { client, reply });
        }
        for (run, reply_to) in round.fetch {
            self.fetch(run, reply_to);
        }
        for (run, step) in round.cancel_locals {
            if self.running.contains(&(run, step)) {
                self.effects.push_back(Effect::CancelLocal { run, step });
            }
        }
        if !round.cancel_tasks.is_empty() {
            self.effects.push_back(Effect::CancelTasks { tasks: round.cancel_tasks });
        }
        for run in round.touched.iter().chain(&round.ended) {
            self.sync_locals(*run);
        }
        for run in &round.unseen {
            self.start_local_work_of(*run, now.max(self.book.at));
        }
        for (token, runs) in round.taken {
            let since = self.deliveries.get(&token).map_or(now, |kept| kept.since);
            let mut runs = runs;
            // What goes on for a run that ended begins in another round.
            let next: Vec<RunId> = runs.iter().map(|run| self.book.last_of(*run)).collect();
            runs.extend(next);
            runs.sort_unstable();
            runs.dedup();
            // All that stands is confirmed before the ack, also where the input was known or changed nothing: a
            // dead letter, or the wake-up that took the place of this one, may be on its way.
            self.holds.push(Hold { token, frame, runs, since });
        }
        for start in round.starts {
            self.note_deadline(&start, now);
            self.start(start);
        }
        for run in &round.ended {
            // What it asked for is wanted no more, but for what goes on without it.
            match self.first_doubtful(*run) {
                Some(first) if self.parked_unsent.contains_key(run) => {
                    self.parked_unsent.insert(*run, first);
                }
                _ => {
                    self.parked_unsent.remove(run);
                }
            }
        }
        for run in &round.revived {
            // It was let go on just now: its input has one more try, whatever the count.
            if let Some(event) = self.first_received(*run) {
                self.survived.insert(event);
            }
        }
        self.resend_tasks_of(round.revived, now);
        self.settle_holds(now);
    }

    pub(super) fn send(&mut self, frame: u64, outgoing: Outgoing) {
        let id = SendId(self.fresh_id());
        let (mut task, mut wake, mut told) = (None, None, None);
        match &outgoing {
            Outgoing::Task(sent) => {
                let sent_one = AttemptId::of(sent);
                self.tasks_in_flight.insert(sent_one);
                task = Some((sent_one, sent.lane().to_string()));
            }
            Outgoing::Wake(sent) => {
                self.wakes_in_flight.insert(sent.number);
                wake = Some(sent.number);
            }
            Outgoing::Event(event) => {
                self.told_in_flight.insert(event.id);
                told = Some(event.id);
            }
            Outgoing::DeadEvent(_) => {}
        }
        self.unsent.add(frame);
        self.sends.insert(id, InFlight { frame, task, wake, told });
        self.effects.push_back(Effect::Send { id, outgoing });
    }

    pub(super) fn start(&mut self, start: StartLocal) {
        match start {
            StartLocal::Step { run, no, name, options, body } => {
                if self.is_pending(run, no) && self.running.insert((run, no)) {
                    self.effects.push_back(Effect::StartStep { run, step: no, name, options, body });
                }
            }
            StartLocal::Eager(task) => {
                if self.is_pending(task.run_id, task.step) && self.running.insert((task.run_id, task.step)) {
                    self.effects.push_back(Effect::StartEager { task });
                } else {
                    self.eager.release(task.id);
                }
            }
        }
    }

    pub(super) fn is_pending(&self, run: RunId, no: u32) -> bool {
        self.book.runs.get(&run).is_some_and(|run| run.pending.contains_key(&no))
    }

    /// Brings the list of open local work of a run up to the proven book.
    pub(super) fn sync_locals(&mut self, run: RunId) {
        let gone: Vec<u32> = holds::of_run(&self.locals, run)
            .map(|(no, _)| no)
            .filter(|no| {
                !self
                    .book
                    .runs
                    .get(&run)
                    .is_some_and(|run| run.pending.get(no).is_some_and(|pending| pending.is_open_locally()))
            })
            .collect();
        for no in gone {
            self.locals.remove(&(run, no));
            self.end_local(run, no);
        }
        let Some(state) = self.book.runs.get(&run) else { return };
        for (no, pending) in state.pending.iter().filter(|(_, pending)| pending.is_open_locally()) {
            self.locals.entry((run, *no)).or_insert_with(|| holds::Local {
                deadline: pending.scheduled_at.after(local::LOCAL_DEADLINE),
                // Unless a hold is found that waits for its run.
                wants_cover: true,
            });
        }
    }

    /// Whether a hold has local work that was not yet asked to be covered.
    pub(super) fn wants_cover(&self, hold: &Hold) -> bool {
        let wants = |run: &RunId| holds::of_run(&self.locals, *run).any(|(_, local)| !local.wants_cover);
        // The last one is what it waits for; those before it may be at rest.
        hold.runs.iter().rev().any(wants)
    }

    /// Ends holds that are over, and frees their messages.
    pub(super) fn settle_holds(&mut self, now: Timestamp) {
        // Where no frame stands yet, holds wait for the first one by number, and for nothing of it.
        let standing = if mutation::is(Mutation::JudgesInFlight) { u64::MAX } else { self.proven_next.max(1) };
        let sent_below = self.unsent.below(standing);
        if !self.holds.may_end(sent_below) || matches!(self.phase, Phase::Cold) {
            return;
        }
        let covered = self.holds.wait_for_runs() && self.is_covered(now);
        let known = Known { book: &self.book, locals: &self.locals, standing, sent_below, covered, now };
        for token in self.holds.settle(&known) {
            self.deliveries.remove(&token);
            self.effects.push_back(Effect::Ack { token });
        }
    }

    /// Whether a confirmed wake-up stands for everything that asked for cover.
    pub(super) fn is_covered(&self, now: Timestamp) -> bool {
        let standing = matches!(self.phase, Phase::Ready);
        let confirmed = self.book.wake.is_some_and(|wake| !self.wakes_in_flight.contains(&wake.number));
        let confirmed = confirmed || mutation::is(Mutation::CoversUnconfirmed);
        let need = wake::need(&self.book, &self.locals, false, self.has_to_carry(), now.max(self.book.at));
        standing && confirmed && !wake::is_missing(self.book.wake, need, now.max(self.book.at))
    }

    /// Holds that have lasted long enough ask for a wake-up in their place.
    ///
    /// True if one did that had not before.
    pub(super) fn ask_for_cover(&mut self, now: Timestamp) -> bool {
        let mut asked = false;
        if self.locals.is_empty() {
            return asked;
        }
        for hold in self.holds.iter().filter(|hold| hold.is_long(now)) {
            for run in &hold.runs {
                for (_, local) in self.locals.range_mut((*run, 0)..=(*run, u32::MAX)) {
                    asked |= !std::mem::replace(&mut local.wants_cover, true);
                }
            }
        }
        asked
    }
}
