//! What became of a frame or a check: it stands, it is void, or somebody else wrote.

use bytes::Bytes;
use everpulse_protocol::chain::{Chain, Offered, Opening, Unknown};
use everpulse_protocol::history::Hash;
use everpulse_protocol::{Position, RunId, Timestamp};

use super::carry::Carry;
use super::{Flight, Phase, Shard};
use crate::effect::{Effect, LocalResult};
use crate::mutation::{self, Mutation};
use crate::round::Round;

/// What was found behind the last entry that was read.
pub(super) enum ReadOn {
    Nothing,
    Ours(Option<Position>),
    Foreign,
    Hole,
    /// A frame that this release does not know stands there, or may.
    Unknown(Unknown),
}

impl Shard {
    pub(super) fn read_on(&mut self, entries: &[(Position, Bytes)], ours: Option<Hash>) -> ReadOn {
        for (position, payload) in entries {
            if self.chain.read_to().is_some_and(|read_to| *position <= read_to) {
                continue;
            }
            match self.chain.offer(*position, payload) {
                Offered::Stands(_) if ours == Some(Hash::of(payload)) => return ReadOn::Ours(Some(*position)),
                Offered::Stands(_) => return ReadOn::Foreign,
                Offered::Hole { .. } => return ReadOn::Hole,
                Offered::Unknown(unknown) => return ReadOn::Unknown(unknown),
                Offered::Void(_) | Offered::Unreadable(_) => {}
            }
        }
        ReadOn::Nothing
    }

    /// The book is current: what a round decided without appending takes effect.
    pub(super) fn current(&mut self, round: Round, now: Timestamp) {
        self.phase = Phase::Ready;
        self.release(round, None, now);
        self.book.lay_down(self.options.runs_at_hand_max);
        self.save_when_due();
    }

    /// Our frame is on the chain: what it caused takes effect.
    pub(super) fn stands(&mut self, mut flight: Flight, position: Option<Position>, now: Timestamp) {
        self.phase = Phase::Ready;
        self.doubts.clear();
        self.tell_observers(&mut flight.round);
        if let Some(position) = position {
            self.book.place(flight.number, position, flight.round.ended.iter().copied());
            self.carry.note(flight.number, position, flight.at, flight.bytes, self.options.retention_ms);
        }
        self.proven_next = flight.number + 1;
        if !flight.round.starts.is_empty() {
            self.own_frames.insert(flight.number);
        }
        self.runs_closed += flight.round.ended.len() as u64;
        self.revival.stands(&flight.round.revived, &flight.round.unsteady);
        if flight.round.ends_carrying {
            self.trim();
        }
        self.release(flight.round, Some(flight.number), now);
        self.book.evict(self.options.live_runs_max);
        self.book.lay_down(self.options.runs_at_hand_max);
        self.save_when_due();
    }

    fn tell_observers(&mut self, round: &mut Round) {
        let events = std::mem::take(&mut round.observed);
        if !events.is_empty() {
            self.effects.push_back(Effect::Observe { events });
        }
    }

    /// Our frame is not on the chain, or its fate is open.
    pub(super) fn void(&mut self, flight: Flight) {
        self.voids += 1;
        tracing::debug!(shard = self.shard, number = flight.number, "frame is void; the shard is read anew");
        self.doubt(&flight);
        self.throw_away(flight.round, flight.locals);
    }

    /// Our frame stands, and so does another's behind it. What ours asks for, nobody else does before long: it is read anew
    /// at once, though nothing may have arrived.
    pub(super) fn overtaken(&mut self, mut flight: Flight) {
        // It happened, whoever goes on with it.
        self.tell_observers(&mut flight.round);
        tracing::debug!(shard = self.shard, number = flight.number, "another one wrote behind a frame that stands");
        self.heed(&flight.round);
        self.throw_away(flight.round, flight.locals);
        self.begin_loading();
    }

    /// What lies behind what was read cannot be told here: nothing of what was decided takes effect, and nothing is
    /// acknowledged. A frame of ours may stand; then whoever can read on does what it asks for.
    pub(super) fn give_up(&mut self, round: Round, locals: Vec<(RunId, u32, LocalResult)>, unknown: &Unknown) {
        self.throw_away(round, locals);
        self.refuse_unknown(unknown);
    }

    /// Throws the book away; what is held is applied again to what history says.
    pub(super) fn throw_away(&mut self, round: Round, locals: Vec<(RunId, u32, LocalResult)>) {
        self.news.extend(&round.orphaned);
        for task in &round.reserved {
            self.eager.release(*task);
        }
        let locals = if mutation::is(Mutation::VoidLosesResults) { Vec::new() } else { locals };
        for local in locals.into_iter().rev() {
            self.local_results.push_front(local);
        }
        self.sent_floor = self.sent_floor.max(self.sent_below(self.proven_next));
        self.parked_unsent.clear();
        self.marks.clear();
        self.book.reset();
        self.chain = Chain::new();
        self.opening = Opening::new();
        self.carry = Carry::default();
        self.holds.clear();
        self.early.clear();
        self.locals.clear();
        // Whoever loads the shard finds in history what is still open of it.
        for key in std::mem::take(&mut self.handed) {
            self.running.remove(&key);
        }
        self.own_frames.clear();
        self.recovering.clear();
        self.trials.clear();
        self.survived.clear();
        self.revival.forget();
        if mutation::is(Mutation::VoidLosesInputs) {
            for (token, _) in &round.taken {
                self.deliveries.remove(token);
                self.effects.push_back(Effect::Ack { token: *token });
            }
        }
        self.arrived = self.deliveries.keys().copied().collect();
        for kept in self.deliveries.values_mut() {
            kept.next = 0;
            kept.tagged_after = None;
            kept.early = 0;
            kept.taken = false;
            kept.runs.clear();
        }
        self.phase = Phase::Cold;
    }
}
