//! A hand-driven run: events are given one at a time, and what comes of each is looked at.

use everpulse::definition::{FunctionActivity, WorkflowDefinition};
use everpulse::replay::{Command, Input, Instance, RunInfo, Turn, TurnState};
use everpulse::{Call, Definition, Failure};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::{Close, CloseStatus, CommandMark};
use everpulse_protocol::payload::Format;
use everpulse_protocol::priority::Priority;
use everpulse_protocol::{self as protocol, Coding, Payload, RunId, Timestamp, WorkflowId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// One run, and the recorded time.
pub struct Run {
    pub instance: Instance,
    pub now: u64,
    /// The commands of the record that is replayed next; none: what comes next is new.
    pub replaying: Option<Vec<CommandMark>>,
}

/// The run of a call, to which nothing has happened.
pub fn run<D: WorkflowDefinition>(call: Call<D>) -> Run {
    let args = call.into_request(Format::MessagePack).expect("the arguments can be encoded").args;
    run_with::<D>(args)
}

pub fn run_with<D: WorkflowDefinition>(args: Payload) -> Run {
    begin::<D>(args, None, Priority::default())
}

/// The same of a run that is as urgent as this says.
pub fn run_of<D: WorkflowDefinition>(call: Call<D>, priority: Priority) -> Run {
    let args = call.into_request(Format::MessagePack).expect("the arguments can be encoded").args;
    begin::<D>(args, None, priority)
}

/// The same with what came beside the arguments.
pub fn run_with_headers<D: WorkflowDefinition>(call: Call<D>, headers: Option<Payload>) -> Run {
    let args = call.into_request(Format::MessagePack).expect("the arguments can be encoded").args;
    begin::<D>(args, headers, Priority::default())
}

fn begin<D: WorkflowDefinition>(args: Payload, headers: Option<Payload>, priority: Priority) -> Run {
    let info = RunInfo {
        workflow_id: WorkflowId::new("order-42").unwrap(),
        run_id: RunId(Uuid::from_u128(7)),
        workflow: D::NAME.to_owned(),
        version: D::VERSION,
        started_at: Timestamp(1_000),
        tags: Vec::new(),
        build: Some("4f2a".to_owned()),
        headers,
        continues: None,
        priority,
    };
    Run { instance: Instance::new(&D::entry(), info, args, &Coding::default()), now: 1_000, replaying: None }
}

impl Run {
    pub fn id(&self) -> WorkflowId {
        WorkflowId::new("order-42").unwrap()
    }

    pub fn run_id(&self) -> RunId {
        RunId(Uuid::from_u128(7))
    }

    /// Applies an event, and shows what came of it in a line for each command and one for the state.
    pub fn apply(&mut self, input: Input) -> Vec<String> {
        show(&self.turn(input))
    }

    pub fn turn(&mut self, input: Input) -> Turn {
        let now = Timestamp(self.now);
        match &self.replaying {
            None => self.instance.apply(input, now),
            Some(recorded) => self.instance.replay(input, now, recorded),
        }
    }

    pub fn start(&mut self) -> Vec<String> {
        self.apply(Input::Start)
    }

    pub fn done<T: Serialize>(&mut self, step: u32, value: T) -> Vec<String> {
        self.apply(done(step, value))
    }

    pub fn failed(&mut self, step: u32, failure: protocol::Failure) -> Vec<String> {
        self.apply(Input::Settled { step, outcome: Outcome::Failed(failure) })
    }

    pub fn fired(&mut self, step: u32) -> Vec<String> {
        self.apply(Input::TimerFired { step })
    }

    pub fn signal<T: everpulse::Signal>(&mut self, value: &T) -> Vec<String> {
        self.apply(Input::Signal { name: T::NAME.to_owned(), value: Payload::encode(value).unwrap() })
    }

    pub fn cancel(&mut self) -> Vec<String> {
        self.apply(Input::CancelRequested { reason: "no longer wanted".to_owned() })
    }
}

pub fn done<T: Serialize>(step: u32, value: T) -> Input {
    Input::Settled { step, outcome: Outcome::Done(Payload::encode(&value).unwrap()) }
}

/// A failure as a worker records it when an activity's author returned this error.
pub fn error<E: everpulse::definition::AuthorError>(error: &E) -> protocol::Failure {
    everpulse::failure::recorded(error, std::any::type_name::<E>(), Vec::new())
}

pub fn show(turn: &Turn) -> Vec<String> {
    let commands = turn.commands.iter().map(|command| match command {
        Command::Activity { no, name, .. } => format!("{no} activity {name}"),
        Command::Timer { no, due } => format!("{no} timer {}", due.0),
        Command::Step { no, name, .. } => format!("{no} step {name}"),
        Command::Promise { no } => format!("{no} promise"),
        Command::Child { no, spawn, .. } => format!("{no} child {}", spawn.workflow),
        Command::Signal { no, target, name, .. } => format!("{no} signal {name} to {}", target.workflow_id),
        Command::CancelRun { no, target } => format!("{no} cancel {}", target.workflow_id),
        Command::TerminateRun { no, target, reason } => format!("{no} terminate {}: {reason}", target.workflow_id),
        Command::ContinueAsNew { no, next, unreceived, updates, .. } => {
            let updates = if updates.is_empty() { String::new() } else { format!(", leaving updates {updates:?}") };
            let unreceived = unreceived.iter().map(|of| format!(", leaving {} {:?}", of.name, of.numbers));
            format!("{no} continue as {}{}{updates}", next.workflow, unreceived.collect::<String>())
        }
        Command::Answer { no, id, outcome: Outcome::Done(value) } => format!("answer {no} {id}: {} bytes", value.len()),
        Command::Answer { no, id, outcome: Outcome::Failed(failure) } => format!("answer {no} {id}: {failure}"),
        Command::Cancel { no } => format!("cancel {no}"),
        Command::Detach { no } => format!("detach {no}"),
        Command::Patch { id, deprecated: false, .. } => format!("patch {id}"),
        Command::Patch { id, deprecated: true, .. } => format!("deprecated patch {id}"),
    });
    let published = turn.published.iter().map(|(name, _)| format!("publish {name}"));
    commands.chain(published).chain([state(&turn.state)]).collect()
}

fn state(state: &TurnState) -> String {
    match state {
        TurnState::Waiting => "waiting".to_owned(),
        TurnState::Panicked { message } => format!("panicked: {message}"),
        TurnState::Stuck { message } => format!("stuck: {message}"),
        TurnState::Unopened { message } => format!("unopened: {message}"),
        TurnState::Closed(Close { status, outcome }) => {
            let status = match status {
                CloseStatus::Completed => "completed",
                CloseStatus::Failed => "failed",
                CloseStatus::Cancelled => "cancelled",
                CloseStatus::ContinuedAsNew => "continued as new",
                other => panic!("the sdk never closes a run as {other:?}"),
            };
            match outcome {
                Outcome::Done(value) => {
                    // The bytes, as the type is not known here; `result` decodes.
                    format!("{status} with {} bytes", value.len())
                }
                Outcome::Failed(failure) => format!("{status}: {failure}"),
            }
        }
    }
}

/// The typed result of a run that this event ended.
pub fn result<D: Definition>(turn: Turn) -> Result<D::Output, Failure<D::Error>> {
    match turn.state {
        TurnState::Closed(Close { outcome: Outcome::Done(value), .. }) => Ok(value.decode().unwrap()),
        TurnState::Closed(Close { outcome: Outcome::Failed(failure), .. }) => Err(Failure::from_recorded(failure)),
        other => panic!("the run has not ended: {other:?}"),
    }
}

/// The value that a run completed with at this event.
pub fn value<T: DeserializeOwned>(turn: &Turn) -> T {
    match &turn.state {
        TurnState::Closed(Close { status: CloseStatus::Completed, outcome: Outcome::Done(value) }) => {
            value.decode().unwrap()
        }
        other => panic!("the run has not completed: {other:?}"),
    }
}

/// One attempt at an activity, as a worker makes it.
#[expect(clippy::result_large_err, reason = "as the entry gives it")]
pub fn attempt<D: FunctionActivity>(args: Payload) -> Result<Payload, everpulse::definition::AttemptError> {
    futures::executor::block_on(D::entry().run(args))
}
