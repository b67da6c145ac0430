//! Delayed messages: when they are delivered, and where a relay sends them on to. Pure decisions.

use std::time::Duration;

use everpulse_protocol::Timestamp;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::Event;
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::{TimerMessage, WAKE_AHEAD_MS_MAX};

/// What is not due after so long goes back into the topic. Not at once: a clock that is behind the broker's would
/// make it go round and round.
pub const HOLD_MAX: Duration = Duration::from_secs(60);

/// When a delayed message that is due then is to be delivered.
#[must_use]
pub fn deliver_at(due: Timestamp, now: Timestamp) -> Timestamp {
    due.min(now.after(Duration::from_millis(WAKE_AHEAD_MS_MAX)))
}

/// Where a delayed message goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Onward {
    /// Back into the timers: it is not due for long.
    Timer(TimerMessage),
    /// To the inbox.
    Event { shard: u32, event: Event },
    /// To its queue.
    Task(Box<Task>),
    /// To the dead letters of the inbox.
    Letter(Box<DeadLetter>),
}

/// Where a delayed message goes that was to be waited for so long when it came, and was held, for [`HOLD_MAX`] at most.
#[must_use]
pub fn onward(message: TimerMessage, wait: Duration, shards: u32, now: Timestamp) -> Onward {
    match message {
        message if wait > HOLD_MAX => Onward::Timer(message),
        TimerMessage::Wake(wake) if wake.shard < shards => {
            Onward::Event { shard: wake.shard, event: wake.to_event(now) }
        }
        TimerMessage::Wake(wake) => {
            let reason = format!("a wake-up for shard {}, and there are {shards} shards", wake.shard);
            Onward::Letter(Box::new(DeadLetter {
                at: now,
                reason,
                letter: Letter::Event(Box::new(wake.to_event(now))),
            }))
        }
        TimerMessage::Retry { task, .. } => Onward::Task(task),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_is_delayed_by_more_than_an_hour() {
        let now = Timestamp(5);
        assert_eq!(deliver_at(Timestamp(3), now), Timestamp(3));
        assert_eq!(deliver_at(Timestamp(3_600_005), now), Timestamp(3_600_005));
        assert_eq!(deliver_at(Timestamp(86_400_000), now), Timestamp(3_600_005));
    }
}
