//! Families whose history goes before they have heard of each other, and parents whose code is not there.

mod world;

use std::rc::Rc;
use std::sync::Arc;

use everpulse_engine::{Effect, NoEager, Options, Outgoing};
use everpulse_protocol::Timestamp;
use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::history::{CommandKind, Record, RecordBody};
use everpulse_sdk::definition::Registry;
use world::judge::judge;
use world::workflows::{fails, listens, naps, number, registry, steps, tidies, twice};
use world::{World, done, outcome_of, shown};

fn tells(effect: &Effect, what: &str) -> bool {
    match effect {
        Effect::Send { outgoing: Outgoing::Event(event), .. } => event.body.kind().as_deref() == Some(what),
        _ => false,
    }
}

/// Gives an owner what is in the inbox, and lets it do all but what is kept back.
fn pump(world: &mut World, owner: usize, told: &mut usize, kept: fn(&Effect) -> bool) {
    assert!(pump_but(world, owner, told, kept, |_| false).is_empty(), "all was delivered");
}

/// The same, but for what is held up on its way to it.
fn pump_but(
    world: &mut World,
    owner: usize,
    told: &mut usize,
    kept: fn(&Effect) -> bool,
    held: fn(&Event) -> bool,
) -> Vec<usize> {
    let mut late = Vec::new();
    loop {
        world.settle_but(owner, kept);
        let Some(task) = world.queue.iter().find(|task| !world.cancelled.contains(&task.id)).cloned() else {
            let Some(frame) = world.inbox.get(*told) else { return late };
            if frame.as_ref().is_some_and(|frame| frame.events.iter().any(held)) {
                late.push(*told);
            } else {
                world.deliver(owner, *told, false);
            }
            *told += 1;
            continue;
        };
        // It is answered once.
        world.cancelled.push(task.id);
        let event = world.settled(&task, outcome_of(&task));
        world.publish(vec![event]);
    }
}

fn nothing(_: &Effect) -> bool {
    false
}

/// Another owner takes over, with some code.
fn succeed(world: &mut World, owner: usize, code: Registry) -> usize {
    let again = world.crash(owner);
    let next = world.owner_with(Arc::new(code), Rc::new(NoEager));
    for frame in again {
        world.deliver(next, frame, false);
    }
    if let Some(wake) = world.timers.last().copied() {
        let event = world.wake(wake);
        let frame = world.publish(vec![event]);
        world.deliver(next, frame, false);
    }
    next
}

/// All code but that of the parents.
fn without_parents() -> Registry {
    let mut registry = Registry::new();
    registry.workflow_fn(listens).expect("new");
    registry.workflow_fn(naps).expect("new");
    registry.workflow_fn(tidies).expect("new");
    registry.workflow_fn(twice).expect("new");
    registry.workflow_fn(fails).expect("new");
    registry.workflow_fn(steps).expect("new");
    registry
}

fn ends(world: &World, id: &str) -> Vec<String> {
    let records = world.records();
    records
        .iter()
        .filter(|record| record.workflow_id.as_str() == id)
        .filter_map(|r| r.close.as_ref())
        .map(shown)
        .collect()
}

/// Of which history goes soon.
fn forgetful() -> World {
    let mut world = World::new(registry());
    world.options =
        Options { retention_ms: 1_000, id_memory_ms: 1_000, trim_bytes_min: 2_000, ..world.options.clone() };
    world
}

/// Something else happens; gives what the last frame says is sent.
fn make_noise(world: &mut World, owner: usize, told: &mut usize, kept: fn(&Effect) -> bool) -> u64 {
    let noise = world.start(&format!("noise-{told}"), "steps", number(2));
    world.publish(vec![noise]);
    pump(world, owner, told, kept);
    world.chain().0.pop().expect("there are frames").sent_below
}

/// So much happens, for so long, that what has ended is forgotten, and what is open is carried.
fn age(world: &mut World, owner: usize, told: &mut usize, kept: fn(&Effect) -> bool) {
    for _ in 0..60 {
        make_noise(world, owner, told, kept);
        world.now = Timestamp(world.now.0 + 300);
        world.tick(owner);
        pump(world, owner, told, kept);
    }
}

/// The number of the first frame with such a record, while none was trimmed.
fn frame_with(world: &World, is: fn(&Record) -> bool) -> u64 {
    assert_eq!(world.start, 0, "all of history is there");
    world.chain().0.iter().position(|frame| frame.records.iter().any(is)).expect("there is one") as u64
}

fn never_begun(world: &World) -> usize {
    world.records().iter().filter(|record| matches!(record.body(), Ok(RecordBody::NeverBegan { .. }))).count()
}

fn is_demand(event: &Event) -> bool {
    event.body.kind().as_deref() == Some("demanded")
}

#[test]
fn a_parent_whose_code_is_gone_ends_its_children_all_the_same() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let mut told = 0;
    let start = world.start("parent", "leaves", number(600_000));
    world.publish(vec![start]);
    pump(&mut world, owner, &mut told, nothing);
    let heir = succeed(&mut world, owner, without_parents());
    pump(&mut world, heir, &mut told, nothing);
    let terminate = world.event("parent", None, &EventBody::Terminate { reason: String::new() });
    world.publish(vec![terminate]);
    pump(&mut world, heir, &mut told, nothing);
    assert_eq!(ends(&world, "parent"), ["terminated"]);
    assert_eq!(ends(&world, "left-asked"), ["cancelled"]);
    assert_eq!(ends(&world, "left-ended"), ["terminated"]);
    assert!(ends(&world, "left-unsaid").is_empty(), "it is left alone");
    assert_eq!(world.unacked(), 0);
    judge(&world);
}

#[test]
fn a_start_that_was_not_sent_waits_for_the_code_of_its_parent_though_that_has_ended() {
    let spawns: fn(&Effect) -> bool = |effect| tells(effect, "spawn");
    let mut world = World::new(registry());
    let owner = world.owner();
    let mut told = 0;
    let start = world.start("parent", "leaves", number(600_000));
    world.publish(vec![start]);
    pump(&mut world, owner, &mut told, spawns);
    assert!(!world.owners[owner].waiting.is_empty(), "they are about to leave");
    // Whoever takes over cannot know what the children are to be begun with.
    let heir = succeed(&mut world, owner, without_parents());
    pump(&mut world, heir, &mut told, nothing);
    let terminate = world.event("parent", None, &EventBody::Terminate { reason: String::new() });
    world.publish(vec![terminate]);
    pump(&mut world, heir, &mut told, nothing);
    assert_eq!(ends(&world, "parent"), ["terminated"]);
    let noise = world.start("noise", "steps", number(1));
    world.publish(vec![noise]);
    pump(&mut world, heir, &mut told, nothing);
    let first = world.chain().0.iter().position(|frame| frame.records.iter().any(|record| !record.commands.is_empty()));
    let last = world.chain().0.pop().expect("there are frames");
    assert!(last.sent_below <= first.expect("it asked for children") as u64, "no mark passes what was not sent");
    // Those that the parent's end ends are told at once, and never begin.
    assert_eq!(ends(&world, "left-ended"), ["terminated"]);
    assert!(world.records().iter().any(|record| matches!(record.body(), Ok(RecordBody::NeverBegan { .. }))));
    assert!(ends(&world, "left-alone").is_empty());
    let knows = succeed(&mut world, heir, registry());
    pump(&mut world, knows, &mut told, nothing);
    assert_eq!(ends(&world, "left-alone"), ["2400000"], "it was not lost");
    assert_eq!(world.unacked(), 0);
    judge(&world);
}

#[test]
fn an_end_that_its_parent_has_not_heard_outlives_the_history_that_told_it() {
    let ends_untold: fn(&Effect) -> bool = |effect| tells(effect, "child_closed");
    let mut world = forgetful();
    let owner = world.owner();
    let mut told = 0;
    let start = world.start("parent", "begets", number(3));
    world.publish(vec![start]);
    pump(&mut world, owner, &mut told, ends_untold);
    assert_eq!(ends(&world, "grim"), ["failed"]);
    assert!(ends(&world, "parent").is_empty(), "nobody told it");
    let closed_in = frame_with(&world, |record| record.workflow_id.as_str() == "grim" && record.close.is_some());
    age(&mut world, owner, &mut told, ends_untold);
    assert!(world.start > 10, "{} frames are gone, with those that told of the ends", world.start);
    // Whoever takes over does not know which frame told of them, and what it tells may come to nothing too.
    let doomed = succeed(&mut world, owner, registry());
    pump(&mut world, doomed, &mut told, ends_untold);
    assert!(make_noise(&mut world, doomed, &mut told, ends_untold) <= closed_in, "a mark passes what was not told");
    let heir = succeed(&mut world, doomed, registry());
    pump(&mut world, heir, &mut told, nothing);
    assert_eq!(world.result("parent"), Some(done(&12_u64)));
    assert_eq!(world.unacked(), 0);
    judge(&world);
}

#[test]
fn a_child_that_is_wanted_no_more_hears_of_it_though_the_frame_that_said_so_is_gone() {
    let demands: fn(&Effect) -> bool = |effect| tells(effect, "demanded");
    let mut world = forgetful();
    let owner = world.owner();
    let mut told = 0;
    let start = world.start("parent", "drops", number(40));
    world.publish(vec![start]);
    pump(&mut world, owner, &mut told, demands);
    world.now = Timestamp(world.now.0 + 50);
    let wake = world.timers.last().copied().expect("it sleeps");
    let wake = world.wake(wake);
    world.publish(vec![wake]);
    pump(&mut world, owner, &mut told, demands);
    let dropped_in = frame_with(&world, |record| {
        record.commands.iter().any(|mark| mark.kind == CommandKind::Cancel && mark.no == 0)
    });
    age(&mut world, owner, &mut told, demands);
    assert!(world.start as u64 > dropped_in, "{} frames are gone", world.start);
    let doomed = succeed(&mut world, owner, registry());
    pump(&mut world, doomed, &mut told, demands);
    assert!(make_noise(&mut world, doomed, &mut told, demands) <= dropped_in, "a mark passes what was not told");
    assert!(ends(&world, "dropped").is_empty(), "nobody told it");
    let heir = succeed(&mut world, doomed, registry());
    pump(&mut world, heir, &mut told, nothing);
    assert_eq!(ends(&world, "dropped"), ["cancelled"]);
    assert_eq!(world.unacked(), 0);
    judge(&world);
}

#[test]
fn a_child_that_is_forgotten_before_its_parent_heard_of_its_end_is_not_called_one_that_never_began() {
    let mut world = forgetful();
    let owner = world.owner();
    let mut told = 0;
    let start = world.start("parent", "begets", number(3));
    world.publish(vec![start]);
    let is_end: fn(&Event) -> bool = |event| event.body.kind().as_deref() == Some("child_closed");
    let late = pump_but(&mut world, owner, &mut told, nothing, is_end);
    assert_eq!(ends(&world, "grim"), ["failed"]);
    assert!(!late.is_empty(), "its parent is about to hear of it");
    age(&mut world, owner, &mut told, nothing);
    let terminate = world.event("parent", None, &EventBody::Terminate { reason: String::new() });
    world.publish(vec![terminate]);
    let asked = world.archive.len();
    pump_but(&mut world, owner, &mut told, nothing, is_end);
    assert!(world.archive[asked..].iter().any(|frame| frame.events.iter().any(is_demand)), "they are asked to cancel");
    assert_eq!(ends(&world, "parent"), ["terminated"]);
    assert_eq!(never_begun(&world), 0, "they began, and came to their ends");
    for frame in late {
        world.deliver(owner, frame, false);
    }
    pump_but(&mut world, owner, &mut told, nothing, is_end);
    assert_eq!(never_begun(&world), 0);
}

#[test]
fn a_child_whose_end_was_taken_in_by_a_parent_that_cannot_go_on_is_asked_for_nothing() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let mut told = 0;
    let start = world.start("parent", "begets", number(3));
    world.publish(vec![start]);
    let begins: fn(&Effect) -> bool = |effect| tells(effect, "child_closed");
    pump(&mut world, owner, &mut told, begins);
    let heir = succeed(&mut world, owner, without_parents());
    pump(&mut world, heir, &mut told, nothing);
    assert!(ends(&world, "parent").is_empty(), "it is parked");
    let terminate = world.event("parent", None, &EventBody::Terminate { reason: String::new() });
    world.publish(vec![terminate]);
    pump(&mut world, heir, &mut told, nothing);
    assert_eq!(ends(&world, "parent"), ["terminated"]);
    assert!(!world.archive.iter().any(|frame| frame.events.iter().any(is_demand)), "both had ended");
    assert_eq!(world.unacked(), 0);
    judge(&world);
}
