//! Code that is edited while runs of it are open: workers with old and new code take a shard from each other, between any
//! two effects.

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use everpulse_engine::Options;
use everpulse_protocol::event::Outcome;
use everpulse_protocol::history::{CommandKind, ParkedKind, RecordBody};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{deprecate_patch, patched, select, signal, sleep, workflow};
use world::play::{Act, How, Play};
use world::workflows::{Word, double};
use world::{World, judge::judge};

/// No play has so many effects.
const EFFECTS_MAX: usize = 400;

async fn word() -> String {
    select! {
        word = signal::<Word>().recv() => word.text,
        () = sleep(Duration::from_secs(3_600)) => "late".to_owned(),
    }
}

mod before {
    use super::*;

    #[workflow(name = "edited", crate = everpulse_sdk)]
    pub async fn edited(n: u64) -> String {
        for _ in 0..3 {
            let _ = double(n).await;
        }
        format!("ooo{}-o", word().await)
    }
}

mod after {
    use super::*;

    #[workflow(name = "edited", crate = everpulse_sdk)]
    pub async fn edited(n: u64) -> String {
        let mut way = String::new();
        for _ in 0..3 {
            if patched("loop") {
                let _ = double(n).await;
                way.push('n');
            } else {
                way.push('o');
            }
            let _ = double(n).await;
        }
        let end = select! {
            word = word() => if patched("branch") {
                let _ = double(n).await;
                word + "-n"
            } else {
                word + "-o"
            },
            () = std::future::pending() => String::new(),
        };
        way + &end
    }
}

mod deprecated {
    use super::*;

    #[workflow(name = "edited", crate = everpulse_sdk)]
    pub async fn edited(n: u64) -> String {
        for _ in 0..3 {
            deprecate_patch("loop");
            let _ = double(n).await;
            let _ = double(n).await;
        }
        let word = word().await;
        deprecate_patch("branch");
        let _ = double(n).await;
        format!("nnn{word}-n")
    }
}

mod clean {
    use super::*;

    #[workflow(name = "edited", crate = everpulse_sdk)]
    pub async fn edited(n: u64) -> String {
        for _ in 0..6 {
            let _ = double(n).await;
        }
        let word = word().await;
        let _ = double(n).await;
        format!("nnn{word}-n")
    }
}

fn before() -> Arc<Registry> {
    let mut registry = Registry::new();
    registry.workflow_fn(before::edited).expect("new");
    Arc::new(registry)
}

fn after() -> Arc<Registry> {
    let mut registry = Registry::new();
    registry.workflow_fn(after::edited).expect("new");
    Arc::new(registry)
}

fn deprecated() -> Arc<Registry> {
    let mut registry = Registry::new();
    registry.workflow_fn(deprecated::edited).expect("new");
    Arc::new(registry)
}

fn clean() -> Arc<Registry> {
    let mut registry = Registry::new();
    registry.workflow_fn(clean::edited).expect("new");
    Arc::new(registry)
}

const ACTS: &[Act] = &[|play| play.start("a", "edited", 1), |play| play.signal("a", "hi")];

/// Plays with the first code, and with the next one whenever an owner fails; the last one stays.
fn play(codes: &[Arc<Registry>], failures: &[(usize, How)], live_runs_max: usize) -> Play {
    let mut world = World::new(Registry::new());
    world.registry = Arc::clone(&codes[0]);
    world.options = Options { live_runs_max, runs_at_hand_max: 2, ..Options::default() };
    let mut play = Play::adopt(world);
    play.codes = codes[1..].iter().cloned().collect();
    play.run(ACTS, failures);
    // Its end may have come before the last code; all that was recorded is that one's to replay.
    play.world.registry = Arc::clone(&codes[codes.len() - 1]);
    play
}

fn result(play: &Play) -> String {
    let Some(Outcome::Done(result)) = play.world.result("a") else { panic!("it ends") };
    result.decode().expect("a text")
}

/// The way that the run went is the one that its history says, at each edit.
fn check(play: &Play) {
    let mut ids = BTreeSet::new();
    for record in play.world.records() {
        for mark in record.commands {
            if matches!(mark.kind, CommandKind::Patch | CommandKind::DeprecatedPatch) {
                assert!(ids.insert(mark.name), "a patch is recorded once");
            }
        }
        if let Ok(RecordBody::Parked { reason }) = record.body.open::<RecordBody>("record") {
            assert_eq!(reason.kind, ParkedKind::NoCode, "{}", reason.message);
        }
    }
    let way = if ids.contains("loop") { "nnn" } else { "ooo" };
    let end = if ids.contains("branch") { "n" } else { "o" };
    assert_eq!(result(play), format!("{way}hi-{end}"));
    assert_eq!(play.world.unacked(), 0);
    judge(&play.world);
}

#[test]
fn a_run_goes_on_with_edited_code_from_any_effect_on() {
    let codes = [before(), after()];
    let mut ways = BTreeSet::new();
    for live_runs_max in [0, 64] {
        for at in 0..EFFECTS_MAX {
            let mut ended = false;
            for how in [How::Before, How::After, How::Stopped] {
                let play = play(&codes, &[(at, how)], live_runs_max);
                check(&play);
                ended = play.effects <= at;
                ways.insert(result(&play));
            }
            if ended {
                break;
            }
            assert!(at + 1 < EFFECTS_MAX, "it does not end");
        }
    }
    let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
    assert_eq!(ways, ["nnnhi-n", "ooohi-n", "ooohi-o"], "edited before the loop, between, and after all");
}

#[test]
fn old_code_leaves_a_run_that_went_the_new_way_to_new_code() {
    let mut parked = 0;
    for at in 0..60 {
        for back in [1, 4, 9, 20] {
            for how in [How::Before, How::After] {
                let codes = [before(), after(), before(), after()];
                let failures = [(at, how), (at + back, how), (at + back + 6, how)];
                let play = play(&codes, &failures, 64);
                check(&play);
                let old =
                    |body| matches!(body, Ok(RecordBody::Parked { reason }) if reason.message.contains("patched("));
                parked += play.world.records().iter().filter(|record| old(record.body())).count();
            }
        }
    }
    assert!(parked >= 5, "old code met the patch {parked} times");
}

#[test]
fn a_patch_is_deprecated_and_taken_out_while_runs_are_open() {
    for (codes, way) in [
        ([after(), deprecated(), after()], "a deployment of the deprecation is rolled back"),
        ([deprecated(), after(), deprecated()], "a run began with the deprecation"),
        ([deprecated(), clean(), deprecated()], "the patch is gone, and comes back"),
        ([clean(), deprecated(), clean()], "a run began without the patch"),
    ] {
        for at in 0..60 {
            for on in [1, 5, 12] {
                let play = play(&codes, &[(at, How::After), (at + on, How::Before)], 64);
                let parked = |record: &everpulse_protocol::history::Record| match record.body() {
                    Ok(RecordBody::Parked { reason }) => Some(reason.message),
                    _ => None,
                };
                assert_eq!(play.world.records().iter().find_map(parked), None, "{way}, at {at}");
                assert_eq!(result(&play), "nnnhi-n", "{way}, at {at}");
                judge(&play.world);
            }
        }
    }
}
