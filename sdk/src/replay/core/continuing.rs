//! That a run goes on as another one is a wish until its turn is over: whoever wished it may be dropped before.

use everpulse_protocol::continuation::next_run;
use everpulse_protocol::family::Target;

use super::{Command, Core};
use crate::replay::{Next, Unreceived};

/// What the run is to go on as.
pub(super) struct Continuing {
    wish: u64,
    next: Box<Next>,
}

impl Core {
    /// The run is to end with this turn and go on as another one. None: it is cancelled, and this is not in a shield.
    pub(crate) fn wish_to_continue(&self, next: Box<Next>) -> Option<u64> {
        self.act("continue as new");
        let twice = {
            let state = &mut *self.state.borrow_mut();
            if state.cancelled && state.shield_depth == 0 {
                return None;
            }
            let wish = state.next_waiter;
            state.next_waiter += 1;
            if state.continuing.is_none() {
                state.continuing = Some(Continuing { wish, next });
                return Some(wish);
            }
            next.workflow
        };
        self.fail(format!("`continue_as_new` was awaited twice at once, the second time with a call of `{twice}`"));
        None
    }

    /// Nobody wishes it any more.
    pub(crate) fn take_back(&self, wish: u64) {
        self.note_act("drop what continues as new");
        let taken = {
            let mut state = self.state.borrow_mut();
            state.continuing.take_if(|continuing| continuing.wish == wish)
        };
        drop(taken);
    }

    pub(crate) fn is_continuing(&self) -> bool {
        self.state.borrow().continuing.is_some()
    }

    /// What was wished for, which nobody can take back now.
    pub(crate) fn take_continuing(&self) -> Option<Box<Next>> {
        self.state.borrow_mut().continuing.take().map(|continuing| continuing.next)
    }

    /// Asks for the next run, as the last thing that this one does.
    pub(crate) fn continue_as(&self, next: Box<Next>) {
        let state = &mut *self.state.borrow_mut();
        let mut unreceived: Vec<Unreceived> = state
            .signals
            .iter()
            .filter(|(_, inbox)| !inbox.values.is_empty())
            .map(|(name, inbox)| Unreceived {
                name: name.clone(),
                numbers: inbox.values.iter().map(|(number, _)| *number).collect(),
            })
            .collect();
        unreceived.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let updates = Self::unreceived_updates(state);
        let no = state.next_no;
        state.next_no += 1;
        let (workflow_id, run_id) = (self.info.workflow_id.clone(), Some(next_run(self.info.run_id, no)));
        let target = Target { workflow_id, run_id, on_close: None };
        state.commands.push(Command::ContinueAsNew { no, target, next, unreceived, updates });
    }
}
