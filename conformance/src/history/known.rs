//! What has to be known of the whole of a history before any of it is told: its scopes, and what commands are.

use std::collections::BTreeMap;

use everpulse::Golden;
use everpulse_protocol::history::{CommandKind, CommandMark, RecordBody};
use everpulse_protocol::note::{Note, NoteKind};
use everpulse_protocol::task::Task;
use everpulse_protocol::{Timestamp, Token};

use super::words::{is_part, scope_id};

/// A scope of the run.
pub(super) struct Scope {
    /// What the suite calls such a part.
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) around: Option<u32>,
}

/// The whole.
pub(super) struct Known {
    pub(super) scopes: BTreeMap<u32, Scope>,
    /// Of commands: the scope and the name.
    pub(super) notes: BTreeMap<u32, (Option<u32>, String)>,
    pub(super) marks: BTreeMap<u32, CommandMark>,
    /// Activities that were left to be completed later, with when at the latest.
    pub(super) left: BTreeMap<u32, (Box<Task>, Timestamp)>,
    pub(super) token: Token,
}

impl Known {
    pub(super) fn of(history: &Golden) -> Self {
        let token = Token { workflow_id: history.workflow_id.clone(), run_id: history.run_id, step: 0, attempt: None };
        let mut known = Self {
            scopes: BTreeMap::new(),
            notes: BTreeMap::new(),
            marks: BTreeMap::new(),
            left: BTreeMap::new(),
            token,
        };
        for record in &history.records {
            for note in &record.notes {
                known.note(note);
            }
            for mark in record.commands.iter().filter(|mark| mark.kind.is_work()) {
                known.marks.insert(mark.no, mark.clone());
            }
            if let Ok(RecordBody::AttemptLeft { step, task, until, .. }) = record.body() {
                known.left.insert(step, (task, until));
            }
        }
        known
    }

    fn note(&mut self, note: &Note) {
        match note.kind {
            NoteKind::Command => {
                self.notes.insert(note.no, (note.scope, note.name.clone()));
            }
            NoteKind::ScopeBegan => {
                let (kind, name) = note.name.split_once(' ').unwrap_or((&note.name, ""));
                let (kind, name) = (kind.to_owned(), name.to_owned());
                self.scopes.insert(note.no, Scope { kind, name, around: note.scope });
            }
            _ => {}
        }
    }

    pub(super) fn scope_of(&self, no: u32) -> Option<u32> {
        self.notes.get(&no).and_then(|(scope, _)| *scope)
    }

    /// The innermost scope around a command, if it is one of this kind.
    pub(super) fn within(&self, no: u32, kind: &str) -> Option<(u32, &Scope)> {
        let scope = self.scope_of(no)?;
        self.scopes.get(&scope).filter(|found| found.kind == kind).map(|found| (scope, found))
    }

    /// The innermost scope from here on that the suite has as a part of a run.
    pub(super) fn part(&self, mut scope: Option<u32>) -> Option<String> {
        loop {
            let no = scope?;
            let found = self.scopes.get(&no)?;
            if is_part(&found.kind) {
                return Some(scope_id(no));
            }
            scope = found.around;
        }
    }

    pub(super) fn is_callback(&self, no: u32) -> bool {
        self.left.contains_key(&no) || self.marks.get(&no).is_some_and(|mark| mark.kind == CommandKind::Promise)
    }
}
