//! Children: other workflows that a run begins, each with a history of its own, maybe in another process.
//!
//! ```text
//!   checkout(order).await             begun, awaited; dropping the call asks the child to cancel
//!   checkout(order).start().await ──► Child: a future of its end, with `cancel`, `signal` and `detach`
//!   checkout(order).detach()          begun, and left alone
//! ```

mod named;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use everpulse_protocol::family::{Target, child_id, child_run};
use everpulse_protocol::history::CommandKind;
use everpulse_protocol::id::check_name;
use everpulse_protocol::{Payload, RunId, WorkflowId};

use crate::call::{HandleState, New, Refusal, typed};
use crate::definition::WorkflowDefinition;
use crate::external::Delivery;
use crate::failure::Failure;
use crate::options::{Overrides, ms};
use crate::replay::core::Core;
use crate::replay::core::children::Beginning;
use crate::replay::{Command, Spawn, Ticket};
use crate::signal::Signal;

pub use named::NamedChild;

/// Asks for a child; `hears_begin`: the code waits to hear that it is in its history.
pub(crate) fn schedule<D: WorkflowDefinition>(new: New, hears_begin: bool) -> Result<Ticket, Refusal> {
    let core = Core::find().unwrap_or_else(|| {
        panic!(
            "workflow `{}` was called outside a workflow: a client starts it with `client.start(..)`; in a function with \
             `#[workflow]` it is a child",
            D::NAME
        )
    });
    let args = new.args.map_err(|error| Refusal::Undecodable(format!("workflow `{}`: {error}", D::NAME)))?;
    schedule_named(&core, D::NAME, args, new.overrides, hears_begin)
}

fn schedule_named(
    core: &Rc<Core>,
    workflow: &str,
    args: Payload,
    overrides: Overrides,
    hears_begin: bool,
) -> Result<Ticket, Refusal> {
    let unusable = |error: &dyn fmt::Display| Refusal::Undecodable(format!("workflow `{workflow}`: {error}"));
    for tag in &overrides.tags {
        check_name(tag).map_err(|error| unusable(&format_args!("a tag: {error}")))?;
    }
    let id = overrides.id.map(|id| WorkflowId::new(id).map_err(|error| unusable(&error))).transpose()?;
    let spawn = Box::new(Spawn {
        workflow: workflow.to_owned(),
        version: overrides.version,
        args,
        tags: overrides.tags,
        timeout_ms: overrides.timeout.map(|timeout| ms(timeout).max(1)),
        hears_begin,
        headers: core.headers(),
        priority: overrides.priority.or(&core.info.priority),
    });
    let on_close = Some(overrides.parent_close);
    Ticket::schedule(core, CommandKind::Child, |no| {
        let (parent, run) = (&core.info.workflow_id, core.info.run_id);
        let workflow_id = id.unwrap_or_else(|| child_id(parent, run, no));
        Command::Child { no, target: Target { workflow_id, run_id: Some(child_run(run, no)), on_close }, spawn }
    })
    .ok_or(Refusal::Cancelled)
}

/// A child that was asked for: a future of its [`Child`], once it is in its history.
///
/// Of a call that was awaited before it was started, nobody hears of the beginning: the child is there at once. Signals that
/// come before its start wait for it; a request to cancel that does is [`Failure::NotFound`], and dropping the child is
/// sure to reach it.
///
/// # Errors
/// [`Failure::Taken`] when another run has its id, [`Failure::TimedOut`] when the child was asked for so long ago that
/// whether it ran is forgotten, and [`Failure::Cancelled`].
///
/// # Cancel safety
/// Dropping it asks the child to cancel.
#[must_use = "dropping it asks the child to cancel: await it, or `.detach()` it"]
pub struct Starting<D> {
    state: HandleState,
    definition: PhantomData<fn() -> D>,
}

impl<D> Starting<D> {
    pub(crate) fn new(state: HandleState) -> Self {
        Self { state, definition: PhantomData }
    }

    /// Leaves the child alone: it goes on whatever becomes of this run.
    pub fn detach(self) {
        if let HandleState::Open(ticket) = self.state {
            ticket.detach();
        }
    }
}

impl<D: WorkflowDefinition> Future for Starting<D> {
    type Output = Result<Child<D>, Failure<D::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let HandleState::Open(ticket) = &self.state {
            let beginning = ticket.poll_beginning(cx);
            if beginning == Beginning::Awaited {
                return Poll::Pending;
            }
            // How it came to its end without a beginning.
            let settlement =
                if beginning == Beginning::Ended { Some(std::task::ready!(ticket.poll(cx))) } else { None };
            let HandleState::Open(ticket) = std::mem::replace(&mut self.state, HandleState::Done) else {
                unreachable!("just looked")
            };
            return Poll::Ready(match settlement {
                None => Ok(Child::new(ticket)),
                Some(settlement) => match typed::<D::Output, D::Error>(settlement) {
                    Err(failure) => Err(failure),
                    Ok(_) => unreachable!("what has a result has begun"),
                },
            });
        }
        match std::mem::replace(&mut self.state, HandleState::Done) {
            HandleState::Failed(refusal) => Poll::Ready(Err(refusal.into())),
            _ => panic!("a start was polled after it had given its child"),
        }
    }
}

/// A child that is in its history: a future of its result, and what else can be done with it.
///
/// It is `Unpin`: `&mut child` can be awaited in a `select!` several times.
///
/// # Cancel safety
/// Dropping it asks the child to cancel, except at the end of the workflow: what is still held when the function returns is
/// left as [`Call::parent_close`](crate::Call::parent_close) says. A child that was asked to cancel can be awaited all the same:
///
/// ```
/// # use everpulse_sdk as everpulse;
/// use std::time::Duration;
/// use everpulse::{Error, Failure, select, sleep, workflow};
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn search(place: String) -> Result<u32, Error> {
/// #   sleep(Duration::from_secs(5)).await;
///     Ok(place.len() as u32)
/// }
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn search_for_an_hour(place: String) -> Result<u32, Error> {
///     let mut searching = search(place).start().await?;
///     select! {
///         found = &mut searching => return Ok(found?),
///         () = sleep(Duration::from_secs(3_600)) => searching.cancel().await?,
///     }
///     // It may have found something while it tidied up.
///     match searching.await {
///         Err(Failure::Cancelled) => Ok(0),
///         found => Ok(found?),
///     }
/// }
/// ```
#[must_use = "dropping a child asks it to cancel: await it, or `.detach()` it"]
pub struct Child<D> {
    ticket: Option<Ticket>,
    target: Target,
    definition: PhantomData<fn() -> D>,
}

impl<D: WorkflowDefinition> Child<D> {
    fn new(ticket: Ticket) -> Self {
        let target = ticket.target();
        Self { ticket: Some(ticket), target, definition: PhantomData }
    }

    /// How it ends.
    ///
    /// # Errors
    /// The child's own error, or what else became of it.
    ///
    /// # Cancel safety
    /// As of the child itself.
    pub async fn result(self) -> Result<D::Output, Failure<D::Error>> {
        self.await
    }
}

impl<D> Child<D> {
    /// Its workflow id.
    #[must_use]
    pub fn workflow_id(&self) -> &WorkflowId {
        &self.target.workflow_id
    }

    /// Its run id, which follows from this run's and the number of the call.
    #[must_use]
    pub fn run_id(&self) -> Option<RunId> {
        self.target.run_id
    }

    /// Asks it to cancel. How it ends then, this handle still tells.
    pub fn cancel(&self) -> Delivery {
        Delivery::cancel(self.target.clone())
    }

    /// Ends it at once, without a word to its code. That it was, this handle tells, as [`Failure::Terminated`].
    pub fn terminate(&self, reason: impl Into<String>) -> Delivery {
        Delivery::terminate(self.target.clone(), reason.into())
    }

    /// Sends it a signal.
    pub fn signal<S: Signal>(&self, signal: S) -> Delivery {
        Delivery::signal(self.target.clone(), &signal)
    }

    /// Leaves it alone: it goes on whatever becomes of this run, also where [`Call::parent_close`](crate::Call::parent_close)
    /// said something else.
    pub fn detach(mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.detach();
        }
    }
}

// Nothing in it is pinned.
impl<D> Unpin for Child<D> {}
impl<D> Unpin for Starting<D> {}

impl<D: WorkflowDefinition> Future for Child<D> {
    type Output = Result<D::Output, Failure<D::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = &self.ticket else { panic!("a child was polled after it had given its result") };
        let settlement = std::task::ready!(ticket.poll(cx));
        self.ticket = None;
        Poll::Ready(typed(settlement))
    }
}

impl<D: WorkflowDefinition> fmt::Debug for Starting<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Starting({})", D::NAME)
    }
}

impl<D: WorkflowDefinition> fmt::Debug for Child<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Child({}, {})", D::NAME, self.target.workflow_id)
    }
}
