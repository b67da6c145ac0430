//! History is carried forward and trimmed, and nothing that is still needed is lost.

mod world;

use std::collections::BTreeMap;

use everpulse_engine::Options;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy, Start};
use everpulse_protocol::family::{Caller, CallerKind, Demand};
use everpulse_protocol::history::{Record, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{RunId, Timestamp, WorkflowId};
use world::judge::judge;
use world::workflows::{MENDED, Word, number, registry};
use world::{Answer, World, done, outcome_of, payload, repeats};

/// The retention of these tests, in milliseconds.
const RETENTION_MS: u64 = 1_000;
/// How long most of them remember ids.
const MEMORY_MS: u64 = 100_000;

fn retaining(id_memory_ms: u64) -> World {
    MENDED.set(false);
    let mut world = World::new(registry());
    world.options =
        Options { retention_ms: RETENTION_MS, id_memory_ms, trim_bytes_min: 4_000, ..world.options.clone() };
    world
}

fn word(world: &mut World, id: &str, text: &str) -> Event {
    let body =
        EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&Word { text: text.to_owned() }) };
    world.event(id, None, &body)
}

/// Time passes, and runs come and go.
fn bustle(world: &mut World, owner: usize, runs: usize) {
    for _ in 0..runs {
        let name = format!("noise-{}", world.id());
        let start = world.start(&name, "steps", number(2));
        world.say(owner, vec![start]);
        let until = Timestamp(world.now.0 + 300);
        world.run_until(until);
    }
}

/// Another owner takes over, from what history still has.
fn succeed(world: &mut World, owner: usize) -> usize {
    let again = world.crash(owner);
    let next = world.owner();
    for frame in again {
        world.deliver(next, frame, true);
    }
    // The wake-up that history names brings it to the shard, if nothing else does.
    if let Some(wake) = world.timers.last().copied() {
        let event = world.wake(wake);
        world.say(next, vec![event]);
    }
    world.settle(next);
    next
}

fn pieces(world: &World) -> Vec<(u32, u32)> {
    let records = world.chain().0.into_iter().flat_map(|frame| frame.records);
    let piece = |record: everpulse_protocol::history::Record| match record.body() {
        Ok(RecordBody::Carried { piece, pieces, .. }) => Some((piece, pieces)),
        _ => None,
    };
    records.filter_map(piece).collect()
}

#[test]
fn runs_that_outlive_the_retention_go_on_where_they_were() {
    let mut world = retaining(RETENTION_MS);
    let mut owner = world.owner();
    for (id, workflow, n) in [("listens", "listens", 3), ("naps", "naps", 60_000), ("asks", "twice", 3)] {
        let start = world.start(id, workflow, number(n));
        world.say(owner, vec![start]);
    }
    let fussy = world.start("fussy", "fussy", number(3));
    let spinach = word(&mut world, "fussy", "spinach");
    let first = word(&mut world, "listens", "a");
    world.say(owner, vec![fussy]);
    world.say(owner, vec![spinach]);
    world.say(owner, vec![first]);
    let later = Start {
        workflow: "steps".to_owned(),
        version: None,
        args: number(3),
        policy: IdPolicy::Attach,
        tags: Vec::new(),
        start_at: Some(Timestamp(40_000)),
        timeout_ms: None,
        headers: None,
        priority: Default::default(),
    };
    let later = world.event("later", None, &EventBody::Start(later));
    world.say(owner, vec![later]);

    let mut starts = Vec::new();
    for round in 0..4 {
        bustle(&mut world, owner, 30);
        starts.push(world.start);
        let visible = world.log.len() - world.start;
        assert!(visible < 100, "history is bounded: {visible} frames in round {round}, {starts:?}");
        owner = succeed(&mut world, owner);
        let letter = ["b", "c"].get(round).map(|text| word(&mut world, "listens", text));
        world.say(owner, Vec::from_iter(letter));
    }
    assert!(starts.is_sorted_by(|a, b| a < b), "it is trimmed again and again: {starts:?}");

    assert_eq!(world.result("listens"), Some(done(&"abc")));
    MENDED.set(true);
    let resume = world.event("fussy", None, &EventBody::Resume);
    let cake = word(&mut world, "fussy", "cake");
    world.say(owner, vec![resume]);
    world.say(owner, vec![cake]);
    let mut answered = 0;
    while let Some(task) = world.queue.get(answered).cloned() {
        answered += 1;
        let event = world.settled(&task, outcome_of(&task));
        world.say(owner, vec![event]);
    }
    world.run_until(Timestamp(200_000));
    assert_eq!(world.result("asks"), Some(done(&12u64)));
    assert_eq!(world.result("fussy"), Some(done(&14u64)));
    assert_eq!(world.result("naps"), Some(done(&60_000u64)));
    assert_eq!(world.result("later"), Some(done(&3u64)));
    let repeats = judge(&world);
    assert_eq!((repeats.tasks, world.unacked()), (0, 0), "no task is sent twice");
}

/// A run whose history takes several frames to carry.
fn long_run(world: &mut World, owner: usize, signals: usize) {
    let start = world.start("long", "listens", number(signals as u64 + 1));
    world.say(owner, vec![start]);
    for _ in 0..signals {
        let event = word(world, "long", &"x".repeat(1_000));
        world.now = Timestamp(world.now.0 + 20);
        world.say(owner, vec![event]);
    }
}

#[test]
fn pieces_that_a_crash_interrupts_are_carried_anew() {
    const SIGNALS: usize = 120;
    let mut begun = 0;
    for crash_at in (0..60).step_by(2) {
        let mut world = retaining(RETENTION_MS);
        let owner = world.owner();
        long_run(&mut world, owner, SIGNALS);
        // Enough to make it worth while, and the window passes.
        let filler = world.start("filler", "listens", number(1_000));
        world.say(owner, vec![filler]);
        for _ in 0..4 {
            let event = word(&mut world, "filler", &"x".repeat(100_000));
            world.now = Timestamp(world.now.0 + 20);
            world.say(owner, vec![event]);
        }
        let end = world.event("filler", None, &EventBody::Terminate { reason: String::new() });
        world.say(owner, vec![end]);
        world.now = Timestamp(world.now.0 + 2 * RETENTION_MS);
        // Inputs arrive between the pieces, and the owner dies before one of the effects.
        let mut effects = 0;
        'carrying: for _ in 0..200 {
            let now = world.clock(owner);
            if world.deadline(owner).is_some_and(|deadline| deadline <= world.now) {
                world.owners[owner].shard.handle_tick(now);
            }
            while effects < crash_at && world.step(owner) {
                effects += 1;
            }
            if effects == crash_at {
                break 'carrying;
            }
            world.now = Timestamp(world.now.0 + 7);
        }
        begun += usize::from(pieces(&world).iter().any(|(_, pieces)| *pieces == 0));
        let owner = succeed(&mut world, owner);
        bustle(&mut world, owner, 20);
        let all = pieces(&world);
        assert!(all.iter().any(|(_, pieces)| *pieces > 2), "it was carried in pieces: {all:?}");
        assert!(world.start > SIGNALS, "what was carried is trimmed: {}", world.start);
        let owner = succeed(&mut world, owner);
        let last = word(&mut world, "long", "y");
        world.say(owner, vec![last]);
        assert_eq!(world.result("long"), Some(done(&format!("{}y", "x".repeat(1_000 * SIGNALS)))), "crash {crash_at}");
        judge(&world);
    }
    assert!(begun > 5, "some died between two pieces: {begun}");
}

#[test]
fn what_is_trimmed_while_it_is_loaded_is_loaded_again() {
    for wait in 0..3 {
        let mut world = retaining(MEMORY_MS);
        let owner = world.owner();
        let start = world.start("a", "listens", number(2));
        let first = word(&mut world, "a", "x");
        world.say(owner, vec![start]);
        world.say(owner, vec![first]);
        bustle(&mut world, owner, 5);
        let loader = world.owner();
        let last = word(&mut world, "a", "y");
        let frame = world.publish(vec![last]);
        world.deliver(loader, frame, false);
        // It has asked for the tail, or read a part of it, when the rest goes.
        for _ in 0..wait {
            world.collect(loader);
            let effect = world.owners[loader].waiting.pop_front().expect("it loads");
            if let Some(Answer::Entries { id, mut entries, .. }) = world.happen(loader, effect) {
                let to = entries.last().expect("there is history").0;
                entries.truncate(2);
                let after = entries.last().map(|(position, _)| *position);
                world.answer(loader, Answer::Entries { id, entries, done: false });
                bustle(&mut world, owner, 20);
                assert!(world.start > 10, "trimmed under the loader");
                world.owners[loader].waiting.push_back(everpulse_engine::Effect::Read { id, after, to });
            } else {
                let tail = world.log.last().map(|(position, _)| *position);
                world.answer(loader, Answer::Tail { id: 1, tail });
            }
        }
        bustle(&mut world, owner, 20);
        assert!(world.start > 10, "trimmed under the loader");
        world.settle(loader);
        assert_eq!(world.result("a"), Some(done(&"xy")), "wait {wait}");
        judge(&world);
    }
}

/// The model's case: the border leaves a void frame whose rival is gone, and its writer comes back.
#[test]
fn a_void_frame_that_comes_back_at_the_border_is_not_believed() {
    let mut world = retaining(MEMORY_MS);
    let zombie = world.owner();
    let start = world.start("a", "listens", number(3));
    world.say(zombie, vec![start]);
    // It applies an input that starts an activity, and loses to the owner.
    let doomed = world.start("doomed", "twice", number(3));
    let doomed_frame = world.publish(vec![doomed]);
    world.deliver(zombie, doomed_frame, false);
    world.collect(zombie);
    let append = world.owners[zombie].waiting.pop_front().expect("its frame");
    let owner = world.owner();
    let first = word(&mut world, "a", "x");
    world.say(owner, vec![first]);
    let void = world.log.len();
    let receipt = world.happen(zombie, append).expect("a receipt");
    assert_eq!(world.chain().1, 1, "it is void");
    bustle(&mut world, owner, 40);
    assert!(world.start > void, "history was trimmed beyond");
    world.start = void;
    let before = world.queue.len();
    world.answer(zombie, receipt);
    for _ in 0..3 {
        world.step(zombie);
    }
    assert_eq!(world.queue.len(), before, "nothing leaves on the word of a void frame");
    world.settle(zombie);
    assert_eq!(world.queue.len(), before + 1, "the input is applied to what history says");
    judge(&world);
    // Nor does one who comes new take it for the beginning.
    let fresh = world.owner();
    let second = word(&mut world, "a", "y");
    world.say(fresh, vec![second]);
    let third = word(&mut world, "a", "z");
    world.say(fresh, vec![third]);
    assert_eq!(world.result("a"), Some(done(&"xyz")));
    judge(&world);
}

#[test]
fn an_id_is_known_for_the_memory_and_refused_after_it() {
    let mut world = retaining(MEMORY_MS);
    let owner = world.owner();
    let start = world.start("a", "listens", number(3));
    let closed = world.start("b", "steps", number(2));
    let signal = word(&mut world, "a", "x");
    let closed_run = RunId(closed.id.0);
    world.say(owner, vec![start]);
    world.say(owner, vec![closed.clone()]);
    world.say(owner, vec![signal.clone()]);
    bustle(&mut world, owner, 60);
    assert!(world.start > 20, "their frames are gone");

    let owner = succeed(&mut world, owner);
    world.replies.clear();
    world.say(owner, vec![signal.clone()]);
    assert!(matches!(world.replies[..], [(_, ReplyBody::Accepted)]), "{:?}", world.replies);
    world.replies.clear();
    world.say(owner, vec![closed.clone()]);
    assert!(matches!(world.replies[0].1, ReplyBody::Started { run_id, .. } if run_id == closed_run));
    assert!(matches!(world.replies[1].1, ReplyBody::Expired { .. }), "its end is gone: {:?}", world.replies);
    let ask = world.event("b", None, &EventBody::Describe);
    world.say(owner, vec![ask]);
    let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("{:?}", world.replies) };
    assert_eq!((view.run_id, view.workflow.as_str(), view.version), (closed_run, "steps", 1));
    assert_eq!(world.buried, 0);

    // Beyond the memory.
    for _ in 0..3 {
        world.now = Timestamp(world.now.0 + MEMORY_MS);
        bustle(&mut world, owner, 60);
    }
    let owner = succeed(&mut world, owner);
    for old in [signal, closed] {
        world.replies.clear();
        world.say(owner, vec![old]);
        assert!(matches!(world.replies[..], [(_, ReplyBody::Expired { .. })]), "{:?}", world.replies);
    }
    assert_eq!(world.buried, 2, "and both are put to the dead letters");
    // So is one that cannot be read: it may have been taken in, and dealt with by another release.
    let unread = world.event("a", None, &EventBody::Resume);
    let unread = Event { sent_at: Timestamp(1), body: Body::of(&RecordBody::TimerFired { step: 1 }), ..unread };
    world.say(owner, vec![unread]);
    assert_eq!(world.buried, 3);
    // The id is free again, and the open run is as it was.
    let again = world.start("b", "steps", number(2));
    let again_run = RunId(again.id.0);
    world.replies.clear();
    world.say(owner, vec![again]);
    assert!(matches!(world.replies[0].1, ReplyBody::Started { run_id, attached: false } if run_id == again_run));
    for text in ["y", "z"] {
        let event = word(&mut world, "a", text);
        world.say(owner, vec![event]);
    }
    assert_eq!(world.result("a"), Some(done(&"xyz")));
}

#[test]
fn an_input_that_waited_while_no_worker_ran_is_taken() {
    let mut world = retaining(RETENTION_MS);
    let owner = world.owner();
    let start = world.start("a", "listens", number(1));
    world.say(owner, vec![start]);
    let signal = word(&mut world, "a", "x");
    let frame = world.publish(vec![signal]);
    world.crash(owner);
    world.now = Timestamp(world.now.0 + 1_000 * RETENTION_MS);
    let owner = world.owner();
    world.deliver(owner, frame, true);
    world.settle(owner);
    assert_eq!(world.result("a"), Some(done(&"x")), "nothing was forgotten meanwhile");
}

#[test]
fn what_waits_behind_the_first_inputs_after_a_downtime_is_taken_too() {
    for crashes in [false, true] {
        let mut world = retaining(RETENTION_MS);
        let owner = world.owner();
        let start = world.start("a", "listens", number(2));
        world.say(owner, vec![start]);
        bustle(&mut world, owner, 10);
        let waiting: Vec<usize> = ["x", "y"]
            .map(|text| {
                let event = word(&mut world, "a", text);
                world.publish(vec![event])
            })
            .into();
        world.crash(owner);
        world.now = Timestamp(world.now.0 + 1_000 * RETENTION_MS);
        let mut owner = world.owner();
        let trims = world.traced("trim");
        world.deliver(owner, waiting[0], true);
        world.settle(owner);
        if crashes {
            owner = succeed(&mut world, owner);
        }
        let later = Timestamp(world.now.0 + 2 * RETENTION_MS);
        world.run_until(later);
        assert!(world.traced("trim") > trims, "history was carried and trimmed meanwhile");
        world.deliver(owner, waiting[1], true);
        world.settle(owner);
        assert_eq!((world.result("a"), world.buried), (Some(done(&"xy")), 0), "crashes: {crashes}");
    }
}

#[test]
fn history_is_carried_and_trimmed_while_every_frame_is_full() {
    let mut world = retaining(MEMORY_MS);
    let owner = world.owner();
    let start = world.start("a", "listens", number(2));
    world.say(owner, vec![start]);
    // Each fills a frame, and all of them wait from the beginning on.
    for n in 0..150 {
        let id = format!("full-{n}");
        let start = world.start(&id, "listens", number(1));
        let large = word(&mut world, &id, &"x".repeat(70_000));
        let frame = world.publish(vec![start, large]);
        world.deliver(owner, frame, false);
    }
    while world.unacked() > 10 {
        assert!(world.step(owner), "it goes on");
        world.now = Timestamp(world.now.0 + 10);
    }
    assert!(world.start > 20, "history is trimmed while inputs wait: {}", world.start);
    world.settle(owner);
    judge(&world);
}

/// What a new owner says when it refuses history, after it was given an input.
fn refusal(world: &mut World) -> Option<String> {
    let owner = world.owner();
    let event = word(world, "a", "z");
    let frame = world.publish(vec![event]);
    world.deliver(owner, frame, false);
    loop {
        world.collect(owner);
        match world.owners[owner].waiting.front() {
            Some(everpulse_engine::Effect::Refuse { reason }) => return Some(reason.clone()),
            Some(_) => world.step(owner),
            None => return None,
        };
    }
}

#[test]
fn a_history_that_was_trimmed_by_others_is_refused() {
    // Before anything was carried, and after that.
    for runs in [2, 40] {
        let mut world = retaining(MEMORY_MS);
        let owner = world.owner();
        let start = world.start("a", "listens", number(9));
        world.say(owner, vec![start]);
        bustle(&mut world, owner, runs);
        assert_eq!(world.start > 0, runs > 2, "it was trimmed");
        let needed = world.owners[owner].shard.status().first_needed;
        let place = |number: u64| {
            let frame = |(_, payload): &(_, bytes::Bytes)| world::decode_frame(payload).number == number;
            world.log.iter().position(frame).expect("it was there")
        };
        let (at_border, behind) = (place(needed), place(needed + 1));
        world.start = at_border;
        assert_eq!(refusal(&mut world), None, "all that is needed is there");
        world.start = behind;
        let reason = refusal(&mut world).expect("a frame that is needed is gone");
        assert!(reason.contains(&format!("where frame {needed} is needed")), "{reason}");
    }
}

#[test]
fn a_shard_that_changes_its_owner_often_is_carried_to_the_end() {
    const SIGNALS: usize = 400;
    let mut world = retaining(RETENTION_MS);
    let mut owner = world.owner();
    long_run(&mut world, owner, SIGNALS);
    let filler = world.start("filler", "listens", number(1_000));
    world.say(owner, vec![filler]);
    for _ in 0..9 {
        let event = word(&mut world, "filler", &"x".repeat(100_000));
        world.now = Timestamp(world.now.0 + 20);
        world.say(owner, vec![event]);
    }
    let end = world.event("filler", None, &EventBody::Terminate { reason: String::new() });
    world.say(owner, vec![end]);
    world.now = Timestamp(world.now.0 + 2 * RETENTION_MS);
    // No owner has the time for more than a few pieces of the many.
    for _ in 0..30 {
        if world.start > SIGNALS {
            break;
        }
        owner = succeed(&mut world, owner);
        let until = Timestamp(world.now.0 + 70);
        world.run_until(until);
    }
    let all = pieces(&world);
    assert!(all.iter().any(|(_, pieces)| *pieces > 10), "each goes on where the last one was: {all:?}");
    assert_eq!(all.iter().filter(|(piece, _)| *piece == 0).count(), 1, "and nobody begins anew: {all:?}");
    assert!(world.start > SIGNALS, "and what was carried is trimmed: {}", world.start);
    let last = word(&mut world, "long", "y");
    let owner = succeed(&mut world, owner);
    world.say(owner, vec![last]);
    assert_eq!(world.result("long"), Some(done(&format!("{}y", "x".repeat(1_000 * SIGNALS)))));
    judge(&world);
}

#[test]
fn two_owners_that_know_the_same_do_not_carry_at_once() {
    let mut world = retaining(MEMORY_MS);
    let owner = world.owner();
    let start = world.start("a", "listens", number(2));
    world.say(owner, vec![start]);
    for n in 0..20 {
        let start = world.start(&format!("noise-{n}"), "steps", number(2));
        world.now = Timestamp(world.now.0 + 20);
        world.say(owner, vec![start]);
    }
    // The other one is asked something, so it has read all, and has written nothing.
    let other = world.owner();
    let ask = world.event("a", None, &EventBody::Describe);
    world.say(other, vec![ask]);
    let until = Timestamp(world.now.0 + 3 * RETENTION_MS);
    world.run_until(until);
    assert!(world.start > 0, "history was trimmed");
    assert_eq!(world.chain().1, 0, "and no frame was void");
    judge(&world);
}

#[test]
fn history_of_a_shard_without_runs_and_owner_is_trimmed() {
    const HOUR_MS: u64 = 3_600_000;
    let mut world = retaining(0);
    world.options.retention_ms = 3 * HOUR_MS;
    let owner = world.owner();
    bustle(&mut world, owner, 20);
    assert_eq!(world.owners[owner].shard.status().open_runs, 0);
    world.crash(owner);
    let mut woken = 0;
    loop {
        let current = world.chain().0.last().expect("there is history").wake;
        let Some(wake) = current else { break };
        assert!(wake.due.0 <= world.now.0 + HOUR_MS, "a wake-up brings somebody");
        assert!(woken < 6, "when there is nothing to do any more none is left");
        woken += 1;
        world.now = wake.due;
        let owner = world.owner();
        let event = world.wake(wake);
        world.say(owner, vec![event]);
        let until = Timestamp(world.now.0 + HOUR_MS / 2);
        world.run_until(until);
        world.crash(owner);
    }
    assert!(woken > 3 && world.start > 20, "{woken} woken, {} frames of {} are gone", world.start, world.log.len());
}

#[test]
fn ids_are_forgotten_also_where_nothing_can_be_trimmed() {
    let mut world = retaining(MEMORY_MS);
    world.options.trim_bytes_min = 1_000_000;
    let owner = world.owner();
    let start = world.start("a", "listens", number(3));
    let signal = word(&mut world, "a", "x");
    world.say(owner, vec![start]);
    world.say(owner, vec![signal.clone()]);
    world.now = Timestamp(world.now.0 + 2 * MEMORY_MS);
    bustle(&mut world, owner, 3);
    assert_eq!(world.start, 0, "nothing can go");
    for owner in [owner, succeed(&mut world, owner)] {
        world.replies.clear();
        if world.owners[owner].alive {
            world.say(owner, vec![signal.clone()]);
            assert!(matches!(world.replies[..], [(_, ReplyBody::Expired { .. })]), "{:?}", world.replies);
        }
    }
    let windows = world
        .chain()
        .0
        .into_iter()
        .flat_map(|frame| frame.records)
        .filter(|record| matches!(record.body(), Ok(RecordBody::Remembered { window: Some(_), .. })));
    assert_eq!(windows.count(), 1, "and that takes one record");
}

#[test]
fn a_worker_whose_clock_is_far_ahead_refuses_no_input_for_its_age() {
    let mut world = retaining(4 * RETENTION_MS);
    let owner = world.owner();
    let start = world.start("a", "listens", number(3));
    let first = word(&mut world, "a", "x");
    world.say(owner, vec![start]);
    world.say(owner, vec![first]);
    // Much later by its own clock, and its alone.
    world.owners[owner].skew = 100 * RETENTION_MS as i64;
    let until = Timestamp(world.now.0 + 4 * RETENTION_MS);
    world.run_until(until);
    bustle(&mut world, owner, 60);
    for letter in ["y", "z"] {
        let event = word(&mut world, "a", letter);
        world.say(owner, vec![event]);
    }
    assert!(world.start > 0, "history was trimmed meanwhile");
    assert_eq!((world.result("a"), world.buried), (Some(done(&"xyz")), 0));
    judge(&world);
}

/// Taken, it would be forgotten before it expires, and could be taken again.
#[test]
fn an_input_from_the_future_is_put_to_the_dead_letters() {
    let mut world = retaining(MEMORY_MS);
    let owner = world.owner();
    let start = world.start("a", "listens", number(1));
    world.say(owner, vec![start]);
    for (ahead, is_taken) in [(MEMORY_MS / 4 + 1, false), (MEMORY_MS / 4, true)] {
        let signal = word(&mut world, "a", "x");
        let signal = Event { sent_at: Timestamp(world.now.0 + ahead), ..signal };
        world.replies.clear();
        world.say(owner, vec![signal.clone()]);
        assert_eq!(world.result("a").is_some(), is_taken, "{ahead} ms");
        if is_taken {
            continue;
        }
        assert!(matches!(world.replies[..], [(_, ReplyBody::Invalid { .. })]), "{:?}", world.replies);
        let begins = world.start("b", "steps", number(1));
        let begins = Event { sent_at: Timestamp(world.now.0 + ahead), ..begins };
        world.say(owner, vec![begins]);
        assert_eq!((world.result("b"), world.buried, world.unacked()), (None, 2, 0));
    }
    assert_eq!(world.result("a"), Some(done(&"x")), "what is ahead by no more than clocks may differ counts");
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

/// What each run did: the kind of each record, and the numbers of its commands.
fn told(world: &World) -> BTreeMap<String, Vec<(String, Vec<u32>)>> {
    let mut runs: BTreeMap<String, Vec<(String, Vec<u32>)>> = BTreeMap::new();
    for record in world.records() {
        assert!(!repeats(&record));
        let commands = record.commands.iter().map(|mark| mark.no).collect();
        let kind = record.body.kind().expect("a known kind");
        runs.entry(record.workflow_id.to_string()).or_default().push((kind, commands));
    }
    runs
}

/// The same inputs at the same times, to owners that do or do not trim, and are or are not followed by others.
fn live(seed: u64, trims: bool) -> World {
    let mut dice = Dice(seed);
    let mut world = retaining(3_600_000);
    if !trims {
        world.options.retention_ms = 1_000_000_000;
    }
    world.whole_ledgers = seed.is_multiple_of(2);
    let mut owner = world.owner();
    let (mut runs, mut answered) = (0, 0);
    for _ in 0..150 {
        world.now = Timestamp(world.now.0 + dice.below(400));
        let now = world.now;
        world.run_until(now);
        match dice.below(10) {
            0..3 => {
                let workflow = ["listens", "twice", "naps", "steps", "fans_out"][dice.below(5) as usize];
                let n = if workflow == "naps" { dice.below(20_000) } else { 1 + dice.below(4) };
                let start = world.start(&format!("run-{runs}"), workflow, number(n));
                runs += 1;
                world.say(owner, vec![start]);
            }
            3..6 if runs > 0 => {
                let id = format!("run-{}", dice.below(runs));
                let signal = word(&mut world, &id, "x");
                world.say(owner, vec![signal.clone()]);
                if dice.below(4) == 0 {
                    world.say(owner, vec![signal]);
                }
            }
            6..9 => {
                if let Some(task) = world.queue.get(answered).cloned() {
                    answered += 1;
                    let event = world.settled(&task, outcome_of(&task));
                    world.say(owner, vec![event]);
                }
            }
            _ => {
                world.ledger += 1;
                if trims {
                    owner = succeed(&mut world, owner);
                }
            }
        }
    }
    world.run_until(Timestamp(200_000));
    world
}

#[test]
fn with_and_without_trimming_the_same_inputs_give_the_same_commands() {
    let mut trimmed = 0;
    for seed in 0..40 {
        let (with, without) = (live(seed, true), live(seed, false));
        assert_eq!(without.start, 0);
        trimmed += usize::from(with.start > 0);
        let (told_with, told_without) = (told(&with), told(&without));
        for (id, without) in &told_without {
            assert_eq!(told_with.get(id), Some(without), "seed {seed}, {id}");
        }
        assert_eq!(told_with.len(), told_without.len(), "seed {seed}");
        assert_eq!(with.queue.len(), without.queue.len(), "seed {seed}: no task is lost or sent again");
        judge(&with);
    }
    assert!(trimmed > 25, "history was trimmed in {trimmed} of 40 seeds");
}

/// It is told again when nobody remembers that it was told: it knows from its own history.
#[test]
fn a_child_that_is_wanted_no_more_is_told_so_once_though_ids_are_forgotten() {
    let mut world = retaining(2_000);
    let owner = world.owner();
    let start = world.start("a", "tidies", number(3));
    world.say(owner, vec![start]);
    let run = world.records()[0].run_id;
    let caller = Caller {
        workflow_id: WorkflowId::new("parent").expect("good"),
        run_id: RunId(uuid::Uuid::from_u128(7)),
        step: 0,
        kind: CallerKind::Parent,
    };
    let body = EventBody::Demanded { caller, demand: Demand::Cancel { reason: "enough".to_owned() } };
    let event = world.event("a", Some(run), &body);
    world.say(owner, vec![event.clone()]);
    bustle(&mut world, owner, 60);
    world.say(owner, vec![event]);
    let requested = |record: &&Record| matches!(record.body(), Ok(RecordBody::CancelRequested { .. }));
    assert_eq!(world.records().iter().filter(requested).count(), 1);
}
