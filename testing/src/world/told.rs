//! What history tells of one run, and whether the run's code comes to the same when it is replayed.

use std::collections::BTreeMap;

use everpulse_engine::Replay;
use everpulse_protocol::event::Outcome;
use everpulse_protocol::golden::shown_payload;
use everpulse_protocol::history::{Close, CommandMark, Parked, Record, RecordBody};
use everpulse_protocol::task::Task;
use everpulse_protocol::view::{Fold, RunView};
use everpulse_protocol::{Failure, FailureKind, Payload, WorkflowId};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::replay::{Command, Unanswered, Wait};

use super::World;

/// Up to so many records a run is replayed from scratch after each of them, later after each of this many.
const REPLAYED_EACH: usize = 64;

pub(crate) struct Told {
    pub workflow_id: WorkflowId,
    pub records: Vec<Record>,
    /// Arguments of activities that were asked for, by number.
    pub arguments: BTreeMap<u32, Payload>,
    fold: Fold,
    replay: Replay,
}

impl Told {
    pub fn new(first: &Record) -> Self {
        Self {
            workflow_id: first.workflow_id.clone(),
            records: Vec::new(),
            arguments: BTreeMap::new(),
            fold: Fold::default(),
            replay: Replay::new(first.workflow_id.clone(), first.run_id),
        }
    }

    /// Whether a record only carries forward what others say.
    pub fn repeats(record: &Record) -> bool {
        let body = record.body();
        matches!(body, Ok(RecordBody::Carried { .. } | RecordBody::Remembered { .. } | RecordBody::TagReached { .. }))
    }

    /// Takes the next record, and replays the run: its code has to come to the same again.
    pub fn take(&mut self, record: Record, registry: &Registry) {
        self.fold.apply(&record);
        if let Err(parked) = self.replay.apply(&record, registry) {
            self.is_no_function_of_history(&parked.message);
        }
        for command in self.replay.open() {
            if let Command::Activity { no, args, .. } = command {
                self.arguments.entry(*no).or_insert_with(|| args.clone());
            }
        }
        let ended = record.close.clone();
        self.records.push(record);
        let count = self.records.len();
        if count <= REPLAYED_EACH || count.is_multiple_of(REPLAYED_EACH) || ended.is_some() {
            self.replay_from_scratch(registry, ended.as_ref());
        }
    }

    fn replay_from_scratch(&self, registry: &Registry, ended: Option<&Close>) {
        let Some(first) = self.records.first() else { return };
        let mut replay = Replay::new(self.workflow_id.clone(), first.run_id);
        for record in &self.records {
            if let Err(parked) = replay.apply(record, registry) {
                self.is_no_function_of_history(&parked.message);
            }
            for command in replay.open() {
                if let Command::Activity { no, name, args, .. } = command
                    && let Some(before) = self.arguments.get(no)
                {
                    self.same(&format!("the arguments of activity `{name}`, command {no},"), before, args);
                }
            }
        }
        if let (Some(Outcome::Done(before)), Some(Outcome::Done(again))) =
            (ended.map(|close| &close.outcome), replay.ended().map(|close| &close.outcome))
        {
            self.same("its result", before, again);
        }
    }

    fn same(&self, what: &str, before: &Payload, again: &Payload) {
        if before != again {
            let (before, again) = (shown_payload(before), shown_payload(again));
            self.is_no_function_of_history(&format!(
                "workflow {}: {what} changed\n  recorded: {before}\n  replayed: {again}",
                self.workflow_id
            ));
        }
    }

    fn is_no_function_of_history(&self, how: &str) -> ! {
        panic!(
            "{how}\n\nThe run was replayed with the same code and its own history, and did not come to the same. So its code \
             looks at something that history does not have: a clock, randomness, the order of a `HashMap` or `HashSet`, a \
             `static` or `thread_local!`, a file. Use `now()`, `random()`, `uuid()`, a `BTreeMap`; and put all else into an \
             activity or a `step`"
        )
    }

    pub fn view(&self) -> Option<RunView> {
        self.fold.view()
    }

    pub fn close(&self) -> Option<&Close> {
        self.records.last()?.close.as_ref()
    }

    pub fn parked(&self) -> Option<Parked> {
        self.view().and_then(|view| view.parked)
    }

    pub fn published(&self, name: &str) -> Option<&Payload> {
        self.replay.published(name)
    }

    /// What the run's own handler answers.
    pub fn query(&mut self, name: &str, args: &Payload) -> Result<Payload, Unanswered> {
        let unbegun = || Unanswered {
            failure: Box::new(Failure::new(FailureKind::NotFound, format!("{} has not begun", self.workflow_id))),
            spoilt: false,
            missing: false,
        };
        self.replay.query(name, args).unwrap_or_else(|| Err(unbegun()))
    }

    pub fn waits(&self) -> Vec<Wait> {
        self.replay.waits()
    }

    /// The commands so far, as history keeps them.
    pub fn marks(&self) -> impl Iterator<Item = (&Record, &CommandMark)> {
        self.records.iter().flat_map(|record| record.commands.iter().map(move |mark| (record, mark)))
    }
}

impl World {
    /// What is sent of a command is what a replay asks for.
    pub(super) fn check_arguments(&self, task: &Task) {
        if let Some(told) = self.runs.get(&task.run_id)
            && let Some(args) = told.arguments.get(&task.step)
        {
            let what = format!("the arguments of activity `{}`, command {},", task.activity, task.step);
            told.same(&what, &task.args, args);
        }
    }
}
