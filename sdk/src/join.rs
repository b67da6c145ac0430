//! Waiting for many futures at once, in an order that can be seen in the source.
//!
//! All of these take what can be made into a future, poll in source order, and poll again only what was
//! woken (the functions) or all that is open (the macros, which have few branches).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::replay::waker::{ChildWaker, Children};

/// Waits for all, and gives the results as a tuple.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(order: u32) -> u32 { order }
/// # #[everpulse::workflow(crate = everpulse)]
/// # async fn pair() -> bool {
/// let (first, second) = everpulse::join!(charge(1), charge(2));
/// # first.is_ok() && second.is_ok() }
/// ```
#[macro_export]
macro_rules! join {
    ($($branches:tt)*) => { $crate::__private::join! { $crate $($branches)* } };
}

/// Waits for all, and gives the values as a tuple; or the first error, by which the others are dropped.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(order: u32) -> u32 { order }
/// # #[everpulse::workflow(crate = everpulse)]
/// # async fn pair() -> Result<u32, everpulse::Error> {
/// let (first, second) = everpulse::try_join!(charge(1), charge(2))?;
/// # Ok(first + second) }
/// ```
#[macro_export]
macro_rules! try_join {
    ($($branches:tt)*) => { $crate::__private::try_join! { $crate $($branches)* } };
}

/// Waits for all, and gives the results in the order of the futures.
///
/// Thousands cost no more than their own polls.
pub fn join_all<I>(futures: I) -> JoinAll<<I::Item as IntoFuture>::IntoFuture>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    JoinAll { all: All::new(futures) }
}

/// Waits for all, and gives the values in the order of the futures; or the first error, by which the
/// others are dropped.
pub fn try_join_all<I, F, T, E>(futures: I) -> TryJoinAll<F::IntoFuture, T>
where
    I: IntoIterator<Item = F>,
    F: IntoFuture<Output = Result<T, E>>,
{
    TryJoinAll { all: All::new(futures) }
}

/// Futures of one type, what came of them, and which are to be polled.
struct All<F, T> {
    futures: Vec<Option<Pin<Box<F>>>>,
    results: Vec<Option<T>>,
    open: usize,
    children: Arc<Children>,
    wakers: Vec<ChildWaker>,
}

impl<F: Future, T> All<F, T> {
    fn new<I>(futures: I) -> Self
    where
        I: IntoIterator,
        I::Item: IntoFuture<IntoFuture = F>,
    {
        let futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future.into_future()))).collect();
        let (children, wakers) = Children::wakers(futures.len());
        let results = futures.iter().map(|_| None).collect();
        Self { open: futures.len(), futures, results, children, wakers }
    }

    /// Polls what was woken; `take` says what of a result is kept, or what ends it all.
    fn poll<E>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(F::Output) -> Result<T, E>,
    ) -> Poll<Result<Vec<T>, E>> {
        for index in self.children.take_ready(cx.waker()) {
            let Some(future) = &mut self.futures[index] else { continue };
            let waker = self.wakers[index].arm();
            let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) else { continue };
            self.futures[index] = None;
            self.open -= 1;
            match take(output) {
                Ok(result) => self.results[index] = Some(result),
                Err(error) => {
                    self.futures.clear();
                    return Poll::Ready(Err(error));
                }
            }
        }
        if self.open > 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(self.results.iter_mut().filter_map(Option::take).collect()))
    }
}

/// The future of [`join_all`].
#[must_use = "nothing is done until it is awaited"]
pub struct JoinAll<F: Future> {
    all: All<F, F::Output>,
}

/// The future of [`try_join_all`].
#[must_use = "nothing is done until it is awaited"]
pub struct TryJoinAll<F, T> {
    all: All<F, T>,
}

// The futures are in boxes of their own, and nothing else is pinned.
impl<F: Future> Unpin for JoinAll<F> {}
impl<F, T> Unpin for TryJoinAll<F, T> {}

impl<F: Future> Future for JoinAll<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.all.poll(cx, Ok::<_, crate::Never>).map(|Ok(results)| results)
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Future for TryJoinAll<F, T> {
    type Output = Result<Vec<T>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.all.poll(cx, |output| output)
    }
}

impl<F: Future> fmt::Debug for JoinAll<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinAll({} of {} open)", self.all.open, self.all.results.len())
    }
}

impl<F, T> fmt::Debug for TryJoinAll<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TryJoinAll({} of {} open)", self.all.open, self.all.results.len())
    }
}

/// One branch of `join!` or `try_join!`: a future, then its result. For the macros.
#[doc(hidden)]
#[derive(Debug)]
pub struct Branch<F: Future> {
    future: Option<Pin<Box<F>>>,
    result: Option<F::Output>,
}

impl<F: Future> Branch<F> {
    pub fn new(future: impl IntoFuture<IntoFuture = F>) -> Self {
        Self { future: Some(Box::pin(future.into_future())), result: None }
    }

    /// Whether there is a result.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(future) = &mut self.future
            && let Poll::Ready(result) = future.as_mut().poll(cx)
        {
            self.future = None;
            self.result = Some(result);
        }
        self.future.is_none()
    }

    pub fn take(&mut self) -> F::Output {
        self.result.take().expect("it is taken once, after `poll` said that it is there")
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Branch<F> {
    /// Whether there is a value; or the error.
    pub fn try_poll(&mut self, cx: &mut Context<'_>) -> Result<bool, E> {
        let done = self.poll(cx);
        match self.result.take() {
            Some(Err(error)) => Err(error),
            result => {
                self.result = result;
                Ok(done)
            }
        }
    }

    pub fn take_value(&mut self) -> T {
        match self.result.take() {
            Some(Ok(value)) => value,
            _ => unreachable!("it is taken once, after `try_poll` said that it is there"),
        }
    }
}
