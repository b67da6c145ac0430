//! What is to be played: a seed, and what a person or the shrinking took away from it.

use std::collections::BTreeSet;
use std::fmt;

use crate::faults::Fault;

/// One play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Kinds of fault that do not happen, whatever the seed says.
    pub without: BTreeSet<Fault>,
    pub runs_max: Option<usize>,
    /// How long things go wrong, in milliseconds of virtual time.
    pub busy_ms: u64,
}

/// As long as nobody says otherwise.
pub const BUSY_MS: u64 = 18_000;

impl Plan {
    pub fn of(seed: u64) -> Self {
        Self { seed, without: BTreeSet::new(), runs_max: None, busy_ms: BUSY_MS }
    }

    pub fn runs(&self, drawn: usize) -> usize {
        self.runs_max.map_or(drawn, |max| drawn.min(max))
    }
}

/// The arguments that play it again.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        if !self.without.is_empty() {
            let names: Vec<&str> = self.without.iter().map(|fault| fault.name()).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        if let Some(runs) = self.runs_max {
            write!(f, " --runs {runs}")?;
        }
        if self.busy_ms != BUSY_MS {
            write!(f, " --busy-ms {}", self.busy_ms)?;
        }
        Ok(())
    }
}
