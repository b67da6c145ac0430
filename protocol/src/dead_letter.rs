//! Dead letters: what could not be done, kept for an operator with its whole failure chain.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::codec::Stored;
use crate::event::Event;
use crate::task::Task;

/// One message of a dead-letter topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub at: Timestamp,
    /// Why it was given up; a task's own failures stand in the task.
    pub reason: String,
    pub letter: Letter,
}

impl Stored for DeadLetter {
    const KIND: &'static str = "dead_letter";
}

/// What was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letter {
    Task(Box<Task>),
    Event(Box<Event>),
    /// Bytes that nobody could read, and the topic they came from.
    Unreadable {
        topic: String,
        bytes: Bytes,
    },
}

/// The key of a message that is no letter: whoever lists a dead-letter topic publishes one, to know when all that
/// came before was seen. Others who meet one acknowledge it.
pub const MARKER_KEY: &str = "marker";
