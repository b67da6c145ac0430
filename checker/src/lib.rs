//! The judge: reads the raw history of an application and decides whether the rules held.
//!
//! It owns its own reading of the stored format and its own copy of the rules, written from their
//! descriptions: a mistake in the crates that write history must not be repeated by what judges them. So there
//! is no `everpulse-*` crate beneath it, and there shall never be one. It changes nothing: it only reads.
//!
//! ```text
//!   topics ──► source ──► (position, bytes) ──► format ──► chain: which frames stand?
//!                                                             │
//!   admin ───► backlog ─────────────────┐                     ▼
//!   ledger ──► effects ◄── what stands ─┼──────────── shard, run: did the rules hold?
//!                             │         │                     │
//!                             └─────────┴──────► report ◄─────┘
//! ```
//!
//! [`check_partitions`] takes bytes that were read already. With the feature `broker`, which is on by default, `check` reads
//! a broker. What is trimmed cannot be judged afterwards: an `Archive` follows history as it is written and keeps it.
//!
//! ```
//! use everpulse_checker::{Position, check_partitions, Rules};
//!
//! let report = check_partitions(&[vec![(Position { ledger: 3, entry: 0 }, b"not a frame".to_vec())]], &Rules::default());
//! assert_eq!(report.violations.len(), 1);
//! assert!(report.violations[0].to_string().starts_with("shard 0, position 3:0: "));
//! ```

mod format;

mod chain;
mod family;
mod kept;
mod run;
mod shard;
mod succession;
mod tagged;

mod effects;
mod report;

mod backlog;
#[cfg(feature = "broker")]
mod broker;

pub use backlog::Backlog;
#[cfg(feature = "broker")]
pub use broker::{Archive, Options, check};
pub use chain::{Void, VoidFrame};
pub use effects::{Effects, Executed};
pub use format::{Before, Id, Link, MarkKind, OnClose, Position};
pub use report::{Counts, Kind, Report, ShardReport, Violation};
pub use run::{Child, Command, Run, Status};

/// What is judged beyond the rules that always hold.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Names of workflows that do one step after another: their activities must settle in the order in which
    /// they were scheduled.
    pub ordered_workflows: Vec<String>,
    /// Nothing was on its way when history was read: what one run tells another has arrived.
    pub at_rest: bool,
}

/// Judges the partitions of a history topic, each from its earliest entry on. Does no I/O and never panics,
/// whatever the bytes are.
#[must_use]
pub fn check_partitions(partitions: &[Vec<(Position, Vec<u8>)>], rules: &Rules) -> Report {
    let mut report = Report::default();
    let shards = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
    for (shard, entries) in (0_u32..).zip(partitions) {
        shard::check(shard, shards, entries, rules, &mut report);
    }
    family::check(rules, &mut report);
    report
}
