//! A schedule, kept by the workflow of every worker, in a life of seconds.

use std::time::{Duration, UNIX_EPOCH};

use everpulse_protocol::Timestamp;
use everpulse_schedule::{Action, Control, Overlap, Plan, Spec, State, schedule};
use everpulse_sdk::workflow::info;
use everpulse_sdk::{Error, Failure, now, sleep_until, workflow};

use super::ends::deaf;
use super::naps;

const POLICIES: [Overlap; 6] = [
    Overlap::Skip,
    Overlap::BufferOne,
    Overlap::BufferAll,
    Overlap::CancelOther,
    Overlap::AllowAll,
    Overlap::TerminateOther,
];

/// Has a schedule of so many seconds, and deletes it: each second that has come by the clock of its owner was begun, or is
/// counted as what else became of it. That clock may be behind this run's, so there may be fewer; more there are never.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn keeps(n: u64) -> Result<u64, Failure<Error>> {
    let begun = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = (begun.as_secs() + 1) * 1_000;
    let end = first + n * 1_000;
    let times = Spec::new().every(Duration::from_secs(1)).jitter(Duration::from_millis(300));
    let spec = times.from(Timestamp(first)).until(Timestamp(end));
    let overlap = POLICIES[n as usize % POLICIES.len()];
    let action = match overlap {
        Overlap::TerminateOther => Action::of(deaf(3)),
        _ => Action::of(naps(n % 4)),
    };
    let mut plan = Plan::new(spec, action.map_err(|error| Failure::Failed(error.into()))?);
    plan.overlap = overlap;
    // Its runs' ids are those of this run alone.
    let state = State::new(info().run_id.to_string(), plan).since(Timestamp(first - 1)).short_lived(8 + n % 5);
    let Ok(kept) = schedule(state).start().await else { return Ok(n) };
    sleep_until(UNIX_EPOCH + Duration::from_millis(end + 400)).await;
    while let Err(Failure::TimedOut) = kept.signal(Control::Delete).await {}
    let counts = kept.await?;
    Ok(counts.begun + counts.skipped + counts.missed + counts.known)
}
