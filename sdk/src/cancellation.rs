//! What a request to cancel does to a run's code: calls and steps that wait end as cancelled, shields hold, and who waits for
//! the request is told.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::replay::core::Core;

/// Keeps a part of a workflow from being cancelled: its activities and steps run to their end.
///
/// What is called inside, or started inside, goes on when the run is asked to cancel; so compensation
/// stands in a shield. The run is not closed before every shield that was begun has ended.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(order: String) -> Result<(), everpulse::Error> { Ok(()) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn refund(order: String) -> Result<(), everpulse::Error> { Ok(()) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn checkout(order: String) -> Result<(), everpulse::Error> {
///     if let Err(failure) = charge(order.clone()).await {
///         everpulse::shielded(refund(order)).await?;
///         return Err(failure.into());
///     }
///     Ok(())
/// }
/// ```
pub fn shielded<F: IntoFuture>(future: F) -> Shielded<F::IntoFuture> {
    Shielded { future: Box::pin(future.into_future()), run: None, ended: false }
}

/// A future that a cancellation does not reach.
#[must_use = "nothing is done until it is awaited"]
pub struct Shielded<F> {
    future: Pin<Box<F>>,
    run: Option<u64>,
    ended: bool,
}

impl<F> fmt::Debug for Shielded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shielded").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl<F: Future> Future for Shielded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let core = Core::current("`shielded` was awaited", "elsewhere await the future itself");
        if self.run.is_none() {
            self.run = Some(core.id);
            core.shield_begun();
        }
        let result = {
            core.shield_entered();
            let _left = Leave(&core);
            self.future.as_mut().poll(cx)
        };
        if result.is_ready() && !std::mem::replace(&mut self.ended, true) {
            core.shield_ended();
        }
        result
    }
}

/// Leaves the shield even if what is inside panics.
struct Leave<'a>(&'a Core);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.shield_left();
    }
}

impl<F> Drop for Shielded<F> {
    fn drop(&mut self) {
        if let (Some(run), false) = (self.run, self.ended)
            && let Some(core) = Core::find_id(run)
        {
            core.shield_ended();
        }
    }
}

/// Waits until the run is asked to cancel; at once if it was asked before.
///
/// What is done then is not in a shield by itself: activities and steps end as cancelled, as everywhere, so what must
/// still be done stands in [`shielded`]. When nothing of the run is in a shield and it waits again, it is closed.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn serve(name: String) -> Result<(), everpulse::Error> { Ok(()) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn say_goodbye(name: String) -> Result<(), everpulse::Error> { Ok(()) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn session(name: String) -> Result<(), everpulse::Error> {
///     everpulse::select! {
///         // First, since the call comes to its end as cancelled by the same request.
///         () = everpulse::cancelled() => everpulse::shielded(say_goodbye(name)).await?,
///         served = serve(name.clone()) => served?,
///     }
///     Ok(())
/// }
/// ```
///
/// # Panics
/// Awaiting it outside a workflow.
pub fn cancelled() -> Cancelled {
    Cancelled::of(CancelWait::Request)
}

/// What of a cancellation is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelWait {
    /// That it is asked for.
    Request,
    /// That it was asked for and the run has come to rest: whoever then waits for nothing but time or a signal would be
    /// closed, so nothing more is to be waited for. Unlike the former it is no reason to keep the run open.
    AtRest,
}

/// The future of [`cancelled`].
#[derive(Debug)]
#[must_use = "nothing is waited for until it is awaited"]
pub struct Cancelled {
    kind: CancelWait,
    /// The run, and the number under which it keeps our waker.
    waiting: Option<(u64, u64)>,
}

impl Cancelled {
    pub(crate) fn of(kind: CancelWait) -> Self {
        Self { kind, waiting: None }
    }
}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let core = Core::current("`cancelled` was awaited", "an activity asks `activity::context().cancelled()`");
        let waiter = self.waiting.filter(|(run, _)| *run == core.id).map(|(_, waiter)| waiter);
        let waiter = core.wait_for_cancel(self.kind, waiter, cx.waker());
        self.waiting = waiter.map(|waiter| (core.id, waiter));
        if waiter.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some((run, waiter)) = self.waiting
            && let Some(core) = Core::find_id(run)
        {
            core.forget_cancel_waiter(waiter);
        }
    }
}
