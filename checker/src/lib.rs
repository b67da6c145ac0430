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
//! [`check`] reads a broker; [`check_partitions`] takes bytes that were read already. What is trimmed cannot be judged
//! afterwards: an [`Archive`] follows history as it is written and keeps it.
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
mod run;
mod shard;

mod effects;
mod report;

mod archive;
mod backlog;
mod source;

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

pub use archive::Archive;
pub use backlog::Backlog;
pub use chain::{Void, VoidFrame};
pub use effects::{Effects, Executed};
pub use format::{Id, MarkKind, Position};
pub use report::{Counts, Kind, Report, ShardReport, Violation};
pub use run::{Command, Run, Status};

/// What is judged beyond the rules that always hold.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Names of workflows that do one step after another: their activities must settle in the order in which
    /// they were scheduled.
    pub ordered_workflows: Vec<String>,
}

/// Where to read, and what to judge.
#[derive(Clone, Default)]
pub struct Options {
    /// `pulsar://HOST:PORT`.
    pub service_url: String,
    /// `http://HOST:PORT`, for the backlog's counts.
    pub admin_url: Option<String>,
    pub token: Option<String>,
    /// `TENANT/NAMESPACE`; empty: `public/everpulse`.
    pub namespace: String,
    /// JSON lines `{"key","workflow_id","step","attempt","at_ms"}`, one per execution, written by activities.
    pub ledger: Option<PathBuf>,
    pub rules: Rules,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All but the token.
        f.debug_struct("Options")
            .field("service_url", &self.service_url)
            .field("admin_url", &self.admin_url)
            .field("namespace", &self.namespace)
            .field("ledger", &self.ledger)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Reads the history of an application up to where it ends now, and judges it.
///
/// # Errors
/// When the broker, its admin address or the ledger cannot be read; a broken rule is no error but a violation
/// in the report.
///
/// # Cancel safety
/// Dropping the future leaves nothing behind: readers are not durable.
pub async fn check(options: &Options) -> anyhow::Result<Report> {
    let ledger = match &options.ledger {
        Some(path) => {
            Some(std::fs::read_to_string(path).with_context(|| format!("cannot read the ledger {}", path.display()))?)
        }
        None => None,
    };
    let partitions = source::read_history(options, &[]).await?;
    let mut report = check_partitions(&partitions, &options.rules);
    if let Some(ledger) = ledger {
        report.judge_effects(&ledger);
    }
    if options.admin_url.is_some() {
        report.backlog = backlog::read(options).await?;
    }
    Ok(report)
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
    report
}
