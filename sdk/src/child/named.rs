//! Children whose code is not known here: by the name of their workflow, with arguments as they are stored.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use everpulse_protocol::event::Outcome;
use everpulse_protocol::{Failure, FailureKind, Payload, WorkflowId};

use super::Delivery;
use crate::call::Request;
use crate::options::{Overrides, ParentClose};
use crate::replay::core::Core;
use crate::replay::{Settlement, Ticket};

/// A child that was begun by the name of its workflow: a future of what it comes to, as it is recorded.
///
/// For workflows that begin others on somebody's behalf, as a schedule does: a client gave them the [`Request`].
///
/// # Cancel safety
/// Dropping it asks the child to cancel.
#[must_use = "dropping it asks the child to cancel"]
pub struct NamedChild {
    ticket: Option<Ticket>,
    workflow_id: WorkflowId,
}

impl NamedChild {
    /// Asks for it now.
    ///
    /// # Errors
    /// A tag or an id that cannot be one, and [`FailureKind::Cancelled`].
    ///
    /// # Panics
    /// Outside a workflow.
    pub fn start(request: Request, parent_close: ParentClose) -> Result<Self, Failure> {
        let Request { workflow, version, args, id, tags, timeout, priority } = request;
        let core = Core::current("a child was begun by its name", "elsewhere use `client.start_named(..)`");
        let overrides = Overrides { id, tags, version, timeout, priority, parent_close, ..Overrides::default() };
        let ticket =
            super::schedule_named(&core, &workflow, args, overrides, false).map_err(|refusal| match refusal {
                crate::call::Refusal::Undecodable(message) => Failure::new(FailureKind::Undecodable, message),
                crate::call::Refusal::Cancelled => cancelled(),
            })?;
        let workflow_id = ticket.target().workflow_id;
        Ok(Self { ticket: Some(ticket), workflow_id })
    }

    /// Its workflow id.
    #[must_use]
    pub fn workflow_id(&self) -> &WorkflowId {
        &self.workflow_id
    }

    /// Asks it to cancel. None: it has given its result.
    pub fn cancel(&self) -> Option<Delivery> {
        self.ticket.as_ref().map(|ticket| Delivery::cancel(ticket.target()))
    }

    /// Ends it at once, without a word to its code. None: it has given its result.
    pub fn terminate(&self, reason: impl Into<String>) -> Option<Delivery> {
        self.ticket.as_ref().map(|ticket| Delivery::terminate(ticket.target(), reason.into()))
    }

    /// Leaves it alone: it goes on whatever becomes of this run.
    pub fn detach(mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.detach();
        }
    }
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "the run was asked to cancel")
}

impl Future for NamedChild {
    type Output = Result<Payload, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(ticket) = &self.ticket else { panic!("a child was polled after it had given its result") };
        let settlement = std::task::ready!(ticket.poll(cx));
        self.ticket = None;
        Poll::Ready(match settlement {
            Settlement::Outcome(Outcome::Done(value)) => Ok(value),
            Settlement::Outcome(Outcome::Failed(failure)) => Err(failure),
            Settlement::Cancelled => Err(cancelled()),
            Settlement::Fired => unreachable!("the core fires timers only"),
        })
    }
}

impl fmt::Debug for NamedChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamedChild({})", self.workflow_id)
    }
}
