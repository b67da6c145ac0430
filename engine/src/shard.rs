//! The shard: what is read, appended, proven, sent and acknowledged, in which order.
//!
//! ```text
//!          first input                    inputs            receipt follows what was read
//!   Cold ─────────────► Loading ─► Ready ───────► Appending ──────────────────────────────► Ready
//!    ▲                     ▲         │ nothing to      │ otherwise: read on
//!    │ void, and nothing   │         ▼ append          ▼
//!    └───────────┐         │      Checking          Proving ─► stands ─► Ready
//!                └─────────┴─────────┴─ a foreign frame stands ─┴─ void, or no receipt
//! ```
//!
//! One frame is in flight at a time; what arrives meanwhile forms the next round. So a round costs one
//! receipt, however many inputs it has, and nothing is ever polled on a frame whose fate is open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use everpulse_protocol::chain::{Chain, Opening};
use everpulse_protocol::event::Event;
use everpulse_protocol::history::{Frame, Hash};
use everpulse_protocol::shard::Config;
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::task::Task;
use everpulse_protocol::{EventId, Position, RunId, Timestamp, WriterId, encode};
use everpulse_sdk::definition::Registry;

use crate::attempt::AttemptId;
use crate::book::Book;
use crate::effect::{Delivery, DeliveryToken, Effect, LocalResult, SendId};
use crate::holds::{HOLD_MS_MAX, Holds, Locals, Unsent};
use crate::mutation::{self, Mutation};
use crate::round::{RECORD_BYTES_MAX, Refusals, Round};
use crate::run::RUN_TIMER;
use crate::shelf::Shelf;
use crate::{Set, wake};

mod cache;
mod carry;
mod early;
mod fate;
mod fetch;
mod gather;
mod local;
mod marks;
mod news;
mod parked;
mod recover;
mod release;
mod tasks;

use cache::{Cached, Pace};
use carry::{Carry, Heard};
use early::EarlySignals;
use fate::ReadOn;
use marks::Marks;
use news::Doubt;
use parked::Revival;
use tasks::Search;

/// Whether this process can run an activity at once instead of through its queue.
pub trait Eager {
    /// Takes a slot, if there is a free one and the task is fit for it.
    fn reserve(&self, task: &Task) -> bool;
    /// Gives a slot back that was not used.
    fn release(&self, task: EventId);
    /// Whether this process runs such tasks at all.
    fn serves(&self, task: &Task) -> bool;
}

/// Every activity goes through its queue.
#[derive(Debug, Clone, Copy)]
pub struct NoEager;

impl Eager for NoEager {
    fn reserve(&self, _: &Task) -> bool {
        false
    }
    fn release(&self, _: EventId) {}
    fn serves(&self, _: &Task) -> bool {
        false
    }
}

/// What can be set for a shard.
#[derive(Debug, Clone)]
pub struct Options {
    /// Larger results, arguments and ends are refused.
    pub payload_bytes_max: usize,
    /// An end that would make its record longer is refused, whatever is allowed for values: values that lie elsewhere are
    /// short here.
    pub record_bytes_max: usize,
    /// So many futures stay alive; the other open runs are replayed when something happens to them.
    pub live_runs_max: usize,
    /// So many open runs that only wait are kept at hand; the others lie on the shelf.
    pub runs_at_hand_max: usize,
    /// What is known is saved on the shelf when history has grown by so many bytes, and by as much as was saved last.
    pub save_bytes_min: u64,
    /// History that is younger is kept, in milliseconds; older history when all that is needed of it was carried
    /// forward.
    pub retention_ms: u64,
    /// So long, in milliseconds, ids of closed runs and of inputs are remembered; at least the retention. Inputs that
    /// were issued three quarters of it ago (or five minutes less than all of it, if that is more) are refused unless
    /// they are known; so are those that were issued as much ahead of recorded time as they may be late.
    pub id_memory_ms: u64,
    /// History is trimmed when at least so many bytes can go, and more where more has to be carried.
    pub trim_bytes_min: u64,
    /// What the worker says that it was built from; none: what the workflow's crate says.
    pub build: Option<String>,
    /// When a run's history has become so long, that is logged.
    pub history_warning: HistorySize,
    /// When a run's history has become so long, the run fails.
    pub history_limit: HistorySize,
    /// After each event a run is replayed from its beginning, and parked if that comes to something else.
    pub check_determinism: bool,
}

impl Default for Options {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 3_600_000;
        Self {
            payload_bytes_max: 1024 * 1024,
            record_bytes_max: RECORD_BYTES_MAX,
            live_runs_max: 2_000,
            runs_at_hand_max: 1_000,
            save_bytes_min: 1024 * 1024,
            retention_ms: DAY_MS,
            id_memory_ms: DAY_MS,
            trim_bytes_min: 64 * 1024,
            build: None,
            history_warning: HistorySize { events: 10_240, bytes: 10 * 1024 * 1024 },
            history_limit: HistorySize { events: 51_200, bytes: 50 * 1024 * 1024 },
            check_determinism: false,
        }
    }
}

/// What a shard is about, for logs, tests and the end of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// History is not loaded, or thrown away again.
    pub cold: bool,
    /// Nothing arrived that is not dealt with: no round, no unconfirmed send, no held input.
    pub idle: bool,
    pub open_runs: usize,
    pub live_runs: usize,
    pub local_work: usize,
    /// Messages that are not acknowledged.
    pub held: usize,
    /// Frames of ours that turned out void.
    pub voids: u64,
    /// Runs that ended in frames of ours.
    pub runs_closed: u64,
    /// Runs that stand still.
    pub parked_runs: usize,
    /// How often parked runs were tried again, and how often one went on.
    pub revivals: (u64, u64),
    /// The next frame's number.
    pub next_number: u64,
    /// The first frame that is needed, as far as that was carried.
    pub first_needed: u64,
}

/// One shard of runs.
pub struct Shard {
    shard: u32,
    writer: WriterId,
    config: Config,
    registry: Arc<Registry>,
    eager: Rc<dyn Eager>,
    options: Options,
    phase: Phase,
    chain: Chain,
    /// The chain while it is loaded.
    opening: Opening,
    book: Book,
    carry: Carry,
    pace: Pace,
    effects: VecDeque<Effect>,
    next_id: u64,

    deliveries: BTreeMap<DeliveryToken, Kept>,
    arrived: VecDeque<DeliveryToken>,
    heard: Heard,
    early: EarlySignals,
    local_results: VecDeque<(RunId, u32, LocalResult)>,

    sends: BTreeMap<SendId, InFlight>,
    /// Tasks among them, and those that are looked for in their queues: the first one of a step, or one that goes back.
    tasks_in_flight: Set<AttemptId>,
    /// What runs are told among them.
    told_in_flight: Set<EventId>,
    unsent: Unsent,
    /// All commands of the frames below this are known to be sent.
    sent_floor: u64,
    marks: Marks,
    holds: Holds,
    locals: Locals,
    /// Local work that runs in this process.
    running: BTreeSet<(RunId, u32)>,
    /// Of these, what nobody here could do: it was given to its queue, whose workers do it.
    handed: BTreeSet<(RunId, u32)>,
    search: Search,
    fetching: BTreeMap<u64, fetch::Fetching>,
    /// What has to be done once after loading.
    loaded: bool,
    /// Frames of ours that were taken for void and may stand.
    doubts: Vec<Doubt>,
    /// Runs for which known inputs came again, in rounds that came to nothing.
    news: BTreeSet<RunId>,
    /// Frames of this writer that asked for local work, which nobody else does, or, if they were read, for tasks, or that
    /// ended an attempt whose task goes back.
    own_frames: BTreeSet<u64>,
    /// Runs that are still to be looked at after loading.
    recovering: VecDeque<RunId>,
    /// Runs whose first received input was tried before, by others.
    trials: VecDeque<RunId>,
    /// Inputs that this process took in and that did not take it down.
    survived: Set<EventId>,
    /// Of updates.
    refusals: Refusals,
    /// The number after the last frame that was loaded or proven here.
    proven_next: u64,
    /// Runs whose tasks may be unsent and cannot be rebuilt now, with the first such frame.
    parked_unsent: BTreeMap<RunId, u64>,
    wakes_in_flight: BTreeSet<u64>,
    revival: Revival,
    draining: bool,
    voids: u64,
    runs_closed: u64,
    holes: u32,
}

/// A delivery that is not acknowledged, with what has to be applied again after a void frame.
#[derive(Debug)]
struct Kept {
    events: Vec<Event>,
    suspect: bool,
    next: usize,
    /// The last series of runs that the next one, a signal to all with a tag, was given to in the frame before.
    tagged_after: Option<RunId>,
    /// Events of it among the early ones.
    early: usize,
    /// Since when these wait by this worker's clock, however often they are applied again.
    early_since: Option<Timestamp>,
    /// All of it is in a round.
    taken: bool,
    runs: Vec<RunId>,
    since: Timestamp,
    /// What events before this one say took effect here: that they are known when they are applied again is no news.
    heeded: usize,
}

impl Kept {
    /// Hands it to the round that took the last of its events.
    fn finish(&mut self, token: DeliveryToken, round: &mut Round) {
        if self.early == 0 && self.next == self.events.len() && !std::mem::replace(&mut self.taken, true) {
            round.taken.push((token, std::mem::take(&mut self.runs)));
        }
    }
}

#[derive(Debug)]
struct InFlight {
    frame: u64,
    task: Option<(AttemptId, String)>,
    wake: Option<u64>,
    /// What a run is told.
    told: Option<EventId>,
}

#[derive(Debug)]
enum Phase {
    Cold,
    LoadCache { id: u64, cached: Box<Cached> },
    LoadTail { id: u64 },
    LoadRead { id: u64, to: Position },
    Ready,
    CheckTail { id: u64, round: Box<Round> },
    CheckRead { id: u64, to: Position, round: Box<Round> },
    Appending { id: u64, flight: Box<Flight> },
    ProveTail { id: u64, flight: Box<Flight>, found: Option<Position> },
    ProveRead { id: u64, to: Position, flight: Box<Flight>, found: Option<Position> },
    Refused,
}

/// A frame on its way, with what follows if it stands.
#[derive(Debug)]
struct Flight {
    number: u64,
    hash: Hash,
    bytes: usize,
    at: Timestamp,
    round: Round,
    locals: Vec<(RunId, u32, LocalResult)>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("shard", &self.shard).field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Shard {
    /// A shard of which nothing is loaded yet.
    #[must_use]
    pub fn new(
        shard: u32,
        writer: WriterId,
        config: Config,
        registry: Arc<Registry>,
        eager: Rc<dyn Eager>,
        options: Options,
    ) -> Self {
        Self {
            shard,
            writer,
            config,
            registry,
            eager,
            options,
            phase: Phase::Cold,
            chain: Chain::new(),
            opening: Opening::new(),
            book: Book::default(),
            carry: Carry::default(),
            pace: Pace::default(),
            effects: VecDeque::new(),
            next_id: 0,
            deliveries: BTreeMap::new(),
            arrived: VecDeque::new(),
            heard: Heard::default(),
            early: EarlySignals::default(),
            local_results: VecDeque::new(),
            sends: BTreeMap::new(),
            tasks_in_flight: Set::default(),
            told_in_flight: Set::default(),
            unsent: Unsent::default(),
            sent_floor: 0,
            marks: Marks::default(),
            holds: Holds::default(),
            locals: Locals::new(),
            running: BTreeSet::new(),
            handed: BTreeSet::new(),
            search: Search::default(),
            fetching: BTreeMap::new(),
            loaded: false,
            doubts: Vec::new(),
            news: BTreeSet::new(),
            own_frames: BTreeSet::new(),
            recovering: VecDeque::new(),
            trials: VecDeque::new(),
            survived: Set::default(),
            refusals: Refusals::default(),
            proven_next: 0,
            parked_unsent: BTreeMap::new(),
            wakes_in_flight: BTreeSet::new(),
            revival: Revival::default(),
            draining: false,
            voids: 0,
            runs_closed: 0,
            holes: 0,
        }
    }

    /// The same with a shelf for the runs that only wait; without, they stay in memory.
    #[must_use]
    pub fn on_shelf(mut self, shelf: Box<dyn Shelf>) -> Self {
        self.book = Book::on(shelf);
        self
    }

    /// What to do next; call until there is nothing.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::handle_tick`] wants to be called; never for none.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Timestamp> {
        let search = self.search.deadline();
        if !matches!(self.phase, Phase::Ready) {
            return search;
        }
        let timer = self.book.timers.iter().find(|(_, run, no)| self.can_fire(*run, *no)).map(|(due, ..)| *due);
        let early = self.early.deadline().filter(|_| self.arrived.is_empty());
        let hold = self
            .holds
            .iter()
            .filter(|hold| self.wants_cover(hold))
            .map(|hold| Timestamp(hold.since.0 + HOLD_MS_MAX))
            .min();
        let unseen =
            self.locals.iter().filter(|(key, _)| !self.running.contains(key)).map(|(_, local)| local.deadline).min();
        let revival = self.revival.deadline();
        [search, timer, early, hold, unseen, revival, self.carrying_due()].into_iter().flatten().min()
    }

    fn can_fire(&self, run: RunId, no: u32) -> bool {
        self.book.may_fire(run, no) && (no == RUN_TIMER || !self.book.ready.contains(&run))
    }

    /// What the shard is about.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            cold: matches!(self.phase, Phase::Cold),
            idle: matches!(self.phase, Phase::Ready | Phase::Cold | Phase::Refused)
                && self.arrived.is_empty()
                && self.local_results.is_empty()
                && self.sends.is_empty()
                && self.search.is_over()
                && self.holds.is_empty()
                && self.early.is_empty(),
            open_runs: self.book.open_runs(),
            live_runs: self.book.runs.values().filter(|run| run.live.is_some()).count(),
            local_work: self.running.len() - self.handed.len(),
            held: self.deliveries.len(),
            voids: self.voids,
            runs_closed: self.runs_closed,
            parked_runs: self.book.parked.len(),
            revivals: (self.revival.tries, self.revival.successes),
            next_number: self.chain.next_number(),
            first_needed: self.book.window.first,
        }
    }

    /// A message of the inbox.
    pub fn handle_delivery(&mut self, delivery: Delivery, now: Timestamp) {
        let Delivery { token, frame, suspect } = delivery;
        let newest = frame.events.iter().map(|event| event.sent_at).max();
        (self.heard.last, self.heard.newest) = (now, newest.unwrap_or_default().max(self.heard.newest));
        let kept = Kept {
            events: frame.events,
            suspect,
            next: 0,
            tagged_after: None,
            early: 0,
            early_since: None,
            taken: false,
            runs: Vec::new(),
            since: now,
            heeded: 0,
        };
        self.deliveries.insert(token, kept);
        self.arrived.push_back(token);
        self.advance(now);
    }

    /// Local work came to an end.
    pub fn handle_local(&mut self, run: RunId, step: u32, result: LocalResult, now: Timestamp) {
        self.local_results.push_back((run, step, result));
        self.advance(now);
    }

    /// The clock has reached [`Self::poll_deadline`].
    pub fn handle_tick(&mut self, now: Timestamp) {
        self.advance(now);
    }

    /// The worker leaves: no new inputs will come; marks of what was sent are written down.
    pub fn handle_drain(&mut self, now: Timestamp) {
        self.draining = true;
        self.advance(now);
    }

    /// The answer to [`Effect::AskTail`].
    pub fn handle_tail(&mut self, id: u64, tail: Option<Position>, now: Timestamp) {
        match std::mem::replace(&mut self.phase, Phase::Cold) {
            Phase::LoadTail { id: asked } if asked == id => match tail {
                Some(to) if self.opening.read_to().is_none_or(|read_to| to > read_to) => {
                    let id = self.read(self.opening.read_to(), to);
                    self.phase = Phase::LoadRead { id, to };
                }
                // The tail, asked for after all was read, is what was read: nothing was trimmed under us.
                _ => self.loaded(),
            },
            Phase::CheckTail { id: asked, round } if asked == id => match tail {
                Some(to) if self.chain.read_to().is_none_or(|read_to| to > read_to) => {
                    let id = self.read(self.chain.read_to(), to);
                    self.phase = Phase::CheckRead { id, to, round };
                }
                _ => self.current(*round, now),
            },
            Phase::ProveTail { id: asked, flight, found } if asked == id => match (tail, found) {
                (Some(to), _) if self.chain.read_to().is_none_or(|read_to| to > read_to) => {
                    let id = self.read(self.chain.read_to(), to);
                    self.phase = Phase::ProveRead { id, to, flight, found };
                }
                (_, Some(position)) => self.stands(*flight, Some(position), now),
                // The frame is not there, and may still come: appending a rival decides it.
                (_, None) => self.void(*flight),
            },
            other => self.phase = other,
        }
        self.advance(now);
    }

    /// Entries that answer [`Effect::Read`]; `done` with the last ones.
    pub fn handle_entries(&mut self, id: u64, entries: Vec<(Position, Bytes)>, done: bool, now: Timestamp) {
        match std::mem::replace(&mut self.phase, Phase::Cold) {
            Phase::LoadRead { id: asked, to } if asked == id => self.load(id, to, entries, done),
            Phase::CheckRead { id: asked, to, round } if asked == id => match self.read_on(&entries, None) {
                ReadOn::Foreign if mutation::is(Mutation::ForeignIsNothing) => self.current(*round, now),
                ReadOn::Foreign | ReadOn::Hole => self.throw_away(*round, Vec::new()),
                ReadOn::Unknown(unknown) => self.give_up(*round, Vec::new(), &unknown),
                // What lay between may have been trimmed: the tail is asked for again.
                ReadOn::Nothing | ReadOn::Ours(_) if done => {
                    let id = self.ask_tail();
                    self.phase = Phase::CheckTail { id, round };
                }
                ReadOn::Nothing | ReadOn::Ours(_) => self.phase = Phase::CheckRead { id, to, round },
            },
            Phase::ProveRead { id: asked, to, flight, found } if asked == id => {
                // Once it was found, anything that stands behind it is foreign.
                let ours = found.is_none().then_some(flight.hash);
                match self.read_on(&entries, ours) {
                    ReadOn::Foreign if found.is_some() => self.overtaken(*flight),
                    ReadOn::Foreign | ReadOn::Hole => self.void(*flight),
                    ReadOn::Unknown(unknown) => self.give_up(flight.round, flight.locals, &unknown),
                    // It is believed when the tail is reached: a rival before it may have been trimmed.
                    ReadOn::Ours(position) => {
                        let id = self.ask_tail();
                        self.phase = Phase::ProveTail { id, flight, found: position };
                    }
                    ReadOn::Nothing if done && found.is_none() => self.void(*flight),
                    ReadOn::Nothing if done => {
                        let id = self.ask_tail();
                        self.phase = Phase::ProveTail { id, flight, found };
                    }
                    ReadOn::Nothing => self.phase = Phase::ProveRead { id, to, flight, found },
                }
            }
            other => self.phase = other,
        }
        self.advance(now);
    }

    /// The answer to [`Effect::Append`]: the receipt's position, none for a duplicate's receipt; an error when the
    /// outcome is open.
    pub fn handle_receipt<E>(&mut self, id: u64, receipt: Result<Option<Position>, E>, now: Timestamp) {
        match std::mem::replace(&mut self.phase, Phase::Cold) {
            Phase::Appending { id: asked, flight } if asked == id => match receipt {
                Ok(Some(_)) if mutation::is(Mutation::AnyReceiptProves) && self.believe(flight.hash) => {
                    self.stands(*flight, None, now);
                }
                Err(_) if mutation::is(Mutation::NoReceiptProves) && self.believe(flight.hash) => {
                    self.stands(*flight, None, now);
                }
                Ok(receipt) if self.chain.prove(flight.hash, receipt) => {
                    let position = self.chain.tail().map(|tail| tail.position);
                    self.stands(*flight, position, now);
                }
                Ok(Some(to)) if self.chain.read_to().is_none_or(|read_to| to > read_to) => {
                    let id = self.read(self.chain.read_to(), to);
                    self.phase = Phase::ProveRead { id, to, flight, found: None };
                }
                // A receipt without a position, or none at all: what the partition holds decides.
                Ok(_) | Err(_) => {
                    let id = self.ask_tail();
                    self.phase = Phase::ProveTail { id, flight, found: None };
                }
            },
            other => self.phase = other,
        }
        self.advance(now);
    }

    /// The confirmation of [`Effect::Send`].
    pub fn handle_sent(&mut self, id: SendId, position: Option<Position>, now: Timestamp) {
        if let Some(sent) = self.sends.remove(&id) {
            self.unsent.confirm(sent.frame);
            if let Some(wake) = sent.wake {
                self.wakes_in_flight.remove(&wake);
            }
            if let Some(told) = sent.told {
                self.told_in_flight.remove(&told);
            }
            if let Some((task, queue)) = sent.task {
                self.tasks_in_flight.remove(&task);
                if let Some(position) = position {
                    self.marks.confirmed(queue, position, self.proven_next);
                }
            }
        }
        self.settle_holds(now);
        self.advance(now);
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn ask_tail(&mut self) -> u64 {
        let id = self.fresh_id();
        self.effects.push_back(Effect::AskTail { id });
        id
    }

    fn read(&mut self, after: Option<Position>, to: Position) -> u64 {
        let id = self.fresh_id();
        self.effects.push_back(Effect::Read { id, after, to });
        id
    }

    /// Goes as far as the phase allows.
    fn advance(&mut self, now: Timestamp) {
        self.look_again(now);
        match self.phase {
            Phase::Cold if !self.arrived.is_empty() || !self.local_results.is_empty() => {
                self.begin_loading();
            }
            Phase::Ready => {
                let asked = self.ask_for_cover(now);
                self.begin_round(now, asked);
                self.settle_holds(now);
            }
            _ => {}
        }
    }

    /// Applies what there is, and appends it or asks whether the book is current.
    ///
    /// `asked`: a hold has just asked for cover.
    fn begin_round(&mut self, now: Timestamp, asked: bool) {
        let at = if mutation::is(Mutation::TimeGoesBack) { now } else { now.max(self.book.at) };
        let mut round = Round::default();
        let mut locals = Vec::new();
        let number = self.chain.next_number();
        if self.book.shelved.is_damaged() {
            return self.begin_anew(round, locals);
        }
        self.recover(&mut round, number, at, now);
        if round.records.is_empty() {
            self.gather(&mut round, &mut locals, number, (at, now));
        }
        self.heard.witnessed = self.heard.witnessed.max(round.witnessed);
        self.carry_forward(&mut round, number, at);
        round.orphaned.extend(std::mem::take(&mut self.news));
        round.unseen = self.unseen(&round, at);
        // Neither is work started twice, nor a hold given up, on the word of a book that may be old.
        round.decides |= !round.unseen.is_empty() || asked;
        if self.book.shelved.is_damaged() {
            return self.begin_anew(round, locals);
        }
        let all = round.wake_served && !mutation::is(Mutation::BeginsUncovered);
        let need = wake::need(&self.book, &self.locals, all, self.has_to_carry(), at);
        let uncovered = self.begins_uncovered(&round, at);
        let need = need.map(|due| uncovered.map_or(due, |uncovered| due.min(uncovered)));
        let current = if round.wake_served { None } else { self.book.wake };
        let missing =
            wake::is_missing(current, need, at) && !(round.wake_served && mutation::is(Mutation::NoSuccessor));
        let sent_below = match mutation::is(Mutation::MarksUnsent) {
            true => number,
            false => self.sent_below(number),
        };
        let last_marks = self.draining && self.book.sent_below < sent_below && self.sends.is_empty();
        if last_marks {
            self.draining = false;
        }
        let append = !round.records.is_empty() || missing || round.wake_served || last_marks;
        if !append {
            if round.decides && !mutation::is(Mutation::AnswersUnchecked) {
                let id = self.ask_tail();
                self.phase = Phase::CheckTail { id, round: Box::new(round) };
            } else {
                // All that was said is in history already.
                self.release(round, None, now);
            }
            return;
        }
        let mut applier = self.applier(&mut round, number, at);
        let wake = match need {
            Some(due) if missing => Some(applier.name_wake(due)),
            _ => current,
        };
        let frame = Frame {
            shard: self.shard,
            number,
            previous: self.chain.next_previous(),
            writer: self.writer,
            verified: self.chain.verified(),
            at,
            config: self.config_of(number, &round),
            wake,
            sent_below,
            queues: self.queue_marks(sent_below, round.ends_carrying),
            records: std::mem::take(&mut round.records),
        };
        let payload = encode(&frame);
        self.book.absorb_header(&frame);
        round.touched = frame.records.iter().filter(|r| r.close.is_none()).map(|r| r.run_id).collect();
        round.touched.sort_unstable();
        round.touched.dedup();
        self.leave_early(&mut round, number);
        let id = self.fresh_id();
        let flight = Flight { number, hash: Hash::of(&payload), bytes: payload.len(), at, round, locals };
        self.effects.push_back(Effect::Append { id, payload });
        self.phase = Phase::Appending { id, flight: Box::new(flight) };
    }

    /// What the application fixed: said by the first frame, and by those before which history may go.
    fn config_of(&self, number: u64, round: &Round) -> Option<Config> {
        let first = number == 0 && !mutation::is(Mutation::ConfigUnsaid);
        let carried = round.ends_carrying && !mutation::is(Mutation::ConfigNotCarried);
        (first || carried).then(|| self.config.clone())
    }

    /// Of a mutation: takes a frame for the next one, unseen.
    fn believe(&mut self, hash: Hash) -> bool {
        let next = self.chain.read_to().map(|at| Position { entry: at.entry + 1, ..at });
        self.chain.prove(hash, next)
    }

    /// Of mutations: what should wait for the frame does not.
    fn leave_early(&mut self, round: &mut Round, number: u64) {
        if mutation::is(Mutation::SendsEarly) {
            for outgoing in std::mem::take(&mut round.sends) {
                self.send(number, outgoing);
            }
        }
        if mutation::is(Mutation::StartsEarly) {
            for start in std::mem::take(&mut round.starts) {
                self.start(start);
            }
        }
        if mutation::is(Mutation::AnswersEarly) {
            for (client, reply) in std::mem::take(&mut round.replies) {
                self.effects.push_back(Effect::Reply { client, reply });
            }
        }
        if mutation::is(Mutation::AcksEarly) {
            for (token, _) in std::mem::take(&mut round.taken) {
                self.deliveries.remove(&token);
                self.effects.push_back(Effect::Ack { token });
            }
        }
    }
}
