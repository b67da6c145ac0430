//! Failures of activities, steps and runs as they are stored: readable without the author's type.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Payload, coding};

/// What is left of the words of a failure that is [shortened](Failure::shortened).
const WORDS_BYTES_MAX: usize = 2 * 1024;

/// What kind of failure it was. Other releases may know more kinds; those are kept as they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The author's code returned an error that is final.
    Failed,
    /// All attempts failed; the failure is that of the last one.
    Exhausted,
    TimedOut,
    Cancelled,
    Terminated,
    Panicked,
    /// A value could not be decoded as the type that the code names.
    Undecodable,
    /// There is no code of that name (or version) where it was to run.
    NotFound,
    /// A child's workflow id belongs to another run, which is open or has ended not long ago.
    Taken,
    /// An interceptor of the worker did not let the attempt begin.
    Refused,
    /// The run ended, and another one goes on for it.
    ContinuedAsNew,
    /// The run's history became longer than its worker puts up with.
    HistoryExceeded,
    #[serde(untagged)]
    Unknown(String),
}

/// A failure on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// The name of the author's error type, or of ours.
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub type_name: String,
    /// The error's `Display`.
    pub message: String,
    /// The `Display` of each `source()`, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// The error's own value, for a reader that has its type; or message, chain and value as one, where nobody without a key is
    /// to read them ([`sealed`](Self::sealed)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Payload>,
    /// How many attempts there were, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The next attempt is to wait so long, whatever the retry policy says; in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What kind of failure the last attempt's was, when `kind` says that the attempts ran out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<FailureKind>,
}

impl Failure {
    /// A failure without a value of the author's.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            type_name: String::new(),
            message: message.into(),
            chain: Vec::new(),
            value: None,
            attempts: None,
            retry_after_ms: None,
            last: None,
        }
    }

    /// What it says, if that is sealed. Other words stand in the places of message and chain meanwhile.
    #[must_use]
    pub fn sealed(&self) -> Option<&Payload> {
        self.value.as_ref().filter(|value| coding::is_words(value))
    }

    /// About how many bytes its words and its value take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let chain: usize = self.chain.iter().map(String::len).sum();
        self.message.len() + chain + self.value.as_ref().map_or(0, Payload::len)
    }

    /// The same failure without what is too large to be told, and why that is left out.
    #[must_use]
    pub fn shortened(mut self, why: &str) -> Self {
        self.message.truncate(self.message.floor_char_boundary(WORDS_BYTES_MAX));
        let message = format!("{} ({why})", self.message);
        Self { message, chain: Vec::new(), value: None, ..self }
    }

    /// The same failure, said to be the last of so many attempts.
    #[must_use]
    pub fn exhausted(self, attempts: u32) -> Self {
        let last = self.last.or(Some(self.kind));
        Self { kind: FailureKind::Exhausted, attempts: Some(attempts), last, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.chain {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}
