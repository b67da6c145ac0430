//! What a worker decides, as functions of values and the time. The simulation plays the rest of a worker, and decides by
//! these. Not for users: it changes with what is inside.

pub use crate::activity::{AttemptId, Seen, Sight};
pub use crate::outbox::deliver_at;
pub use crate::relay::{HOLD_MAX, Onward, onward};
pub use everpulse_engine::attempt::{End, Next, Verdict, after, attempt_failed, judge, left, settled};
