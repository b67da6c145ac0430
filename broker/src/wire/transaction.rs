//! The commands of transactions, as far as a broker without transactions needs them: to refuse each of them
//! with the response that its client waits for.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::command::{ServerError, encode_frame};

const NEW: u32 = 50;
const TC_CONNECT: u32 = 62;

/// Any command of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionRequest {
    kind: u32,
    fields: Fields,
}

/// What all of them begin with. In a `NewTxn` the second and third field are something else.
#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(uint64, required, tag = "1")]
    request_id: u64,
    #[prost(uint64, optional, tag = "2")]
    least_bits: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    most_bits: Option<u64>,
}

/// The refusal of one.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionResponse {
    request: TransactionRequest,
    error: ServerError,
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct ConnectResponse {
    #[prost(uint64, required, tag = "1")]
    request_id: u64,
    #[prost(int32, optional, tag = "2")]
    error: Option<i32>,
    #[prost(string, optional, tag = "3")]
    message: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OtherResponse {
    #[prost(uint64, required, tag = "1")]
    request_id: u64,
    #[prost(uint64, optional, tag = "2")]
    least_bits: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    most_bits: Option<u64>,
    #[prost(int32, optional, tag = "4")]
    error: Option<i32>,
    #[prost(string, optional, tag = "5")]
    message: Option<String>,
}

impl TransactionRequest {
    /// `None` if it is no command of transactions.
    pub fn decode(kind: u32, body: Bytes) -> Result<Option<TransactionRequest>, prost::DecodeError> {
        if !matches!(kind, NEW | 52 | 54 | 56 | 58 | 60 | TC_CONNECT) {
            return Ok(None);
        }
        let mut fields = Fields::decode(body)?;
        if matches!(kind, NEW | TC_CONNECT) {
            (fields.least_bits, fields.most_bits) = (None, None);
        }
        Ok(Some(TransactionRequest { kind, fields }))
    }

    pub fn refused(self, error: ServerError, message: impl Into<String>) -> TransactionResponse {
        TransactionResponse { request: self, error, message: message.into() }
    }
}

impl TransactionResponse {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let TransactionRequest { kind, fields } = &self.request;
        let (request_id, error, message) = (fields.request_id, Some(self.error as i32), Some(self.message.clone()));
        // A response's type is the number after its request's.
        if *kind == TC_CONNECT {
            return encode_frame(out, kind + 1, &ConnectResponse { request_id, error, message });
        }
        let (least_bits, most_bits) = (fields.least_bits, fields.most_bits);
        encode_frame(out, kind + 1, &OtherResponse { request_id, least_bits, most_bits, error, message });
    }
}
