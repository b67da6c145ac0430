//! Inbox messages that cannot be served here now, on their way back to the broker.
//!
//! They are held for a moment, so that the broker does not give them here as fast as it can; and not for longer, as what a consumer
//! holds blocks its key for the others when one of those joins, who may be the one that can serve it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everpulse_engine::DeliveryToken;
use everpulse_transport::{AckToken, Acker};
use tokio::runtime::Handle;

use super::carrier::Unacked;

/// The longest that something is held before it goes back.
pub(super) const HOLD: Duration = Duration::from_secs(2);

/// What goes back soon, all at once.
#[derive(Debug)]
pub(super) struct Returning {
    pub acker: Acker,
    pub unacked: Arc<Unacked>,
    held: Mutex<Vec<Held>>,
}

#[derive(Debug)]
enum Held {
    Counted(DeliveryToken),
    Uncounted(AckToken),
}

impl Returning {
    pub fn new(acker: Acker, unacked: Arc<Unacked>) -> Arc<Self> {
        Arc::new(Self { acker, unacked, held: Mutex::default() })
    }

    /// Of a shard that rests. It takes no room from now on: the other shards' messages do not wait for it.
    pub fn of_shard(self: &Arc<Self>, token: DeliveryToken, runtime: &Handle) {
        if let Some(ack) = self.unacked.take(token) {
            self.hold(Held::Uncounted(ack), runtime);
        }
    }

    /// One that nobody can read here. It takes room until it goes back, so there are not more of them than of others.
    pub fn unread(self: &Arc<Self>, token: DeliveryToken, runtime: &Handle) {
        self.hold(Held::Counted(token), runtime);
    }

    fn hold(self: &Arc<Self>, held: Held, runtime: &Handle) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(held);
        if all.len() > 1 {
            return;
        }
        let this = Arc::clone(self);
        runtime.spawn(async move {
            tokio::time::sleep(HOLD).await;
            let all = std::mem::take(&mut *this.held.lock().unwrap_or_else(PoisonError::into_inner));
            for held in all {
                let ack = match held {
                    Held::Counted(token) => this.unacked.take(token),
                    Held::Uncounted(ack) => Some(ack),
                };
                if let Some(ack) = ack {
                    this.acker.nack(ack);
                }
            }
        });
    }
}
