//! What clients compress payloads with. Only compaction looks into payloads; all others pass through.

use std::io::Read;

/// More than this is not unpacked: no client sends batches of such a size.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The payload unpacked; `None` if that is not possible. `kind` is a number of `CompressionType`.
pub fn unpack(kind: i32, packed: &[u8], unpacked_len: usize) -> Option<Vec<u8>> {
    if unpacked_len > UNPACKED_BYTES_MAX {
        return None;
    }
    let unpacked = match kind {
        0 => return Some(packed.to_vec()),
        1 => lz4_flex::block::decompress(packed, unpacked_len).ok()?,
        2 => read(flate2::read::ZlibDecoder::new(packed), unpacked_len)?,
        3 => read(ruzstd::decoding::StreamingDecoder::new(packed).ok()?, unpacked_len)?,
        4 if snap::raw::decompress_len(packed).ok()? == unpacked_len => {
            snap::raw::Decoder::new().decompress_vec(packed).ok()?
        }
        _ => return None,
    };
    (unpacked.len() == unpacked_len).then_some(unpacked)
}

fn read(from: impl Read, len: usize) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    from.take(len as u64 + 1).read_to_end(&mut unpacked).ok()?;
    Some(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"payload payload payload payload payload payload";

    #[test]
    fn what_clients_pack_is_unpacked() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(TEXT).expect("packs");
        let zstd = ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Fastest);
        for (kind, packed) in [
            (0, TEXT.to_vec()),
            (1, lz4_flex::block::compress(TEXT)),
            (2, zlib.finish().expect("packs")),
            (3, zstd),
            (4, snap::raw::Encoder::new().compress_vec(TEXT).expect("packs")),
        ] {
            assert_eq!(unpack(kind, &packed, TEXT.len()).as_deref(), Some(TEXT), "{kind}");
            if kind > 0 {
                assert_eq!(unpack(kind, &packed, TEXT.len() - 1), None, "{kind}");
                assert_eq!(unpack(kind, b"garbage", TEXT.len()), None, "{kind}");
            }
        }
        assert_eq!(unpack(9, TEXT, TEXT.len()), None);
        assert_eq!(unpack(1, TEXT, usize::MAX), None);
    }
}
