//! Owners: they come, fail in the middle, and hand over what they hold.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use everpulse_engine::{Delivery, DeliveryToken, Effect, LocalResult, Options, SendId, Shard};
use everpulse_protocol::shard::Config;
use everpulse_protocol::{EventId, Position, RunId, Timestamp, WriterId};

use super::attempts::Offers;
use super::{FOR_EVER_MS, Message, SHARDS, World, effects};
use crate::storm::{Fault, Storm};

/// What comes back to an owner after the outside did what an effect says.
#[derive(Debug)]
pub(super) enum Answer {
    Tail { id: u64, tail: Option<Position> },
    Entries { id: u64, entries: Vec<(Position, Bytes)> },
    Fetched { id: u64, payload: Option<Bytes> },
    Receipt { id: u64, receipt: Result<Option<Position>, ()> },
    Found { id: u64, tasks: Vec<EventId> },
    Sent { id: SendId, position: Option<Position> },
    Local { run: RunId, step: u32, result: LocalResult },
}

/// One life of a worker's shard.
pub(super) struct Owner {
    pub partition: u32,
    pub shard: Shard,
    pub effects: VecDeque<Effect>,
    pub answers: VecDeque<Answer>,
    pub holds: BTreeMap<DeliveryToken, usize>,
    pub next_token: u64,
    pub alive: bool,
    /// The deadline that was served last, and when.
    pub ticked: Option<(Timestamp, Timestamp)>,
}

impl World {
    /// Who has the shard; a new owner comes if nobody has.
    pub(super) fn owner_of(&mut self, partition: u32) -> usize {
        let (place, registry) = (partition as usize, self.sealed());
        if let Some(owner) = self.partitions[place].owner {
            return owner;
        }
        let writer = WriterId(self.id());
        let eager = self.storm.as_mut().is_some_and(Storm::is_eager);
        let options = Options {
            live_runs_max: self.storm.as_ref().map_or(64, Storm::live_runs_max),
            retention_ms: FOR_EVER_MS,
            id_memory_ms: FOR_EVER_MS,
            payload_bytes_max: self.payload_bytes_max,
            // What would lie in a store lies here.
            record_bytes_max: Options::default().record_bytes_max.max(2 * self.payload_bytes_max),
            ..Options::default()
        };
        let config = Config::new(SHARDS, 1);
        self.owners.push(Owner {
            partition,
            shard: Shard::new(partition, writer, config, registry, Rc::new(Offers(eager)), options),
            effects: VecDeque::new(),
            answers: VecDeque::new(),
            holds: BTreeMap::new(),
            next_token: 0,
            alive: true,
            ticked: None,
        });
        let owner = self.owners.len() - 1;
        self.partitions[place].owner = Some(owner);
        owner
    }

    /// Carries out an owner's next effect, or has the owner fail at it.
    pub(super) fn effect(&mut self, owner: usize) {
        let waiting = self.owners[owner].effects.len();
        let place = self.storm.as_mut().map_or(0, |storm| storm.dice.below(waiting));
        let Some(effect) = self.owners[owner].effects.remove(place) else { return };
        let (partition, name) = (self.owners[owner].partition, effects::name(&effect));
        let at = format!("shard {partition}, at `{name}`");
        if self.strikes(Fault::CrashBefore, || format!("the owner of {at}, which is not done")) {
            return self.crash(owner);
        }
        if self.strikes(Fault::Stall, || format!("the owner of {at}, is taken for dead and goes on later")) {
            self.owners[owner].effects.push_front(effect);
            return self.supersede(owner);
        }
        let lost = matches!(effect, Effect::Append { .. })
            && self.strikes(Fault::LostReceipt, || format!("of a frame of shard {partition}"));
        let answer = self.happen(owner, effect, lost);
        if self.strikes(Fault::CrashAfter, || format!("the owner of {at}, which is done")) {
            return self.crash(owner);
        }
        match answer {
            // In a storm it is heard of later, or never.
            Some(answer) if self.storm.is_some() => self.owners[owner].answers.push_back(answer),
            Some(answer) => self.answer(owner, answer),
            None => {}
        }
    }

    pub(super) fn strikes(&mut self, fault: Fault, what: impl FnOnce() -> String) -> bool {
        self.storm.as_mut().is_some_and(|storm| storm.strikes(fault, what))
    }

    /// The owner is gone with all that it had in memory, and with its local work.
    fn crash(&mut self, owner: usize) {
        self.supersede(owner);
        let state = &mut self.owners[owner];
        state.alive = false;
        state.effects.clear();
        state.answers.clear();
        self.attempts.retain(|_, attempt| attempt.owner != Some(owner));
    }

    /// What an owner holds goes to another one.
    fn supersede(&mut self, owner: usize) {
        let state = &mut self.owners[owner];
        let partition = state.partition as usize;
        if self.partitions[partition].owner != Some(owner) {
            return;
        }
        self.partitions[partition].owner = None;
        let held: Vec<usize> = state.holds.values().copied().collect();
        for message in held {
            if !self.inbox[message].acked && !self.undelivered.contains(&message) {
                self.inbox[message].again = true;
                self.undelivered.push(message);
            }
        }
        self.undelivered.sort_unstable();
        self.owner_of(self.owners[owner].partition);
    }

    /// Gives a message to the owner of its shard.
    pub(super) fn deliver(&mut self, message: usize) {
        let Message { frame, again, acked, .. } = &self.inbox[message];
        let (frame, suspect, acked) = (frame.clone(), *again, *acked);
        let owner = self.owner_of(frame.shard);
        if acked && !suspect {
            return;
        }
        let kind = frame.events.first().and_then(|event| event.body.kind()).unwrap_or_default();
        if self.strikes(Fault::Duplicate, || format!("of `{kind}`")) {
            self.inbox[message].again = true;
            self.undelivered.push(message);
        }
        let now = self.now;
        let owner = &mut self.owners[owner];
        owner.next_token += 1;
        let token = DeliveryToken(owner.next_token);
        owner.holds.insert(token, message);
        owner.shard.handle_delivery(Delivery { token, frame, suspect }, now);
    }

    /// The owner hears of what was done.
    pub(super) fn answer(&mut self, owner: usize, answer: Answer) {
        let now = self.now;
        let shard = &mut self.owners[owner].shard;
        match answer {
            Answer::Tail { id, tail } => shard.handle_tail(id, tail, now),
            Answer::Entries { id, entries } => shard.handle_entries(id, entries, true, now),
            Answer::Fetched { id, payload } => shard.handle_fetched(id, payload.as_ref()),
            Answer::Receipt { id, receipt } => shard.handle_receipt(id, receipt, now),
            Answer::Found { id, tasks } => shard.handle_found(id, &tasks, now),
            Answer::Sent { id, position } => shard.handle_sent(id, position, now),
            Answer::Local { run, step, result } => shard.handle_local(run, step, result, now),
        }
    }
}
