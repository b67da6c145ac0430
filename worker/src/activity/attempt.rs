//! One attempt at an activity, from its first poll to its end: time-outs, heartbeats, panics, cancellation. What
//! follows from the end is decided in `verdict`.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, FailureKind, Payload};
use everpulse_sdk::activity::{self, ActivityContext, Heartbeats};
use everpulse_sdk::definition::{ActivityEntry, AttemptError};
use futures::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use super::verdict::End;
use crate::host::step::panic_message;

/// Bounds of an attempt that the task does not name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub cancel_grace: Duration,
    pub payload_bytes_max: usize,
}

/// Listens to the heartbeats of one attempt.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<Beat>);

#[derive(Debug)]
struct Beat {
    at: Instant,
    details: Option<Payload>,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Beat { at: Instant::now(), details: None })))
    }

    fn details(&self) -> Option<Payload> {
        self.lock().details.clone()
    }

    /// Ends when nothing was heard for so long.
    async fn silence(&self, limit: Duration) {
        loop {
            let until = self.lock().at + limit;
            if Instant::now() >= until {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Beat> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeats for Pulse {
    fn beat(&self, details: Option<Payload>) {
        let mut beat = self.lock();
        beat.at = Instant::now();
        beat.details = details.or(beat.details.take());
    }
}

/// Runs the attempt. `slot` is held as long as the author's code runs: on a blocking thread also after a time-out.
///
/// Dropping the future drops that of the activity; a blocking one goes on, and nobody waits for it.
pub(crate) async fn run<S: Send + 'static>(
    entry: &ActivityEntry,
    task: &Task,
    context: ActivityContext,
    pulse: &Pulse,
    bounds: Bounds,
    slot: S,
) -> End {
    let limit = Duration::from_millis(task.options.start_to_close_ms);
    let heartbeat = task.options.heartbeat_ms.map(Duration::from_millis);
    let silence = async {
        match heartbeat {
            Some(limit) => pulse.silence(limit).await,
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
        result = work(entry, task.args.clone(), context.clone(), slot) => {
            if context.is_cancelled() { End::Cancelled } else { ended(result, task, pulse, bounds) }
        }
        () = given_up => End::Cancelled,
        () = silence => timed_out(format!("gave no heartbeat for {:?}", heartbeat.unwrap_or_default())),
        () = sleep(limit) => timed_out(format!("took longer than {limit:?}")),
    }
}

type Result<T> = std::result::Result<T, AttemptError>;

/// Polls the author's code, here or on a thread that may block, and catches its panics.
async fn work<S: Send + 'static>(
    entry: &ActivityEntry,
    args: Payload,
    context: ActivityContext,
    slot: S,
) -> Result<Payload> {
    if !entry.blocking {
        let _slot = slot;
        let attempt = async { activity::with(context, entry.run(args)).await };
        return AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)));
    }
    let entry = entry.clone();
    let blocking = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        activity::with_sync(context, || futures::executor::block_on(entry.run(args)))
    });
    match blocking.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(panicked(&*panic)),
            // The runtime is shutting down: nobody may settle this.
            Err(_) => std::future::pending().await,
        },
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> AttemptError {
    let message = format!("activity panicked: {}", panic_message(panic));
    // Perhaps the next attempt meets better data, or better code.
    AttemptError { failure: Failure::new(FailureKind::Panicked, message), retryable: true }
}

fn ended(result: Result<Payload>, task: &Task, pulse: &Pulse, bounds: Bounds) -> End {
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
