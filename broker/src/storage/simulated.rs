//! A disk in memory that keeps what was synced and, when the power fails, any part of the rest.
//!
//! What may be lost or kept is more than a real file system would do, so that no luck is relied on: each block of an
//! unsynced write by itself, in any order, cut at any byte; each change of a length; each creation, renaming and removal
//! whose directory was not synced. A sync that fails gives up on what it should have written (as Linux does: a second
//! sync says nothing of it).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Files, OpenFile};

/// A stream of chance; the disk knows no seeds.
pub type Chance = Box<dyn FnMut() -> u64 + Send>;

/// Cheap to clone: the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    renamings: Vec<NameOp>,
    /// Operations until the power fails.
    fuse: Option<u64>,
    dead: bool,
    operations: u64,
    capacity: Option<u64>,
    /// So many syncs fail from now on.
    failing_syncs: u64,
}

#[derive(Debug, Default)]
struct Node {
    content: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<DataOp>,
}

#[derive(Debug, Clone)]
enum DataOp {
    Write { at: usize, bytes: Vec<u8> },
    Len(usize),
}

#[derive(Debug, Clone)]
enum NameOp {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Debug)]
struct MemoryFile {
    state: Arc<Mutex<State>>,
    node: usize,
}

impl MemoryFiles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails within the n-th operation from now: a write may be half done, nothing works from then on.
    pub fn fail_after(&self, operations: u64) {
        self.state().fuse = Some(operations);
    }

    /// The power stays.
    pub fn disarm(&self) {
        self.state().fuse = None;
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    pub fn has_failed(&self) -> bool {
        self.state().dead
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// So many bytes in all files together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// So many syncs of files fail from now on: what they should have written stays in the cache, and no later sync
    /// writes it.
    pub fn fail_syncs(&self, count: u64) {
        self.state().failing_syncs = count;
    }

    /// Another disk with the same files.
    pub fn copied(&self) -> MemoryFiles {
        let state = self.state();
        let nodes = state.nodes.iter().map(|node| Node {
            content: node.content.clone(),
            durable: node.content.clone(),
            pending: Vec::new(),
        });
        let (nodes, names) = (nodes.collect(), state.names.clone());
        let durable_names = names.clone();
        MemoryFiles(Arc::new(Mutex::new(State { nodes, names, durable_names, ..State::default() })))
    }

    /// The disk as the next process finds it: all that was written is there, and what was not synced still is not.
    pub fn after_kill(&self) {
        let mut state = self.state();
        (state.dead, state.fuse, state.failing_syncs) = (false, None, 0);
    }

    /// The disk as it is found when the power is back.
    pub fn after_power_failure(&self, chance: &mut Chance) -> MemoryFiles {
        let state = self.state();
        let mut names = state.durable_names.clone();
        let kept = kept_of_1000(chance);
        for op in &state.renamings {
            if chance() % 1000 < kept {
                op.apply(&mut names);
            }
        }
        let nodes = state.nodes.iter().map(|node| node.after_power_failure(chance)).collect();
        let durable_names = names.clone();
        MemoryFiles(Arc::new(Mutex::new(State { nodes, names, durable_names, ..State::default() })))
    }
}

/// Nothing, everything, or something.
fn kept_of_1000(chance: &mut Chance) -> u64 {
    [0, 1000, 500, 900, 100][(chance() % 5) as usize]
}

impl State {
    /// Counts an operation; the second value is set where the power fails within it.
    fn begin(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("the power has failed"));
        }
        self.operations += 1;
        match &mut self.fuse {
            Some(0) => {
                self.dead = true;
                Ok(true)
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    fn change(&mut self) -> io::Result<()> {
        if self.begin()? { Err(io::Error::other("the power fails")) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|node| self.nodes[*node].content.len() as u64).sum()
    }

    fn node(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl NameOp {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameOp::Set(path, node) => {
                names.insert(path.clone(), *node);
            }
            NameOp::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
            NameOp::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl DataOp {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            DataOp::Write { at, bytes } => {
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            DataOp::Len(len) => content.resize(*len, 0),
        }
    }
}

impl Node {
    fn change(&mut self, op: DataOp) {
        op.apply(&mut self.content);
        self.pending.push(op);
    }

    fn sync(&mut self) {
        for op in self.pending.drain(..) {
            op.apply(&mut self.durable);
        }
    }

    /// Half of it gets to the disk, also of a write, and nobody will write the rest.
    fn sync_half(&mut self) {
        let half = self.pending.len() / 2;
        for (index, op) in self.pending.drain(..).enumerate() {
            match op {
                DataOp::Write { at, mut bytes } if index == half => {
                    bytes.truncate(bytes.len() / 2);
                    DataOp::Write { at, bytes }.apply(&mut self.durable);
                }
                op if index < half => op.apply(&mut self.durable),
                _ => {}
            }
        }
    }

    fn after_power_failure(&self, chance: &mut Chance) -> Node {
        let mut content = self.durable.clone();
        let kept = kept_of_1000(chance);
        let block = [1, 512, 4096][(chance() % 3) as usize];
        for (index, op) in self.pending.iter().enumerate() {
            match op {
                DataOp::Len(_) => {
                    if chance() % 1000 < kept {
                        op.apply(&mut content);
                    }
                }
                DataOp::Write { at, bytes } => {
                    // The last one may end anywhere.
                    let torn = index + 1 == self.pending.len() && chance().is_multiple_of(2);
                    let end = if torn { chance() as usize % (bytes.len() + 1) } else { bytes.len() };
                    let mut from = 0;
                    while from < end {
                        let to = ((at + from) / block + 1) * block - at;
                        let to = to.min(end);
                        // Single bytes only where it was torn: a disk writes blocks.
                        if (block == 1 && torn) || chance() % 1000 < kept {
                            DataOp::Write { at: at + from, bytes: bytes[from..to].to_vec() }.apply(&mut content);
                        }
                        from = to;
                    }
                }
            }
        }
        Node { durable: content.clone(), content, pending: Vec::new() }
    }
}

impl Files for MemoryFiles {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.nodes[state.node(path)?].content.clone())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.nodes[state.node(path)?].content.len() as u64)
    }

    fn room(&self, _: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let mut state = self.state();
        state.change()?;
        let node = match state.names.get(path) {
            Some(node) => {
                let node = *node;
                state.nodes[node].change(DataOp::Len(0));
                node
            }
            None => {
                let node = state.nodes.len();
                state.nodes.push(Node::default());
                state.names.insert(path.to_owned(), node);
                state.renamings.push(NameOp::Set(path.to_owned(), node));
                node
            }
        };
        Ok(Arc::new(MemoryFile { state: self.0.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let node = self.state().node(path)?;
        Ok(Arc::new(MemoryFile { state: self.0.clone(), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.node(from)?;
        let op = NameOp::Rename(from.to_owned(), to.to_owned());
        op.apply(&mut state.names);
        state.renamings.push(op);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.node(path)?;
        let op = NameOp::Remove(path.to_owned());
        op.apply(&mut state.names);
        state.renamings.push(op);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.renamings.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl MemoryFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenFile for MemoryFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state();
        let content = &state.nodes[self.node].content;
        let at = offset as usize;
        let source = content.get(at..at + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(source);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state();
        let fails = state.begin()?;
        let room = state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used()));
        let node = &mut state.nodes[self.node];
        let at = offset as usize;
        let more = (at + bytes.len()).saturating_sub(node.content.len());
        // What fits is written, as by the operating system.
        let fitting = bytes.len() - (more as u64).saturating_sub(room).min(bytes.len() as u64) as usize;
        node.change(DataOp::Write { at, bytes: bytes[..fitting].to_vec() });
        if fails {
            return Err(io::Error::other("the power fails"));
        }
        if fitting < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.nodes[self.node].change(DataOp::Len(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            state.nodes[self.node].sync_half();
            return Err(io::Error::other("the disk could not sync"));
        }
        state.nodes[self.node].sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}
