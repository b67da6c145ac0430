//! The run that keeps a schedule: it does what the [`State`] says, and tells it what came of it.
//!
//! Times are computed in steps, and taken from their recorded results ever after: a replay asks no calendar
//! (`docs/decisions/times-of-a-schedule.md`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use everpulse_protocol::{self as protocol, FailureKind, Timestamp};
use everpulse_sdk as everpulse;
use everpulse_sdk::definition::Output;
use everpulse_sdk::workflow::info;
use everpulse_sdk::{Error, Failure, NamedChild, ParentClose, Request, Retry, SignalStream, Sleep};
use everpulse_sdk::{now as recorded_now, on_query, signal, sleep_until, step};
use futures::Stream as _;

use crate::control::{Cause, Control, Counts, Describe, End, View};
use crate::plan::Action;
use crate::rfc3339::Rfc3339;
use crate::state::{Coming, Move, Now, State, Wanted};
use crate::times::Survey;

/// The name of the workflow that keeps schedules. Names that begin so are ours.
pub const WORKFLOW: &str = "everpulse.schedule";
/// A run that a schedule began has this tag, with the schedule's name.
pub const TAG_SCHEDULE: &str = "everpulse.schedule=";
/// And this one, with the time that it is for.
pub const TAG_SCHEDULED_AT: &str = "everpulse.scheduled_at=";

/// So many times are computed in one step at most, and none that comes so long after the first.
const COMPUTED_MAX: usize = 16;
const COMPUTED_WITHIN_MS: u64 = 3_600_000;
/// So many are counted in one step.
const COUNTED_MAX: u64 = 50_000;

/// Keeps a schedule, until it is deleted: then it gives what became of its times.
#[everpulse::workflow(name = "everpulse.schedule", version = 1, crate = everpulse)]
pub async fn schedule(state: State) -> Result<Counts, Error> {
    let keeper = Keeper::new(state);
    keeper.keep().await
}

struct Keeper {
    state: Rc<RefCell<State>>,
    open: Rc<RefCell<Vec<NamedChild>>>,
    making_way: bool,
    coming: Option<Coming>,
    controls: SignalStream<Control>,
    timer: Option<(Timestamp, Sleep)>,
}

/// What a waiting schedule wakes up for.
enum Happened {
    Told(Control),
    Ended(String, End),
    Time,
}

impl Keeper {
    fn new(mut state: State) -> Self {
        state.begin(now());
        let state = Rc::new(RefCell::new(state));
        let open = Rc::new(RefCell::new(Vec::new()));
        let seen = (Rc::clone(&state), Rc::clone(&open));
        on_query(move |query: Describe| view(&seen.0.borrow(), seen.1.borrow().len(), query));
        let controls = signal::<Control>().stream();
        Self { state, open, making_way: false, coming: None, controls, timer: None }
    }

    async fn keep(mut self) -> Result<Counts, Error> {
        loop {
            while let Some(happened) = self.happened(false).await {
                self.take(happened);
            }
            match self.next() {
                Move::Compute(wanted) => self.coming = self.compute(wanted).await?,
                Move::ComputeAsked(wanted) => {
                    if let Some(coming) = self.compute(wanted).await? {
                        self.state.borrow_mut().computed_asked(coming);
                    }
                }
                Move::Count { wanted, due_by } => self.count(wanted, due_by).await?,
                Move::Begin { at, cause } => self.begin(at, cause),
                Move::MakeWay => self.make_way().await,
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
        let open = self.open.borrow().len();
        self.making_way &= open > 0;
        if let Some(coming) = &mut self.coming {
            while coming.times.front().is_some_and(|time| time.at <= state.decided_until()) {
                coming.times.pop_front();
            }
        }
        state.next(&Now { at: now(), open, making_way: self.making_way, coming: self.coming.as_ref() })
    }

    fn take(&mut self, happened: Happened) {
        let mut state = self.state.borrow_mut();
        match happened {
            Happened::Told(control) => {
                // Times may be others, or have gone by.
                self.coming = None;
                state.control(control, now());
            }
            Happened::Ended(workflow_id, end) => state.ended(&workflow_id, end, now()),
            Happened::Time => {}
        }
    }

    /// Computes times. None: they cannot be, and the schedule is paused.
    async fn compute(&mut self, wanted: Wanted) -> Result<Option<Coming>, Error> {
        let (name, at) = (self.name(), now());
        let compute = move || async move { Ok::<_, Error>(coming(&name, &wanted, at)) };
        let computed = computed("everpulse.schedule.times", compute).await?;
        self.usable(computed)
    }

    async fn count(&mut self, wanted: Wanted, due_by: Timestamp) -> Result<(), Error> {
        let name = self.name();
        let count = move || async move { Ok::<_, Error>(survey(&name, &wanted, due_by)) };
        let counted = computed("everpulse.schedule.count", count).await?;
        self.coming = None;
        if let Some(survey) = self.usable(counted)? {
            self.state.borrow_mut().counted(&survey);
        }
        Ok(())
    }

    /// A release whose zones have not the schedule's any more cannot compute its times: that is for a person.
    fn usable<T>(&mut self, computed: Result<T, String>) -> Result<Option<T>, Error> {
        match computed {
            Ok(computed) => Ok(Some(computed)),
            Err(reason) => {
                let note = format!("its times cannot be computed: {reason}");
                self.state.borrow_mut().give_up(note, now());
                Ok(None)
            }
        }
    }

    fn begin(&mut self, at: Timestamp, cause: Cause) {
        let mut state = self.state.borrow_mut();
        let request = request(&state.name, &state.plan.action, at);
        let workflow_id = request.id.clone().unwrap_or_default();
        state.begun(at, cause, workflow_id.clone(), now());
        match NamedChild::start(request, ParentClose::Abandon) {
            Ok(child) => self.open.borrow_mut().push(child),
            Err(failure) => state.ended(&workflow_id, ended(failure), now()),
        }
    }

    /// Asks all open runs to cancel. Whether they do is seen when they end.
    async fn make_way(&mut self) {
        self.making_way = true;
        let mut asked: Vec<_> = self.open.borrow().iter().filter_map(NamedChild::cancel).collect();
        poll_fn(|cx| {
            for delivery in &mut asked {
                // What is on its way is not taken back where it is dropped.
                let _ = Pin::new(delivery).poll(cx);
            }
            Poll::Ready(())
        })
        .await;
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
            return Poll::Ready(Happened::Told(control));
        }
        let mut open = self.open.borrow_mut();
        let ended_now = open.iter_mut().enumerate().find_map(|(index, child)| match Pin::new(child).poll(cx) {
            Poll::Ready(result) => Some((index, result)),
            Poll::Pending => None,
        });
        if let Some((index, result)) = ended_now {
            let child = open.remove(index);
            let end = result.map_or_else(ended, |_| End::Completed);
            return Poll::Ready(Happened::Ended(child.workflow_id().to_string(), end));
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

/// The run of a time. Its id follows from the time alone, so that a time has one run, whoever asks for it, and however often.
fn request(name: &str, action: &Action, at: Timestamp) -> Request {
    let Action { workflow, version, args, tags, timeout_ms, priority } = action.clone();
    let ours = [format!("{TAG_SCHEDULE}{name}"), format!("{TAG_SCHEDULED_AT}{}", Rfc3339(at))];
    let tags = tags.into_iter().chain(ours).collect();
    Request {
        workflow,
        version,
        args,
        id: Some(format!("{name}-{}", Rfc3339(at))),
        tags,
        timeout: timeout_ms.map(Duration::from_millis),
        priority,
    }
}

fn ended(failure: protocol::Failure) -> End {
    match failure.kind {
        FailureKind::Taken => End::Known,
        FailureKind::Cancelled | FailureKind::Terminated => End::Cancelled,
        _ => End::Failed { message: failure.message },
    }
}

/// The first times after an instant.
fn coming(name: &str, wanted: &Wanted, computed_at: Timestamp) -> Result<Coming, String> {
    let times = wanted.spec.times().map_err(|error| error.to_string())?;
    let mut found = VecDeque::new();
    let mut after = wanted.after;
    let end = loop {
        let time = times.time_after(name, after).filter(|time| wanted.before.is_none_or(|before| time.at < before));
        let Some(time) = time else { break true };
        let is_far = found.front().is_some_and(|first: &crate::Time| time.at.0 - first.at.0 > COMPUTED_WITHIN_MS);
        if is_far || found.len() == COMPUTED_MAX {
            break false;
        }
        found.push_back(time);
        after = time.at;
    };
    Ok(Coming { times: found, end, computed_at })
}

fn survey(name: &str, wanted: &Wanted, due_by: Timestamp) -> Result<Survey, String> {
    let times = wanted.spec.times().map_err(|error| error.to_string())?;
    Ok(times.survey(name, wanted.after, due_by, COUNTED_MAX))
}

/// What is shown. Times are computed by the rules of this release, and nothing comes of them.
fn view(state: &State, open: usize, query: Describe) -> View {
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
        open,
        asked: state.asked(),
        counts: state.counts,
    }
}
