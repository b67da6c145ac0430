//! Attempts at activities and steps: taken up, done by the author's code or a mock of it, and settled by the worker's own
//! rules. What the code takes is virtual time that the test says; a time-out is one when that is longer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpulse_engine::attempt::{self, End, Next, Verdict};
use everpulse_engine::{Eager, LocalResult};
use everpulse_protocol::event::{NextAttempt, Outcome};
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{EventId, Failure, FailureKind, Payload, RunId, Timestamp};
use everpulse_sdk::activity::{self, ActivityContext, Heartbeats};
use everpulse_sdk::definition::{ActivityEntry, AttemptError};
use everpulse_sdk::intercept::Interceptors;
use everpulse_sdk::replay::{StepBody, StepOptions};
use futures::future::BoxFuture;

use super::owners::Answer;
use super::{Acted, World};
use crate::environment::Execution;
use crate::storm::Fault;
use crate::stubs::{Attempted, BlockOn, MockedActivity, MockedStep};

/// Activities with a longer time-out go through their queue, as on a worker.
const EAGER_MS_MAX: u64 = 60_000;
/// A task that was tried so often without an end never ends.
const ATTEMPTS_MAX: u32 = 1_000;

/// Whether owners run activities themselves.
pub(super) struct Offers(pub bool);

impl Eager for Offers {
    fn reserve(&self, task: &Task) -> bool {
        self.0 && task.options.start_to_close_ms <= EAGER_MS_MAX
    }
    fn release(&self, _: EventId) {}
    fn serves(&self, _: &Task) -> bool {
        self.0
    }
}

pub(super) enum Work {
    Step {
        run: RunId,
        step: u32,
        name: String,
        options: StepOptions,
        body: StepBody,
        attempt: u32,
    },
    Task {
        task: Box<Task>,
        /// Its place in the queue; none: its owner does it.
        place: Option<usize>,
    },
}

enum State {
    /// To be begun.
    New,
    Done(Box<(Attempted, Option<Payload>)>),
}

pub(super) struct Attempt {
    /// Whose local work it is.
    pub owner: Option<usize>,
    /// When it goes on.
    pub at: Timestamp,
    work: Option<Work>,
    key: (RunId, u32),
    state: State,
}

impl Attempt {
    pub fn new(owner: Option<usize>, work: Work, at: Timestamp) -> Self {
        let key = match &work {
            Work::Step { run, step, .. } => (*run, *step),
            Work::Task { task, .. } => (task.run_id, task.step),
        };
        Self { owner, at, work: Some(work), key, state: State::New }
    }

    pub fn key(&self) -> (RunId, u32) {
        self.key
    }

    pub fn task(&self) -> Option<&Task> {
        match &self.work {
            Some(Work::Task { task, .. }) => Some(task),
            Some(Work::Step { .. }) | None => None,
        }
    }
}

/// The author's code, to be run outside of the world.
pub(crate) struct Job {
    number: u64,
    what: What,
    block_on: BlockOn,
}

enum What {
    Step {
        name: String,
        body: Box<Work>,
        mocked: Option<MockedStep>,
    },
    Mocked {
        args: Payload,
        context: ActivityContext,
        pulse: Arc<Pulse>,
        mocked: MockedActivity,
    },
    Real {
        args: Payload,
        context: ActivityContext,
        pulse: Arc<Pulse>,
        entry: ActivityEntry,
        interceptors: Interceptors,
    },
    /// It fails before it has done anything.
    Failed(AttemptError),
}

/// What a job came to.
pub(crate) struct Worked {
    number: u64,
    result: Attempted,
    heartbeat: Option<Payload>,
    /// Of a step: its code, for another attempt.
    body: Option<Box<Work>>,
}

/// Keeps the last heartbeat.
#[derive(Default)]
struct Pulse(Mutex<Option<Payload>>);

impl Heartbeats for Pulse {
    fn beat(&self, details: Option<Payload>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = details.or(last.take());
    }
}

impl Job {
    /// Runs the code to its end.
    pub fn run(self) -> Worked {
        let (number, block_on) = (self.number, self.block_on);
        let beaten = |pulse: &Pulse| pulse.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (result, heartbeat, body) = match self.what {
            What::Failed(error) => (Err(error), None, None),
            // What a mock asserts is the test's.
            What::Mocked { args, context, pulse, mocked } => {
                let result = activity::with_sync(context, || (mocked.borrow_mut())(&args));
                (result, beaten(&pulse), None)
            }
            What::Real { args, context, pulse, entry, interceptors } => {
                let attempt = interceptors.attempt(&entry, &context, args);
                let future = Box::pin(async move { activity::with(context, attempt).await });
                (done(&block_on, future, "activity"), beaten(&pulse), None)
            }
            What::Step { name, mut body, mocked } => {
                let Work::Step { body: code, attempt, .. } = &mut *body else { unreachable!("only steps are made so") };
                let result = match mocked {
                    Some(mocked) => (mocked.borrow_mut())(*attempt),
                    None => match catch_unwind(AssertUnwindSafe(|| code.attempt())) {
                        Ok(future) => done(&block_on, future, &format!("step `{name}`")),
                        Err(panic) => Err(panicked(&format!("step `{name}`"), &*panic)),
                    },
                };
                (result, None, Some(body))
            }
        };
        Worked { number, result, heartbeat, body }
    }
}

/// Waits for the code; a panic of it is a failure, as on a worker.
#[expect(clippy::result_large_err, reason = "it is the type of the author's future")]
fn done(block_on: &BlockOn, future: BoxFuture<'static, Attempted>, what: &str) -> Attempted {
    let slot = Arc::new(Mutex::new(None));
    let filled = Arc::clone(&slot);
    let whole = Box::pin(async move {
        let result = futures::FutureExt::catch_unwind(AssertUnwindSafe(future)).await;
        *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    (block_on.0)(whole);
    let result = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match result {
        Some(Ok(result)) => result,
        Some(Err(panic)) => Err(panicked(what, &*panic)),
        None => panic!("what was given to `Environment::block_on` did not wait for the future of an {what}"),
    }
}

fn panicked(what: &str, panic: &(dyn std::any::Any + Send)) -> AttemptError {
    let said = crate::storm::panic_message(panic);
    let failure = Failure::new(FailureKind::Panicked, format!("{what} panicked: {said}"));
    AttemptError { failure, retryable: true }
}

impl World {
    pub(super) fn add_attempt(&mut self, attempt: Attempt) {
        self.next_attempt += 1;
        self.attempts.insert(self.next_attempt, attempt);
    }

    /// A worker takes a task.
    pub(super) fn take(&mut self, place: usize) {
        let task = self.queue[place].clone();
        if !self.cancelled.contains(&task.id) {
            let work = Work::Task { task: Box::new(task), place: Some(place) };
            self.add_attempt(Attempt::new(None, work, self.now));
        }
    }

    /// An attempt goes on: it begins, or what it came to is settled.
    pub(super) fn attempt(&mut self, number: u64) -> Acted {
        let Some(attempt) = self.attempts.get_mut(&number) else { return Acted::Nothing };
        match std::mem::replace(&mut attempt.state, State::New) {
            State::New => {
                let Some(work) = attempt.work.take() else { return Acted::Nothing };
                // Whoever runs it gives it back.
                attempt.at = Timestamp(u64::MAX);
                self.begin_attempt(number, work)
            }
            State::Done(came_to) => {
                let (result, heartbeat) = *came_to;
                self.end_attempt(number, result, heartbeat);
                Acted::Something
            }
        }
    }

    fn begin_attempt(&mut self, number: u64, work: Work) -> Acted {
        let block_on = self.stubs.block_on.clone();
        let (what, execution) = match work {
            Work::Step { run, step, ref name, attempt, .. } => {
                let workflow_id = self.runs.get(&run).map(|told| told.workflow_id.to_string()).unwrap_or_default();
                let execution = Execution {
                    idempotency_key: format!("{workflow_id}/{run}/{step}"),
                    workflow_id,
                    name: name.clone(),
                    attempt,
                    at: self.now.since(self.begin),
                };
                let mocked = self.stubs.steps.get(name).cloned();
                (What::Step { name: name.clone(), body: Box::new(work), mocked }, execution)
            }
            Work::Task { task, place } => {
                let struck = task.options.retry.max_attempts.is_none()
                    && self.strikes(Fault::FailedAttempt, || format!("{} at `{}`", task.attempt, task.activity));
                let struck = struck.then(|| AttemptError {
                    failure: Failure::new(FailureKind::TimedOut, "the attempt took too long"),
                    retryable: true,
                });
                let pulse = Arc::new(Pulse::default());
                let context = ActivityContext::new(&task, Arc::<Pulse>::clone(&pulse));
                let execution = Execution {
                    idempotency_key: task.idempotency_key(),
                    workflow_id: task.workflow_id.to_string(),
                    name: task.activity.clone(),
                    attempt: task.attempt,
                    at: self.now.since(self.begin),
                };
                let args = task.args.clone();
                let (entry, stub) = (self.registry.activity(&task.activity), self.stubs.activities.get(&task.activity));
                let failed = struck.or_else(|| stub.and_then(|stub| stub.failure_of(task.attempt)));
                let what = match (failed, stub.and_then(|stub| stub.mocked.clone()), entry) {
                    (Some(error), ..) => What::Failed(error),
                    (None, Some(mocked), _) => What::Mocked { args, context, pulse, mocked },
                    (None, None, Some(entry)) => {
                        let (entry, interceptors) = (entry.clone(), self.registry.interceptors().clone());
                        What::Real { args, context, pulse, entry, interceptors }
                    }
                    (None, None, None) => panic!(
                        "activity `{0}` of {1} is neither registered nor mocked: add `.activity({0})` or \
                         `.mock({0}, ..)` to the environment",
                        task.activity, task.workflow_id
                    ),
                };
                if let Some(attempt) = self.attempts.get_mut(&number) {
                    attempt.work = Some(Work::Task { task, place });
                }
                (what, execution)
            }
        };
        if !matches!(what, What::Failed(_)) {
            self.ledger.push(execution);
        }
        Acted::Work(Box::new(Job { number, what, block_on }))
    }

    /// The author's code has run; what it came to is known when the time that it takes has passed.
    pub fn worked(&mut self, worked: Worked) {
        let Worked { number, result, heartbeat, body } = worked;
        let now = self.now;
        // It may have been cancelled by the code itself.
        let Some(attempt) = self.attempts.get_mut(&number) else { return };
        if let Some(body) = body {
            attempt.work = Some(*body);
        }
        let (name, limit) = match &attempt.work {
            Some(Work::Step { name, options, .. }) => (format!("step `{name}`"), options.timeout),
            Some(Work::Task { task, .. }) => {
                let what = format!("attempt {} of activity `{}`", task.attempt, task.activity);
                (what, Duration::from_millis(task.options.start_to_close_ms))
            }
            None => return,
        };
        let takes = attempt.task().and_then(|task| self.stubs.activities.get(&task.activity)).map(|stub| stub.takes);
        let takes = takes.unwrap_or_default();
        let (result, takes) = if takes > limit {
            let failure = Failure::new(FailureKind::TimedOut, format!("{name} took longer than {limit:?}"));
            (Err(AttemptError { failure, retryable: true }), limit)
        } else {
            (result, takes)
        };
        attempt.at = now.after(takes);
        attempt.state = State::Done(Box::new((result, heartbeat)));
        let place = match &attempt.work {
            Some(Work::Task { task, place: Some(place) }) => Some((*place, task.activity.clone())),
            _ => None,
        };
        if let Some((place, activity)) = place
            && self.strikes(Fault::LostResult, || format!("of `{activity}`: its worker dies, and another repeats it"))
        {
            self.attempts.remove(&number);
            self.ready.push(place);
        }
    }

    fn end_attempt(&mut self, number: u64, result: Attempted, heartbeat: Option<Payload>) {
        let Some(attempt) = self.attempts.remove(&number) else { return };
        match attempt.work {
            Some(Work::Step { run, step, name, options, body, attempt: tried }) => {
                let owner = attempt.owner.expect("steps are local");
                match attempt::after(&options, tried, result) {
                    Next::Settled(outcome) => {
                        let result = LocalResult::Settled { attempt: tried, outcome };
                        self.owners[owner].answers.push_back(Answer::Local { run, step, result });
                    }
                    Next::Again(wait) => {
                        assert!(
                            tried < ATTEMPTS_MAX,
                            "step `{name}` has failed {tried} times, and its retries have no end"
                        );
                        let work = Work::Step { run, step, name, options, body, attempt: tried + 1 };
                        self.add_attempt(Attempt::new(Some(owner), work, self.now.after(wait)));
                    }
                }
            }
            Some(Work::Task { task, place }) => {
                let end = match result {
                    Ok(value) => End::Done(value),
                    Err(AttemptError { failure, retryable }) => End::Failed { failure, retryable, heartbeat },
                };
                if let Some(verdict) = attempt::judge(&task, end, self.now) {
                    match (place, attempt.owner) {
                        (None, Some(owner)) => self.settle_here(owner, &task, verdict),
                        _ => self.settle(&task, verdict),
                    }
                }
            }
            None => {}
        }
    }

    /// What the worker of a queue sends after an attempt.
    fn settle(&mut self, task: &Task, verdict: Verdict) {
        let now = self.now;
        let event = match verdict {
            Verdict::Settled { attempt, outcome } => attempt::settled(task, attempt, outcome, now),
            Verdict::Left { task, until } => attempt::left(task, until, now),
            Verdict::Retry { attempt, failure, next, at } => {
                self.again(&next, &failure, at);
                attempt::attempt_failed(task, attempt, failure, NextAttempt::At(at), now)
            }
            Verdict::Exhausted { attempt, failure, letter, parked, .. } => {
                self.dead.push(*letter);
                if parked {
                    attempt::attempt_failed(task, attempt, failure, NextAttempt::Redrive, now)
                } else {
                    attempt::settled(task, attempt, Outcome::Failed(failure), now)
                }
            }
        };
        self.publish(event, false);
    }

    /// What an owner is told after an attempt of its own.
    fn settle_here(&mut self, owner: usize, task: &Task, verdict: Verdict) {
        let result = match verdict {
            Verdict::Settled { attempt, outcome } => LocalResult::Settled { attempt, outcome },
            Verdict::Left { task, until } => LocalResult::Left { task, until },
            Verdict::Retry { attempt, failure, next, at } => {
                self.again(&next, &failure, at);
                LocalResult::Retry { attempt, failure, at }
            }
            Verdict::Exhausted { attempt, failure, letter, parked, .. } => {
                self.dead.push(*letter);
                if parked {
                    LocalResult::Parked { attempt, failure }
                } else {
                    LocalResult::Settled { attempt, outcome: Outcome::Failed(failure) }
                }
            }
        };
        let (run, step) = (task.run_id, task.step);
        self.owners[owner].answers.push_back(Answer::Local { run, step, result });
    }

    fn again(&mut self, next: &Task, failure: &Failure, due: Timestamp) {
        assert!(
            next.attempt <= ATTEMPTS_MAX,
            "activity `{}` of {} has failed {ATTEMPTS_MAX} times, the last time with: {failure}. Its retries have no end: give \
             it `max_attempts`, or have it succeed",
            next.activity,
            next.workflow_id
        );
        self.timers.push(TimerMessage::Retry { due, task: Box::new(next.clone()) });
    }
}
