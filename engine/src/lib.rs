//! A shard of runs as a pure state machine: inputs in, effects out. Time is an argument.
//!
//! ```text
//!             handle_*(input, now)                    poll_effect()
//!   inbox ──► deliveries ─┐                       ┌─► Append  ──► history
//!   history ─► entries ───┤   ┌───────────────┐   ├─► Send    ──► queues, timers, inbox
//!   receipts ─────────────┼──►│     Shard     ├───┼─► Start   ──► local work
//!   local results ────────┤   │ book + chain  │   ├─► Reply   ──► clients
//!   the clock ────────────┘   └───────────────┘   └─► Ack     ──► inbox
//! ```
//!
//! [`Shard`] owns the order of things: what is read, appended, proven, sent and acknowledged, and when.
//! The book inside it owns what is known of the runs; it is a fold of the shard's standing frames, built by
//! the same code whether a frame was just written here or read after a takeover. The crate deliberately
//! knows no topics, sockets, threads or clocks: the worker carries the effects out.
//!
//! The rules that hold here, and where:
//!
//! * *The log is the lock*: a frame has effects only when [`everpulse_protocol::chain::Chain`] says that it
//!   stands (`shard::fate`). A void frame throws the book away; it is read anew and the inputs are applied again.
//! * *Nothing leaves before its cause stands*: sends, local starts, replies and acks of a round are released
//!   after its frame is verified; a round that appends nothing asks for the tail first (`shard::release`).
//! * *An input is acked last*: when its frame stands, the commands of its runs up to their last frame are
//!   confirmed, and no local work of theirs is open that no wake-up covers (`holds`).
//! * *A mismatch stops a run, never a shard*: what may take a worker down is in history before it is applied, and is
//!   counted (`round::received`, `shard::recover`).

pub mod attempt;
mod book;
pub mod delayed;
mod divergence;
mod effect;
mod family;
mod holds;
#[cfg_attr(not(feature = "mutations"), allow(dead_code, unreachable_pub, reason = "all of it is for the feature"))]
mod mutation;
pub mod permits;
mod replay;
mod round;
mod run;
mod shard;
mod shelf;
mod wake;

#[cfg(feature = "mutations")]
pub use mutation::{Mutation, activate};

pub use effect::{Delivery, DeliveryToken, Effect, LocalResult, Outgoing, SendId};
pub use replay::Replay;
pub use round::INLINE_BYTES_MAX;
pub use shard::{Eager, NoEager, Options, Shard, Status};
pub use shelf::{MemoryShelf, Place, Shelf};

/// Maps with a fixed hasher: nothing here may depend on the operating system's randomness.
pub(crate) type Map<K, V> =
    std::collections::HashMap<K, V, std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>>;
/// Sets with a fixed hasher.
pub(crate) type Set<K> =
    std::collections::HashSet<K, std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>>;
