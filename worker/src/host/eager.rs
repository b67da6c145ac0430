//! Activities that the owner of a run starts itself, without their queue.

use std::cell::RefCell;
use std::collections::BTreeMap;

use everpulse_engine::{Eager, LocalResult};
use everpulse_protocol::EventId;
use everpulse_protocol::task::Task;

use crate::activity::{ActivityRunner, EagerResult, Slot};
use crate::outbox::Outbox;

/// Tasks with a longer start-to-close time-out go through their queue: if this process dies, they would be
/// missed for that long.
const TIMEOUT_MS_MAX: u64 = 60_000;

/// Hands out the activity runner's free slots to the shards of one engine thread.
pub(super) struct HostEager {
    runner: Option<ActivityRunner>,
    enabled: bool,
    slots: RefCell<BTreeMap<EventId, Slot>>,
}

impl HostEager {
    pub fn new(runner: Option<ActivityRunner>, enabled: bool) -> Self {
        Self { runner, enabled, slots: RefCell::default() }
    }

    /// The slot that was reserved for a task.
    pub fn take(&self, task: EventId) -> Option<Slot> {
        self.slots.borrow_mut().remove(&task)
    }
}

impl Eager for HostEager {
    fn reserve(&self, task: &Task) -> bool {
        if !self.enabled || task.options.start_to_close_ms > TIMEOUT_MS_MAX {
            return false;
        }
        let slot = self.runner.as_ref().and_then(|runner| runner.try_slot(&task.queue, &task.activity));
        match slot {
            Some(slot) => {
                self.slots.borrow_mut().insert(task.id, slot);
                true
            }
            None => false,
        }
    }

    fn release(&self, task: EventId) {
        self.slots.borrow_mut().remove(&task);
    }

    fn serves(&self, task: &Task) -> bool {
        self.enabled && self.runner.as_ref().is_some_and(|runner| runner.serves(&task.queue, &task.activity))
    }
}

/// Runs one attempt. What has to outlive this process (the next attempt, a dead letter) is in its topic before
/// the result is given.
pub(super) async fn run(runner: &ActivityRunner, outbox: &Outbox, slot: Option<Slot>, task: Task) -> LocalResult {
    match runner.run_eager(slot, task).await {
        EagerResult::Settled { attempt, outcome } => LocalResult::Settled { attempt, outcome },
        EagerResult::Retry { attempt, failure, next, at } => {
            confirmed(outbox.timer(everpulse_protocol::timer::TimerMessage::Retry { due: at, task: next })).await;
            LocalResult::Retry { attempt, failure, at }
        }
        EagerResult::Exhausted { attempt, failure, letter, topic, parked } => {
            confirmed(outbox.dead_letter(&topic, *letter)).await;
            if parked {
                LocalResult::Parked { attempt, failure }
            } else {
                let outcome = everpulse_protocol::event::Outcome::Failed(failure);
                LocalResult::Settled { attempt, outcome }
            }
        }
    }
}

async fn confirmed<T, E: std::fmt::Display>(send: impl Future<Output = Result<T, E>>) {
    if let Err(error) = send.await {
        tracing::error!(%error, "what follows a failed attempt could not be sent");
    }
}
