//! History written by hand, field by field, without the crates that write it in earnest.

use everpulse_checker::Position;
use rmpv::Value;
use sha2::{Digest as _, Sha256};

pub type Entry = (Position, Vec<u8>);

pub fn at(entry: u64) -> Position {
    Position { ledger: 7, entry }
}

/// The first 16 bytes of SHA-256 over these, as rules of ids have it.
pub fn hashed(parts: &[&[u8]]) -> u128 {
    let digest = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    u128::from_be_bytes(digest[..16].try_into().expect("16 bytes"))
}

/// The id of what command 0 of run 1 asks for.
pub fn asked_first(what: &str) -> u128 {
    hashed(&[&1_u128.to_be_bytes(), &0_u32.to_be_bytes(), what.as_bytes()])
}

pub fn id(number: u128) -> Value {
    Value::Binary(number.to_be_bytes().to_vec())
}

pub fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn with(mut value: Value, field: &str, new: Value) -> Value {
    if let Value::Map(fields) = &mut value {
        fields.retain(|(name, _)| name.as_str() != Some(field));
        fields.push((field.into(), new));
    }
    value
}

/// A version byte, and then the values one after another.
pub fn bytes(values: &[Value]) -> Vec<u8> {
    let mut bytes = vec![1];
    for value in values {
        rmpv::encode::write_value(&mut bytes, value).expect("memory takes it");
    }
    bytes
}

/// A record's body: `kind` with fields.
pub fn body<const N: usize>(kind: &str, fields: [(&str, Value); N]) -> Value {
    Value::Binary(bytes(&[map([(kind, map(fields))])]))
}

/// A body of a kind without fields.
pub fn bare(kind: &str) -> Value {
    Value::Binary(bytes(&[kind.into()]))
}

pub fn started(workflow: &str) -> Value {
    let start = map([("workflow", workflow.into()), ("args", payload())]);
    body("started", [("start", start), ("version", 1.into())])
}

pub fn payload() -> Value {
    map([("data", Value::Binary(vec![0xc0]))])
}

pub fn done() -> Value {
    map([("done", payload())])
}

pub fn settled(step: u32) -> Value {
    body("activity_settled", [("step", step.into()), ("attempt", 1.into()), ("outcome", done())])
}

pub fn step_settled(step: u32) -> Value {
    body("step_settled", [("step", step.into()), ("outcome", done())])
}

pub fn fired(step: u32) -> Value {
    body("timer_fired", [("step", step.into())])
}

pub fn mark(no: u32, kind: &str) -> Value {
    map([("no", no.into()), ("kind", kind.into()), ("name", if kind == "activity" { "charge" } else { "" }.into())])
}

pub fn timer(no: u32, due: u64) -> Value {
    with(mark(no, "timer"), "due", due.into())
}

/// A record; the run is known by a number, which is also the event that begins it.
#[derive(Clone)]
pub struct Record(Value);

impl Record {
    pub fn new(run: u128, seq: u32, event: u128, body: Value) -> Self {
        Self(map([
            ("workflow_id", format!("order-{run}").into()),
            ("run_id", id(run)),
            ("seq", seq.into()),
            ("event", id(event)),
            ("at", 1_000.into()),
            ("body", body),
        ]))
    }

    pub fn set(self, field: &str, value: impl Into<Value>) -> Self {
        Self(with(self.0, field, value.into()))
    }

    pub fn asks<const N: usize>(self, commands: [Value; N]) -> Self {
        self.set("commands", Value::Array(commands.to_vec()))
    }

    pub fn closes(self, status: &str) -> Self {
        self.set("close", map([("status", status.into()), ("outcome", done())]))
    }
}

/// A piece of a run that is carried forward.
pub fn carried<const N: usize>(piece: u32, pieces: u32, records: [Record; N]) -> Value {
    let records = Value::Array(records.into_iter().map(|Record(value)| value).collect());
    body("carried", [("piece", piece.into()), ("pieces", pieces.into()), ("records", records)])
}

/// Ids of inputs and of runs that ended, as they are carried forward.
pub fn remembered<const N: usize, const M: usize>(inputs: [u128; N], closed: [u128; M]) -> Record {
    let inputs = inputs.map(|input| Value::Array(vec![id(input), 1_000.into()]));
    let closed = closed.map(|run| map([("workflow_id", format!("order-{run}").into()), ("run_id", id(run))]));
    let fields = [("inputs", Value::Array(inputs.to_vec())), ("closed", Value::Array(closed.to_vec()))];
    Record::new(0, 0, 0, body("remembered", fields))
}

/// The end of a carrying: earlier frames are not needed any more.
pub fn needs_from(first: u64) -> Record {
    let window = map([("first", first.into()), ("since", 0.into()), ("expired", 0.into())]);
    Record::new(0, 0, 0, body("remembered", [("window", window)]))
}

/// A frame that follows on the last one of its partition; every field can be set to another value.
#[derive(Clone)]
pub struct Frame(Value);

impl Frame {
    pub fn set(self, field: &str, value: impl Into<Value>) -> Self {
        Self(with(self.0, field, value.into()))
    }

    pub fn verifies(self, number: u64, position: Position) -> Self {
        let position = map([("ledger", position.ledger.into()), ("entry", position.entry.into())]);
        self.set("verified", map([("number", number.into()), ("position", position)]))
    }

    pub fn bytes(&self) -> Vec<u8> {
        bytes(&["history".into(), self.0.clone()])
    }
}

/// One partition, as a well-behaved writer fills it.
#[derive(Default)]
pub struct Partition {
    pub entries: Vec<Entry>,
    tail: Option<(u64, Position)>,
    previous: [u8; 32],
}

impl Partition {
    /// The frame that a writer who knows the whole chain would write now.
    pub fn next(&self, records: impl IntoIterator<Item = Record>) -> Frame {
        let number = self.tail.map_or(0, |(number, _)| number + 1);
        let frame = Frame(map([
            ("shard", 0.into()),
            ("number", number.into()),
            ("previous", Value::Binary(self.previous.to_vec())),
            ("writer", id(0xA)),
            ("at", 1_000.into()),
            ("sent_below", 0.into()),
            ("records", Value::Array(records.into_iter().map(|Record(value)| value).collect())),
        ]));
        match self.tail {
            Some((number, position)) => frame.verifies(number, position),
            None => frame.set("config", config(1)),
        }
    }

    /// Appends a frame that stands.
    pub fn stand(&mut self, frame: &Frame) -> Position {
        let position = self.append(frame.bytes());
        self.tail = Some((self.tail.map_or(0, |(number, _)| number + 1), position));
        self.previous = Sha256::digest(frame.bytes()).into();
        position
    }

    pub fn write(&mut self, records: impl IntoIterator<Item = Record>) -> Position {
        self.stand(&self.next(records))
    }

    /// Appends bytes that are not on the chain.
    pub fn append(&mut self, bytes: Vec<u8>) -> Position {
        let position = at(self.entries.len() as u64);
        self.entries.push((position, bytes));
        position
    }
}

pub fn config(shards: u32) -> Value {
    map([("format", 1.into()), ("shards", shards.into()), ("inbox_partitions", 1.into()), ("hash", "xxh3-64".into())])
}
