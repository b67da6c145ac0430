//! Signals that come with more than themselves: with a start.
//!
//! A start with a signal is one event, so that nothing can come between the two, and both are records of one frame. The run
//! that it begins has the event's id, as of any start; what it says to a run that was open already is noted by that id, as of
//! any signal. So whichever it was, the event is known when it comes again.

use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, Start};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{EventId, Payload, RunId};

use super::Applier;
use super::continuing::Origin;
use crate::mutation::{self, Mutation};

/// The name and the value of a signal.
pub(super) type Signal = (String, Payload);

impl Applier<'_> {
    /// Whether the signal of a start was taken by a run that was open. Which one it was is not remembered: the newest may be
    /// another one by now.
    pub(super) fn signalled_before(&mut self, event: &Event) -> bool {
        if !self.book.inputs.contains_key(&event.id) || mutation::is(Mutation::ForgetsInputs) {
            return false;
        }
        self.reply(event.reply_to.as_ref(), ReplyBody::Accepted);
        let newest = self.book.newest_of(&event.workflow_id);
        self.round.orphaned.extend(newest);
        true
    }

    /// Gives an open run the signal that came with a start.
    pub(super) fn signal_open(&mut self, run_id: RunId, event: Event, (name, value): Signal, suspect: bool) {
        let headers = event.body().ok().and_then(|body| body.as_start()?.headers.clone());
        let body = Body::of(&EventBody::Signal { name, value, headers });
        self.take(run_id, Event { run_id: Some(run_id), reply_to: None, body, ..event }, suspect);
    }

    /// Begins a run, and gives it the signal that came with its start, before anything else that was sent to it.
    pub(super) fn begin_signalled(&mut self, run_id: RunId, event: Event, start: Start, signal: Option<Signal>) {
        let signal = signal.filter(|_| !mutation::is(Mutation::StartForgetsSignal)).map(|(name, value)| Event {
            id: EventId::derived(run_id, 0, "signal of start"),
            workflow_id: event.workflow_id.clone(),
            run_id: Some(run_id),
            exact: false,
            sent_at: event.sent_at,
            reply_to: None,
            again: false,
            // What was said beside the start was said beside both.
            body: Body::of(&EventBody::Signal { name, value, headers: start.headers.clone() }),
        });
        self.round.with_start = signal;
        self.begin(run_id, event, start, Origin::Client);
        let Some(signal) = self.round.with_start.take() else { return };
        // If it could not begin, the event was taken in as a whole. If it continued as new at once, the signal went along.
        if self.book.runs.get(&run_id).is_some_and(|run| run.started.is_some()) {
            self.apply_event(run_id, signal);
        }
    }
}
