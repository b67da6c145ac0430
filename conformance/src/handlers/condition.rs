//! Waiting for a condition: a step that looks, and a wait before the next look.

use std::future::Future;

use everpulse::definition::Output;
use everpulse::prelude::*;
use everpulse::{Error, Worker, scope};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::step::gives;
use super::{Cases, number};

pub const CASES: Cases = &[
    ("6-1", "counts"),
    ("6-2", "is_there_already"),
    ("6-3", "counts_by_name"),
    ("6-4", "counts_on"),
    ("6-5", "counts_slowly"),
    ("6-6", "counts_in_vain"),
    ("6-7", "cannot_look"),
    ("6-8", "cannot_look_and_recovers"),
    ("6-9", "looks_at_an_object"),
    ("6-10", "sees_nothing"),
    ("6-11", "looks_at_what_it_serialized"),
    ("6-12", "counts_and_multiplies"),
    ("6-13", "counts_twice"),
];

pub fn register(worker: Worker) -> Worker {
    let worker = worker.workflow(counts).workflow(is_there_already).workflow(counts_by_name).workflow(counts_on);
    let worker = worker.workflow(counts_slowly).workflow(counts_in_vain).workflow(cannot_look);
    let worker = worker.workflow(cannot_look_and_recovers).workflow(looks_at_an_object).workflow(sees_nothing);
    worker.workflow(looks_at_what_it_serialized).workflow(counts_and_multiplies).workflow(counts_twice)
}

/// Looks until a condition is met, with a wait of so many seconds between two looks.
fn until<S, C, M>(name: &str, seconds: u64, first: S, check: C, met: M) -> impl Future<Output = Result<S, Error>>
where
    S: Output + Clone + Send,
    C: Fn(S, u32) -> Result<S, Error> + Clone + Send + 'static,
    M: Fn(&S) -> bool,
{
    scope(format!("WaitForCondition {name}"), async move {
        let mut state = first;
        for look in 1.. {
            let (check, before) = (check.clone(), state);
            state = step("look", move || async move { check(before, look) }).await?;
            if met(&state) {
                break;
            }
            sleep(Duration::from_secs(seconds)).await;
        }
        Ok(state)
    })
}

/// Counts from a number up to another one.
fn count(name: &str, seconds: u64, from: i64, to: i64) -> impl Future<Output = Result<i64, Error>> {
    until(name, seconds, from, |state, _| Ok(state + 1), move |state| *state >= to)
}

#[workflow(version = 1)]
async fn counts(input: Value) -> Result<Value, Error> {
    Ok(json!(count("", 1, 0, number(&input)?).await?))
}

#[workflow(version = 1)]
async fn is_there_already(input: Value) -> Result<Value, Error> {
    let there = number(&input)?;
    Ok(json!(until("", 1, there, |state, _| Ok(state), move |state| *state >= there).await?))
}

#[workflow(version = 1)]
async fn counts_by_name(input: Value) -> Result<Value, Error> {
    Ok(json!(count("poll-status", 1, 0, number(&input)?).await?))
}

#[workflow(version = 1)]
async fn counts_on(input: Value) -> Result<Value, Error> {
    Ok(json!(count("", 1, 5, number(&input)?).await?))
}

#[workflow(version = 1)]
async fn counts_slowly(input: Value) -> Result<Value, Error> {
    Ok(json!(count("", 2, 0, number(&input)?).await?))
}

/// The look that would be one too many fails.
#[workflow(version = 1)]
async fn counts_in_vain(input: Value) -> Result<Value, Error> {
    let check = |state: i64, look| match look {
        3 => Err(Error::msg("it was looked three times, and the condition is not met")),
        _ => Ok(state + 1),
    };
    Ok(json!(until("", 1, number(&input)?, check, |_| false).await?))
}

fn cannot(_: Value, _: u32) -> Result<Value, Error> {
    Err(Error::msg("it cannot be looked at"))
}

#[workflow(version = 1)]
async fn cannot_look(input: Value) -> Result<Value, Error> {
    until("", 1, input, cannot, |_| true).await
}

#[workflow(version = 1)]
async fn cannot_look_and_recovers(input: Value) -> Result<Value, Error> {
    Ok(until("", 1, input, cannot, |_| true).await.unwrap_or_else(|_| json!("recovered")))
}

#[workflow(version = 1)]
async fn looks_at_an_object(input: Value) -> Result<Value, Error> {
    let _ = input;
    let look = |state: Value, _| {
        let attempts = number(&state["attempts"])? + 1;
        Ok(json!({ "status": if attempts >= 2 { "DONE" } else { "PENDING" }, "attempts": attempts }))
    };
    until("", 1, json!({ "status": "PENDING", "attempts": 0 }), look, |state| state["status"] == "DONE").await
}

#[workflow(version = 1)]
async fn sees_nothing(input: Value) -> Result<Value, Error> {
    let _ = input;
    until("", 1, json!(0), |_, _| Ok(Value::Null), Value::is_null).await
}

/// A text that is recorded by its bytes, as numbers.
#[derive(Debug, Clone)]
struct Numbered(String);

impl Serialize for Numbered {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.bytes().map(u32::from))
    }
}

impl<'de> Deserialize<'de> for Numbered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = Vec::<u8>::deserialize(deserializer)?;
        String::from_utf8(numbers).map(Self).map_err(serde::de::Error::custom)
    }
}

#[workflow(version = 1)]
async fn looks_at_what_it_serialized(input: Value) -> Result<Value, Error> {
    let _ = input;
    let look = |state: Numbered, _| Ok(Numbered(state.0 + "x"));
    Ok(json!(until("", 1, Numbered(String::new()), look, |state| state.0.len() == 2).await?.0))
}

#[workflow(version = 1)]
async fn counts_and_multiplies(input: Value) -> Result<Value, Error> {
    let counted = count("", 1, 0, number(&input)?).await?;
    gives("multiply", json!(counted * 10)).await
}

#[workflow(version = 1)]
async fn counts_twice(input: Value) -> Result<Value, Error> {
    let _ = input;
    let first = count("", 1, 0, 2).await?;
    Ok(json!(count("", 1, first, 4).await?))
}
