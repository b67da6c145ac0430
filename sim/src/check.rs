//! What has to hold when everything is settled, decided from what is on the broker's disk, the clients' knowledge and the
//! ledger of effects.
//!
//! The chain, the runs and the effects are judged by `everpulse-checker`, which shares no code with the engine. Here are
//! the questions that need the whole world: was each accepted start kept, are the results those of the sequential
//! model, was each effect behind its frame, is every dead letter accounted for, and does each run's code come to the
//! same commands again.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_checker::{Report, Rules, Status, check_partitions};
use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::history::{CommandKind, Record, RecordBody};
use everpulse_protocol::{EventId, Position, RunId, WriterId, decode, topic};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::replay::{Command, Input, Instance, RunInfo, TurnState};

use crate::party::Place;
use crate::wire;
use crate::workflows::QUEUE;
use crate::world::World;

/// The rules that were broken, in words.
pub fn judge(world: &mut World) -> Vec<String> {
    let histories: Vec<_> =
        (0..world.layout().shards).map(|shard| world.server.entries(&wire::history(shard))).collect();
    let raw = |entries: &Vec<(Position, bytes::Bytes)>| -> Vec<(everpulse_checker::Position, Vec<u8>)> {
        let position = |at: &Position| everpulse_checker::Position { ledger: at.ledger, entry: at.entry };
        entries.iter().map(|(at, payload)| (position(at), payload.to_vec())).collect()
    };
    let partitions: Vec<_> = histories.iter().map(raw).collect();
    let mut report = check_partitions(&partitions, &Rules { ordered_workflows: vec!["chain".to_owned()] });
    let mut faults = Vec::new();
    let names: BTreeMap<String, String> =
        report.runs.iter().map(|run| (run.run_id.to_string(), run.workflow_id.clone())).collect();
    report.judge_effects(&world.ledger.lines(&names));
    faults.extend(report.violations.iter().map(ToString::to_string));
    let standing = Standing::of(&histories);
    starts_and_results(world, &report, &mut faults);
    effects_behind_frames(world, &standing, &mut faults);
    dead_letters(world, &standing, &mut faults);
    standing.replays(world.registry(), &mut faults);
    count(world, &report, &standing);
    faults
}

/// The records that stand, with where their frames lie.
struct Standing {
    /// By run, in their order, with shard and position.
    runs: BTreeMap<RunId, Vec<(Record, u32, Position)>>,
    writers: Vec<BTreeSet<WriterId>>,
    parked: u64,
}

impl Standing {
    fn of(histories: &[Vec<(Position, bytes::Bytes)>]) -> Self {
        let mut standing = Self { runs: BTreeMap::new(), writers: Vec::new(), parked: 0 };
        for (shard, entries) in (0_u32..).zip(histories) {
            let (mut chain, mut writers) = (Chain::new(), BTreeSet::new());
            for (position, payload) in entries {
                // What is no frame, or behind a hole, is the checker's to find.
                let Offered::Stands(frame) = chain.offer(*position, payload) else { continue };
                writers.insert(frame.writer);
                for record in frame.records {
                    if matches!(record.body(), Ok(RecordBody::Parked { .. })) {
                        standing.parked += 1;
                    }
                    standing.runs.entry(record.run_id).or_default().push((record, shard, *position));
                }
            }
            standing.writers.push(writers);
        }
        standing
    }

    /// Where the frame lies that asked for a step.
    fn asked(&self, run: RunId, step: u32) -> Option<(u32, Position)> {
        let asks =
            |record: &Record| record.commands.iter().any(|mark| mark.no == step && mark.kind != CommandKind::Cancel);
        let (_, shard, position) = self.runs.get(&run)?.iter().find(|(record, ..)| asks(record))?;
        Some((*shard, *position))
    }

    /// The records, through the code again: the same commands after each, and the same end.
    fn replays(&self, registry: &Registry, faults: &mut Vec<String>) {
        for records in self.runs.values() {
            if let Err(fault) = replay(registry, records.iter().map(|(record, ..)| record)) {
                faults.push(fault);
            }
        }
    }
}

/// Workflow ids of runs that are open and not parked.
pub fn standing_still(histories: impl Iterator<Item = Vec<(Position, bytes::Bytes)>>) -> Vec<String> {
    let standing = Standing::of(&histories.collect::<Vec<_>>());
    let is_open = |records: &&Vec<(Record, u32, Position)>| {
        let mut parked = false;
        for (record, ..) in *records {
            match record.body() {
                Ok(RecordBody::Parked { .. }) => parked = true,
                Ok(RecordBody::Resumed) => parked = false,
                _ => {}
            }
        }
        !parked && records.iter().all(|(record, ..)| record.close.is_none())
    };
    let open = standing.runs.values().filter(is_open);
    open.filter_map(|records| records.first().map(|(record, ..)| record.workflow_id.to_string())).collect()
}

fn replay<'a>(registry: &Registry, records: impl Iterator<Item = &'a Record>) -> Result<(), String> {
    let mut instance: Option<Instance> = None;
    for record in records {
        let body = record.body().map_err(|error| format!("{}: {error}", record.workflow_id))?;
        let input = match body {
            RecordBody::Started { start, version, .. } => {
                let entry = registry
                    .workflow(&start.workflow, Some(version))
                    .ok_or_else(|| format!("{} is a run of unknown code", record.workflow_id))?;
                let info = RunInfo {
                    workflow_id: record.workflow_id.clone(),
                    run_id: record.run_id,
                    workflow: start.workflow.clone(),
                    version,
                    started_at: record.at,
                };
                instance = Some(Instance::new(entry, info, start.args));
                Input::Start
            }
            RecordBody::Signalled { name, value } => Input::Signal { name, value },
            RecordBody::ActivitySettled { step, outcome, .. } | RecordBody::StepSettled { step, outcome } => {
                Input::Settled { step, outcome }
            }
            RecordBody::TimerFired { step } => Input::TimerFired { step },
            RecordBody::CancelRequested { reason } => Input::CancelRequested { reason },
            _ => continue,
        };
        let Some(instance) = instance.as_mut() else { continue };
        let turn = instance.apply(input, record.at, true);
        let marks: Vec<(u32, CommandKind)> =
            turn.commands.iter().map(Command::mark).map(|mark| (mark.no, mark.kind)).collect();
        let recorded: Vec<(u32, CommandKind)> = record.commands.iter().map(|mark| (mark.no, mark.kind)).collect();
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

/// No accepted start is lost, each has one run, that has ended, as its client was told and the model says.
fn starts_and_results(world: &World, report: &Report, faults: &mut Vec<String>) {
    for job in world.jobs().into_iter().flat_map(|jobs| &jobs.jobs) {
        let id = job.workflow_id.as_str();
        let runs: Vec<_> = report.runs_of(id).collect();
        if job.accepted && runs.is_empty() {
            faults.push(format!("the start of {id} was accepted and is lost"));
        }
        if runs.len() > 1 {
            faults.push(format!("{id} has {} runs", runs.len()));
        }
        for run in runs {
            if run.status != Status::Completed {
                faults.push(format!("{id} is {:?} at the end, and waits for {:?}", run.status, run.pending()));
            }
            if job.run.is_some_and(|told| told.to_string() != run.run_id.to_string()) {
                faults.push(format!("{id} is run {} in history, and {:?} for its client", run.run_id, job.run));
            }
        }
        match &job.outcome {
            None => faults.push(format!("the client of {id} never heard of its end")),
            Some(outcome) if !job.kind.allows(job.n, job.sum(), outcome) => {
                faults.push(format!("{id} of {} came to {outcome:?}, not to what the model says", job.n));
            }
            Some(_) => {}
        }
    }
}

/// What was done was asked for by a frame that stands, and that was stored before it was done.
fn effects_behind_frames(world: &World, standing: &Standing, faults: &mut Vec<String>) {
    for effect in &world.ledger.effects {
        let what = format!("step {} of {} {}", effect.step, effect.workflow_id, effect.run_id);
        let Some((shard, position)) = standing.asked(effect.run_id, effect.step) else {
            faults.push(format!("{what} was done, and no frame that stands asks for it"));
            continue;
        };
        let place = world.server.place(&wire::history(shard), position);
        if place.is_none_or(|place| place >= effect.place.stored) {
            let Place { party, world_ms, .. } = effect.place;
            faults.push(format!("{what} was done by {party} at {world_ms} ms, before its frame was stored"));
        }
    }
}

/// Each letter is of a signal for nobody, or of an activity that ran out of attempts; and each of these has one.
fn dead_letters(world: &mut World, standing: &Standing, faults: &mut Vec<String>) {
    let mut of_events: BTreeSet<EventId> = BTreeSet::new();
    let mut of_tasks: BTreeSet<(RunId, u32)> = BTreeSet::new();
    let topics = [topic::INBOX_DEAD.to_owned(), topic::activity_dead(QUEUE)];
    for (position, payload) in topics.iter().flat_map(|topic| world.server.entries(&wire::stored(topic))) {
        world.counts.letters += 1;
        match decode::<DeadLetter>(&payload).map(|letter| letter.letter) {
            Ok(Letter::Event(event)) => {
                of_events.insert(event.id);
            }
            Ok(Letter::Task(task)) => {
                if task.activity != "doomed" {
                    faults.push(format!("a dead letter of {}, step {}", task.workflow_id, task.step));
                }
                of_tasks.insert((task.run_id, task.step));
            }
            Ok(Letter::Unreadable { topic, .. }) => faults.push(format!("a message of {topic} was unreadable")),
            Err(error) => faults.push(format!("the dead letter at {position} cannot be read: {error}")),
        }
    }
    let blind: BTreeSet<EventId> =
        world.jobs().into_iter().flat_map(|jobs| &jobs.blind).map(|blind| blind.sent.id).collect();
    faults.extend(of_events.difference(&blind).map(|id| format!("event {id} was put away, and had a run")));
    faults.extend(blind.difference(&of_events).map(|id| format!("signal {id} was for nobody, and has no dead letter")));
    for (run, records) in &standing.runs {
        for (record, ..) in records {
            let Ok(RecordBody::ActivitySettled { step, outcome, .. }) = record.body() else { continue };
            let failed = matches!(outcome, everpulse_protocol::event::Outcome::Failed(_));
            if failed && !of_tasks.contains(&(*run, step)) {
                faults.push(format!("step {step} of {} failed, and has no dead letter", record.workflow_id));
            }
        }
    }
}

fn count(world: &mut World, report: &Report, standing: &Standing) {
    let counts = &mut world.counts;
    counts.runs = report.runs.len() as u64;
    counts.events = report.shards.iter().map(|shard| shard.records as u64).sum();
    counts.void = report.shards.iter().map(|shard| shard.void.len() as u64).sum();
    counts.replayed = standing.runs.len() as u64;
    counts.parked = standing.parked;
    counts.shared_shards = standing.writers.iter().filter(|writers| writers.len() > 1).count() as u64;
    counts.effects = world.ledger.effects.len() as u64;
    let mut seen = BTreeSet::new();
    for effect in world.ledger.effects.iter().filter(|effect| effect.local) {
        counts.local_effects += 1;
        counts.local_repeats += u64::from(!seen.insert((effect.run_id, effect.step, effect.attempt)));
    }
}
