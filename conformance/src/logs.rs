//! What handlers log, kept for the runs that said it, and the suite's rules of what is expected of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use regex::Regex;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::variables::Variables;

/// All that was logged with the field `run`, in the order in which it was.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    lines: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    /// Where processes that are killed say it instead.
    file: Option<Arc<PathBuf>>,
}

/// Where [`say_in_replays`] says it.
static HEARD: OnceLock<Logs> = OnceLock::new();

impl Logs {
    /// Logs that several processes share.
    #[must_use]
    pub fn in_file(file: PathBuf) -> Self {
        Self { file: Some(Arc::new(file)), ..Self::default() }
    }

    /// What a run logged.
    ///
    /// # Errors
    /// When the file that it stands in cannot be read.
    pub fn of(&self, run: &str) -> Result<Vec<Value>> {
        let Some(file) = self.file.as_deref() else {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            return Ok(lines.get(run).cloned().unwrap_or_default());
        };
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let lines = text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<Vec<Value>>>()?;
        Ok(lines.into_iter().filter(|line| line["run"] == run).map(|mut line| line["said"].take()).collect())
    }

    /// Adds a line of a run.
    pub fn say(&self, run: &str, line: Value) {
        let Some(file) = self.file.as_deref() else {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            return lines.entry(run.to_owned()).or_default().push(line);
        };
        // One write of a short line, which a kill behind it does not take back.
        let line = format!("{}\n", json!({ "run": run, "said": line }));
        let file = OpenOptions::new().create(true).append(true).open(file);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("a line is lost, and the case will miss it: {error}");
        }
    }

    /// From now on what is said in replays is said here. The first logs of a process are those.
    pub fn hear_replays(&self) {
        let _ = HEARD.set(self.clone());
    }
}

/// Says something of a run whenever its code comes by, also in a replay, where nobody hears what is said by `tracing`.
pub fn say_in_replays(run: &str, message: &str) {
    if let Some(logs) = HEARD.get() {
        logs.say(run, json!({ "message": format!("[INFO] {message}") }));
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(run) = fields.run else { return };
        let message = format!("[{}] {}", event.metadata().level(), fields.message);
        self.say(&run, json!({ "message": message }));
    }
}

#[derive(Default)]
struct Fields {
    run: Option<String>,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "run" {
            self.run = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

/// What differs between what is expected to be logged and what was.
///
/// # Errors
/// When an expectation is none.
pub fn compare(expected: &[Value], lines: &[Value], variables: &Variables) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for expectation in expected {
        let wanted = variables.put_into(expectation.get("match").context("an expected log without a match")?);
        let found = places(&wanted, lines)?;
        let bound = |name: &str| expectation.get(name).and_then(Value::as_u64);
        let count = found.len() as u64;
        let (exactly, least, most) = (bound("count"), bound("min_count"), bound("max_count"));
        // Where no number is said, once at least.
        let never = count == 0 && exactly.is_none() && least.is_none() && most.is_none();
        if never
            || exactly.is_some_and(|wanted| wanted != count)
            || least.is_some_and(|least| count < least)
            || most.is_some_and(|most| count > most)
        {
            differences.push(format!("log {wanted}: {count} times"));
        }
        for (word, is_after) in [("after", true), ("before", false)] {
            let anchors = match expectation.get(word) {
                None => Vec::new(),
                Some(Value::Array(anchors)) => anchors.clone(),
                Some(anchor) => vec![anchor.clone()],
            };
            for anchor in anchors {
                let anchors = places(&variables.put_into(&anchor), lines)?;
                let in_order = match (found.first(), found.last(), anchors.first(), anchors.last()) {
                    (_, _, None, _) | (_, _, _, None) => false,
                    (Some(first), _, _, Some(anchor)) if is_after => first >= anchor,
                    (_, Some(last), Some(anchor), _) => last <= anchor,
                    _ => true,
                };
                if !in_order {
                    differences.push(format!("log {wanted}: it is not {word} {anchor}"));
                }
            }
        }
    }
    Ok(differences)
}

/// Where the lines stand that have these fields.
fn places(wanted: &Value, lines: &[Value]) -> Result<Vec<usize>> {
    let fields = wanted.as_object().context("a match has fields")?;
    let mut places = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let mut fits = true;
        for (name, value) in fields {
            let found = line.get(name);
            let pattern = value.as_str().and_then(|text| text.strip_prefix('/')?.strip_suffix('/'));
            fits &= match (pattern, found) {
                (_, None) => false,
                (Some(pattern), Some(found)) => {
                    Regex::new(pattern)?.is_match(&found.as_str().map_or_else(|| found.to_string(), str::to_owned))
                }
                (None, Some(found)) => found == value,
            };
        }
        if fits {
            places.push(place);
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_have_an_order() {
        let lines = [json!({ "message": "a" }), json!({ "message": "b", "n": 1 }), json!({ "message": "a" })];
        let told = |expected: Value| compare(&[expected], &lines, &Variables::default()).expect("good").len();
        assert_eq!(told(json!({ "match": { "message": "/a/" }, "count": 2 })), 0);
        assert_eq!(told(json!({ "match": { "message": "a" }, "count": 1 })), 1);
        assert_eq!(told(json!({ "match": { "n": 1 }, "count": 1, "after": [{ "message": "c" }] })), 1);
        assert_eq!(told(json!({ "match": { "message": "c" } })), 1, "it was never said");
        assert_eq!(told(json!({ "match": { "message": "c" }, "count": 0 })), 0);
        assert_eq!(told(json!({ "match": { "n": 1 }, "after": { "message": "a" } })), 1);
        assert_eq!(told(json!({ "match": { "message": "a" }, "max_count": 1, "before": { "n": 1 } })), 2);
    }
}
