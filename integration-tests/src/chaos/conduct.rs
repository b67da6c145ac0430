//! Conducts it all: sets up, lets storms and calms take turns, and judges.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use everpulse_checker::Archive;
use everpulse_transport::{Address, SetUp, Transport};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::broker::{Arm, Broker};
use super::clients::Clients;
use super::faults::{self, Seat, World};
use super::figures::Figures;
use super::found::Found;
use super::judge;
use super::mix::Play;
use super::now_ms;
use super::player::{self, Heard, Stage};
use super::plays::Plays;
use super::proxy::Proxy;
use super::recorder;
use super::worker::{Arguments, send};

/// What the program is told.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[arg(long, default_value_t = 60)]
    pub minutes: u64,
    #[arg(long, value_enum, default_value = "embedded")]
    pub arm: Arm,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where everything goes; it must be empty
    #[arg(long)]
    pub folder: PathBuf,
    /// Runs that are started in a second, at most
    #[arg(long, default_value_t = 80)]
    pub rate: u64,
    /// Runs in flight, at most
    #[arg(long, default_value_t = 600)]
    pub in_flight: usize,
    /// How long a storm lasts
    #[arg(long, default_value_t = 150)]
    pub storm_seconds: u64,
    /// How long history is kept
    #[arg(long, default_value_t = 120)]
    pub retention_seconds: u64,
    /// This program of an earlier release: every other worker that is started is one of it
    #[arg(long)]
    pub previous: Option<PathBuf>,
}

const SHARDS: u32 = 12;
const INBOX_PARTITIONS: u32 = 3;
const WORKERS: usize = 4;
/// Ids are known for longer than anything may be on its way.
const ID_MEMORY: Duration = Duration::from_secs(1_800);
/// From the last fault on everything must end within this time: a broker waits a minute for a silent client, an activity
/// half a minute for its time-out, and what is left may wait for both.
const SETTLE: Duration = Duration::from_secs(240);
/// Then the topics must be empty, and nothing open.
const EMPTY: Duration = Duration::from_secs(120);

/// Runs the whole; the figures, and whether everything held, as JSON.
///
/// # Errors
/// When something of the harness fails. What it finds is no error but stands in the figures.
pub async fn run(options: &Options) -> Result<Value> {
    let folder = &options.folder;
    if folder.exists() && fs::read_dir(folder)?.next().is_some() {
        bail!("{} is not empty", folder.display());
    }
    for name in ["logs", "allowed"] {
        fs::create_dir_all(folder.join(name)).with_context(|| folder.display().to_string())?;
    }
    let conductor = Conductor::begin(options).await?;
    let background = [
        tokio::spawn(recorder::keep(conductor.archive.clone(), conductor.checked.clone())),
        tokio::spawn(recorder::measure(conductor.world.clone())),
        tokio::spawn(recorder::operate(conductor.world.clone(), options.seed, folder.join("allowed"))),
    ];
    let ended = tokio::select! {
        ended = conductor.storms_and_calms() => ended,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    background.iter().for_each(tokio::task::JoinHandle::abort);
    ended?;
    conductor.end().await
}

/// A run that was played, for how long, and what was wrong with it.
type Played = (Play, Duration, Result<(), String>);

struct Conductor {
    options: Options,
    world: Arc<World>,
    archive: Arc<Mutex<Archive>>,
    checked: everpulse_checker::Options,
    ledger: PathBuf,
    /// What is played just now, and since when.
    playing: std::sync::Mutex<BTreeMap<u32, Instant>>,
}

impl Conductor {
    async fn begin(options: &Options) -> Result<Self> {
        let folder = &options.folder;
        let programs = [Some(std::env::current_exe()?), options.previous.clone()];
        let broker = Broker::start(options.arm, folder).await?;
        let place =
            format!("public/chaos?admin={}&shards={SHARDS}&inbox_partitions={INBOX_PARTITIONS}", broker.admin_url);
        let direct = format!("{}/{place}", broker.service_url);
        let admin = Transport::connect(&direct.parse::<Address>()?, everpulse_transport::Options::default()).await?;
        // What the janitor lets go is not kept for anybody else.
        let mut wanted = SetUp::default().shards(Some(SHARDS)).inbox_partitions(Some(INBOX_PARTITIONS));
        (wanted.retention_minutes, wanted.retention_mb) = (0, 0);
        admin.set_up(&wanted).await?;
        let mut proxies = Vec::new();
        for _ in 0..3 {
            proxies.push(Arc::new(Proxy::start(&broker.service_url).await?));
        }
        let through = |proxy: &Proxy| format!("{}/{place}", proxy.url);
        let ledger = folder.join("ledger.jsonl");
        let seat = |number: usize, proxy: Option<&Arc<Proxy>>| Seat {
            number,
            arguments: Arguments {
                url: proxy.map_or_else(|| direct.clone(), |proxy| through(proxy)),
                ledger: ledger.clone(),
                allowed: folder.join("allowed"),
                retention_ms: options.retention_seconds * 1_000,
                id_memory_ms: u64::try_from(ID_MEMORY.as_millis()).unwrap_or(u64::MAX),
                eager: number % 2 == 1,
            },
            proxy: proxy.cloned(),
            process: Mutex::new(None),
            pid: AtomicU32::new(0),
        };
        let seats: Vec<Arc<Seat>> = (0..WORKERS)
            .map(|number| Arc::new(seat(number, number.checked_sub(WORKERS - 2).and_then(|at| proxies.get(at)))))
            .collect();
        let extra = Arc::new(seat(9, None));
        let (near, far) = (direct.clone(), through(&proxies[2]));
        let stage = Stage {
            quick: Clients::quick(vec![near.clone(), far.clone(), near.clone(), near.clone()]).await?,
            patient: Clients::patient(vec![near, far]).await?,
            heard: Heard::default(),
            retention_ms: options.retention_seconds * 1_000,
        };
        let checked = everpulse_checker::Options {
            service_url: broker.service_url.clone(),
            admin_url: Some(broker.admin_url.clone()),
            namespace: "public/chaos".to_owned(),
            rules: judge::rules(),
            ..Default::default()
        };
        let world = Arc::new(World {
            arm: options.arm,
            seats,
            extra,
            broker: Mutex::new(broker),
            proxies,
            admin,
            stage: Arc::new(stage),
            plays: Plays::new(options.seed),
            url: direct.clone(),
            shards: SHARDS,
            inbox_partitions: INBOX_PARTITIONS,
            logs: folder.join("logs"),
            programs: programs.into_iter().flatten().collect(),
            incarnations: AtomicU32::new(0),
            away: Semaphore::new(WORKERS - 1),
            figures: Arc::new(Figures::default()),
            found: Arc::new(Found::in_folder(folder)),
        });
        for seat in &world.seats {
            world.seat(seat).await;
        }
        let archive = Arc::new(Mutex::new(Archive::create(folder.join("archive"))?));
        Ok(Self { options: options.clone(), world, archive, checked, ledger, playing: std::sync::Mutex::default() })
    }

    async fn storms_and_calms(&self) -> Result<()> {
        let (figures, found) = (&self.world.figures, &self.world.found);
        let until = Instant::now() + Duration::from_secs(self.options.minutes * 60);
        let mut players = JoinSet::new();
        for number in 0.. {
            figures.phase(false);
            let (call, calm) = watch::channel(false);
            let lasts =
                Duration::from_secs(self.options.storm_seconds).min(until.saturating_duration_since(Instant::now()));
            let storm = {
                let (world, seed) = (self.world.clone(), self.options.seed);
                tokio::spawn(async move { faults::storm(&world, seed, number, &calm).await })
            };
            self.load(&mut players, Instant::now() + lasts).await;
            // The receiver lives as long as the storm.
            let _ = call.send(true);
            storm.await.context("the storm")?;
            figures.phase(true);
            let calm_began = Instant::now();
            if !self.settle(&mut players).await {
                return self.evidence().await;
            }
            figures.settled(calm_began.elapsed());
            self.judge_calm().await?;
            eprintln!(
                "{:>7.1} s  calm: {} runs so far, settled and judged in {:.1} s",
                figures.elapsed().as_secs_f64(),
                figures.count(),
                calm_began.elapsed().as_secs_f64(),
            );
            if !found.is_empty() {
                return self.evidence().await;
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Starts runs, as many as are allowed.
    async fn load(&self, players: &mut JoinSet<Played>, until: Instant) {
        let mut ticks = interval(Duration::from_secs_f64(1.0 / self.options.rate.max(1) as f64));
        // What could not be started while too many were in flight is not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was found is looked at while it is fresh.
        while Instant::now() < until && self.world.found.is_empty() {
            ticks.tick().await;
            while let Some(ended) = players.try_join_next() {
                self.ended(ended);
            }
            if players.len() >= self.options.in_flight {
                continue;
            }
            self.play(players, self.world.plays.next());
        }
    }

    fn play(&self, players: &mut JoinSet<Played>, play: Play) {
        let (stage, seed) = (self.world.stage.clone(), self.options.seed);
        self.playing.lock().unwrap_or_else(PoisonError::into_inner).insert(play.number, Instant::now());
        players.spawn(async move {
            let began = Instant::now();
            let played = player::play(&stage, seed, play).await;
            (play, began.elapsed(), played)
        });
    }

    fn ended(&self, ended: Result<Played, tokio::task::JoinError>) {
        match ended {
            Ok((play, took, result)) => {
                self.playing.lock().unwrap_or_else(PoisonError::into_inner).remove(&play.number);
                match result {
                    Ok(()) => {
                        self.world.plays.ended(&play);
                        self.world.figures.done(play.kind, Some(took));
                    }
                    Err(wrong) => self.world.found.add(wrong),
                }
            }
            Err(error) => self.world.found.add(format!("the harness itself: a player ended: {error}")),
        }
    }

    /// Waits until everything that was started has ended; false when it does not.
    async fn settle(&self, players: &mut JoinSet<Played>) -> bool {
        while let Some(orphan) = self.world.plays.orphan() {
            self.play(players, orphan);
        }
        let all = async {
            while let Some(ended) = players.join_next().await {
                self.ended(ended);
            }
        };
        if timeout(SETTLE, all).await.is_ok() {
            return true;
        }
        let playing = self.playing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (number, since) in &playing {
            let play = Play::of(self.options.seed, *number);
            let age = since.elapsed().as_secs();
            self.world
                .found
                .add(format!("STUCK: {} is {age} s old, and {SETTLE:?} have passed without a fault", play.id()));
        }
        false
    }

    /// What is left of history obeys the rules, nothing is open, and nothing lies in the topics.
    async fn judge_calm(&self) -> Result<()> {
        let found = &self.world.found;
        let until = Instant::now() + EMPTY;
        loop {
            let report = everpulse_checker::check(&self.checked).await?;
            for violation in &report.violations {
                found.add(format!("the checker, in a calm: {violation}"));
            }
            let open: Vec<&str> = report
                .runs
                .iter()
                .filter(|run| run.status == everpulse_checker::Status::Open)
                .map(|run| run.workflow_id.as_str())
                .collect();
            let backlog = report.backlog.as_ref();
            let waiting = backlog.map_or(0, |backlog| backlog.of("inbox") + backlog.of("activity.default"));
            if !report.is_clean() || (open.is_empty() && waiting == 0) {
                return Ok(());
            }
            if Instant::now() >= until {
                let backlog = backlog.map(ToString::to_string).unwrap_or_default();
                found.add(format!("after {EMPTY:?} of calm these are open: {open:?}; {backlog}"));
                return Ok(());
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Keeps what explains a violation: who owns what, what the stuck runs are, what lies in the topics.
    async fn evidence(&self) -> Result<()> {
        for seat in &self.world.seats {
            if let Err(error) = send(seat.pid.load(Ordering::Relaxed), rustix::process::Signal::USR1) {
                eprintln!("worker {} cannot be asked: {error:#}", seat.number);
            }
        }
        let mut text = String::new();
        let playing = self.playing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let client = self.world.stage.quick.any();
        let archive = self.archive.lock().await;
        for number in playing.keys().take(20) {
            let id = Play::of(self.options.seed, *number).id();
            let view = client.run_named(&id).describe().await;
            text.push_str(&format!("{id}, shard {}: {view:#?}\n\n", archive.shard_of(&id)));
        }
        drop(archive);
        match everpulse_checker::check(&self.checked).await {
            Ok(report) => text.push_str(&format!("{report}\n\n{:#}\n", report.to_json(false))),
            Err(error) => text.push_str(&format!("the checker could not read: {error:#}\n")),
        }
        for topic in self.topics() {
            match self.world.admin.stats(&topic).await {
                Ok(stats) => text.push_str(&format!("\n{topic}: {stats:#}\n")),
                Err(error) => text.push_str(&format!("\n{topic}: {error}\n")),
            }
        }
        let path = self.options.folder.join("evidence.txt");
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("the evidence is in {}", self.options.folder.display());
        Ok(())
    }

    fn topics(&self) -> Vec<String> {
        use everpulse_protocol::topic;
        let inbox = (0..INBOX_PARTITIONS).map(|partition| topic::partition(topic::INBOX, partition));
        let history = (0..SHARDS).map(|shard| topic::partition(topic::HISTORY, shard));
        inbox.chain(history).chain([topic::activity("default"), topic::TIMERS.to_owned()]).collect()
    }

    /// The last judgement, and the figures.
    async fn end(self) -> Result<Value> {
        let Self { options, world, archive, checked, ledger, .. } = self;
        let (figures, found) = (&world.figures, &world.found);
        let mut archive = archive.lock().await;
        archive.read_on(&checked).await.context("reading history to its end")?;
        let played = world.plays.all();
        let letters = judge::dead_letters(&world.stage.quick.any(), options.seed, &played, found).await?;
        // Frozen ones go on before they leave.
        for seat in &world.seats {
            if let Some(process) = seat.process.lock().await.take()
                && let Err(error) = process.leave().await
            {
                found.add(format!("worker {} at the end: {error:#}", seat.number));
            }
        }
        let faults = figures.faults();
        let everything = judge::everything(&archive, &ledger, options.seed, &played, figures, found)?;
        look_through_logs(&world.logs, found)?;
        let broker = world.broker.lock().await;
        for ms in &broker.starts_ms {
            figures.sample("start of the broker, ms", *ms);
        }
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let heard = &world.stage.heard;
        let mut json = figures.to_json();
        json["ok"] = found.is_empty().into();
        json["violations"] = json!(found.all());
        json["arm"] = options.arm.name().into();
        json["seed"] = options.seed.into();
        json["minutes"] = options.minutes.into();
        json["options"] = json!({
            "rate": options.rate, "in_flight": options.in_flight, "storm_seconds": options.storm_seconds,
            "retention_seconds": options.retention_seconds, "workers": WORKERS, "shards": SHARDS,
        });
        json["history"] = everything;
        json["dead_letters"] = letters;
        json["disk_limited"] = broker.disk().is_some_and(super::disk::Disk::is_limited).into();
        json["heard"] = json!({
            "calls_dropped": count(&heard.calls_dropped),
            "timeouts": count(&heard.timeouts),
            "unreachable": count(&heard.unreachable),
            "expired": count(&heard.expired),
            "ends_no_longer_kept": count(&heard.ends_gone),
            "ends_asked_again": count(&heard.asked_again),
            "signals": count(&heard.signals),
        });
        json["ended_at_ms"] = now_ms().into();
        fs::write(options.folder.join("figures.json"), format!("{json:#}"))?;
        let kept: Value = json!(faults);
        fs::write(options.folder.join("faults.json"), format!("{kept:#}"))?;
        Ok(json)
    }
}

/// No process panics.
fn look_through_logs(logs: &Path, found: &Found) -> Result<()> {
    for file in fs::read_dir(logs)? {
        let path = file?.path();
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        for line in text.lines().filter(|line| line.contains("panicked at")) {
            found.add(format!("{}: {line}", path.display()));
        }
    }
    Ok(())
}
