//! The next segment's file, made ahead: full of zeros and synced, so that all writes to it are overwrites and their
//! syncs cheap. A segment that grows by steps pays for each step while producers wait.
//!
//! ```text
//! the open segment is half full ──► spare.tmp: zeros, synced, by a thread of its own
//! the open segment is full ───────► header, sync, renamed to log-N.seg, directory synced
//! ```
//!
//! Until it is renamed nobody takes it for a segment. One that a crash left behind is removed at the next start. There
//! may be none (relaxed mode, a writer that was faster): then a segment grows by steps. It is a luxury: none is made
//! unless there is room for two, and it is given back when the disk turns out to be full.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Options;
use super::files::{Files, OpenFile};
use super::store::Shared;

/// So much is written and synced at once, so that the log's own syncs never wait for more.
const STEP_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub struct Spares {
    path: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
    maker: Maker,
}

#[derive(Debug)]
enum Maker {
    /// The caller, while it waits.
    #[cfg(any(test, feature = "fuzzing"))]
    Caller,
    Thread(Option<JoinHandle<()>>),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Making,
    Ready(Arc<dyn OpenFile>),
    /// Not for this segment: the disk was full, or failed.
    Declined,
}

impl Spares {
    /// What an earlier process left is removed: nobody knows how far it had come.
    pub fn new(dir: &Path, options: Options, shared: Arc<Shared>) -> Spares {
        let path = dir.join("spare.tmp");
        remove(&*options.files, &path);
        let (state, stopped) = (Arc::default(), Arc::default());
        Spares { path, options, shared, state, stopped, maker: Maker::Thread(None) }
    }

    /// Makes them while the caller waits, so that a test knows when.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn work_alone(&mut self) {
        self.maker = Maker::Caller;
    }

    /// How many bytes one takes; they are counted as the disk's from the moment it is begun.
    pub fn bytes(&self) -> u32 {
        self.options.segment_bytes
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to make one, if there is none and there is room for two. Once for each segment.
    pub fn make(&mut self) {
        let bytes = self.bytes();
        if !matches!(*self.state(), State::None) {
            return;
        }
        if let Err(error) = self.check_room(2 * u64::from(bytes)) {
            return self.decline(&error);
        }
        self.shared.add_disk_bytes(i64::from(bytes));
        *self.state() = State::Making;
        let (files, path, shared) = (self.options.files.clone(), self.path.clone(), self.shared.clone());
        let (state, stopped) = (self.state.clone(), self.stopped.clone());
        let work = move || {
            let made = fill(&*files, &path, bytes, &stopped);
            if let Err(error) = &made {
                tracing::info!(%error, "no segment could be made ahead; the next one grows by steps");
                remove(&*files, &path);
                shared.add_disk_bytes(-i64::from(bytes));
            }
            *state.lock().unwrap_or_else(PoisonError::into_inner) = made.map_or(State::Declined, State::Ready);
        };
        match &mut self.maker {
            #[cfg(any(test, feature = "fuzzing"))]
            Maker::Caller => work(),
            Maker::Thread(thread) => match std::thread::Builder::new().name("everpulse-spare".into()).spawn(work) {
                // The one before has ended: there was none and none was being made.
                Ok(started) => *thread = Some(started),
                Err(error) => {
                    self.shared.add_disk_bytes(-i64::from(bytes));
                    self.decline(&error);
                }
            },
        }
    }

    /// The one that is ready, if there is one, as a new segment begins; the caller gives it the segment's name.
    pub fn take(&mut self) -> Option<Arc<dyn OpenFile>> {
        let mut state = self.state();
        match std::mem::take(&mut *state) {
            State::Ready(file) => Some(file),
            State::None | State::Declined => None,
            State::Making => {
                *state = State::Making;
                None
            }
        }
    }

    /// The disk is full: what is ready is removed, and none is made for this segment. True if there was one.
    pub fn give_back(&mut self) -> bool {
        let ready = self.take().is_some();
        if ready {
            self.remove();
        }
        let mut state = self.state();
        if matches!(*state, State::None) {
            *state = State::Declined;
        }
        ready
    }

    /// What was taken could not be used. It stays counted no longer, and is made anew or removed at the next start.
    pub fn remove(&self) {
        remove(&*self.options.files, &self.path);
        self.shared.add_disk_bytes(-i64::from(self.bytes()));
    }

    /// Removes it, and waits until nothing is being made.
    pub fn stop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Maker::Thread(thread) = &mut self.maker
            && let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that makes segments ahead has panicked");
        }
        self.give_back();
    }

    fn check_room(&self, bytes: u64) -> io::Result<()> {
        self.shared.check_space(bytes, &self.options)?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if self.options.files.room(dir)? < bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the file system has no room for it"));
        }
        Ok(())
    }

    fn decline(&self, error: &io::Error) {
        tracing::info!(%error, "no segment is made ahead; the next one grows by steps");
        *self.state() = State::Declined;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fill(files: &dyn Files, path: &Path, bytes: u32, stopped: &AtomicBool) -> io::Result<Arc<dyn OpenFile>> {
    let file = files.create(path)?;
    let zeros = vec![0; STEP_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes as usize {
        if stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("the storage stops"));
        }
        let step = zeros.len().min(bytes as usize - at);
        file.write_all_at(&zeros[..step], at as u64)?;
        file.sync_data()?;
        at += step;
    }
    file.sync_all()?;
    Ok(file)
}

fn remove(files: &dyn Files, path: &Path) {
    // Should a crash bring it back, the next start removes it.
    match files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "could not remove a segment that was made ahead");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::DiskLimit;
    use super::super::simulated::MemoryFiles;
    use super::*;

    const DIR: &str = "/broker";

    fn options(files: &MemoryFiles) -> Options {
        Options { segment_bytes: 3 * STEP_BYTES as u32 / 2, files: Arc::new(files.clone()), ..Options::default() }
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared::new(0, 0))
    }

    fn spares(options: &Options, shared: &Arc<Shared>) -> Spares {
        let mut spares = Spares::new(Path::new(DIR), options.clone(), shared.clone());
        spares.work_alone();
        spares
    }

    #[test]
    fn one_is_made_whole_and_given_once() {
        let (files, shared) = (MemoryFiles::default(), shared());
        let options = options(&files);
        let mut spares = spares(&options, &shared);
        assert!(spares.take().is_none());
        spares.make();
        spares.make();
        assert_eq!(shared.disk_bytes(), u64::from(options.segment_bytes));
        let mut chance: super::super::simulated::Chance = Box::new(|| 0);
        let durable = files.after_power_failure(&mut chance);
        assert_eq!(durable.used(), 0, "its name need not outlive a crash");
        assert_eq!(files.len(spares.path()).expect("there"), u64::from(options.segment_bytes));
        assert!(spares.take().is_some() && spares.take().is_none());
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let (files, shared) = (MemoryFiles::default(), shared());
        let options = options(&files);
        spares(&options, &shared).make();
        assert!(files.used() > 0);
        spares(&options, &shared);
        assert_eq!(files.used(), 0);
    }

    #[test]
    fn a_full_disk_has_none_and_keeps_nothing() {
        let (files, shared) = (MemoryFiles::default(), shared());
        let disk = DiskLimit::default();
        let options = Options { disk: disk.clone(), ..options(&files) };
        let mut spares = spares(&options, &shared);
        let two = 2 * u64::from(options.segment_bytes);
        disk.set(two - 1);
        spares.make();
        assert_eq!((files.used(), shared.disk_bytes()), (0, 0), "the limit");
        disk.set(u64::MAX);
        files.set_capacity(Some(two - 1));
        assert!(spares.take().is_none(), "a new segment, a new try");
        spares.make();
        assert_eq!((files.used(), shared.disk_bytes()), (0, 0), "the disk");
        files.set_capacity(Some(two));
        spares.make();
        assert_eq!(files.used(), 0, "one try for each segment");
        assert!(spares.take().is_none());
        spares.make();
        assert_eq!(shared.disk_bytes(), two / 2);
        spares.give_back();
        spares.make();
        assert_eq!((files.used(), shared.disk_bytes()), (0, 0), "given back");
    }

    #[test]
    fn stopping_waits_for_the_thread_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let shared = shared();
        let options = Options { segment_bytes: 8 * STEP_BYTES as u32, ..Options::default() };
        for _ in 0..3 {
            let mut spares = Spares::new(dir.path(), options.clone(), shared.clone());
            spares.make();
            spares.stop();
            assert!(!spares.path().exists());
            assert_eq!(shared.disk_bytes(), 0);
        }
    }
}
