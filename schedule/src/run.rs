//! The run that keeps a schedule: it does what the [`State`] says, and tells it what came of it.
//!
//! Times are computed in steps, and taken from their recorded results ever after: a replay asks no calendar
//! (`docs/decisions/times-of-a-schedule.md`).
//!
//! Before its history becomes long it continues as new, with the state. What is open then was begun by this run, and its end
//! would be told to this run alone; so each runner is asked to tell it by a signal, and has said that it will, before the run
//! ends. Signals are not lost between the two, and an end that is told twice is known by the number of its run.
//!
//! Histories of it are replayed by all later releases. A change of what it commands, and when, is guarded by `patched("..")` or is a version 3
//! beside this one: `docs/decisions/schedules-are-runs.md`. `tests/golden.rs` notices one that is not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use everpulse_protocol::payload::Format;
use everpulse_protocol::{Payload, Timestamp};
use everpulse_sdk as everpulse;
use everpulse_sdk::definition::Output;
use everpulse_sdk::workflow::info;
use everpulse_sdk::{Error, Failure, NamedChild, ParentClose, Retry, SignalStream, Sleep};
use everpulse_sdk::{
    cancelled, continue_as_new, external, join_all, now as recorded_now, on_query, select, shielded, signal,
    sleep_until, step,
};
use futures::Stream as _;

use crate::compute::{self, Coming, Wanted};
use crate::control::{Cause, Control, Counts, Describe, End, View};
use crate::rfc3339::Rfc3339;
use crate::runner::{Ask, Scheduled, Told, ended, scheduled_run, send};
use crate::state::{Counting, Move, Now, State};

/// The name of the workflow that keeps schedules. Names that begin so are ours.
pub const WORKFLOW: &str = "everpulse.schedule";
/// A run that a schedule began has this tag, with the schedule's name.
pub const TAG_SCHEDULE: &str = "everpulse.schedule=";
/// And this one, with the time that it is for.
pub const TAG_SCHEDULED_AT: &str = "everpulse.scheduled_at=";

/// It continues as new when its history has so many events, and nothing is open.
const EVENTS_AT_REST: u64 = 500;
/// And so many whatever is open.
const EVENTS_MAX: u64 = 2_000;
/// A runner that has not said that it will tell the end is asked again.
const ASKED_AGAIN_MS: u64 = 5_000;

/// Keeps a schedule, until it is deleted: then it gives what became of its times.
///
/// Version 1 kept what was open as its children, and did not continue as new.
#[everpulse::workflow(name = "everpulse.schedule", version = 2, crate = everpulse)]
pub async fn schedule(state: State) -> Result<Counts, Error> {
    let keeper = Keeper::new(state);
    let state = Rc::clone(&keeper.state);
    select! {
        // First, since what is open ends by the same request.
        () = cancelled() => {
            shielded(cancel_all(&state)).await;
            Err(Failure::<Error>::Cancelled.into())
        },
        kept = keeper.keep() => kept,
    }
}

/// Whoever cancels a schedule, and does not delete it, wants its runs to end, too.
async fn cancel_all(state: &RefCell<State>) {
    let runners: Vec<String> = state.borrow().open().iter().map(|open| open.runner.clone()).collect();
    // One that has ended cannot be asked, and need not be.
    join_all(runners.into_iter().map(|runner| external(runner).signal(Ask::Cancel))).await;
}

struct Keeper {
    state: Rc<RefCell<State>>,
    /// The runners that this run has begun, by the numbers of their runs.
    runners: BTreeMap<u64, NamedChild>,
    /// Those that have said that they will tell the end.
    reporting: BTreeSet<u64>,
    coming: Option<Coming>,
    controls: SignalStream<Control>,
    told: SignalStream<Told>,
    timer: Option<(Timestamp, Sleep)>,
}

/// What a waiting schedule wakes up for.
enum Happened {
    Controlled(Control),
    Told(Told),
    Ended(u64, End),
    Time,
}

impl Keeper {
    fn new(mut state: State) -> Self {
        state.begin(now());
        let state = Rc::new(RefCell::new(state));
        let seen = Rc::clone(&state);
        on_query(move |query: Describe| view(&seen.borrow(), query));
        let (controls, told) = (signal::<Control>().stream(), signal::<Told>().stream());
        let (runners, reporting) = (BTreeMap::new(), BTreeSet::new());
        Self { state, runners, reporting, coming: None, controls, told, timer: None }
    }

    async fn keep(mut self) -> Result<Counts, Error> {
        loop {
            while let Some(happened) = self.happened(false).await {
                self.take(happened);
            }
            // Before anything is decided that would have to be done.
            if self.has_become_long() {
                self.hand_over().await;
                let state = self.state.borrow().clone();
                return continue_as_new(schedule(state)).await;
            }
            match self.next() {
                Move::Compute(wanted) => self.coming = self.compute(wanted).await?,
                Move::ComputeRange { wanted, before, done } => {
                    let range = move || async move { Ok::<_, Error>(compute::range(&wanted, before, &done)) };
                    let found = computed("everpulse.schedule.range", range).await?;
                    if let Some(found) = self.usable(found) {
                        self.state.borrow_mut().found(found);
                    }
                }
                Move::Count { wanted, due_by, count_max, why } => self.count(wanted, due_by, count_max, why).await?,
                Move::Begin { at, cause } => self.begin(at, cause)?,
                Move::MakeWay { runners, at_once } => {
                    let ask = if at_once { Ask::Terminate } else { Ask::Cancel };
                    send(runners.into_iter().map(|runner| external(runner).signal(ask))).await;
                }
                Move::End => return Ok(self.state.borrow().counts),
                Move::Wait { until } => {
                    self.set_timer(until);
                    if let Some(happened) = self.happened(true).await {
                        self.take(happened);
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Move {
        let mut state = self.state.borrow_mut();
        if let Some(coming) = &mut self.coming {
            while coming.times.front().is_some_and(|time| time.at <= state.decided_until()) {
                coming.times.pop_front();
            }
        }
        state.next(&Now { at: now(), coming: self.coming.as_ref() })
    }

    fn take(&mut self, happened: Happened) {
        let mut state = self.state.borrow_mut();
        match happened {
            Happened::Controlled(control) => {
                // Times may be others, or have gone by.
                self.coming = None;
                state.control(control, now());
            }
            Happened::Ended(no, end) | Happened::Told(Told { no, end: Some(end) }) => state.ended(no, end, now()),
            Happened::Told(Told { no, end: None }) => {
                self.reporting.insert(no);
            }
            Happened::Time => {}
        }
    }

    fn has_become_long(&self) -> bool {
        let (info, state) = (info(), self.state.borrow());
        let at_rest = if state.open().is_empty() { EVENTS_AT_REST } else { EVENTS_MAX };
        info.history_events >= state.events_max.unwrap_or(at_rest) || info.continue_as_new_suggested
    }

    /// Until each runner whose end this run would be told has ended, or has said that it will tell it whoever goes on.
    async fn hand_over(&mut self) {
        loop {
            let silent: Vec<u64> = self.silent().collect();
            let ask = |no: &u64| {
                let runner = self.runners.get(no)?.workflow_id();
                Some(external(runner.to_string()).signal(Ask::Report))
            };
            send(silent.iter().filter_map(ask)).await;
            self.set_timer(Some(Timestamp(now().0.saturating_add(ASKED_AGAIN_MS))));
            loop {
                if self.silent().next().is_none() {
                    return;
                }
                match self.happened(true).await {
                    Some(Happened::Time) | None => break,
                    Some(happened) => self.take(happened),
                }
            }
        }
    }

    fn silent(&self) -> impl Iterator<Item = u64> {
        let open: Vec<u64> = self.state.borrow().open().iter().map(|open| open.no).collect();
        open.into_iter().filter(|no| self.runners.contains_key(no) && !self.reporting.contains(no))
    }

    /// Computes times. None: they cannot be, and the schedule is paused.
    async fn compute(&mut self, wanted: Wanted) -> Result<Option<Coming>, Error> {
        let (name, at) = (self.name(), now());
        let compute = move || async move { Ok::<_, Error>(compute::coming(&name, &wanted, at)) };
        let computed = computed("everpulse.schedule.times", compute).await?;
        Ok(self.usable(computed))
    }

    async fn count(&mut self, wanted: Wanted, due_by: Timestamp, max: u64, why: Counting) -> Result<(), Error> {
        let name = self.name();
        let count = move || async move { Ok::<_, Error>(compute::survey(&name, &wanted, due_by, max)) };
        let counted = computed("everpulse.schedule.count", count).await?;
        self.coming = None;
        if let Some(survey) = self.usable(counted) {
            self.state.borrow_mut().counted(why, &survey);
        }
        Ok(())
    }

    /// A release whose zones have not the schedule's any more cannot compute its times: that is for a person.
    fn usable<T>(&mut self, computed: Result<T, String>) -> Option<T> {
        match computed {
            Ok(computed) => Some(computed),
            Err(reason) => {
                let note = format!("its times cannot be computed: {reason}");
                self.state.borrow_mut().give_up(note, now());
                None
            }
        }
    }

    fn begin(&mut self, at: Timestamp, cause: Cause) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        let no = state.next_no();
        let mut action = state.plan.action.clone();
        action.tags.push(format!("{TAG_SCHEDULE}{}", state.name));
        action.tags.push(format!("{TAG_SCHEDULED_AT}{}", Rfc3339(at)));
        let (schedule, workflow_id) = (info().workflow_id.to_string(), state.workflow_id(at));
        let call = scheduled_run(Scheduled { schedule, no, workflow_id, action });
        let request = call.into_request(Format::default())?;
        match NamedChild::start(request, ParentClose::Abandon) {
            Ok(runner) => {
                state.begun(at, cause, runner.workflow_id().to_string(), now());
                self.runners.insert(no, runner);
            }
            Err(failure) => {
                state.begun(at, cause, String::new(), now());
                state.ended(no, ended(failure), now());
            }
        }
        Ok(())
    }

    fn set_timer(&mut self, until: Option<Timestamp>) {
        if self.timer.as_ref().map(|(due, _)| *due) != until {
            self.timer = until.map(|due| (due, sleep_until(SystemTime::UNIX_EPOCH + Duration::from_millis(due.0))));
        }
    }

    /// The next thing that happened. None: nothing yet, and it is not to be waited for.
    async fn happened(&mut self, wait: bool) -> Option<Happened> {
        poll_fn(|cx| match self.poll_happened(cx, wait) {
            Poll::Pending if !wait => Poll::Ready(None),
            polled => polled.map(Some),
        })
        .await
    }

    fn poll_happened(&mut self, cx: &mut Context<'_>, wait: bool) -> Poll<Happened> {
        if let Poll::Ready(Some(control)) = Pin::new(&mut self.controls).poll_next(cx) {
            return Poll::Ready(Happened::Controlled(control));
        }
        if let Poll::Ready(Some(told)) = Pin::new(&mut self.told).poll_next(cx) {
            return Poll::Ready(Happened::Told(told));
        }
        let ended_now = self.runners.iter_mut().find_map(|(no, runner)| match Pin::new(runner).poll(cx) {
            Poll::Ready(result) => Some((*no, result)),
            Poll::Pending => None,
        });
        if let Some((no, result)) = ended_now {
            self.runners.remove(&no);
            return Poll::Ready(Happened::Ended(no, result.map_or_else(ended, |end| read(&end))));
        }
        match &mut self.timer {
            Some((_, timer)) if wait => {
                std::task::ready!(Pin::new(timer).poll(cx));
                self.timer = None;
                Poll::Ready(Happened::Time)
            }
            _ => Poll::Pending,
        }
    }

    fn name(&self) -> String {
        self.state.borrow().name.clone()
    }
}

fn now() -> Timestamp {
    let since = recorded_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).after(since)
}

/// What a step comes to. It is no work for an attempt, so one that fails was at a worker that had no time for it; each step
/// is tried a few times only, since how soon others look after one whose worker is gone hangs on how long it may take.
async fn computed<F, Fut, T>(name: &str, compute: F) -> Result<T, Error>
where
    F: FnOnce() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<T, Error>> + Send + 'static,
    T: Output,
{
    loop {
        match step(name, compute.clone()).retry(Retry::new().max_attempts(2)).await {
            Ok(computed) => return Ok(computed),
            Err(Failure::Cancelled) => return Err(Failure::<Error>::Cancelled.into()),
            Err(_) => {}
        }
    }
}

/// The time that this run was begun for, if a schedule began it: the time itself, without its jitter, and however late it was.
///
/// # Determinism
/// The same in every replay.
///
/// # Panics
/// Outside a workflow.
#[must_use]
pub fn scheduled_at() -> Option<SystemTime> {
    let tags = info().tags;
    let time: Rfc3339 = tags.iter().find_map(|tag| tag.strip_prefix(TAG_SCHEDULED_AT))?.parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(time.0.0))
}

/// How a runner says that its run ended.
fn read(end: &Payload) -> End {
    end.decode().unwrap_or_else(|error| End::Failed { message: format!("how it ended cannot be read: {error}") })
}

/// What is shown. Times are computed by the rules of this release, and nothing comes of them.
fn view(state: &State, query: Describe) -> View {
    let after = state.decided_until().max(query.now);
    let coming = state.plan.spec.times().map_or_else(
        |_| Vec::new(),
        |times| {
            let first = times.next_after(after);
            std::iter::successors(first, |at| times.next_after(*at)).take(query.coming).collect()
        },
    );
    View {
        name: state.name.clone(),
        plan: state.plan.clone(),
        revision: state.revision,
        updates: state.updates.iter().cloned().collect(),
        paused: state.paused.clone(),
        coming,
        recent: state.recent.iter().cloned().collect(),
        open: state.open().len(),
        asked: state.asked(),
        counts: state.counts,
    }
}
