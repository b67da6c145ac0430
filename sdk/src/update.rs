//! Updates: requests that a run's code looks at before they are taken, and answers.
//!
//! ```text
//!   client: run.update(AddItem { .. }) ──► owner ──► the validator looks ──► refused: told, and no trace
//!      ▲                                                │ passes: recorded
//!      │                                                ▼
//!      └────────────── request.reply(..) ◄───── adds.recv().await
//! ```
//!
//! Requests are values that the workflow takes when it is ready for them, as it does signals; so there is no second thread of
//! control in a run, and nothing to lock.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use everpulse_protocol::event::Outcome;
use everpulse_protocol::{Failure, FailureKind, Payload};
use futures::Stream;

use crate::__private::encode;
use crate::definition::{Argument, AuthorError, Output};
use crate::failure::recorded_alone;
use crate::replay::core::Core;
use crate::schema::Schemas;

/// A type that can be requested of a run, made by `#[update(reply = ..)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an update",
    note = "write `#[update(reply = ..)]` on the struct or enum, and derive `serde::Serialize` and `serde::Deserialize`"
)]
pub trait Update: Argument {
    /// The name on the wire, by which the run's code is found.
    const NAME: &'static str;
    /// What it is answered with.
    type Reply: Output;
    /// Why it is refused, or cannot be done.
    type Error: AuthorError;

    /// What its types say of themselves.
    #[must_use]
    fn schemas() -> Schemas {
        Schemas::default()
    }
}

const INSTEAD: &str = "in an activity or elsewhere request it with the client's `run.update(..)`";

/// From now on, for as long as it is open, the run takes updates of this type; before that they are told to come again.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// use std::cell::RefCell;
/// use std::rc::Rc;
///
/// use everpulse::{signal, update};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
/// enum CartError {
///     #[error("{count} are too many, there is room for {room}")]
///     TooMany { count: u32, room: u32 },
/// }
///
/// #[everpulse::update(reply = u32, error = CartError, crate = everpulse)]
/// #[derive(Serialize, Deserialize)]
/// struct AddItems { count: u32 }
///
/// #[everpulse::signal(crate = everpulse)]
/// #[derive(Serialize, Deserialize)]
/// struct CheckOut {}
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn cart(size: u32) -> u32 {
///     let items = Rc::new(RefCell::new(0));
///     let seen = items.clone();
///     let adds = update::<AddItems>().validate(move |add| {
///         let room = size - *seen.borrow();
///         if add.count > room { Err(CartError::TooMany { count: add.count, room }) } else { Ok(()) }
///     });
///     loop {
///         everpulse::select! {
///             add = adds.recv() => {
///                 *items.borrow_mut() += add.count;
///                 add.reply(Ok(*items.borrow()));
///             }
///             _ = signal::<CheckOut>().recv() => break,
///         }
///     }
///     let sold = *items.borrow();
///     sold
/// }
/// ```
///
/// Without a validator all are taken. A second `update` of one type takes the place of the first, validator and all.
///
/// # Panics
/// Outside a workflow, and in a handler that only looks.
#[must_use = "receive them, or they stay unanswered until the run ends"]
pub fn update<T: Update>() -> Updates<T> {
    let core = Core::current("`update` was called", INSTEAD);
    core.open_port(T::NAME, Rc::new(|args: &Payload| decode::<T>(args).map(|_| ())));
    Updates { kind: PhantomData }
}

/// What a validator says of encoded arguments.
pub(crate) type Validator = dyn Fn(&Payload) -> Result<(), Box<Failure>>;

fn decode<T: Update>(args: &Payload) -> Result<T, Box<Failure>> {
    args.decode().map_err(|error| {
        let message = format!("update `{}` cannot be read: {error}; deploy both sides with one type", T::NAME);
        Box::new(Failure::new(FailureKind::Undecodable, message))
    })
}

/// The updates of one type, of the run that asks.
pub struct Updates<T> {
    kind: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Updates<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Updates")
    }
}

impl<T: Update> Updates<T> {
    /// Looks at each request before it is taken. What it refuses leaves no trace in the run's history; whoever asked gets the
    /// error.
    ///
    /// It is asked when the request arrives. If others are still to be received then, the state that it looks at is that
    /// before those: what must hold when the request is carried out is to be asked there again.
    ///
    /// # Determinism
    /// It only looks: a replay does not call it. That it starts nothing, draws no random value and publishes nothing is
    /// checked; then the request is refused, and the run is left as it was. What it writes into a shared state cannot be seen
    /// from outside: let it write nothing.
    pub fn validate(self, validator: impl Fn(&T) -> Result<(), T::Error> + 'static) -> Self {
        let core = Core::current("`validate` was called", INSTEAD);
        let format = core.format;
        core.open_port(
            T::NAME,
            Rc::new(move |args: &Payload| {
                validator(&decode(args)?).map_err(|error| Box::new(recorded_alone(&error, format)))
            }),
        );
        self
    }

    /// Waits for the next one, in the order in which they were taken. Of several receivers whoever is polled first takes it,
    /// which is the order of the branches in the source.
    ///
    /// # Cancel safety
    /// A request is taken out only when it is handed out; dropping this loses none.
    pub fn recv(&self) -> RecvUpdate<T> {
        RecvUpdate { place: None, kind: PhantomData }
    }

    /// All of them, one after another, without an end.
    ///
    /// # Cancel safety
    /// As [`Updates::recv`].
    pub fn stream(&self) -> UpdateStream<T> {
        UpdateStream { next: self.recv() }
    }

    /// From now on updates of this type are refused. Those that were taken and not received stay unanswered.
    pub fn close(self) {
        Core::current("`close` was called", INSTEAD).close_port(T::NAME);
    }
}

/// Waits for an update.
#[must_use = "nothing is received until it is awaited"]
pub struct RecvUpdate<T: Update> {
    /// Run and number, once it has been polled.
    place: Option<(u64, u64)>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Update> fmt::Debug for RecvUpdate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvUpdate({})", T::NAME)
    }
}

impl<T: Update> Future for RecvUpdate<T> {
    type Output = Request<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Request<T>> {
        let core = Core::current("an update was awaited", INSTEAD);
        if let Some((run, _)) = self.place {
            assert!(run == core.id, "an update of one run was awaited in another");
        }
        let (waiter, taken) = core.take_update(T::NAME, self.place.map(|(_, waiter)| waiter), cx.waker());
        self.place = waiter.map(|waiter| (core.id, waiter));
        let Some(taken) = taken else { return Poll::Pending };
        match taken.args.decode() {
            Ok(value) => {
                let responder = Responder { run: core.id, no: taken.no, id: taken.id, open: true, kind: PhantomData };
                Poll::Ready(Request { value, responder })
            }
            // It was readable when it was taken; the code has changed since then.
            Err(error) => {
                core.fail(format!(
                    "update `{}` cannot be read as {}: {error}; deploy a type that can read it",
                    T::NAME,
                    std::any::type_name::<T>()
                ));
                Poll::Pending
            }
        }
    }
}

impl<T: Update> Drop for RecvUpdate<T> {
    fn drop(&mut self) {
        if let Some((run, waiter)) = self.place
            && let Some(core) = Core::find_id(run)
        {
            core.forget_update_waiter(T::NAME, waiter);
        }
    }
}

/// The stream of [`Updates::stream`].
#[must_use = "nothing is received until it is polled"]
pub struct UpdateStream<T: Update> {
    next: RecvUpdate<T>,
}

impl<T: Update> fmt::Debug for UpdateStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpdateStream({})", T::NAME)
    }
}

impl<T: Update> Stream for UpdateStream<T> {
    type Item = Request<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request<T>>> {
        Pin::new(&mut self.next).poll(cx).map(Some)
    }
}

/// An update that was taken. It reads as its value, and waits for its answer.
///
/// It takes apart, where the value is needed as a whole: `let Request { value, responder } = request;`
#[must_use = "whoever asked waits for `reply`"]
pub struct Request<T: Update> {
    /// What was asked.
    pub value: T,
    /// Answers it.
    pub responder: Responder<T>,
}

impl<T: Update + fmt::Debug> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("id", &self.responder.id).field("value", &self.value).finish()
    }
}

impl<T: Update> Deref for Request<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Update> Request<T> {
    /// The id under which it was asked, by the client's choice.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.responder.id
    }

    /// Answers it. The answer is part of history, and what is told to whoever asks again.
    ///
    /// # Panics
    /// Outside the run that received it.
    pub fn reply(self, answer: Result<T::Reply, T::Error>) {
        self.responder.reply(answer);
    }
}

/// The right to answer an update. If it is dropped the update has failed; what the run holds when it ends stays
/// unanswered.
#[must_use = "whoever asked waits for `reply`"]
pub struct Responder<T: Update> {
    run: u64,
    no: u32,
    id: String,
    open: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T: Update> fmt::Debug for Responder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Responder({})", self.id)
    }
}

impl<T: Update> Responder<T> {
    /// Answers the update, as [`Request::reply`].
    ///
    /// # Panics
    /// Outside the run that received it.
    pub fn reply(mut self, answer: Result<T::Reply, T::Error>) {
        let core = Core::find_id(self.run);
        let core = core.expect("an update of one run was answered outside that run; answer it where it was received");
        let outcome = match answer {
            Ok(value) => encode(&value).map_or_else(Outcome::Failed, Outcome::Done),
            Err(error) => Outcome::Failed(recorded_alone(&error, core.format)),
        };
        self.open = false;
        core.answer(self.no, std::mem::take(&mut self.id), outcome, false);
    }
}

impl<T: Update> Drop for Responder<T> {
    fn drop(&mut self) {
        // None while the whole run is taken down: it stays unanswered, until the run is there again or for good.
        if self.open
            && let Some(core) = Core::find_id(self.run)
        {
            let message = format!("update `{}` was dropped by the workflow without an answer", T::NAME);
            let failure = Failure::new(FailureKind::Cancelled, message);
            core.answer(self.no, std::mem::take(&mut self.id), Outcome::Failed(failure), true);
        }
    }
}
