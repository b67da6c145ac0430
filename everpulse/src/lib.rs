//! Durable workflows on Apache Pulsar, in plain async Rust.
//!
//! One dependency, one prelude: this crate holds nothing of its own, it gathers what users need.

pub use everpulse_sdk::{
    ActivityDefinition, Call, Definition, Error, Failure, Handle, Never, Retry, Signal, WorkflowDefinition, activities,
    activity, info, join, join_all, now, publish, random, random_range, select, shielded, signal, sleep, sleep_until,
    step, try_join, try_join_all, uuid, workflow,
};
pub use everpulse_sdk::{definition, failure, options};

#[cfg(feature = "client")]
pub use everpulse_client::{self as client, Client, IdPolicy, Run};
#[cfg(feature = "worker")]
pub use everpulse_worker::{self as worker, Worker, WorkerHandle};

pub use everpulse_protocol::{RunId, WorkflowId};

#[doc(hidden)]
pub use everpulse_sdk::__private;

/// What authors of workflows and activities use, for `use everpulse::prelude::*`.
pub mod prelude {
    pub use everpulse_sdk::{
        Failure, Retry, activities, activity, join, join_all, now, publish, select, shielded, signal, sleep,
        sleep_until, step, try_join, try_join_all, workflow,
    };
    pub use std::time::Duration;

    #[cfg(feature = "client")]
    pub use everpulse_client::Client;
    #[cfg(feature = "worker")]
    pub use everpulse_worker::Worker;
}
