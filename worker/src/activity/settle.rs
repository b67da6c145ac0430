//! Sends what follows from an attempt, in the order that loses nothing: first what brings the work on (the next
//! attempt, the dead letter), then what the run is told. It is confirmed when this returns; then its task may be acked.

use everpulse_engine::attempt::{Verdict, attempt_failed, left, settled};
use everpulse_protocol::event::{NextAttempt, Outcome};
use everpulse_protocol::task::Task;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{Failure, FailureKind};
use everpulse_transport::{Error, ErrorKind};

use crate::outbox::Outbox;
use crate::{clock, failpoint};

/// Sends it. `task` is the attempt that ended.
///
/// # Errors
/// When the transport is closed: nothing is settled then.
pub(crate) async fn settle(outbox: &Outbox, task: &Task, verdict: Verdict) -> Result<(), Error> {
    match send(outbox, task, verdict).await {
        Err(error) if error.kind() == ErrorKind::TooLarge => {
            // Better a short failure than a step that never ends.
            let failure = unsendable(&task.activity, task.attempt, &error);
            outbox.event(settled(task, task.attempt, Outcome::Failed(failure), clock::now())).await.map(drop)
        }
        result => result,
    }
}

/// The failure of a step when what an attempt came to is too large for any message.
pub(crate) fn unsendable(activity: &str, attempt: u32, error: &Error) -> Failure {
    tracing::warn!(activity, %error, "what an attempt came to cannot be sent");
    let message = format!("what attempt {attempt} of activity `{activity}` came to cannot be sent: {error}");
    Failure::new(FailureKind::Undecodable, message)
}

async fn send(outbox: &Outbox, task: &Task, verdict: Verdict) -> Result<(), Error> {
    match verdict {
        Verdict::Settled { attempt, outcome } => {
            outbox.event(settled(task, attempt, outcome, clock::now())).await.map(drop)
        }
        Verdict::Left { task, until } => outbox.event(left(task, until, clock::now())).await.map(drop),
        Verdict::Retry { attempt, failure, next, at } => {
            // Its owner may keep the attempt, whose task is acked; told of its end it keeps it no more.
            outbox.timer(TimerMessage::Retry { due: at, task: next }).await?;
            failpoint::hit("retry-confirmed");
            let told = attempt_failed(task, attempt, failure, NextAttempt::At(at), clock::now());
            outbox.event(told).await.map(drop)
        }
        Verdict::Exhausted { attempt, failure, letter, topic, parked } => {
            outbox.dead_letter(&topic, *letter).await?;
            let told = if parked {
                attempt_failed(task, attempt, failure, NextAttempt::Redrive, clock::now())
            } else {
                settled(task, attempt, Outcome::Failed(failure), clock::now())
            };
            outbox.event(told).await.map(drop)
        }
    }
}
