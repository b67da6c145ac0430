//! One attempt at an activity, from its first poll to its end: time-outs, heartbeats, panics, cancellation. What
//! follows from the end is decided by the engine's `attempt`.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use everpulse_engine::attempt::{End, begin_by, too_late};
use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, FailureKind, Payload};
use everpulse_sdk::activity::{self, ActivityContext, Heartbeats};
use everpulse_sdk::definition::{ActivityEntry, AttemptError};
use everpulse_sdk::intercept::{Attempted, Interceptors};
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Span;

use crate::clock;
use crate::host::step::panic_message;

/// Bounds of an attempt that the task does not name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub cancel_grace: Duration,
    pub payload_bytes_max: usize,
}

/// Listens to the heartbeats of one attempt, and knows since when its time counts.
#[derive(Debug)]
pub(crate) struct Pulse(watch::Sender<Beat>);

#[derive(Debug)]
pub(super) struct Beat {
    /// How many were heard.
    pub beats: u64,
    /// Since when the time-outs count; none while the attempt waits to begin together with others.
    since: Option<Instant>,
    /// It waited, and has begun.
    begun: bool,
    at: Instant,
    pub details: Option<Payload>,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self(watch::Sender::new(Beat { beats: 0, since: Some(now), begun: false, at: now, details: None })))
    }

    /// The attempt waits: for others, or for a slot. No time counts meanwhile.
    pub(super) fn pause(&self) {
        self.0.send_modify(|beat| beat.since = None);
    }

    /// All of its time is ahead, though it was made before.
    pub(super) fn renew(&self) {
        let now = Instant::now();
        self.0.send_modify(|beat| (beat.since, beat.at) = (Some(now), now));
    }

    /// The author's code begins: all of its time is ahead.
    pub(super) fn begin(&self) {
        let now = Instant::now();
        self.0.send_modify(|beat| {
            beat.since = Some(now);
            beat.begun = true;
            beat.at = now;
        });
    }

    /// What is heard from now on.
    pub(super) fn heard(&self) -> watch::Receiver<Beat> {
        self.0.subscribe()
    }

    fn details(&self) -> Option<Payload> {
        self.0.borrow().details.clone()
    }

    /// Ends when the attempt has taken so long.
    async fn took(&self, limit: Duration) {
        self.counted(limit, |beat| beat.since).await;
    }

    /// Ends when nothing was heard for so long.
    async fn silence(&self, limit: Duration) {
        self.counted(limit, |beat| beat.since.map(|_| beat.at)).await;
    }

    async fn counted(&self, limit: Duration, from: impl Fn(&Beat) -> Option<Instant>) {
        let mut changes = self.0.subscribe();
        loop {
            let since = from(&changes.borrow_and_update());
            match since.map(|since| since.checked_add(limit)) {
                Some(Some(until)) if Instant::now() >= until => return,
                Some(Some(until)) => sleep_until(until).await,
                // So far ahead that no clock shows it.
                Some(None) => std::future::pending().await,
                // No error: this has the sender.
                None => {
                    let _ = changes.changed().await;
                }
            }
        }
    }

    /// Ends at `until`, or later, when the attempt still waits to begin.
    async fn waits(&self, until: Instant) {
        sleep_until(until).await;
        // No error, as above.
        let _ = self.0.subscribe().wait_for(|beat| beat.since.is_none() && !beat.begun).await;
    }
}

impl Heartbeats for Pulse {
    fn beat(&self, details: Option<Payload>) {
        self.0.send_modify(|beat| {
            beat.beats += 1;
            beat.at = Instant::now();
            beat.details = details.or(beat.details.take());
        });
    }
}

/// Runs the attempt. `slot` is held as long as the author's code runs: on a blocking thread also after a time-out.
///
/// Dropping the future drops that of the activity and what stands around it; blocking code that has begun goes on, and nobody
/// waits for it.
pub(crate) async fn run<S: Send + Sync + 'static>(
    (entry, interceptors): (&ActivityEntry, &Interceptors),
    task: &Task,
    context: ActivityContext,
    pulse: &Pulse,
    bounds: Bounds,
    slot: S,
) -> End {
    let limit = Duration::from_millis(task.options.start_to_close_ms);
    let until = clock::now().after(limit);
    let heartbeat = task.options.heartbeat_ms.map(Duration::from_millis);
    let silence = async {
        match heartbeat {
            Some(limit) => pulse.silence(limit).await,
            None => std::future::pending().await,
        }
    };
    // What waits for others is not begun with, and may be too late for that.
    let left_waiting = async {
        match begin_by(task) {
            Some(by) => {
                pulse.waits(Instant::now() + by.since(clock::now())).await;
                too_late(task, clock::now().max(by))
            }
            None => std::future::pending().await,
        }
    };
    let given_up = async {
        context.cancelled().await;
        sleep(bounds.cancel_grace).await;
    };
    let timed_out = |what: String| {
        let message = format!("attempt {} of activity `{}` {what}", task.attempt, task.activity);
        let failure = Failure::new(FailureKind::TimedOut, message);
        End::Failed { failure, retryable: true, heartbeat: pulse.details() }
    };
    tokio::select! {
        biased;
        result = work(entry, interceptors, task.args.clone(), context.clone(), slot) => {
            if context.is_cancelled() { End::Cancelled } else { ended(result, task, pulse, bounds) }
        }
        // After the work: it says so in a poll, and the same poll may end it.
        () = context.left() => End::Left { until, heartbeat: pulse.details() },
        () = given_up => End::Cancelled,
        () = silence => timed_out(format!("gave no heartbeat for {:?}", heartbeat.unwrap_or_default())),
        () = pulse.took(limit) => timed_out(format!("took longer than {limit:?}")),
        Some(failure) = left_waiting => End::Failed { failure, retryable: false, heartbeat: None },
    }
}

/// Why a task is not begun with any more, when it is too late for that.
pub(super) async fn left_waiting(task: &Task) -> Option<Failure> {
    let by = begin_by(task)?;
    sleep(by.since(clock::now())).await;
    too_late(task, clock::now().max(by))
}

/// Polls the author's code, with what stands around it, and catches their panics.
#[expect(clippy::result_large_err, reason = "it is the type of the author's future")]
async fn work<S: Send + Sync + 'static>(
    entry: &ActivityEntry,
    interceptors: &Interceptors,
    args: Payload,
    context: ActivityContext,
    slot: S,
) -> Attempted {
    let slot = Arc::new(slot);
    let threaded = entry.blocking.then(|| on_a_thread(entry, &context, &slot));
    let attempt = async {
        let attempt = interceptors.attempt(threaded.as_ref().unwrap_or(entry), &context, args);
        activity::with(context, attempt).await
    };
    let ended = AssertUnwindSafe(attempt).catch_unwind().await;
    drop(slot);
    ended.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// The same activity, whose code runs on a thread that it may block. That alone goes there: what stands around it stays where
/// it can be dropped.
#[expect(clippy::result_large_err, reason = "it is the type of the author's future")]
fn on_a_thread<S: Send + Sync + 'static>(
    entry: &ActivityEntry,
    context: &ActivityContext,
    slot: &Arc<S>,
) -> ActivityEntry {
    let (code, context, slot) = (entry.clone(), context.clone(), Arc::clone(slot));
    entry.through(move |args| {
        let (code, context, slot) = (code.clone(), context.clone(), Arc::clone(&slot));
        async move {
            let work = move || activity::with_sync(context, || futures::executor::block_on(code.run(args)));
            blocking(Span::current(), slot, work).await
        }
        .boxed()
    })
}

/// Runs something on a thread that it may block, and gives its panic on. `slot` is held until it is over.
///
/// # Cancel safety
/// Dropped, it keeps from beginning what waits for a thread. What has begun goes on, and nobody waits for it.
pub(super) async fn blocking<S: Send + 'static, T: Send + 'static>(
    span: Span,
    slot: S,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let work = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        span.in_scope(work)
    });
    let _unbegun = AbortOnDrop(work.abort_handle());
    match work.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down: nobody may settle this.
            Err(_) => std::future::pending().await,
        },
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> AttemptError {
    let message = format!("activity panicked: {}", panic_message(panic));
    // Perhaps the next attempt meets better data, or better code.
    AttemptError { failure: Failure::new(FailureKind::Panicked, message), retryable: true }
}

fn ended(result: Attempted, task: &Task, pulse: &Pulse, bounds: Bounds) -> End {
    match result {
        Ok(value) if value.len() > bounds.payload_bytes_max => {
            let message = format!(
                "the result of activity `{}` has {} bytes, more than {}; put it into a store and return where it is",
                task.activity,
                value.len(),
                bounds.payload_bytes_max
            );
            let failure = Failure::new(FailureKind::Undecodable, message);
            End::Failed { failure, retryable: false, heartbeat: None }
        }
        Ok(value) => End::Done(value),
        Err(AttemptError { mut failure, retryable }) => {
            // An error's value of that size fits nowhere; its message is enough.
            failure.value = failure.value.take().filter(|value| value.len() <= bounds.payload_bytes_max);
            End::Failed { failure, retryable, heartbeat: pulse.details() }
        }
    }
}

#[cfg(test)]
mod tests;
