//! Delayed messages: wake-ups of shards, and activity attempts that wait for their back-off.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::codec::Stored;
use crate::task::Task;

/// One message of the timers topic; a relay sends it on when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerMessage {
    Wake(Wake),
    Retry(Box<Task>),
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

/// No wake-up is due further ahead than this: a delayed message pins everything behind it.
pub const WAKE_AHEAD_MS_MAX: u64 = 3_600_000;
