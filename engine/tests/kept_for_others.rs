//! What an older release keeps for a later one: whatever comes for a run of which it does not know all is taken in once, has no effect
//! there, and has its effect where the run is known.

mod world;

use std::rc::Rc;

use everpulse_engine::{Effect, LocalResult};
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, NextAttempt, Outcome, Report};
use everpulse_protocol::history::{CloseStatus, CommandKind, CommandMark, Parked, ParkedKind, Record, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::task::Task;
use everpulse_protocol::{Failure, FailureKind, RunId, Timestamp, encode};
use world::judge::judge;
use world::later::{self, lease, of_version, parked, received, signal, strange, word};
use world::play::Always;
use world::workflows::{number, registry};
use world::{World, outcome_of, payload};

fn no() -> Failure {
    Failure::new(FailureKind::Failed, "no")
}

/// A run `a` that waits for an activity, and then a frame of a later release with something that nobody knows here.
fn unknown_since(world: &mut World, strangely: impl FnOnce(Record) -> Record) -> (usize, RunId) {
    let owner = world.owner();
    let start = world.start("a", "twice", number(3));
    world.say(owner, vec![start]);
    let record = strangely(world.next_record("a", strange("lease_taken")));
    let frame = world.later_frame(vec![record]);
    world.append(encode(&frame));
    (owner, frame.records[0].run_id)
}

#[test]
fn whatever_comes_for_it_is_kept_and_nothing_is_done() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "chooses", number(2));
    world.say(owner, vec![start]);
    // It waits for an activity, and for a timer of two seconds.
    let record = Record { commands: vec![lease(9)], ..world.next_record("a", strange("lease_taken")) };
    let frame = world.later_frame(vec![record]);
    world.append(encode(&frame));
    let (records, task) = (world.records().len(), world.queue[0].clone());
    let (run, tasks) = (Some(task.run_id), world.queue.len());
    let at = |world: &World| NextAttempt::At(world.now);
    let failure = || Failure::new(FailureKind::Failed, "no");
    let bodies = [
        EventBody::AttemptFailed { step: task.step, attempt: 1, failure: failure(), next: at(&world) },
        EventBody::ActivitySettled { step: task.step, attempt: 2, outcome: outcome_of(&task) },
        // For what nobody here knows that it was asked for.
        EventBody::ActivitySettled { step: 9, attempt: 1, outcome: outcome_of(&task) },
        EventBody::PromiseSettled { step: 9, outcome: Outcome::Done(payload(&1)) },
        signal("hello"),
        EventBody::Cancel { reason: "enough".to_owned() },
        EventBody::Terminate { reason: "now".to_owned() },
    ];
    for body in &bodies {
        let event = world.event("a", run, body);
        let frame = world.publish(vec![event]);
        for _ in 0..2 {
            world.replay(owner, frame, false);
            world.settle(owner);
        }
    }
    world.run_until(later::LATE);
    let kinds: Vec<String> = bodies.iter().filter_map(|body| Body::of(body).kind()).collect();
    assert_eq!(received(&world, "a"), kinds, "each once");
    let frame = world.records();
    let of_run = frame[records..].iter().filter(|record| record.workflow_id.as_str() == "a");
    let allowed = |record: &Record| {
        matches!(record.body(), Ok(RecordBody::Received { .. } | RecordBody::Parked { .. }))
            && record.commands.is_empty()
    };
    assert!(of_run.clone().all(allowed), "{:?}", of_run.collect::<Vec<_>>());
    assert_eq!((world.result("a"), world.queue.len(), world.unacked()), (None, tasks, 0));
    // Who asks for it to go on is told why not.
    let resume = world.event("a", None, &EventBody::Resume);
    world.say(owner, vec![resume]);
    assert_eq!(parked(&world, "a").map(|parked| parked.kind), Some(ParkedKind::UnknownKind));
    let describe = world.event("a", None, &EventBody::Describe);
    world.say(owner, vec![describe]);
    let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("{:?}", world.replies.last()) };
    assert!(view.parked.as_ref().is_some_and(|parked| parked.message.contains("lease_taken")), "{view:?}");
}

#[test]
fn what_an_older_release_kept_takes_effect_where_all_of_the_run_is_known() {
    for terminated in [false, true] {
        let mut world = World::new(registry());
        let owner = world.owner();
        let start = world.start("a", "twice", number(3));
        world.say(owner, vec![start]);
        world.crash(owner);
        let task = world.queue[0].clone();
        let next = NextAttempt::At(world.now);
        let failure = Failure::new(FailureKind::Failed, "no");
        let failed = EventBody::AttemptFailed { step: task.step, attempt: 1, failure, next };
        let mut bodies = vec![failed];
        if terminated {
            bodies.push(EventBody::Terminate { reason: "enough".to_owned() });
        }
        let reason = Parked::new(ParkedKind::UnknownKind, "an older release".to_owned());
        let mut records = vec![world.next_record("a", Body::of(&RecordBody::Parked { reason }))];
        for body in bodies {
            let event = world.event("a", Some(task.run_id), &body);
            let (id, seq) = (event.id, records[0].seq + records.len() as u32);
            let body = Body::of(&RecordBody::Received { event, attempt: 0 });
            records.push(Record { event: id, seq, ..world.next_record("a", body) });
        }
        let frame = world.later_frame(records);
        world.append(encode(&frame));
        let newer = world.owner();
        let resume = world.event("a", None, &EventBody::Resume);
        world.say(newer, vec![resume]);
        let describe = world.event("a", None, &EventBody::Describe);
        world.say(newer, vec![describe]);
        let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("it is described") };
        if terminated {
            assert_eq!(view.close.as_ref().map(|close| close.status), Some(CloseStatus::Terminated));
        } else {
            assert_eq!(view.pending.first().map(|step| step.attempt), Some(2), "{view:?}");
        }
        judge(&world);
    }
}

#[test]
fn what_a_later_release_applied_in_its_own_way_is_not_taken_in_again() {
    let late = |body: Body| Body(of_version(2, &body.0));
    let named = RecordBody::Signalled { headers: None, name: "Word".to_owned(), value: payload(&1) };
    let ways = [strange("updated"), late(Body::of(&named)), Body(vec![7].into())];
    for way in ways {
        for event in [None, Some(strange("update"))] {
            for fresh in [false, true] {
                let mut world = World::new(registry());
                let mut owner = world.owner();
                let start = world.start("a", "listens", number(2));
                world.say(owner, vec![start]);
                let mut said = word(&mut world, "a", "x");
                if let Some(body) = event.clone() {
                    said.body = body;
                }
                let (id, frame) = (said.id, world.publish(vec![said]));
                // The later release has the shard, applies it, and is gone before it acks.
                let record = Record { event: id, ..world.next_record("a", way.clone()) };
                let theirs = world.later_frame(vec![record]);
                world.append(encode(&theirs));
                if fresh {
                    world.crash(owner);
                    owner = world.owner();
                }
                for _ in 0..2 {
                    world.replay(owner, frame, fresh);
                    world.settle(owner);
                }
                assert_eq!(received(&world, "a"), [""; 0], "it counts once: {way:?}, {event:?}, fresh: {fresh}");
                assert_eq!(world.unacked(), 0);
                // Another one is another one.
                let other = word(&mut world, "a", "y");
                world.say(owner, vec![other]);
                assert_eq!(received(&world, "a"), ["signal"]);
            }
        }
    }
}

#[test]
fn a_result_that_a_later_release_applied_in_its_own_way_is_not_kept_again() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "twice", number(3));
    world.say(owner, vec![start]);
    let task = world.queue[0].clone();
    let settled = world.settled(&task, outcome_of(&task));
    let (id, frame) = (settled.id, world.publish(vec![settled]));
    let record = Record { event: id, ..world.next_record("a", strange("settled_in_part")) };
    let theirs = world.later_frame(vec![record]);
    world.append(encode(&theirs));
    world.replay(owner, frame, false);
    world.settle(owner);
    assert_eq!((received(&world, "a"), world.unacked()), (Vec::new(), 0));
}

/// What is told of attempts from outside, in an order in which none may get lost.
fn reports() -> [EventBody; 3] {
    let told = |attempt, report| EventBody::AttemptReported { step: 0, attempt, report };
    [
        told(1, Report::Beat { details: Some(payload(&"half of it")) }),
        told(1, Report::Failed { failure: no(), retryable: true }),
        told(2, Report::Done(payload(&40u64))),
    ]
}

fn answer(world: &mut World, owner: usize, run: RunId, body: &EventBody) -> ReplyBody {
    let event = world.event("a", Some(run), body);
    world.say(owner, vec![event]);
    world.replies.last().expect("it is answered").1.clone()
}

#[test]
fn what_is_told_of_an_attempt_does_not_stand_for_the_end_of_its_step() {
    for told in [&[0][..], &[1], &[0, 1]] {
        for settles in [false, true] {
            let mut world = World::new(registry());
            let (owner, run) = unknown_since(&mut world, |record| record);
            let task = world.queue[0].clone();
            assert_eq!(task.step, 0);
            let mut expected = Vec::new();
            for report in told {
                assert_eq!(answer(&mut world, owner, run, &reports()[*report]), ReplyBody::Accepted);
                expected.push("attempt_reported");
            }
            if told.contains(&1) {
                // An attempt ends once.
                let late = EventBody::AttemptReported { step: 0, attempt: 1, report: Report::Done(payload(&1u64)) };
                assert_eq!(answer(&mut world, owner, run, &late), ReplyBody::AlreadyCompleted);
            }
            let until = Timestamp(world.now.0 + 5_000);
            let left = {
                let task = Box::new(task.clone());
                EventBody::AttemptLeft { step: 0, attempt: 2, until, task, running: false }
            };
            let end = match settles {
                true => EventBody::ActivitySettled { step: 0, attempt: 2, outcome: outcome_of(&task) },
                false => reports()[2].clone(),
            };
            for body in [&left, &end] {
                let event = world.event("a", Some(run), body);
                world.say(owner, vec![event]);
            }
            expected.extend(["attempt_left", if settles { "activity_settled" } else { "attempt_reported" }]);
            assert_eq!(received(&world, "a"), expected);
            // What is done is done: a second end is told so.
            assert_eq!(answer(&mut world, owner, run, &reports()[2]), ReplyBody::AlreadyCompleted);
            assert_eq!((received(&world, "a").len(), world.unacked()), (expected.len(), 0));
        }
    }
}

#[test]
fn reports_that_an_older_release_kept_take_effect_in_their_order() {
    for ends in [false, true] {
        let mut world = World::new(registry());
        let owner = world.owner();
        let start = world.start("a", "waits_for_signature", number(2));
        world.say(owner, vec![start]);
        world.crash(owner);
        let task = world.queue[0].clone();
        let reason = Parked::new(ParkedKind::UnknownKind, "an older release".to_owned());
        let mut records = vec![world.next_record("a", Body::of(&RecordBody::Parked { reason }))];
        for body in &reports()[..if ends { 3 } else { 1 }] {
            let event = world.event("a", Some(task.run_id), body);
            let (id, seq) = (event.id, records[0].seq + records.len() as u32);
            let body = Body::of(&RecordBody::Received { event, attempt: 0 });
            records.push(Record { event: id, seq, ..world.next_record("a", body) });
        }
        let frame = world.later_frame(records);
        world.append(encode(&frame));
        let newer = world.owner();
        let resume = world.event("a", None, &EventBody::Resume);
        world.say(newer, vec![resume]);
        if !ends {
            // It was heard of, and is done by the one who has it.
            let done = EventBody::AttemptReported { step: 0, attempt: 1, report: Report::Done(payload(&40u64)) };
            assert_eq!(answer(&mut world, newer, task.run_id, &done), ReplyBody::Accepted);
        }
        let task = world.queue.last().expect("the activity behind it").clone();
        assert_eq!(task.activity, "double", "the run went on");
        let settled = world.settled(&task, outcome_of(&task));
        world.say(newer, vec![settled]);
        assert_eq!(world.result("a"), Some(world::done(&44u64)));
        judge(&world);
    }
}

#[test]
fn local_work_that_ends_when_its_run_is_not_known_any_more_is_told_once() {
    type End = fn(&World, Box<Task>) -> LocalResult;
    let ends: [(End, &str); 4] = [
        (|_, _| LocalResult::Settled { attempt: 1, outcome: Outcome::Done(payload(&6u64)) }, "activity_settled"),
        (|_, task| LocalResult::Left { task, until: later::LATE }, "attempt_left"),
        (|world, _| LocalResult::Retry { attempt: 1, failure: no(), at: world.now }, "attempt_failed"),
        (|_, _| LocalResult::Parked { attempt: 1, failure: no() }, "attempt_failed"),
    ];
    for (end, kind) in ends {
        let mut world = World::new(registry());
        let owner = world.owner_with(world.registry.clone(), Rc::new(Always));
        let start = world.start("a", "twice", number(3));
        let frame = world.publish(vec![start]);
        world.deliver(owner, frame, false);
        world.settle_but(owner, |effect| matches!(effect, Effect::StartEager { .. }));
        let record = world.next_record("a", strange("lease_taken"));
        let run = record.run_id;
        let theirs = world.later_frame(vec![record]);
        world.append(encode(&theirs));
        let started = world.owners[owner].waiting.iter().find_map(|effect| match effect {
            Effect::StartEager { task } => Some(task.clone()),
            _ => None,
        });
        let result = end(&world, started.expect("it is under way"));
        for _ in 0..2 {
            let now = world.now;
            world.owners[owner].shard.handle_local(run, 0, result.clone(), now);
            world.settle_but(owner, |effect| matches!(effect, Effect::StartEager { .. }));
        }
        assert_eq!(received(&world, "a"), [kind]);
        assert_eq!(parked(&world, "a").map(|parked| parked.kind), Some(ParkedKind::UnknownKind));
    }
}

#[test]
fn a_result_is_dropped_only_where_what_is_known_says_that_it_is_settled() {
    let mut world = World::new(registry());
    let mark = |no| CommandMark { no, kind: CommandKind::Activity, due: None, ..lease(no) };
    // What the later release asked for with 1 to 3 is its own.
    let (owner, run) = unknown_since(&mut world, |record| Record { commands: vec![mark(4)], ..record });
    let task = world.queue[0].clone();
    let settled = RecordBody::ActivitySettled { step: 4, attempt: 1, outcome: outcome_of(&task) };
    let frame = world.later_frame(vec![world.next_record("a", Body::of(&settled))]);
    world.append(encode(&frame));
    for step in [3, 4, 9] {
        let body = EventBody::ActivitySettled { step, attempt: 1, outcome: outcome_of(&task) };
        let event = world.event("a", Some(run), &body);
        world.say(owner, vec![event]);
    }
    let of_steps = world.records().into_iter().filter_map(|record| match record.body() {
        Ok(RecordBody::Received { event, .. }) => match event.body() {
            Ok(EventBody::ActivitySettled { step, .. }) => Some(step),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(of_steps.collect::<Vec<_>>(), [3, 9]);
    assert_eq!(world.unacked(), 0);
}

#[test]
fn a_run_that_nothing_is_said_to_is_seen_to_stand_still_and_somebody_is_woken() {
    for fresh in [false, true] {
        let mut world = World::new(registry());
        let mut owner = world.owner();
        for id in ["a", "b"] {
            let start = world.start(id, "listens", number(2));
            world.say(owner, vec![start]);
        }
        let record = Record { commands: vec![lease(0)], ..world.next_record("a", strange("lease_taken")) };
        let frame = world.later_frame(vec![record]);
        let number = frame.number;
        world.append(encode(&frame));
        if fresh {
            world.crash(owner);
            owner = world.owner();
        }
        let event = word(&mut world, "b", "x");
        world.say(owner, vec![event]);
        assert_eq!(parked(&world, "a").map(|parked| parked.kind), Some(ParkedKind::UnknownKind), "fresh: {fresh}");
        let last = world.chain().0.pop().expect("frames");
        assert!(last.sent_below <= number);
        assert!(last.wake.expect("somebody has to come").due.0 <= world.now.0 + 60_000, "{:?}", last.wake);
        // Once, however often it is loaded.
        world.crash(owner);
        let next = world.owner();
        let event = word(&mut world, "b", "y");
        world.say(next, vec![event]);
        let is_parking = |record: &Record| matches!(record.body(), Ok(RecordBody::Parked { .. }));
        assert_eq!(world.records().iter().filter(|record| is_parking(record)).count(), 1);
    }
}

#[test]
fn what_a_run_stands_still_for_is_not_hidden_by_what_is_not_known() {
    for kind in [ParkedKind::Poisonous, ParkedKind::Panicked, ParkedKind::NoCode] {
        let mut world = World::new(registry());
        let owner = world.owner();
        let start = world.start("a", "listens", number(2));
        world.say(owner, vec![start]);
        let reason = Parked::new(kind, "as it was".to_owned());
        let frame = world.later_frame(vec![world.next_record("a", Body::of(&RecordBody::Parked { reason }))]);
        world.append(encode(&frame));
        let before = world.records().len();
        let event = Event { body: strange("update"), ..word(&mut world, "a", "") };
        world.say(owner, vec![event]);
        let frames = world.records();
        let parkings = frames[before..].iter().filter_map(|record| match record.body() {
            Ok(RecordBody::Parked { reason }) => Some(reason.kind),
            _ => None,
        });
        // Only for code that may have come it is tried again, and then it is found what cannot be read.
        let expected: &[ParkedKind] = if kind == ParkedKind::Poisonous { &[] } else { &[ParkedKind::UnknownKind] };
        assert_eq!(parkings.collect::<Vec<_>>(), expected, "{kind:?}");
        assert_eq!((received(&world, "a"), world.unacked()), (vec!["update".to_owned()], 0));
    }
}
