//! One owner after the other, and both alive: a task that the first one is about to send is not sent by the second.

mod world;

use everpulse_engine::{Effect, Outgoing};
use everpulse_protocol::event::{Event, EventBody, Report};
use everpulse_protocol::{Failure, FailureKind, Timestamp};
use world::workflows::{number, registry};
use world::{Answer, World, done, outcome_of};

fn is_task(effect: &Effect) -> bool {
    matches!(effect, Effect::Send { outgoing: Outgoing::Task(_), .. })
}

/// A run whose task its owner has not sent, and the next owner, which has the start and has loaded the shard.
fn handed_over() -> (World, usize, usize, usize) {
    let mut world = World::new(registry());
    let first = world.owner();
    let start = world.start("a", "twice", number(3));
    let frame = world.publish(vec![start]);
    world.deliver(first, frame, false);
    world.settle_but(first, is_task);
    assert_eq!(world.owners[first].waiting.len(), 1, "the task is about to leave");
    let second = world.owner();
    world.deliver(second, frame, true);
    world.settle(second);
    (world, first, second, frame)
}

/// So long the second one waits.
fn a_second_later(world: &mut World) {
    let until = Timestamp(world.now.0 + 1_000);
    world.run_until(until);
}

/// Activity workers answer the first task in the queue, and the run goes on.
fn goes_on(world: &mut World, owner: usize) {
    let task = world.queue[0].clone();
    let settled = world.settled(&task, outcome_of(&task));
    world.say(owner, vec![settled]);
    assert_eq!(world.queue.len(), 2, "its second task, once");
}

#[test]
fn a_task_that_its_leaving_owner_still_sends_is_not_sent_by_the_next_one() {
    let (mut world, first, second, frame) = handed_over();
    assert!(world.queue.is_empty());
    assert!(world.inbox[frame].is_some() && !world.owners[second].shard.status().idle, "it waits");
    world.settle(first);
    assert_eq!(world.queue.len(), 1);
    a_second_later(&mut world);
    assert_eq!((world.queue.len(), world.unacked()), (1, 0));
    assert!(world.owners[second].shard.status().idle);
    goes_on(&mut world, second);
}

#[test]
fn a_task_whose_owner_is_gone_is_sent_a_second_later() {
    let (mut world, first, second, frame) = handed_over();
    world.crash(first);
    assert_eq!(world.deadline(second), Some(Timestamp(world.now.0 + 1_000)));
    world.now = Timestamp(world.now.0 + 999);
    world.tick(second);
    world.settle(second);
    assert!(world.queue.is_empty() && world.inbox[frame].is_some());
    world.now = Timestamp(world.now.0 + 1);
    world.tick(second);
    world.settle_but(second, is_task);
    assert!(world.inbox[frame].is_some(), "it is not confirmed");
    world.settle(second);
    assert_eq!((world.queue.len(), world.unacked()), (1, 0));
    goes_on(&mut world, second);
}

#[test]
fn a_task_that_was_sent_before_the_hand_over_is_not_waited_for() {
    let mut world = World::new(registry());
    let first = world.owner();
    let start = world.start("a", "twice", number(3));
    world.say(first, vec![start]);
    world.crash(first);
    let second = world.owner();
    world.say(second, Vec::new());
    assert!(world.owners[second].shard.status().idle);
    assert_eq!((world.queue.len(), world.unacked()), (1, 0));
}

#[test]
fn what_is_waited_for_is_sent_though_the_book_is_thrown_away_meanwhile() {
    for comes_back in [false, true] {
        let (mut world, first, second, _) = handed_over();
        if !comes_back {
            world.crash(first);
        }
        // A third one writes and dies: the frame in which the second one takes the same input is void.
        let third = world.owner();
        let start = world.start("b", "listens", number(1));
        world.say(third, vec![start]);
        for frame in world.crash(third) {
            world.deliver(second, frame, false);
        }
        world.settle(second);
        assert_eq!(world.chain().1, 1, "a frame was void");
        assert!(world.queue.is_empty());
        if comes_back {
            world.settle(first);
        }
        a_second_later(&mut world);
        assert_eq!((world.queue.len(), world.unacked()), (1, 0));
        goes_on(&mut world, second);
    }
}

#[test]
fn a_task_that_nobody_wants_any_more_is_not_sent() {
    let (mut world, first, second, _) = handed_over();
    world.crash(first);
    let body = EventBody::Terminate { reason: String::new() };
    let terminate = world.event("a", None, &body);
    world.say(second, vec![terminate]);
    assert!(world.result("a").is_some());
    assert_eq!(world.unacked(), 2, "all that came since is held");
    a_second_later(&mut world);
    assert_eq!((world.queue.len(), world.unacked()), (0, 0));
    assert!(world.owners[second].shard.status().idle);
}

#[test]
fn it_is_waited_no_longer_when_the_clock_is_set_back() {
    let (mut world, first, second, _) = handed_over();
    world.crash(first);
    world.now = Timestamp(0);
    world.tick(second);
    world.settle(second);
    a_second_later(&mut world);
    assert_eq!((world.queue.len(), world.unacked()), (1, 0));
}

/// An owner whose frame is on its way: it hears nothing of it.
fn with_open_fate() -> (World, usize, Effect) {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "twice", number(3));
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
    let append = world.owners[owner].waiting.pop_front().expect("the append");
    (world, owner, append)
}

#[test]
fn the_tasks_of_an_own_frame_that_was_taken_for_void_are_sent_without_waiting() {
    let (mut world, owner, append) = with_open_fate();
    let Effect::Append { id, .. } = &append else { panic!("{append:?}") };
    let id = *id;
    world.answer(owner, Answer::Receipt { id, receipt: Err(()) });
    world.collect(owner);
    let tail = world.owners[owner].waiting.pop_front().expect("it asks for the tail");
    let tail = world.happen(owner, tail).expect("an answer");
    world.answer(owner, tail);
    // It was not there, and comes now.
    let _ = world.happen(owner, append);
    world.settle(owner);
    assert_eq!((world.queue.len(), world.unacked()), (1, 0), "{:?}", world.trace);
}

#[test]
fn the_tasks_of_an_own_frame_behind_which_another_one_wrote_are_sent_at_once() {
    let mut world = World::new(registry());
    let (first, second) = (world.owner(), world.owner());
    let start = world.start("a", "naps", number(2_000));
    world.say(first, vec![start]);
    // A timer fires, which no input asks for: nothing is held that would make the owner read again.
    let start = world.start("b", "rests_beside", number(1));
    let wake = world.timers[0];
    world.say(first, vec![start]);
    world.queue.clear();
    world.queued_at.clear();
    world.trace.clear();
    world.now = wake.due;
    world.owners[first].receipts = world::Receipts::Lost;
    world.tick(first);
    world.settle_but(first, |effect| matches!(effect, Effect::AskTail { .. }));
    // Its frame is there; before it hears of that, another one writes behind it.
    let start = world.start("c", "listens", number(1));
    world.say(second, vec![start]);
    world.owners[first].receipts = world::Receipts::Prompt;
    world.settle(first);
    let status = world.owners[first].shard.status();
    assert!(!status.cold, "{status:?}");
    world.run_until(Timestamp(60_000));
    assert_eq!(world.result("a"), Some(done(&2_000u64)));
}

/// A run whose left attempt failed, with a task that its owner has not given back to its queue; and the next owner.
fn given_back() -> (World, usize, usize) {
    let mut world = World::new(registry());
    let first = world.owner();
    let start = world.start("a", "waits_for_signature", number(3));
    world.say(first, vec![start]);
    let left = world.left(&world.queue[0].clone());
    world.say(first, vec![left]);
    let failed = failed(&mut world);
    let frame = world.publish(vec![failed]);
    world.deliver(first, frame, false);
    world.settle_but(first, is_task);
    assert_eq!(world.owners[first].waiting.len(), 1, "the task is about to leave");
    let second = world.owner();
    world.deliver(second, frame, true);
    world.settle(second);
    assert_eq!(world.queue.len(), 1, "the second one waits, though the task's first attempt lies there");
    (world, first, second)
}

#[test]
fn a_task_that_its_leaving_owner_still_gives_back_is_not_given_back_by_the_next_one() {
    let (mut world, first, second) = given_back();
    world.settle(first);
    a_second_later(&mut world);
    let back: Vec<bool> = world.queue.iter().map(|task| task.returned.is_some()).collect();
    assert_eq!((back.as_slice(), world.unacked()), ([false, true].as_slice(), 0));
    assert!(world.owners[second].shard.status().idle);
    // Nor by a third one, when it was judged and its next attempt lies there.
    let judged = world.queue[1].clone();
    let failed = world.judged(&judged, Failure::new(FailureKind::Failed, "not signed"));
    world.crash(second);
    let third = world.owner();
    world.say(third, vec![failed]);
    a_second_later(&mut world);
    assert_eq!(world.queue.iter().map(|task| task.attempt).collect::<Vec<_>>(), [1, 1, 2]);
}

#[test]
fn a_task_whose_owner_is_gone_is_given_back_a_second_later() {
    let (mut world, first, second) = given_back();
    world.crash(first);
    a_second_later(&mut world);
    let back: Vec<bool> = world.queue.iter().map(|task| task.returned.is_some()).collect();
    assert_eq!((back.as_slice(), world.unacked()), ([false, true].as_slice(), 0));
    assert!(world.owners[second].shard.status().idle);
}

fn is_look(effect: &Effect) -> bool {
    matches!(effect, Effect::FindTasks { .. })
}

fn failed(world: &mut World) -> Event {
    let run = world.records()[0].run_id;
    let report = Report::Failed { failure: Failure::new(FailureKind::Failed, "not signed"), retryable: true };
    world.event("a", Some(run), &EventBody::AttemptReported { step: 0, attempt: 1, report })
}

/// The next owner still looks for the first task when it gives it back, in a frame of which it hears nothing.
#[test]
fn a_task_is_given_back_though_its_first_one_is_still_looked_for() {
    let mut world = World::new(registry());
    let first = world.owner();
    let start = world.start("a", "waits_for_signature", number(3));
    world.say(first, vec![start]);
    world.crash(first);
    let second = world.owner();
    let left = world.left(&world.queue[0].clone());
    let frame = world.publish(vec![left]);
    world.deliver(second, frame, false);
    world.settle_but(second, is_look);
    world.owners[second].receipts = world::Receipts::Lost;
    let failed = failed(&mut world);
    let frame = world.publish(vec![failed]);
    world.deliver(second, frame, false);
    world.settle_but(second, |effect| is_look(effect) || matches!(effect, Effect::AskTail { .. }));
    world.owners[second].receipts = world::Receipts::Prompt;
    // Another one writes behind it, so all is thrown away; what is read then says that the task may not be given back.
    let other = world.owner();
    let start = world.start("b", "listens", number(1));
    world.say(other, vec![start]);
    world.crash(other);
    world.settle_but(second, is_look);
    world.settle(second);
    a_second_later(&mut world);
    let back: Vec<bool> = world.queue.iter().map(|task| task.returned.is_some()).collect();
    assert_eq!(back, [false, true], "{:?}", world.trace);
}

#[test]
fn a_task_of_an_own_frame_that_was_taken_for_void_is_given_back_without_waiting() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", "waits_for_signature", number(3));
    world.say(owner, vec![start]);
    let left = world.left(&world.queue[0].clone());
    world.say(owner, vec![left]);
    world.owners[owner].receipts = world::Receipts::Lost;
    let failed = failed(&mut world);
    let frame = world.publish(vec![failed]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::AskTail { .. }));
    world.owners[owner].receipts = world::Receipts::Prompt;
    // Another one writes behind it, so all is thrown away.
    let other = world.owner();
    let start = world.start("b", "listens", number(1));
    world.say(other, vec![start]);
    world.crash(other);
    world.settle(owner);
    assert_eq!(world.queue.iter().filter(|task| task.returned.is_some()).count(), 1, "{:?}", world.trace);
    a_second_later(&mut world);
    assert_eq!(world.queue.iter().filter(|task| task.returned.is_some()).count(), 1, "{:?}", world.trace);
}
