//! What it says that a known input comes: whoever had it is gone, and local work of its run may be nobody's.
//!
//! It says that once. When the book is thrown away all that is held is applied again, and is known where it took effect; the
//! owner before this one may be about to leave, and do its local work to the end. So what took effect is *heeded*: what a round
//! took that was appended, or asked for the tail, and was released; and what is found in a frame of ours whose fate was open, or
//! that was overtaken. What such a round itself knew to be news is kept for the next one, for nobody has acted upon it.
//!
//! Nor is it news where runs of other shards say once more what they may have said before (`Event::again`).

use everpulse_protocol::Position;
use everpulse_protocol::history::Hash;

use super::{Flight, Shard};
use crate::effect::DeliveryToken;
use crate::round::Round;

/// So many frames in doubt are remembered: of an older one that stands after all, what it took is news once more.
const DOUBTS_MAX: usize = 32;

/// A frame of ours that was taken for void. If it stands after all, what it took took effect.
#[derive(Debug)]
pub(super) struct Doubt {
    pub number: u64,
    hash: Hash,
    /// Where it lies, if it was met.
    position: Option<Position>,
    /// Of these messages the events before these.
    took: Vec<(DeliveryToken, usize)>,
}

impl Shard {
    /// How far a round took which messages. One with a signal that waits for its run is not taken yet.
    fn took(&self, round: &Round) -> Vec<(DeliveryToken, usize)> {
        let is_taken = |token: &DeliveryToken| self.deliveries.get(token).filter(|kept| kept.early == 0);
        round.touches.iter().filter_map(|token| Some((*token, is_taken(token)?.next))).collect()
    }

    /// A round took effect.
    pub(super) fn heed(&mut self, round: &Round) {
        for (token, next) in self.took(round) {
            self.heed_below(token, next);
        }
    }

    fn heed_below(&mut self, token: DeliveryToken, next: usize) {
        if let Some(kept) = self.deliveries.get_mut(&token) {
            kept.heeded = kept.heeded.max(next);
        }
    }

    /// A frame is taken for void, and may stand.
    pub(super) fn doubt(&mut self, flight: &Flight) {
        if self.doubts.len() == DOUBTS_MAX {
            self.doubts.remove(0);
        }
        let took = self.took(&flight.round);
        self.doubts.push(Doubt { number: flight.number, hash: flight.hash, position: None, took });
    }

    /// An entry is read: it may be a frame of ours that is in doubt.
    pub(super) fn meet_doubt(&mut self, position: Position, payload: &[u8]) {
        if !self.doubts.is_empty() {
            let hash = Hash::of(payload);
            self.doubts.iter_mut().filter(|doubt| doubt.hash == hash).for_each(|doubt| doubt.position = Some(position));
        }
    }

    /// The frame at a position stands.
    pub(super) fn dispel_doubt(&mut self, position: Position) {
        let dispelled: Vec<Doubt> = self.doubts.extract_if(.., |doubt| doubt.position == Some(position)).collect();
        for (token, next) in dispelled.into_iter().flat_map(|doubt| doubt.took) {
            self.heed_below(token, next);
        }
    }
}
