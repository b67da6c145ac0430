//! Parts of a run with a name of their own, which the suite calls child contexts.

use std::future::Future;

use everpulse::prelude::*;
use everpulse::{Error, Scope, Worker, scope};
use serde_json::{Value, json};

use super::flaky::{each_second, fails_for_good, succeeds_on};
use super::step::gives;
use super::{Cases, Raw, run, text};
use crate::logs::say_in_replays;

pub const CASES: Cases = &[
    ("3-1", "has_a_part"),
    ("3-2", "names_a_part"),
    ("3-3", "has_steps_in_a_part"),
    ("3-4", "part_fails"),
    ("3-5", "part_fails_and_is_caught"),
    ("3-6", "parts_in_parts"),
    ("3-7", "part_tries_again"),
    ("3-8", "part_tries_in_vain"),
    ("3-9", "waits_after_a_part"),
    ("3-10", "waits_in_a_part"),
    ("3-11", "part_is_large"),
    ("3-12", "has_a_part"),
    ("3-13", "only_waits_in_a_part"),
    ("3-14", "part_with_a_serializer"),
    ("3-15", "part_fails_by_itself"),
    ("3-16", "part_gives_nothing"),
    ("3-17", "part_logs"),
    ("3-18", "waits_in_and_after_a_part"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(has_a_part).workflow(names_a_part).workflow(has_steps_in_a_part).workflow(part_fails);
    let worker = worker.workflow(part_fails_and_is_caught).workflow(parts_in_parts).workflow(part_tries_again);
    let worker = worker.workflow(part_tries_in_vain).workflow(waits_after_a_part).workflow(waits_in_a_part);
    let worker = worker.workflow(only_waits_in_a_part).workflow(part_with_a_serializer).workflow(part_fails_by_itself);
    worker.workflow(part_gives_nothing).workflow(part_logs).workflow(waits_in_and_after_a_part).workflow(part_is_large)
}

/// What the suite calls a child context.
pub fn part<F: Future<Output = Result<T, Error>>, T: serde::Serialize>(name: &str, future: F) -> Scope<F> {
    scope(format!("RunInChildContext {name}"), future)
}

#[workflow(version = 1)]
async fn has_a_part(input: Value) -> Result<Value, Error> {
    part("part", gives("echo", input)).await
}

#[workflow(version = 1)]
async fn names_a_part(input: Value) -> Result<Value, Error> {
    let name = text(&input["name"])?;
    part(&name, gives("echo", input["value"].clone())).await
}

#[workflow(version = 1)]
async fn has_steps_in_a_part(input: Value) -> Result<Value, Error> {
    part("part", async {
        let first = gives("first", input).await?;
        gives("second", first).await
    })
    .await
}

#[workflow(version = 1)]
async fn part_fails(input: Value) -> Result<Value, Error> {
    let _ = input;
    part("part", fails_for_good("fail")).await
}

#[workflow(version = 1)]
async fn part_fails_and_is_caught(input: Value) -> Result<Value, Error> {
    match part("part", fails_for_good("fail")).await {
        Ok(value) => Ok(value),
        Err(_) => gives("recover", input).await,
    }
}

#[workflow(version = 1)]
async fn parts_in_parts(input: Value) -> Result<Value, Error> {
    part("outer", async {
        gives("outer step", input.clone()).await?;
        part("inner", gives("inner step", input)).await
    })
    .await
}

#[workflow(version = 1)]
async fn part_tries_again(input: Value) -> Result<Value, Error> {
    part("part", async { Ok(succeeds_on(Some(2), input).retry(each_second(3)).await?) }).await
}

#[workflow(version = 1)]
async fn part_tries_in_vain(input: Value) -> Result<Value, Error> {
    part("part", async { Ok(succeeds_on(None, input).retry(each_second(2)).await?) }).await
}

#[workflow(version = 1)]
async fn waits_after_a_part(input: Value) -> Result<Value, Error> {
    let echoed = part("part", gives("echo", input)).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(echoed)
}

async fn echoes_and_waits(input: Value) -> Result<Value, Error> {
    let echoed = gives("echo", input).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(echoed)
}

#[workflow(version = 1)]
async fn waits_in_a_part(input: Value) -> Result<Value, Error> {
    part("part", echoes_and_waits(input)).await
}

#[workflow(version = 1)]
async fn only_waits_in_a_part(input: Value) -> Result<Value, Error> {
    let waited = part("part", async {
        sleep(Duration::from_secs(1)).await;
        Ok(input)
    });
    gives("echo", waited.await?).await
}

#[workflow(version = 1)]
async fn part_with_a_serializer(input: Value) -> Result<Value, Error> {
    let shouted = part("part", async { Ok(Raw(text(&gives("echo", input).await?)?.to_uppercase())) }).await?;
    Ok(json!(shouted.0))
}

#[workflow(version = 1)]
async fn part_fails_by_itself(input: Value) -> Result<Value, Error> {
    let _ = input;
    part("part", async { Err::<Value, _>(Error::msg("there is nothing to be done")) }).await
}

#[workflow(version = 1)]
async fn part_gives_nothing(input: Value) -> Result<Value, Error> {
    let _ = input;
    part("part", async { Ok(Value::Null) }).await
}

#[workflow(version = 1)]
async fn part_logs(input: Value) -> Result<Value, Error> {
    let (run, word) = (run(), text(&input)?);
    let logged = part("part", async {
        tracing::info!(run, "in the part: {word}");
        Ok(input)
    })
    .await?;
    sleep(Duration::from_secs(1)).await;
    Ok(logged)
}

#[workflow(version = 1)]
async fn waits_in_and_after_a_part(input: Value) -> Result<Value, Error> {
    let inner = part("part", echoes_and_waits(input)).await?;
    echoes_and_waits(inner).await
}

/// More than a note of a value may have, and more than the suite keeps.
const LARGE_BYTES: usize = 300_000;

#[workflow(version = 1)]
async fn part_is_large(input: Value) -> Result<Value, Error> {
    let (run, word) = (run(), text(&input)?);
    let large = part("part", async {
        say_in_replays(&run, &word);
        let small = text(&gives("small", input).await?)?;
        Ok(json!(small.repeat(LARGE_BYTES / small.len().max(1) + 1)))
    })
    .await?;
    sleep(Duration::from_secs(2)).await;
    Ok(json!(text(&large)?.len() >= LARGE_BYTES))
}
