//! Signals: values that others send to a run.
//!
//! They are kept per name in the order in which they came, until the workflow takes them; those that
//! come before anybody waits are not lost.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::definition::Argument;
use crate::replay::core::Core;
use crate::schema::Schemas;

/// A type that can be sent to a run, made by `#[signal]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a signal",
    note = "write `#[signal]` on the struct or enum, and derive `serde::Serialize` and `serde::Deserialize`"
)]
pub trait Signal: Argument {
    /// The name on the wire, under which signals are queued.
    const NAME: &'static str;

    /// What its type says of itself.
    #[must_use]
    fn schemas() -> Schemas {
        Schemas::default()
    }
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
        Recv { place: Place::default(), kind: PhantomData }
    }

    /// Waits for the first one that fits, and leaves the others in the queue for other receivers.
    ///
    /// It stands in no line: of several receivers that a signal fits, whoever is polled first takes it, which is the order
    /// of the branches in the source.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use serde::{Deserialize, Serialize};
    /// #[everpulse::signal(crate = everpulse)]
    /// #[derive(Serialize, Deserialize)]
    /// struct Vote { item: u32, ok: bool }
    ///
    /// #[everpulse::workflow(crate = everpulse)]
    /// async fn both_items() -> bool {
    ///     let vote = |item| everpulse::signal::<Vote>().recv_where(move |vote| vote.item == item);
    ///     let (first, second) = everpulse::join!(vote(1), vote(2));
    ///     first.ok && second.ok
    /// }
    /// ```
    ///
    /// Each signal is asked about once, when it comes or when this is first awaited; a receiver that is made later asks
    /// again. What fits nobody is kept, until a [`recv`](Signals::recv) takes it.
    ///
    /// # Determinism
    /// Whether a signal fits must depend on nothing but the signal and what stays as it is meanwhile.
    ///
    /// # Cancel safety
    /// As [`Signals::recv`].
    pub fn recv_where<F: FnMut(&T) -> bool>(&self, fits: F) -> RecvWhere<T, F> {
        RecvWhere { place: Place::default(), fits, kind: PhantomData }
    }

    /// All of them, one after another, without an end. While it is not polled it is in nobody's way; whoever is polled first
    /// takes what is there.
    ///
    /// # Cancel safety
    /// As [`Signals::recv`].
    pub fn stream(&self) -> SignalStream<T> {
        let all: fn(&T) -> bool = |_| true;
        SignalStream { next: self.recv_where(all) }
    }
}

/// A receiver's place at the queue.
#[derive(Debug, Default)]
struct Place {
    run: Option<u64>,
    waiter: u64,
    /// Signals with lower numbers were looked at, and do not fit.
    from: u64,
    done: bool,
}

impl Place {
    /// The next signal, or the next that fits.
    fn poll<T: Signal>(&mut self, mut fits: Option<&mut dyn FnMut(&T) -> bool>, cx: &mut Context<'_>) -> Poll<T> {
        assert!(!self.done, "a signal's future was polled after it had given the signal");
        let core = Core::current("a signal was awaited", INSTEAD);
        match self.run {
            Some(run) => assert!(run == core.id, "a signal of one run was awaited in another"),
            None => {
                self.run = Some(core.id);
                self.waiter = core.line_up(T::NAME, fits.is_some(), cx.waker());
            }
        }
        while let Some((number, value)) = core.peek_signal(T::NAME, self.waiter, self.from, cx.waker()) {
            let value: T = match value.decode() {
                Ok(value) => value,
                Err(error) => {
                    core.fail(format!(
                        "signal `{}` cannot be read as {}: {error}; deploy a type that can read it, or have the sender \
                         send another: the signal is kept",
                        T::NAME,
                        std::any::type_name::<T>()
                    ));
                    return Poll::Pending;
                }
            };
            if fits.as_mut().is_none_or(|fits| fits(&value)) {
                self.done = true;
                core.leave_line(T::NAME, self.waiter, Some(number));
                return Poll::Ready(value);
            }
            self.from = number + 1;
        }
        Poll::Pending
    }

    fn leave(&self, name: &str) {
        if let (Some(run), false) = (self.run, self.done)
            && let Some(core) = Core::find_id(run)
        {
            core.leave_line(name, self.waiter, None);
        }
    }
}

/// Waits for a signal.
#[must_use = "nothing is received until it is awaited"]
pub struct Recv<T: Signal> {
    place: Place,
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
        self.place.poll(None, cx)
    }
}

impl<T: Signal> Drop for Recv<T> {
    fn drop(&mut self) {
        self.place.leave(T::NAME);
    }
}

/// Waits for a signal that fits.
#[must_use = "nothing is received until it is awaited"]
pub struct RecvWhere<T: Signal, F> {
    place: Place,
    fits: F,
    kind: PhantomData<fn() -> T>,
}

// The closure is only called, never pinned.
impl<T: Signal, F> Unpin for RecvWhere<T, F> {}

impl<T: Signal, F> fmt::Debug for RecvWhere<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvWhere({})", T::NAME)
    }
}

impl<T: Signal, F: FnMut(&T) -> bool> Future for RecvWhere<T, F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let receiver = &mut *self;
        receiver.place.poll(Some(&mut receiver.fits), cx)
    }
}

impl<T: Signal, F> Drop for RecvWhere<T, F> {
    fn drop(&mut self) {
        self.place.leave(T::NAME);
    }
}

/// The stream of [`Signals::stream`].
#[must_use = "nothing is received until it is polled"]
pub struct SignalStream<T: Signal> {
    next: RecvWhere<T, fn(&T) -> bool>,
}

impl<T: Signal> fmt::Debug for SignalStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalStream({})", T::NAME)
    }
}

impl<T: Signal> Stream for SignalStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let value = std::task::ready!(Pin::new(&mut self.next).poll(cx));
        self.next = signal::<T>().stream().next;
        Poll::Ready(Some(value))
    }
}
