//! What a workflow can know of itself, and show to others.

use std::time::{Duration, SystemTime};

use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{Headers, Payload, RunId, Timestamp, WorkflowId};
use serde::Serialize;

use crate::replay::core::Core;

const INSTEAD: &str = "elsewhere ask the client for the run";

/// Which run this is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// The workflow's name.
    pub workflow: String,
    pub version: u32,
    /// The recorded time of the start.
    pub started_at: SystemTime,
    /// The words by which the run is found, as whoever started it gave them.
    pub tags: Vec<String>,
    /// What the worker that began the run was built from: its git revision, unless it was told something else. It stays
    /// the same for the whole run, whatever code goes on with it.
    pub build: Option<String>,
    /// What came with the start beside the arguments, from the client or from the run that began this one.
    pub headers: Headers,
    /// The first of the runs that this one continues as new; itself, if it continues none.
    pub first_run_id: RunId,
    /// The run that it continues.
    pub continued_from: Option<RunId>,
    /// How many runs came before it.
    pub run_number: u32,
    /// How many events the run's history has, with the one that the workflow is at.
    pub history_events: u64,
    /// What its history counts for in bytes, up to the event before.
    pub history_bytes: u64,
    /// The history is so long that the run should [continue as new](crate::continue_as_new) at the next good moment: 4,096
    /// events, or 4 MiB, whatever the worker's limits are.
    pub continue_as_new_suggested: bool,
}

/// Which run this is, and how long its history has become.
///
/// # Determinism
/// The same in every replay.
///
/// # Panics
/// Outside a workflow.
#[must_use]
pub fn info() -> Info {
    let core = Core::current("`workflow::info` was called", INSTEAD);
    let (info, history) = (&core.info, core.history());
    let continues = info.continues.as_ref();
    Info {
        workflow_id: info.workflow_id.clone(),
        run_id: info.run_id,
        workflow: info.workflow.clone(),
        version: info.version,
        started_at: system_time(info.started_at),
        tags: info.tags.clone(),
        build: info.build.clone(),
        // They were read before the code began.
        headers: Headers::of_payload(core.headers().as_ref()).unwrap_or_default(),
        first_run_id: continues.map_or(info.run_id, |continues| continues.first),
        continued_from: continues.map(|continues| continues.previous),
        run_number: continues.map_or(0, |continues| continues.number),
        history_events: history.events,
        history_bytes: history.bytes,
        continue_as_new_suggested: history.reaches(HistorySize::SUGGESTED),
    }
}

/// The recorded time of the event that the workflow is at. It stands still between events.
///
/// # Determinism
/// The same in every replay.
///
/// # Panics
/// Outside a workflow.
#[must_use]
pub fn now() -> SystemTime {
    system_time(Core::current("`now` was called", "in an activity or elsewhere use `SystemTime::now`").now())
}

/// Shows a state to clients: the last one that was published under its type's name can be asked for.
///
/// # Panics
/// When the value's `Serialize` fails, and outside a workflow.
pub fn publish<T: Serialize + ?Sized>(state: &T) {
    publish_as(state_name::<T>(), state);
}

/// Shows a state to clients under a name.
///
/// # Panics
/// When the value's `Serialize` fails, and outside a workflow.
pub fn publish_as<T: Serialize + ?Sized>(name: impl Into<String>, state: &T) {
    let core = Core::current("`publish` was called", "an activity reports with `activity::context().heartbeat(..)`");
    let name = name.into();
    match Payload::encode_as(core.format, state) {
        Ok(value) => core.publish(name, value),
        Err(error) => panic!("the state `{name}` cannot be published: {error}"),
    }
}

/// The name under which [`publish`] shows states of a type: the type's own, without module and parameters.
#[must_use]
pub fn state_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

fn system_time(time: Timestamp) -> SystemTime {
    // A time that the system cannot write is no time that a clock ever showed.
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(time.0)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_named_as_its_type() {
        assert_eq!(state_name::<Info>(), "Info");
        assert_eq!(state_name::<Option<Info>>(), "Option");
        assert_eq!(state_name::<str>(), "str");
    }
}
