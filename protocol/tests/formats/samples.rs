//! A value of each kind that is stored or sent, with all of its fields.

use std::collections::BTreeMap;

use bytes::Bytes;
use everpulse_protocol::blob::{Piece, Reference};
use everpulse_protocol::codec::Body;
use everpulse_protocol::coding::SEALED_WORDS;
use everpulse_protocol::continuation::Continues;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::{Event, EventBody, IdPolicy, InboxFrame, NextAttempt, Outcome, ReplyTo, Report, Start};
use everpulse_protocol::family::{Caller, CallerKind, Demand, Parent, ParentClose, Target};
use everpulse_protocol::history::{
    Close, CloseStatus, ClosedRun, CommandKind, CommandMark, Frame, Hash, Parked, ParkedKind, QueueMark, Record,
    RecordBody, Verified, Window,
};
use everpulse_protocol::kind::KindName;
use everpulse_protocol::note::{Note, NoteKind};
use everpulse_protocol::permit::{Account, Alone, Joins, Member, Notice, SessionId, Silent, Terms};
use everpulse_protocol::priority::{Opened, Priority};
use everpulse_protocol::reply::{Reply, ReplyBody, ReplyFrame, UpdateState};
use everpulse_protocol::schema::{Kind, Published};
use everpulse_protocol::shard::Config;
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::task::{Control, OnExhausted, RetryPolicy, Task, TaskFrame, TaskOptions};
use everpulse_protocol::timer::{TimerMessage, Wake};
use everpulse_protocol::view::{OpenUpdate, PendingStep, RunStatus, RunView};
use everpulse_protocol::{
    EventId, Failure, FailureKind, Payload, Position, RequestId, RunId, Timestamp, Token, WorkflowId, WriterId,
};
use uuid::Uuid;

use crate::{Sample, body, message};

const RUN: RunId = RunId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
const CLIENT: &str = "0190c";

pub(crate) fn all() -> Vec<Sample> {
    let mut all = vec![
        message("history", &frame()),
        message("history.patches", &Frame { records: vec![patched()], ..frame() }),
        message("history.notes", &Frame { records: vec![noted()], ..frame() }),
        message("history.families", &Frame { records: vec![parent_of_others()], ..frame() }),
        message("history.termination", &Frame { records: vec![ends_another()], ..frame() }),
        message("inbox.termination", &InboxFrame { shard: 3, events: vec![event(ended_by_another())] }),
        message("history.continued", &Frame { records: vec![continued()], ..frame() }),
        message("history.answers", &Frame { records: vec![answers()], ..frame() }),
        message("history.attempt_running", &Frame { records: vec![told_of()], ..frame() }),
        message("history.unknown_kinds", &Frame { records: vec![unknown()], ..frame() }),
        message(
            "inbox",
            &InboxFrame { shard: 3, events: vec![event(EventBody::Resume), event(EventBody::Start(start()))] },
        ),
        message(
            "inbox.again",
            &InboxFrame { shard: 3, events: vec![Event { again: true, ..event(EventBody::Resume) }] },
        ),
        message(
            "inbox.exact",
            &InboxFrame { shard: 3, events: vec![Event { exact: true, ..event(EventBody::AskResult) }] },
        ),
        message("inbox.attempt_running", &InboxFrame { shard: 3, events: vec![event(running())] }),
        message(
            "replies.taken_before",
            &ReplyFrame {
                replies: vec![Reply {
                    request: RequestId(Uuid::from_u128(5)),
                    body: ReplyBody::Update { run_id: Some(RUN), state: UpdateState::TakenBefore },
                }],
            },
        ),
        message(
            "inbox.priority",
            &InboxFrame { shard: 3, events: vec![event(EventBody::Start(Start { priority: priority(), ..start() }))] },
        ),
        message("tasks", &TaskFrame { tasks: vec![task(), task()] }),
        message("tasks.priority", &TaskFrame { tasks: vec![urgent_task()] }),
        message("lane", &Opened { lane: urgent_task().lane().to_string() }),
        message("permits", &notice()),
        message("permits.joins", &joins()),
        message("permits.joins_again", &joins_again()),
        message("permits.over", &over()),
        message("control", &Control { cancelled: vec![task().id] }),
        message("timer.wake", &TimerMessage::Wake(wake())),
        message("timer.retry", &TimerMessage::Retry { due: Timestamp(1_900), task: Box::new(task()) }),
        message("dead_letter.task", &dead(Letter::Task(Box::new(task())))),
        message("dead_letter.event", &dead(Letter::Event(Box::new(event(EventBody::Resume))))),
        message(
            "dead_letter.unreadable",
            &dead(Letter::Unreadable { topic: "activity.mail".into(), bytes: Bytes::from_static(b"\xff?") }),
        ),
        message(
            "dead_letter.sealed",
            &dead(Letter::Task(Box::new(Task {
                args: sealed(),
                heartbeat: Some(sealed()),
                failures: vec![sealed_failure()],
                ..task()
            }))),
        ),
        message("replies.sealed", &sealed_view()),
        message("replies.heartbeat", &heard_of()),
        message("blob", &Reference { at: Some("7:41/8:2".to_owned()), ..Reference::to(b"tea") }),
        message("blob_piece", &piece()),
        message("schema", &schema()),
        message("schema.follows", &Published { follows: Some(Position { ledger: 6, entry: 2 }), ..schema() }),
        message("schema.forgotten", &Published { version: None, takes: None, forgotten: true, ..schema() }),
        message("replies", &ReplyFrame { replies: vec![Reply { request: request(), body: ReplyBody::Accepted }] }),
    ];
    all.extend(events().iter().map(|value| body("event", value)));
    all.extend(records().iter().map(|value| body("record", value)));
    all.extend(replies().iter().map(|value| body("reply", value)));
    all
}

fn schema() -> Published {
    Published {
        kind: Kind::Workflow,
        name: "checkout".into(),
        version: Some(2),
        at: Timestamp(1_000),
        build: Some("1f3c".into()),
        takes: Some(r#"{"type":"object"}"#.into()),
        gives: Some("true".into()),
        fails: None,
        forgotten: false,
        follows: None,
    }
}

fn piece() -> Piece {
    let data = Bytes::from_static(b"tea");
    Piece { hash: Reference::to(&data).hash, no: 2, of: 3, at: Timestamp(1_000), data }
}

fn id() -> WorkflowId {
    WorkflowId::new("order-42").expect("a good id")
}

fn request() -> RequestId {
    RequestId(Uuid::from_u128(77))
}

fn reply_to() -> ReplyTo {
    ReplyTo { client: CLIENT.into(), request: request() }
}

fn payload() -> Payload {
    Payload { encoding: "zstd+msgpack".into(), data: Bytes::from_static(&[0x28, 0xb5, 0x2f]) }
}

/// What a codec that compresses and seals makes of a value.
fn sealed() -> Payload {
    Payload { encoding: "json+lz4+aes256gcm:k2".into(), data: Bytes::from_static(&[1, 0x5e, 0xa1, 0xed]) }
}

/// A failure whose words nobody is to read.
fn sealed_failure() -> Failure {
    Failure {
        message: SEALED_WORDS.into(),
        chain: Vec::new(),
        value: Some(Payload { encoding: "words+aes256gcm:k2".into(), ..sealed() }),
        ..failure()
    }
}

/// What is shown of a run whose values are sealed.
fn sealed_view() -> ReplyFrame {
    let Some(ReplyBody::Description(mut view)) =
        replies().into_iter().find(|reply| matches!(reply, ReplyBody::Description(_)))
    else {
        unreachable!("there is a sample of each")
    };
    view.parked = Some(Parked { sealed: Some(sealed()), ..Parked::new(ParkedKind::Unopened, "no key `k2` here") });
    view.close = Some(Close { status: CloseStatus::Failed, outcome: Outcome::Failed(sealed_failure()) });
    for pending in &mut view.pending {
        pending.last_error = Some(SEALED_WORDS.into());
        pending.sealed_error = Some(sealed());
    }
    ReplyFrame { replies: vec![Reply { request: request(), body: ReplyBody::Description(view) }] }
}

fn failure() -> Failure {
    Failure {
        kind: FailureKind::Exhausted,
        type_name: "PaymentError".into(),
        message: "the card was declined".into(),
        chain: vec!["no connection".into()],
        value: Some(payload()),
        attempts: Some(5),
        retry_after_ms: Some(1_500),
        last: Some(FailureKind::TimedOut),
    }
}

fn start() -> Start {
    Start {
        workflow: "checkout".into(),
        version: Some(2),
        args: payload(),
        policy: IdPolicy::RestartWhenClosed,
        tags: vec!["eu".into()],
        start_at: Some(Timestamp(2_000)),
        timeout_ms: Some(60_000),
        headers: Some(payload()),
        priority: Default::default(),
    }
}

fn event(what: EventBody) -> Event {
    Event {
        id: EventId(Uuid::from_u128(78)),
        workflow_id: id(),
        run_id: Some(RUN),
        exact: false,
        sent_at: Timestamp(1_000),
        reply_to: Some(reply_to()),
        again: false,
        body: Body::of(&what),
    }
}

fn task() -> Task {
    Task {
        id: EventId(Uuid::from_u128(79)),
        workflow_id: id(),
        run_id: RUN,
        shard: 3,
        step: 4,
        queue: "mail".into(),
        activity: "charge".into(),
        args: payload(),
        attempt: 2,
        scheduled_at: Timestamp(1_100),
        options: TaskOptions {
            start_to_close_ms: 30_000,
            heartbeat_ms: Some(5_000),
            schedule_to_start_ms: Some(60_000),
            schedule_to_close_ms: Some(600_000),
            retry: RetryPolicy { initial_ms: 200, factor_percent: 150, max_ms: 60_000, max_attempts: Some(5) },
            exhausted: OnExhausted::Park,
            priority: Default::default(),
        },
        heartbeat: Some(payload()),
        failures: vec![failure()],
        attempts_before: 1,
        returned: Some(failure()),
        headers: Some(payload()),
    }
}

fn notice() -> Notice {
    let session = SessionId(Uuid::from_u128(90));
    let member = Member { session, number: 3, holds: 2, waits: 1 };
    let (at, terms) = (Position { ledger: 7, entry: 40 }, Terms { limit: 5, rest_ms: 667 });
    Notice {
        session,
        number: 4,
        joins: None,
        asks: 2,
        returns: 1,
        silent: vec![Silent { session: SessionId(Uuid::from_u128(91)), number: 8 }],
        leaves: true,
        account: Some(Box::new(Account { at, terms, members: vec![member], line: vec![session], over: Vec::new() })),
    }
}

fn joins() -> Notice {
    let alone = Some(Alone { after: Some(Position { ledger: 7, entry: 40 }) });
    let joins = Some(Joins { terms: Some(Terms { limit: 5, rest_ms: 0 }), alone });
    let nothing = Notice { asks: 0, returns: 0, silent: Vec::new(), leaves: false, account: None, ..notice() };
    Notice { joins, ..nothing }
}

fn joins_again() -> Notice {
    Notice { joins: Some(Joins { terms: None, alone: None }), ..joins() }
}

/// It tells who is over.
fn over() -> Notice {
    let mut notice = notice();
    if let Some(account) = &mut notice.account {
        account.over = vec![SessionId(Uuid::from_u128(92)), SessionId(Uuid::from_u128(91))];
    }
    notice
}

fn priority() -> Priority {
    Priority { level: Some(1), key: Some("acme".into()), weight: Some(2_500) }
}

fn urgent_task() -> Task {
    let mut task = task();
    task.options.priority = priority();
    task
}

fn wake() -> Wake {
    Wake { shard: 3, number: 17, due: Timestamp(4_000) }
}

fn dead(letter: Letter) -> DeadLetter {
    DeadLetter { at: Timestamp(1_800), reason: "all attempts failed".into(), letter }
}

fn close() -> Close {
    Close { status: CloseStatus::Failed, outcome: Outcome::Failed(failure()) }
}

fn record() -> Record {
    let mark = |no, kind| CommandMark {
        name: "charge".into(),
        queue: "mail".into(),
        due: Some(Timestamp(3_000)),
        eager: true,
        ..CommandMark::new(no, kind)
    };
    Record {
        workflow_id: id(),
        run_id: RUN,
        seq: 6,
        event: EventId(Uuid::from_u128(80)),
        at: Timestamp(1_200),
        body: Body::of(&RecordBody::Resumed),
        commands: vec![
            mark(0, CommandKind::Activity),
            mark(1, CommandKind::Timer),
            mark(2, CommandKind::Step),
            mark(3, CommandKind::Promise),
            mark(1, CommandKind::Cancel),
        ],
        notes: Vec::new(),
        close: Some(close()),
    }
}

fn target() -> Box<Target> {
    Box::new(Target { workflow_id: id(), run_id: Some(RUN), on_close: Some(ParentClose::Terminate) })
}

fn parent() -> Parent {
    Parent { workflow_id: id(), run_id: RUN, step: 4, hears_begin: true }
}

fn continues() -> Continues {
    Continues { first: RUN, previous: RunId(Uuid::from_u128(83)), number: 2, version: 3 }
}

/// The end of a run for which another one goes on.
fn continued() -> Record {
    let mark = CommandMark {
        name: "checkout".into(),
        target: Some(Box::new(Target { on_close: None, ..*target() })),
        ..CommandMark::new(9, CommandKind::ContinueAsNew)
    };
    let failure = Failure::new(FailureKind::ContinuedAsNew, "it went on as a new run of workflow `checkout`");
    let close = Close { status: CloseStatus::ContinuedAsNew, outcome: Outcome::Failed(failure) };
    Record { commands: vec![mark], close: Some(close), ..record() }
}

fn caller() -> Caller {
    Caller { workflow_id: id(), run_id: RUN, step: 4, kind: CallerKind::Awaits }
}

/// Commands that other runs carry out.
fn parent_of_others() -> Record {
    let child = |no, on_close| CommandMark {
        name: "ship".into(),
        target: Some(Box::new(Target { on_close: Some(on_close), ..*target() })),
        ..CommandMark::new(no, CommandKind::Child)
    };
    let of = |no, kind| CommandMark {
        name: "Approved".into(),
        target: Some(Box::new(Target { on_close: None, ..*target() })),
        ..CommandMark::new(no, kind)
    };
    let commands = vec![
        child(4, ParentClose::RequestCancel),
        child(5, ParentClose::Terminate),
        child(6, ParentClose::Abandon),
        of(7, CommandKind::Signal),
        of(8, CommandKind::CancelRun),
        CommandMark::new(4, CommandKind::Cancel),
        CommandMark::new(5, CommandKind::Detach),
    ];
    Record { commands, close: None, ..record() }
}

/// The end of another run is asked for.
fn ends_another() -> Record {
    let mark = CommandMark {
        target: Some(Box::new(Target { on_close: None, ..*target() })),
        ..CommandMark::new(9, CommandKind::TerminateRun)
    };
    Record { commands: vec![mark], close: None, ..record() }
}

fn ended_by_another() -> EventBody {
    EventBody::Demanded { caller: caller(), demand: Demand::Terminate { reason: "it hangs".into() } }
}

fn patched() -> Record {
    let mark = |no, kind, name: &str| CommandMark { name: name.into(), ..CommandMark::new(no, kind) };
    let commands =
        vec![mark(3, CommandKind::Patch, "fraud-check"), mark(3, CommandKind::DeprecatedPatch, "two-warehouses")];
    Record { commands, close: None, ..record() }
}

/// An attempt that its worker goes on with.
fn running() -> EventBody {
    EventBody::AttemptLeft { step: 4, attempt: 2, until: Timestamp(9_000), task: Box::new(task()), running: true }
}

fn told_of() -> Record {
    let (until, task) = (Timestamp(9_000), Box::new(task()));
    let body = Body::of(&RecordBody::AttemptLeft { step: 4, attempt: 2, until, task, running: true });
    Record { body, commands: Vec::new(), close: None, ..record() }
}

fn heard_of() -> ReplyFrame {
    let mut reply = replies().into_iter().find(|reply| matches!(reply, ReplyBody::Description(_)));
    if let Some(ReplyBody::Description(view)) = &mut reply {
        for pending in &mut view.pending {
            (pending.heartbeat, pending.heard_at) = (Some(payload()), Some(Timestamp(1_350)));
        }
    }
    ReplyFrame { replies: reply.into_iter().map(|body| Reply { request: request(), body }).collect() }
}

fn noted() -> Record {
    let scope = |no, kind| Note { scope: Some(0), name: "payment".into(), before: Some(3), ..Note::new(no, kind) };
    let notes = vec![
        scope(1, NoteKind::ScopeBegan),
        Note { scope: Some(1), name: "cool down".into(), ..Note::new(3, NoteKind::Command) },
        Note { value: Some(payload()), ..scope(1, NoteKind::ScopeDone) },
        Note { failure: Some(Box::new(failure())), ..scope(2, NoteKind::ScopeFailed) },
        scope(3, NoteKind::ScopeDropped),
        Note::new(4, NoteKind::Unknown(KindName::new("price").expect("it is short"))),
    ];
    Record { commands: vec![CommandMark::new(3, CommandKind::Timer)], notes, close: None, ..record() }
}

/// What the code answered to updates.
fn answers() -> Record {
    let mark = |no, outcome| CommandMark {
        name: format!("u-{no}"),
        answer: Some(Box::new(outcome)),
        ..CommandMark::new(no, CommandKind::Answer)
    };
    let commands = vec![mark(0, Outcome::Done(payload())), mark(1, Outcome::Failed(failure()))];
    Record { commands, close: None, ..record() }
}

/// What an owner carries on of a later release.
fn unknown() -> Record {
    let name = |name: &str| KindName::new(name).expect("it is short");
    let mut record = patched();
    record.body = Body::of(&BTreeMap::from([("of_a_later_release", BTreeMap::from([("step", 3)]))]));
    record.commands[0].kind = CommandKind::Unknown(name("lease"));
    record.close = Some(Close { status: CloseStatus::Unknown(name("continued")), ..close() });
    record
}

pub(crate) fn frame() -> Frame {
    Frame {
        shard: 3,
        number: 18,
        previous: Hash([7; 32]),
        writer: WriterId(Uuid::from_u128(81)),
        verified: Some(Verified { number: 17, position: Position { ledger: 5, entry: 17 } }),
        at: Timestamp(1_300),
        config: Some(Config::new(16, 4)),
        wake: Some(wake()),
        sent_below: 16,
        queues: vec![QueueMark { queue: "mail".into(), position: Position { ledger: 6, entry: 2 } }],
        records: vec![record()],
    }
}

fn events() -> Vec<EventBody> {
    vec![
        EventBody::Start(start()),
        EventBody::SignalWithStart { start: start(), name: "Approved".into(), value: payload() },
        EventBody::Spawn { start: start(), parent: parent() },
        EventBody::ContinueAsNew { start: start(), continues: continues(), parent: Some(parent()) },
        EventBody::Demanded { caller: caller(), demand: Demand::Signal { name: "Approved".into(), value: payload() } },
        EventBody::ChildBegan { step: 4 },
        EventBody::ChildClosed { step: 4, close: Box::new(close()), never_began: true },
        EventBody::Delivered { step: 7, outcome: Outcome::Failed(failure()) },
        EventBody::Signal { name: "Approved".into(), value: payload(), headers: Some(payload()) },
        EventBody::SignalTagged {
            tag: "eu".into(),
            name: "Approved".into(),
            value: payload(),
            headers: Some(payload()),
        },
        EventBody::Update {
            id: "u-1".into(),
            name: "AddItem".into(),
            args: payload(),
            patient: true,
            headers: Some(payload()),
        },
        EventBody::UpdateAccepted {
            id: "u-1".into(),
            name: "AddItem".into(),
            args: payload(),
            headers: Some(payload()),
        },
        EventBody::ActivitySettled { step: 4, attempt: 2, outcome: Outcome::Done(payload()) },
        EventBody::StepSettled { step: 5, outcome: Outcome::Failed(failure()) },
        EventBody::PromiseSettled { step: 6, outcome: Outcome::Done(payload()) },
        EventBody::AttemptFailed { step: 4, attempt: 1, failure: failure(), next: NextAttempt::At(Timestamp(1_400)) },
        EventBody::AttemptLeft { step: 4, attempt: 2, until: Timestamp(9_000), task: Box::new(task()), running: false },
        EventBody::AttemptReported {
            step: 4,
            attempt: 2,
            report: Report::Failed { failure: failure(), retryable: true },
        },
        EventBody::Cancel { reason: "enough".into() },
        EventBody::Terminate { reason: "now".into() },
        EventBody::Resume,
        EventBody::Describe,
        EventBody::AskResult,
        EventBody::AskPublished { name: "Stage".into() },
        EventBody::AskUpdate { id: "u-1".into(), name: Some("AddItem".into()) },
        EventBody::Query { name: "CountOf".into(), args: payload() },
        EventBody::Wake { shard: 3, number: 17 },
    ]
}

fn records() -> Vec<RecordBody> {
    let parked = Parked::new(ParkedKind::Diverged, "diverged at command 7");
    let closed = ClosedRun {
        workflow_id: id(),
        run_id: RUN,
        workflow: "checkout".into(),
        version: 2,
        started_at: Timestamp(1_000),
        closed_at: Timestamp(1_500),
        status: CloseStatus::TimedOut,
        never_began: true,
        first_run: Some(RUN),
        continued_as: Some(RunId(Uuid::from_u128(84))),
    };
    vec![
        RecordBody::Started { start: start(), version: 2, reply_to: Some(reply_to()), build: Some("4f2a9c".into()) },
        RecordBody::Spawned { start: start(), version: 2, parent: parent(), build: Some("4f2a9c".into()) },
        RecordBody::Continued {
            start: start(),
            version: 2,
            continues: continues(),
            parent: Some(parent()),
            build: Some("4f2a9c".into()),
        },
        RecordBody::NeverBegan { workflow: "ship".into(), parent: parent() },
        RecordBody::ChildBegan { step: 4 },
        RecordBody::ChildClosed { step: 4, close: Box::new(close()), never_began: true },
        RecordBody::Delivered { step: 7, outcome: Outcome::Done(payload()) },
        RecordBody::Signalled { name: "Approved".into(), value: payload(), headers: Some(payload()) },
        RecordBody::SignalledByTag {
            tag: "eu".into(),
            name: "Approved".into(),
            value: payload(),
            headers: Some(payload()),
        },
        RecordBody::UpdateAccepted {
            id: "u-1".into(),
            name: "AddItem".into(),
            args: payload(),
            headers: Some(payload()),
        },
        RecordBody::ActivitySettled { step: 4, attempt: 2, outcome: Outcome::Done(payload()) },
        RecordBody::AttemptFailed { step: 4, attempt: 2, failure: failure(), next: NextAttempt::Redrive },
        RecordBody::StepSettled { step: 5, outcome: Outcome::Failed(failure()) },
        RecordBody::PromiseSettled { step: 6, outcome: Outcome::Failed(failure()) },
        RecordBody::AttemptLeft {
            step: 4,
            attempt: 2,
            until: Timestamp(9_000),
            task: Box::new(task()),
            running: false,
        },
        RecordBody::AttemptReported { step: 4, attempt: 2, report: Report::Beat { details: Some(payload()) } },
        RecordBody::AttemptOverdue { step: 4, attempt: 2, failure: failure() },
        RecordBody::TimerFired { step: 1 },
        RecordBody::CancelRequested { reason: "enough".into() },
        RecordBody::Terminated { reason: "now".into() },
        RecordBody::TimedOut,
        RecordBody::HistoryExceeded {
            size: HistorySize { events: 51_201, bytes: 1_000 },
            limit: HistorySize { events: 51_200, bytes: 2_000 },
        },
        RecordBody::Received { event: event(EventBody::Resume), attempt: 2 },
        RecordBody::Applied { event: EventId(Uuid::from_u128(78)) },
        RecordBody::Parked { reason: parked },
        RecordBody::Resumed,
        RecordBody::Carried { piece: 1, pieces: 2, records: vec![record()], commands: vec![(4, 12)] },
        RecordBody::TagReached { event: EventId(Uuid::from_u128(78)), tag: "eu".into(), since: 12, runs: 7, all: true },
        RecordBody::Remembered {
            closed: vec![closed],
            inputs: vec![(EventId(Uuid::from_u128(78)), Timestamp(1_250))],
            window: Some(Window { first: 12, since: Timestamp(900), expired: Timestamp(950) }),
        },
    ]
}

fn replies() -> Vec<ReplyBody> {
    let pending = PendingStep {
        no: 4,
        kind: CommandKind::Activity,
        name: "charge".into(),
        queue: "mail".into(),
        attempt: 2,
        last_error: Some("no connection".into()),
        sealed_error: None,
        next_at: Some(Timestamp(1_400)),
        parked: true,
        heartbeat: None,
        heard_at: None,
        token: Some(Token { workflow_id: id(), run_id: RUN, step: 4, attempt: Some(2) }),
        target: Some(target()),
        scopes: vec!["checkout".into(), "payment".into()],
    };
    let view = RunView {
        workflow_id: id(),
        run_id: RUN,
        workflow: "checkout".into(),
        version: 2,
        build: Some("4f2a9c".into()),
        status: RunStatus::Parked,
        tags: vec!["eu".into()],
        started_at: Timestamp(1_000),
        closed_at: Some(Timestamp(1_500)),
        close: Some(close()),
        parked: Some(Parked::new(ParkedKind::Poisonous, "took its worker down")),
        cancel_requested: true,
        records: 7,
        pending: vec![pending],
        updates: vec![OpenUpdate { id: "u-1".into(), name: "AddItem".into(), at: Timestamp(1_300) }],
        parent: Some(parent()),
        continues: Some(continues()),
        continued_as: Some(RunId(Uuid::from_u128(84))),
        history_bytes: 1_000,
    };
    vec![
        ReplyBody::Started { run_id: RUN, attached: true },
        ReplyBody::Taken { run_id: RUN, open: true },
        ReplyBody::Open { run_id: RUN },
        ReplyBody::Closed { run_id: RUN, close: Box::new(close()) },
        ReplyBody::Description(Box::new(view)),
        ReplyBody::Published { value: Some(payload()) },
        ReplyBody::Answered { outcome: Outcome::Failed(failure()) },
        ReplyBody::Update { run_id: Some(RUN), state: UpdateState::Answered(Outcome::Done(payload())) },
        ReplyBody::Accepted,
        ReplyBody::Reached { runs: 7 },
        ReplyBody::AlreadyClosed { run_id: RUN },
        ReplyBody::AlreadyCompleted,
        ReplyBody::NotFound,
        ReplyBody::Expired { message: "longer ago than ids are remembered".into() },
        ReplyBody::Invalid { message: "cannot be read".into() },
    ]
}
