//! What running attempts report by heartbeat is told to the owners of their runs, so that it outlives this process.
//!
//! ```text
//!  first details ─► the owner keeps the attempt: the task with its details stands in history ─► the task is acked
//!  later beats ───► told now and then ─► so the owner knows that it runs, and how far it is
//!  its end ───────► judged and settled as any ─► the owner keeps it no more
//!  no more beats ─► the owner waits a while, and sends the task back, with what it was told last
//! ```
//! **Invariant.** At each moment an attempt is covered by its task, which is not acked, or by its run's owner, who was confirmed to
//! have it. So it ends, whatever becomes of this process; and from the first confirmation on with the details.
//!
//! `docs/decisions/owners-keep-attempts-that-report.md` says why.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everpulse_engine::attempt::{AttemptId, Verdict, beat, interrupted, running};
use everpulse_protocol::task::Task;
use everpulse_protocol::{CodingError, Payload};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::attempt::{Beat, Pulse};
use super::{Shared, lock};
use crate::{clock, failpoint};

/// Between two tellings there are four fifths of the heartbeat time-out, but never more or less than this: each is a record.
const TELL_MIN: Duration = Duration::from_secs(2);
const TELL_MAX: Duration = Duration::from_secs(60);
/// Larger details are not told: all that are told stand in history. They reach the next attempt if this one fails here.
const DETAILS_BYTES_MAX: usize = 64 * 1024;
/// The owner waits so long for an attempt that is told of after all its time has passed here.
const LATE: Duration = Duration::from_secs(10);

/// An attempt that its run's owner keeps, once it has anything to report.
pub(super) struct Kept<'a> {
    shared: &'a Shared,
    task: &'a Task,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// The owner was confirmed to have the attempt.
    kept: bool,
    /// What was told last: the owner has it, or may have.
    details: Option<Payload>,
}

/// Attempts that owners keep, and that run here.
#[derive(Debug, Default)]
pub(super) struct KeptHere(AtomicUsize);

impl KeptHere {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl<'a> Kept<'a> {
    /// An attempt that nobody knows of yet.
    pub fn new(shared: &'a Shared, task: &'a Task) -> Self {
        Self { shared, task, told: Mutex::default() }
    }

    fn is_kept(&self) -> bool {
        lock(&self.told).kept
    }

    /// Tells of the attempt for as long as it runs.
    ///
    /// # Cancel safety
    /// It is dropped with the attempt's end. What it was about to tell may be told or not; the end is told after it.
    pub async fn tell(&self, pulse: &Pulse) -> Infallible {
        let Some(silence) = self.task.options.heartbeat_ms.map(Duration::from_millis) else { return pending().await };
        let mut heard = pulse.heard();
        let (mut beats, mut last) = (0, None);
        loop {
            let is_news = move |beat: &Beat| {
                beat.beats > beats && (self.is_kept() || beat.details.as_ref().is_some_and(is_small))
            };
            let beat = heard.wait_for(is_news).await.map(|beat| (beat.beats, beat.details.clone()));
            // No error: the attempt has the sender.
            let Ok((count, details)) = beat else { return pending().await };
            beats = count;
            let is_new = |details: &Payload| !self.is_kept() || last.as_ref() != Some(details);
            let news = details.filter(|details| is_small(details) && is_new(details));
            last = news.clone().or(last);
            self.tell_once(news, silence).await;
            sleep((silence * 4 / 5).clamp(TELL_MIN, TELL_MAX)).await;
        }
    }

    async fn tell_once(&self, mut details: Option<Payload>, silence: Duration) {
        let Task { activity, .. } = self.task;
        if let Err(error) = self.sealed(&mut details).await {
            tracing::warn!(activity, %error, "what an attempt reports cannot leave; it is not told");
            return;
        }
        let now = clock::now();
        let event = if self.is_kept() {
            beat(self.task, &Uuid::now_v7().simple().to_string(), details.clone(), now)
        } else {
            let mut task = Box::new(self.task.clone());
            task.heartbeat.clone_from(&details);
            let limit = Duration::from_millis(task.options.start_to_close_ms);
            running(task, now.after(limit).after(silence).after(LATE), now)
        };
        let before = self.telling(details);
        match self.shared.outbox.event(event).await {
            Ok(_) if self.is_kept() => failpoint::hit("heartbeat-told"),
            Ok(_) => {
                self.shared.kept_here.0.fetch_add(1, Ordering::AcqRel);
                lock(&self.told).kept = true;
                failpoint::hit("heartbeat-kept");
                // The owner has it: from here on it is what brings the work to another worker if we die.
                lock(&self.shared.seen).finish(AttemptId::of(self.task)).iter().for_each(|hold| hold.settled());
            }
            // Too large with all that the task has, or the transport is closed: the task still covers it.
            Err(error) => {
                lock(&self.told).details = before;
                tracing::warn!(activity, %error, "what an attempt reports could not be told");
            }
        }
    }

    /// Notes what is on its way: the owner may have it before that is confirmed here. Gives what was told before.
    fn telling(&self, details: Option<Payload>) -> Option<Payload> {
        let mut told = lock(&self.told);
        let before = told.details.clone();
        told.details = details.or(told.details.take());
        before
    }

    async fn sealed(&self, details: &mut Option<Payload>) -> Result<(), CodingError> {
        self.shared.registry.coding().seal(&self.task.workflow_id, details)?;
        match self.shared.outbox.stores() {
            Some(stores) if stores.has_large(details) => stores.put_out_patiently(details).await,
            _ => Ok(()),
        }
    }

    /// What follows when the time to shut down is over and the attempt still runs: it is given up, if its owner keeps it. Any other
    /// is taken back by the broker.
    pub async fn given_up(&self, mut stop: watch::Receiver<Option<Instant>>) -> Verdict {
        // An error: the runner is gone, and nobody settles anything any more.
        let Ok(Some(until)) = stop.wait_for(Option::is_some).await.map(|until| *until) else { return pending().await };
        sleep_until(until).await;
        if !self.is_kept() {
            return pending().await;
        }
        let details = lock(&self.told).details.clone();
        interrupted(self.task, details, clock::now())
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if self.is_kept() {
            self.shared.kept_here.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn is_small(details: &Payload) -> bool {
    details.len() <= DETAILS_BYTES_MAX
}
