//! The thread that writes: all that is queued goes out in one write and one sync. In relaxed mode a few messages, while it has
//! nothing to do, are written by whoever submits them.
//!
//! A failed write fails everything that was submitted before its failure was told (the *epoch*), so that
//! nothing later is stored before it; then a new segment is begun, since the end of the old one is unknown.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

use super::files::OpenFile;
use super::index::{self, Builder, Subject};
use super::record::{self, Kind, Message};
use super::reserve::Reserve;
use super::segment;
use super::snapshot::{self, LogPoint};
use super::spare::Spares;
use super::store::Shared;
use super::{Mode, Options};
use crate::semantics::{Entry, Location};

/// Where no file was made ahead (`spare.rs`), space is reserved, as zeros, in steps of this: syncing an overwrite is
/// cheaper than syncing growth.
const RESERVE_BYTES: u32 = 1024 * 1024;
/// One write holds at most about this much.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// In relaxed mode, so much is written by the thread that submits it, if the writing thread has nothing to do: for one
/// message, waking a thread and being woken by it takes far longer than the write.
const AT_ONCE_BYTES_MAX: usize = 16 * 1024;
/// A buffer that grew beyond this for a burst is given up after it.
const GATHERED_BYTES_KEPT: usize = 256 * 1024;

#[derive(Debug)]
pub enum Command {
    Append {
        epoch: u64,
        item: Item,
    },
    /// `frees`: segments can go when it is there.
    Snapshot {
        body: Vec<u8>,
        frees: bool,
    },
    Delete(Vec<u32>),
    Stop,
}

#[derive(Debug)]
pub enum Item {
    Message(Message),
    /// A change, as JSON.
    Change(Vec<u8>),
}

impl Item {
    fn record_len(&self) -> usize {
        match self {
            Item::Message(message) => message.record_len(),
            Item::Change(body) => record::HEADER_LEN + body.len(),
        }
    }
}

/// What became of what was submitted, in its order.
#[derive(Debug)]
pub enum Completion {
    /// These are stored, all in one segment; so many of them are messages, the others changes.
    Stored {
        locations: Vec<Location>,
        messages: u64,
    },
    /// So many are not, and what was submitted under an epoch below `epoch` will not be either.
    Failed {
        count: usize,
        epoch: u64,
        reason: String,
    },
    /// A new segment was begun.
    Rolled {
        segment: u32,
    },
    /// A snapshot is on disk: what it covers need not stay in the log.
    SnapshotStored,
    SnapshotFailed {
        reason: String,
    },
}

/// Commands on their way to the thread.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    commands: Vec<Command>,
    /// The thread has taken some and is not done with them.
    at_work: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, command: Command) {
        self.extend(std::iter::once(command));
    }

    pub fn extend(&self, more: impl Iterator<Item = Command>) {
        let mut waiting = self.waiting();
        let was_empty = waiting.commands.is_empty();
        waiting.commands.extend(more);
        if was_empty && !waiting.commands.is_empty() {
            self.filled.notify_one();
        }
    }

    /// Whether everything that was given has been carried out.
    pub fn is_idle(&self) -> bool {
        let waiting = self.waiting();
        waiting.commands.is_empty() && !waiting.at_work
    }

    /// What is there already.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn try_take(&self, into: &mut Vec<Command>) {
        std::mem::swap(&mut self.waiting().commands, into);
    }

    /// Waits for some. What was taken before is done.
    fn take(&self, into: &mut Vec<Command>) {
        let mut waiting = self.waiting();
        waiting.at_work = false;
        let mut waiting = self
            .filled
            .wait_while(waiting, |waiting| waiting.commands.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        waiting.at_work = true;
        std::mem::swap(&mut waiting.commands, into);
    }
}

/// Works until the writer is told to stop.
pub fn run(writer: &Mutex<Writer>, queue: &Queue) {
    let mut commands = Vec::new();
    loop {
        queue.take(&mut commands);
        if writer.lock().unwrap_or_else(PoisonError::into_inner).handle(&mut commands) {
            return;
        }
    }
}

/// Told of everything that is finished.
pub type Answer = Box<dyn FnMut(Completion) + Send>;

/// The open segment and what is being gathered for it.
pub struct Writer {
    dir: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    on_completion: Answer,
    /// None after a failure, until a new segment could be begun.
    open: Option<Open>,
    /// A segment whose end could not be made durable: none follows it before that.
    unclosed: Option<Open>,
    next_segment: u32,
    spares: Spares,
    reserve: Reserve,
    epoch: u64,
    gathered: BytesMut,
    locations: Vec<Location>,
    /// How many of them are messages.
    messages: u64,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn OpenFile>,
    segment: u32,
    salt: u32,
    /// Where the next write goes.
    end: u32,
    /// Bytes that the file has on disk, zeros included.
    reserved: u32,
    synced_to: u32,
    /// None once a write has failed: it has what was gathered for that.
    index: Option<Builder>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("dir", &self.dir).field("open", &self.open).finish_non_exhaustive()
    }
}

impl Writer {
    pub fn new(
        dir: PathBuf,
        options: Options,
        shared: Arc<Shared>,
        next_segment: u32,
        on_completion: Answer,
    ) -> Writer {
        let (gathered, locations) = (BytesMut::new(), Vec::new());
        let spares = Spares::new(&dir, options.clone(), shared.clone());
        let reserve = Reserve::new(&dir, options.clone(), shared.clone());
        Writer {
            dir,
            options,
            shared,
            on_completion,
            open: None,
            unclosed: None,
            next_segment,
            spares,
            reserve,
            epoch: 0,
            gathered,
            locations,
            messages: 0,
        }
    }

    /// Nothing is done aside.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn work_alone(&mut self) {
        self.spares.work_alone();
    }

    /// Stores a few items while the caller waits, if that is only a write: no sync, no new segment. False, and nothing is done,
    /// otherwise. All that was submitted before must have been carried out.
    pub fn store_at_once(&mut self, epoch: u64, items: &mut Vec<Item>) -> bool {
        let bytes: usize = items.iter().map(Item::record_len).sum();
        let fits = self.open.as_ref().is_some_and(|open| {
            bytes <= AT_ONCE_BYTES_MAX && open.end as usize + bytes <= self.options.segment_bytes as usize
        });
        if self.options.mode != Mode::Relaxed || !fits || epoch < self.epoch {
            return false;
        }
        for item in items.drain(..) {
            self.append(epoch, &item);
        }
        self.flush();
        true
    }

    /// Carries out commands, in one write if possible. True if it has stopped.
    pub fn handle(&mut self, commands: &mut Vec<Command>) -> bool {
        for command in commands.drain(..) {
            match command {
                Command::Append { epoch, item } => self.append(epoch, &item),
                Command::Snapshot { body, frees } => self.snapshot(&body, frees),
                Command::Delete(segments) => self.delete(&segments),
                Command::Stop => {
                    self.flush();
                    self.end_segment();
                    self.spares.stop();
                    return true;
                }
            }
        }
        self.flush();
        false
    }

    fn append(&mut self, epoch: u64, item: &Item) {
        if epoch < self.epoch {
            return self.fail(1, "an earlier write failed");
        }
        let len = item.record_len();
        let full = self.open.as_ref().is_none_or(|open| {
            let end = open.end as usize + self.gathered.len();
            end + len > self.options.segment_bytes as usize && end > segment::HEADER_LEN as usize
        });
        if full || self.gathered.len() + len > BATCH_BYTES_MAX {
            self.flush();
        }
        if epoch < self.epoch {
            return self.fail(1, "an earlier write failed");
        }
        if full && let Err(error) = self.roll() {
            return self.fail_all(1, &error.to_string());
        }
        let Some(open) = &mut self.open else { return self.fail_all(1, "no segment is open") };
        let offset = open.end + self.gathered.len() as u32;
        let location = Location { segment: open.segment, offset, len: len as u32 };
        if let Some(index) = &mut open.index {
            match item {
                Item::Message(message) => {
                    let origin = message.origin.as_ref().map(|(name, highest)| (&**name, *highest));
                    index.message(message.topic, message.position, Entry { location, facts: message.facts }, origin);
                }
                Item::Change(_) => index.change(offset),
            }
        }
        match item {
            Item::Message(message) => {
                self.messages += 1;
                record::put(&mut self.gathered, open.salt, offset, open.synced_to, Kind::Message, |out| {
                    message.put(out)
                });
            }
            Item::Change(body) => {
                record::put(&mut self.gathered, open.salt, offset, open.synced_to, Kind::Change, |out| {
                    out.extend_from_slice(body);
                });
            }
        }
        self.locations.push(location);
    }

    /// Writes what was gathered and says so.
    fn flush(&mut self) {
        if self.locations.is_empty() {
            return;
        }
        let Some(open) = &mut self.open else { return };
        let outcome = open.write(&self.gathered, &self.options, &self.shared);
        let locations = std::mem::take(&mut self.locations);
        let messages = std::mem::take(&mut self.messages);
        match outcome {
            Ok(()) => {
                // A copy, so that the cache holds no more than it counts, and the room to gather in is used again.
                self.shared.cache.insert(open.segment, open.end, Bytes::copy_from_slice(&self.gathered));
                open.end += self.gathered.len() as u32;
                if self.options.mode == Mode::Durable {
                    open.synced_to = open.end;
                }
                self.gathered.clear();
                if self.gathered.capacity() > GATHERED_BYTES_KEPT {
                    self.gathered = BytesMut::new();
                }
                (self.on_completion)(Completion::Stored { locations, messages });
                self.look_ahead();
            }
            Err(error) => {
                let count = locations.len();
                if error.kind() == io::ErrorKind::StorageFull {
                    self.spares.give_back();
                }
                self.fail_all(count, &error.to_string());
            }
        }
    }

    /// For a snapshot that found the disk full. The reserve only for one that gives more back. True if there is more room now.
    fn make_room(&mut self, error: &io::Error, frees: bool) -> bool {
        error.kind() == io::ErrorKind::StorageFull && (self.spares.give_back() | (frees && self.reserve.give_up()))
    }

    fn fail(&mut self, count: usize, reason: &str) {
        (self.on_completion)(Completion::Failed { count, epoch: self.epoch, reason: reason.to_owned() });
    }

    /// A write failed: so does everything submitted until this is known.
    fn fail_all(&mut self, count: usize, reason: &str) {
        self.epoch += 1;
        self.gathered.clear();
        if let Some(open) = &mut self.open {
            open.index = None;
        }
        self.end_segment();
        self.fail(count, reason);
    }

    /// Ends the open segment; if that fails, it is tried again before the next one is begun.
    fn end_segment(&mut self) {
        let Some(segment) = self.open.as_ref().or(self.unclosed.as_ref()).map(|open| open.segment) else { return };
        if let Err(error) = self.close() {
            let path = segment::path(&self.dir, segment);
            tracing::error!(path = %path.display(), %error, "could not close a segment");
        }
    }

    /// Ends the open segment where its last good record ends. Half a batch behind it must not come back: behind a segment
    /// that another one follows, it would be damage.
    fn close(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.take() {
            self.shared.add_disk_bytes(-(i64::from(open.reserved.max(open.end)) - i64::from(open.end)));
            self.unclosed = Some(open);
        }
        let Some(open) = &self.unclosed else { return Ok(()) };
        open.file.set_len(u64::from(open.end))?;
        open.file.sync_all()?;
        if let Some(open) = self.unclosed.take() {
            self.write_index(open);
        }
        Ok(())
    }

    /// Of a segment that is complete and synced. Without one, the next start reads the segment.
    fn write_index(&mut self, open: Open) {
        let Some(index) = open.index else { return };
        let bytes = index.finish().encode(Subject { segment: open.segment, salt: open.salt, end: open.end });
        let written = self.shared.check_space(bytes.len() as u64, &self.options);
        match written.and_then(|()| index::write(&*self.options.files, &self.dir, open.segment, &bytes)) {
            Ok(()) => self.shared.add_disk_bytes(bytes.len() as i64),
            Err(error) => {
                let path = index::path(&self.dir, open.segment);
                tracing::warn!(path = %path.display(), %error, "could not write the index of a segment");
            }
        }
    }

    fn roll(&mut self) -> io::Result<()> {
        self.close()?;
        let number = self.next_segment;
        let files = self.options.files.clone();
        let (file, salt, reserved) = match self.spares.take() {
            Some(file) => {
                let reserved = self.spares.bytes();
                let adopted = segment::adopt(&*files, &self.dir, number, self.spares.path(), &*file)
                    .and_then(|salt| files.sync_dir(&self.dir).map(|()| salt));
                // After a failure, the next try makes a new file of this name.
                (file, adopted.inspect_err(|_| self.spares.remove())?, reserved)
            }
            None => {
                self.shared.check_space(u64::from(segment::HEADER_LEN), &self.options)?;
                let (file, salt) = segment::create(&*files, &self.dir, number)?;
                file.sync_all()?;
                files.sync_dir(&self.dir)?;
                self.shared.add_disk_bytes(i64::from(segment::HEADER_LEN));
                (file, salt, segment::HEADER_LEN)
            }
        };
        self.shared.opened(number, file.clone(), salt);
        self.next_segment += 1;
        let end = segment::HEADER_LEN;
        let index = Some(Builder::default());
        self.open = Some(Open { file, segment: number, salt, end, reserved, synced_to: end, index });
        (self.on_completion)(Completion::Rolled { segment: number });
        Ok(())
    }

    /// Has the next segment made, and the reserve, when this one is half full: a broker that stores little never pays for it.
    fn look_ahead(&mut self) {
        let half = self.options.segment_bytes / 2;
        if self.open.as_ref().is_some_and(|open| open.end > half) {
            self.reserve.keep();
            if self.options.mode == Mode::Durable {
                self.spares.make();
            }
        }
    }

    fn snapshot(&mut self, body: &[u8], frees: bool) {
        self.flush();
        let point = match &self.open {
            Some(open) => LogPoint { segment: open.segment, offset: open.end },
            None => LogPoint { segment: self.next_segment, offset: 0 },
        };
        let outcome = match &mut self.open {
            // The snapshot must not be ahead of the log that it counts on.
            Some(open) => open.file.sync_data(),
            None => Ok(()),
        };
        let mut outcome = outcome.and_then(|()| self.write_snapshot(point, body));
        if let Err(error) = &outcome
            && self.make_room(error, frees)
        {
            outcome = self.write_snapshot(point, body);
        }
        let completion = match outcome {
            Ok(()) => Completion::SnapshotStored,
            Err(error) => Completion::SnapshotFailed { reason: error.to_string() },
        };
        (self.on_completion)(completion);
    }

    fn write_snapshot(&self, point: LogPoint, body: &[u8]) -> io::Result<()> {
        snapshot::write(&*self.options.files, &self.dir, point, body)
    }

    fn delete(&mut self, segments: &[u32]) {
        for number in segments {
            let files = &*self.options.files;
            let path = segment::path(&self.dir, *number);
            let bytes = files.len(&path).unwrap_or(0);
            match files.remove(&path) {
                Ok(()) => {
                    self.shared.closed(*number);
                    self.shared.add_disk_bytes(-(bytes as i64));
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "could not delete a segment"),
            }
            // There may be none; one without a segment is removed at the next start.
            let path = index::path(&self.dir, *number);
            let bytes = files.len(&path).unwrap_or(0);
            if files.remove(&path).is_ok() {
                self.shared.add_disk_bytes(-(bytes as i64));
            }
        }
    }
}

impl Open {
    fn write(&mut self, bytes: &[u8], options: &Options, shared: &Shared) -> io::Result<()> {
        let end = u64::from(self.end) + bytes.len() as u64;
        if end > u64::from(self.reserved) {
            let wanted = match options.mode {
                Mode::Durable => {
                    let most = u64::from(options.segment_bytes).max(end);
                    end.next_multiple_of(u64::from(RESERVE_BYTES)).min(most)
                }
                Mode::Relaxed => end,
            };
            let more = wanted - u64::from(self.reserved);
            shared.check_space(more, options)?;
            if options.mode == Mode::Durable {
                let zeros = vec![0; more as usize];
                self.file.write_all_at(&zeros, u64::from(self.reserved))?;
                self.file.sync_all()?;
            }
            shared.add_disk_bytes(more as i64);
            self.reserved = wanted as u32;
        }
        self.file.write_all_at(bytes, u64::from(self.end))?;
        if options.mode == Mode::Durable {
            self.file.sync_data()?;
        }
        Ok(())
    }
}
