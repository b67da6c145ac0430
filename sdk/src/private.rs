//! What the macros' output names. Nothing here is for people, and any of it may change.

use std::any::Any;
use std::future::Future;

use everpulse_protocol::payload::{Format, PayloadError};
use everpulse_protocol::{self as protocol, FailureKind};
use futures::FutureExt;

use crate::definition::{RunFuture, identity};
use crate::failure::{recorded, sources};

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
    Activities, ActivityDefinition, ActivityEntry, Argument, AttemptError, AuthorError, Callable, Definition,
    FunctionActivity, Never, Output, SourceLocation, WorkflowDefinition, WorkflowEntry,
};
pub use crate::join::Branch;
pub use crate::options::ActivityOptions;
pub use crate::query::Query;
pub use crate::signal::Signal;
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
    WorkflowEntry { name: D::NAME, version: D::VERSION, location: D::LOCATION, build, identity: identity::<D>(), begin }
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
        identity: identity::<D>(),
        attempt: Arc::new(attempt),
    }
}

/// Arguments that do not decode will not do so in another attempt either.
pub fn undecodable(failure: Recorded) -> AttemptError {
    AttemptError { failure, retryable: false }
}
