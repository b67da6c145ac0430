//! How long a run's history may become: a word in the log, and then an end.
//!
//! What a worker puts up with is its own setting. So nothing of a run hangs on it but its end, and that is a record: whoever
//! replays the run, with whatever limits, goes by what was recorded. What a run's code is told of its history is the same
//! everywhere ([`HistorySize::SUGGESTED`]).

use everpulse_protocol::history::{CloseStatus, RecordBody};
use everpulse_protocol::size::HistorySize;
use everpulse_protocol::{EventId, Failure, FailureKind, RunId};

use super::Applier;

impl Applier<'_> {
    /// A run has one record more than before.
    pub(super) fn mind_length(&mut self, run_id: RunId, before: HistorySize) {
        let Some(run) = self.book.runs.get(&run_id) else { return };
        let (size, workflow_id) = (run.size, &run.workflow_id);
        if size.reaches(self.history_warning) && !before.reaches(self.history_warning) {
            let HistorySize { events, bytes } = size;
            let workflow = run.started.as_ref().map(|started| started.workflow.as_str()).unwrap_or_default();
            tracing::warn!(
                %workflow_id, %run_id, workflow, events, bytes,
                "the history of a run is long; it ought to continue as new, before it fails at {} events or {} bytes",
                self.history_limit.events, self.history_limit.bytes
            );
        }
        // What the end of a run means of which not all is known is not known either. One that has not begun is judged when it does:
        // it may be the next one of a series, to which more is given in the same frame.
        if !size.reaches(self.history_limit) || run.unknown.is_some() || run.started.is_none() {
            return;
        }
        let limit = self.history_limit;
        let message = format!(
            "the history of workflow {workflow_id} has {} events of {} bytes, and may have {} and {}; let the workflow continue \
             as new, with `continue_as_new(..).await` when `info().continue_as_new_suggested` says so",
            size.events, size.bytes, limit.events, limit.bytes
        );
        let event = EventId::derived(run_id, run.next_seq(), "history exceeded");
        let body = RecordBody::HistoryExceeded { size, limit };
        self.end(run_id, event, &body, CloseStatus::Failed, Failure::new(FailureKind::HistoryExceeded, message));
    }
}
