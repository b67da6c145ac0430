//! From records back to a live future.

use std::collections::BTreeMap;

use everpulse_protocol::continuation::Continues;
use everpulse_protocol::event::Start;
use everpulse_protocol::history::{Begun, Close, CloseStatus, CommandMark, Parked, ParkedKind, Record, RecordBody};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::view::RunStatus;
use everpulse_protocol::{Payload, RunId, Timestamp, WorkflowId};
use everpulse_sdk::definition::{Registry, WorkflowEntry};
use everpulse_sdk::replay::{Command, Input, Instance, RunInfo, Turn, TurnState, Unanswered, Wait};

use crate::divergence;
use crate::mutation::{self, Mutation};
use crate::run::{Live, Run, Started, why_unknown};

/// A run brought back to where its history ends.
#[derive(Debug)]
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
    let (mut replayed, mut size) = (None, HistorySize::default());
    for record in run.records.iter() {
        let is_last = record.seq + 1 == run.next_seq();
        if mutation::is(Mutation::ReplayDropsSignal)
            && is_last
            && matches!(record.body(), Ok(RecordBody::Signalled { .. }))
        {
            continue;
        }
        step(run, (&mut replayed, &mut size), &record, registry)?;
    }
    replayed.ok_or_else(|| Parked {
        kind: ParkedKind::UnknownKind,
        message: format!("workflow {}: its history has no start", run.workflow_id),
        sealed: None,
    })
}

/// Replays the next record of a run. Gives the state that it left, if it reached the code.
fn step(
    run: &Run,
    (replayed, size): (&mut Option<Replayed>, &mut HistorySize),
    record: &Record,
    registry: &Registry,
) -> Result<Option<TurnState>, Parked> {
    if let Some(what) = record.unknown() {
        return Err(why_unknown(&what));
    }
    let so_far = std::mem::replace(size, size.with(record));
    let body = record.body().map_err(|error| why_unknown(&error.to_string()))?;
    if let Some(Begun { start, version, build, continues, .. }) = body.begun() {
        let entry = entry(registry, &run.workflow_id, &start.workflow, Some(version))?;
        let started = Started {
            workflow: start.workflow.clone(),
            version,
            at: record.at,
            times_out_at: None,
            build: build.cloned(),
        };
        let info = info(run, &started, start, continues);
        let instance = Instance::new(entry, info, start.args.clone(), registry.coding());
        let live = Box::new(Live { instance, used: None, published: BTreeMap::new() });
        *replayed = Some(Replayed { live, open: BTreeMap::new() });
    }
    let (Some(input), Some(replayed)) = (input(body), replayed.as_mut()) else { return Ok(None) };
    let settled = match &input {
        Input::Settled { step, .. } | Input::TimerFired { step } | Input::ChildClosed { step, .. } => Some(*step),
        _ => None,
    };
    replayed.live.instance.set_history(so_far.at_next());
    let turn = replayed.live.instance.replay(input, record.at, &record.commands);
    check(run, record, &turn)?;
    let state = turn.state.clone();
    replayed.take(settled, turn);
    Ok(Some(state))
}

/// A run's history through today's code, record by record, outside of any shard: for tests and for kept histories.
///
/// ```
/// use everpulse_engine::Replay;
/// use everpulse_protocol::history::Record;
/// use everpulse_sdk::definition::Registry;
///
/// fn replays(records: &[Record], registry: &Registry) -> Result<(), String> {
///     let first = records.first().ok_or("no records")?;
///     let mut replay = Replay::new(first.workflow_id.clone(), first.run_id);
///     records.iter().try_for_each(|record| replay.apply(record, registry)).map_err(|parked| parked.message)
/// }
/// assert!(replays(&[], &Registry::new()).is_err());
/// ```
#[derive(Debug)]
pub struct Replay {
    run: Run,
    replayed: Option<Replayed>,
    size: HistorySize,
    ended: Option<Close>,
}

impl Replay {
    /// A run of which nothing was replayed yet.
    #[must_use]
    pub fn new(workflow_id: WorkflowId, run_id: RunId) -> Self {
        Self { run: Run::new(workflow_id, run_id), replayed: None, size: HistorySize::default(), ended: None }
    }

    /// Replays the next record.
    ///
    /// # Errors
    /// Why a run with this history would be parked: no code, a divergence, a panic, an unknown kind of record. Beyond what
    /// parks an open run, a run that ended by its code has to end in the same way.
    ///
    /// # Determinism
    /// The same records and the same code give the same answer, unless the code looks at what no history has.
    pub fn apply(&mut self, record: &Record, registry: &Registry) -> Result<(), Parked> {
        let Some(state) = step(&self.run, (&mut self.replayed, &mut self.size), record, registry)? else {
            return Ok(());
        };
        let replayed = match state {
            TurnState::Closed(close) => Some(close),
            TurnState::Waiting | TurnState::Panicked { .. } | TurnState::Stuck { .. } | TurnState::Unopened { .. } => {
                None
            }
        };
        let (recorded, today) =
            (record.close.as_ref().map(|close| close.status), replayed.as_ref().map(|close| close.status));
        if recorded != today {
            let end = |status: Option<CloseStatus>| match status {
                Some(status) => format!("the run ends as {}", RunStatus::from(status)),
                None => "the run goes on".to_owned(),
            };
            let message = format!(
                "workflow {} diverged after record {}\n  recorded: {}\n  replayed: {}\n  guard the new way with \
                 `patched(\"..\")`, or keep the old code for open runs: give the new one another version",
                self.run.workflow_id,
                record.seq,
                end(recorded),
                end(today)
            );
            return Err(Parked::new(ParkedKind::Diverged, message));
        }
        self.ended = replayed;
        Ok(())
    }

    /// The commands that have not come to their end, in the order of their numbers.
    pub fn open(&self) -> impl Iterator<Item = &Command> {
        self.replayed.iter().flat_map(|replayed| replayed.open.values())
    }

    /// Has the run's own handler answer a query; none where the run has not begun.
    ///
    /// # Errors
    /// Why there is no answer. If [`Unanswered::spoilt`] says so, this replay has to be dropped.
    pub fn query(&mut self, name: &str, args: &Payload) -> Option<Result<Payload, Unanswered>> {
        Some(self.replayed.as_mut()?.live.instance.query(name, args))
    }

    /// What the code waits for.
    #[must_use]
    pub fn waits(&self) -> Vec<Wait> {
        self.replayed.as_ref().map(|replayed| replayed.live.instance.waits()).unwrap_or_default()
    }

    /// What the run published, by name.
    #[must_use]
    pub fn published(&self, name: &str) -> Option<&Payload> {
        self.replayed.as_ref()?.live.published.get(name)
    }

    /// The end that the code came to.
    #[must_use]
    pub fn ended(&self) -> Option<&Close> {
        self.ended.as_ref()
    }
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
                Command::Patch { .. }
                | Command::Detach { .. }
                | Command::ContinueAsNew { .. }
                | Command::Answer { .. } => {}
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
    let diverged = |message| Parked::new(ParkedKind::Diverged, message);
    divergence::compare(&run.workflow_id, record.at, &record.commands, &marks)?;
    let ended = matches!(turn.state, TurnState::Closed(_));
    if ended && record.close.is_none() {
        return Err(diverged(format!(
            "workflow {} diverged after record {}\n  recorded: the run goes on\n  replayed: the run ends\n  guard the new \
             way with `patched(\"..\")`, or keep the old code for open runs: give the new one another version",
            run.workflow_id, record.seq
        )));
    }
    Ok(())
}

/// What the same code does with the same event a second time, after a replay from the beginning, must be the same.
///
/// # Errors
/// Why the event is not applied, and the run is parked: what differs.
pub(crate) fn compare_twice(workflow_id: &WorkflowId, at: Timestamp, first: &Turn, again: &Turn) -> Result<(), Parked> {
    let marks = |turn: &Turn| -> Vec<CommandMark> { turn.commands.iter().map(Command::mark).collect() };
    let (first_marks, again_marks) = (marks(first), marks(again));
    divergence::compare(workflow_id, at, &first_marks, &again_marks)
        .map_err(|parked| unsteady(workflow_id, &parked))?;
    let differs = |what: &str, first: String, again: String| {
        let message =
            format!("{what}\n  first: {first}\n  again: {again}\n  does it read a clock, chance or the world?");
        Err(unsteady(workflow_id, &Parked::new(ParkedKind::Diverged, message)))
    };
    let timers = first_marks.iter().zip(&again_marks).find(|(first, again)| first.due != again.due);
    if let Some((first, again)) = timers {
        return differs(&format!("timer {}", first.no), format!("due {:?}", first.due), format!("due {:?}", again.due));
    }
    let (first, again) = (ending(&first.state), ending(&again.state));
    if first != again {
        return differs("what becomes of the run", first, again);
    }
    Ok(())
}

/// How a run stands, without the values.
fn ending(state: &TurnState) -> String {
    match state {
        TurnState::Waiting => "it waits".to_owned(),
        TurnState::Closed(close) => format!("it is {:?}", close.status).to_lowercase(),
        TurnState::Panicked { message } => format!("it panics: {message}"),
        TurnState::Stuck { message } => format!("it is stuck: {message}"),
        TurnState::Unopened { message } => format!("it cannot be opened: {message}"),
    }
}

/// The same code came to something else when it was replayed.
pub(crate) fn unsteady(workflow_id: &WorkflowId, parked: &Parked) -> Parked {
    let message = format!(
        "workflow {workflow_id} is not deterministic: the same code, given the same events again at once, did not do the \
         same\n{}",
        parked.message
    );
    Parked::new(ParkedKind::Diverged, message)
}

/// Why a turn leaves a run that cannot go on, if it does.
pub(crate) fn broken(workflow_id: &WorkflowId, state: &TurnState) -> Option<Parked> {
    match state {
        TurnState::Panicked { message } => Some(Parked {
            kind: ParkedKind::Panicked,
            message: format!("workflow {workflow_id} panicked: {message}; mend the code, deploy it and resume the run"),
            sealed: None,
        }),
        TurnState::Stuck { message } => {
            Some(Parked::new(ParkedKind::Stuck, format!("workflow {workflow_id} is stuck: {message}")))
        }
        TurnState::Unopened { message } => Some(unopened(workflow_id, message)),
        TurnState::Waiting | TurnState::Closed(_) => None,
    }
}

/// Why a run has to wait for a worker that can open its values.
pub(crate) fn unopened(workflow_id: &WorkflowId, why: &str) -> Parked {
    Parked::new(ParkedKind::Unopened, format!("workflow {workflow_id} cannot go on here: {why}"))
}

/// The input that a record was applied as; none for those that do not reach the future.
fn input(body: RecordBody) -> Option<Input> {
    match body {
        RecordBody::Started { .. } | RecordBody::Spawned { .. } | RecordBody::Continued { .. } => Some(Input::Start),
        RecordBody::ChildBegan { step } => Some(Input::ChildBegan { step }),
        RecordBody::ChildClosed { step, close, never_began } => {
            Some(Input::ChildClosed { step, outcome: close.outcome, began: !never_began })
        }
        RecordBody::Signalled { name, value, headers: _ } => Some(Input::Signal { name, value }),
        RecordBody::SignalledByTag { tag, name, value, headers: _ } => Some(Input::SignalByTag { tag, name, value }),
        RecordBody::UpdateAccepted { id, name, args, headers: _ } => Some(Input::Update { id, name, args }),
        RecordBody::ActivitySettled { step, outcome, .. }
        | RecordBody::StepSettled { step, outcome }
        | RecordBody::PromiseSettled { step, outcome }
        | RecordBody::Delivered { step, outcome } => Some(Input::Settled { step, outcome }),
        RecordBody::AttemptReported { step, report, .. } => {
            report.outcome().map(|outcome| Input::Settled { step, outcome })
        }
        RecordBody::TimerFired { step } => Some(Input::TimerFired { step }),
        RecordBody::CancelRequested { reason } => Some(Input::CancelRequested { reason }),
        _ => None,
    }
}

pub(crate) fn info(run: &Run, started: &Started, start: &Start, continues: Option<&Continues>) -> RunInfo {
    RunInfo {
        workflow_id: run.workflow_id.clone(),
        run_id: run.run_id,
        workflow: started.workflow.clone(),
        version: started.version,
        started_at: started.at,
        tags: start.tags.clone(),
        build: started.build.clone(),
        headers: start.headers.clone(),
        continues: continues.cloned(),
        priority: start.priority.clone(),
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
        let remedy = remedy(registry, name);
        Parked {
            kind: ParkedKind::NoCode,
            message: format!("workflow {workflow_id}: this worker has no {what}; {remedy}"),
            sealed: None,
        }
    })
}

/// What to do about code that is not there. Nobody registers workflows of Everpulse's own: they come with the worker.
fn remedy(registry: &Registry, name: &str) -> &'static str {
    match (name.starts_with("everpulse."), registry.workflow(name, None).is_some()) {
        (false, _) => "deploy a worker that registers it",
        (true, false) => {
            "it comes with Everpulse: deploy a worker of a release that has it, and that does not say `.schedules(false)`"
        }
        (true, true) => {
            "it comes with another release of Everpulse: deploy a worker of the one that began the run, or terminate the \
             run and begin it anew (a schedule is made again under its name)"
        }
    }
}

/// The input as which a record's body is applied; none for those that do not reach the future.
pub(crate) fn as_input(body: &RecordBody) -> Option<Input> {
    input(body.clone())
}
