//! Positions, and what the broker remembers about each stored entry.

use std::fmt;

/// Where an entry is in its topic, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position {
    pub ledger: u64,
    pub entry: u64,
}

impl Position {
    /// The smallest position behind this one.
    pub fn next(self) -> Position {
        Position { entry: self.entry.saturating_add(1), ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ledger, self.entry)
    }
}

/// Where the storage keeps an entry. Opaque here, except that segments are freed when nothing in them is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    pub segment: u32,
    pub offset: u32,
    pub len: u32,
}

/// What is needed to route, delay, count and find an entry without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub location: Location,
    pub facts: Facts,
}

/// The part of an [`Entry`] that its producer decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// Hash of the sticky key, for Key_Shared.
    pub hash: u32,
    /// Messages in the entry if it is a batch, else zero.
    pub batch: u32,
    pub publish_time_ms: u64,
    /// Zero if it may be delivered at once.
    pub deliver_at_ms: u64,
}

impl Facts {
    /// Permits that the delivery of this entry takes.
    pub fn permits(&self) -> i64 {
        i64::from(self.batch.max(1))
    }
}
