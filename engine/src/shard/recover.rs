//! Reading a shard's history, and what has to be done once after that: sends that may be missing, inputs on
//! trial, parked runs, local work that nobody is known to do.

use std::collections::BTreeSet;

use bytes::Bytes;
use everpulse_protocol::chain::{Opened, Stood, Unknown};
use everpulse_protocol::history::{CommandKind, CommandMark, RecordBody};
use everpulse_protocol::{EventId, Position, RunId, Timestamp};

use super::{Phase, Shard};
use crate::effect::{Effect, Outgoing};
use crate::mutation::{self, Mutation};
use crate::round::{FRAME_BYTES, Round};
use crate::run::{RUN_TIMER, Run};

/// A history that cannot be read without holes so often is refused.
const HOLES_MAX: u32 = 5;

impl Shard {
    /// Takes a piece of the history.
    pub(super) fn load(&mut self, id: u64, to: Position, entries: Vec<(Position, Bytes)>, done: bool) {
        for (position, payload) in entries {
            if self.opening.read_to().is_some_and(|read_to| position <= read_to) {
                continue;
            }
            self.meet_doubt(position, &payload);
            let opened = self.opening.offer(position, payload);
            if !self.absorb_opened(opened) {
                return;
            }
        }
        if done {
            // Asked for once more: what was read is the present only if nothing was trimmed under us meanwhile.
            let id = self.ask_tail();
            self.phase = Phase::LoadTail { id };
        } else {
            self.phase = Phase::LoadRead { id, to };
        }
    }

    /// Takes frames that stand; false if it has to begin again.
    fn absorb_opened(&mut self, opened: Opened) -> bool {
        match opened {
            Opened::Standing(frames) => {
                for stood in frames {
                    self.absorb(stood);
                }
                true
            }
            Opened::Unknown(unknown) => {
                self.refuse_unknown(&unknown);
                false
            }
            Opened::Hole { number, expected } => {
                self.hole(&format!("goes on with frame {number} where frame {expected} was expected"));
                false
            }
        }
    }

    fn absorb(&mut self, stood: Stood) {
        let Stood { position, bytes, frame, passes_over } = stood;
        if passes_over && !self.book.passes_over {
            tracing::warn!(
                shard = self.shard,
                number = frame.number,
                "history has what only a later release knows; it is neither carried forward nor trimmed here"
            );
        }
        self.book.passes_over |= passes_over;
        self.book.absorb_header(&frame);
        let number = frame.number;
        self.dispel_doubt(position);
        self.carry.note(number, position, frame.at, bytes, self.options.retention_ms);
        let is_work = |mark: &CommandMark| matches!(mark.kind, CommandKind::Step | CommandKind::Activity);
        let is_own = frame.writer == self.writer;
        if is_own && frame.records.iter().flat_map(|r| &r.commands).any(is_work) {
            self.own_frames.insert(number);
        }
        let ended: Vec<RunId> = frame.records.iter().filter(|r| r.close.is_some()).map(|r| r.run_id).collect();
        for record in frame.records {
            let body = record.body().ok();
            match body {
                Some(RecordBody::Received { .. }) if is_own => {
                    self.survived.insert(record.event);
                }
                Some(
                    RecordBody::AttemptReported { .. }
                    | RecordBody::AttemptOverdue { .. }
                    | RecordBody::AttemptLeft { .. },
                ) if is_own => {
                    self.own_frames.insert(number);
                }
                _ => {}
            }
            self.book.absorb(&record, body.as_ref(), number);
        }
        self.book.place(number, position, ended);
        self.book.lay_down(self.options.runs_at_hand_max);
    }

    /// Reads history again, in case it was trimmed while it was read; refuses it if that does not help.
    fn hole(&mut self, what: &str) {
        self.holes += 1;
        tracing::warn!(shard = self.shard, what, "history has a hole; it is read again");
        self.begin_without_cache();
        if self.holes > HOLES_MAX {
            self.refuse(format!(
                "shard {}: history {what}; entries before it were trimmed or lost. Restore the `history` topic, or use \
                 another namespace",
                self.shard
            ));
        } else {
            let id = self.ask_tail();
            self.phase = Phase::LoadTail { id };
        }
    }

    /// Somebody else has the say here: whoever wrote it, and those who can read it.
    pub(super) fn refuse_unknown(&mut self, unknown: &Unknown) {
        self.forget_history();
        self.refuse(format!("shard {}: {unknown}", self.shard));
    }

    fn refuse(&mut self, reason: String) {
        self.effects.push_back(Effect::Refuse { reason });
        self.phase = Phase::Refused;
    }

    /// What is needed of history and is not there: open runs and ids would be gone without a word.
    fn lost(&self) -> Option<String> {
        let needed = self.book.window.first;
        match self.carry.first {
            Some(first) if first > needed => Some(format!("begins with frame {first} where frame {needed} is needed")),
            _ => self.book.incomplete().map(|run| format!("does not have all records of run {run}")),
        }
    }

    /// All of the history is read.
    pub(super) fn loaded(&mut self) {
        let end = self.opening.end();
        if !self.absorb_opened(end) {
            return;
        }
        if self.book.shelved.is_damaged() {
            // No round was begun with it, so nothing but the book is thrown away.
            self.clear_damaged();
            self.phase = Phase::LoadTail { id: self.ask_tail() };
            return;
        }
        if let Some(lost) = self.lost() {
            return self.hole(&lost);
        }
        self.chain = std::mem::take(&mut self.opening).into_chain();
        self.holes = 0;
        if let Some(stored) = self.book.config.as_ref().filter(|_| !mutation::is(Mutation::MismatchAccepted))
            && let Err(mismatch) = self.config.check(stored)
        {
            return self.refuse(mismatch.to_string());
        }
        self.proven_next = self.chain.next_number();
        self.doubts.retain(|doubt| doubt.number >= self.proven_next);
        self.phase = Phase::Ready;
        self.loaded = true;
        // Whoever carried may have been stopped before it trimmed.
        self.trim();
    }

    /// What has to be done once after loading. Its records form rounds of their own: what is taken in for another
    /// try has to stand before it is applied, so that a crash counts.
    pub(super) fn recover(&mut self, round: &mut Round, number: u64, at: Timestamp, now: Timestamp) {
        if std::mem::take(&mut self.loaded) {
            // First what stands already: what is polled below is sent when its own frame stands.
            self.resend_wake();
            self.resend_tasks(now);
            self.find_unseen();
            self.forget_own_frames(self.floor());
            self.begin_due(at);
            self.recovering = self.book.ready.iter().copied().collect();
            self.recovering.extend(self.unknown_and_unsent());
            self.begin_revival(at);
        }
        while round.bytes < FRAME_BYTES
            && let Some(run) = self.recovering.pop_front()
        {
            self.recover_run(run, round, number, at);
        }
    }

    fn recover_run(&mut self, run_id: RunId, round: &mut Round, number: u64, at: Timestamp) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        match (&run.parked, run.received.front()) {
            (None, _) if run.unknown.is_some() => self.applier(round, number, at).park_unknown(run_id),
            (None, Some(received)) => {
                let survived = self.survived.contains(&received.event.id);
                match received.attempt {
                    0 if !survived => self.applier(round, number, at).retry_received(run_id),
                    1 if !survived => self.trials.push_back(run_id),
                    // Of more tries each is alone, see `on_trial`.
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Inputs that were tried before are tried one by one, and each try is counted just before: what else was on trial
    /// when a worker went down is not to blame. True if the round is for one of them.
    pub(super) fn try_alone(&mut self, round: &mut Round, number: u64, at: Timestamp) -> bool {
        let Some(run) = self.on_trial() else { return false };
        let Some(event) = self.first_received(run) else { return false };
        if !self.survived.insert(event) || mutation::is(Mutation::TriesUncounted) {
            self.trials.retain(|trial| *trial != run);
            self.applier(round, number, at).apply_received(run, true);
        } else {
            self.applier(round, number, at).retry_received(run);
        }
        true
    }

    /// The input that a run takes up first when it can go on.
    pub(super) fn first_received(&self, run: RunId) -> Option<EventId> {
        self.book.runs.get(&run)?.received.front().map(|received| received.event.id)
    }

    fn on_trial(&mut self) -> Option<RunId> {
        while let Some(run) = self.trials.front() {
            if self.book.ready.contains(run) {
                return Some(*run);
            }
            self.trials.pop_front();
        }
        let attempt = |run: &RunId| self.book.runs.get(run)?.received.front().map(|received| received.attempt);
        self.book.ready.iter().find(|run| attempt(run).is_some_and(|attempt| attempt >= 2)).copied()
    }

    /// Lets runs begin whose start was taken in for a time that has come.
    fn begin_due(&mut self, at: Timestamp) {
        let due: Vec<RunId> = self
            .book
            .timers
            .iter()
            .take_while(|(due, ..)| *due <= at)
            .filter(|(_, run, no)| *no == RUN_TIMER && self.can_fire(*run, *no))
            .map(|(_, run, _)| *run)
            .filter(|run| self.book.runs.get(run).is_some_and(|run| run.started.is_none()))
            .collect();
        for run in due {
            self.book.begin_later(run);
        }
    }

    /// Open runs of which something may be missing that this release cannot send. They stand still from now on, whether something
    /// comes for them or not: so that they can be seen to, and somebody is woken who may know them.
    fn unknown_and_unsent(&self) -> BTreeSet<RunId> {
        let floor = self.floor();
        let may_be_unsent = |run: &Run| {
            run.parked.is_none() && run.unknown.as_ref().is_some_and(|unknown| unknown.first_from(floor).is_some())
        };
        let unsent =
            self.book.runs.iter().filter(|(run_id, run)| may_be_unsent(run) && !self.book.ready.contains(run_id));
        unsent.map(|(run_id, _)| *run_id).collect()
    }

    pub(super) fn floor(&self) -> u64 {
        self.book.sent_below.max(self.sent_floor)
    }

    fn resend_wake(&mut self) {
        if let Some(wake) = self.book.wake
            && wake.number >= self.floor()
            && !self.wakes_in_flight.contains(&wake.number)
        {
            self.send(wake.number, Outgoing::Wake(wake));
        }
    }

    /// The frame below which all is known to be sent; `next` if nothing is on its way.
    pub(super) fn sent_below(&self, next: u64) -> u64 {
        self.unsent.below(next).min(self.parked_unsent())
    }

    /// The lowest frame with tasks of a run that cannot be replayed now.
    fn parked_unsent(&self) -> u64 {
        self.parked_unsent.values().copied().min().unwrap_or(u64::MAX)
    }
}
