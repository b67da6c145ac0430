//! Who reads what: each target takes any bytes, and has damaged ones made for it.

use std::fmt::Debug;

use bytes::Bytes;
use everpulse_client::{Address, LetterId};
use everpulse_codecs::{Codec, Keys};
use everpulse_engine::permits::{Heard, Member};
use everpulse_protocol::blob::{Piece, Reference};
use everpulse_protocol::codec::Stored;
use everpulse_protocol::dead_letter::DeadLetter;
use everpulse_protocol::event::{EventBody, InboxFrame};
use everpulse_protocol::golden::Golden;
use everpulse_protocol::history::{Frame, Record};
use everpulse_protocol::permit::{Notice, SessionId, Terms};
use everpulse_protocol::priority::{LEVEL_MAX, Lane, Opened};
use everpulse_protocol::reply::ReplyFrame;
use everpulse_protocol::task::{Control, Task, TaskFrame};
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{Coding, EventId, Payload, Position, RunId, Timestamp, Token, WorkflowId, decode, encode};

use crate::damage;
use crate::dice::Dice;
use crate::{partition, valid};

pub struct Target {
    pub name: &'static str,
    pub read: fn(&[u8]),
    pub make: fn(&mut Dice) -> Vec<u8>,
}

pub const ALL: [Target; 18] = [
    Target {
        name: "history",
        read: history,
        make: |dice| message(&valid::frames().iter().map(encode).collect::<Vec<_>>(), dice),
    },
    Target { name: "inbox", read: inbox, make: |dice| message(&valid::inbox(), dice) },
    Target { name: "tasks", read: tasks, make: |dice| message(&valid::tasks(), dice) },
    Target {
        name: "control",
        read: |bytes| drop(again::<Control>(bytes)),
        make: |dice| message(&valid::controls(), dice),
    },
    Target { name: "lanes", read: lanes, make: |dice| message(&valid::lanes(), dice) },
    Target { name: "permits", read: permits, make: |dice| message(&valid::permits(), dice) },
    Target { name: "timers", read: timers, make: |dice| message(&valid::timers(), dice) },
    Target { name: "dead_letters", read: dead_letters, make: |dice| message(&valid::dead_letters(), dice) },
    Target {
        name: "replies",
        read: |bytes| drop(again::<ReplyFrame>(bytes)),
        make: |dice| message(&valid::replies(), dice),
    },
    Target { name: "packed", read: packed, make: |dice| message(&[valid::records()[0].pack().into()], dice) },
    Target { name: "blobs", read: blobs, make: |dice| message(&valid::blobs(), dice) },
    Target { name: "payload", read: payload, make: values },
    Target { name: "sealed", read: sealed, make: wrapped },
    Target { name: "golden", read: golden, make: kept },
    Target { name: "words", read: words, make: typed },
    Target { name: "judge", read: partition::judge, make: |dice| partition::script(&partition::damaged(dice)) },
    Target { name: "open", read: partition::open, make: |dice| partition::script(&partition::damaged(dice)) },
    Target { name: "own", read: partition::own, make: |dice| partition::script(&partition::damaged(dice)) },
];

fn message(valid: &[Bytes], dice: &mut Dice) -> Vec<u8> {
    if dice.one_in(20) {
        return dice.bytes(300);
    }
    let (one, other) = (dice.below(valid.len()), dice.below(valid.len()));
    damage::bytes(&valid[one], &valid[other], dice)
}

fn values(dice: &mut Dice) -> Vec<u8> {
    let value = serde_json::json!({"card": "4711", "cents": 4200, "items": [1, -2, 3.5, null, true, {"a": []}]});
    let valid = Payload::encode(&value).expect("it can be encoded").data;
    message(&[valid], dice)
}

/// How an application with keys writes its values.
fn coding() -> Coding {
    Codec::json().compress().encrypt(Keys::new("k2", [2; 32]).also("k1", [1; 32])).into()
}

/// `ENCODING\n` and the bytes of a payload: whoever writes to a topic chooses both.
fn wrapped(dice: &mut Dice) -> Vec<u8> {
    const ENCODINGS: [&str; 8] = [
        "json+lz4+aes256gcm:k2",
        "json+lz4",
        "msgpack+lz4",
        "json",
        "msgpack+aes256gcm:k1",
        "json+lz4+lz4+lz4+lz4+lz4+lz4+lz4+lz4+lz4",
        "json+aes256gcm",
        "json+aes256gcm:k3",
    ];
    let mut payload = Payload::encode(&vec!["tea and milk"; 20]).expect("it can be encoded");
    let coding: Coding = if dice.one_in(2) { coding() } else { Codec::message_pack().compress().into() };
    coding.seal(&workflow_id(), &mut payload).expect("it can be sealed");
    let mut encoding = payload.encoding;
    if dice.one_in(2) {
        encoding = ENCODINGS[dice.below(ENCODINGS.len())].to_owned();
    } else if dice.one_in(4) {
        encoding = damage::text(&encoding, ENCODINGS[0], dice);
    }
    let mut bytes = format!("{encoding}\n").into_bytes();
    bytes.extend(if dice.one_in(4) { payload.data.to_vec() } else { message(&[payload.data], dice) });
    bytes
}

fn workflow_id() -> WorkflowId {
    WorkflowId::new("order-42").expect("a good id")
}

/// Opening a value ends with a value or an error, and with no more memory than it may take.
fn sealed(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or_default();
    let (encoding, data) = bytes.split_at(end);
    let encoding = String::from_utf8_lossy(encoding).into_owned();
    let mut payload = Payload { encoding, data: Bytes::copy_from_slice(data.get(1..).unwrap_or_default()) };
    let before = payload.clone();
    match coding().open(&workflow_id(), &mut payload) {
        Ok(()) => assert!(!payload.encoding.contains('+'), "a layer was passed over"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(payload, before, "what cannot be opened stays as it was");
        }
    }
    let _ = payload.decode::<Vec<String>>();
}

fn kept(dice: &mut Dice) -> Vec<u8> {
    let json = Golden::of(valid::records()).and_then(|golden| golden.to_json()).expect("it can be exported");
    damage::text(&json, &json, dice).into_bytes()
}

fn typed(dice: &mut Dice) -> Vec<u8> {
    let (one, other) = (dice.below(valid::WORDS.len()), dice.below(valid::WORDS.len()));
    damage::text(valid::WORDS[one], valid::WORDS[other], dice).into_bytes()
}

/// What was read says the same when it is written and read again.
fn again<T: Stored + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = decode(bytes).ok()?;
    let written = encode(&value);
    assert_eq!(decode::<T>(&written).as_ref(), Ok(&value), "it reads otherwise when it is written again");
    Some(value)
}

fn history(bytes: &[u8]) {
    again::<Frame>(bytes).iter().flat_map(|frame| &frame.records).for_each(record);
}

fn record(record: &Record) {
    let _ = (record.body(), record.body.kind());
    assert!(!format!("{record:?}").is_empty());
}

fn inbox(bytes: &[u8]) {
    for event in again::<InboxFrame>(bytes).into_iter().flat_map(|frame| frame.events) {
        match event.body() {
            Ok(
                EventBody::Signal { value, .. }
                | EventBody::SignalTagged { value, .. }
                | EventBody::Update { args: value, .. }
                | EventBody::UpdateAccepted { args: value, .. }
                | EventBody::Query { args: value, .. },
            ) => payload(&value.data),
            Ok(EventBody::Start(start) | EventBody::Spawn { start, .. } | EventBody::ContinueAsNew { start, .. }) => {
                payload(&start.args.data)
            }
            Ok(EventBody::SignalWithStart { start, value, .. }) => {
                payload(&start.args.data);
                payload(&value.data);
            }
            _ => {}
        }
        assert!(!format!("{event:?}").is_empty());
    }
}

fn tasks(bytes: &[u8]) {
    again::<TaskFrame>(bytes).iter().flat_map(|frame| &frame.tasks).for_each(task);
}

/// What a worker and an operator do with it.
fn task(task: &Task) {
    let failure = everpulse_protocol::Failure::new(everpulse_protocol::FailureKind::Failed, "again");
    let next = task.next_attempt(failure);
    let _ = (next.counted_attempts(), task.is_short(), task.idempotency_key(), task.redriven(Timestamp(u64::MAX)));
    let _ = task.options.retry.delay_ms(task.attempt);
    let lane = task.lane();
    assert!((1..=LEVEL_MAX).contains(&lane.level) && task.options.priority.weight() > 0, "{lane}");
}

/// What a worker does that comes in the middle.
fn permits(bytes: &[u8]) {
    let Some(notice) = again::<Notice>(bytes) else { return };
    let at = |entry| Position { ledger: 1, entry };
    let mut member = Member::new(SessionId(uuid::Uuid::from_u128(5)), Terms { limit: 1, rest_ms: 0 }, Some(at(0)));
    let joined = member.join(false);
    for (entry, notice) in (1..).zip([joined, notice.clone(), notice]) {
        if member.read(at(entry), notice) == Heard::Over {
            member.begin_anew(SessionId(uuid::Uuid::from_u128(6)));
        }
    }
    let _ = (member.take(), member.next(2, true), member.free(), member.account());
}

fn lanes(bytes: &[u8]) {
    if let Some(Ok(lane)) = again::<Opened>(bytes).map(|opened| opened.lane.parse::<Lane>()) {
        assert_eq!(lane.to_string().parse().as_ref(), Ok(&lane), "it is read as another lane");
    }
}

fn timers(bytes: &[u8]) {
    match again::<TimerMessage>(bytes) {
        Some(TimerMessage::Retry { task: retried, .. }) => task(&retried),
        Some(TimerMessage::Wake(wake)) => drop(wake.to_event(wake.due)),
        None => {}
    }
}

fn dead_letters(bytes: &[u8]) {
    if let Some(letter) = again::<DeadLetter>(bytes) {
        assert!(!format!("{letter:?}").is_empty());
    }
}

fn blobs(bytes: &[u8]) {
    if let Some(piece) = again::<Piece>(bytes) {
        assert!(!format!("{piece:?}").is_empty());
    }
    if let Some(reference) = again::<Reference>(bytes) {
        assert_eq!(reference.name().len(), 64);
    }
}

fn packed(bytes: &[u8]) {
    if let Ok(read) = Record::unpack(&mut &bytes[..]) {
        record(&read);
        assert_eq!(Record::unpack(&mut &read.pack()[..]), Ok(read));
    }
}

/// An author's value of a type that nests as deep as it likes.
fn payload(bytes: &[u8]) {
    let payload =
        Payload { encoding: everpulse_protocol::payload::MSGPACK.to_owned(), data: Bytes::copy_from_slice(bytes) };
    let _ = payload.decode::<serde_json::Value>();
    let _ = payload.decode::<Vec<String>>();
    let _ = payload.decode::<u64>();
}

/// What was read of a file says the same when it is written and read again.
fn golden(bytes: &[u8]) {
    let Ok(golden) = Golden::from_json(&String::from_utf8_lossy(bytes)) else { return };
    if let Ok(json) = golden.to_json() {
        assert_eq!(Golden::from_json(&json), Ok(golden));
    }
}

/// What people type: it is read, or refused in words.
fn words(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Address>() {
        Ok(address) => {
            let written = address.to_string();
            assert_eq!(written.parse::<Address>().ok(), Some(address), "{written:?} is read as another address");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match text.parse::<Token>() {
        Ok(token) => assert_eq!(token.to_string().parse().as_ref(), Ok(&token), "it is read as another token"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = (text.parse::<LetterId>(), text.parse::<RunId>(), text.parse::<EventId>(), WorkflowId::new(&*text));
}
