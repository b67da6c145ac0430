//! Attempts that do their work in pieces: their code is polled again and again, and what it reports is told to the run's owner,
//! who keeps the attempt from then on. Played as `everpulse-worker` does it in `activity/kept.rs`; the events are the engine's.

use std::sync::{Arc, Mutex, PoisonError};

use everpulse_engine::attempt::{beat, interrupted, running};
use everpulse_protocol::task::Task;
use everpulse_protocol::{Payload, Timestamp};
use everpulse_sdk::activity::{ActivityContext, Heartbeats};
use everpulse_sdk::definition::AttemptError;
use futures::future::BoxFuture;

use super::attempt::What;
use super::{Purpose, Worker};
use crate::dice::Dice;
use crate::party::Ctx;

/// Between two tellings are four fifths of the heartbeat time-out, and this at least.
const TELL_MS_MIN: u64 = 2_000;
/// So much longer than an attempt may take its owner waits for its end.
const LATE_MS: u64 = 10_000;

/// The code of an attempt, between two of its polls.
pub(super) struct Code {
    pub future: BoxFuture<'static, Result<Payload, AttemptError>>,
    pub context: ActivityContext,
    pub pulse: Arc<Pulse>,
    /// When it was polled first.
    pub begun: Timestamp,
    /// Beats that were looked at.
    beats: u64,
    told: Told,
}

/// What its owner knows.
#[derive(Debug, Default)]
struct Told {
    /// The owner was confirmed to have this, and keeps the attempt.
    confirmed: Option<Payload>,
    /// This is on its way there.
    flying: Option<Payload>,
    /// Nothing is told before.
    not_before: Timestamp,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("begun", &self.begun).field("told", &self.told).finish_non_exhaustive()
    }
}

/// What an attempt has reported.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<(u64, Option<Payload>)>);

impl Heartbeats for Pulse {
    fn beat(&self, details: Option<Payload>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.0 += 1;
        heard.1 = details.or(heard.1.take());
    }
}

impl Pulse {
    pub fn details(&self) -> Option<Payload> {
        self.heard().1
    }

    fn heard(&self) -> (u64, Option<Payload>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Code {
    pub fn new(
        future: BoxFuture<'static, Result<Payload, AttemptError>>,
        (context, pulse): (ActivityContext, Arc<Pulse>),
        now: Timestamp,
    ) -> Self {
        Self { future, context, pulse, begun: now, beats: 0, told: Told::default() }
    }
}

/// How long a piece of work takes: seldom so long that nothing is heard of it in time.
pub(super) fn piece(dice: &mut Dice) -> u64 {
    match dice.below(100) {
        0..20 => dice.within(0, 50),
        20..97 => dice.within(100, 900),
        _ => dice.within(1_400, 4_000),
    }
}

/// A number, as all that is reported here is.
pub(super) fn number(details: Option<&Payload>) -> Option<u64> {
    details.and_then(|details| details.decode().ok())
}

impl Worker {
    /// Tells the owner of what an attempt has reported, if it is time for that.
    pub(super) fn tell(&mut self, attempt_number: u64, ctx: &mut Ctx<'_>) {
        let beat_id = format!("{} {}", self.making.name, self.next);
        let Some(attempt) = self.attempts.get_mut(&attempt_number) else { return };
        let (What::Activity { task, eager: false }, Some(code)) = (&attempt.what, &mut attempt.code) else { return };
        let Some(silence) = task.options.heartbeat_ms else { return };
        let (beats, details) = code.pulse.heard();
        if beats == code.beats || code.told.flying.is_some() || ctx.now < code.told.not_before {
            return;
        }
        let Some(details) = details else { return };
        code.beats = beats;
        code.told.flying = Some(details.clone());
        code.told.not_before = Timestamp(ctx.now.0 + (silence * 4 / 5).max(TELL_MS_MIN));
        let event = match &code.told.confirmed {
            Some(confirmed) => beat(task, &beat_id, Some(details).filter(|details| details != confirmed), ctx.now),
            None => {
                let until = Timestamp(ctx.now.0 + task.options.start_to_close_ms + silence + LATE_MS);
                let mut task = task.clone();
                task.heartbeat = Some(details);
                running(task, until, ctx.now)
            }
        };
        self.next += 1;
        self.outbox.event(event, Purpose::Told(attempt_number), ctx);
    }

    /// The owner has what it was told. From the first time on it is what brings the work to another worker if this one dies.
    pub(super) fn told(&mut self, attempt_number: u64, ctx: &mut Ctx<'_>) {
        let Some(attempt) = self.attempts.get_mut(&attempt_number) else { return };
        let (What::Activity { task, .. }, Some(code)) = (&attempt.what, &mut attempt.code) else { return };
        let is_first = code.told.confirmed.is_none();
        code.told.confirmed = code.told.flying.take().or(code.told.confirmed.take());
        ctx.counts.tellings += 1;
        if is_first {
            ctx.counts.kept += 1;
            let task = task.clone();
            self.finish(&task, ctx);
        }
        // It may have reported more meanwhile.
        self.tell(attempt_number, ctx);
    }

    /// It leaves: what owners keep is given up, and goes on elsewhere.
    pub(super) fn give_up_kept(&mut self, ctx: &mut Ctx<'_>) {
        let kept = |(number, attempt): (&u64, &super::Attempt)| {
            let Told { confirmed, flying, .. } = &attempt.code.as_ref()?.told;
            // The owner may have what is on its way.
            Some((*number, confirmed.as_ref().map(|confirmed| flying.as_ref().unwrap_or(confirmed).clone())?))
        };
        let kept: Vec<(u64, Payload)> = self.attempts.iter().filter_map(kept).collect();
        for (number, details) in kept {
            let Some(attempt) = self.attempts.remove(&number) else { continue };
            let What::Activity { task, eager } = attempt.what else { continue };
            if attempt.slot {
                self.slots.give_back();
            }
            ctx.counts.interrupted += 1;
            let verdict = interrupted(&task, Some(details), ctx.now);
            self.carry_out_verdict(number, *task, eager, verdict, ctx);
        }
        self.fill_slots(ctx);
    }
}

/// Whether an attempt that is polled once more only after `wait` is cut off before: after how long.
pub(super) fn cut_off(task: &Task, begun: Timestamp, wait: u64, now: Timestamp) -> Option<u64> {
    let left = (begun.0 + task.options.start_to_close_ms).saturating_sub(now.0);
    let limit = task.options.heartbeat_ms.map_or(left, |silence| silence.min(left));
    (wait > limit).then_some(limit)
}
