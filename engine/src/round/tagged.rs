//! Signals to all runs with a tag.
//!
//! ```text
//!   one event for each shard:   signal_tagged  ──►  frame n      signalled_by_tag × k, tag_reached { runs: k }
//!   ids: of the shard, S                            frame n+1    signalled_by_tag × m, tag_reached { runs: k+m, all }
//!        of a run, from S and its series' first run  ack, answer
//! ```
//! All runs of the shard that carry the tag, in the order of the first runs of their series, get their own copy of the event, and
//! from there it is a signal like any other: applied, or taken in where it cannot be yet. The invariants:
//!
//! 1. *A series of runs takes it once.* Its copy has an id that follows from the event and the series' first run, and stands
//!    in history with the record that takes it. Whoever goes on after a crash, or is given the event again, finds it there.
//! 2. *A series that carries the tag when the event comes, and until all have it, has it.* The event is not let go before the
//!    frame that says `all`. Until then whoever has the shard goes through them, and a series that goes on as another run
//!    meanwhile stays in its place.
//! 3. *Behind `all` nobody gets it.* The event's own id is remembered by that record, as that of any input.
//!
//! A frame that is full does not end it: the event stays at the head of what arrived, with the series that it came to. That place
//! is no knowledge: without it all runs are looked through once more.

use everpulse_protocol::RunId;
use everpulse_protocol::event::Event;
use everpulse_protocol::history::RecordBody;
use everpulse_protocol::reply::ReplyBody;

use super::{Applier, FRAME_BYTES};
use crate::mutation::{self, Mutation};

/// A frame is full, too, when so many commands came of it.
const SENDS_MAX: usize = 1_024;

/// How far a signal by tag has come in this round.
#[derive(Debug, Default)]
pub(crate) struct Tagged {
    /// The last series that it was given to; at first that of the round before.
    pub after: Option<RunId>,
    /// The runs that its acknowledgement waits for.
    pub runs: Vec<RunId>,
    /// The frame is full, and there are more.
    pub goes_on: bool,
}

impl Applier<'_> {
    /// Gives a signal to all open runs with a tag, or to as many as the frame has room for.
    pub(super) fn signal_tagged(&mut self, event: Event, tag: &str, suspect: bool) {
        let known = self.book.reached(event.id);
        let is_taken_again = mutation::is(Mutation::ForgetsInputs) || mutation::is(Mutation::TaggedTakeTwice);
        if self.book.inputs.contains_key(&event.id) && !is_taken_again {
            // Whoever had these runs is gone, as far as can be told.
            let runs = self.book.took_at_hand(event.id, tag);
            self.round.orphaned.extend(&runs);
            self.round.tagged.runs = runs;
            let answer = known.map_or(ReplyBody::Accepted, |known| ReplyBody::Reached { runs: known.runs });
            return self.reply(event.reply_to.as_ref(), answer);
        }
        let Some(event) = self.timely(event, "the signal by tag") else { return };
        let mut runs = known.map_or(0, |known| known.runs);
        let goes_on = loop {
            let Some((first, run_id)) = self.book.next_tagged(tag, self.round.tagged.after) else { break false };
            if self.round.bytes >= FRAME_BYTES || self.round.sends.len() >= SENDS_MAX {
                break true;
            }
            self.round.tagged.after = Some(first);
            runs += u32::from(self.give_copy((first, run_id), &event, suspect));
        };
        self.round.tagged.goes_on = goes_on && !mutation::is(Mutation::OneFrameOfTagged);
        let all = !self.round.tagged.goes_on;
        let since = known.map_or(self.frame, |known| known.since);
        let reached = RecordBody::TagReached { event: event.id, tag: tag.to_owned(), since, runs, all };
        self.record_of_shard(event.id, &reached);
        if all {
            self.reply(event.reply_to.as_ref(), ReplyBody::Reached { runs });
        }
    }

    /// Gives a run its own copy, unless it has it. False if it has.
    fn give_copy(&mut self, (first, run_id): (RunId, RunId), event: &Event, suspect: bool) -> bool {
        let Some(run) = self.book.runs.get(&run_id) else { return false };
        let (id, workflow_id) = (event.id.for_run(first), run.workflow_id.clone());
        self.round.tagged.runs.push(run_id);
        if self.book.inputs.contains_key(&id) && !mutation::is(Mutation::TaggedTakeTwice) {
            self.round.orphaned.push(run_id);
            return false;
        }
        let copy = Event { id, workflow_id, run_id: Some(run_id), exact: false, reply_to: None, ..event.clone() };
        self.take(run_id, copy, suspect);
        true
    }
}
