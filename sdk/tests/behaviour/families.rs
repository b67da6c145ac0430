//! Children and other runs: what the code asks for, and what it hears.

use std::time::Duration;

use everpulse::replay::{Command, Input};
use everpulse::{
    Error, Failure, Never, ParentClose, cancelled, external, info, join, select, shielded, signal, sleep, workflow,
};
use everpulse_protocol::event::Outcome;
use everpulse_protocol::family::{child_id, child_run};
use everpulse_protocol::{self as protocol, FailureKind, Payload};
use serde::{Deserialize, Serialize};

use crate::harness::{done, result, run, value};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("no {0} in stock")]
struct Sold(String);

#[workflow]
async fn ship(item: String) -> Result<u32, Sold> {
    Err(Sold(item))
}

#[everpulse::signal]
#[derive(Serialize, Deserialize)]
struct Faster {
    by: u32,
}

fn closed<T: Serialize>(step: u32, value: T) -> Input {
    Input::ChildClosed { step, outcome: Outcome::Done(Payload::encode(&value).unwrap()), began: true }
}

fn ended(step: u32, kind: FailureKind, began: bool) -> Input {
    let outcome = Outcome::Failed(protocol::Failure::new(kind, "so it ended"));
    Input::ChildClosed { step, outcome, began }
}

#[workflow]
async fn awaits() -> Result<u32, Failure<Sold>> {
    ship("tea".to_owned()).await
}

#[test]
fn an_awaited_call_of_a_workflow_is_a_child_with_ids_of_its_own() {
    let mut parent = run(awaits());
    let turn = parent.turn(Input::Start);
    let [Command::Child { no: 0, target, spawn }] = &turn.commands[..] else { panic!("{turn:?}") };
    let (id, run_id) = (parent.id(), parent.run_id());
    assert_eq!(target.workflow_id, child_id(&id, run_id, 0));
    assert_eq!(target.run_id, Some(child_run(run_id, 0)));
    assert_eq!(target.on_close, Some(ParentClose::RequestCancel));
    assert_eq!((spawn.workflow.as_str(), spawn.hears_begin), ("ship", false));
    assert_eq!(result::<awaits>(parent.turn(closed(0, 7))), Ok(7));
}

#[test]
fn a_childs_failure_is_its_own_error_or_says_what_became_of_it() {
    let ends = |input| {
        let mut parent = run(awaits());
        parent.start();
        let turn = parent.turn(input);
        // What it came to in the parent, before that is recorded as the parent's own failure.
        format!("{:?}", turn.state)
    };
    let sold = crate::harness::error(&Sold("tea".to_owned()));
    let failed = ends(Input::ChildClosed { step: 0, outcome: Outcome::Failed(sold), began: true });
    assert!(failed.contains("no tea in stock"), "{failed}");
    assert!(ends(ended(0, FailureKind::Terminated, true)).contains("it was terminated"));
    assert!(ends(ended(0, FailureKind::Taken, false)).contains("so it ended"));
}

#[workflow]
async fn starts() -> String {
    let mut child = match ship("tea".to_owned()).id("tea-1").parent_close(ParentClose::Terminate).start().await {
        Ok(child) => child,
        Err(Failure::Taken { message }) => return format!("taken: {message}"),
        Err(failure) => return format!("{failure}"),
    };
    let id = child.workflow_id().to_string();
    select! {
        ended = &mut child => return format!("{id} {ended:?}"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    let told = child.signal(Faster { by: 2 }).await;
    let asked = child.cancel().await;
    format!("{id} {told:?} {asked:?} {:?}", child.result().await)
}

#[test]
fn a_started_child_can_be_signalled_and_cancelled_and_then_awaited() {
    let mut parent = run(starts());
    let turn = parent.turn(Input::Start);
    let [Command::Child { target, spawn, .. }] = &turn.commands[..] else { panic!("{turn:?}") };
    assert_eq!((target.workflow_id.as_str(), spawn.hears_begin), ("tea-1", true));
    assert_eq!(target.on_close, Some(ParentClose::Terminate));
    assert_eq!(parent.apply(Input::ChildBegan { step: 0 }), ["1 timer 2000", "waiting"]);
    assert_eq!(parent.apply(Input::ChildBegan { step: 0 }), ["waiting"], "told twice");
    assert_eq!(parent.fired(1), ["2 signal Faster to tea-1", "waiting"]);
    assert_eq!(parent.done(2, ()), ["3 cancel tea-1", "waiting"]);
    assert_eq!(parent.done(3, ()), ["waiting"]);
    let text = value::<String>(&parent.turn(ended(0, FailureKind::Cancelled, true)));
    assert_eq!(text, "tea-1 Ok(()) Ok(()) Err(Cancelled)");
}

#[test]
fn a_child_that_never_began_is_told_by_the_start() {
    let mut parent = run(starts());
    parent.start();
    let text = value::<String>(&parent.turn(ended(0, FailureKind::Taken, false)));
    assert_eq!(text, "taken: so it ended");
}

#[test]
fn an_end_that_comes_before_the_beginning_tells_both() {
    let mut parent = run(starts());
    parent.start();
    let text = value::<String>(&parent.turn(closed(0, 7)));
    assert_eq!(text, "tea-1 Ok(7)");
}

#[workflow]
async fn drops() -> u32 {
    select! {
        _ = ship("tea".to_owned()) => 1,
        () = sleep(Duration::from_secs(1)) => {
            sleep(Duration::from_secs(1)).await;
            2
        },
    }
}

#[test]
fn a_dropped_child_is_cancelled_and_its_end_changes_nothing() {
    let mut parent = run(drops());
    assert_eq!(parent.start(), ["0 child ship", "1 timer 2000", "waiting"]);
    assert_eq!(parent.fired(1), ["cancel 0", "2 timer 2000", "waiting"]);
    assert_eq!(parent.apply(ended(0, FailureKind::Cancelled, true)), ["waiting"]);
    assert_eq!(value::<u32>(&parent.turn(Input::TimerFired { step: 2 })), 2);
}

#[workflow]
async fn ends_first() -> u32 {
    let held = ship("tea".to_owned()).parent_close(ParentClose::Abandon).start().await;
    signal::<Faster>().recv().await;
    u32::from(held.is_ok())
}

#[test]
fn what_the_code_holds_at_its_end_is_not_dropped_but_left_as_was_agreed() {
    let mut parent = run(ends_first());
    parent.start();
    parent.apply(Input::ChildBegan { step: 0 });
    let turn =
        parent.turn(Input::Signal { name: "Faster".to_owned(), value: Payload::encode(&Faster { by: 3 }).unwrap() });
    assert!(turn.commands.is_empty(), "{turn:?}");
    assert_eq!(value::<u32>(&turn), 1);
}

#[workflow]
async fn leaves_alone() -> u32 {
    ship("tea".to_owned()).detach();
    let started = ship("milk".to_owned()).start().await.unwrap();
    started.detach();
    signal::<Faster>().recv().await.by
}

#[test]
fn a_detached_child_is_left_alone() {
    let mut parent = run(leaves_alone());
    assert_eq!(parent.start(), ["0 child ship", "detach 0", "1 child ship", "waiting"]);
    assert_eq!(parent.apply(Input::ChildBegan { step: 1 }), ["detach 1", "waiting"]);
    assert_eq!(parent.apply(closed(0, 1)), ["waiting"]);
    assert_eq!(
        value::<u32>(
            &parent
                .turn(Input::Signal { name: "Faster".to_owned(), value: Payload::encode(&Faster { by: 3 }).unwrap() })
        ),
        3
    );
}

#[workflow]
async fn tidies_up() -> Result<u32, Failure<Sold>> {
    let mut child = shielded(async { ship("tea".to_owned()).start().await }).await?;
    select! {
        () = cancelled() => {}
        ended = &mut child => return ended,
    }
    shielded(async move {
        child.cancel().await.unwrap();
        child.await
    })
    .await
}

#[test]
fn a_cancelled_parent_passes_the_request_on_unless_the_child_is_in_a_shield() {
    let mut parent = run(awaits());
    parent.start();
    assert_eq!(parent.cancel(), ["cancel 0", "cancelled: it was cancelled"]);

    let mut parent = run(tidies_up());
    assert_eq!(parent.start(), ["0 child ship", "waiting"]);
    assert_eq!(parent.apply(Input::ChildBegan { step: 0 }), ["waiting"]);
    assert_eq!(parent.cancel().len(), 2, "a request, and it waits");
    parent.apply(done(1, ()));
    let turn = parent.turn(closed(0, 4));
    assert_eq!(value::<u32>(&turn), 4);
}

#[workflow]
async fn rambles() -> Result<(), Failure<Never>> {
    external("order-7").terminate("é".repeat(3_000)).await
}

#[test]
fn a_reason_is_a_line_for_people() {
    let mut rambles = run(rambles());
    assert_eq!(rambles.start()[0], format!("0 terminate order-7: {}", "é".repeat(1_024)));
    assert_eq!(rambles.cancel(), ["cancelled: no longer wanted"], "it is on its way, and not taken back");
}

#[workflow]
async fn tells_others() -> String {
    let both = join!(external("order-7").signal(Faster { by: 2 }), external("order-8").cancel());
    let ended = external("order-9").terminate("enough").await;
    format!("{both:?} {ended:?} {:?}", external("").cancel().await)
}

#[test]
fn other_runs_are_signalled_and_cancelled_by_their_ids() {
    let mut parent = run(tells_others());
    assert_eq!(parent.start(), ["0 signal Faster to order-7", "1 cancel order-8", "waiting"]);
    parent.apply(done(0, ()));
    let failure = protocol::Failure::new(FailureKind::NotFound, "order-8 has no run");
    let asked = parent.apply(Input::Settled { step: 1, outcome: Outcome::Failed(failure) });
    assert_eq!(asked, ["2 terminate order-9: enough", "waiting"]);
    let turn = parent.turn(done(2, ()));
    let text = value::<String>(&turn);
    let told = "(Ok(()), Err(NotFound { message: \"order-8 has no run\" })) Ok(()) Err(";
    assert!(text.starts_with(told), "{text}");
}

#[workflow]
async fn gives_up() -> Result<(), Failure<Never>> {
    select! {
        told = external("order-7").signal(Faster { by: 2 }) => told?,
        () = sleep(Duration::from_secs(1)) => {}
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

#[test]
fn what_is_on_its_way_to_another_run_is_not_taken_back() {
    let mut parent = run(gives_up());
    parent.start();
    assert_eq!(parent.fired(1), ["2 timer 2000", "waiting"]);
    assert_eq!(parent.done(0, ()), ["waiting"]);
}

#[workflow]
async fn refused() -> Result<String, Error> {
    ship("tea".to_owned()).id("").await.map(|_| info().workflow).map_err(Error::from)
}

#[test]
fn an_id_that_is_none_is_a_failure_of_the_call() {
    let turn = run(refused()).apply(Input::Start);
    assert!(turn[0].contains("an id must not be empty"), "{turn:?}");
}

#[workflow]
async fn tags_badly() -> Result<u32, Failure<Sold>> {
    ship("tea".to_owned()).tag("hot").tag("\n").await
}

#[test]
fn a_tag_that_no_client_could_send_is_a_failure_of_the_call() {
    let turn = run(tags_badly()).turn(Input::Start);
    assert!(turn.commands.is_empty(), "{turn:?}");
    let state = format!("{:?}", turn.state);
    assert!(state.contains("workflow `ship`: a tag: ") && state.contains("control character"), "{state}");
}

/// Awaits a call for a while, and starts it then.
#[workflow]
async fn thinks_again() -> String {
    let mut call = ship("tea".to_owned()).id("tea-1");
    select! {
        ended = &mut call => return format!("{ended:?}"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    let child = match call.start().await {
        Ok(child) => child,
        Err(failure) => return format!("{failure}"),
    };
    let told = child.signal(Faster { by: 2 }).await;
    format!("{} {told:?} {:?}", child.workflow_id(), child.run_id().is_some())
}

#[test]
fn a_call_that_was_awaited_before_it_is_started_is_a_child_at_once() {
    let mut parent = run(thinks_again());
    let turn = parent.turn(Input::Start);
    let [Command::Child { spawn, .. }, _] = &turn.commands[..] else { panic!("{turn:?}") };
    assert!(!spawn.hears_begin, "nobody will tell");
    assert_eq!(parent.fired(1), ["2 signal Faster to tea-1", "waiting"]);
    let turn = parent.turn(Input::Settled { step: 2, outcome: Outcome::Done(Payload::encode(&()).unwrap()) });
    assert_eq!(value::<String>(&turn), "tea-1 Ok(()) true");
}

#[workflow]
async fn thinks_too_long() -> String {
    let mut call = ship("tea".to_owned()).id("tea-1");
    select! {
        ended = &mut call => return format!("{ended:?}"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    sleep(Duration::from_secs(1)).await;
    match call.start().await {
        Ok(child) => format!("{:?}", child.await),
        Err(Failure::Taken { message }) => format!("taken: {message}"),
        Err(failure) => format!("{failure}"),
    }
}

#[test]
fn a_call_that_is_started_after_its_end_gives_what_it_came_to() {
    for (end, text) in [(closed(0, 7), "Ok(7)"), (ended(0, FailureKind::Taken, false), "taken: so it ended")] {
        let mut parent = run(thinks_too_long());
        parent.start();
        assert_eq!(parent.fired(1), ["2 timer 2000", "waiting"]);
        assert_eq!(parent.apply(end), ["waiting"]);
        let told = value::<String>(&parent.turn(Input::TimerFired { step: 2 }));
        assert_eq!(told, text);
    }
}
