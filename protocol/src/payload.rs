//! Values of users, as bytes that say how they are encoded.
//!
//! ```text
//! encoding = FORMAT { "+" LAYER [ ":" LABEL ] }      msgpack    json+lz4    msgpack+lz4+aes256gcm:k2
//! ```
//! The format is read and written here. The layers over it are a [`Coding`](crate::Coding)'s.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::coding::CodingError;

/// The encoding that is written unless a codec says otherwise: MessagePack with field names.
pub const MSGPACK: &str = "msgpack";
/// JSON, for readers that are not written in Rust.
pub const JSON: &str = "json";

/// How a value of Rust becomes bytes, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Format {
    /// With field names.
    #[default]
    MessagePack,
    Json,
}

impl Format {
    /// What it is called in an encoding.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MessagePack => MSGPACK,
            Self::Json => JSON,
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::MessagePack, Self::Json].into_iter().find(|format| format.name() == name)
    }
}

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
    #[error(transparent)]
    Coding(#[from] CodingError),
}

impl Payload {
    /// Encodes a value as MessagePack with field names.
    ///
    /// # Errors
    /// When the value's `Serialize` fails.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        Self::encode_as(Format::MessagePack, value)
    }

    /// Encodes a value. What JSON cannot say, such as a map whose keys are neither texts nor numbers, becomes MessagePack: the
    /// format must not decide what a run does.
    ///
    /// # Errors
    /// When the value's `Serialize` fails.
    pub fn encode_as<T: Serialize + ?Sized>(format: Format, value: &T) -> Result<Self, PayloadError> {
        if format == Format::Json
            && let Ok(data) = serde_json::to_vec(value)
        {
            return Ok(Self { encoding: JSON.to_owned(), data: data.into() });
        }
        let data = rmp_serde::to_vec_named(value).map_err(|error| PayloadError::Encode {
            type_name: std::any::type_name::<T>(),
            reason: error.to_string(),
        })?;
        Ok(Self { encoding: msgpack(), data: data.into() })
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// When the encoding is unknown or has layers, or the bytes are no `T` or nested deeper than [`codec::DEPTH_MAX`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        let read = match self.format() {
            Some(Format::MessagePack) => {
                T::deserialize(&mut codec::reader(&self.data)).map_err(|error| error.to_string())
            }
            // It has a limit of its own to how deep values may be nested.
            Some(Format::Json) => serde_json::from_slice(&self.data).map_err(|error| error.to_string()),
            None => return Err(self.unknown()),
        };
        read.map_err(|reason| PayloadError::Decode {
            type_name: std::any::type_name::<T>(),
            bytes: self.data.len(),
            reason,
        })
    }

    /// The format, if there are no layers over it and it is known here.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        Format::of_name(&self.encoding)
    }

    /// Why it cannot be decoded as it is.
    #[must_use]
    pub fn unknown(&self) -> PayloadError {
        match self.encoding.rsplit_once('+') {
            Some((_, layer)) => CodingError::missing(layer).into(),
            None => PayloadError::Encoding { encoding: self.encoding.clone() },
        }
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
        let json = Payload { encoding: JSON.to_owned(), data: "[".repeat(100_000).into() };
        let error = json.decode::<Nested>().expect_err("nobody reads so deep");
        assert!(error.to_string().contains("recursion limit"), "{error}");
    }

    #[test]
    fn a_value_comes_back_from_each_format() {
        let value = ("tea".to_owned(), vec![1_u64, 2], Some(uuid::Uuid::from_u128(7)));
        for format in [Format::MessagePack, Format::Json] {
            let payload = Payload::encode_as(format, &value).expect("it can be written");
            assert_eq!((payload.format(), payload.decode()), (Some(format), Ok(value.clone())));
        }
        let json = Payload::encode_as(Format::Json, &value).expect("it can be written");
        assert_eq!(json.data, r#"["tea",[1,2],"00000000-0000-0000-0000-000000000007"]"#);
    }

    #[test]
    fn what_json_cannot_say_is_message_pack() {
        let value = std::collections::BTreeMap::from([((1_u8, 2_u8), "a".to_owned())]);
        let payload = Payload::encode_as(Format::Json, &value).expect("it can be written");
        assert_eq!((payload.format(), payload.decode()), (Some(Format::MessagePack), Ok(value)));
        let keys = std::collections::BTreeMap::from([(-7_i64, u64::MAX)]);
        let payload = Payload::encode_as(Format::Json, &keys).expect("it can be written");
        assert_eq!((payload.format(), payload.decode()), (Some(Format::Json), Ok(keys)));
    }

    proptest::proptest! {
        #[test]
        fn numbers_come_back_bit_by_bit(float: f64, small: f32, large: u128, negative: i128) {
            for format in [Format::MessagePack, Format::Json] {
                let payload = Payload::encode_as(format, &(float, small, large, negative)).expect("it can be written");
                let (f, s, l, n): (f64, f32, u128, i128) = payload.decode().expect("it can be read");
                assert_eq!((f.to_bits(), s.to_bits(), l, n), (float.to_bits(), small.to_bits(), large, negative));
            }
        }
    }

    #[test]
    fn an_encoding_with_layers_is_not_decoded_and_says_what_is_missing() {
        let sealed = |encoding: &str| Payload { encoding: encoding.to_owned(), data: Bytes::from_static(b"\x07") };
        let error = sealed("msgpack+lz4+aes256gcm:k2").decode::<u8>().expect_err("nobody has opened it");
        assert!(error.to_string().contains("key `k2`"), "{error}");
        let error = sealed("msgpack+zip").decode::<u8>().expect_err("nobody has opened it");
        assert!(error.to_string().contains("`zip`"), "{error}");
        assert_eq!(sealed("cbor").decode::<u8>(), Err(PayloadError::Encoding { encoding: "cbor".to_owned() }));
    }
}
