//! What must hold in every state, and what must be reachable so that the search is no search of nothing.

use stateright::Property;

use crate::owner::Owner;
use crate::{Model, SIGNAL, START, State, truth};

/// Everything that is checked.
pub(crate) fn properties(model: &Model) -> Vec<Property<Model>> {
    let mut properties = vec![
        Property::always("nobody takes a void frame for standing", no_fork),
        Property::always("an acked input is in history", no_lost_input),
        Property::always("a command leaves when its cause stands", |_: &Model, state: &State| {
            state.broker.premature == 0
        }),
        Property::always("an input counts once", |_: &Model, state: &State| truth::applied(&state.broker).1 == 0),
        Property::always("a signal for an open run is not refused", |_: &Model, state: &State| {
            state.broker.refused == 0
        }),
        Property::always("an unsent command is looked after", no_stuck_run),
        Property::always("what can be read says everything", can_be_loaded),
        Property::sometimes("a frame is void", |_: &Model, state: &State| {
            truth::chain(&state.broker).len() < state.broker.log.len()
        }),
    ];
    if model.effects {
        properties.push(Property::sometimes("all is done", |model: &Model, state: &State| {
            let all = if model.signal { START | SIGNAL } else { START };
            state.broker.acked == all && state.broker.sent == all && state.broker.wakes == 0
        }));
    }
    if model.carries > 0 {
        properties.push(Property::sometimes("history is trimmed", |_: &Model, state: &State| state.broker.start > 0));
    }
    properties
}

fn no_fork(_: &Model, state: &State) -> bool {
    let chain = truth::chain(&state.broker);
    let sure = state.owners.iter().filter(|owner| !owner.doubt);
    let believed = sure.filter_map(|owner| owner.book.as_ref()).map(|book| book.head);
    believed.into_iter().all(|head| head == 0 || chain.iter().any(|frame| frame.id == head))
}

fn no_lost_input(_: &Model, state: &State) -> bool {
    let broker = &state.broker;
    broker.acked & !broker.refused & !truth::applied(broker).0 == 0
}

/// An unacked input is delivered again, so whoever takes it sends its command; for one that is acked, only a wake-up makes
/// somebody look. That another input is unacked helps nobody: its ack asks for its own command alone.
fn no_stuck_run(_: &Model, state: &State) -> bool {
    let broker = &state.broker;
    let unsent = truth::applied(broker).0 & broker.acked & !broker.sent;
    unsent == 0 || broker.wakes != 0
}

/// Whoever loads now and reads to the end knows the head and all inputs.
fn can_be_loaded(model: &Model, state: &State) -> bool {
    let broker = &state.broker;
    let chain = truth::chain(broker);
    let mut reader = Owner::default();
    if !reader.load(broker, model) {
        return false;
    }
    for (place, frame) in broker.visible().skip_while(|(place, _)| *place < reader.read).collect::<Vec<_>>() {
        reader.offer(frame, place, frame.number - 1);
    }
    reader.book.is_some_and(|book| {
        book.head == chain.last().map_or(0, |frame| frame.id) && book.applied == truth::applied(broker).0
    })
}
