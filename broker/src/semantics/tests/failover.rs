//! Who of a Failover subscription is active, and who is told.

use super::*;

fn join(world: &mut World, topic: &str, consumer_id: u64, name: &str, priority: i32) -> Vec<(u64, bool)> {
    let out = world.subscribe_as(CLIENT, consumer_id, |request| {
        request.topic = topic.into();
        request.kind = Kind::Failover;
        request.name = Some(name.into());
        request.priority = priority;
    });
    told(out)
}

/// Whom the broker told whether it is active.
fn told(out: Vec<Effect>) -> Vec<(u64, bool)> {
    let told = out.into_iter().filter_map(|effect| match effect {
        Effect::ActiveConsumer { consumer, active } => Some((consumer.consumer_id, active)),
        _ => None,
    });
    told.collect()
}

fn close(world: &mut World, consumer_id: u64) -> Vec<(u64, bool)> {
    world.broker.handle_close_consumer(ConsumerKey { connection: CLIENT, consumer_id }, 9);
    told(world.take())
}

#[test]
fn the_partition_chooses_among_the_names_in_order() {
    for (partition, active) in [(0, "a"), (1, "b"), (2, "c"), (3, "a")] {
        let mut world = World::new();
        world.broker.handle_set_partitions(&TopicName::parse("p").expect("valid"), 4, false).expect("created");
        let topic = format!("p-partition-{partition}");
        for (id, name) in [(1, "c"), (2, "a"), (3, "b")] {
            join(&mut world, &topic, id, name, 0);
        }
        let stats = world.broker.topic_stats(&TopicName::parse(&topic).expect("valid")).expect("exists");
        assert_eq!(stats.subscriptions[0].active_consumer.as_deref(), Some(active));
    }
}

#[test]
fn a_better_priority_takes_over_and_everybody_is_told() {
    let mut world = world();
    assert_eq!(join(&mut world, "t", 1, "x", 5), [(1, true)]);
    assert_eq!(join(&mut world, "t", 2, "y", 9), [(2, false)], "nothing changed, so only who joins is told");
    assert_eq!(join(&mut world, "t", 3, "z", 1), [(1, false), (2, false), (3, true)]);
    assert_eq!(close(&mut world, 2), []);
    assert_eq!(close(&mut world, 3), [(1, true)]);
}

#[test]
fn without_partitions_the_topics_name_chooses() {
    // That it chooses as an Apache Pulsar does is tested against one, in `tests/subscriptions.rs`.
    let mut chosen = std::collections::BTreeSet::new();
    for n in 0..20 {
        let topic = format!("failover-{n}");
        let active = [[(1, "a"), (2, "b"), (3, "c")], [(1, "c"), (2, "a"), (3, "b")]].map(|consumers| {
            let mut world = World::new();
            for (id, name) in consumers {
                join(&mut world, &topic, id, name, 0);
            }
            let stats = world.broker.topic_stats(&TopicName::parse(&topic).expect("valid")).expect("exists");
            stats.subscriptions[0].active_consumer.clone()
        });
        assert_eq!(active[0], active[1], "in whatever order they come");
        chosen.insert(active[0].clone());
    }
    assert_eq!(chosen.len(), 3, "topics are spread over the consumers");
}

#[test]
fn who_becomes_active_gets_everything_unacked_in_order() {
    let mut world = world();
    join(&mut world, "t", 1, "x", 1);
    let first = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.broker.handle_flow(first, 10);
    for n in 0..4 {
        world.send("k", &n.to_string());
    }
    assert_eq!(world.entries(), [0, 1, 2, 3]);
    world.ack(first, &[0, 2]);
    join(&mut world, "t", 2, "y", 0);
    world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id: 2 }, 10);
    assert_eq!(world.delivered(), [(2, 1, 0), (2, 3, 0)]);
}

#[test]
fn a_seek_disconnects_only_the_active_one() {
    let mut world = world();
    join(&mut world, "t", 1, "x", 0);
    join(&mut world, "t", 2, "y", 1);
    for consumer_id in [1, 2] {
        world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id }, 10);
    }
    world.send("k", "0");
    world.send("k", "1");
    assert_eq!(world.delivered(), [(1, 0, 0), (1, 1, 0)]);
    let first = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.broker.handle_seek(first, 7, Start::At(Position { ledger: 1, entry: 1 }));
    let out = world.take();
    let closed: Vec<_> = out.iter().filter(|effect| matches!(effect, Effect::ConsumerClosed { .. })).collect();
    assert_eq!(closed, [&Effect::ConsumerClosed { consumer: first }]);
    assert!(out.iter().any(|effect| matches!(effect, Effect::Deliver { consumer, position, .. }
        if consumer.consumer_id == 2 && position.entry == 1)));
}
