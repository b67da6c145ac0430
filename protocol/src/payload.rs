//! Values of users, as bytes that say how they are encoded.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The encoding that is written unless a codec says otherwise: MessagePack with field names.
pub const MSGPACK: &str = "msgpack";

/// A value of a user: an argument map, a result, a signal, an error.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    #[serde(default = "msgpack", skip_serializing_if = "is_msgpack")]
    pub encoding: String,
    pub data: Bytes,
}

fn msgpack() -> String {
    MSGPACK.to_owned()
}

fn is_msgpack(encoding: &String) -> bool {
    encoding == MSGPACK
}

/// A value could not be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("cannot encode a value of type {type_name}: {reason}")]
    Encode { type_name: &'static str, reason: String },
    #[error("cannot decode a payload of {bytes} bytes as {type_name}: {reason}")]
    Decode { type_name: &'static str, bytes: usize, reason: String },
    #[error("a payload is encoded as {encoding:?}, which this process does not know")]
    Encoding { encoding: String },
}

impl Payload {
    /// Encodes a value as MessagePack with field names.
    ///
    /// # Errors
    /// When the value's `Serialize` fails.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let data = rmp_serde::to_vec_named(value).map_err(|error| PayloadError::Encode {
            type_name: std::any::type_name::<T>(),
            reason: error.to_string(),
        })?;
        Ok(Self { encoding: msgpack(), data: data.into() })
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// When the encoding is unknown or the bytes are no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        if self.encoding != MSGPACK {
            return Err(PayloadError::Encoding { encoding: self.encoding.clone() });
        }
        rmp_serde::from_slice(&self.data).map_err(|error| PayloadError::Decode {
            type_name: std::any::type_name::<T>(),
            bytes: self.data.len(),
            reason: error.to_string(),
        })
    }

    /// Size of the value's bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no bytes at all, which no encoded value has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

// Payloads stay out of logs: Debug tells the size alone.
impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({}, {} bytes)", self.encoding, self.data.len())
    }
}
