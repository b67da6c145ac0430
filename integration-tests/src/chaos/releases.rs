//! Which release wrote what, when workers of two releases share the shards.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use everpulse_checker::{Archive, Report};
use everpulse_protocol::RunId;
use everpulse_protocol::codec::decode;
use everpulse_protocol::history::Frame;
use serde_json::{Value, json};

/// Counts what passed from one release to the other.
#[derive(Debug)]
pub struct Releases<'a> {
    /// The writers of the earlier one.
    earlier: &'a BTreeSet<String>,
    frames_of_earlier: usize,
    /// Frames that stand on one of the other release.
    handed_over: usize,
    runs: usize,
    runs_of_both: usize,
}

impl<'a> Releases<'a> {
    #[must_use]
    pub fn of(earlier: &'a BTreeSet<String>) -> Self {
        Self { earlier, frames_of_earlier: 0, handed_over: 0, runs: 0, runs_of_both: 0 }
    }

    /// Takes a shard's history.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub fn look(&mut self, archive: &Archive, shard: u32, report: &Report) -> Result<()> {
        if self.earlier.is_empty() {
            return Ok(());
        }
        let void: BTreeSet<_> = report.shards.iter().flat_map(|of| &of.void).map(|void| void.position).collect();
        // By run: whether this release wrote of it, and whether the earlier one did.
        let mut wrote: BTreeMap<RunId, [bool; 2]> = BTreeMap::new();
        let mut last = None;
        for (position, bytes) in archive.entries(shard)? {
            let Ok(frame) = decode::<Frame>(&bytes) else { continue };
            if void.contains(&position) {
                continue;
            }
            let earlier = self.earlier.contains(&frame.writer.to_string());
            self.frames_of_earlier += usize::from(earlier);
            self.handed_over += usize::from(last.replace(earlier).is_some_and(|last| last != earlier));
            for record in &frame.records {
                wrote.entry(record.run_id).or_default()[usize::from(earlier)] = true;
            }
        }
        self.runs += wrote.len();
        self.runs_of_both += wrote.values().filter(|by| **by == [true, true]).count();
        Ok(())
    }

    /// Nothing when there was one release.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if self.earlier.is_empty() {
            return Value::Null;
        }
        json!({
            "frames_of_the_earlier_release": self.frames_of_earlier,
            "frames_on_one_of_the_other_release": self.handed_over,
            "runs": self.runs,
            "runs_that_both_wrote_of": self.runs_of_both,
        })
    }
}
