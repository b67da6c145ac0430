//! A segment file: its name, its header, and opening it.
//!
//! ```text
//! ["EVERPLSE"][format u32][segment u32][salt u32][crc32c u32][records...][zeros]
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::FORMAT_VERSION;
use super::error::Error;
use super::files::{Files, OpenFile};

pub const HEADER_LEN: u32 = 24;
const MAGIC: &[u8; 8] = b"EVERPLSE";

pub fn path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("log-{segment:08}.seg"))
}

/// The numbers of all segments in a directory, ascending.
///
/// # Errors
/// The directory cannot be read.
pub fn list(files: &dyn Files, dir: &Path) -> Result<Vec<u32>, Error> {
    let names = files.list(dir).map_err(Error::io("list", dir))?;
    let number = |name: &String| name.strip_prefix("log-")?.strip_suffix(".seg")?.parse().ok();
    let mut segments: Vec<u32> = names.iter().filter_map(number).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Makes an empty segment; the caller syncs.
///
/// # Errors
/// It cannot be written.
pub fn create(files: &dyn Files, dir: &Path, segment: u32) -> std::io::Result<(Arc<dyn OpenFile>, u32)> {
    let (header, salt) = header(segment);
    let file = files.create(&path(dir, segment))?;
    file.write_all_at(&header, 0)?;
    Ok((file, salt))
}

/// Makes a file of zeros the segment; the caller syncs the directory.
///
/// # Errors
/// It cannot be written or renamed.
pub fn adopt(files: &dyn Files, dir: &Path, segment: u32, from: &Path, file: &dyn OpenFile) -> std::io::Result<u32> {
    let (header, salt) = header(segment);
    file.write_all_at(&header, 0)?;
    // Before it has the name: what is called a segment has a header then.
    file.sync_data()?;
    files.rename(from, &path(dir, segment))?;
    Ok(salt)
}

fn header(segment: u32) -> (Vec<u8>, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Differs between the uses of a number and of a disk block; it need not be secret.
    let salt = crc32c::crc32c(&[now.as_nanos().to_be_bytes(), u128::from(std::process::id()).to_be_bytes()].concat());
    let mut header = Vec::with_capacity(HEADER_LEN as usize);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
    header.extend_from_slice(&segment.to_be_bytes());
    header.extend_from_slice(&salt.to_be_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_be_bytes());
    (header, salt)
}

/// What the start of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    Valid {
        salt: u32,
    },
    /// The process ended while it made the segment.
    Unfinished,
}

/// `last`: no later segment says that this one was ever finished.
///
/// # Errors
/// Another program's file, or a newer format's.
pub fn read_header(path: &Path, segment: u32, bytes: &[u8], last: bool) -> Result<Header, Error> {
    let corrupted = |reason: &str| Error::Corrupted { path: path.to_owned(), offset: 0, reason: reason.to_owned() };
    let Some(header) = bytes.get(..HEADER_LEN as usize) else { return Ok(Header::Unfinished) };
    if header.iter().all(|byte| *byte == 0) || (last && is_torn_header(header, segment, bytes)) {
        return Ok(Header::Unfinished);
    }
    let field = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if &header[..8] != MAGIC {
        return Err(corrupted("it is not a segment of this broker's log"));
    }
    if field(8) > FORMAT_VERSION {
        return Err(Error::NewerFormat { path: path.to_owned(), found: field(8), known: FORMAT_VERSION });
    }
    if crc32c::crc32c(&header[..20]) != field(20) {
        return Err(corrupted("the checksum of its header does not fit"));
    }
    if field(12) != segment {
        return Err(corrupted("it is another segment under a wrong name"));
    }
    Ok(Header::Valid { salt: field(16) })
}

/// A header of which only some bytes reached the disk before a crash. It was not synced then, so nothing was written
/// behind it.
fn is_torn_header(header: &[u8], segment: u32, bytes: &[u8]) -> bool {
    let expected = [&MAGIC[..], &FORMAT_VERSION.to_be_bytes(), &segment.to_be_bytes()].concat();
    let plausible = header.iter().zip(&expected).all(|(byte, expected)| *byte == 0 || byte == expected);
    let behind = bytes.get(HEADER_LEN as usize..).unwrap_or_default();
    let checked = header[20..].iter().copied().eq(crc32c::crc32c(&header[..20]).to_be_bytes());
    plausible && !checked && behind.iter().all(|byte| *byte == 0)
}
