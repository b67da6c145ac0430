//! Two releases share a shard, and the later one writes what the other does not know. They must never be on two chains, and
//! nothing that the later one needs may be lost.

mod world;

use everpulse_engine::{Effect, Options, Outgoing};
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::EventBody;
use everpulse_protocol::history::{Close, CloseStatus, Frame, ParkedKind, Record, RecordBody};
use everpulse_protocol::kind::KindName;
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{EventId, RunId, Timestamp, decode, encode};
use world::later::{bare, lease, of_version, parked, received, sealed, standing, strange, with_more, word};
use world::workflows::{number, registry};
use world::{World, done, outcome_of, payload};

/// Runs `a`, `b` and `asks`, with an activity of the last one under way.
fn begun(world: &mut World) -> usize {
    let owner = world.owner();
    for (id, workflow, n) in [("a", "listens", 2), ("b", "listens", 2), ("asks", "twice", 3)] {
        let start = world.start(id, workflow, number(n));
        world.say(owner, vec![start]);
    }
    owner
}

/// What the later release says of run `a`.
type Said = fn(&World) -> Record;

const SAID: [(&str, Said); 3] = [
    ("a record of an unknown kind", |world| world.next_record("a", strange("lease_taken"))),
    ("a command of an unknown kind", |world| {
        let body = RecordBody::Signalled { headers: None, name: "Other".to_owned(), value: payload(&1) };
        Record { commands: vec![lease(0)], ..world.next_record("a", Body::of(&body)) }
    }),
    ("both", |world| Record { commands: vec![lease(0)], ..world.next_record("a", strange("updated")) }),
];

#[test]
fn a_run_of_which_not_all_is_known_stands_still_by_name_and_the_others_go_on() {
    for (what, said) in SAID {
        for fresh in [false, true] {
            let mut world = World::new(registry());
            let mut owner = begun(&mut world);
            let frame = world.later_frame(vec![said(&world)]);
            let number = frame.number;
            world.append(encode(&frame));
            if fresh {
                world.crash(owner);
                owner = world.owner();
            }
            // The one that was there before loses a frame first: what it appends names what has a successor.
            for (id, text) in [("a", "x"), ("b", "y"), ("a", "x"), ("b", "z")] {
                let event = word(&mut world, id, text);
                world.say(owner, vec![event]);
            }
            let task = world.queue[0].clone();
            let settled = world.settled(&task, outcome_of(&task));
            world.say(owner, vec![settled]);
            let task = world.queue.last().expect("another one").clone();
            let settled = world.settled(&task, outcome_of(&task));
            world.say(owner, vec![settled]);

            let parked = parked(&world, "a").unwrap_or_else(|| panic!("{what}: it is parked"));
            assert_eq!(parked.kind, ParkedKind::UnknownKind);
            assert!(parked.message.starts_with("record 1 of workflow a: "), "{}", parked.message);
            assert!(parked.message.contains("is not known to this release"), "{}", parked.message);
            assert!(parked.message.contains("runs the release that wrote this, or a later one"), "{}", parked.message);
            assert_eq!(received(&world, "a"), ["signal", "signal"], "{what}");
            assert_eq!(world.result("b"), Some(done(&"yz")), "{what}");
            assert_eq!(world.result("asks"), Some(done(&12u64)), "{what}");
            assert_eq!((world.result("a"), world.unacked()), (None, 0), "{what}");
            assert_eq!(world.chain().1, usize::from(!fresh), "{what}");
            // Nobody knows whether what the later release asked for was sent.
            let last = world.chain().0.pop().expect("frames");
            assert!(last.sent_below <= number, "{what}: {} passes frame {number}", last.sent_below);
            let wake = last.wake.expect("somebody has to come");
            assert!(wake.due.0 <= world.now.0 + 60_000, "{what}: {wake:?}");
        }
    }
}

#[test]
fn what_a_later_release_called_sent_is_passed_by_marks() {
    let mut world = World::new(registry());
    let owner = begun(&mut world);
    let frame = world.later_frame(vec![SAID[1].1(&world)]);
    let number = frame.number;
    world.append(encode(&frame));
    let marks = world.later_frame(Vec::new());
    world.append(encode(&everpulse_protocol::history::Frame { sent_below: number + 1, ..marks }));
    for text in ["x", "y"] {
        let event = word(&mut world, "b", text);
        world.say(owner, vec![event]);
    }
    assert!(world.chain().0.last().is_some_and(|frame| frame.sent_below > number));
}

#[test]
fn a_run_that_began_in_an_unknown_way_is_a_run_and_what_is_asked_of_it_is_answered_by_name() {
    let mut world = World::new(registry());
    let owner = begun(&mut world);
    let frame = world.later_frame(vec![world.next_record("born", strange("started_as_tenant"))]);
    world.append(encode(&frame));
    let query = EventBody::Query { name: "how_far".to_owned(), args: payload(&()) };
    let asks = [EventBody::Describe, EventBody::AskPublished { name: "stage".to_owned() }, query];
    for body in asks {
        let event = world.event("born", None, &body);
        world.say(owner, vec![event]);
        let Some((_, ReplyBody::Invalid { message })) = world.replies.last() else {
            panic!("{:?}", world.replies.last())
        };
        assert!(
            message.starts_with("record 0 of workflow born: record kind `started_as_tenant` is not known"),
            "{message}"
        );
    }
    assert_eq!(received(&world, "born"), [""; 0], "questions leave no trace");
    // The id is taken, and what is said to it is kept.
    let start = world.start("born", "listens", number(1));
    let run_id = frame.records[0].run_id;
    world.say(owner, vec![start]);
    assert_eq!(world.replies.last().map(|(_, body)| body), Some(&ReplyBody::Started { run_id, attached: true }));
    let event = word(&mut world, "born", "x");
    world.say(owner, vec![event]);
    assert_eq!(world.replies.last().map(|(_, body)| body), Some(&ReplyBody::Accepted));
    assert_eq!(received(&world, "born"), ["signal"]);
    assert_eq!(parked(&world, "born").map(|parked| parked.kind), Some(ParkedKind::UnknownKind));
    assert_eq!(world.unacked(), 0);
}

/// The bytes that the later release writes next.
type Write = fn(&World) -> bytes::Bytes;

/// What it writes that nobody can read here, and a part of what is said of it.
const UNREADABLE: [(&str, Write); 3] = [
    ("a history of format version 3", |world| sealed(3, &world.later_frame(Vec::new()))),
    ("a history of format version 2", |world| of_version(2, &encode(&world.later_frame(Vec::new())))),
    ("a history that cannot be read", |world| {
        let mut record = world.next_record("a", strange("updated"));
        record.commands = vec![lease(0)];
        let bytes = encode(&world.later_frame(vec![record]));
        // The kind of a command that is no name.
        let at = bytes.windows(6).rposition(|window| window == b"\xa5lease").expect("it is there");
        [&bytes[..at], &b"\x95\x01\x02\x03\x04\x05"[..], &bytes[at + 6..]].concat().into()
    }),
];

/// Whatever left an owner, before a refusal or after, follows from frames that stand and that it could read.
fn every_effect_has_its_cause(world: &World, when: &str) {
    let stands = standing(&world.log);
    let frames: Vec<Frame> = stands.iter().filter_map(|place| decode(&world.log[*place].1).ok()).collect();
    let records = || frames.iter().flat_map(|frame| &frame.records);
    let asks = |run: RunId, step: u32| {
        records().any(|record| record.run_id == run && record.commands.iter().any(|mark| mark.no == step))
    };
    for task in &world.queue {
        assert!(asks(task.run_id, task.step), "{when}: a task");
    }
    for (run, step, _) in &world.executed {
        assert!(asks(*run, *step), "{when}: local work");
    }
    for wake in &world.timers {
        assert!(frames.iter().any(|frame| frame.wake == Some(*wake)), "{when}: a wake-up");
    }
    let mut told: Vec<EventId> = records().map(|record| record.event).collect();
    told.extend(records().filter_map(|record| match record.body() {
        Ok(RecordBody::Received { event, .. }) => Some(event.id),
        _ => None,
    }));
    let acked = world.archive.iter().zip(&world.inbox).filter(|(_, left)| left.is_none());
    for event in acked.flat_map(|(frame, _)| &frame.events) {
        assert!(told.contains(&event.id), "{when}: an acknowledgement of {:?}", event.body.kind());
    }
}

/// What left an owner.
fn left(world: &World) -> (usize, usize, usize, usize) {
    (
        world.queue.len(),
        world.timers.len(),
        world.executed.len(),
        world.inbox.iter().filter(|frame| frame.is_none()).count(),
    )
}

#[test]
fn nothing_is_written_over_a_frame_that_cannot_be_read_wherever_it_comes_between() {
    for (said, write) in UNREADABLE {
        let mut cuts = 0;
        for cut in 0.. {
            let mut world = World::new(registry());
            world.refusals = Some(Vec::new());
            let owner = begun(&mut world);
            let events =
                vec![word(&mut world, "a", "x"), word(&mut world, "b", "y"), world.start("c", "steps", number(2))];
            let frame = world.publish(events);
            world.deliver(owner, frame, false);
            let ended = (0..cut).any(|_| !world.step(owner));
            world.append(write(&world));
            let (stood, there) = (standing(&world.log), world.log.len());
            world.settle(owner);
            // Whoever has the shard is told of more.
            let event = word(&mut world, "b", "z");
            let more = world.publish(vec![event]);
            world.deliver(owner, more, false);
            world.settle(owner);
            let before = left(&world);
            world.run_until(Timestamp(world.now.0 + 10_000));
            world.settle(owner);

            let refusals = world.refusals.clone().expect("they are noted");
            let [(by, reason)] = &refusals[..] else { panic!("{said}, cut {cut}: {refusals:?}") };
            assert_eq!(*by, owner);
            assert!(reason.starts_with("shard 0: ") && reason.contains(said), "{reason}");
            assert!(reason.ends_with("run the release that wrote it, or a later one"), "{reason}");
            // What was under way when it came is all that was appended, and it stands for nobody who can place the other one.
            assert!(world.log.len() <= there + 1, "{said}, cut {cut}: it goes on behind what it cannot read");
            assert!(standing(&world.log) == stood, "{said}, cut {cut}: it took the other one's place");
            assert!(world.inbox[more].is_some(), "{said}, cut {cut}: it waits for somebody who can read");
            assert_eq!(left(&world), before, "{said}, cut {cut}: nothing left after the refusal");
            let answered = world.replies.iter().filter(|(_, body)| matches!(body, ReplyBody::Accepted)).count();
            assert!(answered <= 2, "{said}, cut {cut}: the last one is not accepted");
            every_effect_has_its_cause(&world, &format!("{said}, cut {cut}"));
            // Nobody else of this release does better.
            let other = world.owner();
            let appended = world.log.len();
            world.deliver(other, more, true);
            world.settle(other);
            assert_eq!((world.refusals.as_ref().map(Vec::len), world.log.len()), (Some(2), appended));
            cuts = cut;
            if ended {
                break;
            }
        }
        assert!(cuts > 5, "{said}: {cuts} effects");
    }
}

#[test]
fn a_frame_that_cannot_be_read_and_lost_its_place_stops_nobody() {
    let mut world = World::new(registry());
    let owner = begun(&mut world);
    let late = of_version(2, &encode(&world.later_frame(Vec::new())));
    let event = word(&mut world, "a", "x");
    world.say(owner, vec![event]);
    world.append(late);
    world.append(b"hello".to_vec().into());
    // It says that it is a frame, and nobody can ever say where it would stand.
    world.append(bare(3));
    let event = word(&mut world, "a", "y");
    world.say(owner, vec![event]);
    assert_eq!((world.result("a"), world.chain().1, world.unacked()), (Some(done(&"xy")), 3, 0));
    world.crash(owner);
    let other = world.owner();
    for text in ["v", "w"] {
        let event = word(&mut world, "b", text);
        world.say(other, vec![event]);
    }
    assert_eq!(world.result("b"), Some(done(&"vw")));
}

#[test]
fn a_question_of_an_unknown_kind_is_refused_by_name_and_harms_nothing() {
    let mut world = World::new(registry());
    let owner = begun(&mut world);
    let records = world.records().len();
    for id in ["a", "nobody"] {
        let mut event = word(&mut world, id, "");
        event.body = strange("ask_leases");
        let request = event.reply_to.as_ref().expect("somebody asks").request;
        world.say(owner, vec![event]);
        let (to, answer) = world.replies.last().expect("it is answered");
        let ReplyBody::Invalid { message } = answer else { panic!("{answer:?}") };
        assert_eq!(*to, request);
        let expected = format!(
            "event kind `ask_leases` is not known to this release, so workflow {id} cannot be asked that here; ask again \
             when all workers run a release that knows it"
        );
        assert_eq!(*message, expected);
    }
    assert_eq!((world.records().len(), world.unacked(), world.buried), (records, 0, 0));
    assert_eq!(parked(&world, "a"), None);
}

#[test]
fn a_run_that_ended_in_an_unknown_way_has_ended_and_what_it_asked_for_is_left_to_others() {
    let mut world = World::new(registry());
    let owner = begun(&mut world);
    let status = CloseStatus::Unknown(KindName::new("continued").expect("it is short"));
    let mut record = Record { commands: vec![lease(0)], ..world.next_record("a", strange("continued")) };
    record.close = Some(Close { status, outcome: done(&"on and on") });
    let frame = world.later_frame(vec![record]);
    let number = frame.number;
    world.append(encode(&frame));
    let ask = world.event("a", None, &EventBody::AskResult);
    world.say(owner, vec![ask]);
    let Some((_, ReplyBody::Closed { close, .. })) = world.replies.last() else { panic!("{:?}", world.replies.last()) };
    assert_eq!(close.status, status);
    // All others end, and still somebody is to come who can send what it asked for.
    for id in ["b", "asks"] {
        let event = world.event(id, None, &EventBody::Terminate { reason: String::new() });
        world.say(owner, vec![event]);
    }
    for _ in 0..3 {
        let last = world.chain().0.pop().expect("frames");
        let wake = last.wake.expect("it is looked at again");
        assert!(last.sent_below <= number, "{}", last.sent_below);
        assert!(wake.due <= Timestamp(world.now.0 + 60_000), "{wake:?}");
        world.now = wake.due;
        let event = world.wake(wake);
        world.say(owner, vec![event]);
        assert_eq!(world.unacked(), 0);
    }
    assert_eq!(parked(&world, "a"), None, "it has ended");
}

fn retaining() -> World {
    let mut world = World::new(registry());
    world.options =
        Options { retention_ms: 1_000, id_memory_ms: 1_000, trim_bytes_min: 4_000, ..world.options.clone() };
    world
}

/// Time passes, and runs come and go.
fn bustle(world: &mut World, owner: usize) {
    for _ in 0..60 {
        let name = format!("noise-{}", world.id());
        let start = world.start(&name, "steps", number(2));
        world.say(owner, vec![start]);
        let until = Timestamp(world.now.0 + 300);
        world.run_until(until);
    }
}

#[test]
fn a_run_of_which_not_all_is_known_is_carried_as_it_is() {
    let mut world = retaining();
    let owner = begun(&mut world);
    let strange = SAID[2].1(&world);
    let frame = world.later_frame(vec![strange.clone()]);
    let number = frame.number;
    world.append(encode(&frame));
    // Whoever wrote it had sent what it asks for.
    let marks = world.later_frame(Vec::new());
    world.append(encode(&everpulse_protocol::history::Frame { sent_below: number + 1, ..marks }));
    let event = word(&mut world, "a", "x");
    world.say(owner, vec![event]);
    bustle(&mut world, owner);
    assert!(world.start > 20, "history is trimmed: {}", world.start);
    let frames = world.chain().0;
    let carried = frames.iter().flat_map(|frame| &frame.records).filter_map(|record| match record.body() {
        Ok(RecordBody::Carried { records, commands, .. }) if record.workflow_id.as_str() == "a" => {
            Some((records, commands))
        }
        _ => None,
    });
    let (records, commands) = carried.last().expect("it is carried");
    assert_eq!(records[1], strange);
    assert_eq!(records[1].pack(), strange.pack());
    assert_eq!(commands, [(0, number)], "who knows it finds where it was asked for");

    // All that is left of it is what was carried.
    world.crash(owner);
    let next = world.owner();
    for text in ["y", "y"] {
        let event = word(&mut world, "a", text);
        world.say(next, vec![event]);
    }
    assert_eq!(parked(&world, "a").map(|parked| parked.kind), Some(ParkedKind::UnknownKind));
    assert_eq!((world.result("a"), world.unacked()), (None, 0));
    let event = word(&mut world, "b", "1");
    world.say(next, vec![event]);
    let event = word(&mut world, "b", "2");
    world.say(next, vec![event]);
    assert_eq!(world.result("b"), Some(done(&"12")));
}

#[test]
fn nothing_is_carried_or_trimmed_where_something_would_be_lost_with_it() {
    let shard_wide = |world: &World| {
        let mut record = world.next_record("a", strange("schedules"));
        (record.run_id, record.seq) = (everpulse_protocol::RunId::NIL, 0);
        record.workflow_id = everpulse_protocol::shard::placeholder_id(0);
        encode(&world.later_frame(vec![record]))
    };
    let of_an_ended_run = |world: &World| encode(&world.later_frame(vec![world.next_record("gone", strange("reset"))]));
    let cases: [(&str, Write, bool); 4] = [
        ("a record of a run that had ended", of_an_ended_run, false),
        ("a frame as ever", |world| encode(&world.later_frame(Vec::new())), true),
        ("a field more", |world| with_more(&world.later_frame(Vec::new())), false),
        ("something of the shard", shard_wide, false),
    ];
    for (what, write, goes) in cases {
        let mut world = retaining();
        let disk = world.with_disk();
        let owner = begun(&mut world);
        let start = world.start("gone", "steps", number(1));
        world.say(owner, vec![start]);
        world.append(write(&world));
        bustle(&mut world, owner);
        assert_eq!(world.start > 0, goes, "{what}: {}", world.start);
        // Nor by whoever begins with what it saved.
        let now = world.now;
        world.owners[owner].shard.handle_leave();
        world.crash(owner);
        world.now = now;
        let next = world.owner();
        bustle(&mut world, next);
        assert_eq!(world.start > 0, goes, "{what}, from a cache");
        let carries = world.chain().0.iter().flat_map(|frame| &frame.records).any(world::repeats);
        assert!(goes || !carries, "{what}");
        for text in ["1", "2"] {
            let event = word(&mut world, "b", text);
            world.say(next, vec![event]);
        }
        assert_eq!(world.result("b"), Some(done(&"12")), "{what}");
        drop(disk);
    }
}

#[test]
fn a_frame_that_was_on_its_way_when_another_release_wrote_has_no_effect() {
    let mut world = World::new(registry());
    world.refusals = Some(Vec::new());
    let owner = begun(&mut world);
    let start = world.start("late", "twice", number(5));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
    // It is stored behind the other one's, and its receipt is lost.
    world.append(of_version(2, &encode(&world.later_frame(Vec::new()))));
    world.owners[owner].receipts = world::Receipts::Lost;
    let tasks = world.queue.len();
    world.settle(owner);
    assert_eq!((world.queue.len(), world.refusals.as_ref().map(Vec::len)), (tasks, Some(1)));
    assert!(world.inbox[frame].is_some());
    let waits = world.owners[owner].waiting.iter();
    assert_eq!(waits.filter(|effect| matches!(effect, Effect::Send { outgoing: Outgoing::Task(_), .. })).count(), 0);
    let known = EventId::derived(world.queue[0].run_id, 0, "task");
    assert!(world.queue.iter().all(|task| task.id == known), "only that of the run that was there before");
}
