//! The instance of a run: its future, and what polls it.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::{Close, CloseStatus, CommandMark};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{Coding, CodingError, Failure, FailureKind, Headers, Payload, Timestamp, WorkflowId, blob};

use super::core::Core;
use super::waker::{Applying, Root};
use super::{Command, Input, RunInfo, Settlement, Turn, TurnState, Unanswered, Wait};
use crate::definition::RunFuture;
use crate::definition::WorkflowEntry;

/// No sound workflow wakes itself this often without an event.
const POLLS_PER_TURN_MAX: u32 = 1_000_000;

/// A live run. It stays on its thread: what the author's future holds need not be `Send`.
pub struct Instance {
    core: Rc<Core>,
    root: Arc<Root>,
    waker: Waker,
    /// Opens what goes in, seals what comes out.
    coding: Coding,
    begin: fn(&Payload) -> Result<RunFuture, Box<Failure>>,
    args: Payload,
    cancel_reason: Option<String>,
    future: Option<RunFuture>,
    /// What it has asked of other runs, by the numbers of the commands.
    asked: BTreeMap<u32, Asked>,
    ended: Option<TurnState>,
}

/// What a run has asked of another one.
enum Asked {
    /// To run as its child, under this id, for which what it comes to is sealed.
    Child(WorkflowId),
    /// To take something. The answer has nothing of an author's.
    Message,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({}, {:?})", self.name(), self.ended)
    }
}

/// What polling came to.
enum Polled {
    Waiting,
    Ready(Result<Payload, Failure>),
    /// It wishes to go on as another run.
    Continuing,
    Restless,
}

impl Instance {
    /// A run to which no event was applied. Values come and go as the coding writes them; the code sees them open.
    #[must_use]
    pub fn new(entry: &WorkflowEntry, info: RunInfo, args: Payload, coding: &Coding) -> Self {
        let core = Core::new(info, coding.format());
        let root = Root::new(core.id);
        let waker = Waker::from(Arc::clone(&root));
        let coding = coding.clone();
        Self {
            core,
            root,
            waker,
            coding,
            begin: entry.begin,
            args,
            cancel_reason: None,
            future: None,
            asked: BTreeMap::new(),
            ended: None,
        }
    }

    /// Says how long the run's history is, for the event that is applied next: how many events there are with that one, and
    /// the bytes of those before it. The run's code can ask for it, so a replay has to say the same.
    pub fn set_history(&mut self, history: HistorySize) {
        self.core.set_history(history);
    }

    /// Applies one event and polls until the run comes to rest.
    ///
    /// `now` is the event's recorded time. Panics of the run's code are caught. After the run has ended,
    /// panicked or stuck, the same state is told again and nothing else happens.
    ///
    /// # Determinism
    /// The turn is a function of the entry, the info, the arguments, all events and times so far, and the
    /// patches of the records that were replayed.
    pub fn apply(&mut self, input: Input, now: Timestamp) -> Turn {
        self.core.set_recorded(None);
        self.finish(true, |instance| instance.turn(input, now))
    }

    /// Applies an event that was applied before, and is in history with these commands.
    ///
    /// As [`apply`](Self::apply), but `tracing` events of the run's code are silent, and of the ways at an edit
    /// of the code ([`patched`](crate::patched)) the one is taken that the run took then.
    pub fn replay(&mut self, input: Input, now: Timestamp, recorded: &[CommandMark]) -> Turn {
        self.core.set_recorded(Some(recorded));
        // No subscriber at all, for this thread and time.
        let silent = tracing::Dispatch::none();
        self.finish(false, |instance| tracing::dispatcher::with_default(&silent, || instance.turn(input, now)))
    }

    fn finish(&mut self, leaves: bool, turn: impl FnOnce(&mut Self) -> TurnState) -> Turn {
        if let Some(state) = &self.ended {
            return Turn { commands: Vec::new(), notes: Vec::new(), published: Vec::new(), state: state.clone() };
        }
        let state = turn(self);
        let mut commands = match state {
            TurnState::Closed(_) => self.core.take_last_commands(),
            _ => self.core.take_commands(),
        };
        // Before it is sealed, which comes to other bytes each time.
        let again = match &state {
            TurnState::Closed(close) if leaves && self.coding.has_blobs() => {
                let outcome = match next_args(&mut commands) {
                    Some(args) => &Outcome::Done(args.clone()),
                    None => &close.outcome,
                };
                Some(blob::identity(self.core.info.run_id, outcome))
            }
            _ => None,
        };
        let notes = self.core.take_notes();
        let mut turn = Turn { commands, notes, published: self.core.take_published(), state };
        let sealed =
            self.sealed(&mut turn).and_then(|()| if leaves { self.put_away(&mut turn, again) } else { Ok(()) });
        if let Err(error) = sealed {
            let message = format!("what it asks for cannot leave: {error}");
            // Elsewhere there may be what is missing here.
            let missing = error.is_missing();
            turn.state = if missing { TurnState::Unopened { message } } else { TurnState::Panicked { message } };
        }
        match turn.state {
            TurnState::Waiting => turn,
            TurnState::Closed(_) => {
                self.end(&turn.state);
                turn
            }
            TurnState::Panicked { .. } | TurnState::Stuck { .. } | TurnState::Unopened { .. } => {
                self.end(&turn.state);
                Turn { commands: Vec::new(), notes: Vec::new(), published: Vec::new(), state: turn.state }
            }
        }
    }

    /// What comes out of the run is sealed here, and nowhere else.
    fn sealed(&mut self, turn: &mut Turn) -> Result<(), CodingError> {
        let workflow_id = &self.core.info.workflow_id;
        for command in &mut turn.commands {
            match command {
                Command::Step { body, .. } => body.sealed_by(self.coding.clone(), workflow_id.clone()),
                Command::Child { no, target, .. } => {
                    self.asked.insert(*no, Asked::Child(target.workflow_id.clone()));
                }
                Command::Signal { no, .. } | Command::CancelRun { no, .. } | Command::TerminateRun { no, .. } => {
                    self.asked.insert(*no, Asked::Message);
                }
                _ => {}
            }
        }
        self.coding.seal(workflow_id, turn)
    }

    /// Puts away what goes into the next frame, if it is large. The rest is on its way later, and whoever sends it sees to what
    /// is large in it. An answer that no store takes is one all the same: tried again it would be as large.
    fn put_away(&self, turn: &mut Turn, again: Option<[u8; 32]>) -> Result<(), CodingError> {
        let workflow_id = &self.core.info.workflow_id;
        for command in &mut turn.commands {
            let Command::Answer { outcome, .. } = command else { continue };
            match self.coding.put_away(workflow_id, outcome, None) {
                Err(error @ CodingError::Refused { .. }) => {
                    *outcome = outcome.clone().shortened(&format!("what was answered cannot leave: {error}"));
                }
                put => put?,
            }
        }
        match (&mut turn.state, next_args(&mut turn.commands)) {
            (TurnState::Closed(_), Some(args)) => self.coding.put_away(workflow_id, args, again),
            (TurnState::Closed(close), None) => put_away(&self.coding, workflow_id, close, again),
            _ => Ok(()),
        }
    }

    /// What goes into the run is opened here, and nowhere else.
    fn opened(&mut self, input: &mut Input) -> Result<(), CodingError> {
        let workflow_id = &self.core.info.workflow_id;
        if *input == Input::Start {
            self.coding.open(workflow_id, &mut self.args)?;
            let mut headers = self.core.info.headers.clone();
            self.coding.open(workflow_id, &mut headers)?;
            // Before anything is done that hangs on them.
            Headers::of_payload(headers.as_ref())
                .map_err(|error| CodingError::Broken { layer: "headers".to_owned(), reason: error.to_string() })?;
            self.core.set_headers(headers);
        }
        match input {
            Input::ChildClosed { step, outcome, .. } => match self.asked.remove(step) {
                Some(Asked::Child(child)) => self.coding.open(&child, outcome),
                _ => Ok(()),
            },
            Input::Settled { step, .. } if matches!(self.asked.get(step), Some(Asked::Message)) => {
                self.asked.remove(step);
                Ok(())
            }
            _ => self.coding.open(workflow_id, input),
        }
    }

    /// What the code waits for: commands by number, then signals by name, then a request to cancel. Nothing after the
    /// end.
    #[must_use]
    pub fn waits(&self) -> Vec<Wait> {
        if self.ended.is_some() { Vec::new() } else { self.core.waits() }
    }

    /// Has the run's own handler answer a query, between two events. History and the run know nothing of it.
    ///
    /// Panics of the handler are caught.
    ///
    /// # Errors
    /// Why there is no answer. If [`Unanswered::spoilt`] says so, this instance has to be dropped.
    pub fn query(&mut self, name: &str, args: &Payload) -> Result<Payload, Unanswered> {
        let Some(handler) = self.core.query_handler(name) else {
            let known = self.core.query_names();
            return Err(Unanswered::unspoilt(FailureKind::NotFound, self.unknown("query", name, &known)));
        };
        let (coding, workflow_id) = (self.coding.clone(), self.core.info.workflow_id.clone());
        let unopened = |error: CodingError| Unanswered::unopened(&error);
        let mut args = args.clone();
        coding.open(&workflow_id, &mut args).map_err(unopened)?;
        match self.look(&format!("query `{name}`"), || handler(&args)) {
            Ok(mut value) => coding.seal(&workflow_id, &mut value).map_err(unopened).map(|()| value),
            Err(mut unanswered) => match coding.seal(&workflow_id, &mut unanswered) {
                Ok(()) => Err(unanswered),
                Err(error) => Err(Unanswered { spoilt: unanswered.spoilt, ..unopened(error) }),
            },
        }
    }

    /// Has the run's own code look at an update before it is taken. History and the run know nothing of it.
    ///
    /// Panics of the validator are caught.
    ///
    /// # Errors
    /// Why it is not taken: of the kind `NotFound` where no code of the run takes updates of this name, not yet or not any
    /// more. If [`Unanswered::spoilt`] says so, this instance has to be dropped; if [`Unanswered::missing`] does, nothing was
    /// decided.
    pub fn validate(&mut self, name: &str, args: &Payload) -> Result<(), Unanswered> {
        let Some(validator) = self.core.validator(name) else {
            let known = self.core.update_names();
            return Err(Unanswered::unspoilt(FailureKind::NotFound, self.unknown("update", name, &known)));
        };
        let (coding, workflow_id) = (self.coding.clone(), self.core.info.workflow_id.clone());
        let unopened = |error: CodingError| Unanswered::unopened(&error);
        let mut args = args.clone();
        coding.open(&workflow_id, &mut args).map_err(unopened)?;
        self.look(&format!("the validator of update `{name}`"), || validator(&args)).map_err(|mut unanswered| {
            match coding.seal(&workflow_id, &mut unanswered) {
                Ok(()) => unanswered,
                Err(error) => Unanswered { spoilt: unanswered.spoilt, ..unopened(error) },
            }
        })
    }

    /// Lets a handler look at the run. What it does beyond that is noticed as far as it can be.
    fn look<T>(&mut self, what: &str, look: impl FnOnce() -> Result<T, Box<Failure>>) -> Result<T, Unanswered> {
        // Who is woken in here is known to be, and not taken for woken from outside.
        let _applying = Applying::enter(self.core.id);
        self.core.begin_look();
        let looked = {
            let _entered = self.core.enter();
            catch_unwind(AssertUnwindSafe(look))
        };
        let forbidden = self.core.end_look();
        let spoilt = |kind, message| Err(Unanswered { spoilt: true, ..Unanswered::unspoilt(kind, message) });
        let name = self.name();
        match (looked, forbidden) {
            (Err(panic), _) => {
                let message = explain(panic_message(&*panic));
                spoilt(FailureKind::Panicked, format!("{what} panicked in {name} {message}"))
            }
            (Ok(_), Some(done)) => spoilt(
                FailureKind::Failed,
                format!("{what} may only look at {name} and did {done}; do that in the workflow itself"),
            ),
            (Ok(_), None) if self.root.is_woken() => spoilt(
                FailureKind::Failed,
                format!(
                    "{what} may only look at {name} and woke a part of it; let go of no lock, permit or channel in it"
                ),
            ),
            (Ok(Err(failure)), None) => Err(Unanswered { failure, spoilt: false, missing: false }),
            (Ok(Ok(value)), None) => Ok(value),
        }
    }

    fn unknown(&self, what: &str, name: &str, known: &[&str]) -> String {
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let has = match known.is_empty() {
            true => "none".to_owned(),
            false => known.join(", "),
        };
        format!(
            "{} has no handler for {what} `{name}`, it has {has}; {} registers one, before the first await of the workflow",
            self.name(),
            if what == "query" { "`on_query`" } else { "`update::<T>()`" }
        )
    }

    fn turn(&mut self, mut input: Input, now: Timestamp) -> TurnState {
        if let Err(error) = self.opened(&mut input) {
            return TurnState::Unopened { message: error.to_string() };
        }
        let _applying = Applying::enter(self.core.id);
        self.core.set_now(now);
        if self.root.was_woken_from_outside() {
            return self.stuck("was woken by something that is not durable");
        }
        match catch_unwind(AssertUnwindSafe(|| self.take(input).map(|()| self.poll()))) {
            Err(panic) => TurnState::Panicked { message: explain(panic_message(&*panic)) },
            Ok(Err(failure)) => TurnState::Closed(self.failed(*failure)),
            Ok(Ok(Polled::Continuing)) => self.continued(),
            Ok(Ok(polled)) => self.state(polled),
        }
    }

    /// # Errors
    /// When the arguments cannot be decoded.
    fn take(&mut self, input: Input) -> Result<(), Box<Failure>> {
        match input {
            Input::Start => {
                if self.future.is_none() {
                    self.future = Some((self.begin)(&self.args)?);
                    // Nobody reads them again; an instance may live long.
                    self.args.data = Default::default();
                    self.waker.wake_by_ref();
                }
            }
            Input::Signal { name, value } | Input::SignalByTag { tag: _, name, value } => self.core.signal(name, value),
            Input::Update { id, name, args } => self.core.update(id, name, args),
            Input::Settled { step, outcome } => self.core.settle(step, Settlement::Outcome(outcome)),
            Input::ChildBegan { step } => self.core.child_began(step),
            Input::ChildClosed { step, outcome, began } => {
                if began {
                    self.core.child_began(step);
                }
                self.core.settle(step, Settlement::Outcome(outcome));
            }
            Input::TimerFired { step } => self.core.settle(step, Settlement::Fired),
            Input::CancelRequested { reason } => {
                self.cancel_reason.get_or_insert(reason);
                self.core.cancel();
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> Polled {
        let Some(future) = &mut self.future else { return Polled::Waiting };
        let _entered = self.core.enter();
        let mut polls = 0;
        let mut poll = || {
            polls += 1;
            match future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                Poll::Ready(result) => Some(Polled::Ready(result)),
                Poll::Pending if self.core.is_continuing() => Some(Polled::Continuing),
                Poll::Pending if polls >= POLLS_PER_TURN_MAX => Some(Polled::Restless),
                Poll::Pending => None,
            }
        };
        loop {
            while self.root.take_woken() {
                if let Some(end) = poll() {
                    return end;
                }
            }
            // What a cancelled run does when nothing else is left to do, which may be something to wait for.
            if !self.core.begin_telling() {
                return Polled::Waiting;
            }
            self.root.take_woken();
            let end = poll();
            let told = self.core.end_telling();
            if let Some(end) = end {
                return end;
            }
            if !told && !self.root.is_woken() {
                return Polled::Waiting;
            }
        }
    }

    fn state(&self, polled: Polled) -> TurnState {
        if let Some(message) = self.core.take_fatal() {
            return TurnState::Panicked { message };
        }
        match polled {
            Polled::Ready(Ok(result)) => {
                TurnState::Closed(Close { status: CloseStatus::Completed, outcome: Outcome::Done(result) })
            }
            Polled::Ready(Err(failure)) => TurnState::Closed(self.failed(failure)),
            Polled::Continuing => unreachable!("it is told apart before"),
            Polled::Restless => self.stuck("does not come to rest: it wakes itself over and over again"),
            // Asked for before anything has started.
            Polled::Waiting if self.future.is_none() => TurnState::Waiting,
            Polled::Waiting if self.core.is_cancelled() && !self.core.has_shields() && self.core.has_debts() => {
                TurnState::Panicked {
                    message: format!(
                        "{} is cancelled, and a saga that has parts to undo is not awaited; await it, with `join!` beside \
                         others",
                        self.name()
                    ),
                }
            }
            Polled::Waiting if self.core.is_cancelled() && !self.core.has_shields() => {
                let reason = self.cancel_reason.clone().unwrap_or_default();
                let failure = Failure::new(FailureKind::Cancelled, reason);
                TurnState::Closed(Close { status: CloseStatus::Cancelled, outcome: Outcome::Failed(failure) })
            }
            Polled::Waiting if self.root.was_woken_from_outside() => {
                self.stuck("was woken by something that is not durable")
            }
            Polled::Waiting if !self.core.has_waits() => self.stuck("waits for something that is not durable"),
            Polled::Waiting => TurnState::Waiting,
        }
    }

    /// Ends the run so that the next one can go on for it.
    fn continued(&mut self) -> TurnState {
        if let Some(message) = self.core.take_fatal() {
            return TurnState::Panicked { message };
        }
        if self.core.has_debts() {
            let message = format!(
                "{} continues as new while a saga has parts that may have to be undone, which the next run would not know of; \
                 end the saga first",
                self.name()
            );
            return TurnState::Panicked { message };
        }
        let Some(next) = self.core.take_continuing() else {
            unreachable!("it was there when it was looked for, and nobody was polled since")
        };
        // What the code holds is dropped as if it returned, so what is under way is cancelled in the same way.
        let future = self.future.take();
        let dropped = {
            let _entered = self.core.enter();
            catch_unwind(AssertUnwindSafe(move || drop(future)))
        };
        if let Err(panic) = dropped {
            return TurnState::Panicked { message: explain(panic_message(&*panic)) };
        }
        let message = format!("it went on as a new run of workflow `{}`", next.workflow);
        self.core.continue_as(next);
        let outcome = Outcome::Failed(Failure::new(FailureKind::ContinuedAsNew, message));
        TurnState::Closed(Close { status: CloseStatus::ContinuedAsNew, outcome })
    }

    fn failed(&self, failure: Failure) -> Close {
        // That something could not be undone is more than a cancellation that was asked for.
        let (status, kind) = match self.core.is_cancelled() && !self.core.is_uncompensated() {
            true => (CloseStatus::Cancelled, FailureKind::Cancelled),
            false => (CloseStatus::Failed, failure.kind),
        };
        Close { status, outcome: Outcome::Failed(Failure { kind, ..failure }) }
    }

    fn stuck(&self, how: &str) -> TurnState {
        let last = self.core.last_command();
        TurnState::Stuck {
            message: format!(
                "{} {how} (a channel, a lock, a tokio timer, I/O); its last command was {}; in a workflow wait only for \
                 activities, `step`, `sleep`, `signal::<T>().recv()`, `update::<T>().recv()`, and what is made of them; do all else in an \
                 activity or a step",
                self.name(),
                last.as_deref().unwrap_or("none at all")
            ),
        }
    }

    fn name(&self) -> String {
        let RunInfo { workflow_id, run_id, workflow, version, .. } = &self.core.info;
        format!("workflow `{workflow}` version {version}, run {workflow_id}/{run_id},")
    }

    fn end(&mut self, state: &TurnState) {
        self.ended = Some(state.clone());
        self.tear_down();
    }

    /// Drops the future outside its context, so that what it holds cancels nothing.
    fn tear_down(&mut self) {
        let (future, handlers) = (self.future.take(), self.core.take_handlers());
        // A destructor of the author's may panic; the run's end stands all the same.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(future)));
        let _ = catch_unwind(AssertUnwindSafe(move || drop(handlers)));
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.tear_down();
    }
}

/// The arguments of the run that goes on for this one: they are in the frame that ends it.
fn next_args(commands: &mut [Command]) -> Option<&mut Payload> {
    commands.iter_mut().find_map(|command| match command {
        Command::ContinueAsNew { next, .. } => Some(&mut next.args),
        _ => None,
    })
}

/// Puts out what is large in a run's end. One that no store takes is an end all the same: tried again it would be as large.
fn put_away(
    coding: &Coding,
    workflow_id: &WorkflowId,
    close: &mut Close,
    again: Option<[u8; 32]>,
) -> Result<(), CodingError> {
    match coding.put_away(workflow_id, close, again) {
        Err(error @ CodingError::Refused { .. }) => {
            *close = close.clone().shortened(&format!("what the run came to cannot leave: {error}"));
            Ok(())
        }
        put => put,
    }
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

/// Adds what to do to panics whose own words do not say it.
fn explain(message: &str) -> String {
    if message.contains("Tokio 1.x runtime") || message.contains("no reactor running") {
        return format!(
            "{message} (workflows run outside tokio: use `everpulse::sleep` for its timers, and an activity or a step for \
             I/O)"
        );
    }
    message.to_owned()
}
