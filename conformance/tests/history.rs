//! A history that is as expected gives the suite's events, and each wrong one gives others: what is compared can fail.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "it is a test")]

use everpulse::Golden;
use everpulse_conformance::history::{Children, Writers, events};
use everpulse_conformance::matching;
use everpulse_conformance::variables::Variables;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{IdPolicy, Outcome, Start};
use everpulse_protocol::history::{Close, CloseStatus, CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::note::{Note, NoteKind};
use everpulse_protocol::{EventId, Failure, FailureKind, Payload, RunId, Timestamp, WorkflowId, WriterId};
use serde_json::{Value, json};
use uuid::Uuid;

fn payload(text: &str) -> Payload {
    Payload::encode(&text).expect("a text")
}

fn begins() -> RecordBody {
    let start = Start {
        workflow: "greets".into(),
        version: None,
        args: payload("Ada"),
        policy: IdPolicy::Reject,
        tags: Vec::new(),
        start_at: None,
        timeout_ms: None,
        headers: None,
        priority: Default::default(),
    };
    RecordBody::Started { start, version: 1, reply_to: None, build: None }
}

fn record(seq: u32, at: u64, body: &RecordBody, commands: Vec<CommandMark>, notes: Vec<Note>) -> Record {
    Record {
        workflow_id: WorkflowId::new("case").expect("a good id"),
        run_id: RunId(Uuid::from_u128(7)),
        seq,
        event: EventId(Uuid::from_u128(100 + u128::from(seq))),
        at: Timestamp(at),
        body: Body::of(body),
        commands,
        notes,
        close: None,
    }
}

/// A step in a scope, a timer after it, and the end.
fn right() -> Vec<Record> {
    let step = CommandMark { name: "greet".into(), ..CommandMark::new(0, CommandKind::Step) };
    let timer = CommandMark { due: Some(Timestamp(4_000)), ..CommandMark::new(1, CommandKind::Timer) };
    let begun = Note { name: "RunInChildContext part".into(), before: Some(0), ..Note::new(0, NoteKind::ScopeBegan) };
    let inside = Note { scope: Some(0), ..Note::new(0, NoteKind::Command) };
    let done = Note { value: Some(payload("hello")), before: Some(1), ..Note::new(0, NoteKind::ScopeDone) };
    let settled = RecordBody::StepSettled { step: 0, outcome: Outcome::Done(payload("hello")) };
    let mut records = vec![
        record(0, 1_000, &begins(), vec![step], vec![begun, inside]),
        record(1, 2_000, &settled, vec![timer], vec![done]),
        record(2, 4_000, &RecordBody::TimerFired { step: 1 }, Vec::new(), Vec::new()),
    ];
    records[2].close = Some(Close { status: CloseStatus::Completed, outcome: Outcome::Done(payload("hello")) });
    records
}

fn expected() -> Vec<Value> {
    let said = json!({ "Result": { "Payload": "\"hello\"" } });
    vec![
        json!({ "EventId": 1, "EventType": "ExecutionStarted" }),
        json!({ "EventId": 2, "EventType": "ContextStarted", "SubType": "RunInChildContext", "Name": "part", "Id": "${PART}" }),
        json!({ "EventId": 3, "EventType": "StepStarted", "Name": "greet", "Id": "${STEP}", "ParentId": "${PART}" }),
        json!({ "EventId": 4, "EventType": "StepSucceeded", "Id": "${STEP}", "StepSucceededDetails": said }),
        json!({ "EventId": 5, "EventType": "ContextSucceeded", "Id": "${PART}", "ContextSucceededDetails": said }),
        json!({ "EventId": 6, "EventType": "WaitStarted", "Id": "${WAIT}", "WaitStartedDetails": { "Duration": 2 } }),
        json!({ "EventId": 7, "EventType": "InvocationCompleted" }),
        json!({ "EventId": 8, "EventType": "WaitSucceeded", "Id": "${WAIT}" }),
        json!({ "EventId": 9, "EventType": "InvocationCompleted" }),
        json!({ "EventId": 10, "EventType": "ExecutionSucceeded", "ExecutionSucceededDetails": said }),
    ]
}

fn told(records: Vec<Record>) -> Vec<Value> {
    told_by(records, &Writers::new())
}

fn told_by(records: Vec<Record>, writers: &Writers) -> Vec<Value> {
    let first = records.first().expect("there is one");
    let (workflow_id, run_id) = (first.workflow_id.clone(), first.run_id);
    let golden = Golden { workflow: "greets".into(), version: 1, build: None, workflow_id, run_id, records };
    events(&golden, &Children::new(), writers)
}

fn differences(records: Vec<Record>) -> Vec<String> {
    matching::compare(&expected(), &told(records), &mut Variables::default()).expect("no patterns")
}

#[test]
fn the_right_history_is_as_expected() {
    assert_eq!(differences(right()), Vec::<String>::new());
}

#[test]
fn a_wrong_history_differs() {
    type Edit = fn(&mut Vec<Record>);
    let edits: [(&str, Edit); 12] = [
        ("the beginning of the scope is not noted", |records| drop(records[0].notes.remove(0))),
        ("the step is not noted to be in it", |records| drop(records[0].notes.remove(1))),
        ("the end of the scope is not noted", |records| records[1].notes.clear()),
        ("what the scope came to is not noted", |records| records[1].notes[0].value = None),
        ("the scope has another name", |records| records[0].notes[0].name = "RunInChildContext other".into()),
        ("the scope ends behind the timer", |records| records[1].notes[0].before = Some(2)),
        ("two records are swapped", |records| records.swap(1, 2)),
        ("a record is missing", |records| drop(records.remove(1))),
        ("the step has another name", |records| records[0].commands[0].name = "other".into()),
        ("the timer is due at another time", |records| records[1].commands[0].due = Some(Timestamp(9_000))),
        ("the run has not ended", |records| records[2].close = None),
        ("the run came to something else", |records| {
            records[2].close = Some(Close { status: CloseStatus::Completed, outcome: Outcome::Done(payload("bye")) });
        }),
    ];
    for (what, edit) in edits {
        let mut records = right();
        edit(&mut records);
        assert!(!differences(records).is_empty(), "{what}");
    }
}

#[test]
fn a_process_ends_where_another_one_goes_on_with_its_step() {
    let writers = |of: [u128; 3]| (0..).zip(of.map(|number| WriterId(Uuid::from_u128(number)))).collect::<Writers>();
    let types = |writers: &Writers| {
        let events = told_by(right(), writers);
        events.iter().map(|event| event["EventType"].as_str().expect("a type").to_owned()).collect::<Vec<_>>()
    };
    let alone = types(&Writers::new());
    assert_eq!(types(&writers([1, 1, 1])), alone, "nobody has gone");
    assert_eq!(types(&writers([1, 1, 2])), alone, "a timer is nobody's");
    let mut interrupted = alone;
    interrupted.insert(3, "InvocationCompleted".to_owned());
    assert_eq!(types(&writers([1, 2, 2])), interrupted, "behind the begin of the step");
}

#[test]
fn each_way_to_end_is_told_apart() {
    for (status, event) in [
        (CloseStatus::Failed, "ExecutionFailed"),
        (CloseStatus::TimedOut, "ExecutionTimedOut"),
        (CloseStatus::Cancelled, "ExecutionStopped"),
        (CloseStatus::Terminated, "ExecutionStopped"),
        (CloseStatus::ContinuedAsNew, "ExecutionEnded"),
    ] {
        let mut records = right();
        let outcome = Outcome::Failed(Failure::new(FailureKind::Failed, "no"));
        records[2].close = Some(Close { status, outcome });
        assert_eq!(told(records).last().expect("the end")["EventType"], event, "{status:?}");
    }
}

#[test]
fn an_attempt_is_overdue_as_it_was_recorded() {
    for (message, kind) in [
        (
            "attempt 1 of activity `a`, which was left to be completed later, gave no heartbeat for 5 ms",
            "Callback.Heartbeat",
        ),
        (
            "attempt 1 of activity `a`, which was left to be completed later, was not completed within 5 ms",
            "Callback.Timeout",
        ),
    ] {
        let failure = Failure::new(FailureKind::TimedOut, message);
        let overdue = RecordBody::AttemptOverdue { step: 0, attempt: 1, failure };
        let mut records = right();
        records[1] = record(1, 2_000, &overdue, Vec::new(), Vec::new());
        let events = told(records);
        let overdue = events.iter().find(|event| event["EventType"] == "CallbackTimedOut").expect("it is told");
        let error = &overdue["CallbackTimedOutDetails"]["Error"]["Payload"];
        assert_eq!((&error["ErrorType"], &error["ErrorMessage"]), (&json!(kind), &json!(message)));
    }
}
