//! A run of a test: what is told to it, what it came to, and what it waits for.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Outcome, Start};
use everpulse_protocol::golden::Golden;
use everpulse_protocol::history::{ParkedKind, Record};
use everpulse_protocol::payload::Format;
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::view::RunStatus;
use everpulse_protocol::{EventId, Headers, Payload, RequestId, RunId, Timestamp, WorkflowId};
use everpulse_sdk::definition::Definition;
use everpulse_sdk::replay::Wait as Waited;
use everpulse_sdk::{Failure, Query, Signal, Update, workflow};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::drive::{self, Ended, Stage};
use crate::history::{Command, History};
use crate::update::Requested;
use crate::wait::{Unfinished, Wait, waited};
use crate::world::World;

/// How a run is found.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    /// By the event of its start.
    Started { event: EventId, id: WorkflowId },
    /// The newest of its workflow id.
    Newest { id: WorkflowId },
}

/// A run of a test.
#[derive(Clone)]
pub struct Run<D> {
    stage: Stage,
    address: Address,
    begun: Timestamp,
    definition: PhantomData<fn() -> D>,
}

impl<D> fmt::Debug for Run<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<D: Definition> Run<D> {
    pub(crate) fn new(stage: Stage, address: Address, begun: Timestamp) -> Self {
        Self { stage, address, begun, definition: PhantomData }
    }

    /// Its workflow id; without it `NAME-1`, `NAME-2` and so on.
    ///
    /// # Panics
    /// When the text cannot be an id, and when the run has begun.
    #[must_use]
    #[track_caller]
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        let new = WorkflowId::new(id.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        self.change("id", |event, _| event.workflow_id = new.clone());
        if let Address::Started { id, .. } = &mut self.address {
            *id = new;
        }
        self
    }

    /// A tag of it.
    ///
    /// # Panics
    /// When the run has begun.
    #[must_use]
    #[track_caller]
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.change("tag", |_, start| start.tags.push(tag.into()));
        self
    }

    /// A header of it, as an interceptor of a client puts them on starts.
    ///
    /// # Panics
    /// When the run has begun.
    #[must_use]
    #[track_caller]
    pub fn header(self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.change("header", |_, start| {
            let mut headers = Headers::of_payload(start.headers.as_ref()).expect("they were written here");
            headers.insert(name, text);
            start.headers = headers.to_payload(Format::MessagePack).expect("texts can be written");
        });
        self
    }

    /// Another version than the newest.
    ///
    /// # Panics
    /// When the run has begun.
    #[must_use]
    #[track_caller]
    pub fn version(self, version: u32) -> Self {
        self.change("version", |_, start| start.version = Some(version));
        self
    }

    /// It fails with a time-out so long after its start.
    ///
    /// # Panics
    /// When the run has begun.
    #[must_use]
    #[track_caller]
    pub fn timeout(self, limit: Duration) -> Self {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.change("timeout", |_, start| start.timeout_ms = Some(ms));
        self
    }

    /// What the start does when its id is known already.
    ///
    /// # Panics
    /// When the run has begun.
    #[must_use]
    #[track_caller]
    pub fn policy(self, policy: IdPolicy) -> Self {
        self.change("policy", |_, start| start.policy = policy);
        self
    }

    #[track_caller]
    fn change(&self, what: &str, change: impl FnOnce(&mut Event, &mut Start)) {
        self.change_body(what, |event, body| change(event, body.as_start_mut().expect("it is a start")));
    }

    #[track_caller]
    fn change_body(&self, what: &str, change: impl FnOnce(&mut Event, &mut EventBody)) {
        let mut world = self.stage.borrow_mut();
        let event = match &self.address {
            Address::Started { event, .. } => world.planned.iter_mut().find(|planned| planned.id == *event),
            Address::Newest { .. } => None,
        };
        let Some(event) = event else { panic!("say the {what} of a run before anything else is done in its test") };
        let mut body = event.body().expect("it was written here");
        change(event, &mut body);
        event.body = Body::of(&body);
    }

    /// It is started with a signal, as by `client.start(..).signal(..)`: the run that begins gets it before anything else, or
    /// the one of its id that is open already.
    ///
    /// # Panics
    /// When the run has begun, and when the signal cannot be encoded.
    #[must_use]
    #[track_caller]
    pub fn started_with<S: Signal>(self, signal: S) -> Self {
        let EventBody::Signal { name, value, .. } = signalled(S::NAME, &signal) else { return self };
        self.change_body("signal", |_, body| {
            let mut start = body.as_start().expect("it is a start").clone();
            start.policy = IdPolicy::RestartWhenClosed;
            *body = EventBody::SignalWithStart { start, name, value };
        });
        self
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When the signal cannot be encoded.
    #[track_caller]
    pub fn signal<S: Signal>(&self, signal: S) {
        self.tell(&signalled(S::NAME, &signal));
    }

    /// Sends it a signal by its name.
    ///
    /// # Panics
    /// When the value cannot be encoded.
    #[track_caller]
    pub fn signal_named<V: Serialize + ?Sized>(&self, name: &str, value: &V) {
        self.tell(&signalled(name, value));
    }

    /// Requests an update of it, under an id of its own. What became of it is said by what this gives.
    ///
    /// # Panics
    /// When the update cannot be encoded.
    #[track_caller]
    pub fn update<U: Update>(&self, update: U) -> Requested<U> {
        self.request(None, update)
    }

    /// The same under this id: once more under the same one is the same request.
    ///
    /// # Panics
    /// When the update cannot be encoded.
    #[track_caller]
    pub fn update_as<U: Update>(&self, id: impl Into<String>, update: U) -> Requested<U> {
        self.request(Some(id.into()), update)
    }

    #[track_caller]
    fn request<U: Update>(&self, id: Option<String>, update: U) -> Requested<U> {
        let args = Payload::encode(&update).unwrap_or_else(|error| panic!("update `{}`: {error}", U::NAME));
        let mut world = self.stage.borrow_mut();
        world.begin_planned();
        let mut event = world.event(self.workflow_id(), None, &EventBody::Resume);
        let id = id.unwrap_or_else(|| event.id.to_string());
        event.body = Body::of(&EventBody::Update {
            id: id.clone(),
            name: U::NAME.to_owned(),
            args,
            patient: true,
            headers: None,
        });
        world.publish(event.clone(), true);
        drop(world);
        drive::settle_a_little(&self.stage);
        Requested::new(std::rc::Rc::clone(&self.stage), event, id)
    }

    /// Asks it to cancel.
    #[track_caller]
    pub fn cancel(&self) {
        self.tell(&EventBody::Cancel { reason: "the test cancels it".to_owned() });
    }

    /// Ends it at once; its code is not asked.
    #[track_caller]
    pub fn terminate(&self) {
        self.tell(&EventBody::Terminate { reason: "the test ends it".to_owned() });
    }

    /// Tells it something when so much time has passed since its start: `run.at(hours(2)).signal(..)`. Nothing happens
    /// before time passes: in [`result`](Self::result), or in `env.advance(..)`.
    pub fn at(&self, after: Duration) -> At<'_, D> {
        At { run: self, at: self.begun.after(after) }
    }

    #[track_caller]
    fn tell(&self, body: &EventBody) {
        let mut world = self.stage.borrow_mut();
        // Its start comes before.
        world.begin_planned();
        let event = world.event(self.workflow_id(), None, body);
        world.publish(event, true);
        drop(world);
        drive::settle_a_little(&self.stage);
    }

    fn workflow_id(&self) -> &WorkflowId {
        match &self.address {
            Address::Started { id, .. } | Address::Newest { id } => id,
        }
    }

    /// Goes on until it has ended, however long that takes in virtual time. Gives its result.
    ///
    /// # Errors
    /// The run's own failure.
    ///
    /// # Panics
    /// When it does not end by itself: the message says what it waits for, and shows its history.
    #[track_caller]
    pub fn result(&self) -> Result<D::Output, Failure<D::Error>> {
        match self.try_result() {
            Ok(result) => result,
            Err(unfinished) => panic!("{unfinished}"),
        }
    }

    /// The same, for tests of runs that do not end.
    ///
    /// # Errors
    /// When it does not end by itself: what it waits for.
    #[track_caller]
    pub fn try_result(&self) -> Result<Result<D::Output, Failure<D::Error>>, Unfinished> {
        let ended = drive::run_until(&self.stage, None, |world| {
            self.outcome(world).is_some() || self.stands_still(world) || self.refused(world).is_some()
        });
        let world = self.stage.borrow();
        match self.outcome(&world) {
            Some(Outcome::Done(value)) => Ok(value.decode().map_err(Failure::from)),
            Some(Outcome::Failed(failure)) => Ok(Err(Failure::from_recorded(failure))),
            None => Err(self.unfinished(&world, ended)),
        }
    }

    fn outcome(&self, world: &World) -> Option<Outcome> {
        let close = world.runs.get(&self.run_id(world)?)?.close()?;
        Some(close.outcome.clone())
    }

    /// Whether it is parked, and nobody will help it.
    fn stands_still(&self, world: &World) -> bool {
        let parked = self.run_id(world).and_then(|run| world.runs.get(&run)?.parked());
        parked.is_some_and(|parked| parked.kind != ParkedKind::Poisonous)
    }

    /// Why there is no such run.
    fn refused(&self, world: &World) -> Option<String> {
        let Address::Started { event, .. } = &self.address else { return None };
        let replies = world.replies.get(&RequestId(event.0))?;
        replies.iter().find_map(|reply| match reply {
            ReplyBody::Taken { run_id, open } => {
                let state = if *open { "open" } else { "closed" };
                Some(format!("its id is taken by run {run_id}, which is {state}"))
            }
            ReplyBody::Invalid { message } | ReplyBody::Expired { message } => Some(message.clone()),
            _ => None,
        })
    }

    /// The run that is meant: the last one of those that go on for the run that was started, or for the newest of the id.
    fn run_id(&self, world: &World) -> Option<RunId> {
        let mut last = self.started(world)?;
        while let Some(next) = next_of(world, last) {
            last = next;
        }
        Some(last)
    }

    /// The run that answered to the start, or the newest of the id.
    fn started(&self, world: &World) -> Option<RunId> {
        let id = self.workflow_id();
        match &self.address {
            Address::Started { event, .. } => {
                let own = RunId(event.0);
                let attached = world.replies.get(&RequestId(event.0)).and_then(|replies| {
                    replies.iter().find_map(|reply| match reply {
                        ReplyBody::Started { run_id, .. } => Some(*run_id),
                        _ => None,
                    })
                });
                if world.runs.contains_key(&own) { Some(own) } else { attached }
            }
            Address::Newest { .. } => {
                let of_id = world.runs.iter().filter(|(_, told)| told.workflow_id == *id);
                of_id.max_by_key(|(_, told)| told.records.first().map(|record| record.at)).map(|(run, _)| *run)
            }
        }
    }

    fn unfinished(&self, world: &World, ended: Ended) -> Unfinished {
        let (id, now) = (self.workflow_id(), world.now.since(world.begin));
        if let Some(refused) = self.refused(world) {
            return Unfinished { message: format!("{id} was not started: {refused}"), parked: false };
        }
        let Some(told) = self.run_id(world).and_then(|run| world.runs.get(&run)) else {
            let message = format!("no run of {id} has begun; was it started?");
            return Unfinished { message, parked: false };
        };
        let history = History::of(told, world.begin);
        if let Some(parked) = told.parked() {
            let message = format!("{id} is parked at +{now:?}: {}\n\n{history}", parked.message);
            return Unfinished { message, parked: true };
        }
        debug_assert_eq!(ended, Ended::Standstill);
        let waits = self.details(world);
        let message = format!(
            "{id} is still open at +{now:?}, and nothing more happens by itself: it waits for {waits}. Send what it waits for \
             before asking for the result, or at its time with `run.at(..)`\n\n{history}"
        );
        Unfinished { message, parked: false }
    }

    /// What it waits for, with all that is known of it.
    fn details(&self, world: &World) -> String {
        let Some(told) = self.run_id(world).and_then(|run| world.runs.get(&run)) else { return String::new() };
        let view = told.view();
        let pending = |no: u32| view.iter().flat_map(|view| &view.pending).find(|pending| pending.no == no);
        let mut details = Vec::new();
        for wait in told.waits() {
            let text = waited(told.marks().map(|(_, mark)| mark), &wait).to_string();
            let more = match &wait {
                Waited::Command(no) => match pending(*no) {
                    Some(step) if step.parked => {
                        let error = step.last_error.clone().unwrap_or_default();
                        format!(" (all attempts failed, the last with: {error}; `env.redrive()` tries it again)")
                    }
                    _ => String::new(),
                },
                _ => String::new(),
            };
            details.push(format!("{text}{more}"));
        }
        if details.is_empty() { "nothing that a test can see".to_owned() } else { details.join(", ") }
    }

    /// What it waits for now, in the order of the commands; signals at the end.
    #[must_use]
    #[track_caller]
    pub fn waits(&self) -> Vec<Wait> {
        drive::settle(&self.stage);
        let world = self.stage.borrow();
        let Some(told) = self.run_id(&world).and_then(|run| world.runs.get(&run)) else { return Vec::new() };
        told.waits().iter().map(|wait| waited(told.marks().map(|(_, mark)| mark), wait)).collect()
    }

    /// Whether it waits for this now.
    #[must_use]
    #[track_caller]
    pub fn is_waiting_for(&self, wait: Wait) -> bool {
        self.waits().contains(&wait)
    }

    /// Where it stands: open, parked, completed and so on.
    ///
    /// # Panics
    /// When it has not begun.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> RunStatus {
        drive::settle(&self.stage);
        let world = self.stage.borrow();
        let view = self.run_id(&world).and_then(|run| world.runs.get(&run)?.view());
        view.map_or_else(|| panic!("no run of {} has begun", self.workflow_id()), |view| view.status)
    }

    /// What it published last as a `T`; none if it published nothing of that type.
    ///
    /// # Panics
    /// When what it published under the type's name is no `T`.
    #[must_use]
    #[track_caller]
    pub fn published<T: DeserializeOwned>(&self) -> Option<T> {
        drive::settle(&self.stage);
        let world = self.stage.borrow();
        let name = workflow::state_name::<T>();
        let payload = world.runs.get(&self.run_id(&world)?)?.published(name)?.clone();
        Some(
            payload.decode().unwrap_or_else(|error| panic!("what {} published as {name}: {error}", self.workflow_id())),
        )
    }

    /// What the run's own handler answers to a query, as it stands now.
    ///
    /// # Panics
    /// When it has no handler for it, or has not begun, and when the handler panics or does more than look.
    #[must_use]
    #[track_caller]
    pub fn query<Q: Query>(&self, query: Q) -> Q::Reply {
        drive::settle(&self.stage);
        let mut world = self.stage.borrow_mut();
        let asked = format!("query `{}` of {}", Q::NAME, self.workflow_id());
        let args = Payload::encode(&query).unwrap_or_else(|error| panic!("{asked}: {error}"));
        let told = self.run_id(&world).and_then(|run| world.runs.get_mut(&run));
        let Some(told) = told else { panic!("{asked}: there is no such run") };
        match told.query(Q::NAME, &args) {
            Ok(reply) => reply.decode().unwrap_or_else(|error| panic!("{asked}: {error}")),
            Err(unanswered) => panic!("{asked}: {}", unanswered.failure),
        }
    }

    /// All that it asked for so far, in order.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use everpulse_testing::Environment;
    /// # #[everpulse::activity(crate = everpulse)]
    /// # async fn charge(card: String, cents: u64) -> Result<u64, everpulse::Error> { Ok(cents) }
    /// # #[everpulse::workflow(version = 1, crate = everpulse)]
    /// # async fn pay(cents: u64) -> Result<u64, everpulse::Error> { Ok(charge("4711".into(), cents).await?) }
    /// let env = Environment::new().workflow(pay).activity(charge);
    /// let run = env.start(pay(42));
    /// run.result().unwrap();
    /// let commands = run.commands();
    /// assert_eq!(commands[0].to_string(), r#"activity 0 `charge` {"card":"4711","cents":42}"#);
    /// assert_eq!(commands[0].argument::<u64>("cents"), Some(42));
    /// ```
    #[must_use]
    #[track_caller]
    pub fn commands(&self) -> Vec<Command> {
        self.history().commands().cloned().collect()
    }

    /// What happened to it so far, and what it asked for: readable with `{}`, with times relative to the test's beginning.
    ///
    /// # Panics
    /// When it has not begun.
    #[must_use]
    #[track_caller]
    pub fn history(&self) -> History {
        drive::settle(&self.stage);
        let world = self.stage.borrow();
        let told = self.run_id(&world).and_then(|run| world.runs.get(&run));
        told.map_or_else(|| panic!("no run of {} has begun", self.workflow_id()), |told| History::of(told, world.begin))
    }

    /// The histories of the run that was started and of those that [continued it as new](everpulse_sdk::continue_as_new), one after
    /// the other. All else that is asked here is of the last one.
    ///
    /// ```
    /// # use everpulse_sdk as everpulse;
    /// # use everpulse_testing::Environment;
    /// #[everpulse::workflow(version = 1, crate = everpulse)]
    /// async fn counts(n: u32) -> u32 {
    ///     if n == 3 { n } else { everpulse::continue_as_new(counts(n + 1)).await }
    /// }
    /// let env = Environment::new().workflow(counts);
    /// let run = env.start(counts(0));
    /// assert_eq!(run.result().unwrap(), 3);
    /// assert_eq!(run.series().len(), 4);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn series(&self) -> Vec<History> {
        drive::settle(&self.stage);
        let world = self.stage.borrow();
        let runs = std::iter::successors(self.started(&world), |run| next_of(&world, *run));
        runs.filter_map(|run| Some(History::of(world.runs.get(&run)?, world.begin))).collect()
    }

    /// Its history as JSON, to be kept in the repository and replayed through later code: see [`replay`](crate::replay()).
    ///
    /// # Panics
    /// When it has not begun.
    #[must_use]
    #[track_caller]
    pub fn export(&self) -> String {
        drive::settle(&self.stage);
        let world = self.stage.borrow();
        let told = self.run_id(&world).and_then(|run| world.runs.get(&run));
        self.exported(told.map(|told| told.records.clone()).unwrap_or_default())
    }

    /// The same of each run of a series, in their order: a history that ends as another run went on shows later code how that is done.
    ///
    /// # Panics
    /// When it has not begun.
    #[must_use]
    #[track_caller]
    pub fn export_series(&self) -> Vec<String> {
        drive::settle(&self.stage);
        let world = self.stage.borrow();
        let runs = std::iter::successors(self.started(&world), |run| next_of(&world, *run));
        let exported: Vec<String> =
            runs.filter_map(|run| Some(self.exported(world.runs.get(&run)?.records.clone()))).collect();
        assert!(!exported.is_empty(), "{} has not begun", self.workflow_id());
        exported
    }

    #[track_caller]
    fn exported(&self, records: Vec<Record>) -> String {
        let json = Golden::of(records).and_then(|golden| golden.to_json());
        json.unwrap_or_else(|error| panic!("{} cannot be exported: {error}", self.workflow_id()))
    }
}

/// The run that goes on for one.
fn next_of(world: &World, run: RunId) -> Option<RunId> {
    world.runs.get(&run)?.records.last()?.continued_as().filter(|next| world.runs.contains_key(next))
}

fn signalled<V: Serialize + ?Sized>(name: &str, value: &V) -> EventBody {
    let value = Payload::encode(value).unwrap_or_else(|error| panic!("signal `{name}`: {error}"));
    EventBody::Signal { headers: None, name: name.to_owned(), value }
}

/// A moment at which a run is told something.
#[must_use = "say what happens then: `.signal(..)`, `.cancel()` or `.terminate()`"]
pub struct At<'a, D> {
    run: &'a Run<D>,
    at: Timestamp,
}

impl<D> fmt::Debug for At<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("At").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<D: Definition> At<'_, D> {
    /// Sends it a signal then.
    ///
    /// # Panics
    /// When the signal cannot be encoded.
    #[track_caller]
    pub fn signal<S: Signal>(self, signal: S) {
        self.tell(&signalled(S::NAME, &signal));
    }

    /// Asks it to cancel then.
    pub fn cancel(self) {
        self.tell(&EventBody::Cancel { reason: "the test cancels it".to_owned() });
    }

    /// Ends it then.
    pub fn terminate(self) {
        self.tell(&EventBody::Terminate { reason: "the test ends it".to_owned() });
    }

    fn tell(self, body: &EventBody) {
        let mut world = self.run.stage.borrow_mut();
        let event = world.event(self.run.workflow_id(), None, body);
        world.acts.push((self.at, event));
    }
}
