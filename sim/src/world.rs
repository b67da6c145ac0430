//! The world: a virtual clock, the broker, the parties, and the network between them, which loses and delays.
//!
//! ```text
//!   party ──Act──► network ──Up──► Server ──► disk
//!     ▲               │                │
//!     └────Heard──────┴─────Down───────┘       episodes: what goes wrong by itself
//! ```
//! All is in one thread, in one order that follows from the seed. Here is what there is and what happens next; processes
//! are in `processes`, what goes between them in `network`, what befalls them in `episodes`, and the end in `peace`.

mod episodes;
mod network;
mod peace;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use everpulse_broker::semantics::{ConnectionId, Publish};
use everpulse_protocol::Position;
use everpulse_sdk::definition::Registry;

use self::network::{Brief, Wire, numbers_of};
use self::processes::{Party, Slot};
use crate::broker::{Layout, Server};
use crate::check::Witness;
use crate::client::Jobs;
use crate::counts::Counts;
use crate::dice::Dice;
use crate::faults::{Fault, Faults};
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::schedule::Schedule;
use crate::shape::Shape;
use crate::trace::Trace;
use crate::wire::{self, Heard, Up};
use crate::workflows;

/// When the world begins, in milliseconds since 1970: so late that a clock can be set back.
const BEGINNING: u64 = 1_000_000_000;
/// After the end of the faults everything is settled within this: longer than a lost wake-up is waited for, far shorter
/// than the longest wake-up.
const SETTLED_WITHIN_MS: u64 = 900_000;
/// In some seeds the clients ask nothing for so long: no run may need their questions to go on.
const QUIET_MS: u64 = 300_000;
/// A world that does not come to rest.
const STEPS_MAX: u64 = 2_000_000;
const PROBE_MS: u64 = 1_000;
/// A poisonous input is tried three times, and its first time is not counted. Owners that know nothing of each other
/// may try it at once.
const ABORTS_MAX: u32 = 12;

#[derive(Debug)]
enum Event {
    Heard {
        slot: usize,
        life: u32,
        heard: Heard,
    },
    Up(ConnectionId, Up),
    /// The broker notices that a connection is gone.
    Gone(ConnectionId),
    /// A message that is stored a second time.
    Again(String, Box<Publish>),
    /// A janitor's cursor is moved.
    Trim(u32, Position),
    Disk(u64),
    Tick(u64),
    Timeout(u64),
    Fault(Fault),
    GoOn(usize, u32),
    Kill(usize, u32),
    Restart(usize),
    RestartBroker,
    /// Workers that start from now on know all the code.
    Deploy,
    Peace,
    Mended,
    QuietOver,
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Worker,
    /// It takes the application for one with another count of shards.
    Misled,
    /// Its code was changed without a new version.
    Mistaken,
    Client,
}

#[derive(Debug)]
pub struct World {
    pub schedule_ms: u64,
    schedule: Schedule<Event>,
    pub server: Server,
    slots: Vec<Slot>,
    wires: BTreeMap<ConnectionId, Wire>,
    next_connection: u64,
    faults: Faults,
    net: Dice,
    pub shape: Shape,
    registry: Arc<Registry>,
    /// What workers know before the new code is deployed.
    registry_before: Arc<Registry>,
    registry_mistaken: Arc<Registry>,
    deployed: bool,
    seed: u64,
    jobs: BTreeMap<usize, Jobs>,
    /// How often each poisonous run took a worker down.
    aborts: BTreeMap<u64, u32>,
    witness: Witness,

    /// What is published to topics of this name is long on its way.
    slow_topic: Option<(&'static str, u64)>,
    disk_slow_until: u64,
    disk_full_until: u64,
    timeout_at: Option<u64>,
    peace_at: Option<u64>,
    done: bool,
    /// Messages of the inbox that were delivered: for those that come again.
    delivered: Vec<(String, Position, Bytes)>,
    delivered_once: BTreeSet<(String, Position)>,

    pub trace: Trace,
    pub ledger: Ledger,
    pub counts: Counts,
    pub violations: Vec<String>,
}

impl World {
    pub fn new(plan: &Plan, lines: bool) -> Self {
        workflows::mend(false);
        let shape = Shape::draw(plan);
        let mut dice = Dice::new(plan.seed, 3);
        let span = plan.busy_ms.saturating_sub(4_000).max(1_000);
        let mut jobs = BTreeMap::new();
        for client in 0..shape.clients {
            let share = shape.runs / shape.clients + usize::from(client < shape.runs % shape.clients);
            jobs.insert(shape.workers + client, Jobs::draw(client, share, BEGINNING, span, &shape, &mut dice));
        }
        let mut without = plan.without.clone();
        if shape.calm {
            // Workers may come and leave in good order, and what one sends may arrive when another has taken over: that is no
            // reason to do anything twice.
            let is_calm = |fault: &Fault| matches!(fault, Fault::Join | Fault::Leave | Fault::SlowTopic);
            without.extend(Fault::ALL.iter().filter(|fault| !is_calm(fault)));
        }
        let server = Server::new(shape.layout, shape.segment_entries);
        let (workers, clients) = (shape.workers, shape.clients);
        let mut world = Self {
            schedule_ms: BEGINNING,
            schedule: Schedule::new(BEGINNING),
            witness: Witness::new(shape.layout, shape.skew_ms_max().unsigned_abs(), &server),
            server,
            slots: Vec::new(),
            wires: BTreeMap::new(),
            next_connection: 1,
            faults: Faults::new(plan.seed, &without),
            net: Dice::new(plan.seed, 2),
            shape,
            registry: Arc::new(workflows::registry()),
            registry_before: Arc::new(workflows::registry_before()),
            registry_mistaken: Arc::new(workflows::registry_mistaken()),
            deployed: false,
            seed: plan.seed,
            jobs,
            aborts: BTreeMap::new(),
            slow_topic: None,
            disk_slow_until: 0,
            disk_full_until: 0,
            timeout_at: None,
            peace_at: None,
            done: false,
            delivered: Vec::new(),
            delivered_once: BTreeSet::new(),
            trace: Trace::new(lines),
            ledger: Ledger::default(),
            counts: Counts::default(),
            violations: Vec::new(),
        };
        for _ in 0..workers {
            world.slot(Kind::Worker);
        }
        for _ in 0..clients {
            world.slot(Kind::Client);
        }
        for slot in 0..world.slots.len() {
            world.schedule.after(slot as u64, Event::Restart(slot));
        }
        for fault in Fault::ALL {
            world.next_fault(*fault);
        }
        world.schedule.after(1_000, Event::Tick(world.server.life));
        world.schedule.after(plan.busy_ms / 2, Event::Deploy);
        world.schedule.after(plan.busy_ms, Event::Peace);
        world
    }

    fn next_fault(&mut self, fault: Fault) {
        if let Some(wait) = self.faults.next(fault) {
            self.schedule.after(wait, Event::Fault(fault));
        }
    }

    /// Plays to the end.
    pub fn run(&mut self) {
        while !self.done && self.violations.is_empty() {
            let Some(event) = self.schedule.pop() else { break };
            self.schedule_ms = self.schedule.now();
            self.happen(event);
            if self.trace.steps > STEPS_MAX {
                self.violations.push(format!("no rest after {STEPS_MAX} steps: {}", self.unsettled()));
            }
        }
        self.counts.faults = self.faults.reached.clone();
        self.counts.trimmed = self.server.trimmed;
        self.counts.segments_gone = self.server.segments_gone;
        self.counts.marks = self.witness.marks;
        self.counts.acks_with_work = self.witness.acks_with_work;
        self.counts.causes = self.witness.causes;
        self.counts.covered = self.witness.covered;
        self.counts.carried = self.witness.carried;
        self.counts.windows = self.witness.windows;
        self.counts.returned = self.witness.returned;
        self.counts.tasks_in_lanes = self.witness.tasks_in_lanes;
        self.counts.steps = self.trace.steps;
        self.counts.settled_after_ms = self.peace_at.map_or(0, |at| self.schedule_ms.saturating_sub(at));
    }

    /// The clients' jobs, as they know them at the end.
    pub fn jobs(&self) -> Vec<&Jobs> {
        let clients = self.slots.iter().filter_map(|slot| match &slot.party {
            Some(Party::Client(client)) => Some(&client.jobs),
            _ => None,
        });
        clients.collect()
    }

    fn happen(&mut self, event: Event) {
        let now = self.schedule_ms;
        match event {
            Event::Heard { slot, life, heard } => {
                if self.slots[slot].life == life {
                    let words = || format!("{slot} hears {}", Brief(&heard));
                    self.trace.step(now, &numbers_of(&heard), words);
                    self.hear(slot, heard);
                }
            }
            Event::Up(connection, up) => self.up(connection, up),
            Event::Gone(connection) => {
                self.server.disconnected(connection);
                self.wires.remove(&connection);
                self.poll_server();
            }
            Event::Again(topic, publish) => {
                if self.server.up {
                    self.server.store_again(&topic, &publish, now);
                    self.poll_server();
                }
            }
            Event::Disk(life) => self.disk(life),
            Event::Tick(life) => {
                if self.server.life == life && self.server.up {
                    self.server.tick(now);
                    self.poll_server();
                    self.schedule.after(1_000, Event::Tick(life));
                }
            }
            Event::Timeout(life) => {
                if self.server.life == life && self.server.up {
                    self.timeout_at = None;
                    self.server.timeout(now);
                    self.poll_server();
                }
            }
            Event::Fault(fault) => {
                if self.faults.is_on(fault) {
                    self.trace.note(now, format_args!("{fault}"));
                    self.episode(fault);
                    self.next_fault(fault);
                }
            }
            Event::GoOn(slot, life) => {
                if self.slots[slot].life == life {
                    self.go_on(slot);
                }
            }
            Event::Kill(slot, life) => {
                if self.slots[slot].life == life {
                    self.crash(slot, None);
                }
            }
            Event::Trim(shard, upto) => {
                self.trace.note(now, format_args!("trim {shard} {upto}"));
                self.counts.trims += 1;
                self.server.trim(&wire::history(shard), upto, now);
                self.poll_server();
            }
            Event::Deploy => self.deployed = true,
            Event::Restart(slot) => self.restart(slot),
            Event::RestartBroker => self.restart_broker(),
            Event::Peace => self.peace(),
            Event::Mended => self.mended(),
            Event::QuietOver => self.quiet_over(),
            Event::Probe => self.probe(),
        }
    }

    pub fn layout(&self) -> Layout {
        self.shape.layout
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
