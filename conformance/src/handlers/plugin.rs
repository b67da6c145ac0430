//! What plug-ins hear of: a greeting that is a step, one that is an activity, and what is shared with other families.

use everpulse::prelude::*;
use everpulse::{Error, Worker};
use serde_json::{Value, json};

use super::flaky::succeeds_on;
use super::{Cases, run, text};

pub const CASES: Cases = &[
    ("10-1", "greets_aloud"),
    ("10-2", "greets_by_an_activity"),
    ("10-3", "second_attempt"),
    ("10-5", "greets_aloud"),
    ("10-7", "fails"),
];

pub fn register(worker: Worker) -> Worker {
    worker.workflow(greets_aloud).workflow(greets_by_an_activity)
}

fn hello(name: &str) -> Value {
    json!(format!("Hello, {name}!"))
}

#[workflow(version = 1)]
async fn greets_aloud(input: Value) -> Result<Value, Error> {
    let (run, name) = (run(), text(&input)?);
    let greeted = step("greet", move || async move {
        tracing::info!(run, "Greeting step running for: {name}");
        Ok::<_, Error>(hello(&name))
    });
    Ok(greeted.await?)
}

#[workflow(version = 1)]
async fn greets_by_an_activity(input: Value) -> Result<Value, Error> {
    Ok(succeeds_on(Some(1), hello(&text(&input)?)).await?)
}
