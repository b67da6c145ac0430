//! One open run, as the records of its history say it is.

use std::collections::{BTreeMap, VecDeque};

use everpulse_protocol::continuation::Continues;
use everpulse_protocol::event::{Event, EventBody, NextAttempt, ReplyTo, Start};
use everpulse_protocol::family::{Parent, ParentClose, Target};
use everpulse_protocol::history::{Begun, CommandKind, Parked, Record, RecordBody};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{EventId, Payload, RunId, Timestamp, WorkflowId};
use everpulse_sdk::replay::Instance;

pub(crate) use self::left::Left;
use self::records::Records;
use self::unknown::Unknown;
pub(crate) use self::unknown::why_unknown;
use self::updates::Updates;
pub(crate) use self::updates::{Watcher, answer_in};

mod frozen;
mod left;
mod records;
mod unknown;
mod updates;

/// A run that has not ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// None until the start is applied: it waits for its time, is on trial, or there is no code for it.
    pub started: Option<Started>,
    /// By which signals may be sent to it and others at once, as its start says.
    pub tags: Box<[Box<str>]>,
    /// The run that began it.
    pub parent: Option<Box<Parent>>,
    /// The runs before it, if it continues one as new.
    pub continues: Option<Box<Continues>>,
    /// The run that goes on for it.
    pub continued_as: Option<Box<RunId>>,
    /// A child that never began: the name of its workflow.
    pub never_began: Option<Box<str>>,
    pub ended: bool,
    pub records: Records,
    pub size: HistorySize,
    /// Commands that have not come to their end, by number.
    /// Boxed: a node of the map has room for eleven, and most runs wait for one.
    pub pending: BTreeMap<u32, Box<Pending>>,
    /// Inputs that were taken in and not applied.
    pub received: VecDeque<Received>,
    pub parked: Option<Parked>,
    /// Boxed: most runs have none.
    pub updates: Option<Box<Updates>>,
    /// Who wants to hear of the end. Only the first is in history; the others ask again.
    pub watchers: Vec<ReplyTo>,
    /// Who wants to hear of the end of this very run, also if another one goes on for it.
    pub exact_watchers: Vec<ReplyTo>,
    /// The first frame that is needed to know the run: that of its first record, or of its last carrying's first piece.
    pub base: u64,
    /// The last frame that has a record of the run.
    pub last_frame: u64,
    /// The number that the run's next command will have.
    pub next_no: u32,
    /// What of it this release does not know.
    pub unknown: Option<Box<Unknown>>,
    /// The live future, if it is cached.
    pub live: Option<Box<Live>>,
}

/// A run's future and what only it knows.
pub(crate) struct Live {
    pub instance: Instance,
    /// The frame for which it was needed last, once [`Book::touch`](crate::book::Book::touch) knows of it.
    pub used: Option<u64>,
    pub published: BTreeMap<String, Payload>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

/// What the start of a run fixed.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub workflow: String,
    pub version: u32,
    pub at: Timestamp,
    pub times_out_at: Option<Timestamp>,
    pub build: Option<String>,
}

/// What is known of the run that carries out a command: a child, or another one.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    pub target: Target,
    /// A child that is in its history.
    pub has_begun: bool,
    /// A child that is asked to cancel since nobody waits for it any more: the frame that said so, or a later one.
    pub unwanted: Option<u64>,
}

/// A command that has not come to its end.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub kind: CommandKind,
    pub due: Option<Timestamp>,
    /// An activity that its owner runs itself; no task is in its queue.
    pub eager: bool,
    pub attempt: u32,
    pub scheduled_at: Timestamp,
    /// The frame that asked for it.
    pub frame: u64,
    /// Its result was taken in, and waits until the run can go on.
    pub answered: bool,
    /// Of an activity: when it has to be done.
    pub close_by: Option<Timestamp>,
    /// An attempt that is completed from outside.
    pub left: Option<Box<Left>>,
    /// Of what another run carries out.
    pub other: Option<Box<Other>>,
}

impl Pending {
    /// When the owner has to look at it by itself.
    pub fn timer(&self) -> Option<Timestamp> {
        match self.kind {
            CommandKind::Timer => self.due,
            CommandKind::Activity => {
                let overdue = self.left.as_ref().and_then(|left| left.overdue_at());
                overdue.into_iter().chain(self.close_by).min()
            }
            CommandKind::Step
            | CommandKind::Promise
            | CommandKind::Child
            | CommandKind::Signal
            | CommandKind::CancelRun
            | CommandKind::TerminateRun
            | CommandKind::ContinueAsNew
            | CommandKind::Cancel
            | CommandKind::Detach
            | CommandKind::Patch
            | CommandKind::DeprecatedPatch
            | CommandKind::Answer
            | CommandKind::Unknown(_) => None,
        }
    }

    /// Whether the owner itself has to do it.
    pub fn is_local(&self) -> bool {
        match self.kind {
            CommandKind::Step => true,
            CommandKind::Activity => self.eager,
            CommandKind::Timer
            | CommandKind::Promise
            | CommandKind::Child
            | CommandKind::Signal
            | CommandKind::CancelRun
            | CommandKind::TerminateRun
            | CommandKind::ContinueAsNew
            | CommandKind::Cancel
            | CommandKind::Detach
            | CommandKind::Patch
            | CommandKind::DeprecatedPatch
            | CommandKind::Answer
            | CommandKind::Unknown(_) => false,
        }
    }

    /// The run that carries it out.
    pub fn target(&self) -> Option<&Target> {
        self.other.as_ref().map(|other| &other.target)
    }

    /// Whether the owner itself still has to do it.
    pub fn is_open_locally(&self) -> bool {
        self.is_local() && !self.answered
    }
}

/// An input that was taken in and not applied.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub event: Event,
    pub attempt: u32,
    /// When it is to be applied, if it is a start for later.
    pub start_at: Option<Timestamp>,
}

/// The number under which a run's own time-out and start time stand among the timers.
pub(crate) const RUN_TIMER: u32 = u32::MAX;

/// So many may wait for the end of one run.
const WATCHERS_MAX: usize = 256;

impl Run {
    pub fn new(workflow_id: WorkflowId, run_id: RunId) -> Self {
        Self {
            workflow_id,
            run_id,
            started: None,
            tags: Box::default(),
            parent: None,
            continues: None,
            continued_as: None,
            never_began: None,
            ended: false,
            records: Records::default(),
            size: HistorySize::default(),
            pending: BTreeMap::new(),
            received: VecDeque::new(),
            parked: None,
            updates: None,
            watchers: Vec::new(),
            exact_watchers: Vec::new(),
            base: 0,
            last_frame: 0,
            next_no: 0,
            unknown: None,
            live: None,
        }
    }

    pub fn next_seq(&self) -> u32 {
        self.records.count()
    }

    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| **own == *tag)
    }

    /// The first of the runs that go on for each other up to this one.
    pub fn first(&self) -> RunId {
        self.continues.as_ref().map_or(self.run_id, |continues| continues.first)
    }

    pub fn has_received(&self, event: EventId) -> bool {
        self.received.iter().any(|received| received.event.id == event)
    }

    /// When the run is to start, if that is later than its start was taken in.
    pub fn start_at(&self) -> Option<Timestamp> {
        if self.started.is_some() {
            return None;
        }
        self.received.front()?.start_at
    }

    /// Whether the inputs that were taken in can be applied.
    pub fn is_ready(&self, at: Timestamp) -> bool {
        !self.received.is_empty() && self.parked.is_none() && self.start_at().is_none_or(|start_at| start_at <= at)
    }

    /// Remembers who wants to hear of the end. Of very many the first are forgotten: they ask again.
    pub fn watch(&mut self, reply_to: ReplyTo) {
        if self.watchers.contains(&reply_to) {
            return;
        }
        if self.watchers.len() >= WATCHERS_MAX {
            self.watchers.remove(0);
        }
        self.watchers.reserve_exact(1);
        self.watchers.push(reply_to);
    }

    /// The same for who means this very run. They ask again, too.
    pub fn watch_exactly(&mut self, reply_to: ReplyTo) {
        if self.exact_watchers.len() < WATCHERS_MAX && !self.exact_watchers.contains(&reply_to) {
            self.exact_watchers.push(reply_to);
        }
    }

    fn take_in(&mut self, event: &Event, attempt: u32) {
        // One that is on trial stands at the head; others come once, as their ids are remembered.
        if attempt > 0
            && let Some(received) = self.received.iter_mut().find(|received| received.event.id == event.id)
        {
            received.attempt = attempt;
            return;
        }
        let mut start_at = None;
        match event.body() {
            Ok(EventBody::Start(start) | EventBody::SignalWithStart { start, .. }) => start_at = start.start_at,
            Ok(EventBody::Spawn { start, parent }) => {
                start_at = start.start_at;
                self.parent = Some(Box::new(parent));
            }
            Ok(EventBody::ContinueAsNew { start, continues, parent }) => {
                start_at = start.start_at;
                self.parent = parent.map(Box::new);
                self.continues = Some(Box::new(continues));
            }
            // Its step waits on: it was told of, and is not done.
            Ok(EventBody::AttemptReported { report, .. }) if report.outcome().is_none() => {}
            Ok(
                EventBody::ActivitySettled { step, .. }
                | EventBody::AttemptReported { step, .. }
                | EventBody::StepSettled { step, .. }
                | EventBody::PromiseSettled { step, .. }
                | EventBody::ChildClosed { step, .. }
                | EventBody::Delivered { step, .. },
            ) => {
                if let Some(pending) = self.pending.get_mut(&step) {
                    pending.answered = true;
                }
            }
            _ => {}
        }
        self.received.push_back(Received { event: event.clone(), attempt, start_at });
    }

    /// Forgets a received input that is applied now.
    fn take_out(&mut self, event: EventId) {
        if self.received.front().is_some_and(|received| received.event.id == event) {
            self.received.pop_front();
        } else if self.has_received(event) {
            self.received.retain(|received| received.event.id != event);
        }
    }

    /// Takes one more record.
    pub fn absorb(&mut self, record: &Record, body: Option<&RecordBody>, frame: u64) {
        self.fold(record, body, frame);
        self.records.push(record);
    }

    /// Folds a record into what is known of the run.
    fn fold(&mut self, record: &Record, body: Option<&RecordBody>, frame: u64) {
        self.last_frame = frame;
        self.size = self.size.with(record);
        self.note_unknown(record, body.is_some(), frame);
        if let Some(body) = body.filter(|_| record.seq == 0) {
            self.tags = tags(body);
        }
        match body {
            Some(body @ (RecordBody::Started { .. } | RecordBody::Spawned { .. } | RecordBody::Continued { .. })) => {
                if let Some(begun) = body.begun() {
                    self.begin(begun, record.at);
                }
            }
            Some(RecordBody::NeverBegan { workflow, parent }) => {
                self.never_began = Some(workflow.as_str().into());
                self.parent = Some(Box::new(parent.clone()));
            }
            Some(RecordBody::ChildBegan { step }) => {
                if let Some(other) = self.pending.get_mut(step).and_then(|pending| pending.other.as_mut()) {
                    other.has_begun = true;
                }
            }
            Some(RecordBody::Received { event, attempt }) => {
                self.take_in(event, *attempt);
            }
            Some(
                RecordBody::ActivitySettled { step, .. }
                | RecordBody::StepSettled { step, .. }
                | RecordBody::PromiseSettled { step, .. }
                | RecordBody::ChildClosed { step, .. }
                | RecordBody::Delivered { step, .. }
                | RecordBody::TimerFired { step },
            ) => {
                self.pending.remove(step);
            }
            Some(RecordBody::AttemptFailed { step, attempt, next, .. }) => {
                if let Some(pending) = self.pending.get_mut(step) {
                    pending.attempt = attempt + 1;
                    pending.left = pending.left.take().filter(|left| left.attempt > *attempt);
                    // Whatever comes next comes through the timers or an operator, not from the owner.
                    pending.eager = false;
                    pending.due = match next {
                        NextAttempt::At(at) => Some(*at),
                        NextAttempt::Redrive => None,
                    };
                }
            }
            Some(RecordBody::AttemptReported { step, report, .. }) if report.outcome().is_some() => {
                self.pending.remove(step);
            }
            Some(
                RecordBody::AttemptLeft { step, .. }
                | RecordBody::AttemptReported { step, .. }
                | RecordBody::AttemptOverdue { step, .. },
            ) => {
                if let (Some(pending), Some(body)) = (self.pending.get_mut(step), body) {
                    pending.left_by(body, record.at, frame);
                }
            }
            Some(RecordBody::UpdateAccepted { id, name, .. }) => self.take_update(id, name),
            Some(RecordBody::Parked { reason }) => self.parked = Some(reason.clone()),
            Some(RecordBody::Resumed) => self.parked = None,
            _ => {}
        }
        if !matches!(body, Some(RecordBody::Received { .. })) {
            self.take_out(record.event);
        }
        for mark in &record.commands {
            match mark.kind {
                CommandKind::Cancel => self.unwant(mark.no, record, frame),
                CommandKind::Answer => self.note_answer(mark, record.seq),
                CommandKind::Detach => {
                    if let Some(other) = self.pending.get_mut(&mark.no).and_then(|pending| pending.other.as_mut()) {
                        other.target.on_close = Some(ParentClose::Abandon);
                    }
                }
                _ => {}
            }
            if !mark.kind.is_work() {
                continue;
            }
            self.next_no = self.next_no.max(mark.no + 1);
            self.pending.insert(
                mark.no,
                Box::new(Pending {
                    kind: mark.kind,
                    due: mark.due.filter(|_| mark.kind == CommandKind::Timer),
                    close_by: mark.due.filter(|_| mark.kind == CommandKind::Activity),
                    eager: mark.eager,
                    attempt: 1,
                    scheduled_at: record.at,
                    frame,
                    answered: false,
                    left: None,
                    other: mark
                        .target
                        .as_deref()
                        .map(|target| Box::new(Other { target: target.clone(), has_begun: false, unwanted: None })),
                }),
            );
        }
        if record.close.is_some() {
            self.ended = true;
            self.continued_as = record.continued_as().map(Box::new);
            // A child that would be asked to cancel, or be ended, by the record that asks for it is not begun.
            let left = |pending: &Pending| {
                pending.kind != CommandKind::Child
                    || pending.target().and_then(|target| target.on_close) == Some(ParentClose::Abandon)
            };
            for mark in record.commands.iter().filter(|mark| mark.kind == CommandKind::Child) {
                if self.pending.get(&mark.no).is_some_and(|pending| !left(pending)) {
                    self.pending.remove(&mark.no);
                }
            }
        }
    }

    fn begin(&mut self, begun: Begun<'_>, at: Timestamp) {
        self.started = Some(Started {
            workflow: begun.start.workflow.clone(),
            version: begun.version,
            at,
            times_out_at: times_out_at(begun.start, at),
            build: begun.build.cloned(),
        });
        if let Some(reply_to) = begun.reply_to {
            self.watch(reply_to.clone());
        }
        if let Some(parent) = begun.parent {
            self.parent = Some(Box::new(parent.clone()));
        }
        if let Some(continues) = begun.continues {
            self.continues = Some(Box::new(continues.clone()));
        }
    }

    /// Nobody waits for a command any more. A child is waited for until it has ended: it has to hear of this.
    fn unwant(&mut self, no: u32, record: &Record, frame: u64) {
        // What is dropped by the record that asks for it is not begun.
        let is_new = || record.commands.iter().any(|mark| mark.no == no && mark.kind.is_work());
        match self.pending.get_mut(&no) {
            Some(pending) if pending.kind == CommandKind::Child && !is_new() => {
                if let Some(other) = &mut pending.other {
                    other.unwanted = Some(frame);
                }
            }
            _ => {
                self.pending.remove(&no);
            }
        }
    }
}

/// What the first record of a run says of its tags, whether the run began with it or its start was taken in.
fn tags(first: &RecordBody) -> Box<[Box<str>]> {
    let of = |start: &Start| {
        let mut tags: Vec<Box<str>> = start.tags.iter().map(|tag| tag.as_str().into()).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.into_boxed_slice()
    };
    match first {
        RecordBody::Received { event, .. } => event.body().ok().and_then(|body| body.as_start().map(of)),
        body => body.begun().map(|begun| of(begun.start)),
    }
    .unwrap_or_default()
}

fn times_out_at(start: &Start, at: Timestamp) -> Option<Timestamp> {
    start.timeout_ms.map(|timeout| Timestamp(at.0.saturating_add(timeout)))
}
