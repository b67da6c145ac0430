//! Edits of running code: which way a run goes is fixed when it comes there first, and a replay goes the same.

use everpulse::replay::{Command, Input};
use everpulse::{activity, deprecate_patch, patched, select, signal, workflow};
use everpulse_protocol::history::{CommandKind, CommandMark};
use serde::{Deserialize, Serialize};

use crate::harness::{Run, done, run, show};

#[activity]
async fn charge(n: u32) -> u32 {
    n
}

#[activity]
async fn check(n: u32) -> u32 {
    n
}

#[signal]
#[derive(Serialize, Deserialize)]
struct Go;

/// Before the edit: three charges, one after another.
#[workflow]
async fn before(n: u32) -> String {
    for _ in 0..3 {
        charge(n).await.unwrap();
    }
    "ooo".into()
}

/// After it: each charge is checked.
#[workflow]
async fn after(n: u32) -> String {
    let mut way = String::new();
    for _ in 0..3 {
        if patched("check") {
            check(n).await.unwrap();
            way.push('n');
        } else {
            way.push('o');
        }
        charge(n).await.unwrap();
    }
    way
}

/// The old way is gone.
#[workflow]
async fn deprecated(n: u32) -> u32 {
    deprecate_patch("check");
    check(n).await.unwrap()
}

/// And so is the patch.
#[workflow]
async fn clean(n: u32) -> u32 {
    check(n).await.unwrap()
}

fn mark(no: u32, kind: CommandKind, name: &str) -> CommandMark {
    CommandMark { name: name.into(), ..CommandMark::new(no, kind) }
}

fn marks(run: &mut Run, input: Input) -> Vec<CommandMark> {
    run.turn(input).commands.iter().map(Command::mark).collect()
}

#[test]
fn a_new_run_goes_the_new_way_and_says_so_once() {
    let mut run = run(after(1));
    assert_eq!(run.start(), ["patch check", "0 activity check", "waiting"]);
    for step in 0..5 {
        let shown = run.done(step, 1);
        assert!(shown.iter().all(|line| !line.contains("patch")), "{shown:?}");
    }
    assert_eq!(run.done(5, 1), ["completed with 4 bytes"]);
}

#[test]
fn a_run_that_passed_here_before_the_edit_goes_the_old_way_to_its_end() {
    for events_before in 1..4 {
        let mut old = run(before(1));
        let mut new = run(after(1));
        let inputs = [Input::Start, done(0, 1), done(1, 1), done(2, 1)];
        for (place, input) in inputs.into_iter().enumerate() {
            let recorded = marks(&mut old, input.clone());
            new.replaying = (place < events_before).then(|| recorded.clone());
            assert_eq!(marks(&mut new, input), recorded, "with {events_before} events before the edit");
        }
    }
}

#[test]
fn a_replay_goes_the_way_that_was_recorded_wherever_it_goes_on() {
    let inputs = || [Input::Start].into_iter().chain((0..6).map(|step| done(step, 1)));
    for replayed in 0..7 {
        let (mut live, mut again) = (run(after(1)), run(after(1)));
        for (place, input) in inputs().enumerate() {
            let first = live.turn(input.clone());
            again.replaying = (place < replayed).then(|| first.commands.iter().map(Command::mark).collect());
            assert_eq!(show(&again.turn(input)), show(&first), "{replayed} replayed");
        }
    }
}

#[test]
fn code_without_the_old_way_says_so_and_takes_what_either_code_recorded() {
    assert_eq!(run(deprecated(1)).start(), ["deprecated patch check", "0 activity check", "waiting"]);
    for kind in [CommandKind::Patch, CommandKind::DeprecatedPatch] {
        let recorded = vec![mark(0, kind, "check"), mark(0, CommandKind::Activity, "check")];
        let mut replayed = [run(deprecated(1)), run_of_after()];
        for run in &mut replayed {
            run.replaying = Some(recorded.clone());
            let marks = marks(run, Input::Start);
            assert_eq!((marks[0].kind, marks[0].name.as_str(), marks[1].no), (kind, "check", 0));
        }
    }
    // A run that began when the patch was not needed any more.
    let mut began_clean = run(deprecated(1));
    began_clean.replaying = Some(marks(&mut run(clean(1)), Input::Start));
    assert_eq!(began_clean.start(), ["0 activity check", "waiting"]);
}

fn run_of_after() -> Run {
    run(after(1))
}

#[workflow]
async fn two_in_branches(n: u32) -> u32 {
    loop {
        select! {
            _ = signal::<Go>().recv() => {
                if patched("first") {
                    charge(n).await.unwrap();
                }
            }
            checked = check(n) => {
                return if patched("second") { checked.unwrap() + 1 } else { checked.unwrap() };
            }
        }
    }
}

#[test]
fn a_patch_in_a_branch_is_recorded_where_the_branch_comes_to_it() {
    let mut run = run(two_in_branches(1));
    assert_eq!(run.start(), ["0 activity check", "waiting"]);
    assert_eq!(run.signal(&Go), ["cancel 0", "patch first", "1 activity charge", "waiting"]);
    assert_eq!(run.done(1, 1), ["2 activity check", "waiting"]);
    assert_eq!(run.signal(&Go), ["cancel 2", "3 activity charge", "waiting"]);
    run.done(3, 1);
    assert_eq!(run.done(4, 1), ["patch second", "completed with 1 bytes"]);
}

#[test]
fn one_patch_may_be_passed_by_the_old_code_and_another_not() {
    let mut run = run(two_in_branches(1));
    // The signal came before the edit; the check comes after it.
    run.replaying = Some(Vec::new());
    run.start();
    assert_eq!(run.signal(&Go), ["cancel 0", "1 activity check", "waiting"]);
    run.replaying = None;
    assert_eq!(run.signal(&Go), ["cancel 1", "2 activity check", "waiting"], "the first answer holds");
    assert_eq!(run.done(2, 1), ["patch second", "completed with 1 bytes"]);
}
