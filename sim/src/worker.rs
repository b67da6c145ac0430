//! A worker process: the engine's own shards, and a host that carries out their effects over a played connection.
//!
//! ```text
//! inbox ─► Shard ─► effects ─► Outbox ─► broker
//!            ▲                   │
//!            └──── receipts ◄────┘         attempts: activities and steps; relay: delayed messages
//! ```
//! Here is only what is threads, sockets and clocks in `everpulse-worker`; what that crate decides (verdicts on attempts,
//! settlements, where delayed messages go) is taken from it. Its intake, carrier and queues are bound to tokio and are
//! played in their order: a message is acked last, and by whoever has it.

mod activities;
mod attempt;
mod kept;
mod relay;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use everpulse_broker::semantics::Kind;
use everpulse_engine::attempt::{AttemptId, Seen};
use everpulse_engine::{Delivery, DeliveryToken, Effect, Options, Outgoing, SendId, Shard};
use everpulse_protocol::event::InboxFrame;
use everpulse_protocol::history::Frame;
use everpulse_protocol::priority::Lane;
use everpulse_protocol::shard::Config;
use everpulse_protocol::task::{Task, TaskFrame};
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{EventId, Position, RunId, Timestamp, WriterId, decode, topic};
use everpulse_sdk::definition::Registry;

use crate::broker::Layout;
use crate::lanes::Part;
use crate::link::{News, Parcel};
use crate::outbox::Outbox;
use crate::party::Ctx;
use crate::wire::{self, Act, Heard, Timer};
use crate::workflows::{self, QUEUE};
use activities::Settling;
use attempt::{Attempt, Slots};

/// What a worker has asked its link for.
#[derive(Debug, Clone)]
enum Purpose {
    /// Where a partition of the inbox ends before it is subscribed to.
    End {
        partition: u32,
    },
    Tail {
        shard: u32,
        id: u64,
    },
    Read {
        shard: u32,
        id: u64,
        from_earliest: bool,
    },
    Fetch {
        shard: u32,
        id: u64,
        position: Position,
    },
    Find {
        shard: u32,
        id: u64,
        tasks: Vec<AttemptId>,
    },
    Append {
        shard: u32,
        id: u64,
    },
    Sent {
        shard: u32,
        id: SendId,
    },
    /// A part of an attempt's settlement is confirmed.
    Settled(u64),
    /// The owner has what an attempt reported.
    Told(u64),
    /// A delayed message was sent on.
    Relayed(u64),
}

/// How a worker is made.
#[derive(Debug, Clone)]
pub struct Making {
    pub name: String,
    pub writer: WriterId,
    pub layout: Layout,
    /// It takes the application for one with another count of shards.
    pub misled: bool,
    pub eager: bool,
    pub options: Options,
    pub registry: Arc<Registry>,
}

#[derive(Debug)]
pub struct Worker {
    making: Making,
    outbox: Outbox<Purpose>,
    shards: BTreeMap<u32, Shard>,
    slots: Rc<Slots>,
    inputs: BTreeMap<DeliveryToken, Input>,
    next: u64,
    /// The consumers of the inbox, with their partitions, and where these ended before they subscribed.
    inbox: BTreeMap<u64, (u32, Option<Position>)>,
    /// The consumers of the queue's lanes.
    queue: BTreeMap<u64, Part>,
    /// That of the names of lanes.
    names: u64,
    timers: u64,
    control: u64,
    /// When it has asked to be called for its shards.
    deadline: Option<Timestamp>,
    leaving: Option<Leaving>,

    attempts: BTreeMap<u64, Attempt>,
    local: BTreeMap<(RunId, u32), u64>,
    /// Attempts that wait for a slot.
    queued: VecDeque<u64>,
    settling: BTreeMap<u64, Settling>,
    seen: Seen<u64>,
    /// Frames of tasks that are not settled, by number: by which consumer, where they lie, and how many tasks are open.
    frames: BTreeMap<u64, (u64, Position, usize)>,
    cancelled: BTreeSet<EventId>,
    relayed: BTreeMap<u64, relay::Held>,
}

/// A message of the inbox that is not acked.
#[derive(Debug)]
struct Input {
    consumer: u64,
    position: Position,
    /// When it came, by its worker's clock, and by the world's.
    came: Timestamp,
    came_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Leaving {
    /// Its inputs are not all acked.
    Inputs,
    /// It takes nothing any more; local work and sends are open.
    Work,
    /// It writes down what was sent. Delayed messages are sent on no more, but for those that are on their way.
    Marks,
    /// It hears that the broker has its last acks.
    Acks,
}

/// A step of leaving takes so many looks at most.
const LOOK_MS: u64 = 250;

impl Worker {
    pub fn start(making: Making, ctx: &mut Ctx<'_>) -> Self {
        let mut outbox: Outbox<Purpose> = Outbox::new(making.name.clone(), making.layout);
        for partition in 0..making.layout.partitions {
            outbox.link.ask_tail(&wire::inbox(partition), Purpose::End { partition }, ctx);
        }
        let (mut queue, mut names, mut timers, mut control) = (BTreeMap::new(), 0, 0, 0);
        if !making.misled {
            let lane = Lane::of_queue(QUEUE);
            let tasks = outbox.link.subscribe(&wire::lane(&lane), topic::WORKERS, Kind::Shared, true, 8, ctx);
            queue.insert(tasks, Part::of(&lane));
            names = outbox.link.follow(&wire::stored(topic::LANES), 1_000, ctx);
            timers = outbox.link.subscribe(&wire::stored(topic::TIMERS), topic::RELAY, Kind::Shared, true, 256, ctx);
            let name = format!("worker-{}", making.name);
            control = outbox.link.subscribe(&wire::unstored(topic::CONTROL), &name, Kind::Exclusive, false, 1_000, ctx);
        }
        Self {
            slots: Rc::new(Slots::new(making.eager)),
            making,
            outbox,
            shards: BTreeMap::new(),
            inputs: BTreeMap::new(),
            next: 0,
            inbox: BTreeMap::new(),
            queue,
            names,
            timers,
            control,
            deadline: None,
            leaving: None,
            attempts: BTreeMap::new(),
            local: BTreeMap::new(),
            queued: VecDeque::new(),
            settling: BTreeMap::new(),
            seen: Seen::new(),
            frames: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            relayed: BTreeMap::new(),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether everything that came is dealt with.
    pub fn is_idle(&self) -> bool {
        self.shards.values().all(|shard| {
            let status = shard.status();
            status.idle && status.local_work == 0
        }) && self.outbox.is_idle()
            && self.attempts.is_empty()
            && self.settling.is_empty()
    }

    /// Whether it has the code that was deployed last.
    pub fn knows_all(&self) -> bool {
        self.making.registry.workflow(workflows::LATE, None).is_some()
    }

    /// Inputs that it holds.
    pub fn held(&self) -> usize {
        self.inputs.len()
    }

    /// What its shards are about, for a person.
    pub fn describe(&self) -> String {
        let shards: Vec<String> = self.shards.values().map(|shard| format!("{shard:?}")).collect();
        let (attempts, settling) = (self.attempts.len(), self.settling.len());
        format!("{}: {attempts} attempts, {settling} settling, {}", self.making.name, shards.join(", "))
    }

    pub fn handle(&mut self, heard: Heard, ctx: &mut Ctx<'_>) {
        match self.outbox.handle(heard, ctx) {
            None => {}
            Some(Heard::Timer(Timer::Deadline)) => {
                self.deadline = None;
                let due: Vec<u32> = self
                    .shards
                    .iter()
                    .filter(|(_, shard)| shard.poll_deadline().is_some_and(|deadline| deadline <= ctx.now))
                    .map(|(number, _)| *number)
                    .collect();
                for number in due {
                    self.with(number, |shard, now| shard.handle_tick(now), ctx);
                }
            }
            Some(Heard::Timer(Timer::Work(number))) => self.work(number, ctx),
            Some(Heard::Timer(Timer::End(number))) => self.end(number, ctx),
            Some(Heard::Timer(Timer::Due(number))) => self.due(number, ctx),
            Some(Heard::Timer(Timer::Gone)) => self.look_whether_gone(ctx),
            Some(Heard::Leave) if self.leaving.is_none() => {
                self.leaving = Some(Leaving::Inputs);
                // What runs is finished, and its task kept until then.
                for consumer in self.queue.keys() {
                    self.outbox.link.pause(*consumer);
                }
                ctx.remind(LOOK_MS, Timer::Gone);
            }
            Some(_) => {}
        }
        while let Some(news) = self.outbox.news(ctx) {
            self.hear(news, ctx);
        }
        self.ask_for_deadline(ctx);
    }

    /// Builds the subscriptions to the inbox again, of which the shards hear nothing.
    pub fn resubscribe(&mut self, ctx: &mut Ctx<'_>) {
        for consumer in self.inbox.keys() {
            self.outbox.link.resubscribe(*consumer, ctx);
        }
    }

    fn ask_for_deadline(&mut self, ctx: &mut Ctx<'_>) {
        let next = self.shards.values().filter_map(Shard::poll_deadline).min();
        if let Some(next) = next.filter(|next| self.deadline.is_none_or(|asked| *next < asked)) {
            self.deadline = Some(next);
            ctx.remind(next.0.saturating_sub(ctx.now.0).max(1), Timer::Deadline);
        }
    }

    /// The clock was set: what was reckoned by it is reckoned anew.
    pub fn clock_was_set(&mut self, ctx: &mut Ctx<'_>) {
        self.deadline = None;
        self.ask_for_deadline(ctx);
    }

    /// Lets a shard handle something, and carries out what follows.
    fn with(&mut self, number: u32, handle: impl FnOnce(&mut Shard, Timestamp), ctx: &mut Ctx<'_>) {
        let shard = self.shards.entry(number).or_insert_with(|| {
            let Making { layout, writer, registry, options, misled, .. } = &self.making;
            let config = Config::new(layout.shards + u32::from(*misled), layout.partitions);
            Shard::new(number, *writer, config, registry.clone(), self.slots.clone(), options.clone())
        });
        handle(shard, ctx.now);
        let mut effects = VecDeque::new();
        while let Some(effect) = shard.poll_effect() {
            effects.push_back(effect);
        }
        for effect in effects {
            self.carry_out(number, effect, ctx);
        }
    }

    fn carry_out(&mut self, shard: u32, effect: Effect, ctx: &mut Ctx<'_>) {
        let history = || wire::history(shard);
        match effect {
            Effect::AskTail { id } => self.outbox.link.ask_tail(&history(), Purpose::Tail { shard, id }, ctx),
            Effect::Read { id, after, to } => {
                let purpose = Purpose::Read { shard, id, from_earliest: after.is_none() };
                self.outbox.link.read(&history(), after, Some(to), purpose, ctx);
            }
            Effect::Fetch { id, position } => {
                let before = position.entry.checked_sub(1).map(|entry| Position { entry, ..position });
                let purpose = Purpose::Fetch { shard, id, position };
                self.outbox.link.read(&history(), before, Some(position), purpose, ctx);
            }
            Effect::Append { id, payload } => {
                let (key, tags) = (Some(topic::shard_key(shard)), vec![Purpose::Append { shard, id }]);
                let parcel = Parcel { tags, key, payload, deliver_at: None, once: true, lane: None };
                self.outbox.link.publish(&history(), parcel, ctx);
            }
            Effect::FindTasks { id, queue, after, tasks } => {
                let topic = wire::stored(&topic::activity(&queue));
                self.outbox.link.read(&topic, after, None, Purpose::Find { shard, id, tasks }, ctx);
            }
            Effect::Send { id, outgoing } => {
                let purpose = Purpose::Sent { shard, id };
                match outgoing {
                    Outgoing::Task(task) => self.outbox.task(task, purpose, ctx),
                    Outgoing::Wake(wake) => self.outbox.timer(&TimerMessage::Wake(wake), purpose, ctx),
                    Outgoing::Event(event) => self.outbox.event(*event, purpose, ctx),
                    Outgoing::DeadEvent(letter) => {
                        self.outbox.dead_letter(topic::INBOX_DEAD, &letter, purpose, ctx);
                    }
                }
            }
            Effect::Reply { client, reply } => self.outbox.reply(&client, reply, ctx),
            Effect::StartStep { run, step, name, options, body } => {
                self.start_step(shard, run, step, name, options, body, ctx);
            }
            Effect::StartEager { task } => self.start_eager(task, ctx),
            Effect::CancelLocal { run, step } => self.cancel_local(run, step),
            Effect::Observe { events } => ctx.observe(&events),
            Effect::Trim { upto } => ctx.acts.push(Act::Trim { shard, upto }),
            Effect::CancelTasks { tasks } => self.outbox.cancel_tasks(tasks, ctx),
            Effect::Ack { token } => {
                if let Some(Input { consumer, position, came, came_ms }) = self.inputs.remove(&token) {
                    let held_ms = (ctx.now.0.saturating_sub(came.0)).max(ctx.place.world_ms - came_ms);
                    if let Some((partition, _)) = self.inbox.get(&consumer) {
                        ctx.acts.push(Act::LetGo { partition: *partition, position, held_ms });
                    }
                    self.outbox.link.ack(consumer, position, ctx);
                }
            }
            Effect::Refuse { .. } if self.making.misled => ctx.counts.refusals += 1,
            Effect::Refuse { reason } => {
                ctx.violations.push(format!("{} refuses shard {shard}: {reason}", self.making.name));
            }
        }
    }

    fn hear(&mut self, news: News<Purpose>, ctx: &mut Ctx<'_>) {
        match news {
            News::Delivered { consumer, position, payload } => self.delivered(consumer, position, &payload, ctx),
            News::Tail { tag: Purpose::End { partition }, position } if self.leaving.is_none() => {
                let topic = wire::inbox(partition);
                let consumer = self.outbox.link.subscribe(&topic, topic::OWNERS, Kind::KeyShared, true, 64, ctx);
                self.inbox.insert(consumer, (partition, position));
            }
            News::Tail { tag: Purpose::Tail { shard, id }, position } => {
                ctx.counts.tails += 1;
                self.with(shard, |shard, now| shard.handle_tail(id, position, now), ctx);
            }
            News::Read { tag: Purpose::Read { shard, id, from_earliest }, entries } => {
                let first =
                    entries.first().filter(|_| from_earliest).and_then(|(_, payload)| decode::<Frame>(payload).ok());
                ctx.counts.loads_trimmed += u64::from(first.is_some_and(|frame| frame.number > 0));
                self.with(shard, |shard, now| shard.handle_entries(id, entries, true, now), ctx);
            }
            News::Read { tag: Purpose::Fetch { shard, id, position }, entries } => {
                let payload = entries.into_iter().find(|(at, _)| *at == position).map(|(_, payload)| payload);
                self.with(shard, |shard, _| shard.handle_fetched(id, payload.as_ref()), ctx);
            }
            News::Read { tag: Purpose::Find { shard, id, tasks }, entries } => {
                let frames = entries.iter().filter_map(|(_, payload)| decode::<TaskFrame>(payload).ok());
                let mut there: BTreeMap<EventId, Vec<Task>> = BTreeMap::new();
                frames.flat_map(|frame| frame.tasks).for_each(|task| there.entry(task.id).or_default().push(task));
                let is_there = |sought: &AttemptId| {
                    there.get(&sought.task()).is_some_and(|tasks| tasks.iter().any(|task| sought.is_shown_by(task)))
                };
                let found: Vec<EventId> = tasks.iter().filter(|task| is_there(task)).map(AttemptId::task).collect();
                self.with(shard, |shard, now| shard.handle_found(id, &found, now), ctx);
            }
            News::Published { tag: Purpose::Append { shard, id }, receipt } => {
                if !matches!(receipt, Ok(Some(_))) {
                    ctx.counts.open_appends += 1;
                }
                self.with(shard, |shard, now| shard.handle_receipt(id, receipt, now), ctx);
            }
            News::Published { tag: Purpose::Sent { shard, id }, receipt } => {
                self.with(shard, |shard, now| shard.handle_sent(id, receipt.unwrap_or(None), now), ctx);
            }
            News::Published { tag: Purpose::Settled(number), .. } => self.settled(number, ctx),
            News::Published { tag: Purpose::Told(number), .. } => self.told(number, ctx),
            News::Published { tag: Purpose::Relayed(number), .. } => {
                if let Some(held) = self.relayed.remove(&number) {
                    self.outbox.link.ack(self.timers, held.position, ctx);
                }
            }
            _ => {}
        }
    }

    fn delivered(&mut self, consumer: u64, position: Position, payload: &Bytes, ctx: &mut Ctx<'_>) {
        if self.queue.contains_key(&consumer) {
            return self.take_tasks(consumer, position, payload, ctx);
        }
        if consumer == self.names {
            return self.hear_of_lane(payload, ctx);
        }
        if consumer == self.timers {
            // What it does not hold comes to another relay when this one has left.
            if self.relays() {
                self.hold(position, payload, ctx);
            }
            return;
        }
        if consumer == self.control {
            return self.hear_control(payload);
        }
        if self.leaving.is_some() {
            // It comes to another worker when this one has left.
            return;
        }
        let Ok(frame) = decode::<InboxFrame>(payload) else {
            return ctx.violations.push(format!("{position} of the inbox cannot be read"));
        };
        let token = DeliveryToken(self.fresh());
        self.inputs.insert(token, Input { consumer, position, came: ctx.now, came_ms: ctx.place.world_ms });
        let shard = frame.shard;
        let end = self.inbox.get(&consumer).and_then(|(_, end)| *end);
        let suspect = end.is_some_and(|end| position <= end);
        ctx.counts.suspects += u64::from(suspect);
        self.with(shard, |shard, now| shard.handle_delivery(Delivery { token, frame, suspect }, now), ctx);
    }

    fn look_whether_gone(&mut self, ctx: &mut Ctx<'_>) {
        let statuses: Vec<_> = self.shards.values().map(Shard::status).collect();
        match self.leaving {
            Some(Leaving::Inputs) if statuses.iter().all(|status| status.held == 0) => {
                for consumer in self.inbox.keys() {
                    self.outbox.link.close(*consumer, ctx);
                }
                self.leaving = Some(Leaving::Work);
            }
            Some(Leaving::Work) if !self.is_idle() => self.give_up_kept(ctx),
            Some(Leaving::Work) => {
                for consumer in self.queue.keys() {
                    self.outbox.link.close(*consumer, ctx);
                }
                self.relay_no_more();
                let shards: Vec<u32> = self.shards.keys().copied().collect();
                for shard in shards {
                    self.with(shard, |shard, now| shard.handle_drain(now), ctx);
                }
                self.leaving = Some(Leaving::Marks);
            }
            // Not before: what was sent on and is not acked is sent on once more, by another relay.
            Some(Leaving::Marks) if self.is_idle() && self.relayed.is_empty() => {
                self.outbox.link.close(self.timers, ctx);
                self.leaving = Some(Leaving::Acks);
            }
            Some(Leaving::Acks) if self.is_idle() => return ctx.acts.push(Act::Exit),
            _ => {}
        }
        ctx.remind(LOOK_MS, Timer::Gone);
    }
}
