//! Starting a run: what a start can say, and what its answers mean.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everpulse_protocol::event::{self, EventBody, IdPolicy};
use everpulse_protocol::id::check_name;
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{RunId, Timestamp, WorkflowId};
use everpulse_sdk::{Definition, Request};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::core::{Core, Deadline, Question};
use crate::error::{Error, ErrorKind};
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
    policy: IdPolicy,
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
            policy: IdPolicy::default(),
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

    /// What happens when the id is known already; by default the existing run is handed out.
    pub fn policy(mut self, policy: IdPolicy) -> Self {
        self.policy = policy;
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
        let start = self.prepare()?;
        match tokio::time::timeout(start.core.limit, start.core.send(start.event.clone())).await {
            Ok(Ok(())) => Ok(start.run(None)),
            Ok(Err(error)) => Err(Error::sending(&start.what(), &error)),
            Err(_) => Err(Error::unreachable(&start.what(), start.core.limit)),
        }
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
        let start = event::Start {
            workflow: request.workflow,
            version: self.version.or(request.version),
            args: request.args,
            policy: self.policy,
            tags,
            start_at: self.start_at.map(|at| Timestamp(0).after(at.duration_since(UNIX_EPOCH).unwrap_or_default())),
            timeout_ms: self
                .timeout
                .or(request.timeout)
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)),
        };
        let body = self.core.sealed(&id, EventBody::Start(start))?;
        let ticket = self.core.requests.open();
        let event = self.core.event(&id, None, Some(ticket.reply_to()), &body);
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
    fn what(&self) -> String {
        match self.event.body() {
            Ok(EventBody::Start(start)) => format!("starting {} as {}", start.workflow, self.event.workflow_id),
            _ => format!("starting {}", self.event.workflow_id),
        }
    }

    fn run<D: Definition>(self, run_id: Option<RunId>) -> Run<D> {
        Run::started(self.core, self.event.workflow_id, run_id, self.ticket)
    }
}

/// What the answers to a start say, once they say something.
pub(crate) fn begun(id: &WorkflowId, heard: &Heard) -> Option<Result<RunId, Error>> {
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
            Some(Ok(*run_id))
        }
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
        // Before the future, which would have room for all that a start can say until it is answered.
        let prepared = self.prepare();
        async move {
            let start = prepared?;
            let question = Question {
                what: &|| start.what(),
                event: &|| start.event.clone(),
                deadline: Deadline::after(start.core.limit),
                listen_first: Duration::ZERO,
            };
            let take = |heard: &Heard| begun(&start.event.workflow_id, heard);
            let run_id = start.core.ask(&start.ticket, question, take, None).await??;
            Ok(start.run(Some(run_id)))
        }
        .boxed()
    }
}
