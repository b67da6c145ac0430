//! Damage to bytes that were valid: blind, and by one who knows MessagePack.
//!
//! ```text
//! blind    cut, doubled, spliced, bits turned, lengths that promise what is not there
//! by shape a value replaced, removed, repeated or nested; into binary that is an envelope of its own, too
//! ```

use rmpv::Value;

use crate::dice::Dice;

/// What claims to be followed by very much.
const PROMISES: [&[u8]; 5] = [
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xdf, 0xff, 0xff, 0xff, 0xff],
    &[0xc6, 0xff, 0xff, 0xff, 0xff],
    &[0xdb, 0xff, 0xff, 0xff, 0xff],
    &[0xc9, 0xff, 0xff, 0xff, 0xff, 0x01],
];
/// What opens one level of nesting: a list, a map with a key, a list of the longest form, an extension.
const LEVELS: [&[u8]; 4] = [&[0x91], &[0x81, 0xa1, b'a'], &[0xdd, 0, 0, 0, 1], &[0x81, 0x91]];

/// Other bytes from these, and from `other`, which are of the same kind.
pub fn bytes(valid: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = match dice.below(4) {
        0 => valid.to_vec(),
        _ => by_shape(valid, dice).unwrap_or_else(|| valid.to_vec()),
    };
    if dice.one_in(2) {
        return bytes;
    }
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let piece = bytes[at..].to_vec();
                bytes.extend(piece.into_iter().take(4096));
            }
            2 => {
                let from = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            3 => drop(bytes.splice(at..at, dice.pick(&PROMISES).iter().copied())),
            4 => drop(bytes.splice(at..at, dice.bytes(16))),
            5 => {
                let levels = dice.pick(&LEVELS).repeat(1 + dice.below(2_000));
                drop(bytes.splice(at..at, levels));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
    bytes
}

/// As [`bytes()`] of text: JSON, addresses, ids.
pub fn text(valid: &str, other: &str, dice: &mut Dice) -> String {
    let mut bytes = valid.as_bytes().to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let from = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other.as_bytes()[from..]);
            }
            2 => {
                let piece =
                    *dice.pick(&["?", "&", "=", "%", "%ff", ":", "//", "@", "[", "]", "\u{0}", "ä", "99999999999"]);
                drop(bytes.splice(at..at, piece.bytes()));
            }
            3 => drop(bytes.splice(at..at, dice.bytes(8))),
            4 => {
                drop(bytes.splice(at..at, dice.pick(&["[", "{\"a\":", "%25"]).repeat(1 + dice.below(500)).into_bytes()))
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value inside is another one; the bytes around it are what they have to be. None where there is no MessagePack.
fn by_shape(valid: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut rest = valid;
    let mut out = Vec::new();
    // The version of a frame or an envelope.
    if let [1, inner @ ..] = rest {
        out.push(if dice.one_in(50) { 2 } else { 1 });
        rest = inner;
    }
    while !rest.is_empty() {
        let mut value = rmpv::decode::read_value_with_max_depth(&mut rest, 256).ok()?;
        for _ in 0..=dice.below(3) {
            inside(&mut value, dice);
        }
        rmpv::encode::write_value(&mut out, &value).ok()?;
    }
    Some(out)
}

fn inside(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Map(fields) if !fields.is_empty() && !dice.one_in(8) => {
            let at = dice.below(fields.len());
            match dice.below(16) {
                0 => drop(fields.remove(at)),
                1 => fields.push(fields[at].clone()),
                2 => fields[at].0 = any(dice),
                _ => inside(&mut fields[at].1, dice),
            }
        }
        Value::Array(values) if !values.is_empty() && !dice.one_in(8) => {
            let at = dice.below(values.len());
            match dice.below(12) {
                0 => drop(values.remove(at)),
                1 => values.push(values[at].clone()),
                2 => values.clear(),
                _ => inside(&mut values[at], dice),
            }
        }
        Value::Binary(bytes) if !dice.one_in(6) => {
            if let Some(other) = by_shape(bytes, dice) {
                *bytes = other;
            }
        }
        Value::Integer(_) if !dice.one_in(6) => *value = dice.number().into(),
        _ => *value = any(dice),
    }
}

fn any(dice: &mut Dice) -> Value {
    match dice.below(9) {
        0 => Value::Nil,
        1 => Value::Boolean(dice.one_in(2)),
        2 => dice.number().into(),
        3 => Value::F64(f64::from_bits(dice.roll())),
        4 => Value::from(String::from_utf8_lossy(&dice.bytes(20)).into_owned()),
        5 => Value::Binary(dice.bytes(64)),
        6 => Value::Array(Vec::new()),
        7 => Value::Map(vec![(any(dice), any(dice))]),
        _ => (0..dice.below(200)).fold(Value::Nil, |inner, _| Value::Array(vec![inner])),
    }
}
