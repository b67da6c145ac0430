//! Reads what is to be judged from a broker: history, now or as it is written, and the counts of what nobody acked.

mod archive;
mod source;
mod statistics;

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::{Report, Rules, check_partitions};

pub use archive::Archive;

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
        report.backlog = statistics::read(options).await?;
    }
    Ok(report)
}
