//! Typed, lazy calls: what the function that a macro made returns.
//!
//! Awaited in a workflow, a call of an activity is a durable step, and a call of a workflow is a child; given to a
//! client, a call of a workflow is a dispatch. None of it happens here: a call holds encoded arguments and options.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use everpulse_protocol::Payload;
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::CommandKind;
use everpulse_protocol::id::check_name;
use everpulse_protocol::payload::{Format, PayloadError};
use everpulse_protocol::priority::Priority;

use crate::child;
use crate::definition::{ActivityDefinition, AuthorError, Callable, Definition, Output, WorkflowDefinition};
use crate::failure::Failure;
use crate::options::{self, Overrides, ParentClose, Retry, ms};
use crate::replay::core::Core;
use crate::replay::{Command, Next, Settlement, Ticket};

/// A call of a workflow or an activity: arguments and options. Nothing happens before it is used.
///
/// A call is a future inside workflows; awaiting it gives the result, or a [`Failure`] of the definition's error. Dropping
/// it after its first poll cancels the activity, or asks the child to cancel, unless it has come to its end. A call of a
/// workflow is also what a client starts.
///
/// # Panics
/// Awaiting it outside a workflow, with a message that names what to do instead.
#[must_use = "a call does nothing until it is awaited, `.start()`ed or given to a client"]
pub struct Call<D> {
    state: State,
    definition: PhantomData<fn() -> D>,
}

enum State {
    New(Box<New>),
    Scheduled(Ticket),
    Done,
}

pub(crate) struct New {
    pub args: Result<Payload, PayloadError>,
    recode: Recode,
    pub overrides: Overrides,
}

/// Writes arguments once more, in another format.
type Recode = fn(&Payload, Format) -> Result<Payload, PayloadError>;

impl New {
    /// The arguments in a format, if it can say them.
    fn args(self, format: Format) -> Result<Payload, PayloadError> {
        let args = self.args?;
        if args.format() == Some(format) {
            return Ok(args);
        }
        Ok((self.recode)(&args, format).unwrap_or(args))
    }
}

/// What a client needs to know of a call of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub workflow: String,
    /// None: the newest that the first owner has.
    pub version: Option<u32>,
    pub args: Payload,
    /// None: one is drawn.
    pub id: Option<String>,
    pub tags: Vec<String>,
    pub timeout: Option<Duration>,
    pub priority: Priority,
}

impl<D: Definition> Call<D> {
    /// For the macros.
    #[doc(hidden)]
    pub fn new(args: Result<Payload, PayloadError>, recode: Recode) -> Self {
        let new = New { args, recode, overrides: Overrides::default() };
        Self { state: State::New(Box::new(new)), definition: PhantomData }
    }
}

impl<D: Callable> Call<D> {
    /// Of an activity: how long one attempt may take, otherwise than its definition says. Of a workflow: how long the run
    /// may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|overrides| overrides.timeout = Some(timeout))
    }

    /// How urgent it is: 1 is taken first, 5 last, and 3 holds where nothing is said. While tasks of a smaller number wait in a
    /// queue, those of greater ones are not taken. Of a workflow it holds for its activities and children that say
    /// nothing else.
    ///
    /// # Panics
    /// When it is not 1 to 5.
    pub fn priority(self, level: u8) -> Self {
        options::check_level(level);
        self.with(|overrides| overrides.priority.level = Some(level))
    }

    /// Whose it is, such as a customer: of one priority, the keys of a queue take turns, however many tasks of one of them
    /// wait. All that have no key are one more. Of a workflow it holds for its activities and children that say nothing else.
    ///
    /// A key is no secret: it stands in history and in tasks as it is.
    ///
    /// # Panics
    /// When it has more than 64 bytes.
    pub fn fairness_key(self, key: impl Into<String>) -> Self {
        let key = key.into();
        options::check_key(&key);
        self.with(|overrides| overrides.priority.key = Some(key))
    }

    /// How many turns the key has for each turn of a key with weight 1: 0.001 to 1,000. By default 1.
    ///
    /// # Panics
    /// When it is something else.
    pub fn fairness_weight(self, weight: f64) -> Self {
        let weight = options::weight(weight);
        self.with(|overrides| overrides.priority.weight = Some(weight))
    }

    /// Schedules it now. Of an activity this gives a [`Handle`] to wait with; of a workflow a future
    /// ([`Starting`](crate::Starting)) of a handle to the child, which is there when the child is in its history.
    ///
    /// # Panics
    /// Outside a workflow.
    pub fn start(self) -> <D::Kind as CallKind<D>>::Started {
        let state = match self.state {
            State::New(new) => {
                <D::Kind as CallKind<D>>::schedule(*new, true).map_or_else(HandleState::Failed, HandleState::Open)
            }
            State::Scheduled(ticket) => HandleState::Open(ticket),
            State::Done => HandleState::Done,
        };
        <D::Kind as CallKind<D>>::started(state)
    }

    /// Schedules it now, and forgets what it comes to. A child goes on whatever becomes of this run.
    ///
    /// # Panics
    /// Outside a workflow.
    pub fn detach(self) {
        match self.state {
            State::New(new) => {
                if let Ok(ticket) = <D::Kind as CallKind<D>>::schedule(*new, false) {
                    ticket.detach();
                }
            }
            State::Scheduled(ticket) => ticket.detach(),
            State::Done => {}
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Overrides)) -> Self {
        if let State::New(new) = &mut self.state {
            change(&mut new.overrides);
        }
        self
    }
}

impl<D: WorkflowDefinition> Call<D> {
    /// What a client sends, as far as the arguments are in a format: nothing is compressed or sealed yet.
    ///
    /// # Errors
    /// When the `Serialize` of an argument failed.
    ///
    /// # Panics
    /// When the call was awaited before.
    pub fn into_request(self, format: Format) -> Result<Request, PayloadError> {
        match self.state {
            State::New(new) => {
                let Overrides { id, tags, version, timeout, priority, .. } = new.overrides.clone();
                let (workflow, args) = (D::NAME.to_owned(), new.args(format)?);
                Ok(Request { workflow, version, args, id, tags, timeout, priority })
            }
            State::Scheduled(_) | State::Done => panic!("a call that was awaited in a workflow is given to no client"),
        }
    }

    /// What a run goes on as; or why it cannot.
    ///
    /// # Panics
    /// When the call was awaited before.
    pub(crate) fn into_next(self) -> Result<Box<Next>, String> {
        let State::New(new) = self.state else {
            panic!("a call that was awaited is a child: `continue_as_new` takes one that was not")
        };
        let Overrides { id, tags, version, timeout, priority, .. } = new.overrides;
        let unusable = |error: &dyn fmt::Display| format!("cannot continue as `{}`: {error}", D::NAME);
        if let Some(id) = id {
            return Err(unusable(&format_args!("the next run has this one's workflow id, and not {id:?}")));
        }
        for tag in &tags {
            check_name(tag).map_err(|error| unusable(&format_args!("a tag: {error}")))?;
        }
        Ok(Box::new(Next {
            workflow: D::NAME.to_owned(),
            version,
            args: new.args.map_err(|error| unusable(&error))?,
            tags: (!tags.is_empty()).then_some(tags),
            timeout_ms: timeout.map(|timeout| ms(timeout).max(1)),
            priority,
        }))
    }

    /// The workflow id: 1 to 255 bytes without control characters. Without one a child has an id that no other run has.
    ///
    /// A child is refused, with [`Failure::Taken`], while another run of the id is open, and as long as it is remembered
    /// after its end.
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with(|overrides| overrides.id = Some(id.into()))
    }

    /// A word by which the run can be found in lists; there may be several.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with(|overrides| overrides.tags.push(tag.into()))
    }

    /// This version of the workflow, instead of the newest that the first owner has.
    pub fn version(self, version: u32) -> Self {
        self.with(|overrides| overrides.version = Some(version))
    }

    /// What becomes of the child when this run ends first, however that ends. By default it is asked to cancel. It means
    /// nothing to a client.
    pub fn parent_close(self, parent_close: ParentClose) -> Self {
        self.with(|overrides| overrides.parent_close = parent_close)
    }
}

impl<D: ActivityDefinition> Call<D> {
    /// How it is tried, otherwise than its definition says.
    pub fn retry(self, retry: Retry) -> Self {
        self.with(|overrides| overrides.retry = Some(retry.into()))
    }

    /// How long it may wait for a worker to begin with it, otherwise than its definition says. A worker that takes it later
    /// does not begin, and the call fails as timed out; while no worker takes it, it waits: with
    /// [`schedule_to_close`](Self::schedule_to_close) it does not.
    pub fn schedule_to_start(self, limit: Duration) -> Self {
        self.with(|overrides| overrides.schedule_to_start = Some(limit))
    }

    /// How long it may take with all attempts and waits, otherwise than its definition says. Then the call fails as timed
    /// out, also when no activity worker lives.
    pub fn schedule_to_close(self, limit: Duration) -> Self {
        self.with(|overrides| overrides.schedule_to_close = Some(limit))
    }

    /// The queue whose workers do it, otherwise than its definition says.
    ///
    /// # Panics
    /// When the name is no queue's name: letters, digits, `-` and `_`, at most 64.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        let queue = queue.into();
        assert!(
            everpulse_protocol::topic::is_queue_name(&queue),
            "{queue:?} cannot be the name of a queue: use 1 to 64 letters, digits, `-` and `_`"
        );
        self.with(|overrides| overrides.queue = Some(queue))
    }
}

/// How the calls of a kind of definition are carried out in a workflow.
pub trait CallKind<D: Definition> {
    /// What [`Call::start`] gives.
    type Started;
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "no other crate has kinds of its own")]
    fn schedule(new: New, starts: bool) -> Result<Ticket, Refusal>;
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "no other crate has kinds of its own")]
    fn started(state: HandleState) -> Self::Started;
}

/// Activities: tasks for workers.
#[derive(Debug)]
pub enum ActivityCall {}

/// Workflows: children.
#[derive(Debug)]
pub enum ChildCall {}

impl<D: ActivityDefinition> CallKind<D> for ActivityCall {
    type Started = Handle<D>;

    #[allow(private_interfaces, reason = "no other crate has kinds of its own")]
    fn schedule(new: New, _: bool) -> Result<Ticket, Refusal> {
        schedule::<D>(new)
    }

    #[allow(private_interfaces, reason = "no other crate has kinds of its own")]
    fn started(state: HandleState) -> Handle<D> {
        Handle { state, definition: PhantomData }
    }
}

impl<D: WorkflowDefinition> CallKind<D> for ChildCall {
    type Started = child::Starting<D>;

    #[allow(private_interfaces, reason = "no other crate has kinds of its own")]
    fn schedule(new: New, starts: bool) -> Result<Ticket, Refusal> {
        child::schedule::<D>(new, starts)
    }

    #[allow(private_interfaces, reason = "no other crate has kinds of its own")]
    fn started(state: HandleState) -> child::Starting<D> {
        child::Starting::new(state)
    }
}

/// Why nothing was scheduled.
pub(crate) enum Refusal {
    Undecodable(String),
    Cancelled,
}

impl<E> From<Refusal> for Failure<E> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Undecodable(message) => Self::Undecodable { message },
            Refusal::Cancelled => Self::Cancelled,
        }
    }
}

fn schedule<D: ActivityDefinition>(new: New) -> Result<Ticket, Refusal> {
    let core = Core::find().unwrap_or_else(|| {
        panic!(
            "activity `{}` was called outside a workflow: await it in a function with `#[workflow]`, which a client starts \
             with `client.start(..)`; or run its code right here with `{}::body(..)`",
            D::NAME,
            D::NAME
        )
    });
    let args = new.args.map_err(|error| Refusal::Undecodable(format!("activity `{}`: {error}", D::NAME)))?;
    let (queue, options) = new.overrides.queue_and_options(&D::OPTIONS, &core.info.priority);
    let headers = core.headers();
    Ticket::schedule(&core, CommandKind::Activity, |no| Command::Activity {
        no,
        name: D::NAME.to_owned(),
        queue,
        args,
        options,
        headers,
    })
    .ok_or(Refusal::Cancelled)
}

/// What the code gets for what a command came to.
pub(crate) fn typed<T: Output, E: AuthorError>(settlement: Settlement) -> Result<T, Failure<E>> {
    match settlement {
        Settlement::Outcome(Outcome::Done(value)) => Ok(value.decode()?),
        Settlement::Outcome(Outcome::Failed(failure)) => Err(Failure::from_recorded(failure)),
        Settlement::Cancelled => Err(Failure::Cancelled),
        Settlement::Fired => unreachable!("the core fires timers only"),
    }
}

impl<D: Callable> Future for Call<D> {
    type Output = Result<D::Output, Failure<D::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::New(_) = self.state {
            let State::New(new) = std::mem::replace(&mut self.state, State::Done) else { unreachable!("just looked") };
            match <D::Kind as CallKind<D>>::schedule(*new, false) {
                Ok(ticket) => self.state = State::Scheduled(ticket),
                Err(refusal) => return Poll::Ready(Err(refusal.into())),
            }
        }
        let State::Scheduled(ticket) = &self.state else { panic!("a call was polled after it had given its result") };
        let settlement = std::task::ready!(ticket.poll(cx));
        self.state = State::Done;
        Poll::Ready(typed(settlement))
    }
}

/// An activity that was started: a future of its result. Dropping it cancels the activity.
#[must_use = "dropping a handle cancels the activity: await it, or `.detach()` it"]
pub struct Handle<D> {
    state: HandleState,
    definition: PhantomData<fn() -> D>,
}

pub(crate) enum HandleState {
    Open(Ticket),
    Failed(Refusal),
    Done,
}

impl<D> Handle<D> {
    /// Lets the activity go on, and forgets its result.
    pub fn detach(self) {
        if let HandleState::Open(ticket) = self.state {
            ticket.detach();
        }
    }
}

impl<D: ActivityDefinition> Future for Handle<D> {
    type Output = Result<D::Output, Failure<D::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let HandleState::Open(ticket) = &self.state {
            let settlement = std::task::ready!(ticket.poll(cx));
            self.state = HandleState::Done;
            return Poll::Ready(typed(settlement));
        }
        match std::mem::replace(&mut self.state, HandleState::Done) {
            HandleState::Failed(refusal) => Poll::Ready(Err(refusal.into())),
            _ => panic!("a handle was polled after it had given its result"),
        }
    }
}

impl<D: Definition> fmt::Debug for Call<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", D::NAME)
    }
}

impl<D: Definition> fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", D::NAME)
    }
}
