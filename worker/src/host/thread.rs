//! An engine thread: it owns shards, hands them what arrives, and gives their effects to the carrier.
//!
//! Workflow futures live and are polled here and nowhere else, so they need not be `Send`. A shard is always on
//! the same thread.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use bytes::Bytes;
use everpulse_engine::{Delivery, Eager, Effect, LocalResult, Options, SendId, Shard, Shelf as _, Status};
use everpulse_protocol::shard::Config;
use everpulse_protocol::{EventId, Position, RunId, Timestamp, WriterId};
use everpulse_sdk::definition::Registry;
use tokio::sync::OwnedSemaphorePermit;

use super::broken::{Broken, Turn};
use super::carrier::Carrier;
use crate::cache::Cache;
use crate::clock;

/// What arrives at an engine thread, for one of its shards.
#[derive(Debug)]
pub(super) enum Arrival {
    Delivery(Delivery),
    Tail {
        id: u64,
        tail: Option<Position>,
    },
    Entries {
        id: u64,
        entries: Vec<(Position, Bytes)>,
        done: bool,
        /// Held until the shard has taken them.
        taking: OwnedSemaphorePermit,
    },
    /// An error means that the outcome is open.
    Receipt {
        id: u64,
        receipt: Result<Option<Position>, ()>,
    },
    Sent {
        id: SendId,
        position: Option<Position>,
    },
    Found {
        id: u64,
        tasks: Vec<EventId>,
    },
    Fetched {
        id: u64,
        payload: Option<Bytes>,
    },
    Local {
        run: RunId,
        step: u32,
        result: LocalResult,
    },
}

/// How often a shard was thrown away before. Each begins to number its effects anew, so an answer to one that is gone
/// must not reach its successor.
pub(super) type Life = u32;

impl Arrival {
    /// It bears no number of an effect.
    fn is_for_any_life(&self) -> bool {
        matches!(self, Self::Delivery(_) | Self::Local { .. })
    }
}

/// What an engine thread is told.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all that it is told are arrivals")]
pub(super) enum Message {
    Arrived {
        shard: u32,
        /// Of the shard that asked for it.
        life: Life,
        arrival: Arrival,
    },
    /// Write down what was sent; no new inputs will come.
    Drain,
    Status(tokio::sync::oneshot::Sender<Vec<(u32, Status)>>),
    Stop,
}

/// What all shards of a worker share.
pub(super) struct Shared {
    pub writer: WriterId,
    pub config: Config,
    pub registry: Arc<Registry>,
    pub options: Options,
    pub cache: Option<Cache>,
}

/// The most messages that are handled before deadlines are looked at again.
const BURST: usize = 512;
/// The longest sleep when no shard has a deadline.
const IDLE: Duration = Duration::from_secs(3600);

/// Runs until it is told to stop, or nobody can tell it anything any more.
pub(super) fn run(
    inbox: &Receiver<Message>,
    mailbox: &Sender<Message>,
    shared: &Shared,
    carrier: &Carrier,
    eager: &Rc<dyn Eager>,
) {
    let mut thread = Thread { shards: BTreeMap::new(), broken: Broken::default(), shared, carrier, eager };
    loop {
        let wait = thread.deadline().map_or(IDLE, |deadline| clock::until(deadline).min(IDLE));
        let mut touched = BTreeSet::new();
        match inbox.recv_timeout(wait) {
            Ok(message) => {
                let burst = std::iter::once(message).chain(inbox.try_iter()).take(BURST);
                for message in burst {
                    match message {
                        Message::Arrived { shard, life, arrival } => {
                            if life != thread.broken.life(shard) && !arrival.is_for_any_life() {
                                continue;
                            }
                            if thread.take(shard, arrival, clock::now()) {
                                touched.insert(shard);
                            }
                        }
                        Message::Drain => {
                            for (number, shard) in &mut thread.shards {
                                shard.handle_drain(clock::now());
                                touched.insert(*number);
                            }
                        }
                        Message::Status(answer) => {
                            let status = thread.shards.iter().map(|(number, shard)| (*number, shard.status()));
                            // Nobody waits for it any more if this fails.
                            let _ = answer.send(status.collect());
                        }
                        Message::Stop => {
                            for shard in thread.shards.values_mut() {
                                // One that breaks saves nothing; the others do.
                                survives(|| shard.handle_leave());
                            }
                            return;
                        }
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = clock::now();
        for (shard, arrival) in thread.broken.rested(now) {
            // It may have broken again by one that was kept before this.
            if thread.take(shard, arrival, now) {
                touched.insert(shard);
            }
        }
        touched.extend(thread.tick(now));
        for number in touched {
            let life = thread.broken.life(number);
            let Some(shard) = thread.shards.get_mut(&number) else { continue };
            let mut refused = false;
            while let Some(effect) = shard.poll_effect() {
                refused |= matches!(effect, Effect::Refuse { .. });
                carrier.carry_out(number, life, effect, mailbox);
            }
            if refused {
                thread.leave(number);
            }
        }
    }
}

/// The shards of one thread.
struct Thread<'a> {
    shards: BTreeMap<u32, Shard>,
    broken: Broken,
    shared: &'a Shared,
    carrier: &'a Carrier,
    eager: &'a Rc<dyn Eager>,
}

impl Thread<'_> {
    fn deadline(&self) -> Option<Timestamp> {
        self.shards.values().filter_map(Shard::poll_deadline).chain(self.broken.deadline()).min()
    }

    /// Hands a shard what arrived, unless it rests. True if it has it, and is well.
    fn take(&mut self, number: u32, arrival: Arrival, now: Timestamp) -> bool {
        match self.broken.turn(number, arrival, now) {
            Turn::Now(arrival) => self.handle(number, arrival),
            Turn::Kept => false,
            Turn::Back(token) => {
                self.carrier.give_back(token);
                false
            }
        }
    }

    /// Hands a shard what arrived; false if it broke.
    fn handle(&mut self, number: u32, arrival: Arrival) -> bool {
        let shared = self.shared;
        let shard = self.shards.entry(number).or_insert_with(|| {
            let (config, registry, options) = (shared.config.clone(), shared.registry.clone(), shared.options.clone());
            let shard = Shard::new(number, shared.writer, config, registry, self.eager.clone(), options);
            match &shared.cache {
                Some(cache) => shard.on_shelf(Box::new(cache.shelf(number))),
                None => shard,
            }
        });
        let well = survives(|| handle(shard, arrival));
        if !well {
            self.give_up(number);
        }
        well
    }

    /// Tells shards whose deadline has come; gives those that are well.
    fn tick(&mut self, now: Timestamp) -> Vec<u32> {
        let is_due = |shard: &Shard| shard.poll_deadline().is_some_and(|deadline| deadline <= now);
        let due = self.shards.iter_mut().filter(|(_, shard)| is_due(shard));
        let ticked: Vec<(u32, bool)> =
            due.map(|(number, shard)| (*number, survives(|| shard.handle_tick(now)))).collect();
        for (number, _) in ticked.iter().filter(|(_, well)| !well) {
            self.give_up(*number);
        }
        ticked.into_iter().filter(|(_, well)| *well).map(|(number, _)| number).collect()
    }

    /// Leaves a shard to others that cannot be served here. What it held is theirs if the broker gives it to them; what
    /// comes here again after a while lets history be looked at anew.
    fn leave(&mut self, shard: u32) {
        let rest = self.broken.fell(shard, clock::now());
        tracing::warn!(
            shard,
            "a shard is left to other workers; it is looked at again in {rest:?} if something comes for it"
        );
        self.shards.remove(&shard);
        self.carrier.hand_back(shard);
    }

    /// Throws a broken shard away: what it held comes again, and history is read anew after a while.
    fn give_up(&mut self, shard: u32) {
        let rest = self.broken.fell(shard, clock::now());
        tracing::error!(
            shard,
            "a shard broke an invariant; it rests for {rest:?} and is read anew then. Please report the panic above"
        );
        self.shards.remove(&shard);
        if let Some(cache) = &self.shared.cache {
            // What it knew may be what broke it.
            cache.shelf(shard).clear();
        }
        self.carrier.hand_back(shard);
    }
}

/// Whether a shard's code came to its end. Panics of workflows are caught in the sdk; one that arrives here is a
/// broken invariant of ours.
fn survives(work: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()
}

fn handle(shard: &mut Shard, arrival: Arrival) {
    let now = clock::now();
    match arrival {
        Arrival::Delivery(delivery) => shard.handle_delivery(delivery, now),
        Arrival::Tail { id, tail } => shard.handle_tail(id, tail, now),
        Arrival::Entries { id, entries, done, taking: _taking } => shard.handle_entries(id, entries, done, now),
        Arrival::Receipt { id, receipt } => shard.handle_receipt(id, receipt, now),
        Arrival::Sent { id, position } => shard.handle_sent(id, position, now),
        Arrival::Found { id, tasks } => shard.handle_found(id, &tasks, now),
        Arrival::Fetched { id, payload } => shard.handle_fetched(id, payload.as_ref()),
        Arrival::Local { run, step, result } => shard.handle_local(run, step, result, now),
    }
}
