//! Completions from outside: what is answered, what counts, and what is due when nobody completes.

mod world;

use everpulse_engine::attempt;
use everpulse_protocol::codec::Body;
use everpulse_protocol::event::{EventBody, Outcome, Report};
use everpulse_protocol::history::{Frame, Hash, Parked, ParkedKind, Record, RecordBody};
use everpulse_protocol::reply::ReplyBody;
use everpulse_protocol::task::Task;
use everpulse_protocol::{EventId, Failure, FailureKind, Position, RunId, Timestamp, encode};
use world::play::Play;
use world::workflows::{number, registry};
use world::{World, done, payload};

fn run_of(world: &World, id: &str) -> RunId {
    world.records().iter().find(|record| record.workflow_id.as_str() == id).map(|record| record.run_id).expect("begun")
}

/// What is answered when somebody tells of an attempt.
fn report(world: &mut World, owner: usize, attempt: u32, report: Report) -> ReplyBody {
    let run = run_of(world, "a");
    let event = world.event("a", Some(run), &EventBody::AttemptReported { step: 0, attempt, report });
    world.say(owner, vec![event]);
    world.replies.last().expect("an answer").1.clone()
}

fn complete(world: &mut World, owner: usize, step: u32, value: u64) -> ReplyBody {
    let run = run_of(world, "a");
    let event = world.event("a", Some(run), &EventBody::PromiseSettled { step, outcome: done(&value) });
    world.say(owner, vec![event]);
    world.replies.last().expect("an answer").1.clone()
}

fn begin(workflow: &str) -> (World, usize) {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = world.start("a", workflow, number(3));
    world.say(owner, vec![start]);
    (world, owner)
}

fn value(n: u64) -> Report {
    Report::Done(payload(&n))
}

fn fails(retryable: bool) -> Report {
    Report::Failed { failure: Failure::new(FailureKind::Failed, "not signed"), retryable }
}

fn returned(world: &World) -> Vec<&Task> {
    world.queue.iter().filter(|task| task.returned.is_some()).collect()
}

#[test]
fn the_first_completion_of_a_promise_counts_and_each_other_is_told_why_not() {
    let (mut world, owner) = begin("trusts");
    assert_eq!(complete(&mut world, owner, 1, 100), ReplyBody::Accepted);
    assert_eq!(complete(&mut world, owner, 1, 200), ReplyBody::AlreadyCompleted);
    assert_eq!(complete(&mut world, owner, 77, 1), ReplyBody::NotFound);
    assert_eq!(complete(&mut world, owner, 3, 1), ReplyBody::NotFound, "a timer is no promise");
    world.run_until(Timestamp(10_000));
    let late = complete(&mut world, owner, 2, 300);
    assert!(matches!(&late, ReplyBody::Expired { message } if message.contains("number 2 of workflow a")), "{late:?}");
    assert_eq!(complete(&mut world, owner, 0, 10), ReplyBody::Accepted);
    let task = world.queue.last().expect("a task").clone();
    let event = world.settled(&task, world::outcome_of(&task));
    world.say(owner, vec![event]);
    assert_eq!(world.result("a"), Some(done(&123u64)));
    assert!(matches!(complete(&mut world, owner, 0, 10), ReplyBody::AlreadyClosed { .. }));
}

#[test]
fn an_attempt_is_completed_once_also_before_it_is_left() {
    let (mut world, owner) = begin("waits_for_signature");
    let task = world.queue[0].clone();
    assert_eq!(
        report(&mut world, owner, 1, value(100)),
        ReplyBody::Accepted,
        "its worker has not said that it is left"
    );
    let late = world.left(&task);
    world.say(owner, vec![late]);
    assert_eq!(report(&mut world, owner, 1, value(200)), ReplyBody::AlreadyCompleted);
    assert_eq!(world.queue.len(), 2, "the next activity: {:?}", world.queue);
    assert!(world.owners[owner].shard.poll_deadline().is_none_or(|due| due > Timestamp(100_000)), "nothing is due");
}

#[test]
fn a_failure_that_comes_before_the_attempt_is_left_is_kept() {
    let (mut world, owner) = begin("waits_for_signature");
    let task = world.queue[0].clone();
    assert_eq!(report(&mut world, owner, 1, fails(true)), ReplyBody::Accepted);
    assert!(returned(&world).is_empty(), "nobody has the task");
    let left = world.left(&task);
    world.say(owner, vec![left]);
    let back = returned(&world);
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].returned.as_ref().map(|failure| failure.message.as_str()), Some("not signed"));
    assert_eq!(report(&mut world, owner, 1, value(1)), ReplyBody::AlreadyCompleted);
}

#[test]
fn a_final_failure_ends_the_step() {
    let (mut world, owner) = begin("waits_for_signature");
    let left = world.left(&world.queue[0].clone());
    world.say(owner, vec![left]);
    assert_eq!(report(&mut world, owner, 1, fails(false)), ReplyBody::Accepted);
    assert!(returned(&world).is_empty());
    assert!(matches!(world.result("a"), Some(Outcome::Failed(_))));
}

#[test]
fn what_nobody_completes_in_time_goes_back_to_its_queue_with_the_last_heartbeat() {
    let (mut world, owner) = begin("waits_for_signature");
    let left = world.left(&world.queue[0].clone());
    world.say(owner, vec![left]);
    assert_eq!(report(&mut world, owner, 1, Report::Beat { details: Some(payload(&7u8)) }), ReplyBody::Accepted);
    world.run_until(Timestamp(60_900));
    assert!(returned(&world).is_empty(), "60 s are not over");
    world.run_until(Timestamp(62_000));
    let back = returned(&world);
    assert_eq!(back.len(), 1, "once: {:?}", world.queue);
    assert_eq!(back[0].heartbeat, Some(payload(&7u8)));
    let failure = back[0].returned.clone().expect("why");
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(failure.message.contains("was not completed within 60000 ms"), "{failure}");
    let late = report(&mut world, owner, 1, value(1));
    assert!(matches!(late, ReplyBody::Expired { .. }), "{late:?}");
    // The next attempt has a life of its own.
    let judged = world.judged(&returned(&world)[0].clone(), failure);
    world.say(owner, vec![judged]);
    assert_eq!(report(&mut world, owner, 2, value(100)), ReplyBody::Accepted);
    let settled =
        world.records().into_iter().filter(|record| matches!(record.body(), Ok(RecordBody::AttemptReported { .. })));
    assert_eq!(settled.count(), 2, "a heartbeat and an end");
}

#[test]
fn a_silent_attempt_is_overdue_before_its_time_and_each_heartbeat_puts_that_off() {
    let (mut world, owner) = begin("waits_for_signature");
    let mut task = world.queue[0].clone();
    task.options.heartbeat_ms = Some(10_000);
    let left = world.left(&task);
    world.say(owner, vec![left]);
    world.run_until(Timestamp(9_000));
    assert_eq!(report(&mut world, owner, 1, Report::Beat { details: None }), ReplyBody::Accepted);
    world.run_until(Timestamp(18_000));
    assert!(returned(&world).is_empty());
    world.run_until(Timestamp(20_000));
    let back = returned(&world);
    assert_eq!(back.len(), 1);
    let failure = back[0].returned.as_ref().expect("why");
    assert!(failure.message.contains("gave no heartbeat for 10000 ms"), "{failure}");
}

#[test]
fn describe_shows_who_may_complete_what() {
    let (mut world, owner) = begin("waits_for_signature");
    let left = world.left(&world.queue[0].clone());
    world.say(owner, vec![left]);
    let ask = world.event("a", None, &EventBody::Describe);
    world.say(owner, vec![ask]);
    let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("{:?}", world.replies) };
    let token = view.pending[0].token.clone().expect("a token");
    assert_eq!((token.step, token.attempt, token.run_id), (0, Some(1), run_of(&world, "a")));
}

#[test]
fn an_activity_ends_with_its_schedule_to_close_time_out_though_no_worker_lives() {
    let (mut world, owner) = begin("hurries");
    world.run_until(Timestamp(10_500));
    assert_eq!(world.queue.len(), 1, "it waits");
    // Its owner is gone; the next one knows from history when it was due.
    world.crash(owner);
    let next = world.owner();
    let wake = *world.timers.last().expect("a wake-up");
    assert!(wake.due <= Timestamp(12_000), "it is due with the time-out: {wake:?}");
    world.now = Timestamp(12_000);
    let event = world.wake(wake);
    world.say(next, vec![event]);
    assert!(world.queue.len() > 1, "the run went on: {:?}", world.owners[next].shard);
    let settled = world.records().into_iter().find_map(|record| match record.body() {
        Ok(RecordBody::ActivitySettled { step: 0, outcome: Outcome::Failed(failure), .. }) => {
            Some((record.at, failure))
        }
        _ => None,
    });
    let (at, failure) = settled.expect("it is settled");
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(at >= Timestamp(11_000), "not early: {at}");
    assert!(world.cancelled.contains(&world.queue[0].id), "its worker is told");
}

/// An older release takes in what it does not know, and parks the run; this one knows it.
#[test]
fn what_an_older_release_took_in_without_knowing_it_is_taken_up() {
    let mut world = World::new(registry());
    let first = world.owner();
    let start = world.start("a", "waits_for_signature", number(3));
    world.say(first, vec![start]);
    world.crash(first);
    let task = world.queue.first().expect("its activity").clone();
    let (run_id, seq) = world.records().last().map(|record| (record.run_id, record.seq)).expect("a run");
    let mut taken = vec![world.left(&task)];
    for body in [
        EventBody::AttemptReported { step: 0, attempt: 1, report: Report::Beat { details: None } },
        EventBody::Query { name: "how_far".to_owned(), args: payload(&()) },
        EventBody::AttemptReported { step: 0, attempt: 1, report: Report::Done(payload(&100u64)) },
    ] {
        taken.push(world.event("a", Some(run_id), &body));
    }
    let bodies = taken.into_iter().map(|event| (event.id, RecordBody::Received { event, attempt: 0 }));
    let reason = Parked::new(ParkedKind::UnknownKind, "an event of a kind that is not known".to_owned());
    let parked = (EventId(uuid::Uuid::from_u128(77)), RecordBody::Parked { reason });
    let records = bodies.chain([parked]).zip(seq + 1..).map(|((event, body), seq)| Record {
        workflow_id: task.workflow_id.clone(),
        run_id,
        seq,
        event,
        at: world.now,
        body: Body::of(&body),
        commands: Vec::new(),
        notes: Vec::new(),
        close: None,
    });
    let records = records.collect();
    let (position, bytes) = world.log.last().cloned().expect("a frame");
    let frame = Frame { number: 0, previous: Hash::of(&bytes), records, ..world.chain().0.pop().expect("a frame") };
    let frame = Frame { number: world.chain().0.len() as u64, ..frame };
    world.log.push((Position { entry: position.entry + 1, ..position }, encode(&frame)));
    let mut play = Play::adopt(world);
    play.run(&[|play| play.resume("a")], &[]);
    play.check(vec![("a", done(&106u64))]);
}

#[test]
fn an_attempt_that_its_worker_tells_of_goes_back_with_what_was_told_last_when_nothing_is_heard_any_more() {
    let (mut world, owner) = begin("waits_for_signature");
    let task = running_for(&world.queue[0], 10_000, 3);
    let told = attempt::running(Box::new(task.clone()), Timestamp(600_000), world.now);
    world.say(owner, vec![told.clone(), told]);
    world.run_until(Timestamp(9_000));
    let beat = attempt::beat(&task, "one", Some(payload(&7u8)), world.now);
    world.say(owner, vec![beat.clone(), beat]);
    // Its worker keeps the time: the owner waits twice as long.
    world.run_until(Timestamp(28_000));
    assert!(returned(&world).is_empty(), "{:?}", world.queue);
    let ask = world.event("a", None, &EventBody::Describe);
    world.say(owner, vec![ask]);
    let Some((_, ReplyBody::Description(view))) = world.replies.last() else { panic!("{:?}", world.replies) };
    let pending = &view.pending[0];
    assert_eq!((pending.heartbeat.clone(), pending.token.clone()), (Some(payload(&7u8)), None), "it is nobody else's");
    assert!(pending.heard_at.is_some_and(|at| (9_000..28_000).contains(&at.0)), "{pending:?}");
    world.run_until(Timestamp(30_000));
    let back = returned(&world);
    assert_eq!(back.len(), 1, "once: {:?}", world.queue);
    assert_eq!(back[0].heartbeat, Some(payload(&7u8)));
    let failure = back[0].returned.clone().expect("why");
    assert_eq!(failure.kind, FailureKind::TimedOut);
    assert!(failure.message.contains("its worker may be gone"), "{failure}");
    // It was not: what it comes to counts all the same.
    let settled = world.settled(&task, done(&100u64));
    world.say(owner, vec![settled]);
    assert_eq!(world.queue.last().map(|task| task.step), Some(1), "the run goes on: {:?}", world.queue);
}

#[test]
fn an_attempt_that_its_worker_tells_of_ends_as_any_other_or_is_left_to_others() {
    let (mut world, owner) = begin("waits_for_signature");
    let task = running_for(&world.queue[0], 1_000, 3);
    let told = attempt::running(Box::new(task.clone()), Timestamp(600_000), world.now);
    world.say(owner, vec![told.clone()]);
    // A worker that failed sends the next attempt itself: the owner keeps none.
    let judged = world.judged(&task, Failure::new(FailureKind::Failed, "down"));
    world.say(owner, vec![judged, told]);
    world.run_until(Timestamp(60_000));
    assert!(returned(&world).is_empty(), "{:?}", world.queue);
    let second = running_for(&task.next_attempt(Failure::new(FailureKind::Failed, "down")), 1_000, 4);
    let told = attempt::running(Box::new(second.clone()), Timestamp(600_000), world.now);
    let mut left = second.clone();
    left.options.heartbeat_ms = None;
    let left = attempt::left(Box::new(left), Timestamp(600_000), world.now);
    world.say(owner, vec![told.clone(), left, told]);
    world.run_until(Timestamp(120_000));
    assert!(returned(&world).is_empty(), "what was left is not told of: {:?}", world.queue);
    assert_eq!(report(&mut world, owner, 2, value(100)), ReplyBody::Accepted);
    assert_eq!(world.queue.last().map(|task| task.step), Some(1), "the run goes on: {:?}", world.queue);
}

/// A task whose attempt has to be heard of within so long, and has come so far.
fn running_for(task: &Task, heartbeat_ms: u64, details: u8) -> Task {
    let mut task = task.clone();
    task.options.heartbeat_ms = Some(heartbeat_ms);
    task.heartbeat = Some(payload(&details));
    task
}
