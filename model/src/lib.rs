//! The protocol of one shard as a model that is checked exhaustively: every order of steps, crashes, pauses, lost
//! frames, lost receipts, stale caches, foreign acks and trims within small bounds.
//!
//! It owns the rules (2 to 4, 7 and 8 of ARCHITECTURE.md) in their barest form and the promises that they keep. It
//! knows no code of the engine: what it shows is that the rules suffice, and that each of them is needed; that the
//! engine follows them is for the tests of the engine.
//!
//! ```text
//! truth.rs    which frames stand, seen by somebody who knows everything
//! broker.rs   the topics: history with its trim border, inbox, commands, wake-ups, frames under way
//! owner.rs    what one worker believes: its book, what it holds, what it waits for
//! steps.rs    what may happen next
//! promises.rs what must always hold, and what must be reachable
//! ```
//!
//! Two owners share one shard. A *pause* needs no step of its own: an owner that takes no step is paused, and goes on
//! as a zombie when it takes one. Two inputs exist: a start, and a signal that is published once the start stands.
//! Each causes one command. A receiver ignores a command that it has seen, so `sent` is a set.

pub mod broker;
pub mod owner;
pub mod promises;
pub mod steps;
pub mod truth;

pub use broker::{Broker, Frame, FrameId};
pub use owner::{Book, Owner};
pub use steps::Step;

/// A set of inputs, or of the commands that they cause: bit 0 the start, bit 1 the signal.
pub type Inputs = u8;

/// The input that opens the run.
pub const START: Inputs = 1;
/// The input that is refused if no run is open.
pub const SIGNAL: Inputs = 2;

/// A rule that is broken on purpose: the checker must find what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weakening {
    /// Rule 2: a receipt proves the frame wherever it lies.
    ReceiptProvesAnywhere,
    /// Rule 2: a frame without a receipt is taken for written.
    MissingReceiptProves,
    /// Rule 2: what was read is believed before the tail was reached.
    ReadsAreBelievedAtOnce,
    /// Rule 3: commands leave while their frame is under way.
    CommandsBeforeTheFrameStands,
    /// Rule 3: an input is refused by what the cache says.
    RefusalWithoutTailCheck,
    /// Rule 4: an input is acked when its frame was sent.
    AckBeforeTheFrameStands,
    /// Rule 4: an input is acked when its frame stands, whatever became of the commands.
    AckBeforeTheCommands,
    /// Rule 4: an input that is known is applied again.
    KnownInputsAreApplied,
    /// Rule 4: a wake-up counts as cover before it is confirmed.
    CoverByAnUnconfirmedWakeUp,
    /// Rule 7: the current wake-up is acked before its successor is confirmed.
    WakeUpAckedBeforeItsSuccessor,
    /// Rule 7: the current wake-up is acked without a frame when nothing seems open.
    WakeUpServedWithoutAFrame,
    /// Rule 8: history is trimmed past the last frame that a later one calls verified.
    TrimPastTheVerified,
    /// Rule 8: history is trimmed up to carried records that were read, whether they stand or not.
    TrimToCarriedThatDoNotStand,
    /// Rule 8: whoever loads takes the first frame that it finds for standing.
    LoadWithoutAnchor,
}

/// The bounds within which everything is tried.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    pub weakening: Option<Weakening>,
    /// Frames that are made in all, rivals included; at most 7.
    pub frames: u8,
    pub crashes: u8,
    /// Frames that are lost on their way.
    pub losses: u8,
    /// Frames that carry the state forward; none: no trimming.
    pub carries: u8,
    /// Both inputs, or only the start.
    pub signal: bool,
    /// Commands and acks, which have no part in how history is trimmed and read.
    pub effects: bool,
    /// Wake-ups, and acks that they cover.
    pub wakes: bool,
}

impl Model {
    /// Inputs, commands, holds and wake-ups, without trimming. Too many states to search them all, which is for
    /// [`Model::commands`] and [`Model::wake_ups`]; what a weakening breaks is found early.
    #[must_use]
    pub fn inputs() -> Model {
        Model {
            weakening: None,
            frames: 3,
            crashes: 0,
            losses: 0,
            carries: 0,
            signal: true,
            effects: true,
            wakes: true,
        }
    }

    /// Both inputs and their commands; what is acked has its commands confirmed.
    #[must_use]
    pub fn commands() -> Model {
        Model { wakes: false, ..Model::inputs() }
    }

    /// One input, and wake-ups that cover its ack.
    #[must_use]
    pub fn wake_ups() -> Model {
        Model { signal: false, ..Model::inputs() }
    }

    /// Carrying and trimming.
    #[must_use]
    pub fn trimming() -> Model {
        Model {
            weakening: None,
            frames: 5,
            crashes: 1,
            losses: 0,
            carries: 2,
            signal: false,
            effects: false,
            wakes: false,
        }
    }

    /// Trimming where a carrying frame can be void and the one that stands in its place carries nothing: that takes
    /// a second input. For what a weakening breaks, like [`Model::inputs`].
    #[must_use]
    pub fn trimming_behind_rivals() -> Model {
        Model { crashes: 0, signal: true, ..Model::trimming() }
    }

    #[must_use]
    pub fn weakened(self, weakening: Weakening) -> Model {
        Model { weakening: Some(weakening), ..self }
    }

    pub(crate) fn is(&self, weakening: Weakening) -> bool {
        self.weakening == Some(weakening)
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub broker: Broker,
    pub owners: [Owner; 2],
    /// What is left of the bounds.
    pub crashes: u8,
    pub losses: u8,
    pub carries: u8,
}

/// The owners are alike: what holds for one order of them holds for the other.
impl stateright::Representative for State {
    fn representative(&self) -> State {
        let mut state = self.clone();
        state.owners.sort();
        state
    }
}
