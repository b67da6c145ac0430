//! Permits of a queue for all of its workers together, as one worker has them: it reads what all of them say, says what it
//! wants, and gives out what it holds.
//!
//! ```text
//!   attempts ── one() ──► desk: who waits ─┐                       ┌─► notices, one at a time ─► permits.QUEUE.*
//!        ▲                                 ├─► member (engine) ────┤
//!        └── permit ◄── it holds ──────────┘         ▲             └── read by all workers ◄──────────┘
//!             └── dropped, or rested ────────────────┘
//! ```
//! A rate is made of permits that rest: one second's worth of them, at least one, each of which is given back a second after its
//! attempt began (or as much later as one takes). So in any time no more begin than the rate times that time, and one second's
//! worth.
//!
//! A permit that was had is asked once more, just before its attempt begins, whether it still holds: meanwhile its worker may
//! have been stopped or cut off for so long that others have it.
//!
//! What the rules are, and why they hold, is [the engine's](everpulse_engine::permits).

mod desk;
mod serve;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use everpulse_engine::permits::ROUND_MS;
use everpulse_protocol::permit::Terms;
use everpulse_protocol::topic;
use everpulse_transport::Transport;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// How long a worker that leaves waits for what is in use, and as long again for its last notice.
const LEAVING: Duration = Duration::from_secs(2);
/// A worker that has read nothing of its own that it said since then begins nothing. Others call it silent later than that:
/// of the rounds for which they wait the first three may come together, where they had to wait for the broker, and no more.
const FRESH: Duration = Duration::from_millis(ROUND_MS * 5 / 2);
const CONCURRENCY_MAX: usize = 1_000_000;
/// Attempts in a second: one in an hour.
const RATE_MIN: f64 = 1.0 / 3_600.0;
const RATE_MAX: f64 = 10_000.0;

/// What is permitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// So many attempts at a time.
    Concurrency(usize),
    /// So many attempts in a second.
    Rate(f64),
}

impl Rule {
    /// Why it cannot be a rule, if it cannot.
    pub(crate) fn refused(self) -> Option<String> {
        match self {
            Self::Concurrency(0) => Some("0 attempts at a time are none; say at least 1".to_owned()),
            Self::Concurrency(attempts) if attempts > CONCURRENCY_MAX => {
                Some(format!("{attempts} attempts at a time are more than {CONCURRENCY_MAX}; leave it out"))
            }
            // Not a number is in no range.
            Self::Rate(per_second) if !(RATE_MIN..=RATE_MAX).contains(&per_second) => Some(format!(
                "{per_second} attempts in a second are not between one in an hour (1.0 / 3600.0) and {RATE_MAX} in a second"
            )),
            Self::Concurrency(_) | Self::Rate(_) => None,
        }
    }

    /// The last part of the topic's name.
    fn name(self) -> &'static str {
        match self {
            Self::Concurrency(_) => "concurrency",
            Self::Rate(_) => "rate",
        }
    }

    /// How many permits there are, and how long they rest. Whole milliseconds, rounded up: never more begin than was said.
    fn terms(self) -> Terms {
        match self {
            Self::Concurrency(attempts) => {
                Terms { limit: u32::try_from(attempts).unwrap_or(u32::MAX).max(1), rest_ms: 0 }
            }
            // A cast from a float saturates.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is what is wanted")]
            Self::Rate(per_second) => {
                let limit = (per_second as u32).max(1);
                let rest_ms = (f64::from(limit) / per_second * 1_000.0).ceil() as u64;
                Terms { limit, rest_ms: rest_ms.max(1) }
            }
        }
    }

    fn rests(self) -> bool {
        matches!(self, Self::Rate(_))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Concurrency(attempts) => write!(f, "{attempts} at a time"),
            Self::Rate(per_second) => write!(f, "{per_second} in a second"),
        }
    }
}

/// The permits of one queue, by one rule.
#[derive(Debug)]
pub(crate) struct Permits {
    rule: Rule,
    wishes: mpsc::UnboundedSender<Wish>,
}

/// A moment by both clocks of the machine: one stands still while the machine does, the other one can be set.
#[derive(Debug, Clone, Copy)]
struct Moment {
    running: Instant,
    told: SystemTime,
}

impl Moment {
    fn now() -> Self {
        Self { running: Instant::now(), told: SystemTime::now() }
    }

    /// How long ago it was at most. One that is still to come, since the clock was set back, may be long ago.
    fn elapsed(self) -> Duration {
        self.running.elapsed().max(self.told.elapsed().unwrap_or(Duration::MAX))
    }
}

/// What everybody who has a permit knows of where it is from.
#[derive(Debug, Default)]
struct Hearing {
    /// Counts the sessions: permits of an earlier one are not this one's.
    session: u64,
    /// When the worker said what it has read of its own.
    said: Option<Moment>,
}

impl Hearing {
    /// Whether others surely believe that this worker is there.
    fn is_fresh(&self) -> bool {
        self.said.is_some_and(|said| said.elapsed() < FRESH)
    }
}

/// What is shared by those who have permits and the desk.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Hearing>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Hearing> {
        // Nothing in it can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt may run, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Permit(Option<Had>);

/// In which session it was had, and where it goes back to.
#[derive(Debug)]
struct Had {
    session: u64,
    hearing: Shared,
    back: mpsc::UnboundedSender<Wish>,
}

impl Permit {
    /// Whether this worker surely still has it.
    pub(crate) fn holds(&self) -> bool {
        self.0.as_ref().is_some_and(|had| {
            let hearing = had.hearing.lock();
            hearing.session == had.session && hearing.is_fresh()
        })
    }

    /// It is not used.
    pub(crate) fn give_back(&mut self) {
        if let Some(Had { session, back, .. }) = self.0.take() {
            // An error: the worker has left, and given all back.
            let _ = back.send(Wish::Back(session));
        }
    }

    /// For one that rests: it does so from here on, whatever becomes of the attempt that begins.
    pub(crate) fn begin(mut self) {
        if let Some(Had { session, back, .. }) = self.0.take() {
            // An error: as above.
            let _ = back.send(Wish::Begun(session));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[derive(Debug)]
enum Wish {
    One(oneshot::Sender<Permit>),
    /// So many will be wanted as soon as those that were are had.
    Ahead(u32),
    Begun(u64),
    Back(u64),
    Leave(oneshot::Sender<()>),
}

impl Permits {
    /// Takes part, from now on.
    pub(crate) fn open(transport: Transport, queue: &str, rule: Rule) -> Self {
        let (wishes, heard) = mpsc::unbounded_channel();
        let topic = topic::permits(queue, rule.name());
        tokio::spawn(serve::run(transport, topic, rule, heard, wishes.downgrade()));
        Self { rule, wishes }
    }

    /// Whether they are given back by time.
    pub(crate) fn rest(&self) -> bool {
        self.rule.rests()
    }

    /// The next permit. One that is waited for no more goes to others.
    pub(crate) async fn one(&self) -> Permit {
        let (give, given) = oneshot::channel();
        // An error of either: the runtime is shutting down, or the worker has left.
        let _ = self.wishes.send(Wish::One(give));
        match given.await {
            Ok(permit) => permit,
            Err(_) => {
                if self.wishes.is_closed() {
                    let limit = self.rule;
                    tracing::warn!(%limit, "nothing begins here any more that needs a permit: this worker takes no part in them");
                }
                std::future::pending().await
            }
        }
    }

    /// So many will be wanted as soon as those that were are had: they are asked for together, where nobody else waits. It holds
    /// until other is said.
    pub(crate) fn ahead(&self, count: usize) {
        // An error: as above.
        let _ = self.wishes.send(Wish::Ahead(u32::try_from(count).unwrap_or(u32::MAX)));
    }

    /// Gives all back, and takes no part any more. What is in use for longer than a moment, others take back by themselves.
    pub(crate) async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.wishes.send(Wish::Leave(done)).is_ok() {
            // If it takes too long, others find out by themselves.
            let _ = timeout(2 * LEAVING, left).await;
        }
    }
}
