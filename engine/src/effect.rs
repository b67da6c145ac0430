//! What goes in and out of a shard, as values.

use bytes::Bytes;
use everpulse_protocol::dead_letter::DeadLetter;
use everpulse_protocol::event::{Event, InboxFrame, Outcome};
use everpulse_protocol::reply::Reply;
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::Wake;
use everpulse_protocol::{EventId, Failure, Position, RunId, Timestamp};
use everpulse_sdk::intercept::RunEvent;
use everpulse_sdk::replay::{StepBody, StepOptions};

use crate::attempt::AttemptId;

/// What the worker knows an inbox message by until it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryToken(pub u64);

/// A message of the inbox.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub token: DeliveryToken,
    pub frame: InboxFrame,
    /// It stood in the inbox before this consumer subscribed: it may have taken another worker down.
    pub suspect: bool,
}

/// What the worker knows a send by until it is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SendId(pub u64);

/// What leaves with a confirmation.
#[derive(Debug, Clone)]
pub enum Outgoing {
    Task(Box<Task>),
    Wake(Wake),
    /// To the inbox of the shard of its workflow id, which may be another's.
    Event(Box<Event>),
    /// To the dead letters of the inbox.
    DeadEvent(Box<DeadLetter>),
}

/// How local work ended.
#[derive(Debug, Clone)]
pub enum LocalResult {
    Settled {
        attempt: u32,
        outcome: Outcome,
    },
    /// An attempt at an eager activity is to be completed from outside, until a time.
    Left {
        task: Box<Task>,
        until: Timestamp,
    },
    /// An attempt at an eager activity failed. Its worker has put the next one into the timers already.
    Retry {
        attempt: u32,
        failure: Failure,
        at: Timestamp,
    },
    /// An eager activity failed for the last time and waits for an operator. Its dead letter is in place already.
    Parked {
        attempt: u32,
        failure: Failure,
    },
}

/// What the worker is to do. Answers come back by the handler that is named.
#[derive(Debug)]
pub enum Effect {
    /// Ask for the history partition's last position, then `handle_tail`.
    AskTail { id: u64 },
    /// Read the history partition behind `after` up to and including `to`, then `handle_entries` (in pieces, if
    /// it is long).
    Read { id: u64, after: Option<Position>, to: Position },
    /// Append to the history partition, then `handle_receipt`.
    Append { id: u64, payload: Bytes },
    /// Read a queue's topic behind `after` and say which of the tasks are [there](AttemptId::is_shown_by): `handle_found`.
    FindTasks { id: u64, queue: String, after: Option<Position>, tasks: Vec<AttemptId> },
    /// Read the one entry at a position of the history partition, then `handle_fetched`.
    Fetch { id: u64, position: Position },
    /// Send until confirmed, then `handle_sent`.
    Send { id: SendId, outgoing: Outgoing },
    /// Send once, with no confirmation.
    Reply { client: String, reply: Reply },
    /// Run a step, then `handle_local`.
    StartStep { run: RunId, step: u32, name: String, options: StepOptions, body: StepBody },
    /// Run one attempt of an activity here, then `handle_local`.
    StartEager { task: Box<Task> },
    /// Nobody waits for these steps and eager activities any more.
    CancelLocal { run: RunId, step: u32 },
    /// Nobody waits for these tasks any more; tell the activity workers, once.
    CancelTasks { tasks: Vec<EventId> },
    /// What the history partition holds up to and including this position is not needed any more: move the cursor
    /// `janitor` there, never back. Trying once is enough, and too late does no harm.
    Trim { upto: Position },
    /// Tell those who look on. Once is enough.
    Observe { events: Vec<RunEvent> },
    /// Acknowledge an inbox message.
    Ack { token: DeliveryToken },
    /// The shard cannot be served by this process; for a person.
    Refuse { reason: String },
}
