//! Large values of workflows, kept out of line: what is stored and sent names them, and they lie in a store.
//!
//! ```text
//!  a value ── codec ──► sealed bytes ── larger than 256 KiB? ──► store        put first
//!                                                └─► Reference { hash, bytes } ──► inbox, history, queues, replies
//! ```
//! ```
//! use everpulse_blobs::Blobs;
//!
//! // A directory that all workers and clients share, and that was created once; or the broker itself.
//! let files = Blobs::in_directory("documents", "/mnt/documents");
//! let broker = Blobs::on_broker("documents").above(64 * 1024);
//! # let _ = (files, broker);
//! ```
//! The same goes to `Worker::blobs` and `Client::blobs`. What is put is confirmed before what names it is sent: who dies in
//! between leaves a blob that nobody names, and never a name without a blob. What comes back is checked against its hash.
//! When blobs may be deleted says the book, in its chapter on values.

mod blobs;
mod broker;
mod cache;
mod calls;
mod directory;
mod memory;
mod store;
mod stores;
mod waits;

pub use blobs::Blobs;
pub use broker::BrokerStore;
pub use bytes::Bytes;
pub use directory::Directory;
pub use everpulse_protocol::blob::Reference;
pub use futures::future::BoxFuture;
pub use memory::Memory;
pub use store::{BlobStore, Collected, StoreError};
pub use stores::Stores;
