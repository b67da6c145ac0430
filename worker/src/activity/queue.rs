//! The deliveries of one queue: when something is here a slot, then the frame whose turn it is of all lanes; its tasks run side
//! by side; the frame is acked when all of them are settled.
//!
//! A slot is taken when there is something for it. Whoever waits for tasks with a slot in hand keeps it from those who have
//! one already: a batch that is complete, an attempt that the owner of a run makes here.
//!
//! A frame that finds no slot for a while is given back, so that it does not wait here for a long task while another
//! worker is idle.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everpulse_engine::attempt::{AttemptId, Sight};
use everpulse_protocol::priority::Lane;
use everpulse_protocol::task::{Task, TaskFrame};
use everpulse_protocol::{decode, topic};
use everpulse_transport::{AckToken, Acker, Consumer, Error, Subscription, SubscriptionKind, Transport};
use futures::future::{BoxFuture, try_join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};

use super::kept::Kept;
use super::lanes::{Lanes, Taken};
use super::room::{Needs, Room, Slot};
use super::settle::settle;
use super::{Shared, lock};
use crate::{clock, dead_letter, failpoint};

/// So many attempts may wait for their settlement to be confirmed, beside those that run, or wait for their batch.
const UNCONFIRMED_MAX: usize = 4_096;
/// While it drains, a queue gives back what comes at least so often, and no more often.
const GIVE_BACK_DRAINING: Duration = Duration::from_millis(200);
/// A lane that could not be subscribed to is tried again after this.
const OPEN_AGAIN: Duration = Duration::from_secs(1);
const GIVE_BACK_MIN: Duration = Duration::from_millis(10);
/// What is given up at the end of the draining has so long to be confirmed.
const GIVEN_UP: Duration = Duration::from_secs(3);

/// A frame whose tasks are not all settled. It is acked with the last of them.
#[derive(Debug)]
pub(super) struct FrameHold {
    acker: Acker,
    token: AckToken,
    open: AtomicUsize,
}

impl FrameHold {
    fn new(acker: Acker, token: AckToken, tasks: usize) -> Arc<Self> {
        Arc::new(Self { acker, token, open: AtomicUsize::new(tasks) })
    }

    pub(super) fn settled(&self) {
        // Ack last: until all its tasks are settled, the frame is what brings them to another worker if we die here.
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.acker.ack(self.token);
            failpoint::hit("task-acked");
        }
    }
}

pub(super) struct Queue {
    shared: Arc<Shared>,
    name: String,
    lanes: Lanes,
    /// Which are in use.
    known: watch::Receiver<BTreeSet<Lane>>,
    opening: FuturesUnordered<BoxFuture<'static, (Lane, Consumer)>>,
    /// Those that are open or being opened.
    opened: BTreeSet<Lane>,
    room: Room,
    /// A permit for each that may wait to be confirmed.
    unconfirmed: Arc<Semaphore>,
    stop: watch::Receiver<Option<Instant>>,
    running: JoinSet<()>,
}

impl Queue {
    /// Subscribes to a queue with all lanes that are in use, so that what is urgent is taken first from the beginning. Others
    /// are found later.
    pub(super) async fn open(
        shared: Arc<Shared>,
        name: String,
        stop: watch::Receiver<Option<Instant>>,
    ) -> Result<Self, Error> {
        let room = shared.rooms.get(&name).expect("every served queue has room").clone();
        let directory = shared.outbox.lanes();
        let known = directory.follow(&name);
        let in_use = directory.in_use().await?.into_iter().filter(|lane| lane.queue == name);
        let opened: BTreeSet<Lane> = in_use.chain([Lane::of_queue(&name)]).collect();
        let prefetch = shared.options.prefetch_of(&name);
        let consumers = opened.iter().map(|lane| subscribe(&shared.transport, lane, prefetch));
        let mut lanes = Lanes::default();
        for (lane, consumer) in opened.iter().zip(try_join_all(consumers).await?) {
            lanes.add(lane.clone(), consumer);
        }
        let (opening, running) = (FuturesUnordered::new(), JoinSet::new());
        let unconfirmed = Arc::new(Semaphore::new(UNCONFIRMED_MAX));
        Ok(Self { shared, name, lanes, known, opening, opened, room, unconfirmed, stop, running })
    }

    /// Serves until it is told to stop, then drains.
    pub(super) async fn serve(mut self) {
        while self.arrival().await {
            let Some(slot) = self.enter().await else { break };
            // None: it was given back meanwhile.
            if let Some(taken) = self.lanes.take() {
                self.take(taken, slot);
            }
            // What waits behind a smaller priority may find a worker elsewhere.
            self.lanes.give_back(self.shared.options.give_back);
            self.look_ahead();
        }
        self.drain().await;
    }

    /// Room for the frame whose turn it is; none when it is time to stop. Which frame has it is chosen when it is there. Permits of
    /// all workers are not used before its code begins.
    async fn enter(&mut self) -> Option<Slot> {
        let mut slot = self.room.empty(Needs::All);
        let mut full = self.room.full();
        // Another worker may have a slot. Where there is no permit it would find none either; but acks wait behind frames that
        // nobody takes.
        let mut ticks = interval(self.shared.options.give_back.max(GIVE_BACK_MIN));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let mut needs = self.needs().unwrap_or(Needs::All);
        loop {
            slot.need(needs);
            let is_had = self.hold(&mut slot, needs, &mut full, &mut ticks).await?;
            // Something else may have come meanwhile.
            match self.needs() {
                Some(other) if other != needs => needs = other,
                _ if is_had => return Some(slot),
                _ => {}
            }
        }
    }

    /// Waits for what is needed of a slot; false: something else may be, of what is here now; none when it is time to stop.
    async fn hold(
        &mut self,
        slot: &mut Slot,
        needs: Needs,
        full: &mut watch::Receiver<usize>,
        ticks: &mut Interval,
    ) -> Option<bool> {
        let mut holding = pin!(slot.hold());
        loop {
            let is_confirmed = self.unconfirmed.available_permits() > 0;
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return None,
                // An error: as below. What is most urgent may be in a lane that is new.
                Ok(()) = self.known.changed() => self.open_known(),
                Some((lane, consumer)) = self.opening.next(), if !self.opening.is_empty() => self.open_lane(lane, consumer),
                is_had = &mut holding, if is_confirmed => return is_had.then_some(true),
                Some(_) = self.running.join_next(), if !self.running.is_empty() => {}
                // No error: this has the room.
                Ok(()) = full.changed() => if self.needs().is_some_and(|other| other != needs) { return Some(false) },
                _ = ticks.tick() => {
                    if self.needs().is_some_and(|other| other != needs) {
                        return Some(false);
                    }
                    self.lanes.give_all_back();
                    // Nor do permits wait here for a slot.
                    self.look_ahead();
                }
            }
        }
    }

    /// What the frame needs whose turn it is; none: there is none here. Where nobody shares anything it is the same for all.
    fn needs(&mut self) -> Option<Needs> {
        if !self.room.is_shared() {
            return Some(Needs::All);
        }
        let next = self.lanes.next()?;
        let frame = decode::<TaskFrame>(&next.payload).ok();
        // What cannot be read, or has nothing in it, is done with without an attempt.
        Some(frame.and_then(|frame| frame.tasks.first().map(|task| self.shared.needs(task))).unwrap_or(Needs::None))
    }

    /// Says how many permits will be wanted soon.
    fn look_ahead(&self) {
        if self.room.is_shared() {
            self.room.ahead(self.lanes.here().min(self.room.free()));
        }
    }

    fn open_lane(&mut self, lane: Lane, consumer: Consumer) {
        tracing::info!(%lane, "a lane of a queue is served");
        self.lanes.add(lane, consumer);
    }

    /// Waits until a frame is here; false when it is time to stop.
    async fn arrival(&mut self) -> bool {
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return false,
                // An error: the reader has gone, with the runtime.
                Ok(()) = self.known.changed() => self.open_known(),
                Some((lane, consumer)) = self.opening.next(), if !self.opening.is_empty() => self.open_lane(lane, consumer),
                () = self.lanes.ready() => return true,
                Some(_) = self.running.join_next(), if !self.running.is_empty() => {}
            }
        }
    }

    /// Begins to subscribe to lanes that have come to be known.
    fn open_known(&mut self) {
        let known = self.known.borrow_and_update().clone();
        for lane in known {
            if self.opened.insert(lane.clone()) {
                let prefetch = self.shared.options.prefetch_of(&self.name);
                self.opening.push(open(self.shared.transport.clone(), lane, prefetch).boxed());
            }
        }
    }

    fn take(&mut self, taken: Taken, slot: Slot) {
        failpoint::hit("task-received");
        let Taken { delivery, acker, lane } = taken;
        let tasks = match decode::<TaskFrame>(&delivery.payload) {
            Ok(frame) if frame.tasks.is_empty() => return acker.ack(delivery.token),
            Ok(frame) => frame.tasks,
            Err(error) => {
                let topic = topic::activity(&lane.to_string());
                tracing::warn!(topic, position = %delivery.position, %error, "a frame of tasks cannot be read, dead letter");
                let letter = dead_letter::unreadable(&topic, delivery.payload, &error, clock::now());
                let (outbox, dead) = (self.shared.outbox.clone(), dead_letter::topic_for(&topic));
                let unconfirmed = Arc::clone(&self.unconfirmed).try_acquire_owned();
                self.running.spawn(async move {
                    let _unconfirmed = unconfirmed;
                    match outbox.dead_letter(&dead, letter).await {
                        Ok(_) => acker.ack(delivery.token),
                        Err(error) => {
                            tracing::warn!(%error, "a dead letter could not be sent; its message comes again")
                        }
                    }
                });
                return;
            }
        };
        self.lanes.charge(&lane, &tasks);
        let hold = FrameHold::new(acker, delivery.token, tasks.len());
        let mut slot = Some(slot);
        for task in tasks {
            let (shared, room, hold, slot) =
                (Arc::clone(&self.shared), self.room.clone(), Arc::clone(&hold), slot.take());
            let (unconfirmed, stop) = (Arc::clone(&self.unconfirmed), self.stop.clone());
            self.running.spawn(async move {
                let needs = shared.needs(&task);
                let slot = match slot {
                    Some(mut slot) => {
                        // Where another frame was taken than its permits were for, it waits before its code begins.
                        slot.need_also(needs);
                        Some(slot)
                    }
                    // Short ones, as they share a frame: a slot will come, and permits.
                    None => room.enter(needs).await,
                };
                if let Some(slot) = slot {
                    perform(&shared, task, hold, slot, &unconfirmed, stop).await;
                }
            });
        }
    }

    async fn drain(mut self) {
        self.room.ahead(0);
        let until = self.stop.borrow().unwrap_or_else(Instant::now);
        let mut ticks = interval(self.shared.options.give_back.clamp(GIVE_BACK_MIN, GIVE_BACK_DRAINING));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.running.is_empty() {
            tokio::select! {
                biased;
                Some(_) = self.running.join_next() => {}
                () = sleep_until(until) => break,
                // What waits here would wait until this worker has left.
                _ = ticks.tick() => self.lanes.give_all_back(),
            }
        }
        // Those that owners keep are given up by us: the broker has no task of them to give to others.
        let until = Instant::now() + GIVEN_UP;
        while !self.running.is_empty() && !self.shared.kept_here.is_empty() {
            tokio::select! {
                biased;
                Some(_) = self.running.join_next() => {}
                () = sleep_until(until) => break,
            }
        }
        if !self.running.is_empty() {
            let (queue, left) = (&self.name, self.running.len());
            tracing::warn!(queue, left, "the drain time is over; attempts that still run are left to other workers");
            self.running.shutdown().await;
        }
        self.lanes.close().await;
    }
}

async fn stopped(stop: &mut watch::Receiver<Option<Instant>>) {
    // An error: the runner is gone.
    let _ = stop.wait_for(Option::is_some).await;
}

async fn subscribe(transport: &Transport, lane: &Lane, prefetch: usize) -> Result<Consumer, Error> {
    let prefetch = u32::try_from(prefetch).unwrap_or(u32::MAX);
    let topic = topic::activity(&lane.to_string());
    // Whoever named the lane made its topic and its subscription before.
    let subscription = Subscription::new(topic, topic::WORKERS, SubscriptionKind::Shared).queue(prefetch);
    transport.subscribe(subscription).await
}

/// A consumer of a lane, however long that takes.
async fn open(transport: Transport, lane: Lane, prefetch: usize) -> (Lane, Consumer) {
    loop {
        match subscribe(&transport, &lane, prefetch).await {
            Ok(consumer) => return (lane, consumer),
            Err(error) => {
                tracing::warn!(%lane, %error, "a lane of a queue cannot be served, next try in {OPEN_AGAIN:?}");
            }
        }
        sleep(OPEN_AGAIN).await;
    }
}

/// From a task to its settlement, unless it is known here already.
async fn perform(
    shared: &Shared,
    task: Task,
    hold: Arc<FrameHold>,
    slot: Slot,
    unconfirmed: &Semaphore,
    stop: watch::Receiver<Option<Instant>>,
) {
    let id = AttemptId::of(&task);
    match lock(&shared.seen).begin(id, hold) {
        Sight::New => {}
        // Its hold waits for the end of the one that runs.
        Sight::Running => return,
        Sight::Settled(hold) => return hold.settled(),
    }
    let kept = Kept::new(shared, &task);
    let verdict = tokio::select! {
        biased;
        verdict = shared.attempt(&task, Some(slot), Some(&kept)) => verdict,
        given_up = kept.given_up(stop) => Some(given_up),
    };
    failpoint::hit("activity-done");
    // An error: there are so many that no more are taken. It is one of the last.
    let _unconfirmed = unconfirmed.try_acquire();
    let settled = match verdict {
        Some(verdict) => settle(&shared.outbox, &task, verdict).await,
        None => Ok(()),
    };
    failpoint::hit("settle-confirmed");
    match settled {
        Ok(()) => lock(&shared.seen).finish(id).iter().for_each(|hold| hold.settled()),
        Err(error) => {
            tracing::warn!(activity = task.activity, %error, "an attempt could not be settled; its task comes again");
            lock(&shared.seen).forget(id);
        }
    }
}
