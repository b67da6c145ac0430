//! One round of a shard: inputs applied to the book, and what follows from them once the frame stands.
//!
//! The book is changed at once, on trust; if the frame turns out void the shard throws the book away. Nothing
//! that is gathered in [`Round`] leaves before that is decided.

use everpulse_protocol::codec::Body;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::{Event, EventBody, IdPolicy, NextAttempt, Outcome, ReplyTo, Start};
use everpulse_protocol::history::{
    Close, CloseStatus, CommandKind, CommandMark, Parked, ParkedKind, Record, RecordBody,
};
use everpulse_protocol::reply::{Reply, ReplyBody};
use everpulse_protocol::task::{Task, TaskOptions};
use everpulse_protocol::timer::Wake;
use everpulse_protocol::{EventId, Failure, FailureKind, Payload, RunId, Timestamp, WorkflowId};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::replay::{Command, Input, Instance, StepBody, StepOptions, TurnState};

use crate::book::Book;
use crate::effect::{DeliveryToken, LocalResult, Outgoing};
use crate::replay::{self, broken};
use crate::run::{Live, Received, Run, Started};
use crate::shard::Eager;

/// Frames stop taking inputs at about this size; one input more may lie above it.
pub(crate) const FRAME_BYTES: usize = 1024 * 1024;

/// After so many tries an input that takes its worker down is not applied any more.
const TRIES_MAX: u32 = 3;

/// One event may make a run ask for so many commands: their record has to fit a frame.
const COMMANDS_PER_TURN_MAX: usize = 20_000;

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
    /// Runs that ended in this round.
    pub ended: Vec<RunId>,
    /// Answers rest on the book being current: without an append the tail has to be asked for.
    pub decides: bool,
    /// The current wake-up arrived: it needs a successor, or none is needed any more.
    pub wake_served: bool,
    /// A wake-up arrived: local work that is past its deadline is looked after.
    pub wake_seen: bool,
    /// Known inputs arrived again for these runs: whoever had them is gone, so their local work starts here.
    pub orphaned: Vec<RunId>,
    /// Runs with local work that nobody is known to do, to be started when the round has taken effect.
    pub unseen: Vec<RunId>,
    /// Signals for runs that are not there yet.
    pub early: Vec<(DeliveryToken, Event)>,
    /// Ends that are asked for and not at hand: run, who asks.
    pub fetch: Vec<(RunId, ReplyTo)>,
    /// Runs with records in this round that go on.
    pub touched: Vec<RunId>,
    /// Parked runs that go on: their tasks may not be sent yet.
    pub revived: Vec<RunId>,
    /// Tasks for which an eager slot was reserved.
    pub reserved: Vec<EventId>,
}

/// Local work that a round wants started.
#[derive(Debug)]
pub(crate) enum StartLocal {
    Step { run: RunId, no: u32, name: String, options: StepOptions, body: StepBody },
    Eager(Box<Task>),
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
    pub payload_bytes_max: usize,
}

impl Applier<'_> {
    /// Takes an event of the inbox. Gives the run that its acknowledgement waits for.
    pub fn deliver(&mut self, token: DeliveryToken, event: Event, suspect: bool, last_chance: bool) -> Option<RunId> {
        let body = match event.body() {
            Ok(body) => body,
            Err(error) => return self.unknown(event, &error.to_string()),
        };
        match body {
            EventBody::Start(start) => self.start(event, start, suspect),
            EventBody::Wake { number, .. } => {
                self.wake(number);
                None
            }
            EventBody::Describe | EventBody::AskResult | EventBody::AskPublished { .. } => self.ask(&event, &body),
            EventBody::Signal { .. } | EventBody::Cancel { .. } | EventBody::Terminate { .. } | EventBody::Resume => {
                self.client_input(token, event, body, suspect, last_chance)
            }
            EventBody::ActivitySettled { .. } | EventBody::StepSettled { .. } | EventBody::AttemptFailed { .. } => {
                self.result(event, body, suspect)
            }
        }
    }

    fn unknown(&mut self, event: Event, error: &str) -> Option<RunId> {
        let run_id = self.book.addressed(&event.workflow_id, event.run_id);
        if let Some(run_id) = run_id.filter(|run_id| self.book.runs.contains_key(run_id)) {
            if !self.book.inputs.contains(&event.id) {
                let parked = unreadable(&event, error);
                self.receive(run_id, event, 0);
                self.park(run_id, parked);
            }
            return Some(run_id);
        }
        self.reply(event.reply_to.as_ref(), ReplyBody::Invalid { message: error.to_owned() });
        self.bury(event, format!("an event for no open run that cannot be read: {error}"));
        None
    }

    fn start(&mut self, event: Event, start: Start, suspect: bool) -> Option<RunId> {
        let run_id = RunId(event.id.0);
        if self.book.runs.contains_key(&run_id) || self.book.closed.contains_key(&run_id) {
            self.round.orphaned.push(run_id);
            self.attach(run_id, event.reply_to, false);
            return Some(run_id);
        }
        if let Some(existing) = self.book.newest.get(&event.workflow_id).copied() {
            let open = self.book.runs.contains_key(&existing);
            match start.policy {
                IdPolicy::RestartWhenClosed if !open => {}
                IdPolicy::Attach | IdPolicy::RestartWhenClosed => {
                    self.round.decides = true;
                    self.attach(existing, event.reply_to, true);
                    return Some(existing);
                }
                _ => {
                    self.round.decides = true;
                    self.reply(event.reply_to.as_ref(), ReplyBody::Taken { run_id: existing, open });
                    return Some(existing);
                }
            }
        }
        let reply_to = event.reply_to.clone();
        self.reply(reply_to.as_ref(), ReplyBody::Started { run_id, attached: false });
        let later = start.start_at.is_some_and(|start_at| start_at > self.at);
        if later || suspect {
            self.receive(run_id, event, u32::from(!later));
        } else {
            self.begin(run_id, event, start);
        }
        if let (Some(run), Some(reply_to)) = (self.book.runs.get_mut(&run_id), reply_to) {
            run.watch(reply_to);
        }
        Some(run_id)
    }

    /// Answers a start, and remembers who wants to hear of the end.
    fn attach(&mut self, run_id: RunId, reply_to: Option<ReplyTo>, attached: bool) {
        let Some(reply_to) = reply_to else { return };
        self.reply(Some(&reply_to), ReplyBody::Started { run_id, attached });
        self.watch(run_id, reply_to);
    }

    /// Answers with the end of a run, now or when it comes. True if it is open.
    fn watch(&mut self, run_id: RunId, reply_to: ReplyTo) -> bool {
        if let Some(run) = self.book.runs.get_mut(&run_id) {
            run.watch(reply_to);
            return true;
        }
        match self.book.closed.get(&run_id).map(|closed| closed.close.clone()) {
            Some(Some(close)) => self.reply(Some(&reply_to), ReplyBody::Closed { run_id, close }),
            Some(None) => self.round.fetch.push((run_id, reply_to)),
            None => {}
        }
        false
    }

    /// Begins a run whose start is applied now.
    fn begin(&mut self, run_id: RunId, event: Event, start: Start) {
        let entry = match replay::entry(self.registry, &event.workflow_id, &start.workflow, start.version) {
            Ok(entry) => entry,
            Err(parked) => {
                self.receive_once(run_id, event, 0);
                self.park(run_id, parked);
                return;
            }
        };
        let started =
            Started { workflow: start.workflow.clone(), version: entry.version, at: self.at, times_out_at: None };
        let blank = Run::new(event.workflow_id.clone(), run_id);
        let mut instance = Instance::new(entry, replay::info(&blank, &started), start.args.clone());
        let turn = instance.apply(Input::Start, self.at, false);
        if let Some(parked) = self.refused(&event.workflow_id, &turn.state, &turn.commands) {
            self.receive_once(run_id, event, 0);
            self.park(run_id, parked);
            return;
        }
        let version = entry.version;
        let live = Live { instance, used: self.frame, published: turn.published.into_iter().collect() };
        let body = RecordBody::Started { start, version, reply_to: event.reply_to.clone() };
        self.write(&event.workflow_id, run_id, event.id, &body, turn.commands, closing(turn.state));
        if let Some(run) = self.book.runs.get_mut(&run_id) {
            run.live = Some(live);
        }
    }

    fn wake(&mut self, number: u64) {
        self.round.wake_seen = true;
        // Whether this is the current wake-up can only be said of a book that is current.
        self.round.decides = true;
        if self.book.wake.is_some_and(|wake| wake.number == number) {
            self.round.wake_served = true;
        }
    }

    fn ask(&mut self, event: &Event, body: &EventBody) -> Option<RunId> {
        self.round.decides = true;
        let reply_to = event.reply_to.clone()?;
        let Some(run_id) = self.book.addressed(&event.workflow_id, event.run_id) else {
            self.reply(Some(&reply_to), ReplyBody::NotFound);
            return None;
        };
        match body {
            EventBody::AskResult => {
                if self.watch(run_id, reply_to.clone()) {
                    self.reply(Some(&reply_to), ReplyBody::Open { run_id });
                }
            }
            EventBody::AskPublished { name } => {
                let value = self.published(run_id, name);
                self.reply(Some(&reply_to), ReplyBody::Published { value });
            }
            _ => {
                let answer = match self.book.view(run_id) {
                    Some(view) => ReplyBody::Description(Box::new(view)),
                    None => ReplyBody::NotFound,
                };
                self.reply(Some(&reply_to), answer);
            }
        }
        None
    }

    fn published(&mut self, run_id: RunId, name: &str) -> Option<Payload> {
        self.enliven(run_id).ok()?;
        self.book.runs.get(&run_id)?.live.as_ref()?.published.get(name).cloned()
    }

    fn client_input(
        &mut self,
        token: DeliveryToken,
        event: Event,
        body: EventBody,
        suspect: bool,
        last_chance: bool,
    ) -> Option<RunId> {
        let addressed = self.book.addressed(&event.workflow_id, event.run_id);
        if self.book.inputs.contains(&event.id) {
            self.reply(event.reply_to.as_ref(), ReplyBody::Accepted);
            self.round.orphaned.extend(addressed);
            return addressed;
        }
        let Some(run_id) = addressed else {
            if matches!(body, EventBody::Signal { .. }) && !last_chance {
                self.round.early.push((token, event));
                return None;
            }
            self.round.decides = true;
            self.reply(event.reply_to.as_ref(), ReplyBody::NotFound);
            if matches!(body, EventBody::Signal { .. }) {
                self.bury(event, "a signal for a workflow id that has no run".to_owned());
            }
            return None;
        };
        let Some(run) = self.book.runs.get(&run_id) else {
            self.round.decides = true;
            self.reply(event.reply_to.as_ref(), ReplyBody::AlreadyClosed { run_id });
            if event.reply_to.is_none() && matches!(body, EventBody::Signal { .. }) {
                self.bury(event, "a signal for a run that has ended".to_owned());
            }
            return Some(run_id);
        };
        let reply_to = event.reply_to.clone();
        let idle = run.started.is_none();
        match body {
            EventBody::Terminate { reason } => self.end(
                run_id,
                event.id,
                &RecordBody::Terminated { reason: reason.clone() },
                CloseStatus::Terminated,
                Failure::new(FailureKind::Terminated, or(reason, "terminated")),
            ),
            EventBody::Cancel { reason } if idle => self.end(
                run_id,
                event.id,
                &RecordBody::CancelRequested { reason: reason.clone() },
                CloseStatus::Cancelled,
                Failure::new(FailureKind::Cancelled, or(reason, "cancelled before it began")),
            ),
            EventBody::Resume => {
                let workflow_id = event.workflow_id.clone();
                // Not at once: that it goes on stands before one of its inputs can take the worker down.
                let was_parked = run.parked.is_some();
                self.write(&workflow_id, run_id, event.id, &RecordBody::Resumed, Vec::new(), None);
                if was_parked {
                    self.revive(run_id, true);
                }
            }
            _ => self.take(run_id, event, suspect),
        }
        self.reply(reply_to.as_ref(), ReplyBody::Accepted);
        Some(run_id)
    }

    fn result(&mut self, event: Event, body: EventBody, suspect: bool) -> Option<RunId> {
        let run_id = event.run_id?;
        let (step, attempt_failed) = match &body {
            EventBody::ActivitySettled { step, .. } | EventBody::StepSettled { step, .. } => (*step, None),
            EventBody::AttemptFailed { step, attempt, .. } => (*step, Some(*attempt)),
            _ => return None,
        };
        let Some(run) = self.book.runs.get(&run_id) else {
            if !self.book.closed.contains_key(&run_id) {
                // Results come to runs that exist: if ours does not, the book may be old.
                self.round.decides = true;
            }
            if attempt_failed.is_some() {
                self.round.cancel_tasks.push(EventId::derived(run_id, step, "task"));
            }
            return None;
        };
        let Some(pending) = run.pending.get(&step) else {
            if run.next_no <= step {
                self.round.decides = true;
            } else if attempt_failed.is_some() {
                self.round.cancel_tasks.push(EventId::derived(run_id, step, "task"));
            }
            self.round.orphaned.push(run_id);
            return Some(run_id);
        };
        if pending.answered {
            self.round.orphaned.push(run_id);
            return Some(run_id);
        }
        match body {
            EventBody::AttemptFailed { step, attempt, failure, next } => {
                if attempt >= pending.attempt {
                    let body = RecordBody::AttemptFailed { step, attempt, failure, next };
                    self.write(&event.workflow_id, run_id, event.id, &body, Vec::new(), None);
                }
            }
            _ => self.take(run_id, event, suspect),
        }
        Some(run_id)
    }

    /// Applies an input to an open run, or takes it in where it cannot be applied now.
    fn take(&mut self, run_id: RunId, event: Event, suspect: bool) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let waits = run.parked.is_some() || run.started.is_none() || !run.received.is_empty();
        if waits {
            self.receive(run_id, event, 0);
        } else if suspect {
            self.receive(run_id, event, 1);
        } else {
            self.apply_event(run_id, event);
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
        let Some(run) = self.book.runs.get_mut(&run_id) else { return Ok(()) };
        let Some(live) = run.live.as_mut() else { return Ok(()) };
        let workflow_id = run.workflow_id.clone();
        let Some(input) = replay::as_input(body) else { return Ok(()) };
        let turn = live.instance.apply(input, at, false);
        live.published.extend(turn.published);
        live.used = self.frame;
        if let Some(parked) = self.refused(&workflow_id, &turn.state, &turn.commands) {
            if let Some(run) = self.book.runs.get_mut(&run_id) {
                run.live = None;
            }
            return Err(parked);
        }
        self.write(&workflow_id, run_id, event, body, turn.commands, closing(turn.state));
        Ok(())
    }

    /// Why what a turn left cannot be recorded.
    fn refused(&self, workflow_id: &WorkflowId, state: &TurnState, commands: &[Command]) -> Option<Parked> {
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
            });
        }
        commands.iter().find_map(|command| match command {
            Command::Activity { name, args, .. } if args.len() > self.payload_bytes_max => Some(Parked {
                kind: ParkedKind::Panicked,
                message: format!(
                    "workflow {workflow_id}: the arguments of activity `{name}` have {} bytes, the limit is {}; pass a \
                     reference to the data instead",
                    args.len(),
                    self.payload_bytes_max
                ),
            }),
            _ => None,
        })
    }

    /// Makes sure that the run's future is there.
    fn enliven(&mut self, run_id: RunId) -> Result<(), Parked> {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return Ok(()) };
        if run.live.is_none() {
            run.live = Some(replay::replay(run, self.registry)?.live);
        }
        Ok(())
    }

    /// Fires what the clock has reached: a timer, a start that waited, a run's time-out.
    pub fn fire(&mut self, run_id: RunId, no: u32) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
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
            sent_at: self.at,
            reply_to: None,
            body: Body::of(body),
        };
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

    fn limited(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Done(value) if value.len() > self.payload_bytes_max => {
                Outcome::Failed(too_large(value.len(), self.payload_bytes_max))
            }
            outcome => outcome,
        }
    }

    /// Applies the inputs that a run has taken in and could not apply then: the first, or as many as fit the frame.
    pub fn apply_received(&mut self, run_id: RunId, only_first: bool) {
        while self.round.bytes < FRAME_BYTES {
            let Some(run) = self.book.runs.get(&run_id).filter(|_| self.book.ready.contains(&run_id)) else { return };
            let Some(Received { event, .. }) = run.received.front().cloned() else { return };
            match event.body() {
                Ok(EventBody::Start(start)) if run.started.is_none() => self.begin(run_id, event, start),
                // A result whose step was cancelled meanwhile is recorded like others; the code does not see it.
                Ok(_) => self.apply_event(run_id, event),
                Err(error) => {
                    let parked = unreadable(&event, &error.to_string());
                    self.park(run_id, parked);
                }
            }
            if only_first {
                return;
            }
        }
    }

    /// After a takeover: an input was taken in and not applied. Another try, or none.
    ///
    /// One that was never on trial counts too: it may have been applied when its worker went down.
    pub fn retry_received(&mut self, run_id: RunId) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let Some(Received { event, attempt, .. }) = run.received.front().cloned() else { return };
        if attempt >= TRIES_MAX {
            let message = format!(
                "workflow {}: event {} ({}) took its worker down {attempt} times; look for an abort, a stack overflow or \
                 a lack of memory in its code, mend it and resume the run",
                event.workflow_id,
                event.id,
                event.body.kind().unwrap_or_default()
            );
            self.park(run_id, Parked { kind: ParkedKind::Poisonous, message });
        } else {
            self.receive(run_id, event, attempt + 1);
        }
    }

    /// Tries a parked run again with today's code. Nothing is recorded if it has to stay where it is.
    ///
    /// Its inputs are applied in a later round: that it goes on stands before one of them can take the worker down.
    pub fn revive(&mut self, run_id: RunId, asked: bool) {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return };
        run.live = None;
        let was = run.parked.clone();
        let first = run.received.front().map(|received| (&received.event, received.event.body()));
        let verdict = match (&run.started, first) {
            (_, Some((event, Err(error)))) => Err(unreadable(event, &error.to_string())),
            (Some(_), _) => replay::replay(run, self.registry).map(|replayed| run.live = Some(replayed.live)),
            (None, Some((_, Ok(EventBody::Start(start))))) => {
                replay::entry(self.registry, &run.workflow_id, &start.workflow, start.version).map(|_| ())
            }
            (None, _) => return,
        };
        match verdict {
            Err(parked) if was.as_ref() != Some(&parked) => self.park(run_id, parked),
            Err(_) => {}
            Ok(()) => {
                if !asked {
                    let workflow_id = run.workflow_id.clone();
                    let id = EventId::derived(run_id, run.next_seq(), "resumed");
                    self.write(&workflow_id, run_id, id, &RecordBody::Resumed, Vec::new(), None);
                }
                self.round.revived.push(run_id);
            }
        }
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
        let marks: Vec<CommandMark> = run.pending.keys().map(|no| cancel_mark(*no)).collect();
        let close = Close { status, outcome: Outcome::Failed(failure) };
        self.record(&workflow_id, run_id, event, body, marks, Some(close));
    }

    fn park(&mut self, run_id: RunId, reason: Parked) {
        let Some(run) = self.book.runs.get_mut(&run_id) else { return };
        run.live = None;
        let workflow_id = run.workflow_id.clone();
        let id = EventId::derived(run_id, run.next_seq(), "parked");
        self.record(&workflow_id, run_id, id, &RecordBody::Parked { reason }, Vec::new(), None);
    }

    fn receive(&mut self, run_id: RunId, event: Event, attempt: u32) {
        let workflow_id = event.workflow_id.clone();
        let id = event.id;
        self.record(&workflow_id, run_id, id, &RecordBody::Received { event, attempt }, Vec::new(), None);
    }

    /// Takes an input in, unless it was taken in before.
    fn receive_once(&mut self, run_id: RunId, event: Event, attempt: u32) {
        if !self.book.runs.get(&run_id).is_some_and(|run| run.has_received(event.id)) {
            self.receive(run_id, event, attempt);
        }
    }

    /// Writes the record of what was applied, and gathers what its commands want.
    fn write(
        &mut self,
        workflow_id: &WorkflowId,
        run_id: RunId,
        event: EventId,
        body: &RecordBody,
        commands: Vec<Command>,
        close: Option<Close>,
    ) {
        let mut marks = Vec::with_capacity(commands.len());
        for command in commands {
            let mut mark = command.mark();
            match command {
                Command::Activity { no, name, queue, args, options } => {
                    let of = (workflow_id, run_id);
                    let task = task(self.shard, of, no, name, queue, args, options, self.at);
                    if close.is_none() && self.eager.reserve(&task) {
                        mark.eager = true;
                        self.round.reserved.push(task.id);
                        self.round.starts.push(StartLocal::Eager(task));
                    } else {
                        self.round.sends.push(Outgoing::Task(task));
                    }
                }
                Command::Timer { .. } => {}
                Command::Step { no, name, options, body } => {
                    self.round.starts.push(StartLocal::Step { run: run_id, no, name, options, body });
                }
                Command::Cancel { no } => self.cancel(run_id, no),
            }
            marks.push(mark);
        }
        let close = close.map(|close| Close { outcome: self.limited(close.outcome.clone()), ..close });
        self.record(workflow_id, run_id, event, body, marks, close);
    }

    fn cancel(&mut self, run_id: RunId, no: u32) {
        let pending = self.book.runs.get(&run_id).and_then(|run| run.pending.get(&no));
        match pending {
            Some(pending) if pending.is_local() => self.round.cancel_locals.push((run_id, no)),
            Some(pending) if pending.kind == CommandKind::Activity => {
                self.round.cancel_tasks.push(EventId::derived(run_id, no, "task"));
            }
            Some(_) => {}
            // Scheduled and cancelled in one turn.
            None => {
                self.round.cancel_locals.push((run_id, no));
                self.round.cancel_tasks.push(EventId::derived(run_id, no, "task"));
            }
        }
    }

    fn record(
        &mut self,
        workflow_id: &WorkflowId,
        run_id: RunId,
        event: EventId,
        body: &RecordBody,
        commands: Vec<CommandMark>,
        close: Option<Close>,
    ) {
        let seq = self.book.runs.get(&run_id).map_or(0, Run::next_seq);
        let record = Record {
            workflow_id: workflow_id.clone(),
            run_id,
            seq,
            event,
            at: self.at,
            body: Body::of(body),
            commands,
            close,
        };
        self.round.bytes += record.body.0.len() + 64 * (1 + record.commands.len());
        self.round.records.push(record.clone());
        let ended = record.close.clone();
        let watchers = match (&ended, self.book.runs.get_mut(&run_id)) {
            (Some(_), Some(run)) => std::mem::take(&mut run.watchers),
            _ => Vec::new(),
        };
        self.book.absorb(record, Some(body), self.frame);
        let Some(close) = ended else { return };
        self.round.ended.push(run_id);
        // A run that ended with its first record has its watcher in that record alone.
        let own = match body {
            RecordBody::Started { reply_to, .. } => reply_to.clone(),
            _ => None,
        };
        let mut told: Vec<ReplyTo> = watchers;
        told.extend(own);
        for reply_to in told {
            self.round.bytes += 64;
            self.reply(Some(&reply_to), ReplyBody::Closed { run_id, close: close.clone() });
        }
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

/// The first attempt at an activity.
#[expect(clippy::too_many_arguments, reason = "they are the fields of the task, named there")]
pub(crate) fn task(
    shard: u32,
    (workflow_id, run_id): (&WorkflowId, RunId),
    step: u32,
    activity: String,
    queue: String,
    args: Payload,
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
    })
}

fn unreadable(event: &Event, error: &str) -> Parked {
    let message = format!("workflow {}: {error}; run a release that knows it", event.workflow_id);
    Parked { kind: ParkedKind::UnknownKind, message }
}

fn attempt_failed(run_id: RunId, step: u32, attempt: u32) -> EventId {
    EventId::derived(run_id, step, &format!("attempt {attempt} failed"))
}

fn cancel_mark(no: u32) -> CommandMark {
    CommandMark { no, kind: CommandKind::Cancel, name: String::new(), queue: String::new(), due: None, eager: false }
}

fn closing(state: TurnState) -> Option<Close> {
    match state {
        TurnState::Closed(close) => Some(close),
        _ => None,
    }
}

fn or(reason: String, otherwise: &str) -> String {
    if reason.is_empty() { otherwise.to_owned() } else { reason }
}

fn too_large(bytes: usize, max: usize) -> Failure {
    Failure::new(
        FailureKind::Failed,
        format!(
            "a result has {bytes} bytes, the limit is {max}; store the data elsewhere and return a reference to it"
        ),
    )
}

/// The record that an event becomes when it is applied.
fn recorded(body: EventBody) -> Option<RecordBody> {
    match body {
        EventBody::Signal { name, value } => Some(RecordBody::Signalled { name, value }),
        EventBody::ActivitySettled { step, attempt, outcome } => {
            Some(RecordBody::ActivitySettled { step, attempt, outcome })
        }
        EventBody::StepSettled { step, outcome } => Some(RecordBody::StepSettled { step, outcome }),
        EventBody::Cancel { reason } => Some(RecordBody::CancelRequested { reason }),
        _ => None,
    }
}
