//! Which command a frame carries: decoding of requests, encoding of responses.
//!
//! A `BaseCommand` is a type and one sub-message whose field number names it. It is taken apart by hand
//! rather than as one message with sixty optional fields, so that a `Send` costs a `Send`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint};

use super::frame::WireError;
use super::listing::*;
use super::messages::*;
use super::transaction::{TransactionRequest, TransactionResponse};

/// Pulsar's error codes, as far as this broker uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum ServerError {
    Unknown = 0,
    Metadata = 1,
    Persistence = 2,
    Authentication = 3,
    ConsumerBusy = 5,
    ServiceNotReady = 6,
    BacklogQuotaExceededHold = 7,
    BacklogQuotaExceededFail = 8,
    Checksum = 9,
    UnsupportedVersion = 10,
    TopicNotFound = 11,
    SubscriptionNotFound = 12,
    ConsumerNotFound = 13,
    TopicTerminated = 15,
    ProducerBusy = 16,
    InvalidTopicName = 17,
    IncompatibleSchema = 18,
    ConsumerAssign = 19,
    NotAllowed = 22,
    ProducerFenced = 25,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Connect(CommandConnect),
    AuthResponse(CommandAuthResponse),
    Subscribe(CommandSubscribe),
    Producer(CommandProducer),
    Send(CommandSend),
    Ack(CommandAck),
    Flow(CommandFlow),
    Unsubscribe(CommandUnsubscribe),
    CloseProducer(CommandTargeted),
    CloseConsumer(CommandTargeted),
    Ping,
    Pong,
    Redeliver(CommandRedeliver),
    PartitionedMetadata(CommandPartitionedTopicMetadata),
    Lookup(CommandLookupTopic),
    ConsumerStats(CommandConsumerStats),
    Seek(CommandSeek),
    GetLastMessageId(CommandGetLastMessageId),
    GetTopicsOfNamespace(CommandGetTopicsOfNamespace),
    WatchTopicList(CommandWatchTopicList),
    WatchTopicListClose(CommandWatchTopicListClose),
    GetSchema(CommandGetSchema),
    GetOrCreateSchema(CommandGetOrCreateSchema),
    Transaction(TransactionRequest),
    /// A command that this broker does not know; `request_id` is its first field, where every such command has it.
    Unsupported {
        kind: u32,
        request_id: Option<u64>,
    },
    /// What came in the frame is no such command; the frames behind it can be understood all the same.
    Malformed {
        kind: u32,
        request_id: Option<u64>,
        reason: String,
    },
}

impl Request {
    /// Decodes the bytes of one `BaseCommand`; what cannot be decoded is [`Request::Malformed`].
    pub fn decode(command: Bytes) -> Request {
        let (kind, body) = match split(command) {
            Ok(parts) => parts,
            Err(error) => return Request::Malformed { kind: 0, request_id: None, reason: error.to_string() },
        };
        let body = match body {
            Some((tag, body)) if tag == kind => body,
            // A ping without its empty sub-message is still a ping.
            _ if matches!(kind, 18 | 19) => Bytes::new(),
            _ => {
                let reason = WireError::NoCommand.to_string();
                return Request::Malformed { kind, request_id: None, reason };
            }
        };
        let request_id = || varint_field(body.clone(), request_id_tag(kind));
        match Request::decode_body(kind, body.clone()) {
            Ok(Some(request)) => request,
            Ok(None) => Request::Unsupported { kind, request_id: request_id() },
            Err(error) => Request::Malformed { kind, request_id: request_id(), reason: error.to_string() },
        }
    }

    fn decode_body(kind: u32, body: Bytes) -> Result<Option<Request>, prost::DecodeError> {
        Ok(Some(match kind {
            2 => Request::Connect(Message::decode(body)?),
            4 => Request::Subscribe(Message::decode(body)?),
            5 => Request::Producer(Message::decode(body)?),
            6 => Request::Send(Message::decode(body)?),
            10 => Request::Ack(Message::decode(body)?),
            11 => Request::Flow(Message::decode(body)?),
            12 => Request::Unsubscribe(Message::decode(body)?),
            15 => Request::CloseProducer(Message::decode(body)?),
            16 => Request::CloseConsumer(Message::decode(body)?),
            18 => Request::Ping,
            19 => Request::Pong,
            20 => Request::Redeliver(Message::decode(body)?),
            21 => Request::PartitionedMetadata(Message::decode(body)?),
            23 => Request::Lookup(Message::decode(body)?),
            25 => Request::ConsumerStats(Message::decode(body)?),
            28 => Request::Seek(Message::decode(body)?),
            29 => Request::GetLastMessageId(Message::decode(body)?),
            32 => Request::GetTopicsOfNamespace(Message::decode(body)?),
            34 => Request::GetSchema(Message::decode(body)?),
            37 => Request::AuthResponse(Message::decode(body)?),
            39 => Request::GetOrCreateSchema(Message::decode(body)?),
            64 => Request::WatchTopicList(Message::decode(body)?),
            67 => Request::WatchTopicListClose(Message::decode(body)?),
            kind => return Ok(TransactionRequest::decode(kind, body)?.map(Request::Transaction)),
        }))
    }
}

/// The type of a `BaseCommand` and the sub-message that belongs to it, with its field number.
fn split(mut command: Bytes) -> Result<(u32, Option<(u32, Bytes)>), WireError> {
    let mut kind = None;
    let mut body: Option<(u32, Bytes)> = None;
    while command.has_remaining() {
        let (tag, wire_type) = decode_key(&mut command)?;
        match (tag, wire_type) {
            (1, WireType::Varint) => kind = Some(decode_varint(&mut command)? as u32),
            (_, WireType::LengthDelimited) => {
                let len = decode_varint(&mut command)?;
                if len > command.remaining() as u64 {
                    return Err(WireError::Truncated);
                }
                let field = command.split_to(len as usize);
                // The field number of a command's sub-message is its type.
                if body.is_none() || kind == Some(tag) {
                    body = Some((tag, field));
                }
            }
            (_, other) => prost::encoding::skip_field(other, tag, &mut command, Default::default())?,
        }
    }
    Ok((kind.ok_or(WireError::NoCommand)?, body))
}

/// In which field a command has its request id.
fn request_id_tag(kind: u32) -> u32 {
    match kind {
        4 => 5,
        5 => 3,
        10 => 8,
        12 | 15 | 16 | 21 | 23 | 28 | 29 => 2,
        _ => 1,
    }
}

/// A number in a message that may be damaged elsewhere.
fn varint_field(mut body: Bytes, wanted: u32) -> Option<u64> {
    while body.has_remaining() {
        let (tag, wire_type) = decode_key(&mut body).ok()?;
        if (tag, wire_type) == (wanted, WireType::Varint) {
            return decode_varint(&mut body).ok();
        }
        prost::encoding::skip_field(wire_type, tag, &mut body, Default::default()).ok()?;
    }
    None
}

/// What the broker says to a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    Connected(CommandConnected),
    SendReceipt(CommandSendReceipt),
    SendError(CommandSendError),
    Success(CommandSuccess),
    Error(CommandError),
    CloseProducer(CommandTargeted),
    CloseConsumer(CommandTargeted),
    ProducerSuccess(CommandProducerSuccess),
    Ping,
    Pong,
    PartitionedMetadata(CommandPartitionedTopicMetadataResponse),
    Lookup(CommandLookupTopicResponse),
    ConsumerStats(CommandConsumerStatsResponse),
    GetLastMessageId(CommandGetLastMessageIdResponse),
    ActiveConsumerChange(CommandActiveConsumerChange),
    GetTopicsOfNamespace(CommandGetTopicsOfNamespaceResponse),
    ReachedEndOfTopic(CommandReachedEndOfTopic),
    WatchTopicListSuccess(CommandWatchTopicListSuccess),
    WatchTopicUpdate(CommandWatchTopicUpdate),
    GetSchema(CommandGetSchemaResponse),
    GetOrCreateSchema(CommandGetOrCreateSchemaResponse),
    AckResponse(CommandAckResponse),
    Transaction(TransactionResponse),
}

impl Response {
    pub fn success(request_id: u64) -> Response {
        Response::Success(CommandSuccess { request_id })
    }

    pub fn error(request_id: u64, error: ServerError, message: impl Into<String>) -> Response {
        Response::Error(CommandError { request_id, error: error as i32, message: message.into() })
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Response::Connected(body) => encode_frame(out, 3, body),
            Response::SendReceipt(body) => encode_frame(out, 7, body),
            Response::SendError(body) => encode_frame(out, 8, body),
            Response::Success(body) => encode_frame(out, 13, body),
            Response::Error(body) => encode_frame(out, 14, body),
            Response::CloseProducer(body) => encode_frame(out, 15, body),
            Response::CloseConsumer(body) => encode_frame(out, 16, body),
            Response::ProducerSuccess(body) => encode_frame(out, 17, body),
            Response::Ping => encode_frame(out, 18, &CommandEmpty {}),
            Response::Pong => encode_frame(out, 19, &CommandEmpty {}),
            Response::PartitionedMetadata(body) => encode_frame(out, 22, body),
            Response::Lookup(body) => encode_frame(out, 24, body),
            Response::ConsumerStats(body) => encode_frame(out, 26, body),
            Response::GetLastMessageId(body) => encode_frame(out, 30, body),
            Response::ActiveConsumerChange(body) => encode_frame(out, 31, body),
            Response::GetTopicsOfNamespace(body) => encode_frame(out, 33, body),
            Response::ReachedEndOfTopic(body) => encode_frame(out, 27, body),
            Response::WatchTopicListSuccess(body) => encode_frame(out, 65, body),
            Response::WatchTopicUpdate(body) => encode_frame(out, 66, body),
            Response::GetSchema(body) => encode_frame(out, 35, body),
            Response::AckResponse(body) => encode_frame(out, 38, body),
            Response::Transaction(response) => response.encode(out),
            Response::GetOrCreateSchema(body) => encode_frame(out, 40, body),
        }
    }
}

pub(super) fn encode_frame(out: &mut BytesMut, kind: u32, body: &impl Message) {
    encode_command(out, kind, body, 0);
}

/// Appends the start of a `Message` frame; the entry as it was stored (checksum, metadata, payload) must follow.
pub fn encode_message_head(out: &mut BytesMut, command: &CommandMessage, entry_len: usize) {
    encode_command(out, 9, command, entry_len);
}

fn encode_command(out: &mut BytesMut, kind: u32, body: &impl Message, payload_len: usize) {
    let body_len = body.encoded_len();
    // Field 1 (varint) takes one byte of key; the type is below 128.
    let key_len = encoded_len_varint(u64::from(kind << 3 | 2));
    let command_len = 2 + key_len + encoded_len_varint(body_len as u64) + body_len;
    out.reserve(8 + command_len + payload_len);
    out.put_u32((4 + command_len + payload_len) as u32);
    out.put_u32(command_len as u32);
    encode_key(1, WireType::Varint, out);
    encode_varint(u64::from(kind), out);
    encode_key(kind, WireType::LengthDelimited, out);
    encode_varint(body_len as u64, out);
    body.encode_raw(out);
}
