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
        T::deserialize(&mut reader(rest))
            .map_err(|error| DecodeError::Malformed { expected, reason: error.to_string() })
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
