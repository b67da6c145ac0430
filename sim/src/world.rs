//! The world: a virtual clock, the broker, the parties, and the network between them, which loses and delays.
//!
//! ```text
//!   party ──Act──► network ──Up──► Server ──► disk
//!     ▲               │                │
//!     └────Heard──────┴─────Down───────┘       episodes: what goes wrong by itself
//! ```
//! All is in one thread, in one order that follows from the seed. What befalls a message is here, what befalls a party
//! is in `episodes`.

mod episodes;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use everpulse_broker::semantics::{ConnectionId, Publish};
use everpulse_protocol::{Position, Timestamp, WriterId, topic};
use everpulse_sdk::definition::Registry;
use xxhash_rust::xxh3::xxh3_64;

use crate::broker::{Layout, Server};
use crate::client::{Client, Jobs};
use crate::counts::Counts;
use crate::dice::Dice;
use crate::faults::{Fault, Faults};
use crate::ledger::Ledger;
use crate::party::{Ctx, Place};
use crate::plan::Plan;
use crate::schedule::Schedule;
use crate::trace::Trace;
use crate::wire::{self, Act, Down, Heard, Up};
use crate::worker::{Making, Worker};
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
    Disk(u64),
    Tick(u64),
    Timeout(u64),
    Fault(Fault),
    GoOn(usize, u32),
    Kill(usize, u32),
    Restart(usize),
    RestartBroker,
    Peace,
    Mended,
    QuietOver,
    Probe,
}

#[derive(Debug)]
enum Party {
    Worker(Box<Worker>),
    Client(Box<Client>),
}

/// A place for a process, in which one comes after the other.
#[derive(Debug)]
struct Slot {
    party: Option<Party>,
    life: u32,
    skew: i64,
    /// What it has not heard while it stands still.
    held: Option<Vec<Heard>>,
    connection: Option<ConnectionId>,
    /// Of a worker that comes up again here, as it was; none of one that does not.
    kind: Kind,
    dice: Dice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Worker,
    Misled,
    Client,
}

/// What a connection's producers and consumers are of.
#[derive(Debug, Default)]
struct Wire {
    slot: usize,
    life: u32,
    producers: BTreeMap<u64, String>,
    consumers: BTreeMap<u64, String>,
    /// Nothing that was sent arrives before what was sent earlier.
    up_at: u64,
    down_at: u64,
    /// What arrives later does not arrive: the sender is gone.
    up_until: Option<u64>,
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
    layout: Layout,
    registry: Arc<Registry>,
    seed: u64,
    jobs: BTreeMap<usize, Jobs>,
    eager_percent: u64,
    live_runs_max: usize,

    disk_slow_until: u64,
    disk_full_until: u64,
    timeout_at: Option<u64>,
    peace_at: Option<u64>,
    done: bool,
    /// Messages of the inbox that were delivered: for those that come again.
    delivered: Vec<(String, Position, Bytes, u64)>,
    delivered_once: BTreeSet<(String, Position)>,

    pub trace: Trace,
    pub ledger: Ledger,
    pub counts: Counts,
    pub violations: Vec<String>,
}

impl World {
    pub fn new(plan: &Plan, lines: bool) -> Self {
        workflows::mend(false);
        let mut shape = Dice::new(plan.seed, 1);
        let layout = Layout { shards: shape.within(1, 4) as u32, partitions: shape.within(1, 2) as u32 };
        let (workers, clients) = (shape.within(1, 4) as usize, shape.within(1, 3) as usize);
        let eager_percent = *shape.pick(&[0, 30, 100]).expect("there are some");
        let live_runs_max = *shape.pick(&[1, 3, 1_000]).expect("there are some");
        let runs = plan.runs(shape.within(24, 44) as usize);
        let span = plan.busy_ms.saturating_sub(4_000).max(1_000);
        let mut jobs = BTreeMap::new();
        for client in 0..clients {
            let share = runs / clients + usize::from(client < runs % clients);
            jobs.insert(workers + client, Jobs::draw(client, share, BEGINNING, span, &mut shape));
        }
        let mut world = Self {
            schedule_ms: BEGINNING,
            schedule: Schedule::new(BEGINNING),
            server: Server::new(layout),
            slots: Vec::new(),
            wires: BTreeMap::new(),
            next_connection: 1,
            faults: Faults::new(plan.seed, &plan.without),
            net: Dice::new(plan.seed, 2),
            layout,
            registry: Arc::new(workflows::registry()),
            seed: plan.seed,
            jobs,
            eager_percent,
            live_runs_max,
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
        world.schedule.after(plan.busy_ms, Event::Peace);
        world
    }

    fn slot(&mut self, kind: Kind) -> usize {
        let number = self.slots.len();
        let mut skew = 0;
        if self.faults.is_on(Fault::Skew) && kind != Kind::Client {
            self.faults.count(Fault::Skew);
            skew = self.faults.dice(Fault::Skew).within(0, 4_000) as i64 - 2_000;
        }
        let dice = Dice::new(self.seed, 10_000 + number as u64);
        self.slots.push(Slot { party: None, life: 0, skew, held: None, connection: None, kind, dice });
        number
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
                    self.trace.note(now, format_args!("{slot} hears {}", Brief(&heard)));
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
            Event::Restart(slot) => self.restart(slot),
            Event::RestartBroker => self.restart_broker(),
            Event::Peace => self.peace(),
            Event::Mended => self.mended(),
            Event::QuietOver => self.quiet_over(),
            Event::Probe => self.probe(),
        }
    }

    fn hear(&mut self, slot: usize, heard: Heard) {
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
    fn with(&mut self, number: usize, handle: impl FnOnce(&mut Party, &mut Ctx<'_>)) {
        let slot = &mut self.slots[number];
        let Some(mut party) = slot.party.take() else { return };
        let mut acts = Vec::new();
        let mut ctx = Ctx {
            now: Timestamp(self.schedule_ms.saturating_add_signed(slot.skew)),
            dice: &mut slot.dice,
            acts: &mut acts,
            ledger: &mut self.ledger,
            counts: &mut self.counts,
            violations: &mut self.violations,
            place: Place { party: number, world_ms: self.schedule_ms, stored: self.server.stored_count() },
        };
        let result = catch_unwind(AssertUnwindSafe(|| handle(&mut party, &mut ctx)));
        if let Err(panic) = result {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            self.violations.push(format!("party {number} broke an invariant: {words}"));
        }
        self.slots[number].party = Some(party);
        for act in acts {
            self.act(number, act);
        }
    }

    fn act(&mut self, slot: usize, act: Act) {
        let life = self.slots[slot].life;
        match act {
            Act::Connect => self.connect(slot),
            Act::Send(connection, up) => {
                if self.slots[slot].connection != Some(connection) {
                    return;
                }
                let wait = self.latency();
                let Some(wire) = self.wires.get_mut(&connection) else { return };
                wire.up_at = wire.up_at.max(self.schedule_ms + wait);
                self.schedule.at(wire.up_at, Event::Up(connection, up));
            }
            Act::Remind { after_ms, timer } => {
                self.schedule.after(after_ms, Event::Heard { slot, life, heard: Heard::Timer(timer) });
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

    fn latency(&mut self) -> u64 {
        let mut wait = self.net.within(0, 3);
        if self.faults.strikes(Fault::Delay) {
            wait += self.faults.dice(Fault::Delay).within(20, 1_500);
        }
        wait
    }

    fn connect(&mut self, slot: usize) {
        let life = self.slots[slot].life;
        let wait = self.net.within(1, 3);
        if !self.server.up {
            self.schedule.after(wait, Event::Heard { slot, life, heard: Heard::Unreachable });
            return;
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.slots[slot].connection = Some(connection);
        self.server.connect(connection, slot);
        let down_at = self.schedule_ms + wait;
        self.wires.insert(connection, Wire { slot, life, down_at, ..Wire::default() });
        self.schedule.at(down_at, Event::Heard { slot, life, heard: Heard::Connected(connection) });
    }

    /// Something arrives at the broker.
    fn up(&mut self, connection: ConnectionId, up: Up) {
        let now = self.schedule_ms;
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        if !self.server.up || wire.up_until.is_some_and(|until| until < now) {
            return;
        }
        self.trace.note(now, format_args!("broker hears {} of {}", BriefUp(&up), connection.0));
        let up = match up {
            Up::CreateProducer(request) => {
                wire.producers.insert(request.producer_id, request.topic.clone());
                Up::CreateProducer(request)
            }
            Up::Subscribe(request) => {
                wire.consumers.insert(request.consumer_id, request.topic.clone());
                Up::Subscribe(request)
            }
            Up::Publish(mut publish) => {
                let topic = wire.producers.get(&publish.producer_id).cloned().unwrap_or_default();
                if topic.starts_with("persistent") && self.faults.strikes(Fault::StoredTwice) {
                    let wait = self.faults.dice(Fault::StoredTwice).within(0, 800);
                    self.schedule.after(wait, Event::Again(topic.clone(), publish.clone()));
                }
                if publish.facts.deliver_at_ms > 0 && self.faults.strikes(Fault::TimerEarly) {
                    let early = self.faults.dice(Fault::TimerEarly).within(1, 5_000);
                    publish.facts.deliver_at_ms = publish.facts.deliver_at_ms.saturating_sub(early).max(1);
                }
                Up::Publish(publish)
            }
            up => up,
        };
        let mut out = Vec::new();
        self.server.handle(connection, up, now, &mut out);
        self.send_down(out);
        self.poll_server();
    }

    /// Carries out what the broker wants, and keeps its disk and its clock going.
    fn poll_server(&mut self) {
        if !self.server.up {
            return;
        }
        let mut out = Vec::new();
        self.server.poll(self.schedule_ms, &mut out);
        self.send_down(out);
        if self.server.begin_write() {
            let slow = self.schedule_ms < self.disk_slow_until;
            let wait = if slow { self.net.within(50, 2_000) } else { self.net.within(1, 4) };
            self.schedule.after(wait, Event::Disk(self.server.life));
        }
        let due = self.server.poll_timeout();
        if let Some(due) = due.filter(|due| self.timeout_at.is_none_or(|at| *due < at)) {
            self.timeout_at = Some(due);
            self.schedule.at(due.max(self.schedule_ms + 1), Event::Timeout(self.server.life));
        }
    }

    fn disk(&mut self, life: u64) {
        if self.server.life != life || !self.server.up {
            return;
        }
        if self.schedule_ms < self.disk_full_until {
            self.server.failed();
        } else {
            self.server.written(self.schedule_ms);
        }
        self.trace.note(self.schedule_ms, format_args!("disk {}", self.server.stored_count()));
        self.poll_server();
    }

    fn send_down(&mut self, out: Vec<(ConnectionId, Down)>) {
        for (connection, down) in out {
            self.down(connection, down);
        }
    }

    /// Something leaves the broker.
    fn down(&mut self, connection: ConnectionId, down: Down) {
        let Some(wire) = self.wires.get(&connection) else { return };
        let down = match down {
            Down::Receipt { producer_id, sequence_id, position } => {
                let topic = wire.producers.get(&producer_id);
                let is_history = topic.is_some_and(|topic| topic.contains(topic::HISTORY));
                if self.faults.strikes(Fault::LostReceipt) {
                    return;
                }
                let mut position = position;
                if is_history && self.faults.strikes(Fault::OtherReceipt) {
                    position = self.another(position);
                }
                Down::Receipt { producer_id, sequence_id, position }
            }
            Down::Deliver { consumer_id, position, payload, publish_time_ms } => {
                let topic = wire.consumers.get(&consumer_id).cloned().unwrap_or_default();
                self.deliver(connection, consumer_id, &topic, position, &payload, publish_time_ms);
                Down::Deliver { consumer_id, position, payload, publish_time_ms }
            }
            down => down,
        };
        let late = self.lateness(connection, &down);
        self.deliver_at(connection, down, late);
    }

    /// A receipt may name no position, or one that is not the next one: where the ledger was rolled, or the message
    /// was stored again behind others.
    fn another(&mut self, position: Option<Position>) -> Option<Position> {
        let position = position?;
        match self.faults.dice(Fault::OtherReceipt).below(3) {
            0 => None,
            1 => Some(Position { ledger: position.ledger + 1_000, entry: 0 }),
            _ => Some(Position { entry: position.entry + 3, ..position }),
        }
    }

    /// How much later than its turn a message comes; none for one that keeps it.
    fn lateness(&mut self, connection: ConnectionId, down: &Down) -> Option<u64> {
        let Down::Deliver { consumer_id, .. } = down else { return None };
        let topic = self.wires.get(&connection)?.consumers.get(consumer_id)?;
        if topic.contains(topic::INBOX) && self.faults.strikes(Fault::Reorder) {
            return Some(self.faults.dice(Fault::Reorder).within(5, 400));
        }
        if topic.contains(topic::TIMERS) && self.faults.strikes(Fault::TimerLate) {
            return Some(self.faults.dice(Fault::TimerLate).within(100, 20_000));
        }
        None
    }

    fn deliver_at(&mut self, connection: ConnectionId, down: Down, late: Option<u64>) {
        let wait = self.latency();
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let (slot, life) = (wire.slot, wire.life);
        let at = match late {
            Some(late) => self.schedule_ms + wait + late,
            None => {
                wire.down_at = wire.down_at.max(self.schedule_ms + wait);
                wire.down_at
            }
        };
        self.schedule.at(at, Event::Heard { slot, life, heard: Heard::Message(connection, down) });
    }

    /// What befalls deliveries beside their own way: they come twice, and to others.
    fn deliver(
        &mut self,
        connection: ConnectionId,
        consumer_id: u64,
        topic: &str,
        position: Position,
        payload: &Bytes,
        publish_time_ms: u64,
    ) {
        let again = Down::Deliver { consumer_id, position, payload: payload.clone(), publish_time_ms };
        let is_inbox = topic.contains(topic::INBOX);
        if is_inbox {
            if !self.delivered_once.insert((topic.to_owned(), position)) {
                self.counts.redelivered += 1;
            }
            self.delivered.push((topic.to_owned(), position, payload.clone(), publish_time_ms));
        }
        if topic.starts_with("persistent") && !topic.contains(topic::HISTORY) && self.faults.strikes(Fault::Duplicate) {
            let late = self.faults.dice(Fault::Duplicate).within(0, 2_000);
            self.deliver_at(connection, again.clone(), Some(late));
        }
        if topic.contains(topic::TIMERS) && self.faults.strikes(Fault::TimerAgain) {
            let late = self.faults.dice(Fault::TimerAgain).within(100, 15_000);
            self.deliver_at(connection, again, Some(late));
        }
        if is_inbox && self.faults.strikes(Fault::TwoOwners) {
            let others = self.consumers_of(topic, Some(connection));
            if let Some((other, consumer_id)) = self.faults.dice(Fault::TwoOwners).pick(&others).copied() {
                let down = Down::Deliver { consumer_id, position, payload: payload.clone(), publish_time_ms };
                self.deliver_at(other, down, None);
            }
        }
    }

    /// The consumers of a topic, without those of one connection.
    fn consumers_of(&self, topic: &str, without: Option<ConnectionId>) -> Vec<(ConnectionId, u64)> {
        let of = |(connection, wire): (&ConnectionId, &Wire)| {
            let consumers = wire.consumers.iter().filter(|(_, of)| *of == topic).map(|(id, _)| (*connection, *id));
            consumers.collect::<Vec<_>>()
        };
        self.wires.iter().filter(|(connection, _)| Some(**connection) != without).flat_map(of).collect()
    }

    /// The connection of a party is gone; the broker notices after a while.
    fn drop_connection(&mut self, slot: usize, noticed_after_ms: u64) -> Option<ConnectionId> {
        let connection = self.slots[slot].connection.take()?;
        let until = self.schedule_ms + self.net.within(0, 4);
        if let Some(wire) = self.wires.get_mut(&connection) {
            wire.up_until = Some(until);
        }
        self.schedule.after(noticed_after_ms.max(5), Event::Gone(connection));
        Some(connection)
    }

    fn restart(&mut self, number: usize) {
        if self.slots[number].party.is_some() {
            return;
        }
        let slot = &mut self.slots[number];
        slot.life += 1;
        slot.held = None;
        let name = format!("{number}-{}", slot.life);
        let (kind, dice) = (slot.kind, &mut slot.dice);
        let making = Making {
            name: name.clone(),
            writer: WriterId(dice.id()),
            layout: self.layout,
            misled: kind == Kind::Misled,
            eager: dice.percent(self.eager_percent),
            live_runs_max: self.live_runs_max,
            registry: self.registry.clone(),
        };
        let mut acts = Vec::new();
        let mut ctx = Ctx {
            now: Timestamp(self.schedule_ms.saturating_add_signed(slot.skew)),
            dice: &mut slot.dice,
            acts: &mut acts,
            ledger: &mut self.ledger,
            counts: &mut self.counts,
            violations: &mut self.violations,
            place: Place { party: number, world_ms: self.schedule_ms, stored: self.server.stored_count() },
        };
        let party = match kind {
            Kind::Worker | Kind::Misled => Party::Worker(Box::new(Worker::start(making, &mut ctx))),
            Kind::Client => {
                let jobs = self.jobs.remove(&number).unwrap_or_default();
                Party::Client(Box::new(Client::start(name, self.layout, jobs, &mut ctx)))
            }
        };
        self.slots[number].party = Some(party);
        for act in acts {
            self.act(number, act);
        }
    }

    fn peace(&mut self) {
        self.trace.note(self.schedule_ms, format_args!("peace"));
        self.peace_at = Some(self.schedule_ms);
        self.faults.end();
        self.disk_full_until = 0;
        self.disk_slow_until = 0;
        self.server.skew = 0;
        for slot in 0..self.slots.len() {
            if self.slots[slot].kind == Kind::Misled {
                self.crash(slot, None);
            } else {
                self.go_on(slot);
            }
        }
        if self.net.percent(50) {
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
        self.schedule.after(3_000, Event::Mended);
        self.schedule.after(PROBE_MS, Event::Probe);
    }

    /// Clients ask how their runs are, or do not.
    fn hush(&mut self, quiet: bool) {
        for slot in 0..self.slots.len() {
            self.with(slot, |party, _| {
                if let Party::Client(client) = party {
                    client.quiet = quiet;
                }
            });
        }
    }

    /// Nobody has asked for long: all that could go on by itself has come to its end.
    fn quiet_over(&mut self) {
        self.hush(false);
        let histories = (0..self.layout.shards).map(|shard| self.server.entries(&wire::history(shard)));
        let open = crate::check::standing_still(histories);
        self.violations.extend(open.into_iter().map(|id| {
            format!("{id} is open, and nothing has brought it on for {QUIET_MS} ms: neither a hold nor a wake-up")
        }));
    }

    /// The code is mended, and clients let their runs go on.
    fn mended(&mut self) {
        let first = self.peace_at.is_none_or(|at| self.schedule_ms < at + QUIET_MS);
        workflows::mend(true);
        for slot in 0..self.slots.len() {
            self.with(slot, |party, ctx| {
                if let Party::Client(client) = party {
                    client.resume(first, ctx);
                }
            });
        }
        self.schedule.after(QUIET_MS + 10_000, Event::Mended);
    }

    fn probe(&mut self) {
        if self.is_settled() {
            self.done = true;
        } else if self.peace_at.is_some_and(|at| self.schedule_ms > at + SETTLED_WITHIN_MS) {
            self.violations
                .push(format!("not settled {SETTLED_WITHIN_MS} ms after the last fault: {}", self.unsettled()));
        } else {
            self.schedule.after(PROBE_MS, Event::Probe);
        }
    }

    fn is_settled(&self) -> bool {
        let parties = self.slots.iter().all(|slot| match &slot.party {
            Some(Party::Client(client)) => client.jobs.is_done(),
            Some(Party::Worker(worker)) => worker.is_idle() && worker.held() == 0,
            None => slot.kind != Kind::Client,
        });
        parties && self.server.up && self.backlogs().iter().all(|(_, backlog)| *backlog == 0)
    }

    fn backlogs(&self) -> Vec<(String, u64)> {
        let inbox = (0..self.layout.partitions).map(|partition| (wire::inbox(partition), topic::OWNERS));
        let queue = (wire::stored(&topic::activity(workflows::QUEUE)), topic::WORKERS);
        let all = inbox.chain([queue]);
        all.map(|(topic, subscription)| (topic.clone(), self.server.backlog(&topic, subscription))).collect()
    }

    fn unsettled(&self) -> String {
        let mut text = Vec::new();
        for slot in &self.slots {
            match &slot.party {
                Some(Party::Client(client)) => {
                    let open = client.jobs.jobs.iter().filter(|job| job.outcome.is_none());
                    text.extend(open.map(|job| format!("{} ({:?}) is open", job.workflow_id, job.run)));
                }
                Some(Party::Worker(worker)) if !worker.is_idle() => text.push(worker.describe()),
                _ => {}
            }
        }
        text.extend(self.backlogs().iter().filter(|(_, n)| *n > 0).map(|(topic, n)| format!("{topic} has {n}")));
        text.join("; ")
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// A message in few words.
struct Brief<'a>(&'a Heard);

impl std::fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Heard::Message(connection, Down::Deliver { consumer_id, position, payload, .. }) => {
                write!(f, "{}/{consumer_id} {position} {:x}", connection.0, xxh3_64(payload))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

struct BriefUp<'a>(&'a Up);

impl std::fmt::Display for BriefUp<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Up::CreateProducer(request) => write!(f, "producer {} of {}", request.producer_id, request.topic),
            Up::Subscribe(request) => write!(f, "consumer {} of {}", request.consumer_id, request.topic),
            Up::Publish(publish) => {
                write!(f, "{} {} {:x}", publish.producer_id, publish.sequence_id, xxh3_64(&publish.payload))
            }
            other => write!(f, "{other:?}"),
        }
    }
}
