//! What happens to runs, as those see it who only look on: made of records, told when their frame stands.

use std::time::{Duration, SystemTime};

use everpulse_protocol::event::Start;
use everpulse_protocol::history::{Begun, CloseStatus, RecordBody};
use everpulse_protocol::{Coding, Headers, Payload, RunId, Timestamp, WorkflowId};
use everpulse_sdk::intercept::{Happened, RunEvent};

use super::Applier;
use crate::run::Run;

impl Applier<'_> {
    /// Notes what a record tells, before it is in the book. Nothing, where nobody looks on.
    pub(super) fn observe(&mut self, of: (&WorkflowId, RunId), body: &RecordBody, close: Option<CloseStatus>) {
        if self.registry.interceptors().is_empty() || matches!(body, RecordBody::NeverBegan { .. }) {
            return;
        }
        let (workflow_id, run_id) = of;
        let coding = self.registry.coding();
        let what =
            happened(coding, workflow_id, body).into_iter().chain(close.map(|status| Happened::Ended { status }));
        let what: Vec<Happened> = what.collect();
        if what.is_empty() {
            return;
        }
        let (workflow, headers) = match body.begun() {
            Some(Begun { start, .. }) => (start.workflow.clone(), start.headers.clone()),
            None => self.book.runs.get(&run_id).map(|run| beginning(run)).unwrap_or_default(),
        };
        let headers = opened(coding, workflow_id, headers);
        for what in what {
            let mut event = RunEvent::new(workflow_id.clone(), run_id, workflow.clone(), what);
            event.headers = headers.clone();
            event.at = time(self.at);
            self.round.observed.push(event);
        }
    }
}

/// What kind of thing a record tells; nothing, where it concerns nobody outside.
fn happened(coding: &Coding, workflow_id: &WorkflowId, body: &RecordBody) -> Option<Happened> {
    match body {
        RecordBody::Started { version, .. } => Some(Happened::Started { version: *version, parent: None }),
        RecordBody::Spawned { version, parent, .. } => {
            Some(Happened::Started { version: *version, parent: Some((parent.workflow_id.clone(), parent.run_id)) })
        }
        RecordBody::Continued { version, parent, .. } => {
            let parent = parent.as_ref().map(|parent| (parent.workflow_id.clone(), parent.run_id));
            Some(Happened::Started { version: *version, parent })
        }
        RecordBody::Signalled { name, headers, .. } => {
            let headers = opened(coding, workflow_id, headers.clone());
            Some(Happened::Signalled { name: name.clone(), headers })
        }
        RecordBody::UpdateAccepted { id, name, headers, .. } => {
            let headers = opened(coding, workflow_id, headers.clone());
            Some(Happened::Updated { name: name.clone(), id: id.clone(), headers })
        }
        RecordBody::SignalledByTag { tag, name, headers, .. } => {
            let headers = opened(coding, &WorkflowId::of_tag(tag), headers.clone());
            Some(Happened::Signalled { name: name.clone(), headers })
        }
        RecordBody::CancelRequested { reason } => Some(Happened::CancelRequested { reason: reason.clone() }),
        RecordBody::Parked { .. } => Some(Happened::Parked),
        _ => None,
    }
}

/// What a run began with, or is to begin with: its workflow, its headers. They are read from its records, as few look on.
fn beginning(run: &Run) -> (String, Option<Payload>) {
    let of = |start: &Start| (start.workflow.clone(), start.headers.clone());
    let start = run.records.iter().find_map(|record| match record.body().ok()? {
        RecordBody::Received { event, .. } => event.body().ok()?.as_start().map(of),
        body => body.begun().map(|begun| of(begun.start)),
    });
    start.unwrap_or_default()
}

/// Nothing, where they cannot be opened: who looks on is not told why a run does not go on.
fn opened(coding: &Coding, workflow_id: &WorkflowId, mut headers: Option<Payload>) -> Headers {
    match coding.open(workflow_id, &mut headers) {
        Ok(()) => Headers::of_payload(headers.as_ref()).unwrap_or_default(),
        Err(_) => Headers::new(),
    }
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at.0)).unwrap_or(SystemTime::UNIX_EPOCH)
}
