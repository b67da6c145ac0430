//! What may be done now depends on what else happens.

use everpulse::prelude::*;
use everpulse::{Mutex, Never, Semaphore};
use serde::{Deserialize, Serialize};

use crate::perform;

/// Somebody takes the case up.
#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct AgentFree {
    pub agent: String,
}

/// The customer withdraws it.
#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Withdrawn {}

/// 16, Deferred Choice: whoever comes first decides, from outside; the other ways are closed then.
#[workflow(version = 1)]
pub async fn deferred_choice(patience_ms: u64) -> Result<String, Failure<Never>> {
    select! {
        free = signal::<AgentFree>().recv() => perform(format!("talk to {}", free.agent)).await,
        _ = signal::<Withdrawn>().recv() => perform("file it".to_owned()).await,
        () = sleep(Duration::from_millis(patience_ms)) => perform("escalate".to_owned()).await,
    }
}

/// 17, Interleaved Parallel Routing: in any order that keeps what has an order, and one at a time.
#[workflow(version = 1)]
pub async fn interleaved_parallel_routing() -> Result<Vec<String>, Failure<Never>> {
    let bench = Mutex::new(Vec::new());
    let device = async {
        for task in ["check the device", "calibrate the device"] {
            let mut done = bench.lock().await;
            done.push(perform(task.to_owned()).await?);
        }
        Ok::<_, Failure<Never>>(())
    };
    let papers = async {
        let mut done = bench.lock().await;
        done.push(perform("check the papers".to_owned()).await?);
        Ok(())
    };
    try_join!(device, papers)?;
    Ok(bench.into_inner())
}

/// 18, Milestone: something may be done only while the case is in a state, and that goes on by itself.
#[workflow(version = 1)]
pub async fn milestone(until_departure_ms: u64) -> Result<Vec<String>, Failure<Never>> {
    let mut done = vec![perform("issue the ticket".to_owned()).await?];
    let departure = sleep(Duration::from_millis(until_departure_ms));
    let changes = async {
        loop {
            let free = signal::<AgentFree>().recv().await;
            done.push(perform(format!("rebook with {}", free.agent)).await?);
        }
    };
    let departed: Result<(), Failure<Never>> = select! {
        () = departure => Ok(()),
        failed = changes => failed,
    };
    departed?;
    done.push(perform("board".to_owned()).await?);
    Ok(done)
}

/// 39, Critical Section: of two parts of a case one at a time, each with several tasks.
#[workflow(version = 1)]
pub async fn critical_section() -> Result<Vec<String>, Failure<Never>> {
    let account = Mutex::new(Vec::new());
    let part = async |name: &str| {
        let mut done = account.lock().await;
        done.push(perform(format!("{name} reads")).await?);
        done.push(perform(format!("{name} writes")).await?);
        Ok::<_, Failure<Never>>(())
    };
    try_join!(part("first"), part("second"))?;
    Ok(account.into_inner())
}

/// 40, Interleaved Routing: each once, in any order, one at a time.
#[workflow(version = 1)]
pub async fn interleaved_routing(checks: Vec<String>) -> Result<Vec<String>, Failure<Never>> {
    let one_at_a_time = Semaphore::new(1);
    let checks = checks.into_iter().map(async |check| {
        let _turn = one_at_a_time.acquire().await;
        perform(check).await
    });
    try_join_all(checks).await
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker
        .workflow(deferred_choice)
        .workflow(interleaved_parallel_routing)
        .workflow(milestone)
        .workflow(critical_section)
        .workflow(interleaved_routing)
}
