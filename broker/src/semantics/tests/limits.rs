//! What the broker holds at most, whatever policies allow.

use super::*;
use crate::semantics::limits::Ceilings;

/// A broker that holds two of each.
fn small() -> World {
    let mut world = World::new();
    let ceilings =
        Ceilings { topics: 2, subscriptions_per_topic: 2, producers_per_connection: 2, consumers_per_connection: 2 };
    world.broker.set_ceilings(ceilings);
    world
}

fn refused(out: &[Effect]) -> Option<RefusalKind> {
    out.iter().find_map(|effect| match effect {
        Effect::Refused { refusal, .. } => Some(refusal.kind),
        _ => None,
    })
}

fn has(world: &World, topic: &str) -> bool {
    world.broker.topic_stats(&TopicName::parse(topic).expect("valid")).is_ok()
}

fn produce(world: &mut World, connection: ConnectionId, producer_id: u64, topic: &str) -> Option<RefusalKind> {
    let (request_id, topic) = (world.request(), topic.to_owned());
    let request = CreateProducer { topic, producer_id, request_id, ..CreateProducer::default() };
    world.broker.handle_create_producer(connection, request);
    refused(&world.take())
}

fn consume(
    world: &mut World,
    connection: ConnectionId,
    consumer_id: u64,
    subscription: &str,
    durable: bool,
) -> Option<RefusalKind> {
    let out = world.subscribe_as(connection, consumer_id, |request| {
        (request.subscription, request.durable) = (subscription.into(), durable);
    });
    refused(&out)
}

// covers: limits
#[test]
fn topics() {
    let mut world = small();
    let name = |name: &str| TopicName::parse(name).expect("valid");
    assert_eq!(world.broker.handle_create_topic(&name("a")), Ok(()));
    let partitions = |world: &mut World, count| {
        world.broker.handle_set_partitions(&name("p"), count, false).map_err(|refusal| refusal.kind)
    };
    assert_eq!(partitions(&mut world, 2), Err(RefusalKind::Busy));
    assert_eq!(produce(&mut world, CLIENT, 1, "b"), None);
    assert_eq!(produce(&mut world, CLIENT, 2, "c"), Some(RefusalKind::Busy));
    assert_eq!(produce(&mut world, CLIENT, 2, "a"), None, "what is there can be used");
    world.broker.handle_delete_topic(&name("b"), true).expect("deleted");
    world.take();
    assert_eq!(produce(&mut world, CLIENT, 3, "c"), None);
}

// covers: limits
#[test]
fn partitions_that_were_deleted_singly_count_when_they_are_made_again() {
    let mut world = small();
    let name = |name: &str| TopicName::parse(name).expect("valid");
    world.broker.handle_set_partitions(&name("p"), 2, false).expect("created");
    world.broker.handle_delete_topic(&name("p-partition-1"), true).expect("deleted");
    world.broker.handle_create_topic(&name("a")).expect("created in its place");
    let kind = |outcome: Result<(), Refusal>| outcome.map_err(|refusal| refusal.kind);
    assert_eq!(kind(world.broker.handle_create_missed_partitions(&name("p"))), Err(RefusalKind::Busy));
    assert_eq!(kind(world.broker.handle_set_partitions(&name("p"), 2, true)), Err(RefusalKind::Busy));
    assert!(!has(&world, "p-partition-1"));
    world.broker.handle_delete_topic(&name("a"), true).expect("deleted");
    world.take();
    assert_eq!(kind(world.broker.handle_create_missed_partitions(&name("p"))), Ok(()));
    assert!(has(&world, "p-partition-1"));
    world.broker.set_ceilings(Ceilings { topics: 1, ..Ceilings::default() });
    assert_eq!(kind(world.broker.handle_create_missed_partitions(&name("p"))), Ok(()), "nothing is missing");
}

// covers: limits
#[test]
fn producers_of_a_connection() {
    let mut world = small();
    assert_eq!(produce(&mut world, CLIENT, 1, "t"), None);
    assert_eq!(produce(&mut world, CLIENT, 2, "t"), None);
    assert_eq!(produce(&mut world, CLIENT, 3, "t"), Some(RefusalKind::ProducerBusy));
    assert_eq!(produce(&mut world, CLIENT, 3, "new"), Some(RefusalKind::ProducerBusy));
    assert!(!has(&world, "new"), "a refusal makes no topic");
    assert_eq!(produce(&mut world, CLIENT, 2, "u"), None, "it takes the place of its former self");
    assert_eq!(produce(&mut world, OTHER, 1, "t"), None);
    world.broker.handle_close_producer(CLIENT, 1, 9);
    assert_eq!(produce(&mut world, CLIENT, 3, "t"), None);
}

// covers: limits
#[test]
fn consumers_of_a_connection() {
    let mut world = small();
    assert_eq!(consume(&mut world, CLIENT, 1, "s", true), None);
    assert_eq!(consume(&mut world, CLIENT, 2, "s", true), None);
    assert_eq!(consume(&mut world, CLIENT, 3, "s", true), Some(RefusalKind::ConsumerBusy));
    let out = world.subscribe_as(CLIENT, 3, |request| request.topic = "new".into());
    assert_eq!(refused(&out), Some(RefusalKind::ConsumerBusy));
    assert!(!has(&world, "new"), "a refusal makes no topic");
    assert_eq!(consume(&mut world, OTHER, 1, "s", true), None);
    world.broker.handle_close_consumer(ConsumerKey { connection: CLIENT, consumer_id: 1 }, 9);
    assert_eq!(consume(&mut world, CLIENT, 3, "s", true), None);
}

// covers: limits
#[test]
fn subscriptions_of_a_topic_durable_or_not() {
    let mut world = small();
    assert_eq!(consume(&mut world, CLIENT, 1, "s", true), None);
    assert_eq!(consume(&mut world, CLIENT, 2, "reader", false), None);
    assert_eq!(consume(&mut world, OTHER, 1, "another reader", false), Some(RefusalKind::NotAllowed));
    assert_eq!(consume(&mut world, OTHER, 1, "s", true), None, "what is there can be used");
    let topic = TopicName::parse("t").expect("valid");
    let made = world.broker.handle_create_subscription(&topic, "by the admin", Start::Latest);
    assert_eq!(made.map_err(|refusal| refusal.kind), Err(RefusalKind::NotAllowed));
    let request_id = world.request();
    world.broker.handle_create_producer(
        OTHER,
        CreateProducer {
            topic: "t".into(),
            producer_id: 1,
            request_id,
            initial_subscription: Some("dead letters".into()),
            ..CreateProducer::default()
        },
    );
    assert_eq!(refused(&world.take()), Some(RefusalKind::NotAllowed));
    world.broker.handle_disconnected(CLIENT);
    assert_eq!(consume(&mut world, OTHER, 2, "another reader", false), None);
}
