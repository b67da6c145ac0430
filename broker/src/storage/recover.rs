//! Reading a directory back: the snapshot, then every record behind it, up to where a crash may have torn the log.
//!
//! What had been confirmed must be there: damage below what a later record, or a later segment, says was
//! synced is an error that names file and offset. Damage at the very end is a torn write that nobody was
//! told had succeeded; the segment is cut there.

use std::path::Path;

use super::error::Error;
use super::files::Files;
use super::record::{self, Fault, Kind};
use super::segment::{self, Header};
use super::snapshot::{self, LogPoint};
use crate::semantics::entry::Entry;
use crate::semantics::restore::Restore;
use crate::semantics::{Broker, Location, Snapshot};

/// What the storage needs to know to go on.
#[derive(Debug, Default)]
pub struct Recovered {
    pub segments: Vec<(u32, u32)>,
    pub next_segment: u32,
    pub disk_bytes: u64,
    pub snapshot_at: LogPoint,
    /// Bytes that a crash had left half written.
    pub torn_bytes: u64,
}

/// Rebuilds the state of a directory whose lock is held.
///
/// # Errors
/// Damage, a newer format, or files that cannot be read.
pub fn recover(files: &dyn Files, dir: &Path) -> Result<(Broker, Recovered), Error> {
    let (snapshot_at, snapshot) = snapshot::read(files, dir)?.unwrap_or((LogPoint::default(), Snapshot::initial()));
    let mut restore = Restore::new(snapshot);
    let mut recovered = Recovered { snapshot_at, next_segment: snapshot_at.segment.max(1), ..Recovered::default() };
    let segments = segment::list(files, dir)?;
    // Only older segments than the snapshot's are ever deleted.
    if snapshot_at.offset > 0 && !segments.contains(&snapshot_at.segment) {
        let (path, reason) = (segment::path(dir, snapshot_at.segment), "it is missing".to_owned());
        return Err(Error::Corrupted { path, offset: 0, reason });
    }
    for (index, number) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        recover_segment(files, dir, *number, last, &mut restore, &mut recovered)?;
        recovered.next_segment = recovered.next_segment.max(number + 1);
    }
    Ok((restore.finish(), recovered))
}

fn recover_segment(
    files: &dyn Files,
    dir: &Path,
    number: u32,
    last: bool,
    restore: &mut Restore,
    recovered: &mut Recovered,
) -> Result<(), Error> {
    let path = segment::path(dir, number);
    let bytes = files.read(&path).map_err(Error::io("read", &path))?;
    let corrupted = |offset: usize, reason: &str| Error::Corrupted {
        path: path.clone(),
        offset: offset as u64,
        reason: reason.to_owned(),
    };
    let salt = match segment::read_header(&path, number, &bytes, last)? {
        Header::Valid { salt } => salt,
        // Made, and never written to.
        Header::Unfinished if last => {
            return files.remove(&path).map_err(Error::io("remove", &path));
        }
        Header::Unfinished => return Err(corrupted(0, "its header is missing")),
    };
    let mut offset = segment::HEADER_LEN as usize;
    let fault = loop {
        let record = match record::read(&bytes[offset..], salt, offset as u32) {
            Ok(record) => record,
            Err(fault) => break fault,
        };
        let location = Location { segment: number, offset: offset as u32, len: record.byte_len() as u32 };
        match record.kind {
            Kind::Message => {
                let head = record::message_head(record.body).ok_or_else(|| corrupted(offset, "it is no message"))?;
                restore.message(head.topic, head.position, Entry { location, facts: head.facts }, head.origin);
            }
            Kind::Change => {
                let point = LogPoint { segment: number, offset: offset as u32 };
                if point >= recovered.snapshot_at {
                    let change = serde_json::from_slice(record.body);
                    restore.change(change.map_err(|error| corrupted(offset, &error.to_string()))?);
                }
            }
        }
        offset += record.byte_len();
    };
    let reason = match fault {
        Fault::Blank => "nothing was written here",
        Fault::Damaged(reason) => reason,
    };
    let snapshot_at = recovered.snapshot_at;
    if snapshot_at.segment == number && (offset as u32) < snapshot_at.offset {
        return Err(corrupted(offset, reason));
    }
    if bytes[offset..].iter().any(|byte| *byte != 0) {
        // A closed segment was synced and cut at its end; in the last one a later record tells.
        if !last || synced_beyond(&bytes, salt, offset) {
            return Err(corrupted(offset, reason));
        }
        recovered.torn_bytes += (bytes.len() - offset) as u64;
        tracing::info!(path = %path.display(), offset, reason, "cut what a crash had left half written");
    }
    if bytes.len() > offset {
        let file = files.open(&path).map_err(Error::io("open", &path))?;
        let cut = file.set_len(offset as u64).and_then(|()| file.sync_all());
        cut.map_err(Error::io("cut", &path))?;
    }
    recovered.disk_bytes += offset as u64;
    recovered.segments.push((number, salt));
    Ok(())
}

/// Whether a valid record behind the damage was written when the damaged place was already on disk.
fn synced_beyond(bytes: &[u8], salt: u32, damaged_at: usize) -> bool {
    let mut at = damaged_at + 1;
    while at + record::HEADER_LEN <= bytes.len() {
        match record::read(&bytes[at..], salt, at as u32) {
            Ok(record) if record.synced_to as usize > damaged_at => return true,
            Ok(record) => at += record.byte_len(),
            Err(_) => at += 1,
        }
    }
    false
}
