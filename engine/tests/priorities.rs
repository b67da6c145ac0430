//! Where tasks of a priority wait: whoever sends one, and whoever looks for one, goes by the same lane.

mod world;

use std::time::Duration;

use everpulse_engine::Effect;
use everpulse_protocol::decode;
use everpulse_protocol::event::{Event, EventBody};
use everpulse_protocol::history::Frame;
use everpulse_protocol::priority::Priority;
use world::workflows::{self, number};
use world::{World, done};

fn urgent() -> Priority {
    Priority { level: Some(1), key: Some("acme".to_owned()), weight: Some(2_000) }
}

fn start(world: &mut World, id: &str, workflow: &str, n: u64) -> Event {
    let mut event = world.start(id, workflow, number(n));
    let Ok(EventBody::Start(mut start)) = event.body() else { panic!("it is a start") };
    start.priority = urgent();
    event.body = everpulse_protocol::codec::Body::of(&EventBody::Start(start));
    event
}

#[test]
fn a_task_has_the_priority_of_its_run_whoever_sends_it() {
    let mut world = World::new(workflows::registry());
    let first = world.owner();
    let start = start(&mut world, "a", "twice", 3);
    let frame = world.publish(vec![start]);
    world.deliver(first, frame, false);
    // Its frame stands, and the task is never sent.
    world.settle_but(first, |effect| matches!(effect, Effect::Send { .. }));
    let held = world.crash(first);
    let heir = world.owner();
    for frame in held {
        world.deliver(heir, frame, false);
    }
    world.settle(heir);
    world.run_until(world.now.after(Duration::from_secs(5)));
    assert_eq!(world.queue.len(), 1);
    assert_eq!(world.queue[0].options.priority, urgent());
    let settled = world.settled(&world.queue[0], done(&6_u64));
    world.say(heir, vec![settled]);
    assert_eq!(world.queue[1].options.priority, urgent());
}

#[test]
fn what_is_sent_in_a_lane_is_marked_by_the_lanes_name() {
    let mut world = World::new(workflows::registry());
    let owner = world.owner();
    for n in 0..20 {
        let start = start(&mut world, &format!("a-{n}"), "twice", 3);
        world.say(owner, vec![start]);
    }
    let lane = world.queue[0].lane();
    assert!(!lane.is_queue() && world.queue.iter().all(|task| task.lane() == lane));
    let frames = world.log.iter().map(|(_, payload)| decode::<Frame>(payload).expect("a frame"));
    let marked: Vec<String> = frames.flat_map(|frame| frame.queues).map(|mark| mark.queue).collect();
    assert!(!marked.is_empty() && marked.iter().all(|queue| *queue == lane.to_string()), "{marked:?}");
}

#[test]
fn the_run_that_goes_on_for_another_is_as_urgent() {
    let mut world = World::new(workflows::registry());
    let owner = world.owner();
    let start = start(&mut world, "a", "counts_down", 2);
    world.say(owner, vec![start]);
    let continued: Vec<Priority> = world
        .records()
        .iter()
        .filter_map(|record| match record.body() {
            Ok(everpulse_protocol::history::RecordBody::Continued { start, .. }) => Some(start.priority),
            _ => None,
        })
        .collect();
    assert!(!continued.is_empty() && continued.iter().all(|priority| *priority == urgent()), "{continued:?}");
}
