//! What the suite calls plug-ins: interceptors of a worker that say what they hear.
//!
//! | hook | is heard |
//! |---|---|
//! | `invocation-start`, `invocation-end` | when the run began, and when it ended: a run that never waits has one invocation |
//! | `attempt-start`, `attempt-end` | around an attempt at an activity |
//! | `operation-start`, `operation-end` | before the first attempt, and behind the one that came to a value |
//!
//! All of them are told of all runs, and say it beside what the run itself logs.

use everpulse::Worker;
use everpulse::activity::ActivityContext;
use everpulse::intercept::{Attempted, Happened, Interceptor, Next, RunEvent};
use everpulse_protocol::history::CloseStatus;
use serde_json::{Value, json};

use crate::history::operation_id;
use crate::logs::Logs;

/// A worker with all plug-ins that the cases name.
#[must_use]
pub fn register(worker: Worker, logs: &Logs) -> Worker {
    ["CONFPLUGIN", "CONFPLUGIN-A", "CONFPLUGIN-B"]
        .into_iter()
        .fold(worker, |worker, name| worker.intercept(Plugin { name, logs: logs.clone() }))
}

/// A plug-in.
#[derive(Debug)]
pub struct Plugin {
    name: &'static str,
    logs: Logs,
}

impl Plugin {
    fn say(&self, run: &str, mut line: Value) {
        line["plugin"] = json!(self.name);
        self.logs.say(run, line);
    }
}

impl Interceptor for Plugin {
    async fn attempt(&self, context: &ActivityContext, next: Next<'_>) -> Attempted {
        let (run, attempt) = (context.workflow_id().to_string(), context.attempt());
        let op = operation_id(context.step());
        if attempt == 1 {
            self.say(&run, json!({ "hook": "operation-start", "op": op }));
        }
        self.say(&run, json!({ "hook": "attempt-start", "n": attempt, "op": op }));
        let end = next.run().await;
        let outcome = if end.is_ok() { "SUCCEEDED" } else { "FAILED" };
        self.say(&run, json!({ "hook": "attempt-end", "n": attempt, "outcome": outcome, "op": op }));
        if end.is_ok() {
            self.say(&run, json!({ "hook": "operation-end", "op": op, "status": outcome }));
        }
        end
    }

    fn observe(&self, event: &RunEvent) {
        let run = event.workflow_id.as_str();
        let arn = event.run_id.to_string();
        match event.what {
            Happened::Started { .. } => {
                self.say(run, json!({ "hook": "invocation-start", "first": true, "durableExecutionArn": arn }));
            }
            Happened::Ended { status } => {
                let status = match status {
                    CloseStatus::Completed => "SUCCEEDED",
                    CloseStatus::TimedOut => "TIMED_OUT",
                    CloseStatus::Failed => "FAILED",
                    _ => "STOPPED",
                };
                self.say(run, json!({ "hook": "invocation-end", "status": status, "durableExecutionArn": arn }));
            }
            _ => {}
        }
    }
}
