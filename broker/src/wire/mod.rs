//! Pulsar's binary protocol: frames, commands and the part of the message metadata that a broker reads.
//!
//! Owns bytes in both directions and nothing else: no sockets, no state, no meaning. Field numbers are
//! those of `PulsarApi.proto` (protocol version 21). Arbitrary bytes give a [`WireError`], never a panic
//! and never an allocation beyond what was received.
//!
//! ```text
//! bytes ─► FrameDecoder ─► Frame { command: Request, payload } ─► server
//! server ─► Response ─► encode ─► bytes
//! ```

pub mod command;
pub mod compression;
pub mod contents;
pub mod frame;
pub mod listing;
pub mod messages;
pub mod metadata;
pub mod transaction;

pub use command::{Request, Response, ServerError};
pub use frame::{Frame, FrameDecoder, Payload, WireError};
pub use metadata::EntryHeader;

/// The protocol version this broker says it speaks.
pub const PROTOCOL_VERSION: i32 = 21;

/// The largest message (metadata and payload) unless told otherwise, as in Apache Pulsar's default.
pub const MESSAGE_BYTES_MAX: usize = 5 * 1024 * 1024;
