//! What stands around attempts at activities, and what looks on at runs: tracing, metrics, checks of who may do what.
//!
//! ```text
//!  attempt ─► first interceptor ─► second ─► the author's code
//!     ◄────────────── ◄─────────────── ◄──────────┘  what it came to
//!
//!  a frame stands ─► every interceptor is told what happened to its runs
//! ```
//! An interceptor may keep an attempt from beginning, and change what it came to: activities are not replayed. To a run it can
//! do nothing, as a run is a function of its history: it is told of what is in it already. What a run takes from outside are the
//! [`Headers`] that came with its start. `docs/decisions/interceptors-look-on.md` says why.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use everpulse_protocol::Headers;
use everpulse_protocol::history::CloseStatus;
use everpulse_protocol::{Failure, FailureKind, Payload, RunId, WorkflowId};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::activity::ActivityContext;
use crate::definition::ActivityEntry;
pub use crate::definition::AttemptError;

/// What an attempt came to: its encoded result, or how it failed.
pub type Attempted = Result<Payload, AttemptError>;

/// Stands around each attempt at an activity of a worker, and looks on at its runs.
///
/// ```
/// use everpulse_sdk::activity::ActivityContext;
/// use everpulse_sdk::intercept::{AttemptError, Attempted, Interceptor, Next};
///
/// /// Lets nobody in whose run was not started with the right token.
/// struct Door {
///     token: String,
/// }
///
/// impl Interceptor for Door {
///     async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
///         if context.header("authorization") != Some(&self.token) {
///             let refused = AttemptError::refused(format!("`{}` needs a token", context.activity()));
///             return Err(refused.not_retryable());
///         }
///         next.run().await
///     }
/// }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// One attempt: `next.run()` goes on with it, once, and gives what it came to. It counts against the attempt's time-outs,
    /// and a panic here is one of the attempt.
    ///
    /// # Cancel safety
    /// When the attempt times out, is cancelled, or is left to be completed later, this is dropped where it waits: what has to be
    /// done then belongs into a `Drop`.
    fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> impl Future<Output = Attempted> + Send {
        let _ = context;
        next.run()
    }

    /// Something happened to a run, and is in history. It is told by the worker that wrote it, in the order of the run, at most
    /// once: when that worker goes down just then, or is overtaken, nobody is told.
    ///
    /// It is called on a thread that the worker has for this. The run waits for it, for a tenth of a second at most, and not while it is
    /// behind. Where interceptors are so slow that what 1,024 frames tell waits for them, they are not told of what comes then; that is
    /// logged, with its number. A panic is noted and changes nothing.
    fn observe(&self, event: &RunEvent) {
        let _ = event;
    }
}

/// What happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunEvent {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// The workflow's name.
    pub workflow: String,
    /// The recorded time.
    pub at: SystemTime,
    /// What came with the run's start. None where this worker has no key for them.
    pub headers: Headers,
    pub what: Happened,
}

impl RunEvent {
    /// For engines, and for tests of interceptors.
    #[must_use]
    pub fn new(workflow_id: WorkflowId, run_id: RunId, workflow: impl Into<String>, what: Happened) -> Self {
        let (workflow, at, headers) = (workflow.into(), SystemTime::UNIX_EPOCH, Headers::new());
        Self { workflow_id, run_id, workflow, at, headers, what }
    }
}

/// Of what kind it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happened {
    /// It began.
    Started {
        version: u32,
        /// The run that began it, if it was not a client.
        parent: Option<(WorkflowId, RunId)>,
    },
    /// It was given a signal, with what the sender said beside.
    Signalled { name: String, headers: Headers },
    /// It has taken an update, with what whoever asked said beside.
    Updated { name: String, id: String, headers: Headers },
    /// It was asked to cancel.
    CancelRequested { reason: String },
    /// It cannot go on, for a person to look at.
    Parked,
    /// It ended.
    Ended { status: CloseStatus },
}

/// The rest of an attempt: the interceptors further inside, and the author's code.
#[must_use = "the attempt goes on when `run` is awaited"]
pub struct Next<'a> {
    rest: &'a [Arc<dyn Erased>],
    entry: &'a ActivityEntry,
    context: &'a ActivityContext,
    args: Payload,
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({}, {} more)", self.entry.name, self.rest.len())
    }
}

impl<'a> Next<'a> {
    /// Goes on with the attempt.
    pub fn run(self) -> BoxFuture<'a, Attempted> {
        let Self { rest, entry, context, args } = self;
        match rest.split_first() {
            Some((first, rest)) => first.attempt(context, Next { rest, entry, context, args }),
            None => entry.run(args),
        }
    }
}

/// [`Interceptor`] as a value.
trait Erased: Send + Sync {
    fn attempt<'a>(&'a self, context: &'a ActivityContext, next: Next<'a>) -> BoxFuture<'a, Attempted>;
    fn observe(&self, event: &RunEvent);
}

impl<I: Interceptor> Erased for I {
    fn attempt<'a>(&'a self, context: &'a ActivityContext, next: Next<'a>) -> BoxFuture<'a, Attempted> {
        Interceptor::attempt(self, context, next).boxed()
    }

    fn observe(&self, event: &RunEvent) {
        Interceptor::observe(self, event);
    }
}

/// The interceptors of a worker, outermost first. Clones are the same.
#[derive(Clone, Default)]
pub struct Interceptors(Arc<Vec<Arc<dyn Erased>>>);

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interceptors({})", self.0.len())
    }
}

impl Interceptors {
    /// Adds one, inside of those that are there.
    pub fn push(&mut self, interceptor: impl Interceptor) {
        Arc::make_mut(&mut self.0).push(Arc::new(interceptor));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One attempt, with all of them around it. A panic passes through: whoever polls catches it.
    #[must_use]
    pub fn attempt(
        &self,
        entry: &ActivityEntry,
        context: &ActivityContext,
        args: Payload,
    ) -> BoxFuture<'static, Attempted> {
        if self.is_empty() {
            return entry.run(args);
        }
        let (all, entry, context) = (self.clone(), entry.clone(), context.clone());
        async move { Next { rest: &all.0, entry: &entry, context: &context, args }.run().await }.boxed()
    }

    /// Tells all of them.
    pub fn observe(&self, event: &RunEvent) {
        for interceptor in self.0.iter() {
            if catch_unwind(AssertUnwindSafe(|| interceptor.observe(event))).is_err() {
                let RunEvent { workflow_id, run_id, .. } = event;
                tracing::error!(%workflow_id, %run_id, "an interceptor panicked when it was told of a run; the run goes on");
            }
        }
    }
}

impl AttemptError {
    /// The attempt is not let in. Another one may be, as with all failures: it follows as the activity's retry policy says. With
    /// [`not_retryable`](Self::not_retryable) there is none.
    #[must_use]
    pub fn refused(why: impl Into<String>) -> Self {
        Self { failure: Failure::new(FailureKind::Refused, why), retryable: true }
    }

    /// The same, and no other attempt could go better: the workflow gets it at once, a refusal as
    /// [`Failure::Refused`](crate::Failure::Refused).
    #[must_use]
    pub fn not_retryable(self) -> Self {
        Self { retryable: false, ..self }
    }

    /// The same, and another attempt may go better.
    #[must_use]
    pub fn retryable(self) -> Self {
        Self { retryable: true, ..self }
    }

    /// The same, and the next attempt comes after this wait.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.failure.retry_after_ms = Some(crate::options::ms(wait));
        self.retryable()
    }
}
