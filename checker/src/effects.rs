//! Effects in the world against history: a ledger that activities write, compared with what stands.
//!
//! A line is `{"key","workflow_id","step","attempt","at_ms"}`, written by an activity when it does its work; `key`
//! is its idempotency key, `workflow id/run id/step`. That something is executed more than once is no violation
//! (activities run at least once) but counted and listed: the test that caused it knows whether it may be.
//! That something was settled as done without being executed is judged for the activities of which the ledger
//! has at least one line, since others may have nothing to write.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::format::MarkKind;
use crate::report::{Kind, Violation};
use crate::run::Run;

/// What the ledger says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// Executions.
    pub lines: usize,
    /// Different idempotency keys.
    pub keys: usize,
    pub executed_more_than_once: Vec<Executed>,
    /// Keys that history settled as done, of activities that write the ledger, without a line.
    pub never_executed: Vec<String>,
    /// Keys that no standing command asked for.
    pub without_cause: Vec<String>,
}

/// The executions of one idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Executed {
    pub key: String,
    /// The attempt of each execution, in the order of the ledger.
    pub attempts: Vec<u32>,
}

impl Executed {
    /// Whether one attempt was executed twice: more than a retry explains.
    #[must_use]
    pub fn repeats_an_attempt(&self) -> bool {
        let mut seen = HashSet::new();
        !self.attempts.iter().all(|attempt| seen.insert(attempt))
    }
}

#[derive(Deserialize)]
struct Line {
    key: String,
    #[serde(default)]
    attempt: u32,
}

/// Compares a ledger with the runs that stand.
pub fn judge(ledger: &str, runs: &[Run], violations: &mut Vec<Violation>) -> Effects {
    let mut effects = Effects::default();
    let mut executed: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (number, line) in (1_usize..).zip(ledger.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<Line>(line) {
            Ok(line) => {
                effects.lines += 1;
                executed.entry(line.key).or_default().push(line.attempt);
            }
            Err(error) => {
                let message = format!("line {number} of the ledger cannot be read: {error}");
                violations.push(Violation::of_effects(Kind::Ledger, message));
            }
        }
    }
    effects.keys = executed.len();

    let mut asked = HashMap::new();
    for run in runs {
        for command in run.commands.iter().filter(|c| matches!(c.kind, MarkKind::Activity | MarkKind::Step)) {
            asked.insert(format!("{}/{}/{}", run.workflow_id, run.run_id, command.no), (run, command));
        }
    }
    let partial: HashSet<String> = runs.iter().filter(|run| run.partial).map(|run| run.run_id.to_string()).collect();
    let mut writing: HashSet<&str> = HashSet::new();
    for key in executed.keys() {
        match asked.get(key) {
            Some((_, command)) => {
                writing.insert(&command.name);
            }
            // What asked for it may be trimmed away.
            None if key.rsplit('/').nth(1).is_some_and(|run| partial.contains(run)) => {}
            None => {
                let message = format!("{key} was executed, but no standing frame asked for it");
                violations.push(Violation::of_effects(Kind::EffectWithoutCause, message));
                effects.without_cause.push(key.clone());
            }
        }
    }
    for (key, (run, command)) in &asked {
        let done = command.settled == Some(true);
        if done && writing.contains(command.name.as_str()) && !executed.contains_key(key) {
            let label = format!("{} {} `{}`", command.kind.word(), command.no, command.name);
            let message = format!("{label} is settled as done, but was never executed");
            let violation = Violation::of_effects(Kind::NeverExecuted, message);
            violations.push(Violation { shard: Some(run.shard), ..violation }.of(run.workflow_id.clone(), run.run_id));
            effects.never_executed.push(key.clone());
        }
    }
    effects.never_executed.sort();
    effects.executed_more_than_once = executed
        .into_iter()
        .filter(|(_, attempts)| attempts.len() > 1)
        .map(|(key, attempts)| Executed { key, attempts })
        .collect();
    effects
}

impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = self.executed_more_than_once.len();
        write!(f, "effects     {} executions of {} keys, {again} keys more than once", self.lines, self.keys)?;
        for executed in self.executed_more_than_once.iter().take(20) {
            write!(f, "\n  again     {} as attempts {:?}", executed.key.escape_debug(), executed.attempts)?;
        }
        Ok(())
    }
}
