//! Attempts: the author's code runs at one moment of virtual time, some time after it was asked for, and its result is
//! known some time later. A worker that dies between the two has done the work, and nobody knows.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use everpulse_engine::attempt::{End, Next, after, too_late};
use everpulse_engine::{Eager, LocalResult};
use everpulse_protocol::task::{Task, TaskOptions};
use everpulse_protocol::{EventId, Failure, FailureKind, Payload, RunId, Timestamp};
use everpulse_sdk::activity::{self, ActivityContext};
use everpulse_sdk::definition::AttemptError;
use everpulse_sdk::replay::{StepBody, StepOptions};
use futures::FutureExt as _;

use super::Worker;
use super::kept::{Code, Pulse, cut_off, number as details_of, piece};
use crate::dice::Dice;
use crate::ledger::Effect;
use crate::party::Ctx;
use crate::wire::Timer;

/// Attempts at a time.
const SLOTS: usize = 6;

/// Room for attempts, which eager ones share with those from the queue.
#[derive(Debug)]
pub(super) struct Slots {
    eager: bool,
    pub free: Cell<usize>,
    reserved: RefCell<BTreeSet<EventId>>,
}

impl Slots {
    pub fn new(eager: bool) -> Self {
        Self { eager, free: Cell::new(SLOTS), reserved: RefCell::default() }
    }

    pub fn take(&self) -> bool {
        let free = self.free.get();
        self.free.set(free.saturating_sub(1));
        free > 0
    }

    pub fn give_back(&self) {
        self.free.set(self.free.get() + 1);
    }
}

impl Eager for Slots {
    fn reserve(&self, task: &Task) -> bool {
        let there = self.eager && task.options.start_to_close_ms <= 60_000 && self.take();
        if there {
            self.reserved.borrow_mut().insert(task.id);
        }
        there
    }

    fn release(&self, task: EventId) {
        if self.reserved.borrow_mut().remove(&task) {
            self.give_back();
        }
    }

    fn serves(&self, _: &Task) -> bool {
        self.eager
    }
}

#[derive(Debug)]
pub(super) enum What {
    Step { shard: u32, run: RunId, step: u32, options: StepOptions, body: StepBody },
    Activity { task: Box<Task>, eager: bool },
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub what: What,
    /// Of a step.
    attempt: u32,
    pub slot: bool,
    result: Option<Result<Payload, AttemptError>>,
    timed_out: bool,
    /// It is to be completed from outside, until then.
    left: Option<Timestamp>,
    /// It works, and has reported so much.
    pub code: Option<Code>,
}

impl Attempt {
    pub fn of(task: Box<Task>, eager: bool) -> Self {
        Self {
            what: What::Activity { task, eager },
            attempt: 1,
            slot: false,
            result: None,
            timed_out: false,
            left: None,
            code: None,
        }
    }

    /// How urgent it is.
    pub fn level(&self) -> u8 {
        match &self.what {
            What::Activity { task, .. } => task.lane().level,
            What::Step { .. } => 0,
        }
    }
}

/// Most take a moment, a few very long.
fn duration(dice: &mut Dice) -> u64 {
    match dice.below(100) {
        0..90 => dice.within(0, 30),
        90..97 => dice.within(30, 400),
        _ => dice.within(400, 5_000),
    }
}

impl Worker {
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the effect")]
    pub(super) fn start_step(
        &mut self,
        shard: u32,
        run: RunId,
        step: u32,
        _: String,
        options: StepOptions,
        body: StepBody,
        ctx: &mut Ctx<'_>,
    ) {
        let number = self.fresh();
        let what = What::Step { shard, run, step, options, body };
        let attempt = Attempt { what, attempt: 1, slot: false, result: None, timed_out: false, left: None, code: None };
        self.attempts.insert(number, attempt);
        self.local.insert((run, step), number);
        let wait = duration(ctx.dice);
        ctx.remind(wait, Timer::Work(number));
    }

    pub(super) fn start_eager(&mut self, task: Box<Task>, ctx: &mut Ctx<'_>) {
        let number = self.fresh();
        self.local.insert((task.run_id, task.step), number);
        let reserved = self.slots.reserved.borrow_mut().remove(&task.id);
        self.attempts.insert(number, Attempt { slot: reserved, ..Attempt::of(task, true) });
        if reserved {
            self.begin(number, ctx);
        } else {
            self.queued.push_back(number);
            self.fill_slots(ctx);
        }
    }

    pub(super) fn cancel_local(&mut self, run: RunId, step: u32) {
        let Some(number) = self.local.remove(&(run, step)) else { return };
        if self.attempts.remove(&number).is_some_and(|attempt| attempt.slot) {
            self.slots.give_back();
        }
    }

    /// Begins attempts for which there is room.
    pub(super) fn fill_slots(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(number) = self.queued.front().copied() {
            let Some(attempt) = self.attempts.get_mut(&number) else {
                self.queued.pop_front();
                continue;
            };
            if !self.slots.take() {
                return;
            }
            attempt.slot = true;
            self.queued.pop_front();
            self.begin(number, ctx);
        }
    }

    fn begin(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        let What::Activity { task, .. } = &attempt.what else { return };
        if task.returned.is_some() {
            return ctx.remind(0, Timer::End(number));
        }
        if let Some(failure) = too_late(task, ctx.now) {
            ctx.counts.too_late += 1;
            attempt.result = Some(Err(AttemptError { failure, retryable: false }));
            return ctx.remind(0, Timer::End(number));
        }
        if task.options.heartbeat_ms.is_some() {
            let from = details_of(task.heartbeat.as_ref());
            ctx.violations.extend(ctx.ledger.began((task.run_id, task.step, task.attempt), from));
        }
        let TaskOptions { start_to_close_ms, heartbeat_ms, .. } = task.options;
        let limit = heartbeat_ms.unwrap_or(u64::MAX).min(start_to_close_ms);
        let wait = duration(ctx.dice);
        if wait > limit {
            attempt.timed_out = true;
            ctx.remind(limit, Timer::End(number));
        } else {
            ctx.remind(wait, Timer::Work(number));
        }
    }

    /// The author's code runs: that of a step to its end, that of an activity until it waits for something.
    pub(super) fn work(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        let What::Step { run, step, body, .. } = &mut attempt.what else { return self.work_at_activity(number, ctx) };
        let result = catch_unwind(AssertUnwindSafe(|| body.attempt().now_or_never()));
        attempt.result = known(result);
        assert!(attempt.result.is_some(), "the simulation's steps wait for nothing");
        let (workflow_id, run_id, step, attempt) = (String::new(), *run, *step, attempt.attempt);
        ctx.ledger.write(Effect { workflow_id, run_id, step, attempt, local: true, place: ctx.place });
        let wait = duration(ctx.dice);
        ctx.remind(wait, Timer::End(number));
    }

    fn work_at_activity(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        let What::Activity { task, eager } = &attempt.what else { return };
        if self.cancelled.contains(&task.id) {
            return ctx.remind(0, Timer::End(number));
        }
        if attempt.code.is_none() {
            let Some(entry) = self.making.registry.activity(&task.activity) else { return };
            let pulse = Arc::new(Pulse::default());
            let context = ActivityContext::new(task, pulse.clone());
            let future = activity::with(context.clone(), entry.run(task.args.clone())).boxed();
            attempt.code = Some(Code::new(future, (context, pulse), ctx.now));
            let workflow_id = task.workflow_id.to_string();
            let effect = Effect {
                workflow_id,
                run_id: task.run_id,
                step: task.step,
                attempt: task.attempt,
                local: *eager,
                place: ctx.place,
            };
            ctx.ledger.write(effect);
        }
        let Some(code) = &mut attempt.code else { return };
        let before = number_of(code);
        let result = known(catch_unwind(AssertUnwindSafe(|| (&mut code.future).now_or_never())));
        if let Some(details) = number_of(code).filter(|details| Some(*details) != before) {
            ctx.ledger.beat((task.run_id, task.step, task.attempt), details);
        }
        let is_left = code.context.left().now_or_never().is_some();
        match result {
            Some(result) => attempt.result = Some(result),
            None if is_left => attempt.left = Some(Timestamp(ctx.now.0 + task.options.start_to_close_ms)),
            None => {
                let wait = piece(ctx.dice);
                match cut_off(task, code.begun, wait, ctx.now) {
                    Some(wait) => {
                        attempt.timed_out = true;
                        ctx.remind(wait, Timer::End(number));
                    }
                    None => ctx.remind(wait, Timer::Work(number)),
                }
                return self.tell(number, ctx);
            }
        }
        // An activity that goes on beyond its time-out is cut off; this one has begun within it.
        let wait = duration(ctx.dice).min(400);
        ctx.remind(wait, Timer::End(number));
    }

    /// Its result is known.
    pub(super) fn end(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let Some(mut attempt) = self.attempts.remove(&number) else { return };
        if attempt.slot {
            self.slots.give_back();
            self.fill_slots(ctx);
        }
        match attempt.what {
            What::Step { shard, run, step, options, .. } => {
                let Some(result) = attempt.result.take() else { return };
                match after(&options, attempt.attempt, result) {
                    Next::Settled(outcome) => {
                        self.local.remove(&(run, step));
                        let result = LocalResult::Settled { attempt: attempt.attempt, outcome };
                        self.with(shard, |shard, now| shard.handle_local(run, step, result, now), ctx);
                    }
                    Next::Again(wait) => {
                        attempt.attempt += 1;
                        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) + duration(ctx.dice);
                        self.attempts.insert(number, attempt);
                        ctx.remind(wait, Timer::Work(number));
                    }
                }
            }
            What::Activity { task, eager } => {
                let heartbeat = attempt.code.as_ref().and_then(|code| code.pulse.details());
                let end = match (attempt.result, &task.returned, attempt.left) {
                    (_, Some(failure), _) => End::Failed { failure: failure.clone(), retryable: true, heartbeat: None },
                    (_, None, Some(until)) => End::Left { until, heartbeat },
                    _ if attempt.timed_out => {
                        let failure = Failure::new(FailureKind::TimedOut, "the attempt took too long");
                        ctx.counts.silences += u64::from(heartbeat.is_some());
                        End::Failed { failure, retryable: true, heartbeat }
                    }
                    (None, ..) => End::Cancelled,
                    (Some(Ok(value)), ..) => End::Done(value),
                    (Some(Err(AttemptError { failure, retryable })), ..) => {
                        End::Failed { failure, retryable, heartbeat }
                    }
                };
                self.settle(number, *task, eager, end, ctx);
            }
        }
    }
}

type Attempted = Result<Payload, AttemptError>;

/// What the author's code came to, if it waits for nothing; a panic is a failure.
fn known(result: std::thread::Result<Option<Attempted>>) -> Option<Attempted> {
    result.unwrap_or_else(|_| {
        let failure = Failure::new(FailureKind::Panicked, "panicked");
        Some(Err(AttemptError { failure, retryable: true }))
    })
}

fn number_of(code: &Code) -> Option<u64> {
    details_of(code.pulse.details().as_ref())
}
