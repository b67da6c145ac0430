//! How stored values become bytes: a version byte, a kind, then MessagePack with field names.
//!
//! ```text
//! frame  = version (1 byte) | kind (MessagePack string) | map
//! body   = version (1 byte) | {kind: map}
//! ```
//! Named fields let an older reader skip what it does not know. Unknown kinds and versions are errors
//! with a name; they are never guessed.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version byte that this release writes.
pub const VERSION: u8 = 1;

/// How deep values may be nested. The formats of this crate need a dozen levels; a stack of 2 MiB, as threads of
/// runtimes have, bears many more.
pub const DEPTH_MAX: usize = 128;

/// A value that is one message of a topic.
pub trait Stored: Serialize + DeserializeOwned {
    /// The kind that stands before the value.
    const KIND: &'static str;
}

/// Bytes that are not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("no bytes where a {expected} was expected")]
    Empty { expected: &'static str },
    #[error("a {expected} of format version {found}; this release reads {VERSION}")]
    Version { expected: &'static str, found: u8 },
    #[error("a {found:?} where a {expected} was expected")]
    Kind { expected: &'static str, found: String },
    #[error("{expected} kind `{kind}` is not known to this release")]
    Unknown { expected: &'static str, kind: String },
    #[error("a {expected} that cannot be read: {reason}")]
    Malformed { expected: &'static str, reason: String },
}

/// Encodes a stored value.
///
/// # Panics
/// Never: the stored types have no map keys or lengths that MessagePack cannot write.
#[must_use]
pub fn encode<T: Stored>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    rmp_serde::encode::write(&mut bytes, T::KIND).expect("a string can be written to memory");
    rmp_serde::encode::write_named(&mut bytes, value).expect("stored types can be written to memory");
    bytes.into()
}

/// Decodes a stored value.
///
/// # Errors
/// When the version or the kind is another one, or the bytes are damaged.
pub fn decode<T: Stored>(bytes: &[u8]) -> Result<T, DecodeError> {
    let expected = T::KIND;
    let (&version, rest) = bytes.split_first().ok_or(DecodeError::Empty { expected })?;
    if version != VERSION {
        return Err(DecodeError::Version { expected, found: version });
    }
    let malformed = |error: rmp_serde::decode::Error| DecodeError::Malformed { expected, reason: error.to_string() };
    let mut reader = reader(rest);
    let kind = String::deserialize(&mut reader).map_err(malformed)?;
    if kind != expected {
        return Err(DecodeError::Kind { expected, found: kind });
    }
    T::deserialize(&mut reader).map_err(malformed)
}

/// The format version of bytes that say that they are such a value, of a later version than this release reads. What they
/// are stands behind the version byte in every version; without it they are foreign.
#[must_use]
pub fn later_version<T: Stored>(bytes: &[u8]) -> Option<u8> {
    let (&version, rest) = bytes.split_first()?;
    (version > VERSION && is_kind(rest, T::KIND)).then_some(version)
}

fn is_kind(bytes: &[u8], kind: &str) -> bool {
    <&str>::deserialize(&mut reader(bytes)).is_ok_and(|found| found == kind)
}

/// Whether bytes say something that is not said by what was made of them: a later release's fields, which were passed over.
/// Both have a version byte, and values behind it.
#[must_use]
pub(crate) fn says_more(read: &[u8], kept: &[u8]) -> bool {
    if read == kept {
        return false;
    }
    let (mut read, mut kept) = (read.get(1..).unwrap_or_default(), kept.get(1..).unwrap_or_default());
    let next = |bytes: &mut &[u8]| rmpv::decode::read_value_with_max_depth(bytes, DEPTH_MAX);
    while !read.is_empty() {
        let (Ok(said), Ok(kept)) = (next(&mut read), next(&mut kept)) else { return true };
        if !has_all(&kept, &said) {
            return true;
        }
    }
    false
}

/// Whether all fields of a value are fields of another. What an earlier release wrote in another form is no field more.
fn has_all(kept: &rmpv::Value, said: &rmpv::Value) -> bool {
    use rmpv::Value::{Array, Map};
    match (kept, said) {
        (Map(kept), Map(said)) => said.iter().all(|(name, said)| {
            let found = kept.iter().find(|(key, _)| key == name).map(|(_, kept)| kept);
            found.map_or(is_blank(said), |kept| has_all(kept, said))
        }),
        (Array(kept), Array(said)) => {
            kept.len() == said.len() && kept.iter().zip(said).all(|(kept, said)| has_all(kept, said))
        }
        _ => true,
    }
}

/// What is written today by leaving it out.
fn is_blank(value: &rmpv::Value) -> bool {
    match value {
        rmpv::Value::Nil | rmpv::Value::Boolean(false) => true,
        rmpv::Value::Array(values) => values.is_empty(),
        rmpv::Value::String(text) => text.as_bytes().is_empty(),
        _ => false,
    }
}

/// Reads MessagePack that may come from anywhere. What is nested deeper than [`DEPTH_MAX`] is an error, where it would
/// otherwise take the process down.
#[must_use]
pub fn reader(bytes: &[u8]) -> rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'_, [u8]>> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(DEPTH_MAX);
    reader
}

/// A value behind an envelope: it can be carried on by a release that does not know its kind.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Body(pub Bytes);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({}, {} bytes)", self.kind().as_deref().unwrap_or("?"), self.0.len())
    }
}

impl Body {
    /// Wraps a value, which must be an enum whose variants are its kinds.
    ///
    /// # Panics
    /// Never, for the enums of this crate.
    #[must_use]
    pub fn of<T: Serialize>(value: &T) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(VERSION);
        rmp_serde::encode::write_named(&mut bytes, value).expect("stored types can be written to memory");
        // No more room than it takes: there can be very many.
        Self(bytes.into_boxed_slice().into())
    }

    /// Opens the envelope.
    ///
    /// # Errors
    /// When version or kind are unknown here, or the bytes are damaged.
    pub fn open<T: DeserializeOwned>(&self, expected: &'static str) -> Result<T, DecodeError> {
        let (&version, rest) = self.0.split_first().ok_or(DecodeError::Empty { expected })?;
        if version != VERSION {
            return Err(DecodeError::Version { expected, found: version });
        }
        T::deserialize(&mut reader(rest)).map_err(|error| {
            let reason = error.to_string();
            match self.kind() {
                // As serde words it; in other words it would be told as what cannot be read, which harms nobody.
                Some(kind) if reason.starts_with(&format!("unknown variant `{kind}`")) => {
                    DecodeError::Unknown { expected, kind }
                }
                _ => DecodeError::Malformed { expected, reason },
            }
        })
    }

    /// Whether it is of a kind, in whatever version.
    #[must_use]
    pub fn is_of_kind(&self, kind: &str) -> bool {
        let Some(rest) = self.0.get(1..) else { return false };
        let rest = rest.strip_prefix(&[0x81]).unwrap_or(rest);
        is_kind(rest, kind)
    }

    /// The name of the kind, if the bytes have one.
    #[must_use]
    pub fn kind(&self) -> Option<String> {
        let rest = self.0.get(1..)?;
        match *rest.first()? {
            0x81 => String::deserialize(&mut reader(&rest[1..])).ok(),
            _ => String::deserialize(&mut reader(rest)).ok(),
        }
    }
}
