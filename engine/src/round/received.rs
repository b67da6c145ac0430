//! Inputs that are taken in and not applied: for parked runs, for later, or on trial; and how they are taken up.

use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::family::Demand;
use everpulse_protocol::history::{Parked, ParkedKind, RecordBody};
use everpulse_protocol::{Coding, EventId, RunId, WorkflowId};

use super::continuing::{self, Origin};
use super::unknown::unreadable;
use super::updates::Update;
use super::{Applier, FRAME_BYTES, recorded};
use crate::mutation::{self, Mutation};
use crate::replay;
use crate::run::Received;

/// After so many tries an input that takes its worker down is not applied any more.
const TRIES_MAX: u32 = 3;

impl Applier<'_> {
    /// Applies an input to an open run, or takes it in where it cannot be applied now.
    pub(super) fn take(&mut self, run_id: RunId, event: Event, suspect: bool) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        if run.parked.is_some() && mutation::is(Mutation::DropsForParked) {
            return;
        }
        if run.unknown.is_some() {
            return self.keep(run_id, event);
        }
        let waits = run.parked.is_some() || run.started.is_none() || !run.received.is_empty();
        if waits {
            self.receive(run_id, event, 0);
        } else if suspect {
            self.receive(run_id, event, 1);
        } else {
            self.apply_event(run_id, event);
        }
    }

    pub(super) fn park(&mut self, run_id: RunId, mut reason: Parked) {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return };
        run.live = None;
        let workflow_id = run.workflow_id.clone();
        if let Err(error) = self.registry.coding().seal(&workflow_id, &mut reason) {
            reason.message = format!("workflow {workflow_id} is parked, and why cannot be told: {error}");
        }
        let id = EventId::derived(run_id, run.next_seq(), "parked");
        self.record(&workflow_id, run_id, id, &RecordBody::Parked { reason }, Vec::new(), None);
    }

    pub(super) fn receive(&mut self, run_id: RunId, event: Event, attempt: u32) {
        let workflow_id = event.workflow_id.clone();
        let id = event.id;
        self.record(&workflow_id, run_id, id, &RecordBody::Received { event, attempt }, Vec::new(), None);
    }

    /// Takes an input in, unless it was taken in before.
    pub(super) fn receive_once(&mut self, run_id: RunId, event: Event, attempt: u32) {
        if !self.book.runs.get(&run_id).is_some_and(|run| run.has_received(event.id)) {
            self.receive(run_id, event, attempt);
        }
    }

    /// Applies the inputs that a run has taken in and could not apply then: the first, or as many as fit the frame.
    pub fn apply_received(&mut self, run_id: RunId, only_first: bool) {
        while self.round.bytes < FRAME_BYTES {
            let Some(run) = self.book.runs.get(&run_id).filter(|_| self.book.ready.contains(&run_id)) else { return };
            if run.unknown.is_some() {
                return self.park_unknown(run_id);
            }
            let Some(Received { event, .. }) = run.received.front().cloned() else { return };
            let (workflow_id, id) = (event.workflow_id.clone(), event.id);
            match event.body() {
                Ok(EventBody::Start(start)) if run.started.is_none() => {
                    self.begin(run_id, event, start, Origin::Client);
                }
                Ok(EventBody::SignalWithStart { start, name, value }) if run.started.is_none() => {
                    self.begin_signalled(run_id, event, start, Some((name, value)));
                }
                Ok(EventBody::Spawn { start, parent }) if run.started.is_none() => {
                    self.begin(run_id, event, start, Origin::Parent(parent));
                }
                Ok(EventBody::ContinueAsNew { start, continues, parent }) if run.started.is_none() => {
                    self.begin(run_id, event, start, Origin::Continues(continues, parent));
                }
                // An older release took these in, which did not know all of the run.
                Ok(EventBody::Update { id, name, args, patient, headers }) => {
                    self.received_update(run_id, &event, Update { id, name, args, patient, headers });
                }
                Ok(EventBody::Demanded { demand: Demand::Terminate { reason }, .. }) => {
                    self.terminate(run_id, id, reason);
                }
                Ok(EventBody::AttemptLeft { task, until, running, .. }) => self.leave(run_id, id, task, until, running),
                Ok(EventBody::AttemptFailed { step, attempt, failure, next }) => {
                    let pending = self.book.runs.get(&run_id).and_then(|run| run.pending.get(&step));
                    if pending.is_some_and(|pending| attempt >= pending.attempt) {
                        let body = RecordBody::AttemptFailed { step, attempt, failure, next };
                        self.write(&workflow_id, run_id, id, &body, Vec::new(), None);
                    }
                }
                Ok(EventBody::Terminate { reason }) => self.terminate(run_id, id, reason),
                Ok(EventBody::AttemptReported { report, .. }) if report.outcome().is_none() => {
                    self.report(run_id, event, false);
                }
                // A result whose step was cancelled meanwhile is recorded like others; the code does not see it.
                Ok(_) => self.apply_event(run_id, event),
                Err(error) => {
                    let parked = unreadable(&event, &error.to_string());
                    self.park(run_id, parked);
                }
            }
            // Of a question, say, there is no record: nobody waits for its answer any more.
            let stands_still = self.book.ready.contains(&run_id)
                && self.book.runs.get(&run_id).and_then(|run| run.received.front()).is_some_and(|r| r.event.id == id);
            if stands_still {
                self.write(&workflow_id, run_id, id, &RecordBody::Applied { event: id }, Vec::new(), None);
            }
            if only_first {
                return;
            }
        }
    }

    /// After a takeover: an input was taken in and not applied. Another try, or none.
    ///
    /// One that was never on trial counts too: it may have been applied when its worker went down.
    pub fn retry_received(&mut self, run_id: RunId) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let Some(Received { event, attempt, .. }) = run.received.front().cloned() else { return };
        if attempt >= TRIES_MAX
            && let Ok(EventBody::Update { id, name, args, patient, headers }) = event.body()
        {
            self.give_up_update(run_id, &event, &Update { id, name, args, patient, headers });
        } else if attempt >= TRIES_MAX {
            let message = format!(
                "workflow {}: event {} ({}) took its worker down {attempt} times; look for an abort, a stack overflow or \
                 a lack of memory in its code, mend it and resume the run",
                event.workflow_id,
                event.id,
                event.body.kind().unwrap_or_default()
            );
            self.park(run_id, Parked::new(ParkedKind::Poisonous, message));
        } else {
            self.receive(run_id, event, attempt + 1);
        }
    }

    /// Tries a parked run again with today's code. Nothing is recorded if it has to stay where it is.
    ///
    /// Its inputs are applied in a later round: that it goes on stands before one of them can take the worker down.
    pub fn revive(&mut self, run_id: RunId, asked: bool) {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return };
        run.live = None;
        let was = run.parked.clone();
        let first = run.received.front().map(|received| (&received.event, received.event.body()));
        let unknown = run.why_unknown();
        let verdict = match (&run.started, first) {
            _ if unknown.is_some() => unknown.map_or(Ok(()), Err),
            (_, Some((event, Err(error)))) => Err(unreadable(event, &error.to_string())),
            (Some(_), _) => replay::replay(run, self.registry).map(|replayed| run.live = Some(replayed.live)),
            (None, Some((_, Ok(body)))) => match body.as_start() {
                Some(start) => {
                    continuing::entry(self.registry, &run.workflow_id, start, run.continues.as_deref()).map(|_| ())
                }
                None => return,
            },
            (None, None) => return,
        };
        let workflow_id = run.workflow_id.clone();
        // Or it would be said to go on, and be parked by this input in the next round, again and again.
        let verdict = verdict.and_then(|()| {
            let first = run.received.front().and_then(|received| received.event.body().ok());
            first.map_or(Ok(()), |body| opens(self.registry.coding(), &workflow_id, body))
        });
        if verdict.is_err() {
            run.live = None;
        }
        let id = EventId::derived(run_id, run.next_seq(), "resumed");
        self.book.touch(run_id, self.frame);
        match verdict {
            Err(parked) if was.is_none_or(|was| is_news(&was, &parked)) => self.park(run_id, parked),
            Err(_) => {}
            Ok(()) => {
                if !asked {
                    self.write(&workflow_id, run_id, id, &RecordBody::Resumed, Vec::new(), None);
                }
                self.round.revived.push(run_id);
            }
        }
    }
}

/// Whether a parked run waits for something else now. The words of a divergence may differ at each try, and are told once;
/// what cannot be opened is named by words that stay the same while the same is missing.
fn is_news(was: &Parked, is: &Parked) -> bool {
    was.kind != is.kind || (is.kind == ParkedKind::Unopened && was.message != is.message)
}

/// Whether the run's code can be given what came.
fn opens(coding: &Coding, workflow_id: &WorkflowId, body: EventBody) -> Result<(), Parked> {
    let opened = match body {
        mut body @ (EventBody::Start(_)
        | EventBody::SignalWithStart { .. }
        | EventBody::Spawn { .. }
        | EventBody::ContinueAsNew { .. }) => coding.open(workflow_id, &mut body),
        other => match recorded(other).as_ref().and_then(replay::as_input) {
            Some(mut input) => coding.open(workflow_id, &mut input),
            None => Ok(()),
        },
    };
    opened.map_err(|error| replay::unopened(workflow_id, &error.to_string()))
}
