//! What every party has: a clock of its own, chance, and a list of what it wants done.

use everpulse_protocol::Timestamp;
use everpulse_sdk::intercept::{Happened, RunEvent};

use crate::counts::Counts;
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::wire::{Act, Timer};

/// What a party is given while it handles something.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// By its own clock.
    pub now: Timestamp,
    pub dice: &'a mut Dice,
    pub acts: &'a mut Vec<Act>,
    pub ledger: &'a mut Ledger,
    pub counts: &'a mut Counts,
    /// What breaks a rule at once.
    pub violations: &'a mut Vec<String>,
    /// The place in the world and in time, for the ledger.
    pub place: Place,
}

/// Where and when something is done, as the world knows it.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub party: usize,
    pub world_ms: u64,
    /// How much the broker's disk holds.
    pub stored: usize,
}

impl Ctx<'_> {
    /// Hears what those are told who look on at runs.
    pub fn observe(&mut self, events: &[RunEvent]) {
        for event in events {
            let RunEvent { workflow_id, run_id, what, .. } = event;
            let ended = match what {
                Happened::Started { .. } => false,
                Happened::Ended { .. } => true,
                _ => continue,
            };
            if !self.ledger.tell(*run_id, ended) {
                self.violations.push(format!("{workflow_id}: that run {run_id} {what:?} was told twice"));
            }
        }
    }

    pub fn remind(&mut self, after_ms: u64, timer: Timer) {
        self.acts.push(Act::Remind { after_ms, timer });
    }
}
