//! The environment of a test: what is registered, mocked and started in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use everpulse_protocol::event::{EventBody, IdPolicy, Outcome, Start};
use everpulse_protocol::payload::Format;
use everpulse_protocol::{Payload, Timestamp, Token, WorkflowId};
use everpulse_sdk::definition::{
    Activities, ActivityFn, AuthorError, Definition, Duplicate, FunctionActivity, Output, Registry, WorkflowFn,
};
use everpulse_sdk::intercept::Interceptor;
use everpulse_sdk::{ActivityDefinition, Call, CompletionToken, Signal, WorkflowDefinition, failure};
use futures::future::BoxFuture;
use serde::Serialize;

use crate::drive::{self, Stage};
use crate::run::{Address, Run};
use crate::storm::Storm;
use crate::stubs::{self, BlockOn, Mock, Stub};
use crate::world::World;

/// One time that the code of an activity or a step was run: the ledger of a test's effects.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Execution {
    /// The activity or the step.
    pub name: String,
    pub workflow_id: String,
    /// The same for all attempts: what the outside recognises a repetition by.
    pub idempotency_key: String,
    /// From 1. After a fault the same attempt may be run again.
    pub attempt: u32,
    /// How long after the beginning of the test.
    pub at: Duration,
}

/// Workflows in memory, on the real engine, in virtual time.
///
/// Nothing is waited for: when nothing can be done now, the clock goes on to the moment at which something can. Clones of it
/// are the same environment.
///
/// ```
/// # use everpulse_sdk as everpulse;
/// use everpulse_testing::Environment;
/// use std::time::Duration;
///
/// #[everpulse::activity(crate = everpulse)]
/// async fn send_reminder(user: String) -> Result<(), everpulse::Error> { unreachable!("it is mocked") }
///
/// #[everpulse::workflow(version = 1, crate = everpulse)]
/// async fn remind(user: String) -> Result<(), everpulse::Error> {
///     everpulse::sleep(Duration::from_secs(30 * 86_400)).await;
///     Ok(send_reminder(user).await?)
/// }
///
/// let env = Environment::new().workflow(remind).mock(send_reminder, |user: String| {
///     assert_eq!(user, "ada");
///     Ok(())
/// });
/// let run = env.start(remind("ada".to_owned()));
/// run.result().unwrap();
/// assert_eq!(env.now(), Duration::from_secs(30 * 86_400));
/// ```
#[derive(Clone)]
#[must_use]
pub struct Environment {
    stage: Stage,
    names: Rc<RefCell<BTreeMap<&'static str, u32>>>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment {
    /// Without faults: everything happens once, in order and at its time.
    pub fn new() -> Self {
        Self::over(World::new(None))
    }

    pub(crate) fn in_storm(storm: Storm) -> Self {
        Self::over(World::new(Some(storm)))
    }

    fn over(world: World) -> Self {
        Self { stage: Rc::new(RefCell::new(world)), names: Rc::default() }
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Registers a function with `#[workflow]`.
    ///
    /// # Panics
    /// When another one has its name and version, and after the first start.
    #[track_caller]
    pub fn workflow<Arguments, F: WorkflowFn<Arguments>>(self, workflow: F) -> Self {
        self.register(|registry| registry.workflow_fn(workflow))
    }

    /// Registers a function with `#[activity]`, whose real code runs. It takes no virtual time, unless
    /// [`takes`](Self::takes) says how long.
    ///
    /// # Panics
    /// When another one has its name, and after the first start.
    #[track_caller]
    pub fn activity<Arguments, F>(self, activity: F) -> Self
    where
        F: ActivityFn<Arguments>,
        F::Definition: FunctionActivity,
    {
        self.register(|registry| registry.activity_fn(activity))
    }

    /// Registers every `#[activity]` method of a value, with its real code.
    ///
    /// # Panics
    /// When another activity has the name of one of them, and after the first start.
    #[track_caller]
    pub fn activities<T: Activities>(self, value: T) -> Self {
        self.register(|registry| registry.activities_of(value))
    }

    /// Stands around the attempts at registered activities, and is told what happens to runs, as on a worker: a little after a run
    /// has ended, so [`settle`](Self::settle) before you ask what it heard. Mocks have nothing around them.
    ///
    /// # Panics
    /// After the first start.
    #[track_caller]
    pub fn intercept(self, interceptor: impl Interceptor) -> Self {
        self.register(|registry| {
            registry.intercept(interceptor);
            Ok(())
        })
    }

    #[track_caller]
    fn register(self, add: impl FnOnce(&mut Registry) -> Result<(), Duplicate>) -> Self {
        let mut world = self.stage.borrow_mut();
        assert!(!world.is_sealed(), "register workflows and activities before anything is started");
        if let Err(duplicate) = add(&mut world.registry) {
            panic!("{duplicate}");
        }
        drop(world);
        self
    }

    /// A closure stands in for an activity: it takes its arguments and gives `Result<Output, Error>`, and other types do not
    /// compile. It runs in the attempt's context, so `activity::context().attempt()` tells which one it is. An assertion
    /// that fails in it fails the test.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use everpulse_testing::Environment;
    /// # #[everpulse::activity(crate = everpulse)]
    /// # async fn charge(card: String, cents: u64) -> Result<u64, everpulse::Error> { Ok(cents) }
    /// # #[everpulse::workflow(version = 1, crate = everpulse)]
    /// # async fn pay(cents: u64) -> Result<u64, everpulse::Error> { Ok(charge("4711".into(), cents).await?) }
    /// use everpulse::activity;
    ///
    /// let env = Environment::new().workflow(pay).mock(charge, |card: String, cents: u64| {
    ///     match activity::context().attempt() {
    ///         1 | 2 => Err(everpulse::Error::msg("the bank is closed")),
    ///         _ => Ok(cents),
    ///     }
    /// });
    /// assert_eq!(env.start(pay(42)).result().unwrap(), 42);
    /// assert_eq!(env.executions().len(), 3);
    /// ```
    ///
    /// ```compile_fail
    /// # use everpulse_sdk as everpulse;
    /// # use everpulse_testing::Environment;
    /// # #[everpulse::activity(crate = everpulse)]
    /// # async fn charge(card: String, cents: u64) -> Result<u64, everpulse::Error> { Ok(cents) }
    /// Environment::new().mock(charge, |card: String, cents: String| Ok(1));
    /// ```
    pub fn mock<Arguments, F, M>(self, _: F, mock: M) -> Self
    where
        F: ActivityFn<Arguments>,
        M: Mock<F::Definition, Arguments>,
    {
        self.stub::<F::Definition>(|stub| stub.mocked = Some(stubs::mocked(mock)))
    }

    /// A closure stands in for a workflow wherever it is a child: it takes its arguments and gives `Result<Output, Error>`. It
    /// is called once for each child, which begins and ends at once, and has no history.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use everpulse_testing::Environment;
    /// # #[everpulse::workflow(version = 1, crate = everpulse)]
    /// # async fn ship(item: String) -> Result<u32, everpulse::Error> { Ok(item.len() as u32) }
    /// # #[everpulse::workflow(version = 1, crate = everpulse)]
    /// # async fn order(item: String) -> Result<u32, everpulse::Error> { Ok(ship(item).await?) }
    /// let env = Environment::new().workflow(order).mock_child(ship, |item: String| {
    ///     if item == "tea" { Ok(7) } else { Err(everpulse::Error::msg("sold out")) }
    /// });
    /// assert_eq!(env.start(order("tea".to_owned())).result().unwrap(), 7);
    /// ```
    pub fn mock_child<Arguments, F, M>(self, _: F, mock: M) -> Self
    where
        F: WorkflowFn<Arguments>,
        M: Mock<F::Definition, Arguments>,
    {
        let name = <F::Definition as Definition>::NAME.to_owned();
        self.stage.borrow_mut().stubs.children.insert(name, stubs::mocked_child(mock));
        self
    }

    /// The first so many attempts at an activity fail with this error, without its code being run; then it goes on as it is
    /// registered or mocked, after the waits of its own retry policy. Said again, further attempts fail.
    pub fn fail_first<Arguments, F: ActivityFn<Arguments>>(
        self,
        _: F,
        attempts: u32,
        error: <F::Definition as Definition>::Error,
    ) -> Self {
        let error = <F::Definition as ActivityDefinition>::attempt_error(&error);
        self.stub::<F::Definition>(|stub| stub.fail(attempts, error))
    }

    /// An attempt at an activity takes so long, in virtual time; longer than its time-out is a time-out.
    pub fn takes<Arguments, F: ActivityFn<Arguments>>(self, _: F, duration: Duration) -> Self {
        self.stub::<F::Definition>(|stub| stub.takes = duration)
    }

    fn stub<D: Definition>(self, change: impl FnOnce(&mut Stub)) -> Self {
        change(self.stage.borrow_mut().stubs.activities.entry(D::NAME.to_owned()).or_default());
        self
    }

    /// A closure stands in for the steps of a name; it takes the number of the attempt, from 1. A value of another type than
    /// the workflow asks for is `Failure::Undecodable` there.
    pub fn mock_step<T: Serialize, E: AuthorError>(
        self,
        name: impl Into<String>,
        mut mock: impl FnMut(u32) -> Result<T, E> + 'static,
    ) -> Self {
        let mocked = move |attempt| match mock(attempt) {
            Ok(value) => Ok(Payload::encode(&value).expect("what a mock gives can be encoded")),
            Err(error) => {
                let failure = failure::recorded(&error, std::any::type_name::<E>(), Vec::new());
                Err(everpulse_sdk::definition::AttemptError { failure, retryable: true })
            }
        };
        self.stage.borrow_mut().stubs.steps.insert(name.into(), Rc::new(RefCell::new(mocked)));
        self
    }

    /// What waits for the futures of real activities and steps. Without it they are polled on this thread with nothing
    /// around them, which is enough for those that need no runtime.
    ///
    /// With a tokio runtime: `env.block_on(move |future| runtime.block_on(future))`.
    pub fn block_on(self, executor: impl Fn(BoxFuture<'static, ()>) + 'static) -> Self {
        self.stage.borrow_mut().stubs.block_on = BlockOn(Rc::new(executor));
        self
    }

    /// The test begins at this time, and not at that of all tests, the beginning of 2026.
    ///
    /// # Panics
    /// After the first start.
    #[track_caller]
    pub fn starting_at(self, time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut world = self.stage.borrow_mut();
        assert!(!world.is_sealed() && world.planned.is_empty(), "say when the test begins before anything is started");
        world.begin = Timestamp(0).after(since);
        world.now = world.begin;
        drop(world);
        self
    }

    /// The application has a store for large values, which takes those up to so many bytes (`Blobs::up_to`, 64 MiB if it does
    /// not say otherwise). Here they lie in memory.
    pub fn large_values(self, up_to: usize) -> Self {
        self.stage.borrow_mut().payload_bytes_max = up_to;
        self
    }

    /// Starts a run. Its id, tags and so on are said of the handle, before anything else is done:
    /// `env.start(checkout(order)).id("order-42")`.
    ///
    /// # Panics
    /// When the arguments cannot be encoded.
    #[track_caller]
    pub fn start<D: WorkflowDefinition>(&self, call: Call<D>) -> Run<D> {
        let request = call
            .into_request(Format::MessagePack)
            .unwrap_or_else(|error| panic!("workflow `{}` cannot be started: {error}", D::NAME));
        let count = {
            let mut names = self.names.borrow_mut();
            let count = names.entry(D::NAME).or_default();
            *count += 1;
            *count
        };
        let id = request.id.unwrap_or_else(|| format!("{}-{count}", D::NAME));
        let id = WorkflowId::new(id).unwrap_or_else(|error| panic!("{error}"));
        let timeout_ms = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let start = Start {
            workflow: request.workflow,
            version: request.version,
            args: request.args,
            policy: IdPolicy::Attach,
            tags: request.tags,
            start_at: None,
            timeout_ms: request.timeout.map(timeout_ms),
            headers: None,
            priority: request.priority,
        };
        let mut world = self.stage.borrow_mut();
        let event = world.event(&id, None, &EventBody::Start(start));
        world.planned.push(event.clone());
        let begun = world.now;
        drop(world);
        Run::new(Rc::clone(&self.stage), Address::Started { event: event.id, id }, begun)
    }

    /// The newest run of a workflow id: one that another run has started, say.
    ///
    /// # Panics
    /// When the text cannot be an id.
    #[track_caller]
    pub fn run<Arguments, F: WorkflowFn<Arguments>>(&self, _: F, id: impl AsRef<str>) -> Run<F::Definition> {
        let id = WorkflowId::new(id.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        let begun = self.stage.borrow().now;
        Run::new(Rc::clone(&self.stage), Address::Newest { id }, begun)
    }

    /// Completes a promise with a value, as whoever has its token does from outside. The first completion counts.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use everpulse_testing::Environment;
    /// # use std::{cell::RefCell, rc::Rc};
    /// # #[everpulse::activity(crate = everpulse)]
    /// # async fn ask(token: everpulse::CompletionToken<bool>) -> Result<(), everpulse::Error> { Ok(()) }
    /// #[everpulse::workflow(version = 1, crate = everpulse)]
    /// async fn approval() -> Result<bool, everpulse::Error> {
    ///     let answer = everpulse::promise::<bool>();
    ///     ask(answer.token()).await?;
    ///     Ok(answer.await?)
    /// }
    ///
    /// let asked = Rc::new(RefCell::new(None));
    /// let mail = Rc::clone(&asked);
    /// let env = Environment::new().workflow(approval).mock(ask, move |token: everpulse::CompletionToken<bool>| {
    ///     *mail.borrow_mut() = Some(token);
    ///     Ok(())
    /// });
    /// let run = env.start(approval());
    /// env.settle();
    /// env.complete(asked.borrow().as_ref().unwrap(), true);
    /// assert!(run.result().unwrap());
    /// ```
    ///
    /// # Panics
    /// When the value cannot be encoded.
    #[track_caller]
    pub fn complete<T: Output, E>(&self, token: &CompletionToken<T, E>, value: T) {
        let value = Payload::encode(&value).unwrap_or_else(|error| panic!("a promise cannot be completed: {error}"));
        self.settle_promise(token.parts(), Outcome::Done(value));
    }

    /// Says that a promise will not be kept, as whoever has its token does from outside.
    #[track_caller]
    pub fn fail<T, E: AuthorError>(&self, token: &CompletionToken<T, E>, error: E) {
        self.settle_promise(token.parts(), Outcome::Failed(failure::recorded_alone(&error, Format::MessagePack)));
    }

    #[track_caller]
    fn settle_promise(&self, token: &Token, outcome: Outcome) {
        let mut world = self.stage.borrow_mut();
        let body = EventBody::PromiseSettled { step: token.step, outcome };
        let event = world.event(&token.workflow_id, Some(token.run_id), &body);
        world.publish(event, true);
        drop(world);
        drive::settle_a_little(&self.stage);
    }

    /// Sends a signal to all open runs that carry a tag, as `client.signal_tag(..)` does: each takes it once.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use everpulse_testing::Environment;
    /// # use serde::{Deserialize, Serialize};
    /// #[everpulse::signal(crate = everpulse)]
    /// #[derive(Serialize, Deserialize)]
    /// struct Moved {
    ///     to: String,
    /// }
    ///
    /// #[everpulse::workflow(version = 1, crate = everpulse)]
    /// async fn parcel() -> String {
    ///     everpulse::signal::<Moved>().recv().await.to
    /// }
    ///
    /// let env = Environment::new().workflow(parcel);
    /// let runs = [env.start(parcel()).tag("customer:42"), env.start(parcel()).tag("customer:42")];
    /// env.signal_tag("customer:42", Moved { to: "Oslo".to_owned() });
    /// assert!(runs.iter().all(|run| run.result().unwrap() == "Oslo"));
    /// ```
    ///
    /// # Panics
    /// When the signal cannot be encoded.
    #[track_caller]
    pub fn signal_tag<S: Signal>(&self, tag: impl Into<String>, signal: S) {
        let value = Payload::encode(&signal).unwrap_or_else(|error| panic!("signal `{}`: {error}", S::NAME));
        let body = EventBody::SignalTagged { tag: tag.into(), name: S::NAME.to_owned(), value, headers: None };
        // Whoever awaits its start has a run that is there.
        drive::run_until(&self.stage, None, World::has_begun);
        self.stage.borrow_mut().publish_to_all(&body);
        drive::settle_a_little(&self.stage);
    }

    /// Lets so much time pass, with all that happens meanwhile.
    #[track_caller]
    pub fn advance(&self, duration: Duration) {
        drive::advance(&self.stage, duration);
    }

    /// Does all that can be done now. Without faults that is so after every call; under faults things come late.
    #[track_caller]
    pub fn settle(&self) {
        drive::settle(&self.stage);
    }

    /// How much virtual time has passed since the beginning of the test.
    #[must_use]
    pub fn now(&self) -> Duration {
        let world = self.stage.borrow();
        world.now.since(world.begin)
    }

    /// Each time that the code of an activity or a step was run, in order: what the outside has seen.
    #[must_use]
    pub fn executions(&self) -> Vec<Execution> {
        self.stage.borrow().ledger.clone()
    }

    /// Why each dead letter is one: tasks whose attempts ran out, events that no run could take.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<String> {
        self.stage.borrow().dead.iter().map(|letter| letter.reason.clone()).collect()
    }

    /// Redrives all tasks in the dead letters, as an operator does; gives how many there were.
    #[track_caller]
    pub fn redrive(&self) -> usize {
        let redriven = self.stage.borrow_mut().redrive();
        drive::settle_a_little(&self.stage);
        redriven
    }
}
