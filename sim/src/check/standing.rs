//! What stands: the records of each run as a reader of the raw topics finds them, and whether the code comes to the same
//! commands again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::history::{CommandKind, CommandMark, ParkedKind, Record, RecordBody};
use everpulse_protocol::{Position, RunId, WriterId};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::replay::{Command, Input, Instance, RunInfo, TurnState};

/// A message with its place on the broker's disk.
pub type Placed = (usize, Position, Bytes);

/// The records that stand, with the places of their frames on the disk.
pub struct Standing {
    /// By run, in their order.
    pub runs: BTreeMap<RunId, Vec<(Record, usize)>>,
    pub writers: Vec<BTreeSet<WriterId>>,
    pub parked: u64,
    /// Of these, runs whose code came to other commands.
    pub diverged: u64,
    /// Inputs that were taken in for another try.
    pub trials: u64,
}

impl Standing {
    pub fn of<'a>(histories: impl IntoIterator<Item = &'a [Placed]>) -> Self {
        let mut standing = Self { runs: BTreeMap::new(), writers: Vec::new(), parked: 0, diverged: 0, trials: 0 };
        for entries in histories {
            let (mut chain, mut writers) = (Chain::new(), BTreeSet::new());
            for (place, position, payload) in entries {
                // What is no frame, or behind a hole, is the checker's to find.
                let Offered::Stands(frame) = chain.offer(*position, payload) else { continue };
                writers.insert(frame.writer);
                for record in frame.records {
                    match record.body() {
                        // They say again what stood.
                        Ok(RecordBody::Carried { .. } | RecordBody::Remembered { .. }) => continue,
                        Ok(RecordBody::Parked { reason }) => {
                            standing.parked += 1;
                            standing.diverged += u64::from(reason.kind == ParkedKind::Diverged);
                        }
                        Ok(RecordBody::Received { attempt, .. }) if attempt > 0 => standing.trials += 1,
                        _ => {}
                    }
                    standing.runs.entry(record.run_id).or_default().push((record, *place));
                }
            }
            standing.writers.push(writers);
        }
        standing
    }

    /// Where the frame lies that asked for a step.
    pub fn asked(&self, run: RunId, step: u32) -> Option<usize> {
        let asks = |record: &Record| record.commands.iter().any(|mark| mark.no == step && mark.kind.is_work());
        let (_, place) = self.runs.get(&run)?.iter().find(|(record, _)| asks(record))?;
        Some(*place)
    }

    /// When a run ended, by recorded time.
    pub fn closed_at(&self, run: RunId) -> Option<u64> {
        let records = self.runs.get(&run)?;
        records.iter().find(|(record, _)| record.close.is_some()).map(|(record, _)| record.at.0)
    }

    /// The records, through the code again: the same commands after each, and the same end.
    pub fn replays(&self, registry: &Registry, faults: &mut Vec<String>) {
        for records in self.runs.values() {
            if let Err(fault) = replay(registry, records.iter().map(|(record, _)| record)) {
                faults.push(fault);
            }
        }
    }
}

/// Workflow ids of runs that are open, and that no person has to mend.
pub fn standing_still(standing: &Standing) -> Vec<String> {
    let waits = |records: &[(Record, usize)]| {
        records.iter().fold(false, |waits, (record, _)| match record.body() {
            Ok(RecordBody::Parked { reason }) => {
                ![ParkedKind::NoCode, ParkedKind::Diverged, ParkedKind::UnknownKind].contains(&reason.kind)
            }
            Ok(RecordBody::Resumed) => false,
            _ => waits,
        })
    };
    let parent = |records: &[(Record, usize)]| match records.first()?.0.body() {
        Ok(RecordBody::Spawned { parent, .. }) => Some(parent.run_id),
        _ => None,
    };
    // A child may wait for its parent, and so for whom that one waits for.
    let goes_on = |records: &&Vec<(Record, usize)>| {
        let is_open = |records: &[(Record, usize)]| records.iter().all(|(record, _)| record.close.is_none());
        let mut next = Some(records.as_slice());
        while let Some(records) = next.filter(|records| is_open(records)) {
            if waits(records) {
                return false;
            }
            next = parent(records).and_then(|run| standing.runs.get(&run)).map(Vec::as_slice);
        }
        is_open(records)
    };
    let open = standing.runs.values().filter(goes_on);
    open.filter_map(|records| records.first().map(|(record, _)| record.workflow_id.to_string())).collect()
}

fn replay<'a>(registry: &Registry, records: impl Iterator<Item = &'a Record>) -> Result<(), String> {
    let mut instance: Option<Instance> = None;
    for record in records {
        let body = record.body().map_err(|error| format!("{}: {error}", record.workflow_id))?;
        let input = match body {
            RecordBody::Started { start, version, build, .. } | RecordBody::Spawned { start, version, build, .. } => {
                let entry = registry
                    .workflow(&start.workflow, Some(version))
                    .ok_or_else(|| format!("{} is a run of unknown code", record.workflow_id))?;
                let info = RunInfo {
                    workflow_id: record.workflow_id.clone(),
                    run_id: record.run_id,
                    workflow: start.workflow.clone(),
                    version,
                    started_at: record.at,
                    tags: start.tags.clone(),
                    build,
                    headers: start.headers.clone(),
                };
                instance = Some(Instance::new(entry, info, start.args, registry.coding()));
                Input::Start
            }
            RecordBody::Signalled { name, value, .. } => Input::Signal { name, value },
            RecordBody::ActivitySettled { step, outcome, .. }
            | RecordBody::StepSettled { step, outcome }
            | RecordBody::PromiseSettled { step, outcome }
            | RecordBody::Delivered { step, outcome } => Input::Settled { step, outcome },
            RecordBody::ChildBegan { step } => Input::ChildBegan { step },
            RecordBody::ChildClosed { step, close, never_began } => {
                Input::ChildClosed { step, outcome: close.outcome, began: !never_began }
            }
            RecordBody::AttemptReported { step, report, .. } => match report.outcome() {
                Some(outcome) => Input::Settled { step, outcome },
                None => continue,
            },
            RecordBody::TimerFired { step } => Input::TimerFired { step },
            RecordBody::CancelRequested { reason } => Input::CancelRequested { reason },
            _ => continue,
        };
        let Some(instance) = instance.as_mut() else { continue };
        let turn = instance.replay(input, record.at, &record.commands);
        // Where an activity runs is its owner's choice; all else follows from the history.
        let due = |mark: &CommandMark| mark.due.filter(|_| mark.kind == CommandKind::Timer);
        let plain = |mark: &CommandMark| (mark.no, mark.kind, mark.name.clone(), due(mark));
        let marks: Vec<_> = turn.commands.iter().map(Command::mark).map(|mark| plain(&mark)).collect();
        let recorded: Vec<_> = record.commands.iter().map(plain).collect();
        if marks != recorded {
            let id = &record.workflow_id;
            return Err(format!("{id}, record {}: recorded {recorded:?}, replayed {marks:?}", record.seq));
        }
        if let TurnState::Closed(close) = turn.state
            && record.close.as_ref() != Some(&close)
        {
            return Err(format!("{} ends otherwise when it is replayed", record.workflow_id));
        }
    }
    Ok(())
}
