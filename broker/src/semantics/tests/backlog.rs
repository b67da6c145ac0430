//! What the admin does to subscriptions.

use std::collections::BTreeMap;

use super::*;

fn topic() -> TopicName {
    TopicName::parse("t").expect("valid")
}

/// Ten messages, one a second; a Shared consumer has them all and has acknowledged 1 and 4.
fn waiting() -> (World, ConsumerKey) {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 100);
    for _ in 0..10 {
        world.now_ms += 1000;
        world.send("k", "x");
    }
    assert_eq!(world.entries().len(), 10);
    world.ack(consumer, &[1, 4]);
    (world, consumer)
}

/// What a consumer gets that comes after all others have gone.
fn left(world: &mut World) -> Vec<u64> {
    world.broker.handle_disconnected(CLIENT);
    world.consumer(9, Kind::Shared, 100);
    world.entries()
}

#[test]
fn skipping_counts_only_what_is_not_acknowledged() {
    for (n, expected) in [
        (0, vec![0, 2, 3, 5, 6, 7, 8, 9]),
        (1, vec![2, 3, 5, 6, 7, 8, 9]),
        (3, vec![5, 6, 7, 8, 9]),
        (4, vec![6, 7, 8, 9]),
        (8, vec![]),
        (99, vec![]),
    ] {
        let (mut world, _) = waiting();
        assert_eq!(world.broker.handle_skip(&topic(), "s", n), Ok(n.min(8)));
        assert!(!world.take().iter().any(|effect| matches!(effect, Effect::ConsumerClosed { .. })));
        assert_eq!(left(&mut world), expected, "after skipping {n}");
    }
}

#[test]
fn a_cleared_backlog_is_empty_and_consumers_stay() {
    let (mut world, _) = waiting();
    world.send_as(Facts { deliver_at_ms: world.now_ms + 500, ..Facts::default() }, "late");
    world.settle();
    assert_eq!(world.broker.handle_clear_backlog(&topic(), "s"), Ok(9));
    world.settle();
    assert_eq!(world.broker.poll_timeout(), None, "what was delayed is forgotten");
    world.send("k", "new");
    assert_eq!(world.delivered(), [(1, 11, 0)]);
    let stats = stats(&world);
    assert_eq!((stats.backlog, stats.unacked, stats.delayed), (1, 1, 0));
}

#[test]
fn messages_expire_by_age_and_by_position() {
    let (mut world, _) = waiting();
    // The first was published nine seconds ago, the last one now.
    assert_eq!(world.broker.handle_expire(&topic(), "s", 6000, world.now_ms), Ok(2));
    let at = |entry| Position { ledger: 1, entry };
    assert_eq!(world.broker.handle_expire_to(&topic(), "s", at(6), true), Ok(2));
    assert_eq!(world.broker.handle_expire_to(&topic(), "s", at(6), false), Ok(1));
    assert_eq!(world.broker.handle_expire_to(&topic(), "s", at(2), false), Ok(0), "nothing comes back");
    assert_eq!(left(&mut world), [7, 8, 9]);
}

#[test]
fn what_was_skipped_stays_skipped_after_a_restart() {
    let (mut world, _) = waiting();
    world.broker.handle_skip(&topic(), "s", 4).expect("skipped");
    world.settle();
    let mut again = restoring::restarted(&world, None);
    again.consumer(1, Kind::Shared, 100);
    assert_eq!(again.entries(), [6, 7, 8, 9]);
}

#[test]
fn looking_at_messages_changes_nothing() {
    let (world, _) = waiting();
    let entry = |peeked: Result<Option<crate::semantics::backlog::Peeked>, Refusal>| {
        peeked.expect("exists").map(|peeked| peeked.position.entry)
    };
    let peek = |n| entry(world.broker.peek(&topic(), "s", n));
    assert_eq!([peek(0), peek(1), peek(2), peek(8), peek(9)], [None, Some(0), Some(2), Some(9), None]);
    let examine = |from_end, n| entry(world.broker.examine(&topic(), from_end, n));
    assert_eq!([examine(false, 1), examine(false, 10), examine(false, 11)], [Some(0), Some(9), None]);
    assert_eq!([examine(true, 1), examine(true, 10), examine(true, 11)], [Some(9), Some(0), None]);
    let at = |entry| world.broker.entry_at(&topic(), Position { ledger: 1, entry });
    assert_eq!([entry(at(3)), entry(at(10))], [Some(3), None]);
    let since = |time| entry(world.broker.entry_since(&topic(), time));
    assert_eq!([since(0), since(world.now_ms), since(world.now_ms + 1)], [Some(0), Some(9), None]);
    assert_eq!(world.backlog(), 8);
}

#[test]
fn a_missing_topic_or_subscription_is_named() {
    let (mut world, _) = waiting();
    let missing = TopicName::parse("missing").expect("valid");
    assert_eq!(world.broker.handle_skip(&missing, "s", 1).expect_err("refused").kind, RefusalKind::TopicNotFound);
    let refusal = world.broker.peek(&topic(), "nobody", 1).expect_err("refused");
    assert_eq!(refusal.kind, RefusalKind::SubscriptionNotFound);
    assert!(refusal.message.contains("nobody") && refusal.message.contains("public/default/t"), "{refusal}");
}

// covers: subscribe
#[test]
fn properties_are_of_the_subscription_and_survive() {
    let mut world = world();
    let of = |text: &str| BTreeMap::from([("owner".to_owned(), text.to_owned())]);
    world.subscribe_as(CLIENT, 1, |request| request.properties = of("first"));
    world.subscribe_as(CLIENT, 2, |request| request.properties = of("second"));
    let properties = |world: &World| world.broker.subscription_properties(&topic(), "s").expect("exists");
    assert_eq!(properties(&world), of("first"), "only who makes the subscription says them");
    assert_eq!(properties(&restoring::restarted(&world, None)), of("first"));
    world.broker.handle_set_subscription_properties(&topic(), "s", of("admin")).expect("set");
    world.settle();
    assert_eq!(properties(&restoring::restarted(&world, None)), of("admin"));
    assert_eq!(stats(&world).properties, of("admin"));
}

pub fn stats(world: &World) -> stats::SubscriptionStats {
    let stats = world.broker.topic_stats(&topic()).expect("exists");
    stats.subscriptions.into_iter().find(|subscription| subscription.name == "s").expect("exists")
}

#[test]
fn stats_show_who_consumes_what() {
    let mut world = world();
    let client = Client { address: "/127.0.0.1:5".into(), version: "test 1".into() };
    world.broker.handle_connected(CLIENT, client);
    world.broker.handle_now(7000);
    world.subscribe_as(CLIENT, 1, |request| {
        request.kind = Kind::KeyShared;
        request.metadata = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    });
    let consumer = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.broker.handle_flow(consumer, 10);
    world.send_as(Facts { batch: 3, ..Facts::default() }, "xxx");
    world.send_as(Facts { deliver_at_ms: world.now_ms + 1000, ..Facts::default() }, "late");
    world.settle();
    world.broker.handle_now(8000);
    world.ack(consumer, &[7]);
    let stats = stats(&world);
    assert_eq!((stats.backlog, stats.backlog_bytes, stats.unacked, stats.delayed), (2, 200, 3, 1));
    assert_eq!((stats.mark_delete, stats.read), (None, Some(Position { ledger: 1, entry: 2 })));
    assert_eq!((stats.traffic.messages_out, stats.traffic.bytes_out), (3, 100));
    assert_eq!(stats.traffic.last_delivered_ms, world.now_ms);
    let [consumer] = &stats.consumers[..] else { panic!("{stats:?}") };
    assert_eq!((consumer.permits, consumer.unacked, consumer.connected_ms), (7, 3, 7000));
    assert_eq!((consumer.traffic.last_flow_ms, consumer.traffic.last_acked_ms), (7000, 8000));
    assert_eq!((&*consumer.address, &*consumer.client_version), ("/127.0.0.1:5", "test 1"));
    assert_eq!(consumer.metadata["zone"], "a");
    assert_eq!(consumer.key_ranges, [(1, hash::RING_END)]);
}

#[test]
fn draining_keys_are_counted() {
    let (_, key) = keys::keys();
    let mut world = world();
    world.consumer(1, Kind::KeyShared, 100);
    world.send(&key, "0");
    world.send(&key, "1");
    world.settle();
    let draining = |world: &World| stats(world).keys.map(|keys| (keys.draining.keys, keys.draining.messages));
    assert_eq!(draining(&world), Some((0, 0)));
    let second = world.consumer(2, Kind::KeyShared, 100);
    assert_eq!(draining(&world), Some((1, 2)));
    world.ack(second, &[0, 1]);
    assert_eq!(draining(&world), Some((0, 0)));
}
