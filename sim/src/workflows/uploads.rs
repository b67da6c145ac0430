//! Work that comes in pieces, each of which is reported: what an attempt has done the next one does not do again.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use everpulse_sdk::{Error, Failure, Retry, activity, workflow};

/// The activity that reports.
pub const UPLOAD: &str = "upload";

/// It may take longer than what an owner does right here, so it always goes through its queue, and its owner is told of it.
#[activity(timeout = "90s", heartbeat = "1500ms", retry(initial = "200ms"), crate = everpulse_sdk)]
pub async fn upload(n: u64) -> Result<u64, Error> {
    let context = activity::context();
    let from = context.last_heartbeat::<u64>().unwrap_or(0);
    for piece in from..n {
        a_piece().await;
        if n.is_multiple_of(3) && context.attempt() == 1 && piece == n / 2 {
            return Err(Error::msg("the line went down"));
        }
        context.heartbeat(piece + 1);
    }
    Ok(n)
}

/// Over when the worker polls once more: how long that takes is the simulation's to say.
async fn a_piece() {
    let mut is_done = false;
    poll_fn(move |_| if std::mem::replace(&mut is_done, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// More than any upload has pieces: that the second one was given up.
const GIVEN_UP: u64 = 1_000;

/// An upload that is tried until it is done, and one that has two attempts: an attempt whose worker was killed is one of them.
#[workflow(version = 1, crate = everpulse_sdk)]
pub async fn uploads(n: u64) -> Result<u64, Failure<Error>> {
    let whole = upload(n).await?;
    let retry = Retry::new().initial(Duration::from_millis(200)).max_attempts(2);
    match upload(n - 1).retry(retry).await {
        Ok(rest) => Ok(whole + rest),
        Err(Failure::Exhausted { .. }) => Ok(whole + GIVEN_UP),
        Err(failure) => Err(failure),
    }
}

/// What `uploads` may come to.
pub fn uploaded(n: u64) -> Vec<u64> {
    vec![2 * n - 1, n + GIVEN_UP]
}
