//! Updates that were taken and wait to be received, and what was answered.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;

use everpulse_protocol::Payload;
use everpulse_protocol::event::Outcome;

use super::Core;
use crate::replay::Command;
use crate::update::Validator;

/// An update that was taken.
pub(crate) struct Taken {
    /// Its number among the updates of the run.
    pub no: u32,
    pub id: String,
    pub args: Payload,
}

/// The updates of a run.
#[derive(Default)]
pub(super) struct Updates {
    queues: BTreeMap<String, Queue>,
    /// How many were taken so far.
    came: u32,
    /// Answers that were made by dropping, in this turn.
    dropped: Vec<u32>,
}

#[derive(Default)]
struct Queue {
    taken: VecDeque<Taken>,
    waiters: BTreeMap<u64, Waker>,
}

impl Core {
    /// From now on updates of that name are taken if this lets them pass.
    pub(crate) fn open_port(&self, name: &'static str, validator: Rc<Validator>) {
        self.act("take updates");
        let before = self.state.borrow_mut().handlers.get_or_insert_default().updates.insert(name, validator);
        drop(before);
    }

    pub(crate) fn close_port(&self, name: &str) {
        self.act("refuse updates");
        let before = self.state.borrow_mut().handlers.as_mut().and_then(|handlers| handlers.updates.remove(name));
        drop(before);
    }

    pub(crate) fn validator(&self, name: &str) -> Option<Rc<Validator>> {
        self.state.borrow().handlers.as_ref()?.updates.get(name).cloned()
    }

    /// The names of all updates that are taken, in alphabetical order.
    pub(crate) fn update_names(&self) -> Vec<&'static str> {
        let state = self.state.borrow();
        state.handlers.iter().flat_map(|handlers| handlers.updates.keys().copied()).collect()
    }

    /// An update is in history.
    pub(crate) fn update(&self, id: String, name: String, args: Payload) {
        let wakers: Vec<Waker> = {
            let mut state = self.state.borrow_mut();
            let updates = state.updates.get_or_insert_default();
            let no = updates.came;
            updates.came += 1;
            let queue = updates.queues.entry(name).or_default();
            queue.taken.push_back(Taken { no, id, args });
            queue.waiters.values().cloned().collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes the next update of a name, or leaves a waker under a number.
    pub(crate) fn take_update(&self, name: &str, waiter: Option<u64>, waker: &Waker) -> (Option<u64>, Option<Taken>) {
        self.act("receive an update");
        let (result, forgotten) = {
            let state = &mut *self.state.borrow_mut();
            let next_waiter = &mut state.next_waiter;
            let queue = state.updates.get_or_insert_default().queues.entry(name.to_owned()).or_default();
            match queue.taken.pop_front() {
                Some(taken) => {
                    let forgotten = waiter.and_then(|waiter| queue.waiters.remove(&waiter));
                    ((None, Some(taken)), forgotten)
                }
                None => {
                    let waiter = waiter.unwrap_or_else(|| {
                        *next_waiter += 1;
                        *next_waiter - 1
                    });
                    ((Some(waiter), None), queue.waiters.insert(waiter, waker.clone()))
                }
            }
        };
        drop(forgotten);
        result
    }

    pub(crate) fn forget_update_waiter(&self, name: &str, waiter: u64) {
        self.note_act("drop what waits for an update");
        let forgotten = {
            let mut state = self.state.borrow_mut();
            let queue = state.updates.as_mut().and_then(|updates| updates.queues.get_mut(name));
            queue.and_then(|queue| queue.waiters.remove(&waiter))
        };
        drop(forgotten);
    }

    /// Answers an update. `dropped`: nobody will, since the right to do so was dropped.
    pub(crate) fn answer(&self, no: u32, id: String, outcome: Outcome, dropped: bool) {
        match dropped {
            true => drop(self.note_act("drop an update")),
            false => self.act("answer an update"),
        }
        let state = &mut *self.state.borrow_mut();
        if dropped {
            state.updates.get_or_insert_default().dropped.push(no);
        }
        state.commands.push(Command::Answer { no, id, outcome });
    }

    /// The numbers of those that were not received, in ascending order.
    pub(super) fn unreceived_updates(state: &super::State) -> Vec<u32> {
        let queues = state.updates.iter().flat_map(|updates| updates.queues.values());
        let mut numbers: Vec<u32> = queues.flat_map(|queue| &queue.taken).map(|taken| taken.no).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The answers that were made by dropping since this was asked last.
    pub(super) fn take_dropped_answers(state: &mut super::State) -> Vec<u32> {
        state.updates.as_mut().map(|updates| std::mem::take(&mut updates.dropped)).unwrap_or_default()
    }

    /// The names of updates that are awaited, in alphabetical order.
    pub(super) fn awaited_updates(state: &super::State) -> impl Iterator<Item = &String> {
        let queues = state.updates.iter().flat_map(|updates| &updates.queues);
        queues.filter(|(_, queue)| !queue.waiters.is_empty()).map(|(name, _)| name)
    }
}
