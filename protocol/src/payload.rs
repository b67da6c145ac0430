//! Values of users, as bytes that say how they are encoded.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;

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
    /// When the encoding is unknown, or the bytes are no `T` or nested deeper than [`codec::DEPTH_MAX`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        if self.encoding != MSGPACK {
            return Err(PayloadError::Encoding { encoding: self.encoding.clone() });
        }
        T::deserialize(&mut codec::reader(&self.data)).map_err(|error| PayloadError::Decode {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A list in a list, and so on.
    #[derive(Debug, Deserialize)]
    struct Nested(#[expect(dead_code, reason = "only its depth counts")] Vec<Nested>);

    #[test]
    fn a_value_that_nests_without_end_is_an_error() {
        let nested = |levels: usize| {
            let mut data = vec![0x91; levels];
            data.push(0x90);
            Payload { encoding: msgpack(), data: data.into() }.decode::<Nested>()
        };
        assert!(nested(50).is_ok());
        let error = nested(100_000).expect_err("nobody reads so deep");
        assert!(error.to_string().contains("depth limit"), "{error}");
    }
}
