//! The broker's disk: a log in segments, and a snapshot of the state. A closed segment goes when nobody needs what is in
//! it and a later snapshot is there; an entry that was trimmed out of a segment that stays is there again after a crash.
//! As `everpulse_broker::storage` has it, whose bytes are not played.
//!
//! Beside it everything is kept that was ever stored: for the judge, who has to see what was trimmed, too.

use everpulse_broker::semantics::packed::Packed;
use everpulse_broker::semantics::restore::Restore;
use everpulse_broker::semantics::{Broker, Change, Effect, Entry, Location, Snapshot};

/// What is written, in its order.
#[derive(Debug)]
pub enum Item {
    /// A message or a change.
    Log(Effect),
    /// With the segments that it makes unneeded.
    Snapshot(Box<Snapshot>, Vec<usize>),
}

#[derive(Debug)]
pub struct Disk {
    /// All that was ever stored, by its offset.
    log: Vec<Effect>,
    /// By number, which counts from 1.
    segments: Vec<Segment>,
    /// Closed ones of which nothing is needed, and that are not gone.
    free: Vec<usize>,
    /// A segment with so many entries is closed.
    segment_entries: usize,
    /// With the place in the log from which on it lacks what was stored.
    snapshot: (usize, Snapshot),
}

#[derive(Debug, Default)]
struct Segment {
    start: usize,
    messages: u64,
    /// So many of them are not needed any more.
    released: u64,
    gone: bool,
}

impl Disk {
    /// An empty one.
    pub fn new(segment_entries: usize) -> Self {
        Self {
            log: Vec::new(),
            segments: vec![Segment::default()],
            free: Vec::new(),
            segment_entries,
            snapshot: (0, Snapshot::initial()),
        }
    }

    /// Stores a message or a change.
    pub fn keep(&mut self, effect: Effect) -> Location {
        let end = self.log.len();
        if self.segments.last().is_some_and(|segment| end - segment.start >= self.segment_entries) {
            self.segments.push(Segment { start: end, ..Segment::default() });
            self.look_whether_free(self.segments.len() - 2);
        }
        let mut len = 0;
        if let (Effect::Append { payload, .. }, Some(open)) = (&effect, self.segments.last_mut()) {
            open.messages += 1;
            len = payload.len() as u32;
        }
        self.log.push(effect);
        self.location(self.segments.len(), end, len)
    }

    fn location(&self, segment: usize, offset: usize, len: u32) -> Location {
        let number = |count| u32::try_from(count).expect("a simulation stores less");
        Location { segment: number(segment), offset: number(offset), len }
    }

    /// Stores a snapshot of all that was stored before it; the segments that it covers go.
    pub fn keep_snapshot(&mut self, snapshot: Snapshot, covered: &[usize]) {
        self.snapshot = (self.log.len(), snapshot);
        for at in covered {
            self.segments[*at].gone = true;
        }
        self.free.retain(|at| !covered.contains(at));
    }

    /// Closed segments of which nothing is needed: they could go if there were a snapshot.
    pub fn unneeded(&self) -> &[usize] {
        &self.free
    }

    fn look_whether_free(&mut self, at: usize) {
        let closed = at + 1 < self.segments.len();
        let is_free = |segment: &Segment| !segment.gone && segment.released >= segment.messages;
        if closed && self.segments.get(at).is_some_and(is_free) && !self.free.contains(&at) {
            self.free.push(at);
        }
    }

    /// So many messages of a segment are not needed any more.
    pub fn release(&mut self, segment: u32, messages: u64) {
        let at = (segment as usize).saturating_sub(1);
        if let Some(segment) = self.segments.get_mut(at) {
            segment.released += messages;
            self.look_whether_free(at);
        }
    }

    /// The segment that is written to: nothing of it can go.
    pub fn open_segment(&self) -> u32 {
        u32::try_from(self.segments.len()).expect("a simulation stores less")
    }

    /// The broker as it comes back from what is on the disk.
    pub fn restore(&mut self, generation: u64) -> Broker {
        let (from, snapshot) = &self.snapshot;
        let mut restore = Restore::new(Snapshot { generation, ..snapshot.clone() });
        let ends: Vec<usize> = self.segments.iter().skip(1).map(|next| next.start).chain([self.log.len()]).collect();
        for ((number, segment), end) in self.segments.iter().enumerate().zip(ends) {
            if segment.gone {
                continue;
            }
            for (offset, effect) in (segment.start..end).zip(&self.log[segment.start..end]) {
                match effect {
                    Effect::Append { topic, position, facts, origin, payload } => {
                        let location = self.location(number + 1, offset, payload.len() as u32);
                        restore.messages(*topic, *position, Packed::of(&[Entry { location, facts: *facts }]));
                        if let Some((name, sequence)) = origin {
                            restore.sequence(*topic, name, *sequence);
                        }
                    }
                    Effect::Log(change) if offset >= *from => restore.change(Change::clone(change)),
                    _ => {}
                }
            }
        }
        let broker = restore.finish();
        let needed = broker.entries_per_segment();
        for (number, segment) in (1..).zip(&mut self.segments) {
            segment.released = segment.messages - needed.get(&number).copied().unwrap_or(0);
        }
        self.free.clear();
        for at in 0..self.segments.len() {
            self.look_whether_free(at);
        }
        broker
    }

    /// All that was ever stored, in its order.
    pub fn log(&self) -> &[Effect] {
        &self.log
    }
}
