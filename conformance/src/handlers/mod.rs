//! What the suite's prose asks for, as plain workflows: one module for each of its families.
//!
//! Every handler takes the case's input and gives a value of JSON. Which of them is started for which case stands in the
//! table of its module.
//!
//! Scopes are how parts of a run show in its history. Their names say what the suite calls such a part, and after a space what
//! the case calls it: `WaitForCallback approval`.

use everpulse::{Error, Worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod batch;
pub mod callback;
pub mod child;
pub mod condition;
pub mod flaky;
pub mod invoke;
pub mod map;
pub mod parallel;
pub mod plugin;
pub mod step;
pub mod submitted;
pub mod wait;

/// The cases of a module, and the workflow that each of them starts.
pub type Cases = &'static [(&'static str, &'static str)];

/// The workflow of a case; none if there is none.
#[must_use]
pub fn workflow_of(case: &str) -> Option<&'static str> {
    let modules = [
        step::CASES,
        wait::CASES,
        child::CASES,
        callback::CASES,
        invoke::CASES,
        condition::CASES,
        submitted::CASES,
        parallel::CASES,
        map::CASES,
        plugin::CASES,
    ];
    modules.into_iter().flatten().find(|(id, _)| *id == case).map(|(_, workflow)| *workflow)
}

/// A worker with all of them.
#[must_use]
pub fn register(worker: Worker) -> Worker {
    let modules = [
        step::register,
        wait::register,
        child::register,
        callback::register,
        invoke::register,
        condition::register,
        submitted::register,
        parallel::register,
        map::register,
        plugin::register,
        flaky::register,
    ];
    modules.into_iter().fold(worker, |worker, register| register(worker))
}

/// What an external system says when it does not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RejectedError {
    pub message: String,
}

/// A text of the input.
fn text(value: &Value) -> Result<String, Error> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::msg(format!("the input has {value} where a text is expected")))
}

/// A number of the input.
fn number(value: &Value) -> Result<i64, Error> {
    value.as_i64().ok_or_else(|| Error::msg(format!("the input has {value} where a number is expected")))
}

/// The id of the run, for what it logs.
fn run() -> String {
    everpulse::info().workflow_id.to_string()
}

/// A text that its own serializer writes, as bytes that are no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(pub String);

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}
