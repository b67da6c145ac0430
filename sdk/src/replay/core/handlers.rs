//! The handlers that a run's code has registered for what clients ask, and the looks that they take.
//!
//! A look happens between events, while the run is at rest, and leaves no trace in history; so whatever it did to the run
//! would be missing from every replay. What can be noticed is refused here: with a panic where the run's code asks for
//! something, and by a note where it only drops something, since a destructor must not panic.

use std::collections::BTreeMap;
use std::rc::Rc;

use everpulse_protocol::{Failure, Payload};

use super::Core;
use crate::update::Validator;

/// Answers a query from its encoded arguments.
pub(crate) type QueryHandler = dyn Fn(&Payload) -> Result<Payload, Box<Failure>>;

/// What clients can ask of a run.
#[derive(Default)]
pub(super) struct Handlers {
    queries: BTreeMap<&'static str, Rc<QueryHandler>>,
    /// Which updates are taken, and what looks at them before.
    pub(super) updates: BTreeMap<&'static str, Rc<Validator>>,
    /// A handler only looks now.
    looking: bool,
    /// What it did although it only looks.
    forbidden: Option<&'static str>,
}

impl Core {
    /// From now on this handler answers the queries of that name.
    pub(crate) fn register_query(&self, name: &'static str, handler: Rc<QueryHandler>) {
        self.act("register a handler");
        let before = self.state.borrow_mut().handlers.get_or_insert_default().queries.insert(name, handler);
        drop(before);
    }

    pub(crate) fn query_handler(&self, name: &str) -> Option<Rc<QueryHandler>> {
        self.state.borrow().handlers.as_ref()?.queries.get(name).cloned()
    }

    /// The names of all queries that have a handler, in alphabetical order.
    pub(crate) fn query_names(&self) -> Vec<&'static str> {
        let state = self.state.borrow();
        state.handlers.iter().flat_map(|handlers| handlers.queries.keys().copied()).collect()
    }

    /// Takes all handlers out, to be dropped where nothing is borrowed.
    pub(crate) fn take_handlers(&self) -> impl Drop + use<> {
        Taken(self.state.borrow_mut().handlers.take())
    }

    pub(crate) fn begin_look(&self) {
        let mut state = self.state.borrow_mut();
        let handlers = state.handlers.get_or_insert_default();
        (handlers.looking, handlers.forbidden) = (true, None);
    }

    /// What was done in the look that must not be done there.
    pub(crate) fn end_look(&self) -> Option<&'static str> {
        let mut state = self.state.borrow_mut();
        let handlers = state.handlers.as_mut()?;
        handlers.looking = false;
        handlers.forbidden.take()
    }

    /// To be called before the run's code changes something.
    ///
    /// # Panics
    /// In a look.
    pub(super) fn act(&self, what: &'static str) {
        assert!(
            !self.note_act(what),
            "it cannot {what}, as it only looks: it leaves no trace in history, so a replay would not know of it; do \
             that in the workflow itself"
        );
    }

    /// Notes what a destructor does. True in a look.
    pub(super) fn note_act(&self, what: &'static str) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(handlers) = state.handlers.as_mut().filter(|handlers| handlers.looking) else { return false };
        handlers.forbidden.get_or_insert(what);
        true
    }
}

/// Handlers that are dropped when this is.
struct Taken(Option<Box<Handlers>>);

impl Drop for Taken {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}
