//! Semaphores and mutexes of the branches of one run.

use everpulse::{Error, Mutex, Semaphore, activity, join_all, race, sleep, try_join, workflow};
use std::time::Duration;

use crate::harness::{result, run};
use everpulse::replay::Input;

#[activity]
async fn work(_n: u32) -> Result<u32, Error> {
    Ok(1)
}

#[workflow]
async fn two_at_once(branches: u32) -> u32 {
    let at_once = Semaphore::new(2);
    let branch = async |n| {
        let _permit = at_once.acquire().await;
        work(n).await.unwrap_or(0)
    };
    join_all((0..branches).map(branch)).await.into_iter().sum()
}

#[test]
fn so_many_work_at_the_same_time_and_the_next_goes_on_when_one_is_done() {
    let mut run = run(two_at_once(4));
    assert_eq!(run.start(), ["0 activity work", "1 activity work", "waiting"]);
    assert_eq!(run.done(1, 1), ["2 activity work", "waiting"]);
    assert_eq!(run.done(2, 2), ["3 activity work", "waiting"]);
    assert_eq!(run.done(0, 3), ["waiting"]);
    let turn = run.turn(crate::harness::done(3, 4));
    assert_eq!(result::<two_at_once>(turn), Ok(10));
}

#[workflow]
async fn many_and_few() -> Result<(), Error> {
    let permits = Semaphore::new(2);
    let take = async |count, n| {
        let _permits = permits.acquire_many(count).await;
        work(n).await
    };
    try_join!(take(1, 0), take(2, 1), take(1, 2))?;
    assert_eq!(permits.available(), 2);
    Ok(())
}

#[test]
fn who_wants_many_is_not_overtaken() {
    let mut run = run(many_and_few());
    assert_eq!(run.start(), ["0 activity work", "waiting"], "one permit is left, and the second wants two");
    assert_eq!(run.done(0, 0), ["1 activity work", "waiting"]);
    assert_eq!(run.done(1, 0), ["2 activity work", "waiting"]);
    assert_eq!(run.done(2, 0), ["completed with 1 bytes"]);
}

#[workflow]
async fn gives_up() -> u32 {
    let permits = Semaphore::new(1);
    let held = permits.try_acquire();
    assert!(held.is_some() && permits.try_acquire().is_none());
    let patient = async {
        let _permit = permits.acquire().await;
        2
    };
    let hasty = async {
        let first = async {
            let _permit = permits.acquire().await;
            1_u32
        };
        let late = async {
            sleep(Duration::from_secs(1)).await;
            drop(held);
            3
        };
        race([Box::pin(first) as std::pin::Pin<Box<dyn Future<Output = u32>>>, Box::pin(late)]).await
    };
    let (hasty, patient) = everpulse::join!(hasty, patient);
    10 * hasty + patient
}

#[test]
fn who_leaves_the_line_lets_the_next_one_go() {
    let mut run = run(gives_up());
    assert_eq!(run.start(), ["0 timer 2000", "waiting"]);
    let turn = run.turn(Input::TimerFired { step: 0 });
    assert_eq!(result::<gives_up>(turn), Ok(32), "the first in line was dropped by its race");
}

#[workflow]
async fn account(balance: u64) -> Result<u64, Error> {
    let account = Mutex::new(balance);
    let pay = async |n| {
        let mut balance = account.lock().await;
        let before = *balance;
        let paid = work(n).await?;
        assert_eq!(*balance, before, "nobody else has changed it");
        *balance -= u64::from(paid);
        Ok::<_, Error>(())
    };
    try_join!(pay(1), pay(2))?;
    Ok(account.into_inner())
}

#[test]
fn a_value_is_changed_by_one_branch_at_a_time() {
    let mut run = run(account(100));
    assert_eq!(run.start(), ["0 activity work", "waiting"]);
    assert_eq!(run.done(0, 30), ["1 activity work", "waiting"]);
    let turn = run.turn(crate::harness::done(1, 20));
    assert_eq!(result::<account>(turn), Ok(50));
}

#[workflow]
async fn deadlock() {
    let permits = Semaphore::new(1);
    let _held = permits.acquire().await;
    let _never = permits.acquire_many(2).await;
}

#[test]
fn waiting_for_a_permit_that_nobody_gives_back_is_a_standstill() {
    assert!(run(deadlock()).start()[0].starts_with("stuck: "));
}
