//! What has to hold of a world, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_protocol::chain::{Chain, Offered};
use everpulse_protocol::history::{CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::{EventId, RunId, Timestamp};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::replay::{Command, Input, Instance, RunInfo, TurnState};

use super::{World, repeats};

/// A record that stands, and how many entries the log had before its frame.
struct Standing {
    record: Record,
    behind: usize,
}

/// How often what may happen again did: tasks in queues, and local work.
#[derive(Debug, Default, Clone, Copy)]
pub struct Repeats {
    pub tasks: usize,
    pub local: usize,
}

/// One chain, no forks, dense runs that replay to what they recorded, nothing early, nothing settled twice,
/// nothing sent before its cause stood.
pub fn judge(world: &World) -> Repeats {
    let standing = standing(world);
    let mut runs: BTreeMap<RunId, Vec<&Record>> = BTreeMap::new();
    let mut asked: BTreeMap<(RunId, u32), (CommandMark, usize)> = BTreeMap::new();
    let mut last = Timestamp(0);
    for Standing { record, behind } in &standing {
        assert!(record.at >= last, "recorded time goes on");
        last = record.at;
        let run = runs.entry(record.run_id).or_default();
        assert_eq!(record.seq as usize, run.len(), "records of a run are dense");
        assert!(run.last().is_none_or(|record| record.close.is_none()), "nothing follows a run's end");
        run.push(record);
        for mark in record.commands.iter().filter(|mark| mark.kind != CommandKind::Cancel) {
            asked.insert((record.run_id, mark.no), (mark.clone(), *behind));
        }
    }
    for records in runs.values() {
        settled_once(records);
        replays(&world.registry, records);
    }
    let mut repeats = Repeats::default();
    let mut sent = BTreeSet::new();
    for (task, at) in world.queue.iter().zip(&world.queued_at) {
        let (_, behind) = asked.get(&(task.run_id, task.step)).expect("a task was asked for");
        assert!(behind < at, "task {} of {} was sent before its cause stood", task.step, task.workflow_id);
        repeats.tasks += usize::from(!sent.insert(task.id));
    }
    let mut done = BTreeSet::new();
    for (run, step, at) in &world.executed {
        let (_, behind) = asked.get(&(*run, *step)).expect("local work was asked for");
        assert!(behind < at, "local work {step} was started before its cause stood");
        repeats.local += usize::from(!done.insert((*run, *step)));
    }
    repeats
}

fn standing(world: &World) -> Vec<Standing> {
    let (mut chain, mut standing) = (Chain::new(), Vec::new());
    for (behind, (position, payload)) in world.log.iter().enumerate() {
        match chain.offer(*position, payload) {
            Offered::Stands(frame) => {
                let records = frame.records.into_iter().filter(|record| !repeats(record));
                standing.extend(records.map(|record| Standing { record, behind }));
            }
            Offered::Void(_) => {}
            other => panic!("a fork or a hole: {other:?}"),
        }
    }
    standing
}

/// Each step is settled once, after it was asked for; timers are not early; inputs count once.
fn settled_once(records: &[&Record]) {
    let mut open: BTreeMap<u32, CommandMark> = BTreeMap::new();
    let mut inputs: BTreeSet<EventId> = BTreeSet::new();
    let mut received: BTreeSet<EventId> = BTreeSet::new();
    for record in records {
        match record.body().expect("known kinds") {
            RecordBody::TimerFired { step } => {
                let timer = open.remove(&step).unwrap_or_else(|| panic!("timer {step} was not set: {records:#?}"));
                assert!(timer.due.expect("timers have one") <= record.at, "timer {step} is early");
            }
            RecordBody::ActivitySettled { step, .. } | RecordBody::StepSettled { step, .. } => {
                let wanted = open.remove(&step).is_some();
                assert!(wanted || received.contains(&record.event), "step {step} is settled once");
            }
            RecordBody::Signalled { .. } | RecordBody::CancelRequested { .. } => {
                assert!(inputs.insert(record.event), "an input counts once");
            }
            RecordBody::Received { event, .. } => {
                received.insert(event.id);
            }
            _ => {}
        }
        for mark in &record.commands {
            if mark.kind == CommandKind::Cancel {
                open.remove(&mark.no);
            } else {
                open.insert(mark.no, mark.clone());
            }
        }
    }
}

/// The records, through the code again: the same commands after each, and the same end.
fn replays(registry: &Registry, records: &[&Record]) {
    let mut instance: Option<Instance> = None;
    for record in records {
        let input = match record.body().expect("known kinds") {
            RecordBody::Started { start, version, .. } => {
                let entry = registry.workflow(&start.workflow, Some(version)).expect("known code");
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
        assert_eq!(marks, recorded, "{} replays", record.workflow_id);
        if let TurnState::Closed(close) = turn.state {
            assert_eq!(record.close.as_ref(), Some(&close), "{} ends as it did", record.workflow_id);
        }
    }
}
