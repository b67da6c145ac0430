//! What runs tell each other, as events: each has an id that follows from the command or the run that it is about, so that
//! whoever gets it twice knows it. `docs/decisions/families-by-events.md` has the invariants.
//!
//! Those that can be told from history alone are made here from a run's records; what needs the run's code (the arguments of
//! a child, the value of a signal) comes with its command.

use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Outcome, Start};
use everpulse_protocol::family::{Caller, CallerKind, Demand, Parent, ParentClose, Target};
use everpulse_protocol::history::{Close, CommandKind};
use everpulse_protocol::{EventId, Failure, Payload, RunId, Timestamp, WorkflowId};
use everpulse_sdk::replay::{Command, Spawn};

use crate::mutation::{self, Mutation};
use crate::run::{Pending, Run};

/// What a command of a run needs of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub workflow_id: &'a WorkflowId,
    pub run_id: RunId,
    pub no: u32,
    /// When the command was recorded: it stays the same, however often it is sent. What is said of a child later bears it
    /// too, so that it is too old to be taken for a child that never came as soon as the child's start is.
    pub at: Timestamp,
}

impl Asking<'_> {
    /// The event of a command, if it is one that another run carries out. `target`: as history has it.
    pub fn event(self, command: Command, target: &Target) -> Option<Box<Event>> {
        match command {
            Command::Child { spawn, .. } => Some(self.spawn(*spawn, target)),
            Command::Signal { name, value, .. } => {
                Some(self.demand(target, "signal", CallerKind::Awaits, Demand::Signal { name, value }))
            }
            Command::CancelRun { .. } => {
                let reason = format!("workflow {} asked for it", self.workflow_id);
                Some(self.demand(target, "cancel", CallerKind::Awaits, Demand::Cancel { reason }))
            }
            Command::TerminateRun { reason, .. } => {
                let by = format!("workflow {} asked for it", self.workflow_id);
                let reason = if reason.is_empty() { by } else { format!("{reason} ({by})") };
                Some(self.demand(target, "terminate", CallerKind::Awaits, Demand::Terminate { reason }))
            }
            _ => None,
        }
    }

    fn spawn(self, spawn: Spawn, target: &Target) -> Box<Event> {
        let Spawn { workflow, version, args, tags, timeout_ms, hears_begin, headers, priority } = spawn;
        let policy = IdPolicy::Reject;
        let start = Start { workflow, version, args, policy, tags, start_at: None, timeout_ms, headers, priority };
        let parent = Parent { workflow_id: self.workflow_id.clone(), run_id: self.run_id, step: self.no, hears_begin };
        let id = EventId(parent.child().0);
        event(id, &target.workflow_id, None, self.at, &EventBody::Spawn { start, parent })
    }

    /// A child is wanted no more.
    pub fn unwanted(self, target: &Target) -> Box<Event> {
        let reason = format!("its parent, workflow {}, dropped it", self.workflow_id);
        self.demand(target, "unwanted", CallerKind::Parent, Demand::Cancel { reason })
    }

    /// The parent of a child has ended.
    fn closed(self, target: &Target) -> Option<Box<Event>> {
        let reason = format!("its parent, workflow {}, has ended", self.workflow_id);
        let demand = match target.on_close.unwrap_or_default() {
            ParentClose::RequestCancel => Demand::Cancel { reason },
            ParentClose::Terminate => Demand::Terminate { reason },
            ParentClose::Abandon => return None,
        };
        Some(self.demand(target, "parent closed", CallerKind::Parent, demand))
    }

    fn demand(self, target: &Target, what: &str, kind: CallerKind, demand: Demand) -> Box<Event> {
        let caller = Caller { workflow_id: self.workflow_id.clone(), run_id: self.run_id, step: self.no, kind };
        let id = EventId::derived(self.run_id, self.no, what);
        event(id, &target.workflow_id, target.run_id, self.at, &EventBody::Demanded { caller, demand })
    }
}

/// The parent hears that its child is in history.
pub(crate) fn began(child: RunId, parent: &Parent, at: Timestamp) -> Box<Event> {
    let id = EventId::derived(child, parent.step, "child began");
    to_parent(id, parent, at, &EventBody::ChildBegan { step: parent.step })
}

/// The parent hears how its child ended.
pub(crate) fn ended(child: RunId, parent: &Parent, close: Close, never_began: bool, at: Timestamp) -> Box<Event> {
    let id = EventId::derived(child, parent.step, "child closed");
    let body = EventBody::ChildClosed { step: parent.step, close: Box::new(close), never_began };
    to_parent(id, parent, at, &body)
}

/// A run hears what became of what it asked of another one; nothing if it does not wait for that.
pub(crate) fn delivered(caller: &Caller, result: Result<(), Failure>, at: Timestamp) -> Option<Box<Event>> {
    if caller.kind != CallerKind::Awaits {
        return None;
    }
    let outcome = match result {
        Ok(()) => Outcome::Done(Payload::encode(&()).expect("nothing can be encoded")),
        Err(failure) => Outcome::Failed(failure),
    };
    let id = EventId::derived(caller.run_id, caller.step, "delivered");
    let body = EventBody::Delivered { step: caller.step, outcome };
    Some(event(id, &caller.workflow_id, Some(caller.run_id), at, &body))
}

fn to_parent(id: EventId, parent: &Parent, at: Timestamp, body: &EventBody) -> Box<Event> {
    event(id, &parent.workflow_id, Some(parent.run_id), at, body)
}

fn event(
    id: EventId,
    workflow_id: &WorkflowId,
    run_id: Option<RunId>,
    sent_at: Timestamp,
    body: &EventBody,
) -> Box<Event> {
    let (workflow_id, body) = (workflow_id.clone(), Body::of(body));
    Box::new(Event { id, workflow_id, run_id, exact: false, sent_at, reply_to: None, again: false, body })
}

impl Run {
    /// Whether its end, or what it asked of others, has to reach other runs.
    pub fn tells_others(&self) -> bool {
        self.tells_parent() || self.pending.values().any(|pending| pending.kind.is_of_another_run())
    }

    /// Whether a parent waits for its end: not for that of a run for which another one goes on.
    fn tells_parent(&self) -> bool {
        self.parent.is_some() && self.continued_as.is_none()
    }

    fn asking(&self, no: u32, at: Timestamp) -> Asking<'_> {
        Asking { workflow_id: &self.workflow_id, run_id: self.run_id, no, at }
    }

    /// What the end of the run tells others: its parent, and the children that it leaves.
    pub fn ending(&self, close: Close, at: Timestamp) -> Vec<Event> {
        let parent = self.parent.as_deref().filter(|_| self.tells_parent());
        let parent = parent.map(|parent| ended(self.run_id, parent, close, self.never_began.is_some(), at));
        // A child whose end was taken in, and only waits to be applied, may be forgotten where it ran.
        let children = self.pending.iter().filter(|(_, pending)| !pending.answered);
        let children = children.filter_map(|(no, pending)| match pending.kind {
            CommandKind::Child => self.asking(*no, pending.scheduled_at).closed(pending.target()?),
            _ => None,
        });
        let children = children.filter(|_| !mutation::is(Mutation::LeavesOrphans));
        parent.into_iter().chain(children).map(|event| *event).collect()
    }

    /// What may not be sent of what the run tells others, and can be told without its code.
    ///
    /// `floor`: the commands of all frames below it are sent. Of a run that was carried, or comes from a cache, the frames
    /// are later than those that asked: more may be told than has to be, and never less.
    pub fn untold(&self, floor: u64) -> Vec<Event> {
        let mut untold = Vec::new();
        if self.unknown.is_some() {
            // What it asked of others, or what its end tells them, is not known here.
            return untold;
        }
        for (no, pending) in self.pending.iter().filter(|(_, pending)| !pending.answered) {
            let Some(other) = &pending.other else { continue };
            if other.unwanted.is_some_and(|frame| frame >= floor) {
                untold.push(*self.asking(*no, pending.scheduled_at).unwanted(&other.target));
            }
        }
        if self.ended
            && self.last_frame >= floor
            && let Some(last) = self.records.iter().last()
            && let Some(close) = last.close
        {
            let forgotten = |event: &Event| {
                mutation::is(Mutation::ForgetsOutcomes) && event.body.kind().as_deref() == Some("child_closed")
            };
            untold.extend(self.ending(close, last.at).into_iter().filter(|event| !forgotten(event)));
        }
        untold
    }

    /// Whether what a command tells another run may not be sent, and cannot be told without the run's code.
    pub fn is_untold(&self, pending: &Pending, floor: u64) -> bool {
        let Some(other) = pending.other.as_ref().filter(|_| pending.frame >= floor && !pending.answered) else {
            return false;
        };
        // That it is not wanted, or that its parent has ended, tells a child all that it has to know.
        let goes_on = pending.kind != CommandKind::Child || !other.has_begun && other.unwanted.is_none();
        goes_on && (!self.ended || other.target.on_close.is_none_or(|on_close| on_close == ParentClose::Abandon))
    }

    /// The event of a command that was replayed.
    pub fn told_by(&self, pending: &Pending, command: Command) -> Option<Box<Event>> {
        self.asking(command.mark().no, pending.scheduled_at).event(command, pending.target()?)
    }
}
