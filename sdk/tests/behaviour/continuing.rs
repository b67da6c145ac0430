//! Runs that go on as other ones: what they ask for last, what they leave, and what they know of themselves.

use std::time::Duration;

use everpulse::replay::{Command, Input};
use everpulse::{
    Error, Failure, activity, continue_as_new, info, join, saga, select, shielded, signal, sleep, step, workflow,
};
use everpulse_protocol::RunId;
use everpulse_protocol::continuation::next_run;
use everpulse_protocol::size::HistorySize;
use serde::{Deserialize, Serialize};

use crate::harness::{Run, run};

#[activity]
async fn charge(_month: u32) -> Result<(), Error> {
    Ok(())
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Paused {
    on: bool,
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Renamed;

#[workflow]
async fn bills(month: u32) -> Result<(), Error> {
    charge(month).await?;
    sleep(Duration::from_secs(60)).await;
    continue_as_new(bills(month + 1)).await
}

/// The command with which a run went on, at the event that ended it.
fn went_on(run: &mut Run, input: Input) -> Command {
    run.turn(input).commands.pop().expect("the run asked for something")
}

#[test]
fn the_next_run_follows_from_the_run_and_the_number_of_the_command() {
    let mut run = run(bills(1));
    run.start();
    run.done(0, ());
    let Command::ContinueAsNew { no, target, next, unreceived, updates } =
        went_on(&mut run, Input::TimerFired { step: 1 })
    else {
        panic!("it continues")
    };
    assert_eq!((no, target.run_id), (2, Some(next_run(run.run_id(), 2))));
    assert_eq!(target.workflow_id, run.id());
    assert_eq!((next.workflow.as_str(), next.version, next.tags, next.timeout_ms), ("bills", None, None, None));
    assert!(unreceived.is_empty() && updates.is_empty());
    assert_eq!(run.done(0, ()), ["continued as new: it went on as a new run of workflow `bills`"], "and it has ended");
}

#[workflow]
async fn says_more() {
    let call = bills(7).version(3).tag("eu").timeout(Duration::from_secs(5));
    continue_as_new(call).await
}

#[test]
fn the_call_may_say_more() {
    let Command::ContinueAsNew { next, .. } = went_on(&mut run(says_more()), Input::Start) else {
        panic!("it continues")
    };
    assert_eq!((next.version, next.tags, next.timeout_ms), (Some(3), Some(vec!["eu".to_owned()]), Some(5_000)));
}

#[workflow]
async fn leaves_all() -> u32 {
    let _charging = charge(1).start();
    charge(2).start().detach();
    let _child = bills(1).start();
    let stepping = step("local", || async { Ok::<_, Error>(()) });
    let waiting = async {
        sleep(Duration::from_secs(1)).await;
        continue_as_new::<_, u32>(leaves_all()).await
    };
    join!(stepping, sleep(Duration::from_secs(9)), waiting).2
}

#[test]
fn what_is_under_way_is_cancelled_as_if_the_function_returned() {
    let mut run = run(leaves_all());
    run.start();
    let mut cancelled = run.fired(5);
    cancelled.sort();
    assert_eq!(
        cancelled,
        [
            "6 continue as leaves_all",
            "cancel 0",
            "cancel 3",
            "cancel 4",
            "continued as new: it went on as a new run of workflow `leaves_all`",
        ],
        "but for what was detached, and the child, of which the parent-close policy says what becomes"
    );
}

#[workflow]
async fn receives_some() -> u32 {
    signal::<Paused>().recv_where(|paused| paused.on).await;
    sleep(Duration::from_secs(1)).await;
    continue_as_new(receives_some()).await
}

#[test]
fn what_was_not_received_is_named() {
    let mut run = run(receives_some());
    run.start();
    run.signal(&Paused { on: false });
    run.signal(&Renamed);
    run.signal(&Paused { on: true });
    run.signal(&Paused { on: true });
    run.signal(&Renamed);
    let last = run.fired(0);
    assert_eq!(last[0], "1 continue as receives_some, leaving Paused [0, 2], leaving Renamed [0, 1]");
}

#[workflow]
async fn thinks_again() -> u32 {
    select! {
        other = continue_as_new::<_, u32>(thinks_again()) => other,
        () = std::future::ready(()) => 7,
    };
    let done = charge(1).await.is_ok();
    u32::from(done)
}

#[test]
fn dropping_it_takes_it_back_and_leaves_no_trace() {
    assert_eq!(run(thinks_again()).start(), ["0 activity charge", "waiting"]);
}

#[workflow]
async fn twice() {
    join!(continue_as_new::<_, ()>(twice()), continue_as_new::<_, ()>(bills(1)));
}

#[workflow]
async fn elsewhere() {
    continue_as_new(bills(1).id("another")).await
}

#[workflow]
async fn owes() -> Result<(), Error> {
    saga(async |saga| {
        saga.compensate(charge(0));
        continue_as_new(owes()).await
    })
    .await
}

#[test]
fn what_cannot_be_meant_parks_the_run() {
    let said = |mut run: Run| run.start().concat();
    let expected = "panicked: `continue_as_new` was awaited twice at once, the second time with a call of `bills`";
    assert_eq!(said(run(twice())), expected);
    let expected =
        r#"panicked: cannot continue as `bills`: the next run has this one's workflow id, and not "another""#;
    assert_eq!(said(run(elsewhere())), expected);
    let owes = said(run(owes()));
    assert!(owes.contains("continues as new while a saga has parts that may have to be undone"), "{owes}");
}

#[workflow]
async fn goes_on_regardless() -> Result<(), Failure<Error>> {
    let _ = charge(1).await;
    continue_as_new(goes_on_regardless()).await
}

#[workflow]
async fn goes_on_shielded() {
    let _ = charge(1).await;
    shielded(continue_as_new(goes_on_shielded())).await
}

#[test]
fn a_cancelled_run_goes_on_in_a_shield_alone() {
    let mut regardless = run(goes_on_regardless());
    regardless.start();
    assert_eq!(regardless.cancel(), ["cancel 0", "cancelled: no longer wanted"]);
    let mut shielded = run(goes_on_shielded());
    shielded.start();
    assert_eq!(shielded.cancel()[..2], ["cancel 0", "1 continue as goes_on_shielded"]);
}

#[workflow]
async fn knows_itself() -> String {
    let info = info();
    let (first, from) = (info.first_run_id == info.run_id, info.continued_from);
    let size = (info.history_events, info.history_bytes, info.continue_as_new_suggested);
    format!("{first} {from:?} {} {size:?}", info.run_number)
}

#[test]
fn a_run_is_told_how_long_its_history_is() {
    let of = |events, bytes| {
        let mut run = run(knows_itself());
        run.instance.set_history(HistorySize { events, bytes });
        crate::harness::value::<String>(&run.turn(Input::Start))
    };
    assert_eq!(of(3, 900), "true None 0 (3, 900, false)");
    assert_eq!(of(4_096, 900), "true None 0 (4096, 900, true)");
    assert_eq!(of(3, 4 << 20), "true None 0 (3, 4194304, true)");
}

#[test]
fn run_ids_of_a_series_differ() {
    let first = run(bills(1)).run_id();
    let ids: Vec<RunId> = (0..4).scan(first, |run, _| Some(std::mem::replace(run, next_run(*run, 2)))).collect();
    assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)), "{ids:?}");
}
