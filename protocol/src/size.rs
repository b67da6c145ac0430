//! How long a run's history is: what its code, its worker and whoever looks at it are told, all by the same count.
//!
//! A run that goes by what it is told of its own history must be told the same in every replay, in every release. So the
//! count is made of what a record says, and not of how this or that release writes its envelope.

use serde::{Deserialize, Serialize};

use crate::event::Outcome;
use crate::history::{CommandMark, Record};

/// So many records and bytes a run's history has, or may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySize {
    pub events: u64,
    /// By [`weight`].
    pub bytes: u64,
}

impl HistorySize {
    /// From here on a run is told that it should continue as new. It is fixed for all releases and workers: the run's code may
    /// go by it.
    pub const SUGGESTED: Self = Self { events: 4_096, bytes: 4 * 1024 * 1024 };

    /// Whether one of the two has come so far.
    #[must_use]
    pub fn reaches(self, limit: Self) -> bool {
        self.events >= limit.events || self.bytes >= limit.bytes
    }

    /// What a run's code is told of its history at the next event: that one counts, and its bytes do not yet, as they hang on
    /// what the code does.
    #[must_use]
    pub fn at_next(self) -> Self {
        Self { events: self.events + 1, bytes: self.bytes }
    }

    /// With one record more.
    #[must_use]
    pub fn with(self, record: &Record) -> Self {
        Self { events: self.events + 1, bytes: self.bytes + weight(record) }
    }
}

/// What a record's ids, times and place count for.
const ENVELOPE: u64 = 128;
/// What each command counts for, beside its names.
const COMMAND: u64 = 32;

/// What a record counts for, in bytes: about what it takes in history. The formula is never changed. Notes count nothing: a run's code may go by the
/// count, and scopes may be edited while runs are open.
#[must_use]
pub fn weight(record: &Record) -> u64 {
    let of_command = |mark: &CommandMark| {
        let target = mark.target.as_ref().map_or(0, |target| target.workflow_id.as_str().len());
        COMMAND + (mark.name.len() + mark.queue.len() + target) as u64
    };
    let of_close = match record.close.as_ref().map(|close| &close.outcome) {
        Some(Outcome::Done(value)) => value.len(),
        Some(Outcome::Failed(failure)) => failure.message.len() + failure.value.as_ref().map_or(0, |value| value.len()),
        None => 0,
    };
    let commands: u64 = record.commands.iter().map(of_command).sum();
    ENVELOPE + (record.body.0.len() + of_close) as u64 + commands
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::codec::Body;
    use crate::history::{CommandKind, RecordBody};
    use crate::note::{Note, NoteKind};
    use crate::{EventId, RunId, Timestamp, WorkflowId};

    #[test]
    fn what_a_record_counts_for_is_a_fixed_formula() {
        let body = Body::of(&RecordBody::Resumed);
        let of_body = body.0.len() as u64;
        let mut record = Record {
            workflow_id: WorkflowId::new("a").expect("a good id"),
            run_id: RunId(Uuid::from_u128(1)),
            seq: 0,
            event: EventId(Uuid::from_u128(2)),
            at: Timestamp(3),
            body,
            commands: Vec::new(),
            notes: Vec::new(),
            close: None,
        };
        assert_eq!(weight(&record), 128 + of_body);
        record.commands = vec![CommandMark { name: "charge".into(), ..CommandMark::new(0, CommandKind::Activity) }];
        assert_eq!(weight(&record), 128 + of_body + 38);
        record.notes = vec![Note { name: "payment".into(), ..Note::new(0, NoteKind::ScopeBegan) }];
        assert_eq!(weight(&record), 128 + of_body + 38, "notes may be edited while runs are open");
        let size = HistorySize::default().with(&record).with(&record);
        assert_eq!(size, HistorySize { events: 2, bytes: 2 * weight(&record) });
        assert!(size.reaches(HistorySize { events: 2, bytes: u64::MAX }));
        assert!(!size.reaches(HistorySize { events: 3, bytes: u64::MAX }));
    }
}
