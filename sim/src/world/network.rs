//! What goes over connections, and what befalls it on the way: it is late, double, lost, out of order, or comes to others.

use std::collections::BTreeMap;

use bytes::Bytes;
use everpulse_broker::semantics::ConnectionId;
use everpulse_protocol::{Position, topic};
use xxhash_rust::xxh3::xxh3_64;

use super::{Event, World};
use crate::faults::Fault;
use crate::wire::{Down, Heard, Timer, Up};

/// What a connection's producers and consumers are of.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub slot: usize,
    pub life: u32,
    producers: BTreeMap<u64, String>,
    consumers: BTreeMap<u64, String>,
    /// Nothing that was sent arrives before what was sent earlier.
    up_at: u64,
    /// The same for producers of a topic that is slow.
    slow: BTreeMap<u64, u64>,
    pub down_at: u64,
    /// What arrives later does not arrive: the sender is gone.
    up_until: Option<u64>,
}

impl World {
    /// Something leaves a party.
    pub(super) fn send_up(&mut self, slot: usize, connection: ConnectionId, up: Up) {
        if self.slots[slot].connection != Some(connection) {
            return;
        }
        let (wait, late) = (self.latency(), self.slowness(connection, &up));
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let at = match late {
            // Other topics have other ways: only what goes to the same one waits behind it. It comes behind all that left before.
            Some((producer, late)) => {
                let slow = wire.slow.entry(producer).or_default();
                *slow = (*slow).max(wire.up_at).max(self.schedule_ms + wait + late);
                *slow
            }
            None => {
                wire.up_at = wire.up_at.max(self.schedule_ms + wait);
                wire.up_at
            }
        };
        self.schedule.at(at, Event::Up(connection, up));
    }

    /// How much later a message comes to a topic that is slow, or that was when the one before it was sent.
    fn slowness(&mut self, connection: ConnectionId, up: &Up) -> Option<(u64, u64)> {
        let (Up::Publish(publish), Some((name, until))) = (up, self.slow_topic) else { return None };
        let (wire, producer) = (self.wires.get(&connection)?, publish.producer_id);
        let is_slow =
            self.schedule_ms <= until && wire.producers.get(&producer).is_some_and(|topic| topic.contains(name));
        let is_behind = wire.slow.get(&producer).is_some_and(|at| *at > self.schedule_ms);
        // Where it is calm, sooner than a worker that takes over sends it in another's place, also if it waits for what is on
        // its way before it leaves.
        let most = if self.shape.calm { 400 } else { 3_000 };
        let late = if is_slow { self.faults.dice(Fault::SlowTopic).within(200, most) } else { 0 };
        (is_slow || is_behind).then_some((producer, late))
    }

    pub(super) fn latency(&mut self) -> u64 {
        let mut wait = self.net.within(0, 3);
        if self.faults.strikes(Fault::Delay) {
            wait += self.faults.dice(Fault::Delay).within(20, 1_500);
        }
        wait
    }

    pub(super) fn connect(&mut self, slot: usize) {
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
    pub(super) fn up(&mut self, connection: ConnectionId, up: Up) {
        let now = self.schedule_ms;
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        if !self.server.up || wire.up_until.is_some_and(|until| until < now) {
            return;
        }
        let [kind, what, which, content] = numbers_of_request(&up);
        let words = || format!("broker hears {} of {}", BriefUp(&up), connection.0);
        self.trace.step(now, &[connection.0, kind, what, which, content], words);
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
                if topic.starts_with("non-persistent") && !topic.contains(topic::CONTROL) {
                    self.witness.answered(&publish.payload, &mut self.violations);
                }
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
    pub(super) fn poll_server(&mut self) {
        if !self.server.up {
            return;
        }
        let mut out = Vec::new();
        self.server.poll(self.schedule_ms, &mut out);
        self.witness.look(&mut self.server, &self.ledger, self.schedule_ms, &mut self.violations);
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

    pub(super) fn disk(&mut self, life: u64) {
        if self.server.life != life || !self.server.up {
            return;
        }
        if self.schedule_ms < self.disk_full_until {
            self.server.failed();
        } else {
            self.server.written(self.schedule_ms);
        }
        let stored = self.server.stored_count();
        self.trace.step(self.schedule_ms, &[50, stored as u64], || format!("disk {stored}"));
        self.poll_server();
    }

    pub(super) fn send_down(&mut self, out: Vec<(ConnectionId, Down)>) {
        for (connection, down) in out {
            self.down(connection, down);
        }
    }

    /// Something leaves the broker.
    pub(super) fn down(&mut self, connection: ConnectionId, down: Down) {
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
            Down::Deliver { consumer_id, position, payload } => {
                let topic = wire.consumers.get(&consumer_id).cloned().unwrap_or_default();
                self.deliver(connection, consumer_id, &topic, position, &payload);
                Down::Deliver { consumer_id, position, payload }
            }
            down => down,
        };
        let late = self.lateness(connection, &down);
        self.deliver_at(connection, down, late);
    }

    /// A receipt may name no position, or one that is not the next one: where the ledger was rolled, or the message
    /// was stored again behind others.
    pub(super) fn another(&mut self, position: Option<Position>) -> Option<Position> {
        let position = position?;
        match self.faults.dice(Fault::OtherReceipt).below(3) {
            0 => None,
            1 => Some(Position { ledger: position.ledger + 1_000, entry: 0 }),
            _ => Some(Position { entry: position.entry + 3, ..position }),
        }
    }

    /// How much later than its turn a message comes; none for one that keeps it.
    pub(super) fn lateness(&mut self, connection: ConnectionId, down: &Down) -> Option<u64> {
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

    pub(super) fn deliver_at(&mut self, connection: ConnectionId, down: Down, late: Option<u64>) {
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
    pub(super) fn deliver(
        &mut self,
        connection: ConnectionId,
        consumer_id: u64,
        topic: &str,
        position: Position,
        payload: &Bytes,
    ) {
        let again = Down::Deliver { consumer_id, position, payload: payload.clone() };
        let is_inbox = topic.contains(topic::INBOX);
        if is_inbox {
            if !self.delivered_once.insert((topic.to_owned(), position)) {
                self.counts.redelivered += 1;
            }
            self.delivered.push((topic.to_owned(), position, payload.clone()));
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
                let down = Down::Deliver { consumer_id, position, payload: payload.clone() };
                self.deliver_at(other, down, None);
            }
        }
    }

    /// The consumers of a topic, without those of one connection.
    pub(super) fn consumers_of(&self, topic: &str, without: Option<ConnectionId>) -> Vec<(ConnectionId, u64)> {
        let of = |(connection, wire): (&ConnectionId, &Wire)| {
            let consumers = wire.consumers.iter().filter(|(_, of)| *of == topic).map(|(id, _)| (*connection, *id));
            consumers.collect::<Vec<_>>()
        };
        self.wires.iter().filter(|(connection, _)| Some(**connection) != without).flat_map(of).collect()
    }

    /// The connection of a party is gone; the broker notices after a while.
    pub(super) fn drop_connection(&mut self, slot: usize, noticed_after_ms: u64) -> Option<ConnectionId> {
        let connection = self.slots[slot].connection.take()?;
        let until = self.schedule_ms + self.net.within(0, 4);
        if let Some(wire) = self.wires.get_mut(&connection) {
            wire.up_until = Some(until);
        }
        self.schedule.after(noticed_after_ms.max(5), Event::Gone(connection));
        Some(connection)
    }
}

/// What is heard, as numbers.
pub(super) fn numbers_of(heard: &Heard) -> [u64; 5] {
    let at = |position: &Position| position.ledger << 32 | position.entry;
    match heard {
        Heard::Connected(connection) => [1, connection.0, 0, 0, 0],
        Heard::Unreachable => [2, 0, 0, 0, 0],
        Heard::Cut(connection) => [3, connection.0, 0, 0, 0],
        Heard::Leave => [4, 0, 0, 0, 0],
        Heard::Timer(timer) => match timer {
            Timer::Reconnect => [5, 0, 0, 0, 0],
            Timer::Again(_) => [6, 0, 0, 0, 0],
            Timer::Overdue { number, serial, topic } => [7, *number, *serial, xxh3_64(topic.as_bytes()), 0],
            Timer::Deadline => [8, 0, 0, 0, 0],
            Timer::Work(number) => [9, *number, 0, 0, 0],
            Timer::End(number) => [10, *number, 0, 0, 0],
            Timer::Due(number) => [11, *number, 0, 0, 0],
            Timer::Ask(job) => [12, *job as u64, 0, 0, 0],
            Timer::Silent(number) => [13, *number, 0, 0, 0],
            Timer::Gone => [14, 0, 0, 0, 0],
        },
        Heard::Message(connection, down) => {
            let by = connection.0;
            match down {
                Down::Success { request_id } => [20, by, *request_id, 0, 0],
                Down::Refused { request_id } => [21, by, *request_id, 0, 0],
                Down::ProducerReady { request_id } => [22, by, *request_id, 0, 0],
                Down::ProducerClosed { producer_id } => [23, by, *producer_id, 0, 0],
                Down::ConsumerClosed { consumer_id } => [24, by, *consumer_id, 0, 0],
                Down::Receipt { producer_id, sequence_id, position } => {
                    [25, by, *producer_id, *sequence_id, position.as_ref().map_or(0, at)]
                }
                Down::SendError { producer_id } => [26, by, *producer_id, 0, 0],
                Down::Deliver { consumer_id, position, payload, .. } => {
                    [27, by, *consumer_id, at(position), xxh3_64(payload)]
                }
                Down::Last { request_id, position } => [28, by, *request_id, position.as_ref().map_or(0, at), 0],
            }
        }
    }
}

/// What arrives at the broker, as numbers.
fn numbers_of_request(up: &Up) -> [u64; 4] {
    match up {
        Up::CreateProducer(request) => [40, request.producer_id, xxh3_64(request.topic.as_bytes()), 0],
        Up::CloseProducer { producer_id, .. } => [41, *producer_id, 0, 0],
        Up::Publish(publish) => [42, publish.producer_id, publish.sequence_id, xxh3_64(&publish.payload)],
        Up::Subscribe(request) => [43, request.consumer_id, xxh3_64(request.topic.as_bytes()), 0],
        Up::CloseConsumer { consumer_id, .. } => [44, *consumer_id, 0, 0],
        Up::Flow { consumer_id, permits } => [45, *consumer_id, u64::from(*permits), 0],
        Up::Ack { consumer_id, position, .. } => [46, *consumer_id, position.ledger, position.entry],
        Up::Last { consumer_id, request_id } => [47, *consumer_id, *request_id, 0],
    }
}

/// A message in few words.
pub(super) struct Brief<'a>(pub &'a Heard);

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
