//! What is under way is covered: whoever does it may die at any moment, and an input that is not acked, or a wake-up that
//! comes soon, brings another one.

mod world;

use everpulse_engine::Effect;
use everpulse_protocol::Timestamp;
use everpulse_protocol::event::EventBody;
use everpulse_protocol::history::{Record, RecordBody};
use everpulse_protocol::timer::Wake;
use world::workflows::{MENDED, Word, number, registry};
use world::{World, decode_frame, done, payload};

/// Local work of the tests is over after so long, with what is added to that; an hour is too long.
const SOON_MS: u64 = 15_000;

fn is_step(effect: &Effect) -> bool {
    matches!(effect, Effect::StartStep { .. })
}

/// An append with a record of this kind.
fn appends(effect: &Effect, what: impl Fn(&Record) -> bool) -> bool {
    matches!(effect, Effect::Append { payload, .. } if decode_frame(payload).records.iter().any(what))
}

fn word(world: &mut World, id: &str) -> everpulse_protocol::event::Event {
    let value = payload(&Word { text: "word".to_owned() });
    world.event(id, None, &EventBody::Signal { headers: None, name: "Word".to_owned(), value })
}

/// A wake-up comes to an owner, which does everything but what is kept back.
fn wake_but(world: &mut World, owner: usize, wake: Wake, kept: impl Fn(&Effect) -> bool) {
    world.now = world.now.max(wake.due);
    let event = world.wake(wake);
    let frame = world.publish(vec![event]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, kept);
}

/// Its owner dies, and there is nothing but the last wake-up: it comes soon, and brings a run to its end.
fn only_the_last_wake_up_is_left(mut world: World, owner: usize, id: &str, result: u64) {
    assert_eq!(world.unacked(), 0, "{:?}", world.trace);
    let cover = *world.timers.last().expect("a wake-up");
    assert!(cover.due.0 <= world.now.0 + SOON_MS, "{cover:?} comes soon, now is {}", world.now);
    // What it still holds was acked by others, and comes to nobody.
    world.crash(owner);
    let next = world.owner();
    wake_but(&mut world, next, cover, |_| false);
    // One that lost its local work to a crash is looked at when that is past its deadline.
    let until = Timestamp(world.now.0 + SOON_MS);
    world.run_until(until);
    assert_eq!(world.result(id), Some(done(&result)), "{:?}", world.trace);
}

#[test]
fn local_work_that_a_timer_began_is_covered_by_the_wake_up_after_that_of_the_timer() {
    for fires_first in [false, true] {
        let mut world = World::new(registry());
        let owner = world.owner();
        let start = world.start("a", "rests", number(5_000));
        world.say(owner, vec![start]);
        let wake = *world.timers.last().expect("a timer is open");
        world.now = wake.due;
        if fires_first {
            world.tick(owner);
            world.settle_but(owner, is_step);
            assert_eq!(world.timers.len(), 1, "the one that is due covers it");
        }
        wake_but(&mut world, owner, wake, is_step);
        assert_eq!(world.timers.len(), 2, "{:?}", world.timers);
        only_the_last_wake_up_is_left(world, owner, "a", 5_000);
    }
}

#[test]
fn local_work_whose_input_another_worker_acked_is_covered_when_the_wake_up_is_served_as_it_begins() {
    for read_anew in [false, true] {
        let mut world = World::new(registry());
        let owner = world.owner();
        // So short that the owner does not ask for cover by itself, as it does for what it holds for two seconds.
        let start = world.start("a", "rests", number(1_000));
        let frame = world.publish(vec![start]);
        world.deliver(owner, frame, false);
        // It has not heard that the wake-up is stored, so it holds the start.
        world.settle_but(owner, |effect| matches!(effect, Effect::Send { .. }));
        assert_eq!(world.unacked(), 1);
        // The start comes to another one, who makes sure of the wake-up, and finds the run at rest.
        let other = world.owner();
        world.deliver(other, frame, true);
        world.settle(other);
        assert_eq!((world.unacked(), world.timers.len()), (0, 1), "any consumer's ack counts");
        if read_anew {
            // What the owner writes is void now: it takes the start once more, which it knows then.
            let start = world.start("b", "listens", number(1));
            world.say(other, vec![start]);
        }
        world.crash(other);
        let wake = world.timers[0];
        wake_but(&mut world, owner, wake, is_step);
        assert_eq!(world.chain().1, usize::from(read_anew));
        only_the_last_wake_up_is_left(world, owner, "a", 1_000);
    }
}

#[test]
fn local_work_behind_local_work_whose_input_is_acked_is_covered() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "steps", number(2));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, is_step);
    world.now = Timestamp(world.now.0 + 2_000);
    world.tick(owner);
    world.settle_but(owner, is_step);
    assert_eq!(world.unacked(), 0, "covered after two seconds");
    let first = *world.timers.last().expect("the cover");
    // The first step ends just before its deadline; the second one is under way when the wake-up comes.
    world.now = Timestamp(first.due.0 - 1);
    assert!(world.step(owner));
    world.settle_but(owner, is_step);
    wake_but(&mut world, owner, first, is_step);
    only_the_last_wake_up_is_left(world, owner, "a", 1);
}

#[test]
fn local_work_that_outlives_a_void_frame_of_its_owner_is_covered() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "rests", number(5_000));
    world.say(owner, vec![start]);
    let wake = *world.timers.last().expect("a timer is open");
    world.now = wake.due;
    world.tick(owner);
    world.settle_but(owner, is_step);
    // Another one writes, and the owner's next frame is void: its step runs on.
    let rival = world.owner();
    let start = world.start("b", "listens", number(1));
    world.say(rival, vec![start]);
    world.crash(rival);
    wake_but(&mut world, owner, wake, is_step);
    assert_eq!(world.chain().1, 1, "its frame was void");
    only_the_last_wake_up_is_left(world, owner, "a", 5_000);
}

#[test]
fn an_input_on_trial_is_held_until_what_it_began_is_over() {
    let mut world = World::new(registry());
    let owner = world.owner();
    // There is a wake-up already: no confirmation of another one is waited for.
    let start = world.start("b", "naps", number(600_000));
    world.say(owner, vec![start]);
    let start = world.start("c", "listens", number(1));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, true);
    world.settle(owner);
    let (frames, held) = (world.log.len(), world.unacked());
    assert_eq!(held, 0, "it was taken in and applied");
    let start = world.start("a", "steps", number(1));
    let frame = world.publish(vec![start]);
    // It was published before its worker came: first it is taken in, and applied in the next frame.
    world.deliver(owner, frame, true);
    let applies = |effect: &Effect| appends(effect, |record| matches!(record.body(), Ok(RecordBody::Started { .. })));
    world.settle_but(owner, applies);
    assert_eq!((world.log.len() - frames, world.unacked()), (1, 1), "it is taken in, and not applied");
    world.settle_but(owner, is_step);
    assert_eq!((world.log.len() - frames, world.unacked()), (2, 1), "its step is under way");
    world.settle(owner);
    assert_eq!((world.result("a"), world.unacked()), (Some(done(&0u64)), 0));
}

#[test]
fn a_resumption_is_held_until_what_had_waited_for_it_is_applied() {
    MENDED.set(false);
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "fussy", number(1));
    let (first, second) = (word(&mut world, "a"), word(&mut world, "a"));
    world.say(owner, vec![start, first, second]);
    assert_eq!(world.unacked(), 0, "taken in by a parked run");
    MENDED.set(true);
    let resume = world.event("a", None, &EventBody::Resume);
    let frame = world.publish(vec![resume]);
    world.deliver(owner, frame, false);
    let applies = |effect: &Effect| appends(effect, |record| matches!(record.body(), Ok(RecordBody::Signalled { .. })));
    world.settle_but(owner, applies);
    assert_eq!(world.unacked(), 1, "it goes on, and has not gone on");
    world.settle_but(owner, |effect| matches!(effect, Effect::Send { .. }));
    assert_eq!((world.unacked(), world.queue.len()), (1, 0), "its task is not sent");
    world.settle(owner);
    assert_eq!((world.unacked(), world.queue.len()), (0, 1));
}

#[test]
fn what_a_frame_on_its_way_begins_is_waited_for() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "rests_beside", number(1_000));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    let is_send = |effect: &Effect| matches!(effect, Effect::Send { .. });
    world.settle_but(owner, is_send);
    // The task and the wake-up are sent; they are confirmed while the frame is on its way in which the timer fires.
    world.now = Timestamp(world.now.0 + 1_000);
    world.tick(owner);
    world.settle_but(owner, |effect| is_send(effect) || matches!(effect, Effect::Append { .. }));
    world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
    assert_eq!((world.queue.len(), world.log.len()), (1, 1));
    assert_eq!(world.unacked(), 1, "the step that the frame begins is not even known");
    world.settle_but(owner, is_step);
    assert_eq!(world.unacked(), 1, "it is under way");
    world.settle(owner);
    assert_eq!(world.unacked(), 0);
}

#[test]
fn a_run_that_goes_on_by_itself_does_so_in_a_frame_before_that_of_its_inputs() {
    MENDED.set(false);
    let mut world = World::new(registry());
    world.options.live_runs_max = 0;
    let owner = world.owner();
    let start = world.start("a", "wavers", number(1));
    world.say(owner, vec![start]);
    MENDED.set(true);
    let signal = word(&mut world, "a");
    world.say(owner, vec![signal]);
    let is_parked = |world: &World| world.records().iter().any(|r| matches!(r.body(), Ok(RecordBody::Parked { .. })));
    assert!(is_parked(&world), "its code is another one");
    MENDED.set(false);
    let wake = *world.timers.last().expect("a parked run has one");
    wake_but(&mut world, owner, wake, |_| false);
    assert_eq!(world.queue.len(), 1, "it went on");
    let (frames, _) = world.chain();
    let both = frames.iter().filter(|frame| {
        let has = |what: fn(&RecordBody) -> bool| frame.records.iter().any(|r| r.body().is_ok_and(|body| what(&body)));
        has(|body| matches!(body, RecordBody::Resumed)) && has(|body| matches!(body, RecordBody::Signalled { .. }))
    });
    assert_eq!(both.count(), 0);
}
