//! Edits of a workflow's code while runs of it are open.

use crate::replay::core::Core;

const INSTEAD: &str = "it asks which way a run goes, and only a run can tell";

/// Whether this run goes the new way at an edit of its code.
///
/// True for runs that come here for the first time with the new code; false for runs that passed here before the edit, which
/// go the old way to their end. The first answer is recorded and holds for the whole run, however often it is asked,
/// wherever the run is replayed, and on whatever worker.
///
/// An id names one edit, for good: another edit has another id. When no run is open any more that went the old way,
/// the old way is taken out and [`deprecate_patch`] stands where this stood.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(order: String) -> Result<(), everpulse::Error> { Ok(()) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn check_fraud(order: String) -> Result<(), everpulse::Error> { Ok(()) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn checkout(order: String) -> Result<(), everpulse::Error> {
///     if everpulse::patched("fraud-check") {
///         check_fraud(order.clone()).await?;
///     }
///     charge(order).await?;
///     Ok(())
/// }
/// ```
///
/// A worker with code from before the edit cannot go on with a run that went the new way: it parks the run with a message that
/// names the id, and a worker with the edit takes it up again.
///
/// # Determinism
/// A replay takes the way that the run took.
///
/// # Panics
/// Outside a workflow.
#[must_use = "ask in an `if`: the old way stands in its `else`"]
pub fn patched(id: &str) -> bool {
    Core::current("`patched` was called", INSTEAD).patch(id, false)
}

/// Says that the old way at an edit is gone from the code, and every run goes the new one.
///
/// It stands where [`patched`] stood, when no open run went the old way: the runs that recorded the edit find it there, and
/// during a deployment workers that still have `patched` see which way the run goes. When no run is open any more that
/// passed `patched` itself, this can go, too.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(order: String) -> Result<(), everpulse::Error> { Ok(()) }
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn check_fraud(order: String) -> Result<(), everpulse::Error> { Ok(()) }
/// #[everpulse::workflow(crate = everpulse)]
/// async fn checkout(order: String) -> Result<(), everpulse::Error> {
///     everpulse::deprecate_patch("fraud-check");
///     check_fraud(order.clone()).await?;
///     charge(order).await?;
///     Ok(())
/// }
/// ```
///
/// # Determinism
/// It changes nothing in a run that went the new way, or began after this. One that went the old way is parked as
/// diverged at the first command that differs.
///
/// # Panics
/// Outside a workflow.
pub fn deprecate_patch(id: &str) {
    Core::current("`deprecate_patch` was called", INSTEAD).patch(id, true);
}
