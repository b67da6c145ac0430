//! A world for shards in virtual time: one history partition, an inbox, queues and timers, and any number of
//! owners that can crash, pause and come back.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod across;
pub mod judge;
pub mod later;
pub mod play;
pub mod shelf;
pub mod workflows;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everpulse_engine::{
    Delivery, DeliveryToken, Eager, Effect, LocalResult, NoEager, Options, Outgoing, SendId, Shard,
};
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, InboxFrame, NextAttempt, Outcome, ReplyTo, Start};
use everpulse_protocol::history::{Close, CloseStatus, Frame, Record, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::shard::Config;
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::Wake;
use everpulse_protocol::{
    EventId, Failure, Payload, Position, RequestId, RunId, Timestamp, WorkflowId, WriterId, chain, decode, shard,
};
use everpulse_sdk::definition::Registry;
use futures::FutureExt as _;
use uuid::Uuid;

/// No broker takes more by default, and transports keep some for themselves.
const MESSAGE_BYTES_MAX: usize = 5 * 1024 * 1024 - 64 * 1024;

/// What an owner's append gets for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    Prompt,
    /// Stored, and the receipt is lost.
    Lost,
    /// Neither stored nor confirmed.
    Dropped,
    /// Stored, and confirmed as a duplicate.
    Duplicate,
}

pub struct Owner {
    pub shard: Shard,
    pub receipts: Receipts,
    /// Effects that were taken out and not carried out.
    pub waiting: VecDeque<Effect>,
    /// Inbox messages that this owner holds, by token.
    pub holds: BTreeMap<DeliveryToken, usize>,
    next_token: u64,
    pub alive: bool,
    /// How far this owner's clock is ahead, in milliseconds.
    pub skew: i64,
}

/// What comes back to an owner after the outside did what an effect says.
#[derive(Debug)]
pub enum Answer {
    Tail { id: u64, tail: Option<Position> },
    Entries { id: u64, entries: Vec<(Position, Bytes)>, done: bool },
    Fetched { id: u64, payload: Option<Bytes> },
    Receipt { id: u64, receipt: Result<Option<Position>, ()> },
    Found { id: u64, tasks: Vec<EventId> },
    Sent { id: SendId, position: Option<Position> },
    Local { run: RunId, step: u32, result: LocalResult },
}

/// Local work that was done: run, step, how many entries the log had then.
pub type Executed = (RunId, u32, usize);

pub struct World {
    /// Which shard it is, of how many.
    pub shard: u32,
    pub shards: u32,
    /// What was sent to runs of the others.
    pub outside: Vec<Event>,
    pub now: Timestamp,
    /// All that was ever appended; what comes before `start` was trimmed.
    pub log: Vec<(Position, Bytes)>,
    pub start: usize,
    /// Only whole ledgers are trimmed, so that some of what may go stays.
    pub whole_ledgers: bool,
    pub ledger: u64,
    /// All that was ever published to the inbox; none once it is acknowledged.
    pub inbox: Vec<Option<InboxFrame>>,
    /// All frames that were ever published, acknowledged or not.
    pub archive: Vec<InboxFrame>,
    pub queue: Vec<Task>,
    /// How many entries the log had when each task of the queue was sent.
    pub queued_at: Vec<usize>,
    pub executed: Vec<Executed>,
    pub timers: Vec<Wake>,
    pub replies: Vec<(RequestId, ReplyBody)>,
    pub cancelled: Vec<EventId>,
    pub buried: usize,
    /// What those were told who look on.
    pub observed: Vec<everpulse_sdk::intercept::RunEvent>,
    pub owners: Vec<Owner>,
    pub registry: Arc<Registry>,
    /// For owners that come.
    pub options: Options,
    /// One line for each thing that left an owner.
    pub trace: Vec<String>,
    /// Who refused the shard, and what was said; none: nobody does.
    pub refusals: Option<Vec<(usize, String)>>,
    /// Behind what owners asked to read history.
    pub reads: Vec<Option<Position>>,
    /// Disks for owners, with who has them; none: owners have no disks.
    pub disks: Option<Vec<(Rc<RefCell<shelf::Disk>>, usize)>>,
    next_id: u128,
}

impl World {
    pub fn new(registry: Registry) -> Self {
        Self {
            shard: 0,
            shards: 1,
            outside: Vec::new(),
            now: Timestamp(1_000),
            log: Vec::new(),
            start: 0,
            whole_ledgers: false,
            ledger: 1,
            inbox: Vec::new(),
            archive: Vec::new(),
            queue: Vec::new(),
            queued_at: Vec::new(),
            executed: Vec::new(),
            timers: Vec::new(),
            replies: Vec::new(),
            cancelled: Vec::new(),
            buried: 0,
            observed: Vec::new(),
            owners: Vec::new(),
            registry: Arc::new(registry),
            options: Options { live_runs_max: 64, runs_at_hand_max: 2, ..Options::default() },
            trace: Vec::new(),
            refusals: None,
            reads: Vec::new(),
            disks: None,
            next_id: 1 << 64,
        }
    }

    pub fn owner(&mut self) -> usize {
        self.owner_with(self.registry.clone(), Rc::new(NoEager))
    }

    pub fn owner_with(&mut self, registry: Arc<Registry>, eager: Rc<dyn Eager>) -> usize {
        let writer = WriterId(Uuid::from_u128(900 + 1_000 * u128::from(self.shard) + self.owners.len() as u128));
        let config = Config::new(self.shards, 1);
        let mut shard = Shard::new(self.shard, writer, config, registry, eager, self.options.clone());
        if let Some(disk) = self.free_disk() {
            shard = shard.on_shelf(Box::new(shelf::DiskShelf::new(disk)));
        }
        self.owners.push(Owner {
            shard,
            receipts: Receipts::Prompt,
            waiting: VecDeque::new(),
            holds: BTreeMap::new(),
            next_token: 0,
            alive: true,
            skew: 0,
        });
        self.owners.len() - 1
    }

    /// Owners have disks from now on. Gives the first one's.
    pub fn with_disk(&mut self) -> Rc<RefCell<shelf::Disk>> {
        let disk = Rc::default();
        self.disks = Some(vec![(Rc::clone(&disk), usize::MAX)]);
        disk
    }

    /// A disk for the next owner that no living one has.
    fn free_disk(&mut self) -> Option<Rc<RefCell<shelf::Disk>>> {
        let (owners, next) = (&self.owners, self.owners.len());
        let disks = self.disks.as_mut()?;
        let is_free = |owner: usize| owners.get(owner).is_none_or(|owner| !owner.alive);
        let place = disks.iter().position(|(_, owner)| is_free(*owner)).unwrap_or_else(|| {
            disks.push((Rc::default(), usize::MAX));
            disks.len() - 1
        });
        disks[place].1 = next;
        // Another one next time: its cache is older.
        disks.rotate_left(place + 1);
        disks.last().map(|(disk, _)| Rc::clone(disk))
    }

    pub fn id(&mut self) -> u128 {
        self.next_id += 1;
        self.next_id
    }

    /// Publishes events in one frame; gives the frame's number in the inbox.
    pub fn publish(&mut self, events: Vec<Event>) -> usize {
        let frame = InboxFrame { shard: self.shard, events };
        self.archive.push(frame.clone());
        self.inbox.push(Some(frame));
        self.inbox.len() - 1
    }

    pub fn event(&mut self, workflow: &str, run: Option<RunId>, body: &EventBody) -> Event {
        let id = self.id();
        Event {
            id: EventId(Uuid::from_u128(id)),
            workflow_id: WorkflowId::new(workflow).expect("a good id"),
            run_id: run,
            exact: false,
            sent_at: self.now,
            reply_to: Some(ReplyTo { client: "c".to_owned(), request: RequestId(Uuid::from_u128(id)) }),
            again: false,
            body: Body::of(body),
        }
    }

    pub fn start(&mut self, id: &str, workflow: &str, args: Payload) -> Event {
        let start = Start {
            workflow: workflow.to_owned(),
            version: None,
            args,
            policy: IdPolicy::Attach,
            tags: Vec::new(),
            start_at: None,
            timeout_ms: None,
            headers: None,
            priority: Default::default(),
        };
        self.event(id, None, &EventBody::Start(start))
    }

    /// The same with tags.
    pub fn start_tagged(&mut self, id: &str, workflow: &str, args: Payload, tags: &[&str]) -> Event {
        let mut event = self.start(id, workflow, args);
        let mut body = event.body().expect("it was written just now");
        body.as_start_mut().expect("it is a start").tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        event.body = Body::of(&body);
        event
    }

    /// A word for all runs of this shard with a tag.
    pub fn word_by_tag(&mut self, tag: &str, text: &str) -> Event {
        let value = payload(&workflows::Word { text: text.to_owned() });
        let (tag, name) = (tag.to_owned(), "Word".to_owned());
        let body = EventBody::SignalTagged { tag, name, value, headers: None };
        self.event(shard::placeholder_id(self.shard).as_str(), None, &body)
    }

    /// A start of `listens` for two words with the first of them, after a closed run too.
    pub fn start_with(&mut self, id: &str, text: &str) -> Event {
        let start = Start {
            workflow: "listens".to_owned(),
            version: None,
            args: workflows::number(2),
            policy: IdPolicy::RestartWhenClosed,
            tags: Vec::new(),
            start_at: None,
            timeout_ms: None,
            headers: None,
            priority: Default::default(),
        };
        let value = payload(&workflows::Word { text: text.to_owned() });
        self.event(id, None, &EventBody::SignalWithStart { start, name: "Word".to_owned(), value })
    }

    /// Gives an inbox frame to an owner.
    pub fn deliver(&mut self, owner: usize, frame: usize, suspect: bool) {
        if self.inbox[frame].is_some() {
            self.replay(owner, frame, suspect);
        }
    }

    /// Gives an inbox frame to an owner, even if it was acknowledged long ago.
    pub fn replay(&mut self, owner: usize, frame: usize, suspect: bool) {
        let content = self.archive[frame].clone();
        let now = self.clock(owner);
        let owner = &mut self.owners[owner];
        owner.next_token += 1;
        let token = DeliveryToken(owner.next_token);
        owner.holds.insert(token, frame);
        owner.shard.handle_delivery(Delivery { token, frame: content, suspect }, now);
    }

    /// Publishes and delivers at once, and carries out all that follows.
    pub fn say(&mut self, owner: usize, events: Vec<Event>) {
        let frame = self.publish(events);
        self.deliver(owner, frame, false);
        self.settle(owner);
    }

    /// The owner is gone with all that it had in memory; what it held is to be delivered again.
    pub fn crash(&mut self, owner: usize) -> Vec<usize> {
        self.owners[owner].alive = false;
        self.owners[owner].waiting.clear();
        std::mem::take(&mut self.owners[owner].holds).into_values().collect()
    }

    /// Collects the owner's effects without carrying them out.
    pub fn collect(&mut self, owner: usize) {
        let owner = &mut self.owners[owner];
        while let Some(effect) = owner.shard.poll_effect() {
            owner.waiting.push_back(effect);
        }
    }

    /// Carries out one effect; false if there is none.
    pub fn step(&mut self, owner: usize) -> bool {
        self.collect(owner);
        let Some(effect) = self.owners[owner].waiting.pop_front() else { return false };
        self.carry_out(owner, effect);
        true
    }

    /// Carries out all effects.
    pub fn settle(&mut self, owner: usize) {
        for _ in 0..100_000 {
            if !self.step(owner) {
                return;
            }
        }
        panic!("the owner does not come to rest: {:?}", self.owners[owner].shard);
    }

    /// Carries out what the owner wants, except what is to be kept back.
    pub fn settle_but(&mut self, owner: usize, kept: impl Fn(&Effect) -> bool) {
        for _ in 0..100_000 {
            self.collect(owner);
            let waiting = &mut self.owners[owner].waiting;
            let Some(next) = waiting.iter().position(|effect| !kept(effect)) else { return };
            let effect = waiting.remove(next).expect("it is there");
            self.carry_out(owner, effect);
        }
        panic!("the owner does not come to rest: {:?}", self.owners[owner].shard);
    }

    /// An owner's clock strikes.
    pub fn tick(&mut self, owner: usize) {
        let now = self.clock(owner);
        self.owners[owner].shard.handle_tick(now);
    }

    /// Lets time pass up to `now`, with all deadlines of the living owners on the way.
    pub fn run_until(&mut self, until: Timestamp) {
        loop {
            let next =
                self.owners.iter().filter(|owner| owner.alive).filter_map(|owner| owner.shard.poll_deadline()).min();
            match next {
                Some(deadline) if deadline <= until => {
                    self.now = self.now.max(deadline);
                    for owner in 0..self.owners.len() {
                        let now = self.clock(owner);
                        let state = &mut self.owners[owner];
                        if state.alive && state.shard.poll_deadline().is_some_and(|deadline| deadline <= now) {
                            state.shard.handle_tick(now);
                            self.settle(owner);
                        }
                    }
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
    }

    fn store(&mut self, payload: Bytes) -> Position {
        let entry = self.log.iter().filter(|(position, _)| position.ledger == self.ledger).count() as u64;
        let position = Position { ledger: self.ledger, entry };
        self.log.push((position, payload));
        position
    }

    /// What an owner's clock says.
    pub fn clock(&self, owner: usize) -> Timestamp {
        Timestamp(self.now.0.saturating_add_signed(self.owners[owner].skew))
    }

    /// When an owner wants to be called, by the world's clock.
    pub fn deadline(&self, owner: usize) -> Option<Timestamp> {
        let owner = self.owners.get(owner).filter(|owner| owner.alive)?;
        let deadline = owner.shard.poll_deadline()?;
        Some(Timestamp(deadline.0.saturating_add_signed(-owner.skew)))
    }

    fn carry_out(&mut self, owner: usize, effect: Effect) {
        if let Some(answer) = self.happen(owner, effect) {
            self.answer(owner, answer);
        }
    }

    /// The outside does what an effect says; the owner has not heard of it.
    pub fn happen(&mut self, owner: usize, effect: Effect) -> Option<Answer> {
        match effect {
            Effect::AskTail { id } => {
                let tail = self.log[self.start..].last();
                Some(Answer::Tail { id, tail: tail.map(|(position, _)| *position) })
            }
            Effect::Read { id, after, to } => {
                self.reads.push(after);
                let after = after.map_or(0, |after| self.log.partition_point(|(position, _)| *position <= after));
                let first = after.max(self.start);
                let last = self.log.partition_point(|(position, _)| *position <= to);
                let entries = self.log.get(first..last).unwrap_or_default().to_vec();
                Some(Answer::Entries { id, entries, done: true })
            }
            Effect::Fetch { id, position } => {
                let there = &self.log[self.start..];
                let payload = there.iter().find(|(at, _)| *at == position).map(|(_, payload)| payload.clone());
                Some(Answer::Fetched { id, payload })
            }
            Effect::Append { id, payload } => {
                self.trace.push(format!("{owner} append"));
                let receipt = match self.owners[owner].receipts {
                    // As transports do: it is not sent, and would not be the next time.
                    _ if payload.len() > MESSAGE_BYTES_MAX => Err(()),
                    Receipts::Prompt => Ok(Some(self.store(payload))),
                    Receipts::Lost => {
                        self.store(payload);
                        Err(())
                    }
                    Receipts::Dropped => Err(()),
                    Receipts::Duplicate => {
                        self.store(payload);
                        Ok(None)
                    }
                };
                Some(Answer::Receipt { id, receipt })
            }
            Effect::FindTasks { id, after, tasks, .. } => {
                let behind = |place: usize| after.is_none_or(|after| queue_position(place) > after);
                let there = self.queue.iter().enumerate().filter(|(place, _)| behind(*place)).map(|(_, task)| task);
                let is_sought = |task: &&Task| tasks.iter().any(|sought| sought.is_shown_by(task));
                Some(Answer::Found { id, tasks: there.filter(is_sought).map(|task| task.id).collect() })
            }
            Effect::Send { id, outgoing } => {
                let position = self.send(owner, outgoing);
                Some(Answer::Sent { id, position })
            }
            Effect::Reply { reply, .. } => {
                self.replies.push((reply.request, reply.body));
                None
            }
            Effect::StartStep { run, step, name, mut body, .. } => {
                self.trace.push(format!("{owner} step {name}"));
                self.executed.push((run, step, self.log.len()));
                let outcome = match body.attempt().now_or_never().expect("test steps are ready at once") {
                    Ok(value) => Outcome::Done(value),
                    Err(error) => Outcome::Failed(error.failure),
                };
                Some(Answer::Local { run, step, result: LocalResult::Settled { attempt: 1, outcome } })
            }
            Effect::StartEager { task } => {
                self.trace.push(format!("{owner} eager {}", task.activity));
                self.executed.push((task.run_id, task.step, self.log.len()));
                let (run, step, outcome) = (task.run_id, task.step, outcome_of(&task));
                Some(Answer::Local { run, step, result: LocalResult::Settled { attempt: 1, outcome } })
            }
            Effect::CancelLocal { .. } => None,
            Effect::CancelTasks { tasks } => {
                self.cancelled.extend(tasks);
                None
            }
            Effect::Observe { events } => {
                self.observed.extend(events);
                None
            }
            Effect::Trim { upto } => {
                self.trace.push(format!("{owner} trim"));
                // A cursor never goes back.
                let goes = |position: &Position| match self.whole_ledgers {
                    true => position.ledger < upto.ledger,
                    false => *position <= upto,
                };
                self.start = self.start.max(self.log.partition_point(|(position, _)| goes(position)));
                None
            }
            Effect::Ack { token } => {
                self.trace.push(format!("{owner} ack"));
                if let Some(frame) = self.owners[owner].holds.remove(&token) {
                    self.inbox[frame] = None;
                }
                None
            }
            Effect::Refuse { reason } => {
                let refusals = self.refusals.as_mut().unwrap_or_else(|| panic!("refused: {reason}"));
                refusals.push((owner, reason));
                None
            }
        }
    }

    /// The owner hears of it.
    pub fn answer(&mut self, owner: usize, answer: Answer) {
        let now = self.clock(owner);
        let shard = &mut self.owners[owner].shard;
        match answer {
            Answer::Tail { id, tail } => shard.handle_tail(id, tail, now),
            Answer::Entries { id, entries, done } => shard.handle_entries(id, entries, done, now),
            Answer::Fetched { id, payload } => shard.handle_fetched(id, payload.as_ref()),
            Answer::Receipt { id, receipt } => shard.handle_receipt(id, receipt, now),
            Answer::Found { id, tasks } => shard.handle_found(id, &tasks, now),
            Answer::Sent { id, position } => shard.handle_sent(id, position, now),
            Answer::Local { run, step, result } => shard.handle_local(run, step, result, now),
        }
    }

    fn send(&mut self, owner: usize, outgoing: Outgoing) -> Option<Position> {
        match outgoing {
            Outgoing::Task(task) => {
                self.trace.push(format!("{owner} task {}", task.activity));
                self.queue.push(*task);
                self.queued_at.push(self.log.len());
                return Some(queue_position(self.queue.len() - 1));
            }
            Outgoing::Wake(wake) => {
                self.trace.push(format!("{owner} wake"));
                self.timers.push(wake);
            }
            Outgoing::Event(event) => {
                self.trace.push(format!("{owner} tell {}", event.body.kind().unwrap_or_default()));
                if shard::of(&event.workflow_id, self.shards) == self.shard {
                    self.publish(vec![*event]);
                } else {
                    self.outside.push(*event);
                }
            }
            Outgoing::DeadEvent(_) => self.buried += 1,
        }
        None
    }

    /// The event that says how a task ended.
    pub fn settled(&self, task: &Task, outcome: Outcome) -> Event {
        Event {
            id: EventId::derived(task.run_id, task.step, "settled"),
            workflow_id: task.workflow_id.clone(),
            run_id: Some(task.run_id),
            exact: false,
            sent_at: self.now,
            reply_to: None,
            again: false,
            body: Body::of(&EventBody::ActivitySettled { step: task.step, attempt: 1, outcome }),
        }
    }

    /// The wake-up as it arrives in the inbox.
    /// An attempt that its worker left to be completed from outside.
    pub fn left(&self, task: &Task) -> Event {
        let Task { step, attempt, .. } = *task;
        let until = self.now.after(Duration::from_millis(task.options.start_to_close_ms));
        let body = EventBody::AttemptLeft { step, attempt, until, task: Box::new(task.clone()), running: false };
        self.told(task, &format!("attempt {attempt} left"), &body)
    }

    /// A worker judges an attempt that failed from outside: the next one is in its queue at once.
    pub fn judged(&mut self, task: &Task, failure: Failure) -> Event {
        let Task { step, attempt, .. } = *task;
        let body =
            EventBody::AttemptFailed { step, attempt, failure: failure.clone(), next: NextAttempt::At(self.now) };
        self.queue.push(task.next_attempt(failure));
        self.queued_at.push(self.log.len());
        self.told(task, &format!("attempt {attempt} failed"), &body)
    }

    fn told(&self, task: &Task, what: &str, body: &EventBody) -> Event {
        Event {
            id: EventId::derived(task.run_id, task.step, what),
            workflow_id: task.workflow_id.clone(),
            run_id: Some(task.run_id),
            exact: false,
            sent_at: self.now,
            reply_to: None,
            again: false,
            body: Body::of(body),
        }
    }

    pub fn wake(&mut self, wake: Wake) -> Event {
        self.event("_wake", None, &EventBody::Wake { shard: wake.shard, number: wake.number })
    }

    /// The frames that stand, by the rule, and how many are void.
    pub fn chain(&self) -> (Vec<Frame>, usize) {
        let (mut chain, mut standing, mut void) = (chain::Chain::new(), Vec::new(), 0);
        for (position, payload) in &self.log {
            match chain.offer(*position, payload) {
                chain::Offered::Stands(frame) => standing.push(frame),
                chain::Offered::Void(_) | chain::Offered::Unreadable(_) => void += 1,
                // Who knows no more reads no further.
                chain::Offered::Unknown(_) if self.refusals.is_some() => break,
                other => panic!("{other:?}"),
            }
        }
        (standing, void)
    }

    /// What was recorded, without what only repeats it.
    pub fn records(&self) -> Vec<Record> {
        self.chain().0.into_iter().flat_map(|frame| frame.records).filter(|record| !repeats(record)).collect()
    }

    /// The result of a run, as history has it.
    pub fn result(&self, id: &str) -> Option<Outcome> {
        let records = self.records();
        let goes_on = |close: &Close| close.status == CloseStatus::ContinuedAsNew;
        let of_id = records.iter().filter(|record| record.workflow_id.as_str() == id);
        let mut closes = of_id.filter_map(|record| record.close.clone()).filter(|close| !goes_on(close));
        let close = closes.next();
        assert!(closes.next().is_none(), "a run ends once");
        close.map(|close| close.outcome)
    }

    pub fn unacked(&self) -> usize {
        self.inbox.iter().flatten().count()
    }

    pub fn traced(&self, what: &str) -> usize {
        self.trace.iter().filter(|line| line.contains(what)).count()
    }
}

/// Whether a record only carries forward what others say.
pub fn repeats(record: &Record) -> bool {
    let body = record.body();
    matches!(body, Ok(RecordBody::Carried { .. } | RecordBody::Remembered { .. } | RecordBody::TagReached { .. }))
}

pub fn payload<T: serde::Serialize>(value: &T) -> Payload {
    Payload::encode(value).expect("test values can be encoded")
}

pub fn done<T: serde::Serialize>(value: &T) -> Outcome {
    Outcome::Done(payload(value))
}

pub fn decode_frame(payload: &Bytes) -> Frame {
    decode(payload).expect("the engine writes frames")
}

/// An end in a word, with the value if it is a number or a text.
pub fn shown(close: &Close) -> String {
    match &close.outcome {
        Outcome::Done(value) => match (value.decode::<u64>(), value.decode::<String>()) {
            (Ok(number), _) => number.to_string(),
            (_, Ok(text)) => text,
            _ => "done".to_owned(),
        },
        Outcome::Failed(failure) => format!("{:?}", failure.kind).to_lowercase(),
    }
}

/// Where a task of the queue stands in its topic.
fn queue_position(place: usize) -> Position {
    Position { ledger: 7, entry: place as u64 }
}

/// What every activity of the tests comes to: twice the number that it is given.
pub fn outcome_of(task: &Task) -> Outcome {
    let args: BTreeMap<String, u64> = task.args.decode().expect("activities of the tests take numbers");
    done(&args.values().map(|n| n * 2).sum::<u64>())
}
