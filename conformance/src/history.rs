//! The suite's events of a run, derived from the run's exported history and from nothing else.
//!
//! | the suite says | it follows from |
//! |---|---|
//! | `ExecutionStarted`, `..Succeeded`, `..Failed`, `..TimedOut`, `..Stopped` | the first record; the record that closes the run |
//! | `StepStarted` | the command of a step or an activity; of another attempt the record of how it ended |
//! | `StepSucceeded`, `StepFailed` | `StepSettled`, `ActivitySettled`; `AttemptFailed` with the time of the next attempt |
//! | `WaitStarted`, `WaitSucceeded` | the command of a timer; `TimerFired` |
//! | `CallbackStarted` | the command of a promise, or of an activity whose attempt was left to be completed later |
//! | `CallbackSucceeded`, `CallbackFailed` | `PromiseSettled`, `AttemptReported` |
//! | `CallbackTimedOut` | `AttemptOverdue`, and the failure that it has |
//! | `ChainedInvokeStarted`, `..Succeeded`, `..Failed` | the command of a child, and the child's own start; `ChildClosed` |
//! | `ContextStarted`, `..Succeeded`, `..Failed` | the notes of a scope's begin and end |
//! | `InvocationCompleted` | a record after which no step and no attempt of the run is under way: it waits, or has ended |
//!
//! A scope's name begins with what the suite calls such a part of a run. The looks of a `WaitForCondition` are one operation
//! there, and the time until the next one is a detail of it; a `Callback` scope gives a callback its name.

use std::collections::{BTreeMap, BTreeSet};

use everpulse::Golden;
use everpulse_protocol::event::{NextAttempt, Outcome, Report};
use everpulse_protocol::history::{CloseStatus, CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::note::{Note, NoteKind};
use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, FailureKind, Payload, RunId, Timestamp, Token};
use serde_json::{Map, Value, json};

use crate::payload;

/// What is known of the runs that a run began, by their ids.
pub type Children = BTreeMap<RunId, Golden>;

/// The suite's events of a run, numbered from 1.
#[must_use]
pub fn events(history: &Golden, children: &Children) -> Vec<Value> {
    let mut told = Told { known: Known::of(history), children, events: Vec::new(), busy: BTreeSet::new() };
    for record in &history.records {
        told.record(record);
    }
    told.events
}

/// The runs that a run began.
pub fn begun(history: &Golden) -> impl Iterator<Item = (String, RunId)> {
    let marks = history.records.iter().flat_map(|record| &record.commands);
    let children = marks.filter(|mark| mark.kind == CommandKind::Child).filter_map(|mark| mark.target.as_deref());
    children.filter_map(|target| Some((target.workflow_id.to_string(), target.run_id?)))
}

/// A scope of the run.
struct Scope {
    /// What the suite calls such a part.
    kind: String,
    name: String,
    around: Option<u32>,
}

/// What has to be known of the whole before it is told.
struct Known {
    scopes: BTreeMap<u32, Scope>,
    /// Of commands: the scope and the name.
    notes: BTreeMap<u32, (Option<u32>, String)>,
    marks: BTreeMap<u32, CommandMark>,
    /// Activities that were left to be completed later, with when at the latest.
    left: BTreeMap<u32, (Box<Task>, Timestamp)>,
    token: Token,
}

impl Known {
    fn of(history: &Golden) -> Self {
        let token = Token { workflow_id: history.workflow_id.clone(), run_id: history.run_id, step: 0, attempt: None };
        let mut known = Self {
            scopes: BTreeMap::new(),
            notes: BTreeMap::new(),
            marks: BTreeMap::new(),
            left: BTreeMap::new(),
            token,
        };
        for record in &history.records {
            for note in &record.notes {
                known.note(note);
            }
            for mark in record.commands.iter().filter(|mark| mark.kind.is_work()) {
                known.marks.insert(mark.no, mark.clone());
            }
            if let Ok(RecordBody::AttemptLeft { step, task, until, .. }) = record.body() {
                known.left.insert(step, (task, until));
            }
        }
        known
    }

    fn note(&mut self, note: &Note) {
        match note.kind {
            NoteKind::Command => {
                self.notes.insert(note.no, (note.scope, note.name.clone()));
            }
            NoteKind::ScopeBegan => {
                let (kind, name) = note.name.split_once(' ').unwrap_or((&note.name, ""));
                let (kind, name) = (kind.to_owned(), name.to_owned());
                self.scopes.insert(note.no, Scope { kind, name, around: note.scope });
            }
            _ => {}
        }
    }

    fn scope_of(&self, no: u32) -> Option<u32> {
        self.notes.get(&no).and_then(|(scope, _)| *scope)
    }

    /// The innermost scope around a command, if it is one of this kind.
    fn within(&self, no: u32, kind: &str) -> Option<(u32, &Scope)> {
        let scope = self.scope_of(no)?;
        self.scopes.get(&scope).filter(|found| found.kind == kind).map(|found| (scope, found))
    }

    /// The innermost scope from here on that the suite has as a part of a run.
    fn part(&self, mut scope: Option<u32>) -> Option<String> {
        loop {
            let no = scope?;
            let found = self.scopes.get(&no)?;
            if is_part(&found.kind) {
                return Some(scope_id(no));
            }
            scope = found.around;
        }
    }

    fn is_callback(&self, no: u32) -> bool {
        self.left.contains_key(&no) || self.marks.get(&no).is_some_and(|mark| mark.kind == CommandKind::Promise)
    }
}

fn is_part(kind: &str) -> bool {
    !matches!(kind, "WaitForCondition" | "Callback")
}

fn scope_id(no: u32) -> String {
    format!("scope-{no}")
}

struct Told<'a> {
    known: Known,
    children: &'a Children,
    events: Vec<Value>,
    /// Steps, and attempts at activities, that are under way.
    busy: BTreeSet<u32>,
}

impl Told<'_> {
    fn record(&mut self, record: &Record) {
        let Ok(body) = record.body() else {
            // It is compared with nothing, and moves what follows.
            return self.push("Unreadable", json!({}), record);
        };
        let is_heard = self.body(record, &body);
        let mut notes = record.notes.iter().peekable();
        for mark in record.commands.iter().filter(|mark| mark.kind.is_work()) {
            while let Some(note) = notes.next_if(|note| note.before.is_none_or(|before| before <= mark.no)) {
                self.note(record, note);
            }
            self.command(record, mark);
        }
        notes.for_each(|note| self.note(record, note));
        if let Some(close) = &record.close {
            self.push("InvocationCompleted", json!({}), record);
            let (event, details) = match (&close.status, &close.outcome) {
                (CloseStatus::Completed, Outcome::Done(value)) => ("Succeeded", json!({ "Result": result(value) })),
                (CloseStatus::Failed, Outcome::Failed(failure)) => ("Failed", json!({ "Error": error(failure) })),
                (CloseStatus::TimedOut, Outcome::Failed(failure)) => ("TimedOut", json!({ "Error": error(failure) })),
                (CloseStatus::Cancelled | CloseStatus::Terminated, Outcome::Failed(failure)) => {
                    ("Stopped", json!({ "Error": error(failure) }))
                }
                // The suite has no word for it: that another run goes on, and what a later release does.
                _ => ("Ended", json!({})),
            };
            self.push(&format!("Execution{event}"), details, record);
        } else if is_heard && self.busy.is_empty() {
            self.push("InvocationCompleted", json!({}), record);
        }
    }

    /// What happened. False: it is nothing that the suite takes for an invocation.
    fn body(&mut self, record: &Record, body: &RecordBody) -> bool {
        match body {
            begins if begins.begun().is_some() => self.push("ExecutionStarted", json!({}), record),
            RecordBody::StepSettled { step, outcome } => {
                self.busy.remove(step);
                let details = self.until_next_look(*step, record);
                self.ended(record, *step, outcome, details);
            }
            RecordBody::ActivitySettled { step, attempt, outcome } => {
                self.busy.remove(step);
                if !self.known.is_callback(*step) {
                    self.next_attempt(record, *step, *attempt);
                    self.ended(record, *step, outcome, json!({ "RetryDetails": { "CurrentAttempt": attempt } }));
                }
            }
            RecordBody::AttemptFailed { step, attempt, failure, next } => {
                self.busy.remove(step);
                self.next_attempt(record, *step, *attempt);
                let mut retry = json!({ "CurrentAttempt": attempt });
                if let NextAttempt::At(at) = next {
                    retry["NextAttemptDelaySeconds"] = seconds(*at, record.at);
                }
                let details = json!({ "Error": error(failure), "RetryDetails": retry });
                self.of_step("StepFailed", *step, details, record);
            }
            RecordBody::PromiseSettled { step, outcome } => self.called_back(record, *step, outcome),
            RecordBody::AttemptLeft { step, .. } => {
                self.busy.remove(step);
            }
            RecordBody::AttemptReported { step, report, .. } => match report {
                Report::Beat { .. } => return false,
                Report::Done(value) => self.called_back(record, *step, &Outcome::Done(value.clone())),
                Report::Failed { failure, .. } => self.called_back(record, *step, &Outcome::Failed(failure.clone())),
            },
            RecordBody::AttemptOverdue { step, failure, .. } => {
                // A worker says what becomes of the activity.
                self.busy.insert(*step);
                let details = json!({ "Error": overdue(failure) });
                self.of_callback("CallbackTimedOut", *step, details, record);
            }
            RecordBody::TimerFired { step } => {
                if self.known.within(*step, "WaitForCondition").is_none() {
                    let mark = self.known.marks.get(step);
                    let began = self.events.iter().find(|event| event["Id"] == json!(command_id(*step)));
                    let duration = began.map(|event| event["WaitStartedDetails"]["Duration"].clone());
                    let duration = duration.filter(|_| mark.is_some()).unwrap_or_default();
                    self.of_command("WaitSucceeded", "Wait", *step, json!({ "Duration": duration }), record);
                }
            }
            RecordBody::ChildClosed { step, close, .. } => {
                let (event, details) = match &close.outcome {
                    Outcome::Done(value) => ("ChainedInvokeSucceeded", json!({ "Result": result(value) })),
                    Outcome::Failed(failure) => ("ChainedInvokeFailed", json!({ "Error": error(failure) })),
                };
                self.of_command(event, "ChainedInvoke", *step, details, record);
            }
            RecordBody::Signalled { .. } | RecordBody::Delivered { .. } | RecordBody::CancelRequested { .. } => {}
            _ => return false,
        }
        true
    }

    fn command(&mut self, record: &Record, mark: &CommandMark) {
        let no = mark.no;
        match mark.kind {
            CommandKind::Activity if self.known.is_callback(no) => {
                self.busy.insert(no);
                let (task, _) = &self.known.left[&no];
                let token = Token { step: no, attempt: Some(task.attempt), ..self.known.token.clone() };
                let mut details = json!({ "CallbackId": token.to_string() });
                details["Timeout"] = json!(task.options.start_to_close_ms / 1_000);
                if let Some(heartbeat) = task.options.heartbeat_ms {
                    details["HeartbeatTimeout"] = json!(heartbeat / 1_000);
                }
                self.of_callback("CallbackStarted", no, details, record);
            }
            CommandKind::Step | CommandKind::Activity => {
                self.busy.insert(no);
                self.of_step("StepStarted", no, json!({}), record);
            }
            CommandKind::Timer if self.known.within(no, "WaitForCondition").is_none() => {
                let duration = mark.due.map(|due| seconds(due, record.at));
                self.of_command("WaitStarted", "Wait", no, json!({ "Duration": duration }), record);
            }
            CommandKind::Promise => {
                let token = Token { step: no, ..self.known.token.clone() };
                self.of_callback("CallbackStarted", no, json!({ "CallbackId": token.to_string() }), record);
            }
            CommandKind::Child => self.invoked(record, mark),
            _ => {}
        }
    }

    /// What a child was begun with is in its own history.
    fn invoked(&mut self, record: &Record, mark: &CommandMark) {
        let mut details = json!({ "FunctionName": mark.name });
        let run_id = mark.target.as_deref().and_then(|target| target.run_id);
        let child = run_id.and_then(|run_id| self.children.get(&run_id));
        let body = child.and_then(|child| child.records.first()).and_then(|first| first.body().ok());
        if let Some(begun) = body.as_ref().and_then(RecordBody::begun) {
            details["DurableExecutionArn"] = json!(run_id.map(|run_id| run_id.to_string()));
            details["ExecutedVersion"] = json!(begun.version.to_string());
            // A workflow's arguments are a map by their names; the suite's functions have one.
            if let Ok(args) = begun.start.args.decode::<Map<String, Value>>()
                && let Some((_, argument)) = args.iter().next()
            {
                details["Input"] = json!({ "Payload": payload::json(argument) });
            }
            let tenant = begun.start.tags.iter().find_map(|tag| tag.strip_prefix("tenant:"));
            if let Some(tenant) = tenant {
                details["TenantId"] = json!(tenant);
            }
        }
        self.of_command("ChainedInvokeStarted", "ChainedInvoke", mark.no, details, record);
    }

    fn note(&mut self, record: &Record, note: &Note) {
        let (event, details) = match note.kind {
            NoteKind::ScopeBegan => ("ContextStarted", json!({})),
            NoteKind::ScopeDone => {
                ("ContextSucceeded", json!({ "Result": note.value.as_ref().map_or_else(|| json!({}), result) }))
            }
            NoteKind::ScopeFailed => {
                ("ContextFailed", json!({ "Error": note.failure.as_deref().map_or_else(|| json!({}), error) }))
            }
            _ => return,
        };
        let Some(scope) = self.known.scopes.get(&note.no).filter(|scope| is_part(&scope.kind)) else { return };
        let (kind, name, parent) = (scope.kind.clone(), scope.name.clone(), self.known.part(scope.around));
        self.push_of(event, &kind, scope_id(note.no), &name, parent, details, record);
    }

    /// Another attempt than the first has no record of its begin: it began when it was due, and here is how it ended.
    fn next_attempt(&mut self, record: &Record, no: u32, attempt: u32) {
        if attempt > 1 {
            self.of_step("StepStarted", no, json!({}), record);
        }
    }

    fn ended(&mut self, record: &Record, no: u32, outcome: &Outcome, mut details: Value) {
        let event = match outcome {
            Outcome::Done(value) => {
                details["Result"] = result(value);
                "StepSucceeded"
            }
            Outcome::Failed(failure) => {
                details["Error"] = error(failure);
                "StepFailed"
            }
        };
        self.of_step(event, no, details, record);
    }

    /// Of a look for a condition: when the next one is due.
    fn until_next_look(&self, no: u32, record: &Record) -> Value {
        let Some((scope, _)) = self.known.within(no, "WaitForCondition") else { return json!({}) };
        let timers = record.commands.iter().filter(|mark| mark.kind == CommandKind::Timer);
        let due = timers.filter(|mark| self.known.scope_of(mark.no) == Some(scope)).find_map(|mark| mark.due);
        match due {
            Some(due) => json!({ "RetryDetails": { "NextAttemptDelaySeconds": seconds(due, record.at) } }),
            None => json!({}),
        }
    }

    fn called_back(&mut self, record: &Record, no: u32, outcome: &Outcome) {
        let (event, details) = match outcome {
            Outcome::Done(value) => ("CallbackSucceeded", json!({ "Result": result(value) })),
            Outcome::Failed(failure) => ("CallbackFailed", json!({ "Error": error(failure) })),
        };
        self.of_callback(event, no, details, record);
    }

    fn of_step(&mut self, event: &str, no: u32, details: Value, record: &Record) {
        let Some((scope, look)) = self.known.within(no, "WaitForCondition") else {
            return self.of_command(event, "Step", no, details, record);
        };
        let (name, parent) = (look.name.clone(), self.known.part(look.around));
        self.push_of(event, "WaitForCondition", scope_id(scope), &name, parent, details, record);
    }

    fn of_callback(&mut self, event: &str, no: u32, details: Value, record: &Record) {
        let scope = self.known.within(no, "Callback").map(|(_, scope)| scope.name.clone());
        let named = self.known.notes.get(&no).map(|(_, name)| name.clone());
        let name = scope.or(named).unwrap_or_default();
        let parent = self.known.part(self.known.scope_of(no));
        self.push_of(event, "Callback", command_id(no), &name, parent, details, record);
    }

    fn of_command(&mut self, event: &str, kind: &str, no: u32, details: Value, record: &Record) {
        let mark = self.known.marks.get(&no);
        let noted = self.known.notes.get(&no).map(|(_, name)| name).filter(|name| !name.is_empty());
        let name = match (noted, mark) {
            (Some(name), _) => name.clone(),
            // A child is told from others by its workflow id.
            (None, Some(mark)) => match &mark.target {
                Some(target) => target.workflow_id.to_string(),
                None => mark.name.clone(),
            },
            (None, None) => String::new(),
        };
        let parent = self.known.part(self.known.scope_of(no));
        self.push_of(event, kind, command_id(no), &name, parent, details, record);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the fields of an event")]
    fn push_of(
        &mut self,
        event: &str,
        kind: &str,
        id: String,
        name: &str,
        parent: Option<String>,
        details: Value,
        record: &Record,
    ) {
        self.push(event, details, record);
        let Some(event) = self.events.last_mut() else { return };
        event["SubType"] = json!(kind);
        event["Id"] = json!(id);
        if !name.is_empty() {
            event["Name"] = json!(name);
        }
        if let Some(parent) = parent {
            event["ParentId"] = json!(parent);
        }
    }

    fn push(&mut self, event: &str, details: Value, record: &Record) {
        let number = self.events.len() + 1;
        self.events.push(json!({
            "EventType": event,
            "EventId": number,
            "EventTimestamp": record.at.0,
            format!("{event}Details"): details,
        }));
    }
}

fn command_id(no: u32) -> String {
    format!("command-{no}")
}

/// A value that a run or a part of it came to.
fn result(value: &Payload) -> Value {
    json!({ "Payload": payload::text(value), "Truncated": false })
}

/// A failure, by the name of its type alone.
fn error(failure: &Failure) -> Value {
    let path = failure.type_name.split('<').next().unwrap_or_default();
    let name = path.rsplit("::").next().filter(|name| !name.is_empty()).unwrap_or("Error");
    json!({ "Payload": { "ErrorType": name, "ErrorMessage": failure.message } })
}

/// Why an attempt is overdue, by what is recorded of it: one time-out, or the other.
fn overdue(failure: &Failure) -> Value {
    let kind = match failure.kind {
        FailureKind::TimedOut if failure.message.contains("gave no heartbeat") => "Callback.Heartbeat",
        FailureKind::TimedOut => "Callback.Timeout",
        _ => return error(failure),
    };
    json!({ "Payload": { "ErrorType": kind, "ErrorMessage": failure.message } })
}

/// Whole seconds between two times. A part of one counts as one: what is said of an attempt is recorded a little after it ended.
fn seconds(until: Timestamp, from: Timestamp) -> Value {
    json!(until.0.saturating_sub(from.0).div_ceil(1_000))
}
