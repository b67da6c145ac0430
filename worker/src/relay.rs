//! Sends delayed messages on when they are due: wake-ups to their shards, next attempts to their queues.
//!
//! ```text
//! timers ── due, or early by a tick ──► held until due ──► send, confirmed ──► ack
//!    ▲                                      │
//!    └── due much later: once more ◄────────┘
//! ```
//! The delay is the broker's, rounded to its tick, and an hour at most; the last fraction is waited for here. Timers of workflows are not
//! here: the owner of a shard fires them itself; a wake-up only makes sure that there is one.

use std::sync::Arc;
use std::time::Duration;

use everpulse_engine::delayed::{HOLD_MAX, Onward, onward};
use everpulse_protocol::codec::later_version;
use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{decode, topic};
use everpulse_transport::{Acker, Consumer, Delivery, Error, Subscription, SubscriptionKind, Transport};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::outbox::Outbox;
use crate::seldom::Seldom;
use crate::{clock, dead_letter};

/// Messages that wait in this process for their turn.
const PREFETCH: u32 = 256;
/// So many are held or being sent on at a time.
const HELD_MAX: usize = 4_096;
/// A message that only a later release can read is held for so long before it goes back.
const LATER: Duration = Duration::from_secs(10);
/// How long a relay that stops waits for the confirmation of what it is sending on.
const SENDING: Duration = Duration::from_secs(5);

/// A relay of this process. Any worker can have one; they share the messages.
#[derive(Debug)]
pub struct Relay {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Subscribes and begins.
    ///
    /// # Errors
    /// When it cannot subscribe.
    pub async fn start(transport: &Transport, outbox: Outbox) -> Result<Self, Error> {
        let subscription = Subscription::new(topic::TIMERS, topic::RELAY, SubscriptionKind::Shared).queue(PREFETCH);
        let consumer = transport.subscribe(subscription).await?;
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(run(outbox, consumer, stop.subscribe()));
        Ok(Self { stop, task })
    }

    /// Stops; what is not sent on goes to other relays.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the relay ended badly");
        }
    }
}

async fn run(outbox: Outbox, mut consumer: Consumer, mut stop: watch::Receiver<bool>) {
    let (mut held, stopping, unread) = (JoinSet::new(), stop.clone(), Arc::new(Seldom::default()));
    loop {
        tokio::select! {
            biased;
            // An error: the relay's handle is gone.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = held.join_next(), if !held.is_empty() => {}
            delivery = consumer.recv(), if held.len() < HELD_MAX => {
                held.spawn(relay(outbox.clone(), consumer.acker(), delivery, stopping.clone(), unread.clone()));
            }
        }
    }
    // What is being sent is stored soon: unless it is acked then, another relay sends it once more.
    let sending = async { while held.join_next().await.is_some() {} };
    // What is left after that comes twice; nothing is lost.
    let _ = tokio::time::timeout(SENDING, sending).await;
    held.shutdown().await;
    consumer.close().await;
}

async fn relay(outbox: Outbox, acker: Acker, delivery: Delivery, mut stop: watch::Receiver<bool>, unread: Arc<Seldom>) {
    if let Some(version) = later_version::<TimerMessage>(&delivery.payload) {
        // A shard's wake-up, say: as a dead letter nobody would be woken by it.
        if let Some(times) = unread.count() {
            tracing::error!(
                position = %delivery.position, version, times,
                "a delayed message is of a later format version than this release reads; it waits for a relay of that release"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(LATER) => acker.nack(delivery.token),
            // An error: the relay's handle is gone. What is not acked goes to others.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        return;
    }
    match send_on(&outbox, &delivery, &mut stop).await {
        Ok(true) => acker.ack(delivery.token),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(position = %delivery.position, %error, "a delayed message could not be sent on; it comes again");
        }
    }
}

/// Whether it was sent on; not if it is to stop before that.
async fn send_on(outbox: &Outbox, delivery: &Delivery, stop: &mut watch::Receiver<bool>) -> Result<bool, Error> {
    let message = match decode::<TimerMessage>(&delivery.payload) {
        Ok(message) => message,
        Err(error) => {
            tracing::warn!(position = %delivery.position, %error, "a delayed message cannot be read, dead letter");
            let letter = dead_letter::unreadable(topic::TIMERS, delivery.payload.clone(), &error, clock::now());
            return outbox.dead_letter(topic::INBOX_DEAD, letter).await.map(|_| true);
        }
    };
    let wait = clock::until(message.due());
    tokio::select! {
        () = tokio::time::sleep(wait.min(HOLD_MAX)) => {}
        // An error: the relay's handle is gone.
        _ = stop.wait_for(|stop| *stop) => return Ok(false),
    }
    let sent = match onward(message, wait, outbox.shards(), clock::now()) {
        Onward::Timer(message) => outbox.timer(message).await,
        Onward::Event { shard, event } => outbox.event_to_shard(shard, event).await,
        Onward::Letter(letter) => outbox.dead_letter(topic::INBOX_DEAD, *letter).await,
        Onward::Task(task) => outbox.task(*task).await,
    };
    sent.map(|_| true)
}
