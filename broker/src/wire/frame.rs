//! Frames: where one ends, and whether its payload is what was sent.
//!
//! ```text
//! [total u32][command size u32][command]                                          a simple command
//! [total u32][command size u32][command][0x0e01][crc32c u32][metadata size u32][metadata][payload]
//! ```
//! A decoder holds at most what was received; a length beyond the limit is an error before anything is
//! allocated for it.

use bytes::{Buf, Bytes, BytesMut};

use super::command::Request;

/// Room for the command and the framing beside the largest message (Apache Pulsar allows 10 KiB; so do we).
const OVERHEAD_BYTES_MAX: usize = 10 * 1024;
pub(super) const CHECKSUM_MAGIC: u16 = 0x0e01;

/// Why bytes were refused. The connection cannot go on after any of these.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("a frame of {size} bytes exceeds the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("a length inside a frame exceeds the frame")]
    Truncated,
    #[error("a frame without a command")]
    NoCommand,
    #[error("a command that is no protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
}

/// One received command, with the entry that a `Send` carries.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub request: Request,
    pub payload: Option<Payload>,
}

/// The part of a frame after its command, as it is stored and delivered: checksum, metadata and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub entry: Bytes,
    /// False if the checksum was present and wrong.
    pub intact: bool,
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    frame_bytes_max: usize,
}

impl FrameDecoder {
    /// `message_bytes_max`: of the largest message, metadata included.
    pub fn new(message_bytes_max: usize) -> FrameDecoder {
        FrameDecoder { frame_bytes_max: message_bytes_max + OVERHEAD_BYTES_MAX }
    }

    /// Takes the next whole frame from the buffer; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The stream cannot be understood any further.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        if buffer.len() < 4 {
            return Ok(None);
        }
        let total = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
        let limit = self.frame_bytes_max;
        if total > limit {
            return Err(WireError::TooLarge { size: total, limit });
        }
        if buffer.len() < 4 + total {
            // Grows with what arrives, so that a huge announced length alone takes no memory.
            buffer.reserve((4 + total - buffer.len()).min(64 * 1024));
            return Ok(None);
        }
        buffer.advance(4);
        let mut frame = buffer.split_to(total).freeze();
        if frame.len() < 4 {
            return Err(WireError::Truncated);
        }
        let command_len = frame.get_u32() as usize;
        if command_len > frame.len() {
            return Err(WireError::Truncated);
        }
        let request = Request::decode(frame.split_to(command_len));
        let payload = (!frame.is_empty()).then(|| Payload { intact: is_intact(&frame), entry: frame });
        Ok(Some(Frame { request, payload }))
    }
}

/// Whether the checksum of an entry, if it has one, fits.
pub fn is_intact(entry: &[u8]) -> bool {
    match checksum_of(entry) {
        Some((expected, rest)) => crc32c::crc32c(rest) == expected,
        None => true,
    }
}

/// The metadata of an entry; `None` if the lengths do not fit.
pub fn metadata_of(entry: &Bytes) -> Option<Bytes> {
    split_entry(entry).map(|(metadata, _)| metadata)
}

/// The metadata and the payload of an entry, without its checksum; `None` if the lengths do not fit.
pub fn split_entry(entry: &Bytes) -> Option<(Bytes, Bytes)> {
    let start = match checksum_of(entry) {
        Some((_, rest)) => entry.len() - rest.len(),
        None => 0,
    };
    let size = entry.get(start..start + 4)?;
    let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
    let metadata = start + 4;
    let payload = metadata.checked_add(size)?;
    (payload <= entry.len()).then(|| (entry.slice(metadata..payload), entry.slice(payload..)))
}

fn checksum_of(entry: &[u8]) -> Option<(u32, &[u8])> {
    if entry.len() < 6 || u16::from_be_bytes([entry[0], entry[1]]) != CHECKSUM_MAGIC {
        return None;
    }
    Some((u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]), &entry[6..]))
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::wire::messages::{CommandSend, MessageMetadata};

    fn send_frame(payload: &[u8]) -> BytesMut {
        let metadata = MessageMetadata { producer_name: "p".into(), sequence_id: 7, ..Default::default() };
        let mut checked = BytesMut::new();
        checked.put_u32(metadata.encoded_len() as u32);
        metadata.encode(&mut checked).expect("grows");
        checked.put_slice(payload);
        let send = CommandSend { producer_id: 1, sequence_id: 7, ..Default::default() };
        let mut command = BytesMut::new();
        command.put_slice(&[8, 6, 6 << 3 | 2, send.encoded_len() as u8]);
        send.encode(&mut command).expect("grows");
        let mut frame = BytesMut::new();
        frame.put_u32((4 + command.len() + 6 + checked.len()) as u32);
        frame.put_u32(command.len() as u32);
        frame.put_slice(&command);
        frame.put_u16(CHECKSUM_MAGIC);
        frame.put_u32(crc32c::crc32c(&checked));
        frame.put_slice(&checked);
        frame
    }

    #[test]
    fn a_send_is_decoded_however_it_is_cut() {
        let whole = send_frame(b"hello");
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            assert_eq!(FrameDecoder::new(5 << 20).decode(&mut buffer).expect("valid"), None);
            buffer.put_slice(&whole[cut..]);
            let frame = FrameDecoder::new(5 << 20).decode(&mut buffer).expect("valid").expect("whole");
            assert!(matches!(frame.request, Request::Send(CommandSend { sequence_id: 7, .. })));
            assert!(frame.payload.expect("payload").intact);
            assert!(buffer.is_empty());
        }
    }

    // covers: checksum
    #[test]
    fn a_flipped_bit_of_the_payload_is_seen() {
        let mut frame = send_frame(b"hello");
        let last = frame.len() - 1;
        frame[last] ^= 1;
        let frame = FrameDecoder::new(5 << 20).decode(&mut frame).expect("valid").expect("whole");
        assert!(!frame.payload.expect("payload").intact);
    }

    // covers: limits
    #[test]
    fn a_huge_length_is_refused_before_its_bytes_arrive() {
        let mut buffer = BytesMut::from(&u32::MAX.to_be_bytes()[..]);
        assert!(matches!(FrameDecoder::new(5 << 20).decode(&mut buffer), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn an_unknown_command_keeps_its_request_id() {
        // Type 68, sub-message field 68 with request id 9.
        let command = [8u8, 68, 0xa2, 0x04, 2, 8, 9];
        let request = Request::decode(Bytes::copy_from_slice(&command));
        assert_eq!(request, Request::Unsupported { kind: 68, request_id: Some(9) });
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = FrameDecoder::new(5 << 20).decode(&mut buffer) {
                if let Some(payload) = frame.payload {
                    let _ = metadata_of(&payload.entry);
                }
            }
        }

        #[test]
        fn arbitrary_commands_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..70) {
            let mut command = BytesMut::from(&[8u8, kind][..]);
            prost::encoding::encode_key(u32::from(kind.max(1)), prost::encoding::WireType::LengthDelimited, &mut command);
            prost::encoding::encode_varint(bytes.len() as u64, &mut command);
            command.put_slice(&bytes);
            let _ = Request::decode(command.freeze());
        }

        #[test]
        fn a_damaged_send_never_panics(at in 0usize..60, value in any::<u8>()) {
            let mut frame = send_frame(b"hello world");
            let at = at % frame.len();
            frame[at] = value;
            if let Ok(Some(Frame { payload: Some(payload), .. })) = FrameDecoder::new(5 << 20).decode(&mut frame) {
                let _ = crate::wire::EntryHeader::of(&payload.entry);
            }
        }
    }
}
