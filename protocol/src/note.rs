//! Notes: what the code of a run says about its commands, for people who read its history.
//!
//! A note asks for nothing and changes nothing. It stands beside the commands of a record, is never compared with a
//! replay, and a reader that does not know its kind passes over it.
//!
//! ```text
//! record ─┬─ commands: step 3, timer 4
//!         └─ notes:    scope 0 began before 3 · 3 is of scope 0 · 4 is named "cool down" · scope 0 is done before 5
//! ```

use serde::{Deserialize, Serialize};

use crate::kind::KindName;
use crate::{Failure, Payload};

/// One note of a record, in the order in which the code came to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub kind: NoteKind,
    /// Of a command its number in the run; of a scope its own, dense from 0 over the scopes that the run's code began.
    pub no: u32,
    /// The innermost scope that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
    /// What its author calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Of a scope's begin and end: the number that the next command gets, which is how the two stand among the commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u32>,
    /// What a scope came to, unless that is too large to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Payload>,
    /// How a scope failed, unless that is too large to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
}

impl Note {
    /// A note of which nothing but number and kind is said.
    #[must_use]
    pub fn new(no: u32, kind: NoteKind) -> Self {
        Self { kind, no, scope: None, name: String::new(), before: None, value: None, failure: None }
    }

    /// About how many bytes it takes in a record.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let failure = self.failure.as_deref().map_or(0, |failure| {
            let value = failure.value.as_ref().map_or(0, Payload::len);
            failure.message.len() + value + failure.chain.iter().map(String::len).sum::<usize>()
        });
        48 + self.name.len() + self.value.as_ref().map_or(0, Payload::len) + failure
    }
}

/// The kinds of [`Note`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Of a command: the scope that it stands in, or its name.
    Command,
    /// A scope begins.
    ScopeBegan,
    /// A scope has come to its end with a value.
    ScopeDone,
    /// A scope has come to its end with an error.
    ScopeFailed,
    /// A scope was dropped before it came to its end.
    ScopeDropped,
    /// What a later release notes.
    #[serde(untagged)]
    Unknown(KindName),
}
