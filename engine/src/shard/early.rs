//! Signals that came before their run.

use std::collections::VecDeque;
use std::time::Duration;

use everpulse_protocol::event::Event;
use everpulse_protocol::{Timestamp, WorkflowId};

use crate::Map;
use crate::effect::DeliveryToken;

/// A signal for a workflow id without a run waits this long for its start.
pub(super) const EARLY: Duration = Duration::from_secs(3);

/// A signal that waits for its run.
#[derive(Debug)]
pub(super) struct Early {
    pub until: Timestamp,
    pub token: DeliveryToken,
    pub event: Event,
}

/// They wait in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct EarlySignals {
    waiting: VecDeque<Early>,
    /// How many there are for each workflow id.
    ids: Map<WorkflowId, usize>,
}

impl EarlySignals {
    pub fn push(&mut self, early: Early) {
        *self.ids.entry(early.event.workflow_id.clone()).or_default() += 1;
        self.waiting.push_back(early);
    }

    /// When the first one has waited long enough.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.waiting.front().map(|early| early.until)
    }

    /// The next one that has waited long enough.
    pub fn late(&mut self, now: Timestamp) -> Option<Early> {
        // It waits no longer because the clock was set back.
        let early = self.waiting.pop_front_if(|early| {
            early.until = early.until.min(now.after(EARLY));
            early.until <= now
        })?;
        self.forget(&early.event.workflow_id);
        Some(early)
    }

    /// Those for a workflow id whose run is there now.
    pub fn of(&mut self, id: &WorkflowId, is_there: impl Fn(&Event) -> bool) -> Vec<Early> {
        if !self.ids.contains_key(id) {
            return Vec::new();
        }
        let (mut found, mut rest) = (Vec::new(), VecDeque::with_capacity(self.waiting.len()));
        for early in self.waiting.drain(..) {
            if early.event.workflow_id == *id && is_there(&early.event) {
                found.push(early);
            } else {
                rest.push_back(early);
            }
        }
        self.waiting = rest;
        for _ in &found {
            self.forget(id);
        }
        found
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
        self.ids.clear();
    }

    fn forget(&mut self, id: &WorkflowId) {
        if let Some(count) = self.ids.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.ids.remove(id);
            }
        }
    }
}
