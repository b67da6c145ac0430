//! Processes: one is started in its slot, hears something, and wants things done.

use std::panic::{AssertUnwindSafe, catch_unwind};

use everpulse_broker::semantics::ConnectionId;
use everpulse_protocol::{Timestamp, WriterId};

use super::{Event, Kind, World};
use crate::client::Client;
use crate::dice::Dice;
use crate::faults::Fault;
use crate::party::{Ctx, Place};
use crate::wire::{Act, Heard};
use crate::worker::{Making, Worker};
use crate::workflows;

#[derive(Debug)]
pub(super) enum Party {
    Worker(Box<Worker>),
    Client(Box<Client>),
}

/// A place for a process, in which one comes after the other.
#[derive(Debug)]
pub(super) struct Slot {
    pub party: Option<Party>,
    pub life: u32,
    /// Its clock against the world's.
    pub skew: i64,
    /// What it has not heard while it stands still.
    pub held: Option<Vec<Heard>>,
    pub connection: Option<ConnectionId>,
    pub kind: Kind,
    dice: Dice,
}

impl World {
    pub(super) fn slot(&mut self, kind: Kind) -> usize {
        let number = self.slots.len();
        let mut skew = 0;
        if self.faults.is_on(Fault::Skew) && kind != Kind::Client {
            self.faults.count(Fault::Skew);
            let most = self.shape.skew_ms_max();
            skew = (self.faults.dice(Fault::Skew).within(0, 4_000) as i64 - 2_000).clamp(-most, most);
        }
        let dice = Dice::new(self.seed, 10_000 + number as u64);
        self.slots.push(Slot { party: None, life: 0, skew, held: None, connection: None, kind, dice });
        number
    }

    /// A process comes up in its slot, if none is there.
    pub(super) fn restart(&mut self, number: usize) {
        if self.slots[number].party.is_some() {
            return;
        }
        // It may have been taken down before, to come again; since then it was found out.
        if self.peace_at.is_some() && matches!(self.slots[number].kind, Kind::Misled | Kind::Mistaken) {
            return;
        }
        let slot = &mut self.slots[number];
        slot.life += 1;
        slot.held = None;
        let (kind, name) = (slot.kind, format!("{number}-{}", slot.life));
        let mut acts = Vec::new();
        let party = if kind == Kind::Client {
            let (layout, jobs) = (self.shape.layout, self.jobs.remove(&number).unwrap_or_default());
            Party::Client(Box::new(Client::start(name, layout, jobs, &mut self.ctx(number, &mut acts))))
        } else {
            let writer = WriterId(slot.dice.id());
            self.witness.writers.insert(number, writer);
            if kind == Kind::Misled {
                self.witness.misled.insert(writer);
            }
            let making = Making {
                name,
                writer,
                layout: self.shape.layout,
                misled: kind == Kind::Misled,
                eager: self.slots[number].dice.percent(self.shape.eager_percent),
                options: self.shape.options.clone(),
                registry: match kind {
                    Kind::Mistaken => self.registry_mistaken.clone(),
                    _ if self.deployed => self.registry.clone(),
                    _ => self.registry_before.clone(),
                },
            };
            Party::Worker(Box::new(Worker::start(making, &mut self.ctx(number, &mut acts))))
        };
        self.slots[number].party = Some(party);
        for act in acts {
            self.act(number, act);
        }
    }

    /// What a process is given while it handles something.
    fn ctx<'a>(&'a mut self, number: usize, acts: &'a mut Vec<Act>) -> Ctx<'a> {
        let slot = &mut self.slots[number];
        Ctx {
            now: Timestamp(self.schedule_ms.saturating_add_signed(slot.skew)),
            dice: &mut slot.dice,
            acts,
            ledger: &mut self.ledger,
            counts: &mut self.counts,
            violations: &mut self.violations,
            place: Place { party: number, world_ms: self.schedule_ms, stored: self.server.stored_count() },
        }
    }

    pub(super) fn hear(&mut self, slot: usize, heard: Heard) {
        if let Some(held) = &mut self.slots[slot].held {
            held.push(heard);
            return;
        }
        self.with(slot, |party, ctx| match party {
            Party::Worker(worker) => worker.handle(heard, ctx),
            Party::Client(client) => client.handle(heard, ctx),
        });
    }

    /// Lets a party do something, and what it wants done.
    pub(super) fn with(&mut self, number: usize, handle: impl FnOnce(&mut Party, &mut Ctx<'_>)) {
        let Some(mut party) = self.slots[number].party.take() else { return };
        let mut acts = Vec::new();
        let mut ctx = self.ctx(number, &mut acts);
        let result = catch_unwind(AssertUnwindSafe(|| handle(&mut party, &mut ctx)));
        if let Err(panic) = result {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            self.violations.push(format!("party {number} broke an invariant: {words}"));
        }
        self.slots[number].party = Some(party);
        if let Some(poison) = workflows::aborted() {
            // It went down in the middle of what it did: nothing of that leaves.
            return self.aborts(number, poison);
        }
        for act in acts {
            self.act(number, act);
        }
    }

    /// The author's code took its process down.
    fn aborts(&mut self, number: usize, poison: u64) {
        self.counts.aborts += 1;
        let aborts = self.aborts.entry(poison).or_default();
        *aborts += 1;
        if *aborts > super::ABORTS_MAX {
            self.violations.push(format!("the run poison of {poison} took a worker down for the {aborts}th time"));
        }
        let again = self.net.within(50, 1_000);
        self.crash(number, Some(again));
    }

    fn act(&mut self, slot: usize, act: Act) {
        let life = self.slots[slot].life;
        match act {
            Act::Connect => self.connect(slot),
            Act::Send(connection, up) => self.send_up(slot, connection, up),
            Act::Remind { after_ms, timer } => {
                self.schedule.after(after_ms, Event::Heard { slot, life, heard: Heard::Timer(timer) });
            }
            Act::LetGo { partition, position, held_ms } => {
                self.witness.let_go(slot, partition, position, held_ms, &mut self.violations);
            }
            Act::Trim { shard, upto } => {
                let mut wait = self.latency();
                if self.faults.strikes(Fault::LateTrim) {
                    let late = self.faults.dice(Fault::LateTrim).within(1_000, 12_000);
                    self.schedule.after(late, Event::Trim(shard, upto));
                    wait += self.faults.dice(Fault::LateTrim).within(0, 500);
                }
                self.schedule.after(wait, Event::Trim(shard, upto));
            }
            Act::Exit => {
                self.slots[slot].party = None;
                self.slots[slot].life += 1;
                self.drop_connection(slot, 5);
                if !self.slots.iter().any(|slot| slot.kind == Kind::Worker && slot.party.is_some()) {
                    self.schedule.after(500, Event::Restart(slot));
                }
            }
        }
    }
}
