//! What the run's code says about its commands: scopes, and names.
//!
//! Nothing here changes what the run does. While a record is replayed the scopes are counted as they were, and nothing is
//! noted: what was noted then is in history.

use everpulse_protocol::note::{Note, NoteKind};

use super::Core;

/// What scopes come to takes no more bytes than this in one turn. It never takes the room of what says where they stand.
const VALUES_PER_TURN_MAX: usize = 64 * 1024;
/// A value or an error of more bytes is not kept.
const VALUE_MAX: usize = 4 * 1024;
/// All else that is noted in a turn takes no more than this: more than ten thousand notes without names.
const NOTES_PER_TURN_MAX: usize = 512 * 1024;
/// Of them, what begins and names something. The rest is for the ends of scopes, so that what was begun is ended.
const BEGINS_PER_TURN_MAX: usize = NOTES_PER_TURN_MAX / 2;
/// A longer name is cut.
const NAME_MAX: usize = 256;

/// The notes of the turn that goes on, and the scope that is polled.
#[derive(Default)]
pub(crate) struct Notes {
    notes: Vec<Note>,
    /// Of what is noted without values.
    bytes: usize,
    /// Of the values and errors.
    value_bytes: usize,
    /// The event is new: what is said is to be kept.
    live: bool,
    next_scope: u32,
    scope: Option<u32>,
}

impl Notes {
    pub(super) fn begin_turn(&mut self, live: bool) {
        *self = Self { live, next_scope: self.next_scope, scope: self.scope, ..Self::default() };
    }

    /// A command was given its number.
    pub(super) fn command(&mut self, no: u32) {
        if self.scope.is_some() {
            self.push(Note { scope: self.scope, ..Note::new(no, NoteKind::Command) });
        }
    }

    fn push(&mut self, mut note: Note) {
        if !self.live {
            return;
        }
        let said = note.bytes();
        let (value, failure) = (note.value.take(), note.failure.take());
        let bytes = note.bytes();
        let room = match note.kind {
            NoteKind::Command | NoteKind::ScopeBegan => BEGINS_PER_TURN_MAX,
            _ => NOTES_PER_TURN_MAX,
        };
        if self.bytes + bytes > room {
            return;
        }
        self.bytes += bytes;
        let values = said - bytes;
        if values <= VALUE_MAX && self.value_bytes + values <= VALUES_PER_TURN_MAX {
            self.value_bytes += values;
            note = Note { value, failure, ..note };
        }
        self.notes.push(note);
    }

    fn name(&mut self, no: u32, name: String) {
        let known = self.notes.iter_mut().rev().find(|note| note.kind == NoteKind::Command && note.no == no);
        let Some(note) = known else { return self.push(Note { name, ..Note::new(no, NoteKind::Command) }) };
        let bytes = self.bytes - note.name.len() + name.len();
        if bytes <= BEGINS_PER_TURN_MAX {
            self.bytes = bytes;
            note.name = name;
        }
    }
}

/// No longer than names may be.
fn cut(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(NAME_MAX));
    name
}

/// Polls inside a scope until it is dropped.
pub(crate) struct InScope<'a> {
    core: &'a Core,
    around: Option<u32>,
}

impl Drop for InScope<'_> {
    fn drop(&mut self) {
        self.core.state.borrow_mut().notes.scope = self.around;
    }
}

impl Core {
    pub(crate) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.state.borrow_mut().notes.notes)
    }

    /// Whether what is said now is kept.
    pub(crate) fn takes_notes(&self) -> bool {
        self.state.borrow().notes.live
    }

    /// What its author calls a command.
    pub(crate) fn name(&self, no: u32, name: String) {
        self.act("name what is under way");
        self.state.borrow_mut().notes.name(no, cut(name));
    }

    /// Begins a scope inside the one that is polled, and numbers it.
    pub(crate) fn begin_scope(&self, name: String) -> u32 {
        self.act("begin a scope");
        let state = &mut *self.state.borrow_mut();
        let no = state.notes.next_scope;
        state.notes.next_scope += 1;
        let name = cut(name);
        let note =
            Note { name, scope: state.notes.scope, before: Some(state.next_no), ..Note::new(no, NoteKind::ScopeBegan) };
        state.notes.push(note);
        no
    }

    pub(crate) fn enter_scope(&self, no: u32) -> InScope<'_> {
        let around = self.state.borrow_mut().notes.scope.replace(no);
        InScope { core: self, around }
    }

    /// Ends a scope with what the note says of its end.
    pub(crate) fn end_scope(&self, end: Note) {
        self.note_act("end a scope");
        let state = &mut *self.state.borrow_mut();
        let before = Some(state.next_no);
        state.notes.push(Note { before, ..end });
    }
}
