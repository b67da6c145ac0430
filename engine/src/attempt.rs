//! What follows from the end of an attempt at an activity or a step: pure decisions. Nothing is run or sent here.
//!
//! ```text
//! done ─────────────────────────────► Settled(Done)
//! failed, final ────────────────────► Settled(Failed)
//! failed, attempts left ────────────► Retry: the next attempt, when it is due
//! failed, no attempts left ─────────► Exhausted: dead letter, then Settled(Failed) or parked
//! not known or opened here ─────────► Retry, not counted, for ever
//! left to be completed later ────────► Left: the run's owner keeps the task
//! cancelled ────────────────────────► nothing: nobody waits for it
//! ```

use std::time::Duration;

use everpulse_protocol::codec::Body;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::{Event, EventBody, NextAttempt, Outcome, Report};
use everpulse_protocol::priority::Priority;
use everpulse_protocol::task::{OnExhausted, Task};
use everpulse_protocol::values::{Values, Visit};
use everpulse_protocol::{CodingError, EventId, Failure, FailureKind, Payload, Timestamp, topic};

use crate::mutation::{self, Mutation};

pub use self::seen::{AttemptId, Seen, Sight};
pub use self::step::{Next, after};

mod seen;
mod step;

/// How an attempt came to its end.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    Done(Payload),
    Failed {
        failure: Failure,
        retryable: bool,
        /// What it reported last by heartbeat.
        heartbeat: Option<Payload>,
    },
    /// It is to be completed later, from outside, until then.
    Left {
        until: Timestamp,
        heartbeat: Option<Payload>,
    },
    /// This process has no activity of that name.
    Unknown,
    /// This process lacks a key or a layer for what the activity is given; it says which.
    Unopened(String),
    Cancelled,
}

impl End {
    /// The same, with no more words of a failure than are kept. To be asked before they are sealed.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Failed { failure, retryable, heartbeat } => {
                Self::Failed { failure: bounded(failure), retryable, heartbeat }
            }
            other => other,
        }
    }
}

impl Values for End {
    fn each(&mut self, visit: &mut Visit<'_>) -> Result<(), CodingError> {
        match self {
            Self::Done(value) => value.each(visit),
            Self::Failed { failure, retryable: _, heartbeat } => {
                failure.each(visit)?;
                heartbeat.each(visit)
            }
            Self::Left { until: _, heartbeat } => heartbeat.each(visit),
            // It names a key, for whoever is to bring it.
            Self::Unopened(_) | Self::Unknown | Self::Cancelled => Ok(()),
        }
    }
}

/// What is to be recorded and sent after an attempt. The same for remote and eager attempts.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The activity came to its end.
    Settled { attempt: u32, outcome: Outcome },
    /// The attempt waits to be completed from outside, until a time. Its owner keeps the task.
    Left { task: Box<Task>, until: Timestamp },
    /// Attempt `attempt` failed so; the next one is due in the queue at `at`.
    Retry { attempt: u32, failure: Failure, next: Box<Task>, at: Timestamp },
    /// The attempts ran out. The letter goes to `topic` first; then the step fails with `failure`, or stays open if
    /// `parked`.
    Exhausted { attempt: u32, failure: Failure, letter: Box<DeadLetter>, topic: String, parked: bool },
}

/// A failure text is cut here: it travels in every later attempt, in history and in replies.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// The longest failure chain that is kept.
const CHAIN_MAX: usize = 16;

/// The waits of a task whose activity nobody knew so far grow with its age, between these bounds.
const UNKNOWN_WAIT_MIN: Duration = Duration::from_secs(1);
const UNKNOWN_WAIT_MAX: Duration = Duration::from_secs(60);

/// Decides; none when nobody waits for the result any more.
#[must_use]
pub fn judge(task: &Task, end: End, now: Timestamp) -> Option<Verdict> {
    let attempt = task.attempt;
    let verdict = match end {
        End::Done(value) => Verdict::Settled { attempt, outcome: Outcome::Done(value) },
        End::Cancelled => return None,
        End::Left { until, heartbeat } => {
            let mut task = Box::new(task.clone());
            task.heartbeat = heartbeat.or(task.heartbeat);
            Verdict::Left { task, until }
        }
        End::Failed { failure, retryable: false, .. } => {
            let failure = Failure { attempts: Some(attempt), ..bounded(failure) };
            Verdict::Settled { attempt, outcome: Outcome::Failed(failure) }
        }
        End::Failed { failure, retryable: true, heartbeat } => {
            let failure = bounded(failure);
            let counted = task.counted_attempts().max(1);
            let retry = task.options.retry;
            if retry.max_attempts.is_some_and(|max| counted >= max) {
                let letter = Box::new(exhausted(task, failure.clone(), now));
                let parked = task.options.exhausted == OnExhausted::Park;
                let failure = if parked { failure } else { failure.exhausted(counted) };
                let topic = topic::activity_dead(&task.queue);
                return Some(Verdict::Exhausted { attempt, failure, letter, topic, parked });
            }
            let mut next = task.next_attempt(failure.clone());
            next.heartbeat = heartbeat.or(next.heartbeat);
            if mutation::is(Mutation::ForgetsLane) {
                next.options.priority = Priority::default();
            }
            let asked = failure.retry_after_ms.filter(|_| !mutation::is(Mutation::AgainTooSoon));
            let wait_ms = asked.unwrap_or_else(|| retry.delay_ms(counted));
            let at = now.after(Duration::from_millis(wait_ms));
            Verdict::Retry { attempt, failure, next: Box::new(next), at }
        }
        End::Unknown => {
            let message = format!(
                "no worker of queue `{}` that took the task knows activity `{}`; deploy one that registers it with \
                 `.activity({})`, or give it a queue of its own: until then it is tried again",
                task.queue, task.activity, task.activity
            );
            elsewhere(task, message, now)
        }
        End::Unopened(why) => {
            let message = format!(
                "no worker of queue `{}` that took the task can open what activity `{}` is given: {why}; until one does it \
                 is tried again",
                task.queue, task.activity
            );
            elsewhere(task, message, now)
        }
    };
    Some(verdict)
}

/// A task whose attempts ran out, as it lies in the dead letters; it carries the failure chain itself, the last failure
/// last.
#[must_use]
pub fn exhausted(task: &Task, failure: Failure, now: Timestamp) -> DeadLetter {
    let counted = task.counted_attempts();
    let last = match failure.sealed() {
        None => format!("the last time with: {failure}"),
        Some(_) => "and its failures are sealed".to_owned(),
    };
    let reason = format!(
        "activity `{}` of {} failed {counted} {}, {last}",
        task.activity,
        task.workflow_id,
        if counted == 1 { "time" } else { "times" },
    );
    let mut task = task.clone();
    task.add_failure(failure);
    DeadLetter { at: now, reason, letter: Letter::Task(Box::new(task)) }
}

/// The event that tells a run how a step came to its end. All of one step bear the same id: the first one counts.
#[must_use]
pub fn settled(task: &Task, attempt: u32, outcome: Outcome, now: Timestamp) -> Event {
    event(task, "settled", &EventBody::ActivitySettled { step: task.step, attempt, outcome }, now)
}

/// The event that tells a run of a failed attempt that is not the end.
#[must_use]
pub fn attempt_failed(task: &Task, attempt: u32, failure: Failure, next: NextAttempt, now: Timestamp) -> Event {
    let body = EventBody::AttemptFailed { step: task.step, attempt, failure, next };
    event(task, &format!("attempt {attempt} failed"), &body, now)
}

/// The event that tells a run that an attempt is to be completed from outside, until a time.
#[must_use]
pub fn left(task: Box<Task>, until: Timestamp, now: Timestamp) -> Event {
    let Task { step, attempt, .. } = *task;
    let body = EventBody::AttemptLeft { step, attempt, until, task: task.clone(), running: false };
    event(&task, &format!("attempt {attempt} left"), &body, now)
}

/// The event that gives an attempt to its run's owner to keep, with what it reported by heartbeat, while its worker goes on
/// with it. The owner waits for it until then at most.
#[must_use]
pub fn running(task: Box<Task>, until: Timestamp, now: Timestamp) -> Event {
    let Task { step, attempt, .. } = *task;
    let body = EventBody::AttemptLeft { step, attempt, until, task: task.clone(), running: true };
    event(&task, &format!("attempt {attempt} runs"), &body, now)
}

/// The event that tells the owner that an attempt which it keeps goes on, and how far it is. `beat` tells it from all others,
/// also from those of another worker.
#[must_use]
pub fn beat(task: &Task, beat: &str, details: Option<Payload>, now: Timestamp) -> Event {
    let Task { step, attempt, .. } = *task;
    let body = EventBody::AttemptReported { step, attempt, report: Report::Beat { details } };
    event(task, &format!("attempt {attempt} beat {beat}"), &body, now)
}

/// What follows when a worker that shuts down gives up an attempt that the owner keeps: the next one goes on where this one was,
/// and this one does not count.
#[must_use]
pub fn interrupted(task: &Task, heartbeat: Option<Payload>, now: Timestamp) -> Verdict {
    let attempt = task.attempt;
    let failure =
        Failure::new(FailureKind::TimedOut, format!("attempt {attempt} was running when its worker shut down"));
    let mut next = task.next_attempt(failure.clone());
    next.attempts_before = next.attempts_before.saturating_add(1);
    next.heartbeat = heartbeat.or(next.heartbeat);
    Verdict::Retry { attempt, failure, next: Box::new(next), at: now }
}

fn event(task: &Task, what: &str, body: &EventBody, now: Timestamp) -> Event {
    Event {
        id: EventId::derived(task.run_id, task.step, what),
        workflow_id: task.workflow_id.clone(),
        run_id: Some(task.run_id),
        exact: false,
        sent_at: now,
        reply_to: None,
        again: false,
        body: Body::of(body),
    }
}

/// Why a task is not begun with any more.
#[must_use]
pub fn too_late(task: &Task, now: Timestamp) -> Option<Failure> {
    let waited_ms = now.0.saturating_sub(task.scheduled_at.0);
    let (limit, name) = begin_limits(task).find(|(limit, _)| waited_ms > *limit)?;
    let message = format!(
        "activity `{}` was taken up after {waited_ms} ms, and its {name} time-out is {limit} ms",
        task.activity
    );
    Some(Failure::new(FailureKind::TimedOut, message))
}

/// From when on it is too late to begin with a task; none if it may wait for ever.
#[must_use]
pub fn begin_by(task: &Task) -> Option<Timestamp> {
    let limit = begin_limits(task).map(|(limit, _)| limit).min()?;
    Some(Timestamp(task.scheduled_at.0.saturating_add(limit).saturating_add(1)))
}

/// So many milliseconds a task may wait, and what the time-out is called.
fn begin_limits(task: &Task) -> impl Iterator<Item = (u64, &'static str)> {
    let start = task.options.schedule_to_start_ms.filter(|_| task.counted_attempts() <= 1);
    let close = task.options.schedule_to_close_ms.map(|limit| (limit, "schedule-to-close"));
    close.into_iter().chain(start.map(|limit| (limit, "schedule-to-start")))
}

/// A deploy that is half done, or was forgotten, fails no step: its task waits for a worker that has the activity, and the
/// key.
fn elsewhere(task: &Task, message: String, now: Timestamp) -> Verdict {
    let attempt = task.attempt;
    // It may have waited in its queue, or been tried where it is known, for long: only the search counts.
    let searched = task.failures.last().is_some_and(|last| last.kind == FailureKind::NotFound);
    let since = if searched { task.scheduled_at } else { now };
    let age = now.since(since);
    let failure = Failure::new(FailureKind::NotFound, message);
    let mut next = task.clone();
    if searched {
        // However long it lasts, it is one failure, and hides none of the others.
        next.failures.pop();
    }
    // A number of its own, so that the workers that remember this one take it; and not counted as a try.
    let mut next = next.next_attempt(failure.clone());
    next.attempts_before = next.attempts_before.saturating_add(1);
    next.scheduled_at = since;
    let at = now.after(age.clamp(UNKNOWN_WAIT_MIN, UNKNOWN_WAIT_MAX));
    Verdict::Retry { attempt, failure, next: Box::new(next), at }
}

fn bounded(mut failure: Failure) -> Failure {
    cut(&mut failure.message);
    failure.chain.truncate(CHAIN_MAX);
    failure.chain.iter_mut().for_each(cut);
    failure
}

fn cut(text: &mut String) {
    if text.len() > MESSAGE_BYTES_MAX {
        let end = text.floor_char_boundary(MESSAGE_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::task::{RetryPolicy, TaskOptions};
    use everpulse_protocol::{RunId, WorkflowId};

    use super::*;

    const NOW: Timestamp = Timestamp(100_000);

    fn task(attempt: u32, max_attempts: Option<u32>) -> Task {
        let run = RunId("00000000-0000-0000-0000-000000000001".parse().expect("a UUID"));
        Task {
            id: EventId::derived(run, 0, "task"),
            workflow_id: WorkflowId::new("order-42").expect("a good id"),
            run_id: run,
            shard: 0,
            step: 0,
            queue: "payments".to_owned(),
            activity: "charge".to_owned(),
            args: Payload::encode(&()).expect("encodes"),
            attempt,
            scheduled_at: NOW,
            options: TaskOptions {
                start_to_close_ms: 1_000,
                heartbeat_ms: None,
                schedule_to_start_ms: None,
                schedule_to_close_ms: None,
                retry: RetryPolicy { initial_ms: 100, factor_percent: 200, max_ms: 1_000, max_attempts },
                exhausted: OnExhausted::Fail,
                priority: Default::default(),
            },
            heartbeat: None,
            failures: Vec::new(),
            attempts_before: 0,
            returned: None,
            headers: None,
        }
    }

    fn flaky(text: &str) -> End {
        End::Failed { failure: Failure::new(FailureKind::Failed, text), retryable: true, heartbeat: None }
    }

    fn judge(task: &Task, end: End) -> Verdict {
        super::judge(task, end, NOW).expect("somebody waits for it")
    }

    #[test]
    fn a_failed_attempt_waits_longer_each_time() {
        let mut waits = Vec::new();
        let mut current = task(1, None);
        for _ in 0..5 {
            let Verdict::Retry { next, at, attempt, .. } = judge(&current, flaky("down")) else { panic!("retried") };
            assert_eq!(attempt + 1, next.attempt);
            waits.push(at.since(NOW).as_millis());
            current = *next;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1_000]);
        assert_eq!(current.failures.len(), 5);
    }

    #[test]
    fn the_last_attempt_is_dead_lettered_with_the_failure_chain() {
        let Verdict::Retry { next: second, .. } = judge(&task(1, Some(2)), flaky("first")) else { panic!("retried") };
        let Verdict::Exhausted { failure, attempt, letter, topic, parked } = judge(&second, flaky("second")) else {
            panic!("exhausted")
        };
        assert_eq!((attempt, topic.as_str(), parked), (2, "activity.payments.dead", false));
        assert_eq!((failure.kind, failure.attempts), (FailureKind::Exhausted, Some(2)));
        assert_eq!(failure.last, Some(FailureKind::Failed));
        let Letter::Task(dead) = letter.letter else { panic!("a task") };
        assert_eq!(dead.failures.iter().map(|f| f.message.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(letter.reason, "activity `charge` of order-42 failed 2 times, the last time with: second");
    }

    #[test]
    fn a_redriven_task_has_all_its_attempts_again() {
        let redriven = task(2, Some(2)).redriven(NOW);
        let Verdict::Retry { at, next, .. } = judge(&redriven, flaky("third")) else { panic!("retried") };
        assert_eq!(at.since(NOW).as_millis(), 100, "the waits begin again");
        assert!(matches!(judge(&next, flaky("fourth")), Verdict::Exhausted { attempt: 4, .. }));
    }

    #[test]
    fn a_parked_step_keeps_the_failure_as_it_was() {
        let mut last = task(1, Some(1));
        last.options.exhausted = OnExhausted::Park;
        let Verdict::Exhausted { failure, parked: true, .. } = judge(&last, flaky("down")) else { panic!("parked") };
        assert_eq!(failure.kind, FailureKind::Failed);
    }

    #[test]
    fn a_final_failure_settles_at_once() {
        let end =
            End::Failed { failure: Failure::new(FailureKind::Failed, "declined"), retryable: false, heartbeat: None };
        let Verdict::Settled { attempt: 1, outcome: Outcome::Failed(failure) } = judge(&task(1, None), end) else {
            panic!("settled")
        };
        assert_eq!((failure.kind, failure.attempts), (FailureKind::Failed, Some(1)));
    }

    #[test]
    fn an_unknown_activity_waits_for_a_worker_that_has_it_and_no_try_is_counted() {
        let young = task(1, Some(1));
        let Verdict::Retry { next, at, .. } = judge(&young, End::Unknown) else { panic!("retried") };
        assert_eq!(at.since(NOW), UNKNOWN_WAIT_MIN);
        assert_eq!((next.attempt, next.counted_attempts()), (2, 1));
        let mut old = *next;
        old.scheduled_at = Timestamp(NOW.0 - 90_000);
        for attempt in 2..100 {
            let Verdict::Retry { failure, next, at, .. } = judge(&old, End::Unknown) else { panic!("retried") };
            assert_eq!(at.since(NOW), UNKNOWN_WAIT_MAX);
            assert_eq!((next.attempt, next.counted_attempts(), next.failures.len()), (attempt + 1, 1, 1));
            assert_eq!(failure.kind, FailureKind::NotFound);
            assert!(failure.message.contains("no worker of queue `payments`"), "{failure}");
            old = *next;
        }
        assert!(matches!(judge(&old, flaky("down")), Verdict::Exhausted { .. }), "its own failures count as ever");
    }

    #[test]
    fn a_task_that_waited_long_in_its_queue_is_searched_a_worker_for_all_the_same() {
        let mut old = task(1, Some(1));
        old.scheduled_at = Timestamp(NOW.0 - 90_000);
        let Verdict::Retry { next, at, .. } = judge(&old, End::Unknown) else { panic!("retried") };
        assert_eq!((at.since(NOW), next.scheduled_at), (UNKNOWN_WAIT_MIN, NOW));
        assert!(matches!(judge(&next, End::Unknown), Verdict::Retry { .. }));
    }

    #[test]
    fn what_was_reported_by_heartbeat_goes_to_the_next_attempt() {
        let details = Payload::encode(&17).expect("encodes");
        let end = End::Failed {
            failure: Failure::new(FailureKind::TimedOut, "slow"),
            retryable: true,
            heartbeat: Some(details.clone()),
        };
        let Verdict::Retry { next, .. } = judge(&task(1, None), end) else { panic!("retried") };
        assert_eq!(next.heartbeat, Some(details.clone()));
        let Verdict::Retry { next: last, .. } = judge(&next, flaky("down")) else { panic!("retried") };
        assert_eq!(last.heartbeat, Some(details), "an attempt without heartbeat changes nothing");
    }

    #[test]
    fn an_attempt_whose_worker_shuts_down_is_not_counted_and_the_next_one_goes_on_where_it_was() {
        let details = Payload::encode(&17).expect("encodes");
        let Verdict::Retry { attempt: 1, next, at, .. } = interrupted(&task(1, Some(1)), Some(details.clone()), NOW)
        else {
            panic!("retried")
        };
        assert_eq!((at, next.attempt, next.counted_attempts(), next.heartbeat.clone()), (NOW, 2, 1, Some(details)));
        assert!(matches!(judge(&next, flaky("down")), Verdict::Exhausted { attempt: 2, .. }), "its own failures count");
    }

    #[test]
    fn an_error_that_says_when_it_may_go_better_is_waited_for_and_counts_as_an_attempt() {
        let mut failure = Failure::new(FailureKind::Failed, "busy");
        failure.retry_after_ms = Some(45_000);
        let end = || End::Failed { failure: failure.clone(), retryable: true, heartbeat: None };
        let Verdict::Retry { next, at, .. } = judge(&task(1, Some(2)), end()) else { panic!("retried") };
        assert_eq!(at.since(NOW).as_millis(), 45_000);
        assert!(matches!(judge(&next, end()), Verdict::Exhausted { .. }));
    }

    #[test]
    fn a_task_that_waited_too_long_for_a_worker_is_not_begun_with() {
        let mut task = task(1, None);
        let after = |ms| Timestamp(NOW.0 + ms);
        assert_eq!((too_late(&task, after(1_000_000)), begin_by(&task)), (None, None));
        task.options.schedule_to_start_ms = Some(500);
        task.options.schedule_to_close_ms = Some(9_000);
        assert_eq!((too_late(&task, after(500)), begin_by(&task)), (None, Some(after(501))));
        let failure = too_late(&task, after(501)).expect("too late");
        assert_eq!(failure.kind, FailureKind::TimedOut);
        assert!(failure.message.ends_with("after 501 ms, and its schedule-to-start time-out is 500 ms"), "{failure}");
        task.attempt = 2;
        assert_eq!(too_late(&task, after(9_000)), None, "it was begun with");
        assert_eq!(begin_by(&task), Some(after(9_001)));
        assert!(too_late(&task, after(9_001)).expect("too late").message.contains("schedule-to-close"));
    }

    #[test]
    fn long_failure_texts_are_cut_at_a_character() {
        let Verdict::Retry { failure, .. } = judge(&task(1, None), flaky(&"ä".repeat(100_000))) else {
            panic!("retried")
        };
        assert!(failure.message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
        assert!(failure.message.ends_with("ä…"));
    }
}
