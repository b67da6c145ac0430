//! Parked runs are tried again: when they were loaded, and then every half minute, as long as something happens to the shard. A
//! try costs a replay, so a round makes few of them, and the next round goes on.

use std::collections::{BTreeSet, VecDeque};

use everpulse_protocol::history::ParkedKind;
use everpulse_protocol::{RunId, Timestamp};

use super::Shard;
use crate::round::Round;
use crate::wake;

/// Parked runs are tried again no more often than this.
const PARKED_MS: u64 = 30_000;

/// So many are tried in one round.
const TRIES_PER_ROUND: usize = 16;

/// The tries of one shard.
#[derive(Debug, Default)]
pub(super) struct Revival {
    /// Runs that are still to be tried.
    waiting: VecDeque<RunId>,
    /// When it began last, by the time of what is loaded now.
    begun: Timestamp,
    /// Runs that panic or are stuck in this process.
    given_up: BTreeSet<RunId>,
    /// Runs that did not do the same twice in this process: a replay proves nothing of them.
    unsteady: BTreeSet<RunId>,
    /// How many tries there were.
    pub tries: u64,
    /// How many of them let a run go on.
    pub successes: u64,
}

impl Revival {
    /// What was loaded is thrown away. So is when runs were tried: time may have been another one there.
    pub fn forget(&mut self) {
        self.waiting.clear();
        self.begun = Timestamp::default();
    }

    /// A frame stands by which runs go on, or are parked because they did not do the same twice.
    pub fn stands(&mut self, revived: &[RunId], unsteady: &[RunId]) {
        self.successes += revived.len() as u64;
        for run in revived {
            self.unsteady.remove(run);
        }
        self.unsteady.extend(unsteady);
    }

    /// When there is a round to be made for it.
    pub fn deadline(&self) -> Option<Timestamp> {
        (!self.waiting.is_empty()).then_some(self.begun)
    }
}

impl Shard {
    /// All was loaded just now.
    pub(super) fn begin_revival(&mut self, at: Timestamp) {
        self.revival.begun = at;
        // The same code in the same process comes to the same end.
        let tried = self.parked_runs(|run, kind| {
            wake::is_retried(Some(kind)) || kind != ParkedKind::Poisonous && !self.revival.given_up.contains(&run)
        });
        self.revival.waiting = tried.into();
    }

    /// Tries some parked runs again, when it is time.
    pub(super) fn revive_parked(&mut self, round: &mut Round, number: u64, at: Timestamp) {
        let is_over = self.revival.waiting.is_empty();
        if is_over && !self.book.parked.is_empty() && self.revival.begun.0 + PARKED_MS <= at.0 {
            self.revival.begun = at;
            self.revival.waiting = self.parked_runs(|_, kind| wake::is_retried(Some(kind))).into();
        }
        for _ in 0..TRIES_PER_ROUND {
            let Some(run) = self.revival.waiting.pop_front() else { return };
            let kind = self.book.runs.get(&run).and_then(|run| run.parked.as_ref()).map(|parked| parked.kind);
            if let Some(kind) = kind
                && (wake::is_retried(Some(kind)) || self.revival.given_up.insert(run))
            {
                self.revival.tries += 1;
                self.applier(round, number, at).revive(run, false);
            }
        }
    }

    /// Parked runs whose reason may be gone.
    fn parked_runs(&self, tried: impl Fn(RunId, ParkedKind) -> bool) -> Vec<RunId> {
        let reason =
            |run: &RunId| self.book.runs.get(run).and_then(|run| run.parked.as_ref()).map(|parked| parked.kind);
        let is_tried =
            |run: &&RunId| !self.revival.unsteady.contains(run) && reason(run).is_some_and(|kind| tried(**run, kind));
        self.book.parked.iter().filter(is_tried).copied().collect()
    }
}
