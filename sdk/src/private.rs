//! What the macros' output names. Nothing here is for people, and any of it may change.

use std::future::Future;

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
pub use crate::call::Call;
pub use crate::definition::{
    Activities, ActivityDefinition, ActivityEntry, Argument, AttemptError, AuthorError, Definition, FunctionActivity,
    Never, Output, SourceLocation, WorkflowDefinition, WorkflowEntry,
};
pub use crate::join::Branch;
pub use crate::options::ActivityOptions;
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

/// Finds the sources of an error, if its type has any: the inherent methods hide the trait's.
#[derive(Debug)]
pub struct Chain<'a, E>(pub &'a E);

impl<E: std::error::Error> Chain<'_, E> {
    pub fn chain(&self) -> Vec<String> {
        sources(self.0)
    }

    pub fn type_name(&self) -> String {
        std::any::type_name::<E>().to_owned()
    }
}

impl Chain<'_, crate::Error> {
    pub fn chain(&self) -> Vec<String> {
        self.0.chain().to_vec()
    }

    pub fn type_name(&self) -> String {
        self.0.type_name().to_owned()
    }
}

pub trait NoChain {
    fn chain(&self) -> Vec<String>;
    fn type_name(&self) -> String;
}

impl<E> NoChain for Chain<'_, E> {
    fn chain(&self) -> Vec<String> {
        Vec::new()
    }

    fn type_name(&self) -> String {
        std::any::type_name::<E>().to_owned()
    }
}

pub fn failure<E: AuthorError>(error: &E, type_name: &str, chain: Vec<String>) -> Recorded {
    recorded(error, type_name, chain)
}

pub fn assert_argument<T: Argument>() {}
pub fn assert_output<T: Output>() {}
pub fn assert_error<E: AuthorError>() {}
pub fn assert_signal<T: Signal>() {}

pub fn encode_result<T: Output>(value: &T) -> Result<Payload, Recorded> {
    Payload::encode(value).map_err(|error| {
        let message = format!("the result cannot be recorded: {error}");
        Recorded::new(FailureKind::Undecodable, message)
    })
}

pub fn encode_output<T: Output>(value: &T) -> Result<Payload, AttemptError> {
    encode_result(value).map_err(|failure| AttemptError { failure, retryable: false })
}

pub fn workflow_entry<D: WorkflowDefinition>(begin: fn(&Payload) -> Result<RunFuture, Recorded>) -> WorkflowEntry {
    WorkflowEntry { name: D::NAME, version: D::VERSION, location: D::LOCATION, identity: identity::<D>(), begin }
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
