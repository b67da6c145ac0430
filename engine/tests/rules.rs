//! One test for each way in which a rule was broken once, or easily could be.

mod world;

use everpulse_engine::{Effect, Outgoing};
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, Outcome};
use everpulse_protocol::history::{Close, CloseStatus, ParkedKind, RecordBody};
use everpulse_protocol::timer::Wake;
use world::workflows::{Word, number, registry};
use world::{Answer, World, decode_frame, done, payload};

fn word(world: &mut World, id: &str, text: &str) -> Event {
    let body =
        EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&Word { text: text.to_owned() }) };
    world.event(id, None, &body)
}

fn is_task(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { outgoing: Outgoing::Task(_), .. })
}

#[test]
fn no_mark_passes_a_task_that_is_not_marked_as_sent() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "fans_out", number(6));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, is_task);
    // All are stored, and all but the first are confirmed.
    let sends = std::mem::take(&mut world.owners[owner].waiting);
    for (place, send) in sends.into_iter().enumerate() {
        let answer = world.happen(owner, send).expect("a confirmation");
        if place > 0 {
            world.answer(owner, answer);
        }
    }
    // Frames of another run could bear a mark now.
    let other = world.start("b", "listens", number(1));
    world.say(owner, vec![other]);
    world.crash(owner);
    let next = world.owner();
    world.deliver(next, frame, true);
    world.settle(next);
    assert_eq!(world.queue.len(), 6, "each is found where it is");
}

#[test]
fn a_wake_up_is_held_until_the_one_in_its_place_is_confirmed() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "naps", number(3_000_000));
    world.say(owner, vec![start]);
    let old = world.timers[0];
    // A nearer timer asks for a nearer wake-up, whose confirmation does not come.
    let start = world.start("b", "naps", number(60_000));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::Send { .. }));
    let event = world.wake(old);
    let frame = world.publish(vec![event]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::Send { .. }));
    assert!(world.inbox[frame].is_some(), "it is all that brings somebody back to the shard");
    world.settle(owner);
    assert_eq!(world.unacked(), 0);
}

#[test]
fn a_signal_for_no_run_is_held_until_its_dead_letter_is_confirmed() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "listens", number(1));
    world.say(owner, vec![start]);
    let lost = word(&mut world, "nobody", "hello");
    world.say(owner, vec![lost]);
    world.now = everpulse_protocol::Timestamp(60_000);
    let now = world.now;
    world.owners[owner].shard.handle_tick(now);
    world.settle_but(owner, |effect| matches!(effect, Effect::Send { .. }));
    assert_eq!((world.buried, world.unacked()), (0, 1));
    world.settle(owner);
    assert_eq!((world.buried, world.unacked()), (1, 0));
}

#[test]
fn a_run_that_stays_parked_appends_nothing_when_it_is_tried_again() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "listens", number(1));
    world.say(owner, vec![start]);
    let mut strange = word(&mut world, "a", "hello");
    strange.body = Body::of(&std::collections::BTreeMap::from([("from_the_future", 1)]));
    world.say(owner, vec![strange]);
    let parked = |record: &everpulse_protocol::history::Record| match record.body() {
        Ok(RecordBody::Parked { reason }) => reason.kind == ParkedKind::UnknownKind,
        _ => false,
    };
    assert!(world.records().iter().any(parked));
    let records = world.records().len();
    for _ in 0..5 {
        let wake: Wake = *world.timers.last().expect("a parked run has one");
        world.now = wake.due;
        let event = world.wake(wake);
        world.say(owner, vec![event]);
    }
    assert_eq!(world.records().len(), records);
}

#[test]
fn a_signal_that_waited_for_its_run_comes_before_those_behind_the_start() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let first = word(&mut world, "a", "1");
    world.say(owner, vec![first]);
    let start = world.start("a", "listens", number(3));
    let (second, third) = (word(&mut world, "a", "2"), word(&mut world, "a", "3"));
    world.say(owner, vec![start, second, third]);
    assert_eq!(world.result("a"), Some(done(&"123")));
    assert_eq!(world.unacked(), 0);
}

#[test]
fn an_input_behind_one_on_trial_is_counted_when_it_takes_workers_down() {
    let mut world = World::new(registry());
    let start = world.start("a", "listens", number(3));
    let poison = word(&mut world, "a", "poison");
    let frame = world.publish(vec![start, poison]);
    let is_fatal = |effect: &Effect| match effect {
        Effect::Append { payload, .. } => {
            decode_frame(payload).records.iter().any(|record| matches!(record.body(), Ok(RecordBody::Signalled { .. })))
        }
        _ => false,
    };
    for worker in 0.. {
        assert!(worker < 8, "it goes on for ever");
        let owner = world.owner();
        world.deliver(owner, frame, true);
        let wake = world.event("_wake", None, &EventBody::Wake { shard: 0, number: 77 });
        let wake = world.publish(vec![wake]);
        world.deliver(owner, wake, false);
        world.settle_but(owner, is_fatal);
        if world.owners[owner].waiting.is_empty() {
            break;
        }
        world.crash(owner);
    }
    let parked = |body| matches!(body, Ok(RecordBody::Parked { reason }) if reason.kind == ParkedKind::Poisonous);
    assert!(world.records().iter().any(|record| parked(record.body())));
    // Its code was mended: a person lets it go on.
    let owner = world.owner();
    let resume = world.event("a", None, &EventBody::Resume);
    let more = [word(&mut world, "a", "x"), word(&mut world, "a", "y")];
    world.say(owner, vec![resume]);
    world.say(owner, more.to_vec());
    assert_eq!(world.result("a"), Some(done(&"poisonxy")));
}

#[test]
fn a_step_of_an_own_frame_that_was_taken_for_void_is_done_without_waiting() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "steps", number(2));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
    // No receipt, and the frame is not there when it is looked for; it comes a little later.
    let append = world.owners[owner].waiting.pop_front().expect("the append");
    let Effect::Append { id, .. } = &append else { panic!("{append:?}") };
    let id = *id;
    world.answer(owner, Answer::Receipt { id, receipt: Err(()) });
    world.collect(owner);
    let tail = world.owners[owner].waiting.pop_front().expect("it asks for the tail");
    let tail = world.happen(owner, tail).expect("an answer");
    world.answer(owner, tail);
    let _ = world.happen(owner, append);
    world.settle(owner);
    assert_eq!(world.result("a"), Some(done(&1u64)), "{:?}", world.trace);
    assert_eq!((world.traced("step add"), world.unacked()), (2, 0));
}

#[test]
fn a_parked_run_takes_in_very_many_inputs_and_applies_them_in_frames_that_fit() {
    let mut world = World::new(registry());
    let owner = world.owner();
    world::workflows::MENDED.set(false);
    let start = world.start("a", "fussy", number(1));
    let first = word(&mut world, "a", "spinach");
    world.say(owner, vec![start, first]);
    let text = "x".repeat(2_000);
    let events: Vec<Event> = (0..1_500).map(|_| word(&mut world, "a", &text)).collect();
    world.say(owner, events);
    world::workflows::MENDED.set(true);
    let resume = world.event("a", None, &EventBody::Resume);
    world.say(owner, vec![resume]);
    assert!(world.log.iter().all(|(_, payload)| payload.len() < 2 * 1024 * 1024), "a message has its limit");
    let scheduled = world.queue.len();
    assert_eq!((scheduled, world.unacked()), (1, 0));
}

#[test]
fn a_child_with_more_tags_than_a_message_takes_is_not_asked_for() {
    let mut world = World::new(registry());
    world.options.payload_bytes_max = 1_000;
    let owner = world.owner();
    let few = world.start("few", "labels", number(120));
    world.say(owner, vec![few]);
    let many = world.start("many", "labels", number(126));
    world.say(owner, vec![many]);
    let records = world.records();
    let begun = |id: &str| records.iter().filter(|record| record.workflow_id.as_str() == id).count();
    let asked =
        |id: &str| records.iter().any(|record| record.workflow_id.as_str() == id && !record.commands.is_empty());
    assert!(asked("few") && !asked("many"));
    assert!(begun("many") > 0, "it is there");
    let parked = records.iter().find_map(|record| match record.body() {
        Ok(RecordBody::Parked { reason }) => Some(reason),
        _ => None,
    });
    let reason = parked.expect("it cannot go on");
    assert_eq!(reason.kind, ParkedKind::Panicked);
    assert!(reason.message.contains("the arguments and tags of child `naps` has"), "{}", reason.message);
}

/// Comes to so many bytes; or fails with as many words, if they are odd.
#[everpulse_sdk::workflow(version = 1, crate = everpulse_sdk)]
async fn weighs(n: u64) -> Result<String, everpulse_sdk::Error> {
    let text = "x".repeat(n as usize);
    if n.is_multiple_of(2) { Ok(text) } else { Err(everpulse_sdk::Error::msg(text)) }
}

fn weighing() -> World {
    let mut registry = registry();
    registry.workflow_fn(weighs).expect("once");
    World::new(registry)
}

fn closes(world: &World) -> Vec<Close> {
    world.records().into_iter().filter_map(|record| record.close).collect()
}

#[test]
fn an_end_that_fits_no_message_is_a_failure_that_does() {
    const BYTES: u64 = 6_000_000;
    let mut world = weighing();
    // As where a store takes what is larger, and has not taken this.
    world.options.payload_bytes_max = 64 * 1024 * 1024;
    let owner = world.owner();
    for (id, bytes) in [("done", BYTES), ("failed", BYTES + 1)] {
        let start = world.start(id, "weighs", number(bytes));
        world.say(owner, vec![start]);
        let Some(Outcome::Failed(failure)) = world.result(id) else { panic!("{id} has ended and failed") };
        assert!(failure.message.contains("bytes, the limit is") && failure.message.len() < 3_000, "{failure}");
    }
    let start = world.start("told", "listens", number(1));
    // The reason is told once more by the end that it leads to.
    let terminate = world.event("told", None, &EventBody::Terminate { reason: "x".repeat(4_500_000) });
    world.say(owner, vec![start, terminate]);
    let statuses: Vec<CloseStatus> = closes(&world).into_iter().map(|close| close.status).collect();
    assert_eq!(statuses, [CloseStatus::Failed, CloseStatus::Failed, CloseStatus::Terminated]);
    assert_eq!(world.unacked(), 0);
}

#[test]
fn ends_that_fit_a_message_each_do_not_share_one() {
    let mut world = weighing();
    let owner = world.owner();
    let starts: Vec<Event> = (0..12).map(|n| world.start(&format!("{n}"), "weighs", number(900_000))).collect();
    world.say(owner, starts);
    let ends = closes(&world);
    assert!(ends.iter().all(|close| close.status == CloseStatus::Completed && close.outcome.bytes() > 900_000));
    assert_eq!((ends.len(), world.unacked()), (12, 0));
}
