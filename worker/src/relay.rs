//! Sends delayed messages on when they are due: wake-ups to their shards, next attempts to their queues.
//!
//! ```text
//! timers ── due, or early by a tick ──► held until due ──► send, confirmed ──► ack
//! ```
//! The delay is the broker's, rounded to its tick; the last fraction is waited for here. Timers of workflows are not
//! here: the owner of a shard fires them itself; a wake-up only makes sure that there is one.

use everpulse_protocol::timer::TimerMessage;
use everpulse_protocol::{decode, topic};
use everpulse_transport::{Acker, Consumer, Delivery, Error, Subscription, SubscriptionKind, Transport};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::outbox::Outbox;
use crate::{clock, dead_letter};

/// Messages that wait in this process for their turn.
const PREFETCH: u32 = 256;
/// So many are held or being sent on at a time.
const HELD_MAX: usize = 4_096;

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
    let mut held = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            // An error: the relay's handle is gone.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = held.join_next(), if !held.is_empty() => {}
            delivery = consumer.recv(), if held.len() < HELD_MAX => {
                held.spawn(relay(outbox.clone(), consumer.acker(), delivery));
            }
        }
    }
    held.shutdown().await;
    consumer.close().await;
}

async fn relay(outbox: Outbox, acker: Acker, delivery: Delivery) {
    match send_on(&outbox, &delivery).await {
        Ok(()) => acker.ack(delivery.token),
        Err(error) => {
            tracing::warn!(position = %delivery.position, %error, "a delayed message could not be sent on; it comes again");
        }
    }
}

async fn send_on(outbox: &Outbox, delivery: &Delivery) -> Result<(), Error> {
    let message = match decode::<TimerMessage>(&delivery.payload) {
        Ok(message) => message,
        Err(error) => {
            tracing::warn!(position = %delivery.position, %error, "a delayed message cannot be read, dead letter");
            let letter = dead_letter::unreadable(topic::TIMERS, delivery.payload.clone(), &error, clock::now());
            return outbox.dead_letter(topic::INBOX_DEAD, letter).await.map(drop);
        }
    };
    tokio::time::sleep(clock::until(message.due())).await;
    match message {
        TimerMessage::Wake(wake) if wake.shard < outbox.shards() => {
            outbox.event_to_shard(wake.shard, wake.to_event(clock::now())).await.map(drop)
        }
        TimerMessage::Wake(wake) => {
            let reason = format!("a wake-up for shard {}, and there are {} shards", wake.shard, outbox.shards());
            let letter = dead_letter::event(wake.to_event(clock::now()), reason, clock::now());
            outbox.dead_letter(topic::INBOX_DEAD, letter).await.map(drop)
        }
        TimerMessage::Retry { task, .. } => outbox.task(*task).await.map(drop),
    }
}
