//! What the witness knows of a shard: what stands, what is under way, and what brings a worker to it. What that must be is
//! the witness's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use everpulse_protocol::chain::Chain;
use everpulse_protocol::event::{EventBody, InboxFrame};
use everpulse_protocol::family::ParentClose;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{EventId, RunId, WriterId, decode};
use uuid::Uuid;

use super::kept::Kept;
use crate::lanes::Part;

/// What stands of a shard, and what is left that brings somebody to it.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub chain: Chain,
    pub begun: BTreeSet<RunId>,
    pub open: BTreeSet<RunId>,
    /// Runs that others began, by which of their commands.
    pub parents: BTreeMap<RunId, u32>,
    /// What becomes of the children that runs began, and still want.
    pub children: BTreeMap<(RunId, u32), ParentClose>,
    /// Steps that frames ask for.
    pub asked: BTreeSet<(RunId, u32)>,
    /// Tasks that are not stored, with the frame that asks for them.
    pub unsent: BTreeMap<(RunId, u32), u64>,
    /// Into which lanes their first tasks were sent.
    pub lanes: BTreeMap<(RunId, u32), Part>,
    /// Attempts that the owner keeps.
    pub kept: Kept,
    /// Unacknowledged messages of the inbox, and wake-ups.
    pub held: u64,
    /// Of these, what brings a worker at once: messages of the inbox. And how many inputs each run has among them.
    pub at_once: u64,
    pub inbox_wakes: u64,
    pub inputs: BTreeMap<RunId, u64>,
    /// When the wake-ups that lie in `timers` are due, and how many at each time.
    pub wakes: BTreeMap<u64, u64>,
    /// What is under way and soon over one way or another, and who wrote it down.
    pub work: BTreeMap<(RunId, Work), WriterId>,
}

/// What the owner of a shard does on its own, and nobody else would notice if it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Applies an input that it has taken in on trial.
    Apply(EventId),
    /// Local work.
    Step(u32),
}

/// All that it does for a run.
pub(super) fn of_run(run: RunId) -> RangeInclusive<(RunId, Work)> {
    (run, Work::Apply(EventId(Uuid::nil())))..=(run, Work::Step(u32::MAX))
}

/// A message that is not acknowledged.
#[derive(Debug)]
pub(super) struct Unacked {
    pub shard: usize,
    /// Runs that it changes.
    pub runs: Vec<RunId>,
    /// By which events.
    pub events: Vec<(RunId, EventId)>,
    /// When it brings a worker: a wake-up that lies in `timers`. All else does so at once.
    due: Option<u64>,
    /// It is a wake-up on its way to the shard.
    is_wake: bool,
}

/// No input is let go before, for a wake-up instead of what it led to.
pub(super) const HOLD_MS: u64 = 2_000;

/// The longest that local work of the simulation's workflows may take, with all its attempts, and what the engine adds to
/// that.
pub(super) const SOON_MS: u64 = 60_000;

impl Shard {
    pub fn end_work_of(&mut self, run: RunId) {
        self.work.retain(|(of, _), _| *of != run);
    }

    pub fn hold(&mut self, message: &Unacked) {
        self.held += 1;
        match message.due {
            Some(due) => *self.wakes.entry(due).or_default() += 1,
            None => self.at_once += 1,
        }
        self.inbox_wakes += u64::from(message.is_wake);
        for run in &message.runs {
            *self.inputs.entry(*run).or_default() += 1;
        }
    }

    pub fn let_go(&mut self, message: &Unacked) {
        self.held -= 1;
        match message.due {
            Some(due) => less(&mut self.wakes, &due),
            None => self.at_once -= 1,
        }
        self.inbox_wakes -= u64::from(message.is_wake);
        for run in &message.runs {
            less(&mut self.inputs, run);
        }
    }
}

/// One less of them; none is not counted.
fn less<K: Ord>(counts: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

pub(super) fn of_inbox(payload: &Bytes) -> Option<Unacked> {
    let frame = decode::<InboxFrame>(payload).ok()?;
    let (mut runs, mut events, mut is_wake) = (Vec::new(), Vec::new(), false);
    for event in &frame.events {
        match event.body() {
            Ok(EventBody::Wake { .. }) => is_wake = true,
            Ok(
                EventBody::Describe
                | EventBody::AskResult
                | EventBody::AskPublished { .. }
                | EventBody::AskUpdate { .. }
                | EventBody::Query { .. },
            ) => {}
            // The id of a start is that of its run.
            _ => {
                let run = event.run_id.unwrap_or(RunId(event.id.0));
                runs.push(run);
                events.push((run, event.id));
            }
        }
    }
    Some(Unacked { shard: frame.shard as usize, runs, events, due: None, is_wake })
}

pub(super) fn of_timers(payload: &Bytes) -> Option<Unacked> {
    match decode::<TimerMessage>(payload) {
        Ok(TimerMessage::Wake(wake)) => {
            let (runs, events) = (Vec::new(), Vec::new());
            Some(Unacked { shard: wake.shard as usize, runs, events, due: Some(wake.due.0), is_wake: false })
        }
        _ => None,
    }
}
