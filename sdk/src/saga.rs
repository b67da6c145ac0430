//! Sagas: what was done is undone when what follows fails.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use crate::cancellation::{CancelWait, Cancelled, shielded};
use crate::definition::Never;
use crate::failure::Failure;
use crate::join::join_all;
use crate::replay::core::Core;

/// Does something in several parts, and undoes the parts that were done if it fails or is cancelled.
///
/// After each part the body says what would undo it. If the body ends with an error, all of that is done in reverse order,
/// in a shield, so that a cancelled run undoes what it did, too. A compensation that fails does not keep the others from
/// being done. Then the result is the body's error; or, if compensations failed, a [`SagaFailure`], which the error type
/// takes in (an enum with `#[from] SagaFailure`, [`everpulse::Error`](crate::Error) as it is): that something was
/// neither done nor undone is not passed over in silence, and closes even a cancelled run as failed.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # use everpulse::Error;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn book_flight(trip: u32) -> Result<u32, Error> { Ok(trip) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn cancel_flight(flight: u32) -> Result<(), Error> { Ok(()) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn book_hotel(trip: u32) -> Result<u32, Error> { Ok(trip) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn cancel_hotel(hotel: u32) -> Result<(), Error> { Ok(()) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(trip: u32) -> Result<(), Error> { Ok(()) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn travel(trip: u32) -> Result<(u32, u32), Error> {
///     everpulse::saga(async |saga| {
///         let flight = book_flight(trip).await?;
///         saga.compensate(cancel_flight(flight));
///         let hotel = book_hotel(trip).await?;
///         saga.compensate(cancel_hotel(hotel));
///         charge(trip).await?;
///         Ok((flight, hotel))
///     })
///     .await
/// }
/// ```
///
/// A part that may have been done although its call failed (it timed out, was cancelled, or its last attempt had an effect
/// and no answer) is not undone if its compensation comes after it. Where that matters, choose an id, register the
/// compensation first, and let it bear that there is nothing to undo:
///
/// ```text
/// let booking = uuid();
/// saga.compensate(cancel_hotel(booking));
/// book_hotel(booking, trip).await?;
/// ```
///
/// When the run is cancelled while the body waits for time or a signal, the body is dropped as soon as nothing of it is in a
/// shield, everything is undone, and the result is a [`SagaFailure`] with no failures.
///
/// # Panics
/// Awaiting it outside a workflow.
///
/// # Cancel safety
/// None: what is dropped is waited for by nobody. A saga that has something to undo and is dropped by a `select!`, a
/// time-out or a `try_join!` parks the run with a message that says so; put the `select!` inside, and sagas beside each other
/// into a `join!`.
pub async fn saga<T, E>(body: impl AsyncFnOnce(&Saga) -> Result<T, E>) -> Result<T, E>
where
    E: From<SagaFailure> + fmt::Display,
{
    let saga = Saga::default();
    let result = {
        let mut body = pin!(body(&saga));
        let mut cancelled = pin!(Cancelled::of(CancelWait::AtRest));
        // Shields that were begun in the body and have not ended: those of an inner saga that undoes its parts, too.
        let mut shields = 0;
        std::future::poll_fn(|cx| {
            let core = Core::current("`saga` was awaited", "elsewhere call the closure's code");
            let before = i64::from(core.shields());
            let polled = body.as_mut().poll(cx);
            shields += i64::from(core.shields()) - before;
            match polled {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if shields > 0 => Poll::Pending,
                Poll::Pending => cancelled.as_mut().poll(cx).map(|()| None),
            }
        })
        .await
    };
    let error = match result {
        Some(Ok(value)) => {
            saga.debt.pay();
            return Ok(value);
        }
        Some(Err(error)) => Some(error),
        None => None,
    };
    let failures = shielded(saga.unwind()).await;
    saga.debt.pay();
    match error {
        Some(error) if failures.is_empty() => Err(error),
        error => {
            if !failures.is_empty() {
                Core::current("`saga` was awaited", "elsewhere call the closure's code").set_uncompensated();
            }
            let cause = error.map_or_else(|| Failure::<Never>::Cancelled.to_string(), |error| error.to_string());
            Err(SagaFailure { cause, failures }.into())
        }
    }
}

/// What the body of a [`saga()`] says of its parts.
#[derive(Default)]
pub struct Saga {
    compensations: RefCell<Vec<LocalBoxFuture<'static, Option<String>>>>,
    parallel: Cell<bool>,
    debt: Debt,
}

/// That there is something to undo, as the run knows it.
#[derive(Default)]
struct Debt {
    run: Cell<Option<u64>>,
}

impl Debt {
    fn take(&self) {
        if self.run.get().is_none() {
            let core = Core::current("a compensation was registered", "elsewhere undo things yourself");
            core.debt_taken();
            self.run.set(Some(core.id));
        }
    }

    fn pay(&self) -> bool {
        let core = self.run.take().and_then(Core::find_id);
        core.inspect(|core| core.debt_paid()).is_some()
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        // Nothing when the whole run is taken down: it is outside its context then.
        let Some(core) = self.run.get().and_then(Core::find_id) else { return };
        if self.pay() {
            core.fail(
                "a saga with parts to undo was dropped, by a `select!`, a time-out, a race or a `try_join!`: nobody would \
                 wait for its compensations; put the `select!` into the saga, and sagas beside each other into a `join!`"
                    .to_owned(),
            );
        }
    }
}

impl fmt::Debug for Saga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Saga({} compensations)", self.compensations.borrow().len())
    }
}

impl Saga {
    /// Remembers what undoes the part that was just done: a call, or an `async` block. It is not begun before something fails;
    /// a handle of something that was `.start()`ed already has begun, and is only awaited then.
    ///
    /// # Panics
    /// Outside a workflow.
    pub fn compensate<F, C, E>(&self, compensation: F)
    where
        F: IntoFuture<Output = Result<C, E>>,
        F::IntoFuture: 'static,
        E: fmt::Display,
    {
        self.debt.take();
        let compensation = compensation.into_future();
        let compensation = async move { compensation.await.err().map(|error| error.to_string()) };
        self.compensations.borrow_mut().push(Box::pin(compensation));
    }

    /// Lets the compensations be done all at the same time instead of one after another; they are begun in reverse order.
    pub fn in_parallel(&self) {
        self.parallel.set(true);
    }

    /// Undoes everything, and gives the failures in the order in which the compensations were begun.
    async fn unwind(&self) -> Vec<String> {
        let mut compensations = self.compensations.take();
        compensations.reverse();
        if self.parallel.get() {
            return join_all(compensations).await.into_iter().flatten().collect();
        }
        let mut failures = Vec::new();
        for compensation in compensations {
            failures.extend(compensation.await);
        }
        failures
    }
}

/// A saga was cancelled, or some of what it had done could not be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SagaFailure {
    /// Why the saga failed.
    pub cause: String,
    /// Why compensations failed, in the order in which they were begun: the last part's first. None: all was undone.
    pub failures: Vec<String>,
}

impl fmt::Display for SagaFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if !self.failures.is_empty() {
            write!(f, "; and not all could be undone: {}", self.failures.join("; "))?;
        }
        Ok(())
    }
}

impl std::error::Error for SagaFailure {}
