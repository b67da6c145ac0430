//! One round of a shard: inputs applied to the book, and what follows from them once the frame stands.
//!
//! The book is changed at once, on trust; if the frame turns out void the shard throws the book away. Nothing
//! that is gathered in [`Round`] leaves before that is decided.

use everpulse_protocol::codec::Body;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::{Event, EventBody, NextAttempt, Outcome, ReplyTo, Start};
use everpulse_protocol::family::Demand;
use everpulse_protocol::history::{
    Close, CloseStatus, CommandKind, CommandMark, Parked, ParkedKind, Record, RecordBody,
};
use everpulse_protocol::note::Note;
use everpulse_protocol::reply::{Reply, ReplyBody};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::task::{Task, TaskOptions};
use everpulse_protocol::timer::Wake;
use everpulse_protocol::{EventId, Failure, FailureKind, Payload, RunId, Timestamp, WorkflowId, shard};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::intercept::RunEvent;
use everpulse_sdk::replay::{Command, Input, Instance, StepBody, StepOptions, Turn, TurnState};

use self::continuing::{Left, Origin, Waiting, as_continuing};
pub(crate) use self::refusals::Refusals;
use self::tagged::Tagged;
use crate::book::Book;
use crate::effect::{DeliveryToken, LocalResult, Outgoing};
use crate::mutation::{self, Mutation};
use crate::replay::{self, broken};
use crate::run::{Live, Run, Started};
use crate::shard::Eager;
use crate::{Map, Set};

/// Frames stop taking inputs at about this size; one input more may lie above it. Larger ones are hardly faster, as some
/// hundred records share a receipt, and what a frame's bytes pass through on their way grows with them.
pub(crate) const FRAME_BYTES: usize = 64 * 1024;

/// What one record has beside its values, and what else its frame has, finds room in what this leaves of the 5 MiB that
/// brokers take by default.
pub(crate) const RECORD_BYTES_MAX: usize = 5 * 1024 * 1024 - 256 * 1024;
/// Larger values are allowed in stores alone.
pub const INLINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One event may make a run ask for so many commands: their record has to fit a frame.
const COMMANDS_PER_TURN_MAX: usize = 20_000;

mod completion;
mod continuing;
mod family;
mod inputs;
mod length;
mod look;
mod observed;
mod received;
mod refusals;
mod signals;
mod tagged;
mod unknown;
mod updates;

/// What a round gathered.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub records: Vec<Record>,
    pub bytes: usize,
    pub sends: Vec<Outgoing>,
    pub starts: Vec<StartLocal>,
    pub replies: Vec<(String, Reply)>,
    pub cancel_tasks: Vec<EventId>,
    pub cancel_locals: Vec<(RunId, u32)>,
    /// Messages that were taken, with the runs that their acknowledgement waits for.
    pub taken: Vec<(DeliveryToken, Vec<RunId>)>,
    /// Messages of which it has events.
    pub touches: Vec<DeliveryToken>,
    /// Runs that ended in this round.
    pub ended: Vec<RunId>,
    /// Answers rest on the book being current: without an append the tail has to be asked for.
    pub decides: bool,
    /// The current wake-up arrived: it needs a successor, or none is needed any more.
    pub wake_served: bool,
    /// Known inputs arrived again for these runs: whoever had them is gone, so their local work starts here.
    pub orphaned: Vec<RunId>,
    /// All that stood in the history of runs when the first late result of the round came for them.
    pub recorded: Map<RunId, Set<EventId>>,
    /// Runs with local work that nobody is known to do, to be started when the round has taken effect.
    pub unseen: Vec<RunId>,
    /// The signal of the start that is being applied.
    pub with_start: Option<Event>,
    /// How far a signal to all runs with a tag has come that is being applied.
    pub tagged: Tagged,
    /// Signals for runs that are not there yet.
    pub early: Vec<(DeliveryToken, Event)>,
    /// Ends that are asked for and not at hand: run, who asks.
    pub fetch: Vec<(RunId, ReplyTo)>,
    /// Its frame is the last one of a carrying.
    pub ends_carrying: bool,
    /// Runs with records in this round that go on.
    pub touched: Vec<RunId>,
    /// Parked runs that go on: their tasks may not be sent yet.
    pub revived: Vec<RunId>,
    /// Runs that did not do the same twice.
    pub unsteady: Vec<RunId>,
    /// Tasks for which an eager slot was reserved.
    pub reserved: Vec<EventId>,
    /// What those are told who look on.
    pub observed: Vec<RunEvent>,
    /// So late it is by the clocks of others.
    pub witnessed: Timestamp,
}

/// Local work that a round wants started.
#[derive(Debug)]
pub(crate) enum StartLocal {
    Step { run: RunId, no: u32, name: String, options: StepOptions, body: StepBody },
    Eager(Box<Task>),
}

impl StartLocal {
    /// Whose it is: run, step.
    pub fn key(&self) -> (RunId, u32) {
        match self {
            Self::Step { run, no, .. } => (*run, *no),
            Self::Eager(task) => (task.run_id, task.step),
        }
    }
}

/// Applies inputs to the book.
pub(crate) struct Applier<'a> {
    pub book: &'a mut Book,
    pub round: &'a mut Round,
    pub registry: &'a Registry,
    pub eager: &'a dyn Eager,
    pub shard: u32,
    /// The number that the round's frame will have.
    pub frame: u64,
    pub at: Timestamp,
    /// How far clients' clocks may be ahead of it, in milliseconds.
    pub skew_ms: u64,
    pub payload_bytes_max: usize,
    pub record_bytes_max: usize,
    pub refusals: &'a mut Refusals,
    /// What this worker says that it was built from.
    pub build: Option<&'a str>,
    pub check_determinism: bool,
    pub history_warning: HistorySize,
    pub history_limit: HistorySize,
}

impl Applier<'_> {
    /// Begins a run whose start is applied now.
    fn begin(&mut self, run_id: RunId, event: Event, start: Start, origin: Origin) {
        let entry = match continuing::entry(self.registry, &event.workflow_id, &start, origin.continues()) {
            Ok(entry) => entry,
            Err(parked) => {
                self.receive_once(run_id, event, 0);
                if mutation::is(Mutation::NoCodeFails) {
                    let (id, body) = (EventId::derived(run_id, 0, "no code"), RecordBody::TimedOut);
                    let failure = Failure::new(FailureKind::NotFound, parked.message);
                    return self.end(run_id, id, &body, CloseStatus::Failed, failure);
                }
                self.park(run_id, parked);
                return;
            }
        };
        let build = self.build.or(entry.build).map(str::to_owned);
        let started = Started {
            workflow: start.workflow.clone(),
            version: entry.version,
            at: self.at,
            times_out_at: None,
            build: build.clone(),
        };
        let blank = Run::new(event.workflow_id.clone(), run_id);
        let mut info = replay::info(&blank, &started, &start, origin.continues());
        if mutation::is(Mutation::ChanceByFrame) {
            info.run_id = RunId(EventId::derived(run_id, self.frame as u32, "chance").0);
        }
        let coding = self.registry.coding();
        let size = self.book.runs.get(&run_id).map(|run| run.size).unwrap_or_default().at_next();
        let new = |info| {
            let mut instance = Instance::new(entry, info, start.args.clone(), coding);
            instance.set_history(size);
            instance
        };
        let twin = self.check_determinism.then(|| new(info.clone()));
        let mut instance = new(info);
        let turn = instance.apply(Input::Start, self.at);
        let version = entry.version;
        let body = origin.begins(start, version, event.reply_to.clone(), build);
        let refused = self.refused((&event.workflow_id, run_id), event.id, &body, &turn);
        let differs = match refused {
            Some(_) => None,
            None => twice(twin, &event.workflow_id, Input::Start, self.at, &turn).err(),
        };
        self.round.unsteady.extend(differs.is_some().then_some(run_id));
        if let Some(parked) = refused.or(differs) {
            self.receive_once(run_id, event, 0);
            self.park(run_id, parked);
            return;
        }
        let live = Box::new(Live { instance, used: None, published: turn.published.into_iter().collect() });
        let asked = Asked { commands: turn.commands, notes: turn.notes, close: closing(turn.state) };
        self.write_turn(&event.workflow_id, run_id, event.id, &body, asked);
        if let Some(run) = self.book.runs.get_mut(&run_id) {
            run.live = Some(live);
            self.book.touch(run_id, self.frame);
        }
    }

    /// Applies an input; parks the run, and takes the input in, where the code cannot.
    fn apply_event(&mut self, run_id: RunId, event: Event) {
        let Ok(body) = event.body() else { return };
        let Some(body) = recorded(body) else { return };
        let id = event.id;
        if let Err(parked) = self.apply(run_id, id, &body) {
            self.receive_once(run_id, event, 0);
            self.park(run_id, parked);
        }
    }

    /// Applies what happened to a run and writes the record.
    fn apply(&mut self, run_id: RunId, event: EventId, body: &RecordBody) -> Result<(), Parked> {
        self.enliven(run_id)?;
        let at = self.at;
        let mut twin = self.twin(run_id)?;
        let Some(run) = self.book.runs.get_mut(&run_id) else { return Ok(()) };
        let Some(live) = run.live.as_mut() else { return Ok(()) };
        let workflow_id = run.workflow_id.clone();
        let Some(input) = replay::as_input(body) else { return Ok(()) };
        let again = twin.is_some().then(|| input.clone());
        if let Some(twin) = &mut twin {
            twin.set_history(run.size.at_next());
        }
        live.instance.set_history(run.size.at_next());
        let before = if mutation::is(Mutation::BordersShow) { self.round.records.len() as u64 } else { 0 };
        let mut turn = live.instance.apply(input, Timestamp(at.0 + before));
        let differs = again.and_then(|again| twice(twin, &workflow_id, again, at, &turn).err());
        live.published.extend(std::mem::take(&mut turn.published));
        let refused = self.refused((&workflow_id, run_id), event, body, &turn);
        self.round.unsteady.extend((refused.is_none() && differs.is_some()).then_some(run_id));
        if let Some(parked) = refused.or(differs) {
            if let Some(run) = self.book.runs.get_mut(&run_id) {
                run.live = None;
            }
            return Err(parked);
        }
        let asked = Asked { commands: turn.commands, notes: turn.notes, close: closing(turn.state) };
        self.write_turn(&workflow_id, run_id, event, body, asked);
        Ok(())
    }

    /// The run once more, from its beginning, if that is asked for.
    fn twin(&mut self, run_id: RunId) -> Result<Option<Instance>, Parked> {
        let run = self.book.runs.get(&run_id).map(|run| &**run).filter(|_| self.check_determinism);
        let twin = |run: &Run| {
            let replayed = replay::replay(run, self.registry);
            replayed
                .map(|replayed| replayed.live.instance)
                .map_err(|parked| replay::unsteady(&run.workflow_id, &parked))
        };
        let twin = run.map(twin).transpose();
        self.round.unsteady.extend(twin.is_err().then_some(run_id));
        twin
    }

    /// Why what a turn left cannot be recorded.
    fn refused(
        &self,
        (workflow_id, run_id): (&WorkflowId, RunId),
        event: EventId,
        body: &RecordBody,
        Turn { commands, state, .. }: &Turn,
    ) -> Option<Parked> {
        if let Some(parked) = broken(workflow_id, state) {
            return Some(parked);
        }
        if commands.len() > COMMANDS_PER_TURN_MAX {
            return Some(Parked {
                kind: ParkedKind::Panicked,
                message: format!(
                    "workflow {workflow_id} asked for {} things at once, the limit is {COMMANDS_PER_TURN_MAX}; do them in \
                     portions",
                    commands.len()
                ),
                sealed: None,
            });
        }
        if let Some(continuing) = commands.iter().find_map(as_continuing)
            && let Some(parked) = self.refuses_to_continue((workflow_id, run_id), event, body, continuing)
        {
            return Some(parked);
        }
        commands.iter().find_map(|command| {
            let (what, name, bytes) = match command {
                Command::Activity { name, args, .. } => ("the arguments of activity", name, args.len()),
                Command::Child { spawn, .. } => {
                    let tags: usize = spawn.tags.iter().map(String::len).sum();
                    ("the arguments and tags of child", &spawn.workflow, spawn.args.len() + tags)
                }
                Command::Signal { name, value, .. } => ("the value of signal", name, value.len()),
                Command::ContinueAsNew { next, .. } => {
                    let tags: usize = next.tags.iter().flatten().map(String::len).sum();
                    ("the arguments and tags of the next run of", &next.workflow, next.args.len() + tags)
                }
                _ => return None,
            };
            (bytes > self.payload_bytes_max).then(|| Parked {
                kind: ParkedKind::Panicked,
                message: format!(
                    "workflow {workflow_id}: {what} `{name}` has {bytes} bytes, the limit is {}; pass a reference to the \
                     data instead",
                    self.payload_bytes_max
                ),
                sealed: None,
            })
        })
    }

    /// Makes sure that the run's future is there.
    fn enliven(&mut self, run_id: RunId) -> Result<(), Parked> {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return Ok(()) };
        if run.live.is_none() {
            run.live = Some(replay::replay(run, self.registry)?.live);
        }
        self.book.touch(run_id, self.frame);
        Ok(())
    }

    /// Fires what the clock has reached: a timer, a start that waited, a run's time-out.
    pub fn fire(&mut self, run_id: RunId, no: u32) {
        self.book.bring(run_id);
        let Some(run) = self.book.runs.get(&run_id) else { return };
        if run.unknown.is_some() {
            return self.park_unknown(run_id);
        }
        if no == crate::run::RUN_TIMER {
            if run.started.is_none() {
                self.book.begin_later(run_id);
            } else {
                self.end(
                    run_id,
                    EventId::derived(run_id, no, "timed out"),
                    &RecordBody::TimedOut,
                    CloseStatus::TimedOut,
                    Failure::new(FailureKind::TimedOut, "the run went past its time-out"),
                );
            }
            return;
        }
        match run.pending.get(&no) {
            Some(pending) if pending.close_by.is_some_and(|close_by| close_by <= self.at) => {
                return self.expire(run_id, no);
            }
            Some(pending) if pending.kind == CommandKind::Activity => return self.overdue(run_id, no),
            _ => {}
        }
        let event = EventId::derived(run_id, no, "fired");
        if let Err(parked) = self.apply(run_id, event, &RecordBody::TimerFired { step: no }) {
            self.park(run_id, parked);
        }
    }

    /// Takes the result of local work. False if nobody waits for it.
    pub fn local(&mut self, run_id: RunId, step: u32, result: LocalResult) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let Some(pending) = run.pending.get(&step) else { return };
        if !pending.is_open_locally() {
            return;
        }
        let workflow_id = run.workflow_id.clone();
        let kind = pending.kind;
        let event = |what: &str, body: &EventBody| Event {
            id: EventId::derived(run_id, step, what),
            workflow_id: workflow_id.clone(),
            run_id: Some(run_id),
            exact: false,
            sent_at: self.at,
            reply_to: None,
            again: false,
            body: Body::of(body),
        };
        if run.unknown.is_some() {
            let (what, body) = unknown::told(step, kind, result);
            return self.keep(run_id, event(&what, &body));
        }
        match result {
            LocalResult::Settled { attempt, outcome } => {
                let outcome = self.limited(outcome);
                let body = match kind {
                    CommandKind::Step => EventBody::StepSettled { step, outcome },
                    _ => EventBody::ActivitySettled { step, attempt, outcome },
                };
                let event = event("settled", &body);
                self.take(run_id, event, false);
            }
            LocalResult::Left { task, until } => {
                let id = EventId::derived(run_id, task.step, &format!("attempt {} left", task.attempt));
                self.leave(run_id, id, task, until, false);
            }
            LocalResult::Retry { attempt, failure, at } => {
                let next = NextAttempt::At(at);
                let body = RecordBody::AttemptFailed { step, attempt, failure, next };
                self.write(&workflow_id, run_id, attempt_failed(run_id, step, attempt), &body, Vec::new(), None);
            }
            LocalResult::Parked { attempt, failure } => {
                let next = NextAttempt::Redrive;
                let body = RecordBody::AttemptFailed { step, attempt, failure, next };
                self.write(&workflow_id, run_id, attempt_failed(run_id, step, attempt), &body, Vec::new(), None);
            }
        }
    }

    /// What goes into a record, and is put out where it is large.
    fn limited(&self, outcome: Outcome) -> Outcome {
        within(outcome, self.payload_bytes_max.min(self.record_bytes_max))
    }

    /// What leaves, and is put out on its way.
    fn answered(&self, outcome: Outcome) -> Outcome {
        within(outcome, self.payload_bytes_max)
    }

    /// An end that fits its record: what that has beside it is the same each time, as what else its frame has is not.
    fn fitting(&self, close: Close, beside: usize) -> Close {
        let room = self.record_bytes_max.saturating_sub(beside);
        let (bytes, max) = (close.outcome.bytes(), self.payload_bytes_max.min(room));
        if bytes > max { close.shortened(&too_large(bytes, max)) } else { close }
    }

    fn end(&mut self, run_id: RunId, event: EventId, body: &RecordBody, status: CloseStatus, failure: Failure) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let workflow_id = run.workflow_id.clone();
        for (no, pending) in &run.pending {
            if pending.is_local() {
                self.round.cancel_locals.push((run_id, *no));
            } else if pending.kind == CommandKind::Activity {
                self.round.cancel_tasks.push(EventId::derived(run_id, *no, "task"));
            }
        }
        // What other runs carry out for it goes on; its children hear of the end.
        let ends = run.pending.iter().filter(|(_, pending)| !pending.kind.is_of_another_run());
        let marks: Vec<CommandMark> = ends.map(|(no, _)| cancel_mark(*no)).collect();
        let close = Close { status, outcome: Outcome::Failed(failure) };
        self.record(&workflow_id, run_id, event, body, marks, Some(close));
    }

    /// Writes a record, and gathers what its commands want.
    fn write(
        &mut self,
        workflow_id: &WorkflowId,
        run_id: RunId,
        event: EventId,
        body: &RecordBody,
        commands: Vec<Command>,
        close: Option<Close>,
    ) {
        self.write_turn(workflow_id, run_id, event, body, Asked { commands, notes: Vec::new(), close });
    }

    /// The same of what came of an event that was applied.
    fn write_turn(
        &mut self,
        workflow_id: &WorkflowId,
        run_id: RunId,
        event: EventId,
        body: &RecordBody,
        Asked { commands, notes, close }: Asked,
    ) {
        let mut marks = Vec::with_capacity(commands.len());
        let mut others = Vec::new();
        let mut succession = None;
        // What happened, and a failure in the place of an end, find room as well.
        let mut room = self.record_bytes_max.saturating_sub(Body::of(body).0.len() + 64 * (1 + commands.len())) / 2;
        for command in commands {
            let mut mark = command.mark();
            if let Some(answer) = mark.answer.take() {
                // All answers of a turn are in one record.
                let (bytes, max) = (answer.bytes(), self.payload_bytes_max.min(room));
                let answer = if bytes > max { answer.shortened(&too_large(bytes, max)) } else { *answer };
                room = room.saturating_sub(answer.bytes());
                mark.answer = Some(Box::new(answer));
            }
            match command {
                Command::Activity { no, name, queue, args, options, headers } => {
                    let limit = options.schedule_to_close_ms;
                    mark.due = limit.map(|limit| Timestamp(self.at.0.saturating_add(limit)));
                    let of = (workflow_id, run_id);
                    let task = task(self.shard, of, no, name, queue, (args, headers), options, self.at);
                    if close.is_none() && self.eager.reserve(&task) {
                        mark.eager = true;
                        self.round.reserved.push(task.id);
                        if mutation::is(Mutation::EagerIsQueued) {
                            self.round.sends.push(Outgoing::Task(task.clone()));
                        }
                        self.round.starts.push(StartLocal::Eager(task));
                    } else {
                        self.round.sends.push(Outgoing::Task(task));
                    }
                }
                // A promise is in history: that is all that there is to do.
                Command::Timer { .. } | Command::Promise { .. } => {}
                Command::Step { no, name, options, body } => {
                    self.round.starts.push(StartLocal::Step { run: run_id, no, name, options, body });
                }
                command @ (Command::Child { .. }
                | Command::Signal { .. }
                | Command::CancelRun { .. }
                | Command::TerminateRun { .. }) => others.push(command),
                Command::Cancel { no } => self.cancel(run_id, no),
                Command::ContinueAsNew { target, next, unreceived, updates, .. } => {
                    let (of, left) = ((workflow_id, run_id), Left { unreceived: &unreceived, updates: &updates });
                    succession = self.succession(of, event, body, (target, *next), left);
                }
                // They leave nothing but their marks.
                Command::Patch { .. } | Command::Detach { .. } | Command::Answer { .. } => {}
            }
            marks.push(mark);
        }
        let waiting = self.record_noted(workflow_id, run_id, event, body, Noted { marks, notes, close });
        self.tell_others(run_id, others);
        if let Some(succession) = succession {
            self.succeed(run_id, succession, waiting);
        }
    }

    fn cancel(&mut self, run_id: RunId, no: u32) {
        let pending = self.book.runs.get(&run_id).and_then(|run| run.pending.get(&no));
        match pending {
            Some(pending) if pending.is_local() => self.round.cancel_locals.push((run_id, no)),
            Some(pending) if pending.kind == CommandKind::Activity => {
                self.round.cancel_tasks.push(EventId::derived(run_id, no, "task"));
            }
            Some(pending) if pending.kind == CommandKind::Child => self.unwant(run_id, no),
            Some(_) => {}
            // Scheduled and cancelled in one turn.
            None => {
                self.round.cancel_locals.push((run_id, no));
                self.round.cancel_tasks.push(EventId::derived(run_id, no, "task"));
            }
        }
    }

    /// Writes a record.
    fn record(
        &mut self,
        workflow_id: &WorkflowId,
        run_id: RunId,
        event: EventId,
        body: &RecordBody,
        marks: Vec<CommandMark>,
        close: Option<Close>,
    ) {
        self.record_noted(workflow_id, run_id, event, body, Noted { marks, notes: Vec::new(), close });
    }

    /// Writes a record. Gives who waits on, where another run goes on for this one.
    fn record_noted(
        &mut self,
        workflow_id: &WorkflowId,
        run_id: RunId,
        event: EventId,
        body: &RecordBody,
        Noted { marks, notes, close }: Noted,
    ) -> Waiting {
        let seq = self.book.runs.get(&run_id).map_or(0, |run| run.next_seq());
        let stored = Body::of(body);
        let answers = marks.iter().filter_map(|mark| mark.answer.as_deref()).map(Outcome::bytes).sum::<usize>();
        let noted = notes.iter().map(Note::bytes).sum::<usize>();
        let beside = stored.0.len() + 64 * (1 + marks.len()) + answers + noted;
        let close = close.map(|close| self.fitting(close, beside));
        self.round.bytes += beside + close.as_ref().map_or(0, |close| close.outcome.bytes());
        let record = Record {
            workflow_id: workflow_id.clone(),
            run_id,
            seq,
            event,
            at: self.at,
            body: stored,
            commands: marks,
            notes,
            close,
        };
        let ended = record.close.clone();
        self.observe((workflow_id, run_id), body, ended.as_ref().map(|close| close.status));
        let goes_on = record.continued_as().is_some();
        let (watchers, exact_watchers, of_updates) = match (&ended, self.book.runs.get_mut(&run_id)) {
            (Some(_), Some(run)) => {
                let of_updates = run.all_update_watchers();
                (std::mem::take(&mut run.watchers), std::mem::take(&mut run.exact_watchers), of_updates)
            }
            _ => Default::default(),
        };
        let before = self.book.runs.get(&run_id).map(|run| run.size).unwrap_or_default();
        self.book.absorb(&record, Some(body), self.frame);
        let unanswered = self.tell_answers(&record, of_updates);
        self.round.records.push(record);
        let Some(close) = ended else {
            self.mind_length(run_id, before);
            return Waiting::default();
        };
        self.round.ended.push(run_id);
        if let Some(run) = self.book.lingering.get(&run_id) {
            self.round
                .sends
                .extend(run.ending(close.clone(), self.at).into_iter().map(|event| Outgoing::Event(Box::new(event))));
        }
        // A run that ended with its first record has its watcher in that record alone.
        let own = match body {
            RecordBody::Started { reply_to, .. } => reply_to.clone(),
            _ => None,
        };
        let mut waiting: Vec<ReplyTo> = watchers;
        waiting.extend(own);
        let mut told = exact_watchers;
        if !goes_on {
            told.append(&mut waiting);
        }
        for reply_to in told {
            self.round.bytes += 64;
            self.reply(Some(&reply_to), ReplyBody::Closed { run_id, close: Box::new(close.clone()) });
        }
        if !goes_on {
            self.leave_unanswered(run_id, unanswered);
            return Waiting::default();
        }
        Waiting { ends: waiting, answers: unanswered }
    }

    /// Writes a record of the shard.
    fn record_of_shard(&mut self, event: EventId, body: &RecordBody) {
        let record = Record {
            workflow_id: shard::placeholder_id(self.shard),
            run_id: RunId::NIL,
            seq: 0,
            event: EventId::derived(RunId(event.0), self.shard, "noted"),
            at: self.at,
            body: Body::of(body),
            commands: Vec::new(),
            notes: Vec::new(),
            close: None,
        };
        self.round.bytes += record.body.0.len() + 64;
        self.book.absorb(&record, Some(body), self.frame);
        self.round.records.push(record);
    }

    fn reply(&mut self, to: Option<&ReplyTo>, body: ReplyBody) {
        if let Some(to) = to {
            self.round.replies.push((to.client.clone(), Reply { request: to.request, body }));
        }
    }

    fn bury(&mut self, event: Event, reason: String) {
        self.round.decides = true;
        let letter = DeadLetter { at: self.at, reason, letter: Letter::Event(Box::new(event)) };
        self.round.sends.push(Outgoing::DeadEvent(Box::new(letter)));
    }

    /// The successor of the current wake-up, named by the frame that is being built.
    pub fn name_wake(&mut self, due: Timestamp) -> Wake {
        let wake = Wake { shard: self.shard, number: self.frame, due };
        self.round.sends.push(Outgoing::Wake(wake));
        wake
    }
}

/// What a run's code asked for in one turn, said about it, and came to.
struct Asked {
    commands: Vec<Command>,
    notes: Vec<Note>,
    close: Option<Close>,
}

/// The same as history keeps it.
struct Noted {
    marks: Vec<CommandMark>,
    notes: Vec<Note>,
    close: Option<Close>,
}

/// The first attempt at an activity.
#[expect(clippy::too_many_arguments, reason = "they are the fields of the task, named there")]
pub(crate) fn task(
    shard: u32,
    (workflow_id, run_id): (&WorkflowId, RunId),
    step: u32,
    activity: String,
    queue: String,
    (args, headers): (Payload, Option<Payload>),
    options: TaskOptions,
    scheduled_at: Timestamp,
) -> Box<Task> {
    Box::new(Task {
        id: EventId::derived(run_id, step, "task"),
        workflow_id: workflow_id.clone(),
        run_id,
        shard,
        step,
        queue,
        activity,
        args,
        attempt: 1,
        scheduled_at,
        options,
        heartbeat: None,
        failures: Vec::new(),
        attempts_before: 0,
        returned: None,
        headers,
    })
}

/// Lets a twin of the run do the same again.
fn twice(
    twin: Option<Instance>,
    workflow_id: &WorkflowId,
    input: Input,
    at: Timestamp,
    first: &Turn,
) -> Result<(), Parked> {
    let Some(mut twin) = twin else { return Ok(()) };
    let marks: Vec<CommandMark> = first.commands.iter().map(Command::mark).collect();
    let again = twin.replay(input, at, &marks);
    replay::compare_twice(workflow_id, at, first, &again)
}

fn failed(attempt: u32) -> String {
    format!("attempt {attempt} failed")
}

fn attempt_failed(run_id: RunId, step: u32, attempt: u32) -> EventId {
    EventId::derived(run_id, step, &failed(attempt))
}

fn cancel_mark(no: u32) -> CommandMark {
    CommandMark::new(no, CommandKind::Cancel)
}

fn closing(state: TurnState) -> Option<Close> {
    match state {
        TurnState::Closed(close) => Some(close),
        _ => None,
    }
}

fn within(outcome: Outcome, max: usize) -> Outcome {
    let bytes = outcome.bytes();
    if bytes > max { outcome.shortened(&too_large(bytes, max)) } else { outcome }
}

fn too_large(bytes: usize, max: usize) -> String {
    format!("a result has {bytes} bytes, the limit is {max}; store the data elsewhere and return a reference to it")
}

/// The record that an event becomes when it is applied.
fn recorded(body: EventBody) -> Option<RecordBody> {
    match body {
        EventBody::Signal { name, value, headers } => Some(RecordBody::Signalled { name, value, headers }),
        EventBody::UpdateAccepted { id, name, args, headers } => {
            Some(RecordBody::UpdateAccepted { id, name, args, headers })
        }
        EventBody::SignalTagged { tag, name, value, headers } => {
            Some(RecordBody::SignalledByTag { tag, name, value, headers })
        }
        EventBody::ActivitySettled { step, attempt, outcome } => {
            Some(RecordBody::ActivitySettled { step, attempt, outcome })
        }
        EventBody::StepSettled { step, outcome } => Some(RecordBody::StepSettled { step, outcome }),
        EventBody::PromiseSettled { step, outcome } => Some(RecordBody::PromiseSettled { step, outcome }),
        EventBody::AttemptReported { step, attempt, report } => {
            Some(RecordBody::AttemptReported { step, attempt, report })
        }
        EventBody::Cancel { reason } => Some(RecordBody::CancelRequested { reason }),
        EventBody::Demanded { demand, .. } => match demand {
            Demand::Signal { name, value } => Some(RecordBody::Signalled { name, value, headers: None }),
            Demand::Cancel { reason } => Some(RecordBody::CancelRequested { reason }),
            Demand::Terminate { .. } => None,
        },
        EventBody::ChildBegan { step } => Some(RecordBody::ChildBegan { step }),
        EventBody::ChildClosed { step, close, never_began } => {
            Some(RecordBody::ChildClosed { step, close, never_began })
        }
        EventBody::Delivered { step, outcome } => Some(RecordBody::Delivered { step, outcome }),
        _ => None,
    }
}
