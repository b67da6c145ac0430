//! Records: what happened to the run, and to what it asked for.

use everpulse_protocol::event::{NextAttempt, Outcome, Report};
use everpulse_protocol::history::{CommandKind, Record, RecordBody};
use serde_json::{Value, json};

use super::Told;
use super::words::{error, operation_id, overdue, result, seconds};

impl Told<'_> {
    /// What happened. False: it is nothing that the suite takes for an invocation.
    pub(super) fn body(&mut self, record: &Record, body: &RecordBody) -> bool {
        match body {
            begins if begins.begun().is_some() => self.push("ExecutionStarted", json!({}), record),
            RecordBody::StepSettled { step, outcome } => {
                self.busy.remove(step);
                let details = self.until_next_look(*step, record);
                self.ended(record, *step, outcome, details);
            }
            RecordBody::ActivitySettled { step, attempt, outcome } => {
                self.busy.remove(step);
                if !self.known.is_callback(*step) {
                    self.next_attempt(record, *step, *attempt);
                    self.ended(record, *step, outcome, json!({ "RetryDetails": { "CurrentAttempt": attempt } }));
                }
            }
            RecordBody::AttemptFailed { step, attempt, failure, next } => {
                self.busy.remove(step);
                self.next_attempt(record, *step, *attempt);
                let mut retry = json!({ "CurrentAttempt": attempt });
                if let NextAttempt::At(at) = next {
                    retry["NextAttemptDelaySeconds"] = seconds(*at, record.at);
                }
                let details = json!({ "Error": error(failure), "RetryDetails": retry });
                self.of_step("StepFailed", *step, details, record);
            }
            RecordBody::PromiseSettled { step, outcome } => self.called_back(record, *step, outcome),
            RecordBody::AttemptLeft { step, .. } => {
                self.busy.remove(step);
            }
            RecordBody::AttemptReported { step, report, .. } => match report {
                Report::Beat { .. } => return false,
                Report::Done(value) => self.called_back(record, *step, &Outcome::Done(value.clone())),
                Report::Failed { failure, .. } => self.called_back(record, *step, &Outcome::Failed(failure.clone())),
            },
            RecordBody::AttemptOverdue { step, failure, .. } => {
                // A worker says what becomes of the activity.
                self.busy.insert(*step);
                let details = json!({ "Error": overdue(failure) });
                self.of_callback("CallbackTimedOut", *step, details, record);
            }
            RecordBody::TimerFired { step } => {
                if self.known.within(*step, "WaitForCondition").is_none() {
                    let mark = self.known.marks.get(step);
                    let began = self.events.iter().find(|event| event["Id"] == json!(operation_id(*step)));
                    let duration = began.map(|event| event["WaitStartedDetails"]["Duration"].clone());
                    let duration = duration.filter(|_| mark.is_some()).unwrap_or_default();
                    self.of_command("WaitSucceeded", "Wait", *step, json!({ "Duration": duration }), record);
                }
            }
            RecordBody::ChildClosed { step, close, .. } => {
                let (event, details) = match &close.outcome {
                    Outcome::Done(value) => ("ChainedInvokeSucceeded", json!({ "Result": result(value) })),
                    Outcome::Failed(failure) => ("ChainedInvokeFailed", json!({ "Error": error(failure) })),
                };
                self.of_command(event, "ChainedInvoke", *step, details, record);
            }
            RecordBody::Signalled { .. } | RecordBody::Delivered { .. } | RecordBody::CancelRequested { .. } => {}
            _ => return false,
        }
        true
    }

    /// Another attempt than the first has no record of its begin: it began when it was due, and here is how it ended.
    fn next_attempt(&mut self, record: &Record, no: u32, attempt: u32) {
        if attempt > 1 {
            self.of_step("StepStarted", no, json!({}), record);
        }
    }

    fn ended(&mut self, record: &Record, no: u32, outcome: &Outcome, mut details: Value) {
        let event = match outcome {
            Outcome::Done(value) => {
                details["Result"] = result(value);
                "StepSucceeded"
            }
            Outcome::Failed(failure) => {
                details["Error"] = error(failure);
                "StepFailed"
            }
        };
        self.of_step(event, no, details, record);
    }

    /// Of a look for a condition: when the next one is due.
    fn until_next_look(&self, no: u32, record: &Record) -> Value {
        let Some((scope, _)) = self.known.within(no, "WaitForCondition") else { return json!({}) };
        let timers = record.commands.iter().filter(|mark| mark.kind == CommandKind::Timer);
        let due = timers.filter(|mark| self.known.scope_of(mark.no) == Some(scope)).find_map(|mark| mark.due);
        match due {
            Some(due) => json!({ "RetryDetails": { "NextAttemptDelaySeconds": seconds(due, record.at) } }),
            None => json!({}),
        }
    }

    fn called_back(&mut self, record: &Record, no: u32, outcome: &Outcome) {
        let (event, details) = match outcome {
            Outcome::Done(value) => ("CallbackSucceeded", json!({ "Result": result(value) })),
            Outcome::Failed(failure) => ("CallbackFailed", json!({ "Error": error(failure) })),
        };
        self.of_callback(event, no, details, record);
    }
}
