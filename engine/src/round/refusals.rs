//! Updates that were decided before, and those that may have taken a worker down.
//!
//! A refusal is remembered by its event's id, and by another that follows from it: by both it is a refusal, by the first alone
//! the update was taken, by whichever run. What comes again is answered from that, and nobody's code is asked about it.
//!
//! An update leaves no trace before it is taken, so nothing would tell how many workers it took down. One that was there before
//! this worker was is therefore not looked at: that it was is counted, once by each worker, and what is sent again by whoever
//! still wants it is looked at. After some tries it is refused for good, so no worker more dies by it (rule 9).

use std::collections::VecDeque;

use everpulse_protocol::event::Event;
use everpulse_protocol::history::RecordBody;
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{EventId, Failure, FailureKind, RunId};

use super::Applier;
use super::updates::{Refused, Update};
use crate::Map;
use crate::mutation::{self, Mutation};

/// As of inputs: after so many tries it is not looked at any more.
const TRIES_MAX: u32 = 3;
/// The words of so many refusals are kept, for those who did not hear them; and so many bytes of them.
const WORDS_MAX: usize = 256;
const WORDS_BYTES_MAX: usize = 256 * 1024;

/// What this process knows of refusals beside what is in history.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// With which words updates were refused lately, as they left.
    words: VecDeque<(EventId, Failure)>,
    bytes: usize,
    /// The tries that were counted here.
    counted: Map<EventId, u32>,
}

impl Refusals {
    pub fn say(&mut self, event: EventId, failure: &Failure) {
        self.bytes += failure.bytes();
        self.words.push_back((event, failure.clone()));
        while self.words.len() > WORDS_MAX || self.bytes > WORDS_BYTES_MAX {
            let Some((_, failure)) = self.words.pop_front() else { return };
            self.bytes -= failure.bytes();
        }
    }

    fn words(&self, event: EventId) -> Option<Failure> {
        self.words.iter().rev().find(|(of, _)| *of == event).map(|(_, failure)| failure.clone())
    }
}

impl Applier<'_> {
    /// Answers a copy of a request that was decided before. False if it was not.
    pub(super) fn tell_what_was_decided(&mut self, event: &Event, update: &Update, addressed: Option<RunId>) -> bool {
        if mutation::is(Mutation::ForgetsRefusals) {
            return false;
        }
        let reply_to = event.reply_to.as_ref();
        if self.book.inputs.contains_key(&refusal_of(event.id)) {
            let closed = addressed.filter(|run_id| !self.book.runs.contains_key(run_id));
            match (self.refusals.words(event.id), closed) {
                (Some(failure), _) => self.tell_update(reply_to, addressed, UpdateState::Refused(failure)),
                (None, Some(run_id)) => self.reply(reply_to, ReplyBody::AlreadyClosed { run_id }),
                (None, None) => {
                    let message = format!(
                        "update `{}` of workflow {} was refused before; request it anew if it is still wanted",
                        update.id, event.workflow_id
                    );
                    let refused = Refused::finally(FailureKind::Cancelled, message);
                    self.refuse(event, false, addressed, refused);
                }
            }
            return true;
        }
        if !self.book.inputs.contains_key(&event.id) {
            return false;
        }
        let waits = |run_id| self.book.runs.get(&run_id).is_some_and(|run| run.has_received(event.id));
        if addressed.is_some_and(waits) {
            let message = format!("workflow {} has taken it in, and decides when it goes on", event.workflow_id);
            self.refuse(event, true, addressed, Refused::not_yet(message));
        } else {
            self.round.orphaned.extend(addressed);
            self.tell_update(reply_to, addressed, UpdateState::TakenBefore);
        }
        true
    }

    /// A copy of it that comes later is not taken after all.
    pub(super) fn remember(&mut self, event: &Event) {
        let ids = [event.id, refusal_of(event.id)].into_iter();
        let inputs: Vec<_> = ids.filter(|id| !self.book.inputs.contains_key(id)).map(|id| (id, self.at)).collect();
        if !inputs.is_empty() {
            let body = RecordBody::Remembered { closed: Vec::new(), inputs, window: None };
            self.record_of_shard(event.id, &body);
        }
    }

    /// An update was there before this worker was. Whoever had it may have gone down by it.
    pub(super) fn count_try(&mut self, run_id: RunId, event: &Event, update: &Update) {
        let stands = |tried: &u32| self.book.inputs.contains_key(&try_of(event.id, *tried));
        let tried = (1..=TRIES_MAX).take_while(stands).last().unwrap_or_default();
        // There may be many copies of it in the inbox: they tell of one worker.
        let is_counted = tried > 0 && self.refusals.counted.get(&event.id) == Some(&tried);
        if is_counted || mutation::is(Mutation::TriesUncounted) {
            return;
        }
        let id = try_of(event.id, tried + 1);
        self.refusals.counted.insert(event.id, tried + 1);
        let body = RecordBody::Remembered { closed: Vec::new(), inputs: vec![(id, self.at)], window: None };
        self.record_of_shard(id, &body);
        if tried + 1 >= TRIES_MAX {
            self.refuse(event, false, Some(run_id), poisonous(event, &update.id));
        }
    }

    /// One that an older release has taken in, and that was tried often enough.
    pub(super) fn give_up_update(&mut self, run_id: RunId, event: &Event, update: &Update) {
        let applied = RecordBody::Applied { event: event.id };
        self.write(&event.workflow_id, run_id, event.id, &applied, Vec::new(), None);
        self.refuse(event, false, Some(run_id), poisonous(event, &update.id));
    }
}

fn poisonous(event: &Event, id: &str) -> Refused {
    let message = format!(
        "update `{id}` of workflow {} was at hand when a worker went down, {TRIES_MAX} times; look for an abort, a stack \
         overflow or a lack of memory in the code that looks at it or receives it, and request it anew then",
        event.workflow_id
    );
    Refused::finally(FailureKind::Panicked, message)
}

/// By what it is known that an update was refused.
fn refusal_of(event: EventId) -> EventId {
    EventId::derived(RunId(event.0), 0, "update refused")
}

/// By what it is known that it was tried so often.
fn try_of(event: EventId, tried: u32) -> EventId {
    EventId::derived(RunId(event.0), tried, "update tried")
}
