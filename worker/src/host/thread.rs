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
use everpulse_engine::{Delivery, Eager, LocalResult, Options, SendId, Shard, Status};
use everpulse_protocol::shard::Config;
use everpulse_protocol::{EventId, Position, RunId, WriterId};
use everpulse_sdk::definition::Registry;

use super::carrier::Carrier;
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
    let mut shards: BTreeMap<u32, Shard> = BTreeMap::new();
    let mut lives: BTreeMap<u32, Life> = BTreeMap::new();
    loop {
        let wait = shards
            .values()
            .filter_map(Shard::poll_deadline)
            .min()
            .map_or(IDLE, |deadline| clock::until(deadline).min(IDLE));
        let mut touched = BTreeSet::new();
        match inbox.recv_timeout(wait) {
            Ok(message) => {
                let burst = std::iter::once(message).chain(inbox.try_iter()).take(BURST);
                for message in burst {
                    match message {
                        Message::Arrived { shard, life, arrival } => {
                            if life != life_of(&lives, shard) && !arrival.is_for_any_life() {
                                continue;
                            }
                            let state = shards.entry(shard).or_insert_with(|| {
                                Shard::new(
                                    shard,
                                    shared.writer,
                                    shared.config.clone(),
                                    shared.registry.clone(),
                                    eager.clone(),
                                    shared.options.clone(),
                                )
                            });
                            if survives(|| handle(state, arrival)) {
                                touched.insert(shard);
                            } else {
                                give_up(&mut shards, &mut lives, shard, carrier);
                            }
                        }
                        Message::Drain => {
                            for (number, shard) in &mut shards {
                                shard.handle_drain(clock::now());
                                touched.insert(*number);
                            }
                        }
                        Message::Status(answer) => {
                            // Nobody waits for it any more if this fails.
                            let _ =
                                answer.send(shards.iter().map(|(number, shard)| (*number, shard.status())).collect());
                        }
                        Message::Stop => return,
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = clock::now();
        let due: Vec<u32> = shards
            .iter()
            .filter(|(_, shard)| shard.poll_deadline().is_some_and(|deadline| deadline <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            let Some(shard) = shards.get_mut(&number) else { continue };
            if survives(|| shard.handle_tick(now)) {
                touched.insert(number);
            } else {
                give_up(&mut shards, &mut lives, number, carrier);
            }
        }
        for number in touched {
            let Some(shard) = shards.get_mut(&number) else { continue };
            while let Some(effect) = shard.poll_effect() {
                carrier.carry_out(number, life_of(&lives, number), effect, mailbox);
            }
        }
    }
}

fn life_of(lives: &BTreeMap<u32, Life>, shard: u32) -> Life {
    lives.get(&shard).copied().unwrap_or(0)
}

/// Whether a shard's code came to its end. Panics of workflows are caught in the sdk; one that arrives here is a
/// broken invariant of ours.
fn survives(work: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()
}

/// Throws a broken shard away: what it held comes again, and history is read anew.
fn give_up(shards: &mut BTreeMap<u32, Shard>, lives: &mut BTreeMap<u32, Life>, shard: u32, carrier: &Carrier) {
    tracing::error!(shard, "a shard broke an invariant and is read anew; please report the panic above");
    shards.remove(&shard);
    *lives.entry(shard).or_default() += 1;
    carrier.hand_back(shard);
}

fn handle(shard: &mut Shard, arrival: Arrival) {
    let now = clock::now();
    match arrival {
        Arrival::Delivery(delivery) => shard.handle_delivery(delivery, now),
        Arrival::Tail { id, tail } => shard.handle_tail(id, tail, now),
        Arrival::Entries { id, entries, done } => shard.handle_entries(id, entries, done, now),
        Arrival::Receipt { id, receipt } => shard.handle_receipt(id, receipt, now),
        Arrival::Sent { id, position } => shard.handle_sent(id, position, now),
        Arrival::Found { id, tasks } => shard.handle_found(id, &tasks, now),
        Arrival::Fetched { id, payload } => shard.handle_fetched(id, payload.as_ref()),
        Arrival::Local { run, step, result } => shard.handle_local(run, step, result, now),
    }
}
