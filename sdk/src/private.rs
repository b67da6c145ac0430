//! What the macros' output names. Nothing here is for people, and any of it may change.

use std::any::Any;
use std::future::Future;
use std::time::Duration;

use everpulse_protocol::payload::{Format, PayloadError};
use everpulse_protocol::{self as protocol, FailureKind};
use futures::FutureExt;

use crate::activity;
use crate::definition::{RunFuture, Together, identity};
use crate::failure::{recorded, sources};
use crate::intercept::Attempted;

pub use futures::future::BoxFuture;
pub use std::future::poll_fn;
pub use std::sync::Arc;
pub use std::task::Poll;

pub use everpulse_macros::{join, select, try_join};
pub use everpulse_protocol::Payload;
pub use everpulse_protocol::task::{OnExhausted, RetryPolicy};

pub use crate::arguments::{Decoder, Encoder};
pub use crate::call::{ActivityCall, Call, ChildCall};
pub use crate::definition::{
    Activities, ActivityDefinition, ActivityEntry, Argument, AttemptError, AuthorError, Batch, Callable, Definition,
    FunctionActivity, Never, Output, SourceLocation, WorkflowDefinition, WorkflowEntry,
};
pub use crate::join::Branch;
pub use crate::options::ActivityOptions;
pub use crate::query::Query;
pub use crate::schema::{Asked, NoSchema, Schemas, Shape};
pub use crate::signal::Signal;
pub use crate::update::Update;
pub use protocol::Failure as Recorded;

/// What a return type that is spelled as a `Result` has to be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is spelled like a `Result`, but is none",
    note = "return a `std::result::Result`, or give the type another name"
)]
pub trait IsResult {
    type Value;
    type Error;
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl<T, E> IsResult for Result<T, E> {
    type Value = T;
    type Error = E;
    fn into_result(self) -> Self {
        self
    }
}

/// Tells whether a type is a `Result`: the inherent constant hides the trait's.
#[derive(Debug)]
pub struct Probe<T>(std::marker::PhantomData<T>);

impl<T, E> Probe<Result<T, E>> {
    pub const IS_RESULT: bool = true;
}

pub trait NoResult {
    const IS_RESULT: bool = false;
}

impl<T> NoResult for Probe<T> {}

/// Finds what the type of an error can tell: the inherent method hides the trait's.
#[derive(Debug)]
pub struct Sources<'a, E>(pub &'a E);

/// The name of an error's type, and the messages of its sources.
#[derive(Debug)]
pub struct Facts {
    type_name: String,
    chain: Vec<String>,
}

impl<E: std::error::Error> Sources<'_, E> {
    pub fn facts(&self) -> Facts {
        Facts { type_name: std::any::type_name::<E>().to_owned(), chain: sources(self.0) }
    }
}

pub trait NoSources {
    fn facts(&self) -> Facts;
}

impl<E: 'static> NoSources for Sources<'_, E> {
    fn facts(&self) -> Facts {
        match (self.0 as &dyn Any).downcast_ref::<crate::Error>() {
            Some(error) => Facts { type_name: error.type_name().to_owned(), chain: error.chain().to_vec() },
            None => Facts { type_name: std::any::type_name::<E>().to_owned(), chain: Vec::new() },
        }
    }
}

pub fn failure<D: Definition>(error: &D::Error, facts: Facts) -> Recorded {
    recorded(error, &facts.type_name, facts.chain)
}

/// A failure whose next attempt waits for a time of its own, if it has one.
pub fn retry_after(failure: Recorded, wait: Option<std::time::Duration>) -> Recorded {
    Recorded { retry_after_ms: wait.map(crate::options::ms), ..failure }
}

/// How the arguments of a definition are written and read.
#[expect(missing_debug_implementations, reason = "it lives within a line")]
pub struct Codec<T> {
    pub encode: fn(T) -> Result<Payload, PayloadError>,
    pub decode: fn(&Payload) -> Result<T, Box<Recorded>>,
}

impl<T> Codec<T> {
    /// Writes arguments once more, in another format.
    pub fn recode(&self, payload: &Payload, format: Format) -> Result<Payload, PayloadError> {
        let args = (self.decode)(payload).map_err(|failure| PayloadError::Encode {
            type_name: std::any::type_name::<T>(),
            reason: failure.message,
        })?;
        crate::format::with(format, || (self.encode)(args))
    }
}

pub fn assert_argument<T: Argument>() {}
pub fn assert_output<T: Output>() {}
pub fn assert_error<E: AuthorError>() {}
pub fn assert_signal<T: Signal>() {}

pub fn encode_result<D: Definition>(value: &D::Output) -> Result<Payload, Recorded> {
    encode(value)
}

pub fn encode_output<D: Definition>(value: &D::Output) -> Result<Payload, AttemptError> {
    // Another attempt would come to a value of the same type.
    encode(value).map_err(|failure| AttemptError { failure, retryable: false })
}

pub(crate) fn encode<T: Output>(value: &T) -> Result<Payload, Recorded> {
    encode_as(crate::format::current(), value)
}

pub(crate) fn encode_as<T: Output>(format: Format, value: &T) -> Result<Payload, Recorded> {
    Payload::encode_as(format, value)
        .map_err(|error| Recorded::new(FailureKind::Undecodable, format!("the result cannot be recorded: {error}")))
}

pub fn workflow_entry<D: WorkflowDefinition>(
    build: Option<&'static str>,
    begin: fn(&Payload) -> Result<RunFuture, Box<Recorded>>,
) -> WorkflowEntry {
    WorkflowEntry {
        name: D::NAME,
        version: D::VERSION,
        location: D::LOCATION,
        build,
        schemas: D::schemas,
        identity: identity::<D>(),
        begin,
    }
}

pub fn boxed_run(future: impl Future<Output = Result<Payload, Recorded>> + 'static) -> RunFuture {
    future.boxed_local()
}

pub fn activity_entry<D: ActivityDefinition>(
    blocking: bool,
    attempt: impl Fn(Payload) -> BoxFuture<'static, Result<Payload, AttemptError>> + Send + Sync + 'static,
) -> ActivityEntry {
    ActivityEntry {
        name: D::NAME.to_owned(),
        location: D::LOCATION,
        blocking,
        queue: D::OPTIONS.queue,
        schemas: D::schemas,
        identity: identity::<D>(),
        batch: None,
        attempt: Arc::new(attempt),
    }
}

/// The entry of an activity that does several tasks in one execution; where nobody puts them together, each by itself.
pub fn batch_entry<D: ActivityDefinition>(
    blocking: bool,
    max: usize,
    wait_ms: u64,
    together: impl Fn(Vec<Payload>) -> BoxFuture<'static, Vec<Attempted>> + Send + Sync + 'static,
) -> ActivityEntry {
    let together: Together = Arc::new(together);
    let alone = {
        let together = Arc::clone(&together);
        move |payload| {
            let together = Arc::clone(&together);
            async move {
                let batch = activity::with_batch(activity::contexts(), together(vec![payload]));
                batch.await.pop().unwrap_or_else(|| Err(miscounted(D::NAME, 1, 0)))
            }
            .boxed()
        }
    };
    let batch = Batch { max, wait: Duration::from_millis(wait_ms), together };
    ActivityEntry { batch: Some(batch), ..activity_entry::<D>(blocking, alone) }
}

/// One execution of the code of such an activity. What cannot be read is not given to it.
pub async fn batch_attempt<D: ActivityDefinition, Item, Part, Done: Future<Output = Vec<Part>>>(
    payloads: Vec<Payload>,
    decode: impl Fn(&Payload) -> Result<Item, Box<Recorded>>,
    body: impl FnOnce(Vec<Item>) -> Done,
    result: impl Fn(Part) -> Result<D::Output, D::Error>,
) -> Vec<Attempted> {
    let (mut items, mut contexts, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for (payload, context) in payloads.iter().zip(activity::contexts()) {
        match decode(payload) {
            Ok(item) => {
                items.push(item);
                contexts.push(context);
                unread.push(None);
            }
            Err(failure) => unread.push(Some(undecodable(*failure))),
        }
    }
    let asked = items.len();
    let parts = if asked == 0 { Vec::new() } else { activity::with_batch(contexts, body(items)).await };
    let given = parts.len();
    let mut parts = parts.into_iter().map(|part| match result(part) {
        Ok(value) => encode_output::<D>(&value),
        Err(error) => Err(D::attempt_error(&error)),
    });
    let own = |unread: Option<AttemptError>| match unread {
        Some(error) => Err(error),
        // Which of them is missing nobody can tell.
        None if given != asked => Err(miscounted(D::NAME, asked, given)),
        None => parts.next().unwrap_or_else(|| Err(miscounted(D::NAME, asked, given))),
    };
    unread.into_iter().map(own).collect()
}

fn miscounted(name: &str, asked: usize, given: usize) -> AttemptError {
    let message = format!(
        "batch activity `{name}` was given {asked} items and gave {given} results; it gives one for each, in their order"
    );
    AttemptError { failure: Recorded::new(FailureKind::Panicked, message), retryable: true }
}

/// Arguments that do not decode will not do so in another attempt either.
pub fn undecodable(failure: Recorded) -> AttemptError {
    AttemptError { failure, retryable: false }
}
