//! What clients may cost, one by one and all together.
//!
//! ```text
//! received, not stored yet ─┐
//! half a frame ─────────────┼─► Memory: above its limit, whoever holds some of it is not read any further
//! answers not sent yet ─────┤
//! messages being sent ──────┘
//! ```
//! A connection that holds nearly nothing is always read, so that nobody is shut out by others. What is held ends: the
//! storage answers, and a client that neither takes what is sent nor finishes what it began is disconnected.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::semantics::limits::Ceilings;
use crate::wire::MESSAGE_BYTES_MAX;

/// What a connection may hold however short memory is.
pub const HELD_ALWAYS: usize = 128 * 1024;

#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// The largest message, metadata included; clients learn it when they connect.
    pub message_bytes: usize,
    /// For what is on its way between sockets and disk, of all connections together.
    pub memory_bytes: usize,
    /// For finding the messages that are kept: half a byte to ten bytes for each. Beyond it, producers of the topics that
    /// keep most are held back until consumers have caught up.
    pub index_bytes: usize,
    pub connections: usize,
    /// Topics, subscriptions, producers and consumers.
    pub ceilings: Ceilings,
    /// Further ones wait to be accepted.
    pub admin_connections: usize,
    /// The largest body of a request to the admin.
    pub admin_body_bytes: usize,
    /// How long a client may take to say who it is.
    pub handshake: Duration,
    /// A client that is silent for so long is pinged, and after as long again given up.
    pub keep_alive: Duration,
    /// How long a client may take nothing of what is sent to it, or not finish a frame. A sixth of it when memory is
    /// short.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes: MESSAGE_BYTES_MAX,
            memory_bytes: 256 * 1024 * 1024,
            index_bytes: 256 * 1024 * 1024,
            connections: 10_000,
            ceilings: Ceilings::default(),
            // As Apache Pulsar's `maxHttpServerConnections`.
            admin_connections: 2048,
            // Policies and schemas are far smaller.
            admin_body_bytes: 1024 * 1024,
            handshake: Duration::from_secs(10),
            keep_alive: Duration::from_secs(30),
            stalled: Duration::from_secs(30),
        }
    }
}

/// Counts what all connections hold.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    held: AtomicUsize,
    room: Notify,
}

impl Memory {
    pub fn new(limit: usize) -> Memory {
        Memory { limit, held: AtomicUsize::new(0), room: Notify::new() }
    }

    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub fn is_short(&self) -> bool {
        self.held() > self.limit
    }

    /// A connection holds `after` bytes, where it held `before`.
    pub fn change(&self, before: usize, after: usize) {
        if after > before {
            self.held.fetch_add(after - before, Ordering::Relaxed);
        } else if after < before {
            let held = self.held.fetch_sub(before - after, Ordering::Relaxed);
            if held > self.limit && held - (before - after) <= self.limit {
                self.room.notify_waiters();
            }
        }
    }

    /// Resolves when memory is not short any more; must be enabled before that is looked at.
    pub fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }
}
