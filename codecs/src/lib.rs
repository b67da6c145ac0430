//! How the values of workflows travel: a format, and layers over it that compress and seal.
//!
//! ```
//! use everpulse_codecs::{Codec, Key, Keys};
//! # let (today, before) = ([2; 32], [1; 32]);
//!
//! // New values are sealed with `2026-11`; those that were sealed with `2026-05` are still read.
//! let keys = Keys::new("2026-11", Key::from(today)).also("2026-05", Key::from(before));
//! let codec = Codec::json().compress().encrypt(keys);
//! # let _: everpulse_protocol::Coding = codec.into();
//! ```
//!
//! The same goes to `Worker::codec` and `Client::codec`. What is stored and sent stays what it is without a codec, but for
//! the values in it: inputs, results, signals, questions and answers, published states, failures. The crate is pure but for
//! one thing: what seals draws random bytes from the operating system (see [`Keys`]).
//!
//! | feature | default | gives |
//! |---|---|---|
//! | `compression` | on | [`Codec::compress`] |
//! | `encryption` | on | [`Codec::encrypt`], [`Keys`], [`Key`] |

mod codec;
#[cfg(feature = "compression")]
mod compress;
#[cfg(feature = "encryption")]
mod encrypt;
#[cfg(feature = "encryption")]
mod keys;

pub use bytes::Bytes;
pub use codec::Codec;
#[cfg(feature = "compression")]
pub use compress::Compression;
pub use everpulse_protocol::coding::{Layer, LayerError, Place, Wrapped};
#[cfg(feature = "encryption")]
pub use keys::{InvalidKey, InvalidKeys, Key, Keys};
