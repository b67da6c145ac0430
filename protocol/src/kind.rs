//! Names of kinds that a release does not know.
//!
//! What a later release adds to an enum of an envelope (a kind of command, a way in which a run ends) is kept by its name:
//! it is shown, carried and written again as it came, and nothing is concluded from it.

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name of a kind, in bytes. It is short, so that marks stay values that are copied.
pub const KIND_NAME_BYTES_MAX: usize = 23;

/// The name of a kind that this release does not know.
///
/// ```
/// use everpulse_protocol::kind::KindName;
///
/// let name = KindName::new("lease").unwrap();
/// assert_eq!(name.as_str(), "lease");
/// assert!(KindName::new(&"x".repeat(24)).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KindName {
    bytes: [u8; KIND_NAME_BYTES_MAX],
    length: u8,
}

impl KindName {
    /// Takes a name; none if it is longer than [`KIND_NAME_BYTES_MAX`].
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; KIND_NAME_BYTES_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { bytes, length: u8::try_from(name.len()).ok()? })
    }

    /// The name as it was read.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It was taken from a text, whole; were it not, it would be shown as nothing.
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for KindName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KindName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl Visitor<'_> for Names {
            type Value = KindName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the name of a kind, of at most {KIND_NAME_BYTES_MAX} bytes")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<KindName, E> {
                KindName::new(name).ok_or_else(|| E::invalid_length(name.len(), &self))
            }
        }
        deserializer.deserialize_str(Names).map_err(D::Error::custom)
    }
}
