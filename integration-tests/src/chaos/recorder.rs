//! Looks on while it goes: keeps history before it is trimmed, measures memory and disk, plays the operator.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use everpulse::client::ErrorKind;
use everpulse_checker::Archive;
use everpulse_protocol::dead_letter::Letter;
use tokio::sync::Mutex;
use tokio::time::{interval, sleep};

use super::disk;
use super::faults::World;
use super::figures::peak_kb;
use super::mix::{Kind, Play};

/// How often history is read on: much more often than it is trimmed.
const READ: Duration = Duration::from_secs(5);
const SAMPLE: Duration = Duration::from_secs(2);
const OPERATE: Duration = Duration::from_secs(8);

/// Reads history on, for ever. A broker that is away is tried again.
pub async fn keep(archive: Arc<Mutex<Archive>>, options: everpulse_checker::Options) {
    loop {
        // What cannot be read now is read the next time; what is trimmed before is a hole that the judge sees.
        let _ = archive.lock().await.read_on(&options).await;
        sleep(READ).await;
    }
}

/// Measures, for ever.
pub async fn measure(world: Arc<World>) {
    let mut ticks = interval(SAMPLE);
    loop {
        ticks.tick().await;
        let workers = world.seats.iter().chain([&world.extra]).map(|seat| seat.pid.load(Ordering::Relaxed));
        for kb in workers.filter(|pid| *pid > 0).filter_map(peak_kb) {
            world.figures.memory("a worker", kb);
        }
        world.figures.memory("the conductor with its clients", peak_kb(std::process::id()).unwrap_or(0));
        // While it is being killed or started there is nothing to measure.
        if let Ok(broker) = world.broker.try_lock() {
            world.figures.memory("the broker", broker.pid().and_then(peak_kb).unwrap_or(0));
            if let Some(disk) = broker.disk().filter(|disk| !disk.is_full()) {
                world.figures.disk(disk::used(&disk.data()));
            }
        }
    }
}

/// Redrives what waits for an operator, for ever: allows it first.
pub async fn operate(world: Arc<World>, seed: u64, allowed: PathBuf) {
    loop {
        sleep(OPERATE).await;
        // While the broker is away nobody can look.
        if let Err(error) = operate_once(&world, seed, &allowed).await {
            world.figures.sample("looks of the operator that failed", 1);
            tracing::info!(%error, "the operator could not look");
        }
    }
}

async fn operate_once(world: &World, seed: u64, allowed: &std::path::Path) -> Result<()> {
    let letters = world.stage.quick.any().dead_letters("default")?;
    for listed in letters.list().await? {
        let Letter::Task(task) = &listed.letter.letter else { continue };
        let id = task.workflow_id.as_str();
        let waits = Play::number_in(id).is_some_and(|number| Play::of(seed, number).kind == Kind::Permitted);
        if !waits {
            continue;
        }
        fs::write(allowed.join(id), b"")?;
        match letters.redrive(listed.id).await {
            Ok(()) => world.figures.sample("letters redriven", 1),
            // A second letter of the same step.
            Err(error) if error.kind() == ErrorKind::AlreadyFailed => letters.drop(listed.id).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
