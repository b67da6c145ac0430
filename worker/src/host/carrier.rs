//! Carries out the effects of shards: history, sends, local work, acks. What comes of them goes back to the
//! engine thread as arrivals.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use everpulse_engine::attempt::AttemptId;
use everpulse_engine::{DeliveryToken, Effect, LocalResult, Outgoing, SendId};
use everpulse_protocol::task::{Task, TaskFrame};
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{EventId, Failure, FailureKind, Position, RunId, decode, topic};
use everpulse_transport::{
    AckToken, Acker, ErrorKind, Message as Outbound, Piece, Publisher, PublisherOptions, Transport,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::eager::HostEager;
use super::observers::Observers;
use super::pieces::Pieces;
use super::returning::Returning;
use super::step;
use super::thread::{Arrival, Life, Message};
use crate::activity::ActivityRunner;
use crate::failpoint;
use crate::outbox::Outbox;

/// Waits between tries of what must succeed in the end.
pub(super) const RETRY: Duration = Duration::from_millis(200);

/// How often one entry is asked for again, where reading fails. Somebody waits for it, or a long way round is taken.
const FETCHES: usize = 5;

/// The intake waits while inbox messages of more than so many bytes are not acknowledged: what waits longer waits in
/// the broker.
const UNACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Inbox messages that are not acknowledged, by the token that the engine knows.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    held: Mutex<Held>,
    room: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Held {
    tokens: HashMap<DeliveryToken, Input>,
    bytes: usize,
}

#[derive(Debug)]
struct Input {
    shard: u32,
    ack: AckToken,
    bytes: usize,
}

impl Unacked {
    pub fn insert(&self, token: DeliveryToken, shard: u32, ack: AckToken, bytes: usize) {
        let mut held = lock(&self.held);
        held.bytes += bytes;
        held.tokens.insert(token, Input { shard, ack, bytes });
    }

    /// Returns when there is room for another message.
    pub async fn room(&self) {
        loop {
            let freed = self.room.notified();
            if lock(&self.held).bytes < UNACKED_BYTES_MAX {
                return;
            }
            freed.await;
        }
    }

    pub fn take(&self, token: DeliveryToken) -> Option<AckToken> {
        let mut held = lock(&self.held);
        let message = held.tokens.remove(&token)?;
        held.bytes -= message.bytes;
        self.room.notify_one();
        Some(message.ack)
    }

    fn take_all(&self, shard: u32) -> Vec<AckToken> {
        let mut held = lock(&self.held);
        let tokens: Vec<DeliveryToken> =
            held.tokens.iter().filter(|(_, message)| message.shard == shard).map(|(token, _)| *token).collect();
        let messages: Vec<Input> = tokens.iter().filter_map(|token| held.tokens.remove(token)).collect();
        held.bytes -= messages.iter().map(|message| message.bytes).sum::<usize>();
        self.room.notify_one();
        messages.into_iter().map(|message| message.ack).collect()
    }
}

/// Where local work of one engine thread runs, so that it can be cancelled.
type Running = Arc<Mutex<BTreeMap<(RunId, u32), AbortHandle>>>;

/// Carries out the effects of one engine thread.
pub(super) struct Carrier {
    pub runtime: Handle,
    pub transport: Transport,
    pub outbox: Outbox,
    pub runner: Option<ActivityRunner>,
    pub observers: Observers,
    pub eager: Rc<HostEager>,
    pub acker: Acker,
    pub unacked: Arc<Unacked>,
    returning: Arc<Returning>,
    history: Mutex<BTreeMap<u32, Publisher>>,
    running: Running,
}

impl Carrier {
    pub fn new(
        runtime: Handle,
        transport: Transport,
        outbox: Outbox,
        runner: Option<ActivityRunner>,
        observers: Observers,
        eager: Rc<HostEager>,
        returning: Arc<Returning>,
    ) -> Self {
        Self {
            runtime,
            transport,
            outbox,
            runner,
            observers,
            eager,
            acker: returning.acker.clone(),
            unacked: returning.unacked.clone(),
            returning,
            history: Mutex::default(),
            running: Running::default(),
        }
    }

    /// Carries out one effect of a shard.
    pub fn carry_out(&self, shard: u32, life: Life, effect: Effect, mailbox: &Sender<Message>) {
        // Only here: inside workflow code a stray use of tokio has to fail.
        let _runtime = self.runtime.enter();
        let back = Back { shard, life, mailbox: mailbox.clone() };
        match effect {
            Effect::AskTail { id } => self.ask_tail(id, back),
            Effect::Read { id, after, to } => self.read(id, after, to, back),
            Effect::Fetch { id, position } => self.fetch(id, position, back),
            Effect::Append { id, payload } => self.append(id, payload, back),
            Effect::FindTasks { id, queue, after, tasks } => self.find(id, queue, after, tasks, back),
            Effect::Send { id, outgoing } => self.send(id, outgoing, back),
            Effect::Reply { client, reply } => self.outbox.reply(&client, reply),
            Effect::StartStep { run, step, name, options, body } => {
                let stores = self.outbox.stores().cloned();
                let work = async move { step::run(&name, options, body, stores.as_ref()).await };
                self.start_local(run, step, work, back);
            }
            Effect::StartEager { task } => self.start_eager(task, back),
            Effect::CancelLocal { run, step } => {
                if let Some(handle) = lock(&self.running).remove(&(run, step)) {
                    handle.abort();
                }
            }
            Effect::CancelTasks { tasks } => self.outbox.cancel_tasks(tasks),
            Effect::Observe { events } => self.observers.tell(events),
            Effect::Trim { upto } => self.trim(upto, back),
            Effect::Ack { token } => {
                failpoint::hit("ack-before");
                if let Some(ack) = self.unacked.take(token) {
                    self.acker.ack(ack);
                }
                failpoint::hit("ack-sent");
            }
            Effect::Refuse { reason } => tracing::error!(shard, reason, "this shard cannot be served here"),
        }
    }

    /// Asks for everything again that a shard held and forgot.
    pub fn hand_back(&self, shard: u32) {
        self.eager.release_all(shard);
        for ack in self.unacked.take_all(shard) {
            self.acker.nack(ack);
        }
    }

    /// Gives a message back that came for a shard which rests.
    pub fn give_back(&self, token: DeliveryToken) {
        self.returning.of_shard(token, &self.runtime);
    }

    fn send(&self, id: SendId, outgoing: Outgoing, back: Back) {
        // What is sent moves into its lane at once; the tasks that wait are small, for there can be many.
        match outgoing {
            Outgoing::Task(task) => self.confirm(id, self.outbox.task(*task), back),
            Outgoing::Wake(wake) => self.confirm(id, self.outbox.timer(TimerMessage::Wake(wake)), back),
            Outgoing::Event(event) => self.confirm(id, self.outbox.event(*event), back),
            Outgoing::DeadEvent(letter) => {
                let outbox = self.outbox.clone();
                self.confirm(id, async move { outbox.dead_letter(topic::INBOX_DEAD, *letter).await }, back);
            }
        }
    }

    fn confirm(
        &self,
        id: SendId,
        sent: impl Future<Output = Result<Option<Position>, everpulse_transport::Error>> + Send + 'static,
        back: Back,
    ) {
        self.runtime.spawn(async move {
            let position = sent.await.unwrap_or_else(|error| {
                // Too large for any message, or the runtime is shutting down. The engine's own limits keep the first
                // from happening; in the second case nobody hears.
                tracing::error!(%error, "a command could not be sent");
                None
            });
            failpoint::hit("command-sent");
            back.give(Arrival::Sent { id, position });
        });
    }

    fn ask_tail(&self, id: u64, back: Back) {
        let transport = self.transport.clone();
        self.runtime.spawn(async move {
            let topic = history(back.shard);
            let tail = patiently("asking for the end of", &topic, || transport.last_position(&topic)).await;
            back.give(Arrival::Tail { id, tail });
        });
    }

    fn read(&self, id: u64, after: Option<Position>, to: Position, back: Back) {
        let transport = self.transport.clone();
        self.runtime.spawn(async move {
            let topic = history(back.shard);
            let mut pieces = Pieces::new(transport, topic, after, to);
            // The shard gets the next piece when it is through with the last one but one.
            let room = Arc::new(Semaphore::new(2));
            loop {
                let Ok(taking) = room.clone().acquire_owned().await else { return };
                let Piece { entries, done, .. } = pieces.next().await;
                let entries = entries.into_iter().map(|entry| (entry.position, entry.payload)).collect();
                back.give(Arrival::Entries { id, entries, done, taking });
                if done {
                    return pieces.close().await;
                }
            }
        });
    }

    fn fetch(&self, id: u64, position: Position, back: Back) {
        let transport = self.transport.clone();
        self.runtime.spawn(async move {
            let topic = history(back.shard);
            // A reader begins behind a position; what is asked for comes first behind the one before it.
            let before = position.entry.checked_sub(1).map(|entry| Position { ledger: position.ledger, entry });
            let mut entries = transport.read(&topic, before, Some(position)).await;
            for _ in 0..FETCHES {
                if entries.is_ok() {
                    break;
                }
                tokio::time::sleep(RETRY).await;
                entries = transport.read(&topic, before, Some(position)).await;
            }
            let payload = entries
                .unwrap_or_default()
                .into_iter()
                .find(|entry| entry.position == position)
                .map(|entry| entry.payload);
            back.give(Arrival::Fetched { id, payload });
        });
    }

    fn append(&self, id: u64, payload: Bytes, back: Back) {
        let publisher = {
            let mut publishers = lock(&self.history);
            let topic = history(back.shard);
            let open = || self.transport.publisher(&topic, PublisherOptions::default());
            publishers.entry(back.shard).or_insert_with(open).clone()
        };
        self.runtime.spawn(async move {
            failpoint::hit("append-before");
            let receipt = publisher.publish(Outbound::new(Some(topic::shard_key(back.shard)), payload));
            failpoint::hit("append-sent");
            let receipt = receipt.await.map_err(|error| {
                tracing::warn!(shard = back.shard, %error, "no receipt for a frame; history decides");
            });
            failpoint::hit("append-receipt");
            back.give(Arrival::Receipt { id, receipt });
        });
    }

    fn trim(&self, upto: Position, back: Back) {
        let transport = self.transport.clone();
        self.runtime.spawn(async move {
            failpoint::hit("trim-before");
            let topic = history(back.shard);
            let mut trimmed = transport.skip_to(&topic, topic::JANITOR, upto).await;
            if let Err(error) = &trimmed
                && error.kind() == ErrorKind::NotFound
            {
                // Nothing holds history now but the namespace's own retention. Once it is back, this is not said again.
                tracing::error!(
                    topic,
                    subscription = topic::JANITOR,
                    %error,
                    "the subscription that keeps history is gone; it is made anew from the earliest entry. If entries \
                     that are still needed went meanwhile, the shard is refused when it is loaded next"
                );
                trimmed = match transport.ensure_subscription(&topic, topic::JANITOR).await {
                    Ok(()) => transport.skip_to(&topic, topic::JANITOR, upto).await,
                    Err(error) => Err(error),
                };
            }
            match trimmed {
                Ok(()) => tracing::debug!(shard = back.shard, %upto, "history is trimmed"),
                // The next one goes further.
                Err(error) => tracing::warn!(topic, %error, "history could not be trimmed; it is tried again later"),
            }
        });
    }

    fn find(&self, id: u64, queue: String, after: Option<Position>, tasks: Vec<AttemptId>, back: Back) {
        let transport = self.transport.clone();
        self.runtime.spawn(async move {
            let topic = topic::activity(&queue);
            patiently("setting up", &topic, || async {
                // A mark of a later release may name what is no lane here; its topic is there then.
                match queue.parse() {
                    Ok(lane) => transport.set_up_lane(&lane).await,
                    Err(_) => Ok(()),
                }
            })
            .await;
            let mut missing: BTreeMap<EventId, AttemptId> = tasks.into_iter().map(|task| (task.task(), task)).collect();
            let mut found = Vec::new();
            // What comes later is looked for later, or is what this worker itself sends.
            let end = patiently("asking for the end of", &topic, || transport.last_position(&topic)).await;
            if let Some(end) = end {
                let mut pieces = Pieces::new(transport, topic, after, end);
                loop {
                    let piece = pieces.next().await;
                    let frames = piece.entries.iter().filter_map(|entry| decode::<TaskFrame>(&entry.payload).ok());
                    for task in frames.flat_map(|frame| frame.tasks) {
                        if missing.get(&task.id).is_some_and(|sought| sought.is_shown_by(&task)) {
                            missing.remove(&task.id);
                            found.push(task.id);
                        }
                    }
                    if piece.done || missing.is_empty() {
                        break;
                    }
                }
                pieces.close().await;
            }
            let (missing, found_count) = (missing.len(), found.len());
            tracing::debug!(shard = back.shard, queue, found = found_count, missing, "looked for sent tasks");
            back.give(Arrival::Found { id, tasks: found });
        });
    }

    fn start_eager(&self, task: Box<Task>, back: Back) {
        let (run, step) = (task.run_id, task.step);
        let slot = self.eager.take(task.id);
        let Some(runner) = self.runner.clone() else {
            // Only a worker that serves the queue starts tasks itself.
            let failure = Failure::new(FailureKind::NotFound, "this worker runs no activities");
            let outcome = everpulse_protocol::event::Outcome::Failed(failure);
            back.give(Arrival::Local { run, step, result: LocalResult::Settled { attempt: task.attempt, outcome } });
            return;
        };
        let outbox = self.outbox.clone();
        let work = async move { super::eager::run(&runner, &outbox, slot, *task).await };
        self.start_local(run, step, work, back);
    }

    fn start_local(&self, run: RunId, step: u32, work: impl Future<Output = LocalResult> + Send + 'static, back: Back) {
        let running = self.running.clone();
        // The entry is made before the work can end, so that the end finds it.
        let mut guard = lock(&self.running);
        let task = self.runtime.spawn(async move {
            let result = work.await;
            lock(&running).remove(&(run, step));
            back.give(Arrival::Local { run, step, result });
        });
        guard.insert((run, step), task.abort_handle());
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // Nobody takes its results any more; the next owner does it again.
        lock(&self.running).values().for_each(AbortHandle::abort);
    }
}

/// The way back to a shard.
struct Back {
    shard: u32,
    life: Life,
    mailbox: Sender<Message>,
}

impl Back {
    fn give(&self, arrival: Arrival) {
        // The engine thread is gone only when the worker stops; then history tells the next owner.
        let _ = self.mailbox.send(Message::Arrived { shard: self.shard, life: self.life, arrival });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn history(shard: u32) -> String {
    topic::partition(topic::HISTORY, shard)
}

/// Tries until it succeeds: without history a shard can do nothing else.
async fn patiently<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    topic: &str,
    attempt: impl Fn() -> F,
) -> T {
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(topic, %error, "{what} a topic failed; it is tried again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
