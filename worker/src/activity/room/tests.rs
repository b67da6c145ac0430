//! Rooms of several workers that share permits by both rules, at a real broker.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::permits::Rule;
use crate::trial::{LONG, Trial};

/// One may run at a time, and one begin in an hour.
const SCARCE: [Rule; 2] = [Rule::Rate(1.0 / 3_600.0), Rule::Concurrency(1)];
const SOON: Duration = Duration::from_millis(500);

fn room(trial: &Trial, rules: &[Rule]) -> Room {
    let open = |rule: &Rule| Permits::open(trial.transport.clone(), "trial", *rule);
    Room::new(4, rules.iter().map(open).collect())
}

async fn entered(room: &Room) -> Slot {
    timeout(LONG, room.enter(Needs::All)).await.expect("room").expect("a slot")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_until_it_may_begin_keeps_nobody_from_running() {
    for trial in Trial::all().await {
        let (one, other) = (room(&trial, &SCARCE), room(&trial, &SCARCE));
        let mut slot = entered(&one).await;
        slot.begin();
        let mut waiting = Box::pin(other.enter(Needs::All));
        assert!(timeout(SOON, &mut waiting).await.is_err(), "one runs");
        drop(slot);
        assert!(timeout(SOON, &mut waiting).await.is_err(), "no other one begins in this hour");
        // What has begun already, with others.
        let running = timeout(LONG, one.enter(Needs::ToRun)).await.expect("nothing runs");
        drop(running);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_begins_counts_for_no_rate() {
    for trial in Trial::all().await {
        let (one, other) = (room(&trial, &SCARCE), room(&trial, &SCARCE));
        for room in [&one, &other, &one] {
            drop(entered(room).await);
        }
        entered(&other).await.begin();
        assert!(timeout(SOON, one.enter(Needs::All)).await.is_err(), "one has begun");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_meanwhile_is_had_again_before_anything_begins() {
    for trial in Trial::all().await {
        let rules = [Rule::Rate(1_000.0), Rule::Concurrency(1)];
        let (one, other) = (room(&trial, &rules), room(&trial, &rules));
        let mut slot = entered(&one).await;
        // As if others had not heard this worker for long.
        slot.lose();
        let has_it = entered(&other).await;
        let mut beginning = Box::pin(slot.hold());
        assert!(timeout(SOON, &mut beginning).await.is_err(), "another one has it");
        drop(has_it);
        timeout(LONG, beginning).await.expect("it is free");
        assert!(timeout(SOON, other.enter(Needs::All)).await.is_err(), "and is in use again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_what_it_needs_to_begin_keeps_nobody_from_running_while_it_waits_for_it() {
    for trial in Trial::all().await {
        let (one, other) = (room(&trial, &SCARCE), room(&trial, &SCARCE));
        let mut slot = entered(&one).await;
        slot.permits.iter_mut().take(1).flatten().for_each(Permit::give_back);
        let mut waiting = Box::pin(other.enter(Needs::All));
        assert!(timeout(SOON, &mut waiting).await.is_err(), "it may begin, and not run");
        let beginning = tokio::spawn(async move { slot.hold().await });
        timeout(LONG, waiting).await.expect("it runs").expect("a slot").begin();
        beginning.abort();
    }
}
