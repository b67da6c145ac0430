//! What authors of workflows import, and the deterministic replay of a run.
//!
//! Two halves meet here. Authors write functions with [`workflow`](macro@workflow) and
//! [`activity`](macro@activity) and use [`sleep`], [`signal`](signal::signal), [`step`](step::step) and the rest inside
//! them. The engine holds an [`Instance`](replay::Instance) of a run and feeds it one event at a time;
//! what the run asks for comes back as commands. Between the two stands an ambient context, set on the
//! thread while a workflow's future is polled.
//!
//! ```text
//!   event ─► Instance::apply ─► poll ─► sleep / call / step / signal ─► commands ─► engine
//!                                └─────────── ambient context ──────────────┘
//! ```
//!
//! The crate is pure: no tokio, no clock, no randomness of the operating system, no I/O. Whoever needs
//! a time or an attempt brings it in.

#![expect(clippy::result_large_err, reason = "failures are values here: rare, and passed on by value")]

pub mod definition;
mod error;
pub mod failure;
mod format;
pub mod options;

mod arguments;
mod call;
mod cancellation;
mod child;
mod continuation;
mod external;
mod fan_out;
mod join;
mod patch;
mod promise;
mod query;
mod race;
mod random;
mod saga;
pub mod schema;
mod scope;
mod select;
mod signal;
mod step;
mod sync;
mod timer;
mod update;
pub mod workflow;

pub mod activity;
pub mod intercept;
pub mod replay;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use call::{Call, Handle, Request};
pub use cancellation::{Cancelled, Shielded, cancelled, shielded};
pub use child::{Child, NamedChild, Starting};
pub use continuation::{ContinueAsNew, continue_as_new};
pub use definition::{ActivityDefinition, Definition, Never, WorkflowDefinition};
pub use error::Error;
pub use everpulse_macros::{activities, activity, query, signal, update, workflow};
pub use external::{Delivery, External, external};
pub use failure::Failure;
pub use fan_out::{FanOut, Gathered, Stop, fan_out};
pub use join::{JoinAll, TryJoinAll, join_all, try_join_all};
pub use options::{ParentClose, Retry};
pub use patch::{deprecate_patch, patched};
pub use promise::{CompletionToken, Promise, promise};
pub use query::{Query, on_query};
pub use race::{Elapsed, Race, Timeout, race, timeout};
pub use random::{Random, RandomRange, random, random_range, uuid};
pub use saga::{Saga, SagaFailure, saga};
pub use scope::{Scope, scope};
pub use signal::{Recv, RecvWhere, Signal, SignalStream, Signals, signal};
pub use step::{Step, step};
pub use sync::{Acquire, Guard, Mutex, Permit, Semaphore};
pub use timer::{Sleep, sleep, sleep_until};
pub use update::{RecvUpdate, Request as UpdateRequest, Responder, Update, UpdateStream, Updates, update};
pub use workflow::{info, now, publish};
