//! Golden histories: a run's records as readable JSON, to be kept beside the code and replayed through later versions of it.
//!
//! ```text
//! records ──► Golden::to_json ──► histories/order-42.json ──► Golden::from_json ──► the same records, byte for byte
//! ```
//! What is stored stays what it is: the file says in JSON what the records say in MessagePack, field by field, of whatever
//! kind they are. Values of users that are MessagePack are shown as JSON (`$payload`), if the very same bytes come back from
//! it; all else is Base64. So a file can be read, compared and reviewed, and loses nothing. Who replays it is not here.

use std::fmt;

use rmpv::Value;

use self::json::Json;
use crate::history::Record;
use crate::{RunId, WorkflowId};

mod json;

/// The version of the files that this release writes.
pub const GOLDEN_VERSION: u64 = 1;

/// What stands in a file for the text of a header.
const HIDDEN: &str = "(not exported)";

/// A run's history, as it is kept in a file.
///
/// ```
/// use everpulse_protocol::golden::Golden;
///
/// let error = Golden::from_json("{\"format\": 7}").unwrap_err();
/// assert_eq!(error.to_string(), "a golden history of format 7; this release reads 1: use the release that wrote it, or a later one");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    pub workflow: String,
    pub version: u32,
    /// The build that began the run, where that was recorded.
    pub build: Option<String>,
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// All records of the run so far, the first one first.
    pub records: Vec<Record>,
}

/// Why something is no golden history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    #[error("no JSON: {reason}")]
    NoJson { reason: String },
    #[error(
        "a golden history of format {found}; this release reads {GOLDEN_VERSION}: use the release that wrote it, or a later one"
    )]
    Format { found: u64 },
    #[error("no golden history: {what}")]
    Malformed { what: String },
    #[error("there is no record in it that says how the run began; only a run that has begun can be exported")]
    NoStart,
}

impl Golden {
    /// Takes the records of one run.
    ///
    /// # Errors
    /// [`GoldenError::NoStart`] without a record of the start, [`GoldenError::Malformed`] for records of several runs, or with
    /// a gap.
    pub fn of(records: Vec<Record>) -> Result<Self, GoldenError> {
        let first = records.first().ok_or(GoldenError::NoStart)?;
        let (workflow_id, run_id) = (first.workflow_id.clone(), first.run_id);
        for (seq, record) in records.iter().enumerate() {
            if record.run_id != run_id || record.workflow_id != workflow_id || record.seq as usize != seq {
                return Err(malformed(format!(
                    "record {seq} of run {workflow_id}/{run_id} is record {} of run {}/{}",
                    record.seq, record.workflow_id, record.run_id
                )));
            }
        }
        let started = records.iter().find_map(|record| match record.body() {
            Ok(body) => body.begun().map(|begun| (begun.start.workflow.clone(), begun.version, begun.build.cloned())),
            Err(_) => None,
        });
        let (workflow, version, build) = started.ok_or(GoldenError::NoStart)?;
        Ok(Self { workflow, version, build, workflow_id, run_id, records })
    }

    /// The same, with a placeholder for the text of each header: it may be a token, and the file is read by many. The names stay.
    ///
    /// # Errors
    /// As [`to_json`](Self::to_json).
    pub fn without_headers(self) -> Result<Self, GoldenError> {
        let Self { workflow_id, run_id, records, .. } = &self;
        let hidden = records.iter().enumerate().map(|(seq, whole)| {
            let mut json = shown(&whole.pack())?;
            // None had any: its bytes are left alone.
            if !json::hide_headers(&mut json, HIDDEN) {
                return Ok(whole.clone());
            }
            record(&json, workflow_id, *run_id, seq)
        });
        let records = hidden.collect::<Result<_, _>>()?;
        Ok(Self { records, ..self })
    }

    /// The file's text: indented, in the order of the records' fields, with a newline at its end.
    ///
    /// # Errors
    /// When a record would not come back as it is, which no release's records do.
    pub fn to_json(&self) -> Result<String, GoldenError> {
        let mut head = vec![
            ("format".to_owned(), Json::Unsigned(GOLDEN_VERSION)),
            ("workflow".to_owned(), Json::Text(self.workflow.clone())),
            ("version".to_owned(), Json::Unsigned(self.version.into())),
        ];
        head.extend(self.build.clone().map(|build| ("build".to_owned(), Json::Text(build))));
        head.push(("workflow_id".to_owned(), Json::Text(self.workflow_id.to_string())));
        head.push(("run_id".to_owned(), Json::Text(self.run_id.to_string())));
        let records = self.records.iter().map(|record| shown(&record.pack())).collect::<Result<_, _>>()?;
        head.push(("records".to_owned(), Json::List(records)));
        let mut text = serde_json::to_string_pretty(&Json::Map(head)).map_err(|error| malformed(error.to_string()))?;
        text.push('\n');
        match Self::from_json(&text) {
            Ok(read) if read == *self => Ok(text),
            Ok(_) => Err(malformed(format!("the records of {} cannot be written as JSON", self.workflow_id))),
            Err(error) => Err(error),
        }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is no JSON, of another format, or no history; the message says what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, GoldenError> {
        let json: Json =
            serde_json::from_str(text).map_err(|error| GoldenError::NoJson { reason: error.to_string() })?;
        let Json::Map(fields) = json else { return Err(malformed("it is no object".to_owned())) };
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        match field("format") {
            Some(Json::Unsigned(GOLDEN_VERSION)) => {}
            Some(Json::Unsigned(found)) => return Err(GoldenError::Format { found: *found }),
            _ => return Err(malformed("it has no `format`".to_owned())),
        }
        let text = |name: &str| match field(name) {
            Some(Json::Text(text)) => Ok(text.clone()),
            _ => Err(malformed(format!("it has no text `{name}`"))),
        };
        let workflow_id = WorkflowId::new(text("workflow_id")?).map_err(|error| malformed(error.to_string()))?;
        let run_id: RunId = text("run_id")?.parse().map_err(|error| malformed(format!("`run_id`: {error}")))?;
        let Some(Json::List(records)) = field("records") else {
            return Err(malformed("it has no list `records`".to_owned()));
        };
        let read = |(seq, json): (usize, &Json)| record(json, &workflow_id, run_id, seq);
        let records = records.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let golden = Self::of(records)?;
        let said = field("version");
        if text("workflow")? != golden.workflow || said != Some(&Json::Unsigned(golden.version.into())) {
            return Err(malformed(format!(
                "its head names another workflow or version than its start, which is of `{}` version {}",
                golden.workflow, golden.version
            )));
        }
        Ok(golden)
    }
}

fn malformed(what: String) -> GoldenError {
    GoldenError::Malformed { what }
}

/// A value of a user as one line of JSON, for people: what JSON cannot say is shown by its size.
///
/// ```
/// use everpulse_protocol::{Payload, golden::shown_payload};
///
/// assert_eq!(shown_payload(&Payload::encode(&("tea", 3)).unwrap()), "[\"tea\",3]");
/// ```
#[must_use]
pub fn shown_payload(payload: &crate::Payload) -> String {
    if let (Some(crate::payload::Format::Json), Ok(text)) = (payload.format(), str::from_utf8(&payload.data)) {
        return text.to_owned();
    }
    let json = (payload.encoding == crate::payload::MSGPACK).then(|| json::exact(&payload.data)).flatten();
    let text = json.and_then(|json| serde_json::to_string(&json).ok());
    text.unwrap_or_else(|| format!("({}, {} bytes)", payload.encoding, payload.data.len()))
}

/// A record's fields but for those that the head says.
fn shown(packed: &[u8]) -> Result<Json, GoldenError> {
    let json = json::of_message(packed).ok_or_else(|| malformed("a record cannot be written as JSON".to_owned()))?;
    let Json::Map(fields) = json else { return Err(malformed("a record is no map".to_owned())) };
    Ok(Json::Map(fields.into_iter().filter(|(key, _)| key != "workflow_id" && key != "run_id").collect()))
}

fn record(json: &Json, workflow_id: &WorkflowId, run_id: RunId, seq: usize) -> Result<Record, GoldenError> {
    let what = |reason: &dyn fmt::Display| malformed(format!("record {seq} cannot be read: {reason}"));
    let value = json::to_message(json).map_err(|error| what(&error))?;
    let Value::Map(mut fields) = value else { return Err(what(&"it is no object")) };
    fields.push(("workflow_id".into(), Value::from(workflow_id.as_str())));
    fields.push(("run_id".into(), Value::Binary(run_id.0.as_bytes().to_vec())));
    let packed = json::encode(&Value::Map(fields));
    Record::unpack(&mut packed.as_slice()).map_err(|error| what(&error))
}
