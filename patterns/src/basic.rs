//! One after another, side by side, one or the other.

use everpulse::Never;
use everpulse::prelude::*;

use crate::perform;

/// 1, Sequence: a task begins when the one before is done.
#[workflow(version = 1)]
pub async fn sequence() -> Result<Vec<String>, Failure<Never>> {
    let mut done = Vec::new();
    for task in ["pick", "pack", "ship"] {
        done.push(perform(task.to_owned()).await?);
    }
    Ok(done)
}

/// 2, Parallel Split: one thread of control becomes several.
#[workflow(version = 1)]
pub async fn parallel_split() -> Result<(String, String), Failure<Never>> {
    let bill = async {
        perform("write the bill".to_owned()).await?;
        perform("send the bill".to_owned()).await
    };
    try_join!(bill, perform("ship".to_owned()))
}

/// 3, Synchronization: goes on when all are done, and once.
#[workflow(version = 1)]
pub async fn synchronization() -> Result<Vec<String>, Failure<Never>> {
    let (bill, goods) = try_join!(perform("bill".to_owned()), perform("goods".to_owned()))?;
    let close = perform("close".to_owned()).await?;
    Ok(vec![bill, goods, close])
}

/// 4, Exclusive Choice: one of several ways, decided by data.
#[workflow(version = 1)]
pub async fn exclusive_choice(cents: u64) -> Result<String, Failure<Never>> {
    if cents > 100_000 { perform("ask the manager".to_owned()).await } else { perform("accept".to_owned()).await }
}

/// 5, Simple Merge: whichever way was taken, the same comes after it.
#[workflow(version = 1)]
pub async fn simple_merge(by_card: bool) -> Result<Vec<String>, Failure<Never>> {
    let paid = if by_card { perform("card".to_owned()).await? } else { perform("cash".to_owned()).await? };
    Ok(vec![paid, perform("receipt".to_owned()).await?])
}

pub(crate) fn serve(worker: Worker) -> Worker {
    worker
        .workflow(sequence)
        .workflow(parallel_split)
        .workflow(synchronization)
        .workflow(exclusive_choice)
        .workflow(simple_merge)
}
