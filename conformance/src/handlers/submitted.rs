//! Callbacks whose token a step hands to an external system, as one part of the run.

use std::future::Future;

use everpulse::prelude::*;
use everpulse::{Error, Failure, Worker, scope};
use serde_json::{Value, json};

use super::callback::{Limit, callback, limited};
use super::child::part;
use super::flaky::{each_second, succeeds_on};
use super::step::gives;
use super::{Cases, RejectedError, text};

pub const CASES: Cases = &[
    ("7-1", "submits"),
    ("7-2", "submits_an_approval"),
    ("7-3", "submits_without_a_name"),
    ("7-4", "submits"),
    ("7-5", "submits_with_a_limit"),
    ("7-6", "submits_and_recovers"),
    ("7-7", "cannot_submit"),
    ("7-8", "submits_in_a_part"),
    ("7-9", "submits_twice"),
    ("7-10", "submits_after_all_else"),
    ("7-11", "submits_and_reads_an_object"),
    ("7-12", "submits_with_heartbeats"),
    ("7-13", "submits_with_rare_heartbeats"),
    ("7-14", "submits_with_a_limit_and_recovers"),
    ("7-15", "submits"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(submits).workflow(submits_an_approval).workflow(submits_without_a_name);
    let worker = worker.workflow(submits_with_a_limit).workflow(submits_and_recovers).workflow(cannot_submit);
    let worker = worker.workflow(submits_in_a_part).workflow(submits_twice).workflow(submits_after_all_else);
    let worker = worker.workflow(submits_and_reads_an_object).workflow(submits_with_heartbeats);
    worker.workflow(submits_with_rare_heartbeats).workflow(submits_with_a_limit_and_recovers)
}

type Answer = Result<Value, Failure<RejectedError>>;

/// The whole operation: a callback, a step that submits its token, and the answer.
fn submit(name: &str) -> impl Future<Output = Result<Value, Error>> {
    scope(format!("WaitForCallback {name}"), async {
        let called = callback("");
        gives("submit", json!(called.token().to_string())).await?;
        Ok(called.await?)
    })
}

/// The same with a limit.
fn submit_limited(name: &str, limit: Limit) -> impl Future<Output = Result<Value, Error>> {
    scope(format!("WaitForCallback {name}"), async move {
        let mut called = limited("", limit);
        let _ = futures::poll!(&mut called);
        gives("submit", Value::Null).await?;
        let answer: Answer = called.await;
        Ok(answer?)
    })
}

#[workflow(version = 1)]
async fn submits(input: Value) -> Result<Value, Error> {
    submit(&text(&input)?).await
}

#[workflow(version = 1)]
async fn submits_an_approval(input: Value) -> Result<Value, Error> {
    let _ = input;
    submit("approval").await
}

#[workflow(version = 1)]
async fn submits_without_a_name(input: Value) -> Result<Value, Error> {
    let _ = input;
    submit("").await
}

#[workflow(version = 1)]
async fn submits_with_a_limit(input: Value) -> Result<Value, Error> {
    submit_limited(&text(&input)?, Limit::Timeout(3)).await
}

#[workflow(version = 1)]
async fn submits_and_recovers(input: Value) -> Result<Value, Error> {
    Ok(submit(&text(&input)?).await.unwrap_or_else(|_| json!("recovered")))
}

#[workflow(version = 1)]
async fn cannot_submit(input: Value) -> Result<Value, Error> {
    let name = text(&input)?;
    scope(format!("WaitForCallback {name}"), async {
        let called = callback("");
        succeeds_on(None, json!(called.token().to_string())).retry(each_second(2)).await?;
        Ok::<_, Error>(called.await?)
    })
    .await
}

#[workflow(version = 1)]
async fn submits_in_a_part(input: Value) -> Result<Value, Error> {
    let name = text(&input)?;
    part("wrapper", submit(&name)).await
}

#[workflow(version = 1)]
async fn submits_twice(input: Value) -> Result<Value, Error> {
    let _ = input;
    submit("first").await?;
    submit("second").await
}

#[workflow(version = 1)]
async fn submits_after_all_else(input: Value) -> Result<Value, Error> {
    sleep(Duration::from_secs(1)).await;
    gives("prepare", json!("data")).await?;
    submit(&text(&input)?).await
}

#[workflow(version = 1)]
async fn submits_and_reads_an_object(input: Value) -> Result<Value, Error> {
    Ok(submit(&text(&input)?).await?["status"].clone())
}

#[workflow(version = 1)]
async fn submits_with_heartbeats(input: Value) -> Result<Value, Error> {
    submit_limited(&text(&input)?, Limit::Heartbeats).await
}

#[workflow(version = 1)]
async fn submits_with_rare_heartbeats(input: Value) -> Result<Value, Error> {
    submit_limited(&text(&input)?, Limit::RareHeartbeats).await
}

#[workflow(version = 1)]
async fn submits_with_a_limit_and_recovers(input: Value) -> Result<Value, Error> {
    let submitted = submit_limited(&text(&input)?, Limit::Timeout(3)).await;
    Ok(submitted.unwrap_or_else(|_| json!("timed-out-handled")))
}
