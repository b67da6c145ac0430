//! Many branches of one kind: some at a time, and not longer than it takes to have enough, or too little.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::replay::waker::{ChildWaker, Children};

/// Runs branches beside each other and gathers what they come to, in their order.
///
/// Without a word more it waits for all, however they end. [`at_once`](FanOut::at_once) limits how many are under way;
/// [`enough`](FanOut::enough), [`tolerate`](FanOut::tolerate) and [`tolerate_percent`](FanOut::tolerate_percent) end it
/// early. Then branches that are under way are dropped, last to first, which cancels what they wait for, and
/// those that have not begun never do. It never fails by itself: [`Gathered`] says what came, and why no more.
///
/// ```
/// use everpulse_sdk as everpulse;
/// use everpulse::{Error, Stop, fan_out};
/// use std::num::NonZeroUsize;
///
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn ask(replica: String) -> Result<u64, Error> { Ok(7) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn quorum(replicas: Vec<String>) -> Result<Vec<u64>, Error> {
///     let asked = fan_out(replicas.into_iter().map(ask)).at_once(NonZeroUsize::new(8).expect("not zero")).enough(2).await;
///     match asked.stop {
///         Stop::Enough => Ok(asked.into_values()),
///         _ => Err(Error::msg("there is no quorum")),
///     }
/// }
/// ```
///
/// # Determinism
/// Branches begin in their order, and of several that are ready at once the first in order is polled first.
pub fn fan_out<I, T, E>(branches: I) -> FanOut<I::Item, T, E>
where
    I: IntoIterator,
    I::Item: IntoFuture<Output = Result<T, E>>,
{
    let branches: Vec<_> = branches.into_iter().map(State::Waits).collect();
    let (children, wakers) = Children::wakers(branches.len());
    let results = branches.iter().map(|_| None).collect();
    let limits = Limits { at_once: None, enough: None, tolerated: None, percent: None };
    let come = Come { succeeded: 0, failed: 0 };
    FanOut { branches, results, next: 0, open: 0, come, limits, ended: false, children, wakers }
}

/// What came of the branches of a [`fan_out`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered<T, E> {
    /// In the order of the branches. None: it never began, or was under way when it all ended.
    pub results: Vec<Option<Result<T, E>>>,
    /// Why there are no more.
    pub stop: Stop,
}

/// Why a [`fan_out`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// Every branch came to its end, and neither of the others holds.
    AllDone,
    /// So many succeeded as are enough, be it with the last branch.
    Enough,
    /// More failed than is tolerated.
    TooManyFailures,
}

impl<T, E> Gathered<T, E> {
    /// The values, in the order of their branches.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.results.iter().flatten().filter_map(|result| result.as_ref().ok())
    }

    /// The errors, in the order of their branches.
    pub fn errors(&self) -> impl Iterator<Item = &E> {
        self.results.iter().flatten().filter_map(|result| result.as_ref().err())
    }

    /// The values, in the order of their branches; errors are passed over.
    pub fn into_values(self) -> Vec<T> {
        self.results.into_iter().flatten().filter_map(Result::ok).collect()
    }

    /// The values, if no branch failed.
    ///
    /// # Errors
    /// That of the first branch that failed, in their order.
    pub fn into_result(self) -> Result<Vec<T>, E> {
        self.results.into_iter().flatten().collect()
    }
}

/// The future of [`fan_out`].
#[must_use = "nothing is done until it is awaited"]
pub struct FanOut<B: IntoFuture, T, E> {
    branches: Vec<State<B>>,
    results: Vec<Option<Result<T, E>>>,
    /// The first that has not begun.
    next: usize,
    open: usize,
    come: Come,
    limits: Limits,
    ended: bool,
    children: Arc<Children>,
    wakers: Vec<ChildWaker>,
}

enum State<B: IntoFuture> {
    Waits(B),
    Open(Pin<Box<B::IntoFuture>>),
    Gone,
}

/// How many results there are.
#[derive(Clone, Copy)]
struct Come {
    succeeded: usize,
    failed: usize,
}

struct Limits {
    at_once: Option<NonZeroUsize>,
    enough: Option<usize>,
    tolerated: Option<usize>,
    percent: Option<u8>,
}

impl<B: IntoFuture, T, E> FanOut<B, T, E> {
    /// How many branches are under way at most.
    pub fn at_once(mut self, most: NonZeroUsize) -> Self {
        self.limits.at_once = Some(most);
        self
    }

    /// It ends when so many have succeeded; 0: before the first branch begins.
    pub fn enough(mut self, successes: usize) -> Self {
        self.limits.enough = Some(successes);
        self
    }

    /// It ends when more than so many have failed; 0: by the first failure.
    pub fn tolerate(mut self, failures: usize) -> Self {
        self.limits.tolerated = Some(failures);
        self
    }

    /// It ends when more than so many of a hundred have failed, of all branches.
    pub fn tolerate_percent(mut self, percent: u8) -> Self {
        self.limits.percent = Some(percent);
        self
    }

    /// Why it ends now; none if it goes on.
    fn stop(&self) -> Option<Stop> {
        let (Come { succeeded, failed }, all) = (self.come, self.results.len());
        let Limits { enough, tolerated, percent, at_once: _ } = self.limits;
        let intolerable = tolerated.is_some_and(|tolerated| failed > tolerated)
            || percent.is_some_and(|percent| failed * 100 > usize::from(percent) * all);
        match () {
            () if intolerable => Some(Stop::TooManyFailures),
            // Before all are done: the last branch may be the one that makes it enough.
            () if enough.is_some_and(|enough| succeeded >= enough) => Some(Stop::Enough),
            () if succeeded + failed == all => Some(Stop::AllDone),
            () => None,
        }
    }

    fn gathered(&mut self, stop: Stop) -> Gathered<T, E> {
        self.ended = true;
        while self.branches.pop().is_some() {}
        Gathered { results: std::mem::take(&mut self.results), stop }
    }
}

// The futures are in boxes of their own, and nothing else is pinned.
impl<B: IntoFuture, T, E> Unpin for FanOut<B, T, E> {}

impl<B: IntoFuture<Output = Result<T, E>>, T, E> Future for FanOut<B, T, E> {
    type Output = Gathered<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fan = &mut *self;
        assert!(!fan.ended, "a fan-out was polled after it had ended");
        let mut ready: BTreeSet<usize> = fan.children.take_ready(cx.waker()).into_iter().collect();
        loop {
            if let Some(stop) = fan.stop() {
                return Poll::Ready(fan.gathered(stop));
            }
            while fan.next < fan.branches.len() && fan.limits.at_once.is_none_or(|most| fan.open < most.get()) {
                if let State::Waits(branch) = std::mem::replace(&mut fan.branches[fan.next], State::Gone) {
                    fan.branches[fan.next] = State::Open(Box::pin(branch.into_future()));
                    fan.open += 1;
                    ready.insert(fan.next);
                }
                fan.next += 1;
            }
            let Some(index) = ready.pop_first() else { return Poll::Pending };
            let State::Open(branch) = &mut fan.branches[index] else { continue };
            let waker = fan.wakers[index].arm();
            if let Poll::Ready(result) = branch.as_mut().poll(&mut Context::from_waker(waker)) {
                fan.branches[index] = State::Gone;
                fan.open -= 1;
                *if result.is_ok() { &mut fan.come.succeeded } else { &mut fan.come.failed } += 1;
                fan.results[index] = Some(result);
            }
        }
    }
}

impl<B: IntoFuture, T, E> Drop for FanOut<B, T, E> {
    fn drop(&mut self) {
        while self.branches.pop().is_some() {}
    }
}

impl<B: IntoFuture, T, E> fmt::Debug for FanOut<B, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FanOut({} of {} open)", self.open, self.branches.len())
    }
}
