//! What the project writes, one of each kind: damage begins with it.

use bytes::Bytes;
use everpulse_protocol::blob::{Piece, Reference};
use everpulse_protocol::codec::Body;
use everpulse_protocol::continuation::Continues;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::{Event, EventBody, IdPolicy, InboxFrame, NextAttempt, Outcome, ReplyTo, Report, Start};
use everpulse_protocol::family::{Caller, CallerKind, Demand, Parent, ParentClose, Target};
use everpulse_protocol::history::{
    Close, CloseStatus, ClosedRun, CommandKind, CommandMark, Frame, Hash, Parked, ParkedKind, QueueMark, Record,
    RecordBody, Verified, Window,
};
use everpulse_protocol::note::{Note, NoteKind};
use everpulse_protocol::permit::{Account, Alone, Joins, Member, Notice, SessionId, Silent, Terms};
use everpulse_protocol::priority::{Opened, Priority};
use everpulse_protocol::reply::{Reply, ReplyBody, ReplyFrame, UpdateState};
use everpulse_protocol::shard::Config;
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::task::{Control, OnExhausted, RetryPolicy, Task, TaskFrame, TaskOptions};
use everpulse_protocol::timer::{TimerMessage, Wake};
use everpulse_protocol::view::Fold;
use everpulse_protocol::{
    EventId, Failure, FailureKind, Payload, Position, RequestId, RunId, Timestamp, WorkflowId, WriterId, encode,
};
use serde::Serialize;
use uuid::Uuid;

const RUN: RunId = RunId(Uuid::from_u128(7));

pub fn event_id(n: u128) -> EventId {
    EventId(Uuid::from_u128(n))
}

fn workflow_id() -> WorkflowId {
    WorkflowId::new("order-42").expect("a good id")
}

fn payload<T: Serialize>(value: &T) -> Payload {
    Payload::encode(value).expect("it can be encoded")
}

fn arguments() -> Payload {
    payload(&std::collections::BTreeMap::from([("n", 3_u64)]))
}

fn failure() -> Failure {
    let mut failure = Failure::new(FailureKind::Failed, "declined").exhausted(3);
    failure.type_name = "PaymentError".to_owned();
    failure.chain = vec!["no money".to_owned()];
    failure.value = Some(payload(&"value"));
    failure
}

pub fn blobs() -> Vec<Bytes> {
    let data = Bytes::from_static(b"tea");
    let reference = Reference { at: Some("7:41/8:2".to_owned()), ..Reference::to(&data) };
    let piece = Piece { hash: reference.hash, no: 2, of: 3, at: Timestamp(1_000), data };
    vec![reference.to_bytes(), encode(&piece)]
}

fn start() -> Start {
    Start {
        workflow: "twice".to_owned(),
        version: Some(1),
        args: arguments(),
        policy: IdPolicy::Attach,
        tags: vec!["vip".to_owned()],
        start_at: None,
        timeout_ms: Some(60_000),
        headers: Some(payload(&"a header")),
        priority: Default::default(),
    }
}

fn reply_to() -> ReplyTo {
    ReplyTo { client: "c1".to_owned(), request: RequestId(Uuid::from_u128(9)) }
}

fn event(n: u128, body: &EventBody) -> Event {
    Event {
        id: event_id(n),
        workflow_id: workflow_id(),
        run_id: Some(RUN),
        exact: false,
        sent_at: Timestamp(1_000),
        reply_to: Some(reply_to()),
        again: false,
        body: Body::of(body),
    }
}

fn event_bodies() -> Vec<EventBody> {
    vec![
        EventBody::Start(start()),
        EventBody::SignalWithStart { start: start(), name: "word".to_owned(), value: payload(&"hello") },
        EventBody::Spawn { start: start(), parent: parent() },
        EventBody::ContinueAsNew { start: start(), continues: continues(), parent: Some(parent()) },
        EventBody::Demanded {
            caller: Caller { workflow_id: workflow_id(), run_id: RUN, step: 5, kind: CallerKind::Awaits },
            demand: Demand::Signal { name: "word".to_owned(), value: payload(&"hello") },
        },
        EventBody::ChildBegan { step: 5 },
        EventBody::ChildClosed { step: 5, close: close(), never_began: true },
        EventBody::Delivered { step: 6, outcome: Outcome::Failed(failure()) },
        EventBody::Signal { headers: Some(payload(&"a header")), name: "word".to_owned(), value: payload(&"hello") },
        EventBody::SignalTagged {
            tag: "vip".to_owned(),
            name: "word".to_owned(),
            value: payload(&"hello"),
            headers: Some(payload(&"a header")),
        },
        EventBody::Update {
            id: "u-1".to_owned(),
            name: "add".to_owned(),
            args: payload(&"tea"),
            patient: true,
            headers: Some(payload(&"a header")),
        },
        EventBody::UpdateAccepted {
            id: "u-1".to_owned(),
            name: "add".to_owned(),
            args: payload(&"tea"),
            headers: None,
        },
        EventBody::ActivitySettled { step: 0, attempt: 1, outcome: Outcome::Done(payload(&6_u64)) },
        EventBody::StepSettled { step: 1, outcome: Outcome::Failed(failure()) },
        EventBody::AttemptFailed { step: 0, attempt: 1, failure: failure(), next: NextAttempt::At(Timestamp(2_000)) },
        EventBody::PromiseSettled { step: 4, outcome: Outcome::Done(payload(&true)) },
        EventBody::AttemptLeft { step: 0, attempt: 1, until: Timestamp(9_000), task: Box::new(task()), running: false },
        EventBody::AttemptReported { step: 0, attempt: 1, report: Report::Done(payload(&true)) },
        EventBody::AttemptReported {
            step: 0,
            attempt: 1,
            report: Report::Failed { failure: failure(), retryable: true },
        },
        EventBody::Cancel { reason: "enough".to_owned() },
        EventBody::Terminate { reason: "enough".to_owned() },
        EventBody::Resume,
        EventBody::Describe,
        EventBody::AskResult,
        EventBody::AskPublished { name: "progress".to_owned() },
        EventBody::AskUpdate { id: "u-1".to_owned(), name: Some("add".to_owned()) },
        EventBody::Query { name: "count_of".to_owned(), args: payload(&"tea") },
        EventBody::Wake { shard: 0, number: 3 },
    ]
}

pub fn inbox() -> Vec<Bytes> {
    let events = (100..).zip(event_bodies()).map(|(n, body)| event(n, &body)).collect();
    let alone = event_bodies().into_iter().map(|body| InboxFrame { shard: 0, events: vec![event(7, &body)] });
    std::iter::once(InboxFrame { shard: 0, events }).chain(alone).map(|frame| encode(&frame)).collect()
}

fn task() -> Task {
    Task {
        id: event_id(20),
        workflow_id: workflow_id(),
        run_id: RUN,
        shard: 0,
        step: 0,
        queue: "default".to_owned(),
        activity: "double".to_owned(),
        args: arguments(),
        attempt: 2,
        scheduled_at: Timestamp(1_000),
        options: TaskOptions {
            start_to_close_ms: 1_000,
            heartbeat_ms: Some(100),
            schedule_to_start_ms: Some(1_000),
            schedule_to_close_ms: Some(10_000),
            retry: RetryPolicy { max_attempts: Some(5), ..RetryPolicy::default() },
            exhausted: OnExhausted::Park,
            priority: Default::default(),
        },
        heartbeat: Some(payload(&50_u8)),
        failures: vec![failure()],
        attempts_before: 0,
        returned: Some(failure()),
        headers: Some(payload(&"a header")),
    }
}

pub fn tasks() -> Vec<Bytes> {
    let mut urgent = task();
    urgent.options.priority = Priority { level: Some(1), key: Some("acme".to_owned()), weight: Some(2_500) };
    vec![encode(&TaskFrame { tasks: vec![task(), task()] }), encode(&TaskFrame { tasks: vec![urgent] })]
}

pub fn permits() -> Vec<Bytes> {
    let session = SessionId(Uuid::from_u128(30));
    let notice = Notice {
        session,
        number: 2,
        joins: None,
        asks: 2,
        returns: 1,
        silent: vec![Silent { session: SessionId(Uuid::from_u128(31)), number: 1 }],
        leaves: false,
        account: Some(Box::new(Account {
            at: at(0),
            terms: Terms { limit: 2, rest_ms: 0 },
            members: vec![Member { session, number: 1, holds: 1, waits: 1 }],
            line: vec![session],
            over: vec![SessionId(Uuid::from_u128(32))],
        })),
    };
    let joins = Joins { terms: Some(Terms { limit: 2, rest_ms: 700 }), alone: Some(Alone { after: Some(at(0)) }) };
    let joins = Notice { number: 1, joins: Some(joins), account: None, silent: Vec::new(), ..notice.clone() };
    let again = Notice { joins: Some(Joins { terms: None, alone: None }), ..joins.clone() };
    vec![encode(&notice), encode(&joins), encode(&again)]
}

pub fn lanes() -> Vec<Bytes> {
    ["mail.p1", "mail.p3.f15"].map(|lane| encode(&Opened { lane: lane.to_owned() })).to_vec()
}

pub fn controls() -> Vec<Bytes> {
    vec![encode(&Control { cancelled: vec![event_id(20), event_id(21)] })]
}

pub fn timers() -> Vec<Bytes> {
    let wake = Wake { shard: 0, number: 3, due: Timestamp(5_000) };
    let retry = TimerMessage::Retry { due: Timestamp(5_000), task: Box::new(task()) };
    vec![encode(&TimerMessage::Wake(wake)), encode(&retry)]
}

pub fn dead_letters() -> Vec<Bytes> {
    let letters = [
        Letter::Task(Box::new(task())),
        Letter::Event(Box::new(event(7, &EventBody::Start(start())))),
        Letter::Unreadable { topic: "inbox".to_owned(), bytes: tasks()[0].clone() },
    ];
    let letters = letters.map(|letter| DeadLetter { at: Timestamp(3), reason: "it failed".to_owned(), letter });
    letters.iter().map(encode).collect()
}

pub fn replies() -> Vec<Bytes> {
    let mut fold = Fold::default();
    records().iter().for_each(|record| fold.apply(record));
    let close = Box::new(Close { status: CloseStatus::Completed, outcome: Outcome::Done(payload(&1)) });
    let bodies = vec![
        ReplyBody::Started { run_id: RUN, attached: true },
        ReplyBody::Taken { run_id: RUN, open: true },
        ReplyBody::Open { run_id: RUN },
        ReplyBody::Closed { run_id: RUN, close },
        ReplyBody::Description(Box::new(fold.view().expect("it was started"))),
        ReplyBody::Published { value: Some(payload(&1)) },
        ReplyBody::Answered { outcome: Outcome::Done(payload(&3)) },
        ReplyBody::Update { run_id: Some(RUN), state: UpdateState::Refused(failure()) },
        ReplyBody::Update { run_id: Some(RUN), state: UpdateState::TakenBefore },
        ReplyBody::Update { run_id: Some(RUN), state: UpdateState::Answered(Outcome::Done(payload(&3))) },
        ReplyBody::Accepted,
        ReplyBody::Reached { runs: 3 },
        ReplyBody::AlreadyClosed { run_id: RUN },
        ReplyBody::AlreadyCompleted,
        ReplyBody::NotFound,
        ReplyBody::Expired { message: "too late".to_owned() },
        ReplyBody::Invalid { message: "no".to_owned() },
    ];
    let reply = |body| Reply { request: RequestId(Uuid::from_u128(9)), body };
    vec![encode(&ReplyFrame { replies: bodies.into_iter().map(reply).collect() })]
}

fn record(seq: u32, body: &RecordBody) -> Record {
    Record {
        workflow_id: workflow_id(),
        run_id: RUN,
        seq,
        event: event_id(u128::from(seq) + 7),
        at: Timestamp(1_000),
        body: Body::of(body),
        commands: Vec::new(),
        notes: Vec::new(),
        close: None,
    }
}

fn mark(no: u32, kind: CommandKind, name: &str) -> CommandMark {
    let due = (kind == CommandKind::Timer).then_some(Timestamp(9_000));
    let queue = if kind == CommandKind::Activity { "default" } else { "" };
    let target = kind.is_of_another_run().then(|| {
        Box::new(Target { workflow_id: workflow_id(), run_id: Some(RUN), on_close: Some(ParentClose::Terminate) })
    });
    CommandMark { name: name.to_owned(), queue: queue.to_owned(), due, target, ..CommandMark::new(no, kind) }
}

fn parent() -> Parent {
    Parent { workflow_id: workflow_id(), run_id: RUN, step: 5, hears_begin: true }
}

fn close() -> Box<Close> {
    Box::new(Close { status: CloseStatus::Failed, outcome: Outcome::Failed(failure()) })
}

/// A run of `twice`, and what else can be recorded.
pub fn records() -> Vec<Record> {
    let done = |step, n: u64| RecordBody::ActivitySettled { step, attempt: 1, outcome: Outcome::Done(payload(&n)) };
    let bodies = vec![
        RecordBody::Started {
            start: start(),
            version: 1,
            reply_to: Some(reply_to()),
            build: Some("4f2a9c".to_owned()),
        },
        RecordBody::AttemptFailed { step: 0, attempt: 1, failure: failure(), next: NextAttempt::Redrive },
        RecordBody::Parked { reason: Parked::new(ParkedKind::NoCode, "no code".to_owned()) },
        RecordBody::Resumed,
        RecordBody::Received { event: event(30, &EventBody::Resume), attempt: 1 },
        RecordBody::Applied { event: event_id(30) },
        RecordBody::Signalled {
            headers: Some(payload(&"a header")),
            name: "word".to_owned(),
            value: payload(&"hello"),
        },
        RecordBody::SignalledByTag {
            tag: "vip".to_owned(),
            name: "word".to_owned(),
            value: payload(&"hello"),
            headers: Some(payload(&"a header")),
        },
        done(0, 6),
        RecordBody::StepSettled { step: 9, outcome: Outcome::Failed(failure()) },
        RecordBody::PromiseSettled { step: 9, outcome: Outcome::Done(payload(&true)) },
        RecordBody::Spawned { start: start(), version: 1, parent: parent(), build: None },
        RecordBody::Continued { start: start(), version: 1, continues: continues(), parent: None, build: None },
        RecordBody::NeverBegan { workflow: "ship".to_owned(), parent: parent() },
        RecordBody::ChildBegan { step: 5 },
        RecordBody::ChildClosed { step: 5, close: close(), never_began: false },
        RecordBody::Delivered { step: 6, outcome: Outcome::Done(payload(&())) },
        RecordBody::AttemptLeft {
            step: 1,
            attempt: 1,
            until: Timestamp(9_000),
            task: Box::new(task()),
            running: false,
        },
        RecordBody::AttemptReported { step: 1, attempt: 1, report: Report::Beat { details: None } },
        RecordBody::AttemptOverdue { step: 1, attempt: 1, failure: failure() },
        RecordBody::TimerFired { step: 9 },
        RecordBody::CancelRequested { reason: "enough".to_owned() },
        RecordBody::HistoryExceeded { size: HistorySize { events: 21, bytes: 9_000 }, limit: HistorySize::SUGGESTED },
        RecordBody::UpdateAccepted {
            id: "u-1".to_owned(),
            name: "add".to_owned(),
            args: payload(&"tea"),
            headers: Some(payload(&"a header")),
        },
        done(1, 12),
    ];
    let mut records: Vec<Record> = (0..).zip(&bodies).map(|(seq, body)| record(seq, body)).collect();
    records[0].commands = vec![mark(0, CommandKind::Activity, "double")];
    records[7].commands = vec![
        mark(1, CommandKind::Activity, "double"),
        mark(2, CommandKind::Timer, ""),
        mark(3, CommandKind::Step, "add"),
        mark(4, CommandKind::Promise, ""),
        mark(5, CommandKind::Child, "ship"),
        mark(6, CommandKind::Signal, "word"),
        mark(7, CommandKind::CancelRun, ""),
        mark(5, CommandKind::Detach, ""),
        mark(9, CommandKind::TerminateRun, ""),
        mark(2, CommandKind::Cancel, ""),
        mark(8, CommandKind::Patch, "edit"),
        mark(8, CommandKind::DeprecatedPatch, "old-edit"),
    ];
    records[7].notes = vec![
        Note { name: "payment".to_owned(), before: Some(1), ..Note::new(0, NoteKind::ScopeBegan) },
        Note { scope: Some(0), ..Note::new(1, NoteKind::Command) },
        Note { value: Some(payload(&7_u64)), before: Some(9), ..Note::new(0, NoteKind::ScopeDone) },
    ];
    let answer = Some(Box::new(Outcome::Done(payload(&1))));
    if let Some(last) = records.last_mut() {
        last.commands = vec![CommandMark { answer, ..mark(0, CommandKind::Answer, "u-1") }];
        last.close = Some(Close { status: CloseStatus::Completed, outcome: Outcome::Done(payload(&12_u64)) });
    }
    records
}

/// A record that carries one that carries one, and so on. None is written so.
pub fn nested(levels: usize) -> Record {
    let within = |inner| RecordBody::Carried { piece: 0, pieces: 1, records: vec![inner], commands: Vec::new() };
    (0..levels).fold(records().remove(0), |inner, _| record(0, &within(inner)))
}

fn continues() -> Continues {
    Continues { first: RUN, previous: RUN, number: 1, version: 1 }
}

/// A run that ends so that another one can go on.
fn succession() -> Vec<Record> {
    let next = RunId(Uuid::from_u128(11));
    let of = |run, seq, body: &RecordBody| Record { run_id: RunId(Uuid::from_u128(run)), ..record(seq, body) };
    let mut last = of(10, 0, &records()[0].body().expect("it was written here"));
    let target = Target { workflow_id: workflow_id(), run_id: Some(next), on_close: None };
    last.commands =
        vec![CommandMark { target: Some(Box::new(target)), ..mark(0, CommandKind::ContinueAsNew, "twice") }];
    last.close = Some(Close { status: CloseStatus::ContinuedAsNew, outcome: Outcome::Failed(failure()) });
    let start = EventBody::ContinueAsNew { start: start(), continues: continues(), parent: None };
    let received = |n, body: &EventBody| RecordBody::Received { event: event(n, body), attempt: 0 };
    let word = EventBody::Signal { name: "word".to_owned(), value: payload(&"hello"), headers: None };
    vec![last, of(11, 0, &received(11, &start)), of(11, 1, &received(30, &word))]
}

/// The history of a shard, frame by frame, not yet chained.
pub fn frames() -> Vec<Frame> {
    let run = records();
    let carried = RecordBody::Carried { piece: 0, pieces: 1, records: run[..8].to_vec(), commands: vec![(1, 4)] };
    let closed = ClosedRun {
        workflow_id: workflow_id(),
        run_id: RUN,
        workflow: "twice".to_owned(),
        version: 1,
        started_at: Timestamp(1_000),
        closed_at: Timestamp(2_000),
        status: CloseStatus::Failed,
        never_began: true,
        first_run: Some(RUN),
        continued_as: Some(RunId(Uuid::from_u128(9))),
    };
    let window = Some(Window { first: 2, since: Timestamp(10), expired: Timestamp(20) });
    let remembered =
        RecordBody::Remembered { closed: vec![closed], inputs: vec![(event_id(50), Timestamp(30))], window };
    let reached = RecordBody::TagReached { event: event_id(51), tag: "vip".to_owned(), since: 2, runs: 3, all: true };
    let mut rounds: Vec<Vec<Record>> = run.chunks(2).map(<[Record]>::to_vec).collect();
    rounds.push(vec![record(0, &carried), record(0, &RecordBody::Terminated { reason: "enough".to_owned() })]);
    // A run whose beginning is not in the partition any more.
    let mut other = record(0, &carried);
    other.run_id = RunId(Uuid::from_u128(8));
    rounds.push(vec![other]);
    rounds.push(succession());
    rounds.push(vec![record(0, &remembered), record(0, &reached), record(1, &RecordBody::TimedOut)]);
    let frame = |(number, records): (u64, Vec<Record>)| Frame {
        shard: 0,
        number,
        previous: Hash::GENESIS,
        writer: WriterId(Uuid::from_u128(3)),
        verified: number.checked_sub(1).map(|number| Verified { number, position: at(number) }),
        at: Timestamp(1_000 + number),
        config: (number == 0).then(|| Config::new(1, 1)),
        wake: Some(Wake { shard: 0, number, due: Timestamp(5_000) }),
        sent_below: number.saturating_sub(1),
        queues: vec![QueueMark { queue: "default".to_owned(), position: at(1) }],
        records,
    };
    (0..).zip(rounds).map(frame).collect()
}

/// Where the frame of this number stands in a partition that holds nothing else.
pub fn at(number: u64) -> Position {
    Position { ledger: 1, entry: number }
}

/// What people type.
pub const WORDS: [&str; 7] = [
    "embedded:/a b/c?mode=relaxed&shards=4",
    "pulsar+ssl://[::1]:7000/t/n?tls_ca=/etc/ca.pem",
    "pulsar://h:1/t/n?admin=http://h:2/&shards=64&inbox_partitions=8",
    "12:3",
    "00000000-0000-0000-0000-000000000007",
    "ept1_AAGQwN4AAHAAgAAAAAAAAAEAAAADb3JkZXItNDIVzOmq",
    "ept1_AQAAAAIBkMDeAABwAIAAAAAAAAABAAAAB29yZGVyLTQylfkgCQ",
];
