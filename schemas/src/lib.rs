//! Schemas of what workflows, activities, signals, queries and updates take and give: what may be changed, and what stands.
//!
//! Values are written by one release and read by another: inputs lie in history, results are waited for by clients that were
//! built last year. [`reads`] says whether all that was written by one schema is read by another; [`Standing`] holds the
//! schemas of an application, of which each was compatible with all before it; [`fits`] checks one value.

mod board;
mod compare;
mod normal;
mod shape;
mod standing;

pub use board::{Board, NotPublished, now};
pub use compare::{Mismatch, fits, has_all, reads};
pub use everpulse_protocol::schema::{Kind, Published};
pub use standing::{Refused, Standing};
