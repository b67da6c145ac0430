//! One carrying: which runs and ids it writes again, in which order, and how their records look. When one begins, and
//! what follows from its end, is decided in [`super`].
//!
//! Runs that an earlier carrying began come first: they go on behind the pieces that stand. What a carrying has
//! written is seen from the book alone, in which each run and id has the first frame that is needed for it.

use everpulse_protocol::codec::Body;
use everpulse_protocol::history::{ClosedRun, Record, RecordBody, Window};
use everpulse_protocol::{EventId, RunId, Timestamp, WorkflowId, shard};

use super::CLOSED_IDS;
use crate::book::Book;
use crate::mutation::{self, Mutation};
use crate::round::Round;
use crate::run::Run;

/// About how much room an id takes in a frame.
pub(super) const ID_BYTES: usize = 48;

#[derive(Debug)]
pub(super) struct Carrying {
    window: Window,
    /// Runs that are still to be carried, the next one last.
    runs: Vec<RunId>,
    /// The run of which some pieces are carried, with how many and where the next one begins.
    begun: Option<(RunId, u32, usize)>,
    /// Once all runs are carried: what is still to be remembered, the next one last.
    ids: Option<Ids>,
}

#[derive(Debug)]
struct Ids {
    closed: Vec<RunId>,
    inputs: Vec<EventId>,
}

/// Where a carrying writes: the round that is under way, up to a size.
pub(super) struct Sweep<'a> {
    pub shard: u32,
    pub book: &'a mut Book,
    pub round: &'a mut Round,
    /// The number that the round's frame will have.
    pub number: u64,
    pub at: Timestamp,
    pub end: usize,
}

impl Carrying {
    /// All that is needed of the frames before the window.
    pub fn new(book: &Book, window: Window) -> Self {
        let needed = book.runs.values().chain(book.lingering.values()).filter(|run| run.base < window.first);
        let passed_over = |run: &Run| mutation::is(Mutation::CarriesNoParked) && run.parked.is_some();
        let needed = needed.filter(|run| !passed_over(run));
        let mut runs: Vec<(bool, u64, RunId)> =
            needed.map(|run| (standing(book, run, window).is_none(), run.base, run.run_id)).collect();
        let shelved = book.shelved.entries().iter().filter(|entry| entry.base < window.first);
        runs.extend(
            shelved.map(|entry| (book.pieces_since(entry.run_id, window.first).is_none(), entry.base, entry.run_id)),
        );
        runs.sort_unstable_by(|a, b| b.cmp(a));
        Self { window, runs: runs.into_iter().map(|(.., run)| run).collect(), begun: None, ids: None }
    }

    /// Writes as much as there is room for; true when that was all, and the window stands behind it.
    pub fn go_on(&mut self, sweep: &mut Sweep<'_>) -> bool {
        while sweep.has_room() && self.carry_run(sweep) {}
        while sweep.has_room() && self.carry_ids(sweep) {}
        if !sweep.has_room() {
            return false;
        }
        let window = Some(self.window);
        sweep.write(None, &RecordBody::Remembered { closed: Vec::new(), inputs: Vec::new(), window });
        true
    }

    /// Carries the next piece of a run; false when all are carried.
    fn carry_run(&mut self, sweep: &mut Sweep<'_>) -> bool {
        let begun = self.begun.take();
        let Some(run_id) = begun.map(|(run_id, ..)| run_id).or_else(|| self.runs.pop()) else { return false };
        let shelved = sweep.book.shelved.peek(run_id);
        let Some(run) = shelved.as_deref().or_else(|| sweep.book.open_or_lingering(run_id)) else {
            // It has come to its end meanwhile.
            return true;
        };
        let (piece, offset) = match begun {
            Some((_, piece, offset)) => (piece, offset),
            None => standing(sweep.book, run, self.window).unwrap_or_default(),
        };
        let of = (run.workflow_id.clone(), run_id, run.next_seq());
        let (records, next) = run.records.piece(offset, sweep.room());
        let is_last = next >= run.records.bytes();
        let (mut pieces, mut commands) = (0, Vec::new());
        if is_last {
            pieces = piece + 1;
            commands = run.open_commands();
        } else {
            self.begun = Some((run_id, piece + 1, next));
        }
        sweep.write(Some(of), &RecordBody::Carried { piece, pieces, records, commands });
        true
    }

    /// Carries some ids; false when all are carried.
    fn carry_ids(&mut self, sweep: &mut Sweep<'_>) -> bool {
        let ids = self.ids.get_or_insert_with(|| Ids::new(sweep.book, self.window));
        if ids.closed.is_empty() && ids.inputs.is_empty() {
            return false;
        }
        let (mut closed, mut inputs) = (Vec::new(), Vec::new());
        let mut room = sweep.room().div_ceil(ID_BYTES);
        while room > 0
            && let Some(run_id) = ids.closed.pop()
        {
            let Some(run) = sweep.book.closed.get(&run_id) else { continue };
            closed.push(ClosedRun {
                workflow_id: run.workflow_id.clone(),
                run_id,
                workflow: run.workflow.clone(),
                version: run.version,
                started_at: run.started_at,
                closed_at: run.closed_at,
                status: run.status,
                never_began: run.never_began,
                first_run: run.chain.as_ref().and_then(|chain| chain.first),
                continued_as: run.next(),
            });
            room = room.saturating_sub(CLOSED_IDS);
        }
        while room > 0
            && let Some(id) = ids.inputs.pop()
        {
            inputs.extend(sweep.book.inputs.get(&id).map(|noted| (id, noted.at)));
            room -= 1;
        }
        sweep.write(None, &RecordBody::Remembered { closed, inputs, window: None });
        true
    }
}

impl Ids {
    /// What has to be remembered of the frames before the window.
    fn new(book: &Book, window: Window) -> Self {
        let closed = book.closed.iter().filter(|(_, run)| run.base < window.first && run.closed_at >= window.since);
        let mut closed: Vec<(u64, RunId)> = closed.map(|(id, run)| (run.frame, *id)).collect();
        let inputs = book.inputs.iter().filter(|(_, id)| id.base < window.first && id.at >= window.since);
        let mut inputs: Vec<(Timestamp, EventId)> = inputs.map(|(id, noted)| (noted.at, *id)).collect();
        closed.sort_unstable_by(|a, b| b.cmp(a));
        inputs.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            closed: closed.into_iter().map(|(_, id)| id).collect(),
            inputs: inputs.into_iter().map(|(_, id)| id).collect(),
        }
    }
}

/// How many pieces of a run stand behind the border, and where the next one begins. An owner that is gone wrote them.
fn standing(book: &Book, run: &Run, window: Window) -> Option<(u32, usize)> {
    let (pieces, records) = book.pieces_since(run.run_id, window.first)?;
    Some((pieces, run.records.offset(records)?))
}

impl Sweep<'_> {
    fn has_room(&self) -> bool {
        self.round.bytes < self.end
    }

    fn room(&self) -> usize {
        self.end.saturating_sub(self.round.bytes)
    }

    /// Writes a record that repeats others: of a run, or of the shard.
    ///
    /// `of`: the run, and how many records it has.
    pub fn write(&mut self, of: Option<(WorkflowId, RunId, u32)>, body: &RecordBody) {
        let (workflow_id, run_id, seq) = of.unwrap_or_else(|| (shard::placeholder_id(self.shard), RunId::NIL, 0));
        let place = self.round.records.len();
        let record = Record {
            workflow_id,
            run_id,
            seq,
            event: EventId::derived(run_id, self.shard, &format!("carried {} {place}", self.number)),
            at: self.at,
            body: Body::of(body),
            commands: Vec::new(),
            notes: Vec::new(),
            close: None,
        };
        self.round.bytes += record.body.0.len() + 64;
        self.book.absorb(&record, Some(body), self.number);
        self.round.records.push(record);
    }
}
