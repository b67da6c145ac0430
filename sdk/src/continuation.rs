//! A run that goes on as another one: it ends here, and the next run of its workflow id begins with new arguments and a
//! history of its own.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::call::Call;
use crate::definition::WorkflowDefinition;
use crate::replay::Next;
use crate::replay::core::Core;

/// Ends this run and begins the next one of the same workflow id, with the arguments of a call: for workflows that live long
/// or for ever, whose history would become too long ([`Info::continue_as_new_suggested`](crate::workflow::Info)).
///
/// The future never gives anything, so its type is whatever the workflow returns:
///
/// ```
/// # use everpulse_sdk as everpulse;
/// use std::time::Duration;
/// use everpulse::{Error, continue_as_new, info, sleep};
///
/// #[everpulse::activity(crate = everpulse)]
/// async fn charge(customer: String, month: u32) -> Result<(), Error> {
/// #   let _ = (customer, month);
///     Ok(())
/// }
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn subscription(customer: String, mut month: u32) -> Result<(), Error> {
///     while !info().continue_as_new_suggested {
///         charge(customer.clone(), month).await?;
///         sleep(Duration::from_secs(30 * 86_400)).await;
///         month += 1;
///     }
///     continue_as_new(subscription(customer, month)).await
/// }
/// ```
///
/// What goes along:
///
/// - **signals that were not received**, in their order; what is taken while the run ends goes to the next one. A request to
///   cancel is told to the next run as well, if this one went on nevertheless (in a [`shielded`](crate::shielded) part);
/// - **updates that were taken and not received**, to be received and answered there. What the run holds in its hands stays
///   unanswered;
/// - **who waits for the result**: a client and a parent hear how the last run ends. It ought to return what the first would;
/// - **tags and time-out**, unless the call says otherwise. The time-out counts from the beginning of each run.
///
/// All else ends with the run, as if it returned: activities, steps and timers that are under way are cancelled, promises are
/// not kept, and children are dealt with as [`Call::parent_close`] says. What has to go on is an argument.
///
/// The next run takes the newest version of the workflow that its worker has, and none older than this one's, since that could
/// not read its arguments; [`Call::version`] names another. It may be another workflow, too.
///
/// A run that was asked to cancel does not go on, outside of [`shielded`](crate::shielded): it ends as cancelled.
///
/// # Panics
/// Awaiting it outside a workflow. The run is parked, with a message, if the call has an id of its own, or arguments that cannot
/// be written; if a saga has parts that may have to be undone; and if so many signals were not received that they do not fit
/// into a message of the broker.
///
/// # Cancel safety
/// The run ends when all its branches have been polled. Dropping this before, as the branch of a `select!` that another one
/// overtakes, takes it back.
///
/// # Determinism
/// That the run went on, and as what, is in its history, and compared in a replay as any command.
pub fn continue_as_new<D: WorkflowDefinition, T>(call: Call<D>) -> ContinueAsNew<T> {
    ContinueAsNew { next: Some(call.into_next()), wish: None, output: PhantomData }
}

/// What [`continue_as_new`] gives: a future without an end.
#[must_use = "nothing happens before it is awaited: `continue_as_new(..).await`"]
pub struct ContinueAsNew<T> {
    next: Option<Result<Box<Next>, String>>,
    /// The run, and the number of what was asked for there.
    wish: Option<(u64, u64)>,
    output: PhantomData<fn() -> T>,
}

impl<T> Future for ContinueAsNew<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let core = Core::current("`continue_as_new` was awaited", "elsewhere use `client.start(..)`");
        match self.next.take() {
            Some(Ok(next)) => self.wish = core.wish_to_continue(next).map(|wish| (core.id, wish)),
            Some(Err(message)) => core.fail(message),
            None => {}
        }
        Poll::Pending
    }
}

impl<T> Drop for ContinueAsNew<T> {
    fn drop(&mut self) {
        if let Some((run, wish)) = self.wish
            && let Some(core) = Core::find_id(run)
        {
            core.take_back(wish);
        }
    }
}

impl<T> fmt::Debug for ContinueAsNew<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContinueAsNew")
    }
}
