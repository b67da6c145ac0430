//! From records back to a live future.

use std::collections::BTreeMap;

use everpulse_protocol::WorkflowId;
use everpulse_protocol::history::{CommandMark, Parked, ParkedKind, Record, RecordBody};
use everpulse_sdk::definition::{Registry, WorkflowEntry};
use everpulse_sdk::replay::{Command, Input, Instance, RunInfo, Turn, TurnState};

use crate::divergence;
use crate::mutation::{self, Mutation};
use crate::run::{Live, Run, Started};

/// A run brought back to where its history ends.
pub(crate) struct Replayed {
    pub live: Box<Live>,
    /// The commands that have not come to their end, with all that history does not keep of them.
    pub open: BTreeMap<u32, Command>,
}

/// Replays all records of a run through today's code.
///
/// # Errors
/// Why the run has to be parked: no code, a divergence, a panic, an unknown kind of record.
pub(crate) fn replay(run: &Run, registry: &Registry) -> Result<Replayed, Parked> {
    let mut replayed: Option<Replayed> = None;
    for record in run.records.iter() {
        let body = record.body().map_err(|error| Parked {
            kind: ParkedKind::UnknownKind,
            message: format!(
                "workflow {}, record {}: {error}; run a release that knows it",
                run.workflow_id, record.seq
            ),
        })?;
        if let RecordBody::Started { start, version, .. } = &body {
            let entry = entry(registry, &run.workflow_id, &start.workflow, Some(*version))?;
            let started =
                Started { workflow: start.workflow.clone(), version: *version, at: record.at, times_out_at: None };
            let instance = Instance::new(entry, info(run, &started), start.args.clone());
            let live = Box::new(Live { instance, used: None, published: BTreeMap::new() });
            replayed = Some(Replayed { live, open: BTreeMap::new() });
        }
        let (Some(input), Some(replayed)) = (input(body), replayed.as_mut()) else { continue };
        let settled = match &input {
            Input::Settled { step, .. } | Input::TimerFired { step } => Some(*step),
            _ => None,
        };
        let is_last = record.seq + 1 == run.next_seq();
        if mutation::is(Mutation::ReplayDropsSignal) && is_last && matches!(input, Input::Signal { .. }) {
            continue;
        }
        let turn = replayed.live.instance.apply(input, record.at, true);
        check(run, &record, &turn)?;
        replayed.take(settled, turn);
    }
    replayed.ok_or_else(|| Parked {
        kind: ParkedKind::UnknownKind,
        message: format!("workflow {}: its history has no start", run.workflow_id),
    })
}

impl Replayed {
    fn take(&mut self, settled: Option<u32>, turn: Turn) {
        if let Some(step) = settled {
            self.open.remove(&step);
        }
        for command in turn.commands {
            match command {
                Command::Cancel { no } => {
                    self.open.remove(&no);
                }
                command => {
                    self.open.insert(command.mark().no, command);
                }
            }
        }
        self.live.published.extend(turn.published);
    }
}

fn check(run: &Run, record: &Record, turn: &Turn) -> Result<(), Parked> {
    let marks: Vec<CommandMark> = turn.commands.iter().map(Command::mark).collect();
    // A panic explains more than the commands that are missing after it.
    if let Some(parked) = broken(&run.workflow_id, &turn.state) {
        return Err(parked);
    }
    let diverged = |message| Parked { kind: ParkedKind::Diverged, message };
    divergence::compare(&run.workflow_id, record.at, &record.commands, &marks).map_err(diverged)?;
    let ended = matches!(turn.state, TurnState::Closed(_));
    if ended && record.close.is_none() {
        return Err(diverged(format!(
            "workflow {} diverged after record {}\n  recorded: the run goes on\n  replayed: the run ends\n  keep the old \
             code for open runs: give the new one another version",
            run.workflow_id, record.seq
        )));
    }
    Ok(())
}

/// Why a turn leaves a run that cannot go on, if it does.
pub(crate) fn broken(workflow_id: &WorkflowId, state: &TurnState) -> Option<Parked> {
    match state {
        TurnState::Panicked { message } => Some(Parked {
            kind: ParkedKind::Panicked,
            message: format!("workflow {workflow_id} panicked: {message}; mend the code, deploy it and resume the run"),
        }),
        TurnState::Stuck { message } => {
            Some(Parked { kind: ParkedKind::Stuck, message: format!("workflow {workflow_id} is stuck: {message}") })
        }
        TurnState::Waiting | TurnState::Closed(_) => None,
    }
}

/// The input that a record was applied as; none for those that do not reach the future.
fn input(body: RecordBody) -> Option<Input> {
    match body {
        RecordBody::Started { .. } => Some(Input::Start),
        RecordBody::Signalled { name, value } => Some(Input::Signal { name, value }),
        RecordBody::ActivitySettled { step, outcome, .. } | RecordBody::StepSettled { step, outcome } => {
            Some(Input::Settled { step, outcome })
        }
        RecordBody::TimerFired { step } => Some(Input::TimerFired { step }),
        RecordBody::CancelRequested { reason } => Some(Input::CancelRequested { reason }),
        _ => None,
    }
}

pub(crate) fn info(run: &Run, started: &Started) -> RunInfo {
    RunInfo {
        workflow_id: run.workflow_id.clone(),
        run_id: run.run_id,
        workflow: started.workflow.clone(),
        version: started.version,
        started_at: started.at,
    }
}

/// The code for a workflow.
///
/// # Errors
/// The run has to be parked: this worker has none of that name or version.
pub(crate) fn entry<'a>(
    registry: &'a Registry,
    workflow_id: &WorkflowId,
    name: &str,
    version: Option<u32>,
) -> Result<&'a WorkflowEntry, Parked> {
    registry.workflow(name, version).ok_or_else(|| {
        let what = match version {
            Some(version) if registry.workflow(name, None).is_some() => {
                format!("version {version} of workflow `{name}`")
            }
            _ => format!("workflow `{name}`"),
        };
        Parked {
            kind: ParkedKind::NoCode,
            message: format!("workflow {workflow_id}: this worker has no {what}; deploy a worker that registers it"),
        }
    })
}

/// The input as which a record's body is applied; none for those that do not reach the future.
pub(crate) fn as_input(body: &RecordBody) -> Option<Input> {
    input(body.clone())
}
