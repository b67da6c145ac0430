//! What is around the author's code in a test: shards on the real engine, with an inbox, queues, timers and workers in
//! memory and in virtual time.
//!
//! ```text
//!   Run, Environment ── events ──► inbox ──► owners (the engine's `Shard`s) ──► history ──► told (records of runs)
//!                                    ▲          │ tasks, steps, wake-ups
//!                                    └── attempts, timers ◄──┘
//! ```
//! It does one thing at a time ([`World::act`]). In peace that is the first thing that can be done; in a storm any, and now
//! and then a fault. What the author's activities do is done outside of it, by `drive`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use everpulse_protocol::chain::Chain;
use everpulse_protocol::codec::Body;
use everpulse_protocol::dead_letter::{DeadLetter, Letter};
use everpulse_protocol::event::{Event, EventBody, InboxFrame, ReplyTo};
use everpulse_protocol::history::{Close, ParkedKind};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::shard;
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{EventId, Position, RequestId, RunId, Timestamp, WorkflowId};
use everpulse_sdk::definition::Registry;
use uuid::Uuid;

use self::attempts::{Attempt, Job};
use self::owners::Owner;
use crate::environment::Execution;
use crate::storm::Storm;
use crate::stubs::Stubs;

mod attempts;
mod effects;
mod families;
mod owners;
mod told;

pub(crate) use told::Told;

/// Several, so that what runs tell each other crosses from one to another.
const SHARDS: u32 = 4;
/// When every test begins, unless it says otherwise: 2026-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp(1_767_225_600_000);
/// Longer than any test: nothing is carried forward or trimmed, so that a shard's deadlines are its runs'.
const FOR_EVER_MS: u64 = 1_000_000_000_000_000;

/// A message of the inbox.
struct Message {
    frame: InboxFrame,
    /// A client waits until one is stored before it sends the next; what others send comes in any order.
    by_client: bool,
    /// It was given to an owner before.
    again: bool,
    acked: bool,
}

/// One history partition, and who has the shard now.
#[derive(Default)]
struct Partition {
    log: Vec<(Position, Bytes)>,
    chain: Chain,
    owner: Option<usize>,
}

/// What came of a turn of the world.
pub(crate) enum Acted {
    /// Nothing can be done before time passes.
    Nothing,
    Something,
    /// The author's code is to be run, outside.
    Work(Box<Job>),
}

pub(crate) struct World {
    pub now: Timestamp,
    pub begin: Timestamp,
    /// The largest value that a run may be given or give.
    pub payload_bytes_max: usize,
    pub registry: Registry,
    pub stubs: Stubs,
    pub storm: Option<Storm>,
    /// Starts that can still be changed.
    pub planned: Vec<Event>,
    /// What clients will do at their times.
    pub acts: Vec<(Timestamp, Event)>,
    pub ledger: Vec<Execution>,
    pub dead: Vec<DeadLetter>,
    pub replies: BTreeMap<RequestId, Vec<ReplyBody>>,
    pub runs: BTreeMap<RunId, Told>,
    /// How mocked children ended.
    mocked: BTreeMap<RunId, Close>,
    /// The registry when it cannot be added to any more.
    sealed: Option<Arc<Registry>>,
    partitions: Vec<Partition>,
    owners: Vec<Owner>,
    inbox: Vec<Message>,
    undelivered: Vec<usize>,
    queue: Vec<Task>,
    /// Places in the queue that nobody works on.
    ready: Vec<usize>,
    cancelled: BTreeSet<EventId>,
    timers: Vec<TimerMessage>,
    attempts: BTreeMap<u64, Attempt>,
    /// Runs that an operator was asked to look at, by their last record then.
    tended: BTreeMap<RunId, usize>,
    next_attempt: u64,
    next_id: u128,
}

impl World {
    pub fn new(storm: Option<Storm>) -> Self {
        let seed = storm.as_ref().map_or(0, Storm::seed);
        Self {
            now: BEGIN,
            begin: BEGIN,
            payload_bytes_max: everpulse_engine::Options::default().payload_bytes_max,
            registry: Registry::new(),
            stubs: Stubs::default(),
            storm,
            planned: Vec::new(),
            acts: Vec::new(),
            ledger: Vec::new(),
            dead: Vec::new(),
            replies: BTreeMap::new(),
            runs: BTreeMap::new(),
            mocked: BTreeMap::new(),
            sealed: None,
            partitions: (0..SHARDS).map(|_| Partition::default()).collect(),
            owners: Vec::new(),
            inbox: Vec::new(),
            undelivered: Vec::new(),
            queue: Vec::new(),
            ready: Vec::new(),
            cancelled: BTreeSet::new(),
            timers: Vec::new(),
            attempts: BTreeMap::new(),
            tended: BTreeMap::new(),
            next_attempt: 0,
            next_id: (u128::from(seed) + 1) << 64,
        }
    }

    /// The registry, to which nothing can be added any more.
    fn sealed(&mut self) -> Arc<Registry> {
        let registry = &self.registry;
        Arc::clone(self.sealed.get_or_insert_with(|| Arc::new(registry.clone())))
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    fn id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_u128(self.next_id)
    }

    /// An event of a client's.
    pub fn event(&mut self, workflow_id: &WorkflowId, run_id: Option<RunId>, body: &EventBody) -> Event {
        let id = self.id();
        Event {
            id: EventId(id),
            workflow_id: workflow_id.clone(),
            run_id,
            exact: false,
            sent_at: self.now,
            reply_to: Some(ReplyTo { client: "test".to_owned(), request: RequestId(id) }),
            again: false,
            body: Body::of(body),
        }
    }

    /// Stores an event in the inbox.
    pub fn publish(&mut self, event: Event, by_client: bool) {
        let number = match event.body() {
            Ok(EventBody::Wake { shard, .. }) => shard,
            _ => shard::of_event(&event, SHARDS),
        };
        let frame = InboxFrame { shard: number, events: vec![event] };
        self.undelivered.push(self.inbox.len());
        self.inbox.push(Message { frame, by_client, again: false, acked: false });
    }

    /// Whether all that was started so far stands in history, or is refused.
    pub fn has_begun(&self) -> bool {
        let is_start = |event: &&Event| event.body().is_ok_and(|body| body.as_start().is_some());
        let events = self.inbox.iter().filter(|message| message.by_client).flat_map(|message| &message.frame.events);
        let stands = |event: &Event| {
            self.runs.contains_key(&RunId(event.id.0)) || self.replies.contains_key(&RequestId(event.id.0))
        };
        self.planned.is_empty() && events.filter(is_start).all(stands)
    }

    /// Stores what is meant for runs of all shards in the inbox.
    pub fn publish_to_all(&mut self, body: &EventBody) {
        let signal = EventId(self.id());
        for number in 0..SHARDS {
            let event = self.event(&shard::placeholder_id(number), None, body);
            self.publish(Event { id: EventId::for_shard(signal, number), ..event }, true);
        }
    }

    /// Starts that were planned are stored; they cannot be changed any more.
    pub fn begin_planned(&mut self) {
        for mut event in std::mem::take(&mut self.planned) {
            event.sent_at = self.now;
            self.publish(event, true);
        }
    }

    /// Does one thing that can be done now.
    pub fn act(&mut self) -> Acted {
        self.begin_planned();
        for owner in self.owners.iter_mut().filter(|owner| owner.alive) {
            while let Some(effect) = owner.shard.poll_effect() {
                owner.effects.push_back(effect);
            }
        }
        let mut can = self.possible();
        if can.is_empty() {
            return if self.tend() { Acted::Something } else { Acted::Nothing };
        }
        let choice = match &mut self.storm {
            Some(storm) => storm.dice.below(can.len()),
            None => 0,
        };
        self.carry_out(can.swap_remove(choice))
    }

    /// What can be done now; in peace the first of it alone.
    fn possible(&self) -> Vec<Action> {
        let living = || self.owners.iter().enumerate().filter(|(_, owner)| owner.alive);
        let hears = living().filter(|(_, owner)| !owner.answers.is_empty()).map(|(at, _)| Action::Hear(at));
        let effects = living().filter(|(_, owner)| !owner.effects.is_empty()).map(|(at, _)| Action::Effect(at));
        let mut told = BTreeSet::new();
        let messages = self.undelivered.iter().enumerate().filter_map(move |(place, message)| {
            let message = &self.inbox[*message];
            let first = !message.by_client || told.insert(message.frame.shard);
            first.then_some(Action::Deliver(place))
        });
        let attempts = self.attempts.iter().filter(|(_, attempt)| attempt.at <= self.now);
        let attempts = attempts.map(|(number, _)| Action::Attempt(*number));
        let tasks = (0..self.ready.len()).map(Action::Take);
        let timers = self.timers.iter().enumerate().filter(|(_, timer)| timer.due() <= self.now);
        let timers = timers.map(|(place, _)| Action::Relay(place));
        let ticks = living().filter(|(_, owner)| {
            let due = owner.shard.poll_deadline().filter(|due| *due <= self.now);
            due.is_some_and(|due| owner.ticked != Some((due, self.now)))
        });
        let ticks = ticks.map(|(at, _)| Action::Tick(at));
        let acts = self.acts.iter().enumerate().filter(|(_, (at, _))| *at <= self.now).map(|(at, _)| Action::Act(at));
        let all = hears.chain(effects).chain(messages).chain(attempts).chain(tasks).chain(timers).chain(ticks);
        match &self.storm {
            Some(_) => all.chain(acts).collect(),
            // Others act when all is quiet.
            None => all.chain(acts).take(1).collect(),
        }
    }

    fn carry_out(&mut self, action: Action) -> Acted {
        match action {
            Action::Hear(owner) => {
                if let Some(answer) = self.owners[owner].answers.pop_front() {
                    self.answer(owner, answer);
                }
            }
            Action::Effect(owner) => self.effect(owner),
            Action::Deliver(place) => {
                let message = self.undelivered.remove(place);
                self.deliver(message);
            }
            Action::Attempt(number) => return self.attempt(number),
            Action::Take(place) => {
                let place = self.ready.remove(place);
                self.take(place);
            }
            Action::Relay(place) => self.relay(place),
            Action::Tick(owner) => {
                let now = self.now;
                let owner = &mut self.owners[owner];
                owner.ticked = owner.shard.poll_deadline().map(|due| (due, now));
                owner.shard.handle_tick(now);
            }
            Action::Act(place) => {
                let (_, mut event) = self.acts.remove(place);
                event.sent_at = self.now;
                self.publish(event, true);
            }
        }
        Acted::Something
    }

    /// Sends a due message of the timers on.
    fn relay(&mut self, place: usize) {
        match self.timers.remove(place) {
            TimerMessage::Wake(wake) => {
                let event = wake.to_event(self.now);
                self.publish(event, false);
            }
            TimerMessage::Retry { task, .. } => {
                self.queue_up(*task);
            }
        }
    }

    fn queue_up(&mut self, task: Task) -> usize {
        self.queue.push(task);
        self.ready.push(self.queue.len() - 1);
        self.queue.len() - 1
    }

    /// An operator redrives what lies in the dead letters. Says how many tasks there were.
    pub fn redrive(&mut self) -> usize {
        let mut redriven = 0;
        for letter in std::mem::take(&mut self.dead) {
            match letter.letter {
                Letter::Task(task) => {
                    self.queue_up(task.redriven(self.now));
                    redriven += 1;
                }
                Letter::Event(_) | Letter::Unreadable { .. } => self.dead.push(letter),
            }
        }
        redriven
    }

    /// An operator lets runs go on that were only in bad company: their workers went down at one input again and again.
    fn tend(&mut self) -> bool {
        let poisoned = |told: &Told| told.parked().is_some_and(|parked| parked.kind == ParkedKind::Poisonous);
        let found = self.runs.iter().find(|(run, told)| {
            poisoned(told) && self.tended.get(run).is_none_or(|records| *records < told.records.len())
        });
        let Some((run, told)) = found else { return false };
        let (run, workflow_id, records) = (*run, told.workflow_id.clone(), told.records.len());
        self.tended.insert(run, records);
        let event = self.event(&workflow_id, Some(run), &EventBody::Resume);
        self.publish(event, true);
        true
    }

    /// When something can be done again, if nothing can now.
    pub fn next_time(&self) -> Option<Timestamp> {
        let attempts = self.attempts.values().map(|attempt| attempt.at);
        let deadlines = self.owners.iter().filter(|owner| owner.alive).filter_map(|owner| owner.shard.poll_deadline());
        let timers = self.timers.iter().filter(|timer| self.is_needed(timer)).map(TimerMessage::due);
        let acts = self.acts.iter().map(|(at, _)| *at);
        let next = attempts.chain(deadlines).chain(timers).chain(acts).min()?;
        Some(next.max(Timestamp(self.now.0 + 1)))
    }

    /// Wake-ups may be late; they are waited for only where nobody looks at the shard.
    fn is_needed(&self, timer: &TimerMessage) -> bool {
        match timer {
            TimerMessage::Retry { .. } => true,
            TimerMessage::Wake(wake) => {
                let owner = self.partitions[wake.shard as usize].owner;
                owner.is_none_or(|owner| self.owners[owner].shard.status().cold)
            }
        }
    }
}

/// Something that can be done.
enum Action {
    Hear(usize),
    Effect(usize),
    /// By the place among those that are undelivered.
    Deliver(usize),
    Attempt(u64),
    /// By the place among those that are ready.
    Take(usize),
    Relay(usize),
    Tick(usize),
    Act(usize),
}
