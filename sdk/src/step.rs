//! Local steps: I/O that the run's owner does itself, at the price of one entry in history.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use everpulse_protocol::history::CommandKind;
use everpulse_protocol::payload::Format;
use everpulse_protocol::{self as protocol, FailureKind, Payload};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::call::typed;
use crate::definition::{AttemptError, AuthorError, Output};
use crate::failure::{Failure, recorded_as};
use crate::options::{Retry, STEP_TIMEOUT};
use crate::replay::core::Core;
use crate::replay::{Command, StepBody, StepOptions, Ticket};

/// Does something outside the workflow's own logic, once, and records what came of it.
///
/// The future is run on the worker's tokio runtime, so it is `Send`; when the workflow is replayed, the
/// recorded result is taken and nothing is run. After a crash it may run again, like an activity. One
/// attempt of ten seconds, unless [`retry`](Step::retry) and [`timeout`](Step::timeout) say otherwise.
///
/// ```
/// use everpulse_sdk as everpulse;
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn greet(path: String) -> Result<String, everpulse::Error> {
///     let text = everpulse::step("read", || async move { std::fs::read_to_string(path).map_err(everpulse::Error::from) });
///     Ok(text.await?)
/// }
/// ```
///
/// # Panics
/// Awaiting it outside a workflow.
///
/// # Cancel safety
/// Dropping it after its first poll cancels the step; what the closure has done by then stays done.
pub fn step<F, Fut, T, E>(name: impl Into<String>, body: F) -> Step<F, Fut, T, E>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Output,
    E: AuthorError,
{
    Step {
        new: Some(New { name: name.into(), body, again: None, timeout: STEP_TIMEOUT, retry: Retry::none() }),
        ticket: None,
        kind: PhantomData,
    }
}

/// A step that was not awaited or has not come to its end.
#[must_use = "a step does nothing until it is awaited"]
pub struct Step<F, Fut, T, E> {
    new: Option<New<F>>,
    ticket: Option<Ticket>,
    kind: Kind<Fut, T, E>,
}

/// Which types it deals with; it holds none of them.
type Kind<Fut, T, E> = PhantomData<fn() -> (Fut, T, E)>;

struct New<F> {
    name: String,
    body: F,
    /// How to get a body for one more attempt.
    again: Option<fn(&F) -> F>,
    timeout: Duration,
    retry: Retry,
}

// Nothing in it is pinned: the closure is moved out before it makes its future.
impl<F, Fut, T, E> Unpin for Step<F, Fut, T, E> {}

impl<F, Fut, T, E> fmt::Debug for Step<F, Fut, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("name", &self.new.as_ref().map(|new| &new.name)).finish_non_exhaustive()
    }
}

impl<F, Fut, T, E> Step<F, Fut, T, E> {
    /// How it is tried. The closure is cloned for each attempt, so what it captures must be `Clone`.
    pub fn retry(mut self, retry: Retry) -> Self
    where
        F: Clone,
    {
        if let Some(new) = &mut self.new {
            new.retry = retry;
            new.again = Some(F::clone);
        }
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Some(new) = &mut self.new {
            new.timeout = timeout;
        }
        self
    }
}

impl<F, Fut, T, E> Future for Step<F, Fut, T, E>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Output,
    E: AuthorError,
{
    type Output = Result<T, Failure<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(New { name, body, again, timeout, retry }) = self.new.take() {
            let core = Core::current(&format!("step `{name}` was awaited"), "elsewhere simply call the closure's code");
            let options = StepOptions { timeout, retry: retry.into() };
            let body = attempts(body, again, core.format);
            self.ticket = Ticket::schedule(&core, CommandKind::Step, |no| Command::Step { no, name, options, body });
            if self.ticket.is_none() {
                return Poll::Ready(Err(Failure::Cancelled));
            }
        }
        let Some(ticket) = &self.ticket else { panic!("a step was polled after it had given its result") };
        let settlement = std::task::ready!(ticket.poll(cx));
        self.ticket = None;
        Poll::Ready(typed(settlement))
    }
}

fn attempts<F, Fut, T, E>(body: F, again: Option<fn(&F) -> F>, format: Format) -> StepBody
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Output,
    E: AuthorError,
{
    let mut body = Some(body);
    StepBody::new(move || {
        let next = match (again, &body) {
            (Some(again), Some(body)) => Some(again(body)),
            _ => body.take(),
        };
        match next {
            Some(next) => attempt(next(), format),
            None => {
                let message = "a step without `.retry(..)` was to be tried again";
                let failure = protocol::Failure::new(FailureKind::Failed, message);
                std::future::ready(Err(AttemptError { failure, retryable: false })).boxed()
            }
        }
    })
}

fn attempt<T: Output, E: AuthorError>(
    future: impl Future<Output = Result<T, E>> + Send + 'static,
    format: Format,
) -> BoxFuture<'static, Result<Payload, AttemptError>> {
    async move {
        match future.await {
            Ok(value) => crate::__private::encode_as(format, &value)
                .map_err(|failure| AttemptError { failure, retryable: false }),
            Err(error) => {
                let failure = recorded_as(format, &error, std::any::type_name::<E>(), Vec::new());
                Err(AttemptError { failure, retryable: true })
            }
        }
    }
    .boxed()
}
