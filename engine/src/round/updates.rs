//! Updates: requests that the run's code looks at before they are taken.
//!
//! What is told of one is never taken back. One that was taken is known by its id for as long as its run is; one that was
//! refused is remembered by its event's id, as an input is, so that a copy that comes late is not taken after all. Between the
//! two there is what was not decided: the run is not there, has not begun, stands still, or takes none of that name yet.
//! That leaves no trace, and whoever asked sends it again.
//!
//! An update is never taken in for later: nobody can say then whether it will be let pass.

use everpulse_protocol::event::{Event, Outcome, ReplyTo};
use everpulse_protocol::history::{CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{Failure, FailureKind, Payload, RunId};
use everpulse_sdk::replay::Unanswered;

use super::Applier;
use crate::mutation::{self, Mutation};
use crate::run::answer_in;

/// What is requested.
pub(super) struct Update {
    pub id: String,
    pub name: String,
    pub args: Payload,
    /// Not to be decided now is no refusal.
    pub patient: bool,
}

/// Why a run has not taken an update.
enum Refused {
    /// It cannot be asked yet.
    NotYet(Box<Failure>),
    /// Its code has said no, or failed at it.
    Final(Box<Failure>),
}

impl Applier<'_> {
    /// Takes an update, or refuses it. Gives the run that its acknowledgement waits for.
    pub(super) fn update(&mut self, event: Event, update: Update, suspect: bool) -> Option<RunId> {
        let addressed = self.book.addressed(&event.workflow_id, event.run_id);
        let reply_to = event.reply_to.clone();
        if let Some(run_id) = addressed.filter(|_| !mutation::is(Mutation::UpdatesCountTwice))
            && self.tell_of_update(run_id, &update.id, reply_to.as_ref())
        {
            // It is this one that came again, and not another request under its id.
            let came_again = self.book.inputs.contains_key(&event.id);
            self.round.orphaned.extend(addressed.filter(|_| came_again));
            return addressed;
        }
        let is_known = self.book.inputs.contains_key(&event.id) && !mutation::is(Mutation::ForgetsRefusals);
        // It may have taken another worker down, and before it is taken nothing tells how often. Whoever still wants it
        // sends it again.
        if suspect && !is_known {
            return None;
        }
        let Some(run_id) = addressed else {
            let message = format!("there is no run of workflow id {}", event.workflow_id);
            let failure = Box::new(Failure::new(FailureKind::NotFound, message));
            self.refuse(&event, update.patient && !is_known, None, Refused::NotYet(failure));
            return None;
        };
        if let Some((body, message)) = self.untimely_input(&event, "the update").filter(|_| !is_known) {
            self.round.decides = true;
            match body {
                ReplyBody::Expired { .. } => self.reply(reply_to.as_ref(), body),
                // Its shard's time may catch up.
                _ => {
                    let failure = Box::new(Failure::new(FailureKind::NotFound, message));
                    self.refuse(&event, update.patient, Some(run_id), Refused::NotYet(failure));
                }
            }
            return addressed;
        }
        if !self.book.runs.contains_key(&run_id) {
            self.remember(&event);
            self.reply(reply_to.as_ref(), ReplyBody::AlreadyClosed { run_id });
            return addressed;
        }
        match self.look_at_update(run_id, &update) {
            Ok(()) if is_known => {
                let message = format!(
                    "update `{}` of workflow {} was refused before, or taken by an earlier run of that id; request it under \
                     another id if it is still wanted",
                    update.id, event.workflow_id
                );
                let failure = Box::new(Failure::new(FailureKind::Cancelled, message));
                self.refuse(&event, false, Some(run_id), Refused::Final(failure));
            }
            Ok(()) => self.accept(run_id, event, update),
            Err(refused) => self.refuse(&event, update.patient && !is_known, Some(run_id), refused),
        }
        addressed
    }

    /// Answers with what became of an update. False if the run, as far as it is at hand, does not know it.
    fn tell_of_update(&mut self, run_id: RunId, id: &str, reply_to: Option<&ReplyTo>) -> bool {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return false };
        let Some(no) = run.update(id) else { return false };
        let state = match run.answer(id) {
            Some(outcome) => UpdateState::Answered(outcome),
            None => {
                if let Some(reply_to) = reply_to {
                    run.watch_update(no, reply_to.clone());
                }
                UpdateState::Accepted
            }
        };
        self.tell_update(reply_to, Some(run_id), state);
        true
    }

    /// What became of an update, to whoever asks again.
    pub(super) fn ask_update(&mut self, run_id: RunId, id: &str, reply_to: &ReplyTo) {
        if self.is_unknown(run_id) {
            return self.reply_unknown(run_id, reply_to);
        }
        if !self.book.runs.contains_key(&run_id) {
            return self.reply(Some(reply_to), ReplyBody::AlreadyClosed { run_id });
        }
        if !self.tell_of_update(run_id, id, Some(reply_to)) {
            self.tell_update(Some(reply_to), Some(run_id), UpdateState::Unknown);
        }
    }

    /// One that an older release has taken in, which did not know what it is.
    pub(super) fn received_update(&mut self, run_id: RunId, event: Event, update: Update) {
        match self.let_pass(run_id, &update) {
            Ok(()) => self.accept(run_id, event, update),
            Err(refused) => {
                let (Refused::NotYet(failure) | Refused::Final(failure)) = refused;
                self.tell_update(event.reply_to.as_ref(), Some(run_id), UpdateState::Refused(*failure));
            }
        }
    }

    fn look_at_update(&mut self, run_id: RunId, update: &Update) -> Result<(), Refused> {
        let Some(run) = self.book.runs.get(&run_id) else { return Ok(()) };
        let why = match () {
            () if run.unknown.is_some() => run.why_unknown().map(|parked| parked.message).unwrap_or_default(),
            () if run.parked.is_some() => {
                let why = run.parked.as_ref().map(|parked| parked.message.as_str()).unwrap_or_default();
                format!("workflow {} stands still, so nobody can look at the update: {why}", run.workflow_id)
            }
            () if run.started.is_none() || !run.received.is_empty() => {
                format!("workflow {} has not come to where it can look at the update", run.workflow_id)
            }
            () => return self.let_pass(run_id, update),
        };
        Err(Refused::NotYet(Box::new(Failure::new(FailureKind::NotFound, why))))
    }

    /// Whether the run's code lets an update pass.
    fn let_pass(&mut self, run_id: RunId, update: &Update) -> Result<(), Refused> {
        if update.id.is_empty() || update.id.len() > UPDATE_ID_BYTES_MAX {
            let message = format!("the id of an update has 1 to {UPDATE_ID_BYTES_MAX} bytes");
            return Err(Refused::Final(Box::new(Failure::new(FailureKind::Undecodable, message))));
        }
        // A run that cannot be replayed is parked by the next thing that happens to it, not by this.
        let enlivened = self.enliven(run_id);
        enlivened.map_err(|parked| Refused::NotYet(Box::new(Failure::new(FailureKind::NotFound, parked.message))))?;
        let Some(run) = self.book.runs.get_mut(&run_id) else { return Ok(()) };
        let Some(live) = run.live.as_mut() else { return Ok(()) };
        live.instance.validate(&update.name, &update.args).map_err(|Unanswered { failure, spoilt }| {
            if spoilt {
                run.live = None;
            }
            match failure.kind {
                FailureKind::NotFound => Refused::NotYet(failure),
                _ => Refused::Final(failure),
            }
        })
    }

    fn accept(&mut self, run_id: RunId, event: Event, update: Update) {
        let reply_to = event.reply_to.clone();
        let body = RecordBody::UpdateAccepted { id: update.id, name: update.name, args: update.args };
        // What the code cannot be given is refused, and the run is as it was before.
        if let Err(parked) = self.apply(run_id, event.id, &body) {
            let failure = Box::new(Failure::new(FailureKind::Panicked, parked.message));
            return self.refuse(&event, false, Some(run_id), Refused::Final(failure));
        }
        let RecordBody::UpdateAccepted { id, .. } = &body else { return };
        if self.tell_of_update(run_id, id, reply_to.as_ref()) {
            return;
        }
        // It has ended with this.
        let is_it = |mark: &&CommandMark| mark.kind == CommandKind::Answer && mark.name == *id;
        let record = self.round.records.iter().rev().find(|record| record.run_id == run_id);
        let no = record.and_then(|record| Some(record.commands.iter().find(is_it)?.no));
        let answer = record.zip(no).and_then(|(record, no)| answer_in(record, no));
        let state = answer.map_or(UpdateState::Unanswered, UpdateState::Answered);
        self.tell_update(reply_to.as_ref(), Some(run_id), state);
    }

    fn refuse(&mut self, event: &Event, patient: bool, run_id: Option<RunId>, refused: Refused) {
        self.round.decides = true;
        let (mut failure, is_final) = match refused {
            Refused::NotYet(failure) => (failure, !patient),
            Refused::Final(failure) => (failure, true),
        };
        // What the code said is sealed already; why it could not be asked is not.
        if let Err(error) = self.registry.coding().seal(&event.workflow_id, &mut *failure) {
            *failure = Failure::new(FailureKind::Undecodable, error.to_string());
        }
        if is_final {
            self.remember(event);
        }
        let state = if is_final { UpdateState::Refused(*failure) } else { UpdateState::NotYet(*failure) };
        self.tell_update(event.reply_to.as_ref(), run_id, state);
    }

    /// A copy of it that comes later is not taken after all.
    fn remember(&mut self, event: &Event) {
        if self.book.inputs.contains_key(&event.id) {
            return;
        }
        let body = RecordBody::Remembered { closed: Vec::new(), inputs: vec![(event.id, self.at)], window: None };
        self.record_of_shard(event.id, &body);
    }

    fn tell_update(&mut self, reply_to: Option<&ReplyTo>, run_id: Option<RunId>, state: UpdateState) {
        self.round.bytes += match &state {
            UpdateState::Answered(Outcome::Done(value)) => value.len(),
            _ => 64,
        };
        self.reply(reply_to, ReplyBody::Update { run_id, state });
    }

    /// Tells those who wait what a record answers, and that nobody will any more if it is the run's end.
    ///
    /// `watchers`: those of a run that has ended with it.
    pub(super) fn tell_answers(&mut self, record: &Record, watchers: Vec<(u32, ReplyTo)>) {
        let run_id = Some(record.run_id);
        for mark in record.commands.iter().filter(|mark| mark.kind == CommandKind::Answer) {
            let Some(answer) = &mark.answer else { continue };
            let open = self.book.runs.get_mut(&record.run_id).map(|run| run.update_watchers(mark.no));
            let ended = watchers.iter().filter(|(no, _)| *no == mark.no).map(|(_, reply_to)| reply_to.clone());
            for reply_to in open.unwrap_or_default().into_iter().chain(ended) {
                self.tell_update(Some(&reply_to), run_id, UpdateState::Answered((**answer).clone()));
            }
        }
        for (no, reply_to) in watchers {
            if answer_in(record, no).is_none() {
                self.tell_update(Some(&reply_to), run_id, UpdateState::Unanswered);
            }
        }
    }
}

/// As of a workflow id.
const UPDATE_ID_BYTES_MAX: usize = 255;
