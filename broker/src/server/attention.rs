//! Looks for more for a while before it sleeps.
//!
//! Who sends one message and waits for its receipt sends the next a few microseconds after it. To sleep meanwhile and to
//! be woken takes longer than all of the broker's work for that message, on a virtual machine several times as long. So
//! after something came the thread keeps polling its sockets for some microseconds; it lets any other thread that wants
//! the processor have it, and sleeps when nothing came. A broker without traffic costs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::Notify;

use super::Hub;

/// What is worth staying awake for.
#[derive(Debug, Default)]
pub(super) struct Attention {
    came: Notify,
}

impl Attention {
    /// Something came.
    pub fn call(&self) {
        self.came.notify_one();
    }

    /// Looks again and again for so long after each call, by that clock.
    pub async fn pay(&self, span: Duration, now: impl Fn() -> Instant, mut look: impl AsyncFnMut()) {
        loop {
            self.came.notified().await;
            let mut until = now() + span;
            while now() < until {
                look().await;
                if self.came.notified().now_or_never().is_some() {
                    until = now() + span;
                }
            }
        }
    }
}

/// Keeps the runtime polling for so long after something came from a client, until it is dropped.
pub async fn attend(span: Duration, hub: Arc<Hub>) {
    if !span.is_zero() {
        hub.attention.pay(span, Instant::now, look).await;
    }
}

/// Everything else that is ready goes first, then the runtime looks at its sockets without waiting.
async fn look() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Each look takes a millisecond.
    #[test]
    fn it_looks_for_a_while_after_each_call_and_sleeps_then() {
        let attention = Attention::default();
        let began = Instant::now();
        let looks = Cell::new(0);
        let now = || began + Duration::from_millis(looks.get());
        let mut paid = Box::pin(attention.pay(Duration::from_millis(20), now, async || {
            looks.set(looks.get() + 1);
            if looks.get() == 30 {
                attention.call();
            }
        }));
        assert!(paid.as_mut().now_or_never().is_none(), "it never ends");
        assert_eq!(looks.get(), 0, "nothing came");
        attention.call();
        assert!(paid.as_mut().now_or_never().is_none(), "it sleeps");
        assert_eq!(looks.get(), 20);
        attention.call();
        assert!(paid.as_mut().now_or_never().is_none(), "it sleeps");
        assert_eq!(looks.get(), 20 + 10 + 20, "a call came at the tenth look");
        assert!(paid.as_mut().now_or_never().is_none(), "it sleeps");
        assert_eq!(looks.get(), 50);
    }
}
