//! Workflows that wait: for people, for time-outs, for the first of several, for their turn. A party serves them where
//! [`WAITS`](crate::party::WAITS) says so.

use std::cell::Cell;
use std::rc::Rc;

use everpulse::prelude::*;
use everpulse::{CompletionToken, Error, Never, Semaphore, activity as activity_context};

use crate::workflows::{HowOften, Trouble, Word, count, note};

/// Left to whoever signs. The token stands in the ledger before it is left, so that somebody may be too early.
#[activity(timeout = "60s", retry(initial = "50ms", max_attempts = 3))]
pub async fn notarize(contract: u64) -> Result<u64, Trouble> {
    let context = activity_context::context();
    let token: CompletionToken<u64, Trouble> = context.token(notarize);
    note(&format!("token {contract} {token}"));
    context.complete_later().await
}

/// Waits for a promise, and then for two signatures, one after the other.
#[workflow(version = 1)]
pub async fn agrees() -> Result<[u64; 3], Error> {
    let price = promise::<u64>().await?;
    Ok([price, notarize(1).await?, notarize(2).await?])
}

/// Takes so many words, publishes how many it has, and can be asked for the same.
#[workflow(version = 1)]
pub async fn watched(words: usize) -> usize {
    let taken = Rc::new(Cell::new(0));
    let asked = Rc::clone(&taken);
    on_query(move |_: HowOften| asked.get());
    while taken.get() < words {
        publish(&taken.get());
        signal::<Word>().recv().await;
        taken.set(taken.get() + 1);
    }
    taken.get()
}

/// Comes to its end at once, or when nobody wants it any more. A cancellation may be lost, so it does not take long.
#[activity(timeout = "3s", retry(max_attempts = 1))]
pub async fn lingers(n: u64, for_ever: bool) -> u64 {
    note(&format!("begins {n}"));
    if for_ever {
        activity_context::context().cancelled().await;
        note(&format!("withdrawn {n}"));
    }
    n
}

/// Withdraws one activity for a time-out, one that loses a `select!` and one that loses a race; then five take two permits.
#[workflow(version = 1)]
pub async fn withdraws() -> Result<Vec<u64>, Error> {
    let mut all = Vec::new();
    if timeout(Duration::from_millis(100), lingers(1, true)).await.is_err() {
        all.push(1);
    }
    all.push(select! {
        n = lingers(2, true) => n?,
        n = lingers(3, false) => n?,
    });
    all.push(race([lingers(4, true), lingers(5, false)]).await?);
    let permits = Semaphore::new(2);
    let branches = (10..15).map(async |n| {
        let _permit = permits.acquire().await;
        count(n).await
    });
    all.extend(try_join_all(branches).await?);
    Ok(all)
}

/// Does two more things when it is asked to cancel, one after the other.
#[workflow(version = 1)]
pub async fn shields() -> Result<u64, Error> {
    match lingers(6, true).await {
        Err(Failure::Cancelled) => {
            let rest = async {
                let first = count(20).await?;
                sleep(Duration::from_millis(20)).await;
                Ok::<u64, Failure<Never>>(first + count(21).await?)
            };
            Ok(shielded(rest).await?)
        }
        other => Ok(other?),
    }
}

/// Says how far it has come, and then nothing more; the next attempt goes on from there.
#[activity(timeout = "60s", heartbeat = "200ms", retry(initial = "20ms", max_attempts = 5))]
pub async fn falls_silent() -> u64 {
    note("falls_silent");
    let context = activity_context::context();
    if let Some(far) = context.last_heartbeat::<u64>() {
        return far;
    }
    context.heartbeat(41);
    std::future::pending().await
}

/// Never comes to anything, and is tried for ever.
#[activity(timeout = "60s", schedule_to_close = "300ms", retry(initial = "20ms", max = "50ms"))]
pub async fn hopeless() -> Result<u64, Trouble> {
    Err(Trouble::Flaky { attempt: activity_context::context().attempt() })
}

/// Says itself when it may go better: soon, where its policy would wait for long.
#[activity(timeout = "60s", retry(initial = "1h", max = "1h", after(Trouble::Flaky { .. } = "20ms")))]
pub async fn comes_back() -> Result<u64, Trouble> {
    let attempt = activity_context::context().attempt();
    if attempt < 3 { Err(Trouble::Flaky { attempt }) } else { Ok(u64::from(attempt)) }
}

/// Fails in a way that no other attempt would mend.
#[activity(timeout = "60s", retry(initial = "20ms", never = Trouble::Final))]
pub async fn refuses() -> Result<u64, Trouble> {
    note("refuses");
    Err(Trouble::Final)
}

/// Takes its time, on a queue where nobody else is taken up meanwhile.
#[activity(timeout = "60s", queue = "narrow")]
pub async fn holds_up(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

/// One way for an activity to end after the other, in words.
#[workflow(version = 1)]
pub async fn deadlines() -> [String; 5] {
    fn told<E: std::fmt::Display>(end: Result<u64, Failure<E>>) -> String {
        end.map_or_else(|failure| failure.to_string(), |value| value.to_string())
    }
    let silent = told(falls_silent().await);
    let (_, kept_waiting) = join!(holds_up(400), holds_up(0).schedule_to_start(Duration::from_millis(100)));
    let closed = told(hopeless().await);
    let back = told(comes_back().await);
    [silent, told(kept_waiting), closed, back, told(refuses().await)]
}

/// Takes its turn: two at a time in a process, and so many in a second.
#[activity(timeout = "60s", queue = "turns")]
pub async fn takes_a_turn(n: u64) -> u64 {
    let pid = std::process::id();
    note(&format!("begins {pid}"));
    tokio::time::sleep(Duration::from_millis(60)).await;
    note(&format!("ends {pid}"));
    n
}

/// As many turns as are asked for, all at once.
#[workflow(version = 1)]
pub async fn takes_turns(n: u64) -> Result<u64, Failure<Never>> {
    join_all((0..n).map(takes_a_turn)).await.into_iter().sum()
}

/// So many turns at a time in a process.
pub const AT_A_TIME: usize = 2;
/// So many turns in a second in a process.
pub const PER_SECOND: f64 = 25.0;

/// The workflows.
#[must_use]
pub fn serve_workflows(worker: Worker) -> Worker {
    let worker = worker.workflow(agrees).workflow(watched).workflow(withdraws).workflow(shields);
    worker.workflow(deadlines).workflow(takes_turns)
}

/// The activities, on queues of their own where their turns are counted.
#[must_use]
pub fn serve_activities(worker: Worker) -> Worker {
    let worker = worker.activity(notarize).activity(lingers).activity(falls_silent).activity(hopeless);
    let worker = worker.activity(comes_back).activity(refuses).activity(holds_up).activity(takes_a_turn);
    worker.queue_concurrency("narrow", 1).queue_concurrency("turns", AT_A_TIME).rate("turns", PER_SECOND)
}
