//! News are acted upon once, and never lost: a known input that comes says that whoever had it is gone, whatever becomes of the
//! round that takes it; what is applied again, or said again by others, says nothing.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use everpulse_engine::{Effect, Outgoing};
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Start};
use everpulse_protocol::family::Parent;
use everpulse_protocol::{EventId, FailureKind, RunId, Timestamp, WorkflowId, shard};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{Failure, Never, select, signal, sleep, step, workflow};
use uuid::Uuid;
use world::workflows::{Word, number, slow, steps};
use world::{Answer, World, done, payload};

/// Waits for a word, then does a step that may take long.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn hears_and_steps(n: u64) -> Result<u64, Failure<Never>> {
    let _word = signal::<Word>().recv().await;
    step("add", move || async move { Ok::<u64, Never>(n) }).await
}

/// Gives up an activity, at its time-out or for a timer, then does a step that may take long.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn gives_up_and_steps(drops: bool) -> Result<u64, Failure<Never>> {
    if drops {
        select! {
            _done = slow(1) => unreachable!("the tests do not answer it"),
            () = sleep(Duration::from_secs(10)) => {}
        }
    } else {
        assert_eq!(slow(1).schedule_to_close(Duration::from_secs(10)).await, Err(Failure::TimedOut));
    }
    step("add", move || async move { Ok::<u64, Never>(3) }).await
}

/// Does a step with what an activity gives.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn asks_and_steps(n: u64) -> Result<u64, Failure<Never>> {
    let n = slow(n).await?;
    step("add", move || async move { Ok::<u64, Never>(n) }).await
}

/// Wants a child that does local work.
#[workflow(version = 1, crate = everpulse_sdk)]
async fn wants(n: u64) -> u64 {
    steps(n).id("kid").await.unwrap_or(0)
}

fn registry() -> Registry {
    let mut registry = world::workflows::registry();
    registry.workflow_fn(hears_and_steps).expect("new");
    registry.workflow_fn(wants).expect("new");
    registry.workflow_fn(asks_and_steps).expect("new");
    registry.workflow_fn(gives_up_and_steps).expect("new");
    registry
}

fn is_step(effect: &Effect) -> bool {
    matches!(effect, Effect::StartStep { .. })
}

fn is_append(effect: &Effect) -> bool {
    matches!(effect, Effect::Append { .. })
}

fn word(world: &mut World, id: &str) -> Event {
    let value = payload(&Word { text: "word".to_owned() });
    world.event(id, None, &EventBody::Signal { headers: None, name: "Word".to_owned(), value })
}

fn take(world: &mut World, owner: usize, is: fn(&Effect) -> bool) -> Effect {
    world.collect(owner);
    let waiting = &mut world.owners[owner].waiting;
    let at = waiting.iter().position(is).expect("there is one");
    waiting.remove(at).expect("it is there")
}

fn does_a_step(world: &mut World, owner: usize) {
    let step = take(world, owner, is_step);
    let done = world.happen(owner, step).expect("a result");
    world.answer(owner, done);
    world.settle_but(owner, is_step);
}

fn hears(world: &mut World, owner: usize, event: Event) {
    let frame = world.publish(vec![event]);
    world.deliver(owner, frame, false);
    let is_wake = |effect: &Effect| matches!(effect, Effect::Send { outgoing: Outgoing::Wake(_), .. });
    world.settle_but(owner, |effect| is_step(effect) || is_wake(effect));
}

/// `gone` has begun the first of three steps and died; `next` knows the run, and is in the middle of a round that has the start
/// that came again, and something new.
fn news_in_a_frame() -> (World, usize, Effect) {
    let mut world = World::new(registry());
    let (gone, next) = (world.owner(), world.owner());
    let start = world.start("b", "listens", number(2));
    hears(&mut world, next, start);
    let start = world.start("a", "steps", number(3));
    hears(&mut world, gone, start);
    let signal = word(&mut world, "b");
    hears(&mut world, next, signal);
    let again = world.crash(gone);
    // It is busy when the start comes again, so this shares a round with what is new.
    let start = world.start("c", "listens", number(1));
    let busy = world.publish(vec![start]);
    world.deliver(next, busy, false);
    world.settle_but(next, is_append);
    for frame in again {
        world.deliver(next, frame, false);
    }
    let start = world.start("d", "listens", number(1));
    let new = world.publish(vec![start]);
    world.deliver(next, new, false);
    let first = take(&mut world, next, is_append);
    let answer = world.happen(next, first).expect("a receipt");
    world.answer(next, answer);
    world.settle_but(next, is_append);
    assert_eq!(world.traced("step add"), 0, "{:?}", world.trace);
    let second = take(&mut world, next, is_append);
    (world, next, second)
}

/// The run is brought to its end without waiting for anything.
fn at_once(world: &mut World) {
    let now = world.now;
    world.run_until(now);
    assert_eq!(world.result("a"), Some(done(&3u64)), "at once: {:?}", world.trace);
}

#[test]
fn news_in_a_frame_that_stands_are_acted_upon() {
    let (mut world, next, append) = news_in_a_frame();
    let answer = world.happen(next, append).expect("a receipt");
    world.answer(next, answer);
    world.settle(next);
    at_once(&mut world);
}

#[test]
fn news_in_a_frame_whose_fate_was_open_and_that_stands_are_not_lost() {
    let (mut world, next, append) = news_in_a_frame();
    let Effect::Append { id, .. } = &append else { panic!("an append") };
    let id = *id;
    world.answer(next, Answer::Receipt { id, receipt: Err(()) });
    let tail = take(&mut world, next, |effect| matches!(effect, Effect::AskTail { .. }));
    let tail = world.happen(next, tail).expect("an answer");
    world.answer(next, tail);
    let _ = world.happen(next, append);
    world.settle(next);
    at_once(&mut world);
}

#[test]
fn news_in_a_frame_that_was_overtaken_are_not_lost() {
    let (mut world, next, append) = news_in_a_frame();
    let Effect::Append { id, .. } = &append else { panic!("an append") };
    let id = *id;
    let _ = world.happen(next, append);
    let third = world.owner();
    let start = world.start("e", "listens", number(1));
    world.say(third, vec![start]);
    world.answer(next, Answer::Receipt { id, receipt: Err(()) });
    world.settle(next);
    at_once(&mut world);
}

#[test]
fn a_signal_that_waited_only_because_the_book_was_old_is_news() {
    let mut world = World::new(registry());
    let (gone, next) = (world.owner(), world.owner());
    let start = world.start("b", "listens", number(2));
    world.say(next, vec![start]);
    let start = world.start("a", "hears_and_steps", number(3));
    world.say(gone, vec![start]);
    assert_eq!(world.unacked(), 0);
    let signal = word(&mut world, "a");
    hears(&mut world, gone, signal);
    assert!(world.owners[gone].waiting.iter().any(is_step));
    let again = world.crash(gone);
    assert_eq!(again.len(), 1, "the signal");
    for frame in again {
        world.deliver(next, frame, false);
    }
    world.settle(next);
    let until = Timestamp(world.now.0 + 3_000);
    world.run_until(until);
    at_once(&mut world);
}

#[test]
fn what_comes_again_to_one_with_an_old_book_is_news_when_it_reads_on() {
    let mut world = World::new(registry());
    let (frozen, gone) = (world.owner(), world.owner());
    let start = world.start("a", "steps", number(3));
    let frame = world.publish(vec![start]);
    world.deliver(frozen, frame, false);
    world.settle_but(frozen, is_step);
    // It loses its connection: the start comes to another one, which does the first step and begins the second.
    let kept = |effect: &Effect| is_step(effect) || matches!(effect, Effect::Send { outgoing: Outgoing::Wake(_), .. });
    world.deliver(gone, frame, false);
    world.settle_but(gone, kept);
    let step = take(&mut world, gone, is_step);
    let done = world.happen(gone, step).expect("a result");
    world.answer(gone, done);
    world.settle_but(gone, kept);
    // That one dies, and the start comes back, before the first one's step is done.
    let again = world.crash(gone);
    assert_eq!(again.len(), 1, "the start");
    for frame in again {
        world.deliver(frozen, frame, false);
    }
    world.settle_but(frozen, is_step);
    does_a_step(&mut world, frozen);
    world.settle(frozen);
    assert!(world.chain().1 > 0, "a frame was void");
    at_once(&mut world);
}

/// A parent that is nowhere wants a child.
fn spawn(world: &mut World, id: &str) -> Event {
    let parent = Parent {
        workflow_id: WorkflowId::new("parent").expect("a good id"),
        run_id: RunId(Uuid::from_u128(77)),
        step: 0,
        hears_begin: true,
    };
    let start = Start {
        workflow: "steps".to_owned(),
        version: None,
        args: number(3),
        policy: IdPolicy::Reject,
        tags: Vec::new(),
        start_at: None,
        timeout_ms: None,
        headers: None,
        priority: Default::default(),
    };
    let child = parent.child();
    let mut event = world.event(id, None, &EventBody::Spawn { start, parent });
    event.id = EventId(child.0);
    event.reply_to = None;
    event
}

/// One of two shards.
fn of_two(shard: u32) -> World {
    let mut world = World::new(registry());
    (world.shard, world.shards) = (shard, 2);
    world
}

/// Two shards, of the parent and of the child; a worker that leaves had both, the next one has both.
#[test]
fn local_work_of_a_child_is_not_begun_because_the_parents_next_owner_says_again_that_it_wants_it() {
    let place = |id: &str| shard::of(&WorkflowId::new(id).expect("good"), 2);
    let parent = ["p0", "p1", "p2", "p3", "p4"].into_iter().find(|id| place(id) != place("kid")).expect("one");
    let mut of_parent = of_two(place(parent));
    let mut of_kid = of_two(place("kid"));
    let leaving = (of_parent.owner(), of_kid.owner());
    let start = of_parent.start(parent, "wants", number(3));
    of_parent.say(leaving.0, vec![start]);
    let told = of_parent.outside.pop().expect("it wants a child");
    let frame = of_kid.publish(vec![told]);
    of_kid.deliver(leaving.1, frame, false);
    of_kid.settle_but(leaving.1, is_step);
    // After two seconds a wake-up covers the step, and nothing is held.
    of_kid.now = Timestamp(of_kid.now.0 + 2_000);
    of_kid.tick(leaving.1);
    of_kid.settle_but(leaving.1, is_step);
    assert_eq!((of_parent.unacked(), of_kid.unacked()), (0, 0), "the shards are others' from here on");
    assert!(of_kid.owners[leaving.1].waiting.iter().any(is_step), "while local work goes on");
    // The next worker is asked for a look at each shard, as it starts.
    let next = (of_parent.owner(), of_kid.owner());
    let look =
        |world: &mut World| world.event("_wake", None, &EventBody::Wake { shard: world.shard, number: u64::MAX });
    let event = look(&mut of_parent);
    of_parent.say(next.0, vec![event]);
    let event = look(&mut of_kid);
    of_kid.say(next.1, vec![event]);
    for told in std::mem::take(&mut of_parent.outside) {
        of_kid.say(next.1, vec![told]);
    }
    of_kid.settle(leaving.1);
    of_kid.settle(next.1);
    let steps = |owner| of_kid.traced(&format!("{owner} step add"));
    assert_eq!((steps(leaving.1), steps(next.1)), (3, 0), "{:?}", of_kid.trace);
}

#[test]
fn what_is_applied_again_and_is_no_news_here_is_not_made_news_elsewhere() {
    let mut world = World::new(registry());
    let (leaving, next) = (world.owner(), world.owner());
    let start = world.start("b", "listens", number(2));
    hears(&mut world, next, start);
    let start = world.start("a", "steps", number(3));
    hears(&mut world, leaving, start);
    let signal = word(&mut world, "b");
    hears(&mut world, next, signal);
    let kid = spawn(&mut world, "kid");
    hears(&mut world, next, kid);
    let told = |world: &World| -> Vec<bool> {
        let events = world.archive.iter().flat_map(|frame| &frame.events);
        events.filter(|event| event.body.kind().as_deref() == Some("child_began")).map(|event| event.again).collect()
    };
    assert_eq!(told(&world), [false], "{:?}", world.trace);
    does_a_step(&mut world, leaving);
    let signal = word(&mut world, "b");
    hears(&mut world, next, signal);
    assert_eq!(told(&world), [false, true], "{:?}", world.trace);
}

/// What is told only once is told late, and not again: whoever has the local work that came of giving up still has it.
#[test]
fn a_first_word_about_an_activity_that_was_given_up_is_no_news() {
    for drops in [false, true] {
        let mut world = World::new(registry());
        let leaving = world.owner();
        let start = world.start("a", "gives_up_and_steps", payload(&BTreeMap::from([("drops", drops)])));
        hears(&mut world, leaving, start);
        let task = world.queue.last().expect("its activity").clone();
        world.now = Timestamp(world.now.0 + 11_000);
        world.tick(leaving);
        world.settle_but(leaving, is_step);
        assert!(world.owners[leaving].waiting.iter().any(is_step), "it is at its step: {:?}", world.trace);
        let down = everpulse_protocol::Failure::new(FailureKind::Failed, "down");
        let words = [world.judged(&task, down), world.settled(&task, done(&2u64))];
        let next = world.owner();
        for word in words {
            world.say(next, vec![word]);
            assert_eq!(world.traced(&format!("{next} step add")), 0, "it is not gone: {:?}", world.trace);
        }
        does_a_step(&mut world, leaving);
        assert_eq!(world.result("a"), Some(done(&3u64)), "{:?}", world.trace);
    }
}

/// An owner takes a result, begins a step and dies; the result comes to the next one.
#[test]
fn a_result_that_comes_again_says_that_whoever_had_it_is_gone() {
    let mut world = World::new(registry());
    let gone = world.owner();
    let start = world.start("a", "asks_and_steps", number(2));
    hears(&mut world, gone, start);
    let task = world.queue.last().expect("its activity").clone();
    let result = world.settled(&task, done(&4u64));
    let frame = world.publish(vec![result]);
    world.deliver(gone, frame, false);
    let is_wake = |effect: &Effect| matches!(effect, Effect::Send { outgoing: Outgoing::Wake(_), .. });
    world.settle_but(gone, |effect| is_step(effect) || is_wake(effect));
    let again = world.crash(gone);
    assert!(again.contains(&frame), "it waits for the step");
    let next = world.owner();
    world.deliver(next, frame, false);
    world.settle(next);
    assert_eq!(world.result("a"), Some(done(&4u64)), "at once: {:?}", world.trace);
}

/// Whoever has the run is slow, and so is the answer to its client.
#[test]
fn what_a_client_asks_again_is_no_news() {
    let mut world = World::new(registry());
    let leaving = world.owner();
    let start = world.start("a", "steps", number(3));
    hears(&mut world, leaving, start.clone());
    let next = world.owner();
    let again = Event { again: true, ..start.clone() };
    hears(&mut world, next, again);
    assert!(!world.owners[next].waiting.iter().any(is_step), "it is not gone: {:?}", world.trace);
    hears(&mut world, next, start);
    assert!(world.owners[next].waiting.iter().any(is_step), "now it is: {:?}", world.trace);
}
