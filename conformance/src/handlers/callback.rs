//! Callbacks: what an external system completes by a token.
//!
//! One without limits is a promise. One that must be completed, or told of, within a time is an activity that is left to be
//! completed later: its time-outs are what the suite calls those of the callback.

use everpulse::prelude::*;
use everpulse::{Error, Failure, Promise, Scope, Worker, scope};
use futures::future::LocalBoxFuture;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::flaky::{beating, completed_by_others};
use super::step::gives;
use super::{Cases, RejectedError, text};

pub const CASES: Cases = &[
    ("4-1", "calls_back"),
    ("4-2", "approves"),
    ("4-3", "calls_back_in_time"),
    ("4-4", "calls_back_with_heartbeats"),
    ("4-5", "calls_back_with_rare_heartbeats"),
    ("4-6", "calls_back"),
    ("4-7", "steps_before_it_is_called_back"),
    ("4-8", "steps_before_it_is_called_back_in_time"),
    ("4-9", "waits_before_it_is_called_back"),
    ("4-10", "waits_before_it_is_called_back"),
    ("4-11", "waits_too_long_before_it_is_called_back"),
    ("4-12", "waits_after_it_was_called_back"),
    ("4-13", "waits_after_it_was_refused"),
    ("4-14", "waits_after_nobody_called_back"),
    ("4-15", "called_back_with_a_time"),
    ("4-16", "called_back_with_a_number"),
    ("4-17", "called_back_twice"),
    ("4-18", "called_back_in_order"),
    ("4-19", "called_back_in_reverse"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(calls_back).workflow(approves).workflow(calls_back_in_time);
    let worker = worker.workflow(calls_back_with_heartbeats).workflow(calls_back_with_rare_heartbeats);
    let worker = worker.workflow(steps_before_it_is_called_back).workflow(steps_before_it_is_called_back_in_time);
    let worker = worker.workflow(waits_before_it_is_called_back).workflow(waits_too_long_before_it_is_called_back);
    let worker = worker.workflow(waits_after_it_was_called_back).workflow(waits_after_it_was_refused);
    let worker = worker.workflow(waits_after_nobody_called_back).workflow(called_back_with_a_time);
    let worker = worker.workflow(called_back_with_a_number).workflow(called_back_twice).workflow(called_back_in_order);
    worker.workflow(called_back_in_reverse)
}

/// A callback without limits.
pub fn callback(name: &str) -> Promise<Value, RejectedError> {
    promise::<Value>().or::<RejectedError>().named(name)
}

/// What a callback may have.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// It is completed within so long.
    Timeout(u64),
    /// It is told of every five seconds.
    Heartbeats,
    /// It is told of every ten seconds.
    RareHeartbeats,
}

/// A callback with a limit, which begins when it is polled first.
pub fn limited(name: &str, limit: Limit) -> Scope<LocalBoxFuture<'static, Result<Value, Failure<RejectedError>>>> {
    let completed: LocalBoxFuture<'static, _> = match limit {
        Limit::Timeout(seconds) => Box::pin(completed_by_others().timeout(Duration::from_secs(seconds)).into_future()),
        Limit::Heartbeats => Box::pin(beating().into_future()),
        Limit::RareHeartbeats => Box::pin(super::flaky::rarely_beating().into_future()),
    };
    scope(format!("Callback {name}"), completed)
}

#[workflow(version = 1)]
async fn calls_back(input: Value) -> Result<Value, Error> {
    Ok(callback(&text(&input)?).await?)
}

#[workflow(version = 1)]
async fn approves(input: Value) -> Result<Value, Error> {
    let _ = input;
    Ok(callback("approval").await?)
}

#[workflow(version = 1)]
async fn calls_back_in_time(input: Value) -> Result<Value, Error> {
    Ok(limited(&text(&input)?, Limit::Timeout(5)).await?)
}

#[workflow(version = 1)]
async fn calls_back_with_heartbeats(input: Value) -> Result<Value, Error> {
    Ok(limited(&text(&input)?, Limit::Heartbeats).await?)
}

#[workflow(version = 1)]
async fn calls_back_with_rare_heartbeats(input: Value) -> Result<Value, Error> {
    Ok(limited(&text(&input)?, Limit::RareHeartbeats).await?)
}

#[workflow(version = 1)]
async fn steps_before_it_is_called_back(input: Value) -> Result<Value, Error> {
    let called = callback(&text(&input)?);
    gives("step", Value::Null).await?;
    Ok(called.await?)
}

#[workflow(version = 1)]
async fn steps_before_it_is_called_back_in_time(input: Value) -> Result<Value, Error> {
    let mut called = limited(&text(&input)?, Limit::Timeout(5));
    let _ = futures::poll!(&mut called);
    gives("step", Value::Null).await?;
    Ok(called.await?)
}

#[workflow(version = 1)]
async fn waits_before_it_is_called_back(input: Value) -> Result<Value, Error> {
    let called = callback(&text(&input)?);
    sleep(Duration::from_secs(5)).await;
    Ok(called.await?)
}

#[workflow(version = 1)]
async fn waits_too_long_before_it_is_called_back(input: Value) -> Result<Value, Error> {
    let mut called = limited(&text(&input)?, Limit::Timeout(3));
    let _ = futures::poll!(&mut called);
    sleep(Duration::from_secs(6)).await;
    Ok(called.await?)
}

#[workflow(version = 1)]
async fn waits_after_it_was_called_back(input: Value) -> Result<Value, Error> {
    let value = callback(&text(&input)?).await?;
    sleep(Duration::from_secs(2)).await;
    Ok(value)
}

#[workflow(version = 1)]
async fn waits_after_it_was_refused(input: Value) -> Result<Value, Error> {
    let Err(refused) = callback(&text(&input)?).await else { return Err(Error::msg("nobody refused")) };
    sleep(Duration::from_secs(2)).await;
    Ok(json!(refused.to_string()))
}

#[workflow(version = 1)]
async fn waits_after_nobody_called_back(input: Value) -> Result<Value, Error> {
    let Err(late) = limited(&text(&input)?, Limit::Timeout(3)).await else { return Err(Error::msg("somebody did")) };
    sleep(Duration::from_secs(2)).await;
    Ok(json!(late.to_string()))
}

/// What the external system sends, with its time in seconds.
#[derive(Debug, Deserialize)]
struct Received {
    id: String,
    message: String,
    #[serde(deserialize_with = "seconds")]
    timestamp: u64,
}

/// A time in UTC as the external system writes it, `2026-01-01T00:00:00.000Z`, in seconds since 1970.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let numbers: Option<Vec<u64>> =
        text.split(|c: char| !c.is_ascii_digit()).take(6).map(|part| part.parse().ok()).collect();
    let Some([year, month, day, hour, minute, second]) = numbers.and_then(|numbers| <[u64; 6]>::try_from(numbers).ok())
    else {
        return Err(D::Error::custom(format!("{text:?} is no time")));
    };
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(D::Error::custom(format!("{text:?} is no time since 1970")));
    }
    // Years that begin in March, so that the day that some of them have more is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    Ok(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[workflow(version = 1)]
async fn called_back_with_a_time(input: Value) -> Result<Value, Error> {
    let Received { id, message, timestamp } = serde_json::from_value(callback(&text(&input)?).await?)?;
    Ok(json!({ "received": { "id": id, "message": message, "timestamp": timestamp } }))
}

#[workflow(version = 1)]
async fn called_back_with_a_number(input: Value) -> Result<Value, Error> {
    let count: i64 = serde_json::from_value(callback(&text(&input)?).await?)?;
    Ok(json!({ "count": count, "doubled": count * 2 }))
}

#[workflow(version = 1)]
async fn called_back_twice(input: Value) -> Result<Value, Error> {
    let first = callback(&text(&input[0])?).await?;
    let second = callback(&text(&input[1])?).await?;
    Ok(json!([first, second]))
}

#[workflow(version = 1)]
async fn called_back_in_order(input: Value) -> Result<Value, Error> {
    let (first, second) = (callback(&text(&input[0])?), callback(&text(&input[1])?));
    let first = first.await?;
    Ok(json!([first, second.await?]))
}

#[workflow(version = 1)]
async fn called_back_in_reverse(input: Value) -> Result<Value, Error> {
    let (first, second) = (callback(&text(&input[0])?), callback(&text(&input[1])?));
    let second = second.await?;
    Ok(json!([first.await?, second]))
}
