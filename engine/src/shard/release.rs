//! What follows from a round that has taken effect: sends, local work, answers, and holds until all that is done.

use std::time::Duration;

use everpulse_protocol::{RunId, Timestamp};

use super::local::{self, step_budget};
use super::{InFlight, Phase, Shard};
use crate::book::Book;
use crate::effect::{Effect, Outgoing, SendId};
use crate::holds::{self, HOLD_MS_MAX, Hold};
use crate::mutation::{self, Mutation};
use crate::round::{Round, StartLocal};
use crate::wake;

impl Shard {
    /// Sends, starts, answers and holds what a round caused.
    pub(super) fn release(&mut self, round: Round, frame: Option<u64>, now: Timestamp) {
        let frame = frame.unwrap_or_else(|| self.chain.next_number().saturating_sub(1));
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
        for start in round.starts {
            let (run, no, budget) = match &start {
                StartLocal::Step { run, no, options, .. } => (*run, *no, step_budget(options)),
                StartLocal::Eager(task) => {
                    (task.run_id, task.step, Duration::from_millis(task.options.start_to_close_ms))
                }
            };
            if self.is_pending(run, no) {
                self.note_deadline(run, no, budget, now);
            }
            self.start(start);
        }
        for run in &round.ended {
            if !self.book.lingering.contains_key(run) {
                self.parked_unsent.remove(run);
            }
        }
        for run in &round.revived {
            // It was let go on just now: its input has one more try, whatever the count.
            if let Some(event) = self.first_received(*run) {
                self.survived.insert(event);
            }
        }
        self.resend_tasks_of(round.revived);
        for (token, runs) in round.taken {
            let since = self.deliveries.get(&token).map_or(now, |kept| kept.since);
            let mut runs = runs;
            runs.sort_unstable();
            runs.dedup();
            // All that stands is confirmed before the ack, also where the input was known or changed nothing: a
            // dead letter, or the wake-up that took the place of this one, may be on its way.
            self.first_held = self.first_held.min(frame);
            self.holds.push(Hold { token, frame, runs, since });
        }
        self.settle_holds(now);
    }

    pub(super) fn send(&mut self, frame: u64, outgoing: Outgoing) {
        let id = SendId(self.fresh_id());
        let (mut task, mut wake) = (None, None);
        match &outgoing {
            Outgoing::Task(sent) => {
                self.tasks_in_flight.insert(sent.id);
                task = Some((sent.id, sent.queue.clone()));
            }
            Outgoing::Wake(sent) => {
                self.wakes_in_flight.insert(sent.number);
                wake = Some(sent.number);
            }
            Outgoing::DeadEvent(_) => {}
        }
        self.unsent.add(frame);
        self.sends.insert(id, InFlight { frame, task, wake });
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
                wants_cover: false,
            });
        }
    }

    /// Whether a hold has local work that was not yet asked to be covered.
    pub(super) fn wants_cover(&self, hold: &Hold) -> bool {
        hold.runs.iter().any(|run| holds::of_run(&self.locals, *run).any(|(_, local)| !local.wants_cover))
    }

    /// Ends holds that are over, and frees their messages.
    pub(super) fn settle_holds(&mut self, now: Timestamp) {
        if self.holds.is_empty() || matches!(self.phase, Phase::Cold) {
            return;
        }
        let below = self.unsent.below(u64::MAX);
        if below <= self.first_held {
            // A thousand sends of one frame are confirmed one by one; only the last of them can end a hold.
            return;
        }
        let covered = self.holds.iter().any(|hold| !hold.runs.is_empty()) && self.is_covered(now);
        let mut over = Vec::new();
        let (book, locals) = (&self.book, &self.locals);
        self.holds.retain_mut(|hold| {
            let is_over = hold.is_over(below, locals, covered, |run| last_frame(book, run));
            if is_over {
                over.push(hold.token);
            }
            !is_over
        });
        self.first_held = self.holds.iter().map(|hold| hold.frame).min().unwrap_or(u64::MAX);
        for token in over {
            self.deliveries.remove(&token);
            self.effects.push_back(Effect::Ack { token });
        }
    }

    /// Whether a confirmed wake-up stands for everything that asked for cover.
    pub(super) fn is_covered(&self, now: Timestamp) -> bool {
        let standing = matches!(self.phase, Phase::Ready);
        let confirmed = self.book.wake.is_some_and(|wake| !self.wakes_in_flight.contains(&wake.number));
        let confirmed = confirmed || mutation::is(Mutation::CoversUnconfirmed);
        let need = wake::need(&self.book, &self.locals, self.has_to_carry(), now.max(self.book.at));
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
        for hold in &self.holds {
            if hold.since.0 + HOLD_MS_MAX > now.0 {
                continue;
            }
            for run in &hold.runs {
                for (_, local) in self.locals.range_mut((*run, 0)..=(*run, u32::MAX)) {
                    asked |= !std::mem::replace(&mut local.wants_cover, true);
                }
            }
        }
        asked
    }
}

fn last_frame(book: &Book, run: RunId) -> u64 {
    match (book.runs.get(&run), book.closed.get(&run)) {
        (Some(run), _) => run.last_frame,
        (None, Some(closed)) => closed.frame,
        (None, None) => 0,
    }
}
