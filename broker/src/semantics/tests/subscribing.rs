//! Subscriptions of all kinds, permits, delays, readers, non-persistent topics.

use super::*;

fn refusal(out: &[Effect]) -> Option<RefusalKind> {
    out.iter().find_map(|effect| match effect {
        Effect::Refused { refusal, .. } => Some(refusal.kind),
        _ => None,
    })
}

#[test]
fn an_exclusive_subscription_has_one_consumer() {
    let mut world = world();
    world.consumer(1, Kind::Exclusive, 1);
    let out = world.subscribe_as(OTHER, 2, |request| request.kind = Kind::Exclusive);
    assert_eq!(refusal(&out), Some(RefusalKind::ConsumerBusy));
}

#[test]
fn a_consumer_of_another_type_is_refused_while_there_are_others() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 1);
    let out = world.subscribe_as(OTHER, 2, |request| request.kind = Kind::KeyShared);
    assert_eq!(refusal(&out), Some(RefusalKind::ConsumerBusy));
    world.broker.handle_close_consumer(consumer, 9);
    let out = world.subscribe_as(OTHER, 2, |request| request.kind = Kind::KeyShared);
    assert_eq!(refusal(&out), None);
}

#[test]
fn subscribing_is_answered_when_it_is_stored() {
    let mut world = world();
    world.automatic = false;
    let out = world.subscribe_as(CLIENT, 1, |_| ());
    assert!(out.is_empty(), "{out:?}");
    world.store_one();
    assert!(matches!(world.take()[..], [Effect::Success { .. }]));
}

// covers: flow
#[test]
fn nothing_is_delivered_without_permits() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Exclusive, 0);
    for _ in 0..3 {
        world.send("k", "x");
    }
    assert!(world.delivered().is_empty());
    world.broker.handle_flow(consumer, 2);
    assert_eq!(world.entries(), [0, 1]);
    world.broker.handle_flow(consumer, 2);
    assert_eq!(world.entries(), [2]);
}

// covers: flow
#[test]
fn a_batch_takes_a_permit_per_message() {
    let mut world = world();
    world.consumer(1, Kind::Shared, 3);
    for _ in 0..3 {
        world.send_as(Facts { batch: 2, ..Facts::default() }, "xx");
    }
    assert_eq!(world.entries(), [0, 1], "the second overdraws, the third waits");
}

// covers: shared
#[test]
fn shared_consumers_take_turns() {
    let mut world = world();
    world.consumer(1, Kind::Shared, 100);
    world.consumer(2, Kind::Shared, 100);
    let mut got = Vec::new();
    for _ in 0..6 {
        world.send("k", "x");
        got.extend(world.delivered().into_iter().map(|(consumer, ..)| consumer));
    }
    assert_eq!(got, [1, 2, 1, 2, 1, 2]);
}

// covers: flow
#[test]
fn a_consumer_with_too_many_unacked_messages_waits() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 1_000_000);
    let limit = subscription::UNACKED_PER_CONSUMER_MAX;
    for _ in 0..limit + 10 {
        world.send("k", "x");
    }
    assert_eq!(world.entries().len() as u64, limit);
    let half: Vec<u64> = (0..limit / 2).collect();
    world.ack(consumer, &half);
    assert_eq!(world.entries().len(), 10);
}

// covers: failover
#[test]
fn failover_goes_to_one_and_when_it_leaves_to_the_next() {
    let mut world = world();
    let first = world.consumer(1, Kind::Failover, 100);
    world.consumer(2, Kind::Failover, 100);
    world.send("k", "0");
    world.send("k", "1");
    assert_eq!(world.delivered(), [(1, 0, 0), (1, 1, 0)]);
    world.ack(first, &[0]);
    world.broker.handle_close_consumer(first, 9);
    let out = world.take();
    let second = ConsumerKey { connection: CLIENT, consumer_id: 2 };
    assert!(out.contains(&Effect::ActiveConsumer { consumer: second, active: true }), "{out:?}");
    let delivered = out.iter().filter(|effect| matches!(effect, Effect::Deliver { consumer, position, .. } if *consumer == second && position.entry == 1));
    assert_eq!(delivered.count(), 1);
}

// covers: delayed_delivery
#[test]
fn a_delayed_message_is_delivered_when_it_is_due_and_passed_by_others() {
    for kind in [Kind::Shared, Kind::KeyShared] {
        let mut world = world();
        world.consumer(1, kind, 100);
        let due = world.now_ms + 500;
        world.send_as(Facts { deliver_at_ms: due, hash: 5, ..Facts::default() }, "late");
        world.send("k", "now");
        assert_eq!(world.entries(), [1]);
        assert_eq!(world.broker.poll_timeout(), Some(due));
        world.now_ms = due - 1;
        world.broker.handle_timeout(world.now_ms);
        assert!(world.entries().is_empty());
        world.now_ms = due;
        world.broker.handle_timeout(world.now_ms);
        assert_eq!(world.entries(), [0]);
        assert_eq!(world.broker.poll_timeout(), None);
    }
}

// covers: delayed_delivery
#[test]
fn an_exclusive_subscription_does_not_delay() {
    let mut world = world();
    world.consumer(1, Kind::Exclusive, 100);
    world.send_as(Facts { deliver_at_ms: world.now_ms + 500, ..Facts::default() }, "late");
    assert_eq!(world.entries(), [0]);
}

#[test]
fn an_acked_delayed_message_is_never_delivered() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 100);
    let due = world.now_ms + 500;
    world.send_as(Facts { deliver_at_ms: due, ..Facts::default() }, "late");
    world.settle();
    world.ack(consumer, &[0]);
    world.now_ms = due;
    world.broker.handle_timeout(due);
    assert!(world.entries().is_empty());
    assert_eq!(world.broker.poll_timeout(), None);
}

#[test]
fn readers_start_where_they_say() {
    let starts = [
        (Some(Start::Earliest), false, vec![0, 1, 2]),
        (Some(Start::Latest), false, vec![]),
        (Some(Start::Latest), true, vec![0, 1, 2]),
        (None, false, vec![]),
        (Some(Start::After(Position { ledger: 1, entry: 1 })), false, vec![2]),
        (Some(Start::At(Position { ledger: 1, entry: 1 })), false, vec![1, 2]),
        (Some(Start::After(Position { ledger: 0, entry: 5 })), false, vec![0, 1, 2]),
    ];
    for (start, earliest, expected) in starts {
        let mut world = world();
        for n in 0..3 {
            world.send("k", &n.to_string());
        }
        world.settle();
        world.subscribe_as(OTHER, 8, |request| {
            (request.start, request.durable, request.earliest) = (start, false, earliest);
            request.kind = Kind::Exclusive;
        });
        world.broker.handle_flow(ConsumerKey { connection: OTHER, consumer_id: 8 }, 100);
        assert_eq!(world.entries(), expected, "{start:?}");
    }
}

#[test]
fn a_readers_subscription_ends_with_it() {
    let mut world = world();
    world.subscribe_as(OTHER, 8, |request| request.durable = false);
    let stats = |world: &World| world.broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists");
    assert_eq!(stats(&world).subscriptions.len(), 1);
    world.broker.handle_disconnected(OTHER);
    assert_eq!(stats(&world).subscriptions.len(), 0);
}

#[test]
fn a_durable_subscription_remembers_without_consumers() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 1);
    world.send("k", "0");
    world.delivered();
    world.ack(consumer, &[0]);
    world.broker.handle_close_consumer(consumer, 9);
    world.send("k", "1");
    world.consumer(1, Kind::Shared, 10);
    assert_eq!(world.entries(), [1]);
}

#[test]
fn unsubscribing_forgets() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 1);
    world.send("k", "0");
    world.delivered();
    world.broker.handle_unsubscribe(consumer, 9, false);
    world.take();
    world.subscribe_as(CLIENT, 2, |request| request.earliest = false);
    assert_eq!(world.backlog(), 0);
}

// covers: unsubscribe
#[test]
fn unsubscribing_is_refused_while_others_consume() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 1);
    world.consumer(2, Kind::Shared, 1);
    world.broker.handle_unsubscribe(consumer, 9, false);
    assert_eq!(refusal(&world.take()), Some(RefusalKind::Busy));
}

// covers: last_message_id
// covers: unsubscribe
#[test]
fn unsubscribing_by_force_closes_the_others() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 1);
    let other = world.consumer(2, Kind::Shared, 1);
    world.broker.handle_unsubscribe(consumer, 9, true);
    let out = world.take();
    assert!(out.contains(&Effect::ConsumerClosed { consumer: other }), "{out:?}");
    assert!(!out.contains(&Effect::ConsumerClosed { consumer }), "its client knows");
    assert!(out.contains(&Effect::Success { connection: CLIENT, request_id: 9 }));
    let stats = world.broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists");
    assert!(stats.subscriptions.is_empty());
    let mut again = restoring::restarted(&world, None);
    again.consumer(1, Kind::Shared, 1);
    assert_eq!(again.backlog(), 0);
}

// covers: priority, shared
#[test]
fn shared_consumers_of_a_worse_priority_wait_until_the_better_have_no_permits() {
    let mut world = world();
    for (id, priority, permits) in [(1, 1, 100), (2, 0, 2), (3, 0, 1)] {
        world.subscribe_as(CLIENT, id, |request| request.priority = priority);
        world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id: id }, permits);
    }
    for _ in 0..5 {
        world.send("k", "x");
    }
    let mut got: Vec<u64> = world.delivered().into_iter().map(|(consumer, ..)| consumer).collect();
    got[..3].sort_unstable();
    assert_eq!(got, [2, 2, 3, 1, 1]);
}

// covers: limits
#[test]
fn a_subscription_with_too_many_unacked_messages_waits() {
    let mut world = world();
    let batch = 1000;
    for id in 1..=10 {
        world.consumer(id, Kind::Shared, 1_000_000);
    }
    let limit = u64::from(subscription::UNACKED_PER_SUBSCRIPTION_MAX as u32 / batch);
    for _ in 0..limit + 10 {
        world.send_as(Facts { batch, ..Facts::default() }, "x");
    }
    let entries = world.entries();
    assert_eq!(entries.len() as u64, limit);
    assert!(backlog::stats(&world).blocked_on_unacked);
    let any = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.ack(any, &entries[..entries.len() / 2 - 1]);
    assert!(world.entries().is_empty(), "not yet half of them");
    world.ack(any, &entries[entries.len() / 2 - 1..entries.len() / 2]);
    assert_eq!(world.entries().len(), 10);
    assert!(!backlog::stats(&world).blocked_on_unacked);
}

// covers: limits
#[test]
fn a_connection_that_takes_nothing_gets_nothing_until_it_does() {
    for kind in [Kind::Exclusive, Kind::Shared, Kind::KeyShared] {
        let mut world = world();
        let consumer = world.consumer(1, kind, 1_000_000);
        world.broker.handle_congestion(CLIENT, true);
        for _ in 0..3 {
            world.send("k", "x");
        }
        assert!(world.entries().is_empty());
        world.broker.handle_flow(consumer, 10);
        assert!(world.entries().is_empty(), "permits are not what it lacks");
        world.broker.handle_congestion(CLIENT, false);
        assert_eq!(world.entries(), [0, 1, 2]);
        // Who joins on a congested connection waits likewise.
        world.broker.handle_congestion(CLIENT, true);
        world.broker.handle_close_consumer(consumer, 9);
        world.consumer(2, kind, 100);
        assert!(world.entries().is_empty());
        world.broker.handle_congestion(CLIENT, false);
        assert_eq!(world.entries(), [0, 1, 2]);
    }
}

// covers: limits, flow
#[test]
fn a_large_backlog_is_handed_out_piece_by_piece() {
    for kind in [Kind::Exclusive, Kind::Shared, Kind::KeyShared] {
        let mut world = world();
        world.consumer(1, kind, 0);
        let count = 2 * subscription::DISPATCH_MAX + 5;
        for _ in 0..count {
            world.send("k", "x");
        }
        world.settle();
        world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id: 1 }, u32::MAX);
        let mut pieces = Vec::new();
        loop {
            let mut effects = Vec::new();
            world.broker.poll_effects(world.now_ms, &mut effects);
            match effects.len() {
                0 => break,
                piece => pieces.push(piece),
            }
        }
        assert_eq!(pieces, [subscription::DISPATCH_MAX, subscription::DISPATCH_MAX, 5]);
    }
}

#[test]
fn the_last_message_id_is_none_on_an_empty_topic_and_survives_acks() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 10);
    assert_eq!(world.broker.last_message_id(consumer).expect("known").position, None);
    world.send_as(Facts { batch: 3, ..Facts::default() }, "xxx");
    world.settle();
    world.ack(consumer, &[0]);
    let last = world.broker.last_message_id(consumer).expect("known");
    let position = Some(Position { ledger: 1, entry: 0 });
    assert_eq!((last.position, last.batch, last.mark_delete), (position, 3, position));
}

// covers: non_persistent
#[test]
fn non_persistent_messages_go_to_who_has_permits_and_are_dropped_otherwise() {
    let mut world = World::new();
    let topic = "non-persistent://public/default/n";
    world.producer(CLIENT, topic, "p", Access::Shared);
    world.subscribe_as(CLIENT, 1, |request| {
        request.topic = topic.into();
        request.kind = Kind::Exclusive;
    });
    world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id: 1 }, 2);
    for n in 0..3 {
        world.send("k", &n.to_string());
    }
    let out = world.take();
    let payloads = out.iter().filter_map(|effect| match effect {
        Effect::Deliver { source: Source::Inline(payload), .. } => Some(payload.clone()),
        _ => None,
    });
    assert_eq!(payloads.collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(out.iter().filter(|effect| matches!(effect, Effect::Receipt { .. })).count(), 3);
    assert!(world.stored.is_empty(), "nothing is stored");
}
