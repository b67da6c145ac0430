//! Schedules: runs of a workflow of ours that begin others at their times, by cron and intervals in time zones.
//!
//! ```text
//! client ── create, pause, trigger, .. ──► run of `everpulse.schedule` ── at each time ──► runner ──► run `NAME-<time>`
//!                                             │ State: what is decided, and what is next
//!                                             └ Times: when, as functions of a specification and an instant
//! ```
//!
//! Nobody here asks a clock, reads a file or draws a random number. The zones' rules change from release to release, so
//! the run computes times in steps, and its replay takes what they came to: `docs/decisions/times-of-a-schedule.md`. How
//! times, overlaps and histories are dealt with stands in `docs/decisions/schedules-are-runs.md`.

mod cron;
mod error;
mod rfc3339;
mod spec;
mod times;
mod zone;

mod asked;
mod compute;
mod control;
mod done;
mod plan;
mod run;
mod runner;
mod state;

pub use control::{Cause, Control, Counts, Describe, End, Paused, Recent, View};
pub use error::InvalidSpec;
pub use plan::{
    Action, CATCH_UP_MIN_MS, CATCH_UP_MS, ID_PREFIX, InvalidName, NAME_BYTES_MAX, Overlap, Plan, workflow_id,
};
pub use rfc3339::{InvalidTime, Rfc3339};
pub use run::{TAG_SCHEDULE, TAG_SCHEDULED_AT, WORKFLOW, schedule, scheduled_at};
pub use runner::{RUNNER, Scheduled, scheduled_run};
pub use spec::{Interval, Spec};
pub use state::State;
pub use times::{Survey, Time, Times};
