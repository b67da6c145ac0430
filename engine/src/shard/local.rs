//! Local work that is open in history and that nobody is known to do: when it is started, and by when it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use everpulse_protocol::{RunId, Timestamp};
use everpulse_sdk::replay::{Command, StepOptions};

use super::Shard;
use crate::effect::{Effect, Outgoing};
use crate::holds::{self, Local};
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
                // What a frame of our own asked for, whose fate was open then, is done here or nowhere.
                let deadline = match self.own_frames.contains(&pending.frame) {
                    true => pending.scheduled_at,
                    false => pending.scheduled_at.after(budget.min(LOCAL_DEADLINE_MAX) + GRACE),
                };
                let seen = self.running.contains(&(run_id, *no));
                self.locals.insert((run_id, *no), Local { deadline, wants_cover: !seen });
            }
        }
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
                Command::Activity { no, name, queue, args, options } => {
                    let task = task(
                        self.shard,
                        (&run.workflow_id, run_id),
                        no,
                        name,
                        queue,
                        args,
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

    /// Notes by when local work is over that was started just now.
    pub(super) fn note_deadline(&mut self, run: RunId, no: u32, budget: Duration, now: Timestamp) {
        let deadline = now.after(budget.min(LOCAL_DEADLINE_MAX) + GRACE);
        self.locals.entry((run, no)).or_insert(holds::Local { deadline, wants_cover: false }).deadline = deadline;
    }
}

/// How long a step may take with all its attempts.
pub(super) fn step_budget(options: &StepOptions) -> Duration {
    let attempts = options.retry.max_attempts.unwrap_or(u32::MAX);
    let mut budget = Duration::ZERO;
    for attempt in 1..=attempts {
        budget += options.timeout;
        if attempt < attempts {
            budget += Duration::from_millis(options.retry.delay_ms(attempt));
        }
        if budget >= LOCAL_DEADLINE_MAX {
            return LOCAL_DEADLINE_MAX;
        }
    }
    budget
}
