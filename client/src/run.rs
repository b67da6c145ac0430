//! A run as its callers see it: its result, and what can be asked and told.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use everpulse_protocol::event::{EventBody, Outcome};
use everpulse_protocol::golden::Golden;
use everpulse_protocol::history::{Close, CloseStatus};
use everpulse_protocol::id::check_name;
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::view::RunView;
use everpulse_protocol::{FailureKind, Headers, Payload, RunId, WorkflowId};
use everpulse_sdk::{Definition, Failure, Query, Signal};
use futures::FutureExt as _;
use serde::de::DeserializeOwned;

use crate::core::{Core, Deadline, Meant, Question, Read, Sealed};
use crate::error::{Error, ErrorKind, ResultError};
use crate::intercept::{Call, CallKind};
use crate::requests::{Heard, Ticket};
use crate::start;

/// Words of a description that lie in a store are waited for so long.
const WORDS_WITHIN: Duration = Duration::from_secs(2);

/// What a person sees of a run: status, version, pending steps with attempt, last error and next try.
pub type Description = RunView;

/// Asked so often, a question waits for the longest time before it is asked again.
pub(crate) const OFTEN: u32 = 8;

/// A run: one that was started here, or the newest of a workflow id. Clones are the same handle.
///
/// A run that [continues as new](everpulse_sdk::continue_as_new) goes on as another one, and the handle means that one then: the
/// last of them has the result, and gets what is sent. [`only`](Self::only) gives a handle to one of them alone.
pub struct Run<D> {
    inner: Arc<Inner>,
    definition: PhantomData<fn() -> D>,
}

struct Inner {
    core: Arc<Core>,
    /// As it was given, also when it cannot be an id.
    text: String,
    id: Result<WorkflowId, Error>,
    run_id: OnceLock<RunId>,
    /// That run is meant alone, and not those that go on for it.
    exact: bool,
    /// The request of the start: the run's end comes to it by itself.
    ticket: Option<Ticket>,
}

impl<D> Clone for Run<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), definition: PhantomData }
    }
}

impl<D> std::fmt::Debug for Run<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("id", &self.inner.text).field("run_id", &self.inner.run_id.get()).finish()
    }
}

impl<D: Definition> Run<D> {
    pub(crate) fn of(core: Arc<Core>, text: &str) -> Self {
        let id = WorkflowId::new(text).map_err(|error| Error::invalid_id("a workflow id", &error));
        let inner = Inner { core, text: text.to_owned(), id, run_id: OnceLock::new(), exact: false, ticket: None };
        Self { inner: Arc::new(inner), definition: PhantomData }
    }

    /// One execution, known by its run id, whatever goes on for it.
    pub(crate) fn pinned(core: Arc<Core>, id: WorkflowId, run_id: RunId) -> Self {
        let text = id.as_str().to_owned();
        let inner = Inner { core, text, id: Ok(id), run_id: OnceLock::from(run_id), exact: true, ticket: None };
        Self { inner: Arc::new(inner), definition: PhantomData }
    }

    pub(crate) fn started(core: Arc<Core>, id: WorkflowId, run_id: Option<RunId>, ticket: Ticket) -> Self {
        let text = id.as_str().to_owned();
        let run_id = run_id.map_or_else(OnceLock::new, OnceLock::from);
        let inner = Inner { core, text, id: Ok(id), run_id, exact: false, ticket: Some(ticket) };
        Self { inner: Arc::new(inner), definition: PhantomData }
    }

    /// The workflow id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.text
    }

    /// The same workflow id, of which this run alone is meant. Where it ended so that another one could go on for it, its result is
    /// [`Failure::ContinuedAsNew`], and [`describe`](Self::describe) says as which.
    #[must_use]
    pub fn only(&self, run_id: RunId) -> Self {
        let Inner { core, text, id, .. } = &*self.inner;
        let (core, text, id) = (Arc::clone(core), text.clone(), id.clone());
        let inner = Inner { core, text, id, run_id: OnceLock::from(run_id), exact: true, ticket: None };
        Self { inner: Arc::new(inner), definition: PhantomData }
    }

    /// The id of this execution. None while nobody has answered: the handle then means the newest run of its id.
    #[must_use]
    pub fn run_id(&self) -> Option<RunId> {
        self.inner.run_id.get().copied()
    }

    /// Waits for the run's end, for as long as it takes; where others go on for it, for that of the last one.
    ///
    /// When no worker answers, the end is looked up in history.
    ///
    /// # Errors
    /// [`ResultError::Failed`] has the run's own failure; the others say why there is no answer.
    ///
    /// # Cancel safety
    /// Safe: the run goes on, and can be asked again.
    pub async fn result(&self) -> Result<D::Output, ResultError<D::Error>> {
        self.result_until(Deadline::never()).await
    }

    /// Waits for the run's end, but no longer than `limit`. The run goes on after that.
    ///
    /// # Errors
    /// As [`result`](Self::result), and [`ResultError::Timeout`].
    ///
    /// # Cancel safety
    /// As [`result`](Self::result).
    pub async fn result_timeout(&self, limit: Duration) -> Result<D::Output, ResultError<D::Error>> {
        self.result_until(Deadline::after(limit)).await
    }

    async fn result_until(&self, deadline: Deadline) -> Result<D::Output, ResultError<D::Error>> {
        let mut close = self.intercepted(CallKind::Result, None, |_| self.close(deadline)).await?;
        if let CloseStatus::Unknown(kind) = close.status {
            let message = format!(
                "{} ended as `{kind}`, which is not known to this release: ask with the release of its workers, or a later one",
                self.workflow_id()?
            );
            return Err(Error::new(ErrorKind::Refused, message).into());
        }
        self.inner.core.open_in_place(self.workflow_id()?, &mut close).await?;
        match close.outcome {
            Outcome::Done(value) => value.decode().map_err(|error| ResultError::Failed(Failure::from(error))),
            Outcome::Failed(failure) => Err(ResultError::Failed(Failure::from_recorded(failure))),
        }
    }

    /// Waits for the run's end, and gives it as it was recorded: with its status, and without decoding anything.
    async fn close(&self, deadline: Deadline) -> Result<Close, Error> {
        let id = self.workflow_id()?;
        let (ticket, listen_first) = match &self.inner.ticket {
            Some(ticket) => (ticket.clone(), ticket.wait(OFTEN)),
            None => (self.inner.core.requests.open(), Duration::ZERO),
        };
        let read: Read<_> = {
            let (histories, id, run) = (self.inner.core.histories.clone(), id.clone(), self.meant());
            Box::new(move || {
                let (histories, id) = (histories.clone(), id.clone());
                async move {
                    let Some(view) = histories.view(&id, run).await? else { return Ok(None) };
                    Ok(match (view.close, view.closed_at) {
                        (Some(close), _) => Some(Ok((view.run_id, close))),
                        (None, Some(_)) => {
                            let message =
                                format!("run {} has ended, and its end is older than the retention", view.run_id);
                            Some(Err(expired(&id, &message)))
                        }
                        (None, None) => None,
                    })
                }
                .boxed()
            })
        };
        // It has no value that could be large.
        let question = self.inner.core.seal(id, EventBody::AskResult)?;
        let question = Question {
            what: &|| format!("waiting for the result of {id}"),
            event: &|| self.event(id, &ticket, &question),
            deadline,
            listen_first,
        };
        // Boxed: whoever waits for very many results has a future for each, which would have room for this from its
        // beginning.
        let asking = self.inner.core.ask(&ticket, question, |heard| ended(id, heard), Some(read)).boxed();
        let (run_id, close) = asking.await??;
        // Another clone may have learnt it first.
        let _ = self.inner.run_id.set(run_id);
        Ok(close)
    }

    /// What a person sees of the run now. When no worker answers, it is read from history.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] only when an owner says so; when no worker answers and history does not know the run,
    /// it is [`ErrorKind::Timeout`], since its start may be on its way.
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn describe(&self) -> Result<Description, Error> {
        self.intercepted(CallKind::Describe, None, |_| self.view()).await
    }

    async fn view(&self) -> Result<Description, Error> {
        let id = self.workflow_id()?;
        let ticket = self.inner.core.requests.open();
        let read: Read<_> = {
            let (histories, id, run) = (self.inner.core.histories.clone(), id.clone(), self.meant());
            Box::new(move || {
                let (histories, id) = (histories.clone(), id.clone());
                async move { Ok(histories.view(&id, run).await?.map(Ok)) }.boxed()
            })
        };
        let take = |heard: &Heard| match heard.answer.as_deref()? {
            ReplyBody::Description(view) => Some(Ok((**view).clone())),
            ReplyBody::NotFound => Some(Err(Error::not_found(id))),
            ReplyBody::Invalid { message } => Some(Err(refused(id, message))),
            ReplyBody::Expired { message } => Some(Err(expired(id, message))),
            _ => None,
        };
        let mut view = self.ask("describing", &ticket, EventBody::Describe, take, Some(read)).await?;
        // Words that say why it does not go on; the result stays where it lies. A store that is away keeps nobody waiting.
        let words = async {
            self.inner.core.fetch_what_can_be(&mut view.parked).await;
            self.inner.core.fetch_what_can_be(&mut view.pending).await;
        };
        let _ = tokio::time::timeout(WORDS_WITHIN, words).await;
        // Without the key there is much to see all the same.
        self.inner.core.open_what_can_be(id, &mut view);
        Ok(view)
    }

    /// The run's history as readable JSON, for the repository: tests replay it through later versions of the code (see
    /// `everpulse::testing::replay_dir!`). It is read from history; no worker is asked. Of headers it has the names alone: see
    /// [`export_with_headers`](Self::export_with_headers).
    ///
    /// ```no_run
    /// # async fn example(client: everpulse_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// std::fs::write("histories/order-42.json", client.run_named("order-42").export().await?)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when history does not have the run's records: it has not begun, or ended before the
    /// retention; [`ErrorKind::Unreachable`].
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn export(&self) -> Result<String, Error> {
        self.intercepted(CallKind::Export, None, |_| self.golden(false)).await
    }

    /// The same, with what the headers say, which [`export`](Self::export) leaves out: there may be tokens among them. Code that reads
    /// its headers is replayed as it was by this alone.
    ///
    /// # Errors
    /// As [`export`](Self::export).
    ///
    /// # Cancel safety
    /// As [`export`](Self::export).
    pub async fn export_with_headers(&self) -> Result<String, Error> {
        self.intercepted(CallKind::Export, None, |_| self.golden(true)).await
    }

    async fn golden(&self, with_headers: bool) -> Result<String, Error> {
        let id = self.workflow_id()?;
        let records = self.inner.core.histories.records(id, self.meant()).await?;
        let Some(mut records) = records else {
            let message =
                format!("history has no records of {id}: it has not begun, or they are older than the retention");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        // A file that is replayed by tests, which have no keys.
        for record in &mut records {
            *record = self.inner.core.opened(id, record.clone()).await?;
        }
        let golden = Golden::of(records);
        let golden = if with_headers { golden } else { golden.and_then(Golden::without_headers) };
        let json = golden.and_then(|golden| golden.to_json());
        json.map_err(|error| Error::new(ErrorKind::Invalid, format!("{id} cannot be exported: {error}")))
    }

    /// What the run published last as a `T`; none if it published nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Timeout`], and [`ErrorKind::Invalid`] when it is no `T`.
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn published<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let name = everpulse_sdk::workflow::state_name::<T>();
        let value = self.intercepted(CallKind::Published, Some(name), |_| self.published_as(name)).await?;
        let decoded = value.as_ref().map(Payload::decode).transpose();
        let text = self.id();
        decoded.map_err(|error| Error::new(ErrorKind::Invalid, format!("what {text} published as {name}: {error}")))
    }

    async fn published_as(&self, name: &str) -> Result<Option<Payload>, Error> {
        let id = self.workflow_id()?;
        let ticket = self.inner.core.requests.open();
        let take = |heard: &Heard| match heard.answer.as_deref()? {
            ReplyBody::Published { value } => Some(Ok(value.clone())),
            ReplyBody::NotFound => Some(Err(Error::not_found(id))),
            ReplyBody::AlreadyClosed { run_id } => {
                Some(Err(Error::already_closed(id, *run_id, "ask for what was published by")))
            }
            ReplyBody::Invalid { message } => Some(Err(refused(id, message))),
            ReplyBody::Expired { message } => Some(Err(expired(id, message))),
            _ => None,
        };
        let value = self
            .ask(
                "asking for what was published by",
                &ticket,
                EventBody::AskPublished { name: name.to_owned() },
                take,
                None,
            )
            .await?;
        self.inner.core.opened(id, value).await
    }

    /// Asks the run's own handler: `run.query(CountOf { .. }).await?` gives the reply that `#[query]` names. The run's
    /// owner answers, from the state after all that is in history.
    ///
    /// # Errors
    /// [`ErrorKind::Unhandled`] when the run has no handler for it (the message lists those that it has),
    /// [`ErrorKind::HandlerFailed`] when the handler panics or does more than look, [`ErrorKind::NotFound`],
    /// [`ErrorKind::AlreadyClosed`], [`ErrorKind::Timeout`], and [`ErrorKind::Invalid`] when the reply is of another type.
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn query<Q: Query>(&self, query: Q) -> Result<Q::Reply, Error> {
        let args = self.inner.core.encode(&query).map_err(|error| Error::payload("the query", &error))?;
        self.query_encoded(Q::NAME, args).await
    }

    /// Asks a query by its name, for those who have not its type.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Safe: a question leaves no trace.
    pub async fn query_named<T: DeserializeOwned>(
        &self,
        name: &str,
        args: &(impl serde::Serialize + ?Sized),
    ) -> Result<T, Error> {
        check_name(name).map_err(|error| Error::invalid_id("a query's name", &error))?;
        let args = self.inner.core.encode(args).map_err(|error| Error::payload("the query", &error))?;
        self.query_encoded(name, args).await
    }

    async fn query_encoded<T: DeserializeOwned>(&self, name: &str, args: Payload) -> Result<T, Error> {
        let answer = self.intercepted(CallKind::Query, Some(name), |_| self.asked(name, args)).await?;
        let text = self.id();
        answer
            .decode()
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("what {text} answers to query `{name}`: {error}")))
    }

    async fn asked(&self, name: &str, args: Payload) -> Result<Payload, Error> {
        let id = self.workflow_id()?;
        let ticket = self.inner.core.requests.open();
        let take = |heard: &Heard| match heard.answer.as_deref()? {
            ReplyBody::Answered { outcome } => Some(Ok(outcome.clone())),
            ReplyBody::NotFound => Some(Err(Error::not_found(id))),
            ReplyBody::AlreadyClosed { run_id } => Some(Err(Error::already_closed(id, *run_id, "query"))),
            ReplyBody::Invalid { message } => Some(Err(refused(id, message))),
            _ => None,
        };
        let body = EventBody::Query { name: name.to_owned(), args };
        let answer = self.ask("querying", &ticket, body, take, None).await?;
        match self.inner.core.opened(id, answer).await? {
            Outcome::Done(value) => Ok(value),
            Outcome::Failed(failure) => {
                let kind = match failure.kind {
                    FailureKind::NotFound => ErrorKind::Unhandled,
                    FailureKind::Undecodable => ErrorKind::Invalid,
                    _ => ErrorKind::HandlerFailed,
                };
                Err(Error::new(kind, format!("query `{name}` of {id}: {failure}")))
            }
        }
    }

    /// Sends a signal; it waits in the run until it is received there. It counts once, however often it is sent.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::AlreadyClosed`], [`ErrorKind::Timeout`] (stored; it takes effect when a
    /// worker comes), [`ErrorKind::Unreachable`].
    ///
    /// # Cancel safety
    /// When it is dropped the signal may or may not be stored.
    pub async fn signal<S: Signal>(&self, signal: S) -> Result<(), Error> {
        let value = self.inner.core.encode(&signal).map_err(|error| Error::payload("the signal", &error))?;
        self.signal_encoded(S::NAME, value).await
    }

    /// Sends a signal by its name, for those who have not its type.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    ///
    /// # Cancel safety
    /// As [`signal`](Self::signal).
    pub async fn signal_named<V: serde::Serialize + ?Sized>(&self, name: &str, value: &V) -> Result<(), Error> {
        check_name(name).map_err(|error| Error::invalid_id("a signal's name", &error))?;
        let value = self.inner.core.encode(value).map_err(|error| Error::payload("the signal", &error))?;
        self.signal_encoded(name, value).await
    }

    async fn signal_encoded(&self, name: &str, value: Payload) -> Result<(), Error> {
        let signalled = async |headers: Headers| {
            let headers = self.inner.core.headers(&headers)?;
            self.tell("signal", EventBody::Signal { name: name.to_owned(), value, headers }).await
        };
        self.intercepted(CallKind::Signal, Some(name), signalled).await
    }

    /// Asks the run to cancel: what it waits for gives `Cancelled`, and it may clean up.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    ///
    /// # Cancel safety
    /// When it is dropped the request may or may not be stored.
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<(), Error> {
        let body = EventBody::Cancel { reason: reason.into() };
        self.intercepted(CallKind::Cancel, None, |_| self.tell("cancel", body)).await
    }

    /// Ends the run at once; its code is not asked.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    ///
    /// # Cancel safety
    /// When it is dropped the request may or may not be stored.
    pub async fn terminate(&self, reason: impl Into<String>) -> Result<(), Error> {
        let body = EventBody::Terminate { reason: reason.into() };
        self.intercepted(CallKind::Terminate, None, |_| self.tell("terminate", body)).await
    }

    /// Tries a parked run again; one that is not parked is left alone.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    ///
    /// # Cancel safety
    /// When it is dropped the request may or may not be stored.
    pub async fn resume(&self) -> Result<(), Error> {
        self.intercepted(CallKind::Resume, None, |_| self.tell("resume", EventBody::Resume)).await
    }

    /// Makes a call with all interceptors of the client around it.
    pub(crate) async fn intercepted<T: Send, Made: Future<Output = Result<T, Error>> + Send>(
        &self,
        kind: CallKind,
        name: Option<&str>,
        call: impl FnOnce(Headers) -> Made + Send,
    ) -> Result<T, Error> {
        let interceptors = &self.inner.core.interceptors;
        if interceptors.is_empty() {
            return call(Headers::new()).await;
        }
        let mut seen = Call::new(kind).of(self.id());
        seen.name = name.map(str::to_owned);
        // Boxed, as in `around`.
        interceptors.around(seen, call).boxed().await
    }

    async fn tell(&self, verb: &str, body: EventBody) -> Result<(), Error> {
        let id = self.workflow_id()?;
        let ticket = self.inner.core.requests.open();
        let take = |heard: &Heard| {
            if let Some((run_id, _)) = &heard.closed {
                return Some(Err(Error::already_closed(id, *run_id, verb)));
            }
            match heard.answer.as_deref()? {
                ReplyBody::Accepted => Some(Ok(())),
                ReplyBody::AlreadyClosed { run_id } => Some(Err(Error::already_closed(id, *run_id, verb))),
                ReplyBody::NotFound => Some(Err(Error::not_found(id))),
                ReplyBody::Invalid { message } => Some(Err(refused(id, message))),
                ReplyBody::Expired { message } => Some(Err(expired(id, message))),
                _ => None,
            }
        };
        self.ask(verb, &ticket, body, take, None).await
    }

    async fn ask<T>(
        &self,
        verb: &str,
        ticket: &Ticket,
        body: EventBody,
        take: impl FnMut(&Heard) -> Option<Result<T, Error>>,
        read: Option<Read<Result<T, Error>>>,
    ) -> Result<T, Error> {
        let id = self.workflow_id()?;
        let event = self.event(id, ticket, &self.inner.core.sealed(id, body).await?);
        let question = Question {
            what: &|| format!("{verb} {}", self.id()),
            event: &|| event.clone(),
            deadline: Deadline::after(self.inner.core.limit),
            listen_first: Duration::ZERO,
        };
        self.inner.core.ask(ticket, question, take, read).await?
    }

    fn event(&self, id: &WorkflowId, ticket: &Ticket, body: &Sealed) -> everpulse_protocol::event::Event {
        self.inner.core.event(id, self.meant(), Some(ticket.reply_to()), body)
    }

    pub(crate) fn meant(&self) -> Meant {
        Meant { run_id: self.run_id(), exact: self.inner.exact }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    pub(crate) fn workflow_id(&self) -> Result<&WorkflowId, Error> {
        self.inner.id.as_ref().map_err(Clone::clone)
    }
}

/// What is heard about a run's end, once it is something.
fn ended(id: &WorkflowId, heard: &Heard) -> Option<Result<(RunId, Close), Error>> {
    if let Some((run_id, close)) = &heard.closed {
        return Some(Ok((*run_id, (**close).clone())));
    }
    match heard.answer.as_deref()? {
        ReplyBody::NotFound => Some(Err(Error::not_found(id))),
        ReplyBody::Expired { message } => Some(Err(expired(id, message))),
        // A start that was only stored has its refusal come here.
        ReplyBody::Taken { .. } | ReplyBody::Invalid { .. } => Some(Err(start::begun(id, heard)?.err()?)),
        _ => None,
    }
}

fn expired(id: &WorkflowId, message: &str) -> Error {
    Error::new(ErrorKind::Expired, format!("{id}: {message}"))
}

fn refused(id: &WorkflowId, message: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{id}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::untyped::Untyped;

    /// Who waits for ten thousand results has a future for each.
    #[test]
    fn a_wait_for_a_result_is_small() {
        fn size_of<T>(_: impl FnOnce(&'static Run<Untyped>) -> T) -> usize {
            std::mem::size_of::<T>()
        }
        let size = size_of(|run| run.result());
        assert!(size <= 640, "{size} bytes");
    }
}
