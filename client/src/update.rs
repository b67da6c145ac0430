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
use everpulse_protocol::id::check_name;
use everpulse_protocol::reply::{ReplyBody, UpdateState};
use everpulse_protocol::{Headers, Payload, WorkflowId};
use everpulse_sdk::{Definition, Failure, Update};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use uuid::Uuid;

use self::fate::{Asking, Fate, answer_of_ended, heard_of, not_taken, refused, taken_before, too_long_ago, unanswered};
use crate::core::{Deadline, Meant, Question};
use crate::error::{Error, ErrorKind, UpdateError};
use crate::intercept::CallKind;
use crate::requests::{Heard, Ticket};
use crate::run::{OFTEN, Run};

mod fate;

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
    /// That of its type, where that is known.
    name: Option<String>,
    /// The run that has taken it, once that is known: its workflow id may have another one by the time of the answer. Where it goes
    /// along to the next run, that one answers for both.
    of: Meant,
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
    /// without an answer, or an earlier run has taken it), [`ErrorKind::Taken`] when its id is that of an update of another name, [`ErrorKind::Unhandled`] when its code takes no such updates, [`ErrorKind::HandlerFailed`],
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
    /// As [`update`](Self::update); [`ErrorKind::NotFound`] when the run has not taken it, or it is the id of an update of another
    /// name.
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn update_result<U: Update>(&self, id: impl Into<String>) -> Result<U::Reply, UpdateError<U::Error>> {
        self.updating::<U::Reply, U::Error>(id.into(), Some(U::NAME)).result().await
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
        self.updating::<serde_json::Value, serde_json::Value>(id.into(), None).result().await
    }

    fn updating<T, E>(&self, id: String, name: Option<&str>) -> Updating<D, T, E> {
        let ticket = self.core().requests.open();
        Updating {
            run: self.clone(),
            id,
            name: name.map(str::to_owned),
            of: self.meant(),
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

    /// The id of the request, of 1 to 255 bytes; without one it is a UUID. The run, and those that go on for it, take one id
    /// once: whoever requests it again, from any process, is told of the first.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        if let Ok(request) = &mut self.request {
            request.id = id.into();
        }
        self
    }

    /// How long a run is asked again that cannot be asked yet: it is not there, has not begun, stands still, or does not take
    /// such updates yet. 3 s; then it is refused. The client's time-out comes before a patience that is longer.
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
        let Self { run, request, .. } = self;
        let request = request?;
        let Request { name, id, .. } = &request;
        // As of a workflow id.
        WorkflowId::new(id).map_err(|error| Error::invalid_id("an update's id", &error))?;
        let requested = async |headers: Headers| request.send(&run, &headers).await;
        let (fate, ticket) = run.intercepted(CallKind::Update, Some(name), requested).await?;
        let (core, workflow_id) = (run.core(), run.workflow_id()?);
        let verb = "request an update of";
        let (run_id, answered) = match fate {
            Fate::Taken(run_id) => (run_id, None),
            Fate::Answered(run_id, outcome) => (run_id, Some(outcome)),
            // It may have been taken before the end.
            Fate::Ended(run_id) | Fate::TakenBefore(Some(run_id)) => {
                match answer_of_ended(core, workflow_id, run_id, (id, Some(name)), verb).await? {
                    Some(outcome) => (run_id, Some(outcome)),
                    None if matches!(fate, Fate::Ended(_)) => {
                        return Err(Error::already_closed(workflow_id, run_id, verb).into());
                    }
                    None => return Err(taken_before(workflow_id, id).into()),
                }
            }
            Fate::TakenBefore(None) => return Err(too_long_ago(workflow_id, id).into()),
            Fate::Refused(failure) => return Err(refused(workflow_id, id, core.opened(workflow_id, failure).await?)),
            Fate::Unanswered(run_id) => return Err(unanswered(workflow_id, run_id, id).into()),
            Fate::Unknown => return Err(not_taken(workflow_id, id).into()),
            Fate::NotFound => return Err(Error::not_found(workflow_id).into()),
            Fate::Expired(message) => return Err(Error::new(ErrorKind::Expired, message).into()),
            Fate::Other(error) => return Err(error.into()),
        };
        let Request { name, id, .. } = request;
        Ok(Updating {
            run,
            id,
            name: Some(name),
            of: Meant { run_id: Some(run_id), exact: true },
            is_taken: true,
            ticket,
            answered,
            answer: PhantomData,
        })
    }
}

impl Request {
    /// Requests it until its fate is known. The answer to what is taken comes to the ticket.
    async fn send<D: Definition>(&self, run: &Run<D>, headers: &Headers) -> Result<(Fate, Ticket), Error> {
        let Self { name, args, id, patience } = self;
        let (core, workflow_id) = (run.core(), run.workflow_id()?);
        let headers = core.headers(headers)?;
        let body = |patient| EventBody::Update {
            id: id.clone(),
            name: name.clone(),
            args: args.clone(),
            patient,
            headers: headers.clone(),
        };
        let (patient, last) =
            (core.sealed(workflow_id, body(true)).await?, core.sealed(workflow_id, body(false)).await?);
        // None: it never comes.
        let until = Instant::now().checked_add(*patience);
        let is_over = || until.is_some_and(|until| Instant::now() >= until);
        let deadline = Deadline::after(core.limit);
        loop {
            let ticket = core.requests.open();
            let of_run = |body| core.event(workflow_id, run.meant(), Some(ticket.reply_to()), body);
            let (patient, last) = (of_run(&patient), of_run(&last));
            // One request: what is sent later says no more than that it is the last try.
            let last = Event { id: patient.id, sent_at: patient.sent_at, ..last };
            let question = Question {
                what: &|| format!("requesting update `{id}` of {workflow_id}"),
                event: &|| if is_over() { last.clone() } else { patient.clone() },
                deadline,
                listen_first: Duration::ZERO,
            };
            let mut waits = false;
            let take = |heard: &Heard| {
                let not_yet =
                    |body: &ReplyBody| matches!(body, ReplyBody::Update { state: UpdateState::NotYet(_), .. });
                waits |= heard.answer.as_deref().is_some_and(not_yet);
                heard_of(workflow_id, heard)
            };
            let fate = core.ask(&ticket, question, take, None).await?;
            let Fate::Expired(_) = &fate else { return Ok((fate, ticket)) };
            // It has waited for longer than ids are remembered, so no copy of it is taken any more. If none was, it can be
            // requested anew, for whoever has the patience.
            if !waits {
                return Ok((fate, ticket));
            }
            let (asking, asked) =
                (Asking { of: run.meant(), id, name: Some(name), answer: false }, core.requests.open());
            match asking.ask(run, &asked, deadline, Duration::ZERO).await? {
                Fate::Unknown | Fate::NotFound if !is_over() => {}
                Fate::Unknown | Fate::NotFound => return Ok((fate, ticket)),
                became => return Ok((became, asked)),
            }
        }
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
        let (workflow_id, id) = (self.run.workflow_id()?, &self.id);
        let told = self.name.as_deref();
        let asking = |_: Headers| {
            // One that was taken is answered by itself.
            let listen_first = if self.is_taken { self.ticket.wait(OFTEN) } else { Duration::ZERO };
            let asking = Asking { of: self.of, id, name: told, answer: true };
            async move { asking.ask(&self.run, &self.ticket, deadline, listen_first).await }
        };
        let fate = self.run.intercepted(CallKind::UpdateResult, told, asking).await?;
        let verb = "wait for an update of";
        match fate {
            Fate::Answered(_, outcome) => Ok(outcome),
            Fate::Ended(run_id) | Fate::TakenBefore(Some(run_id)) => {
                match answer_of_ended(self.run.core(), workflow_id, run_id, (id, told), verb).await? {
                    Some(outcome) => Ok(outcome),
                    None if matches!(fate, Fate::Ended(_)) => Err(Error::already_closed(workflow_id, run_id, verb)),
                    None => Err(taken_before(workflow_id, id)),
                }
            }
            Fate::TakenBefore(None) => Err(too_long_ago(workflow_id, id)),
            Fate::Unanswered(run_id) => Err(unanswered(workflow_id, run_id, id)),
            Fate::Expired(message) => Err(Error::new(ErrorKind::Expired, message)),
            Fate::NotFound => Err(Error::not_found(workflow_id)),
            Fate::Other(error) => Err(error),
            Fate::Unknown | Fate::Refused(_) | Fate::Taken(_) => Err(not_taken(workflow_id, id)),
        }
    }
}
