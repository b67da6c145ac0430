//! A writer of a release that does not exist yet: its frames have what nobody knows here.

use bytes::Bytes;
use everpulse_protocol::codec::{Body, VERSION};
use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::history::{CommandKind, CommandMark, Frame, Hash, Parked, Record, RecordBody, Verified};
use everpulse_protocol::kind::KindName;
use everpulse_protocol::{EventId, Position, RunId, Timestamp, WorkflowId, WriterId, encode};
use rmpv::Value;
use uuid::Uuid;

use super::workflows::Word;
use super::{World, payload};

/// Its id.
pub const WRITER: WriterId = WriterId(Uuid::from_u128(0xF07));

/// An entry by its envelope alone, as every release reads it: number, whom it names, hash.
pub type Placed = (u64, Hash, Hash);

/// Reads an envelope with this test's own eyes.
pub fn envelope(bytes: &[u8]) -> Option<Placed> {
    let mut rest = bytes.get(1..)?;
    (rmpv::decode::read_value(&mut rest).ok()?.as_str()? == "history").then_some(())?;
    let Value::Map(fields) = rmpv::decode::read_value(&mut rest).ok()? else { return None };
    let field = |name: &str| fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value);
    let previous = <[u8; 32]>::try_from(field("previous")?.as_slice()?).ok()?;
    Some((field("number")?.as_u64()?, Hash(previous), Hash::of(bytes)))
}

/// The places in a log of what stands, whatever it says.
pub fn standing(log: &[(Position, Bytes)]) -> Vec<usize> {
    let (mut next, mut previous, mut standing) = (0, Hash::GENESIS, Vec::new());
    for (place, (_, bytes)) in log.iter().enumerate() {
        let Some((number, named, hash)) = envelope(bytes) else { continue };
        if (number, named) == (next, previous) {
            (next, previous) = (number + 1, hash);
            standing.push(place);
        }
    }
    standing
}

impl World {
    /// The frame that the later release writes next, with these records.
    pub fn later_frame(&self, records: Vec<Record>) -> Frame {
        let last = standing(&self.log).last().map(|place| &self.log[*place]);
        let (number, previous) = match last.and_then(|(_, bytes)| envelope(bytes)) {
            Some((number, _, hash)) => (number + 1, hash),
            None => (0, Hash::GENESIS),
        };
        let known = self.chain().0.pop();
        Frame {
            shard: self.shard,
            number,
            previous,
            writer: WRITER,
            verified: last.map(|(position, _)| Verified { number: number - 1, position: *position }),
            at: self.now,
            config: None,
            wake: known.as_ref().and_then(|frame| frame.wake),
            sent_below: known.map_or(0, |frame| frame.sent_below),
            queues: Vec::new(),
            records,
        }
    }

    /// Appends bytes, as any writer can.
    pub fn append(&mut self, bytes: Bytes) -> Position {
        let position = Position { ledger: self.ledger, entry: self.log.len() as u64 };
        self.log.push((position, bytes));
        position
    }

    /// The next record of a run, as far as it was written.
    pub fn next_record(&self, id: &str, body: Body) -> Record {
        let records = self.records();
        let last = records.iter().rfind(|record| record.workflow_id.as_str() == id);
        let (run_id, seq) = last.map_or((RunId(Uuid::from_u128(0xF1)), 0), |last: &Record| (last.run_id, last.seq + 1));
        Record {
            workflow_id: WorkflowId::new(id).expect("a good id"),
            run_id,
            seq,
            event: EventId::derived(run_id, seq, "of a later release"),
            at: self.now,
            body,
            commands: Vec::new(),
            notes: Vec::new(),
            close: None,
        }
    }
}

/// A body of a kind that nobody knows here.
pub fn strange(kind: &str) -> Body {
    let mut bytes = vec![VERSION];
    let fields = Value::Map(vec![("lease".into(), "order-43".into()), ("step".into(), 3.into())]);
    rmpv::encode::write_value(&mut bytes, &Value::Map(vec![(kind.into(), fields)])).expect("memory takes it");
    Body(bytes.into())
}

/// The frame's bytes with one more field, on top.
pub fn with_more(frame: &Frame) -> Bytes {
    let bytes = encode(frame);
    let mut rest = &bytes[1..];
    let kind = rmpv::decode::read_value(&mut rest).expect("a kind");
    let Value::Map(mut fields) = rmpv::decode::read_value(&mut rest).expect("a frame") else { panic!("no map") };
    fields.push(("sent_to_tenants".into(), Value::Array(vec![7.into()])));
    let mut bytes = vec![VERSION];
    for value in [kind, Value::Map(fields)] {
        rmpv::encode::write_value(&mut bytes, &value).expect("memory takes it");
    }
    bytes.into()
}

/// The same frame in a later format version.
pub fn of_version(version: u8, bytes: &[u8]) -> Bytes {
    [&[version], &bytes[1..]].concat().into()
}

/// A frame of a later format version that has nothing but the envelope in common with this one's.
pub fn sealed(version: u8, frame: &Frame) -> Bytes {
    let bytes = encode(frame);
    let mut rest = &bytes[1..];
    let kind = rmpv::decode::read_value(&mut rest).expect("a kind");
    let Value::Map(mut fields) = rmpv::decode::read_value(&mut rest).expect("a frame") else { panic!("no map") };
    fields.retain(|(name, _)| matches!(name.as_str(), Some("number" | "previous" | "verified")));
    fields.insert(0, ("told".into(), Value::Array(vec![1.into(), 2.into()])));
    written(version, [kind, Value::Map(fields)])
}

/// Bytes that say that they are history of a later format version, and have no envelope.
pub fn bare(version: u8) -> Bytes {
    written(version, ["history".into(), Value::Array(vec![1.into(), 2.into()])])
}

fn written(version: u8, values: [Value; 2]) -> Bytes {
    let mut bytes = vec![version];
    for value in values {
        rmpv::encode::write_value(&mut bytes, &value).expect("memory takes it");
    }
    bytes.into()
}

pub fn signal(text: &str) -> EventBody {
    EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&Word { text: text.to_owned() }) }
}

pub fn word(world: &mut World, id: &str, text: &str) -> Event {
    world.event(id, None, &signal(text))
}

pub fn lease(no: u32) -> CommandMark {
    let kind = CommandKind::Unknown(KindName::new("lease").expect("it is short"));
    CommandMark { name: "pack".to_owned(), ..CommandMark::new(no, kind) }
}

/// Why a run stands still, if it does.
pub fn parked(world: &World, id: &str) -> Option<Parked> {
    let of_run = world.records().into_iter().filter(|record| record.workflow_id.as_str() == id);
    of_run.fold(None, |parked, record| match record.body() {
        Ok(RecordBody::Parked { reason }) => Some(reason),
        Ok(RecordBody::Resumed) => None,
        _ => parked,
    })
}

pub fn received(world: &World, id: &str) -> Vec<String> {
    let of_run = world.records().into_iter().filter(|record| record.workflow_id.as_str() == id);
    let kind = |record: Record| match record.body() {
        Ok(RecordBody::Received { event, .. }) => event.body.kind(),
        _ => None,
    };
    of_run.filter_map(kind).collect()
}

/// Long after all that tests wait for.
pub const LATE: Timestamp = Timestamp(100_000_000);
