//! Tasks and their settlement: first what brings the work on, then what the run is told, and the ack of the task's frame
//! when all that is confirmed. The verdicts and events are those of `everpulse-worker`.

use bytes::Bytes;
use everpulse_broker::semantics::Kind;
use everpulse_engine::LocalResult;
use everpulse_engine::attempt::{AttemptId, End, Sight, Verdict, attempt_failed, judge, left, settled};
use everpulse_protocol::event::{Event, NextAttempt, Outcome};
use everpulse_protocol::priority::{Lane, Opened};
use everpulse_protocol::task::{Control, Task, TaskFrame};
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{Failure, FailureKind, Position, decode, topic};

use super::attempt::Attempt;
use super::{Purpose, Worker};
use crate::lanes::Part;
use crate::party::Ctx;
use crate::wire;

/// An attempt that ended, of which something is still to be confirmed, and what follows then.
#[derive(Debug)]
pub(super) struct Settling {
    task: Task,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// It is settled.
    Done,
    Tell(Box<Event>),
    /// An eager attempt: its shard is told.
    Local(Box<LocalResult>),
}

impl Worker {
    pub(super) fn take_tasks(&mut self, consumer: u64, position: Position, payload: &Bytes, ctx: &mut Ctx<'_>) {
        let Ok(TaskFrame { tasks }) = decode::<TaskFrame>(payload) else {
            return ctx.violations.push(format!("{position} of the queue cannot be read"));
        };
        let frame = self.fresh();
        self.frames.insert(frame, (consumer, position, tasks.len()));
        for task in tasks {
            match self.seen.begin(AttemptId::of(&task), frame) {
                Sight::New => {
                    let number = self.fresh();
                    self.attempts.insert(number, Attempt::of(Box::new(task), false));
                    self.enqueue(number);
                }
                Sight::Running => ctx.counts.tasks_known += 1,
                Sight::Settled(frame) => {
                    ctx.counts.tasks_known += 1;
                    self.task_settled(frame, ctx);
                }
            }
        }
        self.fill_slots(ctx);
    }

    fn task_settled(&mut self, frame: u64, ctx: &mut Ctx<'_>) {
        let Some((consumer, position, open)) = self.frames.get_mut(&frame) else { return };
        *open -= 1;
        if *open == 0 {
            let (consumer, position) = (*consumer, *position);
            self.frames.remove(&frame);
            self.outbox.link.ack(consumer, position, ctx);
        }
    }

    /// A lane is in use: its tasks are taken from now on.
    pub(super) fn hear_of_lane(&mut self, payload: &Bytes, ctx: &mut Ctx<'_>) {
        let Some(lane) = decode::<Opened>(payload).ok().and_then(|opened| opened.lane.parse::<Lane>().ok()) else {
            return ctx.violations.push("the name of a lane cannot be read".to_owned());
        };
        let part = Part::of(&lane);
        self.outbox.in_use(part, ctx);
        if self.leaving.is_none() && !self.queue.values().any(|open| *open == part) {
            ctx.counts.lanes += 1;
            let topic = wire::lane(&lane);
            let consumer = self.outbox.link.subscribe(&topic, topic::WORKERS, Kind::Shared, true, 8, ctx);
            self.queue.insert(consumer, part);
        }
    }

    /// An attempt waits for a slot: behind those that are as urgent, and before all others.
    fn enqueue(&mut self, number: u64) {
        let level = |number: &u64| self.attempts.get(number).map_or(0, Attempt::level);
        let own = level(&number);
        let place = self.queued.iter().position(|other| level(other) > own).unwrap_or(self.queued.len());
        self.queued.insert(place, number);
    }

    pub(super) fn hear_control(&mut self, payload: &Bytes) {
        if let Ok(control) = decode::<Control>(payload) {
            self.cancelled.extend(control.cancelled);
        }
    }

    /// Sends what follows from the end of an attempt.
    pub(super) fn settle(&mut self, number: u64, task: Task, eager: bool, end: End, ctx: &mut Ctx<'_>) {
        let Some(verdict) = judge(&task, end, ctx.now) else {
            if eager {
                let failure = Failure::new(FailureKind::Cancelled, "nobody waits for it any more");
                let result = LocalResult::Settled { attempt: task.attempt, outcome: Outcome::Failed(failure) };
                return self.finish_eager(&task, result, ctx);
            }
            return self.finish(&task, ctx);
        };
        self.carry_out_verdict(number, task, eager, verdict, ctx);
    }

    pub(super) fn carry_out_verdict(
        &mut self,
        number: u64,
        task: Task,
        eager: bool,
        verdict: Verdict,
        ctx: &mut Ctx<'_>,
    ) {
        let told = Purpose::Settled(number);
        let then = match verdict {
            Verdict::Settled { attempt, outcome } if eager => {
                return self.finish_eager(&task, LocalResult::Settled { attempt, outcome }, ctx);
            }
            Verdict::Settled { attempt, outcome } => {
                self.outbox.event(settled(&task, attempt, outcome, ctx.now), told, ctx);
                Then::Done
            }
            Verdict::Left { task, until } if eager => {
                return self.finish_eager(&task.clone(), LocalResult::Left { task, until }, ctx);
            }
            Verdict::Left { task, until } => {
                self.outbox.event(left(task, until, ctx.now), told, ctx);
                Then::Done
            }
            Verdict::Retry { attempt, failure, next, at } => {
                ctx.counts.retries += 1;
                self.outbox.timer(&TimerMessage::Retry { due: at, task: next }, told, ctx);
                // An owner that keeps the attempt keeps it no more when it is told.
                if eager {
                    Then::Local(Box::new(LocalResult::Retry { attempt, failure, at }))
                } else {
                    Then::Tell(Box::new(attempt_failed(&task, attempt, failure, NextAttempt::At(at), ctx.now)))
                }
            }
            Verdict::Exhausted { attempt, failure, letter, topic, parked } => {
                self.outbox.dead_letter(&topic, &letter, told, ctx);
                match (eager, parked) {
                    (true, true) => Then::Local(Box::new(LocalResult::Parked { attempt, failure })),
                    (true, false) => {
                        Then::Local(Box::new(LocalResult::Settled { attempt, outcome: Outcome::Failed(failure) }))
                    }
                    (false, true) => {
                        Then::Tell(Box::new(attempt_failed(&task, attempt, failure, NextAttempt::Redrive, ctx.now)))
                    }
                    (false, false) => Then::Tell(Box::new(settled(&task, attempt, Outcome::Failed(failure), ctx.now))),
                }
            }
        };
        self.settling.insert(number, Settling { task, then });
    }

    /// A part of a settlement is confirmed.
    pub(super) fn settled(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let Some(settling) = self.settling.remove(&number) else { return };
        match settling.then {
            Then::Done => self.finish(&settling.task, ctx),
            Then::Local(result) => self.finish_eager(&settling.task, *result, ctx),
            Then::Tell(event) => {
                self.settling.insert(number, Settling { then: Then::Done, task: settling.task });
                self.outbox.event(*event, Purpose::Settled(number), ctx);
            }
        }
    }

    pub(super) fn finish(&mut self, task: &Task, ctx: &mut Ctx<'_>) {
        for frame in self.seen.finish(AttemptId::of(task)) {
            self.task_settled(frame, ctx);
        }
    }

    fn finish_eager(&mut self, task: &Task, result: LocalResult, ctx: &mut Ctx<'_>) {
        let (run, step) = (task.run_id, task.step);
        self.local.remove(&(run, step));
        self.with(task.shard, |shard, now| shard.handle_local(run, step, result, now), ctx);
    }
}
