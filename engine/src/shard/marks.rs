//! Behind which position of a queue's topic the tasks lie that no mark calls sent.
//!
//! Confirmations come in any order, and a task may be stored long before its receipt is seen. So a position is
//! good as a mark only when all tasks that could lie at or before it are marked as sent: those of all frames
//! that stood when it was confirmed.

use std::collections::BTreeMap;

use everpulse_protocol::Position;
use everpulse_protocol::history::QueueMark;

#[derive(Debug, Default)]
pub(super) struct Marks {
    queues: BTreeMap<String, Ripening>,
}

/// A position, and the frame below which all has to be sent before it may be written down.
#[derive(Debug)]
struct Ripening {
    position: Position,
    below: u64,
}

impl Marks {
    /// A task was confirmed at a position, when all frames below `next` stood and none above.
    pub fn confirmed(&mut self, queue: String, position: Position, next: u64) {
        // The first one is kept until it is ripe: a later one would never be, in a busy queue.
        self.queues.entry(queue).or_insert(Ripening { position, below: next });
    }

    /// The marks that a frame may bear which calls all frames below `sent_below` sent.
    pub fn ripe(&mut self, sent_below: u64) -> Vec<QueueMark> {
        let ripe = self.queues.extract_if(.., |_, ripening| ripening.below <= sent_below);
        ripe.map(|(queue, ripening)| QueueMark { queue, position: ripening.position }).collect()
    }

    /// Somebody else wrote: frames that were not known then may have tasks anywhere.
    pub fn clear(&mut self) {
        self.queues.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(entry: u64) -> Position {
        Position { ledger: 1, entry }
    }

    #[test]
    fn a_position_is_a_mark_when_all_that_stood_then_is_sent() {
        let mut marks = Marks::default();
        marks.confirmed("q".to_owned(), at(5), 3);
        assert!(marks.ripe(2).is_empty(), "a task of frame 2 may lie before it");
        marks.confirmed("q".to_owned(), at(9), 7);
        assert_eq!(marks.ripe(3), [QueueMark { queue: "q".to_owned(), position: at(5) }]);
        assert!(marks.ripe(9).is_empty(), "each is written once");
    }
}
