//! The handle to the storage: submitting, reading, and knowing which segments can go.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::Options;
use super::cache::Cache;
use super::files::OpenFile;
use super::record::{self, Kind};
use super::segment;
use super::writer::{self, Command, Completion, Item, Queue, Writer};
use crate::semantics::{Location, Snapshot};

/// What the writing thread and the readers have in common.
#[derive(Debug)]
pub struct Shared {
    pub(super) cache: Cache,
    segments: Mutex<HashMap<u32, Readable>>,
    disk_bytes: AtomicI64,
}

#[derive(Debug, Clone)]
struct Readable {
    file: Arc<dyn OpenFile>,
    salt: u32,
}

impl Shared {
    pub(super) fn new(disk_bytes: u64, cache_bytes: usize) -> Shared {
        let disk_bytes = AtomicI64::new(disk_bytes as i64);
        Shared { cache: Cache::new(cache_bytes), segments: Mutex::default(), disk_bytes }
    }

    pub(super) fn opened(&self, segment: u32, file: Arc<dyn OpenFile>, salt: u32) {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment, Readable { file, salt });
    }

    pub(super) fn closed(&self, segment: u32) {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
    }

    pub(super) fn add_disk_bytes(&self, bytes: i64) {
        self.disk_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What all files take.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed).max(0) as u64
    }

    pub(super) fn check_space(&self, more: u64, options: &Options) -> io::Result<()> {
        if self.disk_bytes() + more <= options.disk.get() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::StorageFull, "no space left within the broker's disk limit"))
    }
}

/// Reads stored messages, from memory or from disk. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Reader {
    dir: PathBuf,
    shared: Arc<Shared>,
}

impl Reader {
    /// The payload of a message, if it is still in memory.
    pub fn cached(&self, location: Location) -> Option<Bytes> {
        payload(&self.shared.cache.get(location)?)
    }

    /// The payload of a message. Blocks on the disk.
    ///
    /// # Errors
    /// The disk cannot be read, or what it has is not what was written.
    pub fn read(&self, location: Location) -> io::Result<Bytes> {
        if let Some(bytes) = self.cached(location) {
            return Ok(bytes);
        }
        let segments = self.shared.segments.lock().unwrap_or_else(PoisonError::into_inner);
        let readable = segments.get(&location.segment).cloned();
        drop(segments);
        let readable =
            readable.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the message has been let go"))?;
        let mut bytes = vec![0; location.len as usize];
        readable.file.read_exact_at(&mut bytes, u64::from(location.offset))?;
        match record::read(&bytes, readable.salt, location.offset) {
            Ok(record) if record.kind == Kind::Message => {}
            _ => return Err(self.damaged(location, "its checksum does not fit")),
        }
        payload(&Bytes::from(bytes)).ok_or_else(|| self.damaged(location, "it is no message"))
    }

    fn damaged(&self, location: Location, reason: &str) -> io::Error {
        let path = segment::path(&self.dir, location.segment);
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged at byte {}: {reason}", path.display(), location.offset),
        )
    }
}

fn payload(record: &Bytes) -> Option<Bytes> {
    let head = record::message_head(record.get(record::HEADER_LEN..)?)?;
    (head.payload_at <= record.len()).then(|| record.slice(head.payload_at..))
}

/// The writer of a storage without a thread.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Debug)]
pub struct ByHand {
    writer: Arc<Mutex<Writer>>,
    queue: Arc<Queue>,
}

#[cfg(any(test, feature = "fuzzing"))]
impl ByHand {
    /// Writes what has been submitted.
    pub fn step(&mut self) {
        let mut commands = Vec::new();
        self.queue.try_take(&mut commands);
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).handle(&mut commands);
    }
}

/// Where records go. Dropped or stopped, it writes what it was given.
#[derive(Debug)]
pub struct Storage {
    queue: Arc<Queue>,
    writer: Arc<Mutex<Writer>>,
    epoch: u64,
    reader: Reader,
    thread: Option<JoinHandle<()>>,
    /// Entries that are still needed, per segment.
    needed: BTreeMap<u32, u64>,
    open_segment: u32,
    /// For each snapshot that is being written: the segments that it makes unneeded.
    covered: VecDeque<Vec<u32>>,
    snapshot_failed: bool,
}

impl Storage {
    /// Continues behind what [`super::recover()`] found; `needed` says how many entries of each segment are needed.
    ///
    /// # Errors
    /// A segment cannot be opened, or the thread not started.
    pub fn start(
        dir: &Path,
        options: Options,
        recovered: &super::recover::Recovered,
        needed: BTreeMap<u32, u64>,
        on_completion: impl FnMut(Completion) + Send + 'static,
    ) -> io::Result<Storage> {
        let mut storage = Storage::prepare(dir, options, recovered, needed, Box::new(on_completion))?;
        let (queue, writer) = (storage.queue.clone(), storage.writer.clone());
        let work = move || writer::run(&writer, &queue);
        let thread = std::thread::Builder::new().name("everpulse-log".into()).spawn(work)?;
        storage.thread = Some(thread);
        Ok(storage)
    }

    /// Without a thread: what is submitted is written when [`ByHand::step`] is called.
    ///
    /// # Errors
    /// A segment cannot be opened.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn by_hand(
        dir: &Path,
        options: Options,
        recovered: &super::recover::Recovered,
        needed: BTreeMap<u32, u64>,
        on_completion: impl FnMut(Completion) + Send + 'static,
    ) -> io::Result<(Storage, ByHand)> {
        let storage = Storage::prepare(dir, options, recovered, needed, Box::new(on_completion))?;
        let (queue, writer) = (storage.queue.clone(), storage.writer.clone());
        writer.lock().unwrap_or_else(PoisonError::into_inner).work_alone();
        Ok((storage, ByHand { writer, queue }))
    }

    fn prepare(
        dir: &Path,
        options: Options,
        recovered: &super::recover::Recovered,
        needed: BTreeMap<u32, u64>,
        on_completion: super::writer::Answer,
    ) -> io::Result<Storage> {
        let shared = Arc::new(Shared::new(recovered.disk_bytes, options.cache_bytes));
        for (number, salt) in &recovered.segments {
            shared.opened(*number, options.files.open(&segment::path(dir, *number))?, *salt);
        }
        let next_segment = recovered.next_segment;
        let writer = Writer::new(dir.to_owned(), options, shared.clone(), next_segment, on_completion);
        let mut all: BTreeMap<u32, u64> = recovered.segments.iter().map(|(number, _)| (*number, 0)).collect();
        all.extend(needed);
        Ok(Storage {
            queue: Arc::default(),
            writer: Arc::new(Mutex::new(writer)),
            epoch: 0,
            reader: Reader { dir: dir.to_owned(), shared },
            thread: None,
            needed: all,
            open_segment: next_segment,
            covered: VecDeque::new(),
            snapshot_failed: false,
        })
    }

    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    pub fn disk_bytes(&self) -> u64 {
        self.reader.shared.disk_bytes()
    }

    pub fn open_segment(&self) -> u32 {
        self.open_segment
    }

    /// Takes items to be written, all at once so that they share a write. In relaxed mode a few may be written already when this
    /// returns.
    pub fn submit(&self, items: &mut Vec<Item>) {
        let epoch = self.epoch;
        // Nobody else submits meanwhile, so what is idle stays so.
        let stored = self.queue.is_idle()
            && self.writer.lock().unwrap_or_else(PoisonError::into_inner).store_at_once(epoch, items);
        if !stored {
            self.queue.extend(items.drain(..).map(|item| Command::Append { epoch, item }));
        }
    }

    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    pub fn store_snapshot(&mut self, snapshot: &Snapshot) {
        // Strings, numbers, maps with string keys: this cannot fail.
        let body = serde_json::to_vec(snapshot).expect("a snapshot is plain data");
        let unneeded: Vec<u32> = self.unneeded().collect();
        let frees = !unneeded.is_empty();
        self.covered.push_back(unneeded);
        self.snapshot_failed = false;
        self.queue.push(Command::Snapshot { body, frees });
    }

    /// Takes notice of what the thread says. True if a snapshot should be stored, so that segments can go.
    pub fn handle_completion(&mut self, completion: &Completion) -> bool {
        match completion {
            Completion::Stored { locations, messages } => {
                // Changes are not counted: a snapshot takes their place.
                if let Some(first) = locations.first() {
                    *self.needed.entry(first.segment).or_insert(0) += messages;
                }
                false
            }
            Completion::Failed { epoch, .. } => {
                self.epoch = self.epoch.max(*epoch);
                false
            }
            Completion::Rolled { segment } => {
                self.open_segment = *segment;
                self.needed.entry(*segment).or_insert(0);
                true
            }
            Completion::SnapshotStored => {
                let gone = self.covered.pop_front().unwrap_or_default();
                if !gone.is_empty() {
                    self.needed.retain(|segment, _| !gone.contains(segment));
                    self.queue.push(Command::Delete(gone));
                }
                false
            }
            Completion::SnapshotFailed { reason } => {
                tracing::warn!(reason, "could not write the snapshot; it will be tried again");
                self.covered.pop_front();
                self.snapshot_failed = true;
                false
            }
        }
    }

    /// So many entries of a segment are not needed any more.
    pub fn release(&mut self, segment: u32, entries: u64) {
        if let Some(needed) = self.needed.get_mut(&segment) {
            *needed = needed.saturating_sub(entries);
        }
    }

    /// Whether a snapshot should be stored, so that segments can go: a segment is deleted when a snapshot is on disk
    /// that was taken after the last entry of it had been released. So what is deleted is never missed, whatever a
    /// crash leaves of the rest.
    pub fn wants_snapshot(&self) -> bool {
        self.snapshot_failed || (self.covered.is_empty() && self.unneeded().next().is_some())
    }

    fn unneeded(&self) -> impl Iterator<Item = u32> {
        let closed = self.needed.range(..self.open_segment);
        let unneeded = closed.filter(|(_, needed)| **needed == 0).map(|(segment, _)| *segment);
        unneeded.filter(|segment| !self.covered.iter().flatten().any(|covered| covered == segment))
    }

    /// Writes what it was given, closes the files and waits for the thread.
    pub fn stop(mut self) {
        self.join();
    }

    fn join(&mut self) {
        self.queue.push(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the log has panicked");
        }
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.join();
        }
    }
}
