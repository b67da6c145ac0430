//! What a person sees of a run, folded from its records. Owners and readers of history fold alike.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::continuation::Continues;
use crate::event::{EventBody, NextAttempt, Report, Start};
use crate::family::{Parent, Target};
use crate::history::{Begun, Close, CloseStatus, ClosedRun, CommandKind, Parked, Record, RecordBody};
use crate::kind::KindName;
use crate::note::{Note, NoteKind};
use crate::size::weight;
use crate::{Failure, Payload, RunId, Timestamp, Token, WorkflowId};

/// A run as `describe` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    pub workflow: String,
    pub version: u32,
    /// What the code that began it was built from; none as well when its records are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    #[serde(default)]
    pub status: RunStatus,
    pub tags: Vec<String>,
    pub started_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub close: Option<Close>,
    pub parked: Option<Parked>,
    pub cancel_requested: bool,
    /// How many records the run's history has.
    pub records: u32,
    /// What the run waits for, in the order of the commands.
    pub pending: Vec<PendingStep>,
    /// Updates that it has taken and not answered, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updates: Vec<OpenUpdate>,
    /// The run that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The runs before it, if it continues one as new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Continues>,
    /// The run that goes on for it, if it continued as new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_as: Option<RunId>,
    /// What its history counts for, in bytes.
    #[serde(default)]
    pub history_bytes: u64,
}

impl From<&ClosedRun> for RunView {
    /// What is left of a run when its records are gone.
    fn from(run: &ClosedRun) -> Self {
        Self {
            workflow_id: run.workflow_id.clone(),
            run_id: run.run_id,
            workflow: run.workflow.clone(),
            version: run.version,
            build: None,
            status: run.status.into(),
            tags: Vec::new(),
            started_at: run.started_at,
            closed_at: Some(run.closed_at),
            close: None,
            parked: None,
            cancel_requested: false,
            records: 0,
            pending: Vec::new(),
            updates: Vec::new(),
            parent: None,
            continues: None,
            continued_as: run.continued_as,
            history_bytes: 0,
        }
    }
}

/// Where a run stands, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// It goes on: by itself, or when what it waits for has come.
    #[default]
    Open,
    /// It goes on when a person has looked, or today's code can: see [`RunView::parked`].
    Parked,
    Completed,
    Failed,
    Cancelled,
    Terminated,
    TimedOut,
    /// It ended so that another run could go on for it.
    ContinuedAsNew,
    /// It ended in a way that only a later release knows.
    #[serde(untagged)]
    Unknown(KindName),
}

impl From<CloseStatus> for RunStatus {
    fn from(status: CloseStatus) -> Self {
        match status {
            CloseStatus::Completed => Self::Completed,
            CloseStatus::Failed => Self::Failed,
            CloseStatus::Cancelled => Self::Cancelled,
            CloseStatus::Terminated => Self::Terminated,
            CloseStatus::TimedOut => Self::TimedOut,
            CloseStatus::ContinuedAsNew => Self::ContinuedAsNew,
            CloseStatus::Unknown(kind) => Self::Unknown(kind),
        }
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Parked => "parked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
            Self::TimedOut => "timed out",
            Self::ContinuedAsNew => "continued as new",
            Self::Unknown(kind) => kind.as_str(),
        })
    }
}

/// An activity, timer, step, promise or child that has not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingStep {
    pub no: u32,
    pub kind: CommandKind,
    pub name: String,
    pub queue: String,
    /// The attempt that runs or waits, from 1.
    pub attempt: u32,
    pub last_error: Option<String>,
    /// The same, where nobody without a key is to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_error: Option<Payload>,
    /// When a timer fires, or the next attempt begins.
    pub next_at: Option<Timestamp>,
    /// It waits for an operator's redrive.
    pub parked: bool,
    /// What the running attempt, or the last one, reported by heartbeat, as far as history has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Payload>,
    /// When the running attempt was last heard of, if it is told of in history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// Whoever has this may complete it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Of a child, and of what is asked of another run: which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<Target>>,
    /// The scopes that it stands in, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

impl PendingStep {
    fn failed(&mut self, failure: &Failure) {
        self.heard_at = None;
        self.last_error = Some(failure.to_string());
        self.sealed_error = failure.sealed().cloned();
    }
}

/// An update that a run has taken and not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenUpdate {
    pub id: String,
    pub name: String,
    /// When it was taken.
    pub at: Timestamp,
}

/// Folds the records of one run.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    view: Option<RunView>,
    pending: IndexMap<u32, PendingStep>,
    /// The scopes that the run's code began: what each is called, and which one it stands in.
    scopes: BTreeMap<u32, (String, Option<u32>)>,
    bytes: u64,
}

impl Fold {
    /// Takes the next record of the run. Bodies of unknown kind count, and change nothing else.
    pub fn apply(&mut self, record: &Record) {
        let body = record.body().ok();
        match &body {
            Some(RecordBody::Started { .. } | RecordBody::Spawned { .. } | RecordBody::Continued { .. }) => {
                if let Some(Begun { start, version, build, parent, continues, .. }) =
                    body.as_ref().and_then(RecordBody::begun)
                {
                    let parked = self.view.take().and_then(|view| view.parked);
                    let (build, parent, continues) = (build.cloned(), parent.cloned(), continues.cloned());
                    self.view = Some(RunView { parked, build, parent, continues, ..begun(record, start, version) });
                }
            }
            Some(RecordBody::NeverBegan { workflow, parent }) => {
                self.view = Some(RunView { parent: Some(parent.clone()), ..blank(record, workflow.clone()) });
            }
            // Taken in and not begun: it waits for its time, or there is no code for it. It has no version yet.
            Some(RecordBody::Received { event, .. }) if self.view.is_none() => {
                if let Ok(body) = event.body()
                    && let Some(start) = body.as_start()
                {
                    let (parent, continues) = match &body {
                        EventBody::Spawn { parent, .. } => (Some(parent.clone()), None),
                        EventBody::ContinueAsNew { parent, continues, .. } => (parent.clone(), Some(continues.clone())),
                        _ => (None, None),
                    };
                    let begun = begun(record, start, start.version.unwrap_or(0));
                    self.view = Some(RunView { parent, continues, ..begun });
                }
            }
            _ => {}
        }
        self.bytes += weight(record);
        let Some(view) = &mut self.view else { return };
        view.records = record.seq + 1;
        view.history_bytes = self.bytes;
        match body {
            Some(
                RecordBody::ActivitySettled { step, .. }
                | RecordBody::StepSettled { step, .. }
                | RecordBody::PromiseSettled { step, .. }
                | RecordBody::AttemptReported { step, report: Report::Done(_), .. }
                | RecordBody::AttemptReported { step, report: Report::Failed { retryable: false, .. }, .. }
                | RecordBody::ChildClosed { step, .. }
                | RecordBody::Delivered { step, .. }
                | RecordBody::TimerFired { step },
            ) => {
                self.pending.shift_remove(&step);
            }
            Some(RecordBody::AttemptFailed { step, attempt, failure, next }) => {
                if let Some(pending) = self.pending.get_mut(&step) {
                    pending.attempt = attempt + 1;
                    pending.token = None;
                    pending.failed(&failure);
                    pending.parked = next == NextAttempt::Redrive;
                    pending.next_at = match next {
                        NextAttempt::At(at) => Some(at),
                        NextAttempt::Redrive => None,
                    };
                }
            }
            Some(RecordBody::AttemptLeft { step, attempt, task, running, .. }) => {
                if let Some(pending) = self.pending.get_mut(&step) {
                    let Record { workflow_id, run_id, .. } = record;
                    pending.attempt = attempt;
                    pending.heartbeat = pending.heartbeat.take().or(task.heartbeat);
                    pending.heard_at = Some(record.at);
                    // Of one that runs its worker tells.
                    pending.token = (!running).then(|| Token {
                        workflow_id: workflow_id.clone(),
                        run_id: *run_id,
                        step,
                        attempt: Some(attempt),
                    });
                }
            }
            Some(RecordBody::AttemptReported { step, report: Report::Beat { details }, .. }) => {
                if let Some(pending) = self.pending.get_mut(&step) {
                    pending.heartbeat = details.or(pending.heartbeat.take());
                    pending.heard_at = Some(record.at);
                }
            }
            Some(
                RecordBody::AttemptOverdue { step, failure, .. }
                | RecordBody::AttemptReported { step, report: Report::Failed { failure, .. }, .. },
            ) => {
                if let Some(pending) = self.pending.get_mut(&step) {
                    pending.failed(&failure);
                    pending.token = None;
                }
            }
            Some(RecordBody::UpdateAccepted { id, name, .. }) => {
                view.updates.push(OpenUpdate { id, name, at: record.at })
            }
            Some(RecordBody::CancelRequested { .. }) => view.cancel_requested = true,
            Some(RecordBody::Parked { reason }) => view.parked = Some(reason),
            Some(RecordBody::Resumed) => view.parked = None,
            _ => {}
        }
        for mark in &record.commands {
            if mark.kind == CommandKind::Answer {
                view.updates.retain(|update| update.id != mark.name);
            }
            if matches!(mark.kind, CommandKind::Cancel | CommandKind::Detach) {
                self.pending.shift_remove(&mark.no);
            }
            if !mark.kind.is_work() {
                continue;
            }
            self.pending.insert(
                mark.no,
                PendingStep {
                    no: mark.no,
                    kind: mark.kind,
                    name: mark.name.clone(),
                    queue: mark.queue.clone(),
                    attempt: 1,
                    last_error: None,
                    sealed_error: None,
                    // An activity's is when it has to be done.
                    next_at: mark.due.filter(|_| mark.kind == CommandKind::Timer),
                    parked: false,
                    heartbeat: None,
                    heard_at: None,
                    token: (mark.kind == CommandKind::Promise).then(|| Token {
                        workflow_id: record.workflow_id.clone(),
                        run_id: record.run_id,
                        step: mark.no,
                        attempt: None,
                    }),
                    target: mark.target.clone(),
                    scopes: Vec::new(),
                },
            );
        }
        if let Some(close) = &record.close {
            view.close = Some(close.clone());
            view.closed_at = Some(record.at);
            view.continued_as = record.continued_as();
            view.parked = None;
            view.updates.clear();
            self.pending.clear();
        }
        record.notes.iter().for_each(|note| self.note(note));
    }

    /// Takes what the code says about its commands.
    fn note(&mut self, note: &Note) {
        match note.kind {
            NoteKind::Command => {
                let scopes = self.scopes_of(note.scope);
                let Some(pending) = self.pending.get_mut(&note.no) else { return };
                if pending.name.is_empty() {
                    pending.name.clone_from(&note.name);
                }
                if note.scope.is_some() {
                    pending.scopes = scopes;
                }
            }
            NoteKind::ScopeBegan => {
                self.scopes.insert(note.no, (note.name.clone(), note.scope));
            }
            NoteKind::ScopeDone | NoteKind::ScopeFailed | NoteKind::ScopeDropped | NoteKind::Unknown(_) => {}
        }
    }

    /// The names of a scope and of those around it, the outermost first.
    fn scopes_of(&self, innermost: Option<u32>) -> Vec<String> {
        let mut names = Vec::new();
        let mut next = innermost;
        while let Some((no, (name, around))) = next.and_then(|no| Some((no, self.scopes.get(&no)?))) {
            names.push(name.clone());
            // A scope has a greater number than the one around it; a history that says otherwise ends here.
            next = around.filter(|around| *around < no);
        }
        names.reverse();
        names
    }

    /// The run as it stands now; none before its start.
    #[must_use]
    pub fn view(&self) -> Option<RunView> {
        let mut view = self.view.clone()?;
        view.pending = self.pending.values().cloned().collect();
        view.status = match (&view.close, &view.parked) {
            (Some(close), _) => close.status.into(),
            (None, Some(_)) => RunStatus::Parked,
            (None, None) => RunStatus::Open,
        };
        Some(view)
    }
}

fn begun(record: &Record, start: &Start, version: u32) -> RunView {
    RunView { version, tags: start.tags.clone(), ..blank(record, start.workflow.clone()) }
}

fn blank(record: &Record, workflow: String) -> RunView {
    RunView {
        workflow_id: record.workflow_id.clone(),
        run_id: record.run_id,
        workflow,
        version: 0,
        build: None,
        status: RunStatus::Open,
        tags: Vec::new(),
        started_at: record.at,
        closed_at: None,
        close: None,
        parked: None,
        cancel_requested: false,
        records: 0,
        pending: Vec::new(),
        updates: Vec::new(),
        parent: None,
        continues: None,
        continued_as: None,
        history_bytes: 0,
    }
}
