//! Durable sleep: a timer that survives restarts.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use everpulse_protocol::Timestamp;
use everpulse_protocol::history::CommandKind;

use crate::options::ms;
use crate::replay::core::Core;
use crate::replay::{Command, Ticket};

const INSTEAD: &str = "in an activity or elsewhere use your runtime's own, such as `tokio::time::sleep`";

/// Waits, for milliseconds or years. The time counts from the event that the workflow is at.
///
/// Zero and times too short to tell are timers all the same: the workflow goes on with another event.
///
/// # Panics
/// Outside a workflow.
///
/// # Cancel safety
/// Dropping it cancels the timer.
pub fn sleep(duration: Duration) -> Sleep {
    let now = Core::current("`sleep` was called", INSTEAD).now();
    Sleep { due: Timestamp(now.0.saturating_add(ms(duration))), name: None, state: State::New }
}

/// Waits until a time; one that has passed is due at once.
///
/// # Panics
/// Outside a workflow.
///
/// # Cancel safety
/// Dropping it cancels the timer.
pub fn sleep_until(time: SystemTime) -> Sleep {
    Core::current("`sleep_until` was called", INSTEAD);
    Sleep { due: timestamp(time), name: None, state: State::New }
}

/// The next whole millisecond; the beginning of 1970 for all before.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, ms))
}

/// A timer that was not awaited or has not fired.
#[derive(Debug)]
#[must_use = "a timer does nothing until it is awaited"]
pub struct Sleep {
    due: Timestamp,
    name: Option<String>,
    state: State,
}

impl Sleep {
    /// What it waits for, in a word, for people: `describe` and an exported history show it.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use std::time::Duration;
    /// # #[everpulse::workflow(crate = everpulse)]
    /// # async fn waits() {
    /// everpulse::sleep(Duration::from_secs(86_400)).named("cooling-off period").await;
    /// # }
    /// ```
    ///
    /// # Determinism
    /// A replay does not look at it: it can be edited while runs are open.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

#[derive(Debug)]
enum State {
    New,
    Scheduled(Ticket),
    Done,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let State::New = self.state {
            let core = Core::current("a timer was awaited", INSTEAD);
            let due = self.due;
            let ticket = Ticket::schedule(&core, CommandKind::Timer, |no| Command::Timer { no, due })
                .expect("timers are scheduled even after a cancellation");
            if let Some(name) = self.name.take() {
                core.name(ticket.no(), name);
            }
            self.state = State::Scheduled(ticket);
        }
        let State::Scheduled(ticket) = &self.state else { panic!("a timer was polled after it had fired") };
        std::task::ready!(ticket.poll(cx));
        self.state = State::Done;
        Poll::Ready(())
    }
}
