//! One record of the log, and how to tell it from garbage.
//!
//! ```text
//! [0x4550 u16][kind u8][0 u8][body length u32][synced to u32][crc32c u32][body]
//! ```
//! The checksum covers the segment's salt, the record's own offset, the header and the body: neither a
//! payload that contains a record nor a record of an earlier use of the disk block can be taken for one.
//! `synced to` is the offset up to which the segment was known to be on disk when the record was written.
//! It tells damage from a torn last write: what lies below a later record's `synced to` had been confirmed.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::semantics::{Facts, Position, TopicId};

pub const HEADER_LEN: usize = 16;
/// What a message's body has before producer name and payload.
const MESSAGE_LEN: usize = 8 * 3 + 4 * 2 + 8 * 2 + 8 + 2;
const MAGIC: u16 = 0x4550;
/// Far above any message; a length beyond is damage.
const BODY_LEN_MAX: usize = 512 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Message = 1,
    Change = 2,
}

/// A record as it lies in a segment.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub kind: Kind,
    pub synced_to: u32,
    pub body: &'a [u8],
}

impl Record<'_> {
    pub fn byte_len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }
}

/// Why there is no record at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was ever written here.
    Blank,
    Damaged(&'static str),
}

/// A message as it is stored.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: TopicId,
    pub position: Position,
    pub facts: Facts,
    pub origin: Option<(Arc<str>, u64)>,
    pub payload: Bytes,
}

/// A stored message without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHead<'a> {
    pub topic: TopicId,
    pub position: Position,
    pub facts: Facts,
    pub origin: Option<(&'a str, u64)>,
    /// Where the payload starts in the record.
    pub payload_at: usize,
}

impl Message {
    pub fn record_len(&self) -> usize {
        let name = self.origin.as_ref().map_or(0, |(name, _)| name.len());
        HEADER_LEN + MESSAGE_LEN + name + self.payload.len()
    }

    pub fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.topic.0);
        out.put_u64(self.position.ledger);
        out.put_u64(self.position.entry);
        out.put_u32(self.facts.hash);
        out.put_u32(self.facts.batch);
        out.put_u64(self.facts.publish_time_ms);
        out.put_u64(self.facts.deliver_at_ms);
        let (name, sequence) = self.origin.as_ref().map_or(("", 0), |(name, sequence)| (&**name, *sequence));
        out.put_u64(sequence);
        // The semantics refuse longer names than this holds (`PRODUCER_NAME_BYTES_MAX`).
        let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
        out.put_u16(name.len() as u16);
        out.put_slice(name);
        out.put_slice(&self.payload);
    }
}

/// Reads a message's body; `None` if it is too short to be one.
pub fn message_head(body: &[u8]) -> Option<MessageHead<'_>> {
    let mut rest = body;
    if rest.len() < MESSAGE_LEN {
        return None;
    }
    let topic = TopicId(rest.get_u64());
    let position = Position { ledger: rest.get_u64(), entry: rest.get_u64() };
    let (hash, batch) = (rest.get_u32(), rest.get_u32());
    let facts = Facts { hash, batch, publish_time_ms: rest.get_u64(), deliver_at_ms: rest.get_u64() };
    let sequence = rest.get_u64();
    let name_len = usize::from(rest.get_u16());
    let name = std::str::from_utf8(rest.get(..name_len)?).ok()?;
    let origin = (!name.is_empty()).then_some((name, sequence));
    Some(MessageHead { topic, position, facts, origin, payload_at: HEADER_LEN + MESSAGE_LEN + name_len })
}

/// Appends a record that will lie at `offset` of a segment with this salt.
pub fn put(out: &mut BytesMut, salt: u32, offset: u32, synced_to: u32, kind: Kind, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u16(MAGIC);
    out.put_u8(kind as u8);
    out.put_u8(0);
    out.put_u32(0);
    out.put_u32(synced_to);
    out.put_u32(0);
    body(out);
    let body_len = (out.len() - start - HEADER_LEN) as u32;
    out[start + 4..start + 8].copy_from_slice(&body_len.to_be_bytes());
    let crc = checksum(salt, offset, &out[start..start + 12], &out[start + HEADER_LEN..]);
    out[start + 12..start + HEADER_LEN].copy_from_slice(&crc.to_be_bytes());
}

/// How many bytes to look at for the record that starts so; for what is no record, any number.
pub fn wanted_len(header: &[u8]) -> usize {
    let len = header.get(4..8).map_or(0, |mut len| len.get_u32() as usize);
    HEADER_LEN + len.min(BODY_LEN_MAX)
}

/// Reads the record at the start of `bytes`, which lie at `offset`.
///
/// # Errors
/// There is none.
pub fn read(bytes: &[u8], salt: u32, offset: u32) -> Result<Record<'_>, Fault> {
    let Some(mut header) = bytes.get(..HEADER_LEN) else {
        let blank = bytes.iter().all(|byte| *byte == 0);
        return Err(if blank { Fault::Blank } else { Fault::Damaged("the file ends inside a record") });
    };
    if header.iter().all(|byte| *byte == 0) {
        return Err(Fault::Blank);
    }
    if header.get_u16() != MAGIC {
        return Err(Fault::Damaged("no record starts here"));
    }
    let kind = match header.get_u8() {
        1 => Kind::Message,
        2 => Kind::Change,
        _ => return Err(Fault::Damaged("a record of unknown kind")),
    };
    header.advance(1);
    let body_len = header.get_u32() as usize;
    let synced_to = header.get_u32();
    let crc = header.get_u32();
    if body_len > BODY_LEN_MAX {
        return Err(Fault::Damaged("a record of impossible length"));
    }
    let Some(body) = bytes.get(HEADER_LEN..HEADER_LEN + body_len) else {
        return Err(Fault::Damaged("the file ends inside a record"));
    };
    if checksum(salt, offset, &bytes[..12], body) != crc {
        return Err(Fault::Damaged("a record's checksum does not fit"));
    }
    Ok(Record { kind, synced_to, body })
}

fn checksum(salt: u32, offset: u32, header: &[u8], body: &[u8]) -> u32 {
    let mut place = [0; 8];
    place[..4].copy_from_slice(&salt.to_be_bytes());
    place[4..].copy_from_slice(&offset.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&place), header), body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> Message {
        Message {
            topic: TopicId(3),
            position: Position { ledger: 4, entry: 5 },
            facts: Facts { hash: 6, batch: 7, publish_time_ms: 8, deliver_at_ms: 9 },
            origin: Some(("producer".into(), 10)),
            payload: Bytes::from_static(b"payload"),
        }
    }

    fn encoded() -> BytesMut {
        let mut out = BytesMut::new();
        put(&mut out, 1, 2, 0, Kind::Message, |out| message().put(out));
        out
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let (bytes, message) = (encoded(), message());
        assert_eq!(bytes.len(), message.record_len());
        let record = read(&bytes, 1, 2).expect("valid");
        let head = message_head(record.body).expect("valid");
        assert_eq!((head.topic, head.position, head.facts), (message.topic, message.position, message.facts));
        assert_eq!(head.origin, Some(("producer", 10)));
        assert_eq!(&bytes[head.payload_at..], b"payload");
    }

    #[test]
    fn a_record_elsewhere_is_no_record() {
        assert!(read(&encoded(), 1, 3).is_err());
        assert!(read(&encoded(), 2, 2).is_err());
    }

    proptest! {
        #[test]
        fn any_damage_is_seen(at in 0usize..95, value in any::<u8>()) {
            let mut bytes = encoded();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != value);
            bytes[at] = value;
            prop_assert!(read(&bytes, 1, 2).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 1, 2);
            let _ = message_head(&bytes);
        }
    }
}
