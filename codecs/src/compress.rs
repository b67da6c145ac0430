//! LZ4, in blocks: `size before (4 bytes, little endian) | block`.

use bytes::Bytes;
use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};

/// No value that is smaller is worth it.
const BYTES_MIN: usize = 64;
/// A block says at most so much more than it is long: one byte more of a length stands for 255.
const RATIO_MAX: usize = 255;

/// Compresses by LZ4 what becomes smaller by it.
#[derive(Debug, Clone)]
pub struct Compression {
    bytes_max: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Self { bytes_max: 64 * 1024 * 1024 }
    }
}

impl Compression {
    /// The greatest value that is unpacked; 64 MiB by default. What says that it is larger is refused before there is room
    /// made for it.
    #[must_use]
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }
}

impl Layer for Compression {
    fn name(&self) -> &'static str {
        "lz4"
    }

    fn wrap(&self, data: Bytes, _: Place<'_>) -> Result<Wrapped, LayerError> {
        // What nobody would unpack is not packed.
        if data.len() < BYTES_MIN || data.len() > self.bytes_max {
            return Ok(Wrapped::Unchanged(data));
        }
        let packed = lz4_flex::block::compress_prepend_size(&data);
        Ok(match packed.len() < data.len() {
            true => Wrapped::Changed { label: None, data: packed.into() },
            false => Wrapped::Unchanged(data),
        })
    }

    fn unwrap(&self, data: Bytes, _: Option<&str>, _: Place<'_>) -> Result<Bytes, LayerError> {
        let Some((size, block)) = data.split_first_chunk::<4>() else {
            return Err(LayerError::failed("it is too short for what was compressed"));
        };
        let size = u32::from_le_bytes(*size) as usize;
        if size > self.bytes_max || size > block.len().saturating_mul(RATIO_MAX) {
            let (length, most) = (block.len(), self.bytes_max);
            let reason = format!("{length} compressed bytes are said to be {size}, the limit is {most}");
            return Err(LayerError::failed(reason));
        }
        let mut unpacked = vec![0; size];
        match lz4_flex::block::decompress_into(block, &mut unpacked) {
            Ok(written) if written == size => Ok(unpacked.into()),
            Ok(written) => Err(LayerError::failed(format!("{written} bytes were compressed where {size} are named"))),
            Err(_) => Err(LayerError::failed("what was compressed is damaged")),
        }
    }
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::WorkflowId;
    use proptest::prelude::*;

    use super::*;

    fn unwrap(layer: &Compression, data: Bytes) -> Result<Bytes, LayerError> {
        let id = WorkflowId::new("order-42").unwrap();
        layer.unwrap(data, None, Place::new(&id, "msgpack"))
    }

    fn wrap(data: Bytes) -> Wrapped {
        let id = WorkflowId::new("order-42").unwrap();
        Compression::default().wrap(data, Place::new(&id, "msgpack")).unwrap()
    }

    #[test]
    fn what_does_not_become_smaller_is_left_as_it_is() {
        let short = Bytes::from_static(b"four");
        assert_eq!(wrap(short.clone()), Wrapped::Unchanged(short));
        let noise: Bytes = (0..200_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(wrap(noise.clone()), Wrapped::Unchanged(noise));
    }

    #[test]
    fn a_bomb_is_refused_before_there_is_room_made_for_it() {
        let bomb: Bytes = [&u32::MAX.to_le_bytes()[..], &[0x1f; 100]].concat().into();
        let error = unwrap(&Compression::default(), bomb).unwrap_err();
        assert!(error.to_string().contains("the limit is 67108864"), "{error}");
        // Within the limit, but more than so few bytes can say.
        let lie: Bytes = [&1_000_000_u32.to_le_bytes()[..], &[0x1f; 100]].concat().into();
        assert!(unwrap(&Compression::default(), lie).is_err());
        let Wrapped::Changed { data, .. } = wrap(vec![7; 100_000].into()) else { panic!("it becomes smaller") };
        assert!(data.len() < 1_000);
        assert_eq!(unwrap(&Compression::default(), data.clone()).unwrap(), vec![7; 100_000]);
        let error = unwrap(&Compression::default().bytes_max(99_999), data).unwrap_err();
        assert!(error.to_string().contains("are said to be 100000, the limit is 99999"), "{error}");
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(words in proptest::collection::vec("[a-d]{1,3}", 0..200)) {
            let data = Bytes::from(words.concat());
            match wrap(data.clone()) {
                Wrapped::Unchanged(same) => prop_assert_eq!(same, data),
                Wrapped::Changed { label, data: packed } => {
                    prop_assert!(label.is_none() && packed.len() < data.len());
                    prop_assert_eq!(unwrap(&Compression::default(), packed).unwrap(), data);
                }
            }
        }

        #[test]
        fn damaged_bytes_are_no_panic_and_no_more_than_they_say(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(unpacked) = unwrap(&Compression::default(), data.clone().into()) {
                prop_assert!(unpacked.len() <= data.len() * RATIO_MAX);
            }
        }
    }
}
