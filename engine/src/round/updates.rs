//! Updates: requests that the run's code looks at before they are taken.
//!
//! What is told of one is never taken back. One that was taken is known by its id for as long as its run is, and those that go
//! on for it; one that was refused is remembered by its event's id ([`super::refusals`]), so that a copy that comes late is not
//! taken after all. Between the two there is what was not decided: the run is not there, has not begun, stands still, or takes
//! none of that name yet; this worker lacks a key; the request's clock is wrong. That leaves no trace, and whoever asked sends
//! it again.
//!
//! An update is never taken in for later: nobody can say then whether it will be let pass. One that was taken already goes along
//! to the run that goes on, and is looked at by nobody there.

use everpulse_protocol::event::{Event, Outcome, ReplyTo};
use everpulse_protocol::history::{CommandKind, Parked, ParkedKind, Record, RecordBody};
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{Failure, FailureKind, Payload, RunId};
use everpulse_sdk::replay::Unanswered;

use super::Applier;
use crate::mutation::{self, Mutation};
use crate::replay::unopened;
use crate::run::{Watcher, answer_in};

/// What is requested.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub id: String,
    pub name: String,
    pub args: Payload,
    /// Not to be decided now is no refusal.
    pub patient: bool,
    pub headers: Option<Payload>,
}

/// Why a run has not taken an update.
pub(super) enum Refused {
    /// It cannot be asked yet. Who has no patience left is refused.
    NotYet(Box<Failure>),
    /// It cannot be asked here. Where something is missing that opens values, that is no answer to anybody.
    NotHere(Parked),
    /// Its code has said no, or failed at it.
    Final(Box<Failure>),
}

impl Refused {
    pub fn not_yet(why: impl Into<String>) -> Self {
        Self::NotYet(Box::new(Failure::new(FailureKind::NotFound, why)))
    }

    pub fn finally(kind: FailureKind, why: impl Into<String>) -> Self {
        Self::Final(Box::new(Failure::new(kind, why)))
    }
}

impl Applier<'_> {
    /// Takes an update, or refuses it. Gives the run that its acknowledgement waits for.
    pub(super) fn update(&mut self, event: Event, update: Update, suspect: bool) -> Option<RunId> {
        let addressed = self.book.meant(&event);
        let reply_to = event.reply_to.clone();
        if let Some(run_id) = addressed.filter(|_| !mutation::is(Mutation::UpdatesCountTwice)) {
            if let Some(other) = self.taken_as(run_id, &update.id).filter(|name| *name != update.name) {
                let message = format!(
                    "the id `{}` is that of an update `{other}`, which workflow {} has taken; request `{}` under another id",
                    update.id, event.workflow_id, update.name
                );
                self.refuse(&event, false, Some(run_id), Refused::finally(FailureKind::Taken, message));
                return addressed;
            }
            if self.tell_of_update(run_id, &update.id, reply_to.as_ref()) {
                // It is this one that came again, and not another request under its id.
                let came_again = self.book.inputs.contains_key(&event.id);
                self.round.orphaned.extend(addressed.filter(|_| came_again));
                return addressed;
            }
        }
        if self.tell_what_was_decided(&event, &update, addressed) {
            return addressed;
        }
        if let Some((body, message)) = self.untimely_input(&event, "the update") {
            self.round.decides = true;
            match body {
                ReplyBody::Expired { .. } => self.reply(reply_to.as_ref(), body),
                // Its shard's time may catch up. A refusal could be forgotten before a copy of it is too old to be taken.
                _ => self.refuse(&event, true, addressed, Refused::not_yet(message)),
            }
            return addressed;
        }
        let Some(run_id) = addressed else {
            let message = format!("there is no run of workflow id {}", event.workflow_id);
            self.refuse(&event, update.patient, None, Refused::not_yet(message));
            return None;
        };
        if !self.book.runs.contains_key(&run_id) {
            self.round.decides = true;
            self.remember(&event);
            self.reply(reply_to.as_ref(), ReplyBody::AlreadyClosed { run_id });
            return addressed;
        }
        if let Some(why) = self.not_to_be_asked(run_id) {
            self.refuse(&event, update.patient, addressed, Refused::not_yet(why));
            return addressed;
        }
        if suspect {
            self.count_try(run_id, &event, &update);
            return None;
        }
        let patient = update.patient;
        let taken = self.let_pass(run_id, &update).and_then(|()| self.accept(run_id, &event, update));
        if let Err(refused) = taken {
            self.refuse(&event, patient, addressed, refused);
        }
        addressed
    }

    /// The name of an update that a run, or the one that goes on for it, has taken under an id, as far as it is at hand.
    fn taken_as(&mut self, run_id: RunId, id: &str) -> Option<String> {
        let last = self.book.last_of(run_id);
        self.book.bring(last);
        self.book.runs.get(&last)?.update(id)
    }

    /// Answers with what became of an update. False if neither the run nor, of a series, another one of it has taken it.
    fn tell_of_update(&mut self, run_id: RunId, id: &str, reply_to: Option<&ReplyTo>) -> bool {
        let last = self.book.last_of(run_id);
        if self.taken_as(run_id, id).is_some()
            && let Some(run) = self.book.runs.get_mut(&last)
        {
            let answer = run.answer(id);
            if let (None, Some(reply_to)) = (&answer, reply_to) {
                run.watch_update(id, reply_to.clone());
            }
            self.tell_update(reply_to, Some(last), answer.map_or(UpdateState::Accepted, UpdateState::Answered));
            return true;
        }
        let Some(taker) = self.book.taker_of(run_id, id) else { return false };
        self.tell_update(reply_to, taker, UpdateState::TakenBefore);
        true
    }

    /// What became of an update, to whoever asks again. `name`: of which it is thought to be.
    pub(super) fn ask_update(&mut self, run_id: RunId, (id, name): (&str, Option<&str>), reply_to: &ReplyTo) {
        if self.is_unknown(run_id) {
            return self.reply_unknown(run_id, reply_to);
        }
        let is_another = name.is_some_and(|name| self.taken_as(run_id, id).is_some_and(|taken_as| taken_as != name));
        if !is_another && self.tell_of_update(run_id, id, Some(reply_to)) {
            return;
        }
        match self.book.runs.contains_key(&run_id) {
            true => self.tell_update(Some(reply_to), Some(run_id), UpdateState::Unknown),
            false => self.reply(Some(reply_to), ReplyBody::AlreadyClosed { run_id }),
        }
    }

    /// One that an older release has taken in, which did not know what it is. It is decided now: its copies were told to wait.
    pub(super) fn received_update(&mut self, run_id: RunId, event: &Event, update: Update) {
        // Another one under its id may have come before it.
        match self.taken_as(run_id, &update.id) {
            Some(name) if name == update.name => {
                self.tell_of_update(run_id, &update.id, event.reply_to.as_ref());
                return;
            }
            Some(name) => {
                let message = format!("the id `{}` is that of an update `{name}`; request it under another", update.id);
                return self.refuse(event, false, Some(run_id), Refused::finally(FailureKind::Taken, message));
            }
            None => {}
        }
        match self.let_pass(run_id, &update).and_then(|()| self.accept(run_id, event, update)) {
            Ok(()) => {}
            Err(Refused::NotHere(parked)) => self.park(run_id, parked),
            Err(refused) => self.refuse(event, false, Some(run_id), refused),
        }
    }

    /// Why an open run cannot be asked yet, if that can be said without its code.
    fn not_to_be_asked(&self, run_id: RunId) -> Option<String> {
        let run = self.book.runs.get(&run_id)?;
        if run.unknown.is_some() {
            return Some(run.why_unknown().map(|parked| parked.message).unwrap_or_default());
        }
        if let Some(parked) = &run.parked {
            let why = &parked.message;
            return Some(format!("workflow {} stands still, so nobody can look at the update: {why}", run.workflow_id));
        }
        (run.started.is_none() || !run.received.is_empty())
            .then(|| format!("workflow {} has not come to where it can look at the update", run.workflow_id))
    }

    /// Whether the run's code lets an update pass.
    fn let_pass(&mut self, run_id: RunId, update: &Update) -> Result<(), Refused> {
        if update.id.is_empty() || update.id.len() > UPDATE_ID_BYTES_MAX {
            let message = format!("the id of an update has 1 to {UPDATE_ID_BYTES_MAX} bytes");
            return Err(Refused::finally(FailureKind::Undecodable, message));
        }
        // A run that cannot be replayed is parked by the next thing that happens to it, not by this.
        self.enliven(run_id).map_err(Refused::NotHere)?;
        let Some(run) = self.book.runs.get_mut(&run_id) else { return Ok(()) };
        let Some(live) = run.live.as_mut() else { return Ok(()) };
        live.instance.validate(&update.name, &update.args).map_err(|Unanswered { failure, spoilt, missing }| {
            if spoilt {
                run.live = None;
            }
            match failure.kind {
                _ if missing => Refused::NotHere(unopened(&run.workflow_id, &failure.message)),
                FailureKind::NotFound => Refused::NotYet(failure),
                _ => Refused::Final(failure),
            }
        })
    }

    fn accept(&mut self, run_id: RunId, event: &Event, update: Update) -> Result<(), Refused> {
        let Update { id, name, args, headers, patient: _ } = update;
        let body = RecordBody::UpdateAccepted { id: id.clone(), name, args, headers };
        // What the code cannot be given is refused, and the run is as it was before.
        self.apply(run_id, event.id, &body).map_err(|parked| match parked.kind {
            ParkedKind::Unopened => Refused::NotHere(parked),
            _ => Refused::finally(FailureKind::Panicked, parked.message),
        })?;
        let reply_to = event.reply_to.as_ref();
        if self.book.runs.contains_key(&run_id) {
            self.tell_of_update(run_id, &id, reply_to);
            return Ok(());
        }
        // It has ended with this.
        let record = self.round.records.iter().rev().find(|record| record.run_id == run_id);
        match record.and_then(|record| answer_in(record, &id, None)) {
            Some(answer) => self.tell_update(reply_to, Some(run_id), UpdateState::Answered(answer)),
            None if self.taken_as(run_id, &id).is_some() => {
                self.tell_of_update(run_id, &id, reply_to);
            }
            None => self.tell_update(reply_to, Some(run_id), UpdateState::Unanswered),
        }
        Ok(())
    }

    pub(super) fn refuse(&mut self, event: &Event, patient: bool, run_id: Option<RunId>, refused: Refused) {
        self.round.decides = true;
        let (mut failure, mut is_final) = match refused {
            Refused::NotYet(failure) => (failure, !patient),
            Refused::NotHere(parked) => {
                let failure = Box::new(Failure::new(FailureKind::NotFound, parked.message));
                (failure, !patient && parked.kind != ParkedKind::Unopened)
            }
            Refused::Final(failure) => (failure, true),
        };
        // What the code said is sealed already; why it could not be asked is not.
        if let Err(error) = self.registry.coding().seal(&event.workflow_id, &mut *failure) {
            is_final &= !error.is_missing();
            *failure = Failure::new(FailureKind::Undecodable, error.to_string());
        }
        if is_final {
            self.remember(event);
            self.refusals.say(event.id, &failure);
        }
        let state = if is_final { UpdateState::Refused(*failure) } else { UpdateState::NotYet(*failure) };
        self.tell_update(event.reply_to.as_ref(), run_id, state);
    }

    pub(super) fn tell_update(&mut self, reply_to: Option<&ReplyTo>, run_id: Option<RunId>, state: UpdateState) {
        self.round.bytes += match &state {
            UpdateState::Answered(Outcome::Done(value)) => value.len(),
            _ => 64,
        };
        self.reply(reply_to, ReplyBody::Update { run_id, state });
    }

    /// Tells those who wait what a record answers, and gives those to whom it, as the last one of their run, says nothing.
    ///
    /// `watchers`: those of a run that has ended with it.
    pub(super) fn tell_answers(&mut self, record: &Record, watchers: Vec<Watcher>) -> Vec<Watcher> {
        let run_id = Some(record.run_id);
        for mark in record.commands.iter().filter(|mark| mark.kind == CommandKind::Answer) {
            let Some(answer) = &mark.answer else { continue };
            let open = self.book.runs.get_mut(&record.run_id).map(|run| run.update_watchers(&mark.name));
            let ended = watchers.iter().filter(|(id, _)| **id == *mark.name).map(|(_, reply_to)| reply_to.clone());
            for reply_to in open.unwrap_or_default().into_iter().chain(ended) {
                self.tell_update(Some(&reply_to), run_id, UpdateState::Answered((**answer).clone()));
            }
        }
        watchers.into_iter().filter(|(id, _)| answer_in(record, id, None).is_none()).collect()
    }

    /// Nobody answers them any more, unless another run goes on with what they wait for.
    pub(super) fn leave_unanswered(&mut self, run_id: RunId, watchers: Vec<Watcher>) {
        for (id, reply_to) in watchers {
            if self.taken_as(run_id, &id).is_none() {
                self.tell_update(Some(&reply_to), Some(run_id), UpdateState::Unanswered);
            } else {
                let last = self.book.last_of(run_id);
                if let Some(run) = self.book.runs.get_mut(&last) {
                    run.watch_update(&id, reply_to);
                }
            }
        }
    }
}

/// As of a workflow id.
const UPDATE_ID_BYTES_MAX: usize = 255;
