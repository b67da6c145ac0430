//! The state as of a point of the log, in one file that is replaced as a whole.
//!
//! Two lines of JSON: the first has format version, the point of the log and the checksum of the second.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::error::Error;
use super::files::Files;
use crate::semantics::Snapshot;

/// A place in the log: everything before it is part of the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct LogPoint {
    pub segment: u32,
    pub offset: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    log: LogPoint,
    crc32c: u32,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("snapshot.json")
}

/// # Errors
/// It cannot be written; the one before is intact then.
pub fn write(files: &dyn Files, dir: &Path, log: LogPoint, body: &[u8]) -> std::io::Result<()> {
    let head = Head { format: FORMAT_VERSION, log, crc32c: crc32c::crc32c(body) };
    let head = serde_json::to_vec(&head)?;
    replace(files, dir, &path(dir), &[&head, b"\n", body, b"\n"])
}

/// Replaces a file atomically and durably.
///
/// # Errors
/// It cannot be written; the one before is intact then.
pub fn replace(files: &dyn Files, dir: &Path, path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = files.create(&temporary).and_then(|file| {
        file.write_all_at(&parts.concat(), 0)?;
        file.sync_all()
    });
    if let Err(error) = written {
        // Half of it would take room that may be what was missing.
        let _ = files.remove(&temporary);
        return Err(error);
    }
    files.rename(&temporary, path)?;
    files.sync_dir(dir)
}

/// The last snapshot and its point of the log; `None` in a new directory.
///
/// # Errors
/// It is damaged, or of a newer format.
pub fn read(files: &dyn Files, dir: &Path) -> Result<Option<(LogPoint, Snapshot)>, Error> {
    let path = path(dir);
    let bytes = match files.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let corrupted =
        |offset: usize, reason: String| Error::Corrupted { path: path.clone(), offset: offset as u64, reason };
    let split = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let head: serde_json::Value =
        serde_json::from_slice(&bytes[..split]).map_err(|error| corrupted(0, error.to_string()))?;
    let format = head.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(FORMAT_VERSION) {
        return Err(Error::NewerFormat { path, found: format as u32, known: FORMAT_VERSION });
    }
    let head: Head = serde_json::from_value(head).map_err(|error| corrupted(0, error.to_string()))?;
    let body = bytes.get(split + 1..).unwrap_or_default();
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    if crc32c::crc32c(body) != head.crc32c {
        return Err(corrupted(split + 1, "its checksum does not fit".into()));
    }
    let snapshot = serde_json::from_slice(body).map_err(|error| corrupted(split + 1, error.to_string()))?;
    Ok(Some((head.log, snapshot)))
}
