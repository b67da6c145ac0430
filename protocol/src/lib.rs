//! What Everpulse stores and sends: ids, events, records, frames, topic names and their encoding.
//!
//! Everything that reaches a topic is defined here and nowhere else, so that one crate says what an
//! older or newer process can read. The crate is pure: no clock, no randomness, no I/O.
//!
//! | word | meaning |
//! |---|---|
//! | workflow | a definition, named and versioned |
//! | run | one execution of a workflow, addressed by workflow id and run id |
//! | event | something that happened to a run; events arrive ([`event`]) |
//! | command | something a run wants; commands leave |
//! | task | work offered to activity workers ([`task`]); an *attempt* is one try at it |
//! | lane | a part of a queue, with a topic of its own: of a priority, of keys that take turns ([`priority`]) |
//! | permit | what an attempt needs to run where a queue has so many for all workers; a *notice* is what a worker says of them ([`permit`]) |
//! | shard | a fixed slice of the runs ([`shard`]), and the ordering key on the inbox |
//! | frame | one message that carries many events, tasks or records of one shard or queue |
//! | history | the ordered records of a run, as its owner wrote them ([`history`]) |
//! | chain | the frames of a shard's history, each naming the one before it ([`chain`]) |
//! | verified | known to be on the chain; a *void* frame is not on it |
//! | wake-up | a delayed message that makes sure that somebody looks at a shard again ([`timer`]) |
//! | hold | an input that has not been acknowledged yet |
//! | owner | the worker that currently receives a shard's messages |
//! | parent, child | a run whose command began another one, and that one ([`family`]) |
//! | headers | names and texts that travel with a run, to its tasks and children ([`headers`]) |
//! | continued run | the one that goes on for a run which ended to begin anew ([`continuation`]) |
//! | promise | what a run waits for, to be completed from outside by whoever has its *token* ([`token`]) |

pub mod blob;
pub mod chain;
pub mod codec;
pub mod coding;
pub mod continuation;
pub mod dead_letter;
pub mod event;
pub mod failure;
pub mod family;
pub mod golden;
pub mod headers;
pub mod history;
pub mod id;
pub mod kind;
pub mod note;
pub mod payload;
pub mod permit;
pub mod priority;
pub mod reply;
pub mod schema;
pub mod shard;
pub mod size;
pub mod task;
pub mod time;
pub mod timer;
pub mod token;
pub mod topic;
pub mod values;
pub mod view;

pub use codec::{DecodeError, decode, encode};
pub use coding::{Coding, CodingError};
pub use failure::{Failure, FailureKind};
pub use headers::Headers;
pub use id::{EventId, InvalidId, Position, RequestId, RunId, WorkflowId, WriterId};
pub use payload::Payload;
pub use time::Timestamp;
pub use token::{InvalidToken, Token};
