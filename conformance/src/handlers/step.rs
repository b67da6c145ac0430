//! Steps: alone, one after another, failing, tried again, and before a wait.

use everpulse::prelude::*;
use everpulse::{Error, Worker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::flaky::{each_second, fails_for_good, final_transient, succeeds_on, transient};
use super::{Cases, run, text};

pub const CASES: Cases = &[
    ("1-1", "greets"),
    ("1-2", "greets_by_name"),
    ("1-3", "one_after_another"),
    ("1-4", "builds"),
    ("1-5", "gives_nothing"),
    ("1-6", "shouts"),
    ("1-7", "greets_and_logs"),
    ("1-8", "computes_and_waits"),
    ("1-9", "caches_and_waits"),
    ("1-10", "fails_and_waits"),
    ("1-11", "second_attempt"),
    ("1-12", "four_attempts"),
    ("1-13", "usual_attempts"),
    ("1-14", "patient_attempts"),
    ("1-15", "transient_attempts"),
    ("1-16", "no_attempt_more"),
    ("1-19", "fails"),
    ("1-20", "falls_back"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(greets).workflow(greets_by_name).workflow(one_after_another).workflow(builds);
    let worker = worker.workflow(gives_nothing).workflow(shouts).workflow(greets_and_logs).workflow(computes_and_waits);
    let worker = worker.workflow(caches_and_waits).workflow(fails_and_waits).workflow(second_attempt);
    let worker = worker.workflow(four_attempts).workflow(usual_attempts).workflow(patient_attempts);
    worker.workflow(transient_attempts).workflow(no_attempt_more).workflow(fails).workflow(falls_back)
}

/// A step that gives a value.
pub async fn gives(name: &str, value: Value) -> Result<Value, Error> {
    Ok(step(name, move || async move { Ok::<_, Error>(value) }).await?)
}

fn hello(name: &str) -> Value {
    json!(format!("Hello, {name}!"))
}

#[workflow(version = 1)]
async fn greets(input: Value) -> Result<Value, Error> {
    gives("greet", hello(&text(&input)?)).await
}

#[workflow(version = 1)]
async fn greets_by_name(input: Value) -> Result<Value, Error> {
    gives("custom_step_name", hello(&text(&input)?)).await
}

#[workflow(version = 1)]
async fn one_after_another(input: Value) -> Result<Value, Error> {
    let _ = input;
    let first = text(&gives("first", json!("first")).await?)?;
    gives("second", json!(format!("{first}_second"))).await
}

#[workflow(version = 1)]
async fn builds(input: Value) -> Result<Value, Error> {
    let count = input["tags"].as_array().map_or(0, Vec::len);
    gives("build", json!({ "user": { "name": input["name"], "tags": input["tags"] }, "count": count })).await
}

#[workflow(version = 1)]
async fn gives_nothing(input: Value) -> Result<Value, Error> {
    gives("nothing", input).await
}

/// A text that is recorded in capital letters.
#[derive(Debug, Clone, Deserialize)]
pub struct Shouted(pub String);

impl Serialize for Shouted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_uppercase())
    }
}

#[workflow(version = 1)]
async fn shouts(input: Value) -> Result<Value, Error> {
    let said = text(&input)?;
    let shouted = step("shout", move || async move { Ok::<_, Error>(Shouted(said)) }).await?;
    Ok(json!(shouted.0))
}

#[workflow(version = 1)]
async fn greets_and_logs(input: Value) -> Result<Value, Error> {
    let (run, name) = (run(), text(&input)?);
    let greeted = step("greet", move || async move {
        tracing::info!(run, "Greeting step started for: {name}");
        let greeting = hello(&name);
        tracing::info!(run, "Greeting step completed with: Hello, {name}!");
        Ok::<_, Error>(greeting)
    });
    Ok(greeted.await?)
}

#[workflow(version = 1)]
async fn computes_and_waits(input: Value) -> Result<Value, Error> {
    let _ = input;
    let computed = gives("compute", json!("computed")).await?;
    sleep(Duration::from_secs(2)).await;
    Ok(computed)
}

#[workflow(version = 1)]
async fn caches_and_waits(input: Value) -> Result<Value, Error> {
    let _ = input;
    let cached = gives("compute", json!("cached_value")).await?;
    sleep(Duration::from_secs(1)).await;
    Ok(cached)
}

#[workflow(version = 1)]
async fn fails_and_waits(input: Value) -> Result<Value, Error> {
    let _ = input;
    let failed = fails_for_good("fail").await;
    sleep(Duration::from_secs(1)).await;
    Ok(json!(failed.is_err()))
}

#[workflow(version = 1)]
async fn second_attempt(input: Value) -> Result<Value, Error> {
    let _ = input;
    Ok(succeeds_on(Some(2), json!("Operation succeeded")).retry(each_second(3)).await?)
}

#[workflow(version = 1)]
async fn four_attempts(input: Value) -> Result<Value, Error> {
    Ok(succeeds_on(None, input).retry(each_second(4)).await?)
}

/// The retries of whoever says nothing about them.
#[workflow(version = 1)]
async fn usual_attempts(input: Value) -> Result<Value, Error> {
    Ok(succeeds_on(Some(3), input).await?)
}

#[workflow(version = 1)]
async fn patient_attempts(input: Value) -> Result<Value, Error> {
    let retry = Retry::new().initial(Duration::from_secs(2)).factor(3.0).max_attempts(5);
    Ok(succeeds_on(Some(3), input).retry(retry).await?)
}

#[workflow(version = 1)]
async fn transient_attempts(input: Value) -> Result<Value, Error> {
    let _ = input;
    Ok(transient().await?)
}

#[workflow(version = 1)]
async fn no_attempt_more(input: Value) -> Result<Value, Error> {
    let _ = input;
    Ok(final_transient().await?)
}

#[workflow(version = 1)]
async fn fails(input: Value) -> Result<Value, Error> {
    let _ = input;
    fails_for_good("fail").await
}

#[workflow(version = 1)]
async fn falls_back(input: Value) -> Result<Value, Error> {
    let _ = input;
    match fails_for_good("fail").await {
        Ok(value) => Ok(value),
        Err(_) => gives("fall back", json!("fallback_result")).await,
    }
}
