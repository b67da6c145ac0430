//! What outlives the frames that said it: runs that were carried forward, ids that are remembered, and what is
//! forgotten.
//!
//! A book that was read from the middle of the chain meets records of runs that it does not know. It passes over
//! them: their last piece bears them too. Whoever knows the run learns from the pieces only that the earlier frames are
//! not needed any more. So both come to the same book.
//!
//! When to carry what is not decided here but in `shard::carry`.

use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::{Close, ClosedRun, CommandKind, Record, Window};
use everpulse_protocol::{EventId, RunId, Timestamp};

use super::{Book, Chain, Closed};
use crate::mutation::{self, Mutation};
use crate::run::{Pending, Run};

/// An id that was recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    /// The first frame that is needed to know it.
    pub base: u64,
    pub at: Timestamp,
}

/// The pieces of a run that stand, before the last one.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The frame of the first one.
    first: u64,
    next: u32,
    /// How many records they bear.
    count: u32,
    /// The run was known when the first one came: whatever becomes of it then, it is not to be restored.
    known: bool,
    /// The records; none of a run that is known.
    records: Vec<Record>,
}

impl Pieces {
    /// Where they began, which comes next, and how many records they bear, if the run is known: then they are of no other
    /// use.
    pub(super) fn of_known(&self) -> Option<(u64, u32, u32)> {
        self.known.then_some((self.first, self.next, self.count))
    }

    /// Pieces of a run that is known.
    pub(super) fn begun(first: u64, next: u32, count: u32) -> Self {
        Self { first, next, count, known: true, records: Vec::new() }
    }
}

impl Book {
    pub(super) fn absorb_carried(
        &mut self,
        record: &Record,
        (piece, pieces): (u32, u32),
        records: &[Record],
        commands: &[(u32, u64)],
        frame: u64,
    ) {
        let run_id = record.run_id;
        if piece == 0 {
            let known = self.is_open(run_id) || self.lingering.contains_key(&run_id);
            self.pieces.insert(run_id, Pieces { first: frame, known, ..Pieces::default() });
        }
        // Without the first one: whoever began it did not come to its end, and the rest is behind the border.
        let Some(so_far) = self.pieces.get_mut(&run_id).filter(|so_far| so_far.next == piece) else { return };
        so_far.next += 1;
        so_far.count = so_far.count.saturating_add(u32::try_from(records.len()).unwrap_or(u32::MAX));
        if !so_far.known {
            so_far.records.extend_from_slice(records);
        }
        if pieces != piece + 1 {
            return;
        }
        let Some(Pieces { first, records, known, .. }) = self.pieces.remove(&run_id) else { return };
        // One that was known at its first piece may have been let go since, when all that it told had been sent.
        if !known {
            self.restore(run_id, &records, commands, frame);
        }
        if self.shelved.rebase(run_id, first) {
            return;
        }
        if let Some(run) = self.runs.get_mut(&run_id).or_else(|| self.lingering.get_mut(&run_id)) {
            run.base = first;
        }
        if let Some(closed) = self.closed.get_mut(&run_id) {
            closed.base = first;
        }
    }

    /// How many pieces of a run stand from a frame on, before the last one, and how many records they bear.
    pub fn pieces_since(&self, run_id: RunId, frame: u64) -> Option<(u32, u32)> {
        self.pieces.get(&run_id).filter(|pieces| pieces.first >= frame).map(|pieces| (pieces.next, pieces.count))
    }

    /// A run whose records are needed, unless it lies on the shelf.
    pub fn open_or_lingering(&self, run_id: RunId) -> Option<&Run> {
        self.runs.get(&run_id).or_else(|| self.lingering.get(&run_id)).map(|run| &**run)
    }

    /// A run of which not all was read, once all of history was: everything that is open was carried, or begins in it.
    pub fn incomplete(&self) -> Option<RunId> {
        self.headless.first().copied()
    }

    /// A run that is known by its pieces alone.
    fn restore(&mut self, run_id: RunId, records: &[Record], commands: &[(u32, u64)], frame: u64) {
        let dense = records.iter().zip(0..).all(|(record, seq)| record.seq == seq);
        let Some(first) = records.first().filter(|_| dense) else {
            self.headless.insert(run_id);
            return;
        };
        self.headless.remove(&run_id);
        let ended = self.closed.contains_key(&run_id);
        self.runs.insert(run_id, Box::new(Run::new(first.workflow_id.clone(), run_id)));
        let unmarked = self.unmarked.len();
        for record in records {
            self.apply(record, record.body().ok().as_ref(), frame);
        }
        // They were not asked for in the frames that carry them.
        self.unmarked.truncate(unmarked);
        if let Some(run) = self.runs.get_mut(&run_id) {
            for (no, frame) in commands {
                if let Some(unknown) = &mut run.unknown {
                    unknown.place(*no, *frame);
                }
                if let Some(pending) = run.pending.get_mut(no) {
                    pending.frame = *frame;
                    let is_sent = pending.kind == CommandKind::Activity || pending.kind.is_of_another_run();
                    if is_sent && *frame >= self.sent_below {
                        self.unmarked.push_back((*frame, run_id));
                    }
                }
            }
            // Whether it was sent back, or told that it is not wanted, is not carried: it is looked for, or told again.
            let is_unwanted = |pending: &Pending| pending.other.as_ref().is_some_and(|other| other.unwanted.is_some());
            let is_sent_again = |pending: &Pending| pending.returned().is_some() || is_unwanted(pending);
            if run.unknown.is_some() || run.pending.values().any(|pending| is_sent_again(pending)) {
                self.unmarked.push_back((frame, run_id));
            }
        }
        match records.last().and_then(|last| Some((last, last.close.clone()?))) {
            None => {
                self.newest.insert(first.workflow_id.clone(), run_id);
            }
            // It ended before it was carried, with commands that may not be sent.
            Some((last, close)) => {
                let known = self.closed.remove(&run_id);
                self.close(run_id, close, last.at, frame);
                let lingering = self.lingering.get(&run_id);
                let (tells, never_began) =
                    lingering.map_or((false, false), |run| (run.tells_others(), run.never_began.is_some()));
                if tells {
                    self.unmarked.push_back((frame, run_id));
                }
                if let Some(closed) = self.closed.get_mut(&run_id) {
                    // Nobody could read its end again where it is only carried.
                    (closed.frame, closed.position, closed.close) =
                        known.map_or((0, None, None), |known| (known.frame, known.position, known.close));
                }
                let goes_on = self.closed.get(&run_id).is_some_and(|closed| closed.next().is_some());
                if !ended && !never_began && !goes_on && self.newest_of(&first.workflow_id).is_none() {
                    self.newest.insert(first.workflow_id.clone(), run_id);
                }
            }
        }
    }

    /// A record of a run whose beginning is behind the border. Its pieces come, unless this is its end.
    pub(super) fn absorb_unknown(&mut self, record: &Record, frame: u64) {
        let Some(close) = record.close.clone() else {
            self.headless.insert(record.run_id);
            return;
        };
        self.headless.remove(&record.run_id);
        self.pieces.remove(&record.run_id);
        self.newest.insert(record.workflow_id.clone(), record.run_id);
        // What it was is remembered, in a record that comes later.
        let blank = ClosedRun {
            workflow_id: record.workflow_id.clone(),
            run_id: record.run_id,
            workflow: String::new(),
            version: 0,
            started_at: record.at,
            closed_at: record.at,
            status: close.status,
            never_began: false,
            first_run: None,
            continued_as: record.continued_as(),
        };
        self.insert_closed(blank, Some(close), frame, frame);
    }

    fn insert_closed(&mut self, run: ClosedRun, close: Option<Close>, frame: u64, base: u64) {
        let size = close.as_ref().map_or(0, close_bytes);
        if size > 0 {
            self.kept.push_back((run.run_id, size));
            self.kept_bytes += size;
        }
        self.closed.insert(
            run.run_id,
            Box::new(Closed {
                workflow_id: run.workflow_id,
                workflow: run.workflow,
                version: run.version,
                started_at: run.started_at,
                closed_at: run.closed_at,
                status: run.status,
                close: close.map(Box::new),
                position: None,
                frame,
                base,
                never_began: run.never_began,
                chain: Chain::of(run.first_run, run.continued_as),
            }),
        );
        if let Some(first) = run.first_run {
            self.note_in_series(first, run.run_id);
        }
    }

    pub(super) fn absorb_remembered(
        &mut self,
        closed: &[ClosedRun],
        inputs: &[(EventId, Timestamp)],
        window: Option<Window>,
        frame: u64,
    ) {
        let inputs = if mutation::is(Mutation::ForgetsCarriedIds) { &[] } else { inputs };
        for (id, at) in inputs {
            self.inputs.insert(*id, Noted { base: frame, at: *at });
        }
        for run in closed {
            if let Some(known) = self.closed.get_mut(&run.run_id) {
                known.base = frame;
                known.workflow.clone_from(&run.workflow);
                (known.version, known.started_at) = (run.version, run.started_at);
                if let Some(chain) = Chain::of(run.first_run, run.continued_as) {
                    known.chain = Some(chain);
                }
                if let Some(first) = run.first_run {
                    self.note_in_series(first, run.run_id);
                }
                continue;
            }
            let newest = self.newest_of(&run.workflow_id);
            let newer = |id: RunId| self.closed.get(&id).is_none_or(|other| other.closed_at > run.closed_at);
            // One for which another went on is not the newest, also where both ended in the same millisecond.
            if !run.never_began && run.continued_as.is_none() && !newest.is_some_and(newer) {
                self.newest.insert(run.workflow_id.clone(), run.run_id);
            }
            // Its end stood in a frame before the window, or it would be known.
            self.insert_closed(run.clone(), None, 0, frame);
        }
        if let Some(window) = window {
            self.forget(window);
        }
    }

    /// Whether something is remembered that a window since then would forget.
    pub fn would_forget(&self, since: Timestamp) -> bool {
        self.inputs.values().any(|noted| noted.at < since)
            || self.closed.iter().any(|(id, run)| run.closed_at < since && !self.lingering.contains_key(id))
    }

    /// Forgets what nobody needs to know any more.
    fn forget(&mut self, window: Window) {
        self.window = window;
        self.inputs.retain(|_, noted| noted.at >= window.since);
        // Who reads history from there on does not know of them.
        self.reached.retain(|_, reached| reached.frame >= window.first);
        let (newest, lingering) = (&mut self.newest, &self.lingering);
        self.closed.retain(|run_id, closed| {
            if closed.frame < window.first {
                (closed.close, closed.position) = (None, None);
            }
            let stays = closed.closed_at >= window.since || lingering.contains_key(run_id);
            if !stays && newest.get(&closed.workflow_id) == Some(run_id) {
                newest.remove(&closed.workflow_id);
            }
            stays
        });
        let inputs = &self.inputs;
        self.updates.retain(|id, taker| taker.frame >= window.first && inputs.contains_key(id));
        let (closed, runs, shelved) = (&self.closed, &self.runs, &self.shelved);
        let is_known =
            |run_id: &RunId| closed.contains_key(run_id) || runs.contains_key(run_id) || shelved.contains(*run_id);
        self.series.retain(|_, last| is_known(last));
    }
}

/// How much room an end takes.
pub(super) fn close_bytes(close: &Close) -> usize {
    std::mem::size_of::<Close>()
        + match &close.outcome {
            Outcome::Done(value) => value.len(),
            Outcome::Failed(failure) => failure.message.len() + failure.sealed().map_or(0, |sealed| sealed.len()) + 128,
        }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::codec::Body;
    use everpulse_protocol::history::{CloseStatus, RecordBody};
    use everpulse_protocol::{Payload, WorkflowId};
    use uuid::Uuid;

    use super::*;

    const RUN: RunId = RunId(Uuid::from_u128(7));

    fn record(seq: u32, body: &RecordBody) -> Record {
        Record {
            workflow_id: WorkflowId::new("a").expect("a good id"),
            run_id: RUN,
            seq,
            event: EventId(Uuid::from_u128(u128::from(seq))),
            at: Timestamp(1),
            body: Body::of(body),
            commands: Vec::new(),
            notes: Vec::new(),
            close: None,
        }
    }

    #[test]
    fn a_run_whose_beginning_is_not_there_is_missed() {
        let said = |seq| record(seq, &RecordBody::Resumed);
        let mut book = Book::default();
        book.absorb(&said(2), Some(&RecordBody::Resumed), 5);
        assert_eq!(book.incomplete(), Some(RUN));
        for (records, incomplete) in [(vec![said(0), said(2)], Some(RUN)), (vec![said(0), said(1), said(2)], None)] {
            let carried = RecordBody::Carried { piece: 0, pieces: 1, records, commands: Vec::new() };
            book.absorb(&record(3, &carried), Some(&carried), 6);
            assert_eq!(book.incomplete(), incomplete);
            assert_eq!(book.runs.contains_key(&RUN), incomplete.is_none());
        }
    }

    /// A run that lingers is let go by a mark, which may stand between two of its pieces.
    #[test]
    fn a_run_that_is_let_go_between_two_of_its_pieces_is_not_missed() {
        let said = |seq| record(seq, &RecordBody::Resumed);
        let end = Record {
            close: Some(Close {
                status: CloseStatus::TimedOut,
                outcome: Outcome::Done(Payload::encode(&()).expect("encodes")),
            }),
            ..record(1, &RecordBody::TimedOut)
        };
        let mut book = Book::default();
        book.absorb(&said(0), Some(&RecordBody::Resumed), 5);
        let carry = |book: &mut Book, piece, pieces, records, frame| {
            let carried = RecordBody::Carried { piece, pieces, records, commands: Vec::new() };
            book.absorb(&record(2, &carried), Some(&carried), frame);
        };
        carry(&mut book, 0, 0, vec![said(0)], 6);
        book.absorb(&end, Some(&RecordBody::TimedOut), 7);
        book.lingering.clear();
        carry(&mut book, 1, 2, vec![end.clone()], 8);
        assert_eq!((book.incomplete(), book.closed.contains_key(&RUN)), (None, true));
        assert_eq!(book.closed[&RUN].base, 6, "what of it is needed begins there");
    }

    /// In bytes, of this process.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux says it");
        let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        pages * 4_096
    }

    /// `cargo test -p everpulse-engine --lib -- --ignored --nocapture`: the figures of
    /// `docs/decisions/carrying-and-trimming.md`.
    #[test]
    #[ignore = "it measures, and has to be alone in its process"]
    fn what_is_remembered_takes_no_more_room_than_is_documented() {
        const COUNT: u128 = 1_000_000;
        let mut book = Book::default();
        let before = resident();
        for n in 0..COUNT {
            let closed = ClosedRun {
                workflow_id: WorkflowId::new(format!("order-{n:08}")).expect("a good id"),
                run_id: RunId(Uuid::from_u128(n)),
                workflow: "checkout".to_owned(),
                version: 1,
                started_at: Timestamp(1),
                closed_at: Timestamp(2),
                status: everpulse_protocol::history::CloseStatus::Completed,
                never_began: false,
                first_run: None,
                continued_as: None,
            };
            book.absorb_remembered(&[closed], &[], None, 7);
        }
        let closed = (resident() - before) / COUNT as usize;
        let before = resident();
        for n in 0..COUNT {
            book.absorb_remembered(&[], &[(EventId(Uuid::from_u128(n)), Timestamp(1))], None, 7);
        }
        let input = (resident() - before) / COUNT as usize;
        println!("{closed} bytes for each closed run, {input} for each input");
        assert!(closed < 360 && input < 120, "{closed} and {input} bytes");
    }
}
