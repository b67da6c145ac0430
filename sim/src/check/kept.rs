//! What attempts told their runs' owners is what the next ones have.

use everpulse_protocol::Payload;
use everpulse_protocol::event::Report;
use everpulse_protocol::history::RecordBody;

use super::Standing;
use crate::ledger::{AttemptOf, Ledger};

/// What stands of an attempt that its owner keeps.
#[derive(Debug, Default)]
struct Kept {
    /// The greatest that was told before it ended.
    told: u64,
    ended: bool,
    /// Its owner heard of it no more.
    overdue: bool,
}

/// An attempt finds no less than what its owner had recorded of the one before, unless that one ran twice: then it may have what
/// the other of the two came to. Gives how many went on where one was of which its owner heard no more.
pub(super) fn what_was_told(ledger: &Ledger, standing: &Standing, faults: &mut Vec<String>) -> u64 {
    let mut resumed = 0;
    for (of, found) in &ledger.begun {
        let (run, step, attempt) = *of;
        let before = (run, step, attempt.saturating_sub(1));
        let Some([_]) = ledger.begun.get(&before).map(Vec::as_slice) else { continue };
        let kept = kept(standing, before);
        for found in found.iter().filter(|found| **found < kept.told) {
            faults.push(format!(
                "attempt {attempt} of step {step} of {run} finds {found}, and its owner knew of {} from the one before",
                kept.told
            ));
        }
        resumed += u64::from(kept.overdue && found.iter().any(|found| *found > 0));
    }
    resumed
}

fn kept(standing: &Standing, (run, step, attempt): AttemptOf) -> Kept {
    let mut kept = Kept::default();
    for (record, _) in standing.runs.get(&run).into_iter().flatten() {
        let Ok(body) = record.body() else { continue };
        let details = match &body {
            RecordBody::AttemptLeft { step: of, attempt: number, task, .. } if (*of, *number) == (step, attempt) => {
                task.heartbeat.clone()
            }
            RecordBody::AttemptReported { step: of, attempt: number, report: Report::Beat { details } }
                if (*of, *number) == (step, attempt) =>
            {
                details.clone()
            }
            RecordBody::AttemptOverdue { step: of, attempt: number, .. } if (*of, *number) == (step, attempt) => {
                (kept.ended, kept.overdue) = (true, true);
                None
            }
            RecordBody::AttemptFailed { step: of, attempt: number, .. } if (*of, *number) == (step, attempt) => {
                kept.ended = true;
                None
            }
            _ => None,
        };
        let told = details.as_ref().and_then(|details: &Payload| details.decode::<u64>().ok());
        if let Some(told) = told.filter(|_| !kept.ended) {
            kept.told = kept.told.max(told);
        }
    }
    kept
}
