//! When a schedule's times are: cron and intervals in time zones, as functions of a specification and an instant.
//!
//! ```text
//! Spec ── times() ──► Times ── next_after(instant) ──► instant ── due(name, instant) ──► instant with its jitter
//!   │ texts and numbers   │ crons, intervals, a zone
//!   └─ what is stored     └─ what is asked, by the rules of the zones that this release was built with
//! ```
//!
//! Nobody here asks a clock, reads a file or draws a random number. The zones' rules change from release to release, so
//! whoever must not see that (the replay of a run) keeps what was computed, and not the computation.

mod cron;
mod error;
mod rfc3339;
mod spec;
mod times;
mod zone;

pub use error::InvalidSpec;
pub use rfc3339::Rfc3339;
pub use spec::{Interval, Spec};
pub use times::{Survey, Time, Times};
