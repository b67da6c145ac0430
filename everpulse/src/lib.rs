//! Durable workflows on Apache Pulsar, in plain async Rust.
//!
//! One dependency, one prelude: this crate holds nothing of its own, it gathers what users need.
//!
//! ```no_run
//! use everpulse::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! # #[derive(Serialize, Deserialize)] struct Order { card: String, cents: u64 }
//! # #[derive(Serialize, Deserialize)] struct Receipt { id: u64 }
//! # #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
//! # enum PaymentError { #[error("declined")] Declined }
//! # async fn ask_the_bank(_card: String, cents: u64) -> Result<Receipt, PaymentError> { Ok(Receipt { id: cents }) }
//! #[activity(timeout = "30s", retry(initial = "200ms", max_attempts = 5))]
//! async fn charge(card: String, cents: u64) -> Result<Receipt, PaymentError> {
//!     ask_the_bank(card, cents).await                                 // any I/O
//! }
//!
//! #[activity]
//! async fn refund(receipt: u64) -> Result<(), PaymentError> {
//!     # let _ = receipt;
//!     Ok(())
//! }
//!
//! #[signal]
//! #[derive(Serialize, Deserialize)]
//! struct Approved {
//!     ok: bool,
//! }
//!
//! #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
//! enum CheckoutError {
//!     #[error("the payment failed: {0}")]
//!     Payment(#[from] Failure<PaymentError>),
//!     #[error("nobody approved it")]
//!     Expired,
//! }
//!
//! #[workflow(version = 1)]
//! async fn checkout(order: Order) -> Result<Receipt, CheckoutError> {
//!     let receipt = charge(order.card, order.cents).await?;           // remote, retried, recorded
//!     let approved = select! {
//!         a = signal::<Approved>().recv() => a.ok,
//!         _ = sleep(Duration::from_secs(86_400)) => false,            // survives restarts
//!     };
//!     if !approved {
//!         refund(receipt.id).await?;
//!         return Err(CheckoutError::Expired);
//!     }
//!     Ok(receipt)
//! }
//!
//! # #[cfg(all(feature = "worker", feature = "client"))] mod processes { use super::*;
//! // A worker binary.
//! async fn serve(url: &str) -> Result<(), everpulse::worker::Error> {
//!     Worker::connect(url).await?.workflow(checkout).activity(charge).activity(refund).run().await
//! }
//!
//! // Any other process.
//! async fn order(url: &str, order: Order) -> Result<Receipt, Box<dyn std::error::Error>> {
//!     let client = Client::connect(url).await?;
//!     let run = client.start(checkout(order)).id("order-42").await?;
//!     run.signal(Approved { ok: true }).await?;
//!     Ok(run.result().await?)                                         // typed
//! }
//! # }
//! # fn main() {}
//! ```

pub use everpulse_schedule::scheduled_at;
pub use everpulse_sdk::intercept::{self, Headers};
pub use everpulse_sdk::{
    ActivityDefinition, Call, Child, CompletionToken, ContinueAsNew, Definition, Delivery, Elapsed, Error, External,
    Failure, FanOut, Gathered, Guard, Handle, Mutex, Never, ParentClose, Permit, Promise, Query, Retry, Saga,
    SagaFailure, Scope, Semaphore, Signal, Starting, Stop, WorkflowDefinition, activities, activity, cancelled,
    continue_as_new, deprecate_patch, external, fan_out, info, join, join_all, now, on_query, patched, promise,
    publish, query, race, random, random_range, saga, scope, select, shielded, signal, sleep, sleep_until, step,
    timeout, try_join, try_join_all, update, uuid, workflow,
};
pub use everpulse_sdk::{Responder, Update, UpdateRequest, Updates};
pub use everpulse_sdk::{definition, failure, options};

#[cfg(feature = "client")]
pub use everpulse_client::{self as client, Client, IdPolicy, Overlap, Run, Schedule};
#[cfg(feature = "worker")]
pub use everpulse_worker::{self as worker, Worker, WorkerHandle};

#[cfg(feature = "testing")]
pub use everpulse_testing as testing;

#[cfg(any(feature = "client", feature = "worker"))]
pub use everpulse_blobs::{self as blobs, Blobs};
pub use everpulse_codecs::{self as codecs, Codec};
#[cfg(feature = "encryption")]
pub use everpulse_codecs::{Key, Keys};
#[cfg(feature = "client")]
pub use everpulse_schemas as schema;
#[cfg(feature = "schemas")]
pub use schemars::{self, JsonSchema};

pub use everpulse_protocol::golden::{Golden, GoldenError};
pub use everpulse_protocol::{RunId, WorkflowId};

#[doc(hidden)]
pub use everpulse_sdk::__private;

/// What authors of workflows and activities use, for `use everpulse::prelude::*`.
pub mod prelude {
    pub use everpulse_sdk::{
        Failure, ParentClose, Retry, activities, activity, cancelled, continue_as_new, deprecate_patch, external, join,
        join_all, now, on_query, patched, promise, publish, query, race, random, random_range, saga, select, shielded,
        signal, sleep, sleep_until, step, timeout, try_join, try_join_all, update, uuid, workflow,
    };
    pub use std::time::Duration;

    #[cfg(feature = "client")]
    pub use everpulse_client::Client;
    #[cfg(feature = "worker")]
    pub use everpulse_worker::Worker;
}

/// The README's samples, compiled as tests.
#[cfg(all(doctest, feature = "worker", feature = "client"))]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
