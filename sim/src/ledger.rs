//! The effects in the world: what attempts did, when and where. Kept by the world, so that no crash loses a line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use everpulse_protocol::RunId;

use crate::party::Place;

/// An attempt at a step of a run.
pub type AttemptOf = (RunId, u32, u32);

/// One attempt that did its work.
#[derive(Debug, Clone)]
pub struct Effect {
    pub workflow_id: String,
    pub run_id: RunId,
    pub step: u32,
    pub attempt: u32,
    /// A step or an eager activity, done by the run's owner.
    pub local: bool,
    pub place: Place,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.local { "locally" } else { "from its queue" };
        write!(f, "by {} at {} ms {how}", self.place.party, self.place.world_ms)
    }
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub effects: Vec<Effect>,
    /// The beginnings and ends of runs that were told to those who look on.
    told: BTreeSet<(RunId, bool)>,
    /// What each execution of an attempt that reports found when it began: how far an earlier one was.
    pub begun: BTreeMap<AttemptOf, Vec<u64>>,
    /// What attempts have reported.
    beats: BTreeSet<(AttemptOf, u64)>,
}

impl Ledger {
    pub fn write(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Notes that those who look on were told that a run began, or ended. False: it was told before.
    pub fn tell(&mut self, run: RunId, ended: bool) -> bool {
        self.told.insert((run, ended))
    }

    /// An attempt that reports has begun, and finds how far an earlier one was. Gives what is wrong with that: it is something that an
    /// earlier one reported, and no less than what that one had found itself.
    pub fn began(&mut self, of: AttemptOf, from: Option<u64>) -> Option<String> {
        let (run, step, attempt) = of;
        let earlier = || (run, step, 0)..of;
        let is_known = |from| self.beats.range(((run, step, 0), 0)..(of, 0)).any(|(_, beat)| *beat == from);
        let found = from.unwrap_or(0);
        let least = self.begun.range(earlier()).filter_map(|(_, found)| found.iter().min()).max();
        let what = format!("attempt {attempt} of step {step} of {run} finds {found}");
        let fault = if from.is_some_and(|from| !is_known(from)) {
            Some(format!("{what}, which no earlier attempt reported"))
        } else {
            least.filter(|least| found < **least).map(|least| format!("{what}, and an earlier one had found {least}"))
        };
        self.begun.entry(of).or_default().push(found);
        fault
    }

    /// An attempt reports how far it is.
    pub fn beat(&mut self, of: AttemptOf, details: u64) {
        self.beats.insert((of, details));
    }

    /// Whether a party has done a step.
    pub fn has(&self, run: RunId, step: u32, party: usize) -> bool {
        let is_it = |effect: &Effect| effect.run_id == run && effect.step == step && effect.place.party == party;
        self.effects.iter().rev().any(is_it)
    }

    /// Whether anybody has done a step.
    pub fn was_executed(&self, run: RunId, step: u32) -> bool {
        self.effects.iter().any(|effect| effect.run_id == run && effect.step == step)
    }

    /// As the checker reads it: JSON lines. `ids`: the workflow ids of the runs.
    pub fn lines(&self, ids: &BTreeMap<String, String>) -> String {
        let mut lines = String::new();
        for effect in &self.effects {
            let Effect { run_id, step, attempt, place, .. } = effect;
            let id = ids.get(&run_id.to_string()).unwrap_or(&effect.workflow_id);
            let at_ms = place.world_ms;
            // Writing to a string does not fail.
            let _ = writeln!(
                lines,
                r#"{{"key":"{id}/{run_id}/{step}","workflow_id":"{id}","step":{step},"attempt":{attempt},"at_ms":{at_ms}}}"#
            );
        }
        lines
    }
}
