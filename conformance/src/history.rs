//! The suite's events of a run, derived from what history says of it and from nothing else: its exported records, and where
//! processes end, also whose frames they stand in.
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
//! | `InvocationCompleted` | a record after which no step and no attempt of the run is under way: it waits, or has ended; a step whose process is gone: the next record is another one's |
//!
//! A scope's name begins with what the suite calls such a part of a run. The looks of a `WaitForCondition` are one operation
//! there, and the time until the next one is a detail of it; a `Callback` scope gives a callback its name.

use std::collections::{BTreeMap, BTreeSet};

use everpulse::Golden;
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::{CloseStatus, CommandKind, Record};
use everpulse_protocol::{RunId, WriterId};
use serde_json::{Value, json};

use self::known::Known;
pub use self::words::operation_id;
use self::words::{error, result, scope_id};

mod asked;
mod happened;
mod known;
mod words;

/// What is known of the runs that a run began, by their ids.
pub type Children = BTreeMap<RunId, Golden>;

/// Who wrote the records of a run, by their numbers. Where nobody looked, nobody is said to have gone.
pub type Writers = BTreeMap<u32, WriterId>;

/// The suite's events of a run, numbered from 1.
#[must_use]
pub fn events(history: &Golden, children: &Children, writers: &Writers) -> Vec<Value> {
    let mut told = Told { known: Known::of(history), children, events: Vec::new(), busy: BTreeSet::new() };
    let mut before = None;
    for record in &history.records {
        let writer = writers.get(&record.seq);
        if before.is_some() && writer.is_some() && writer != before {
            told.taken_over(record);
        }
        before = writer.or(before);
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

struct Told<'a> {
    known: Known,
    children: &'a Children,
    events: Vec<Value>,
    /// Steps, and attempts at activities, that are under way.
    busy: BTreeSet<u32>,
}

impl Told<'_> {
    /// Another process goes on with the run. A step is done by the process that owns its run, so one that is under way ended
    /// with the one before; an attempt at an activity goes on without it.
    fn taken_over(&mut self, record: &Record) {
        let is_step = |no: &u32| self.known.marks.get(no).is_some_and(|mark| mark.kind == CommandKind::Step);
        if self.busy.iter().any(is_step) {
            self.push("InvocationCompleted", json!({}), record);
        }
    }

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
        self.push_of(event, "Callback", operation_id(no), &name, parent, details, record);
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
        self.push_of(event, kind, operation_id(no), &name, parent, details, record);
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
