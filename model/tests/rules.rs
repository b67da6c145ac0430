//! The rules suffice, and each of them is needed.

use everpulse_model::{Model, Weakening};
use stateright::{Checker, Expectation, HasDiscoveries, Model as _};

fn holds(model: Model) {
    let checker = model.checker().symmetry().threads(2).spawn_dfs().join();
    eprintln!("{model:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

#[test]
fn inputs_and_commands_keep_their_promises() {
    holds(Model::commands());
}

#[test]
fn wake_ups_keep_their_promises() {
    holds(Model::wake_ups());
}

#[test]
fn carrying_and_trimming_keep_their_promises() {
    holds(Model::trimming());
}

/// Bounds, and how deep they are searched for what a broken rule breaks: in states, of which the last are not looked at.
/// As deep as the longest way below, and by one thread, which takes the shortest.
type Search = (Model, usize);

fn inputs() -> Search {
    (Model::inputs(), 17)
}

fn trimming() -> Search {
    (Model::trimming(), 19)
}

fn trimming_behind_rivals() -> Search {
    (Model::trimming_behind_rivals(), 20)
}

fn search((model, depth): Search) -> impl Checker<Model> {
    model.checker().target_max_depth(depth).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join()
}

/// Bounds in which no rule is broken: the same search finds nothing there, so that what it finds elsewhere comes of
/// the broken rule. [`Model::trimming`] is searched whole above.
fn breaks_nothing(bounds: Search) {
    let checker = search(bounds);
    eprintln!("{bounds:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    assert_eq!(checker.max_depth(), bounds.1, "it went as deep as it should");
    let found = checker.discoveries();
    let broken =
        checker.model().properties().into_iter().filter(|property| property.expectation == Expectation::Always);
    for promise in broken.map(|property| property.name) {
        assert!(!found.contains_key(promise), "{promise}: {:?}", found[promise].clone().into_actions());
    }
}

#[test]
fn inputs_keep_their_promises_as_deep_as_broken_rules_are_searched() {
    breaks_nothing(inputs());
}

#[test]
fn trimming_behind_rivals_keeps_its_promises_as_deep_as_broken_rules_are_searched() {
    breaks_nothing(trimming_behind_rivals());
}

/// The checker finds the promise that a broken rule breaks.
fn breaks((model, depth): Search, weakening: Weakening, promise: &'static str) {
    let checker = search((model.weakened(weakening), depth));
    let found = checker.discoveries();
    let steps = found.get(promise).map(|path| path.clone().into_actions());
    let Some(steps) = steps else { panic!("{weakening:?} breaks nothing: {:?}", found.keys().collect::<Vec<_>>()) };
    eprintln!("{weakening:?}: {promise}: broken after {} steps: {steps:?}", steps.len());
}

macro_rules! each_is_needed {
    ($($name:ident: $model:ident, $weakening:ident, $promise:literal;)*) => {
        $(#[test] fn $name() { breaks($model(), Weakening::$weakening, $promise); })*
    };
}

each_is_needed! {
    a_receipt_proves_only_right_after_what_was_read:
        inputs, ReceiptProvesAnywhere, "nobody takes a void frame for standing";
    a_missing_receipt_proves_nothing:
        inputs, MissingReceiptProves, "nobody takes a void frame for standing";
    commands_wait_for_their_frame:
        inputs, CommandsBeforeTheFrameStands, "a command leaves when its cause stands";
    a_refusal_needs_a_look_at_the_tail:
        inputs, RefusalWithoutTailCheck, "a signal for an open run is not refused";
    an_ack_waits_for_the_frame:
        inputs, AckBeforeTheFrameStands, "an acked input is in history";
    an_ack_waits_for_the_commands:
        inputs, AckBeforeTheCommands, "an unsent command is looked after";
    known_inputs_are_dropped:
        inputs, KnownInputsAreApplied, "an input counts once";
    cover_has_to_be_confirmed:
        inputs, CoverByAnUnconfirmedWakeUp, "an unsent command is looked after";
    a_wake_up_waits_for_its_successor:
        inputs, WakeUpAckedBeforeItsSuccessor, "an unsent command is looked after";
    a_wake_up_is_served_by_a_frame:
        inputs, WakeUpServedWithoutAFrame, "an unsent command is looked after";
    a_trim_stays_behind_what_is_called_verified:
        trimming, TrimPastTheVerified, "what can be read says everything";
    what_is_read_is_believed_at_the_tail:
        trimming, ReadsAreBelievedAtOnce, "nobody takes a void frame for standing";
    a_trim_waits_for_the_carried:
        trimming_behind_rivals, TrimToCarriedThatDoNotStand, "what can be read says everything";
    loading_needs_an_anchor:
        trimming, LoadWithoutAnchor, "what can be read says everything";
}
