//! What is known of a shard's runs: a fold of its standing frames.
//!
//! The book is changed by [`Book::absorb`] alone, record by record, whether the record was just written here
//! or read after a takeover. It knows nothing of what is in flight. What is carried forward and forgotten is in
//! [`memory`], what of it is in memory in [`at_hand`], and how it outlives a process in [`saved`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use everpulse_protocol::continuation::Continues;
use everpulse_protocol::history::{Close, CloseStatus, CommandKind, CommandMark, Frame, Record, RecordBody, Window};
use everpulse_protocol::shard::Config;
use everpulse_protocol::timer::Wake;
use everpulse_protocol::view::{Fold, RunView};
use everpulse_protocol::{EventId, Position, RunId, Timestamp, WorkflowId};
use serde::{Deserialize, Serialize};

use self::at_hand::Recent;
use self::memory::{Noted, Pieces};
use self::shelved::Shelved;
use self::tags::{Reached, Tags};
use crate::Map;
use crate::run::{RUN_TIMER, Run};

mod at_hand;
mod chained;
pub(crate) mod memory;
pub(crate) mod saved;
pub(crate) mod shelved;
pub(crate) mod tags;

/// Closed runs' ends are kept at hand up to so many bytes; the rest is read again when it is asked for.
const CLOSES_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub config: Option<Config>,
    /// Open runs that are at hand.
    pub runs: Map<RunId, Box<Run>>,
    /// The other open runs.
    pub shelved: Shelved,
    pub closed: Map<RunId, Box<Closed>>,
    /// Open runs by their tags, wherever they are.
    tags: Tags,
    /// Signals to all runs with a tag, and how far they have come.
    reached: Map<EventId, Reached>,
    /// The newest run of each workflow id, but for runs on the shelf.
    newest: Map<WorkflowId, RunId>,
    /// The last run that is known of those that go on for a first one.
    series: Map<RunId, RunId>,
    /// Ids of clients' inputs that stand in history.
    pub inputs: Map<EventId, Noted>,
    /// Who has taken the updates of series, of runs that have ended. That they were taken stands among the inputs.
    updates: Map<EventId, Taker>,
    /// What is still known of the past.
    pub window: Window,
    /// Something stands in history that this release passes over, and would lose if it carried history forward.
    pub passes_over: bool,
    /// The records of open runs, in bytes.
    pub open_bytes: usize,
    /// Runs of which some pieces were carried, and not the last.
    pieces: Map<RunId, Pieces>,
    /// Runs with records whose beginning was not read, until it is or their end.
    headless: BTreeSet<RunId>,
    /// When what is due: timers by number, starts and time-outs of runs by [`RUN_TIMER`].
    pub timers: BTreeSet<(Timestamp, RunId, u32)>,
    /// Runs that ended with commands that may not be sent yet.
    pub lingering: BTreeMap<RunId, Box<Run>>,
    /// Runs that stand still.
    pub parked: BTreeSet<RunId>,
    /// Runs with inputs that were taken in and can be applied now.
    pub ready: BTreeSet<RunId>,
    /// Records with commands in frames that are not marked as sent: frame, run.
    pub unmarked: VecDeque<(u64, RunId)>,
    pub at: Timestamp,
    pub wake: Option<Wake>,
    pub sent_below: u64,
    pub queues: BTreeMap<String, Position>,
    kept: VecDeque<(RunId, usize)>,
    kept_bytes: usize,
    recent: Recent,
    /// Live futures by when they were needed, with entries that a later one of the same run has overtaken.
    touched: VecDeque<(u64, RunId)>,
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Closed {
    pub workflow_id: WorkflowId,
    pub workflow: String,
    pub version: u32,
    pub started_at: Timestamp,
    pub closed_at: Timestamp,
    pub status: CloseStatus,
    /// Its end, while it is kept at hand.
    pub close: Option<Box<Close>>,
    /// Where its end stands in history, once that is proven and while it is kept.
    pub position: Option<Position>,
    pub frame: u64,
    /// The first frame that is needed to know of the run.
    pub base: u64,
    /// A child that never began: its workflow id is not its.
    pub never_began: bool,
    /// The first of the runs that it continues, and the one that goes on for it; none where there is neither.
    pub chain: Option<Box<Chain>>,
}

/// A run that has ended and had taken an update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taker {
    pub run_id: RunId,
    /// That of its end.
    pub frame: u64,
}

/// Which runs a closed one belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chain {
    pub first: Option<RunId>,
    pub next: Option<RunId>,
    /// All that is known of those before it; no more than the first once its records are gone.
    pub continues: Option<Continues>,
}

impl Chain {
    pub fn of(first: Option<RunId>, next: Option<RunId>) -> Option<Box<Self>> {
        (first.is_some() || next.is_some()).then(|| Box::new(Self { first, next, continues: None }))
    }

    /// Of a run that ends.
    pub fn of_run(run: &Run) -> Option<Box<Self>> {
        let continues = run.continues.as_deref().cloned();
        let chain = Self::of(continues.as_ref().map(|it| it.first), run.continued_as.as_deref().copied())?;
        Some(Box::new(Self { continues, ..*chain }))
    }
}

impl Closed {
    /// The run that goes on for it.
    pub fn next(&self) -> Option<RunId> {
        self.chain.as_ref().and_then(|chain| chain.next)
    }
}

impl Book {
    /// Takes the header of a standing frame.
    pub fn absorb_header(&mut self, frame: &Frame) {
        self.at = self.at.max(frame.at);
        self.wake = frame.wake;
        if frame.config.is_some() {
            self.config = frame.config.clone();
        }
        for mark in &frame.queues {
            self.queues.insert(mark.queue.clone(), mark.position);
        }
        self.mark_sent(frame.sent_below);
    }

    /// Forgets what was kept for sending again.
    pub fn mark_sent(&mut self, below: u64) {
        self.sent_below = self.sent_below.max(below);
        while self.unmarked.front().is_some_and(|(frame, _)| *frame < self.sent_below) {
            self.unmarked.pop_front();
        }
        self.lingering.retain(|_, run| run.last_frame >= below);
    }

    /// Takes the next record of a frame. `body`: what it bears, if that can be read.
    pub fn absorb(&mut self, record: &Record, body: Option<&RecordBody>, frame: u64) {
        match body {
            Some(RecordBody::Carried { piece, pieces, records, commands }) => {
                return self.absorb_carried(record, (*piece, *pieces), records, commands, frame);
            }
            Some(RecordBody::Remembered { closed, inputs, window }) => {
                return self.absorb_remembered(closed, inputs, *window, frame);
            }
            Some(RecordBody::TagReached { event, since, runs, all, .. }) => {
                let reached = Reached { frame, since: *since, runs: *runs, all: *all };
                return self.absorb_reached(*event, reached, record.at);
            }
            _ => {}
        }
        let run_id = record.run_id;
        if !record.is_of_its_run() {
            // Of the shard, and of an unknown kind; or a piece of a run that cannot be read.
            self.passes_over = true;
            if !run_id.is_nil() && !self.is_open(run_id) && !self.closed.contains_key(&run_id) {
                self.headless.insert(run_id);
            }
            return;
        }
        self.note_input(record, body, frame);
        self.bring(run_id);
        if !self.runs.contains_key(&run_id) {
            if self.closed.contains_key(&run_id) {
                // A run that has ended stays so, in every release. What else is said of it would be lost with what is trimmed.
                let is_strange = |mark: &CommandMark| matches!(mark.kind, CommandKind::Unknown(_));
                self.passes_over |= body.is_none() || record.commands.iter().any(is_strange);
                return;
            }
            if record.seq > 0 {
                return self.absorb_unknown(record, frame);
            }
            // Whoever never began does not take the workflow id from others.
            if !matches!(body, Some(RecordBody::NeverBegan { .. })) {
                self.newest.insert(record.workflow_id.clone(), run_id);
            }
            self.runs.insert(run_id, Box::new(Run { base: frame, ..Run::new(record.workflow_id.clone(), run_id) }));
        }
        self.apply(record, body, frame);
        if let Some(close) = record.close.clone() {
            self.note_updates(run_id, record.at, frame);
            self.close(run_id, close, record.at, frame);
            if self.lingering.get(&run_id).is_some_and(|run| run.tells_others()) {
                self.unmarked.push_back((frame, run_id));
            }
        }
    }

    /// Applies a record to its open run, but for the run's end.
    fn apply(&mut self, record: &Record, body: Option<&RecordBody>, frame: u64) {
        let run_id = record.run_id;
        let Some(run) = self.runs.get_mut(&run_id) else { return };
        let run_timer = run_timer(run);
        let concerned = concerned(record, body);
        for no in &concerned {
            if let Some(due) = run.pending.get(no).and_then(|pending| pending.timer()) {
                self.timers.remove(&(due, run_id, *no));
            }
        }
        let is_child = |no| run.pending.get(&no).is_some_and(|pending| pending.kind == CommandKind::Child);
        let is_sent = |mark: &CommandMark| match mark.kind {
            CommandKind::Cancel => is_child(mark.no),
            CommandKind::Unknown(_) => true,
            kind => kind == CommandKind::Activity || kind.is_of_another_run(),
        };
        if body.is_none() || record.commands.iter().any(is_sent) {
            self.unmarked.push_back((frame, run_id));
        }
        let at = record.at;
        if run.records.count() == 0 || run.last_frame != frame {
            self.recent.push_back((frame, run_id));
        }
        self.open_bytes -= run.records.bytes();
        run.absorb(record, body, frame);
        self.open_bytes += run.records.bytes();
        if record.seq == 0 {
            self.tags.insert(run);
        }
        let first = run.continues.as_ref().map(|continues| continues.first).filter(|_| record.seq == 0);
        // A timer that was cancelled in the turn that set it is not pending: nothing would ever end it here.
        for no in concerned {
            let Some(pending) = run.pending.get(&no) else { continue };
            if let Some(due) = pending.timer() {
                self.timers.insert((due, run_id, no));
            }
            if pending.left.as_ref().is_some_and(|left| left.frame == Some(frame)) {
                self.unmarked.push_back((frame, run_id));
            }
        }
        if run_timer != self::run_timer(run) {
            if let Some(due) = run_timer {
                self.timers.remove(&(due, run_id, RUN_TIMER));
            }
            if let Some(due) = self::run_timer(run) {
                self.timers.insert((due, run_id, RUN_TIMER));
            }
        }
        set_member(&mut self.parked, run_id, run.parked.is_some());
        set_member(&mut self.ready, run_id, run.is_ready(at));
        if let Some(first) = first {
            self.note_in_series(first, run_id);
        }
    }

    /// The time has come for a run whose start was taken in.
    pub fn begin_later(&mut self, run_id: RunId) {
        let Some(run) = self.runs.get(&run_id) else { return };
        if let Some(due) = run_timer(run) {
            self.timers.remove(&(due, run_id, RUN_TIMER));
        }
        self.ready.insert(run_id);
    }

    fn note_input(&mut self, record: &Record, body: Option<&RecordBody>, frame: u64) {
        let noted = Noted { base: frame, at: record.at };
        match body {
            Some(RecordBody::Received { event, .. }) => {
                self.inputs.insert(event.id, noted);
            }
            Some(
                RecordBody::Signalled { .. }
                | RecordBody::SignalledByTag { .. }
                | RecordBody::UpdateAccepted { .. }
                | RecordBody::PromiseSettled { .. }
                | RecordBody::AttemptReported { .. }
                | RecordBody::CancelRequested { .. }
                | RecordBody::Terminated { .. }
                | RecordBody::Resumed,
            ) => {
                self.inputs.insert(record.event, noted);
            }
            // Whoever knew its kind may have applied an input by it, which comes again if that was not acked. It may remember too
            // much, and never too little.
            None => {
                self.inputs.insert(record.event, noted);
            }
            Some(_) => {}
        }
    }

    fn close(&mut self, run_id: RunId, close: Close, at: Timestamp, frame: u64) {
        let Some(mut run) = self.runs.remove(&run_id) else { return };
        self.tags.remove(&run);
        self.open_bytes -= run.records.bytes();
        self.parked.remove(&run_id);
        self.ready.remove(&run_id);
        for (no, pending) in &run.pending {
            if let Some(due) = pending.timer() {
                self.timers.remove(&(due, run_id, *no));
            }
        }
        if let Some(due) = run_timer(&run) {
            self.timers.remove(&(due, run_id, RUN_TIMER));
        }
        let started = run.started.clone();
        let size = memory::close_bytes(&close);
        self.closed.insert(
            run_id,
            Box::new(Closed {
                workflow_id: run.workflow_id.clone(),
                workflow: match (&started, &run.never_began) {
                    (Some(started), _) => started.workflow.clone(),
                    (None, Some(workflow)) => workflow.to_string(),
                    (None, None) => String::new(),
                },
                version: started.as_ref().map_or(0, |started| started.version),
                started_at: started.map_or(at, |started| started.at),
                closed_at: at,
                status: close.status,
                close: Some(Box::new(close)),
                position: None,
                frame,
                base: run.base,
                never_began: run.never_began.is_some(),
                chain: Chain::of_run(&run),
            }),
        );
        self.kept.push_back((run_id, size));
        self.kept_bytes += size;
        let is_sent = run.pending.values().any(|pending| pending.kind == CommandKind::Activity && !pending.eager);
        if run.unknown.is_some() || is_sent || run.tells_others() {
            run.live = None;
            self.lingering.insert(run_id, run);
        }
        self.forget_closes();
    }

    /// Lets go of ends that can be read again, oldest first.
    fn forget_closes(&mut self) {
        while self.kept_bytes > CLOSES_BYTES_MAX {
            let Some((run_id, size)) = self.kept.front().copied() else { return };
            if let Some(closed) = self.closed.get_mut(&run_id) {
                // Not proven yet: nobody could read it again.
                if closed.close.is_some() && closed.position.is_none() {
                    return;
                }
                closed.close = None;
            }
            self.kept.pop_front();
            self.kept_bytes -= size;
        }
    }

    /// Says where the frame stands in which these runs ended.
    pub fn place(&mut self, frame: u64, position: Position, ended: impl IntoIterator<Item = RunId>) {
        for run_id in ended {
            if let Some(closed) = self.closed.get_mut(&run_id)
                && closed.frame == frame
            {
                closed.position = Some(position);
            }
        }
        self.forget_closes();
    }

    /// Whether time goes on for a run. One that stands still can only go past its own time-out, as far as all is known of it.
    pub fn may_fire(&self, run_id: RunId, no: u32) -> bool {
        let times_out = |run: &Run| no == RUN_TIMER && run.started.is_some() && run.unknown.is_none();
        !self.parked.contains(&run_id) || self.runs.get(&run_id).is_some_and(|run| times_out(run))
    }

    /// Runs that have ended with what this release does not know, and could not send.
    pub fn lingers_unknown(&self) -> bool {
        let unsent =
            |run: &Run| run.unknown.as_ref().is_some_and(|unknown| unknown.first_from(self.sent_below).is_some());
        self.lingering.values().any(|run| unsent(run))
    }

    /// A run as `describe` shows it.
    pub fn view(&self, run_id: RunId) -> Option<RunView> {
        if let Some(closed) = self.closed.get(&run_id) {
            return Some(RunView {
                workflow_id: closed.workflow_id.clone(),
                run_id,
                workflow: closed.workflow.clone(),
                version: closed.version,
                build: None,
                status: closed.status.into(),
                tags: Vec::new(),
                started_at: closed.started_at,
                closed_at: Some(closed.closed_at),
                close: closed.close.as_deref().cloned(),
                parked: None,
                cancel_requested: false,
                records: 0,
                pending: Vec::new(),
                updates: Vec::new(),
                parent: None,
                continues: closed.chain.as_ref().and_then(|chain| chain.continues.clone()),
                continued_as: closed.next(),
                history_bytes: 0,
            });
        }
        let run = self.runs.get(&run_id)?;
        let mut fold = Fold::default();
        for record in run.records.iter() {
            fold.apply(&record);
        }
        fold.view()
    }
}

fn set_member(set: &mut BTreeSet<RunId>, run_id: RunId, member: bool) {
    if member {
        set.insert(run_id);
    } else {
        set.remove(&run_id);
    }
}

/// When the run itself needs the clock: to start, or to time out.
fn run_timer(run: &Run) -> Option<Timestamp> {
    match &run.started {
        None => run.start_at(),
        Some(started) => started.times_out_at,
    }
}

/// The numbers of the commands whose timers a record may set or end.
fn concerned(record: &Record, body: Option<&RecordBody>) -> Vec<u32> {
    let step = match body {
        Some(
            RecordBody::TimerFired { step }
            | RecordBody::ActivitySettled { step, .. }
            | RecordBody::AttemptFailed { step, .. }
            | RecordBody::AttemptLeft { step, .. }
            | RecordBody::AttemptReported { step, .. }
            | RecordBody::AttemptOverdue { step, .. },
        ) => Some(*step),
        _ => None,
    };
    let has_timer = |mark: &&CommandMark| mark.due.is_some() || mark.kind == CommandKind::Cancel;
    let marks = record.commands.iter().filter(has_timer).map(|mark| mark.no);
    step.into_iter().chain(marks).collect()
}
