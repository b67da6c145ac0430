//! The topics, and what is on its way to them.

use crate::Inputs;

/// Names a frame as its hash does; 0 is the beginning of the chain.
pub type FrameId = u8;

/// A frame of history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    pub id: FrameId,
    /// The frame that it is appended to.
    pub previous: FrameId,
    /// Its place in the chain, if it stands.
    pub number: u8,
    /// The last frame that its writer knew to stand.
    pub verified: FrameId,
    pub inputs: Inputs,
    /// All inputs before this frame, where it carries the state forward.
    pub carried: Option<Inputs>,
    /// Commands that its writer knew to be confirmed.
    pub sent: Inputs,
    /// The current wake-up, named after the frame that brought it; 0 is none.
    pub wake: FrameId,
}

/// What everybody shares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Broker {
    /// All that was ever stored; what lies before `start` was trimmed and is seen by nobody.
    pub log: Vec<Frame>,
    pub start: usize,
    /// Sent and not stored yet, in no order: a slow connection, also of a process that is gone.
    pub under_way: Vec<Frame>,
    /// How many frames were made.
    pub made: u8,
    pub published: Inputs,
    pub acked: Inputs,
    /// Acked without being in history.
    pub refused: Inputs,
    /// Commands in their topics.
    pub sent: Inputs,
    /// Commands that left before their cause stood.
    pub premature: Inputs,
    /// Delayed messages that are there, by the number of the wake-up.
    pub wakes: u8,
}

impl Broker {
    /// What can be read, with its places.
    pub fn visible(&self) -> impl DoubleEndedIterator<Item = (usize, &Frame)> {
        self.log.iter().enumerate().skip(self.start)
    }

    /// Where a frame was stored, if it can be read.
    #[must_use]
    pub fn find(&self, id: FrameId) -> Option<(usize, &Frame)> {
        self.visible().find(|(_, frame)| frame.id == id)
    }
}
