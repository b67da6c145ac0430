//! What is inside a stored entry: its key, or the messages of its batch with theirs. Only compaction asks.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, decode_key, encode_key, encode_varint};

use super::MESSAGE_BYTES_MAX;
use super::compression::unpack;
use super::frame::{CHECKSUM_MAGIC, split_entry};
use super::messages::MessageMetadata;

#[derive(Clone, PartialEq, Message)]
struct SingleMetadata {
    #[prost(string, optional, tag = "2")]
    partition_key: Option<String>,
    #[prost(int32, required, tag = "3")]
    payload_size: i32,
    #[prost(bool, optional, tag = "4")]
    compacted_out: Option<bool>,
}

/// What compaction has to know of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    Message(Keyed),
    /// The messages of a batch; none where one was compacted out before.
    Batch(Vec<Option<Keyed>>),
    /// An encrypted batch, a chunk, or something that cannot be read: to be left alone.
    Opaque,
}

/// A message's key and whether it has a payload; one without deletes its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    pub key: Option<String>,
    pub empty: bool,
}

/// An entry taken apart.
struct Parts {
    metadata: Bytes,
    fields: MessageMetadata,
    payload: Bytes,
}

fn parts(entry: &Bytes) -> Option<Parts> {
    let (metadata, payload) = split_entry(entry)?;
    let fields = MessageMetadata::decode(metadata.clone()).ok()?;
    Some(Parts { metadata, fields, payload })
}

impl Parts {
    /// The messages of the batch: where each one's metadata and payload are, and what they are.
    fn singles(&self) -> Option<Vec<(Bytes, SingleMetadata)>> {
        let kind = self.fields.compression.unwrap_or(0);
        let len = self.fields.uncompressed_size.unwrap_or(0) as usize;
        let mut rest = if kind == 0 { self.payload.clone() } else { Bytes::from(unpack(kind, &self.payload, len)?) };
        let count = self.fields.num_messages_in_batch?;
        let mut singles = Vec::new();
        for _ in 0..count {
            let head = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            let metadata = SingleMetadata::decode(rest.get(4..4usize.checked_add(head)?)?).ok()?;
            let size = usize::try_from(metadata.payload_size).ok()?;
            let whole = head.checked_add(4)?.checked_add(size)?;
            if whole > rest.len() {
                return None;
            }
            singles.push((rest.split_to(whole), metadata));
        }
        Some(singles)
    }

    fn is_opaque(&self) -> bool {
        let batch = self.fields.num_messages_in_batch.is_some();
        self.fields.num_chunks_from_msg.is_some_and(|chunks| chunks > 1)
            || batch && self.fields.encryption_algo.is_some()
    }
}

impl Contents {
    pub fn of(entry: &Bytes) -> Contents {
        let Some(parts) = parts(entry).filter(|parts| !parts.is_opaque()) else { return Contents::Opaque };
        if parts.fields.num_messages_in_batch.is_none() {
            // Compressed, even nothing is something.
            let empty = parts.fields.uncompressed_size.map_or(parts.payload.is_empty(), |size| size == 0);
            return Contents::Message(Keyed { key: parts.fields.partition_key, empty });
        }
        let Some(singles) = parts.singles() else { return Contents::Opaque };
        let keyed = singles.into_iter().map(|(_, single)| {
            let Keyed { key, empty } = Keyed { key: single.partition_key, empty: single.payload_size == 0 };
            (single.compacted_out != Some(true)).then_some(Keyed { key, empty })
        });
        Contents::Batch(keyed.collect())
    }
}

/// The batch with only these messages; the others' places say that they were compacted out, so that indexes
/// stay. It is not packed any more. `None` if that would be too large, or the batch cannot be read.
pub fn rebatch(entry: &Bytes, keep: impl Fn(usize) -> bool) -> Option<Bytes> {
    let parts = parts(entry)?;
    let mut payload = BytesMut::new();
    for (index, (bytes, _)) in parts.singles()?.into_iter().enumerate() {
        if keep(index) {
            payload.put_slice(&bytes);
        } else {
            let gone = SingleMetadata { partition_key: None, payload_size: 0, compacted_out: Some(true) };
            payload.put_u32(gone.encoded_len() as u32);
            gone.encode_raw(&mut payload);
        }
    }
    if payload.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let metadata = unpacked_metadata(parts.metadata, payload.len())?;
    let mut checked = BytesMut::new();
    checked.put_u32(metadata.len() as u32);
    checked.put_slice(&metadata);
    checked.put_slice(&payload);
    let mut entry = BytesMut::new();
    entry.put_u16(CHECKSUM_MAGIC);
    entry.put_u32(crc32c::crc32c(&checked));
    entry.put_slice(&checked);
    Some(entry.freeze())
}

/// The metadata with all its fields, known or not, but for those that say how the payload is packed.
fn unpacked_metadata(mut metadata: Bytes, len: usize) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    while metadata.has_remaining() {
        let start = metadata.clone();
        let (tag, wire_type) = decode_key(&mut metadata).ok()?;
        prost::encoding::skip_field(wire_type, tag, &mut metadata, Default::default()).ok()?;
        if !matches!(tag, 8 | 9) {
            out.put_slice(&start[..start.len() - metadata.len()]);
        }
    }
    encode_key(9, WireType::Varint, &mut out);
    encode_varint(len as u64, &mut out);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frame::{is_intact, metadata_of};

    fn single(key: Option<&str>, payload: &[u8]) -> Vec<u8> {
        let (partition_key, payload_size) = (key.map(str::to_owned), payload.len() as i32);
        let metadata = SingleMetadata { partition_key, payload_size, compacted_out: None };
        let mut bytes = (metadata.encoded_len() as u32).to_be_bytes().to_vec();
        bytes.extend(metadata.encode_to_vec());
        bytes.extend(payload);
        bytes
    }

    fn entry(metadata: &MessageMetadata, payload: &[u8]) -> Bytes {
        let mut entry = (metadata.encoded_len() as u32 + 6).to_be_bytes().to_vec();
        // A field that we do not know (tag 4, a property), to be kept.
        entry.extend([4 << 3 | 2, 4, 1, 2, 3, 4]);
        entry.extend(metadata.encode_to_vec());
        entry.extend(payload);
        Bytes::from(entry)
    }

    fn batch(pack: bool) -> Bytes {
        let payload: Vec<u8> =
            [single(Some("a"), b"1"), single(None, b"2"), single(Some("b"), b""), single(Some("a"), b"3")].concat();
        let metadata = MessageMetadata {
            num_messages_in_batch: Some(4),
            compression: pack.then_some(1),
            uncompressed_size: Some(payload.len() as u32),
            ..Default::default()
        };
        entry(&metadata, &if pack { lz4_flex::block::compress(&payload) } else { payload })
    }

    fn keyed(key: Option<&str>, empty: bool) -> Option<Keyed> {
        Some(Keyed { key: key.map(str::to_owned), empty })
    }

    #[test]
    fn keys_are_found_in_messages_and_in_batches_packed_or_not() {
        let metadata = MessageMetadata { partition_key: Some("k".into()), ..Default::default() };
        let message = |empty| Contents::Message(Keyed { key: Some("k".into()), empty });
        assert_eq!(Contents::of(&entry(&metadata, b"x")), message(false));
        assert_eq!(Contents::of(&entry(&metadata, b"")), message(true));
        let all = vec![keyed(Some("a"), false), keyed(None, false), keyed(Some("b"), true), keyed(Some("a"), false)];
        assert_eq!(Contents::of(&batch(false)), Contents::Batch(all.clone()));
        assert_eq!(Contents::of(&batch(true)), Contents::Batch(all));
    }

    #[test]
    fn a_batch_keeps_its_indexes_and_its_other_fields() {
        for pack in [false, true] {
            let less = rebatch(&batch(pack), |index| index == 3).expect("a batch");
            assert!(is_intact(&less));
            assert_eq!(Contents::of(&less), Contents::Batch(vec![None, None, None, keyed(Some("a"), false)]));
            assert!(metadata_of(&less).expect("metadata").starts_with(&[4 << 3 | 2, 4, 1, 2, 3, 4]));
            let parts = parts(&less).expect("an entry");
            assert_eq!(parts.fields.compression, None);
            assert_eq!(parts.fields.uncompressed_size, Some(parts.payload.len() as u32));
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let encrypted =
            MessageMetadata { num_messages_in_batch: Some(1), encryption_algo: Some("x".into()), ..Default::default() };
        assert_eq!(Contents::of(&entry(&encrypted, b"???")), Contents::Opaque);
        let chunk = MessageMetadata { num_chunks_from_msg: Some(2), ..Default::default() };
        assert_eq!(Contents::of(&entry(&chunk, b"part")), Contents::Opaque);
        let torn = MessageMetadata { num_messages_in_batch: Some(9), ..Default::default() };
        assert_eq!(Contents::of(&entry(&torn, &single(None, b"x"))), Contents::Opaque);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0..9i32) {
            let bytes = Bytes::from(bytes);
            let _ = Contents::of(&bytes);
            let metadata = MessageMetadata { num_messages_in_batch: Some(count), ..Default::default() };
            let _ = rebatch(&entry(&metadata, &bytes), |_| false);
        }
    }
}
