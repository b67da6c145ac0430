//! A scheduled command in the hands of the run's code: a claim to what it comes to.

use std::rc::Rc;
use std::task::{Context, Poll};

use everpulse_protocol::event::Outcome;
use everpulse_protocol::family::Target;
use everpulse_protocol::history::CommandKind;

use super::Command;
use super::core::Core;
use super::core::children::Beginning;

/// What a command came to.
#[derive(Debug)]
pub(crate) enum Settlement {
    /// Of an activity, a step, a promise, a child, or of what was asked of another run.
    Outcome(Outcome),
    /// Of a timer.
    Fired,
    /// The run was cancelled.
    Cancelled,
}

/// Dropping it cancels the command, unless it has come to its end.
///
/// It names its run by a number and finds it through the ambient context, so it is `Send`, and it is
/// silent when the whole run is taken down.
#[derive(Debug)]
pub(crate) struct Ticket {
    run: u64,
    no: u32,
}

impl Ticket {
    /// Schedules a command. None: the run is cancelled.
    pub(crate) fn schedule(core: &Rc<Core>, kind: CommandKind, command: impl FnOnce(u32) -> Command) -> Option<Self> {
        core.schedule(kind, command).map(|no| Self { run: core.id, no })
    }

    /// Schedules a command, and tells its number. None: the run is cancelled, and so is the command, which has a number all
    /// the same.
    pub(crate) fn schedule_known(
        core: &Rc<Core>,
        kind: CommandKind,
        command: impl FnOnce(u32) -> Command,
    ) -> (u32, Option<Self>) {
        let (no, wanted) = core.schedule_known(kind, command);
        (no, wanted.then_some(Self { run: core.id, no }))
    }

    /// The command's number.
    pub(crate) fn no(&self) -> u32 {
        self.no
    }

    /// # Panics
    /// Outside the run that scheduled it.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Settlement> {
        self.core().take_settlement(self.no, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether a child has begun.
    ///
    /// # Panics
    /// Outside the run that scheduled it.
    pub(crate) fn poll_beginning(&self, cx: &mut Context<'_>) -> Beginning {
        self.core().child_beginning(self.no, cx.waker())
    }

    fn core(&self) -> Rc<Core> {
        Core::find_id(self.run).unwrap_or_else(|| {
            panic!("a call, step or timer of one run was awaited outside that run; await it where it was started")
        })
    }

    /// Which run the child is.
    pub(crate) fn target(&self) -> Target {
        self.core().child_target(self.no).expect("only children that were not awaited to their end are asked for it")
    }

    /// Lets the command go on, and forgets what it comes to.
    pub(crate) fn detach(self) {
        if let Some(core) = Core::find_id(self.run) {
            core.abandon(self.no, false);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(core) = Core::find_id(self.run) {
            core.abandon(self.no, true);
        }
    }
}
