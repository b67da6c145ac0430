//! What befalls parties: crashes, cut connections, zombies, clocks, disks, and those who come and go.

use super::processes::Party;
use super::{Event, Kind, World};
use everpulse_protocol::topic;

use crate::faults::Fault;
use crate::wire::{self, Down, Heard};

/// Workers at a time.
const WORKERS_MAX: usize = 6;

impl World {
    pub(super) fn episode(&mut self, fault: Fault) {
        let living = |kind: Kind, world: &Self| -> Vec<usize> {
            let is = |slot: &usize| world.slots[*slot].kind == kind && world.slots[*slot].party.is_some();
            (0..world.slots.len()).filter(is).collect()
        };
        let workers = living(Kind::Worker, self);
        let clients = living(Kind::Client, self);
        let anybody: Vec<usize> = workers.iter().chain(&clients).copied().collect();
        let dice = self.faults.dice(fault);
        let (worker, client, party) =
            (dice.pick(&workers).copied(), dice.pick(&clients).copied(), dice.pick(&anybody).copied());
        let moment = dice.within(50, 3_000);
        let done = match fault {
            Fault::WorkerCrash => worker.map(|worker| self.crash(worker, Some(moment))),
            Fault::ClientCrash => client.map(|client| self.crash(client, Some(moment))),
            Fault::BrokerCrash => self.server.up.then(|| self.crash_broker(moment)),
            Fault::Cut => party.and_then(|party| self.cut(party, 1)),
            Fault::HalfOpen => party.and_then(|party| self.cut(party, 2_000 + moment)),
            Fault::Pause => worker.and_then(|worker| self.pause(worker)),
            Fault::ClockJump => worker.map(|worker| self.jump(worker)),
            Fault::SlowDisk => {
                self.disk_slow_until = self.schedule_ms + moment * 2;
                Some(())
            }
            Fault::FullDisk => {
                self.disk_full_until = self.schedule_ms + moment;
                Some(())
            }
            Fault::Join if workers.len() < WORKERS_MAX => {
                let slot = self.slot(Kind::Worker);
                self.restart(slot);
                Some(())
            }
            Fault::Leave if workers.len() > 1 => worker.map(|worker| {
                let life = self.slots[worker].life;
                self.schedule.after(0, Event::Heard { slot: worker, life, heard: Heard::Leave });
            }),
            // Set-up refuses it where nothing is written yet; here is what the shards' first frames say.
            Fault::Misled
                if (0..self.shape.layout.shards)
                    .all(|shard| !self.server.entries(&wire::history(shard)).is_empty()) =>
            {
                let slot = self.slot(Kind::Misled);
                self.restart(slot);
                // It is found out, and taken away.
                let life = self.slots[slot].life;
                self.schedule.after(1_000 + moment, Event::Kill(slot, life));
                Some(())
            }
            Fault::Mistaken => {
                let slot = self.slot(Kind::Mistaken);
                self.restart(slot);
                let life = self.slots[slot].life;
                self.schedule.after(1_000 + moment, Event::Kill(slot, life));
                Some(())
            }
            Fault::Resubscribe => worker.map(|worker| {
                if self.slots[worker].held.is_none() {
                    self.with(worker, |party, ctx| {
                        if let Party::Worker(worker) = party {
                            worker.resubscribe(ctx);
                        }
                    });
                }
            }),
            Fault::StaleReplay => self.replay(),
            Fault::SlowTopic => {
                let names: &[_] = if self.shape.calm { &["activity"] } else { &["activity", "timers", "inbox"] };
                let name = *self.faults.dice(fault).pick(names).expect("there are some");
                self.slow_topic = Some((name, self.schedule_ms + 2 * moment));
                Some(())
            }
            Fault::Unload => {
                let shards = u64::from(self.shape.layout.shards);
                let shard = self.faults.dice(fault).below(shards) as u32;
                let topics = [wire::history(shard), wire::inbox(0), wire::stored(topic::TIMERS)];
                let topic = self.faults.dice(fault).pick(&topics).expect("there are some").clone();
                self.server.up.then(|| {
                    self.server.unload(&topic);
                    self.poll_server();
                })
            }
            _ => None,
        };
        if done.is_some() {
            self.faults.count(fault);
        }
    }

    /// A process is killed, and started again after a while, or never.
    pub(super) fn crash(&mut self, number: usize, again_after_ms: Option<u64>) {
        self.trace.note(self.schedule_ms, format_args!("{number} is killed"));
        let slot = &mut self.slots[number];
        if let Some(Party::Client(client)) = slot.party.take() {
            self.jobs.insert(number, client.jobs);
        }
        slot.life += 1;
        slot.held = None;
        self.drop_connection(number, 5);
        if let Some(wait) = again_after_ms {
            self.schedule.after(wait, Event::Restart(number));
        }
    }

    fn crash_broker(&mut self, down_for_ms: u64) {
        let dice = self.faults.dice(Fault::BrokerCrash);
        let connected = self.server.crash(dice);
        self.timeout_at = None;
        for (connection, slot) in connected {
            let Some(wire) = self.wires.remove(&connection) else { continue };
            if self.slots[slot].connection == Some(connection) {
                self.slots[slot].connection = None;
                let (life, at) = (wire.life, wire.down_at.max(self.schedule_ms + 1));
                self.schedule.at(at, Event::Heard { slot, life, heard: Heard::Cut(connection) });
            }
        }
        self.schedule.after(down_for_ms, Event::RestartBroker);
    }

    pub(super) fn restart_broker(&mut self) {
        self.server.restart(self.schedule_ms);
        self.trace.note(self.schedule_ms, format_args!("broker starts, life {}", self.server.life));
        self.schedule.after(1_000, Event::Tick(self.server.life));
        self.poll_server();
    }

    /// A connection ends for its party now, for the broker later.
    fn cut(&mut self, slot: usize, noticed_after_ms: u64) -> Option<()> {
        let connection = self.drop_connection(slot, noticed_after_ms)?;
        let wire = self.wires.get(&connection)?;
        let (life, at) = (wire.life, wire.down_at.max(self.schedule_ms + 1));
        self.schedule.at(at, Event::Heard { slot, life, heard: Heard::Cut(connection) });
        Some(())
    }

    /// A worker stands still. After some seconds the broker gives its connection up, of which it hears when it goes on.
    fn pause(&mut self, number: usize) -> Option<()> {
        if self.slots[number].held.is_some() {
            return None;
        }
        let dice = self.faults.dice(Fault::Pause);
        let (long, gives_up) = (dice.percent(60), dice.within(1_000, 3_000));
        let length = if long { dice.within(2_000, 12_000) } else { dice.within(100, 2_000) };
        self.slots[number].held = Some(Vec::new());
        let life = self.slots[number].life;
        self.schedule.after(length, Event::GoOn(number, life));
        if length > gives_up {
            let connection = self.slots[number].connection;
            if let Some(connection) = connection {
                self.schedule.after(gives_up, Event::Gone(connection));
                let heard = Heard::Cut(connection);
                self.schedule.after(length + 1, Event::Heard { slot: number, life, heard });
            }
        }
        Some(())
    }

    /// A party that stood still hears all that it missed, in its order.
    pub(super) fn go_on(&mut self, number: usize) {
        let Some(held) = self.slots[number].held.take() else { return };
        self.trace.note(self.schedule_ms, format_args!("{number} goes on"));
        for heard in held {
            self.hear(number, heard);
        }
    }

    fn jump(&mut self, number: usize) {
        let dice = self.faults.dice(Fault::ClockJump);
        let by = dice.within(0, 20_000) as i64 - 10_000;
        let most = self.shape.skew_ms_max();
        self.slots[number].skew = (self.slots[number].skew + by).clamp(-most, most);
        if self.slots[number].held.is_none() {
            self.with(number, |party, ctx| {
                if let Party::Worker(worker) = party {
                    worker.clock_was_set(ctx);
                }
            });
        }
    }

    /// A message of the inbox that was delivered before comes to any worker.
    fn replay(&mut self) -> Option<()> {
        let dice = self.faults.dice(Fault::StaleReplay);
        let (topic, position, payload) = dice.pick(&self.delivered)?.clone();
        let consumers = self.consumers_of(&topic, None);
        let (connection, consumer_id) = *self.faults.dice(Fault::StaleReplay).pick(&consumers)?;
        let down = Down::Deliver { consumer_id, position, payload };
        self.deliver_at(connection, down, None);
        Some(())
    }
}
