//! Schedules: runs that are begun at times, by cron and intervals in time zones.
//!
//! ```no_run
//! # use everpulse_sdk as everpulse;
//! # #[everpulse::workflow(crate = everpulse_sdk)]
//! # async fn report(kind: String) -> Result<(), everpulse::Error> { Ok(()) }
//! # async fn example(client: everpulse_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use everpulse_client::Overlap;
//! use std::time::Duration;
//!
//! let nightly = client.schedule("nightly");
//! let plan = nightly.cron("0 2 * * *").time_zone("Europe/Vienna").jitter(Duration::from_secs(300)).overlap(Overlap::Skip);
//! plan.create(report("sales".to_owned())).await?;
//!
//! nightly.pause("the database moves").await?;
//! nightly.unpause().await?;
//! nightly.trigger().await?;
//! println!("next: {:?}", nightly.describe().await?.coming);
//! # Ok(()) }
//! ```
//!
//! A schedule is itself a run, `schedule/NAME`, kept by any worker that serves workflows.

mod asking;
mod making;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpulse_protocol::Timestamp;
use everpulse_schedule::workflow_id;
pub use everpulse_schedule::{
    Action, Cause, Control, Counts, Describe, End, Interval, InvalidName, InvalidSpec, Overlap, Paused, Plan, Recent,
    Rfc3339, Spec, State, View, schedule, scheduled_run,
};
use uuid::Uuid;

pub use self::asking::{Backfill, Trigger};
pub use self::making::NewSchedule;

use crate::core::Core;
use crate::error::{Error, ErrorKind, ResultError};
use crate::run::Run;

/// So many of the next times are described.
const COMING: usize = 10;
/// So often an update is tried anew when somebody else was faster.
const UPDATES_MAX: u32 = 10;

/// A schedule, by its name. Nothing is asked before a method is awaited, so there may be none yet.
#[derive(Debug, Clone)]
pub struct Schedule {
    core: Arc<Core>,
    name: String,
}

impl Schedule {
    pub(crate) fn new(core: Arc<Core>, name: String) -> Self {
        Self { core, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new schedule with the times of a cron: of 5 fields (minute, hour, day of the month, month, day of the week), 6 (with
    /// the second before them) or 7 (with the year after them).
    pub fn cron(&self, cron: impl Into<String>) -> NewSchedule {
        self.spec(Spec::new().cron(cron))
    }

    /// A new schedule with a time each so often, counted from the beginning of 1970.
    pub fn every(&self, every: Duration) -> NewSchedule {
        self.spec(Spec::new().every(every))
    }

    /// A new schedule with these times.
    pub fn spec(&self, spec: Spec) -> NewSchedule {
        NewSchedule::new(self.clone(), spec)
    }

    /// It begins nothing by itself until it is told to go on; times that come due meanwhile are left. What is open goes on, and
    /// what somebody asks for is done: [`trigger`](Self::trigger), [`backfill`](Self::backfill).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such schedule, and those of [`Run::signal`].
    ///
    /// # Cancel safety
    /// When it is dropped it may or may not be told.
    pub async fn pause(&self, note: impl Into<String>) -> Result<(), Error> {
        self.tell(Control::Pause { note: note.into() }).await
    }

    /// It goes on with the next time.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// As [`pause`](Self::pause).
    pub async fn unpause(&self) -> Result<(), Error> {
        self.tell(Control::Unpause).await
    }

    /// Begins a run now, also while it is paused: `schedule.trigger().await?`. It is begun beside open ones, unless
    /// [`overlap`](Trigger::overlap) says otherwise.
    pub fn trigger(&self) -> Trigger {
        Trigger::new(self.clone())
    }

    /// Does the times of a range that has passed, from its beginning up to and without its end, one after another, unless
    /// [`overlap`](Backfill::overlap) says otherwise: `schedule.backfill(from..to).await?`. A time that was begun already is known,
    /// and not done again, however long ago that was. It is done also while the schedule is paused, and its own times come first.
    pub fn backfill(&self, range: std::ops::Range<SystemTime>) -> Backfill {
        Backfill::new(self.clone(), timestamp(range.start)..timestamp(range.end))
    }

    /// How it stands: what it does when, what it did, and the next ten times.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such schedule, and [`ErrorKind::Timeout`] when no worker answers.
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn describe(&self) -> Result<View, Error> {
        let now = timestamp(SystemTime::now());
        let view = self.run()?.query(Describe { now, coming: COMING }).await;
        view.map_err(|error| self.explained(error))
    }

    /// Changes what it does and when, from now on: `schedule.update(|plan| plan.overlap = Overlap::Skip).await?`. What is open
    /// goes on, and other times than before leave what waited. How many times are still to be done stays, unless the change says
    /// something else. If somebody else changes it meanwhile, the change is made once
    /// more on what they made of it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for times that cannot be used, [`ErrorKind::NotFound`] when there is no such schedule, and those
    /// of [`Run::signal`].
    ///
    /// # Cancel safety
    /// When it is dropped it may or may not be changed.
    pub async fn update(&self, mut change: impl FnMut(&mut Plan)) -> Result<(), Error> {
        for _ in 0..UPDATES_MAX {
            let View { mut plan, revision, .. } = self.describe().await?;
            let remaining = plan.remaining;
            change(&mut plan);
            plan.spec.times().map_err(|error| self.invalid(&error))?;
            let id = Uuid::now_v7().to_string();
            // Times are done meanwhile.
            let keeps_remaining = plan.remaining == remaining;
            let plan = Box::new(plan);
            self.tell(Control::Update { plan, revision, id: id.clone(), keeps_remaining }).await?;
            if self.describe().await?.updates.contains(&id) {
                return Ok(());
            }
        }
        let message = format!("schedule {} was changed by others {UPDATES_MAX} times meanwhile; try again", self.name);
        Err(Error::new(ErrorKind::Timeout, message))
    }

    /// Ends it. Its runs go on, and its name is free.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    /// As [`pause`](Self::pause).
    pub async fn delete(&self) -> Result<(), Error> {
        self.tell(Control::Delete).await?;
        match self.run()?.result_timeout(self.core.limit).await.map_err(ResultError::into_failure) {
            Ok(_) => Ok(()),
            Err(Ok(failure)) => Err(self.invalid(&format_args!("it ended otherwise: {failure}"))),
            Err(Err(error)) => Err(self.explained(error)),
        }
    }

    async fn tell(&self, control: Control) -> Result<(), Error> {
        self.run()?.signal(control).await.map_err(|error| self.explained(error))
    }

    /// The run that keeps it.
    fn run(&self) -> Result<Run<schedule>, Error> {
        let id = workflow_id(&self.name).map_err(|error| self.invalid(&error))?;
        Ok(Run::of(Arc::clone(&self.core), id.as_str()))
    }

    fn invalid(&self, error: &dyn std::fmt::Display) -> Error {
        Error::new(ErrorKind::Invalid, format!("schedule {}: {error}", self.name))
    }

    /// A schedule is no longer there when its run has ended.
    fn explained(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::AlreadyClosed => {
                Error::new(ErrorKind::NotFound, format!("there is no schedule {}", self.name))
            }
            _ => error,
        }
    }
}

/// The names of all schedules, as history has them now.
pub(crate) async fn names(core: &Core) -> Result<Vec<String>, Error> {
    let open = core.histories.open_runs(everpulse_schedule::ID_PREFIX).await?;
    let ours = open.into_iter().filter(|view| view.workflow == everpulse_schedule::WORKFLOW);
    let name = |id: &str| id.strip_prefix(everpulse_schedule::ID_PREFIX).map(str::to_owned);
    let mut names: Vec<String> = ours.filter_map(|view| name(view.workflow_id.as_str())).collect();
    names.sort_unstable();
    Ok(names)
}

pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp(0).after(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
