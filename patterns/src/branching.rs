//! Any number of several ways, and how they come together.

use everpulse::Never;
use everpulse::prelude::*;

use crate::perform;

/// 6, Multi-Choice: as many ways as data asks for.
#[workflow(version = 1)]
pub async fn multi_choice(fire: bool, injured: bool, police: bool) -> Result<Vec<String>, Failure<Never>> {
    let ways = [(fire, "fire brigade"), (injured, "ambulance"), (police, "police")];
    let chosen = ways.into_iter().filter(|(wanted, _)| *wanted).map(|(_, whom)| perform(whom.to_owned()));
    try_join_all(chosen).await
}

/// 7, Structured Synchronizing Merge: waits for the ways that were chosen, all of them, and goes on once.
#[workflow(version = 1)]
pub async fn structured_synchronizing_merge(whom: Vec<String>) -> Result<Vec<String>, Failure<Never>> {
    let mut done = try_join_all(whom.into_iter().map(perform)).await?;
    done.push(perform("report".to_owned()).await?);
    Ok(done)
}

/// 8, Multi-Merge: what comes after the merge is done once for each way.
#[workflow(version = 1)]
pub async fn multi_merge(parts: Vec<String>) -> Result<Vec<String>, Failure<Never>> {
    let branches = parts.into_iter().map(async |part| {
        let part = perform(part).await?;
        perform(format!("{part} archived")).await
    });
    try_join_all(branches).await
}

/// 37, Local Synchronizing Merge: whether a way will come is known at the merge itself, from who was begun and not
/// withdrawn.
#[workflow(version = 1)]
pub async fn local_synchronizing_merge(express: bool) -> Result<Vec<String>, Failure<Never>> {
    let pack = perform("pack".to_owned()).start();
    // Begun, and perhaps withdrawn before the merge.
    let mut insure = Some(perform("insure".to_owned()).start());
    let label = perform("label".to_owned()).await?;
    if express {
        drop(insure.take());
    }
    let mut done = vec![label, pack.await?];
    if let Some(insure) = insure {
        done.push(insure.await?);
    }
    done.push(perform("ship".to_owned()).await?);
    Ok(done)
}

/// 41, Thread Merge: so many threads of one way become one again.
#[workflow(version = 1)]
pub async fn thread_merge(cars: u32) -> Result<String, Failure<Never>> {
    let washed = try_join_all((0..cars).map(|car| perform(format!("wash {car}")))).await?;
    perform(format!("{} washed", washed.len())).await
}

/// 42, Thread Split: one thread becomes so many threads of one way.
#[workflow(version = 1)]
pub async fn thread_split(copies: u32) -> Result<Vec<String>, Failure<Never>> {
    try_join_all((1..=copies).map(|copy| perform(format!("print copy {copy}")))).await
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker
        .workflow(multi_choice)
        .workflow(structured_synchronizing_merge)
        .workflow(multi_merge)
        .workflow(local_synchronizing_merge)
        .workflow(thread_merge)
        .workflow(thread_split)
}
