//! Who is listened to at the tunnel's address, and for how long. What a first frame must say is not known here.
//!
//! Whoever has not said it within [`GREETING`] is closed, and of those who have not yet at most [`STRANGERS_MAX`] are
//! listened to, so that another user of this machine can use up none of our files. When there are more, the oldest goes:
//! the crate says its first frame at once, so it is the one who waits that is none of ours. What another user of this
//! machine can do is to connect without end, which takes time of ours; then a person is told.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Shared, no};

/// How long somebody may take for the first frame.
const GREETING: Duration = Duration::from_secs(3);
pub const STRANGERS_MAX: usize = 64;

/// A stranger's place, which another may need.
pub struct Displaced(oneshot::Receiver<()>);

impl Displaced {
    /// The first frame, if it comes in time. The place is free afterwards.
    pub async fn or<T>(self, greeting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        tokio::select! {
            // Whoever has said it all stays.
            biased;
            greeted = tokio::time::timeout(GREETING, greeting) => greeted?,
            _ = self.0 => Err(no("there are too many strangers, and this is the oldest")),
        }
    }
}

/// Lets people in for as long as it is polled; dropped, it ends all connections.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut strangers = VecDeque::<oneshot::Sender<()>>::new();
    let mut has_warned = false;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    strangers.retain(|stranger| !stranger.is_closed());
                    if strangers.len() >= STRANGERS_MAX {
                        strangers.pop_front();
                        if !std::mem::replace(&mut has_warned, true) {
                            tracing::warn!(
                                address = ?listener.local_addr().ok(),
                                "other programs of this machine connect to the address on loopback that leads to the \
                                 broker, {STRANGERS_MAX} at once; each is turned away, but who are they?"
                            );
                        }
                    }
                    let (stranger, displaced) = oneshot::channel();
                    strangers.push_back(stranger);
                    let shared = shared.clone();
                    connections.spawn(async move {
                        if let Err(error) = shared.connection(client, Displaced(displaced)).await {
                            tracing::debug!(%error, "a connection through the tunnel has ended");
                        }
                    });
                }
                // No file is free, for example: it will be.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on loopback");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}
