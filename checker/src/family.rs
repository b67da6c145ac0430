//! What runs of different shards have to do with each other: parents and their children, and those that end others.
//!
//! | rule | how it is seen |
//! |---|---|
//! | a command begins one run at most | no run id stands in two shards; each child names the command that asked for it |
//! | a parent knows how its child ended | the end in the parent's history is, byte for byte, that in the child's; at rest: the child has ended |
//! | no child goes on against what was agreed | at rest: a child of a run that ended has ended, or was asked to |
//! | who hears that it ended another run did so | at rest: the end that it asked for stands, by its own event |
//! | nobody waits for nothing | at rest: an open run was told of each child that ended |
//!
//! Shards are read one after the other: unless all was at rest, one may tell of what the other, read before, does not know yet.
//! What was trimmed is not known: of a child, or a parent, whose history is not whole nothing is said.

use std::collections::{HashMap, HashSet};

use crate::Rules;
use crate::format::{Id, Link, MarkKind, OnClose};
use crate::report::{Kind, Report, Violation};
use crate::run::{Command, Run, Status};

/// Judges families over all shards that were read.
pub fn check(rules: &Rules, report: &mut Report) {
    let mut violations = Vec::new();
    let mut places: HashMap<Id, usize> = HashMap::new();
    for (at, run) in report.runs.iter().enumerate() {
        if let Some(first) = places.insert(run.run_id, at) {
            let message = format!("the run stands in shard {} too", report.runs[first].shard);
            violations.push(fault(run, Kind::RunId, message));
        }
    }
    let trimmed = |shard: u32| report.shards.iter().any(|known| known.shard == shard && known.trimmed);
    let any_trimmed = report.shards.iter().any(|shard| shard.trimmed);
    let terminations: HashSet<Id> = report.runs.iter().flat_map(|run| run.terminations.iter().copied()).collect();
    let find = |id: Id| places.get(&id).map(|at| &report.runs[*at]);
    for run in &report.runs {
        // Who goes on for a child bears by what that one was asked for.
        if let Some(parent) = run.parent.filter(|_| run.continues.is_none()) {
            match find(parent.run_id) {
                // The other shard may have been read before.
                None if any_trimmed || !rules.at_rest => {}
                None => {
                    violations.push(fault(run, Kind::Family, format!("its parent {} has no history", parent.run_id)))
                }
                Some(known) if known.partial => {}
                Some(known) => {
                    let asked = known.commands.iter().find(|command| command.no == parent.step);
                    let child = asked.and_then(|command| command.child.as_ref());
                    if child.is_none_or(|child| child.run_id != run.run_id || child.taken_back) {
                        let message = format!("run {} did not ask for it by command {}", parent.run_id, parent.step);
                        violations.push(fault(run, Kind::Family, message));
                    }
                }
            }
        }
        for command in &run.commands {
            if rules.at_rest && !any_trimmed && ended_nobody(run, command, &terminations) {
                let message = format!("it was told that command {} has ended another run, and none was", command.no);
                violations.push(fault(run, Kind::Family, message));
            }
            let Some(child) = &command.child else { continue };
            let Some(known) = find(child.run_id) else {
                // A start that is older than what its shard remembers is refused without a record.
                let is_refused = child.never_began || run.status != Status::Open;
                if rules.at_rest && !child.taken_back && !any_trimmed && !is_refused {
                    violations.push(fault(run, Kind::Family, format!("child {} has no history", command.no)));
                }
                continue;
            };
            // It is known by the first of those that go on, and ends with the last one.
            let mut last = known;
            while let Some(next) = last.continued_as.and_then(find) {
                last = next;
            }
            let (known, asked) = (last, last.cancel_requested || known.cancel_requested);
            if known.status == Status::ContinuedAsNew {
                // It is not known how it went on.
                continue;
            }
            if !known.partial && !trimmed(known.shard) {
                violations.extend(told(run, command, known, rules.at_rest));
            }
            if rules.at_rest {
                violations.extend(left(run, command, known, asked));
            }
        }
    }
    report.violations.extend(violations);
}

/// Whether it was told of a termination that is in no run's history.
fn ended_nobody(run: &Run, command: &Command, terminations: &HashSet<Id>) -> bool {
    let asked = Link { run_id: run.run_id, step: command.no };
    command.kind == MarkKind::Termination
        && command.settled == Some(true)
        && !terminations.contains(&asked.termination())
}

/// What a parent heard of a child's end is what it was.
fn told(run: &Run, command: &Command, known: &Run, at_rest: bool) -> Option<Violation> {
    let child = command.child.as_ref()?;
    let heard = child.end?;
    if known.end.is_none() {
        // The child's shard may have been read before it ended.
        let message = format!("it was told that child {} has ended, which is open", command.no);
        return at_rest.then(|| fault(run, Kind::Family, message));
    }
    if known.end != Some(heard) || known.never_began != child.never_began {
        return Some(fault(
            run,
            Kind::Family,
            format!("child {} ended otherwise than its parent was told", command.no),
        ));
    }
    None
}

/// At rest nothing is left to be told, and no child is left that was to end.
fn left(run: &Run, command: &Command, known: &Run, asked: bool) -> Option<Violation> {
    let child = command.child.as_ref()?;
    let is_open = known.status == Status::Open;
    let asked = asked || !is_open;
    if command.cancelled && !asked && !child.taken_back {
        return Some(fault(run, Kind::Family, format!("child {} does not know that it is not wanted", command.no)));
    }
    if run.status == Status::Open {
        let waits = !is_open && child.end.is_none() && run.parked.is_none();
        return waits.then(|| fault(run, Kind::Family, format!("nobody told it that child {} has ended", command.no)));
    }
    let wrong = command.settled.is_none()
        && match child.on_close {
            OnClose::RequestCancel => !asked,
            OnClose::Terminate => is_open,
            OnClose::Abandon => false,
        };
    wrong.then(|| fault(run, Kind::Family, format!("child {} goes on although its parent has ended", command.no)))
}

fn fault(run: &Run, kind: Kind, message: String) -> Violation {
    let violation = Violation { shard: Some(run.shard), ..Violation::of_effects(kind, message) };
    violation.of(run.workflow_id.clone(), run.run_id)
}
