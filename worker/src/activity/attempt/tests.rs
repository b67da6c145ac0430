//! Ends of attempts, most of them in virtual time: no broker.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use everpulse_sdk::definition::FunctionActivity;
use everpulse_sdk::intercept::{Interceptor, Next};
use tracing::Instrument as _;

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

static BEGAN: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicBool = AtomicBool::new(false);

#[everpulse_sdk::activity(crate = everpulse_sdk)]
fn kept_out() -> bool {
    BEGAN.store(true, Ordering::SeqCst);
    true
}

/// Lets the attempt in after a minute.
struct Slow;

struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {
        DROPPED.store(true, Ordering::SeqCst);
    }
}

impl Interceptor for Slow {
    async fn attempt(&self, _: &ActivityContext, next: Next<'_>) -> Attempted {
        let _dropped = Dropped;
        sleep(Duration::from_secs(60)).await;
        next.run().await
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_around_a_plain_function_ends_with_the_attempt_and_lets_nothing_begin() {
    let mut task = task("kept_out", one("none", 0));
    task.options.start_to_close_ms = 1_000;
    let mut interceptors = Interceptors::default();
    interceptors.push(Slow);
    let pulse = Pulse::new();
    let context = ActivityContext::new(&task, pulse.clone());
    let end = run((&kept_out::entry(), &interceptors), &task, context, &pulse, bounds(), ()).await;
    assert_eq!(failure(end).0.kind, FailureKind::TimedOut);
    assert!(DROPPED.load(Ordering::SeqCst), "it is dropped where it waits");
    sleep(Duration::from_secs(3_600)).await;
    assert!(!BEGAN.load(Ordering::SeqCst));
}

#[tokio::test]
async fn what_waits_for_a_thread_when_its_attempt_ends_does_not_begin() {
    let began = Arc::new(AtomicBool::new(false));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).build();
    let runtime = runtime.expect("a runtime");
    // The only thread is taken.
    let busy = runtime.spawn_blocking(move || released.recv());
    let (told, (waits, it_waits)) = (began.clone(), tokio::sync::oneshot::channel());
    let waiting = runtime.spawn(async move {
        let mut work = Box::pin(blocking(Span::none(), (), move || told.store(true, Ordering::SeqCst)));
        assert!(futures::poll!(&mut work).is_pending());
        waits.send(()).expect("it is waited for");
        work.await
    });
    it_waits.await.expect("no panic");
    waiting.abort();
    assert!(waiting.await.expect_err("it is dropped").is_cancelled());
    // Behind it: when this has run, its turn is over.
    let behind = runtime.spawn_blocking(|| ());
    release.send(()).expect("it waits");
    busy.await.expect("no panic").expect("released");
    behind.await.expect("no panic");
    assert!(!began.load(Ordering::SeqCst));
    runtime.shutdown_background();
}

static SPANS: Mutex<Vec<Option<&'static str>>> = Mutex::new(Vec::new());

fn note_span() {
    let name = Span::current().metadata().map(tracing::Metadata::name);
    SPANS.lock().expect("unpoisoned").push(name);
}

#[everpulse_sdk::activity(crate = everpulse_sdk)]
fn traced() {
    note_span();
}

/// A span around each attempt.
struct Traced;

impl Interceptor for Traced {
    async fn attempt(&self, _: &ActivityContext, next: Next<'_>) -> Attempted {
        next.run().instrument(tracing::info_span!("around")).await
    }
}

#[tokio::test]
async fn a_plain_function_is_in_the_span_that_stands_around_it() {
    // For all threads, as the function runs on another one. Nobody else in this program asks in which span he is.
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).expect("the only one");
    let task = task("traced", one("none", 0));
    let mut interceptors = Interceptors::default();
    interceptors.push(Traced);
    let pulse = Pulse::new();
    let context = ActivityContext::new(&task, pulse.clone());
    let end = run((&traced::entry(), &interceptors), &task, context, &pulse, bounds(), ()).await;
    assert!(matches!(end, End::Done(_)), "{end:?}");
    assert_eq!(*SPANS.lock().expect("unpoisoned"), [Some("around")]);
}
