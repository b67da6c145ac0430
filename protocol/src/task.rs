//! Tasks: work offered to activity workers, in frames on a queue's topic.

use serde::{Deserialize, Serialize};

use crate::codec::Stored;
use crate::priority::{Lane, Priority};
use crate::{EventId, Failure, Payload, RunId, Timestamp, WorkflowId};

/// One message of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFrame {
    pub tasks: Vec<Task>,
}

impl Stored for TaskFrame {
    const KIND: &'static str = "tasks";
}

/// Tasks with a start-to-close time-out above this travel alone, so that one does not hold back others.
pub const SHARED_FRAME_TIMEOUT_MS_MAX: u64 = 1_000;
/// The most tasks of one frame.
pub const TASKS_PER_FRAME_MAX: usize = 8;

/// One attempt at an activity, with all that its worker needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The same for every attempt: derived from the run and the step.
    pub id: EventId,
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// The shard of the run, to which the result goes.
    pub shard: u32,
    /// The number of the command that asked for it.
    pub step: u32,
    pub queue: String,
    pub activity: String,
    /// A map by parameter name.
    pub args: Payload,
    /// From 1; goes on counting after a redrive.
    pub attempt: u32,
    /// Or redriven; while no worker is found that knows the activity, since when one is searched.
    pub scheduled_at: Timestamp,
    pub options: TaskOptions,
    /// What the last attempt reported by heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Payload>,
    /// How the attempts so far failed, the last ones last (at most [`FAILURES_KEPT`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// The attempt at which the counting of `max_attempts` begins (moved by a redrive).
    #[serde(default)]
    pub attempts_before: u32,
    /// The attempt was made, was left to be completed later, and failed so: the task is not to be tried, but judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Failure>,
    /// Those of the run; [`Headers`](crate::Headers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Payload>,
}

/// How many failures a task carries along.
pub const FAILURES_KEPT: usize = 10;

impl Task {
    /// What an author's code deduplicates by: `workflow id/run id/step`.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}/{}", self.workflow_id, self.run_id, self.step)
    }

    /// Whether it may share a frame with others.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.options.start_to_close_ms <= SHARED_FRAME_TIMEOUT_MS_MAX
    }

    /// Where it waits: a part of its queue.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.options.priority.lane(&self.queue)
    }

    /// How many attempts count against `max_attempts`, with the one that this task is.
    #[must_use]
    pub fn counted_attempts(&self) -> u32 {
        self.attempt.saturating_sub(self.attempts_before)
    }

    /// The attempt after this one, which failed so. Of the failures the last [`FAILURES_KEPT`] are kept.
    #[must_use]
    pub fn next_attempt(&self, failure: Failure) -> Self {
        let mut next = self.clone();
        next.attempt = self.attempt.saturating_add(1);
        next.returned = None;
        next.add_failure(failure);
        next
    }

    /// The task as an operator puts it back into its queue: it is the next attempt, and the counting of
    /// `max_attempts` begins again, under the same id and idempotency key.
    #[must_use]
    pub fn redriven(&self, now: Timestamp) -> Self {
        Self {
            attempt: self.attempt.saturating_add(1),
            attempts_before: self.attempt,
            scheduled_at: now,
            returned: None,
            ..self.clone()
        }
    }

    /// Remembers how an attempt failed.
    pub fn add_failure(&mut self, failure: Failure) {
        let surplus = (self.failures.len() + 1).saturating_sub(FAILURES_KEPT);
        self.failures.drain(..surplus);
        self.failures.push(failure);
    }
}

/// How a task is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOptions {
    pub start_to_close_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// How long it may wait for a worker; the first attempt, and the first one after a redrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_start_ms: Option<u64>,
    /// How long it may take with all of its attempts and waits. The owner of the run sees to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_close_ms: Option<u64>,
    pub retry: RetryPolicy,
    /// What happens when the attempts run out.
    #[serde(default)]
    pub exhausted: OnExhausted,
    /// Before which other tasks of its queue it is taken.
    #[serde(default, skip_serializing_if = "Priority::is_default")]
    pub priority: Priority,
}

/// When the attempts of a task run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// The workflow gets the failure; a dead letter remains.
    #[default]
    Fail,
    /// The step stays open until an operator redrives the dead letter.
    Park,
}

/// How long to wait between attempts, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub initial_ms: u64,
    /// Each wait is this many hundredths of the one before: 200 doubles.
    pub factor_percent: u32,
    pub max_ms: u64,
    /// None: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}

impl Default for RetryPolicy {
    /// 200 ms, doubling up to a minute, for ever.
    fn default() -> Self {
        Self { initial_ms: 200, factor_percent: 200, max_ms: 60_000, max_attempts: None }
    }
}

impl RetryPolicy {
    /// The wait after so many failed attempts (at least one), in milliseconds.
    #[must_use]
    pub fn delay_ms(&self, failed_attempts: u32) -> u64 {
        let mut delay = u128::from(self.initial_ms);
        for _ in 1..failed_attempts.min(200) {
            delay = (delay * u128::from(self.factor_percent)) / 100;
            if delay >= u128::from(self.max_ms) {
                break;
            }
        }
        u64::try_from(delay).unwrap_or(u64::MAX).min(self.max_ms)
    }
}

/// What activity workers are told through the control topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Tasks whose results nobody waits for any more.
    pub cancelled: Vec<EventId>,
}

impl Stored for Control {
    const KIND: &'static str = "control";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_by_the_factor_up_to_the_greatest() {
        let retry = RetryPolicy { initial_ms: 100, factor_percent: 200, max_ms: 1_000, max_attempts: None };
        let waits: Vec<u64> = (1..=6).map(|failed| retry.delay_ms(failed)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(retry.delay_ms(u32::MAX), 1_000);
    }

    fn task() -> Task {
        let run = RunId(uuid::Uuid::from_u128(1));
        Task {
            id: EventId::derived(run, 0, "task"),
            workflow_id: WorkflowId::new("order-42").expect("a good id"),
            run_id: run,
            shard: 0,
            step: 0,
            queue: "default".to_owned(),
            activity: "charge".to_owned(),
            args: Payload::encode(&()).expect("encodes"),
            attempt: 1,
            scheduled_at: Timestamp(0),
            options: TaskOptions {
                start_to_close_ms: 1_000,
                heartbeat_ms: None,
                schedule_to_start_ms: None,
                schedule_to_close_ms: None,
                retry: RetryPolicy::default(),
                exhausted: OnExhausted::Park,
                priority: Priority::default(),
            },
            heartbeat: None,
            failures: Vec::new(),
            attempts_before: 0,
            returned: None,
            headers: None,
        }
    }

    #[test]
    fn the_last_failures_are_kept() {
        let mut last = task();
        for n in 1..=25 {
            last = last.next_attempt(Failure::new(crate::FailureKind::Failed, format!("no {n}")));
        }
        assert_eq!(last.attempt, 26);
        assert_eq!(last.failures.len(), FAILURES_KEPT);
        assert_eq!(last.failures.last().map(|failure| failure.message.as_str()), Some("no 25"));
        assert_eq!(last.failures.first().map(|failure| failure.message.as_str()), Some("no 16"));
    }

    #[test]
    fn a_redriven_task_counts_its_attempts_anew_under_the_same_key() {
        let mut failed = task();
        failed.attempt = 5;
        let redriven = failed.redriven(Timestamp(9));
        assert_eq!((redriven.attempt, redriven.counted_attempts()), (6, 1));
        assert_eq!(redriven.idempotency_key(), failed.idempotency_key());
        assert_eq!(redriven.id, failed.id);
    }
}
