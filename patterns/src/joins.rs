//! Joins that go on before all have come.

use everpulse::Never;
use everpulse::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{next, perform, perform_for_ever};

/// 9, Structured Discriminator: goes on with the first; the others come to their ends and change nothing.
#[workflow(version = 1)]
pub async fn structured_discriminator() -> Result<(String, usize), Failure<Never>> {
    let mut running: Vec<_> = ["breathing", "pulse"].map(|check| perform(check.to_owned()).start()).into();
    next(&mut running).await?;
    let triage = perform("triage".to_owned()).await?;
    let mut late = 0;
    while !running.is_empty() {
        next(&mut running).await?;
        late += 1;
    }
    Ok((triage, late))
}

/// 29, Cancelling Discriminator: goes on with the first, and withdraws the others.
#[workflow(version = 1)]
pub async fn cancelling_discriminator() -> Result<String, Failure<Never>> {
    let answer = select! {
        answer = perform_for_ever("slow source".to_owned()) => answer?,
        answer = perform("quick source".to_owned()) => answer?,
    };
    perform(format!("use the {answer}")).await
}

/// 30, Structured Partial Join: goes on after so many of them; the others come to their ends and change nothing.
#[workflow(version = 1)]
pub async fn structured_partial_join(wanted: usize, reviewers: Vec<String>) -> Result<(usize, usize), Failure<Never>> {
    let mut running: Vec<_> = reviewers.into_iter().map(|name| perform(name).start()).collect();
    let mut reviews = 0;
    while reviews < wanted {
        next(&mut running).await?;
        reviews += 1;
    }
    perform("accept the paper".to_owned()).await?;
    let mut late = 0;
    while !running.is_empty() {
        next(&mut running).await?;
        late += 1;
    }
    Ok((reviews, late))
}

/// 32, Cancelling Partial Join: goes on after so many of them, and withdraws the others.
#[workflow(version = 1)]
pub async fn cancelling_partial_join(
    wanted: usize,
    quick: Vec<String>,
    slow: Vec<String>,
) -> Result<usize, Failure<Never>> {
    let quick = quick.into_iter().map(|name| Box::pin(async { perform(name).await }) as Branch);
    let slow = slow.into_iter().map(|name| Box::pin(async { perform_for_ever(name).await }) as Branch);
    let mut running: Vec<Branch> = quick.chain(slow).collect();
    let mut bids = 0;
    while bids < wanted {
        next(&mut running).await?;
        bids += 1;
    }
    drop(running);
    perform("take the best".to_owned()).await?;
    Ok(bids)
}

type Branch = std::pin::Pin<Box<dyn Future<Output = Result<String, Failure<Never>>>>>;

/// Something came, by one of several ways.
#[everpulse::signal]
#[derive(Debug, Serialize, Deserialize)]
pub struct Arrival {
    pub way: u32,
    pub what: String,
}

fn by(way: u32) -> impl Future<Output = Arrival> + Unpin {
    signal::<Arrival>().recv_where(move |arrival| arrival.way == way)
}

/// 28, Blocking Discriminator: of each round the first goes on; who comes again by the same way waits until the round is
/// whole.
#[workflow(version = 1)]
pub async fn blocking_discriminator(rounds: usize) -> Result<Vec<String>, Failure<Never>> {
    partial_rounds(rounds, 1).await
}

/// 31, Blocking Partial Join: the same with so many of each round.
#[workflow(version = 1)]
pub async fn blocking_partial_join(rounds: usize, wanted: usize) -> Result<Vec<String>, Failure<Never>> {
    partial_rounds(rounds, wanted).await
}

/// Three ways. Who comes by one twice stays among the signals until its next round.
async fn partial_rounds(rounds: usize, wanted: usize) -> Result<Vec<String>, Failure<Never>> {
    let mut done = Vec::new();
    for _ in 0..rounds {
        let mut ways: Vec<_> = (1..=3).map(by).collect();
        let mut came = Vec::new();
        while came.len() < wanted {
            came.push(next(&mut ways).await.what);
        }
        done.push(perform(came.join(" and ")).await?);
        while !ways.is_empty() {
            next(&mut ways).await;
        }
    }
    Ok(done)
}

/// 33, Generalised AND-Join: one of each way; who comes by one way again before the others is kept for the next time.
#[workflow(version = 1)]
pub async fn generalised_and_join(times: usize) -> Result<Vec<String>, Failure<Never>> {
    let mut done = Vec::new();
    for _ in 0..times {
        let (first, second) = join!(by(1), by(2));
        done.push(perform(format!("{} with {}", first.what, second.what)).await?);
    }
    Ok(done)
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker
        .workflow(structured_discriminator)
        .workflow(cancelling_discriminator)
        .workflow(structured_partial_join)
        .workflow(cancelling_partial_join)
        .workflow(blocking_discriminator)
        .workflow(blocking_partial_join)
        .workflow(generalised_and_join)
}
