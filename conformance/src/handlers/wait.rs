//! Waits for time.

use everpulse::prelude::*;
use everpulse::{Error, Worker};
use serde_json::{Value, json};

use super::Cases;

pub const CASES: Cases = &[
    ("2-1", "waits"),
    ("2-2", "waits_by_name"),
    ("2-3", "waits_twice"),
    ("2-4", "waits_a_minute"),
    ("2-5", "waits_an_hour"),
];

pub fn register(worker: Worker) -> Worker {
    worker
        .workflow(waits)
        .workflow(waits_by_name)
        .workflow(waits_twice)
        .workflow(waits_a_minute)
        .workflow(waits_an_hour)
}

#[workflow(version = 1)]
async fn waits(input: Value) -> Result<Value, Error> {
    sleep(Duration::from_secs(2)).await;
    Ok(input)
}

#[workflow(version = 1)]
async fn waits_by_name(input: Value) -> Result<Value, Error> {
    sleep(Duration::from_secs(2)).named("custom_wait_name").await;
    Ok(input)
}

#[workflow(version = 1)]
async fn waits_twice(input: Value) -> Result<Value, Error> {
    let _ = input;
    sleep(Duration::from_secs(2)).named("wait-1").await;
    sleep(Duration::from_secs(2)).named("wait-2").await;
    Ok(json!({ "completedWaits": 2 }))
}

#[workflow(version = 1)]
async fn waits_a_minute(input: Value) -> Result<Value, Error> {
    sleep(Duration::from_mins(1)).await;
    Ok(input)
}

#[workflow(version = 1)]
async fn waits_an_hour(input: Value) -> Result<Value, Error> {
    sleep(Duration::from_hours(1)).await;
    Ok(input)
}
