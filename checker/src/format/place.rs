//! The fields by which a frame has its place, found also where the rest is in no form that is known here, or nested without an end.

use rmpv::ValueRef;

use super::{Reason, read, text};

const NAMES: [&str; 3] = ["number", "previous", "verified"];

/// Finds them in the map that begins here, which has to be whole.
pub fn fields(bytes: &[u8]) -> Result<Vec<(ValueRef<'_>, ValueRef<'_>)>, Reason> {
    let (mut at, values) = match head(bytes, 0) {
        Some((at, Inside::Pairs(pairs))) => (at, pairs),
        Some(_) => return Err("is no map".to_owned()),
        None => return Err("is no MessagePack".to_owned()),
    };
    let mut found: Vec<(ValueRef<'_>, ValueRef<'_>)> = Vec::new();
    for _ in 0..values {
        let name = at;
        let value = end(bytes, name).ok_or("is cut off")?;
        at = end(bytes, value).ok_or("is cut off")?;
        // A name that cannot be read is none of them.
        let Ok(key) = read(&mut &bytes[name..value]) else { continue };
        let Some(word) = text(&key).filter(|word| NAMES.contains(word)) else { continue };
        if found.iter().any(|(key, _)| text(key) == Some(word)) {
            return Err(format!("says twice what its {word:?} is"));
        }
        let said = read(&mut &bytes[value..at])?;
        found.push((key, said));
    }
    Ok(found)
}

/// What a value has inside.
enum Inside {
    Bytes(u64),
    Values(u64),
    Pairs(u64),
}

/// Where the value ends that begins at a place.
fn end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut open = 1_u64;
    while open > 0 {
        let (behind, inside) = head(bytes, at)?;
        at = behind;
        open -= 1;
        match inside {
            Inside::Bytes(length) => {
                at = at.checked_add(usize::try_from(length).ok()?).filter(|at| *at <= bytes.len())?
            }
            Inside::Values(values) => open = open.checked_add(values)?,
            Inside::Pairs(pairs) => open = open.checked_add(pairs.checked_mul(2)?)?,
        }
    }
    Some(at)
}

/// Reads what a value begins with; gives the place behind that.
fn head(bytes: &[u8], at: usize) -> Option<(usize, Inside)> {
    let marker = *bytes.get(at)?;
    // A length of so many bytes stands behind the marker.
    let sized = |width: usize| {
        let length = bytes.get(at + 1..at + 1 + width)?;
        Some((at + 1 + width, length.iter().fold(0_u64, |all, byte| all * 256 + u64::from(*byte))))
    };
    let plain = |length: u64| Some((at + 1, Inside::Bytes(length)));
    match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => plain(0),
        0x80..=0x8f => Some((at + 1, Inside::Pairs(u64::from(marker % 16)))),
        0x90..=0x9f => Some((at + 1, Inside::Values(u64::from(marker % 16)))),
        0xa0..=0xbf => plain(u64::from(marker % 32)),
        0xc1 => None,
        0xc4..=0xc6 => sized(1 << (marker - 0xc4)).map(|(at, length)| (at, Inside::Bytes(length))),
        0xc7..=0xc9 => sized(1 << (marker - 0xc7)).map(|(at, length)| (at, Inside::Bytes(length + 1))),
        0xca => plain(4),
        0xcb => plain(8),
        0xcc..=0xcf => plain(1 << (marker - 0xcc)),
        0xd0..=0xd3 => plain(1 << (marker - 0xd0)),
        0xd4..=0xd8 => plain(1 + (1 << (marker - 0xd4))),
        0xd9..=0xdb => sized(1 << (marker - 0xd9)).map(|(at, length)| (at, Inside::Bytes(length))),
        0xdc | 0xdd => sized(2 << (marker - 0xdc)).map(|(at, length)| (at, Inside::Values(length))),
        0xde | 0xdf => sized(2 << (marker - 0xde)).map(|(at, length)| (at, Inside::Pairs(length))),
    }
}
