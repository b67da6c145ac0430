//! The relay: delayed messages are held until they are due by this worker's clock, sent on, and acked when that is
//! confirmed. Where each goes is decided by the engine (`delayed`).

use std::time::Duration;

use bytes::Bytes;
use everpulse_engine::delayed::{HOLD_MAX, Onward, onward};
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{Position, decode, topic};

use super::{Leaving, Purpose, Worker};
use crate::party::Ctx;
use crate::wire::Timer;

/// A delayed message that is not acked.
#[derive(Debug)]
pub(super) struct Held {
    pub position: Position,
    /// What it is, until it is sent on.
    message: Option<(TimerMessage, Duration)>,
}

impl Worker {
    pub(super) fn relays(&self) -> bool {
        self.leaving < Some(Leaving::Marks)
    }

    /// Lets go of what is not on its way.
    pub(super) fn relay_no_more(&mut self) {
        self.outbox.link.pause(self.timers);
        self.relayed.retain(|_, held| held.message.is_none());
    }

    pub(super) fn hold(&mut self, position: Position, payload: &Bytes, ctx: &mut Ctx<'_>) {
        let Ok(message) = decode::<TimerMessage>(payload) else {
            return ctx.violations.push(format!("{position} of the timers cannot be read"));
        };
        let wait = message.due().since(ctx.now);
        let number = self.fresh();
        self.relayed.insert(number, Held { position, message: Some((message, wait)) });
        ctx.remind(u64::try_from(wait.min(HOLD_MAX).as_millis()).unwrap_or(u64::MAX), Timer::Due(number));
    }

    pub(super) fn due(&mut self, number: u64, ctx: &mut Ctx<'_>) {
        let Some((message, wait)) = self.relayed.get_mut(&number).and_then(|held| held.message.take()) else { return };
        let told = Purpose::Relayed(number);
        match onward(message, wait, self.making.layout.shards, ctx.now) {
            Onward::Timer(message) => self.outbox.timer(&message, told, ctx),
            Onward::Event { shard, event } => {
                ctx.counts.wakes += 1;
                self.outbox.event_to_shard(shard, event, told, ctx);
            }
            Onward::Task(task) => self.outbox.task(task, told, ctx),
            Onward::Letter(letter) => self.outbox.dead_letter(topic::INBOX_DEAD, &letter, told, ctx),
        }
    }
}
