//! Many instances of one task: how many there are, and which of them are waited for.

use everpulse::Never;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{next, perform, perform_for_ever};

/// 12, Multiple Instances without Synchronization: begun, and nobody waits for them.
#[workflow(version = 1)]
pub async fn without_synchronization(tickets: u32) -> Result<String, Failure<Never>> {
    for ticket in 1..=tickets {
        perform(format!("notify owner of ticket {ticket}")).detach();
    }
    perform("close the day".to_owned()).await
}

/// 13, Multiple Instances with a Priori Design-Time Knowledge: their number stands in the source.
#[workflow(version = 1)]
pub async fn known_when_written() -> Result<(String, String, String), Failure<Never>> {
    let signed = |director: &str| perform(format!("{director} signs"));
    try_join!(signed("Ann"), signed("Bob"), signed("Cleo"))
}

/// 14, Multiple Instances with a Priori Run-Time Knowledge: their number is known when the first begins.
#[workflow(version = 1)]
pub async fn known_when_begun(lines: Vec<String>) -> Result<Vec<String>, Failure<Never>> {
    try_join_all(lines.into_iter().map(perform)).await
}

/// Another instance is wanted, or no more.
#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub enum Barrels {
    More(String),
    NoMore,
}

/// 15, Multiple Instances without a Priori Run-Time Knowledge: more are begun while others run.
#[workflow(version = 1)]
pub async fn never_known() -> Result<Vec<String>, Failure<Never>> {
    let mut running = Vec::new();
    let mut done = Vec::new();
    let mut more = true;
    while more || !running.is_empty() {
        select! {
            barrels = signal::<Barrels>().recv(), if more => match barrels {
                Barrels::More(barrel) => running.push(perform(barrel).start()),
                Barrels::NoMore => more = false,
            },
            barrel = next(&mut running), if !running.is_empty() => done.push(barrel?),
        }
    }
    done.sort();
    Ok(done)
}

/// Enough.
#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Enough {}

/// 26, Cancel Multiple Instance Task: all that have not ended are withdrawn, and nothing of them counts.
#[workflow(version = 1)]
pub async fn cancelled(searches: Vec<String>) -> Result<String, Failure<Never>> {
    let all = try_join_all(searches.into_iter().map(perform_for_ever));
    select! {
        found = all => Ok(format!("found {} times", found?.len())),
        _ = signal::<Enough>().recv() => perform("call it off".to_owned()).await,
    }
}

/// 27, Complete Multiple Instance Task: those that have not ended are withdrawn, and it goes on with the others.
#[workflow(version = 1)]
pub async fn completed_early(quick: Vec<String>, slow: Vec<String>) -> Result<Vec<String>, Failure<Never>> {
    let mut running: Vec<_> = quick.into_iter().map(|name| perform(name).start()).collect();
    let slow: Vec<_> = slow.into_iter().map(|name| perform_for_ever(name).start()).collect();
    let mut done = Vec::new();
    while !running.is_empty() {
        done.push(next(&mut running).await?);
    }
    let _ = signal::<Enough>().recv().await;
    drop(slow);
    done.sort();
    done.push(perform("report".to_owned()).await?);
    Ok(done)
}

/// 34, Static Partial Join for Multiple Instances: goes on after so many; the others come to their ends.
#[workflow(version = 1)]
pub async fn static_partial_join(wanted: usize, samples: u32) -> Result<(usize, usize), Failure<Never>> {
    let mut running: Vec<_> = (0..samples).map(|sample| perform(format!("sample {sample}")).start()).collect();
    for _ in 0..wanted {
        next(&mut running).await?;
    }
    perform("judge the batch".to_owned()).await?;
    let late = try_join_all(running).await?.len();
    Ok((wanted, late))
}

/// 35, Cancelling Partial Join for Multiple Instances: goes on after so many, and withdraws the others.
#[workflow(name = "cancelling_partial_join_for_instances", version = 1)]
pub async fn cancelling_partial_join(wanted: usize, engines: u32) -> Result<usize, Failure<Never>> {
    // The first of them answer; the others never would.
    let search = async |engine: usize| match engine < wanted {
        true => perform(format!("engine {engine}")).await,
        false => perform_for_ever(format!("engine {engine}")).await,
    };
    let mut running: Vec<_> = (0..engines as usize).map(|engine| Box::pin(search(engine))).collect();
    for _ in 0..wanted {
        next(&mut running).await?;
    }
    let withdrawn = running.len();
    drop(running);
    perform("show what was found".to_owned()).await?;
    Ok(withdrawn)
}

/// 36, Dynamic Partial Join for Multiple Instances: more are begun while others run, and whether it goes on is decided
/// anew each time that one has ended.
#[workflow(version = 1)]
pub async fn dynamic_partial_join(until: u64) -> Result<u64, Failure<Never>> {
    let mut running = Vec::new();
    let mut found = 0;
    while found < until {
        select! {
            barrels = signal::<Barrels>().recv() => match barrels {
                Barrels::More(barrel) => running.push(perform(barrel).start()),
                Barrels::NoMore => break,
            },
            barrel = next(&mut running), if !running.is_empty() => found += barrel?.len() as u64,
        }
    }
    Ok(found)
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker
        .workflow(without_synchronization)
        .workflow(known_when_written)
        .workflow(known_when_begun)
        .workflow(never_known)
        .workflow(cancelled)
        .workflow(completed_early)
        .workflow(static_partial_join)
        .workflow(cancelling_partial_join)
        .workflow(dynamic_partial_join)
}
