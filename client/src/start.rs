//! Starting a run: what a start can say, and what its answers mean.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpulse_protocol::event::{self, EventBody, IdPolicy};
use everpulse_protocol::id::check_name;
use everpulse_protocol::priority::{KEY_BYTES_MAX, LEVEL_MAX, Priority};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{Headers, Payload, RunId, Timestamp, WorkflowId};
use everpulse_sdk::{Definition, Request, Signal};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::core::{Core, Deadline, Meant, Question};
use crate::error::{Error, ErrorKind};
use crate::intercept::{Call, CallKind};
use crate::requests::{Heard, Ticket};
use crate::run::Run;

/// A start that is being described. Await it to send it.
#[must_use = "nothing is started before it is awaited"]
pub struct Start<D> {
    core: Arc<Core>,
    request: Result<Request, Error>,
    id: Option<String>,
    tags: Vec<String>,
    start_at: Option<SystemTime>,
    timeout: Option<Duration>,
    version: Option<u32>,
    policy: Option<IdPolicy>,
    signal: Option<Result<(String, Payload), Error>>,
    headers: Headers,
    priority: Result<Priority, Error>,
    definition: PhantomData<fn() -> D>,
}

impl<D> std::fmt::Debug for Start<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("id", &self.id).field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<D: Definition> Start<D> {
    pub(crate) fn new(core: Arc<Core>, request: Result<Request, Error>) -> Self {
        Self {
            core,
            request,
            id: None,
            tags: Vec::new(),
            start_at: None,
            timeout: None,
            version: None,
            policy: None,
            signal: None,
            headers: Headers::new(),
            priority: Ok(Priority::default()),
            definition: PhantomData,
        }
    }

    /// The workflow id: 1 to 255 bytes without control characters. Without one it is a UUID (version 7).
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// A word by which the run can be found in lists; there may be several.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Not before this time.
    pub fn start_at(mut self, at: SystemTime) -> Self {
        self.start_at = Some(at);
        self
    }

    /// The run fails with a time-out this long after its start.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// This version of the workflow, instead of the newest that the first owner has.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// How urgent its activities and children are that say nothing else: 1 is taken first, 5 last, by default 3. While tasks of
    /// a smaller number wait in a queue, those of greater ones are not taken.
    pub fn priority(self, level: u8) -> Self {
        let invalid =
            || Error::new(ErrorKind::Invalid, format!("{level} is no priority: 1 is taken first, {LEVEL_MAX} last"));
        let is_one = (1..=LEVEL_MAX).contains(&level);
        self.with_priority(|priority| priority.level = Some(level), is_one, invalid)
    }

    /// Whose its activities and children are that say nothing else, such as a customer's. Of one priority, the keys of a queue
    /// take turns, however many tasks of one of them wait. A key has at most 64 bytes, and is no secret: it is stored as it is.
    pub fn fairness_key(self, key: impl Into<String>) -> Self {
        let key = key.into();
        let (bytes, is_short) = (key.len(), key.len() <= KEY_BYTES_MAX);
        let invalid =
            || Error::new(ErrorKind::Invalid, format!("a fairness key of {bytes} bytes: it may have {KEY_BYTES_MAX}"));
        self.with_priority(|priority| priority.key = Some(key), is_short, invalid)
    }

    fn with_priority(mut self, set: impl FnOnce(&mut Priority), is_good: bool, bad: impl FnOnce() -> Error) -> Self {
        match &mut self.priority {
            Ok(_) if !is_good => self.priority = Err(bad()),
            Ok(priority) => set(priority),
            Err(_) => {}
        }
        self
    }

    /// What happens when the id is known already; by default the existing run is handed out, open or closed. Of a start
    /// [with a signal](Start::signal) that is an open run, and after a closed one a new run begins.
    pub fn policy(mut self, policy: IdPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sends a signal along: to the run that begins, before anything else, or to the one of this id that is open already.
    /// It is one event, so nothing comes between the start and the signal, and it counts once.
    ///
    /// ```no_run
    /// # use everpulse_sdk as everpulse;
    /// # use serde::{Deserialize, Serialize};
    /// #[everpulse::signal(crate = everpulse)]
    /// #[derive(Serialize, Deserialize)]
    /// struct Added { item: String }
    ///
    /// # #[everpulse::workflow(crate = everpulse)]
    /// # async fn basket() -> Result<(), everpulse::Error> { Ok(()) }
    /// # async fn example(client: everpulse_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// // The first item begins the basket of this user, the others go into it.
    /// client.start(basket()).id("basket-ada").signal(Added { item: "tea".into() }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// With [`IdPolicy::Reject`] the signal is sent only to a run that this start begins; with [`IdPolicy::Attach`] to that, or
    /// to an open one, and never is there a second run of the id. Otherwise it is [`ErrorKind::Taken`].
    pub fn signal<S: Signal>(self, signal: S) -> Self {
        let value = self.core.encode(&signal).map_err(|error| Error::payload("the signal", &error));
        self.with_signal(value.map(|value| (S::NAME.to_owned(), value)))
    }

    /// The same by the signal's name, for those who have not its type.
    pub fn signal_named<V: serde::Serialize + ?Sized>(self, name: &str, value: &V) -> Self {
        let value = self.core.encode(value).map_err(|error| Error::payload("the signal", &error));
        let checked = check_name(name).map_err(|error| Error::invalid_id("a signal's name", &error));
        self.with_signal(checked.and_then(|()| Ok((name.to_owned(), value?))))
    }

    fn with_signal(mut self, signal: Result<(String, Payload), Error>) -> Self {
        let second = || Error::new(ErrorKind::Invalid, "a start bears one signal; send the others to its run");
        self.signal = Some(if self.signal.is_some() { Err(second()) } else { signal });
        self
    }

    /// What travels with the run beside its arguments, to its tasks and children: the id of a trace, a tenant. Activities read
    /// it by `activity::context().header(..)`, interceptors of workers as well. All of them together have at most 4 KiB.
    pub fn header(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.headers.insert(name, text);
        self
    }

    /// Stores the start and returns, without waiting for a worker to take it. The run may turn out to be another one
    /// of the same id, or to be refused; [`Run::result`] tells.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], [`ErrorKind::TooLarge`], and [`ErrorKind::Unreachable`] when the broker does not confirm it
    /// in time.
    ///
    /// # Cancel safety
    /// When it is dropped the start may or may not be stored. Under an id of your own it can be sent again: one id is
    /// one run.
    pub async fn enqueue(self) -> Result<Run<D>, Error> {
        let (core, call) = (Arc::clone(&self.core), self.call());
        core.interceptors.around(call, |headers| self.with_headers(headers).store()).await
    }

    async fn store(self) -> Result<Run<D>, Error> {
        let mut start = self.prepare()?;
        start.put_out().await?;
        match tokio::time::timeout(start.core.limit, start.core.send(start.event.clone())).await {
            Ok(Ok(())) => Ok(start.run(None)),
            Ok(Err(error)) => Err(Error::sending(&start.what(), &error)),
            Err(_) => Err(Error::unreachable(&start.what(), start.core.limit)),
        }
    }

    /// As interceptors see it.
    fn call(&self) -> Call {
        let mut call = Call::new(CallKind::Start);
        if let Ok(request) = &self.request {
            call.workflow_id = self.id.clone().or_else(|| request.id.clone());
            call.name = Some(request.workflow.clone());
        }
        call.headers = self.headers.clone();
        call
    }

    fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Begins a run where none of its id is open. None: there is one.
    pub(crate) async fn begin_new(self) -> Result<Option<Run<D>>, Error> {
        let start = self.policy(IdPolicy::RestartWhenClosed);
        let (core, call) = (Arc::clone(&start.core), start.call());
        let begun = |headers| async move {
            let mut start = start.with_headers(headers).prepare()?;
            let run_id = start.asked().await?;
            // A run has the id of its start.
            let ours = run_id.is_some_and(|run_id| run_id.0 == start.event.id.0);
            Ok(ours.then(|| start.run(run_id)))
        };
        core.interceptors.around(call, begun).await
    }

    fn prepare(self) -> Result<Box<Prepared>, Error> {
        let request = self.request?;
        let id = match self.id.as_ref().or(request.id.as_ref()) {
            Some(id) => WorkflowId::new(id),
            None => WorkflowId::new(Uuid::now_v7().to_string()),
        };
        let id = id.map_err(|error| Error::invalid_id("a workflow id", &error))?;
        check_name(&request.workflow).map_err(|error| Error::invalid_id("a workflow's name", &error))?;
        let tags = [request.tags, self.tags].concat();
        for tag in &tags {
            check_name(tag).map_err(|error| Error::invalid_id("a tag", &error))?;
        }
        let signal = self.signal.transpose()?;
        let by_itself = if signal.is_some() { IdPolicy::RestartWhenClosed } else { IdPolicy::default() };
        let headers = self.core.headers(&self.headers)?;
        let start = event::Start {
            workflow: request.workflow,
            version: self.version.or(request.version),
            args: request.args,
            policy: self.policy.unwrap_or(by_itself),
            tags,
            start_at: self.start_at.map(|at| Timestamp(0).after(at.duration_since(UNIX_EPOCH).unwrap_or_default())),
            timeout_ms: self
                .timeout
                .or(request.timeout)
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)),
            headers,
            priority: self.priority?.or(&request.priority),
        };
        let body = match signal {
            Some((name, value)) => EventBody::SignalWithStart { start, name, value },
            None => EventBody::Start(start),
        };
        let body = self.core.seal(&id, body)?;
        let ticket = self.core.requests.open();
        let event = self.core.event(&id, Meant::default(), Some(ticket.reply_to()), &body);
        Ok(Box::new(Prepared { core: self.core, event, ticket }))
    }
}

/// A start that is ready to be sent.
struct Prepared {
    core: Arc<Core>,
    event: event::Event,
    ticket: Ticket,
}

impl Prepared {
    async fn put_out(&mut self) -> Result<(), Error> {
        self.core.put_out(&self.event.workflow_id.clone(), &mut self.event).await
    }

    fn what(&self) -> String {
        match self.event.body().as_ref().ok().and_then(EventBody::as_start) {
            Some(start) => format!("starting {} as {}", start.workflow, self.event.workflow_id),
            None => format!("starting {}", self.event.workflow_id),
        }
    }

    /// Sends the start until it is in history, and gives the run.
    async fn begin<D: Definition>(mut self: Box<Self>) -> Result<Run<D>, Error> {
        let run_id = self.asked().await?;
        Ok(self.run(run_id))
    }

    /// Sends the start, and waits until a run of its id is in history.
    async fn asked(&mut self) -> Result<Option<RunId>, Error> {
        self.put_out().await?;
        let question = Question {
            what: &|| self.what(),
            event: &|| self.event.clone(),
            deadline: Deadline::after(self.core.limit),
            listen_first: Duration::ZERO,
        };
        let take = |heard: &Heard| begun(&self.event.workflow_id, heard);
        self.core.ask(&self.ticket, question, take, None).await?
    }

    fn run<D: Definition>(self, run_id: Option<RunId>) -> Run<D> {
        Run::started(self.core, self.event.workflow_id, run_id, self.ticket)
    }
}

/// What the answers to a start say, once they say something.
///
/// Of one that was taken before by a run that was open it is not remembered which run that was.
pub(crate) fn begun(id: &WorkflowId, heard: &Heard) -> Option<Result<Option<RunId>, Error>> {
    match (heard.answer.as_deref(), &heard.closed) {
        (Some(ReplyBody::Taken { run_id, open }), _) => {
            let state = if *open { "an open" } else { "a closed" };
            let message = format!(
                "workflow id {id} is taken by {state} run, {run_id}; choose another id, or a policy that attaches"
            );
            Some(Err(Error::new(ErrorKind::Taken, message)))
        }
        (Some(ReplyBody::Invalid { message }), _) => {
            Some(Err(Error::new(ErrorKind::Invalid, format!("cannot start {id}: {message}"))))
        }
        // That the end is not kept any more says nothing against the start.
        (Some(ReplyBody::Expired { message }), None) => {
            Some(Err(Error::new(ErrorKind::Expired, format!("{id}: {message}"))))
        }
        (Some(ReplyBody::Started { run_id, .. } | ReplyBody::Open { run_id }), _) | (_, Some((run_id, _))) => {
            Some(Ok(Some(*run_id)))
        }
        (Some(ReplyBody::Accepted), _) => Some(Ok(None)),
        _ => None,
    }
}

impl<D: Definition> IntoFuture for Start<D> {
    type Output = Result<Run<D>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// Sends the start and waits until it is in history.
    ///
    /// # Errors
    /// Those of [`enqueue`](Start::enqueue); [`ErrorKind::Taken`] when the policy refuses; [`ErrorKind::Timeout`] when no
    /// worker answers in time: the start is stored then, and takes effect when one comes.
    ///
    /// # Cancel safety
    /// When it is dropped the start may or may not be stored. Under an id of your own it can be sent again: one id is
    /// one run.
    fn into_future(self) -> Self::IntoFuture {
        if !self.core.interceptors.is_empty() {
            return async move {
                let (core, call) = (Arc::clone(&self.core), self.call());
                let begun = |headers| async move { self.with_headers(headers).prepare()?.begin().await };
                core.interceptors.around(call, begun).await
            }
            .boxed();
        }
        // Before the future, which would have room for all that a start can say until it is answered.
        let prepared = self.prepare();
        async move { prepared?.begin().await }.boxed()
    }
}
