//! What stands: the records of each run as a reader of the raw topics finds them, and whether the code comes to the same
//! commands again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::event::{EventBody, Outcome};
use everpulse_protocol::history::{CommandKind, CommandMark, ParkedKind, Record, RecordBody};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{EventId, Position, RunId, WorkflowId, WriterId};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::replay::{Command, Input, Instance, RunInfo, TurnState};

use crate::workflows::{NEWER, OLDER};

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
    /// Signals that went along with a run which went on for another.
    pub handed_on: u64,
    /// Signals to all runs with a tag, in each that took one.
    pub tagged: u64,
    /// Runs that recorded the newer edit of the code.
    pub edits: u64,
}

impl Standing {
    pub fn of<'a>(histories: impl IntoIterator<Item = &'a [Placed]>) -> Self {
        let mut standing = Self {
            runs: BTreeMap::new(),
            writers: Vec::new(),
            parked: 0,
            diverged: 0,
            trials: 0,
            handed_on: 0,
            tagged: 0,
            edits: 0,
        };
        for entries in histories {
            let (mut chain, mut writers) = (Chain::new(), BTreeSet::new());
            for (place, position, payload) in entries {
                // What is no frame, or behind a hole, is the checker's to find.
                let Offered::Stands(frame) = chain.offer(*position, payload) else { continue };
                writers.insert(frame.writer);
                for record in frame.records {
                    match record.body() {
                        // They say again what stood.
                        Ok(
                            RecordBody::Carried { .. } | RecordBody::Remembered { .. } | RecordBody::TagReached { .. },
                        ) => continue,
                        Ok(RecordBody::SignalledByTag { .. }) => standing.tagged += 1,
                        Ok(RecordBody::Parked { reason }) => {
                            standing.parked += 1;
                            standing.diverged += u64::from(reason.kind == ParkedKind::Diverged);
                        }
                        Ok(RecordBody::Received { attempt, .. }) if attempt > 0 => standing.trials += 1,
                        _ => {}
                    }
                    standing.edits += u64::from(has_edit(&record, NEWER));
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

    /// Runs that began before the newer edit, and went on without it when all workers had it.
    pub fn unedited(&self, all_have_it_ms: u64) -> u64 {
        let went_on = |records: &&Vec<(Record, usize)>| {
            let (mut records, last) = (records.iter(), records.last());
            last.is_some_and(|(last, _)| last.close.is_some() && last.at.0 > all_have_it_ms)
                && records.any(|(record, _)| has_edit(record, OLDER))
        };
        let runs = self.runs.values().filter(went_on);
        runs.filter(|records| !records.iter().any(|(record, _)| has_edit(record, NEWER))).count() as u64
    }

    /// All updates that were taken, by their ids, with their answers.
    pub fn updates(&self) -> BTreeMap<String, Option<Outcome>> {
        let mut updates = BTreeMap::new();
        for (record, _) in self.runs.values().flatten() {
            if let Ok(RecordBody::UpdateAccepted { id, .. }) = record.body() {
                // Where it went along, another run has it too.
                updates.entry(id).or_insert(None);
            }
            for mark in record.commands.iter().filter(|mark| mark.kind == CommandKind::Answer) {
                updates.insert(mark.name.clone(), mark.answer.as_deref().cloned());
            }
        }
        updates
    }

    /// The events that requested what was taken.
    pub fn requested(&self) -> BTreeSet<EventId> {
        let taken = |record: &Record| matches!(record.body(), Ok(RecordBody::UpdateAccepted { .. }));
        self.runs.values().flatten().filter(|(record, _)| taken(record)).map(|(record, _)| record.event).collect()
    }

    /// Runs that go on for each other take an update once by its id, from whichever request, while ids are remembered.
    pub fn taken_twice(&self, memory_ms: u64, skew_ms: u64, faults: &mut Vec<String>) {
        let mut taken: BTreeMap<(RunId, String), (EventId, u64)> = BTreeMap::new();
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.sort_by_key(|(_, records)| records.first().map(|(record, place)| (record.at, *place)));
        for (run, records) in runs {
            let first = records.iter().find_map(|(record, _)| match record.body() {
                Ok(RecordBody::Continued { continues, .. }) => Some(continues.first),
                _ => None,
            });
            // It is known from its end on for so long.
            let ended =
                records.iter().find(|(record, _)| record.close.is_some()).map_or(u64::MAX, |(last, _)| last.at.0);
            for (record, _) in records {
                let Ok(RecordBody::UpdateAccepted { id, .. }) = record.body() else { continue };
                let before = taken.insert((first.unwrap_or(*run), id.clone()), (record.event, ended));
                if let Some((event, ended)) = before
                    && event != record.event
                    && record.at.0 + 2 * skew_ms < ended.saturating_add(memory_ms)
                {
                    faults.push(format!("update {id} of {} is taken twice, by runs of one series", record.workflow_id));
                }
            }
        }
    }

    /// When a run ended, or the last one of those that went on for it, by recorded time.
    pub fn closed_at(&self, run: RunId) -> Option<u64> {
        let mut run = run;
        loop {
            let (last, _) = self.runs.get(&run)?.iter().find(|(record, _)| record.close.is_some())?;
            match last.continued_as() {
                Some(next) => run = next,
                None => return Some(last.at.0),
            }
        }
    }

    /// What each run that went on has left, by what its code says when it is replayed, is what the next one has taken in.
    fn hands_on(&mut self, run: RunId, left: &[EventId], next: RunId) -> Result<(), String> {
        let records = self.runs.get(&next).ok_or_else(|| format!("run {next} is to go on, and has no history"))?;
        let received = records.iter().map_while(|(record, _)| match record.body() {
            Ok(RecordBody::Received { event, .. }) => Some(event.id),
            _ => None,
        });
        // The signal that came with its start has no record of its own where the first turn ended the run.
        let of_start = EventId::derived(run, 0, "signal of start");
        let along: Vec<EventId> = received.skip(1).filter(|id| *id != of_start).take(left.len()).collect();
        self.handed_on += left.len() as u64;
        match along == left {
            true => Ok(()),
            false => Err(format!("{left:?} were not received, and run {next} begins with {along:?}")),
        }
    }

    /// The records, through the code again: the same commands after each, and the same end.
    pub fn replays(&mut self, registry: &Registry, faults: &mut Vec<String>) {
        let replay = |(run, records): (&RunId, &Vec<(Record, usize)>)| {
            let next = records.last().and_then(|(last, _)| last.continued_as());
            replay(registry, records.iter().map(|(record, _)| record)).map(|left| (*run, left, next))
        };
        let replayed: Vec<_> = self.runs.iter().map(replay).collect();
        for replayed in replayed {
            let handed_on =
                replayed.and_then(|(run, left, next)| next.map_or(Ok(()), |next| self.hands_on(run, &left, next)));
            faults.extend(handed_on.err());
        }
    }
}

/// Why a run is parked, if it is.
fn parked_for(records: &[(Record, usize)]) -> Option<ParkedKind> {
    records.iter().fold(None, |parked, (record, _)| match record.body() {
        Ok(RecordBody::Parked { reason }) => Some(reason.kind),
        Ok(RecordBody::Resumed) => None,
        _ => parked,
    })
}

/// Whether a record has an edit of the code.
fn has_edit(record: &Record, name: &str) -> bool {
    let is_edit = |mark: &CommandMark| matches!(mark.kind, CommandKind::Patch | CommandKind::DeprecatedPatch);
    record.commands.iter().any(|mark| is_edit(mark) && mark.name == name)
}

fn is_open(records: &[(Record, usize)]) -> bool {
    records.iter().all(|(record, _)| record.close.is_none())
}

/// Workflow ids of runs that are open and parked, for whatever reason.
pub fn parked(standing: &Standing) -> Vec<WorkflowId> {
    let parked = standing.runs.values().filter(|records| is_open(records) && parked_for(records).is_some());
    parked.filter_map(|records| Some(records.first()?.0.workflow_id.clone())).collect()
}

/// Workflow ids of runs that are open, and that no person has to mend.
pub fn standing_still(standing: &Standing) -> Vec<String> {
    let waits = |records: &[(Record, usize)]| {
        parked_for(records)
            .is_some_and(|kind| ![ParkedKind::NoCode, ParkedKind::Diverged, ParkedKind::UnknownKind].contains(&kind))
    };
    let parent = |records: &[(Record, usize)]| {
        records.iter().find_map(|(record, _)| match record.body().ok()? {
            // It has not begun.
            RecordBody::Received { event, .. } => match event.body().ok()? {
                EventBody::Spawn { parent, .. } => Some(parent.run_id),
                EventBody::ContinueAsNew { parent, .. } => parent.map(|parent| parent.run_id),
                _ => None,
            },
            body => body.begun()?.parent.map(|parent| parent.run_id),
        })
    };
    let open = |run: &RunId| standing.runs.get(run).map(Vec::as_slice).filter(|records| is_open(records));
    // The run, its parent, and so on, as long as they are open.
    let line = |run: RunId| {
        std::iter::successors(Some(run), |run| open(run).and_then(parent)).filter(|run| open(run).is_some())
    };
    // A parent may wait for its child, and so for whom that one waits for.
    let waiting = standing.runs.keys().filter(|run| open(run).is_some_and(waits));
    let parents: BTreeSet<RunId> = waiting.flat_map(|run| line(*run)).collect();
    // Likewise a child for its parent.
    let goes_on = |run: &&RunId| !parents.contains(run) && !line(**run).any(|run| open(&run).is_some_and(waits));
    let going = standing.runs.keys().filter(|run| open(run).is_some()).filter(goes_on).filter_map(open);
    going.filter_map(|records| records.first().map(|(record, _)| record.workflow_id.to_string())).collect()
}

/// Gives the signals and updates that the run was sent and says it did not receive.
fn replay<'a>(registry: &Registry, records: impl Iterator<Item = &'a Record>) -> Result<Vec<EventId>, String> {
    let (mut came, mut left): (BTreeMap<String, Vec<EventId>>, _) = (BTreeMap::new(), Vec::new());
    let (mut order, mut updates) = (Vec::new(), Vec::new());
    let (mut instance, mut size): (Option<Instance>, _) = (None, HistorySize::default());
    for record in records {
        let so_far = size;
        size = size.with(record);
        let body = record.body().map_err(|error| format!("{}: {error}", record.workflow_id))?;
        let continues = body.begun().and_then(|begun| begun.continues.cloned());
        let input = match body {
            RecordBody::Started { start, version, build, .. }
            | RecordBody::Spawned { start, version, build, .. }
            | RecordBody::Continued { start, version, build, .. } => {
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
                    continues,
                    priority: start.priority.clone(),
                };
                instance = Some(Instance::new(entry, info, start.args, registry.coding()));
                Input::Start
            }
            RecordBody::Signalled { name, value, .. } => {
                came.entry(name.clone()).or_default().push(record.event);
                order.push(record.event);
                Input::Signal { name, value }
            }
            RecordBody::SignalledByTag { tag, name, value, .. } => {
                came.entry(name.clone()).or_default().push(record.event);
                order.push(record.event);
                Input::SignalByTag { tag, name, value }
            }
            RecordBody::UpdateAccepted { id, name, args, .. } => {
                updates.push(record.event);
                order.push(record.event);
                Input::Update { id, name, args }
            }
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
        instance.set_history(so_far.at_next());
        let turn = instance.replay(input, record.at, &record.commands);
        for command in &turn.commands {
            let Command::ContinueAsNew { unreceived, updates: numbers, .. } = command else { continue };
            left.extend(numbers.iter().filter_map(|no| updates.get(usize::try_from(*no).ok()?)));
            for of_name in unreceived {
                let of = came.get(&of_name.name).map(Vec::as_slice).unwrap_or_default();
                left.extend(of_name.numbers.iter().filter_map(|number| of.get(usize::try_from(*number).ok()?)));
            }
            left.sort_by_key(|event| order.iter().position(|other| other == event));
        }
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
    Ok(left)
}
