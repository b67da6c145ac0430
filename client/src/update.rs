//! Updates: requests to a run that are taken or refused, and answered.
//!
//! ```text
//! run.update(AddItem { .. }) ─┬─ .await ──────────► what it was answered
//!                             └─ .accepted().await ─► Updating ── .result().await ─► the same, later
//! run.update_result::<AddItem>("add-1") ──────────────────────────────────────────► from any process
//! ```
//! The id makes it one request: it is sent again under it, with the time of its issue, until its fate is known.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::history::{CommandKind, Record, RecordBody};
use everpulse_protocol::id::check_name;
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{FailureKind, Payload, RunId, WorkflowId};
use everpulse_sdk::{Definition, Failure, Update};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;

use crate::core::{Core, Deadline, Meant, Question};
use crate::error::{Error, ErrorKind, UpdateError};
use crate::requests::{Heard, Ticket};
use crate::run::{OFTEN, Run};

/// So long a run that cannot be asked yet is asked again, unless it is said otherwise.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who asks what; the answer is a `T`, or an `E`.
struct Request {
    name: String,
    args: Payload,
    id: String,
    patience: Duration,
}

/// An update that is being described. Await it to send it and have its answer.
#[must_use = "nothing is requested before it is awaited"]
pub struct Requesting<D, T, E> {
    run: Run<D>,
    request: Result<Request, Error>,
    answer: PhantomData<fn() -> (T, E)>,
}

impl<D, T, E> std::fmt::Debug for Requesting<D, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.request.as_ref().map(|request| &request.id).ok();
        f.debug_struct("Requesting").field("id", &id).finish_non_exhaustive()
    }
}

/// An update that the run has taken. Its answer is in [`result`](Updating::result), now or later.
pub struct Updating<D, T, E> {
    run: Run<D>,
    id: String,
    /// The run that has taken it, once that is known: its workflow id may have another one by the time of the answer.
    run_id: Option<RunId>,
    /// It was heard that it was taken, so the answer comes by itself.
    is_taken: bool,
    ticket: Ticket,
    answered: Option<Outcome>,
    answer: PhantomData<fn() -> (T, E)>,
}

impl<D, T, E> std::fmt::Debug for Updating<D, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Updating").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<D: Definition> Run<D> {
    /// Requests something of the run: `run.update(AddItem { .. }).await?` gives the reply that `#[update]` names, when the
    /// workflow has answered. What the workflow's validator refuses never takes effect.
    ///
    /// # Errors
    /// When it is awaited: [`UpdateError::Refused`] by the validator, [`UpdateError::Failed`] with the workflow's answer, and
    /// the client's own errors, of the kinds [`ErrorKind::NotFound`], [`ErrorKind::AlreadyClosed`] (also when the run ends
    /// without an answer), [`ErrorKind::Unhandled`] when its code takes no such updates, [`ErrorKind::HandlerFailed`],
    /// [`ErrorKind::Timeout`], [`ErrorKind::Unreachable`].
    pub fn update<U: Update>(&self, update: U) -> Requesting<D, U::Reply, U::Error> {
        let args = self.core().encode(&update).map_err(|error| Error::payload("the update", &error));
        Requesting::new(self.clone(), U::NAME, args)
    }

    /// The same by the update's name, for those who have not its type. Values and errors are JSON.
    pub fn update_named<V: serde::Serialize + ?Sized>(
        &self,
        name: &str,
        args: &V,
    ) -> Requesting<D, serde_json::Value, serde_json::Value> {
        let args = self.core().encode(args).map_err(|error| Error::payload("the update", &error));
        let checked = check_name(name).map_err(|error| Error::invalid_id("an update's name", &error));
        Requesting::new(self.clone(), name, checked.and(args))
    }

    /// Waits for the answer to an update that was requested before, from any process, by its id.
    ///
    /// # Errors
    /// As [`update`](Self::update); [`ErrorKind::NotFound`] when the run has not taken it.
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn update_result<U: Update>(&self, id: impl Into<String>) -> Result<U::Reply, UpdateError<U::Error>> {
        self.updating::<U::Reply, U::Error>(id.into()).result().await
    }

    /// The same, for those who have not its type.
    ///
    /// # Errors
    /// As [`update_result`](Self::update_result).
    ///
    /// # Cancel safety
    /// As [`update_result`](Self::update_result).
    pub async fn update_result_named(
        &self,
        id: impl Into<String>,
    ) -> Result<serde_json::Value, UpdateError<serde_json::Value>> {
        self.updating::<serde_json::Value, serde_json::Value>(id.into()).result().await
    }

    fn updating<T, E>(&self, id: String) -> Updating<D, T, E> {
        let ticket = self.core().requests.open();
        Updating {
            run: self.clone(),
            id,
            run_id: self.run_id(),
            is_taken: false,
            ticket,
            answered: None,
            answer: PhantomData,
        }
    }
}

impl<D: Definition, T: DeserializeOwned, E: everpulse_sdk::definition::AuthorError> Requesting<D, T, E> {
    fn new(run: Run<D>, name: &str, args: Result<Payload, Error>) -> Self {
        let id = Uuid::now_v7().to_string();
        let request = args.map(|args| Request { name: name.to_owned(), args, id, patience: PATIENCE });
        Self { run, request, answer: PhantomData }
    }

    /// The id of the request, of 1 to 255 bytes; without one it is a UUID. The run takes one id once: whoever requests it
    /// again, from any process, is told of the first.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        if let Ok(request) = &mut self.request {
            request.id = id.into();
        }
        self
    }

    /// How long a run is asked again that cannot be asked yet: it is not there, has not begun, stands still, or does not take
    /// such updates yet. 3 s; then it is refused.
    pub fn patience(mut self, patience: Duration) -> Self {
        if let Ok(request) = &mut self.request {
            request.patience = patience;
        }
        self
    }

    /// Waits until the run has taken it: from then on it is in history, whatever happens.
    ///
    /// # Errors
    /// As [`Run::update`]. After [`ErrorKind::Timeout`] it may be taken yet, or not: request it again under the same id.
    ///
    /// # Cancel safety
    /// When it is dropped the update may or may not be taken. Under an id of your own it can be requested again.
    pub async fn accepted(self) -> Result<Updating<D, T, E>, UpdateError<E>> {
        let Request { name, args, id, patience } = self.request?;
        // As of a workflow id.
        WorkflowId::new(&id).map_err(|error| Error::invalid_id("an update's id", &error))?;
        let core = self.run.core();
        let workflow_id = self.run.workflow_id()?;
        let ticket = core.requests.open();
        let body = |patient| EventBody::Update { id: id.clone(), name: name.clone(), args: args.clone(), patient };
        let (patient, last) =
            (core.sealed(workflow_id, body(true)).await?, core.sealed(workflow_id, body(false)).await?);
        let of_run = |body| core.event(workflow_id, self.run.meant(), Some(ticket.reply_to()), body);
        let (patient, last) = (of_run(&patient), of_run(&last));
        // One request: what is sent later says no more than that it is the last try.
        let last = Event { id: patient.id, sent_at: patient.sent_at, ..last };
        let until = Instant::now() + patience;
        let what = || format!("requesting update `{id}` of {workflow_id}");
        let question = Question {
            what: &what,
            event: &|| if Instant::now() < until { patient.clone() } else { last.clone() },
            deadline: Deadline::after(core.limit),
            listen_first: Duration::ZERO,
        };
        let take = |heard: &Heard| taken(workflow_id, &id, heard);
        let fate = core.ask(&ticket, question, take, None).await?;
        let (run_id, answered) = match fate {
            Fate::Taken(run_id) => (run_id, None),
            Fate::Answered(run_id, outcome) => (run_id, Some(outcome)),
            // It may have been taken before the end.
            Fate::Ended(run_id) => {
                let verb = "request an update of";
                (run_id, Some(answer_of_ended(core, workflow_id, run_id, &id, verb).await?))
            }
            Fate::Refused(failure) => return Err(refused(workflow_id, &id, core.opened(workflow_id, failure).await?)),
            Fate::Other(error) => return Err(error.into()),
        };
        let run = self.run.clone();
        Ok(Updating {
            run,
            id: id.clone(),
            run_id: Some(run_id),
            is_taken: true,
            ticket,
            answered,
            answer: PhantomData,
        })
    }
}

impl<D, T, E> IntoFuture for Requesting<D, T, E>
where
    D: Definition,
    T: DeserializeOwned + Send + 'static,
    E: everpulse_sdk::definition::AuthorError,
{
    type Output = Result<T, UpdateError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Requests it and waits for its answer, for as long as that takes once it is taken.
    ///
    /// # Errors
    /// As [`Run::update`].
    ///
    /// # Cancel safety
    /// As [`accepted`](Requesting::accepted).
    fn into_future(self) -> Self::IntoFuture {
        async move { self.accepted().await?.result().await }.boxed()
    }
}

impl<D: Definition, T: DeserializeOwned, E: everpulse_sdk::definition::AuthorError> Updating<D, T, E> {
    /// The id of the request.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the answer, for as long as it takes.
    ///
    /// # Errors
    /// As [`Run::update`].
    ///
    /// # Cancel safety
    /// Safe: the run goes on, and can be asked again.
    pub async fn result(&self) -> Result<T, UpdateError<E>> {
        self.result_until(Deadline::never()).await
    }

    /// Waits for the answer, but no longer than `limit`. The run goes on after that.
    ///
    /// # Errors
    /// As [`result`](Self::result), and [`ErrorKind::Timeout`].
    ///
    /// # Cancel safety
    /// As [`result`](Self::result).
    pub async fn result_timeout(&self, limit: Duration) -> Result<T, UpdateError<E>> {
        self.result_until(Deadline::after(limit)).await
    }

    async fn result_until(&self, deadline: Deadline) -> Result<T, UpdateError<E>> {
        let (core, workflow_id) = (self.run.core(), self.run.workflow_id()?);
        let outcome = match &self.answered {
            Some(outcome) => outcome.clone(),
            None => self.outcome(deadline).await?,
        };
        match core.opened(workflow_id, outcome).await? {
            Outcome::Done(value) => value.decode().map_err(|error| {
                let message = format!("what {workflow_id} answers to update `{}`: {error}", self.id);
                UpdateError::Other(Error::new(ErrorKind::Invalid, message))
            }),
            Outcome::Failed(failure) => Err(UpdateError::Failed(Failure::from_recorded(failure))),
        }
    }

    async fn outcome(&self, deadline: Deadline) -> Result<Outcome, Error> {
        let (core, workflow_id, id) = (self.run.core(), self.run.workflow_id()?, &self.id);
        let sealed = core.sealed(workflow_id, EventBody::AskUpdate { id: id.clone() }).await?;
        // The run that took it answers it, and none that goes on for that one.
        let of = Meant { run_id: self.run_id, exact: self.run_id.is_some() };
        let question = Question {
            what: &|| format!("waiting for the answer to update `{id}` of {workflow_id}"),
            event: &|| core.event(workflow_id, of, Some(self.ticket.reply_to()), &sealed),
            deadline,
            // One that was taken is answered by itself.
            listen_first: if self.is_taken { self.ticket.wait(OFTEN) } else { Duration::ZERO },
        };
        let take = |heard: &Heard| match taken(workflow_id, id, heard)? {
            Fate::Taken(_) => None,
            fate => Some(fate),
        };
        match core.ask(&self.ticket, question, take, None).await? {
            Fate::Answered(_, outcome) => Ok(outcome),
            Fate::Ended(run_id) => answer_of_ended(core, workflow_id, run_id, id, "wait for an update of").await,
            Fate::Other(error) => Err(error),
            Fate::Refused(_) | Fate::Taken(_) => Err(not_taken(workflow_id, id)),
        }
    }
}

/// What is heard of an update, once it is something.
enum Fate {
    Taken(RunId),
    Answered(RunId, Outcome),
    Refused(everpulse_protocol::Failure),
    /// The run has ended. Whether it had taken it, and what it answered, stands in history.
    Ended(RunId),
    Other(Error),
}

fn taken(workflow_id: &WorkflowId, id: &str, heard: &Heard) -> Option<Fate> {
    Some(match heard.answer.as_deref()? {
        ReplyBody::Update { run_id: Some(run_id), state: UpdateState::Accepted } => Fate::Taken(*run_id),
        ReplyBody::Update { run_id: Some(run_id), state: UpdateState::Answered(outcome) } => {
            Fate::Answered(*run_id, outcome.clone())
        }
        ReplyBody::Update { run_id: None, state: UpdateState::Refused(_) } => {
            Fate::Other(Error::not_found(workflow_id))
        }
        ReplyBody::Update { state: UpdateState::Refused(failure), .. } => Fate::Refused(failure.clone()),
        ReplyBody::Update { run_id: Some(run_id), state: UpdateState::Unanswered } => {
            Fate::Other(unanswered(workflow_id, *run_id, id))
        }
        ReplyBody::Update { state: UpdateState::Unknown, .. } => Fate::Other(not_taken(workflow_id, id)),
        ReplyBody::AlreadyClosed { run_id } => Fate::Ended(*run_id),
        ReplyBody::NotFound => Fate::Other(Error::not_found(workflow_id)),
        ReplyBody::Expired { message } => {
            Fate::Other(Error::new(ErrorKind::Expired, format!("{workflow_id}: {message}")))
        }
        ReplyBody::Invalid { message } => {
            Fate::Other(Error::new(ErrorKind::Invalid, format!("{workflow_id}: {message}")))
        }
        // It will be sent again.
        _ => return None,
    })
}

fn refused<E: everpulse_sdk::definition::AuthorError>(
    workflow_id: &WorkflowId,
    id: &str,
    failure: everpulse_protocol::Failure,
) -> UpdateError<E> {
    let kind = match failure.kind {
        FailureKind::Failed if failure.value.is_some() => {
            return UpdateError::Refused(Failure::from_recorded(failure));
        }
        FailureKind::NotFound => ErrorKind::Unhandled,
        FailureKind::Undecodable => ErrorKind::Invalid,
        FailureKind::Cancelled => ErrorKind::Refused,
        _ => ErrorKind::HandlerFailed,
    };
    Error::new(kind, format!("update `{id}` of {workflow_id} was not taken: {failure}")).into()
}

/// What a run that has ended had answered, from history.
async fn answer_of_ended(
    core: &Core,
    workflow_id: &WorkflowId,
    run_id: RunId,
    id: &str,
    verb: &str,
) -> Result<Outcome, Error> {
    let records = core.histories.records(workflow_id, Meant { run_id: Some(run_id), exact: true }).await?;
    let records = records.ok_or_else(|| {
        let message =
            format!("cannot {verb} {workflow_id}: its run {run_id} has ended, longer ago than history is kept");
        Error::new(ErrorKind::Expired, message)
    })?;
    let is_it = |record: &Record| matches!(record.body(), Ok(RecordBody::UpdateAccepted { id: of, .. }) if of == id);
    if !records.iter().any(is_it) {
        return Err(Error::already_closed(workflow_id, run_id, verb));
    }
    let mut marks = records.iter().flat_map(|record| &record.commands);
    let answer = marks.find(|mark| mark.kind == CommandKind::Answer && mark.name == id);
    answer.and_then(|mark| mark.answer.as_deref().cloned()).ok_or_else(|| unanswered(workflow_id, run_id, id))
}

fn unanswered(workflow_id: &WorkflowId, run_id: RunId, id: &str) -> Error {
    let message = format!("{workflow_id}: its run {run_id} has ended and had not answered update `{id}`");
    Error::new(ErrorKind::AlreadyClosed, message)
}

fn not_taken(workflow_id: &WorkflowId, id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("{workflow_id} has not taken an update `{id}`"))
}
