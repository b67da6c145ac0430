//! Frames in, frames out, confirmed positions: the one crate that talks to Apache Pulsar.
//!
//! It owns connections, topics, and what can break between a process and its broker: everything here is built again
//! for ever, with our own time-outs, and says so only where a caller has to know. It does not know what a frame
//! holds. The embedded broker is only an address: it speaks the same protocol.
//!
//! ```text
//!  Address ──► Transport ─┬─► Publisher ──► Lane        link.rs: two clients of the `pulsar` crate,
//!                         ├─► Consumer ──► Acker                 one to produce, one to consume
//!                         ├─► Reader                    feed.rs: a subscription that never ends
//!                         └─► set_up, last_position     admin.rs: a small HTTP client
//!                                                       access.rs, oauth2.rs, tls.rs, tunnel.rs: who we are to the broker
//! ```
//!
//! What nobody can promise here: deliveries come late and twice, an ack is a hint, and a missing receipt proves
//! nothing.
//!
//! ```no_run
//! use everpulse_transport::{Address, Message, Options, PublisherOptions, SetUp, Transport};
//!
//! # async fn example() -> Result<(), everpulse_transport::Error> {
//! let transport = Transport::connect(&"pulsar://127.0.0.1:6650".parse::<Address>()?, Options::default()).await?;
//! transport.set_up(&SetUp::default()).await?;
//! let history = transport.publisher("history-partition-0", PublisherOptions::default());
//! let stored = history.publish(Message::new(None, "a frame")).await?;
//! let entries = transport.read("history-partition-0", None, stored).await?;
//! # Ok(())
//! # }
//! ```

mod address;
mod error;
mod transport;

mod lane;
mod publisher;

mod consumer;
mod reader;

mod set_up;

mod access;
mod oauth2;
mod tls;
mod tunnel;

mod admin;
mod backoff;
mod feed;
mod handshake;
mod link;
mod tail;

#[cfg(feature = "embedded")]
mod embedded;

pub use address::Address;
pub use consumer::{AckToken, Acker, Consumer, Delivery, Subscription, SubscriptionKind};
pub use error::{Error, ErrorKind};
pub use everpulse_protocol::Position;
pub use lane::{Lane, Limits};
pub use publisher::{Message, Publisher, PublisherOptions};
pub use reader::{Entry, Piece, Reader};
pub use set_up::{Layout, SetUp};
pub use transport::{Options, Transport};
