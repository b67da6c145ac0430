//! Signals to all runs with a tag: each that is open takes it once, however many there are, wherever they lie, and whoever
//! has the shard; one that begins later does not.

mod world;

use everpulse_engine::{Effect, Options};
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::history::{Record, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{RequestId, Timestamp};
use world::judge::judge;
use world::play::{How, Play};
use world::workflows::{MENDED, number, registry};
use world::{World, done, payload};

fn world() -> World {
    MENDED.set(false);
    World::new(registry())
}

fn begin(world: &mut World, owner: usize, id: &str, workflow: &str, n: u64, tags: &[&str]) {
    let start = world.start_tagged(id, workflow, number(n), tags);
    world.say(owner, vec![start]);
}

fn answers(world: &World, event: &Event) -> Vec<ReplyBody> {
    let request = RequestId(event.id.0);
    world.replies.iter().filter(|(of, _)| *of == request).map(|(_, body)| body.clone()).collect()
}

/// How often runs took a signal by tag.
fn taken(world: &World) -> usize {
    let is_taken = |record: &&Record| matches!(record.body(), Ok(RecordBody::SignalledByTag { .. }));
    world.records().iter().filter(is_taken).count()
}

/// How far it came, frame by frame.
fn reached(world: &World) -> Vec<(u32, bool)> {
    let records = world.chain().0.into_iter().flat_map(|frame| frame.records);
    let reached = |record: Record| match record.body() {
        Ok(RecordBody::TagReached { runs, all, .. }) => Some((runs, all)),
        _ => None,
    };
    records.filter_map(reached).collect()
}

/// Another owner takes over, with nothing in its memory.
fn hand_over(world: &mut World, owner: usize) -> usize {
    let again = world.crash(owner);
    let next = world.owner();
    for frame in again {
        world.deliver(next, frame, true);
    }
    world.settle(next);
    next
}

#[test]
fn open_runs_with_the_tag_take_it_once_and_nobody_else_does() {
    let mut world = world();
    let owner = world.owner();
    begin(&mut world, owner, "a", "listens", 2, &["red"]);
    begin(&mut world, owner, "b", "listens", 2, &["blue", "red", "red"]);
    begin(&mut world, owner, "blue", "listens", 1, &["blue"]);
    begin(&mut world, owner, "none", "listens", 1, &[]);
    begin(&mut world, owner, "over", "naps", 0, &["red"]);
    let past = Timestamp(world.now.0 + 100);
    world.run_until(past);
    assert_eq!(world.result("over"), Some(done(&0)));
    let event = world.word_by_tag("red", "x");
    let frame = world.publish(vec![event.clone()]);
    world.deliver(owner, frame, false);
    world.settle(owner);
    assert_eq!(answers(&world, &event), [ReplyBody::Reached { runs: 2 }]);
    assert_eq!((taken(&world), world.unacked()), (2, 0));
    // It comes again, here, at the next owner, and when others carry the tag.
    world.replay(owner, frame, true);
    world.settle(owner);
    let next = hand_over(&mut world, owner);
    begin(&mut world, next, "later", "listens", 1, &["red"]);
    world.replay(next, frame, false);
    world.settle(next);
    assert_eq!(answers(&world, &event), [const { ReplyBody::Reached { runs: 2 } }; 3]);
    assert_eq!(taken(&world), 2);
    let last = world.word_by_tag("red", "y");
    world.say(next, vec![last.clone()]);
    assert_eq!(answers(&world, &last), [ReplyBody::Reached { runs: 3 }]);
    for (id, said) in [("a", "xy"), ("b", "xy"), ("later", "y")] {
        assert_eq!(world.result(id), Some(done(&said)), "{id}");
    }
    assert_eq!((world.result("blue"), world.result("none")), (None, None));
    judge(&world);
}

#[test]
fn where_nobody_carries_the_tag_that_is_remembered_too() {
    let mut world = world();
    let owner = world.owner();
    let event = world.word_by_tag("red", "x");
    let frame = world.publish(vec![event.clone()]);
    world.deliver(owner, frame, false);
    world.settle(owner);
    begin(&mut world, owner, "a", "listens", 1, &["red"]);
    let next = hand_over(&mut world, owner);
    world.replay(next, frame, true);
    world.settle(next);
    assert_eq!(answers(&world, &event), [const { ReplyBody::Reached { runs: 0 } }; 2]);
    assert_eq!((world.result("a"), taken(&world)), (None, 0));
    judge(&world);
}

#[test]
fn runs_that_cannot_take_it_now_keep_it() {
    let mut world = world();
    let owner = world.owner();
    begin(&mut world, owner, "parked", "fussy", 1, &["red"]);
    begin(&mut world, owner, "nobodys", "unheard_of", 1, &["red"]);
    let mut later = world.start_tagged("later", "listens", number(1), &["red"]);
    let due = Timestamp(world.now.0 + 5_000);
    let mut body = later.body().expect("it was written just now");
    body.as_start_mut().expect("it is a start").start_at = Some(due);
    later.body = Body::of(&body);
    world.say(owner, vec![later]);
    let event = world.word_by_tag("red", "x");
    world.say(owner, vec![event.clone()]);
    assert_eq!(answers(&world, &event), [ReplyBody::Reached { runs: 3 }]);
    world.run_until(due);
    assert_eq!(world.result("later"), Some(done(&"x")));
    MENDED.set(true);
    let resume = world.event("parked", None, &EventBody::Resume);
    world.say(owner, vec![resume]);
    assert_eq!(taken(&world), 2, "it was mended, and has its word; nobody has the code of the third");
    judge(&world);
}

#[test]
fn more_runs_than_a_frame_has_room_for_take_it_in_several_whoever_comes_between() {
    const RUNS: u64 = 40;
    let text = "x".repeat(8 * 1024);
    for (frames_before, with_disk) in [(0, false), (1, false), (3, false), (3, true), (5, true)] {
        let mut world = world();
        world.options = Options { runs_at_hand_max: 4, save_bytes_min: 1, ..world.options.clone() };
        if with_disk {
            world.with_disk();
        }
        let owner = world.owner();
        for n in 0..RUNS {
            begin(&mut world, owner, &format!("a-{n}"), "listens", 1, &["red", "all"]);
        }
        let event = world.word_by_tag("red", &text);
        let frame = world.publish(vec![event.clone()]);
        world.deliver(owner, frame, false);
        world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
        for _ in 0..frames_before {
            // One frame, and what follows from it up to the next one.
            assert!(world.step(owner));
            world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
        }
        assert_eq!(reached(&world).len(), frames_before);
        assert_eq!(world.unacked(), 1, "it is not let go before all have it");
        let next = hand_over(&mut world, owner);
        assert_eq!(taken(&world) as u64, RUNS);
        assert_eq!(answers(&world, &event), [ReplyBody::Reached { runs: RUNS as u32 }]);
        assert!(reached(&world).len() >= 5, "{:?}", reached(&world));
        assert_eq!(reached(&world).iter().filter(|(_, all)| *all).count(), 1);
        for n in 0..RUNS {
            assert_eq!(world.result(&format!("a-{n}")), Some(done(&text)));
        }
        // The old owner goes on, and nothing comes of it.
        world.owners[owner].alive = true;
        world.settle(owner);
        world.replay(next, frame, false);
        world.settle(next);
        assert_eq!((taken(&world) as u64, world.unacked()), (RUNS, 0));
        judge(&world);
    }
}

#[test]
fn a_series_takes_it_once_also_where_it_goes_on_between_two_frames() {
    let mut world = world();
    let owner = world.owner();
    #[derive(serde::Serialize)]
    struct PassesOn {
        n: u64,
        said: String,
    }
    for n in 0..12 {
        let args = payload(&PassesOn { n: 2, said: String::new() });
        let start = world.start_tagged(&format!("a-{n}"), "passes_on", args, &["red"]);
        world.say(owner, vec![start]);
    }
    let text = "x".repeat(20 * 1024);
    let event = world.word_by_tag("red", &text);
    world.say(owner, vec![event.clone()]);
    assert_eq!(answers(&world, &event), [ReplyBody::Reached { runs: 12 }]);
    assert_eq!(reached(&world).len(), 3);
    let again = hand_over(&mut world, owner);
    let last = world.word_by_tag("red", "y");
    world.say(again, vec![last.clone()]);
    assert_eq!(answers(&world, &last), [ReplyBody::Reached { runs: 12 }], "those that go on carry it along");
    for n in 0..12 {
        assert_eq!(world.result(&format!("a-{n}")), Some(done(&format!("{text}y"))));
    }
    judge(&world);
}

#[test]
fn a_series_that_goes_on_before_its_turn_keeps_its_place() {
    let mut world = world();
    let owner = world.owner();
    for n in 0..16 {
        begin(&mut world, owner, &format!("a-{n}"), "circles", 0, &["red"]);
    }
    let event = world.word_by_tag("red", &"x".repeat(20 * 1024));
    let frame = world.publish(vec![event.clone()]);
    world.deliver(owner, frame, false);
    while world.unacked() > 0 {
        // One frame, and then all that are left are at their next run.
        world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
        world.now = Timestamp(world.now.0 + 750);
        assert!(world.step(owner) || world.unacked() == 0);
    }
    assert_eq!(answers(&world, &event), [ReplyBody::Reached { runs: 16 }]);
    assert!(reached(&world).len() > 3, "{:?}", reached(&world));
    for n in 0..16 {
        assert_eq!(world.result(&format!("a-{n}")), Some(done(&(20 * 1024))));
    }
    judge(&world);
}

#[test]
fn tags_outlive_the_frames_that_said_them() {
    let mut world = world();
    world.options =
        Options { retention_ms: 1_000, id_memory_ms: 100_000, trim_bytes_min: 4_000, ..world.options.clone() };
    let mut owner = world.owner();
    for n in 0..5 {
        begin(&mut world, owner, &format!("a-{n}"), "listens", 2, &["red"]);
    }
    let first = world.word_by_tag("red", "x");
    let frame = world.publish(vec![first.clone()]);
    world.deliver(owner, frame, false);
    world.settle(owner);
    for _ in 0..40 {
        let name = format!("noise-{}", world.id());
        begin(&mut world, owner, &name, "steps", 2, &["noise"]);
        let until = Timestamp(world.now.0 + 300);
        world.run_until(until);
    }
    assert!(world.start > 0, "it was trimmed");
    owner = hand_over(&mut world, owner);
    world.replay(owner, frame, true);
    world.settle(owner);
    assert_eq!(answers(&world, &first).last(), Some(&ReplyBody::Accepted), "it is known; how many took it is not");
    let last = world.word_by_tag("red", "y");
    world.say(owner, vec![last.clone()]);
    assert_eq!(answers(&world, &last), [ReplyBody::Reached { runs: 5 }]);
    for n in 0..5 {
        assert_eq!(world.result(&format!("a-{n}")), Some(done(&"xy")));
    }
    judge(&world);
}

#[test]
fn one_that_was_issued_too_long_ago_is_put_away_and_said_to_be() {
    let mut world = world();
    world.options = Options { retention_ms: 1_000, id_memory_ms: 1_000, ..world.options.clone() };
    let owner = world.owner();
    begin(&mut world, owner, "a", "listens", 1, &["red"]);
    let old = Event { sent_at: Timestamp(0), ..world.word_by_tag("red", "x") };
    world.now = Timestamp(world.now.0 + 100_000);
    for _ in 0..3 {
        let name = format!("noise-{}", world.id());
        begin(&mut world, owner, &name, "steps", 2, &[]);
        let until = Timestamp(world.now.0 + 70_000);
        world.run_until(until);
    }
    world.say(owner, vec![old.clone()]);
    assert!(matches!(answers(&world, &old)[..], [ReplyBody::Expired { .. }]), "{:?}", answers(&world, &old));
    assert_eq!((taken(&world), world.buried), (0, 1));
}

/// What becomes of it when an owner fails at one of its effects, or two do.
fn play(failures: &[(usize, How)]) -> Play {
    let text = "x".repeat(40 * 1024);
    let outcome = std::panic::catch_unwind(|| {
        let mut play = Play::new(false);
        for (id, tags) in [("a", &["red"][..]), ("b", &["red", "blue"]), ("c", &["blue"]), ("e", &["red"])] {
            let event = play.world.start_tagged(id, "listens", number(2), tags);
            play.say(vec![event]);
        }
        let acts: &[fn(&mut Play)] = &[
            |play| {
                let event = play.world.word_by_tag("red", &"x".repeat(40 * 1024));
                play.say(vec![event]);
            },
            |play| {
                let event = play.world.word_by_tag("blue", "y");
                play.say(vec![event]);
            },
            |play| {
                for id in ["a", "c", "e"] {
                    play.signal(id, "z");
                }
            },
        ];
        play.run(acts, failures);
        play
    });
    let play = outcome.unwrap_or_else(|_| panic!("with {failures:?}"));
    let results =
        [("a", format!("{text}z")), ("b", format!("{text}y")), ("c", "yz".to_owned()), ("e", format!("{text}z"))];
    for (id, said) in results {
        assert_eq!(play.world.result(id), Some(done(&said)), "{id} with {failures:?}");
    }
    judge(&play.world);
    play
}

#[test]
fn an_owner_may_fail_between_any_two_effects() {
    let effects = play(&[]).effects;
    let mut points = 0;
    for at in 0..effects {
        for how in [How::Before, How::After, How::Stopped] {
            play(&[(at, how)]);
            points += 1;
        }
    }
    for at in (0..effects).step_by(5) {
        for (how, then) in [(How::After, How::Before), (How::After, How::After), (How::Stopped, How::Stopped)] {
            play(&[(at, how), (at + 4, then)]);
            points += 1;
        }
    }
    println!("{points} failures");
    assert!(points > 60, "{points}");
}
