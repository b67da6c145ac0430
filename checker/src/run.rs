//! One run, record by record: is what stands in history something that the rules allow?
//!
//! A run is a small table of its commands (activities, timers, steps), each scheduled once and settled at most
//! once. What a shard's runs have to do with each other is judged in `shard`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::Rules;
use crate::format::{AttemptEnd, Before, Body, Hash, Id, Link, Mark, MarkKind, OnClose, Record};
use crate::kept::Kept;
use crate::report::{Kind, Place, Violation};

/// A run as history tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    pub shard: u32,
    pub workflow_id: String,
    #[serde(serialize_with = "crate::report::as_text")]
    pub run_id: Id,
    pub workflow: String,
    pub status: Status,
    /// Whose frame began it.
    #[serde(serialize_with = "crate::report::as_text")]
    pub started_by: Id,
    pub started_at_ms: u64,
    pub closed_at_ms: Option<u64>,
    pub records: u32,
    /// Why it stands still, while it does.
    pub parked: Option<String>,
    /// Its beginning was trimmed away.
    pub partial: bool,
    pub commands: Vec<Command>,
    /// The command of the run that began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Link>,
    /// The runs for which it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<Before>,
    /// The run that goes on for it.
    #[serde(serialize_with = "crate::report::as_text_if_any", skip_serializing_if = "Option::is_none")]
    pub continued_as: Option<Id>,
    /// A child that was refused, or not wanted any more before it was there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub never_began: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancel_requested: bool,
    /// Of all that its end says.
    #[serde(skip)]
    pub(crate) end: Option<Hash>,
    /// The events by which it was, or is, to end at once.
    #[serde(skip)]
    pub(crate) terminations: Vec<Id>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    Open,
    Completed,
    Failed,
    Cancelled,
    Terminated,
    TimedOut,
    ContinuedAsNew,
}

impl Run {
    /// The numbers and names of the commands that have not come to an end.
    #[must_use]
    pub fn pending(&self) -> Vec<(u32, &str)> {
        let pending = |command: &&Command| command.settled.is_none() && !command.cancelled;
        self.commands.iter().filter(pending).map(|command| (command.no, command.label())).collect()
    }
}

/// An activity, timer or step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Command {
    pub no: u32,
    pub kind: MarkKind,
    pub name: String,
    /// A timer's due time, in milliseconds.
    pub due: Option<u64>,
    /// Whether it was a success, once it is settled.
    pub settled: Option<bool>,
    pub cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<Child>,
}

/// What a run knows of one that it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Child {
    #[serde(serialize_with = "crate::report::as_text")]
    pub run_id: Id,
    pub on_close: OnClose,
    /// The record that asks for it takes that back: it is not begun.
    pub taken_back: bool,
    /// It was heard that it never began.
    pub never_began: bool,
    /// How it ended, as far as that was heard.
    #[serde(skip)]
    pub(crate) end: Option<Hash>,
}

impl Command {
    fn label(&self) -> &str {
        if self.name.is_empty() { self.kind.word() } else { &self.name }
    }
}

/// A run and what is needed to judge its next record.
pub struct Judge {
    pub run: Run,
    next_seq: Option<u32>,
    next_no: Option<u32>,
    /// Inputs taken in and not yet applied, with the number of the last try.
    received: HashMap<Id, (Body, u32)>,
    /// Attempts that ended from outside: step, attempt.
    ended_attempts: HashSet<(u32, u32)>,
    /// Attempts that its owner keeps.
    kept: Kept,
    /// Updates that were taken, by id: the number of each, and whether it is answered.
    updates: HashMap<String, (u32, bool)>,
    /// How many updates were taken.
    updates_taken: u32,
    ordered: bool,
    /// Something of it is of a kind that the judge does not know.
    blurred: bool,
    /// What the records said that stood, by their place in the run.
    digests: BTreeMap<u32, Hash>,
}

impl Judge {
    /// A run of which nothing was read. `partial`: what came before its first record here may be trimmed.
    pub fn new(shard: u32, record: &Record, writer: Id, trimmed: bool) -> Self {
        let begins = record.seq == 0;
        Self {
            run: Run {
                shard,
                workflow_id: record.workflow_id.clone(),
                run_id: record.run_id,
                workflow: String::new(),
                status: Status::Open,
                started_by: writer,
                started_at_ms: record.at,
                closed_at_ms: None,
                records: 0,
                parked: None,
                partial: trimmed && !begins,
                commands: Vec::new(),
                parent: None,
                continues: None,
                continued_as: None,
                never_began: false,
                cancel_requested: false,
                end: None,
                terminations: Vec::new(),
            },
            next_seq: None,
            next_no: None,
            received: HashMap::new(),
            ended_attempts: HashSet::new(),
            kept: Kept::default(),
            updates: HashMap::new(),
            updates_taken: 0,
            ordered: false,
            blurred: false,
            digests: BTreeMap::new(),
        }
    }

    /// Judges the run's next record, and takes it in.
    pub fn apply(&mut self, record: &Record, place: Place, rules: &Rules, violations: &mut Vec<Violation>) {
        let run_id = self.run.run_id;
        let workflow_id = self.run.workflow_id.clone();
        let mut fault =
            |kind, message: String| violations.push(place.fault(kind, message).of(workflow_id.clone(), run_id));
        self.check_place_in_run(record, &mut fault);
        self.digests.insert(record.seq, record.digest);
        self.look_for_unknown(record, &mut fault);
        let (body, event) = self.effective(record, &mut fault);
        self.is_to_end(record);
        if let Some(body) = body {
            self.happened(&body, event, record, rules, &mut fault);
        }
        for mark in &record.commands {
            self.asked(mark, &mut fault);
        }
        self.take_back(record);
        self.closed(record, &mut fault);
        self.run.records = self.run.records.saturating_add(1);
    }

    /// What it asks for or waits for is known in part only.
    fn is_known_in_part(&self) -> bool {
        self.run.partial || self.blurred
    }

    /// A termination that stands, also one that was only taken in by a release that does not know all of the run.
    fn is_to_end(&mut self, record: &Record) {
        match &record.body {
            Body::Terminated => self.run.terminations.push(record.event),
            Body::Received { event, body, .. } if matches!(**body, Body::Terminated) => {
                self.run.terminations.push(*event);
            }
            _ => {}
        }
    }

    fn look_for_unknown(&mut self, record: &Record, fault: &mut impl FnMut(Kind, String)) {
        let mut unknown = |what: String| {
            fault(Kind::Unknown, format!("{what}; what the run asks for and waits for is judged in part from here on"));
            self.blurred = true;
        };
        match &record.body {
            Body::Unknown { kind } => unknown(format!("the record is of the unknown kind {kind:?}")),
            Body::Received { body, .. } => {
                if let Body::Unknown { kind } = &**body {
                    unknown(format!("the event that is received is of the unknown kind {kind:?}"));
                }
            }
            _ => {}
        }
        for mark in record.commands.iter().filter(|mark| mark.kind == MarkKind::Unknown) {
            unknown(format!("the command of number {} is of the unknown kind {:?}", mark.no, mark.name));
        }
    }

    /// Whether a carried record says what the one said that stood, as far as that was read.
    pub fn repeats(&self, record: &Record) -> bool {
        self.digests.get(&record.seq).is_none_or(|digest| *digest == record.digest)
    }

    /// Whether one of its records was read where it stood.
    pub fn has_read(&self, seq: u32) -> bool {
        self.digests.contains_key(&seq)
    }

    /// Whether an input waits to be applied, as far as the run is known.
    pub fn may_have_received(&self, event: Id) -> bool {
        self.is_known_in_part() || self.received.contains_key(&event)
    }

    /// How many records the run has.
    pub fn next_seq(&self) -> u32 {
        self.next_seq.unwrap_or(0)
    }

    fn check_place_in_run(&mut self, record: &Record, fault: &mut impl FnMut(Kind, String)) {
        let expected = match self.next_seq {
            Some(expected) => expected,
            None if self.run.partial => record.seq,
            None => 0,
        };
        if record.seq != expected {
            fault(Kind::Sequence, format!("the record is number {} of its run where {expected} follows", record.seq));
        }
        if self.next_seq.is_none() && !self.run.partial {
            match &record.body {
                Body::Started { .. } | Body::Spawned { .. } | Body::NeverBegan { .. } | Body::Unknown { .. } => {}
                Body::Received { body, .. } if begins(body) || matches!(**body, Body::Unknown { .. }) => {}
                other => fault(Kind::Start, format!("the run's first record is no start but {}", word(other))),
            }
        }
        if self.run.status != Status::Open {
            fault(Kind::AfterClose, format!("{} stands after the run's end", word(&record.body)));
        }
        self.next_seq = Some(record.seq.saturating_add(1));
    }

    /// What takes effect with a record, and the id of the event that it came from.
    fn effective(&mut self, record: &Record, fault: &mut impl FnMut(Kind, String)) -> (Option<Body>, Id) {
        match &record.body {
            Body::Received { event, body, attempt } => {
                if let Some((_, before)) = self.received.get(event)
                    && before >= attempt
                {
                    fault(Kind::Received, format!("event {event} is received as try {attempt} after try {before}"));
                }
                self.received.insert(*event, ((**body).clone(), *attempt));
                (None, *event)
            }
            Body::Applied { event } => match self.received.remove(event) {
                Some((body, _)) => (Some(body), *event),
                None => {
                    if !self.is_known_in_part() {
                        fault(Kind::Received, format!("event {event} is applied, but was never received"));
                    }
                    (None, *event)
                }
            },
            body => {
                self.received.remove(&record.event);
                (Some(body.clone()), record.event)
            }
        }
    }

    fn happened(
        &mut self,
        body: &Body,
        event: Id,
        record: &Record,
        rules: &Rules,
        fault: &mut impl FnMut(Kind, String),
    ) {
        match body {
            Body::NeverBegan { parent } => {
                (self.run.parent, self.run.never_began) = (Some(*parent), true);
                if self.run.run_id != parent.child() {
                    fault(
                        Kind::RunId,
                        "the run id does not follow from the command that asked for the child".to_owned(),
                    );
                }
                if record.close.is_none() {
                    fault(Kind::Close, "a child that never began goes on".to_owned());
                }
            }
            Body::ChildBegan { step } => {
                let known = self.command(*step).is_some_and(|command| command.kind == MarkKind::Child);
                if !known && !self.run.partial {
                    fault(Kind::Unscheduled, format!("child {step} has begun, but was never asked for"));
                }
            }
            Body::ChildClosed { step, done, close, never_began } => {
                self.settled(MarkKind::Child, *step, *done, record.at, fault);
                if let Some(child) = self.command(*step).and_then(|command| command.child.as_mut()) {
                    (child.end, child.never_began) = (Some(*close), *never_began);
                }
            }
            Body::Delivered { step, done } => {
                let kind = match self.command(*step) {
                    Some(command) if command.kind == MarkKind::Termination => MarkKind::Termination,
                    _ => MarkKind::Message,
                };
                self.settled(kind, *step, *done, record.at, fault);
            }
            Body::UpdateAccepted { id } => {
                let no = self.updates_taken;
                self.updates_taken = no.saturating_add(1);
                if self.updates.insert(id.clone(), (no, false)).is_some() {
                    fault(Kind::Update, format!("update {id:?} is taken a second time"));
                }
            }
            Body::CancelRequested => self.run.cancel_requested = true,
            Body::Started { workflow } | Body::Spawned { workflow, .. } | Body::Continued { workflow, .. } => {
                if let Body::Continued { before, parent, .. } = body {
                    (self.run.continues, self.run.parent) = (Some(*before), *parent);
                }
                if let Body::Spawned { parent, .. } = body {
                    self.run.parent = Some(*parent);
                    if self.run.run_id != parent.child() {
                        fault(Kind::RunId, "the run id does not follow from the command that asked for it".to_owned());
                    }
                }
                if !self.run.workflow.is_empty() {
                    fault(Kind::Start, "the run is started twice".to_owned());
                }
                if event != self.run.run_id {
                    fault(Kind::RunId, format!("the run was begun by event {event}, which should be its id"));
                }
                self.run.workflow.clone_from(workflow);
                self.ordered = rules.ordered_workflows.contains(workflow);
                self.next_no = Some(0);
            }
            Body::ActivitySettled { step, done } => self.settled(MarkKind::Activity, *step, *done, record.at, fault),
            Body::StepSettled { step, done } => self.settled(MarkKind::Step, *step, *done, record.at, fault),
            Body::PromiseSettled { step, done } => self.settled(MarkKind::Promise, *step, *done, record.at, fault),
            Body::TimerFired { step } => self.settled(MarkKind::Timer, *step, true, record.at, fault),
            Body::AttemptFailed { step, attempt } => {
                self.kept.failed(*step, *attempt);
                let known = self.command(*step).is_some_and(|command| command.kind == MarkKind::Activity);
                if !known && !self.is_known_in_part() {
                    let message = format!("an attempt at step {step} failed, which is no scheduled activity");
                    fault(Kind::Unscheduled, message);
                }
            }
            Body::AttemptLeft { step, attempt, until, silence, running } => {
                self.is_activity(*step, "an attempt was left", fault);
                self.kept.left((*step, *attempt), *until, silence.map(|silence| (silence, *running)), record.at);
            }
            Body::AttemptReported { step, attempt, end } => {
                self.kept.told(*step, *attempt, record.at);
                if end.is_some() {
                    self.attempt_ended(*step, *attempt, fault);
                }
                match end {
                    Some(AttemptEnd::Settled(done)) => {
                        self.settled(MarkKind::Activity, *step, *done, record.at, fault);
                    }
                    Some(AttemptEnd::Failed) | None => self.is_activity(*step, "an attempt was told of", fault),
                }
            }
            Body::AttemptOverdue { step, attempt } => {
                self.is_activity(*step, "an attempt was overdue", fault);
                let early = self.kept.overdue(*step, *attempt, record.at, self.is_known_in_part());
                early.into_iter().for_each(|early| fault(Kind::Overdue, early));
                self.attempt_ended(*step, *attempt, fault);
            }
            Body::Parked { kind, message } => self.run.parked = Some(format!("{kind}: {message}")),
            Body::Resumed => self.run.parked = None,
            Body::Terminated if record.close.as_deref() != Some("terminated") => {
                fault(Kind::Close, "the run is terminated without coming to its end".to_owned());
            }
            Body::TimedOut if record.close.as_deref() != Some("timed_out") => {
                fault(Kind::Close, "the run is timed out without coming to its end".to_owned());
            }
            Body::HistoryExceeded if record.close.as_deref() != Some("failed") => {
                fault(Kind::Close, "the run's history is too long, and it does not come to its end".to_owned());
            }
            _ => {}
        }
    }

    /// An input goes along with the run for which another one goes on. False if this run never had it, as far as is known.
    pub fn hand_on(&mut self, event: Id) -> bool {
        self.received.remove(&event).is_some() || self.is_known_in_part()
    }

    fn is_activity(&mut self, step: u32, what: &str, fault: &mut impl FnMut(Kind, String)) {
        let known = self.command(step).is_some_and(|command| command.kind == MarkKind::Activity);
        if !known && !self.is_known_in_part() {
            fault(Kind::Unscheduled, format!("{what} at step {step}, which is no scheduled activity"));
        }
    }

    /// An attempt that is completed from outside ends once.
    fn attempt_ended(&mut self, step: u32, attempt: u32, fault: &mut impl FnMut(Kind, String)) {
        if !self.ended_attempts.insert((step, attempt)) {
            fault(Kind::SettledTwice, format!("attempt {attempt} at step {step} ends a second time"));
        }
    }

    fn command(&mut self, no: u32) -> Option<&mut Command> {
        // Numbers are dense in all but broken or partial runs, so the guess is right almost always.
        let first = self.run.commands.first()?.no;
        let guess = no.checked_sub(first).and_then(|at| usize::try_from(at).ok())?;
        if self.run.commands.get(guess).is_some_and(|command| command.no == no) {
            return self.run.commands.get_mut(guess);
        }
        self.run.commands.iter_mut().find(|command| command.no == no)
    }

    fn settled(&mut self, kind: MarkKind, no: u32, done: bool, at: u64, fault: &mut impl FnMut(Kind, String)) {
        let (partial, ordered) = (self.is_known_in_part(), self.ordered);
        let Some(command) = self.command(no) else {
            if !partial {
                fault(Kind::Unscheduled, format!("{} {no} is settled, but was never scheduled", kind.word()));
            }
            return;
        };
        let label = format!("{} {no} `{}`", command.kind.word(), command.label());
        if command.kind != kind {
            fault(Kind::Unscheduled, format!("{label} is settled as a {}", kind.word()));
        }
        if command.settled.is_some() {
            fault(Kind::SettledTwice, format!("{label} is settled a second time"));
        }
        if let Some(due) = command.due
            && kind == MarkKind::Timer
            && at < due
        {
            fault(Kind::TimerEarly, format!("{label} fired at {at} ms, {} ms before it was due", due - at));
        }
        command.settled = Some(done);
        if ordered && kind == MarkKind::Activity {
            let earlier = self.run.commands.iter().find(|command| {
                command.no < no && command.kind == MarkKind::Activity && command.settled.is_none() && !command.cancelled
            });
            if let Some(earlier) = earlier {
                let message = format!("{label} is settled before activity {} `{}`", earlier.no, earlier.label());
                fault(Kind::Order, format!("{message}, which was scheduled first"));
            }
        }
    }

    fn asked(&mut self, mark: &Mark, fault: &mut impl FnMut(Kind, String)) {
        let label = if mark.name.is_empty() { mark.kind.word() } else { &mark.name };
        if mark.kind == MarkKind::Detach {
            let partial = self.run.partial;
            match self.command(mark.no).and_then(|command| command.child.as_mut()) {
                Some(child) => child.on_close = OnClose::Abandon,
                None if partial => {}
                None => fault(Kind::Unscheduled, format!("child {} is detached, but was never asked for", mark.no)),
            }
            return;
        }
        if mark.kind == MarkKind::Answer {
            let partial = self.is_known_in_part();
            match self.updates.get_mut(&mark.name) {
                None if partial => {}
                None => fault(Kind::Update, format!("update {:?} is answered, but was never taken", mark.name)),
                Some((_, true)) => fault(Kind::Update, format!("update {:?} is answered a second time", mark.name)),
                Some((no, _)) if *no != mark.no && !partial => {
                    let message = format!("update {:?}, the {no}th, is answered as the {}th", mark.name, mark.no);
                    fault(Kind::Update, message);
                }
                Some((_, answered)) => *answered = true,
            }
            return;
        }
        if mark.kind == MarkKind::Cancel {
            let partial = self.is_known_in_part();
            match self.command(mark.no) {
                None if partial => {}
                None => fault(Kind::Unscheduled, format!("step {} is cancelled, but was never scheduled", mark.no)),
                Some(command) if command.cancelled => {
                    fault(Kind::Cancel, format!("step {} is cancelled a second time", mark.no));
                }
                Some(command) if command.settled.is_some() => {
                    fault(Kind::Cancel, format!("step {} is cancelled after it was settled", mark.no));
                }
                Some(command) => command.cancelled = true,
            }
            return;
        }
        if mark.kind == MarkKind::Unknown {
            return;
        }
        if self.run.workflow.is_empty() && !self.is_known_in_part() {
            fault(Kind::Start, format!("step {} `{label}` is scheduled before the run is started", mark.no));
        }
        let expected = match self.next_no {
            // Numbers between may be those of commands that are not known.
            Some(next) if self.blurred => next.max(mark.no),
            Some(next) => next,
            None if self.is_known_in_part() => mark.no,
            None => 0,
        };
        if mark.kind == MarkKind::Patch {
            if mark.no != expected {
                fault(
                    Kind::CommandGap,
                    format!("patch `{label}` stands before step {}, where {expected} follows", mark.no),
                );
            }
            return;
        }
        if mark.no < expected {
            fault(Kind::ScheduledTwice, format!("step {} `{label}` is scheduled a second time", mark.no));
            return;
        }
        if mark.no > expected {
            fault(Kind::CommandGap, format!("step {} `{label}` is scheduled where {expected} follows", mark.no));
        }
        if mark.kind == MarkKind::Timer && mark.due.is_none() {
            fault(Kind::CommandGap, format!("timer {} has no due time", mark.no));
        }
        self.next_no = Some(mark.no.saturating_add(1));
        let Mark { no, kind, name, due, child, next } = mark.clone();
        if kind == MarkKind::ContinueAsNew {
            if next != Some(Link { run_id: self.run.run_id, step: no }.next()) {
                fault(Kind::RunId, "the run that goes on has an id that does not follow from the command".to_owned());
            }
            self.run.continued_as = next;
            return;
        }
        let child = child.map(|(run_id, on_close)| {
            let link = Link { run_id: self.run.run_id, step: no };
            if link.child() != run_id {
                fault(Kind::RunId, format!("child {no} has a run id that does not follow from its command"));
            }
            Child { run_id, on_close, taken_back: false, never_began: false, end: None }
        });
        self.run.commands.push(Command { no, kind, name, due, settled: None, cancelled: false, child });
    }

    /// A child that is dropped by the record that asks for it is not begun, nor one that its end would not let go on.
    fn take_back(&mut self, record: &Record) {
        for mark in record.commands.iter().filter(|mark| mark.kind == MarkKind::Child) {
            let Some(command) = self.command(mark.no) else { continue };
            let Some(child) = &mut command.child else { continue };
            child.taken_back = command.cancelled || record.close.is_some() && child.on_close != OnClose::Abandon;
        }
    }

    fn closed(&mut self, record: &Record, fault: &mut impl FnMut(Kind, String)) {
        let Some(close) = &record.close else {
            if record.commands.iter().any(|mark| mark.kind == MarkKind::ContinueAsNew) {
                fault(Kind::Close, "the run goes on as another one, and does not end".to_owned());
            }
            return;
        };
        let status = match close.as_str() {
            "completed" => Status::Completed,
            "failed" => Status::Failed,
            "cancelled" => Status::Cancelled,
            "terminated" => Status::Terminated,
            "timed_out" => Status::TimedOut,
            "continued_as_new" => Status::ContinuedAsNew,
            other => {
                fault(Kind::Close, format!("the run ends with the unknown status {other:?}"));
                Status::Failed
            }
        };
        if (status == Status::ContinuedAsNew) != self.run.continued_as.is_some() {
            fault(Kind::Close, format!("the run ends as {close}, and {:?} goes on for it", self.run.continued_as));
        }
        if matches!(record.body, Body::Received { .. }) {
            fault(Kind::Close, "the run ends with an input that was only received".to_owned());
        }
        if self.run.status == Status::Open {
            self.run.status = status;
            self.run.closed_at_ms = Some(record.at);
            self.run.end = record.close_digest;
            self.run.parked = None;
        }
    }
}

/// Whether it is the start of a run.
fn begins(body: &Body) -> bool {
    matches!(body, Body::Started { .. } | Body::Spawned { .. } | Body::Continued { .. })
}

fn word(body: &Body) -> &'static str {
    match body {
        Body::Started { .. } | Body::Spawned { .. } | Body::Continued { .. } => "a start",
        Body::NeverBegan { .. } => "a child that never began",
        Body::ChildBegan { .. } => "the beginning of a child",
        Body::ChildClosed { .. } => "the end of a child",
        Body::Delivered { .. } => "an answer of another run",
        Body::Signalled => "a signal",
        Body::SignalledByTag => "a signal by tag",
        Body::TagReached { .. } => "how far a signal by tag has come",
        Body::UpdateAccepted { .. } => "an update",
        Body::ActivitySettled { .. } => "an activity's settlement",
        Body::AttemptFailed { .. } => "a failed attempt",
        Body::StepSettled { .. } => "a step's settlement",
        Body::PromiseSettled { .. } => "a promise's settlement",
        Body::AttemptLeft { .. } => "an attempt that was left",
        Body::AttemptReported { .. } => "a report of an attempt",
        Body::AttemptOverdue { .. } => "an overdue attempt",
        Body::TimerFired { .. } => "a fired timer",
        Body::CancelRequested => "a request to cancel",
        Body::Terminated => "a termination",
        Body::TimedOut => "a time-out",
        Body::HistoryExceeded => "a history that is too long",
        Body::Unknown { .. } => "a record of an unknown kind",
        Body::Received { .. } => "a received input",
        Body::Applied { .. } => "an applied input",
        Body::Parked { .. } => "a parking",
        Body::Resumed => "a resumption",
        Body::Carried { .. } => "a carried run",
        Body::Remembered { .. } => "remembered ids",
    }
}
