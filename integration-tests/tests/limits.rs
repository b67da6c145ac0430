//! What all workers of a queue are permitted together, on either arm: never more attempts at a time than were said, whoever is
//! killed, comes or goes, and never more in a while than the rate.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use everpulse::prelude::*;
use everpulse::{Never, Run};
use everpulse_integration_tests::arm::{Arm, eventually};
use everpulse_integration_tests::ledger;
use everpulse_integration_tests::party::{self, Party, Role};
use everpulse_integration_tests::workflows::takes_seats;
use tokio::sync::Semaphore;

const SEATS: usize = 2;

fn worker(arm: &Arm, ledger: &Path) -> Result<Party> {
    let seats = (party::SEATS, SEATS.to_string());
    Party::start_with(arm.url(), Role::Activities, ledger, None, &[seats])
}

async fn runs(client: &Client, name: &str, count: usize, ms: u64) -> Result<Vec<Run<takes_seats>>> {
    let mut runs = Vec::new();
    for n in 0..count {
        runs.push(client.start(takes_seats(ms)).id(format!("{name}-{n}")).enqueue().await?);
    }
    Ok(runs)
}

async fn done(ledger: &Path, count: usize) -> Result<()> {
    eventually(&format!("{count} attempts that ended"), async || {
        let ended = ledger::read(ledger)?.iter().filter(|entry| entry.step.starts_with("out ")).count();
        Ok((ended >= count).then_some(()))
    })
    .await
}

/// How many were inside at a time, at most. What ran in a process that was killed or stopped counts no more, from the place in the
/// ledger where that is known; what that one begins later does.
fn most_at_a_time(ledger: &Path, lost: Option<(u32, usize)>) -> Result<usize> {
    let (mut inside, mut most) = (BTreeSet::new(), 0);
    for (place, entry) in ledger::read(ledger)?.into_iter().enumerate() {
        if let Some((process, _)) = lost.filter(|(_, known)| *known == place) {
            inside.retain(|(_, of): &(String, String)| *of != process.to_string());
        }
        let Some((what, process)) = entry.step.split_once(' ') else { continue };
        let key = (format!("{} {}", entry.key, entry.attempt), process.to_owned());
        match what {
            "in" => drop(inside.insert(key)),
            _ => drop(inside.remove(&key)),
        }
        most = most.max(inside.len());
    }
    Ok(most)
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_over_three_workers_of_which_one_is_killed() -> Result<()> {
    let arm = Arm::new()?;
    // Holds the embedded broker, so that the victim is nothing but a worker.
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _owner = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
    let mut workers = [worker(&arm, &ledger)?, worker(&arm, &ledger)?, worker(&arm, &ledger)?];
    let runs = runs(&client, "killed", 40, 150).await?;
    done(&ledger, 10).await?;
    let process = at_work(&ledger)?;
    let victim = workers.iter_mut().find(|worker| worker.id() == process).context("it is one of three")?;
    victim.kill()?;
    let known = ledger::read(&ledger)?.len();
    for run in &runs {
        run.result().await?;
    }
    let most = most_at_a_time(&ledger, Some((process, known)))?;
    ensure!(most == SEATS, "{most} at a time");
    let report = everpulse_checker::check(&arm.checked(&[], None)?).await?;
    ensure!(report.is_clean() && report.counts().open == 0, "{report:#?}");
    Ok(())
}

/// The process that began last, and so is at work, as far as can be seen.
fn at_work(ledger: &Path) -> Result<u32> {
    let last = ledger::read(ledger)?.into_iter().rfind(|entry| entry.step.starts_with("in "));
    Ok(last.context("somebody works")?.step.trim_start_matches("in ").parse()?)
}

/// How many of a process are inside.
fn inside_of(ledger: &Path, process: u32) -> Result<usize> {
    let entries = ledger::read(ledger)?;
    let of = |what: &str| {
        let step = format!("{what} {process}");
        entries.iter().filter(|entry| entry.step == step).count()
    };
    Ok(of("in").saturating_sub(of("out")))
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_when_a_worker_comes_back_whose_permits_others_have() -> Result<()> {
    let arm = Arm::new()?;
    // Holds the embedded broker, so that nothing but a worker is stopped.
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _owner = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
    let workers = [worker(&arm, &ledger)?, worker(&arm, &ledger)?];
    // Enough for all seats, for as long as this takes.
    let runs = runs(&client, "stopped", 80, 600).await?;
    done(&ledger, 4).await?;
    // One that has a seat, which it cannot give up while it is stopped.
    let (stopped, known) = eventually("one with a seat is stopped", async || {
        let process = at_work(&ledger)?;
        let worker = workers.iter().find(|worker| worker.id() == process).context("it is one of two")?;
        worker.freeze()?;
        // Its threads stop one after the other.
        tokio::time::sleep(Duration::from_millis(200)).await;
        ensure!(worker.is_stopped()?, "it was told to");
        let known = ledger::read(&ledger)?.len();
        if inside_of(&ledger, process)? > 0 {
            return Ok(Some((worker, known)));
        }
        worker.thaw()?;
        Ok(None)
    })
    .await?;
    let other = workers.iter().find(|worker| worker.id() != stopped.id()).context("there are two")?;
    eventually("the other one has all seats", async || Ok((inside_of(&ledger, other.id())? == SEATS).then_some(())))
        .await?;
    let back = ledger::read(&ledger)?.len();
    stopped.thaw()?;
    for run in &runs {
        run.result().await?;
    }
    let most = most_at_a_time(&ledger, Some((stopped.id(), known)))?;
    ensure!(most == SEATS, "{most} at a time");
    let step = format!("in {}", stopped.id());
    let begun = ledger::read(&ledger)?.into_iter().skip(back).filter(|entry| entry.step == step).count();
    ensure!(begun > 0, "it began nothing any more, which shows nothing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_while_the_broker_is_killed_and_comes_back() -> Result<()> {
    let mut arm = Arm::with_own_broker()?;
    let client = Client::connect(arm.url()).await?;
    let ledger = arm.dir().join("ledger.jsonl");
    let _owner = Party::start(arm.url(), Role::Workflows, &ledger, None)?;
    let _workers = [worker(&arm, &ledger)?, worker(&arm, &ledger)?];
    let runs = runs(&client, "restart", 30, 150).await?;
    done(&ledger, 8).await?;
    arm.restart_broker()?;
    for run in &runs {
        run.result().await?;
    }
    let most = most_at_a_time(&ledger, None)?;
    ensure!(most == SEATS, "{most} at a time");
    Ok(())
}

/// Those that are in the room, and how many there have been at a time.
static ROOM: Mutex<(usize, usize)> = Mutex::new((0, 0));
static LET_GO: Semaphore = Semaphore::const_new(0);

#[activity(queue = "room", timeout = "60s")]
async fn stays_in_the_room() {
    {
        let mut room = ROOM.lock().unwrap_or_else(PoisonError::into_inner);
        *room = (room.0 + 1, room.1.max(room.0 + 1));
    }
    if let Ok(leave) = LET_GO.acquire().await {
        leave.forget();
    }
    ROOM.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
}

#[workflow(version = 1)]
async fn visits() -> Result<(), Failure<Never>> {
    stays_in_the_room().await
}

async fn inside(count: usize) -> Result<()> {
    eventually(&format!("{count} in the room"), async || {
        Ok((ROOM.lock().unwrap_or_else(PoisonError::into_inner).0 == count).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_changed_by_a_worker_that_comes() -> Result<()> {
    let arm = Arm::new()?;
    let serving = async |limit| {
        let worker = Worker::connect(arm.url()).await?.workflow(visits).activity(stays_in_the_room);
        worker.concurrency_across_workers("room", limit).spawn().await
    };
    let first = serving(1).await?;
    let client = Client::connect(arm.url()).await?;
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.push(client.start(visits()).enqueue().await?);
    }
    inside(1).await?;
    LET_GO.add_permits(2);
    eventually("two have gone", async || Ok((LET_GO.available_permits() == 0).then_some(()))).await?;
    inside(1).await?;
    let second = serving(3).await?;
    inside(3).await?;
    LET_GO.add_permits(6);
    for run in &runs {
        run.result().await?;
    }
    let most = ROOM.lock().unwrap_or_else(PoisonError::into_inner).1;
    ensure!(most == 3, "{most} at a time");
    first.stop().await;
    second.stop().await;
    Ok(())
}

/// When attempts began.
static CALLED: Mutex<Vec<Instant>> = Mutex::new(Vec::new());

const RATE: f64 = 10.0;
/// So many that permits which rest for a third less would be noticed.
const CALLS: u32 = 120;

#[activity(queue = "calls", timeout = "30s")]
async fn asks_elsewhere() {
    CALLED.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
}

#[workflow(version = 1)]
async fn asks() -> Result<(), Failure<Never>> {
    asks_elsewhere().await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_rate_hold_over_three_workers() -> Result<()> {
    let arm = Arm::new()?;
    let mut workers = Vec::new();
    for _ in 0..3 {
        let worker = Worker::connect(arm.url()).await?.workflow(asks).activity(asks_elsewhere);
        workers.push(worker.rate_across_workers("calls", RATE).spawn().await?);
    }
    let client = Client::connect(arm.url()).await?;
    let mut runs = Vec::new();
    for _ in 0..CALLS {
        runs.push(client.start(asks()).enqueue().await?);
    }
    for run in &runs {
        run.result().await?;
    }
    let called = CALLED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(called.len() == CALLS as usize, "{}", called.len());
    never_faster(called)?;
    for worker in workers {
        worker.stop().await;
    }
    Ok(())
}

/// In any time no more than the rate allows, and one second's worth.
fn never_faster(mut called: Vec<Instant>) -> Result<()> {
    called.sort_unstable();
    // More than the rule says: so late may an attempt write down that it has begun, on a machine with much to do.
    let late = Duration::from_secs(2);
    for (first, from) in called.iter().enumerate() {
        for (last, to) in called.iter().enumerate().skip(first) {
            let (count, time) = ((last - first + 1) as f64, (*to - *from + late).as_secs_f64());
            ensure!(count <= RATE * time + RATE, "{count} calls in {time} s");
        }
    }
    Ok(())
}

/// Those that are at the gate, how many there have been at a time, and when they came.
static GATE: Mutex<(usize, usize, Vec<Instant>)> = Mutex::new((0, 0, Vec::new()));

const AT_A_TIME: usize = 3;

#[activity(queue = "gate", timeout = "30s")]
async fn passes_the_gate(ms: u64) {
    {
        let mut gate = GATE.lock().unwrap_or_else(PoisonError::into_inner);
        gate.0 += 1;
        gate.1 = gate.1.max(gate.0);
        gate.2.push(Instant::now());
    }
    tokio::time::sleep(Duration::from_millis(ms)).await;
    GATE.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
}

#[workflow(version = 1)]
async fn passes(ms: u64) -> Result<(), Failure<Never>> {
    passes_the_gate(ms).await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_both_kinds_hold_over_three_workers_and_nobody_waits_for_ever() -> Result<()> {
    let arm = Arm::new()?;
    let mut workers = Vec::new();
    for _ in 0..3 {
        let worker = Worker::connect(arm.url()).await?.workflow(passes).activity(passes_the_gate);
        let worker = worker.concurrency_across_workers("gate", AT_A_TIME).rate_across_workers("gate", RATE);
        workers.push(worker.spawn().await?);
    }
    let client = Client::connect(arm.url()).await?;
    let mut runs = Vec::new();
    for n in 0..CALLS {
        // Now the one is scarce, and now the other.
        let ms = if n.is_multiple_of(4) { 500 } else { 10 };
        runs.push(client.start(passes(ms)).enqueue().await?);
    }
    for run in &runs {
        run.result().await?;
    }
    let (_, most, called) = GATE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!((2..=AT_A_TIME).contains(&most), "{most} at a time");
    ensure!(called.len() == CALLS as usize, "{}", called.len());
    never_faster(called)?;
    for worker in workers {
        worker.stop().await;
    }
    Ok(())
}
