//! Definitions as values, without the author's types: what a worker keeps and calls.
//!
//! An entry knows how to begin; it does not poll, time or retry anything.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::{Failure, Payload};
use futures::future::{BoxFuture, LocalBoxFuture};

use crate::intercept::Attempted;
use crate::schema::Schemas;

/// Where an author wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceLocation {
    pub file: &'static str,
    pub line: u32,
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The future of a run: the encoded result, or the failure as it is recorded.
pub(crate) type RunFuture = LocalBoxFuture<'static, Result<Payload, Failure>>;

/// The code of one version of a workflow.
#[derive(Clone)]
pub struct WorkflowEntry {
    pub name: &'static str,
    pub version: u32,
    pub location: SourceLocation,
    /// What its crate was built from: what `EVERPULSE_BUILD` said then, or the git revision.
    pub build: Option<&'static str>,
    /// What its types say of themselves.
    pub schemas: fn() -> Schemas,
    pub(crate) identity: TypeId,
    /// Makes the future; fails if the arguments are no arguments of this workflow.
    pub(crate) begin: fn(&Payload) -> Result<RunFuture, Box<Failure>>,
}

impl fmt::Debug for WorkflowEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkflowEntry({} version {}, {})", self.name, self.version, self.location)
    }
}

/// Runs one attempt of an activity, given its arguments.
pub(crate) type Attempt = Arc<dyn Fn(Payload) -> BoxFuture<'static, Result<Payload, AttemptError>> + Send + Sync>;

/// The code of an activity.
#[derive(Clone)]
pub struct ActivityEntry {
    pub name: String,
    pub location: SourceLocation,
    /// It is a plain `fn`: polling the attempt blocks the thread until it is done.
    pub blocking: bool,
    /// The queue of calls that name no other.
    pub queue: &'static str,
    /// As of workflows.
    pub schemas: fn() -> Schemas,
    pub(crate) identity: TypeId,
    /// It does several tasks in one execution.
    pub batch: Option<Batch>,
    pub(crate) attempt: Attempt,
}

/// Runs one attempt at each of several tasks, given their arguments.
pub(crate) type Together = Arc<dyn Fn(Vec<Payload>) -> BoxFuture<'static, Vec<Attempted>> + Send + Sync>;

/// How tasks are put together, and their code.
#[derive(Clone)]
pub struct Batch {
    /// So many at most.
    pub max: usize,
    /// So long the first one waits for others.
    pub wait: Duration,
    pub(crate) together: Together,
}

impl Batch {
    /// One attempt at each task: what they came to, in their order. A panic of the author's code passes through.
    #[must_use]
    pub fn run(&self, args: Vec<Payload>) -> BoxFuture<'static, Vec<Attempted>> {
        (self.together)(args)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch(at most {}, within {:?})", self.max, self.wait)
    }
}

impl ActivityEntry {
    /// The same, whose attempts go another way: into a batch, say. They block no thread.
    #[must_use]
    pub fn through(&self, attempt: impl Fn(Payload) -> BoxFuture<'static, Attempted> + Send + Sync + 'static) -> Self {
        Self { attempt: Arc::new(attempt), blocking: false, batch: None, ..self.clone() }
    }

    /// One attempt. A panic of the author's code passes through: whoever polls catches it.
    #[must_use]
    pub fn run(&self, args: Payload) -> BoxFuture<'static, Result<Payload, AttemptError>> {
        (self.attempt)(args)
    }
}

impl fmt::Debug for ActivityEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActivityEntry({} on queue {}, {})", self.name, self.queue, self.location)
    }
}

/// How an attempt at an activity or a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    pub failure: Failure,
    /// False: the author said `never`, or another attempt cannot go better.
    pub retryable: bool,
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failure, f)
    }
}

impl std::error::Error for AttemptError {}
