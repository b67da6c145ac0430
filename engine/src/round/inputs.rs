//! Events of the inbox: what is known already, refused, answered, or applied.

use everpulse_protocol::event::{Event, EventBody, IdPolicy, ReplyTo, Start};
use everpulse_protocol::history::{CloseStatus, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{EventId, Failure, FailureKind, Payload, RunId, Timestamp};

use super::Applier;
use super::signals::Signal;
use super::unknown::may_count;
use super::updates::Update;
use crate::effect::DeliveryToken;
use crate::mutation::{self, Mutation};
use crate::run::Left;

impl Applier<'_> {
    /// Takes an event of the inbox. Gives the run that its acknowledgement waits for.
    pub fn deliver(&mut self, token: DeliveryToken, event: Event, suspect: bool, last_chance: bool) -> Option<RunId> {
        let body = match event.body() {
            Ok(body) => body,
            Err(error) => return self.unknown(event, &error.to_string()),
        };
        self.note_time(&event, &body);
        match body {
            EventBody::Start(start) => self.start(event, start, None, suspect),
            EventBody::SignalWithStart { start, name, value } => self.start(event, start, Some((name, value)), suspect),
            EventBody::Spawn { start, parent } => self.spawn(event, start, parent, suspect),
            EventBody::Demanded { caller, demand } => {
                self.demanded(token, event, (caller, demand), suspect, last_chance)
            }
            EventBody::Wake { number, .. } => {
                self.wake(number);
                None
            }
            EventBody::ContinueAsNew { .. } | EventBody::UpdateAccepted { .. } => {
                self.bury(
                    event,
                    "what goes along to the next run is said by the run before, and by no message".to_owned(),
                );
                None
            }
            EventBody::Describe | EventBody::AskResult | EventBody::AskPublished { .. } => self.ask(&event, &body),
            // It may have taken another worker down, and leaves no trace by which that could be counted. Whoever still
            // wants to know asks again.
            EventBody::Query { .. } if suspect => None,
            EventBody::Query { .. } | EventBody::AskUpdate { .. } => self.ask(&event, &body),
            EventBody::Update { id, name, args, patient, headers } => {
                self.update(event, Update { id, name, args, patient, headers }, suspect)
            }
            EventBody::SignalTagged { tag, .. } => {
                self.signal_tagged(event, &tag, suspect);
                None
            }
            EventBody::Signal { .. }
            | EventBody::PromiseSettled { .. }
            | EventBody::AttemptReported { .. }
            | EventBody::Cancel { .. }
            | EventBody::Terminate { .. }
            | EventBody::Resume => self.client_input(token, event, body, suspect, last_chance),
            EventBody::ActivitySettled { .. }
            | EventBody::StepSettled { .. }
            | EventBody::ChildBegan { .. }
            | EventBody::ChildClosed { .. }
            | EventBody::Delivered { .. }
            | EventBody::AttemptFailed { .. }
            | EventBody::AttemptLeft { .. } => self.result(event, body, suspect),
        }
    }

    /// Begins a run, or hands out the one that there is, which gets the signal that came along.
    pub(super) fn start(&mut self, event: Event, start: Start, signal: Option<Signal>, suspect: bool) -> Option<RunId> {
        let run_id = RunId(event.id.0);
        self.book.bring(run_id);
        if self.book.runs.contains_key(&run_id) || self.book.closed.contains_key(&run_id) {
            let last = self.book.last_of(run_id);
            self.book.bring(last);
            self.round.orphaned.push(last);
            self.attach((run_id, last), event.reply_to, false);
            return Some(last);
        }
        if let Some(last) = self.book.going_on(&event.workflow_id, Some(run_id)) {
            // It is forgotten, and the run that goes on for it is not.
            self.round.orphaned.push(last);
            self.attach((run_id, last), event.reply_to, false);
            return Some(last);
        }
        if signal.is_some() && self.signalled_before(&event) {
            return self.book.newest_of(&event.workflow_id);
        }
        let event = self.timely(event, "the start")?;
        if let Some(existing) = self.book.newest_of(&event.workflow_id) {
            let open = self.book.runs.contains_key(&existing);
            if open || start.policy != IdPolicy::RestartWhenClosed {
                self.round.decides = true;
                let reply_to = event.reply_to.clone();
                // The name that is good for as long as the series goes on.
                let named = self.book.first_of(existing).unwrap_or(existing);
                match (start.policy, signal) {
                    (IdPolicy::Attach | IdPolicy::RestartWhenClosed, None) => {
                        self.attach((named, existing), reply_to, true);
                    }
                    (IdPolicy::Attach | IdPolicy::RestartWhenClosed, Some(signal)) if open => {
                        self.signal_open(existing, event, signal, suspect);
                        self.attach((named, existing), reply_to, true);
                    }
                    _ => self.reply(reply_to.as_ref(), ReplyBody::Taken { run_id: existing, open }),
                }
                return Some(existing);
            }
        }
        let reply_to = event.reply_to.clone();
        self.reply(reply_to.as_ref(), ReplyBody::Started { run_id, attached: false });
        let later = start.start_at.is_some_and(|start_at| start_at > self.at);
        if later || suspect {
            self.receive(run_id, event, u32::from(!later));
        } else {
            self.begin_signalled(run_id, event, start, signal);
        }
        if let (Some(run), Some(reply_to)) = (self.book.runs.get_mut(&run_id), reply_to) {
            run.watch(reply_to);
        }
        Some(run_id)
    }

    /// Answers a start, and remembers who wants to hear of the end: of the last run that goes on for it.
    fn attach(&mut self, (run_id, last): (RunId, RunId), reply_to: Option<ReplyTo>, attached: bool) {
        let Some(reply_to) = reply_to else { return };
        self.reply(Some(&reply_to), ReplyBody::Started { run_id, attached });
        self.watch(last, reply_to, false);
    }

    /// Answers with the end of a run, now or when it comes. True if it is open.
    ///
    /// `exact`: the end of this very run is meant, also if another one goes on for it.
    pub(super) fn watch(&mut self, run_id: RunId, reply_to: ReplyTo, exact: bool) -> bool {
        if let Some(run) = self.book.runs.get_mut(&run_id) {
            if exact {
                run.watch_exactly(reply_to);
            } else {
                run.watch(reply_to);
            }
            return true;
        }
        match self.book.closed.get(&run_id).map(|closed| closed.close.clone()) {
            Some(Some(close)) => self.reply(Some(&reply_to), ReplyBody::Closed { run_id, close }),
            Some(None) if self.book.closed.get(&run_id).is_some_and(|closed| closed.position.is_some()) => {
                self.round.fetch.push((run_id, reply_to));
            }
            Some(None) => {
                let message = format!("run {run_id} has ended, and its end is older than the retention");
                self.reply(Some(&reply_to), ReplyBody::Expired { message });
            }
            None => {}
        }
        false
    }

    /// Refuses an unknown input that must not be taken, because its id could not be remembered until it expires.
    ///
    /// One that was issued before `expired` may have been taken so long ago that this is forgotten. One that was issued
    /// later than now, by more than clocks may differ, would be forgotten before it expires; it cannot have been taken
    /// before, since recorded time never goes back. So for all that is taken: it was issued no later than the time of its
    /// record and the skew; what is forgotten was recorded before `since`; `expired` is `since` and the skew; and what
    /// comes again after it was forgotten is refused. Refused inputs lie in the dead letters, and can be redriven.
    pub(super) fn timely(&mut self, event: Event, what: &str) -> Option<Event> {
        let Some((body, message)) = self.untimely_input(&event, what) else { return Some(event) };
        self.reply(event.reply_to.as_ref(), body);
        self.bury(event, message);
        None
    }

    /// How an input that must not be taken is answered, and why, for its dead letter.
    pub(super) fn untimely_input(&self, event: &Event, what: &str) -> Option<(ReplyBody, String)> {
        let Event { id, workflow_id, sent_at, .. } = event;
        let (expired, latest) = (self.book.window.expired, self.latest());
        if *sent_at < expired && !mutation::is(Mutation::TakesTheExpired) {
            let message = format!(
                "{what} {id} for workflow {workflow_id} was issued before {} ms, which is longer ago than ids are \
                 remembered: whether it took effect is not known. Look at the run, and issue it again under a new id \
                 if it is still wanted",
                expired.0
            );
            Some((ReplyBody::Expired { message: message.clone() }, message))
        } else if *sent_at > latest {
            let message = format!(
                "{what} {id} for workflow {workflow_id} was issued at {} ms, which is {} s ahead of the time that its \
                 shard records; clocks may differ by {} s. Set the clock of the client or of the workers; the event lies \
                 in the dead letters, and can be redriven then",
                sent_at.0,
                (sent_at.0 - self.at.0) / 1_000,
                self.skew_ms / 1_000
            );
            Some((ReplyBody::Invalid { message: message.clone() }, message))
        } else {
            None
        }
    }

    /// Inputs are not issued later than this, unless a clock is wrong.
    pub(super) fn latest(&self) -> Timestamp {
        Timestamp(self.at.0.saturating_add(self.skew_ms))
    }

    /// Notes how late it is by a client's clock, unless that is far ahead.
    fn note_time(&mut self, event: &Event, body: &EventBody) {
        let is_input = match body {
            EventBody::Start(_)
            | EventBody::SignalWithStart { .. }
            | EventBody::Spawn { .. }
            | EventBody::Demanded { .. }
            | EventBody::Signal { .. }
            | EventBody::SignalTagged { .. }
            | EventBody::Update { .. }
            | EventBody::PromiseSettled { .. }
            | EventBody::AttemptReported { .. }
            | EventBody::Cancel { .. }
            | EventBody::Terminate { .. }
            | EventBody::Resume => true,
            EventBody::Wake { .. }
            | EventBody::Describe
            | EventBody::AskResult
            | EventBody::AskPublished { .. }
            | EventBody::Query { .. }
            | EventBody::AskUpdate { .. }
            | EventBody::ActivitySettled { .. }
            | EventBody::StepSettled { .. }
            | EventBody::ChildBegan { .. }
            | EventBody::ChildClosed { .. }
            | EventBody::Delivered { .. }
            | EventBody::AttemptFailed { .. }
            | EventBody::AttemptLeft { .. }
            | EventBody::UpdateAccepted { .. }
            | EventBody::ContinueAsNew { .. } => false,
        };
        if is_input && event.sent_at <= self.latest() {
            self.round.witnessed = self.round.witnessed.max(event.sent_at);
        }
    }

    pub(super) fn wake(&mut self, number: u64) {
        // Whether this is the current wake-up can only be said of a book that is current.
        self.round.decides = true;
        if let Some(wake) = self.book.wake.filter(|wake| wake.number == number) {
            self.round.wake_served = true;
            // The broker held it until then.
            self.round.witnessed = self.round.witnessed.max(wake.due.min(self.latest()));
        }
    }

    pub(super) fn ask(&mut self, event: &Event, body: &EventBody) -> Option<RunId> {
        self.round.decides = true;
        let reply_to = event.reply_to.clone()?;
        let Some(run_id) = self.book.meant(event) else {
            self.reply(Some(&reply_to), ReplyBody::NotFound);
            return None;
        };
        match body {
            EventBody::AskResult => {
                if self.watch(run_id, reply_to.clone(), event.exact) {
                    self.reply(Some(&reply_to), ReplyBody::Open { run_id });
                }
            }
            EventBody::AskPublished { .. } | EventBody::Query { .. } if self.is_unknown(run_id) => {
                self.reply_unknown(run_id, &reply_to);
            }
            EventBody::AskUpdate { id, name } => {
                self.ask_update(run_id, (id, name.as_deref()), &reply_to);
            }
            EventBody::AskPublished { name } => {
                let value = self.published(run_id, name);
                self.reply(Some(&reply_to), ReplyBody::Published { value });
            }
            EventBody::Query { name, args } => {
                let answer = match self.query(run_id, name, args) {
                    Some(outcome) => ReplyBody::Answered { outcome },
                    None => ReplyBody::AlreadyClosed { run_id },
                };
                self.reply(Some(&reply_to), answer);
            }
            _ => match self.book.view(run_id) {
                Some(view) => self.reply(Some(&reply_to), ReplyBody::Description(Box::new(view))),
                None if self.is_unknown(run_id) => self.reply_unknown(run_id, &reply_to),
                None => self.reply(Some(&reply_to), ReplyBody::NotFound),
            },
        }
        None
    }

    pub(super) fn published(&mut self, run_id: RunId, name: &str) -> Option<Payload> {
        self.enliven(run_id).ok()?;
        self.book.runs.get(&run_id)?.live.as_ref()?.published.get(name).cloned()
    }

    pub(super) fn client_input(
        &mut self,
        token: DeliveryToken,
        event: Event,
        body: EventBody,
        suspect: bool,
        last_chance: bool,
    ) -> Option<RunId> {
        let addressed = match &body {
            // What a run was given a token for is its own.
            EventBody::PromiseSettled { .. } | EventBody::AttemptReported { .. } => {
                self.book.addressed(&event.workflow_id, event.run_id)
            }
            _ => self.book.meant(&event),
        };
        if self.book.inputs.contains_key(&event.id) && !mutation::is(Mutation::ForgetsInputs) {
            self.reply(event.reply_to.as_ref(), ReplyBody::Accepted);
            self.round.orphaned.extend(addressed);
            return addressed;
        }
        let Some(event) = self.timely(event, "the input") else { return addressed };
        let Some(run_id) = addressed else {
            if matches!(body, EventBody::Signal { .. }) && !last_chance {
                self.round.early.push((token, event));
                return None;
            }
            self.round.decides = true;
            self.reply(event.reply_to.as_ref(), ReplyBody::NotFound);
            if matches!(body, EventBody::Signal { .. }) {
                self.bury(event, "a signal for a workflow id that has no run".to_owned());
            }
            return None;
        };
        if !self.book.runs.contains_key(&run_id) {
            self.round.decides = true;
            self.reply(event.reply_to.as_ref(), ReplyBody::AlreadyClosed { run_id });
            if event.reply_to.is_none() && matches!(body, EventBody::Signal { .. }) {
                self.bury(event, "a signal for a run that has ended".to_owned());
            }
            return Some(run_id);
        }
        let may_count = self.book.runs.get(&run_id).is_some_and(|run| may_count(run, &body));
        if !may_count && self.refuse_completion(run_id, &body, event.reply_to.as_ref()) {
            return Some(run_id);
        }
        let Some(run) = self.book.runs.get(&run_id) else { return Some(run_id) };
        let reply_to = event.reply_to.clone();
        // One that goes on for another begins, and hears of it then: what that one left to be tidied up is known to it.
        let idle = run.started.is_none() && run.continues.is_none();
        if run.unknown.is_some() && !matches!(body, EventBody::Resume) {
            self.keep(run_id, event);
            self.reply(reply_to.as_ref(), ReplyBody::Accepted);
            return Some(run_id);
        }
        match body {
            EventBody::Terminate { reason } => self.terminate(run_id, event.id, reason),
            EventBody::Cancel { reason } if idle => self.end(
                run_id,
                event.id,
                &RecordBody::CancelRequested { reason: reason.clone() },
                CloseStatus::Cancelled,
                Failure::new(FailureKind::Cancelled, or(reason, "cancelled before it began")),
            ),
            EventBody::Resume => {
                let workflow_id = event.workflow_id.clone();
                // Not at once: that it goes on stands before one of its inputs can take the worker down.
                let was_parked = run.parked.is_some();
                self.write(&workflow_id, run_id, event.id, &RecordBody::Resumed, Vec::new(), None);
                if was_parked {
                    self.revive(run_id, true);
                }
            }
            EventBody::AttemptReported { .. } => self.report(run_id, event, suspect),
            _ => self.take(run_id, event, suspect),
        }
        self.reply(reply_to.as_ref(), ReplyBody::Accepted);
        Some(run_id)
    }

    pub(super) fn terminate(&mut self, run_id: RunId, event: EventId, reason: String) {
        let body = RecordBody::Terminated { reason: reason.clone() };
        let failure = Failure::new(FailureKind::Terminated, or(reason, "terminated"));
        self.end(run_id, event, &body, CloseStatus::Terminated, failure);
    }

    pub(super) fn result(&mut self, event: Event, body: EventBody, suspect: bool) -> Option<RunId> {
        let run_id = event.run_id?;
        let (step, attempt_failed) = match &body {
            EventBody::ActivitySettled { step, .. }
            | EventBody::StepSettled { step, .. }
            | EventBody::ChildBegan { step }
            | EventBody::ChildClosed { step, .. }
            | EventBody::Delivered { step, .. } => (*step, None),
            EventBody::AttemptFailed { step, attempt, .. } | EventBody::AttemptLeft { step, attempt, .. } => {
                (*step, Some(*attempt))
            }
            _ => return None,
        };
        self.book.bring(run_id);
        let Some(run) = self.book.runs.get(&run_id) else {
            if !self.book.closed.contains_key(&run_id) && !mutation::is(Mutation::DropsUnexpected) {
                // Results come to runs that exist: if ours does not, the book may be old.
                self.round.decides = true;
            }
            if attempt_failed.is_some() {
                self.round.cancel_tasks.push(EventId::derived(run_id, step, "task"));
            }
            return None;
        };
        if run.unknown.is_some() {
            let waits = match run.pending.get(&step) {
                Some(_) if matches!(body, EventBody::ChildBegan { .. }) => self.is_beginning(run_id, step, &event),
                Some(pending) => attempt_failed.map_or(!pending.answered, |attempt| attempt >= pending.attempt),
                None => run.may_have_asked(step),
            };
            if waits {
                self.keep(run_id, event);
            }
            return Some(run_id);
        }
        let Some(pending) = run.pending.get(&step) else {
            if run.next_no <= step {
                self.round.decides |= !mutation::is(Mutation::DropsUnexpected);
            } else if attempt_failed.is_some() {
                self.round.cancel_tasks.push(EventId::derived(run_id, step, "task"));
            }
            return self.came_late(run_id, event.id);
        };
        if pending.answered && !matches!(body, EventBody::AttemptLeft { .. }) {
            return self.came_late(run_id, event.id);
        }
        match body {
            EventBody::AttemptLeft { attempt, until, task, running, .. } => {
                // What its worker told of may still be left to others, and not the other way round.
                let is_more = |left: &Left| left.attempt < attempt || (left.running && !running);
                let is_known = pending.was_left() && !pending.left.as_deref().is_some_and(is_more);
                if attempt >= pending.attempt && !is_known {
                    self.leave(run_id, event.id, task, until, running);
                }
            }
            EventBody::AttemptFailed { step, attempt, failure, next } => {
                if attempt >= pending.attempt {
                    let body = RecordBody::AttemptFailed { step, attempt, failure, next };
                    self.write(&event.workflow_id, run_id, event.id, &body, Vec::new(), None);
                }
            }
            EventBody::ChildBegan { step } if !self.is_beginning(run_id, step, &event) => {
                return self.came_late(run_id, event.id);
            }
            _ => self.take(run_id, event, suspect),
        }
        Some(run_id)
    }

    /// A result that changes nothing any more. If it stands in the run's history, it came again, and whoever had it may be gone. If
    /// not, the run did not wait for it: its owner ended the step at a time-out, or its code dropped the command.
    fn came_late(&mut self, run_id: RunId, event: EventId) -> Option<RunId> {
        let run = self.book.runs.get(&run_id)?;
        let has_local_work = run.pending.values().any(|pending| pending.is_open_locally());
        let recorded = || run.records.iter().map(|record| record.event).collect();
        let mut is_recorded = || self.round.recorded.entry(run_id).or_insert_with(recorded).contains(&event);
        if has_local_work && (run.has_received(event) || is_recorded()) {
            self.round.orphaned.push(run_id);
        }
        Some(run_id)
    }
}

pub(super) fn or(reason: String, otherwise: &str) -> String {
    if reason.is_empty() { otherwise.to_owned() } else { reason }
}
