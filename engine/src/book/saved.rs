//! The book as bytes, for a shard's next life: what [`Book::absorb`] made of the frames up to one of them, so that only
//! later ones have to be read. Which frame that is, and whether it is on the chain, is `shard::cache`'s.
//!
//! Whoever reads this was built from the same release, or does not read it.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_protocol::history::{Close, CloseStatus, Window};
use everpulse_protocol::shard::Config;
use everpulse_protocol::timer::Wake;
use everpulse_protocol::{EventId, Position, RunId, Timestamp, WorkflowId};
use serde::{Deserialize, Serialize};

use super::memory::{Noted, Pieces};
use super::shelved::Entry;
use super::tags::{Reached, Tags};
use super::{Book, Chain, Closed, Taker};
use crate::run::Run;

/// All of a book but for what lies on the shelf.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    config: Option<Config>,
    runs: Vec<SavedRun>,
    lingering: Vec<SavedRun>,
    shelved: Vec<Entry>,
    closed: Vec<SavedClosed>,
    /// Of workflow ids without an open run.
    newest: Vec<(WorkflowId, RunId)>,
    /// First run, last one.
    series: Vec<(RunId, RunId)>,
    inputs: Vec<(EventId, u64, Timestamp)>,
    /// Id, run, the frame of its end.
    updates: Vec<(EventId, RunId, u64)>,
    tags: Tags,
    reached: Vec<(EventId, Reached)>,
    window: Window,
    passes_over: bool,
    open_bytes: usize,
    /// Run, first frame, next piece, records: all of them are of runs that are known.
    pieces: Vec<(RunId, u64, u32, u32)>,
    timers: Vec<(Timestamp, RunId, u32)>,
    ready: BTreeSet<RunId>,
    unmarked: Vec<(u64, RunId)>,
    at: Timestamp,
    wake: Option<Wake>,
    sent_below: u64,
    queues: BTreeMap<String, Position>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedRun {
    run_id: RunId,
    base: u64,
    #[serde(with = "serde_bytes")]
    frozen: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedClosed {
    run_id: RunId,
    workflow_id: WorkflowId,
    workflow: String,
    version: u32,
    started_at: Timestamp,
    closed_at: Timestamp,
    status: CloseStatus,
    /// Unless it can be read again at its position.
    close: Option<Close>,
    position: Option<Position>,
    frame: u64,
    base: u64,
    never_began: bool,
    chain: Option<Box<Chain>>,
}

impl Book {
    /// The book as it is; none while not all is known of its runs.
    pub fn save(&self) -> Option<Saved> {
        let of_known = |(run, pieces): (&RunId, &Pieces)| {
            let (first, next, count) = pieces.of_known()?;
            Some((*run, first, next, count))
        };
        let pieces: Option<Vec<(RunId, u64, u32, u32)>> = self.pieces.iter().map(of_known).collect();
        if !self.headless.is_empty() || self.shelved.is_damaged() {
            return None;
        }
        Some(Saved {
            config: self.config.clone(),
            runs: self.runs.values().map(|run| SavedRun::of(run)).collect(),
            lingering: self.lingering.values().map(|run| SavedRun::of(run)).collect(),
            shelved: self.shelved.entries().to_vec(),
            closed: self.closed.iter().map(|(run_id, closed)| SavedClosed::of(*run_id, closed)).collect(),
            newest: self
                .newest
                .iter()
                .filter(|(_, run)| !self.runs.contains_key(run))
                .map(|(id, run)| (id.clone(), *run))
                .collect(),
            series: self.series.iter().map(|(first, last)| (*first, *last)).collect(),
            inputs: self.inputs.iter().map(|(id, noted)| (*id, noted.base, noted.at)).collect(),
            updates: self.updates.iter().map(|(id, taker)| (*id, taker.run_id, taker.frame)).collect(),
            tags: self.tags.clone(),
            reached: self.reached.iter().map(|(id, reached)| (*id, *reached)).collect(),
            window: self.window,
            passes_over: self.passes_over,
            open_bytes: self.open_bytes,
            pieces: pieces?,
            timers: self.timers.iter().copied().collect(),
            ready: self.ready.clone(),
            unmarked: self.unmarked.iter().copied().collect(),
            at: self.at,
            wake: self.wake,
            sent_below: self.sent_below,
            queues: self.queues.clone(),
        })
    }

    /// Takes up what was saved, on the shelf that was saved with it; this book is blank. False if something is wrong
    /// with it.
    pub fn resume(&mut self, saved: Saved) -> bool {
        let Some(runs) = saved.runs.into_iter().map(SavedRun::thaw).collect::<Option<Vec<_>>>() else { return false };
        let Some(lingering) = saved.lingering.into_iter().map(SavedRun::thaw).collect::<Option<Vec<_>>>() else {
            return false;
        };
        self.config = saved.config;
        self.newest = saved.newest.into_iter().collect();
        for run in runs {
            self.newest.insert(run.workflow_id.clone(), run.run_id);
            self.recent.push_back((run.last_frame, run.run_id));
            if run.parked.is_some() {
                self.parked.insert(run.run_id);
            }
            self.runs.insert(run.run_id, run);
        }
        self.recent.make_contiguous().sort_unstable();
        self.lingering = lingering.into_iter().map(|run| (run.run_id, run)).collect();
        self.shelved.resume(saved.shelved);
        for closed in saved.closed {
            let (run_id, closed) = closed.into();
            if let Some(close) = &closed.close {
                let size = super::memory::close_bytes(close);
                self.kept.push_back((run_id, size));
                self.kept_bytes += size;
            }
            self.closed.insert(run_id, Box::new(closed));
        }
        self.inputs = saved.inputs.into_iter().map(|(id, base, at)| (id, Noted { base, at })).collect();
        self.series = saved.series.into_iter().collect();
        let taker = |(id, run_id, frame)| (id, Taker { run_id, frame });
        self.updates = saved.updates.into_iter().map(taker).collect();
        self.tags = saved.tags;
        self.reached = saved.reached.into_iter().collect();
        self.window = saved.window;
        self.passes_over = saved.passes_over;
        self.open_bytes = saved.open_bytes;
        let begun = |(run, first, next, count)| (run, Pieces::begun(first, next, count));
        self.pieces = saved.pieces.into_iter().map(begun).collect();
        self.timers = saved.timers.into_iter().collect();
        self.ready = saved.ready;
        self.unmarked = saved.unmarked.into();
        (self.at, self.wake, self.sent_below, self.queues) = (saved.at, saved.wake, saved.sent_below, saved.queues);
        true
    }
}

impl SavedRun {
    fn of(run: &Run) -> Self {
        Self { run_id: run.run_id, base: run.base, frozen: run.freeze() }
    }

    fn thaw(self) -> Option<Box<Run>> {
        Run::thaw(&self.frozen, self.run_id, self.base).map(Box::new)
    }
}

impl SavedClosed {
    fn of(run_id: RunId, closed: &Closed) -> Self {
        let close = if closed.position.is_some() { None } else { closed.close.as_deref().cloned() };
        Self {
            run_id,
            workflow_id: closed.workflow_id.clone(),
            workflow: closed.workflow.clone(),
            version: closed.version,
            started_at: closed.started_at,
            closed_at: closed.closed_at,
            status: closed.status,
            close,
            position: closed.position,
            frame: closed.frame,
            base: closed.base,
            never_began: closed.never_began,
            chain: closed.chain.clone(),
        }
    }
}

impl From<SavedClosed> for (RunId, Closed) {
    fn from(saved: SavedClosed) -> Self {
        let closed = Closed {
            workflow_id: saved.workflow_id,
            workflow: saved.workflow,
            version: saved.version,
            started_at: saved.started_at,
            closed_at: saved.closed_at,
            status: saved.status,
            close: saved.close.map(Box::new),
            position: saved.position,
            frame: saved.frame,
            base: saved.base,
            never_began: saved.never_began,
            chain: saved.chain,
        };
        (saved.run_id, closed)
    }
}
