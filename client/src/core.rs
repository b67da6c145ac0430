//! One client's connection to its application: it sends events to the shards of their workflow ids, and asks
//! questions until they are answered.
//!
//! ```text
//!  ask(event) ──► lane of the shard ──► inbox ──► owner
//!      │ ▲                                          │
//!      │ └───────────── replies.CLIENT ◄────────────┘
//!      └── nobody answers for 2 s ──► history
//! ```
//! What a question means, and what its answer is worth, is decided by the callers.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use everpulse_blobs::{Blobs, Stores};
use everpulse_protocol::blob;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, InboxFrame, ReplyTo};
use everpulse_protocol::payload::PayloadError;
use everpulse_protocol::reply::ReplyFrame;
use everpulse_protocol::values::Values;
use everpulse_protocol::{
    Coding, CodingError, EventId, Headers, Payload, RunId, Timestamp, WorkflowId, decode, encode, shard, topic,
};
use everpulse_transport::{
    self as transport, Consumer, Lane, Limits, Publisher, PublisherOptions, Subscription, SubscriptionKind, Transport,
};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::error::{Error, ErrorKind};
use crate::history::Histories;
use crate::intercept::{Interceptor, Interceptors};
use crate::requests::{Heard, Requests, Ticket};

/// A question that nobody answered for so long, or for as long as answers usually take if that is longer, is put to
/// history, if history can answer it: to read it is work for the broker, the more so when it is busy.
const SILENCE: Duration = Duration::from_secs(2);
/// How long history is left alone after it had no answer.
const READ_AGAIN: Duration = Duration::from_secs(3);
/// Frames of answers that may wait in this process; a non-persistent topic drops what finds no room.
const REPLY_QUEUE: u32 = 5_000;
/// About what an event's ids and times take in a frame.
const ENVELOPE_BYTES: usize = 256;

pub(crate) struct Core {
    connection: Arc<Connection>,
    /// How values are written.
    pub(crate) coding: Coding,
    /// Where those that are large lie.
    pub(crate) stores: Option<Stores>,
    pub(crate) interceptors: Interceptors,
}

impl Deref for Core {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Which run of a workflow id is meant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meant {
    /// This one, or the one that goes on for it; none: the newest.
    pub run_id: Option<RunId>,
    /// This one alone.
    pub exact: bool,
}

/// What a client asks, with its values as they leave: nothing else can be sent.
pub(crate) struct Sealed(EventBody);

/// What all clients of one connection share, however they write their values.
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    pub(crate) histories: Histories,
    pub(crate) requests: Arc<Requests>,
    pub(crate) limit: Duration,
    pub(crate) shards: u32,
    inbox: Vec<OnceLock<Publisher>>,
    lanes: Vec<OnceLock<Lane<Event>>>,
    listening: JoinHandle<()>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// When a caller has waited enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub after: Option<Duration>,
    at: Option<Instant>,
}

impl Deadline {
    pub(crate) fn never() -> Self {
        Self { after: None, at: None }
    }

    pub(crate) fn after(limit: Duration) -> Self {
        Self { after: Some(limit), at: Instant::now().checked_add(limit) }
    }
}

/// A question that can be asked again. What few need is made when it is needed: very many questions may wait at once.
pub(crate) struct Question<'a> {
    /// For errors: what is attempted, on which id.
    pub what: &'a (dyn Fn() -> String + Sync),
    /// What is sent, each time anew: where it must count once, always under one id.
    pub event: &'a (dyn Fn() -> Event + Sync),
    pub deadline: Deadline,
    /// How long to listen before it is asked at all; for those who were told that an answer will come by itself.
    pub listen_first: Duration,
}

impl Core {
    pub(crate) async fn open(
        transport: Transport,
        shards: u32,
        inbox_partitions: u32,
        limit: Duration,
        coding: Coding,
    ) -> Result<Arc<Self>, Error> {
        let name = Uuid::now_v7().simple().to_string();
        let requests = Requests::new(name.clone());
        let replies = transport.non_persistent(&topic::replies(&name));
        let subscription = Subscription::new(replies, "client", SubscriptionKind::Exclusive).queue(REPLY_QUEUE);
        let consumer = transport.subscribe(subscription).await?;
        let connection = Connection {
            histories: Histories::new(transport.clone(), shards, inbox_partitions),
            listening: tokio::spawn(listen(consumer, Arc::clone(&requests))),
            transport,
            requests,
            limit,
            shards,
            inbox: (0..inbox_partitions.max(1)).map(|_| OnceLock::new()).collect(),
            lanes: (0..shards.max(1)).map(|_| OnceLock::new()).collect(),
        };
        let interceptors = Interceptors::default();
        Ok(Arc::new(Self { connection: Arc::new(connection), coding, stores: None, interceptors }))
    }

    /// The same connection, on which values are written otherwise.
    pub(crate) fn with_coding(&self, coding: Coding) -> Arc<Self> {
        self.written(coding, self.stores.clone())
    }

    /// The same connection, on which large values lie elsewhere.
    pub(crate) fn with_blobs(&self, blobs: &Blobs) -> Arc<Self> {
        self.written(self.coding.clone(), Some(blobs.open(&self.transport)))
    }

    fn written(&self, coding: Coding, stores: Option<Stores>) -> Arc<Self> {
        let coding = match &stores {
            Some(stores) => coding.with_blobs(Arc::new(stores.clone())),
            None => coding,
        };
        let (connection, interceptors) = (Arc::clone(&self.connection), self.interceptors.clone());
        Arc::new(Self { connection, coding, stores, interceptors })
    }

    /// The same connection, with one more interceptor, inside of those that are there.
    pub(crate) fn with_interceptor(&self, interceptor: impl Interceptor) -> Arc<Self> {
        let Self { connection, coding, stores, interceptors } = self;
        let interceptors = interceptors.clone().with(interceptor);
        let (connection, coding, stores) = (Arc::clone(connection), coding.clone(), stores.clone());
        Arc::new(Self { connection, coding, stores, interceptors })
    }

    /// Headers as they are stored; what leaves is sealed later.
    pub(crate) fn headers(&self, headers: &Headers) -> Result<Option<Payload>, Error> {
        headers.check().map_err(|error| Error::new(ErrorKind::TooLarge, error.to_string()))?;
        headers.to_payload(self.coding.format()).map_err(|error| Error::payload("the headers", &error))
    }

    /// A value in the format of this client; nothing is compressed or sealed yet.
    pub(crate) fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Payload, PayloadError> {
        Payload::encode_as(self.coding.format(), value)
    }

    /// What leaves the client is sealed here, and nowhere else. Before it is sent it is to be [put out](Self::put_out).
    pub(crate) fn seal(&self, workflow_id: &WorkflowId, mut body: EventBody) -> Result<Sealed, Error> {
        self.coding.seal(workflow_id, &mut body).map_err(|error| Error::sealing(workflow_id, &error))?;
        Ok(Sealed(body))
    }

    /// What is large in it is in its store when this returns.
    pub(crate) async fn put_out<T: Values + Send>(&self, id: &WorkflowId, values: &mut T) -> Result<(), Error> {
        match self.stores.as_ref().filter(|stores| stores.has_large(values)) {
            // Boxed: most have nothing that is large, and very many may wait for their answers.
            Some(stores) => stores.put_out(values).boxed().await.map_err(|error| Error::sealing(id, &error)),
            None => Ok(()),
        }
    }

    /// Both.
    pub(crate) async fn sealed(&self, workflow_id: &WorkflowId, body: EventBody) -> Result<Sealed, Error> {
        let Sealed(mut body) = self.seal(workflow_id, body)?;
        self.put_out(workflow_id, &mut body).await?;
        Ok(Sealed(body))
    }

    /// An answer as its reader sees it.
    pub(crate) async fn opened<T: Values + Send>(&self, workflow_id: &WorkflowId, mut answer: T) -> Result<T, Error> {
        self.open_in_place(workflow_id, &mut answer).await?;
        Ok(answer)
    }

    /// The same, where it stands.
    pub(crate) async fn open_in_place<T: Values + Send>(
        &self,
        workflow_id: &WorkflowId,
        answer: &mut T,
    ) -> Result<(), Error> {
        let undecodable = |error: CodingError| Error::undecodable(workflow_id, &error);
        if let Some(stores) = self.stores.as_ref().filter(|_| blob::refers(answer)) {
            // Boxed: most have nothing that is large, and very many may wait for their answers.
            stores.fetch(answer).boxed().await.map_err(undecodable)?;
        }
        self.coding.open(workflow_id, answer).map_err(undecodable)
    }

    /// As much of an answer as its reader can see, without asking stores for what lies there.
    pub(crate) fn open_what_can_be<T: Values>(&self, workflow_id: &WorkflowId, answer: &mut T) {
        self.coding.open_what_can_be(workflow_id, answer);
    }

    /// What lies in stores and can be had.
    pub(crate) async fn fetch_what_can_be<T: Values + Send>(&self, answer: &mut T) {
        if let Some(stores) = &self.stores {
            stores.fetch_what_can_be(answer).boxed().await;
        }
    }

    /// An event of this client, with a new id.
    pub(crate) fn event(
        &self,
        workflow_id: &WorkflowId,
        of: Meant,
        reply_to: Option<ReplyTo>,
        Sealed(body): &Sealed,
    ) -> Event {
        Event {
            id: EventId(Uuid::now_v7()),
            workflow_id: workflow_id.clone(),
            run_id: of.run_id,
            exact: of.exact,
            sent_at: now(),
            reply_to,
            again: false,
            body: Body::of(body),
        }
    }

    /// Sends an event to its shard, or to the one that it names itself, until that is confirmed.
    pub(crate) fn send(&self, event: Event) -> impl Future<Output = Result<(), transport::Error>> + Send + use<> {
        let sending = self.lane(shard::of_event(&event, self.shards)).send(event);
        async move { sending.await.map(|_| ()) }
    }

    fn lane(&self, shard: u32) -> &Lane<Event> {
        self.lanes[shard as usize].get_or_init(|| {
            let partition = shard % u32::try_from(self.inbox.len()).unwrap_or(u32::MAX);
            let publisher = self.inbox[partition as usize].get_or_init(|| {
                let options = PublisherOptions::default().leaving_room();
                self.transport.publisher(&topic::partition(topic::INBOX, partition), options)
            });
            let weigh = |event: &Event| event.body.0.len() + ENVELOPE_BYTES;
            let encode = move |events: &[Event]| encode(&InboxFrame { shard, events: events.to_vec() });
            Lane::new(publisher.clone(), Some(topic::shard_key(shard)), Limits::default(), weigh, encode)
        })
    }

    /// Asks until `take` finds an answer in what was heard.
    ///
    /// With `read`, history is read when nobody answers; what it knows is an answer too.
    ///
    /// Cancel safe: what was sent stays sent.
    pub(crate) async fn ask<T>(
        &self,
        ticket: &Ticket,
        question: Question<'_>,
        mut take: impl FnMut(&Heard) -> Option<T>,
        read: Option<Read<T>>,
    ) -> Result<T, Error> {
        let Question { what, event, deadline, listen_first } = question;
        let mut ticket = ticket.clone();
        let mut stored = !listen_first.is_zero();
        let mut asked = 0;
        let mut asked_at = Instant::now();
        let mut ask_at = asked_at + listen_first;
        let mut read_at = None;
        // What is rare is boxed, and one timer serves for all.
        let mut sending: Option<BoxFuture<'static, Result<(), transport::Error>>> = None;
        let mut reading: Option<BoxFuture<'static, Result<Option<T>, Error>>> = None;
        loop {
            let next_ask = sending.is_none().then_some(ask_at);
            let next = [next_ask, read_at, deadline.at].into_iter().flatten().min();
            tokio::select! {
                biased;
                answer = ticket.hear(&mut take) => match answer {
                    Some(answer) => return Ok(answer),
                    // Somebody is there: better to ask than to read.
                    None => read_at = None,
                },
                sent = some(&mut sending) => {
                    sending = None;
                    sent.map_err(|error| Error::sending(&what(), &error))?;
                    stored = true;
                    asked += 1;
                    asked_at = Instant::now();
                    ask_at = asked_at + ticket.wait(asked);
                    if read.is_some() && reading.is_none() {
                        read_at.get_or_insert_with(|| asked_at + SILENCE.max(ticket.wait(asked)));
                    }
                }
                known = some(&mut reading) => {
                    reading = None;
                    match known {
                        Ok(Some(answer)) => return Ok(answer),
                        // A broker that is away is waited for, here as by the question.
                        Err(error) if error.kind() != ErrorKind::Unreachable => return Err(error),
                        Ok(None) | Err(_) => read_at = Some(Instant::now() + READ_AGAIN),
                    }
                }
                now = reached(next) => {
                    if deadline.at.is_some_and(|at| at <= now) {
                        let limit = deadline.after.unwrap_or_default();
                        let late = if stored { Error::timeout } else { Error::unreachable };
                        return Err(late(&what(), limit));
                    }
                    if read_at.is_some_and(|at| at <= now) {
                        read_at = None;
                        reading = read.as_ref().map(|read| read());
                    }
                    if sending.is_none() && ask_at <= now {
                        // Answers may have become slower meanwhile.
                        let patient = asked_at + ticket.wait(asked.max(1));
                        if asked > 0 && now < patient {
                            ask_at = patient;
                        } else {
                            ticket.asked();
                            // What is asked again may be known because whoever has it is slow.
                            sending = Some(self.send(Event { again: stored, ..event() }).boxed());
                        }
                    }
                }
            }
        }
    }
}

/// Waits for what is there; for ever if nothing is.
async fn some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Waits for a time, if there is one, and says what time it is then.
async fn reached(at: Option<Instant>) -> Instant {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
    Instant::now()
}

/// Looks an answer up in history.
pub(crate) type Read<T> = Box<dyn Fn() -> BoxFuture<'static, Result<Option<T>, Error>> + Send + Sync>;

async fn listen(mut consumer: Consumer, requests: Arc<Requests>) {
    loop {
        let delivery = consumer.recv().await;
        match decode::<ReplyFrame>(&delivery.payload) {
            Ok(frame) => frame.replies.into_iter().for_each(|reply| requests.hear(reply)),
            // Asked again, it may come from a worker that this release understands.
            Err(error) => tracing::warn!(%error, "a frame of answers cannot be read; the questions are asked again"),
        }
    }
}

/// The time now. A clock before 1970 counts as 1970.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(0).after(since.unwrap_or_default())
}
