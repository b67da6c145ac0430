//! Waiting for the first of several futures.

/// Waits for the first branch whose result matches its pattern, drops the others (last to first), and runs
/// its handler.
///
/// Syntax and meaning are those of `tokio::select!`: `PATTERN = FUTURE, if GUARD => HANDLER` and
/// `else => HANDLER`. But branches are always polled in source order, so the first one that is ready in
/// the source wins, in every replay; `biased;` is accepted and changes nothing.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// # use std::time::Duration;
/// # #[everpulse::activity(crate = everpulse)]
/// # async fn charge(order: u32) -> u32 { order }
/// # #[everpulse::workflow(crate = everpulse)]
/// # async fn in_time() -> bool {
/// everpulse::select! {
///     Ok(_) = charge(1) => true,
///     _ = everpulse::sleep(Duration::from_secs(60)) => false,
/// }
/// # }
/// ```
///
/// # Panics
/// When no branch is left, because of guards and patterns, and there is no `else`.
#[macro_export]
macro_rules! select {
    ($($branches:tt)*) => { $crate::__private::select! { $crate $($branches)* } };
}
