//! The ids of runs and of what happens to them. Newtypes, so that one is never taken for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The name under which a run is addressed: 1 to 255 bytes of UTF-8 without control characters.
///
/// It decides the shard. At most one run of an id is open at a time.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct WorkflowId(Arc<str>);

/// The greatest length of a [`WorkflowId`], in bytes.
pub const WORKFLOW_ID_BYTES_MAX: usize = 255;

/// Why a text is no [`WorkflowId`] (or no name of a queue, signal or workflow).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("an id must not be empty")]
    Empty,
    #[error("an id has at most {WORKFLOW_ID_BYTES_MAX} bytes, this one has {bytes}: {start:?}...")]
    TooLong { bytes: usize, start: String },
    #[error("an id must not contain control characters: {id:?} has one at byte {at}")]
    ControlCharacter { id: String, at: usize },
    #[error("not a UUID: {text:?}")]
    NotUuid { text: String },
}

/// Checks a text against the rules for ids and names.
///
/// # Errors
/// Says which rule the text breaks.
pub fn check_name(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > WORKFLOW_ID_BYTES_MAX {
        return Err(InvalidId::TooLong { bytes: text.len(), start: text.chars().take(24).collect() });
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        return Err(InvalidId::ControlCharacter { id: text.to_owned(), at });
    }
    Ok(())
}

impl WorkflowId {
    /// Takes a text as an id.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
        check_name(text.as_ref())?;
        Ok(Self(text.as_ref().into()))
    }

    /// What values are sealed for that all runs with a tag are sent. It is no id that anybody can give, as it has a control
    /// character, so what is sealed for a tag is never passed off as a run's own. It is not stored.
    #[must_use]
    pub fn of_tag(tag: &str) -> Self {
        Self(format!("tag\0{tag}").into())
    }

    /// The id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for WorkflowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkflowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for WorkflowId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId::NotUuid { text: text.to_owned() })
            }
        }
    };
}

uuid_id! {
    /// One execution of a workflow. It is the id of the start event that began it, so that a start
    /// delivered twice is one run.
    RunId
}
uuid_id! {
    /// What a receiving shard deduplicates by: drawn by a client, or derived from the run and the command.
    EventId
}
uuid_id! {
    /// One life of one worker process, as history names it.
    WriterId
}
uuid_id! {
    /// A question of a client, by which it knows the answer.
    RequestId
}

impl RunId {
    /// What stands where a run's id is asked for, in what is of no run.
    pub const NIL: Self = Self(Uuid::nil());

    /// Whether it is of no run.
    #[must_use]
    pub fn is_nil(self) -> bool {
        self == Self::NIL
    }
}

impl EventId {
    /// The id that follows from a run, a command's number and what happened to it.
    ///
    /// The first 16 bytes of SHA-256 over the run id, the number (big endian) and the word.
    #[must_use]
    pub fn derived(run: RunId, number: u32, what: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(run.0.as_bytes());
        hash.update(number.to_be_bytes());
        hash.update(what.as_bytes());
        Self::digested(hash)
    }
}

impl EventId {
    /// The id under which a shard gets a signal that is sent to all runs with a tag, and so to all shards.
    #[must_use]
    pub fn for_shard(signal: Self, shard: u32) -> Self {
        Self::derived(RunId(signal.0), shard, "signal by tag")
    }

    /// The id under which a run takes it: of the first of its series, so that runs that go on for each other take it once.
    ///
    /// The first 16 bytes of SHA-256 over that run's id and the id of the shard's event.
    #[must_use]
    pub fn for_run(self, first: RunId) -> Self {
        let mut hash = Sha256::new();
        hash.update(first.0.as_bytes());
        hash.update(self.0.as_bytes());
        Self::digested(hash)
    }

    fn digested(hash: Sha256) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Self(Uuid::from_bytes(bytes))
    }
}

/// Where a message stands in its topic partition. Later messages of a partition compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub ledger: u64,
    pub entry: u64,
}

impl Position {
    /// Whether `self` is the entry right after `before`, in the same ledger: nothing can stand between.
    #[must_use]
    pub fn follows(self, before: Self) -> bool {
        self.ledger == before.ledger && before.entry.checked_add(1) == Some(self.entry)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ledger, self.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_a_control_character_is_refused_by_name() {
        let error = WorkflowId::new("order\n42").expect_err("has a line feed");
        assert_eq!(error.to_string(), r#"an id must not contain control characters: "order\n42" has one at byte 5"#);
    }

    #[test]
    fn ids_have_a_least_and_a_greatest_length() {
        assert_eq!(WorkflowId::new(""), Err(InvalidId::Empty));
        assert!(WorkflowId::new("a".repeat(255)).is_ok());
        assert!(matches!(WorkflowId::new("a".repeat(256)), Err(InvalidId::TooLong { bytes: 256, .. })));
    }

    #[test]
    fn derived_ids_are_a_fixed_algorithm() {
        let run = RunId(Uuid::from_u128(1));
        assert_eq!(EventId::derived(run, 7, "settled").to_string(), "74728c7b-21a3-fc31-db3f-9ae90a7b1fd4");
        let of_shard = EventId::for_shard(EventId(Uuid::from_u128(2)), 3);
        assert_eq!(of_shard, EventId::derived(RunId(Uuid::from_u128(2)), 3, "signal by tag"));
        assert_ne!(of_shard.for_run(run), of_shard.for_run(RunId(Uuid::from_u128(3))));
    }

    #[test]
    fn what_is_sealed_for_a_tag_is_sealed_for_no_workflow_id() {
        assert!(WorkflowId::new(WorkflowId::of_tag("a").as_str()).is_err());
        assert_ne!(WorkflowId::of_tag("a"), WorkflowId::of_tag("b"));
    }

    #[test]
    fn a_position_follows_only_within_its_ledger() {
        let at = |ledger, entry| Position { ledger, entry };
        assert!(at(3, 1).follows(at(3, 0)));
        assert!(!at(4, 1).follows(at(3, 0)));
        assert!(!at(3, 2).follows(at(3, 0)));
    }
}
