//! What a broker sees of values, and what becomes of runs when it changes how they are written; on either arm.

mod everywhere;
mod wiretap;

use anyhow::{Context as _, Result};
use everpulse::client::{ErrorKind, ResultError};
use everpulse::prelude::*;
use everpulse::{Codec, Keys, WorkerHandle};
use everpulse_integration_tests::Arm;
use everpulse_integration_tests::arm::eventually;
use everpulse_protocol::history::ParkedKind;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[signal]
#[derive(Serialize, Deserialize)]
struct Word {
    text: String,
    /// Which the formats write in different ways.
    id: Uuid,
}

fn word(text: &str) -> Word {
    Word { text: text.to_owned(), id: Uuid::from_u128(7) }
}

/// It has one attempt, which a worker that cannot open it does not use up.
#[activity(retry(max_attempts = 1))]
async fn shout(word: String, id: Uuid) -> String {
    assert_eq!(id, Uuid::from_u128(7));
    word.to_uppercase()
}

/// Gathers two words, and shouts each.
#[workflow]
async fn gathers(first: String) -> Result<Vec<String>, everpulse::Error> {
    let mut words = vec![first];
    for _ in 0..2 {
        let Word { text, id } = signal::<Word>().recv().await;
        words.push(shout(text, id).await?);
    }
    Ok(words)
}

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn sealed(keys: Keys) -> Codec {
    Codec::message_pack().compress().encrypt(keys)
}

async fn worker(arm: &Arm, codec: Codec) -> Result<WorkerHandle> {
    let worker = Worker::connect(arm.url()).await.context("connecting a worker")?.codec(codec);
    worker.workflow(gathers).activity(shout).spawn().await.context("starting a worker")
}

async fn has_records(client: &Client, id: &str, records: u32) -> Result<()> {
    eventually("it has gone so far", || async {
        Ok((client.run(gathers, id).describe().await?.records >= records).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_changes_in_the_midst_of_a_run() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let before = client.clone().codec(sealed(Keys::new("k1", OLD)));
    let after = client.clone().codec(sealed(Keys::new("k2", NEW).also("k1", OLD)));
    let first = worker(&arm, sealed(Keys::new("k1", OLD))).await?;
    before.start(gathers("tea".to_owned())).id("rotated").await?;
    before.run(gathers, "rotated").signal(word("milk")).await?;
    has_records(&before, "rotated", 3).await?;
    first.stop().await;

    let second = worker(&arm, sealed(Keys::new("k2", NEW).also("k1", OLD))).await?;
    let run = after.run(gathers, "rotated");
    run.signal(word("sugar")).await?;
    assert_eq!(run.result().await?, ["tea", "MILK", "SUGAR"]);

    // What came of it was sealed with the new key, what went in with the old one.
    let new_alone = client.clone().codec(sealed(Keys::new("k2", NEW)));
    assert_eq!(new_alone.run(gathers, "rotated").result().await?.len(), 3);
    let error = new_alone.run(gathers, "rotated").export().await.expect_err("it begins with the old key");
    assert_eq!((error.kind(), error.missing_key()), (ErrorKind::Undecodable, Some("k1")), "{error}");
    let Err(ResultError::Undecodable(error)) = before.run(gathers, "rotated").result().await else {
        panic!("the old client has no new key")
    };
    assert_eq!(error.missing_key(), Some("k2"), "{error}");
    assert!(after.run(gathers, "rotated").export().await?.contains("\"milk\""), "a kept history needs no key");
    second.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_key_parks_the_run_by_name_and_another_one_takes_it() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?;
    let keyed = client.clone().codec(sealed(Keys::new("k1", OLD)));
    let without = worker(&arm, Codec::message_pack()).await?;
    let run = keyed.start(gathers("tea".to_owned())).id("locked").await?;
    let parked = eventually("the run is parked", || async { Ok(run.describe().await?.parked) }).await?;
    assert_eq!(parked.kind, ParkedKind::Unopened);
    assert!(parked.message.contains("key `k1`, which this process does not have"), "{}", parked.message);
    run.signal(word("milk")).await?;

    let with = worker(&arm, sealed(Keys::new("k1", OLD))).await?;
    without.stop().await;
    let late = worker(&arm, sealed(Keys::new("k1", OLD))).await?;
    run.signal(word("sugar")).await?;
    assert_eq!(run.result().await?, ["tea", "MILK", "SUGAR"]);

    let Err(ResultError::Undecodable(error)) = client.run(gathers, "locked").result().await else {
        panic!("this client has no key")
    };
    assert_eq!((error.kind(), error.missing_key()), (ErrorKind::Undecodable, Some("k1")), "{error}");
    assert!(client.run(gathers, "locked").describe().await?.close.is_some(), "that it has ended can be seen");
    with.stop().await;
    late.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_waits_for_an_activity_worker_that_has_the_key() -> Result<()> {
    let arm = Arm::new()?;
    let client = Client::connect(arm.url()).await?.codec(sealed(Keys::new("k1", OLD)));
    let owner = Worker::connect(arm.url()).await?.codec(sealed(Keys::new("k1", OLD))).workflow(gathers).spawn().await?;
    let without = Worker::connect(arm.url()).await?.activity(shout).spawn().await?;
    let run = client.start(gathers("tea".to_owned())).id("task").await?;
    run.signal(word("milk")).await?;
    let error = eventually("the attempt was given up", || async {
        Ok(run.describe().await?.pending.into_iter().find_map(|step| step.last_error))
    })
    .await?;
    assert!(error.contains("can open what activity `shout` is given") && error.contains("key `k1`"), "{error}");
    let with = Worker::connect(arm.url()).await?.codec(sealed(Keys::new("k1", OLD))).activity(shout).spawn().await?;
    without.stop().await;
    run.signal(word("sugar")).await?;
    assert_eq!(run.result().await?, ["tea", "MILK", "SUGAR"]);
    for worker in [owner, with] {
        worker.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_began_in_message_pack_goes_on_in_json() -> Result<()> {
    let arm = Arm::new()?;
    let old = Client::connect(arm.url()).await?;
    let first = worker(&arm, Codec::message_pack()).await?;
    old.start(gathers("tea".to_owned())).id("switched").await?;
    old.run(gathers, "switched").signal(word("milk")).await?;
    has_records(&old, "switched", 3).await?;
    first.stop().await;

    let new = old.clone().codec(Codec::json());
    let second = worker(&arm, Codec::json()).await?;
    let run = new.run(gathers, "switched");
    run.signal(word("sugar")).await?;
    assert_eq!(run.result().await?, ["tea", "MILK", "SUGAR"]);
    // Both clients read both, and what begins anew is JSON from its arguments on.
    assert_eq!(old.run(gathers, "switched").result().await?, ["tea", "MILK", "SUGAR"]);
    let again = new.start(gathers("coffee".to_owned())).id("json").await?;
    old.run(gathers, "json").signal(word("milk")).await?;
    again.signal(word("sugar")).await?;
    assert_eq!(old.run(gathers, "json").result().await?, ["coffee", "MILK", "SUGAR"]);
    second.stop().await;
    Ok(())
}
