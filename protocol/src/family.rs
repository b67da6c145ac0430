//! Runs that know of each other: who began a run, what one run asks of another, and what becomes of children when their
//! parent ends.
//!
//! ```text
//!   parent ── spawn ──────────────► child          ids: derived from the parent's run and the command's number
//!          ◄─ child_began, if asked ─┤
//!          ── demanded: cancel ──────►
//!          ◄─ child_closed ──────────┘
//!   any run ── demanded: signal, cancel, terminate ──► any run
//!           ◄──────────────── delivered ──────────────┘
//! ```
//! All of these are events of the inbox of the other's shard, sent as any command is: after its frame stands, until it is
//! confirmed, and again by whoever does not know that it was.

use serde::{Deserialize, Serialize};

use crate::{EventId, Payload, RunId, WorkflowId};

/// The command of a run that began another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// The number of the command.
    pub step: u32,
    /// It waits to hear that its child is in history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hears_begin: bool,
}

/// The command of a run that asks something of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub workflow_id: WorkflowId,
    pub run_id: RunId,
    /// The number of the command.
    pub step: u32,
    /// What it waits for.
    pub kind: CallerKind,
}

/// What a [`Caller`] is to the run that it asks something of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallerKind {
    /// It waits to hear whether that was taken.
    Awaits,
    /// The parent, which wants its child no more, and waits for nothing. A child that has not begun never does.
    Parent,
}

/// What one run asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    Signal { name: String, value: Payload },
    Cancel { reason: String },
    Terminate { reason: String },
}

/// What becomes of a child when its parent ends first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentClose {
    /// It is asked to cancel, as if the parent had dropped it.
    #[default]
    RequestCancel,
    /// It is ended at once.
    Terminate,
    /// It goes on.
    Abandon,
}

/// The run that a command is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub workflow_id: WorkflowId,
    /// None: the newest of the workflow id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Of a child: what becomes of it when its parent ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_close: Option<ParentClose>,
}

impl Parent {
    /// The run that its command began.
    #[must_use]
    pub fn child(&self) -> RunId {
        child_run(self.run_id, self.step)
    }
}

/// The run that a command begins. As with all runs it is the id of the start.
#[must_use]
pub fn child_run(parent: RunId, step: u32) -> RunId {
    RunId(EventId::derived(parent, step, "child").0)
}

/// The workflow id of a child for which none was given: its parent's and the child's run id, or the latter alone where both
/// do not fit. No other run has it.
///
/// # Panics
/// Never: both are good ids.
#[must_use]
pub fn child_id(parent: &WorkflowId, parent_run: RunId, step: u32) -> WorkflowId {
    let run = child_run(parent_run, step);
    let long = WorkflowId::new(format!("{parent}/{run}"));
    long.unwrap_or_else(|_| WorkflowId::new(run.to_string()).expect("a UUID is a good id"))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn ids_of_children_are_a_fixed_algorithm_and_fit() {
        let run = RunId(Uuid::from_u128(1));
        let id = |parent: String| child_id(&WorkflowId::new(parent).expect("a good id"), run, 7).to_string();
        let (short, long) = (id("order-42".to_owned()), id("x".repeat(250)));
        assert_eq!(short, format!("order-42/{long}"));
        assert_eq!(long, "c8fe940c-099f-5b06-4f2b-33bed02a3478");
        assert_eq!(long, child_run(run, 7).to_string());
        assert_ne!(child_run(run, 7), child_run(run, 8));
    }
}
