//! Tasks of frames that stand and that nobody is known to have sent: they are looked for in their queues' topics, and sent
//! if they are not there.
//!
//! ```text
//!   loaded ──► look ──► it is there: confirmed
//!                └────► it is not ──► a frame of ours asks for it ──────────────────────► sent
//!                           └──────► another's does ──► a second after loading: look ──► there: confirmed
//!                                                                                └─────► not: sent
//! ```
//!
//! Whoever wrote a frame sends what it asks for when it knows that it stands. It may be dead; but it may as well be a
//! worker that leaves, or that does not know yet that it has lost the shard. So its tasks are given a second to arrive:
//! an activity whose task is sent twice may run twice. A writer that is slower than that is like one that has lost its
//! connection. What a frame of ours asks for, whose fate was open, or behind which another one wrote, is sent by nobody
//! else for so long; it is not waited for.
//!
//! All frames that ask for what is looked for count as unsent, so no input that came since is acked, and no mark passes
//! them. What is looked for stands, and is looked for and sent also when what was loaded is thrown away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use everpulse_protocol::event::Event;
use everpulse_protocol::history::CommandKind;
use everpulse_protocol::priority::Lane;
use everpulse_protocol::task::Task;
use everpulse_protocol::{EventId, Position, RunId, Timestamp};
use everpulse_sdk::replay::Command;

use super::{Phase, Shard};
use crate::Set;
use crate::attempt::AttemptId;
use crate::effect::{Effect, Outgoing};
use crate::mutation::{self, Mutation};
use crate::replay;
use crate::round::task;
use crate::run::{Pending, Run};

/// Others may still be sending what their frames ask for, for so long after those were loaded.
const STILL_SENDING: Duration = Duration::from_secs(1);

/// A task that may not be sent.
#[derive(Debug)]
struct Doubtful {
    /// The frame that asks for it, or the first of those that may have given it back.
    frame: u64,
    task: Box<Task>,
    /// Nobody but this writer is sending it.
    own: bool,
}

/// Tasks of one lane of a queue that are looked for in its topic.
#[derive(Debug)]
struct Look {
    queue: String,
    /// What lies up to here is marked as sent.
    after: Option<Position>,
    tasks: Vec<Doubtful>,
    /// Nobody else is sending them from then on.
    last_at: Timestamp,
    /// It was begun after that.
    is_last: bool,
}

/// The search for tasks.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Looks that are under way, by the number of their effect.
    looks: BTreeMap<u64, Look>,
    /// What was not found, and is looked for once more.
    again: Vec<Look>,
    /// Whoever wrote what was loaded is not sending it any more from then on.
    last_at: Timestamp,
}

impl Search {
    pub fn is_over(&self) -> bool {
        self.looks.is_empty() && self.again.is_empty()
    }

    /// When it has to go on.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.again.iter().map(|look| look.last_at).min()
    }
}

impl Shard {
    /// Sends the tasks that no mark calls sent, unless they are found in their queue. All was loaded just now.
    pub(super) fn resend_tasks(&mut self, now: Timestamp) {
        self.search.last_at = now.after(STILL_SENDING);
        let runs: BTreeSet<RunId> = self.book.unmarked.iter().map(|(_, run)| *run).collect();
        self.resend_tasks_of(runs, now);
    }

    /// The same for some runs. A queue's topic is read once for all of them.
    pub(super) fn resend_tasks_of(&mut self, runs: impl IntoIterator<Item = RunId>, now: Timestamp) {
        let mut by_queue: BTreeMap<String, Vec<Doubtful>> = BTreeMap::new();
        for run in runs.into_iter().collect::<BTreeSet<RunId>>() {
            self.tell_again(run);
            for Doubtful { frame, task, own } in self.doubtful_tasks_of(run).into_iter().chain(self.returned_of(run)) {
                let lane =
                    if mutation::is(Mutation::LooksInTheQueue) { Lane::of_queue(&task.queue) } else { task.lane() };
                by_queue.entry(lane.to_string()).or_default().push(Doubtful { frame, task, own });
            }
        }
        let last_at = self.search.last_at;
        for (queue, tasks) in by_queue {
            for Doubtful { frame, task, .. } in &tasks {
                self.unsent.add(*frame);
                self.tasks_in_flight.insert(AttemptId::of(task));
            }
            let after = self.book.queues.get(&queue).copied();
            let is_last = last_at <= now || mutation::is(Mutation::TakesForDead);
            self.look(Look { queue, after, tasks, last_at, is_last });
        }
    }

    /// Tasks that go back to their queues to be judged, and may not be sent. What comes twice would be judged twice, and
    /// the next attempt made twice.
    ///
    /// The frame that gave one back is not known of a run that was carried, or comes from a cache: all that is known is
    /// that no mark has passed it. So no mark passes the first of the frames that may be it.
    fn returned_of(&self, run_id: RunId) -> Vec<Doubtful> {
        let floor = self.floor();
        let Some(run) = self.book.runs.get(&run_id) else { return Vec::new() };
        let open = run.pending.values().filter(|pending| !pending.answered);
        let ended = open.filter_map(|pending| Some((pending.left.as_ref()?.frame?, pending)));
        let is_forgotten = mutation::is(Mutation::ForgetsReturned);
        let doubtful = ended.filter(|(frame, _)| *frame >= floor && !is_forgotten);
        let tasks = doubtful.filter_map(|(frame, pending)| Some((frame, pending.returned()?)));
        tasks
            .filter(|(_, task)| !self.tasks_in_flight.contains(&AttemptId::of(task)))
            .map(|(frame, task)| Doubtful { frame: floor, task, own: self.own_frames.contains(&frame) })
            .collect()
    }

    /// What a run tells others, and may not be sent, as far as that needs no code of the run. Nobody looks for it: whoever
    /// gets it twice knows it. Nor does any mark pass the first frame that may have asked for it, as for tasks that went back.
    fn tell_again(&mut self, run_id: RunId) {
        let floor = self.floor();
        let untold = self.book.open_or_lingering(run_id).map(|run| run.untold(floor)).unwrap_or_default();
        for event in untold {
            self.tell(floor, Box::new(event));
        }
    }

    fn tell(&mut self, frame: u64, mut event: Box<Event>) {
        event.again = true;
        if !self.told_in_flight.contains(&event.id) {
            self.send(frame, Outgoing::Event(event));
        }
    }

    /// The first frame with something that a run asked for, that may not be sent, and that only its code can tell.
    pub(super) fn first_doubtful(&self, run_id: RunId) -> Option<u64> {
        let floor = self.floor();
        let run = self.book.open_or_lingering(run_id)?;
        run.pending.values().filter(|pending| is_doubtful(run, pending, floor)).map(|pending| pending.frame).min()
    }

    fn look(&mut self, look: Look) {
        let id = self.fresh_id();
        let tasks = look.tasks.iter().map(|doubtful| AttemptId::of(&doubtful.task)).collect();
        self.effects.push_back(Effect::FindTasks { id, queue: look.queue.clone(), after: look.after, tasks });
        self.search.looks.insert(id, look);
    }

    /// Looks once more for what others had time to send.
    pub(super) fn look_again(&mut self, now: Timestamp) {
        for mut look in std::mem::take(&mut self.search.again) {
            // It takes no longer because the clock was set back.
            look.last_at = look.last_at.min(now.after(STILL_SENDING));
            if look.last_at <= now {
                self.look(Look { is_last: true, ..look });
            } else {
                self.search.again.push(look);
            }
        }
    }

    /// The answer to [`Effect::FindTasks`]: which of the tasks are in their queue's topic.
    pub fn handle_found(&mut self, id: u64, found: &[EventId], now: Timestamp) {
        let found: Set<EventId> = found.iter().copied().collect();
        if let Some(Look { tasks, is_last, queue, after, last_at }) = self.search.looks.remove(&id) {
            let mut rest = Vec::new();
            for doubtful in tasks {
                if !found.contains(&doubtful.task.id) && !is_last && !doubtful.own {
                    rest.push(doubtful);
                    continue;
                }
                let Doubtful { frame, task, .. } = doubtful;
                if found.contains(&task.id) || !self.is_wanted(&task) {
                    self.tasks_in_flight.remove(&AttemptId::of(&task));
                } else {
                    self.send(frame, Outgoing::Task(task));
                }
                self.unsent.confirm(frame);
            }
            if !rest.is_empty() {
                self.search.again.push(Look { queue, after, tasks: rest, last_at, is_last });
            }
        }
        self.settle_holds(now);
        self.advance(now);
    }

    /// Whether its run may still wait for a task: it may have ended, or have cancelled it.
    fn is_wanted(&self, task: &Task) -> bool {
        if !matches!(self.phase, Phase::Ready) {
            // What a frame on its way says may come to nothing, and of what is not loaded nothing is known.
            return true;
        }
        match self.book.runs.get(&task.run_id).or_else(|| self.book.lingering.get(&task.run_id)) {
            Some(run) => run.pending.get(&task.step).is_some_and(|pending| {
                let is_same = |returned: Box<Task>| returned.attempt == task.attempt;
                match task.returned.is_some() {
                    true => !pending.answered && pending.returned().is_some_and(is_same),
                    false => is_unsent(pending),
                }
            }),
            None => !self.book.closed.contains_key(&task.run_id),
        }
    }

    /// The tasks of a run that may not be sent, with the frames that asked for them. What it asked of other runs is sent.
    fn doubtful_tasks_of(&mut self, run_id: RunId) -> Vec<Doubtful> {
        let floor = self.floor();
        let first = self.first_doubtful(run_id);
        let Some(run) = self.book.open_or_lingering(run_id) else { return Vec::new() };
        // What cannot be read may have asked for something that was not sent. Nobody here can send it.
        let unknown = run.unknown.as_ref().and_then(|unknown| unknown.first_from(floor));
        let first = first.into_iter().chain(unknown).min();
        let Some(first) = first else {
            self.parked_unsent.remove(&run_id);
            return Vec::new();
        };
        let Ok(replayed) = replay::replay(run, &self.registry) else {
            // Its code is missing or differs; the run is parked when something happens to it, and its tasks are
            // sent when it goes on. Until then no mark may call them sent.
            self.parked_unsent.insert(run_id, first);
            return Vec::new();
        };
        self.parked_unsent.remove(&run_id);
        let (mut tasks, mut told) = (Vec::new(), Vec::new());
        for (no, command) in replayed.open {
            let Some(pending) = run.pending.get(&no).filter(|pending| is_doubtful(run, pending, floor)) else {
                continue;
            };
            let Command::Activity { name, queue, args, options, headers, .. } = command else {
                told.extend(run.told_by(pending, command).map(|event| (pending.frame, event)));
                continue;
            };
            let of = (&run.workflow_id, run_id);
            let headers = headers.filter(|_| !mutation::is(Mutation::ForgetsHeaders));
            let task = task(self.shard, of, no, name, queue, (args, headers), options, pending.scheduled_at);
            if !self.tasks_in_flight.contains(&AttemptId::of(&task)) {
                let frame = pending.frame;
                tasks.push(Doubtful { frame, task, own: self.own_frames.contains(&frame) });
            }
        }
        for (frame, event) in told {
            self.tell(frame, event);
        }
        tasks
    }
}

/// Whether what a run asked for may not be sent, and only its code can tell it.
fn is_doubtful(run: &Run, pending: &Pending, floor: u64) -> bool {
    is_unsent(pending) && pending.frame >= floor || run.is_untold(pending, floor)
}

/// Whether the first task of an activity may be missing from its queue.
fn is_unsent(pending: &Pending) -> bool {
    let was_begun = pending.was_left() || pending.attempt > 1;
    pending.kind == CommandKind::Activity && !pending.eager && !pending.answered && !was_begun
}
