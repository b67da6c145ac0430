//! What one worker believes, and what it has in hand. All of it is lost in a crash.

use crate::broker::{Broker, Frame, FrameId};
use crate::{Inputs, Model, Weakening};

/// What history says, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Book {
    /// The last frame known to stand.
    pub head: FrameId,
    pub number: u8,
    pub applied: Inputs,
    /// Commands known to be confirmed: by marks, or by own sends.
    pub sent: Inputs,
    /// The current wake-up; 0 is none.
    pub wake: FrameId,
    /// The current wake-up is known to be in its topic.
    pub wake_confirmed: bool,
}

impl Book {
    /// A frame stands.
    pub fn absorb(&mut self, frame: &Frame) {
        self.head = frame.id;
        self.number = frame.number;
        self.applied |= frame.inputs | frame.carried.unwrap_or(0);
        self.sent |= frame.sent;
        if self.wake != frame.wake {
            self.wake = frame.wake;
            self.wake_confirmed = false;
        }
    }

    /// Commands that may have to be sent.
    #[must_use]
    pub fn open(&self) -> Inputs {
        self.applied & !self.sent
    }
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Owner {
    /// None: it has yet to load.
    pub book: Option<Book>,
    /// The next place of the log that it reads.
    pub read: usize,
    /// Something was read that may lie behind a gap: history may have been trimmed under the reader, and then a void
    /// frame can look as if it stood. Not so when the tail was reached without a hole.
    pub doubt: bool,
    /// Own frames of the number after the head whose outcome is open; with rivals of its own there are more than one.
    pub pending: Vec<FrameId>,
    /// Inputs in hand, not acked.
    pub held: Inputs,
    /// Inputs in hand for which the tail was asked for since they came.
    pub checked: Inputs,
    /// Wake-ups in hand, by number, and those for which the tail was asked for.
    pub wakes: u8,
    pub wakes_checked: u8,
    /// Up to where it has decided to trim.
    pub trim: Option<usize>,
}

/// What became of a frame that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered {
    Stands,
    Void,
    /// Somebody saw a frame stand that is not known here: load anew.
    Hole,
}

impl Owner {
    /// Reads one entry (rule 2).
    pub fn offer(&mut self, frame: &Frame, place: usize, verified_number: u8) -> Offered {
        let Some(book) = &mut self.book else { return Offered::Hole };
        if frame.previous == book.head {
            book.absorb(frame);
            self.read = place + 1;
            // Whatever was pending had this number.
            self.pending.clear();
            return Offered::Stands;
        }
        if verified_number > book.number {
            return Offered::Hole;
        }
        self.read = place + 1;
        self.pending.retain(|id| *id != frame.id);
        Offered::Void
    }

    /// Forgets what was read; what is in hand stays in hand.
    pub fn reload(&mut self) {
        self.book = None;
        self.read = 0;
        self.doubt = false;
        self.pending.clear();
        self.trim = None;
    }

    /// Loads from what can be read (rule 8): a frame that any later one calls verified is the anchor; backwards the
    /// hashes decide, forwards rule 2. False: it cannot be decided.
    pub fn load(&mut self, broker: &Broker, model: &Model) -> bool {
        let entries: Vec<(usize, &Frame)> = broker.visible().collect();
        let anchor = if model.is(Weakening::LoadWithoutAnchor) {
            entries.first()
        } else {
            entries
                .iter()
                .rev()
                .find(|(place, frame)| entries.iter().any(|(later, by)| later > place && by.verified == frame.id))
        };
        let Some((place, anchor)) = anchor else {
            if broker.start > 0 {
                return false;
            }
            self.book = Some(Book::default());
            self.read = 0;
            return true;
        };
        let mut chain = vec![*anchor];
        while let Some(first) = chain.last()
            && first.carried.is_none()
            && first.previous != 0
        {
            match broker.find(first.previous) {
                Some((_, frame)) => chain.push(frame),
                None if model.is(Weakening::LoadWithoutAnchor) => break,
                None => return false,
            }
        }
        let mut book = Book::default();
        for frame in chain.iter().rev() {
            book.absorb(frame);
        }
        self.book = Some(book);
        self.read = place + 1;
        true
    }
}
