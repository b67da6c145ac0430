//! What a broker reads of a message's metadata: enough to route, delay, count and find it again.

use bytes::Bytes;
use prost::Message;

use super::frame::metadata_of;
use super::messages::MessageMetadata;

/// The facts about one entry that decide where and when it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeader {
    /// What Key_Shared routes by: ordering key, else partition key, else producer name and sequence id,
    /// in the order of the Java broker.
    pub sticky_key: Bytes,
    /// Messages in the entry if it is a batch.
    pub batch: Option<u32>,
    pub publish_time_ms: u64,
    /// Zero if it may be delivered at once.
    pub deliver_at_ms: u64,
    /// One of several chunks of a message, and not the last.
    pub partial_chunk: bool,
    pub encrypted: bool,
}

impl EntryHeader {
    /// Reads an entry as it came after the `Send` command; `None` if its metadata cannot be read.
    pub fn of(entry: &Bytes) -> Option<EntryHeader> {
        let metadata = MessageMetadata::decode(metadata_of(entry)?).ok()?;
        let sticky_key = match (metadata.ordering_key, metadata.partition_key) {
            (Some(key), _) => key,
            (None, Some(key)) if metadata.partition_key_b64_encoded == Some(true) => {
                decode_base64(&key).unwrap_or_else(|| Bytes::from(key))
            }
            (None, Some(key)) => Bytes::from(key),
            (None, None) => Bytes::from(format!("{}-{}", metadata.producer_name, metadata.sequence_id)),
        };
        Some(EntryHeader {
            sticky_key,
            batch: metadata.num_messages_in_batch.map(|count| count.max(1) as u32),
            publish_time_ms: metadata.publish_time,
            deliver_at_ms: metadata.deliver_at_time.unwrap_or(0).max(0) as u64,
            partial_chunk: metadata
                .chunk_id
                .is_some_and(|chunk| chunk.saturating_add(1) < metadata.num_chunks_from_msg.unwrap_or(0)),
            encrypted: !metadata.encryption_keys.is_empty(),
        })
    }
}

/// Standard base64 with padding, as clients encode binary keys; `None` if it is not that.
fn decode_base64(text: &str) -> Option<Bytes> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0u32);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_keys_are_decoded() {
        assert_eq!(decode_base64("aGVsbG8="), Some(Bytes::from_static(b"hello")));
        assert_eq!(decode_base64("AP8Q"), Some(Bytes::from_static(&[0, 255, 16])));
        assert_eq!(decode_base64("not base64!"), None);
    }
}
