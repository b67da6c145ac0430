//! An embedded single-node broker that speaks Apache Pulsar's binary protocol.
//!
//! It knows nothing of workflows. Any Pulsar client works on it; the scale-out is Apache Pulsar itself, by
//! another URL. Use it in a process with [`Embedded::open`], or run the binary `everpulse-broker`.
//!
//! ```text
//! client ─► server ─► wire          bytes to commands and back
//!             │
//!             ├────► semantics      what they mean: a state machine without sockets, clock or files
//!             ├────► storage        a log with group commit, snapshots, recovery
//!             └────► admin          the REST API
//! embedded: which process is the broker of a directory
//! ```

pub mod admin;
pub mod embedded;
mod error;
mod secret;
pub mod semantics;
pub mod server;
pub mod storage;
pub mod timestamp;
pub mod wire;

pub use embedded::{Embedded, Endpoint, Mode, Options};
pub use error::{Error, ErrorKind};
pub use secret::Secret;
#[cfg(feature = "fuzzing")]
pub use server::fuzzing;
