//! What of a run this release does not know, and what follows from that.
//!
//! A later release wrote it: a record of an unknown kind, or a command of one. What the run waits for, what was sent of it
//! and what its inputs would do cannot be told then, so nothing is done for the run: it is parked, its inputs are taken in,
//! and its timers wait, until somebody has the shard who knows. Meanwhile no mark calls the frames sent in which that stands,
//! unless whoever knew it did; and all of it is carried as it is.

use std::collections::{BTreeMap, BTreeSet};

use everpulse_protocol::history::{CloseStatus, CommandKind, CommandMark, Parked, ParkedKind, Record};

use super::Run;

/// Where it stands what this release does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// The frames; of what was carried, the one that carries it.
    frames: BTreeSet<u64>,
    /// The commands among it, with the frames that asked for them. Which of them have come to their end is not known.
    pub commands: BTreeMap<u32, u64>,
}

impl Unknown {
    /// The frames are known better than from where the run was folded.
    pub fn place_all(&mut self, frames: impl IntoIterator<Item = u64>) {
        self.frames = frames.into_iter().collect();
    }

    /// The first frame, of those from one on, whose commands may not be sent.
    pub fn first_from(&self, floor: u64) -> Option<u64> {
        self.frames.range(floor..).next().copied()
    }

    pub fn frames(&self) -> impl Iterator<Item = u64> {
        self.frames.iter().copied()
    }

    /// A command was asked for in another frame than the one in which it was found.
    pub fn place(&mut self, command: u32, frame: u64) {
        if let Some(known) = self.commands.get_mut(&command) {
            *known = frame;
            self.frames.insert(frame);
        }
    }
}

impl Run {
    /// Notes what of a record this release does not know.
    pub(super) fn note_unknown(&mut self, record: &Record, is_known: bool, frame: u64) {
        let strange = record.commands.iter().filter(|mark| matches!(mark.kind, CommandKind::Unknown(_)));
        let strange: Vec<u32> = strange.map(|mark| mark.no).collect();
        let ends_strangely = record.close.as_ref().is_some_and(|close| matches!(close.status, CloseStatus::Unknown(_)));
        if is_known && strange.is_empty() && !ends_strangely {
            return;
        }
        let unknown = self.unknown.get_or_insert_default();
        unknown.frames.insert(frame);
        unknown.commands.extend(strange.into_iter().map(|no| (no, frame)));
    }

    /// Why the run has to stand still, if there is something that this release does not know of it.
    pub fn why_unknown(&self) -> Option<Parked> {
        self.unknown.as_ref()?;
        let what = self.records.iter().find_map(|record| record.unknown());
        Some(why_unknown(&what.unwrap_or_else(|| format!("something in the history of workflow {}", self.workflow_id))))
    }

    /// Whether a step that is not pending may be of a command that is not known, or was asked for with one. Only that a command
    /// that is known has the number says that it is settled: which numbers the others have is not known.
    pub fn may_have_asked(&self, step: u32) -> bool {
        let is_it = |mark: &CommandMark| mark.no == step && mark.kind.is_work();
        !self.records.iter().any(|record| record.commands.iter().any(is_it))
    }
}

/// A run stands still for what this release does not know.
pub(crate) fn why_unknown(what: &str) -> Parked {
    let message = format!(
        "{what}: the run stands still until a worker has its shard that runs the release that wrote this, or a later one; what \
         comes for it meanwhile is kept"
    );
    Parked::new(ParkedKind::UnknownKind, message)
}
