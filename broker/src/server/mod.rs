//! The broker on sockets: connections, the hub that they share with the storage and the admin, and time.
//!
//! Everything runs on one thread (the storage writes on another), so the hub's lock is never waited for by
//! a connection; it is never held across an await. There is no task per message: a connection's task
//! handles all frames that one read brought, and writes all that has gathered for it at once.
//!
//! ```text
//! socket ─read─► frames ─► Hub { Broker, Storage } ─► Outbound of each connection ─write─► socket
//!                                   │     ▲
//!                                   ▼     │ completions
//!                               writer thread
//! ```

mod attention;
mod compaction;
mod connection;
mod effects;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hub;
pub mod limits;
mod listing;
mod outbound;
mod requests;
mod schemas;

pub use attention::attend;
pub use compaction::compact;
pub use hub::{Hub, Settings, now_ms};
pub use limits::Limits;
pub(crate) use requests::same;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::storage::Completion;

/// Accepts connections until it is dropped.
pub async fn accept(listener: TcpListener, hub: Arc<Hub>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Receipts are small and waited for.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "could not set TCP_NODELAY");
                }
                tokio::spawn(connection::run(stream, hub.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others may close theirs.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Hands what the storage has finished to the hub, until the storage is gone.
pub async fn complete(mut completions: UnboundedReceiver<Completion>, hub: Arc<Hub>) {
    let mut batch = Vec::new();
    while completions.recv_many(&mut batch, 256).await > 0 {
        hub.handle_completions(batch.drain(..));
    }
}

/// Lets delayed messages go when they are due, and does what is done once a second.
pub async fn keep_time(hub: Arc<Hub>) {
    const TICK: Duration = Duration::from_secs(1);
    let mut next_tick = Instant::now() + TICK;
    loop {
        let due = hub.next_due_ms().map(|due| Instant::now() + Duration::from_millis(due.saturating_sub(now_ms())));
        let wake = due.map_or(next_tick, |due| due.min(next_tick));
        tokio::select! {
            () = tokio::time::sleep_until(wake) => {}
            () = hub.rearmed() => continue,
        }
        let tick = Instant::now() >= next_tick;
        if tick {
            next_tick = Instant::now() + TICK;
        }
        hub.handle_time(tick);
    }
}
