//! One open run, as the records of its history say it is.

use std::collections::{BTreeMap, VecDeque};

use everpulse_protocol::event::{Event, EventBody, NextAttempt, ReplyTo, Start};
use everpulse_protocol::history::{CommandKind, Parked, Record, RecordBody};
use everpulse_protocol::{EventId, Payload, RunId, Timestamp, WorkflowId};
use everpulse_sdk::replay::Instance;

/// A run that has not ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// None until the start is applied: it waits for its time, is on trial, or there is no code for it.
    pub started: Option<Started>,
    pub records: Vec<Record>,
    /// Commands that have not come to their end, by number.
    pub pending: BTreeMap<u32, Pending>,
    /// Inputs that were taken in and not applied.
    pub received: VecDeque<Received>,
    pub parked: Option<Parked>,
    /// Who wants to hear of the end. Only the first is in history; the others ask again.
    pub watchers: Vec<ReplyTo>,
    /// The last frame that has a record of the run.
    pub last_frame: u64,
    /// The live future, if it is cached.
    pub live: Option<Live>,
}

/// A run's future and what only it knows.
pub(crate) struct Live {
    pub instance: Instance,
    /// The round in which it was polled last.
    pub used: u64,
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
}

impl Pending {
    /// Whether the owner itself has to do it.
    pub fn is_local(&self) -> bool {
        match self.kind {
            CommandKind::Step => true,
            CommandKind::Activity => self.eager,
            CommandKind::Timer | CommandKind::Cancel => false,
        }
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
}

/// The number under which a run's own time-out and start time stand among the timers.
pub(crate) const RUN_TIMER: u32 = u32::MAX;

impl Run {
    pub fn new(workflow_id: WorkflowId, run_id: RunId) -> Self {
        Self {
            workflow_id,
            run_id,
            started: None,
            records: Vec::new(),
            pending: BTreeMap::new(),
            received: VecDeque::new(),
            parked: None,
            watchers: Vec::new(),
            last_frame: 0,
            live: None,
        }
    }

    pub fn next_seq(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    pub fn has_received(&self, event: EventId) -> bool {
        self.received.iter().any(|received| received.event.id == event)
    }

    /// When the run is to start, if that is later than its start was taken in.
    pub fn start_at(&self) -> Option<Timestamp> {
        if self.started.is_some() {
            return None;
        }
        match self.received.front()?.event.body() {
            Ok(EventBody::Start(start)) => start.start_at,
            _ => None,
        }
    }

    /// Folds one more record into what is known of the run.
    pub fn absorb(&mut self, record: Record, body: Option<&RecordBody>, frame: u64) {
        self.last_frame = frame;
        match body {
            Some(RecordBody::Started { start, version, reply_to }) => {
                self.started = Some(Started {
                    workflow: start.workflow.clone(),
                    version: *version,
                    at: record.at,
                    times_out_at: times_out_at(start, record.at),
                });
                if let Some(reply_to) = reply_to
                    && !self.watchers.contains(reply_to)
                {
                    self.watchers.push(reply_to.clone());
                }
            }
            Some(RecordBody::Received { event, attempt }) => {
                match self.received.iter_mut().find(|received| received.event.id == event.id) {
                    Some(received) => received.attempt = *attempt,
                    None => self.received.push_back(Received { event: event.clone(), attempt: *attempt }),
                }
                if let Ok(EventBody::ActivitySettled { step, .. } | EventBody::StepSettled { step, .. }) = event.body()
                    && let Some(pending) = self.pending.get_mut(&step)
                {
                    pending.answered = true;
                }
            }
            Some(
                RecordBody::ActivitySettled { step, .. }
                | RecordBody::StepSettled { step, .. }
                | RecordBody::TimerFired { step },
            ) => {
                self.pending.remove(step);
            }
            Some(RecordBody::AttemptFailed { step, attempt, next, .. }) => {
                if let Some(pending) = self.pending.get_mut(step) {
                    pending.attempt = attempt + 1;
                    // Whatever comes next comes through the timers or an operator, not from the owner.
                    pending.eager = false;
                    pending.due = match next {
                        NextAttempt::At(at) => Some(*at),
                        NextAttempt::Redrive => None,
                    };
                }
            }
            Some(RecordBody::Parked { reason }) => self.parked = Some(reason.clone()),
            Some(RecordBody::Resumed) => self.parked = None,
            _ => {}
        }
        if !matches!(body, Some(RecordBody::Received { .. })) {
            self.received.retain(|received| received.event.id != record.event);
        }
        for mark in &record.commands {
            if mark.kind == CommandKind::Cancel {
                self.pending.remove(&mark.no);
                continue;
            }
            self.pending.insert(
                mark.no,
                Pending {
                    kind: mark.kind,
                    due: mark.due,
                    eager: mark.eager,
                    attempt: 1,
                    scheduled_at: record.at,
                    frame,
                    answered: false,
                },
            );
        }
        self.records.push(record);
    }
}

fn times_out_at(start: &Start, at: Timestamp) -> Option<Timestamp> {
    start.timeout_ms.map(|timeout| Timestamp(at.0.saturating_add(timeout)))
}
