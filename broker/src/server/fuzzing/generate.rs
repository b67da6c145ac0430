//! Scripts of mostly sensible commands, from a stream of chance.
//!
//! Commands are tables of fields, not the structs of `wire`: so a field that `wire` does not know is sent, too.

use bytes::{BufMut, BytesMut};

/// What the well-behaved client sends.
pub const SERVED: &[u8] = b"served after all";

const TOPICS: [&str; 7] = [
    "persistent://public/default/a",
    "persistent://public/default/b-partition-1",
    "non-persistent://public/default/c",
    "a",
    "persistent://public/default/b",
    "persistent://nobody/default/a",
    "://",
];
const NAMES: [&str; 4] = ["s", "t", "", "a name with / and \u{1f600}"];

#[derive(Debug, Clone, Copy)]
enum Field {
    Topic,
    Name,
    /// A producer's or consumer's.
    Id,
    Small,
    Number,
    Position,
}
use Field::{Id, Name, Number, Position, Small, Topic};

/// Type and fields of each command that a client may send (numbers as in `PulsarApi.proto`).
const COMMANDS: &[(u32, &[(u32, Field)])] = &[
    (
        4,
        &[
            (1, Topic),
            (2, Name),
            (3, Small),
            (4, Id),
            (5, Number),
            (6, Name),
            (7, Small),
            (8, Small),
            (9, Position),
            (11, Small),
            (13, Small),
            (15, Small),
            (16, Number),
        ],
    ),
    (
        5,
        &[
            (1, Topic),
            (2, Id),
            (3, Number),
            (4, Name),
            (5, Small),
            (8, Small),
            (9, Small),
            (10, Small),
            (11, Small),
            (13, Name),
        ],
    ),
    (6, &[(1, Id), (2, Small), (3, Small), (4, Small), (5, Small), (6, Number)]),
    (10, &[(1, Id), (2, Small), (3, Position), (3, Position), (6, Small), (8, Number)]),
    (11, &[(1, Id), (2, Number)]),
    (12, &[(1, Id), (2, Number)]),
    (15, &[(1, Id), (2, Number)]),
    (16, &[(1, Id), (2, Number)]),
    (18, &[]),
    (19, &[]),
    (20, &[(1, Id), (2, Position), (2, Position), (3, Small)]),
    (21, &[(1, Topic), (2, Number)]),
    (23, &[(1, Topic), (2, Number), (3, Small), (4, Name)]),
    (25, &[(1, Number), (4, Id)]),
    (28, &[(1, Id), (2, Number), (3, Position), (4, Number)]),
    (29, &[(1, Id), (2, Number)]),
    (32, &[(1, Number), (2, Topic), (3, Small), (4, Name)]),
    (34, &[(1, Number), (2, Topic), (3, Name)]),
    (39, &[(1, Number), (2, Topic), (3, Name)]),
    (57, &[(1, Number), (2, Number), (3, Topic)]),
    (64, &[(1, Number), (2, Number), (3, Topic), (4, Name)]),
    (67, &[(1, Number), (2, Number)]),
];

/// Numbers below `end` (above zero); the only source of chance.
pub type Chance<'a> = &'a mut dyn FnMut(u64) -> u64;

/// A script for [`super::conversation`].
pub fn script(chance: Chance<'_>) -> Vec<u8> {
    let mut script = Vec::new();
    for connection in 0..super::world::CONNECTIONS as u8 {
        put(&mut script, 0, connection, &connect());
    }
    for _ in 0..chance(300) {
        let connection = chance(super::world::CONNECTIONS as u64) as u8;
        match chance(20) {
            0..=12 => {
                let mut frames = BytesMut::new();
                for _ in 0..=chance(4) {
                    any_frame(chance, &mut frames);
                }
                mutate(chance, &mut frames);
                // Sometimes in two parts.
                let cut = if chance(8) == 0 { chance(frames.len() as u64 + 1) as usize } else { frames.len() };
                put(&mut script, 0, connection, &frames[..cut]);
                put(&mut script, 0, connection, &frames[cut..]);
            }
            13..=15 => put(&mut script, 4, connection, &[]),
            16..=17 => put(&mut script, 5, connection, &[]),
            18 => put(&mut script, 6, connection, &[]),
            _ => {
                put(&mut script, 7, connection, &[]);
                put(&mut script, 0, connection, &connect());
            }
        }
    }
    script
}

fn put(script: &mut Vec<u8>, operation: u8, connection: u8, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    if bytes.is_empty() && operation == 0 {
        return;
    }
    script.extend([operation, connection]);
    script.extend((bytes.len() as u16).to_be_bytes());
    script.extend(bytes);
}

fn any_frame(chance: Chance<'_>, out: &mut BytesMut) {
    let known = chance(20) > 0;
    // Producers, messages, consumers and permits more often than the rest.
    let favoured = [0usize, 1, 2, 2, 3, 4];
    let index = if chance(2) == 0 { favoured[chance(6) as usize] } else { chance(COMMANDS.len() as u64) as usize };
    let (kind, fields) = COMMANDS[index];
    let kind = if known { kind } else { chance(80) as u32 + 1 };
    let mut body = BytesMut::new();
    for (number, field) in fields {
        // Most optional fields are left out by most clients.
        if *number <= 4 || chance(5) == 0 {
            any_field(chance, *number, *field, &mut body);
        }
    }
    let entry = if kind == 6 || chance(50) == 0 { any_entry(chance) } else { BytesMut::new() };
    frame(kind, &body, &entry, out);
}

fn any_field(chance: Chance<'_>, number: u32, field: Field, out: &mut BytesMut) {
    match field {
        Topic => text(number, TOPICS[chance(TOPICS.len() as u64) as usize].as_bytes(), out),
        Name if chance(200) == 0 => text(number, &vec![b'n'; chance(30_000) as usize], out),
        Name => text(number, NAMES[chance(NAMES.len() as u64) as usize].as_bytes(), out),
        Id => varint_field(number, chance(3), out),
        Small => varint_field(number, if chance(20) == 0 { u64::MAX } else { chance(4) }, out),
        Number => {
            let number_of = [chance(10), chance(5000), u64::from(u32::MAX), u64::MAX, i64::MAX as u64];
            varint_field(number, number_of[chance(5) as usize], out);
        }
        Position => {
            let mut id = BytesMut::new();
            for part in 1..=2 {
                let value = [chance(4), chance(50), u64::MAX, i64::MAX as u64][chance(4) as usize];
                varint_field(part, value, &mut id);
            }
            if chance(4) == 0 {
                varint_field(4, chance(4), &mut id);
                varint_field(5, chance(u64::MAX), &mut id);
            }
            text(number, &id, out);
        }
    }
}

fn any_entry(chance: Chance<'_>) -> BytesMut {
    let mut metadata = BytesMut::new();
    text(1, b"p", &mut metadata);
    varint_field(2, chance(100), &mut metadata);
    varint_field(3, 1, &mut metadata);
    if chance(3) == 0 {
        text(6, [&b"k"[..], b"l", b"=", b""][chance(4) as usize], &mut metadata);
        varint_field(17, chance(2), &mut metadata);
    }
    if chance(8) == 0 {
        varint_field(11, [chance(10), u64::MAX, 1 << 31][chance(3) as usize], &mut metadata);
    }
    if chance(8) == 0 {
        varint_field(19, [1, u64::MAX, chance(1 << 62)][chance(3) as usize], &mut metadata);
    }
    if chance(8) == 0 {
        varint_field(26, chance(3), &mut metadata);
        varint_field(28, chance(3), &mut metadata);
    }
    let size = if chance(30) == 0 { 20_000 } else { 300 };
    entry(&metadata, &vec![b'x'; chance(size) as usize])
}

/// Bytes that no client would send.
fn mutate(chance: Chance<'_>, frames: &mut BytesMut) {
    if frames.is_empty() || chance(8) > 0 {
        return;
    }
    for _ in 0..=chance(4) {
        let at = chance(frames.len() as u64) as usize;
        match chance(4) {
            0 => frames[at] = chance(256) as u8,
            1 => frames[at] ^= 1 << chance(8),
            2 if frames.len() > 1 => frames.truncate(at.max(1)),
            _ => {
                let tail = frames.split_off(at);
                frames.put_u8(chance(256) as u8);
                frames.unsplit(tail);
            }
        }
    }
}

/// A client's first command.
pub fn connect() -> BytesMut {
    let mut body = BytesMut::new();
    text(1, b"fuzz", &mut body);
    varint_field(4, 19, &mut body);
    let mut out = BytesMut::new();
    frame(2, &body, &[], &mut out);
    out
}

/// A producer, a consumer with permits, a message and a ping, on a topic of its own.
pub fn service() -> BytesMut {
    let topic = b"persistent://public/default/served";
    let mut out = BytesMut::new();
    let mut command = |kind, fields: &[(u32, u64)], topic: Option<&[u8]>, entry: &[u8]| {
        let mut body = BytesMut::new();
        if let Some(topic) = topic {
            text(1, topic, &mut body);
        }
        if kind == 4 {
            text(2, b"served", &mut body);
        }
        fields.iter().for_each(|(number, value)| varint_field(*number, *value, &mut body));
        frame(kind, &body, entry, &mut out);
    };
    command(5, &[(2, 77), (3, 77)], Some(topic), &[]);
    command(4, &[(3, 0), (4, 77), (5, 78), (13, 1)], Some(topic), &[]);
    command(11, &[(1, 77), (2, 10)], None, &[]);
    let mut metadata = BytesMut::new();
    text(1, b"p", &mut metadata);
    varint_field(2, 0, &mut metadata);
    varint_field(3, 1, &mut metadata);
    command(6, &[(1, 77), (2, 0)], None, &entry(&metadata, SERVED));
    command(18, &[], None, &[]);
    out
}

fn frame(kind: u32, body: &[u8], entry: &[u8], out: &mut BytesMut) {
    let mut command = BytesMut::new();
    varint_field(1, u64::from(kind), &mut command);
    text(kind, body, &mut command);
    out.put_u32((4 + command.len() + entry.len()) as u32);
    out.put_u32(command.len() as u32);
    out.extend_from_slice(&command);
    out.extend_from_slice(entry);
}

fn entry(metadata: &[u8], payload: &[u8]) -> BytesMut {
    let mut checked = BytesMut::new();
    checked.put_u32(metadata.len() as u32);
    checked.extend_from_slice(metadata);
    checked.extend_from_slice(payload);
    let mut entry = BytesMut::new();
    entry.put_u16(0x0e01);
    entry.put_u32(crc32c::crc32c(&checked));
    entry.unsplit(checked);
    entry
}

fn text(number: u32, bytes: &[u8], out: &mut BytesMut) {
    prost::encoding::encode_varint(u64::from(number << 3 | 2), out);
    prost::encoding::encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint_field(number: u32, value: u64, out: &mut BytesMut) {
    prost::encoding::encode_varint(u64::from(number << 3), out);
    prost::encoding::encode_varint(value, out);
}
