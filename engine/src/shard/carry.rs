//! Carrying and trimming: when history is older than the retention, all that is still needed of it is written again at
//! its end, and then it can go (rule 8). Here is decided when, and up to where; what is written is in [`sweep`].
//!
//! ```text
//!   │ old history          │ the retention                             │
//!   ├──────────────────────┼───────────────────────────────────────────┤
//!   0 .. open runs, ids .. border ..   carried  carried   remembered: "from the border on"
//!        └──────────────────────────────►┘        ▲         │
//!                                       verified ─┴─────────┘ stands: trim up to the border
//! ```
//!
//! A *carrying* begins when what can go is at least as much as what has to be carried, so over time no more is carried
//! than history grows, and history is at most about the retention and twice the open runs. It goes on in small steps, a
//! piece of a frame every few milliseconds, among whatever else is appended. What it has done is in no other place
//! than history: whoever comes after an owner that died, or lost to another one, takes the first border that is worth
//! it, which hardly moves, and goes on with what does not stand behind it yet.
//!
//! The frame that ends it says what can go. It has verified the frame before it, and the border is at or before that one:
//! so whoever loads finds an anchor, and a trim that comes late repeats one that was safe.
//!
//! Who finds something in history that it passes over (a later release's fields, say) carries nothing and trims nothing: what
//! it wrote again would lack that. It stands where it stands, until somebody has the shard who knows it.
//!
//! Ids are forgotten in the same frame, or by a record in any other that lets nothing go: for that nothing has to be
//! carried.

use std::collections::VecDeque;

use everpulse_protocol::history::{QueueMark, RecordBody, Window};
use everpulse_protocol::{Position, Timestamp};

use self::sweep::{Carrying, ID_BYTES, Sweep};
use serde::{Deserialize, Serialize};

use super::Shard;
use crate::effect::Effect;
use crate::mutation::{self, Mutation};
use crate::round::{FRAME_BYTES, Round};

mod sweep;

/// So much is carried at a time, about.
const PIECE_BYTES: usize = 32 * 1024;
/// A piece rides on a frame that is full, or none would ever go while inputs wait; not on one that is larger than this.
const FULL_BYTES: usize = 4 * FRAME_BYTES;
/// Between two pieces.
const PACE_MS: u64 = 20;
/// Clocks of clients and workers may differ by a quarter of the memory of ids, and at most by this.
const SKEW_MS_MAX: u64 = 300_000;
/// When nothing arrived for so long, nothing waits in the inbox.
const QUIET_MS: u64 = 60_000;
/// So much is left where nobody comes to a shard: to look after it writes frames, too.
const LEFT_BYTES: u64 = 8 * 1024;
/// Frames are marked so far apart that there are at most about so many marks in the retention.
const MARKS: u64 = 64;
/// In so many steps goes by what is remembered.
const MEMORY_STEPS: u64 = 16;
/// A closed run with its names takes the room of so many more ids.
const CLOSED_IDS: usize = 5;

/// Where a shard's history could be cut, and the carrying that is under way.
#[derive(Debug, Default)]
pub(super) struct Carry {
    /// The number of the first frame that stands, as it was read.
    pub first: Option<u64>,
    /// When what was loaded was first looked at.
    loaded_at: Option<Timestamp>,
    /// What waited in the inbox then has arrived since.
    caught_up: bool,
    /// Some frames that stand, in their order, of those that are still there.
    marks: VecDeque<Mark>,
    /// What was read or appended since the marks began, in bytes.
    bytes: u64,
    /// So much of it can be trimmed already.
    gone: u64,
    carrying: Option<Carrying>,
    /// The tail was asked for before a carrying begins.
    looked: bool,
    /// Not before this the next piece, or the next carrying.
    next: Timestamp,
    /// Not before this it is looked for ids that can be forgotten.
    next_forgetting: Timestamp,
}

/// What was heard of the time from others. It outlives what was loaded.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// When the last message arrived.
    pub last: Timestamp,
    /// When the newest event was issued that arrived, of whatever kind.
    pub newest: Timestamp,
    /// So late it is by the clocks of others: of clients, when they issued what was taken, and of the broker, which held
    /// a wake-up until it was due.
    pub witnessed: Timestamp,
}

/// Where history could be cut, as far as it was read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cuts {
    first: Option<u64>,
    marks: VecDeque<Mark>,
    bytes: u64,
    gone: u64,
}

/// A standing frame at which history can be cut: it is the last that goes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Mark {
    number: u64,
    position: Position,
    at: Timestamp,
    /// Up to and including this frame, as [`Carry::bytes`] counts.
    bytes: u64,
}

impl Carry {
    /// Goes on where another reading ended.
    pub fn resume(cuts: Cuts) -> Self {
        let Cuts { first, marks, bytes, gone } = cuts;
        Self { first, marks, bytes, gone, ..Self::default() }
    }

    pub fn cuts(&self) -> Cuts {
        Cuts { first: self.first, marks: self.marks.clone(), bytes: self.bytes, gone: self.gone }
    }

    /// How much was read or appended.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A frame stands.
    pub fn note(&mut self, number: u64, position: Position, at: Timestamp, bytes: usize, retention_ms: u64) {
        self.bytes += bytes as u64;
        self.first.get_or_insert(number);
        let far = |last: &Mark| at.0.saturating_sub(last.at.0) * MARKS >= retention_ms;
        if self.marks.back().is_none_or(far) {
            self.marks.push_back(Mark { number, position, at, bytes: self.bytes });
        }
    }

    /// The first border with which at least so many bytes go. It has to lie before the last frame.
    fn border(&self, worth: u64, next_number: u64) -> Option<Mark> {
        let going = |mark: &Mark| mark.bytes.saturating_sub(self.gone);
        let first = self.marks.partition_point(|mark| going(mark) < worth);
        self.marks.get(first).filter(|mark| mark.number + 2 <= next_number).copied()
    }

    /// Forgets the marks of what is gone.
    fn trimmed(&mut self, first: u64) {
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.number < first) {
            self.gone = mark.bytes;
        }
    }
}

impl Shard {
    /// So much has to be there that can go: all that has to be carried may stand in it, carried before, and as much again.
    fn worth_trimming(&self) -> u64 {
        let mut carried = self.book.open_bytes;
        if self.options.id_memory_ms > self.options.retention_ms {
            carried += (self.book.inputs.len() + CLOSED_IDS * self.book.closed.len()) * ID_BYTES;
        }
        self.options.trim_bytes_min.max(2 * carried as u64).max(1)
    }

    /// Whether some of history can go, now or once it is old enough, so that somebody has to come.
    pub(super) fn has_to_carry(&self) -> bool {
        if self.book.passes_over {
            return false;
        }
        let left = self.carry.bytes - self.carry.gone;
        self.carry.carrying.is_some() || left >= self.worth_trimming().max(LEFT_BYTES)
    }

    /// When the next piece is to be carried, or the next carrying begins.
    pub(super) fn carrying_due(&self) -> Option<Timestamp> {
        if self.draining || self.book.passes_over {
            return None;
        }
        if self.carry.carrying.is_some() || self.carry.looked {
            return Some(self.carry.next);
        }
        let retention = self.options.retention_ms;
        // Whoever has the shard begins when it appends something anyway. For the others (it may be nobody's) the moments
        // differ, so that they do not all look after it at once.
        let jitter = self.writer.0.as_u64_pair().1 % (retention / MARKS + 1);
        let border = self.carry.border(self.worth_trimming(), self.chain.next_number())?;
        let due = Timestamp((border.at.0 + jitter).saturating_add(retention)).max(self.carry.next);
        if self.forgets_first() {
            return self.deliveries.is_empty().then(|| due.max(self.quiet_at()));
        }
        Some(due)
    }

    /// Where no run is open there is no haste: first it is known what can be forgotten, so that it is not carried.
    fn forgets_first(&self) -> bool {
        self.book.open_runs() == 0 && !self.carry.caught_up
    }

    /// When nothing waits in the inbox, if nothing comes until then.
    fn quiet_at(&self) -> Timestamp {
        Timestamp(self.carry.loaded_at.unwrap_or_default().max(self.heard.last).0 + QUIET_MS)
    }

    /// The marks of a frame: with the last one of a carrying also those that stand in earlier frames.
    pub(super) fn queue_marks(&mut self, sent_below: u64, all: bool) -> Vec<QueueMark> {
        let ripe = self.marks.ripe(sent_below);
        if !all {
            return ripe;
        }
        let mut queues = self.book.queues.clone();
        queues.extend(ripe.into_iter().map(|mark| (mark.queue, mark.position)));
        queues.into_iter().map(|(queue, position)| QueueMark { queue, position }).collect()
    }

    /// How long ids are remembered.
    fn memory_ms(&self) -> u64 {
        self.options.id_memory_ms.max(self.options.retention_ms)
    }

    /// By how much clocks of clients and workers may differ.
    pub(super) fn skew_ms(&self) -> u64 {
        SKEW_MS_MAX.min(self.memory_ms() / 4)
    }

    /// Whether all has arrived that waited in the inbox when history was loaded. Inputs arrive in the order in which
    /// they were published.
    fn has_caught_up(&mut self, at: Timestamp) -> bool {
        let loaded_at = *self.carry.loaded_at.get_or_insert(at);
        let is_quiet = self.deliveries.is_empty() && at >= self.quiet_at();
        self.carry.caught_up |= is_quiet || self.heard.newest.0 > loaded_at.0 + self.skew_ms();
        self.carry.caught_up
    }

    /// Adds a piece of what has to be carried to the round, when it is time.
    pub(super) fn carry_forward(&mut self, round: &mut Round, number: u64, at: Timestamp) {
        let caught_up = self.has_caught_up(at);
        if self.draining || self.book.passes_over || round.bytes >= FULL_BYTES {
            return;
        }
        if self.carry.carrying.is_none() && !self.begin_carrying(round, at, caught_up) {
            return self.forget_some(round, number, at, caught_up);
        }
        if at < self.carry.next {
            return;
        }
        let end = round.bytes + PIECE_BYTES;
        let Some(mut carrying) = self.carry.carrying.take() else { return };
        let mut sweep = Sweep { shard: self.shard, book: &mut self.book, round, number, at, end };
        if carrying.go_on(&mut sweep) {
            round.ends_carrying = true;
        } else {
            self.carry.carrying = Some(carrying);
        }
        self.carry.next = Timestamp(at.0 + PACE_MS);
    }

    /// Begins a carrying, if it is worth it; false if it is not.
    fn begin_carrying(&mut self, round: &mut Round, at: Timestamp, caught_up: bool) -> bool {
        let next_number = self.chain.next_number();
        let is_old = |mark: &Mark| mark.at.0.saturating_add(self.options.retention_ms) <= at.0;
        let Some(border) = self.carry.border(self.worth_trimming(), next_number).filter(is_old) else {
            self.carry.looked = false;
            return false;
        };
        if at < self.carry.next || self.forgets_first() {
            return false;
        }
        // An owner that went to sleep here may not know that another one has the shard, and does the same. It looks
        // first, at no cost to that one; where something is appended anyway, that is the look.
        if round.records.is_empty() && !self.carry.looked {
            self.carry.looked = true;
            round.decides = true;
            return true;
        }
        self.carry.looked = false;
        let window = Window { first: border.number + 1, ..self.remembering(at, caught_up) };
        self.carry.carrying = Some(Carrying::new(&self.book, window));
        if mutation::is(Mutation::TrimsBeforeCarried) {
            self.effects.push_back(Effect::Trim { upto: border.position });
        }
        tracing::debug!(shard = self.shard, first = window.first, "history is carried forward");
        true
    }

    /// The window of now that lets nothing go: since when ids are known, and before when inputs are refused.
    ///
    /// What is forgotten must never be applied again: it was issued before `expired`. That holds since nothing is taken
    /// that was issued later than its record's time and the skew (`round::inputs`), and `expired` is later than `since`
    /// by the skew.
    fn remembering(&self, at: Timestamp, caught_up: bool) -> Window {
        let (memory, skew) = (self.memory_ms(), self.skew_ms());
        let known = self.book.window;
        // What waits in the inbox since nobody worked on the shard may be older than the memory: nothing is forgotten
        // until it was taken. Nor is anything on the word of this clock alone, which may be wrong by days: what is newer
        // than the newest that others said is never too old.
        let since = match caught_up {
            true => at.0.saturating_sub(memory).min(self.heard.witnessed.0.saturating_sub(skew)),
            false => 0,
        };
        let since = Timestamp(since).max(known.since);
        let expired = if since == known.since { known.expired } else { Timestamp(since.0 + skew).max(known.expired) };
        Window { since, expired, ..known }
    }

    /// Forgets ids where no carrying does, so that they cost neither memory nor a carrying for longer than they must.
    /// It needs no time of its own: there is more to forget only when others said how late it is.
    fn forget_some(&mut self, round: &mut Round, number: u64, at: Timestamp, caught_up: bool) {
        if round.records.is_empty() || at < self.carry.next_forgetting {
            return;
        }
        self.carry.next_forgetting = Timestamp(at.0 + self.memory_ms() / MEMORY_STEPS);
        let window = self.remembering(at, caught_up);
        if !self.book.would_forget(window.since) {
            return;
        }
        let body = RecordBody::Remembered { closed: Vec::new(), inputs: Vec::new(), window: Some(window) };
        let end = round.bytes;
        Sweep { shard: self.shard, book: &mut self.book, round, number, at, end }.write(None, &body);
    }

    /// What history calls not needed any more can go.
    pub(super) fn trim(&mut self) {
        if self.book.passes_over {
            return;
        }
        let first = self.book.window.first;
        let last = self.carry.marks.iter().take_while(|mark| mark.number < first).last();
        let Some(last) = last.copied() else { return };
        self.carry.trimmed(first);
        let too_far = u64::from(mutation::is(Mutation::TrimsOneTooFar));
        let upto = Position { entry: last.position.entry + too_far, ..last.position };
        self.effects.push_back(Effect::Trim { upto });
    }
}
