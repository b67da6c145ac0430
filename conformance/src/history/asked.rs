//! Commands and notes: what the run asked for, and which parts of it began and ended.

use everpulse_protocol::Token;
use everpulse_protocol::history::{CommandKind, CommandMark, Record, RecordBody};
use everpulse_protocol::note::{Note, NoteKind};
use serde_json::{Map, Value, json};

use super::Told;
use super::words::{error, is_part, result, scope_id, seconds};
use crate::payload;

impl Told<'_> {
    pub(super) fn command(&mut self, record: &Record, mark: &CommandMark) {
        let no = mark.no;
        match mark.kind {
            CommandKind::Activity if self.known.is_callback(no) => {
                self.busy.insert(no);
                let (task, _) = &self.known.left[&no];
                let token = Token { step: no, attempt: Some(task.attempt), ..self.known.token.clone() };
                let mut details = json!({ "CallbackId": token.to_string() });
                details["Timeout"] = json!(task.options.start_to_close_ms / 1_000);
                if let Some(heartbeat) = task.options.heartbeat_ms {
                    details["HeartbeatTimeout"] = json!(heartbeat / 1_000);
                }
                self.of_callback("CallbackStarted", no, details, record);
            }
            CommandKind::Step | CommandKind::Activity => {
                self.busy.insert(no);
                self.of_step("StepStarted", no, json!({}), record);
            }
            CommandKind::Timer if self.known.within(no, "WaitForCondition").is_none() => {
                let duration = mark.due.map(|due| seconds(due, record.at));
                self.of_command("WaitStarted", "Wait", no, json!({ "Duration": duration }), record);
            }
            CommandKind::Promise => {
                let token = Token { step: no, ..self.known.token.clone() };
                self.of_callback("CallbackStarted", no, json!({ "CallbackId": token.to_string() }), record);
            }
            CommandKind::Child => self.invoked(record, mark),
            _ => {}
        }
    }

    /// What a child was begun with is in its own history.
    fn invoked(&mut self, record: &Record, mark: &CommandMark) {
        let mut details = json!({ "FunctionName": mark.name });
        let run_id = mark.target.as_deref().and_then(|target| target.run_id);
        let child = run_id.and_then(|run_id| self.children.get(&run_id));
        let body = child.and_then(|child| child.records.first()).and_then(|first| first.body().ok());
        if let Some(begun) = body.as_ref().and_then(RecordBody::begun) {
            details["DurableExecutionArn"] = json!(run_id.map(|run_id| run_id.to_string()));
            details["ExecutedVersion"] = json!(begun.version.to_string());
            // A workflow's arguments are a map by their names; the suite's functions have one.
            if let Ok(args) = begun.start.args.decode::<Map<String, Value>>()
                && let Some((_, argument)) = args.iter().next()
            {
                details["Input"] = json!({ "Payload": payload::json(argument) });
            }
            let tenant = begun.start.tags.iter().find_map(|tag| tag.strip_prefix("tenant:"));
            if let Some(tenant) = tenant {
                details["TenantId"] = json!(tenant);
            }
        }
        self.of_command("ChainedInvokeStarted", "ChainedInvoke", mark.no, details, record);
    }

    pub(super) fn note(&mut self, record: &Record, note: &Note) {
        let (event, details) = match note.kind {
            NoteKind::ScopeBegan => ("ContextStarted", json!({})),
            NoteKind::ScopeDone => {
                ("ContextSucceeded", json!({ "Result": note.value.as_ref().map_or_else(|| json!({}), result) }))
            }
            NoteKind::ScopeFailed => {
                ("ContextFailed", json!({ "Error": note.failure.as_deref().map_or_else(|| json!({}), error) }))
            }
            _ => return,
        };
        let Some(scope) = self.known.scopes.get(&note.no).filter(|scope| is_part(&scope.kind)) else { return };
        let (kind, name, parent) = (scope.kind.clone(), scope.name.clone(), self.known.part(scope.around));
        self.push_of(event, &kind, scope_id(note.no), &name, parent, details, record);
    }
}
