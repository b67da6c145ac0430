//! Parked runs are tried again: by whom, how often, and how many at a time.

mod world;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everpulse_engine::{Effect, NoEager};
use everpulse_protocol::event::{EventBody, IdPolicy, Outcome, Start};
use everpulse_protocol::history::{ParkedKind, RecordBody};
use everpulse_protocol::{FailureKind, Timestamp, encode};
use everpulse_sdk::definition::Registry;
use world::World;
use world::judge::judge;
use world::workflows::{MENDED, Word, number, registry};

/// More than fit two rounds.
const RUNS: usize = 40;
const PER_ROUND: usize = 16;

/// A worker without any code.
fn blank(world: &mut World) -> usize {
    world.owner_with(Arc::new(Registry::new()), Rc::new(NoEager))
}

/// Runs that are parked since nobody had their code.
fn parked(runs: usize) -> (World, usize) {
    let mut world = World::new(registry());
    let owner = blank(&mut world);
    for n in 0..runs {
        let start = world.start(&format!("run-{n}"), "listens", number(1));
        world.say(owner, vec![start]);
    }
    assert_eq!(world.owners[owner].shard.status().parked_runs, runs);
    (world, owner)
}

fn look(world: &mut World, owner: usize) {
    let wake = *world.timers.last().expect("parked runs have one");
    let event = world.wake(wake);
    world.say(owner, vec![event]);
}

fn tries(world: &World, owner: usize) -> (u64, u64) {
    world.owners[owner].shard.status().revivals
}

#[test]
fn those_that_stay_where_they_are_cost_a_round_a_few_replays() {
    let (mut world, first) = parked(RUNS);
    world.crash(first);
    let owner = blank(&mut world);
    let records = world.records().len();
    let wake = *world.timers.last().expect("parked runs have one");
    let event = world.wake(wake);
    let frame = world.publish(vec![event]);
    world.deliver(owner, frame, false);
    let (mut seen, mut rounds) = (0, 0);
    // Whatever the shard is told makes one round at most; what is left over has one of its own, at once.
    while world.step(owner) || world.deadline(owner).is_some_and(|due| due <= world.now) {
        if world.owners[owner].waiting.is_empty() {
            world.tick(owner);
        }
        let now = tries(&world, owner).0;
        assert!(now - seen <= 2 * PER_ROUND as u64, "{seen}, {now}");
        rounds += u64::from(now > seen);
        seen = now;
    }
    assert_eq!((tries(&world, owner), rounds > 1), ((RUNS as u64, 0), true), "{rounds} rounds");
    // Not again before half a minute, and then all of them.
    for (wait, times) in [(29_000, 1), (2_000, 2)] {
        let until = Timestamp(world.now.0 + wait);
        world.run_until(until);
        let ask = world.event("run-0", None, &EventBody::Describe);
        world.say(owner, vec![ask]);
        let now = world.now;
        world.run_until(now);
        assert_eq!(tries(&world, owner), (times * RUNS as u64, 0));
    }
    assert_eq!(world.records().len(), records, "nothing is recorded of it");
}

#[test]
fn those_that_go_on_do_so_a_few_in_a_frame_and_none_is_left() {
    let (mut world, first) = parked(RUNS);
    world.crash(first);
    let owner = world.owner();
    look(&mut world, owner);
    let now = world.now;
    world.run_until(now);
    assert_eq!(tries(&world, owner), (RUNS as u64, RUNS as u64));
    let resumed = |frame: &everpulse_protocol::history::Frame| {
        frame.records.iter().filter(|record| matches!(record.body(), Ok(RecordBody::Resumed))).count()
    };
    let counts: Vec<usize> = world.chain().0.iter().map(resumed).filter(|count| *count > 0).collect();
    assert_eq!(counts.iter().sum::<usize>(), RUNS);
    assert!(counts.iter().all(|count| *count <= PER_ROUND), "{counts:?}");
    assert_eq!(world.owners[owner].shard.status().parked_runs, 0);
    judge(&world);
}

#[test]
fn a_clock_that_was_ahead_keeps_no_run_from_being_tried_again() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let (mut world, owner) = parked(1);
    // Ahead by a day it tries the run, in a round whose frame is void.
    world.owners[owner].skew = DAY_MS;
    let event = world.event("run-0", None, &EventBody::Resume);
    let frame = world.publish(vec![event]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
    let rival = world.later_frame(Vec::new());
    world.append(encode(&rival));
    world.owners[owner].skew = 0;
    world.settle(owner);
    assert!(world.chain().0.iter().all(|frame| frame.at.0 < DAY_MS as u64), "time did not go on by a day");
    let before = tries(&world, owner).0;
    let until = Timestamp(world.now.0 + 31_000);
    world.run_until(until);
    let ask = world.event("run-0", None, &EventBody::Describe);
    world.say(owner, vec![ask]);
    assert_eq!(tries(&world, owner).0, before + 1);
}

#[test]
fn a_parked_run_goes_past_its_own_time_out_though_its_owner_is_gone() {
    const TIMEOUT_MS: u64 = 600_000;
    MENDED.set(false);
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = Start {
        workflow: "fussy".to_owned(),
        version: None,
        args: number(1),
        policy: IdPolicy::Attach,
        tags: Vec::new(),
        start_at: None,
        timeout_ms: Some(TIMEOUT_MS),
        headers: None,
        priority: Default::default(),
    };
    let start = world.event("a", None, &EventBody::Start(start));
    world.say(owner, vec![start]);
    let due = Timestamp(world.now.0 + TIMEOUT_MS);
    let value = world::payload(&Word { text: "spinach".to_owned() });
    let word = world.event("a", None, &EventBody::Signal { headers: None, name: "Word".to_owned(), value });
    world.say(owner, vec![word]);
    let is_parked = |record: &everpulse_protocol::history::Record| match record.body() {
        Ok(RecordBody::Parked { reason }) => reason.kind == ParkedKind::Panicked,
        _ => false,
    };
    assert!(world.records().iter().any(is_parked));
    let wake = |world: &World| world.chain().0.pop().and_then(|frame| frame.wake).expect("an open run has one");
    // One that comes early has a successor, which is for the time-out, and not for whenever the hour is over.
    let early = world.wake(wake(&world));
    world.say(owner, vec![early]);
    let last = wake(&world);
    assert!(due <= last.due && last.due <= due.after(Duration::from_secs(1)), "{last:?}, due {due:?}");
    world.crash(owner);
    let next = world.owner();
    world.now = last.due;
    let event = world.wake(last);
    world.say(next, vec![event]);
    assert!(matches!(world.result("a"), Some(Outcome::Failed(failure)) if failure.kind == FailureKind::TimedOut));
    judge(&world);
}
