//! What the broker means: a state machine without sockets, files, clock, tasks or randomness.
//!
//! Inputs are `handle_*` calls with the time as an argument; what follows from them is taken with
//! [`Broker::poll_effects`]. Two effects go to the storage, [`Effect::Append`] and [`Effect::Log`], in the
//! order in which they came out; for each of them, in that order, exactly one
//! [`Broker::handle_appended`] or [`Broker::handle_append_failed`] comes back. So a simulation can be the
//! network, the disk and the clock.
//!
//! ```text
//! connection ──handle_publish──► Append ──► storage ──handle_appended──► Receipt, Deliver ──► connections
//! ```
//! Payloads pass through and are never kept; what stays per message is an index entry of some bytes ([`packed`]).

pub mod backlog;
pub mod batch;
mod broker;
pub mod catalog;
pub mod change;
pub mod compaction;
pub mod consume;
pub mod cursor;
pub mod effect;
pub mod entry;
pub mod hash;
mod housekeeping;
mod idle;
pub mod limits;
pub mod listing;
pub mod log;
pub mod meter;
pub mod name;
pub mod packed;
pub mod policies;
pub mod produce;
pub mod publish;
pub mod queue;
mod quota;
pub mod restore;
pub mod schema;
pub mod seek;
pub mod selector;
pub mod stats;
pub mod subscription;
mod terminate;
#[cfg(test)]
mod tests;
mod topic;

pub use broker::Broker;
pub use change::{Change, Snapshot};
pub use consume::{MessageId, Subscribe};
pub use effect::{Effect, Refusal, RefusalKind, Source};
pub use entry::{Entry, Facts, Location, Position};
pub use name::TopicName;
pub use policies::Policies;
pub use produce::{Access, CreateProducer};
pub use publish::Publish;
pub use schema::{Schema, SchemaKind};
pub use seek::Start;
pub use subscription::{ConsumerKey, Kind};

/// A client connection; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Whose a connection is, as the stats show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub address: String,
    pub version: String,
}

/// A topic; never reused, so that what a deleted topic left in the log is not taken for its namesake's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TopicId(pub u64);
