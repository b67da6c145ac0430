//! What goes over a connection, as values: the broker's requests and answers without their bytes.

use bytes::Bytes;
use everpulse_broker::semantics::{self, ConnectionId, CreateProducer, Publish, Subscribe};
use everpulse_protocol::priority::Lane;
use everpulse_protocol::{Position, topic};

/// To the broker.
#[derive(Debug, Clone)]
pub enum Up {
    CreateProducer(Box<CreateProducer>),
    CloseProducer { producer_id: u64, request_id: u64 },
    Publish(Box<Publish>),
    Subscribe(Box<Subscribe>),
    CloseConsumer { consumer_id: u64, request_id: u64 },
    Flow { consumer_id: u64, permits: u32 },
    Ack { consumer_id: u64, topic: String, position: Position },
    Last { consumer_id: u64, request_id: u64 },
}

/// From the broker.
#[derive(Debug, Clone)]
pub enum Down {
    Success { request_id: u64 },
    Refused { request_id: u64 },
    ProducerReady { request_id: u64 },
    ProducerClosed { producer_id: u64 },
    ConsumerClosed { consumer_id: u64 },
    Receipt { producer_id: u64, sequence_id: u64, position: Option<Position> },
    SendError { producer_id: u64 },
    Deliver { consumer_id: u64, position: Position, payload: Bytes },
    Last { request_id: u64, position: Option<Position> },
}

/// What a party hears.
#[derive(Debug, Clone)]
pub enum Heard {
    Connected(ConnectionId),
    /// There is no broker now.
    Unreachable,
    Cut(ConnectionId),
    Message(ConnectionId, Down),
    Timer(Timer),
    /// A worker is asked to leave, in good order.
    Leave,
}

/// What a party reminds itself of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timer {
    Reconnect,
    /// A producer or a consumer could not be had just now.
    Again(Again),
    /// A message was sent so long ago that its receipt will not come.
    Overdue {
        topic: String,
        number: u64,
        serial: u64,
    },
    /// A shard wants the time.
    Deadline,
    /// An attempt at an activity or a step does its work; later it ends.
    Work(u64),
    End(u64),
    /// A delayed message that a relay holds is due.
    Due(u64),
    /// A client asks again.
    Ask(usize),
    /// A read that has heard nothing asks anew where its topic ends.
    Silent(u64),
    /// A worker that leaves looks whether it can go.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    Producer(String),
    Consumer(u64),
}

/// What a party wants done.
#[derive(Debug)]
pub enum Act {
    Connect,
    Send(ConnectionId, Up),
    Remind {
        after_ms: u64,
        timer: Timer,
    },
    /// A worker has done with an input, so long after it came by its own clock or the world's: its ack is on its way.
    LetGo {
        partition: u32,
        position: Position,
        held_ms: u64,
    },
    /// What a partition of history holds up to here may go: a request of its own, which nobody waits for.
    Trim {
        shard: u32,
        upto: Position,
    },
    /// A worker has left.
    Exit,
}

/// The namespace of the application.
pub const NAMESPACE: &str = "public/everpulse";

/// The full name of a topic that stores.
#[must_use]
pub fn stored(name: &str) -> String {
    format!("persistent://{NAMESPACE}/{name}")
}

/// The full name of a topic that keeps nothing.
#[must_use]
pub fn unstored(name: &str) -> String {
    format!("non-persistent://{NAMESPACE}/{name}")
}

#[must_use]
pub fn history(shard: u32) -> String {
    stored(&topic::partition(topic::HISTORY, shard))
}

/// The topic of a lane of a queue.
#[must_use]
pub fn lane(lane: &Lane) -> String {
    stored(&topic::activity(&lane.to_string()))
}

#[must_use]
pub fn inbox(partition: u32) -> String {
    stored(&topic::partition(topic::INBOX, partition))
}

#[must_use]
pub fn ours(position: semantics::Position) -> Position {
    Position { ledger: position.ledger, entry: position.entry }
}

#[must_use]
pub fn theirs(position: Position) -> semantics::Position {
    semantics::Position { ledger: position.ledger, entry: position.entry }
}
