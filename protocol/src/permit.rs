//! Permits of a queue, of which there are so many for all workers together: what workers say to each other of them.
//!
//! A topic has what was said, in one order, and what holds follows from that order alone: whoever reads it knows who has how
//! many. A *session* is one worker's part in it, from its first notice to its last. What the rules are is another
//! crate's matter.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Position;
use crate::codec::Stored;

/// One worker's part, as long as it is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One message of a topic of permits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub session: SessionId,
    /// From 1, without gaps: what comes twice counts once.
    pub number: u64,
    /// It takes part from here on, and knows nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joins: Option<Joins>,
    /// So many permits more are wanted.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub asks: u32,
    /// So many are given back.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub returns: u32,
    /// Others that were not heard for long. They are over, unless they have said something meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<Silent>,
    /// It says no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
    /// For those that come: what it knew, and up to where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Box<Account>>,
}

impl Stored for Notice {
    const KIND: &'static str = "permits";
}

/// How many permits there are, and what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// At least one.
    pub limit: u32,
    /// Not 0: a permit is not given back when its attempt ends, but so long after that began. For a rate.
    #[serde(default, skip_serializing_if = "is_no_time")]
    pub rest_ms: u64,
}

/// The first notice of a session, and each other one of one that does not know what holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joins {
    /// Those of all workers from here on; none: those that hold. A worker that takes part anew has said its own before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// Nobody told what holds, so nobody has any: unless somebody who knows better spoke after this position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Alone>,
}

/// Where a session began to hear nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alone {
    /// None: at the topic's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Position>,
}

/// A session that is over if this was its last notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silent {
    pub session: SessionId,
    pub number: u64,
}

/// What holds at a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The last notice that it follows from.
    pub at: Position,
    pub terms: Terms,
    /// In the order of their ids.
    pub members: Vec<Member>,
    /// Who waits, whoever is next first; each is there once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<SessionId>,
    /// Sessions that ended last, and do not take part again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over: Vec<SessionId>,
}

/// One session in an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub session: SessionId,
    /// That of its last notice.
    pub number: u64,
    /// Permits that it has.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub holds: u32,
    /// Permits that it waits for.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub waits: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_nothing(count: &u32) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_no_time(rest_ms: &u64) -> bool {
    *rest_ms == 0
}
