//! What a shard keeps for its next life, and when it believes it.
//!
//! ```text
//!   history   ── 40 ── 41 ── 42 ── 43 ── 44 ── 45        what was saved is true for frame 42:
//!                             ▲     └─────┴─────┴─ read   if that stands where it says, only these are read;
//!   saved     position, hash ─┘                           if not, or after a hole, all of history is
//! ```
//!
//! It is a cache, not a second truth: everything in it follows from the frames up to the one that it names. The entry
//! at that position is read first. If its hash is another one, or there is none, the cache is of another partition,
//! or older than what was trimmed. From there on the chain decides, as for any reader that was away for a while: whoever
//! missed a frame meets one that has verified more than it knows, and the tail is asked for after all was read.
//!
//! It is written when history has grown by as much as the last one took, or as much was laid on the shelf, which can let go of
//! what nobody needs only then. So a restart reads no more frames than cache.

use std::collections::BTreeSet;

use bytes::Bytes;
use everpulse_protocol::chain::{Chain, Opening, Tail};
use everpulse_protocol::history::Hash;
use everpulse_protocol::{Position, RunId, WriterId};
use serde::{Deserialize, Serialize};

use super::carry::{Carry, Cuts};
use super::{Phase, Shard};
use crate::book::Book;
use crate::book::saved::Saved;
use crate::effect::{Effect, LocalResult};
use crate::round::Round;

/// Whatever changes in what is saved, in how a book is folded from records, or in a record's bytes, changes this. Another
/// release of the crate reads no cache either.
const VERSION: (u32, &str) = (4, env!("CARGO_PKG_VERSION"));

/// A shelf that loses what was laid there so often is not used any more.
const DAMAGES_MAX: u32 = 3;

/// When the cache is written.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// As [`Carry::bytes`] counted when it was written last.
    at: u64,
    /// How large it was.
    bytes: u64,
    /// How often something that was laid on the shelf could not be read.
    damages: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cached {
    shard: u32,
    writer: WriterId,
    number: u64,
    hash: Hash,
    position: Position,
    cuts: Cuts,
    /// Frames of the writer with local work that is open: nobody else does it, while the writer lives.
    own_frames: BTreeSet<u64>,
    book: Saved,
}

impl Shard {
    /// Begins to load: from what was saved, if there is something.
    pub(super) fn begin_loading(&mut self) {
        let saved = self.book.shelved.shelf().load();
        let cached = saved.and_then(|saved| decode(&saved)).filter(|cached| cached.shard == self.shard);
        self.phase = match cached {
            Some(cached) => {
                let id = self.fresh_id();
                self.effects.push_back(Effect::Fetch { id, position: cached.position });
                Phase::LoadCache { id, cached: Box::new(cached) }
            }
            None => {
                self.begin_without_cache();
                Phase::LoadTail { id: self.ask_tail() }
            }
        };
    }

    /// All of history is read: what is on the shelf is of no use.
    pub(super) fn begin_without_cache(&mut self) {
        self.forget_history();
        self.book.shelved.shelf().clear();
    }

    /// What was read is forgotten; what is on the shelf is as true as it was.
    pub(super) fn forget_history(&mut self) {
        self.book.reset();
        self.carry = Carry::default();
        self.opening = Opening::new();
        self.pace.at = 0;
    }

    /// The entry at the position that the cache names; none if there is none, or it could not be read.
    pub(super) fn take_cache(&mut self, cached: Cached, payload: Option<&Bytes>) {
        let Cached { writer, number, hash, position, cuts, own_frames, book, .. } = cached;
        if payload.is_some_and(|payload| Hash::of(payload) == hash) && self.book.resume(book) {
            tracing::debug!(shard = self.shard, number, "history is read from where the cache ends");
            self.opening = Opening::resume(Chain::after(Tail { number, hash, position }));
            self.carry = Carry::resume(cuts);
            self.pace.at = self.carry.bytes();
            if writer == self.writer {
                self.own_frames = own_frames;
                // They were taken in or counted here before the cache was written, and here we are.
                let received = self.book.runs.values().flat_map(|run| &run.received);
                self.survived = received.map(|received| received.event.id).collect();
            }
        } else {
            tracing::info!(shard = self.shard, number, "the cache is not of this history, which is read as a whole");
            self.begin_without_cache();
        }
        self.phase = Phase::LoadTail { id: self.ask_tail() };
    }

    /// Something that was laid on the shelf could not be read again: nothing that the book says is to be trusted, and
    /// nothing that a round decided by it.
    pub(super) fn begin_anew(&mut self, round: Round, locals: Vec<(RunId, u32, LocalResult)>) {
        self.throw_away(round, locals);
        self.clear_damaged();
        self.phase = Phase::LoadTail { id: self.ask_tail() };
    }

    /// Nothing of the shelf is used again; and the shelf itself is not, when that happens again and again.
    pub(super) fn clear_damaged(&mut self) {
        tracing::warn!(shard = self.shard, "the cache is damaged; all of history is read");
        self.begin_without_cache();
        self.pace.damages += 1;
        if self.pace.damages >= DAMAGES_MAX {
            tracing::warn!(shard = self.shard, "runs that wait stay in memory until this worker starts again");
            self.book = Book::default();
        }
    }

    /// Writes the cache if history has grown enough. The book is as the last frame left it, which stands.
    pub(super) fn save_when_due(&mut self) {
        let grown = self.carry.bytes().saturating_sub(self.pace.at).max(self.book.shelved.written());
        // What is still to be done after loading is found in what was loaded.
        if grown >= self.options.save_bytes_min.max(self.pace.bytes) && !self.loaded && self.recovering.is_empty() {
            self.save();
        }
    }

    /// The process leaves: what it knows is kept for the next one.
    pub fn handle_leave(&mut self) {
        let is_ready = matches!(self.phase, Phase::Ready) && !self.loaded && self.recovering.is_empty();
        if is_ready && self.carry.bytes() > self.pace.at {
            self.save();
        }
    }

    fn save(&mut self) {
        // The first entry of a ledger cannot be asked for alone.
        let Some(Tail { number, hash, position }) = self.chain.tail().filter(|tail| tail.position.entry > 0) else {
            return;
        };
        let Some(book) = self.book.save() else { return };
        self.forget_own_frames(number + 1);
        let cached = Cached {
            shard: self.shard,
            writer: self.writer,
            number,
            hash,
            position,
            cuts: self.carry.cuts(),
            own_frames: self.own_frames.clone(),
            book,
        };
        let bytes =
            rmp_serde::to_vec_named(&(VERSION, cached)).expect("there is nothing in it that MessagePack cannot write");
        self.book.shelved.shelf().save(&bytes);
        self.book.shelved.forget_written();
        (self.pace.at, self.pace.bytes) = (self.carry.bytes(), bytes.len() as u64);
    }
}

fn decode(saved: &[u8]) -> Option<Cached> {
    let (version, cached): ((u32, String), Cached) = rmp_serde::from_slice(saved).ok()?;
    (version.0 == VERSION.0 && version.1 == VERSION.1).then_some(cached)
}
