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

    /// Looks again and again for so long after each call.
    pub async fn pay(&self, span: Duration, mut look: impl AsyncFnMut()) {
        loop {
            self.came.notified().await;
            let mut until = Instant::now() + span;
            while Instant::now() < until {
                look().await;
                if self.came.notified().now_or_never().is_some() {
                    until = Instant::now() + span;
                }
            }
        }
    }
}

/// Keeps the runtime polling for so long after something came from a client, until it is dropped.
pub async fn attend(span: Duration, hub: Arc<Hub>) {
    if !span.is_zero() {
        hub.attention.pay(span, look).await;
    }
}

/// Everything else that is ready goes first, then the runtime looks at its sockets without waiting.
async fn look() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn it_looks_for_a_while_and_sleeps_then() {
        let attention = Attention::default();
        let looks = AtomicU64::new(0);
        let looked = || looks.load(Ordering::Relaxed);
        let counting = async || {
            looks.fetch_add(1, Ordering::Relaxed);
            look().await;
        };
        let test = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert_eq!(looked(), 0);
            attention.call();
            tokio::time::sleep(Duration::from_millis(200)).await;
            let while_awake = looked();
            assert!(while_awake > 5, "{while_awake} looks");
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(looked(), while_awake);
        };
        tokio::select! {
            () = attention.pay(Duration::from_millis(20), counting) => {}
            () = test => {}
        }
    }
}
