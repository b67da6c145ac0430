//! What a schedule is asked to do beside its times.

use std::future::IntoFuture;
use std::ops::Range;
use std::time::SystemTime;

use everpulse_protocol::Timestamp;
use everpulse_schedule::{Control, Overlap, Rfc3339};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::{Schedule, timestamp};
use crate::error::{Error, ErrorKind};

/// A run that is to be begun now. Await it to say so.
#[derive(Debug)]
#[must_use = "nothing is begun before it is awaited"]
pub struct Trigger {
    schedule: Schedule,
    overlap: Overlap,
}

impl Trigger {
    pub(super) fn new(schedule: Schedule) -> Self {
        Self { schedule, overlap: Overlap::AllowAll }
    }

    /// What is done if a run of the schedule is open; by default it is begun beside it.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }
}

impl IntoFuture for Trigger {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// # Errors
    /// As [`Schedule::pause`].
    ///
    /// # Cancel safety
    /// When it is dropped the run may or may not be begun.
    fn into_future(self) -> Self::IntoFuture {
        async move { self.schedule.tell(Control::Trigger { overlap: self.overlap }).await }.boxed()
    }
}

/// A range of times that is to be done. Await it to say so.
#[derive(Debug)]
#[must_use = "nothing is done before it is awaited"]
pub struct Backfill {
    schedule: Schedule,
    range: Range<Timestamp>,
    overlap: Overlap,
}

impl Backfill {
    pub(super) fn new(schedule: Schedule, range: Range<Timestamp>) -> Self {
        Self { schedule, range, overlap: Overlap::BufferAll }
    }

    /// What is done at a time while a run of the schedule is open; by default it waits for it. With
    /// [`Overlap::AllowAll`] fifty are open at once at most.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }
}

impl IntoFuture for Backfill {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// # Errors
    /// [`ErrorKind::Invalid`] for a range that ends before it begins, or that begins in the future; and as [`Schedule::pause`].
    ///
    /// # Cancel safety
    /// When it is dropped the range may or may not be done.
    fn into_future(self) -> Self::IntoFuture {
        async move {
            let Range { start, end } = self.range;
            if end <= start {
                let (start, end) = (Rfc3339(start), Rfc3339(end));
                let message =
                    format!("schedule {}: the range ends ({end}) before it begins ({start})", self.schedule.name);
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            if start >= timestamp(SystemTime::now()) {
                let message = format!(
                    "schedule {}: the range begins at {}, which is in the future: what is done is what of it has passed",
                    self.schedule.name,
                    Rfc3339(start)
                );
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            self.schedule.tell(Control::Backfill { from: start, until: end, overlap: self.overlap }).await
        }
        .boxed()
    }
}
