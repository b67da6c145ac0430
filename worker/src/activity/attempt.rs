//! One attempt at an activity, from its first poll to its end: time-outs, heartbeats, panics, cancellation. What
//! follows from the end is decided by the engine's `attempt`.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpulse_engine::attempt::End;
use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, FailureKind, Payload};
use everpulse_sdk::activity::{self, ActivityContext, Heartbeats};
use everpulse_sdk::definition::{ActivityEntry, AttemptError};
use everpulse_sdk::intercept::{Attempted, Interceptors};
use futures::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock;
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
        () = sleep(limit) => timed_out(format!("took longer than {limit:?}")),
    }
}

/// Polls the author's code, here or on a thread that may block, and catches its panics.
#[expect(clippy::result_large_err, reason = "it is the type of the author's future")]
async fn work<S: Send + 'static>(
    entry: &ActivityEntry,
    interceptors: &Interceptors,
    args: Payload,
    context: ActivityContext,
    slot: S,
) -> Attempted {
    if !entry.blocking {
        let _slot = slot;
        let attempt = async {
            let attempt = interceptors.attempt(entry, &context, args);
            activity::with(context, attempt).await
        };
        return AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)));
    }
    // All that stands around it as well: it is one future.
    let (entry, interceptors) = (entry.clone(), interceptors.clone());
    let blocking = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        let attempt = interceptors.attempt(&entry, &context, args);
        activity::with_sync(context, || futures::executor::block_on(attempt))
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
mod tests {
    use everpulse_sdk::definition::FunctionActivity;

    use super::*;
    use crate::trial::task;

    type Failed = everpulse_sdk::Error;

    #[everpulse_sdk::activity(crate = everpulse_sdk)]
    async fn forever() -> Result<(), Failed> {
        std::future::pending().await
    }

    /// Beats every 3 s, so often, and then no more.
    #[everpulse_sdk::activity(crate = everpulse_sdk)]
    async fn beating(times: u32) -> Result<(), Failed> {
        for n in 0..times {
            sleep(Duration::from_secs(3)).await;
            activity::context().heartbeat(n);
        }
        std::future::pending().await
    }

    #[everpulse_sdk::activity(crate = everpulse_sdk)]
    async fn panicking(message: String) -> Result<(), Failed> {
        panic!("{message}")
    }

    #[everpulse_sdk::activity(crate = everpulse_sdk)]
    fn thread(panics: bool) -> String {
        assert!(!panics, "on a thread");
        activity::context().idempotency_key().to_owned()
    }

    #[everpulse_sdk::activity(crate = everpulse_sdk)]
    async fn large(bytes: usize) -> String {
        "x".repeat(bytes)
    }

    fn one<T: serde::Serialize>(name: &str, value: T) -> Payload {
        Payload::encode(&std::collections::BTreeMap::from([(name, value)])).expect("encodes")
    }

    fn bounds() -> Bounds {
        Bounds { cancel_grace: Duration::from_secs(5), payload_bytes_max: 1_000 }
    }

    async fn run_task<D: FunctionActivity>(task: &Task) -> (End, Duration) {
        let pulse = Pulse::new();
        let context = ActivityContext::new(task, pulse.clone());
        let began = Instant::now();
        let end = run((&D::entry(), &Interceptors::default()), task, context, &pulse, bounds(), ()).await;
        (end, began.elapsed())
    }

    fn failure(end: End) -> (Failure, bool, Option<Payload>) {
        match end {
            End::Failed { failure, retryable, heartbeat } => (failure, retryable, heartbeat),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_takes_too_long_is_retried() {
        let mut task = task("forever", one("none", 0));
        task.options.start_to_close_ms = 30_000;
        let (end, took) = run_task::<forever>(&task).await;
        let (failure, retryable, _) = failure(end);
        assert_eq!((failure.kind, retryable), (FailureKind::TimedOut, true));
        assert_eq!(failure.message, "attempt 1 of activity `forever` took longer than 30s");
        assert_eq!(took.as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_falls_silent_ends_before_its_time_out_and_its_last_details_stay() {
        let mut task = task("beating", one("times", 4));
        task.options.start_to_close_ms = 600_000;
        task.options.heartbeat_ms = Some(5_000);
        let (end, took) = run_task::<beating>(&task).await;
        let (failure, retryable, heartbeat) = failure(end);
        assert_eq!((failure.kind, retryable), (FailureKind::TimedOut, true));
        assert_eq!(failure.message, "attempt 1 of activity `beating` gave no heartbeat for 5s");
        assert_eq!(heartbeat, Some(Payload::encode(&3).expect("encodes")));
        assert_eq!(took.as_secs(), 4 * 3 + 5);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_that_is_retried() {
        let (end, _) = run_task::<panicking>(&task("panicking", one("message", "no such table"))).await;
        let (failure, retryable, _) = failure(end);
        assert_eq!((failure.kind, retryable), (FailureKind::Panicked, true));
        assert_eq!(failure.message, "activity panicked: no such table");
    }

    #[tokio::test]
    async fn a_plain_function_runs_on_a_blocking_thread_with_its_context() {
        let good = task("thread", one("panics", false));
        let (end, _) = run_task::<thread>(&good).await;
        assert_eq!(end, End::Done(Payload::encode(&good.idempotency_key()).expect("encodes")));
        let (end, _) = run_task::<thread>(&task("thread", one("panics", true))).await;
        let (failure, ..) = failure(end);
        assert_eq!(failure.message, "activity panicked: on a thread");
    }

    #[tokio::test]
    async fn a_result_that_is_too_large_is_final_and_says_what_to_do() {
        let (end, _) = run_task::<large>(&task("large", one("bytes", 2_000))).await;
        let (failure, retryable, _) = failure(end);
        assert!(!retryable);
        assert!(failure.message.contains("put it into a store and return where it is"), "{failure}");
        let (end, _) = run_task::<large>(&task("large", one("bytes", 10))).await;
        assert!(matches!(end, End::Done(_)));
    }

    #[tokio::test]
    async fn arguments_that_cannot_be_read_are_final() {
        let (end, _) = run_task::<large>(&task("large", one("bytes", "many"))).await;
        let (failure, retryable, _) = failure(end);
        assert_eq!((failure.kind, retryable), (FailureKind::Undecodable, false));
    }

    #[everpulse_sdk::activity(crate = everpulse_sdk)]
    async fn leaving() -> Result<u64, Failed> {
        activity::context().heartbeat("half done");
        activity::context().complete_later().await
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_left_to_be_completed_later_ends_at_once_with_its_time_out_ahead() {
        let mut task = task("leaving", one("none", 0));
        task.options.start_to_close_ms = 3_600_000;
        let before = clock::now();
        let (end, took) = run_task::<leaving>(&task).await;
        let End::Left { until, heartbeat } = end else { panic!("{end:?}") };
        assert_eq!(took, Duration::ZERO);
        assert!(until >= before.after(Duration::from_secs(3_600)), "{until:?}");
        assert_eq!(heartbeat, Some(Payload::encode(&"half done").expect("encodes")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_attempt_has_a_while_to_end() {
        let mut task = task("forever", one("none", 0));
        task.options.start_to_close_ms = 600_000;
        let pulse = Pulse::new();
        let context = ActivityContext::new(&task, pulse.clone());
        context.cancel();
        let began = Instant::now();
        let end = run((&forever::entry(), &Interceptors::default()), &task, context, &pulse, bounds(), ()).await;
        assert_eq!((end, began.elapsed().as_secs()), (End::Cancelled, 5));
    }
}
