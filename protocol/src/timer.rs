//! Delayed messages: wake-ups of shards, and activity attempts that wait for their back-off.

use serde::{Deserialize, Serialize};

use crate::codec::{Body, Stored};
use crate::event::{Event, EventBody};
use crate::task::Task;
use crate::{EventId, RunId, Timestamp, shard};

/// One message of the timers topic; a relay sends it on when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerMessage {
    Wake(Wake),
    /// The next attempt of an activity. The due time stands here too, since a broker's delay is rounded to its tick.
    Retry {
        due: Timestamp,
        task: Box<Task>,
    },
}

impl TimerMessage {
    /// When it is to be sent on.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        match self {
            Self::Wake(wake) => wake.due,
            Self::Retry { due, .. } => *due,
        }
    }
}

impl Stored for TimerMessage {
    const KIND: &'static str = "timer";
}

/// A wake-up of a shard. History names the current one; any other is served and has no successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    pub shard: u32,
    pub number: u64,
    pub due: Timestamp,
}

impl Wake {
    /// The id of the event that a due wake-up becomes: the same, however often it is relayed.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        EventId::derived(RunId::NIL, self.shard, &format!("wake {}", self.number))
    }

    /// The event that a due wake-up becomes. It goes to its shard's lane, whatever its workflow id says.
    #[must_use]
    pub fn to_event(&self, sent_at: Timestamp) -> Event {
        Event {
            id: self.event_id(),
            workflow_id: shard::placeholder_id(self.shard),
            run_id: None,
            exact: false,
            sent_at,
            reply_to: None,
            again: false,
            body: Body::of(&EventBody::Wake { shard: self.shard, number: self.number }),
        }
    }
}

/// No wake-up is due further ahead than this: a delayed message pins everything behind it.
pub const WAKE_AHEAD_MS_MAX: u64 = 3_600_000;
