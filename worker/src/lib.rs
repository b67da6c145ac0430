//! Worker processes: they drive shards, run activities and relay timers.
//!
//! ```text
//! Worker ─┬─ Host ────────── inbox ─► engine threads ─► history, and through the outbox everything else
//!         ├─ ActivityRunner ─ activity.QUEUE ─► attempts ─► outbox
//!         └─ Relay ────────── timers, when due ─► outbox
//! ```
//! What a run does is decided by the engine; what stands in a topic is defined by the protocol. This crate owns the
//! processes: threads, tasks, clocks, time-outs, and the order of sends and acks.

mod error;
mod options;
mod worker;

mod cache;
mod host;
mod lanes;

mod activity;
mod dead_letter;
mod outbox;
mod permits;
mod relay;
mod schemas;
mod seldom;

mod clock;
pub mod failpoint;

#[cfg(test)]
mod trial;

pub use error::{Error, ErrorKind};
pub use everpulse_engine::Status;
pub use everpulse_protocol::size::HistorySize;
pub use everpulse_sdk::intercept::{AttemptError, Attempted, Happened, Headers, Interceptor, Next, RunEvent};
pub use options::Options;
pub use worker::{Worker, WorkerHandle};
