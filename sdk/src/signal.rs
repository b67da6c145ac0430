//! Signals: values that others send to a run.
//!
//! They are kept per name in the order in which they came, until the workflow takes them; those that
//! come before anybody waits are not lost.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::definition::Argument;
use crate::replay::core::Core;

/// A type that can be sent to a run, made by `#[signal]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a signal",
    note = "write `#[signal]` on the struct or enum, and derive `serde::Serialize` and `serde::Deserialize`"
)]
pub trait Signal: Argument {
    /// The name on the wire, under which signals are queued.
    const NAME: &'static str;
}

const INSTEAD: &str = "in an activity or elsewhere use a channel of your own";

/// The signals of a type that were and will be sent to this run.
///
/// ```
/// use everpulse_sdk as everpulse;
/// use serde::{Deserialize, Serialize};
///
/// #[everpulse::signal(crate = everpulse)]
/// #[derive(Serialize, Deserialize)]
/// struct Approved { ok: bool }
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn approval() -> bool {
///     everpulse::signal::<Approved>().recv().await.ok
/// }
/// ```
///
/// # Panics
/// Outside a workflow.
#[must_use]
pub fn signal<T: Signal>() -> Signals<T> {
    Core::current("`signal` was called", INSTEAD);
    Signals { kind: PhantomData }
}

/// The signals of one type, of the run that asks.
pub struct Signals<T> {
    kind: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Signals<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}

impl<T: Signal> Signals<T> {
    /// Waits for the next one. Of several that wait, the one that was polled first is served first.
    ///
    /// A signal that cannot be decoded as a `T` is not passed over, as it would be lost in silence: it
    /// stays where it is, and the run is parked with a message until a release comes that can read it.
    ///
    /// # Cancel safety
    /// A signal is taken only when it is handed out; dropping this loses none.
    pub fn recv(&self) -> Recv<T> {
        Recv { run: None, waiter: 0, done: false, kind: PhantomData }
    }
}

/// Waits for a signal.
#[must_use = "nothing is received until it is awaited"]
pub struct Recv<T: Signal> {
    run: Option<u64>,
    waiter: u64,
    done: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T: Signal> fmt::Debug for Recv<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recv({})", T::NAME)
    }
}

impl<T: Signal> Future for Recv<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        assert!(!self.done, "a signal's future was polled after it had given the signal");
        let core = Core::current("a signal was awaited", INSTEAD);
        match self.run {
            Some(run) => assert!(run == core.id, "a signal of one run was awaited in another"),
            None => {
                self.run = Some(core.id);
                self.waiter = core.line_up(T::NAME, cx.waker());
            }
        }
        let Some(value) = core.peek_signal(T::NAME, self.waiter, cx.waker()) else { return Poll::Pending };
        match value.decode() {
            Ok(value) => {
                self.done = true;
                core.leave_line(T::NAME, self.waiter, true);
                Poll::Ready(value)
            }
            Err(error) => {
                core.fail(format!(
                    "signal `{}` cannot be read as {}: {error}; deploy a type that can read it, or have the sender send \
                     another: the signal is kept",
                    T::NAME,
                    std::any::type_name::<T>()
                ));
                Poll::Pending
            }
        }
    }
}

impl<T: Signal> Drop for Recv<T> {
    fn drop(&mut self) {
        if let (Some(run), false) = (self.run, self.done)
            && let Some(core) = Core::find_id(run)
        {
            core.leave_line(T::NAME, self.waiter, false);
        }
    }
}
