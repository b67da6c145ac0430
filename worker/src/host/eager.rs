//! Activities that the owner of a run starts itself, without their queue.

use std::cell::RefCell;
use std::collections::BTreeMap;

use everpulse_engine::{Eager, LocalResult};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{EventId, Failure, FailureKind};
use everpulse_transport::{Error, ErrorKind};

use crate::activity::{ActivityRunner, EagerResult, Slot, unsendable};
use crate::outbox::Outbox;

/// Tasks with a longer start-to-close time-out go through their queue: if this process dies, they would be
/// missed for that long.
const TIMEOUT_MS_MAX: u64 = 60_000;

/// Hands out the activity runner's free slots to the shards of one engine thread.
pub(super) struct HostEager {
    runner: Option<ActivityRunner>,
    enabled: bool,
    /// With the shards that they are reserved for.
    slots: RefCell<BTreeMap<EventId, (u32, Slot)>>,
}

impl HostEager {
    pub fn new(runner: Option<ActivityRunner>, enabled: bool) -> Self {
        Self { runner, enabled, slots: RefCell::default() }
    }

    /// The slot that was reserved for a task.
    pub fn take(&self, task: EventId) -> Option<Slot> {
        self.slots.borrow_mut().remove(&task).map(|(_, slot)| slot)
    }

    /// Gives back what was reserved for a shard that is thrown away.
    pub fn release_all(&self, shard: u32) {
        self.slots.borrow_mut().retain(|_, (of, _)| *of != shard);
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
                self.slots.borrow_mut().insert(task.id, (task.shard, slot));
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
/// the result is given; what is too large for that ends the step.
pub(super) async fn run(runner: &ActivityRunner, outbox: &Outbox, slot: Option<Slot>, task: Task) -> LocalResult {
    let activity = task.activity.clone();
    match runner.run_eager(slot, task).await {
        EagerResult::Settled { attempt, outcome } => LocalResult::Settled { attempt, outcome },
        EagerResult::Left { mut task, until } => {
            // Into history, where the queue would have had it as it was put out.
            if let Some(stores) = outbox.stores()
                && let Err(error) = stores.put_out_patiently(&mut task).await
            {
                let failure = Failure::new(FailureKind::Undecodable, format!("`{activity}` cannot be left: {error}"));
                return LocalResult::Settled { attempt: task.attempt, outcome: Outcome::Failed(failure) };
            }
            LocalResult::Left { task, until }
        }
        EagerResult::Retry { attempt, failure, next, at } => {
            match outbox.timer(TimerMessage::Retry { due: at, task: next }).await {
                Ok(_) => LocalResult::Retry { attempt, failure, at },
                Err(error) => unsent(&activity, attempt, &error).await,
            }
        }
        EagerResult::Exhausted { attempt, failure, letter, topic, parked } => {
            match outbox.dead_letter(&topic, *letter).await {
                Ok(_) if parked => LocalResult::Parked { attempt, failure },
                Ok(_) => LocalResult::Settled { attempt, outcome: Outcome::Failed(failure) },
                Err(error) => unsent(&activity, attempt, &error).await,
            }
        }
    }
}

/// A step whose next attempt is nowhere would never end.
async fn unsent(activity: &str, attempt: u32, error: &Error) -> LocalResult {
    if error.kind() == ErrorKind::Closed {
        // The runtime is shutting down: nobody may settle this.
        return std::future::pending().await;
    }
    LocalResult::Settled { attempt, outcome: Outcome::Failed(unsendable(activity, attempt, error)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use everpulse_protocol::Payload;
    use everpulse_sdk::activity::context;
    use everpulse_sdk::definition::Registry;

    use super::*;
    use crate::options::Options;
    use crate::trial::{Trial, task};

    /// What it reports is larger than any message.
    #[everpulse_sdk::activity(crate = everpulse_sdk)]
    async fn talkative() -> Result<(), everpulse_sdk::Error> {
        context().heartbeat("x".repeat(6 * 1024 * 1024));
        Err(everpulse_sdk::Error::msg("down"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failed_attempt_whose_successor_is_too_large_to_be_sent_ends_the_step() {
        for trial in Trial::all().await {
            let mut registry = Registry::new();
            registry.activity_fn(talkative).expect("once");
            let options = Options { queues: Some(vec!["trial".to_owned()]), ..Options::default() };
            let starting =
                ActivityRunner::start(Arc::new(registry), trial.outbox.clone(), trial.transport.clone(), options);
            let runner = starting.await.expect("started");
            let none = Payload::encode(&std::collections::BTreeMap::<String, u8>::new()).expect("encodes");
            let result = run(&runner, &trial.outbox, None, task("talkative", none)).await;
            let LocalResult::Settled { attempt: 1, outcome: Outcome::Failed(failure) } = result else {
                panic!("{result:?}")
            };
            assert_eq!(failure.kind, FailureKind::Undecodable);
            assert!(failure.message.contains("larger than the limit"), "{failure}");
        }
    }
}
