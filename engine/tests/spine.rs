//! What a shard does with runs, seen from outside: what it appends, sends, answers and acknowledges, and when.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{EventBody, IdPolicy, Outcome, Start};
use everpulse_protocol::history::{CloseStatus, ParkedKind, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::{RunId, Timestamp};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::{Failure, Never, activity, signal, sleep, step, workflow};
use serde::{Deserialize, Serialize};
use world::{Receipts, World, done, payload};

#[activity(crate = everpulse_sdk)]
async fn double(n: u64) -> u64 {
    n * 2
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn twice(n: u64) -> Result<u64, Failure<Never>> {
    let once = double(n).await?;
    double(once).await
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn naps(ms: u64) -> u64 {
    sleep(Duration::from_millis(ms)).await;
    sleep(Duration::from_millis(ms)).await;
    ms
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn steps() -> Result<u64, Failure<Never>> {
    let mut sum = 0;
    for n in 0..3u64 {
        sum += step("add", move || async move { Ok::<u64, Never>(n) }).await?;
    }
    Ok(sum)
}

#[signal(crate = everpulse_sdk)]
#[derive(Serialize, Deserialize)]
struct Word {
    text: String,
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn listens() -> String {
    let first = signal::<Word>().recv().await;
    let second = signal::<Word>().recv().await;
    format!("{} {}", first.text, second.text)
}

#[workflow(version = 1, crate = everpulse_sdk)]
async fn panics() -> u64 {
    panic!("the bottom fell out")
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.workflow_fn(twice).expect("new");
    registry.workflow_fn(naps).expect("new");
    registry.workflow_fn(steps).expect("new");
    registry.workflow_fn(listens).expect("new");
    registry.workflow_fn(panics).expect("new");
    registry
}

fn args<T: Serialize>(name: &str, value: T) -> everpulse_protocol::Payload {
    payload(&BTreeMap::from([(name, value)]))
}

fn no_args() -> everpulse_protocol::Payload {
    payload(&BTreeMap::<String, u64>::new())
}

/// Starts `twice` of 3.
fn start_twice(world: &mut World, id: &str) -> everpulse_protocol::event::Event {
    world.start(id, "twice", args("n", 3u64))
}

#[test]
fn a_run_goes_from_start_to_result() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start_twice(&mut world, "a");
    world.say(owner, vec![start]);
    assert_eq!(world.queue.len(), 1);
    let settled = world.settled(&world.queue[0], done(&6u64));
    world.say(owner, vec![settled]);
    assert_eq!(world.queue.len(), 2);
    let settled = world.settled(&world.queue[1], done(&12u64));
    world.say(owner, vec![settled]);
    assert_eq!(world.result("a"), Some(done(&12u64)));
    assert_eq!(world.unacked(), 0);
    assert!(matches!(world.replies[0].1, ReplyBody::Started { attached: false, .. }));
    assert!(matches!(world.replies[1].1, ReplyBody::Closed { .. }));
    assert_eq!(world.replies.len(), 2, "nothing more came out");
}

#[test]
fn nothing_leaves_before_its_frame_stands_and_the_ack_is_last() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start_twice(&mut world, "a");
    world.say(owner, vec![start]);
    assert_eq!(world.trace, ["0 append", "0 task double", "0 wake", "0 ack"]);
}

#[test]
fn a_duplicate_start_and_a_duplicate_result_change_nothing() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start_twice(&mut world, "a");
    world.say(owner, vec![start.clone()]);
    world.say(owner, vec![start]);
    let settled = world.settled(&world.queue[0], done(&6u64));
    world.say(owner, vec![settled.clone(), settled.clone()]);
    world.say(owner, vec![settled]);
    assert_eq!(world.queue.len(), 2, "one task for each step");
    assert_eq!(world.unacked(), 0);
}

#[test]
fn the_first_settlement_of_a_step_wins() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start_twice(&mut world, "a");
    world.say(owner, vec![start]);
    let first = world.settled(&world.queue[0], done(&6u64));
    let second = world.settled(&world.queue[0], done(&1_000u64));
    world.say(owner, vec![first, second]);
    let settled = world.settled(&world.queue[1], done(&12u64));
    world.say(owner, vec![settled]);
    assert_eq!(world.result("a"), Some(done(&12u64)));
}

#[test]
fn timers_fire_when_due_and_once() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "naps", args("ms", 5_000u64));
    world.say(owner, vec![start]);
    world.run_until(Timestamp(5_999));
    assert_eq!(world.records().len(), 1, "not early");
    world.run_until(Timestamp(30_000));
    assert_eq!(world.result("a"), Some(done(&5_000u64)));
    let fired: Vec<u64> = world
        .records()
        .iter()
        .filter(|record| matches!(record.body(), Ok(RecordBody::TimerFired { .. })))
        .map(|record| record.at.0)
        .collect();
    assert_eq!(fired, [6_000, 11_000]);
}

#[test]
fn a_wake_up_stands_for_every_open_run() {
    let mut world = World::new(registry());
    let first = world.owner();
    let start = world.start("a", "naps", args("ms", 5_000u64));
    world.say(first, vec![start]);
    assert_eq!(world.timers.len(), 1);
    assert_eq!(world.timers[0].due, Timestamp(6_000));
    // The owner dies with nothing in its hands; only the wake-up is left.
    assert!(world.crash(first).is_empty());
    let second = world.owner();
    for _ in 0..2 {
        let wake = *world.timers.last().expect("an open run has one");
        world.now = wake.due;
        let event = world.wake(wake);
        world.say(second, vec![event]);
    }
    assert_eq!(world.result("a"), Some(done(&5_000u64)));
    assert_eq!(world.unacked(), 0);
}

#[test]
fn a_wake_up_that_is_not_the_current_one_has_no_successor() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "naps", args("ms", 600_000u64));
    world.say(owner, vec![start]);
    let current = world.timers[0];
    let old = everpulse_protocol::timer::Wake { number: current.number + 77, ..current };
    let event = world.wake(old);
    world.say(owner, vec![event]);
    assert_eq!(world.timers.len(), 1);
    let event = world.wake(current);
    world.say(owner, vec![event]);
    assert_eq!(world.timers.len(), 2, "the current one has");
    assert_eq!(world.unacked(), 0);
}

#[test]
fn local_steps_run_in_the_owner_and_hold_the_input() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "steps", no_args());
    world.say(owner, vec![start]);
    assert_eq!(world.result("a"), Some(done(&3u64)));
    let ack = world.trace.iter().position(|line| line.contains("ack")).expect("acked");
    assert_eq!(ack, world.trace.len() - 1, "the ack is the last thing: {:?}", world.trace);
    assert_eq!(world.traced("step add"), 3);
}

#[test]
fn a_hold_ends_when_a_wake_up_covers_the_local_work() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "steps", no_args());
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    // Everything but the step itself is carried out.
    for _ in 0..100 {
        world.collect(owner);
        let waiting = &mut world.owners[owner].waiting;
        let Some(next) = waiting.iter().position(|e| !matches!(e, everpulse_engine::Effect::StartStep { .. })) else {
            break;
        };
        waiting.swap(0, next);
        world.step(owner);
    }
    assert_eq!(world.unacked(), 1, "held for the step");
    world.now = Timestamp(1_000 + 2_000);
    let now = world.now;
    world.owners[owner].shard.handle_tick(now);
    let step = world.owners[owner].waiting.pop_front().expect("the step");
    world.settle(owner);
    assert_eq!(world.unacked(), 0, "covered: {:?}", world.trace);
    let cover = world.timers.last().expect("a wake-up");
    assert!(cover.due >= Timestamp(11_000), "behind the step's time-out: {cover:?}");
    world.owners[owner].waiting.push_front(step);
    world.settle(owner);
    assert_eq!(world.result("a"), Some(done(&3u64)));
}

#[test]
fn signals_are_kept_until_they_are_waited_for() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let word = |text: &str| EventBody::Signal {
        headers: None,
        name: "Word".to_owned(),
        value: payload(&Word { text: text.to_owned() }),
    };
    let early = world.event("a", None, &word("hello"));
    world.say(owner, vec![early]);
    assert_eq!(world.unacked(), 1, "a signal waits a little for its run");
    let start = world.start("a", "listens", no_args());
    let late = world.event("a", None, &word("world"));
    world.say(owner, vec![start]);
    world.say(owner, vec![late]);
    assert_eq!(world.result("a"), Some(done(&"hello world")));
    assert_eq!(world.unacked(), 0);
}

#[test]
fn a_signal_for_no_run_is_answered_and_buried() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let body = EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&0u8) };
    let event = world.event("nobody", None, &body);
    world.say(owner, vec![event]);
    assert!(world.replies.is_empty());
    world.run_until(Timestamp(10_000));
    assert!(matches!(world.replies[..], [(_, ReplyBody::NotFound)]));
    assert_eq!((world.buried, world.unacked()), (1, 0));
}

#[test]
fn a_signal_for_no_run_is_answered_also_where_another_owner_writes_all_the_time() {
    let mut world = World::new(registry());
    let (stale, writes) = (world.owner(), world.owner());
    let body = EventBody::Signal { headers: None, name: "Word".to_owned(), value: payload(&0u8) };
    let event = world.event("nobody", None, &body);
    world.say(stale, vec![event]);
    for n in 0..8 {
        let start = world.start(&format!("run-{n}"), "steps", no_args());
        world.say(writes, vec![start]);
        let until = Timestamp(world.now.0 + 1_000);
        world.run_until(until);
    }
    let not_found = world.replies.iter().filter(|(_, reply)| *reply == ReplyBody::NotFound).count();
    assert_eq!((not_found, world.buried, world.unacked()), (1, 1, 0), "{:?}", world.trace);
}

#[test]
fn a_signal_waits_for_its_run_though_recorded_time_is_ahead() {
    let mut world = World::new(registry());
    let (stale, writes) = (world.owner(), world.owner());
    let value = payload(&Word { text: "hello".to_owned() });
    let early = world.event("a", None, &EventBody::Signal { headers: None, name: "Word".to_owned(), value });
    world.say(stale, vec![early.clone()]);
    world.owners[writes].skew = 60_000;
    let other = world.start("b", "steps", no_args());
    world.say(writes, vec![other]);
    // Its frame is void, and it reads what is recorded a minute ahead.
    let other = world.start("c", "steps", no_args());
    world.say(stale, vec![other]);
    world.run_until(Timestamp(world.now.0 + 1_000));
    assert_eq!(world.buried, 0, "its start may come: {:?}", world.trace);
    world.run_until(Timestamp(world.now.0 + 3_000));
    assert_eq!(world.buried, 1, "{:?}", world.trace);
}

/// Its start comes behind so much else that a round has no room for it, when the book was thrown away long after.
#[test]
fn a_signal_that_waited_long_enough_is_not_given_up_before_all_that_came_is_looked_at() {
    let mut world = World::new(registry());
    let (stale, writes) = (world.owner(), world.owner());
    let word = |text: &str| EventBody::Signal {
        headers: None,
        name: "Word".to_owned(),
        value: payload(&Word { text: text.to_owned() }),
    };
    let early = world.event("a", None, &word("hello"));
    world.say(stale, vec![early]);
    let other = world.start("b", "steps", no_args());
    world.say(writes, vec![other]);
    world.now = Timestamp(world.now.0 + 10_000);
    let long = "x".repeat(100_000);
    let mut frames = Vec::new();
    for n in 0..12 {
        let start = world.start(&format!("long-{n}"), "listens", payload(&BTreeMap::from([("text", long.clone())])));
        frames.push(world.publish(vec![start]));
    }
    let start = world.start("a", "listens", no_args());
    let again = world.event("a", None, &word("world"));
    frames.push(world.publish(vec![start, again]));
    for frame in frames {
        world.deliver(stale, frame, false);
    }
    world.settle(stale);
    assert_eq!(world.result("a"), Some(done(&"hello world")), "{:?}", world.trace);
    assert_eq!(world.buried, 0);
}

#[test]
fn a_panic_parks_the_run_and_nothing_else() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let bad = world.start("bad", "panics", no_args());
    let good = world.start("good", "steps", no_args());
    world.say(owner, vec![bad, good]);
    assert_eq!(world.result("good"), Some(done(&3u64)));
    let parked = world.records().into_iter().find_map(|record| match record.body() {
        Ok(RecordBody::Parked { reason }) => Some(reason),
        _ => None,
    });
    let parked = parked.expect("parked");
    assert_eq!(parked.kind, ParkedKind::Panicked);
    assert!(parked.message.contains("workflow bad panicked: the bottom fell out"), "{}", parked.message);
    assert_eq!(world.unacked(), 0);
}

#[test]
fn unknown_code_parks_the_run_until_a_worker_knows_it() {
    let mut world = World::new(registry());
    let without = world.owner_with(std::sync::Arc::new(Registry::new()), std::rc::Rc::new(everpulse_engine::NoEager));
    let start = start_twice(&mut world, "a");
    world.say(without, vec![start]);
    let ask = world.event("a", None, &EventBody::Describe);
    world.say(without, vec![ask]);
    let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("{:?}", world.replies) };
    let message = &view.parked.as_ref().expect("parked").message;
    assert!(message.contains("this worker has no workflow `twice`"), "{message}");
    world.crash(without);
    let with = world.owner();
    let wake = *world.timers.last().expect("a parked run has a wake-up");
    let event = world.wake(wake);
    world.say(with, vec![event]);
    assert_eq!(world.queue.len(), 1, "the run goes on");
}

#[workflow(version = 2, name = "everpulse.tea", crate = everpulse_sdk)]
async fn of_ours() {}

#[test]
fn what_is_to_be_done_about_code_of_our_own_that_is_not_there_is_said() {
    let mut later = Registry::new();
    later.workflow_fn(of_ours).expect("new");
    for (registry, says) in [
        (
            Registry::new(),
            "no workflow `everpulse.tea`; it comes with Everpulse: deploy a worker of a release that has it",
        ),
        (later, "no version 1 of workflow `everpulse.tea`; it comes with another release of Everpulse: deploy"),
    ] {
        let mut world = World::new(registry);
        let owner = world.owner();
        let mut start = world.start("a", "everpulse.tea", payload(&()));
        let mut of_version_1 = start.body().expect("it is a start").as_start().expect("it is one").clone();
        of_version_1.version = Some(1);
        start.body = Body::of(&EventBody::Start(of_version_1));
        world.say(owner, vec![start]);
        let ask = world.event("a", None, &EventBody::Describe);
        world.say(owner, vec![ask]);
        let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("{:?}", world.replies) };
        let message = &view.parked.as_ref().expect("parked").message;
        assert!(message.contains(says), "{message}");
    }
}

mod changed {
    use super::*;

    #[workflow(version = 1, crate = everpulse_sdk)]
    pub async fn twice(n: u64) -> Result<u64, Failure<Never>> {
        sleep(Duration::from_secs(30)).await;
        let once = double(n).await?;
        double(once).await
    }
}

#[test]
fn changed_code_parks_the_run_with_both_sides_and_the_old_code_resumes_it() {
    let mut world = World::new(registry());
    let old = world.owner();
    let start = start_twice(&mut world, "order-42");
    world.say(old, vec![start]);
    world.crash(old);
    let mut changed = Registry::new();
    changed.workflow_fn(changed::twice).expect("new");
    let new = world.owner_with(std::sync::Arc::new(changed), std::rc::Rc::new(everpulse_engine::NoEager));
    let settled = world.settled(&world.queue[0], done(&6u64));
    world.say(new, vec![settled]);
    let ask = world.event("order-42", None, &EventBody::Describe);
    world.say(new, vec![ask]);
    let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("{:?}", world.replies) };
    let message = &view.parked.as_ref().expect("parked").message;
    assert!(message.starts_with("workflow order-42 diverged at command 0\n  recorded: schedule activity `double`\n  replayed: start timer 30s"), "{message}");
    assert_eq!(world.unacked(), 0, "its inputs are taken in");
    world.crash(new);
    let old = world.owner();
    let resume = world.event("order-42", None, &EventBody::Resume);
    world.say(old, vec![resume]);
    let settled = world.settled(&world.queue[1], done(&12u64));
    world.say(old, vec![settled]);
    assert_eq!(world.result("order-42"), Some(done(&12u64)));
}

#[test]
fn an_input_that_takes_workers_down_is_given_up_after_three_tries() {
    let mut world = World::new(registry());
    let start = start_twice(&mut world, "a");
    let frame = world.publish(vec![start]);
    // Each worker dies right after it has taken the input in: before it applies it.
    for _ in 0..3 {
        let owner = world.owner();
        world.deliver(owner, frame, true);
        let before = world.log.len();
        loop {
            world.collect(owner);
            let appends = matches!(world.owners[owner].waiting.front(), Some(everpulse_engine::Effect::Append { .. }));
            if appends && world.log.len() > before {
                break;
            }
            assert!(world.step(owner), "it goes on to apply the input");
        }
        world.crash(owner);
    }
    let owner = world.owner();
    world.deliver(owner, frame, true);
    world.settle(owner);
    let tries = world.records().iter().filter(|r| matches!(r.body(), Ok(RecordBody::Received { .. }))).count();
    let parked = world.records().iter().any(
        |record| matches!(record.body(), Ok(RecordBody::Parked { reason }) if reason.kind == ParkedKind::Poisonous),
    );
    assert!(parked, "parked after {tries} tries");
    assert!(world.queue.is_empty());
    assert_eq!(world.unacked(), 0);
}

#[test]
fn cancellation_ends_a_sleeping_run() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "naps", args("ms", 600_000u64));
    world.say(owner, vec![start]);
    let cancel = world.event("a", None, &EventBody::Cancel { reason: "enough".to_owned() });
    world.say(owner, vec![cancel]);
    let closes: Vec<CloseStatus> = world.records().iter().filter_map(|r| r.close.as_ref().map(|c| c.status)).collect();
    assert_eq!(closes, [CloseStatus::Cancelled]);
    assert!(world.owners[owner].shard.poll_deadline().is_none(), "no timer is left");
}

#[test]
fn termination_ends_a_run_at_once_and_cancels_its_tasks() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start_twice(&mut world, "a");
    world.say(owner, vec![start]);
    let terminate = world.event("a", None, &EventBody::Terminate { reason: String::new() });
    world.say(owner, vec![terminate]);
    assert_eq!(world.cancelled, [world.queue[0].id]);
    assert!(matches!(world.result("a"), Some(Outcome::Failed(_))));
}

#[test]
fn policies_decide_what_a_second_start_of_an_id_does() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let policed = |world: &mut World, policy| {
        let start = Start {
            workflow: "steps".to_owned(),
            version: None,
            args: no_args(),
            policy,
            tags: Vec::new(),
            start_at: None,
            timeout_ms: None,
            headers: None,
            priority: Default::default(),
        };
        world.event("a", None, &EventBody::Start(start))
    };
    let first = policed(&mut world, IdPolicy::Reject);
    let first_run = RunId(first.id.0);
    world.say(owner, vec![first]);
    world.replies.clear();
    let rejected = policed(&mut world, IdPolicy::Reject);
    world.say(owner, vec![rejected]);
    assert!(matches!(world.replies[..], [(_, ReplyBody::Taken { open: false, run_id })] if run_id == first_run));
    world.replies.clear();
    let attached = policed(&mut world, IdPolicy::Attach);
    world.say(owner, vec![attached]);
    assert!(matches!(world.replies[0].1, ReplyBody::Started { attached: true, run_id } if run_id == first_run));
    assert!(matches!(world.replies[1].1, ReplyBody::Closed { .. }));
    world.replies.clear();
    let again = policed(&mut world, IdPolicy::RestartWhenClosed);
    world.say(owner, vec![again]);
    assert!(matches!(world.replies[0].1, ReplyBody::Started { attached: false, run_id } if run_id != first_run));
}

#[test]
fn a_start_that_waits_for_its_time_begins_then() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = Start {
        workflow: "steps".to_owned(),
        version: None,
        args: no_args(),
        policy: IdPolicy::Attach,
        tags: Vec::new(),
        start_at: Some(Timestamp(60_000)),
        timeout_ms: None,
        headers: None,
        priority: Default::default(),
    };
    let start = world.event("a", None, &EventBody::Start(start));
    world.say(owner, vec![start]);
    assert_eq!(world.unacked(), 0);
    world.run_until(Timestamp(59_999));
    assert_eq!(world.result("a"), None);
    world.run_until(Timestamp(60_000));
    assert_eq!(world.result("a"), Some(done(&3u64)));
}

#[test]
fn an_owner_whose_book_is_old_loses_its_frame_and_applies_the_input_again() {
    let mut world = World::new(registry());
    let (zombie, owner) = (world.owner(), world.owner());
    let start = start_twice(&mut world, "a");
    world.say(zombie, vec![start]);
    let settled = world.settled(&world.queue[0], done(&6u64));
    world.say(owner, vec![settled.clone()]);
    assert_eq!(world.queue.len(), 2);
    // The zombie hears of the same result, and of another run.
    let other = start_twice(&mut world, "b");
    world.say(zombie, vec![settled, other]);
    let (_, void) = world.chain();
    assert_eq!(void, 1);
    assert_eq!(world.queue.len(), 3, "one task for each step of each run");
    assert_eq!(world.unacked(), 0);
}

#[test]
fn a_lost_receipt_a_dropped_frame_and_a_duplicate_receipt_are_decided_by_reading() {
    for receipts in [Receipts::Lost, Receipts::Dropped, Receipts::Duplicate] {
        let mut world = World::new(registry());
        let owner = world.owner();
        world.owners[owner].receipts = receipts;
        let start = start_twice(&mut world, "a");
        let frame = world.publish(vec![start]);
        world.deliver(owner, frame, false);
        for _ in 0..10 {
            world.step(owner);
        }
        world.owners[owner].receipts = Receipts::Prompt;
        world.settle(owner);
        assert_eq!(world.queue.len(), 1, "{receipts:?}");
        assert_eq!(world.unacked(), 0, "{receipts:?}");
    }
}

#[test]
fn a_rolled_ledger_is_no_proof_and_no_loss() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start_twice(&mut world, "a");
    world.say(owner, vec![start]);
    world.ledger = 2;
    let settled = world.settled(&world.queue[0], done(&6u64));
    world.say(owner, vec![settled]);
    assert_eq!(world.queue.len(), 2);
    assert_eq!(world.chain().1, 0);
}
