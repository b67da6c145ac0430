//! Signals that come with a start: whichever run gets one, it gets it once.

mod world;

use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{Event, EventBody, IdPolicy};
use everpulse_protocol::history::{Record, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{RequestId, RunId};
use world::workflows::{MENDED, registry};
use world::{World, done};

/// What stands of a run, by kinds.
fn kinds(world: &World, run: RunId) -> Vec<String> {
    let of_run = |record: &Record| record.run_id == run && !world::repeats(record);
    world
        .records()
        .iter()
        .filter(|record| of_run(record))
        .filter_map(|record| Some(record.body.kind()?.to_owned()))
        .collect()
}

/// What was answered to an event.
fn answers(world: &World, event: &Event) -> Vec<ReplyBody> {
    let request = RequestId(event.id.0);
    world.replies.iter().filter(|(of, _)| *of == request).map(|(_, body)| body.clone()).collect()
}

fn with_policy(mut event: Event, policy: IdPolicy) -> Event {
    let mut body = event.body().expect("it was written just now");
    body.as_start_mut().expect("it is a start").policy = policy;
    event.body = Body::of(&body);
    event
}

#[test]
fn a_start_with_a_signal_is_one_frame_and_counts_once() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let first = world.start_with("a", "x");
    let run = RunId(first.id.0);
    let frame = world.publish(vec![first.clone()]);
    world.deliver(owner, frame, false);
    world.settle(owner);
    let frames = world.chain().0;
    let told = frames.iter().find(|frame| frame.records.iter().any(|record| record.run_id == run)).expect("it stands");
    assert_eq!(told.records.iter().filter(|record| record.run_id == run).count(), 2, "both in one frame");
    assert_eq!(kinds(&world, run), ["started", "signalled"]);
    // It comes again, here and at the next owner.
    world.replay(owner, frame, true);
    world.settle(owner);
    world.crash(owner);
    let next = world.owner();
    world.replay(next, frame, true);
    world.settle(next);
    assert_eq!(kinds(&world, run), ["started", "signalled"]);
    assert!(answers(&world, &first).iter().all(|body| *body == ReplyBody::Started { run_id: run, attached: false }));

    // The next one finds the run open; when it is gone, it is known by itself.
    let second = world.start_with("a", "y");
    let frame = world.publish(vec![second.clone()]);
    world.deliver(next, frame, false);
    world.settle(next);
    assert_eq!(world.result("a"), Some(done(&"xy")));
    assert_eq!(answers(&world, &second)[0], ReplyBody::Started { run_id: run, attached: true });
    world.replay(next, frame, true);
    world.settle(next);
    assert_eq!(answers(&world, &second).last(), Some(&ReplyBody::Accepted));
    assert_eq!(kinds(&world, RunId(second.id.0)), Vec::<String>::new(), "it has begun no second run");
    assert_eq!(world.unacked(), 0);
}

#[test]
fn what_a_start_with_a_signal_finds_is_dealt_with_as_its_policy_says() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let first = world.start_with("a", "x");
    let run_id = RunId(first.id.0);
    let refused = with_policy(world.start_with("a", "no"), IdPolicy::Reject);
    world.say(owner, vec![first, refused.clone()]);
    assert_eq!(answers(&world, &refused), [ReplyBody::Taken { run_id, open: true }]);
    let attached = with_policy(world.start_with("a", "y"), IdPolicy::Attach);
    world.say(owner, vec![attached.clone()]);
    assert_eq!(world.result("a"), Some(done(&"xy")), "the refused signal has not counted");
    let late = with_policy(world.start_with("a", "late"), IdPolicy::Attach);
    world.say(owner, vec![late.clone()]);
    assert_eq!(answers(&world, &late), [ReplyBody::Taken { run_id, open: false }]);
    let again = world.start_with("a", "z");
    world.say(owner, vec![again.clone()]);
    assert_eq!(kinds(&world, RunId(again.id.0)), ["started", "signalled"]);
}

#[test]
fn a_start_with_a_signal_keeps_both_until_its_time_and_while_there_is_no_code() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let change = |mut event: Event, name: &str, at: Option<everpulse_protocol::Timestamp>| {
        let mut body = event.body().expect("it was written just now");
        let start = body.as_start_mut().expect("it is a start");
        (start.workflow, start.start_at) = (name.to_owned(), at);
        event.body = Body::of(&body);
        event
    };
    let due = everpulse_protocol::Timestamp(world.now.0 + 5_000);
    let later = change(world.start_with("later", "x"), "listens", Some(due));
    let other = world.start_with("later", "y");
    let nobodys = change(world.start_with("nobodys", "x"), "unheard_of", None);
    world.say(owner, vec![later, other, nobodys.clone()]);
    assert_eq!(world.result("later"), None);
    assert_eq!(kinds(&world, RunId(nobodys.id.0)), ["received", "parked"]);
    world.run_until(due);
    assert_eq!(world.result("later"), Some(done(&"xy")), "its own signal comes first");
}

#[test]
fn a_start_with_a_signal_that_the_code_cannot_take_is_taken_up_when_it_is_mended() {
    MENDED.set(false);
    let mut world = World::new(registry());
    let owner = world.owner();
    let mut event = world.start_with("a", "xy");
    let mut body = event.body().expect("it was written just now");
    body.as_start_mut().expect("it is a start").workflow = "fussy".to_owned();
    event.body = Body::of(&body);
    let run = RunId(event.id.0);
    world.say(owner, vec![event]);
    assert_eq!(kinds(&world, run), ["started", "received", "parked"]);
    MENDED.set(true);
    let resume = world.event("a", None, &EventBody::Resume);
    world.say(owner, vec![resume]);
    assert_eq!(kinds(&world, run)[3..], ["resumed", "signalled"]);
    let signals = |record: &Record| matches!(record.body(), Ok(RecordBody::Signalled { .. }));
    assert_eq!(world.records().iter().filter(|record| signals(record)).count(), 1);
}
