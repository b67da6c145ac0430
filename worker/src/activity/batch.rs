//! Batches: tasks of one activity, of whatever runs, that are done in one execution of its code.
//!
//! ```text
//!  task ─► slot ─► join ─┐                                    ┌─► its own end ─► judged, settled, acked by itself
//!  task ─► slot ─► join ─┼─► full: in the slot of the last ───┼─► ..
//!  task ─► slot ─► join ─┘   or waited: in the next free one  └─► ..
//! ```
//! Here tasks are only put together. Each stays an attempt of its own, with its own time-outs, heartbeats, interceptors and
//! retries: what it waits for is its part of what the execution gives back. It gives its slot back when it joins, so that
//! more may come; the execution has one, as one attempt has elsewhere, and the permit to run where workers share those: to join
//! takes none. Time counts from there.
//!
//! A batch that is full has the slot of the task that made it so. So those that wait here are fewer than one batch for each
//! activity, whatever comes, and beside them there is what is executed.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, FailureKind, Payload};
use everpulse_sdk::activity::{self, ActivityContext};
use everpulse_sdk::definition::{ActivityEntry, AttemptError, Batch};
use everpulse_sdk::intercept::Attempted;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use super::attempt::{Pulse, blocking, panicked};
use super::room::{Needs, Room, Slot};

/// The batches that still take tasks, by activity. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Batches(Arc<Shared>);

#[derive(Default)]
struct Shared {
    open: Mutex<Open>,
    /// Nobody is waited for any more.
    closing: watch::Sender<bool>,
}

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
    room: Option<Room>,
}

/// A batch that takes more.
struct Gathering {
    number: u64,
    members: Vec<Member>,
    /// Who waits for it to be full.
    gatherer: AbortHandle,
}

/// A task in a batch.
struct Member {
    args: Payload,
    context: ActivityContext,
    pulse: Arc<Pulse>,
    /// What its interceptors stand for.
    span: Span,
    /// Closed when its attempt has ended without it.
    end: oneshot::Sender<Attempted>,
}

impl Batches {
    /// The code of a batch activity, as one attempt of it sees it: to join a batch, and to wait for its part.
    pub fn joining(
        &self,
        (entry, batch): (&ActivityEntry, &Batch),
        task: &Task,
        (context, pulse): (&ActivityContext, &Arc<Pulse>),
        (slot, room): (Option<Slot>, Option<Room>),
    ) -> ActivityEntry {
        let (all, context, pulse) = (self.clone(), context.clone(), Arc::clone(pulse));
        let name = (task.queue.clone(), task.activity.clone());
        let code = Code { entry: entry.clone(), batch: batch.clone(), room };
        let slot = Mutex::new(slot);
        let alone = is_alone(task);
        entry.through(move |args| {
            let (all, name, code) = (all.clone(), name.clone(), code.clone());
            let (context, pulse) = (context.clone(), Arc::clone(&pulse));
            let slot = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let (end, ended) = oneshot::channel();
                pulse.pause();
                let member = Member { args, context: context.clone(), pulse, span: Span::current(), end };
                if alone {
                    tokio::spawn(execute(code, vec![member], slot));
                } else {
                    all.join(name, &code, member, slot);
                }
                match ended.await {
                    Ok(end) => end,
                    Err(_) if context.is_cancelled() => Err(left_out()),
                    // The runtime is shutting down: nobody may settle this.
                    Err(_) => std::future::pending().await,
                }
            }
            .boxed()
        })
    }

    /// Whether any batch waits for more.
    #[cfg(test)]
    pub fn is_gathering(&self) -> bool {
        !self.0.open.lock().unwrap_or_else(PoisonError::into_inner).batches.is_empty()
    }

    /// How many tasks are in batches that take more.
    #[cfg(test)]
    pub fn gathered(&self) -> usize {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.batches.values().map(|gathering| gathering.members.len()).sum()
    }

    /// From now on no batch waits for others: the worker is shutting down, and takes no tasks.
    pub fn close(&self) {
        self.0.closing.send_replace(true);
    }

    fn join(&self, name: Name, code: &Code, member: Member, slot: Option<Slot>) {
        let full = {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.next += 1;
            let number = open.next;
            let gathering = open.batches.entry(name.clone()).or_insert_with(|| {
                let gathering = tokio::spawn(self.clone().gather(name.clone(), number, code.clone()));
                Gathering { number, members: Vec::new(), gatherer: gathering.abort_handle() }
            });
            gathering.members.push(member);
            if gathering.members.len() >= code.batch.max { open.batches.remove(&name) } else { None }
        };
        if let Some(full) = full {
            // It may wait for a slot, and needs none.
            full.gatherer.abort();
            tokio::spawn(full.run(code.clone(), slot));
        }
    }

    /// Waits for a batch that does not get full meanwhile. It takes more as long as there is no slot for it.
    async fn gather(self, name: Name, number: u64, code: Code) {
        let mut closing = self.0.closing.subscribe();
        tokio::select! {
            () = sleep(code.batch.wait) => {}
            // No error: this has the sender.
            _ = closing.wait_for(|closing| *closing) => {}
        }
        let slot = code.slot().await;
        let waited = {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one may gather, since this one was full.
            let is_this = open.batches.get(&name).is_some_and(|gathering| gathering.number == number);
            is_this.then(|| open.batches.remove(&name)).flatten()
        };
        if let Some(waited) = waited {
            execute(code, waited.members, slot).await;
        }
    }
}

impl Gathering {
    /// What is full needs permits of those that are shared, beside the slot that it has.
    async fn run(self, code: Code, mut slot: Option<Slot>) {
        if let Some(slot) = &mut slot {
            slot.run_full().await;
        }
        execute(code, self.members, slot).await;
    }
}

/// What took an execution down, or kept it, may have been this task: it does so to no others. And where others could use up
/// its last attempt, which is not its first, it makes that alone.
pub(super) fn is_alone(task: &Task) -> bool {
    let kept = |last: &Failure| matches!(last.kind, FailureKind::Panicked | FailureKind::TimedOut);
    let max_attempts = task.options.retry.max_attempts;
    let is_last = max_attempts.is_some_and(|max| max > 1 && task.counted_attempts() >= max);
    is_last || task.failures.last().is_some_and(kept)
}

impl Code {
    /// For an execution of tasks that have begun.
    async fn slot(&self) -> Option<Slot> {
        self.room.as_ref()?.enter(Needs::ToRun).await
    }

    /// For one that is executed once more, which counts as one more that begins.
    async fn again(&self) -> Option<Slot> {
        let mut slot = self.room.as_ref()?.enter(Needs::All).await?;
        slot.begin();
        Some(slot)
    }

    /// One execution. A panic of the author's code is given as such.
    async fn run<S: Send + 'static>(
        &self,
        args: Vec<Payload>,
        contexts: Vec<ActivityContext>,
        span: Span,
        slot: S,
    ) -> Result<Vec<Attempted>, Box<dyn Any + Send>> {
        let executed = async {
            let batch = activity::with_batch(contexts, self.batch.run(args));
            if self.entry.blocking {
                return blocking(span, slot, || futures::executor::block_on(batch)).await;
            }
            let _slot = slot;
            batch.instrument(span).await
        };
        AssertUnwindSafe(executed).catch_unwind().await
    }

    /// What a task came to whose execution with others went wrong is found out without them, in the same attempt.
    fn again_alone(self, mut member: Member) -> BoxFuture<'static, ()> {
        async move {
            member.pulse.pause();
            let slot = tokio::select! {
                slot = self.again() => slot,
                () = member.end.closed() => return,
            };
            execute(self, vec![member], slot).await;
        }
        .boxed()
    }
}

/// One execution, for as long as anybody waits for a part of it.
async fn execute<S: Send + 'static>(code: Code, members: Vec<Member>, slot: S) {
    let wanted = |member: &Member| !member.end.is_closed() && !member.context.is_cancelled();
    let mut members: Vec<Member> = members.into_iter().filter(wanted).collect();
    let Some(span) = members.first().map(|first| first.span.clone()) else { return };
    let tasks = members.len();
    tracing::debug!(activity = code.entry.name, tasks, "tasks are done in one execution");
    let args = members.iter().map(|member| member.args.clone()).collect();
    let contexts = members.iter().map(|member| member.context.clone()).collect();
    members.iter().for_each(|member| member.pulse.begin());
    let executed = tokio::select! {
        executed = code.run(args, contexts, span, slot) => executed,
        _ = join_all(members.iter_mut().map(|member| member.end.closed())) => return,
    };
    let parts = executed.unwrap_or_else(|panic| vec![Err(panicked(&*panic)); tasks]);
    if tasks > 1 && parts.iter().any(is_nobodys) {
        tracing::warn!(
            activity = code.entry.name,
            tasks,
            "an execution went wrong; its tasks are done again, each alone"
        );
    }
    for (member, part) in members.into_iter().zip(parts) {
        // A panic and a wrong number of results are nobody's: which of them it was one alone can tell.
        if tasks > 1 && is_nobodys(&part) {
            tokio::spawn(code.clone().again_alone(member));
        } else {
            // It may have timed out meanwhile.
            let _ = member.end.send(part);
        }
    }
}

fn is_nobodys(part: &Attempted) -> bool {
    part.as_ref().is_err_and(|error| error.failure.kind == FailureKind::Panicked)
}

/// For a task that was cancelled before its batch began: its end is decided by that.
fn left_out() -> AttemptError {
    let failure = Failure::new(FailureKind::Cancelled, "nobody waits for it any more");
    AttemptError { failure, retryable: true }
}

#[cfg(test)]
mod tests;
