//! Reading a directory back: the snapshot, the indexes of segments, and of segments without one every record, up to where
//! a crash may have torn the log.
//!
//! What had been confirmed must be there: damage below what a later record, or a later segment, says was
//! synced is an error that names file and offset. Damage at the very end is a torn write that nobody was
//! told had succeeded; the segment is cut there. What is not read because of its index is checked when it is delivered.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use super::files::{Files, OpenFile};
use super::index::{self, Builder, Index, Subject};
use super::record::{self, Fault, Kind};
use super::segment::{self, Header};
use super::snapshot::{self, LogPoint};
use crate::semantics::entry::Entry;
use crate::semantics::restore::Restore;
use crate::semantics::{Broker, Location, Snapshot};

/// A segment is read in pieces of this, so that recovery takes no more memory than what it leaves.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Most changes have less than this.
const CHANGE_BYTES: usize = 4096;

/// What the storage needs to know to go on.
#[derive(Debug, Default)]
pub struct Recovered {
    pub segments: Vec<(u32, u32)>,
    pub next_segment: u32,
    pub disk_bytes: u64,
    pub snapshot_at: LogPoint,
    /// Bytes that a crash had left half written.
    pub torn_bytes: u64,
    /// How many segments had to be read, since they had no index.
    pub segments_read: usize,
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
    for (at, number) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        Recovering { files, dir, number: *number, last, path: segment::path(dir, *number) }
            .run(&mut restore, &mut recovered)?;
        recovered.next_segment = recovered.next_segment.max(number + 1);
    }
    remove_orphans(files, dir, &segments).map_err(Error::io("tidy up", dir))?;
    Ok((restore.finish(), recovered))
}

/// Indexes whose segments were deleted just before a crash.
fn remove_orphans(files: &dyn Files, dir: &Path, segments: &[u32]) -> io::Result<()> {
    let orphans = index::list(files, dir)?.into_iter().filter(|number| !segments.contains(number));
    orphans.map(|number| index::path(dir, number)).try_for_each(|path| files.remove(&path))
}

/// What one segment says.
struct Found {
    file: Arc<dyn OpenFile>,
    index: Index,
    salt: u32,
    end: u32,
}

/// One segment being recovered.
struct Recovering<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
    number: u32,
    /// There is no later one.
    last: bool,
    path: PathBuf,
}

impl Recovering<'_> {
    fn run(&self, restore: &mut Restore, recovered: &mut Recovered) -> Result<(), Error> {
        let found = match self.indexed(recovered)? {
            Some(found) => Some(found),
            None => self.read(recovered)?,
        };
        let Some(Found { file, index, salt, end }) = found else { return Ok(()) };
        let snapshot_at = recovered.snapshot_at;
        if snapshot_at.segment == self.number && end < snapshot_at.offset {
            return Err(self.corrupted(end as usize, "what a snapshot counts on is missing"));
        }
        let mut window = Window::new(&*file, u64::from(end), CHANGE_BYTES);
        for offset in index.changes {
            if (LogPoint { segment: self.number, offset }) < snapshot_at {
                continue;
            }
            let record = window.record(salt, offset as usize).map_err(Error::io("read", &self.path))?;
            let Ok(record) = record else { return Err(self.corrupted(offset as usize, "a change is missing")) };
            let change = serde_json::from_slice(record.body);
            restore.change(change.map_err(|error| self.corrupted(offset as usize, &error.to_string()))?);
        }
        for sender in &index.senders {
            restore.sequence(sender.topic, &sender.name, sender.highest);
        }
        for run in index.runs {
            restore.messages(run.topic, run.first, run.entries);
        }
        recovered.disk_bytes += u64::from(end);
        recovered.segments.push((self.number, salt));
        Ok(())
    }

    fn corrupted(&self, offset: usize, reason: &str) -> Error {
        Error::Corrupted { path: self.path.clone(), offset: offset as u64, reason: reason.to_owned() }
    }

    /// What the index says, if there is one that can be believed.
    fn indexed(&self, recovered: &mut Recovered) -> Result<Option<Found>, Error> {
        let index_path = index::path(self.dir, self.number);
        let Ok(bytes) = self.files.read(&index_path) else { return Ok(None) };
        let file = self.files.open(&self.path).map_err(Error::io("open", &self.path))?;
        let len = self.files.len(&self.path).map_err(Error::io("read", &self.path))?;
        let mut header = [0; segment::HEADER_LEN as usize];
        if file.read_exact_at(&mut header, 0).is_err() {
            return Ok(None);
        }
        // What is wrong with the header is said by whoever reads the segment.
        let Ok(Header::Valid { salt }) = segment::read_header(&self.path, self.number, &header, false) else {
            return Ok(None);
        };
        match Index::decode(&bytes, self.number, salt) {
            Ok((_, end)) if u64::from(end) > len => {
                Err(self.corrupted(len as usize, &format!("it ended at byte {end} when it was closed")))
            }
            Ok((index, end)) if u64::from(end) == len => {
                recovered.disk_bytes += bytes.len() as u64;
                Ok(Some(Found { file, index, salt, end }))
            }
            Ok(_) => Ok(None),
            Err(reason) => {
                tracing::info!(path = %index_path.display(), reason, "an index is not used; its segment is read");
                Ok(None)
            }
        }
    }

    /// Reads the segment, cuts what a crash left half written, and leaves an index. None if nothing was ever written.
    fn read(&self, recovered: &mut Recovered) -> Result<Option<Found>, Error> {
        recovered.segments_read += 1;
        let failed = |source| Error::io("read", &self.path)(source);
        let file = self.files.open(&self.path).map_err(failed)?;
        let len = self.files.len(&self.path).map_err(failed)?;
        let mut window = Window::new(&*file, len, WINDOW_BYTES);
        let start = window.at(0, WINDOW_BYTES).map_err(failed)?;
        let salt = match segment::read_header(&self.path, self.number, start, self.last)? {
            Header::Valid { salt } => salt,
            // Made, and never written to.
            Header::Unfinished if self.last && len <= WINDOW_BYTES as u64 => {
                return self.files.remove(&self.path).map(|()| None).map_err(Error::io("remove", &self.path));
            }
            Header::Unfinished => return Err(self.corrupted(0, "its header is missing")),
        };
        let mut builder = Builder::default();
        let mut offset = segment::HEADER_LEN as usize;
        let fault = loop {
            let record = match window.record(salt, offset).map_err(failed)? {
                Ok(record) => record,
                Err(fault) => break fault,
            };
            match record.kind {
                Kind::Message => {
                    let location =
                        Location { segment: self.number, offset: offset as u32, len: record.byte_len() as u32 };
                    let head = record::message_head(record.body);
                    let head = head.ok_or_else(|| self.corrupted(offset, "it is no message"))?;
                    builder.message(head.topic, head.position, Entry { location, facts: head.facts }, head.origin);
                }
                Kind::Change => builder.change(offset as u32),
            }
            offset += record.byte_len();
        };
        let reason = match fault {
            Fault::Blank => "nothing was written here",
            Fault::Damaged(reason) => reason,
        };
        let snapshot_at = recovered.snapshot_at;
        if snapshot_at.segment == self.number && (offset as u32) < snapshot_at.offset {
            return Err(self.corrupted(offset, reason));
        }
        if !window.is_blank_from(offset).map_err(failed)? {
            // A closed segment was synced and cut at its end; in the last one a later record tells.
            if !self.last || synced_beyond(&self.files.read(&self.path).map_err(failed)?, salt, offset) {
                return Err(self.corrupted(offset, reason));
            }
            recovered.torn_bytes += len - offset as u64;
            tracing::info!(path = %self.path.display(), offset, reason, "cut what a crash had left half written");
        }
        // Also one that seems to end there: what was cut by a process whose sync failed is cut in memory only.
        if self.last || len > offset as u64 {
            file.set_len(offset as u64).map_err(Error::io("cut", &self.path))?;
        }
        if self.last {
            write_again(&*file, offset).map_err(Error::io("write again", &self.path))?;
        }
        file.sync_all().map_err(Error::io("sync", &self.path))?;
        let (index, end) = (builder.finish(), offset as u32);
        recovered.disk_bytes += self.leave_index(&index, Subject { segment: self.number, salt, end });
        Ok(Some(Found { file, index, salt, end }))
    }

    /// So that the segment need not be read again. Says how many bytes it takes.
    fn leave_index(&self, index: &Index, subject: Subject) -> u64 {
        let bytes = index.encode(subject);
        match index::write(self.files, self.dir, self.number, &bytes) {
            Ok(()) => bytes.len() as u64,
            Err(error) => {
                let path = index::path(self.dir, self.number);
                tracing::warn!(path = %path.display(), %error, "could not write the index of a segment");
                0
            }
        }
    }
}

/// Everything up to there, as it is. What is recovered is promised from now on, and a killed process may have left it in the
/// operating system's memory only: after a sync that failed, no later sync writes that, though it says it did.
fn write_again(file: &dyn OpenFile, end: usize) -> io::Result<()> {
    let mut window = Window::new(file, end as u64, WINDOW_BYTES);
    let mut at = 0;
    while at < end {
        let bytes = window.at(at, WINDOW_BYTES)?;
        file.write_all_at(bytes, at as u64)?;
        at += bytes.len();
    }
    Ok(())
}

/// A file in pieces.
struct Window<'a> {
    file: &'a dyn OpenFile,
    len: u64,
    piece: usize,
    start: usize,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn OpenFile, len: u64, piece: usize) -> Window<'a> {
        Window { file, len, piece, start: 0, bytes: Vec::new() }
    }

    /// So many bytes from there on, or as many as there are.
    fn at(&mut self, offset: usize, want: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.len).unwrap_or(usize::MAX).saturating_sub(offset);
        let want = want.min(left);
        if offset < self.start || offset + want > self.start + self.bytes.len() {
            self.bytes.resize(want.max(self.piece).min(left), 0);
            self.start = offset;
            self.file.read_exact_at(&mut self.bytes, offset as u64)?;
        }
        Ok(&self.bytes[offset - self.start..][..want])
    }

    fn record(&mut self, salt: u32, offset: usize) -> io::Result<Result<record::Record<'_>, Fault>> {
        let wanted = record::wanted_len(self.at(offset, record::HEADER_LEN)?);
        Ok(record::read(self.at(offset, wanted)?, salt, offset as u32))
    }

    fn is_blank_from(&mut self, offset: usize) -> io::Result<bool> {
        let mut at = offset;
        while (at as u64) < self.len {
            let bytes = self.at(at, WINDOW_BYTES)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len();
        }
        Ok(true)
    }
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
