//! A worker that leaves does its local work to the end. Who comes after it leaves that alone, whatever is read anew and applied
//! again meanwhile; but once it is gone, what comes again for its runs says so.

mod world;

use everpulse_engine::{Effect, Outgoing};
use everpulse_protocol::event::{Event, EventBody};
use world::workflows::{Word, number, registry};
use world::{Answer, World, done, payload};

fn is_step(effect: &Effect) -> bool {
    matches!(effect, Effect::StartStep { .. })
}

fn word(world: &mut World, id: &str) -> Event {
    let value = payload(&Word { text: "word".to_owned() });
    world.event(id, None, &EventBody::Signal { headers: None, name: "Word".to_owned(), value })
}

/// The next step of an owner's run is done and its result appended; the one after it is begun and not done.
fn does_a_step(world: &mut World, owner: usize) {
    let waiting = &mut world.owners[owner].waiting;
    let begun = waiting.iter().position(is_step).expect("a step is begun");
    let step = waiting.remove(begun).expect("it is there");
    let done = world.happen(owner, step).expect("a result");
    world.answer(owner, done);
    world.settle_but(owner, is_step);
}

/// An owner is told something, and does all but steps and sending wake-ups: what it is told is held until these are confirmed.
fn hears(world: &mut World, owner: usize, event: Event) {
    let frame = world.publish(vec![event]);
    world.deliver(owner, frame, false);
    let is_wake = |effect: &Effect| matches!(effect, Effect::Send { outgoing: Outgoing::Wake(_), .. });
    world.settle_but(owner, |effect| is_step(effect) || is_wake(effect));
}

/// An owner that has begun the first of three steps, and another one that was told something else by then.
fn one_works() -> (World, usize, usize) {
    let mut world = World::new(registry());
    let (leaving, next) = (world.owner(), world.owner());
    let start = world.start("b", "listens", number(2));
    hears(&mut world, next, start);
    let start = world.start("a", "steps", number(3));
    hears(&mut world, leaving, start);
    (world, leaving, next)
}

/// The same; the other one has read of that run.
fn one_works_and_the_next_one_knows() -> (World, usize, usize) {
    let (mut world, leaving, next) = one_works();
    let signal = word(&mut world, "b");
    hears(&mut world, next, signal);
    (world, leaving, next)
}

/// The one that leaves does the rest, each step once, and the next one none of it.
fn the_leaving_one_does_it(world: &mut World, leaving: usize, next: usize) {
    assert!(!world.owners[next].waiting.iter().any(is_step), "{:?}", world.trace);
    world.settle(leaving);
    world.settle(next);
    let steps = |owner| world.traced(&format!("{owner} step add"));
    assert_eq!((steps(leaving), steps(next)), (3, 0), "{:?}", world.trace);
    assert_eq!(world.result("a"), Some(done(&3u64)));
}

#[test]
fn what_is_held_here_all_along_is_no_news_when_it_is_applied_again() {
    let (mut world, leaving, next) = one_works_and_the_next_one_knows();
    let signal = word(&mut world, "a");
    hears(&mut world, next, signal);
    does_a_step(&mut world, leaving);
    // This is void: what is held is applied again, behind what the leaving one wrote.
    let void = world.chain().1;
    let signal = word(&mut world, "b");
    hears(&mut world, next, signal);
    assert!(world.chain().1 > void, "a frame was void");
    the_leaving_one_does_it(&mut world, leaving, next);
}

#[test]
fn nor_is_what_a_frame_took_whose_fate_was_open() {
    let (mut world, leaving, next) = one_works_and_the_next_one_knows();
    let signal = word(&mut world, "a");
    let frame = world.publish(vec![signal]);
    world.deliver(next, frame, false);
    world.settle_but(next, |effect| matches!(effect, Effect::Append { .. }));
    let append = world.owners[next].waiting.pop_front().expect("the append");
    let Effect::Append { id, .. } = &append else { panic!("{append:?}") };
    let id = *id;
    world.answer(next, Answer::Receipt { id, receipt: Err(()) });
    world.collect(next);
    let tail = world.owners[next].waiting.pop_front().expect("it asks for the tail");
    let tail = world.happen(next, tail).expect("an answer");
    world.answer(next, tail);
    // It was not there, and comes now.
    let _ = world.happen(next, append);
    world.settle_but(next, is_step);
    the_leaving_one_does_it(&mut world, leaving, next);
}

#[test]
fn nor_is_what_a_frame_took_that_was_overtaken() {
    let (mut world, leaving, next) = one_works_and_the_next_one_knows();
    world.owners[next].receipts = world::Receipts::Lost;
    let signal = word(&mut world, "a");
    let frame = world.publish(vec![signal]);
    world.deliver(next, frame, false);
    world.settle_but(next, |effect| matches!(effect, Effect::AskTail { .. }));
    world.owners[next].receipts = world::Receipts::Prompt;
    // Its frame is there; before it hears of that, the other one writes behind it.
    does_a_step(&mut world, leaving);
    world.settle_but(next, is_step);
    the_leaving_one_does_it(&mut world, leaving, next);
}

#[test]
fn what_comes_from_an_owner_that_is_gone_is_news_also_behind_a_void_frame() {
    let (mut world, leaving, next) = one_works();
    // The next one knows nothing of the run yet, so the frame in which it takes the start is void.
    let void = world.chain().1;
    for frame in world.crash(leaving) {
        world.deliver(next, frame, false);
    }
    world.settle(next);
    assert!(world.chain().1 > void, "a frame was void");
    assert_eq!(world.result("a"), Some(done(&3u64)), "at once: {:?}", world.trace);
}
