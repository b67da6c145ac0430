//! What is done to whom, and when: one task per party, each with a stream of chance of its own, so that faults overlap.
//!
//! ```text
//!  worker 0..4   killed · stopped and continued (while the broker waits, while its topics are unloaded, while its
//!                connections are cut) · sent away and followed by another
//!  extra worker  joins and leaves
//!  broker        killed · ended and started · stopped and continued
//!  topics        unloaded
//!  proxies       cut · refuse · hold one direction or both · delay
//!  disk          filled
//!  clients       dropped; a process of callers is killed
//! ```
//! A storm ends when its token says so; each task then puts right what it broke. Whether what happens meanwhile is right
//! is judged elsewhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use everpulse_protocol::topic;
use everpulse_transport::Transport;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::sleep;

use super::broker::{Arm, Broker};
use super::caller::{self, Callers};
use super::dice::Dice;
use super::figures::Figures;
use super::found::Found;
use super::now_ms;
use super::player::Stage;
use super::plays::Plays;
use super::proxy::{Flow, Proxy};
use super::worker::{Arguments, Process};

/// One place for a worker, which has one process after another.
#[derive(Debug)]
pub struct Seat {
    pub number: usize,
    pub arguments: Arguments,
    /// Its connections go through this, if they go through one.
    pub proxy: Option<Arc<Proxy>>,
    pub process: Mutex<Option<Process>>,
    /// Of the newest process; 0 before the first.
    pub pid: AtomicU32,
}

/// What faults are done to.
#[derive(Debug)]
pub struct World {
    pub arm: Arm,
    pub seats: Vec<Arc<Seat>>,
    pub extra: Arc<Seat>,
    pub broker: Mutex<Broker>,
    /// In front of workers, and the last one in front of clients.
    pub proxies: Vec<Arc<Proxy>>,
    pub admin: Transport,
    pub stage: Arc<Stage>,
    pub plays: Plays,
    /// The broker's own address.
    pub url: String,
    pub shards: u32,
    pub inbox_partitions: u32,
    pub logs: PathBuf,
    /// What workers are processes of: this release, and an earlier one if they share the shards.
    pub programs: Vec<PathBuf>,
    pub incarnations: AtomicU32,
    /// So many workers may be away at a time.
    pub away: Semaphore,
    pub figures: Arc<Figures>,
    pub found: Arc<Found>,
}

/// How rare faults are: the mean pause between two of one task.
struct Pace {
    worker: Duration,
    extra: Duration,
    broker: Duration,
    unload: Duration,
    proxy: Duration,
    disk: Duration,
    client: Duration,
    callers: Duration,
}

impl Pace {
    fn of(arm: Arm) -> Self {
        let seconds = Duration::from_secs;
        // Apache Pulsar is away for a quarter of a minute when it is started again.
        let (broker, unload) = match arm {
            Arm::Embedded => (seconds(40), seconds(12)),
            Arm::Pulsar => (seconds(240), seconds(20)),
        };
        Self {
            worker: seconds(9),
            extra: seconds(25),
            broker,
            unload,
            proxy: seconds(20),
            disk: seconds(70),
            client: seconds(15),
            callers: seconds(15),
        }
    }
}

/// Until when a storm lasts: until it says true.
pub type Calm = watch::Receiver<bool>;

/// Sleeps, but not longer than the storm; false when that is over.
async fn within(calm: &mut Calm, time: Duration) -> bool {
    tokio::select! {
        biased;
        _ = calm.wait_for(|calm| *calm) => false,
        () = sleep(time) => true,
    }
}

/// A storm: faults until it is called calm, and everything is whole again when this returns.
pub async fn storm(world: &Arc<World>, seed: u64, number: u64, calm: &Calm) {
    let pace = Arc::new(Pace::of(world.arm));
    let mut tasks = tokio::task::JoinSet::new();
    let mut stream = number * 100;
    let mut dice = || {
        stream += 1;
        Dice::new(seed ^ 0x66_61_75_6c_74, stream)
    };
    for seat in &world.seats {
        let (world, seat, pace, dice, calm) = (world.clone(), seat.clone(), pace.clone(), dice(), calm.clone());
        tasks.spawn(async move { trouble_worker(&world, &seat, &pace, dice, calm).await });
    }
    for (at, proxy) in world.proxies.iter().enumerate() {
        let (world, proxy, pace, dice, calm) = (world.clone(), proxy.clone(), pace.clone(), dice(), calm.clone());
        tasks.spawn(async move { trouble_proxy(&world, at, &proxy, &pace, dice, calm).await });
    }
    let (mut dices, calm) = ([dice(), dice(), dice(), dice(), dice(), dice()], calm.clone());
    let [a, b, c, d, e, f] = &mut dices;
    let rest = async {
        tokio::join!(
            extra_worker(world, &pace, a, calm.clone()),
            trouble_broker(world, &pace, b, calm.clone()),
            unload_topics(world, &pace, c, calm.clone()),
            fill_disk(world, &pace, d, calm.clone()),
            drop_clients(world, &pace, e, calm.clone()),
            kill_callers(world, &pace, f, calm.clone()),
        )
    };
    rest.await;
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            world.found.add(format!("the harness itself: a task of faults ended: {error}"));
        }
    }
}

impl World {
    /// The number and the log of the next process.
    fn next(&self, name: &str) -> (usize, PathBuf) {
        let number = self.incarnations.fetch_add(1, Ordering::Relaxed);
        (number as usize, self.logs.join(format!("{name}-{number:04}.log")))
    }

    /// Starts a worker, however often that takes while the broker is away.
    pub async fn seat(&self, seat: &Seat) {
        let began = tokio::time::Instant::now();
        loop {
            let (number, log) = self.next(&format!("worker-{}", seat.number));
            // The releases take turns, but for what else is started meanwhile.
            let program = &self.programs[number % self.programs.len()];
            match Process::start(program, &seat.arguments, &log).await {
                Ok(process) => {
                    self.figures.started(&process.writer, *program != self.programs[0]);
                    seat.pid.store(process.pid().unwrap_or(0), Ordering::Relaxed);
                    *seat.process.lock().await = Some(process);
                    return;
                }
                Err(error) if began.elapsed() > Duration::from_secs(300) => {
                    self.found.add(format!("worker {} does not start for five minutes: {error:#}", seat.number));
                    return;
                }
                Err(_) => sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// The broker is started again, however often that takes while its disk is full.
    async fn broker_again(&self, broker: &mut Broker) {
        let began = tokio::time::Instant::now();
        while let Err(error) = broker.again().await {
            let full = broker.disk().is_some_and(|disk| disk.is_full());
            if !full || began.elapsed() > Duration::from_secs(120) {
                self.found.add(format!("the broker does not start again: {error:#}"));
                return;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    fn check(&self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            self.found.add(format!("{what}: {error:#}"));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Blow {
    Kill,
    /// Stopped for longer than the broker waits for a silent client.
    StopLong,
    StopAndUnload,
    StopAndCut,
    StopShort,
    Leave,
}

async fn trouble_worker(world: &World, seat: &Seat, pace: &Pace, mut dice: Dice, mut calm: Calm) {
    loop {
        let pause = dice.pause(pace.worker);
        // A worker that ends by itself is a fault of its own.
        let quiet = {
            let mut process = seat.process.lock().await;
            match process.as_mut() {
                Some(process) => tokio::select! {
                    quiet = within(&mut calm, pause) => Ok(quiet),
                    ended = process.ended() => Err(format!("with {ended:?}; see {}", process.log.display())),
                },
                None => Ok(true),
            }
        };
        match quiet {
            Ok(true) => {}
            Ok(false) => return,
            Err(how) => {
                world.found.add(format!("worker {} ended by itself {how}", seat.number));
                *seat.process.lock().await = None;
            }
        }
        let Ok(_away) = world.away.try_acquire() else { continue };
        let blow = dice.weighted(&[
            (Blow::Kill, 50),
            (Blow::StopLong, 3),
            (Blow::StopAndUnload, 16),
            (Blow::StopAndCut, if seat.proxy.is_some() { 16 } else { 0 }),
            (Blow::StopShort, 6),
            (Blow::Leave, 12),
        ]);
        let Some(process) = seat.process.lock().await.take() else {
            world.seat(seat).await;
            continue;
        };
        let (from, name) = (now_ms(), format!("worker {}", seat.number));
        match blow {
            Some(Blow::Kill) | None => {
                world.check(&name, process.kill().await);
                within(&mut calm, dice.millis(0, 4_000)).await;
                world.seat(seat).await;
                world.figures.fault("worker killed", name, None, from);
            }
            Some(Blow::Leave) => {
                world.check(&name, process.leave().await);
                within(&mut calm, dice.millis(0, 4_000)).await;
                world.seat(seat).await;
                world.figures.fault("worker left and joined", name, None, from);
            }
            Some(stop) => {
                let writer = process.writer.clone();
                world.check(&name, process.freeze());
                let kind = match stop {
                    Blow::StopAndUnload => {
                        within(&mut calm, dice.millis(0, 1_500)).await;
                        for partition in 0..world.inbox_partitions {
                            unload(world, &topic::partition(topic::INBOX, partition)).await;
                        }
                        within(&mut calm, dice.millis(4_000, 15_000)).await;
                        "worker stopped, its topics unloaded"
                    }
                    Blow::StopAndCut => {
                        within(&mut calm, dice.millis(0, 1_500)).await;
                        if let Some(proxy) = &seat.proxy {
                            proxy.cut();
                        }
                        within(&mut calm, dice.millis(4_000, 15_000)).await;
                        "worker stopped, its connections cut"
                    }
                    Blow::StopLong => {
                        // The end of the storm comes first now and then.
                        if within(&mut calm, dice.millis(62_000, 75_000)).await {
                            "worker stopped for longer than the broker waits"
                        } else {
                            "worker stopped for a moment"
                        }
                    }
                    _ => {
                        within(&mut calm, dice.millis(300, 5_000)).await;
                        "worker stopped for a moment"
                    }
                };
                world.check(&name, process.thaw());
                *seat.process.lock().await = Some(process);
                world.figures.fault(kind, name, Some(writer), from);
            }
        }
    }
}

async fn extra_worker(world: &World, pace: &Pace, dice: &mut Dice, mut calm: Calm) {
    while within(&mut calm, dice.pause(pace.extra)).await {
        let from = now_ms();
        world.seat(&world.extra).await;
        let Some(process) = world.extra.process.lock().await.take() else { continue };
        within(&mut calm, dice.millis(1_000, 20_000)).await;
        let (kind, ended) = if dice.permille(300) {
            ("extra worker killed", process.kill().await)
        } else {
            ("extra worker joined and left", process.leave().await)
        };
        world.check("the extra worker", ended);
        world.figures.fault(kind, "worker 9", None, from);
    }
}

async fn trouble_broker(world: &World, pace: &Pace, dice: &mut Dice, mut calm: Calm) {
    while within(&mut calm, dice.pause(pace.broker)).await {
        let mut broker = world.broker.lock().await;
        let from = now_ms();
        let kind = match dice.below(10) {
            0..5 => {
                world.check("killing the broker", broker.kill().await);
                within(&mut calm, dice.millis(0, 3_000)).await;
                world.broker_again(&mut broker).await;
                "broker killed"
            }
            5..7 => {
                world.check("ending the broker", broker.leave().await);
                within(&mut calm, dice.millis(0, 2_000)).await;
                world.broker_again(&mut broker).await;
                "broker ended and started"
            }
            _ => {
                world.check("stopping the broker", broker.freeze());
                within(&mut calm, dice.millis(200, 8_000)).await;
                world.check("continuing the broker", broker.thaw());
                "broker stopped for a moment"
            }
        };
        world.figures.fault(kind, "", None, from);
    }
}

async fn unload(world: &World, topic: &str) {
    // The broker may be away just now.
    if world.admin.unload(topic).await.is_err() {
        world.figures.sample("unloads that failed", 1);
    }
}

async fn unload_topics(world: &World, pace: &Pace, dice: &mut Dice, mut calm: Calm) {
    while within(&mut calm, dice.pause(pace.unload)).await {
        let from = now_ms();
        let mut topics = Vec::new();
        for _ in 0..dice.within(1, 4) {
            topics.push(match dice.below(10) {
                0..4 => topic::partition(topic::HISTORY, u32::try_from(dice.below(world.shards.into())).unwrap_or(0)),
                4..7 => topic::partition(
                    topic::INBOX,
                    u32::try_from(dice.below(world.inbox_partitions.into())).unwrap_or(0),
                ),
                7..9 => topic::activity("default"),
                _ => topic::TIMERS.to_owned(),
            });
        }
        for topic in &topics {
            unload(world, topic).await;
        }
        world.figures.fault("topics unloaded", topics.join(" "), None, from);
    }
}

async fn trouble_proxy(world: &World, at: usize, proxy: &Proxy, pace: &Pace, mut dice: Dice, mut calm: Calm) {
    while within(&mut calm, dice.pause(pace.proxy)).await {
        let from = now_ms();
        let kind = match dice.below(10) {
            0..3 => {
                proxy.cut();
                "connections cut"
            }
            3 => {
                proxy.refuse();
                within(&mut calm, dice.millis(500, 6_000)).await;
                "connections refused"
            }
            4..6 => {
                proxy.flow(Flow::Hold, Flow::Hold);
                within(&mut calm, dice.millis(500, 25_000)).await;
                "nothing passes"
            }
            6 => {
                proxy.flow(Flow::Hold, Flow::Pass);
                within(&mut calm, dice.millis(500, 25_000)).await;
                "nothing passes to the broker"
            }
            7 => {
                proxy.flow(Flow::Pass, Flow::Hold);
                within(&mut calm, dice.millis(500, 25_000)).await;
                "nothing passes from the broker"
            }
            _ => {
                let delay = Flow::Delay(dice.millis(5, 300));
                proxy.flow(delay, delay);
                within(&mut calm, dice.millis(1_000, 15_000)).await;
                "everything is delayed"
            }
        };
        // What was held arrives late, or never.
        let late = dice.permille(500);
        proxy.heal();
        if !late {
            proxy.cut();
        }
        world.figures.fault(kind, format!("proxy {at}"), None, from);
    }
}

async fn fill_disk(world: &World, pace: &Pace, dice: &mut Dice, mut calm: Calm) {
    loop {
        if !within(&mut calm, dice.pause(pace.disk)).await {
            return;
        }
        let Some(disk) = world.broker.lock().await.disk().filter(|disk| disk.is_limited()).cloned() else { return };
        let from = now_ms();
        world.check("filling the disk", disk.fill());
        within(&mut calm, dice.millis(500, 8_000)).await;
        world.check("emptying the disk", disk.empty());
        world.figures.fault("disk full", "", None, from);
    }
}

async fn drop_clients(world: &World, pace: &Pace, dice: &mut Dice, mut calm: Calm) {
    while within(&mut calm, dice.pause(pace.client)).await {
        let from = now_ms();
        let (clients, which) = (&world.stage.quick, usize::try_from(dice.below(64)).unwrap_or(0));
        let replaced = clients.replace(which % clients.count().max(1)).await.context("a new client");
        world.check("a client in place of another", replaced);
        world.figures.fault("client dropped", "", None, from);
    }
}

async fn kill_callers(world: &World, pace: &Pace, dice: &mut Dice, mut calm: Calm) {
    while !*calm.borrow() {
        let from = now_ms();
        let first = world.plays.numbers(caller::NUMBERS);
        let notes = world.logs.join(format!("callers-{first}.txt"));
        let arguments = caller::Arguments {
            url: world.url.clone(),
            seed: world.plays.seed,
            first,
            notes,
            retention_ms: world.stage.retention_ms,
        };
        let left = match Callers::start(&arguments, &world.next("callers").1) {
            Ok(callers) => {
                within(&mut calm, dice.pause(pace.callers)).await;
                callers.kill().await
            }
            Err(error) => Err(error),
        };
        match left {
            Ok(left) => {
                left.wrong.into_iter().for_each(|wrong| world.found.add(wrong));
                for play in &left.ended {
                    world.plays.ended(play);
                    world.figures.done(play.kind, None);
                }
                world.figures.sample("runs whose callers were killed", left.begun.len() as u64);
                world.plays.orphans(left.begun);
            }
            Err(error) => world.found.add(format!("the callers: {error:#}")),
        }
        world.figures.fault("process of callers killed", "", None, from);
    }
}
