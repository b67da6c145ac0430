//! What is told to a schedule, what it is asked, and what it answers.

use everpulse_protocol::Timestamp;
use everpulse_sdk as everpulse;
use serde::{Deserialize, Serialize};

use crate::plan::{Overlap, Plan};

/// What is told to a schedule. All of it is one signal, so that it is done in the order in which it came.
#[everpulse::signal(name = "everpulse.schedule.control", crate = everpulse)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    Pause {
        note: String,
    },
    Unpause,
    /// Begin a run now.
    Trigger {
        overlap: Overlap,
    },
    /// Do the times from the first up to and without the second, but those that were begun already.
    Backfill {
        from: Timestamp,
        until: Timestamp,
        overlap: Overlap,
    },
    Update {
        plan: Box<Plan>,
        /// Only if the schedule has been updated so many times.
        revision: u64,
        /// By which whoever asked sees that it was done.
        id: String,
        /// How many times are still to be done stays as it is by then.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keeps_remaining: bool,
    },
    /// It ends; its runs go on.
    Delete,
}

/// Asks a schedule how it stands.
#[everpulse::query(reply = View, name = "everpulse.schedule.describe", crate = everpulse)]
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Describe {
    /// Only times after it are listed.
    pub now: Timestamp,
    /// So many of the next times.
    pub coming: usize,
}

/// How a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct View {
    pub name: String,
    pub plan: Plan,
    /// How many times it was updated.
    pub revision: u64,
    /// The ids of the last updates.
    #[serde(default)]
    pub updates: Vec<String>,
    #[serde(default)]
    pub paused: Option<Paused>,
    /// The next times, if it is not paused until then.
    pub coming: Vec<Timestamp>,
    /// The newest last.
    pub recent: Vec<Recent>,
    /// How many of its runs are open.
    pub open: usize,
    /// How many triggers and ranges to be done again wait for their turn.
    pub asked: usize,
    pub counts: Counts,
}

/// A schedule that begins nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub since: Timestamp,
    pub note: String,
}

/// A run that a schedule began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Recent {
    /// The time that was done.
    pub at: Timestamp,
    pub workflow_id: String,
    pub cause: Cause,
    pub begun_at: Timestamp,
    /// None: it is open, or about to begin.
    #[serde(default)]
    pub end: Option<End>,
}

/// Why a run was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    Time,
    Trigger,
    Backfill,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    Completed,
    Failed {
        message: String,
    },
    /// Or terminated.
    Cancelled,
    /// A run of that time is known already: no other was begun.
    Known,
}

/// What became of times and of runs, since the schedule was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Runs that were begun, for whatever cause; those that were known already are not counted.
    pub begun: u64,
    pub completed: u64,
    /// Of those that were begun: failed, cancelled or terminated.
    pub failed: u64,
    /// Times that were left for an open run, or at an update or a pause.
    pub skipped: u64,
    /// Times that nobody could do until it was too late.
    pub missed: u64,
    /// Times of which a run is known already.
    pub known: u64,
}
