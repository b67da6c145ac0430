//! Sagas: what was done is undone when what follows fails.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use crate::cancellation::{shielded, unshielded};
use crate::join::join_all;

/// Does something in several parts, and undoes the parts that were done if it fails or is cancelled.
///
/// After each part the body says what would undo it. If the body ends with an error, all of that is done in reverse order,
/// in a shield, so that a cancelled run undoes what it did, too. A compensation that fails does not keep the others from
/// being done. Then the result is the body's error; or, if compensations failed, an [`Uncompensated`], which the error
/// type takes in (an enum with `#[from] Uncompensated`, [`everpulse::Error`](crate::Error) as it is): that something was
/// neither done nor undone is not passed over in silence.
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
/// When the run is cancelled while the body waits for time or a signal, the body is dropped, everything is undone, and the run
/// is closed as cancelled.
///
/// # Panics
/// Awaiting it outside a workflow.
///
/// # Cancel safety
/// None: a saga that is dropped by a `select!`, a time-out or a failed `try_join!` undoes nothing, as nobody would wait for
/// that. Put the `select!` inside.
pub async fn saga<T, E>(body: impl AsyncFnOnce(&Saga) -> Result<T, E>) -> Result<T, E>
where
    E: From<Uncompensated> + fmt::Display,
{
    let saga = Saga::default();
    let result = {
        let mut body = pin!(body(&saga));
        let mut cancelled = pin!(unshielded());
        // The body first: it may have ended by itself, or have a shield of its own.
        std::future::poll_fn(|cx| match body.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => cancelled.as_mut().poll(cx).map(|()| None),
        })
        .await
    };
    let error = match result {
        Some(Ok(value)) => return Ok(value),
        Some(Err(error)) => Some(error),
        None => None,
    };
    let failures = shielded(saga.unwind()).await;
    match error {
        Some(error) if failures.is_empty() => Err(error),
        Some(error) => Err(Uncompensated { cause: error.to_string(), failures }.into()),
        None if failures.is_empty() => std::future::pending().await,
        None => Err(Uncompensated { cause: crate::Failure::<crate::Never>::Cancelled.to_string(), failures }.into()),
    }
}

/// What the body of a [`saga()`] says of its parts.
#[derive(Default)]
pub struct Saga {
    compensations: RefCell<Vec<LocalBoxFuture<'static, Option<String>>>>,
    parallel: Cell<bool>,
}

impl fmt::Debug for Saga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Saga({} compensations)", self.compensations.borrow().len())
    }
}

impl Saga {
    /// Remembers what undoes the part that was just done: a call, or an `async` block. It is not begun before something fails.
    pub fn compensate<F, C, E>(&self, compensation: F)
    where
        F: IntoFuture<Output = Result<C, E>>,
        F::IntoFuture: 'static,
        E: fmt::Display,
    {
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

/// A saga failed, and some of what it had done could not be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Uncompensated {
    /// Why the saga failed.
    pub cause: String,
    /// Why compensations failed, in the order in which they were begun: the last part's first.
    pub failures: Vec<String>,
}

impl fmt::Display for Uncompensated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; and not all could be undone: {}", self.cause, self.failures.join("; "))
    }
}

impl std::error::Error for Uncompensated {}
