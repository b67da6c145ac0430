//! What an entry of a history partition is, as far as this release can tell.
//!
//! ```text
//! version (1 byte) | "history" | map ─┬─ number, previous, verified: the envelope, the same in every version
//!                                     └─ all else: what the frame says
//! ```
//! The envelope decides whether a frame stands. So it is read also where the rest cannot be, in whatever version that is:
//! a release that took such a frame for garbage would write its own in that place, and the releases would be on two chains.
//! What has no envelope is no frame, in whatever version it says to be: otherwise a few bytes that no release wrote could
//! stop a shard.

use super::envelope::Envelope;
use crate::codec::VERSION;
use crate::history::Frame;
use crate::{DecodeError, decode};

/// An entry, as far as it was read.
#[derive(Debug)]
pub(super) enum Entry {
    Frame {
        envelope: Envelope,
        frame: Frame,
    },
    /// A frame with a place on the chain, or off it; what it says, this release does not know.
    Sealed {
        envelope: Envelope,
        reason: DecodeError,
    },
    /// Damaged or foreign bytes.
    Foreign(DecodeError),
}

impl Entry {
    pub fn read(payload: &[u8]) -> Self {
        let envelope = payload.first().filter(|version| **version >= VERSION).and_then(|_| Envelope::read(payload));
        match (envelope, decode::<Frame>(payload)) {
            (Some(envelope), Ok(frame)) => Self::Frame { envelope, frame },
            (Some(envelope), Err(reason)) => Self::Sealed { envelope, reason },
            (None, Err(reason)) => Self::Foreign(reason),
            // Values without names, say.
            (None, Ok(_)) => Self::Foreign(DecodeError::Malformed {
                expected: "history",
                reason: "it has no `number` and `previous` by these names".to_owned(),
            }),
        }
    }

    /// What decides whether it stands, if it is a frame.
    pub fn envelope(&self) -> Option<Envelope> {
        match self {
            Self::Frame { envelope, .. } | Self::Sealed { envelope, .. } => Some(*envelope),
            Self::Foreign(_) => None,
        }
    }
}
