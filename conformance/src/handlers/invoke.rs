//! Child workflows, which the suite calls invocations.

use everpulse::prelude::*;
use everpulse::{Error, Worker};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::child::part;
use super::step::{Shouted, gives};
use super::{Cases, text};

pub const CASES: Cases = &[
    ("5-1", "invokes"),
    ("5-2", "invokes_by_name"),
    ("5-3", "invokes"),
    ("5-4", "invokes"),
    ("5-5", "invokes_what_fails"),
    ("5-6", "invokes_and_catches"),
    ("5-7", "invokes_with_much"),
    ("5-8", "invokes_for_a_tenant"),
    ("5-9", "invokes_and_waits"),
    ("5-10", "invokes_catches_and_waits"),
    ("5-11", "invokes_after_a_step"),
    ("5-12", "steps_after_it_invoked"),
    ("5-13", "invokes_in_a_part"),
    ("5-14", "invokes_twice"),
    ("5-15", "invokes_with_a_serializer"),
    ("5-16", "invokes_with_a_deserializer"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(echo).workflow(breaks).workflow(hears).workflow(echo_raw).workflow(measure);
    let worker = worker.workflow(invokes).workflow(invokes_by_name).workflow(invokes_what_fails);
    let worker = worker.workflow(invokes_and_catches).workflow(invokes_with_much).workflow(invokes_for_a_tenant);
    let worker = worker.workflow(invokes_and_waits).workflow(invokes_catches_and_waits).workflow(invokes_after_a_step);
    let worker = worker.workflow(steps_after_it_invoked).workflow(invokes_in_a_part).workflow(invokes_twice);
    worker.workflow(invokes_with_a_serializer).workflow(invokes_with_a_deserializer)
}

#[workflow(version = 1)]
async fn echo(payload: Value) -> Result<Value, Error> {
    Ok(payload)
}

#[workflow(version = 1)]
async fn breaks(payload: Value) -> Result<Value, Error> {
    Err(Error::msg(format!("it does not work with {payload}")))
}

#[workflow(version = 1)]
async fn measure(payload: String) -> Result<u64, Error> {
    Ok(payload.len() as u64)
}

/// It is given what its caller's own serializer wrote.
#[workflow(version = 1)]
async fn hears(payload: Shouted) -> Result<Value, Error> {
    Ok(json!(payload.0))
}

/// A text whose reader takes it for JSON, as it stands, and shouts it.
#[derive(Debug, Clone, Serialize)]
struct ShoutedJson(String);

impl<'de> Deserialize<'de> for ShoutedJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(json!(String::deserialize(deserializer)?).to_string().to_uppercase()))
    }
}

#[workflow(version = 1)]
async fn echo_raw(payload: String) -> Result<ShoutedJson, Error> {
    Ok(ShoutedJson(payload))
}

#[workflow(version = 1)]
async fn invokes(input: Value) -> Result<Value, Error> {
    Ok(echo(input).await?)
}

#[workflow(version = 1)]
async fn invokes_by_name(input: Value) -> Result<Value, Error> {
    Ok(echo(input["payload"].clone()).id(text(&input["name"])?).await?)
}

#[workflow(version = 1)]
async fn invokes_what_fails(input: Value) -> Result<Value, Error> {
    Ok(breaks(input).await?)
}

#[workflow(version = 1)]
async fn invokes_and_catches(input: Value) -> Result<Value, Error> {
    Ok(breaks(input).await.unwrap_or_else(|_| json!("fallback")))
}

/// Near the limit of what a run may be given: 2 MiB.
#[workflow(version = 1)]
async fn invokes_with_much(input: Value) -> Result<Value, Error> {
    let _ = input;
    Ok(json!(measure("x".repeat(2 * 1024 * 1024 - 1024)).await?))
}

#[workflow(version = 1)]
async fn invokes_for_a_tenant(input: Value) -> Result<Value, Error> {
    Ok(echo(input["payload"].clone()).tag(format!("tenant:{}", text(&input["tenantId"])?)).await?)
}

#[workflow(version = 1)]
async fn invokes_and_waits(input: Value) -> Result<Value, Error> {
    let echoed = echo(input).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(echoed)
}

#[workflow(version = 1)]
async fn invokes_catches_and_waits(input: Value) -> Result<Value, Error> {
    let failed = breaks(input).await.is_err();
    sleep(Duration::from_secs(1)).await;
    Ok(json!(failed))
}

#[workflow(version = 1)]
async fn invokes_after_a_step(input: Value) -> Result<Value, Error> {
    Ok(echo(gives("prepare", input).await?).await?)
}

#[workflow(version = 1)]
async fn steps_after_it_invoked(input: Value) -> Result<Value, Error> {
    gives("use", echo(input).await?).await
}

#[workflow(version = 1)]
async fn invokes_in_a_part(input: Value) -> Result<Value, Error> {
    part("part", async { Ok(echo(input).await?) }).await
}

#[workflow(version = 1)]
async fn invokes_twice(input: Value) -> Result<Value, Error> {
    let first = echo(input.clone()).await?;
    Ok(json!([first, echo(input).await?]))
}

#[workflow(version = 1)]
async fn invokes_with_a_serializer(input: Value) -> Result<Value, Error> {
    Ok(hears(Shouted(text(&input["data"])?)).await?)
}

#[workflow(version = 1)]
async fn invokes_with_a_deserializer(input: Value) -> Result<Value, Error> {
    Ok(json!(echo_raw(text(&input)?).await?.0))
}
