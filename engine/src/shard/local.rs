//! Local work that is open in history and that nobody is known to do: when it is started, and by when it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use everpulse_protocol::{RunId, Timestamp};
use everpulse_sdk::replay::{Command, StepOptions};

use super::Shard;
use crate::effect::{Effect, Outgoing};
use crate::holds::Local;
use crate::mutation::{self, Mutation};
use crate::replay;
use crate::round::{Round, StartLocal, task};

/// The deadline of local work whose options are not known.
pub(super) const LOCAL_DEADLINE: Duration = Duration::from_secs(60);
/// Local work is looked after at the latest after this, however patient its options are.
const LOCAL_DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// Added to a deadline, so that the worker that runs it is not overtaken.
const GRACE: Duration = Duration::from_secs(1);

impl Shard {
    /// Lists local work that history knows; what does not run here waits for its deadline or its input.
    pub(super) fn find_unseen(&mut self) {
        self.cancel_unwanted();
        let runs: Vec<RunId> = self
            .book
            .runs
            .values()
            .filter(|run| run.pending.values().any(|pending| pending.is_open_locally()))
            .map(|run| run.run_id)
            .collect();
        for run_id in runs {
            let Some(run) = self.book.runs.get(&run_id) else { continue };
            let open = replay::replay(run, &self.registry).map(|replayed| replayed.open).unwrap_or_default();
            for (no, pending) in run.pending.iter().filter(|(_, pending)| pending.is_open_locally()) {
                let budget = match open.get(no) {
                    Some(Command::Step { options, .. }) => step_budget(options),
                    Some(Command::Activity { options, .. }) => Duration::from_millis(options.start_to_close_ms),
                    _ => LOCAL_DEADLINE,
                };
                let seen = self.running.contains(&(run_id, *no));
                // What a frame of our own asked for, whose fate was open then, is done here or nowhere.
                let deadline = match !seen && self.own_frames.contains(&pending.frame) {
                    true => pending.scheduled_at,
                    false => pending.scheduled_at.after(budget.min(LOCAL_DEADLINE_MAX) + GRACE),
                };
                // Its input may be acked, and no hold waits for anything yet.
                self.locals.insert((run_id, *no), Local { deadline, wants_cover: true });
            }
        }
    }

    /// Forgets which frames are our own, of those before a frame that ask for nothing any more that is done here.
    pub(super) fn forget_own_frames(&mut self, before: u64) {
        let local = self.book.runs.values().flat_map(|run| run.pending.values()).filter(|pending| pending.is_local());
        let oldest = local.map(|pending| pending.frame).min().unwrap_or(before);
        self.own_frames = self.own_frames.split_off(&oldest.min(before));
    }

    /// Stops local work whose run or step came to its end elsewhere.
    pub(super) fn cancel_unwanted(&mut self) {
        let awaited = |run: RunId, step: u32| {
            self.book
                .runs
                .get(&run)
                .is_some_and(|run| run.pending.get(&step).is_some_and(|pending| pending.is_open_locally()))
        };
        let unwanted: Vec<(RunId, u32)> =
            self.running.iter().filter(|(run, step)| !awaited(*run, *step)).copied().collect();
        for (run, step) in unwanted {
            self.end_local(run, step);
            self.effects.push_back(Effect::CancelLocal { run, step });
        }
    }

    /// Nobody does this any more.
    pub(super) fn end_local(&mut self, run: RunId, step: u32) {
        self.running.remove(&(run, step));
        self.handed.remove(&(run, step));
    }

    /// Runs with local work that nobody is known to do: past its deadline, or because its input came again.
    pub(super) fn unseen(&self, round: &Round, at: Timestamp) -> Vec<RunId> {
        if mutation::is(Mutation::IgnoresUnseen) {
            return Vec::new();
        }
        let orphaned: BTreeSet<RunId> = round.orphaned.iter().copied().collect();
        let runs: BTreeSet<RunId> = self
            .locals
            .iter()
            .filter(|(key, local)| (local.deadline <= at || orphaned.contains(&key.0)) && !self.running.contains(key))
            .map(|((run, _), _)| *run)
            .collect();
        runs.into_iter().collect()
    }

    /// Starts what a run's standing history asks for and nobody is known to do.
    pub(super) fn start_local_work_of(&mut self, run_id: RunId, now: Timestamp) {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return };
        let Ok(replayed) = replay::replay(run, &self.registry) else {
            self.look_later(run_id, now);
            return;
        };
        let mut starts = Vec::new();
        for (no, command) in replayed.open {
            let Some(pending) = run.pending.get(&no).filter(|pending| pending.is_open_locally()) else { continue };
            if self.running.contains(&(run_id, no)) {
                continue;
            }
            match command {
                Command::Step { no, name, options, body } => {
                    starts.push(StartLocal::Step { run: run_id, no, name, options, body });
                }
                Command::Activity { no, name, queue, args, options, headers } => {
                    let task = task(
                        self.shard,
                        (&run.workflow_id, run_id),
                        no,
                        name,
                        queue,
                        (args, headers),
                        options,
                        pending.scheduled_at,
                    );
                    starts.push(StartLocal::Eager(task));
                }
                _ => {}
            }
        }
        run.live = Some(replayed.live);
        self.book.touch(run_id, self.chain.next_number());
        for start in starts {
            match start {
                StartLocal::Eager(task) if !self.eager.serves(&task) => {
                    // Nobody here can do it: its queue's workers can. The first result of the two wins.
                    self.running.insert((run_id, task.step));
                    self.handed.insert((run_id, task.step));
                    let frame = self.chain.next_number().saturating_sub(1);
                    self.send(frame, Outgoing::Task(task));
                }
                start => self.start(start),
            }
        }
        self.look_later(run_id, now);
    }

    /// Local work that cannot be started now is looked at again after a while.
    pub(super) fn look_later(&mut self, run_id: RunId, now: Timestamp) {
        for (key, local) in self.locals.range_mut((run_id, 0)..=(run_id, u32::MAX)) {
            if !self.running.contains(key) {
                local.deadline = now.after(LOCAL_DEADLINE);
                local.wants_cover = true;
            }
        }
    }

    /// Notes by when local work is over that is started now, and who looks after it if this worker dies: whoever gets an
    /// input that is held for its run, or else somebody who is woken.
    pub(super) fn note_deadline(&mut self, start: &StartLocal, now: Timestamp) {
        let (run, no) = start.key();
        if self.is_pending(run, no) {
            let deadline = now.after(budget(start).min(LOCAL_DEADLINE_MAX) + GRACE);
            let wants_cover = !self.holds.wait_for(run) && !mutation::is(Mutation::BeginsUncovered);
            self.locals.insert((run, no), Local { deadline, wants_cover });
        }
    }

    /// When somebody has to come for local work that a round begins and that no input is held for: what a timer began, or
    /// the end of work whose own input is acked. It goes into the round's own frame.
    ///
    /// In a round that serves the wake-up that is all that it begins: an input that is held here may be acked by another
    /// worker, who knows it and not this round, and until now the wake-up stood in for that.
    pub(super) fn begins_uncovered(&self, round: &Round, at: Timestamp) -> Option<Timestamp> {
        let is_held = |run| !round.wake_served && self.holds.wait_for(run);
        let mut starts = round.starts.iter().filter(|start| !is_held(start.key().0)).peekable();
        starts.peek().filter(|_| !mutation::is(Mutation::BeginsUncovered))?;
        let taken = round.taken.iter().filter(|_| !round.wake_served);
        let held: BTreeSet<RunId> = taken.flat_map(|(_, runs)| runs).copied().collect();
        let uncovered = starts.filter(|start| {
            let (run, no) = start.key();
            !held.contains(&run) && self.is_pending(run, no)
        });
        // It begins when the frame stands, a little later than now: the wake-up is not to come before its deadline.
        uncovered.map(|start| at.after(budget(start).min(LOCAL_DEADLINE_MAX) + 2 * GRACE)).min()
    }
}

/// How long local work may take.
fn budget(start: &StartLocal) -> Duration {
    match start {
        StartLocal::Step { options, .. } => step_budget(options),
        StartLocal::Eager(task) => Duration::from_millis(task.options.start_to_close_ms),
    }
}

/// Of so many attempts the time is summed up; the others take about as long as the last of them.
const ATTEMPTS_SUMMED: u32 = 64;

/// About how long a step may take with all its attempts: when somebody looks whether its worker still lives.
fn step_budget(options: &StepOptions) -> Duration {
    let attempts = options.retry.max_attempts.unwrap_or(u32::MAX);
    let delay = |attempt| Duration::from_millis(options.retry.delay_ms(attempt));
    let mut budget = options.timeout;
    for attempt in 1..attempts.min(ATTEMPTS_SUMMED) {
        budget = budget.saturating_add(delay(attempt)).saturating_add(options.timeout);
    }
    if attempts > ATTEMPTS_SUMMED {
        let each = options.timeout.saturating_add(delay(ATTEMPTS_SUMMED));
        budget = budget.saturating_add(each.saturating_mul(attempts - ATTEMPTS_SUMMED));
    }
    budget.min(LOCAL_DEADLINE_MAX)
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::task::RetryPolicy;

    use super::*;

    #[test]
    fn no_time_out_and_no_policy_make_a_budget_that_cannot_be_told() {
        let budget = |timeout, initial_ms, max_attempts| {
            let retry = RetryPolicy { initial_ms, max_ms: initial_ms, max_attempts, ..RetryPolicy::default() };
            step_budget(&StepOptions { timeout, retry })
        };
        assert_eq!(budget(Duration::from_secs(2), 500, Some(3)), Duration::from_secs(7));
        assert_eq!(budget(Duration::from_millis(1), 0, Some(1_000)), Duration::from_secs(1));
        assert_eq!(budget(Duration::MAX, 500, None), LOCAL_DEADLINE_MAX);
        assert_eq!(budget(Duration::ZERO, 0, None), Duration::ZERO);
    }
}
