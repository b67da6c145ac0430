//! A schedule that is being described, and made.

use std::time::{Duration, SystemTime};

use everpulse_protocol::payload::PayloadError;
use everpulse_protocol::priority::Priority;
use everpulse_schedule::{Action, Overlap, Plan, Spec, State, schedule, workflow_id};
use everpulse_sdk::{Call, Request, WorkflowDefinition};
use serde::Serialize;

use super::{Schedule, timestamp};
use crate::error::{Error, ErrorKind};
use crate::start::Start;

/// A schedule that is being described. [`create`](Self::create) makes it.
#[derive(Debug, Clone)]
#[must_use = "nothing is scheduled before `create` is awaited"]
pub struct NewSchedule {
    schedule: Schedule,
    spec: Spec,
    overlap: Overlap,
    catch_up: Option<Duration>,
    pause_on_failure: bool,
    limit: Option<u64>,
}

impl NewSchedule {
    pub(super) fn new(schedule: Schedule, spec: Spec) -> Self {
        let overlap = Overlap::default();
        Self { schedule, spec, overlap, catch_up: None, pause_on_failure: false, limit: None }
    }

    /// Also the times of this cron.
    pub fn cron(mut self, cron: impl Into<String>) -> Self {
        self.spec = self.spec.cron(cron);
        self
    }

    /// Also a time each so often.
    pub fn every(mut self, every: Duration) -> Self {
        self.spec = self.spec.every(every);
        self
    }

    /// Also a time each so often, so long after each multiple, counted from the beginning of 1970.
    pub fn every_offset(mut self, every: Duration, offset: Duration) -> Self {
        self.spec = self.spec.every_offset(every, offset);
        self
    }

    /// None of the times of this cron; one of five fields is about whole minutes: `* * 24-26 12 *` is three days.
    pub fn except(mut self, cron: impl Into<String>) -> Self {
        self.spec = self.spec.except(cron);
        self
    }

    /// By whose clocks crons are read, as the IANA database names them; `UTC` by default.
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.spec = self.spec.time_zone(name);
        self
    }

    /// No time is before it.
    pub fn from(mut self, from: SystemTime) -> Self {
        self.spec = self.spec.from(timestamp(from));
        self
    }

    /// No time is at it or after it.
    pub fn until(mut self, until: SystemTime) -> Self {
        self.spec = self.spec.until(timestamp(until));
        self
    }

    /// Each time is done up to so much later, and before the next one: always the same of a name and a time.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.spec = self.spec.jitter(jitter);
        self
    }

    /// What is done at a time while a run of the schedule is open; by default it is skipped.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// A time that nobody could do is made up for within so long after it: a day by default, and ten seconds at least.
    pub fn catch_up(mut self, within: Duration) -> Self {
        self.catch_up = Some(within);
        self
    }

    /// A run that fails pauses the schedule, until a person has looked.
    pub fn pause_on_failure(mut self, pause: bool) -> Self {
        self.pause_on_failure = pause;
        self
    }

    /// So many times are done, and no more.
    pub fn limit(mut self, times: u64) -> Self {
        self.limit = Some(times);
        self
    }

    /// Makes the schedule: each time begins a run of this call, with the id `NAME-TIME` and the call's own tags, version and
    /// time-out.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a cron that cannot be read (the message points at its field), a zone that is not known, or
    /// a call with an id; [`ErrorKind::Taken`] when there is a schedule of this name; and those of a start.
    ///
    /// # Cancel safety
    /// When it is dropped the schedule may or may not be made.
    pub async fn create<D: WorkflowDefinition>(self, call: Call<D>) -> Result<Schedule, Error> {
        let request = call.into_request(self.schedule.core.coding.format());
        let request = request.map_err(|error| Error::payload("the arguments", &error))?;
        self.create_of(request).await
    }

    /// The same with a workflow whose code is not here. `args` is a map by parameter name.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Cancel safety
    /// As [`create`](Self::create).
    pub async fn create_named<A: Serialize + ?Sized>(self, workflow: &str, args: &A) -> Result<Schedule, Error> {
        let unencoded = |error: PayloadError| Error::payload("the arguments", &error);
        let args = self.schedule.core.encode(args).map_err(unencoded)?;
        let workflow = workflow.to_owned();
        self.create_of(Request {
            workflow,
            version: None,
            args,
            id: None,
            tags: Vec::new(),
            timeout: None,
            priority: Priority::default(),
        })
        .await
    }

    async fn create_of(self, request: Request) -> Result<Schedule, Error> {
        let Self { schedule: made, spec, overlap, catch_up, pause_on_failure, limit } = self;
        let id = workflow_id(&made.name).map_err(|error| made.invalid(&error))?;
        spec.times().map_err(|error| made.invalid(&error))?;
        if request.id.is_some() {
            return Err(made.invalid(&"its runs are named by their times, so the call has no id"));
        }
        let mut plan = Plan::new(spec, Action::from(request));
        plan.overlap = overlap;
        plan.pause_on_failure = pause_on_failure;
        plan.remaining = limit;
        if let Some(within) = catch_up {
            plan.catch_up_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        }
        let call = schedule(State::new(made.name.clone(), plan));
        let request = call.into_request(made.core.coding.format());
        let request = request.map_err(|error| Error::payload("the schedule", &error));
        let start: Start<schedule> = Start::new(made.core.clone(), request);
        match start.id(id.as_str()).begin_new().await? {
            Some(_) => Ok(made),
            None => {
                let message = format!("there is a schedule {} already: update it, or delete it first", made.name);
                Err(Error::new(ErrorKind::Taken, message))
            }
        }
    }
}
