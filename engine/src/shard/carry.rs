//! Carrying and trimming: when history is older than the retention, all that is still needed of it is written again at
//! its end, and then it can go (rule 8).
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
//! than history: an owner that dies, or finds that another one wrote, begins again.
//!
//! The frame that ends it says what can go. It has verified the frame before it, and the border is at or before that one:
//! so whoever loads finds an anchor, and a trim that comes late repeats one that was safe.

use std::collections::VecDeque;

use everpulse_protocol::codec::Body;
use everpulse_protocol::history::{ClosedRun, QueueMark, Record, RecordBody, Window};
use everpulse_protocol::{EventId, Position, RunId, Timestamp, shard};

use super::Shard;
use crate::effect::Effect;
use crate::round::{FRAME_BYTES, Round};

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
/// Frames are marked so far apart that there are at most about so many marks in the retention.
const MARKS: u64 = 64;
/// About how much room an id takes in a frame.
const ID_BYTES: usize = 48;
/// A closed run with its names takes so much more.
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
    /// Not before this the next piece, or the next carrying.
    next: Timestamp,
}

/// A standing frame at which history can be cut: it is the last that goes.
#[derive(Debug, Clone, Copy)]
struct Mark {
    number: u64,
    position: Position,
    at: Timestamp,
    /// Up to and including this frame, as [`Carry::bytes`] counts.
    bytes: u64,
}

#[derive(Debug)]
struct Carrying {
    window: Window,
    /// Runs that are still to be carried, the next one last.
    runs: Vec<RunId>,
    /// The run of which some pieces are carried, with how many and where the next one begins.
    begun: Option<(RunId, u32, usize)>,
    /// Once all runs are carried: what is still to be remembered.
    ids: Option<Ids>,
}

#[derive(Debug)]
struct Ids {
    closed: Vec<RunId>,
    inputs: Vec<EventId>,
}

impl Carry {
    /// A frame stands.
    pub fn note(&mut self, number: u64, position: Position, at: Timestamp, bytes: usize, retention_ms: u64) {
        self.bytes += bytes as u64;
        self.first.get_or_insert(number);
        let far = |last: &Mark| at.0.saturating_sub(last.at.0) * MARKS >= retention_ms;
        if self.marks.back().is_none_or(far) {
            self.marks.push_back(Mark { number, position, at, bytes: self.bytes });
        }
    }

    /// The last frame that goes if everything before `at` goes.
    fn last_before(&self, at: Timestamp, next_number: u64) -> Option<Mark> {
        let old = self.marks.partition_point(|mark| mark.at <= at && mark.number + 2 <= next_number);
        self.marks.get(old.checked_sub(1)?).copied()
    }

    /// How much goes with the frames up to a mark.
    fn going_at(&self, mark: &Mark) -> u64 {
        mark.bytes.saturating_sub(self.gone)
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

    /// When the next piece is to be carried, or the next carrying begins.
    pub(super) fn carrying_due(&self) -> Option<Timestamp> {
        if self.draining {
            return None;
        }
        if self.carry.carrying.is_some() {
            return Some(self.carry.next);
        }
        let (worth, next_number) = (self.worth_trimming(), self.chain.next_number());
        let first = self.carry.marks.partition_point(|mark| self.carry.going_at(mark) < worth);
        let mark = self.carry.marks.get(first).filter(|mark| mark.number + 2 <= next_number)?;
        Some(Timestamp(mark.at.0.saturating_add(self.options.retention_ms)).max(self.carry.next))
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

    /// How long ids are remembered, and by how much clocks may differ.
    fn memory(&self) -> (u64, u64) {
        let memory = self.options.id_memory_ms.max(self.options.retention_ms);
        (memory, SKEW_MS_MAX.min(memory / 4))
    }

    /// Whether all has arrived that waited in the inbox when history was loaded. Inputs arrive in the order in which
    /// they were published.
    fn has_caught_up(&mut self, at: Timestamp) -> bool {
        let loaded_at = *self.carry.loaded_at.get_or_insert(at);
        let (last_arrival, newest_sent) = self.arrivals;
        let is_quiet = self.deliveries.is_empty() && at.0 >= loaded_at.max(last_arrival).0 + QUIET_MS;
        self.carry.caught_up |= is_quiet || newest_sent.0 > loaded_at.0 + self.memory().1;
        self.carry.caught_up
    }

    /// Adds a piece of what has to be carried to the round, when it is time.
    pub(super) fn carry_forward(&mut self, round: &mut Round, number: u64, at: Timestamp) {
        let caught_up = self.has_caught_up(at);
        if self.draining || at < self.carry.next || round.bytes >= FULL_BYTES {
            return;
        }
        if self.carry.carrying.is_none() {
            self.carry.carrying = self.begin_carrying(at, caught_up);
        }
        let Some(mut carrying) = self.carry.carrying.take() else { return };
        self.carry.next = Timestamp(at.0 + PACE_MS);
        let end = round.bytes + PIECE_BYTES;
        while round.bytes < end && self.carry_run(&mut carrying, round, number, at, end) {}
        while round.bytes < end && self.carry_ids(&mut carrying, round, number, at, end) {}
        if round.bytes < end {
            let window = Some(carrying.window);
            let body = RecordBody::Remembered { closed: Vec::new(), inputs: Vec::new(), window };
            self.write_carried(round, None, &body, number, at);
            round.ends_carrying = true;
            self.carry.next = Timestamp(at.0 + self.options.retention_ms / MARKS);
        } else {
            self.carry.carrying = Some(carrying);
        }
    }

    fn begin_carrying(&self, at: Timestamp, caught_up: bool) -> Option<Carrying> {
        let next_number = self.chain.next_number();
        let border = Timestamp(at.0.checked_sub(self.options.retention_ms)?);
        let mark = self.carry.last_before(border, next_number)?;
        if self.carry.going_at(&mark) < self.worth_trimming() {
            return None;
        }
        let (memory, skew) = self.memory();
        // What waits in the inbox since nobody worked on the shard may be older than the memory: nothing is forgotten
        // until it was taken.
        let since = if caught_up { Timestamp(at.0.saturating_sub(memory)) } else { Timestamp(0) };
        let since = since.max(self.book.window.since);
        // Nothing is forgotten of a time that is younger than the memory.
        let skew = if since.0 == 0 { 0 } else { skew };
        let expired = Timestamp(since.0 + skew).max(self.book.window.expired);
        let window = Window { first: mark.number + 1, since, expired };
        let needed = self.book.runs.values().chain(self.book.lingering.values());
        let mut runs: Vec<(u64, RunId)> =
            needed.filter(|run| run.base < window.first).map(|run| (run.base, run.run_id)).collect();
        runs.sort_unstable();
        tracing::debug!(shard = self.shard, first = window.first, runs = runs.len(), "history is carried forward");
        let runs = runs.into_iter().rev().map(|(_, run)| run).collect();
        Some(Carrying { window, runs, begun: None, ids: None })
    }

    /// Carries the next piece of a run; false when all are carried.
    fn carry_run(
        &mut self,
        carrying: &mut Carrying,
        round: &mut Round,
        number: u64,
        at: Timestamp,
        end: usize,
    ) -> bool {
        let (run_id, piece, offset) = match carrying.begun.take() {
            Some(begun) => begun,
            None => match carrying.runs.pop() {
                Some(run_id) => (run_id, 0, 0),
                None => return false,
            },
        };
        let Some(run) = self.book.runs.get(&run_id).or_else(|| self.book.lingering.get(&run_id)) else {
            // It has come to its end meanwhile.
            return true;
        };
        let (records, next) = run.records.piece(offset, end.saturating_sub(round.bytes));
        let is_last = next >= run.records.bytes();
        let pieces = if is_last { piece + 1 } else { 0 };
        let commands = match is_last {
            true => run.pending.iter().map(|(no, pending)| (*no, pending.frame)).collect(),
            false => Vec::new(),
        };
        if !is_last {
            carrying.begun = Some((run_id, piece + 1, next));
        }
        self.write_carried(round, Some(run_id), &RecordBody::Carried { piece, pieces, records, commands }, number, at);
        true
    }

    /// Carries some ids; false when all are carried.
    fn carry_ids(
        &mut self,
        carrying: &mut Carrying,
        round: &mut Round,
        number: u64,
        at: Timestamp,
        end: usize,
    ) -> bool {
        let window = carrying.window;
        let book = &self.book;
        let ids = carrying.ids.get_or_insert_with(|| {
            let closed = book.closed.iter().filter(|(_, run)| run.base < window.first && run.closed_at >= window.since);
            let mut closed: Vec<(u64, RunId)> = closed.map(|(id, run)| (run.frame, *id)).collect();
            let inputs = book.inputs.iter().filter(|(_, id)| id.base < window.first && id.at >= window.since);
            let mut inputs: Vec<(Timestamp, EventId)> = inputs.map(|(id, noted)| (noted.at, *id)).collect();
            closed.sort_unstable_by(|a, b| b.cmp(a));
            inputs.sort_unstable_by(|a, b| b.cmp(a));
            Ids {
                closed: closed.into_iter().map(|(_, id)| id).collect(),
                inputs: inputs.into_iter().map(|(_, id)| id).collect(),
            }
        });
        if ids.closed.is_empty() && ids.inputs.is_empty() {
            return false;
        }
        let (mut closed, mut inputs) = (Vec::new(), Vec::new());
        let mut room = end.saturating_sub(round.bytes).div_ceil(ID_BYTES);
        while room > 0
            && let Some(run_id) = ids.closed.pop()
        {
            let Some(run) = book.closed.get(&run_id) else { continue };
            closed.push(ClosedRun {
                workflow_id: run.workflow_id.clone(),
                run_id,
                workflow: run.workflow.clone(),
                version: run.version,
                started_at: run.started_at,
                closed_at: run.closed_at,
                status: run.status,
            });
            room = room.saturating_sub(CLOSED_IDS);
        }
        while room > 0
            && let Some(id) = ids.inputs.pop()
        {
            inputs.extend(book.inputs.get(&id).map(|noted| (id, noted.at)));
            room -= 1;
        }
        let body = RecordBody::Remembered { closed, inputs, window: None };
        self.write_carried(round, None, &body, number, at);
        true
    }

    fn write_carried(&mut self, round: &mut Round, run: Option<RunId>, body: &RecordBody, number: u64, at: Timestamp) {
        let book = &self.book;
        let known = run.and_then(|id| book.runs.get(&id).or_else(|| book.lingering.get(&id)));
        let workflow_id = known.map_or_else(|| shard::placeholder_id(self.shard), |run| run.workflow_id.clone());
        let run_id = run.unwrap_or(RunId::NIL);
        let place = round.records.len();
        let record = Record {
            workflow_id,
            run_id,
            seq: known.map_or(0, |run| run.next_seq()),
            event: EventId::derived(run_id, self.shard, &format!("carried {number} {place}")),
            at,
            body: Body::of(body),
            commands: Vec::new(),
            close: None,
        };
        round.bytes += record.body.0.len() + 64;
        self.book.absorb(&record, Some(body), number);
        round.records.push(record);
    }

    /// What history calls not needed any more can go.
    pub(super) fn trim(&mut self) {
        let first = self.book.window.first;
        let last = self.carry.marks.iter().take_while(|mark| mark.number < first).last();
        let Some(last) = last.copied() else { return };
        self.carry.trimmed(first);
        self.effects.push_back(Effect::Trim { upto: last.position });
    }
}
