//! Of children the code can wait for two things: that they have begun, and that they have ended.

use std::task::Waker;

use everpulse_protocol::family::Target;

use super::{Core, SlotState};

/// What is known of the beginning of a child.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Nothing: the waker is kept.
    Awaited,
    /// It has begun; or it was asked for, and its parent did not ask to hear of its beginning.
    Began,
    /// It came to its end without.
    Ended,
}

impl Core {
    /// A child is in its history.
    pub(crate) fn child_began(&self, no: u32) {
        let waker = {
            let mut state = self.state.borrow_mut();
            let Some(slot) = state.slots.get_mut(&no) else { return };
            // Whoever was told that it is cancelled is told nothing else.
            if !matches!(slot.state, SlotState::Waiting(_)) {
                return;
            }
            slot.has_begun = true;
            slot.begin_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Which run a child is, while it is not awaited to its end.
    pub(crate) fn child_target(&self, no: u32) -> Option<Target> {
        self.state.borrow().slots.get(&no)?.target.as_deref().cloned()
    }

    /// Whether a child has begun, or leaves a waker.
    pub(crate) fn child_beginning(&self, no: u32, waker: &Waker) -> Beginning {
        self.act("await what is under way");
        let forgotten;
        let beginning = {
            let state = &mut *self.state.borrow_mut();
            match state.slots.get_mut(&no) {
                Some(slot) if slot.has_begun => return Beginning::Began,
                // Nobody will tell: the child was awaited by its call when it was asked for.
                Some(slot) if !slot.hears_begin && matches!(slot.state, SlotState::Waiting(_)) => {
                    return Beginning::Began;
                }
                Some(slot) if matches!(slot.state, SlotState::Waiting(_)) => {
                    forgotten = slot.begin_waker.replace(waker.clone());
                    Beginning::Awaited
                }
                Some(_) | None => return Beginning::Ended,
            }
        };
        drop(forgotten);
        beginning
    }
}
