//! Batches: tasks of one activity, of whatever runs, that are done in one execution of its code.
//!
//! ```text
//!  task ─► slot ─► join ─┐                              ┌─► its own end ─► judged, settled, acked by itself
//!  task ─► slot ─► join ─┼─► full, or waited ─► slot, run ─┼─► ..
//!  task ─► slot ─► join ─┘                              └─► ..
//! ```
//! Here tasks are only put together. Each stays an attempt of its own, with its own time-outs, heartbeats, interceptors and
//! retries: what it waits for is its part of what the execution gives back. It gives its slot back when it joins, so that
//! more may come; the execution has one, as one attempt has elsewhere.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, FailureKind, Payload};
use everpulse_sdk::activity::{self, ActivityContext};
use everpulse_sdk::definition::{ActivityEntry, AttemptError, Batch};
use everpulse_sdk::intercept::Attempted;
use futures::FutureExt as _;
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::sleep;

use super::attempt::panicked;

/// The batches that still take tasks, by activity. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Batches(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    batches: HashMap<Name, Gathering>,
    next: u64,
}

/// Queue and activity.
type Name = (String, String);

/// What a batch does when it is complete.
#[derive(Clone)]
struct Code {
    entry: ActivityEntry,
    batch: Batch,
    /// Of the queue; none where nobody counts.
    slots: Option<Arc<Semaphore>>,
}

/// A batch that takes more.
struct Gathering {
    number: u64,
    members: Vec<Member>,
}

/// A task in a batch.
struct Member {
    args: Payload,
    context: ActivityContext,
    /// Closed when its attempt has ended without it.
    end: oneshot::Sender<Attempted>,
}

impl Batches {
    /// The code of a batch activity, as one attempt of it sees it: to join a batch, and to wait for its part.
    pub fn joining<S: Send + 'static>(
        &self,
        (entry, batch): (&ActivityEntry, &Batch),
        task: &Task,
        context: &ActivityContext,
        (slot, slots): (S, Option<Arc<Semaphore>>),
    ) -> ActivityEntry {
        let (all, context) = (self.clone(), context.clone());
        let name = (task.queue.clone(), task.activity.clone());
        let code = Code { entry: entry.clone(), batch: batch.clone(), slots };
        let slot = Mutex::new(Some(slot));
        // What took an execution down, or kept it, may have been this task: it does so to no others.
        let kept = |last: &Failure| matches!(last.kind, FailureKind::Panicked | FailureKind::TimedOut);
        let alone = task.failures.last().is_some_and(kept);
        entry.through(move |args| {
            let (all, name, code, context) = (all.clone(), name.clone(), code.clone(), context.clone());
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let (end, ended) = oneshot::channel();
                let member = Member { args, context, end };
                if alone {
                    tokio::spawn(execute(code, vec![member], slot));
                } else {
                    drop(slot);
                    all.join(name, &code, member);
                }
                match ended.await {
                    Ok(end) => end,
                    Err(_) => Err(left_out()),
                }
            }
            .boxed()
        })
    }

    fn join(&self, name: Name, code: &Code, member: Member) {
        let full = {
            let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            open.next += 1;
            let number = open.next;
            let gathering = open.batches.entry(name.clone()).or_insert_with(|| {
                tokio::spawn(self.clone().gather(name.clone(), number, code.clone()));
                Gathering { number, members: Vec::new() }
            });
            gathering.members.push(member);
            if gathering.members.len() >= code.batch.max { open.batches.remove(&name) } else { None }
        };
        if let Some(full) = full {
            let code = code.clone();
            tokio::spawn(async move {
                let slot = code.slot().await;
                execute(code, full.members, slot).await;
            });
        }
    }

    /// Waits for a batch that does not get full meanwhile. It takes more as long as there is no slot for it.
    async fn gather(self, name: Name, number: u64, code: Code) {
        sleep(code.batch.wait).await;
        let slot = code.slot().await;
        let waited = {
            let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one may gather, since this one was full.
            let is_this = open.batches.get(&name).is_some_and(|gathering| gathering.number == number);
            is_this.then(|| open.batches.remove(&name)).flatten()
        };
        if let Some(waited) = waited {
            execute(code, waited.members, slot).await;
        }
    }
}

impl Code {
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.slots.as_ref()?).acquire_owned().await.ok()
    }
}

/// One execution, for as long as anybody waits for a part of it.
async fn execute<S: Send + 'static>(code: Code, members: Vec<Member>, slot: S) {
    let Code { entry, batch, .. } = code;
    let wanted = members.into_iter().filter(|member| !member.end.is_closed() && !member.context.is_cancelled());
    let (mut args, mut contexts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for Member { args: own, context, end } in wanted {
        args.push(own);
        contexts.push(context);
        ends.push(end);
    }
    if ends.is_empty() {
        return;
    }
    let tasks = ends.len();
    tracing::debug!(activity = entry.name, tasks, "tasks are done in one execution");
    let executed = async {
        if !entry.blocking {
            let _slot = slot;
            let batch = activity::with_batch(contexts, batch.run(args));
            return AssertUnwindSafe(batch).catch_unwind().await;
        }
        let blocking = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            futures::executor::block_on(activity::with_batch(contexts, batch.run(args)))
        });
        match blocking.await {
            Ok(ended) => Ok(ended),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => Err(panic),
                // The runtime is shutting down: nobody may settle this.
                Err(_) => std::future::pending().await,
            },
        }
    };
    let parts = tokio::select! {
        parts = executed => parts,
        _ = join_all(ends.iter_mut().map(oneshot::Sender::closed)) => return,
    };
    let parts = parts.unwrap_or_else(|panic| vec![Err(panicked(&*panic)); tasks]);
    for (end, part) in ends.into_iter().zip(parts) {
        // It may have timed out meanwhile.
        let _ = end.send(part);
    }
}

/// For a task that was cancelled before its batch began: its end is decided by that.
fn left_out() -> AttemptError {
    let failure = Failure::new(FailureKind::Cancelled, "nobody waits for it any more");
    AttemptError { failure, retryable: true }
}

#[cfg(test)]
mod tests;
