//! What a schedule is to do, when, and what else counts; as it is stored.

use everpulse_protocol::payload::{Format, PayloadError};
use everpulse_protocol::priority::Priority;
use everpulse_protocol::{Payload, WorkflowId};
use everpulse_sdk::{Call, Request, WorkflowDefinition};
use serde::{Deserialize, Serialize};

use crate::spec::Spec;

/// Missed times of a day are made up for, unless it is said otherwise.
pub const CATCH_UP_MS: u64 = 86_400_000;

/// And those of ten seconds always: so long it may take until another worker has taken over.
pub const CATCH_UP_MIN_MS: u64 = 10_000;

/// What a schedule is to do, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    pub spec: Spec,
    pub action: Action,
    #[serde(default)]
    pub overlap: Overlap,
    /// A time that nobody could do is made up for within so long after it, and within [`CATCH_UP_MIN_MS`] in any case; one that
    /// is older is missed.
    pub catch_up_ms: u64,
    /// A run that fails pauses the schedule.
    #[serde(default)]
    pub pause_on_failure: bool,
    /// So many of its times are still to be done; the others are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
}

impl Plan {
    /// With what holds where nothing is said.
    #[must_use]
    pub fn new(spec: Spec, action: Action) -> Self {
        Self {
            spec,
            action,
            overlap: Overlap::default(),
            catch_up_ms: CATCH_UP_MS,
            pause_on_failure: false,
            remaining: None,
        }
    }
}

/// The run that is begun at each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub workflow: String,
    /// None: the newest that its first owner has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// A map by parameter name.
    pub args: Payload,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Priority::is_default")]
    pub priority: Priority,
}

impl Action {
    /// The run of a call. Its id counts for nothing: runs are named by their times.
    ///
    /// # Errors
    /// When an argument cannot be encoded.
    pub fn of<D: WorkflowDefinition>(call: Call<D>) -> Result<Self, PayloadError> {
        call.into_request(Format::default()).map(Self::from)
    }
}

impl From<Request> for Action {
    fn from(request: Request) -> Self {
        let Request { workflow, version, args, id: _, tags, timeout, priority } = request;
        let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
        Self { workflow, version, args, tags, timeout_ms, priority }
    }
}

/// What is done at a time while a run of the schedule is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// Nothing: the time is skipped.
    #[default]
    Skip,
    /// The first such time is done when the open run has ended; the others are skipped.
    BufferOne,
    /// All are done, one after another. A thousand wait at most, and of more the first are skipped.
    BufferAll,
    /// Open runs of the schedule's own times are asked to cancel, and the time is done when they have ended. Of several that
    /// wait, the last one. Runs on demand, and those of a range that is done again, are let be.
    CancelOther,
    /// As [`CancelOther`](Self::CancelOther), but the open runs are ended at once: for those that do not heed a request.
    TerminateOther,
    /// It is done beside the open run. A thousand are open at once at most; others wait for their turn.
    AllowAll,
}

impl Overlap {
    /// Whether open runs come to an end for the next one.
    pub(crate) fn makes_way(self) -> bool {
        matches!(self, Self::CancelOther | Self::TerminateOther)
    }
}

/// The greatest length of a schedule's name, in bytes: its runs' ids have a time after it.
pub const NAME_BYTES_MAX: usize = 200;

/// How the workflow ids of schedules begin.
pub const ID_PREFIX: &str = "schedule/";

/// The workflow id of the run that keeps a schedule.
///
/// # Errors
/// When the name is empty, too long, or has control characters.
pub fn workflow_id(name: &str) -> Result<WorkflowId, InvalidName> {
    let invalid = |reason: String| InvalidName { name: name.chars().take(40).collect(), reason };
    if name.is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(invalid(format!("it has {} bytes, and {NAME_BYTES_MAX} are the most", name.len())));
    }
    WorkflowId::new(format!("{ID_PREFIX}{name}")).map_err(|error| invalid(error.to_string()))
}

/// A text that cannot be a schedule's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be the name of a schedule: {reason}")]
pub struct InvalidName {
    name: String,
    reason: String,
}
