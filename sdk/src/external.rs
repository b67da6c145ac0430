//! What a run asks of another one that it knows by its id: signals, to cancel, and to end at once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use everpulse_protocol::family::Target;
use everpulse_protocol::history::CommandKind;
use everpulse_protocol::{Payload, RunId, WorkflowId};

use crate::call::{Refusal, typed};
use crate::definition::Never;
use crate::failure::Failure;
use crate::format;
use crate::replay::core::Core;
use crate::replay::{Command, Settlement, Ticket};
use crate::signal::Signal;

/// A reason is a line for people, and no place for values: it lies in history as it is.
const REASON_BYTES_MAX: usize = 2 * 1024;

/// The newest run of a workflow id, whoever began it.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// use everpulse::{Error, external};
/// # use serde::{Deserialize, Serialize};
///
/// #[everpulse::signal(crate = everpulse)]
/// #[derive(Serialize, Deserialize)]
/// struct Paid { order: String }
///
/// #[everpulse::workflow(crate = everpulse)]
/// async fn payment(order: String) -> Result<(), Error> {
///     external(format!("order-{order}")).signal(Paid { order }).await?;
///     Ok(())
/// }
/// ```
#[must_use]
pub fn external(id: impl Into<String>) -> External {
    External { id: id.into(), run_id: None }
}

/// A run that is known by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    id: String,
    run_id: Option<RunId>,
}

impl External {
    /// This run of the workflow id alone.
    #[must_use]
    pub fn run_id(mut self, run_id: RunId) -> Self {
        self.run_id = Some(run_id);
        self
    }

    /// Sends it a signal.
    pub fn signal<S: Signal>(&self, signal: S) -> Delivery {
        match self.target() {
            Ok(target) => Delivery::signal(target, &signal),
            Err(refused) => refused,
        }
    }

    /// Asks it to cancel.
    pub fn cancel(&self) -> Delivery {
        self.target().map_or_else(|refused| refused, Delivery::cancel)
    }

    /// Ends it at once: its code hears nothing of it, and what it had under way is given up. Its children are dealt with as at
    /// any end. For runs that do not heed [`cancel`](Self::cancel). Whoever asks how it ended reads the reason, or its first 2 KiB.
    pub fn terminate(&self, reason: impl Into<String>) -> Delivery {
        self.target().map_or_else(|refused| refused, |target| Delivery::terminate(target, reason.into()))
    }

    fn target(&self) -> Result<Target, Delivery> {
        match WorkflowId::new(&self.id) {
            Ok(workflow_id) => Ok(Target { workflow_id, run_id: self.run_id, on_close: None }),
            Err(error) => Err(Delivery::refused(format!("a run of another workflow: {error}"))),
        }
    }
}

/// Something that is asked of another run. Awaiting it sends it, and gives whether it was taken: it stands in the history of
/// the other run then, which may be parked, or do something else first.
///
/// # Errors
/// [`Failure::NotFound`] when there is no such run, or it has ended: it was not taken when that was looked at. A signal waits
/// some seconds for its run to begin. [`Failure::Cancelled`] when this run is asked to cancel before it is sent.
///
/// # Panics
/// Awaiting it outside a workflow.
///
/// # Cancel safety
/// Nothing is sent before it is awaited. Dropping it later takes nothing back.
#[must_use = "nothing is sent before it is awaited"]
pub struct Delivery {
    state: State,
}

enum State {
    New(Box<(Target, Asked)>),
    Refused(String),
    Scheduled(Option<Ticket>),
    Done,
}

enum Asked {
    Signal { name: &'static str, value: Payload },
    Cancel,
    Terminate { reason: String },
}

impl Delivery {
    pub(crate) fn signal<S: Signal>(target: Target, signal: &S) -> Self {
        match Payload::encode_as(format::current(), signal) {
            Ok(value) => Self { state: State::New(Box::new((target, Asked::Signal { name: S::NAME, value }))) },
            Err(error) => Self::refused(format!("signal `{}`: {error}", S::NAME)),
        }
    }

    pub(crate) fn cancel(target: Target) -> Self {
        Self { state: State::New(Box::new((target, Asked::Cancel))) }
    }

    pub(crate) fn terminate(target: Target, mut reason: String) -> Self {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self { state: State::New(Box::new((target, Asked::Terminate { reason }))) }
    }

    fn refused(message: String) -> Self {
        Self { state: State::Refused(message) }
    }
}

fn schedule(target: Target, asked: Asked) -> Option<Ticket> {
    let core = Core::current(
        "another run was asked for something",
        "elsewhere use a client's run: `client.run(checkout, \"order-42\").signal(..)`",
    );
    let target = Target { on_close: None, ..target };
    match asked {
        Asked::Signal { name, value } => Ticket::schedule(&core, CommandKind::Signal, |no| Command::Signal {
            no,
            target,
            name: name.to_owned(),
            value,
        }),
        Asked::Cancel => Ticket::schedule(&core, CommandKind::CancelRun, |no| Command::CancelRun { no, target }),
        Asked::Terminate { reason } => {
            Ticket::schedule(&core, CommandKind::TerminateRun, |no| Command::TerminateRun { no, target, reason })
        }
    }
}

impl Future for Delivery {
    type Output = Result<(), Failure<Never>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let settlement = match std::mem::replace(&mut self.state, State::Done) {
            State::Refused(message) => return Poll::Ready(Err(Refusal::Undecodable(message).into())),
            State::New(new) => {
                let (target, asked) = *new;
                self.state = State::Scheduled(schedule(target, asked));
                return self.poll(cx);
            }
            State::Scheduled(Some(ticket)) => match ticket.poll(cx) {
                Poll::Ready(settlement) => settlement,
                Poll::Pending => {
                    self.state = State::Scheduled(Some(ticket));
                    return Poll::Pending;
                }
            },
            State::Scheduled(None) => Settlement::Cancelled,
            State::Done => panic!("what was asked of another run was polled after it had given its answer"),
        };
        Poll::Ready(typed(settlement))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        // It is on its way.
        if let State::Scheduled(Some(ticket)) = std::mem::replace(&mut self.state, State::Done) {
            ticket.detach();
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delivery")
    }
}
