//! What decides whether a frame stands, read from its bytes. It is the same reading in every release: whoever read more, or less,
//! of some bytes than another would place them otherwise.
//!
//! So it is written down here to the byte, and does not hang on how the rest of a frame is read: a version byte, the kind, and one
//! map in which the three names stand once at most. The map has to be whole; how deep it is nested, what else it has and what is
//! behind it makes no difference.

use serde::de::DeserializeOwned;

use crate::codec::{self, Stored as _};
use crate::history::{Frame, Hash, Verified};

/// What decides whether it stands. These names and types never change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope {
    pub number: u64,
    pub previous: Hash,
    pub verified: Option<Verified>,
}

impl Envelope {
    /// Reads it from a message, of whatever version. None: the bytes are no frame, in any release.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let mut rest = payload.get(1..)?;
        (value::<String>(take(&mut rest)?)? == Frame::KIND).then_some(())?;
        let (mut number, mut previous, mut verified) = (None, None, None);
        for _ in 0..fields(&mut rest)? {
            let name = take(&mut rest)?;
            let said = take(&mut rest)?;
            match text(name) {
                Some(b"number") => once(&mut number, value(said)?)?,
                Some(b"previous") => once(&mut previous, value(said)?)?,
                Some(b"verified") => once(&mut verified, value(said)?)?,
                _ => {}
            }
        }
        Some(Self { number: number?, previous: previous?, verified: verified.flatten() })
    }
}

/// What is said twice is said by nobody.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn value<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    T::deserialize(&mut codec::reader(bytes)).ok()
}

/// The text of a value that is one, in whatever length its length is written.
fn text(value: &[u8]) -> Option<&[u8]> {
    let head = match value.first()? {
        0xa0..=0xbf => 1,
        0xd9 => 2,
        0xda => 3,
        0xdb => 5,
        _ => return None,
    };
    value.get(head..)
}

/// The number of fields of the map that begins here.
fn fields(rest: &mut &[u8]) -> Option<u64> {
    match byte(rest)? {
        short @ 0x80..=0x8f => Some(u64::from(short & 0x0f)),
        0xde => length(rest, 2),
        0xdf => length(rest, 4),
        _ => None,
    }
}

/// Takes the bytes of the next value, however deep it is nested.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let all = *rest;
    let mut left = 1_u64;
    while left > 0 {
        // What it has inside is as good as behind it. No more is announced than memory has bytes for, times a number.
        left = (left - 1).saturating_add(inside(rest)?);
    }
    Some(&all[..all.len() - rest.len()])
}

/// Takes the head of a value, and its bytes if it has some; gives the number of values inside.
fn inside(rest: &mut &[u8]) -> Option<u64> {
    let head = byte(rest)?;
    let bytes = match head {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 0,
        0x80..=0x8f => return Some(2 * u64::from(head & 0x0f)),
        0x90..=0x9f => return Some(u64::from(head & 0x0f)),
        0xa0..=0xbf => u64::from(head & 0x1f),
        // No value begins so.
        0xc1 => return None,
        0xc4 | 0xd9 => length(rest, 1)?,
        0xc5 | 0xda => length(rest, 2)?,
        0xc6 | 0xdb => length(rest, 4)?,
        // Extensions have a type.
        0xc7 => length(rest, 1)? + 1,
        0xc8 => length(rest, 2)? + 1,
        0xc9 => length(rest, 4)? + 1,
        0xcc | 0xd0 => 1,
        0xcd | 0xd1 => 2,
        0xca | 0xce | 0xd2 => 4,
        0xcb | 0xcf | 0xd3 => 8,
        0xd4..=0xd8 => (1 << (head - 0xd4)) + 1,
        0xdc => return length(rest, 2),
        0xdd => return length(rest, 4),
        0xde => return Some(2 * length(rest, 2)?),
        0xdf => return Some(2 * length(rest, 4)?),
    };
    *rest = rest.get(usize::try_from(bytes).ok()?..)?;
    Some(0)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (&first, behind) = rest.split_first()?;
    *rest = behind;
    Some(first)
}

fn length(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let (length, behind) = rest.split_at_checked(bytes)?;
    *rest = behind;
    Some(length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z]{0,40}".prop_map(Value::from),
            (0..70_000_usize).prop_map(|length| Value::from("x".repeat(length))),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
            (0..70_000_usize).prop_map(|length| Value::Binary(vec![7; length])),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
            (0..20_usize).prop_map(|length| Value::Array(vec![Value::Nil; length * 5_000])),
            (0..20_usize).prop_map(|length| Value::Map(vec![(Value::Nil, 1.into()); length * 5_000])),
        ];
        leaf.prop_recursive(4, 32, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
            ]
        })
    }

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).expect("memory takes it");
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_value_is_taken_up_to_its_last_byte_and_not_before(value in values(), behind in any::<u8>()) {
            let whole = bytes(&value);
            let mut rest = &[&whole[..], &[behind]].concat()[..];
            prop_assert_eq!(take(&mut rest), Some(&whole[..]));
            prop_assert_eq!(rest, &[behind]);
            prop_assert_eq!(take(&mut &whole[..whole.len() - 1]), None);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            let mut theirs = &bytes[..];
            let taken = take(&mut rest).map(<[u8]>::len);
            // Where another reader finds a value, the same one is found here. That one takes the byte with which no value begins
            // for nil.
            if !bytes.contains(&0xc1) && rmpv::decode::read_value(&mut theirs).is_ok() {
                prop_assert_eq!(taken, Some(bytes.len() - theirs.len()));
            }
            let _ = Envelope::read(&[&[1], &b"\xa7history"[..], &bytes].concat());
        }
    }
}
