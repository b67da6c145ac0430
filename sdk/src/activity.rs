//! What an activity can know of the attempt that it is, and report while it runs.
//!
//! The context is made by the worker from a task and is set around each poll of the activity's future.
//! Heartbeats leave through a sink of the worker's; time-outs and retries are the worker's.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use everpulse_protocol::payload::Format;
use everpulse_protocol::task::Task;
use everpulse_protocol::{Headers, Payload, RunId, Token, WorkflowId};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{Either, Shared, pending, ready};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::definition::{ActivityFn, Definition};
use crate::promise::CompletionToken;

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// What is polled now.
#[derive(Debug, Clone)]
enum Current {
    One(ActivityContext),
    /// One execution for several tasks.
    Batch(Arc<[ActivityContext]>),
}

impl Current {
    fn all(&self) -> &[ActivityContext] {
        match self {
            Self::One(context) => std::slice::from_ref(context),
            Self::Batch(contexts) => contexts,
        }
    }
}

/// The attempt that the current activity is.
///
/// It is set while the activity's future is polled: take it before a `tokio::spawn`, and move it in.
///
/// # Panics
/// Outside an activity, and in one with `batch(..)`, which has [`contexts`].
#[must_use]
pub fn context() -> ActivityContext {
    match CURRENT.with_borrow(Clone::clone) {
        Some(Current::One(context)) => context,
        Some(Current::Batch(_)) => panic!(
            "`activity::context` was called in an activity with `batch(..)`, which does several tasks at once: \
             `activity::contexts()` has one for each of them, in their order"
        ),
        None => outside("context"),
    }
}

/// The attempts that the current activity is, which has `batch(..)`: one for each of its items, in their order. Of any other
/// activity it is one.
///
/// # Panics
/// Outside an activity.
#[must_use]
pub fn contexts() -> Vec<ActivityContext> {
    CURRENT.with_borrow(Clone::clone).map_or_else(|| outside("contexts"), |current| current.all().to_vec())
}

fn outside(what: &str) -> ! {
    panic!(
        "`activity::{what}` was called outside an activity: it works while a function with `#[activity]` runs on a worker, \
         on the activity's own task; before `tokio::spawn` take the context and move it in, in tests use \
         `activity::with(context, future)`"
    )
}

/// The format of the attempt that is polled now.
pub(crate) fn current_format() -> Option<Format> {
    let format = |current: &Current| current.all().first().map(|context| context.task.format);
    CURRENT.try_with(|current| current.borrow().as_ref().and_then(format)).ok().flatten()
}

/// A future that runs in a context, as an activity does on a worker.
///
/// ```
/// use everpulse_sdk::activity::{self, ActivityContext};
///
/// let context = ActivityContext::for_test().with_attempt(2);
/// let attempt = activity::with(context, async { activity::context().attempt() });
/// assert_eq!(futures::executor::block_on(attempt), 2);
/// ```
pub fn with<F: Future>(context: ActivityContext, future: F) -> With<F> {
    With { current: Current::One(context), future: Box::pin(future) }
}

/// A future that runs in several contexts, as the code of an activity with `batch(..)` does on a worker.
///
/// ```
/// use everpulse_sdk::activity::{self, ActivityContext};
///
/// let contexts = vec![ActivityContext::for_test(), ActivityContext::for_test().with_attempt(2)];
/// let batch = activity::with_batch(contexts, async { activity::contexts().len() });
/// assert_eq!(futures::executor::block_on(batch), 2);
/// ```
pub fn with_batch<F: Future>(contexts: Vec<ActivityContext>, future: F) -> With<F> {
    With { current: Current::Batch(contexts.into()), future: Box::pin(future) }
}

/// Runs a closure in a context.
pub fn with_sync<T>(context: ActivityContext, run: impl FnOnce() -> T) -> T {
    let _before = Before(CURRENT.replace(Some(Current::One(context))));
    run()
}

/// Gives the thread back the context that it had.
struct Before(Option<Current>);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}

/// A future that runs in a context.
#[must_use = "nothing is done until it is awaited"]
pub struct With<F> {
    current: Current,
    future: Pin<Box<F>>,
}

impl<F> fmt::Debug for With<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("With").field("current", &self.current).finish_non_exhaustive()
    }
}

impl<F: Future> Future for With<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _before = Before(CURRENT.replace(Some(self.current.clone())));
        self.future.as_mut().poll(cx)
    }
}

/// Where heartbeats go. The worker has one per attempt.
pub trait Heartbeats: Send + Sync {
    /// The attempt is alive, and has come so far.
    fn beat(&self, details: Option<Payload>);
}

/// The name of every activity in the context of a test.
const TEST: &str = "test";

/// Which attempt an activity is, and its line to the worker. Clones are the same attempt.
#[derive(Clone)]
pub struct ActivityContext {
    task: Arc<TaskInfo>,
    line: Arc<Line>,
}

/// What of a task concerns the author's code.
#[derive(Debug, Clone)]
struct TaskInfo {
    workflow_id: WorkflowId,
    run_id: RunId,
    step: u32,
    activity: String,
    attempt: u32,
    idempotency_key: String,
    last_heartbeat: Option<Payload>,
    headers: Headers,
    /// In which its values are written.
    format: Format,
}

struct Line {
    heartbeats: Option<Arc<dyn Heartbeats>>,
    cancel: Mutex<Option<oneshot::Sender<()>>>,
    cancelled: Shared<oneshot::Receiver<()>>,
    leave: Mutex<Option<oneshot::Sender<()>>>,
    left: Shared<oneshot::Receiver<()>>,
}

impl Line {
    fn new(heartbeats: Option<Arc<dyn Heartbeats>>) -> Arc<Self> {
        let (cancel, cancelled) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        Arc::new(Self {
            heartbeats,
            cancel: Mutex::new(Some(cancel)),
            cancelled: cancelled.shared(),
            leave: Mutex::new(Some(leave)),
            left: left.shared(),
        })
    }
}

impl ActivityContext {
    /// The context of a task's attempt; for workers.
    #[must_use]
    pub fn new(task: &Task, heartbeats: Arc<dyn Heartbeats>) -> Self {
        let task = TaskInfo {
            workflow_id: task.workflow_id.clone(),
            run_id: task.run_id,
            step: task.step,
            activity: task.activity.clone(),
            attempt: task.attempt,
            idempotency_key: task.idempotency_key(),
            last_heartbeat: task.heartbeat.clone(),
            headers: Headers::of_payload(task.headers.as_ref()).unwrap_or_else(|error| {
                tracing::warn!(activity = task.activity, %error, "a task's headers cannot be read; it is tried without them");
                Headers::new()
            }),
            format: Format::default(),
        };
        Self { task: Arc::new(task), line: Line::new(Some(heartbeats)) }
    }

    /// The first attempt of some activity, with nobody at the other end of the line.
    #[must_use]
    pub fn for_test() -> Self {
        let workflow_id = WorkflowId::new("test").expect("a good id");
        let run_id = RunId(uuid::Uuid::nil());
        let task = TaskInfo {
            idempotency_key: format!("{workflow_id}/{run_id}/0"),
            workflow_id,
            run_id,
            step: 0,
            activity: TEST.to_owned(),
            attempt: 1,
            last_heartbeat: None,
            headers: Headers::new(),
            format: Format::default(),
        };
        Self { task: Arc::new(task), line: Line::new(None) }
    }

    /// The same, whose values are written in another format.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        Arc::make_mut(&mut self.task).format = format;
        self
    }

    /// The same, but another attempt; for tests.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        Arc::make_mut(&mut self.task).attempt = attempt;
        self
    }

    /// The same, with a header; for tests.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.task).headers.insert(name, text);
        self
    }

    /// The same, but of another run; for tests.
    #[must_use]
    pub fn with_workflow_id(mut self, workflow_id: WorkflowId) -> Self {
        let task = Arc::make_mut(&mut self.task);
        task.idempotency_key = format!("{workflow_id}/{}/{}", task.run_id, task.step);
        task.workflow_id = workflow_id;
        self
    }

    /// What others can deduplicate by: `workflow id/run id/step`, the same for all attempts and redrives.
    #[must_use]
    pub fn idempotency_key(&self) -> &str {
        &self.task.idempotency_key
    }

    /// From 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.task.attempt
    }

    /// The workflow that called.
    #[must_use]
    pub fn workflow_id(&self) -> &WorkflowId {
        &self.task.workflow_id
    }

    /// The run that called.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.task.run_id
    }

    /// The number of the command that asked for it.
    #[must_use]
    pub fn step(&self) -> u32 {
        self.task.step
    }

    /// What came with the start of the run that called, under this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.task.headers.get(name)
    }

    /// What came with the start of the run that called.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.task.headers
    }

    /// The activity's own name.
    #[must_use]
    pub fn activity(&self) -> &str {
        &self.task.activity
    }

    /// Says that the attempt is alive, and how far it has come; the next attempt can read it.
    ///
    /// It is cheap, and may come often. Of an activity with a heartbeat time-out, the first details and then the last ones are
    /// sent on to the run's owner, after four fifths of that time-out, or 2 s to 60 s: these outlive the worker. Each of them is an
    /// entry in the run's history. Those that come in between, or are larger than 64 KiB, and those of an activity without a
    /// heartbeat time-out reach the next attempt when this one fails, and not when its worker dies.
    pub fn heartbeat<T: Serialize>(&self, details: T) {
        let Some(heartbeats) = &self.line.heartbeats else { return };
        let details = Payload::encode_as(self.task.format, &details);
        if let Err(error) = &details {
            tracing::warn!(activity = self.task.activity, %error, "a heartbeat is sent without its details");
        }
        heartbeats.beat(details.ok());
    }

    /// What an earlier attempt reported last, if it can be read as a `T`.
    #[must_use]
    pub fn last_heartbeat<T: DeserializeOwned>(&self) -> Option<T> {
        self.task.last_heartbeat.as_ref().and_then(|details| details.decode().ok())
    }

    /// What completes this attempt from outside, once it is left by [`complete_later`](Self::complete_later). It names the
    /// activity's own function, for the types of its result and error: `context.token(sign)`.
    ///
    /// # Panics
    /// When this is another activity than the one that is named.
    pub fn token<Arguments, F>(
        &self,
        _: F,
    ) -> CompletionToken<<F::Definition as Definition>::Output, <F::Definition as Definition>::Error>
    where
        F: ActivityFn<Arguments>,
    {
        let TaskInfo { workflow_id, run_id, step, activity, attempt, .. } = &*self.task;
        let named = <F::Definition as Definition>::NAME;
        assert!(
            named == activity || activity == TEST,
            "`context.token({named})` in activity `{activity}`: the token is that of the activity that is running, so name it"
        );
        let token = Token { workflow_id: workflow_id.clone(), run_id: *run_id, step: *step, attempt: Some(*attempt) };
        CompletionToken::of(token)
    }

    /// Leaves the attempt to be completed later, by whoever has its [`token`](Self::token): a person, a web hook, another
    /// system; from any process, months later, with `client.activity(&token)`. Nothing of the activity's code runs after
    /// this, and no worker is kept busy; so it stands at the end, and is whatever the result's type is.
    ///
    /// The start-to-close time-out goes on: an activity that waits for people has a long one. When it passes, or so long
    /// nothing is told as the heartbeat time-out says, there is another attempt, as the retry policy says, with a token of
    /// its own. A completion that comes before the attempt is left is kept.
    ///
    /// ```
    /// use everpulse_sdk as everpulse;
    /// use everpulse::{CompletionToken, Error, activity};
    /// # async fn post(contract: &str, token: String) -> Result<(), Error> { let _ = (contract, token); Ok(()) }
    ///
    /// #[everpulse::activity(timeout = "30d", crate = everpulse)]
    /// async fn sign(contract: String) -> Result<String, Error> {
    ///     let context = activity::context();
    ///     post(&contract, context.token(sign).to_string()).await?;
    ///     context.complete_later().await
    /// }
    /// ```
    ///
    /// # Panics
    /// In an activity with `batch(..)`: its code goes on for all of its tasks, and cannot leave one of them.
    ///
    /// # Cancel safety
    /// It is said with the first poll, and cannot be taken back. A plain `fn` cannot await it.
    pub async fn complete_later<T>(&self) -> T {
        if CURRENT.with_borrow(|current| matches!(current, Some(Current::Batch(_)))) {
            panic!(
                "`complete_later` was awaited in activity `{}`, which has `batch(..)`: one execution does several tasks, and \
                 would never end for the others. What is to be completed later needs an activity without `batch(..)`",
                self.task.activity
            );
        }
        let leave = lock(&self.line.leave).take();
        if let Some(leave) = leave {
            // The receiver lives as long as this.
            let _ = leave.send(());
        }
        std::future::pending().await
    }

    /// Waits until the activity's code has left the attempt to be completed later; for workers and tests.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub fn left(&self) -> impl Future<Output = ()> + Send + Sync + Unpin + 'static {
        // Whoever drops the attempt with all of its context has not left it.
        self.line.left.clone().then(|left| match left {
            Ok(()) => Either::Left(ready(())),
            Err(_) => Either::Right(pending()),
        })
    }

    /// Waits until nobody wants the result any more. An activity that runs long ends then by itself.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + Sync + Unpin + 'static {
        self.line.cancelled.clone().map(|_| ())
    }

    /// Whether nobody wants the result any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        lock(&self.line.cancel).is_none()
    }

    /// Tells the activity that nobody wants its result; for workers and tests.
    pub fn cancel(&self) {
        let cancel = lock(&self.line.cancel).take();
        if let Some(cancel) = cancel {
            // The receiver lives as long as this.
            let _ = cancel.send(());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ActivityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskInfo { activity, idempotency_key, attempt, .. } = &*self.task;
        write!(f, "ActivityContext({activity}, {idempotency_key}, attempt {attempt})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;

    #[test]
    fn the_context_is_set_around_each_poll_and_not_between() {
        let mut outer = Box::pin(with(ActivityContext::for_test(), async {
            assert_eq!(context().attempt(), 1);
            futures::pending!();
            context().workflow_id().to_string()
        }));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(outer.as_mut().poll(&mut cx).is_pending());
        assert!(CURRENT.with_borrow(Option::is_none));
        assert_eq!(outer.as_mut().poll(&mut cx), Poll::Ready("test".to_owned()));
    }

    #[test]
    fn an_inner_context_hides_an_outer_one_and_gives_it_back() {
        let attempts = with_sync(ActivityContext::for_test(), || {
            let inner = with_sync(ActivityContext::for_test().with_attempt(2), || context().attempt());
            [inner, context().attempt()]
        });
        assert_eq!(attempts, [2, 1]);
    }

    #[test]
    #[should_panic(expected = "`activity::context` was called outside an activity")]
    fn outside_an_activity_it_says_what_to_do() {
        let _ = context();
    }

    #[test]
    fn a_cancellation_reaches_every_clone() {
        let context = ActivityContext::for_test();
        let waiting = context.cancelled();
        assert!(!context.is_cancelled());
        context.clone().cancel();
        assert!(context.is_cancelled());
        block_on(waiting);
        block_on(context.cancelled());
    }

    #[test]
    fn what_is_left_to_be_completed_later_goes_no_further() {
        let context = ActivityContext::for_test();
        let (inner, mut went_on) = (context.clone(), false);
        let mut attempt = Box::pin(with(context.clone(), async {
            let value: u64 = inner.complete_later().await;
            went_on = value > 0;
        }));
        assert!(context.left().now_or_never().is_none());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(attempt.as_mut().poll(&mut cx).is_pending());
        block_on(context.left());
        assert!(attempt.as_mut().poll(&mut cx).is_pending());
        drop(attempt);
        assert!(!went_on);
    }

    #[test]
    #[should_panic(expected = "needs an activity without `batch(..)`")]
    fn a_part_of_a_batch_cannot_be_left_to_be_completed_later() {
        let context = ActivityContext::for_test();
        let batch = with_batch(vec![context.clone()], async move { context.complete_later::<()>().await });
        let _ = batch.now_or_never();
    }

    #[test]
    fn a_heartbeat_arrives_with_its_details() {
        struct Sink(Mutex<Vec<Option<Payload>>>);
        impl Heartbeats for Sink {
            fn beat(&self, details: Option<Payload>) {
                self.0.lock().unwrap().push(details);
            }
        }
        let sink = Arc::new(Sink(Mutex::default()));
        let mut context = ActivityContext::for_test();
        context.line = Line::new(Some(sink.clone()));
        context.heartbeat(("rows", 7));
        assert_eq!(*sink.0.lock().unwrap(), [Some(Payload::encode(&("rows", 7)).unwrap())]);
    }
}
