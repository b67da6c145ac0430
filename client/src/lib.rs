//! Dispatches workflows and addresses their runs, from any process.
//!
//! ```text
//! Client ─┬─ start(checkout(order)) ──► Start ──await──► Run ─┬─ result, describe
//!         ├─ run(checkout, "order-42") ──────────────────► Run ─┤
//!         │                                                   └─ signal, update, cancel, terminate, resume
//!         ├─ signal_tag("customer:42", Moved { .. }) ─► all open runs that carry the tag
//!         ├─ complete(&token, value), fail(&token, error), activity(&token)
//!         ├─ schedule("nightly") ─► create, describe, pause, trigger, backfill, update, delete
//!         └─ dead_letters("payments") ─► list, show, redrive, drop
//! ```
//!
//! Everything that is told or asked is an event in the inbox, at least once and under an id of its own, and counts
//! once. Answers come over a topic that keeps nothing, so a question is asked again, with back-off, until it is
//! answered. When no worker is alive, results and descriptions are read from history.
//!
//! ```no_run
//! use everpulse_client::{Client, IdPolicy};
//! # use everpulse_sdk as everpulse;
//! # #[everpulse::workflow(crate = everpulse_sdk)]
//! # async fn checkout(order: String, cents: u64) -> Result<u64, everpulse::Error> { Ok(cents) }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("pulsar://127.0.0.1:6650/public/everpulse").await?;
//! let run = client.start(checkout("book".to_owned(), 4_200)).id("order-42").policy(IdPolicy::Attach).await?;
//! let cents = run.result().await?;
//!
//! // From any other process, by its id:
//! let view = client.run(checkout, "order-42").describe().await?;
//! println!("{} waits for {:?}", view.workflow, view.pending);
//! # Ok(()) }
//! ```
//!
//! The crate runs no workflow code and keeps no state: a client can be dropped at any time, and its runs go on.

pub mod intercept;

mod client;
mod completion;
mod run;
mod start;
mod tagged;
mod update;

pub mod schedule;

mod dead_letter;
mod error;
mod untyped;

mod core;
mod history;
mod requests;

pub use client::{Client, Options};
pub use completion::Attempt;
pub use dead_letter::{DeadLetters, LetterId, Listed};
pub use error::{Error, ErrorKind, ResultError, UpdateError};
pub use everpulse_protocol::Headers;
pub use everpulse_protocol::dead_letter::{DeadLetter, Letter};
pub use everpulse_protocol::event::IdPolicy;
pub use everpulse_protocol::view::{OpenUpdate, PendingStep, RunStatus};
pub use everpulse_protocol::{InvalidToken, RunId, Timestamp, WorkflowId};
pub use everpulse_transport::Address;
pub use intercept::Interceptor;
pub use run::{Description, Run};
pub use schedule::{Overlap, Schedule};
pub use start::Start;
pub use tagged::{Reached, SignalTag};
pub use untyped::Untyped;
pub use update::{Requesting, Updating};
