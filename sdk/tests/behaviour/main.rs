//! What workflows do, seen from the engine: events in, commands out. No broker, no worker, no clock.

#![expect(clippy::unwrap_used, reason = "what fails to unwrap here fails the test")]

// The macros' output names `::everpulse`, as it does for users.
extern crate everpulse_sdk as everpulse;

mod harness;

mod activities;
mod calls;
mod cancellation;
mod concurrency;
mod continuing;
mod determinism;
mod failures;
mod families;
mod fan_out;
mod guards;
mod interceptors;
mod large;
mod patches;
mod priorities;
mod promises;
mod queries;
mod races;
mod registration;
mod retries;
mod sagas;
mod samples;
mod scopes;
mod signals;
mod standstill;
mod steps;
mod sync;
mod time;
mod updates;
