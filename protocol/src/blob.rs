//! Values that lie elsewhere: what stands for them, and the pieces in which the broker keeps them.
//!
//! ```text
//! encoding = ... "+" "blob" ":" STORE      data = Reference { hash, bytes, at }
//! ```
//! A value that is put into a store is one more layer over it, the outermost: what lies in the store is compressed and
//! sealed already. What stores there are, and when a value goes into one, is another crate's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::codec::{DecodeError, Stored, decode, encode};
use crate::event::Outcome;
use crate::values::{Values, each_payload};
use crate::{Payload, RunId, Timestamp};

/// What the layer is called in encodings; its label is the store's name.
pub const LAYER: &str = "blob";

/// What stands for a value that lies in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// SHA-256 of the bytes that lie there.
    #[serde(with = "serde_bytes")]
    pub hash: [u8; 32],
    /// How many they are.
    pub bytes: u64,
    /// Where the store put them, if their hash alone does not find them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Stored for Reference {
    const KIND: &'static str = "blob";
}

impl Reference {
    /// What stands for these bytes, wherever they are put.
    #[must_use]
    pub fn to(data: &[u8]) -> Self {
        Self { hash: Sha256::digest(data).into(), bytes: data.len() as u64, at: None }
    }

    /// The hash, as people and file systems write it.
    #[must_use]
    pub fn name(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether these are the bytes that it stands for.
    #[must_use]
    pub fn is_to(&self, data: &[u8]) -> bool {
        self.bytes == data.len() as u64 && self.hash == <[u8; 32]>::from(Sha256::digest(data))
    }

    /// As it stands in a payload.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        encode(self)
    }

    /// What stands in a payload.
    ///
    /// # Errors
    /// When it is no reference, or one of a later version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Payload {
    /// The store in which its value lies, if it lies in one.
    #[must_use]
    pub fn store(&self) -> Option<&str> {
        let (_, layer) = self.encoding.rsplit_once('+')?;
        let (name, store) = layer.split_once(':')?;
        (name == LAYER).then_some(store)
    }
}

/// Whether anything in it lies in a store.
#[must_use]
pub fn refers<T: Values + ?Sized>(values: &mut T) -> bool {
    let mut found = false;
    let looked = each_payload(values, &mut |payload| {
        found |= payload.store().is_some();
        Ok(())
    });
    debug_assert!(looked.is_ok(), "nothing is opened");
    found
}

/// What stays the same of a run's end when a replay comes to it again and seals it anew.
#[must_use]
pub fn identity(run_id: RunId, outcome: &Outcome) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(run_id.0.as_bytes());
    let value = match outcome {
        Outcome::Done(value) => Some(value),
        Outcome::Failed(failure) => {
            add(failure.message.as_bytes());
            failure.chain.iter().for_each(|cause| add(cause.as_bytes()));
            failure.value.as_ref()
        }
    };
    if let Some(Payload { encoding, data }) = value {
        add(encoding.as_bytes());
        add(data);
    }
    hash.finalize().into()
}

/// A piece of a blob, as the broker keeps it: one message of the topic of its store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// SHA-256 of the whole.
    #[serde(with = "serde_bytes")]
    pub hash: [u8; 32],
    /// Which one it is, from 0, and how many there are.
    pub no: u32,
    pub of: u32,
    /// When it was put there.
    pub at: Timestamp,
    pub data: Bytes,
}

impl Stored for Piece {
    const KIND: &'static str = "blob piece";
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece({} of {}, {} bytes)", self.no, self.of, self.data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_to_its_bytes_alone() {
        let reference = Reference::to(b"tea");
        assert!(reference.is_to(b"tea") && !reference.is_to(b"sea") && !reference.is_to(b"teas"));
        assert_eq!(Reference::from_bytes(&reference.to_bytes()), Ok(reference.clone()));
        assert!(Reference::from_bytes(b"tea").is_err());
        assert_eq!(&reference.name()[..8], "a9f74d1e", "sha256 of `tea`");
    }

    #[test]
    fn where_a_value_lies_is_told_by_its_outermost_layer() {
        let payload = |encoding: &str| Payload { encoding: encoding.to_owned(), data: Bytes::new() };
        assert_eq!(payload("msgpack+lz4+blob:documents").store(), Some("documents"));
        assert_eq!(payload("msgpack+blob:documents+lz4").store(), None);
        assert_eq!(payload("msgpack").store(), None);
    }
}
