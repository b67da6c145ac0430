//! Scopes: named parts of a workflow, which history shows with what stands in them and what each came to.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use everpulse_protocol::Payload;
use everpulse_protocol::note::{Note, NoteKind};
use serde::Serialize;

use crate::definition::AuthorError;
use crate::failure::recorded_alone;
use crate::replay::core::Core;

/// Names a part of a workflow, for people who look at its runs.
///
/// History says where the part begins, which commands stand in it, and what it came to: its value, or its error. Scopes
/// stand in each other, and beside each other in branches of a `join!`. `describe` shows in which scopes a run waits; an
/// exported history has all of them. What the future does, and gives, stays the same.
///
/// A value or an error is kept if it has no more than 4 KiB, and of one turn so many as fit into 64 KiB; they are sealed like all
/// values. A name is cut after 256 bytes.
///
/// ```
/// use everpulse_sdk as everpulse;
/// use everpulse::{Error, scope};
///
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn reserve(item: String) -> Result<u32, Error> { Ok(7) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(reservation: u32) -> Result<(), Error> { Ok(()) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn buy(item: String) -> Result<u32, Error> {
///     scope("payment", async {
///         let reservation = scope("stock", reserve(item)).await?;
///         charge(reservation).await?;
///         Ok(reservation)
///     })
///     .await
/// }
/// ```
///
/// # Determinism
/// A replay does not look at scopes: they can be added, renamed and removed while runs are open. Only what is written from
/// then on shows them.
///
/// # Panics
/// Awaiting it outside a workflow.
///
/// # Cancel safety
/// Dropping it drops the future, and history says so.
pub fn scope<F, T, E>(name: impl Into<String>, future: F) -> Scope<F::IntoFuture>
where
    F: IntoFuture<Output = Result<T, E>>,
    T: Serialize,
    E: AuthorError,
{
    Scope { name: name.into(), future: Some(Box::pin(future.into_future())), begun: None }
}

/// The future of [`scope`].
#[must_use = "nothing is done until it is awaited"]
pub struct Scope<F> {
    name: String,
    future: Option<Pin<Box<F>>>,
    /// The run, and the scope's number there.
    begun: Option<(u64, u32)>,
}

impl<F> fmt::Debug for Scope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.name).finish()
    }
}

impl<F, T, E> Future for Scope<F>
where
    F: Future<Output = Result<T, E>>,
    T: Serialize,
    E: AuthorError,
{
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let scope = &mut *self;
        let core = Core::current("a scope was awaited", "elsewhere await the future itself");
        let Some(future) = &mut scope.future else { panic!("a scope was polled after it had ended") };
        let (_, no) = *scope.begun.get_or_insert_with(|| (core.id, core.begin_scope(scope.name.clone())));
        let result = {
            let _inside = core.enter_scope(no);
            let result = std::task::ready!(future.as_mut().poll(cx));
            // What it leaves behind is dropped inside, too.
            scope.future = None;
            result
        };
        scope.begun = None;
        core.end_scope(end(&core, no, &result));
        Poll::Ready(result)
    }
}

/// What is noted of a scope's end. Nobody reads it in a replay.
fn end<T: Serialize, E: AuthorError>(core: &Core, no: u32, result: &Result<T, E>) -> Note {
    let keeps = core.takes_notes();
    match result {
        Ok(value) => {
            let value = keeps.then(|| unless_it_panics(|| Payload::encode_as(core.format, value).ok())).flatten();
            Note { value, ..Note::new(no, NoteKind::ScopeDone) }
        }
        Err(error) => {
            let said = || Some(Box::new(recorded_alone(error, core.format)));
            let failure = keeps.then(|| unless_it_panics(said)).flatten();
            Note { failure, ..Note::new(no, NoteKind::ScopeFailed) }
        }
    }
}

/// The author's own code writes values and errors. Where it panics the note goes without, as it is for people alone: the run
/// shall not stand still for it.
fn unless_it_panics<T>(write: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or_default()
}

impl<F> Drop for Scope<F> {
    fn drop(&mut self) {
        let Some((run, no)) = self.begun else { return };
        // Silent when the whole run is taken down.
        if let Some(core) = Core::find_id(run) {
            {
                let _inside = core.enter_scope(no);
                self.future = None;
            }
            core.end_scope(Note::new(no, NoteKind::ScopeDropped));
        }
    }
}
