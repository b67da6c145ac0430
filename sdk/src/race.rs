//! The first of several futures, and the first of a future and a time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::replay::waker::{ChildWaker, Children};
use crate::timer::{Sleep, sleep};

/// Waits for the first that comes to its end, and drops the others, last to first, which cancels what they wait for.
///
/// Of several that are ready at once the first in order wins, in every replay. For a fixed few of different types there is
/// [`select!`](crate::select!).
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn quote(supplier: String) -> Result<u32, everpulse::Error> { Ok(1) }
/// # #[everpulse::workflow(crate = everpulse)]
/// # async fn cheapest(suppliers: Vec<String>) -> Result<u32, everpulse::Error> {
/// let first = everpulse::race(suppliers.into_iter().map(quote)).await?;
/// # Ok(first) }
/// ```
///
/// # Panics
/// When there is nothing to wait for.
pub fn race<I>(futures: I) -> Race<<I::Item as IntoFuture>::IntoFuture>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    let futures: Vec<_> = futures.into_iter().map(|future| Box::pin(future.into_future())).collect();
    assert!(!futures.is_empty(), "a race without a runner never ends: `race` was called with no future");
    let (children, wakers) = Children::wakers(futures.len());
    Race { futures, children, wakers }
}

/// The future of [`race`].
#[must_use = "nothing is done until it is awaited"]
pub struct Race<F> {
    futures: Vec<Pin<Box<F>>>,
    children: Arc<Children>,
    wakers: Vec<ChildWaker>,
}

impl<F> fmt::Debug for Race<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Race({})", self.futures.len())
    }
}

impl<F> Drop for Race<F> {
    fn drop(&mut self) {
        while self.futures.pop().is_some() {}
    }
}

impl<F: Future> Future for Race<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let race = &mut *self;
        assert!(!race.futures.is_empty(), "a race was polled after it had ended");
        for index in race.children.take_ready(cx.waker()) {
            let waker = race.wakers[index].arm();
            if let Poll::Ready(output) = race.futures[index].as_mut().poll(&mut Context::from_waker(waker)) {
                while race.futures.pop().is_some() {}
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    }
}

/// Waits for a future, but not longer than this; then it is dropped, which cancels what it waits for.
///
/// The time begins when it is first awaited, and is a durable timer like [`sleep`]. A future that is ready at once needs none.
/// It covers all attempts of a call; [`Call::timeout`](crate::Call::timeout) is about one attempt.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # use std::time::Duration;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(order: u32) -> u32 { order }
/// # #[everpulse::workflow(crate = everpulse)]
/// # async fn in_time() -> Result<u32, everpulse::Error> {
/// let receipt = everpulse::timeout(Duration::from_secs(60), charge(1)).await??;
/// # Ok(receipt) }
/// ```
///
/// # Panics
/// Awaiting it outside a workflow.
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout { duration, future: Some(Box::pin(future.into_future())), timer: None }
}

/// The future of [`timeout`].
#[must_use = "nothing is done until it is awaited"]
pub struct Timeout<F> {
    duration: Duration,
    future: Option<Pin<Box<F>>>,
    timer: Option<Sleep>,
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timeout({:?})", self.duration)
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let timeout = &mut *self;
        let Some(future) = &mut timeout.future else { panic!("a time-out was polled after it had ended") };
        let result = match future.as_mut().poll(cx) {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => {
                let timer = timeout.timer.get_or_insert_with(|| sleep(timeout.duration));
                std::task::ready!(Pin::new(timer).poll(cx));
                Err(Elapsed)
            }
        };
        timeout.future = None;
        timeout.timer = None;
        Poll::Ready(result)
    }
}

/// The time of a [`timeout`] was over first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took longer than it may")
    }
}

impl std::error::Error for Elapsed {}
