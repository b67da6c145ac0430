//! What stands around the calls of a client: traces that begin here, tokens that every start needs, metrics.
//!
//! ```text
//!  client.start(..).await ─► first interceptor ─► second ─► sent, asked, answered
//!        ◄────────────── ◄─────────────── ◄──────────┘  whether it went well
//! ```
//! An interceptor sees what is called and whether it went well, not the values. It may refuse the call, and change the headers
//! of starts, signals and updates, which travel with the run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use everpulse_protocol::Headers;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::error::{Error, ErrorKind};

/// Stands around each call of a client.
///
/// ```
/// use everpulse_client::intercept::{Answered, Call, Interceptor, Next};
/// use everpulse_client::Error;
///
/// /// Says with every start and signal for whom it is.
/// struct Tenant(String);
///
/// impl Interceptor for Tenant {
///     async fn call(&self, mut call: Call, next: Next<'_>) -> Result<Answered, Error> {
///         call.headers.insert("tenant", &self.0);
///         next.run(call).await
///     }
/// }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// One call: `next.run(call)` goes on with it. There is no other way to an answer.
    ///
    /// # Errors
    /// Those of the call, or [`Error::refused`].
    ///
    /// # Cancel safety
    /// It is dropped when the caller drops the call.
    fn call(&self, call: Call, next: Next<'_>) -> impl Future<Output = Result<Answered, Error>> + Send {
        next.run(call)
    }
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    pub kind: CallKind,
    /// Of which run. None: it is a start, for which an id is drawn, a signal by tag, or of the application.
    pub workflow_id: Option<String>,
    /// It is a signal to all runs that carry this tag, and not to one run.
    pub tag: Option<String>,
    /// The name of the workflow that is started, of the signal, of the update, of the query, or of what was published; of the queue whose
    /// dead letters are looked at (none: the inbox's), or of what a schema is of.
    pub name: Option<String>,
    /// What travels with a start, a signal or an update. Of other calls it goes nowhere.
    pub headers: Headers,
}

/// Of what kind a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallKind {
    Start,
    Signal,
    /// An update is requested.
    Update,
    /// The answer to an update is waited for.
    UpdateResult,
    Query,
    Published,
    Cancel,
    Terminate,
    Resume,
    Describe,
    Result,
    Export,
    /// A promise, or an attempt at an activity, is completed from outside, or told of.
    Complete,
    /// Dead letters are listed, or one is shown.
    DeadLetters,
    /// A dead letter is put back where it came from.
    Redrive,
    /// A dead letter is given up.
    DropLetter,
    /// What is taken and given is listed.
    Schemas,
    ForgetSchema,
    /// The schedules are listed. What is done with one is done with its run.
    Schedules,
    CollectBlobs,
}

impl Call {
    /// For tests of interceptors.
    #[must_use]
    pub fn new(kind: CallKind) -> Self {
        Self { kind, workflow_id: None, tag: None, name: None, headers: Headers::new() }
    }

    pub(crate) fn named(mut self, name: Option<String>) -> Self {
        self.name = name;
        self
    }

    pub(crate) fn of(mut self, workflow_id: impl Into<String>) -> Self {
        self.workflow_id = Some(workflow_id.into());
        self
    }
}

/// The call was made, and went well.
#[derive(Debug)]
pub struct Answered(());

/// The rest of a call: the interceptors further inside, and the call itself.
#[must_use = "the call is made when `run` is awaited"]
pub struct Next<'a> {
    rest: &'a [Arc<dyn Erased>],
    last: Last<'a>,
}

type Last<'a> = Box<dyn FnOnce(Call) -> BoxFuture<'a, Result<Answered, Error>> + Send + 'a>;

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} more)", self.rest.len())
    }
}

impl<'a> Next<'a> {
    /// Goes on with the call.
    pub fn run(self, call: Call) -> BoxFuture<'a, Result<Answered, Error>> {
        match self.rest.split_first() {
            Some((first, rest)) => first.call(call, Next { rest, last: self.last }),
            None => (self.last)(call),
        }
    }
}

/// [`Interceptor`] as a value.
trait Erased: Send + Sync {
    fn call<'a>(&'a self, call: Call, next: Next<'a>) -> BoxFuture<'a, Result<Answered, Error>>;
}

impl<I: Interceptor> Erased for I {
    fn call<'a>(&'a self, call: Call, next: Next<'a>) -> BoxFuture<'a, Result<Answered, Error>> {
        Interceptor::call(self, call, next).boxed()
    }
}

/// The interceptors of a client, outermost first. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Interceptors(Arc<Vec<Arc<dyn Erased>>>);

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interceptors({})", self.0.len())
    }
}

impl Interceptors {
    /// The same, and one inside of them.
    pub fn with(mut self, interceptor: impl Interceptor) -> Self {
        Arc::make_mut(&mut self.0).push(Arc::new(interceptor));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes a call with all of them around it. What `inner` is given are the headers to send.
    pub async fn around<T, F, Made>(&self, call: Call, inner: F) -> Result<T, Error>
    where
        T: Send,
        F: FnOnce(Headers) -> Made + Send,
        Made: Future<Output = Result<T, Error>> + Send,
    {
        if self.is_empty() {
            return inner(call.headers).await;
        }
        // Boxed: whoever waits for very many answers without interceptors has no room for this.
        self.through(call, inner).boxed().await
    }

    async fn through<T, F, Made>(&self, call: Call, inner: F) -> Result<T, Error>
    where
        T: Send,
        F: FnOnce(Headers) -> Made + Send,
        Made: Future<Output = Result<T, Error>> + Send,
    {
        let slot = Mutex::new(None);
        let kind = call.kind;
        let filled = &slot;
        let last: Last<'_> = Box::new(move |call: Call| {
            async move {
                let answer = inner(call.headers).await?;
                *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                Ok(Answered(()))
            }
            .boxed()
        });
        Next { rest: &self.0, last }.run(call).await?;
        slot.into_inner().unwrap_or_else(PoisonError::into_inner).ok_or_else(|| {
            let message = format!("an interceptor took the answer of another call for that of this one ({kind:?})");
            Error::new(ErrorKind::Invalid, message)
        })
    }
}

impl Error {
    /// An interceptor does not let a call through: nothing was sent.
    #[must_use]
    pub fn refused(why: impl Into<String>) -> Self {
        Self::new(ErrorKind::Intercepted, why)
    }
}
