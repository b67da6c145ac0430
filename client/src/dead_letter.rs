//! Dead letters as an operator tends them: list, show, redrive, drop.
//!
//! A letter is there until it is acknowledged in the subscription `operators`. To see them all one takes that
//! subscription for oneself for a moment, publishes a marker behind them, and receives up to the marker:
//!
//! ```text
//! activity.QUEUE.dead:  letter  (acked)  letter  letter  marker
//! receive, no ack          ▲                ▲       ▲      └─ all seen; acked
//! leave ──────────────────► all that was not acked is there for the next one
//! ```
//! How letters are written is the worker's matter.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use everpulse_protocol::dead_letter::{DeadLetter, Letter, MARKER_KEY};
use everpulse_protocol::event::{Event, InboxFrame};
use everpulse_protocol::history::CommandKind;
use everpulse_protocol::task::{Task, TaskFrame};
use everpulse_protocol::{Position, Timestamp, decode, encode, topic};
use everpulse_transport::{self as transport, AckToken, Consumer, Delivery, Message, Subscription, SubscriptionKind};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::core::{self, Core};
use crate::error::{Error, ErrorKind};
use crate::intercept::{Call, CallKind};
use crate::run::Run;
use crate::untyped::Untyped;

/// Names a letter of one queue: its place in the topic, as `LEDGER:ENTRY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LetterId(Position);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for LetterId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let position = text
            .split_once(':')
            .and_then(|(ledger, entry)| Some(Position { ledger: ledger.parse().ok()?, entry: entry.parse().ok()? }));
        position.map(Self).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, format!("{text:?} names no dead letter; copy it from a list, as `12:3`"))
        })
    }
}

/// A letter in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    pub id: LetterId,
    pub letter: DeadLetter,
}

/// The dead letters of one queue, or of the inbox.
///
/// One operator at a time can look; another one waits for some seconds.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    core: Arc<Core>,
    queue: Option<String>,
}

impl DeadLetters {
    pub(crate) fn new(core: Arc<Core>, queue: Option<String>) -> Self {
        Self { core, queue }
    }

    async fn intercepted<T: Send>(
        &self,
        kind: CallKind,
        // Boxed: it would be in each of the futures around it.
        inner: BoxFuture<'_, Result<T, Error>>,
    ) -> Result<T, Error> {
        let call = Call::new(kind).named(self.queue.clone());
        self.core.interceptors.around(call, |_| inner).await
    }

    /// All letters, the oldest first. Values that lie in a store are named only: [`show`](Self::show) fetches those of one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when nobody ever served the queue, [`ErrorKind::Unreachable`].
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.intercepted(CallKind::DeadLetters, self.listed().boxed()).await
    }

    async fn listed(&self) -> Result<Vec<Listed>, Error> {
        let visit = self.visit().boxed().await?;
        let mut letters = Vec::with_capacity(visit.letters.len());
        for (id, (_, letter)) in &visit.letters {
            letters.push(Listed { id: *id, letter: self.shown(letter.clone()) });
        }
        visit.leave().await;
        Ok(letters)
    }

    /// One letter, with payload and failure chain.
    ///
    /// # Errors
    /// As [`list`](Self::list); [`ErrorKind::NotFound`] when it is not there any more.
    ///
    /// # Cancel safety
    /// Safe: nothing is changed.
    pub async fn show(&self, id: LetterId) -> Result<DeadLetter, Error> {
        self.intercepted(CallKind::DeadLetters, self.one(id).boxed()).await
    }

    async fn one(&self, id: LetterId) -> Result<DeadLetter, Error> {
        let visit = self.visit().boxed().await?;
        let found = self.find(&visit, id);
        visit.leave().await;
        let mut letter = found?.1.clone();
        self.core.fetch_what_can_be(&mut letter).await;
        Ok(self.shown(letter))
    }

    /// A letter for people, with all that this client can open. What goes back into a queue is the letter as it lies.
    fn shown(&self, letter: DeadLetter) -> DeadLetter {
        let mut shown = letter;
        let workflow_id = match &shown.letter {
            Letter::Task(task) => task.workflow_id.clone(),
            Letter::Event(event) => event.workflow_id.clone(),
            Letter::Unreadable { .. } => return shown,
        };
        self.core.open_what_can_be(&workflow_id, &mut shown);
        shown
    }

    /// Puts a letter back where it came from: a task into its queue, with its attempts counted anew and the same
    /// idempotency key; an event into the inbox, as if it was issued now. An event that was refused for its age may have
    /// taken effect before: look at the run first.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyFailed`] when the step has ended: the workflow has been told that it failed, and went on.
    /// [`ErrorKind::Invalid`] when the letter cannot be read by this release either. And as [`show`](Self::show).
    ///
    /// # Cancel safety
    /// When it is dropped the letter may be back in its queue and still in the list; another redrive is harmless then.
    pub async fn redrive(&self, id: LetterId) -> Result<(), Error> {
        self.intercepted(CallKind::Redrive, self.redriven(id).boxed()).await
    }

    async fn redriven(&self, id: LetterId) -> Result<(), Error> {
        let visit = self.visit().boxed().await?;
        let redriven = match self.find(&visit, id) {
            Ok((token, letter)) => match self.put_back(letter.letter).boxed().await {
                // Ack last: until it is confirmed in its queue, the letter is all there is of it.
                Ok(()) => {
                    visit.ack(token);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        visit.leave().await;
        redriven
    }

    /// Gives a letter up for good. A parked step stays open; cancel or terminate its run.
    ///
    /// # Errors
    /// As [`show`](Self::show).
    ///
    /// # Cancel safety
    /// When it is dropped the letter may or may not be there.
    pub async fn drop(&self, id: LetterId) -> Result<(), Error> {
        self.intercepted(CallKind::DropLetter, self.dropped(id).boxed()).await
    }

    async fn dropped(&self, id: LetterId) -> Result<(), Error> {
        let visit = self.visit().boxed().await?;
        let found = self.find(&visit, id).map(|(token, _)| visit.ack(token));
        visit.leave().await;
        found
    }

    async fn put_back(&self, letter: Letter) -> Result<(), Error> {
        match letter {
            Letter::Task(task) => self.redrive_task(&task).await,
            Letter::Event(event) => {
                let what = format!("the event {} of {}", event.id, event.workflow_id);
                self.confirmed(&what, self.core.send(redriven(*event))).await
            }
            Letter::Unreadable { topic, bytes } => {
                // Perhaps this release can.
                if let Ok(frame) = decode::<TaskFrame>(&bytes) {
                    return self.publish(&frame.tasks[..], bytes).await;
                }
                let frame = decode::<InboxFrame>(&bytes).map_err(|error| {
                    let message = format!("a message of {topic} cannot be read by this release either: {error}");
                    Error::new(ErrorKind::Invalid, message)
                })?;
                for event in frame.events {
                    self.confirmed("an event", self.core.send(redriven(event))).await?;
                }
                Ok(())
            }
        }
    }

    async fn redrive_task(&self, task: &Task) -> Result<(), Error> {
        let run = Run::<Untyped>::pinned(Arc::clone(&self.core), task.workflow_id.clone(), task.run_id);
        let view = run.describe().await?;
        let waits = view.pending.iter().any(|step| step.no == task.step && step.kind == CommandKind::Activity);
        if !waits {
            let message = format!(
                "cannot redrive `{}` of {}: the step has ended, the workflow was told and went on; start a new run \
                 instead, or drop the letter",
                task.activity, task.workflow_id
            );
            return Err(Error::new(ErrorKind::AlreadyFailed, message));
        }
        let redriven = task.redriven(core::now());
        let payload = encode(&TaskFrame { tasks: vec![redriven.clone()] });
        self.publish(&[redriven], payload).await
    }

    async fn publish(&self, tasks: &[Task], payload: bytes::Bytes) -> Result<(), Error> {
        let Some(task) = tasks.first() else { return Ok(()) };
        let lane = task.lane();
        // Its name was confirmed before the task first went there.
        self.core.transport.set_up_lane(&lane).await?;
        let publisher = self.core.transport.publisher(&topic::activity(&lane.to_string()), Default::default());
        let sending = publisher.publish_until_confirmed(Message::new(None, payload));
        self.confirmed(&format!("a task of `{}`", task.activity), async { sending.await.map(drop) }).await
    }

    async fn confirmed(
        &self,
        what: &str,
        sending: impl Future<Output = Result<(), transport::Error>>,
    ) -> Result<(), Error> {
        match tokio::time::timeout(self.core.limit, sending).await {
            Ok(sent) => sent.map_err(|error| Error::sending(what, &error)),
            Err(_) => Err(Error::unreachable(&format!("sending {what}"), self.core.limit)),
        }
    }

    fn find(&self, visit: &Visit, id: LetterId) -> Result<(AckToken, DeadLetter), Error> {
        visit.letters.get(&id).cloned().ok_or_else(|| {
            let message = format!("{} has no dead letter {id}: it was redriven or dropped", self.name());
            Error::new(ErrorKind::NotFound, message)
        })
    }

    fn name(&self) -> String {
        self.queue.as_ref().map_or_else(|| "the inbox".to_owned(), |queue| format!("the queue `{queue}`"))
    }

    fn topic(&self) -> String {
        self.queue.as_ref().map_or_else(|| topic::INBOX_DEAD.to_owned(), |queue| topic::activity_dead(queue))
    }

    async fn visit(&self) -> Result<Visit, Error> {
        let transport = &self.core.transport;
        let topic = self.topic();
        // Asked first, since to subscribe would make the topic.
        match transport.stats(&topic).await {
            Err(error) if error.kind() == transport::ErrorKind::NotFound => {
                let message = format!("there is no {}: no worker has served it here", self.name());
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            asked => drop(asked?),
        }
        let subscription = Subscription::new(&topic, topic::OPERATORS, SubscriptionKind::Exclusive).queue(1_000);
        let mut consumer = transport.subscribe(subscription).await?;
        let marker = uuid::Uuid::now_v7().to_string();
        let message = Message::new(Some(MARKER_KEY.to_owned()), marker.clone());
        let marking = transport.publisher(&topic, Default::default()).publish_until_confirmed(message);
        let limit = self.core.limit;
        let looking = async {
            let mut letters = BTreeMap::new();
            marking.await?;
            loop {
                let delivery = consumer.recv().await;
                if delivery.key.as_deref() != Some(MARKER_KEY) {
                    letters.insert(LetterId(delivery.position), (delivery.token, letter(&delivery)));
                    continue;
                }
                consumer.acker().ack(delivery.token);
                if delivery.payload == marker.as_bytes() {
                    return Ok::<_, Error>(letters);
                }
            }
        };
        match tokio::time::timeout(limit, looking).await {
            Ok(letters) => Ok(Visit { letters: letters?, consumer }),
            Err(_) => {
                let message = format!("looking through {topic} took longer than {limit:?}");
                Err(Error::new(ErrorKind::Unreachable, message))
            }
        }
    }
}

/// The letters as they are, while nobody else can change them.
struct Visit {
    consumer: Consumer,
    letters: BTreeMap<LetterId, (AckToken, DeadLetter)>,
}

impl Visit {
    fn ack(&self, token: AckToken) {
        self.consumer.acker().ack(token);
    }

    /// Leaves after the acks that were given.
    async fn leave(self) {
        // The close has a time-out of its own; this is for a runtime that is being shut down.
        let _ = tokio::time::timeout(Duration::from_secs(10), self.consumer.close()).await;
    }
}

/// The event as it is issued again, under the same id: what was refused for its age is not refused again.
fn redriven(event: Event) -> Event {
    Event { sent_at: core::now(), ..event }
}

/// What stands in a message of a dead-letter topic, whatever it is.
fn letter(delivery: &Delivery) -> DeadLetter {
    decode(&delivery.payload).unwrap_or_else(|error| DeadLetter {
        at: Timestamp(delivery.publish_time_ms),
        reason: format!("this letter cannot be read: {error}"),
        letter: Letter::Unreadable { topic: delivery.topic.to_string(), bytes: delivery.payload.clone() },
    })
}

#[cfg(test)]
mod tests {
    use everpulse_protocol::codec::Body;
    use everpulse_protocol::event::EventBody;
    use everpulse_protocol::{EventId, WorkflowId};

    use super::*;

    #[test]
    fn a_redriven_event_is_as_young_as_a_new_one() {
        let old = Event {
            id: EventId(uuid::Uuid::from_u128(7)),
            workflow_id: WorkflowId::new("a").expect("a good id"),
            run_id: None,
            exact: false,
            sent_at: Timestamp(1),
            reply_to: None,
            again: false,
            body: Body::of(&EventBody::Resume),
        };
        let before = core::now();
        let again = redriven(old.clone());
        assert!(again.sent_at >= before, "it would be refused as expired once more");
        assert_eq!(Event { sent_at: old.sent_at, ..again }, old, "and it is the same event");
    }

    #[test]
    fn a_letters_id_is_read_as_it_is_written() {
        let id: LetterId = "12:3".parse().expect("an id");
        assert_eq!(id.to_string(), "12:3");
        let error = "12".parse::<LetterId>().expect_err("no entry");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("copy it from a list"), "{error}");
    }
}
