//! Children and other runs: what is asked of this shard's runs by others, and what these ask of others.
//!
//! A child begins once: its run id follows from the command that asks for it, and whatever came of it is a record, also if it
//! is refused, or was dropped before it was there. So a start that comes again, or after all, changes nothing. What a run
//! hears in return is sent while the input is held; whoever gets the input again sends it again.

use everpulse_protocol::event::{Event, Outcome, Start};
use everpulse_protocol::family::{Caller, CallerKind, Demand, Parent};
use everpulse_protocol::history::{Close, CloseStatus, RecordBody};
use everpulse_protocol::{Failure, FailureKind, RunId};
use everpulse_sdk::replay::Command;

use super::Applier;
use super::continuing::Origin;
use super::inputs::or;
use crate::effect::{DeliveryToken, Outgoing};
use crate::family;
use crate::mutation::{self, Mutation};

impl Applier<'_> {
    /// Sends what a run has just asked of others, as far as its record still wants that.
    pub(super) fn tell_others(&mut self, run_id: RunId, commands: Vec<Command>) {
        let Some(run) = self.book.open_or_lingering(run_id) else { return };
        for command in commands {
            let wanted = run.pending.get(&command.mark().no).filter(|pending| run.is_untold(pending, 0));
            if let Some(event) = wanted.and_then(|pending| run.told_by(pending, command)) {
                self.round.bytes += event.body.0.len();
                self.round.sends.push(Outgoing::Event(event));
            }
        }
    }

    /// Nobody waits for a child any more.
    pub(super) fn unwant(&mut self, run_id: RunId, no: u32) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let Some(pending) = run.pending.get(&no).filter(|pending| !pending.answered) else { return };
        if let Some(other) = pending.other.as_ref().filter(|other| other.unwanted.is_none()) {
            let asking = family::Asking { workflow_id: &run.workflow_id, run_id, no, at: pending.scheduled_at };
            self.round.sends.push(Outgoing::Event(asking.unwanted(&other.target)));
        }
    }

    /// A run wants a child.
    pub(super) fn spawn(&mut self, event: Event, start: Start, parent: Parent, suspect: bool) -> Option<RunId> {
        let run_id = RunId(event.id.0);
        self.book.bring(run_id);
        if self.book.runs.contains_key(&run_id) || self.book.closed.contains_key(&run_id) {
            let last = self.book.last_of(run_id);
            self.book.bring(last);
            self.round.orphaned.push(last);
            self.tell_begun(run_id, &parent, true);
            return Some(last);
        }
        if let Some(last) = self.book.going_on(&event.workflow_id, Some(run_id)) {
            // It is forgotten, and the run that goes on for it is not.
            self.round.orphaned.push(last);
            self.tell_begun(run_id, &parent, true);
            return Some(last);
        }
        if let Some(failure) = self.untimely(&event, "the start") {
            // It may have ended long ago; then its parent knows how, and this changes nothing.
            self.round.decides = true;
            let close = Close { status: CloseStatus::Failed, outcome: Outcome::Failed(failure) };
            let told = family::ended(run_id, &parent, close, true, self.at);
            self.round.sends.push(Outgoing::Event(told));
            return None;
        }
        if event.sent_at > self.latest() {
            let message = format!(
                "a child of workflow {} was asked for at {} ms, which is {} s ahead of the time that its shard records; set \
                 the clocks of the workers: children are refused until the shard's time has caught up with what was asked",
                parent.workflow_id,
                event.sent_at.0,
                (event.sent_at.0 - self.at.0) / 1_000
            );
            let failure = Failure::new(FailureKind::NotFound, message);
            self.refuse_child(run_id, &event, start.workflow, parent, CloseStatus::Failed, failure);
            return Some(run_id);
        }
        if let Some(existing) = self.book.newest_of(&event.workflow_id) {
            let state = if self.book.runs.contains_key(&existing) { "an open" } else { "a closed" };
            let message = format!(
                "workflow id {} is taken by {state} run, {existing}; give the child another id",
                event.workflow_id
            );
            let failure = Failure::new(FailureKind::Taken, message);
            self.refuse_child(run_id, &event, start.workflow, parent, CloseStatus::Failed, failure);
            return Some(run_id);
        }
        if suspect {
            self.receive(run_id, event, 1);
        } else {
            self.begin(run_id, event, start, Origin::Parent(parent.clone()));
        }
        self.tell_begun(run_id, &parent, false);
        Some(run_id)
    }

    /// Tells a parent that its child is in history, if it waits for that.
    ///
    /// `again`: it was told before.
    fn tell_begun(&mut self, run_id: RunId, parent: &Parent, again: bool) {
        let never_began = self.book.closed.get(&run_id).is_some_and(|closed| closed.never_began);
        if parent.hears_begin && !never_began {
            let told = Event { again, ..*family::began(run_id, parent, self.at) };
            self.round.sends.push(Outgoing::Event(Box::new(told)));
        }
    }

    /// A child that will never begin: its record says so to all that comes later, and its parent is told.
    fn refuse_child(
        &mut self,
        run_id: RunId,
        event: &Event,
        workflow: String,
        parent: Parent,
        status: CloseStatus,
        failure: Failure,
    ) {
        let close = Close { status, outcome: Outcome::Failed(failure) };
        let body = RecordBody::NeverBegan { workflow, parent };
        self.record(&event.workflow_id, run_id, event.id, &body, Vec::new(), Some(close));
    }

    /// Another run asks something of one that is, or should be, here.
    pub(super) fn demanded(
        &mut self,
        token: DeliveryToken,
        event: Event,
        (caller, demand): (Caller, Demand),
        suspect: bool,
        last_chance: bool,
    ) -> Option<RunId> {
        // A child is known by its first run, also when another one goes on for it.
        let addressed = self.book.meant(&event);
        if self.book.inputs.contains_key(&event.id) {
            self.tell_delivered(&caller, Ok(()), true);
            self.round.orphaned.extend(addressed);
            return addressed;
        }
        let open = addressed.filter(|run_id| self.book.runs.contains_key(run_id));
        // Whether an open child was told by its parent that it is wanted no more, its own history knows for ever.
        let unlimited = caller.kind == CallerKind::Parent && open.is_some();
        let untimely = self.untimely(&event, "the input");
        let is_late = untimely.is_some();
        if let Some(failure) = untimely.filter(|_| !unlimited) {
            self.round.decides = true;
            match (caller.kind, event.run_id.filter(|_| addressed.is_none())) {
                // It never came, or ended long ago; then its parent knows how, and this changes nothing.
                (CallerKind::Parent, Some(run_id)) => {
                    let close = Close { status: CloseStatus::Failed, outcome: Outcome::Failed(failure) };
                    let told = family::ended(run_id, &parent_of(caller), close, true, self.at);
                    self.round.sends.push(Outgoing::Event(told));
                }
                _ => self.tell_delivered(&caller, Err(failure), false),
            }
            return addressed;
        }
        let Some(run_id) = open else {
            return self.demanded_of_none(token, event, (caller, demand), addressed, last_chance);
        };
        let has_it = self.book.runs.get(&run_id).is_some_and(|run| {
            run.has_received(event.id) || is_late && run.records.iter().any(|record| record.event == event.id)
        });
        let idle = self.book.runs.get(&run_id).is_some_and(|run| run.started.is_none() && run.continues.is_none());
        match demand {
            _ if has_it => {}
            _ if self.is_unknown(run_id) => self.keep(run_id, event),
            Demand::Terminate { .. } if caller.kind == CallerKind::Awaits && mutation::is(Mutation::SparesOthers) => {}
            Demand::Terminate { reason } => {
                let failure = Failure::new(FailureKind::Terminated, or(reason.clone(), "terminated"));
                self.end(run_id, event.id, &RecordBody::Terminated { reason }, CloseStatus::Terminated, failure);
            }
            Demand::Cancel { reason } if idle => {
                let failure = Failure::new(FailureKind::Cancelled, or(reason.clone(), "cancelled before it began"));
                self.end(run_id, event.id, &RecordBody::CancelRequested { reason }, CloseStatus::Cancelled, failure);
            }
            Demand::Cancel { .. } | Demand::Signal { .. } => self.take(run_id, event, suspect),
        }
        self.tell_delivered(&caller, Ok(()), has_it);
        Some(run_id)
    }

    /// The run is not there, or not any more.
    fn demanded_of_none(
        &mut self,
        token: DeliveryToken,
        event: Event,
        (caller, demand): (Caller, Demand),
        addressed: Option<RunId>,
        last_chance: bool,
    ) -> Option<RunId> {
        let wanted_no_more = match (&demand, caller.kind, event.run_id, addressed) {
            (Demand::Cancel { reason }, CallerKind::Parent, Some(run_id), None) => {
                let failure = Failure::new(FailureKind::Cancelled, or(reason.clone(), "cancelled before it began"));
                Some((run_id, CloseStatus::Cancelled, failure))
            }
            (Demand::Terminate { reason }, CallerKind::Parent, Some(run_id), None) => {
                let failure = Failure::new(FailureKind::Terminated, or(reason.clone(), "terminated"));
                Some((run_id, CloseStatus::Terminated, failure))
            }
            _ => None,
        };
        if let Some((run_id, status, failure)) = wanted_no_more {
            // Its start may still come: what was sent first need not arrive first.
            self.refuse_child(run_id, &event, String::new(), parent_of(caller), status, failure);
            return Some(run_id);
        }
        if matches!(demand, Demand::Signal { .. }) && addressed.is_none() && !last_chance {
            self.round.early.push((token, event));
            return None;
        }
        self.round.decides = true;
        let what = if addressed.is_some() { "has ended" } else { "has no run" };
        let message = format!("workflow {} {what}, so nothing can be asked of it", event.workflow_id);
        self.tell_delivered(&caller, Err(Failure::new(FailureKind::NotFound, message)), false);
        addressed
    }

    fn tell_delivered(&mut self, caller: &Caller, result: Result<(), Failure>, again: bool) {
        if let Some(told) = family::delivered(caller, result, self.at) {
            self.round.sends.push(Outgoing::Event(Box::new(Event { again, ..*told })));
        }
    }

    /// Why something that was asked long ago is not taken: whether it was, is forgotten.
    fn untimely(&self, event: &Event, what: &str) -> Option<Failure> {
        let expired = self.book.window.expired;
        (event.sent_at < expired).then(|| {
            let message = format!(
                "{what} for workflow {} was sent before {} ms, which is longer ago than ids are remembered: whether it took \
                 effect is not known",
                event.workflow_id, expired.0
            );
            Failure::new(FailureKind::TimedOut, message)
        })
    }

    /// Whether a run that waits for a child has not heard yet that it has begun.
    pub(super) fn is_beginning(&self, run_id: RunId, step: u32, event: &Event) -> bool {
        let Some(run) = self.book.runs.get(&run_id) else { return false };
        let other = run.pending.get(&step).and_then(|pending| pending.other.as_ref());
        other.is_some_and(|other| !other.has_begun) && !run.has_received(event.id)
    }
}

/// The run that wants its child no more.
fn parent_of(caller: Caller) -> Parent {
    let Caller { workflow_id, run_id, step, .. } = caller;
    Parent { workflow_id, run_id, step, hears_begin: false }
}
