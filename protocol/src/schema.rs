//! What workflows, activities, signals and queries take and give, as the workers that serve them publish it.
//!
//! One topic of an application has all of it, from the beginning. Which of two that contradict each other stands is another
//! crate's matter.

use serde::{Deserialize, Serialize};

use crate::codec::Stored;
use crate::{Position, Timestamp};

/// What a schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Workflow,
    Activity,
    Signal,
    Query,
    Update,
}

impl Kind {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Activity => "activity",
            Self::Signal => "signal",
            Self::Query => "query",
            Self::Update => "update",
        }
    }
}

/// What one definition takes and gives: JSON schemas, as text. None where its types say nothing of themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub kind: Kind,
    /// On the wire.
    pub name: String,
    /// Of workflows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    pub at: Timestamp,
    /// What the worker was built from that published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Arguments by parameter name, or the signal or query itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<String>,
    /// The result, or the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives: Option<String>,
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
    /// What was published before it counts no more, and this says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forgotten: bool,
    /// Where the last one of this definition stands, which whoever published this had compared it with: it stands if that is
    /// the last one still. None if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Position>,
}

impl Stored for Published {
    const KIND: &'static str = "schema";
}

impl Published {
    /// What it is of, for maps.
    #[must_use]
    pub fn key(&self) -> (Kind, String, Option<u32>) {
        (self.kind, self.name.clone(), self.version)
    }

    /// What it is of, for people.
    #[must_use]
    pub fn title(&self) -> String {
        let (kind, name) = (self.kind.name(), &self.name);
        match self.version {
            Some(version) => format!("{kind} `{name}` version {version}"),
            None => format!("{kind} `{name}`"),
        }
    }
}
