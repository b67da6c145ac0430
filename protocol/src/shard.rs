//! Which shard a run belongs to, and what one application fixed when it was set up.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::WorkflowId;
use crate::event::Event;

/// The name of the algorithm of [`of`], as it stands in a shard's first frame.
pub const HASH_NAME: &str = "xxh3-64";

/// The version of everything in this crate that is stored.
pub const FORMAT_VERSION: u32 = 1;

/// What an application fixed with its first frame; another value is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub format: u32,
    pub shards: u32,
    pub inbox_partitions: u32,
    pub hash: String,
}

/// A process and a stored application disagree on a value that cannot change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {stored} in this application's history, but {ours} here; {hint}")]
pub struct Mismatch {
    pub what: &'static str,
    pub stored: String,
    pub ours: String,
    pub hint: &'static str,
}

impl Config {
    /// The configuration that this build writes.
    #[must_use]
    pub fn new(shards: u32, inbox_partitions: u32) -> Self {
        Self { format: FORMAT_VERSION, shards, inbox_partitions, hash: HASH_NAME.to_owned() }
    }

    /// Compares what is stored with what this process would write.
    ///
    /// # Errors
    /// Names the first value that differs.
    pub fn check(&self, stored: &Self) -> Result<(), Mismatch> {
        const RESHARD: &str =
            "the counts are fixed when an application is set up: use another namespace for another count";
        let mismatch = |what, stored: &dyn ToString, ours: &dyn ToString, hint| Mismatch {
            what,
            stored: stored.to_string(),
            ours: ours.to_string(),
            hint,
        };
        if stored.format != self.format {
            return Err(mismatch(
                "the format version",
                &stored.format,
                &self.format,
                "run the release that wrote it, or a later one that reads it",
            ));
        }
        if stored.hash != self.hash {
            return Err(mismatch("the shard hash", &stored.hash, &self.hash, "run a release that knows it"));
        }
        if stored.shards != self.shards {
            return Err(mismatch("the count of shards", &stored.shards, &self.shards, RESHARD));
        }
        if stored.inbox_partitions != self.inbox_partitions {
            return Err(mismatch(
                "the count of inbox partitions",
                &stored.inbox_partitions,
                &self.inbox_partitions,
                RESHARD,
            ));
        }
        Ok(())
    }
}

/// The shard of a workflow id: XXH3 (64 bit) of its bytes, modulo the count of shards.
///
/// # Panics
/// Never for a count of at least one, which is what set-up guarantees.
#[must_use]
pub fn of(workflow: &WorkflowId, shards: u32) -> u32 {
    let rest = xxh3_64(workflow.as_str().as_bytes()) % u64::from(shards.max(1));
    u32::try_from(rest).expect("a rest of a division by a u32 fits a u32")
}

/// What stands where a workflow id is asked for, in events that are meant for a shard and for no run.
///
/// # Panics
/// Never: the text keeps the rules for ids.
#[must_use]
pub fn placeholder_id(shard: u32) -> WorkflowId {
    WorkflowId::new(format!("_shard-{shard}")).expect("a short text without control characters is an id")
}

/// The shard that an event is sent to: that of its workflow id, or the one that [`placeholder_id`] names in an event that is
/// meant for all runs of a shard.
#[must_use]
pub fn of_event(event: &Event, shards: u32) -> u32 {
    let named = || event.workflow_id.as_str().strip_prefix("_shard-")?.parse().ok();
    let is_of_shard = event.body.is_of_kind("signal_tagged");
    is_of_shard.then(named).flatten().filter(|shard| *shard < shards).unwrap_or_else(|| of(&event.workflow_id, shards))
}

/// The partition of the inbox that carries a shard.
#[must_use]
pub fn inbox_partition(shard: u32, inbox_partitions: u32) -> u32 {
    shard % inbox_partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_has_test_vectors() {
        let shard = |id: &str| of(&WorkflowId::new(id).expect("a good id"), 1024);
        assert_eq!([shard("order-42"), shard("a"), shard("ährenfeld")], [572, 543, 550]);
    }

    #[test]
    fn another_count_of_shards_is_refused_by_name() {
        let error = Config::new(16, 4).check(&Config::new(32, 4)).expect_err("counts differ");
        assert_eq!(
            error.to_string(),
            "the count of shards is 32 in this application's history, but 16 here; the counts are fixed when an \
             application is set up: use another namespace for another count"
        );
    }
}
