//! Runs that continue as new: one ends, and in the same frame the next one of the same workflow id begins, with a history of
//! its own.
//!
//! ```text
//!   run 0 ── continued ──► run 1 ── continued ──► run 2 ── its end is that of all of them
//!    └─ the first, by which the others are known for as long as one is open
//! ```
//! Which run comes next follows from the run and the number of its command, so that it is the same one in every replay.
//! Both are of one shard, since that follows from the workflow id.

use serde::{Deserialize, Serialize};

use crate::{EventId, RunId};

/// What a run that continues another one knows of those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// The run that somebody started.
    pub first: RunId,
    /// The one just before it.
    pub previous: RunId,
    /// How many runs came before it: 1 for the second.
    pub number: u32,
    /// The version of the one before it: its code wrote the arguments, so no older one reads them.
    pub version: u32,
}

/// The run that goes on for one whose command of this number says so. As with all runs it is the id of the start.
#[must_use]
pub fn next_run(run: RunId, no: u32) -> RunId {
    RunId(EventId::derived(run, no, "continued as new").0)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn ids_of_next_runs_are_a_fixed_algorithm() {
        let run = RunId(Uuid::from_u128(1));
        assert_eq!(next_run(run, 7).to_string(), "9d692503-f0e9-c2ae-173a-a713e80d597d");
        assert_ne!(next_run(run, 7), next_run(run, 8));
    }
}
