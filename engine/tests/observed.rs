//! What those are told who look on at runs: what stands, in the order of the run, and at most once. And what came with the
//! start of a run, which its tasks have whoever sends them.

mod world;

use everpulse_engine::Effect;
use everpulse_protocol::event::EventBody;
use everpulse_protocol::history::CloseStatus;
use everpulse_protocol::payload::Format;
use everpulse_protocol::{Headers, Payload};
use everpulse_sdk::definition::Registry;
use everpulse_sdk::intercept::{Happened, Interceptor};
use world::workflows::{self, Word, number};
use world::{World, done, payload};

struct Onlooker;

impl Interceptor for Onlooker {}

fn registry() -> Registry {
    let mut registry = workflows::registry();
    registry.intercept(Onlooker);
    registry
}

fn headers(tenant: &str) -> Option<Payload> {
    let headers: Headers = [("tenant", tenant)].into_iter().collect();
    headers.to_payload(Format::MessagePack).expect("texts can be written")
}

/// A start with headers.
fn start(world: &mut World, id: &str, workflow: &str, n: u64) -> everpulse_protocol::event::Event {
    let mut event = world.start(id, workflow, number(n));
    let Ok(EventBody::Start(mut start)) = event.body() else { panic!("it is a start") };
    start.headers = headers("acme");
    event.body = everpulse_protocol::codec::Body::of(&EventBody::Start(start));
    event
}

/// What was told, in short, with the tenant.
fn told(world: &World) -> Vec<String> {
    let short = |what: &Happened| match what {
        Happened::Started { .. } => "started".to_owned(),
        Happened::Signalled { name, headers } => format!("{name} for {}", headers.get("tenant").unwrap_or("nobody")),
        Happened::Ended { status: CloseStatus::Completed } => "completed".to_owned(),
        other => format!("{other:?}"),
    };
    let line = |event: &everpulse_sdk::intercept::RunEvent| {
        let tenant = event.headers.get("tenant").unwrap_or("nobody");
        format!("{} {} of {tenant}", event.workflow, short(&event.what))
    };
    world.observed.iter().map(line).collect()
}

#[test]
fn those_who_look_on_are_told_what_stands_in_order() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start(&mut world, "a", "listens", 1);
    world.say(owner, vec![start]);
    let value = payload(&Word { text: "tea".to_owned() });
    let signal = EventBody::Signal { name: "Word".to_owned(), value, headers: headers("beta") };
    let signal = world.event("a", None, &signal);
    // Known the second time: nothing happens.
    world.say(owner, vec![signal.clone()]);
    world.say(owner, vec![signal]);
    assert_eq!(told(&world), ["listens started of acme", "listens Word for beta of acme", "listens completed of acme"]);
}

#[test]
fn nobody_is_told_of_a_frame_before_it_stands() {
    let mut world = World::new(registry());
    let owner = world.owner();
    let start = start(&mut world, "a", "twice", 3);
    let frame = world.publish(vec![start]);
    world.deliver(owner, frame, false);
    world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
    assert!(world.observed.is_empty());
    world.settle(owner);
    assert_eq!(told(&world), ["twice started of acme"]);
}

#[test]
fn of_two_owners_the_one_whose_frame_stands_tells() {
    let mut world = World::new(registry());
    let (first, second) = (world.owner(), world.owner());
    let start = start(&mut world, "a", "twice", 3);
    let frame = world.publish(vec![start]);
    for owner in [first, second] {
        world.replay(owner, frame, false);
    }
    // Both want to write before either has.
    for owner in [first, second] {
        world.settle_but(owner, |effect| matches!(effect, Effect::Append { .. }));
    }
    world.settle(first);
    world.settle(second);
    assert_eq!(world.chain().1, 1, "one frame is void");
    assert_eq!(told(&world), ["twice started of acme"]);
}

#[test]
fn a_task_has_the_headers_of_its_run_whoever_sends_it() {
    let mut world = World::new(registry());
    let first = world.owner();
    let start = start(&mut world, "a", "twice", 3);
    let frame = world.publish(vec![start]);
    world.deliver(first, frame, false);
    // Its frame stands, and the task is never sent.
    world.settle_but(first, |effect| matches!(effect, Effect::Send { .. }));
    let held = world.crash(first);
    assert!(world.queue.is_empty());
    let heir = world.owner();
    for frame in held {
        world.deliver(heir, frame, false);
    }
    world.settle(heir);
    world.run_until(world.now.after(std::time::Duration::from_secs(5)));
    assert_eq!(world.queue.len(), 1);
    assert_eq!(world.queue[0].headers, headers("acme"));
    let settled = world.settled(&world.queue[0], done(&6_u64));
    world.say(heir, vec![settled]);
    assert_eq!(world.queue[1].headers, headers("acme"));
}
