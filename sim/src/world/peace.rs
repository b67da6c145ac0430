//! The end: nothing goes wrong any more, and everything has to come to rest.

use everpulse_protocol::topic;

use super::processes::Party;
use super::{Event, Kind, PROBE_MS, QUIET_MS, SETTLED_WITHIN_MS, World};
use crate::check::{self, Standing};
use crate::lanes;
use crate::wire::{self, Heard};
use crate::workflows;

/// So long after the last fault the code is mended.
const MENDED_MS: u64 = 3_000;

impl World {
    pub(super) fn peace(&mut self) {
        self.trace.note(self.schedule_ms, format_args!("peace"));
        self.peace_at = Some(self.schedule_ms);
        self.faults.end();
        self.disk_full_until = 0;
        self.disk_slow_until = 0;
        self.server.skew = 0;
        self.slow_topic = self.slow_topic.map(|(name, _)| (name, 0));
        for slot in 0..self.slots.len() {
            if matches!(self.slots[slot].kind, Kind::Misled | Kind::Mistaken) {
                self.crash(slot, None);
            } else {
                self.go_on(slot);
            }
        }
        if !self.shape.calm && self.net.percent(50) {
            // Only what is stored is left, and one worker that never saw any of it.
            for slot in 0..self.slots.len() {
                if self.slots[slot].kind == Kind::Worker {
                    self.crash(slot, None);
                }
            }
        }
        let worker = self.slot(Kind::Worker);
        self.schedule.after(10, Event::Restart(worker));
        if self.net.percent(50) {
            self.hush(true);
            self.schedule.after(QUIET_MS, Event::QuietOver);
        }
        self.schedule.after(MENDED_MS, Event::Mended);
        self.schedule.after(PROBE_MS, Event::Probe);
    }

    /// Clients ask how their runs are, or do not.
    pub(super) fn hush(&mut self, quiet: bool) {
        for slot in 0..self.slots.len() {
            self.with(slot, |party, _| {
                if let Party::Client(client) = party {
                    client.quiet = quiet;
                }
            });
        }
    }

    /// Nobody has asked for long: all that could go on by itself has come to its end.
    pub(super) fn quiet_over(&mut self) {
        self.hush(false);
        let histories = check::histories(self);
        let standing = Standing::of(histories.iter().map(Vec::as_slice));
        let open = check::standing_still(&standing);
        self.violations.extend(open.into_iter().map(|id| {
            format!("{id} is open, and nothing has brought it on for {QUIET_MS} ms: neither a hold nor a wake-up")
        }));
    }

    /// The code is mended, and clients let their runs go on.
    pub(super) fn mended(&mut self) {
        let first = self.peace_at.is_none_or(|at| self.schedule_ms < at + QUIET_MS);
        workflows::mend(true);
        self.deployed = true;
        for slot in 0..self.slots.len() {
            if matches!(&self.slots[slot].party, Some(Party::Worker(worker)) if !worker.knows_all()) {
                let life = self.slots[slot].life;
                self.schedule.after(0, Event::Heard { slot, life, heard: Heard::Leave });
            }
        }
        // Nobody but their parents knows of children: whoever looks after the application lets them go on.
        let mut parked = match first {
            true => Vec::new(),
            false => check::parked(&Standing::of(check::histories(self).iter().map(Vec::as_slice))),
        };
        for slot in 0..self.slots.len() {
            self.with(slot, |party, ctx| {
                if let Party::Client(client) = party {
                    client.resume(first, std::mem::take(&mut parked), ctx);
                }
            });
        }
        self.schedule.after(QUIET_MS + 10_000, Event::Mended);
    }

    /// From then on all workers have the code that was deployed last.
    pub fn mended_ms(&self) -> u64 {
        self.peace_at.map_or(u64::MAX, |at| at + MENDED_MS + 2_000)
    }

    pub(super) fn probe(&mut self) {
        if self.is_settled() {
            self.done = true;
        } else if self.peace_at.is_some_and(|at| self.schedule_ms > at + SETTLED_WITHIN_MS) {
            self.violations
                .push(format!("not settled {SETTLED_WITHIN_MS} ms after the last fault: {}", self.unsettled()));
        } else {
            self.schedule.after(PROBE_MS, Event::Probe);
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        let parties = self.slots.iter().all(|slot| match &slot.party {
            Some(Party::Client(client)) => client.jobs.is_done(),
            Some(Party::Worker(worker)) => worker.is_idle() && worker.held() == 0,
            None => slot.kind != Kind::Client,
        });
        let families = self.witness.open_children() == 0;
        parties && families && self.server.up && self.backlogs().iter().all(|(_, backlog)| *backlog == 0)
    }

    pub(super) fn backlogs(&self) -> Vec<(String, u64)> {
        let inbox = (0..self.shape.layout.partitions).map(|partition| (wire::inbox(partition), topic::OWNERS));
        let queue = lanes::all().into_iter().map(|lane| (wire::lane(&lane), topic::WORKERS));
        let all = inbox.chain(queue);
        all.map(|(topic, subscription)| (topic.clone(), self.server.backlog(&topic, subscription))).collect()
    }

    pub(super) fn unsettled(&self) -> String {
        let mut text = Vec::new();
        for slot in &self.slots {
            match &slot.party {
                Some(Party::Client(client)) => {
                    let open = client.jobs.jobs.iter().filter(|job| !job.is_done());
                    text.extend(open.map(|job| format!("{} ({:?}) is open", job.workflow_id, job.run)));
                }
                Some(Party::Worker(worker)) if !worker.is_idle() => text.push(worker.describe()),
                _ => {}
            }
        }
        text.extend(self.backlogs().iter().filter(|(_, n)| *n > 0).map(|(topic, n)| format!("{topic} has {n}")));
        text.join("; ")
    }
}
