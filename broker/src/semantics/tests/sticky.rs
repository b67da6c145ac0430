//! Key_Shared with ranges that consumers bring, and without order.

use super::*;

fn with_ranges<'a>(ranges: &'a [(u32, u32)]) -> impl FnOnce(&mut Subscribe) + 'a {
    move |request| {
        request.kind = Kind::KeyShared;
        request.keys.sticky = true;
        request.ranges = ranges.to_vec();
    }
}

fn joins(world: &mut World, consumer_id: u64, edit: impl FnOnce(&mut Subscribe)) -> Option<Refusal> {
    let out = world.subscribe_as(CLIENT, consumer_id, edit);
    world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id }, 100);
    out.into_iter().find_map(|effect| match effect {
        Effect::Refused { refusal, .. } => Some(refusal),
        _ => None,
    })
}

/// A message whose key has this hash.
fn send_at(world: &mut World, hash: u32) {
    world.send_as(Facts { hash, ..Facts::default() }, "x");
}

#[test]
fn messages_go_to_who_brought_their_range() {
    let mut world = world();
    assert_eq!(joins(&mut world, 1, with_ranges(&[(0, 99), (200, 299)])), None);
    assert_eq!(joins(&mut world, 2, with_ranges(&[(100, 199)])), None);
    for hash in [0, 99, 100, 199, 200, 299, 65536 + 150] {
        send_at(&mut world, hash);
    }
    let owners: Vec<u64> = world.delivered().into_iter().map(|(consumer, ..)| consumer).collect();
    assert_eq!(owners, [1, 1, 2, 2, 1, 1, 2]);
    let stats = backlog::stats(&world);
    assert!(stats.keys.is_some_and(|keys| keys.policy.sticky && !keys.policy.out_of_order));
    assert_eq!(stats.consumers[0].key_ranges, [(0, 99), (200, 299)]);
}

#[test]
fn what_no_range_covers_waits_for_one() {
    let mut world = world();
    joins(&mut world, 1, with_ranges(&[(0, 99)]));
    for hash in [500, 1, 500, 2] {
        send_at(&mut world, hash);
    }
    assert_eq!(world.delivered(), [(1, 1, 0), (1, 3, 0)]);
    joins(&mut world, 2, with_ranges(&[(400, 600)]));
    assert_eq!(world.delivered(), [(2, 0, 0), (2, 2, 0)]);
}

#[test]
fn ranges_that_are_missing_or_taken_are_refused() {
    let mut world = world();
    assert_eq!(joins(&mut world, 1, with_ranges(&[(0, 99)])), None);
    let refused = |world: &mut World, ranges: &[(u32, u32)]| {
        let refusal = joins(world, 2, with_ranges(ranges)).expect("refused");
        assert_eq!(refusal.kind, RefusalKind::ConsumerAssign);
        refusal.message
    };
    assert_eq!(refused(&mut world, &[]), "Ranges for KeyShared policy must not be empty.");
    assert_eq!(refused(&mut world, &[(9, 3)]), "Fixed hash range start > end for range: [9,3]");
    assert!(refused(&mut world, &[(50, 150)]).starts_with("Range conflict with consumer c1"));
    assert!(refused(&mut world, &[(200, 300), (250, 260)]).contains("[200,300] overlaps with [250,260]"));
    // A refused consumer leaves nothing: its ranges are free, and so is everything when the other one goes.
    assert_eq!(joins(&mut world, 2, with_ranges(&[(100, 199)])), None);
    world.broker.handle_disconnected(CLIENT);
    assert_eq!(joins(&mut world, 3, with_ranges(&[(0, 65535)])), None);
}

#[test]
fn a_subscription_that_could_not_begin_does_not_exist() {
    let mut world = world();
    assert!(joins(&mut world, 1, with_ranges(&[])).is_some());
    let stats = world.broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists");
    assert!(stats.subscriptions.is_empty());
}

#[test]
fn consumers_must_agree_on_mode_and_order() {
    let out_of_order = |request: &mut Subscribe| {
        request.kind = Kind::KeyShared;
        request.keys.out_of_order = true;
    };
    let split = |request: &mut Subscribe| request.kind = Kind::KeyShared;
    let mut world = world();
    joins(&mut world, 1, split);
    let words = |refusal: Option<Refusal>| {
        let refusal = refusal.expect("refused");
        assert_eq!(refusal.kind, RefusalKind::ConsumerBusy);
        assert!(refusal.message.starts_with("Subscription is of different type. "), "{refusal}");
        refusal.message
    };
    let message = words(joins(&mut world, 2, with_ranges(&[(0, 9)])));
    assert!(
        message.ends_with("mode of 'AUTO_SPLIT' is different than the connecting consumer's key_shared mode 'STICKY'.")
    );
    assert!(words(joins(&mut world, 2, out_of_order)).contains("does not allow out of order delivery while"));
    let message = words(joins(&mut world, 2, |request| request.kind = Kind::Shared));
    assert!(message.contains("type of 'Key_Shared' is different than the connecting consumer's type 'Shared'."));
    // With nobody there the next one decides.
    world.broker.handle_disconnected(CLIENT);
    assert_eq!(joins(&mut world, 1, out_of_order), None);
    assert!(words(joins(&mut world, 2, split)).contains("allows out of order delivery while"));
}

#[test]
fn without_order_a_key_moves_at_once() {
    let (_, key) = keys::keys();
    let mut world = world();
    let out_of_order = |request: &mut Subscribe| {
        request.kind = Kind::KeyShared;
        request.keys.out_of_order = true;
    };
    joins(&mut world, 1, out_of_order);
    world.send(&key, "held");
    assert_eq!(world.delivered(), [(1, 0, 0)]);
    joins(&mut world, 2, out_of_order);
    world.send(&key, "free");
    assert_eq!(world.delivered(), [(2, 1, 0)]);
    world.broker.handle_close_consumer(ConsumerKey { connection: CLIENT, consumer_id: 1 }, 9);
    assert_eq!(world.delivered(), [(2, 0, 0)]);
}

#[test]
fn a_reader_of_some_keys_gets_only_these() {
    let mut world = world();
    world.subscribe_as(OTHER, 8, |request| {
        request.kind = Kind::Exclusive;
        request.durable = false;
        request.start = Some(Start::Earliest);
        request.keys.sticky = true;
        request.ranges = vec![(0, 9), (100, 109)];
    });
    world.broker.handle_flow(ConsumerKey { connection: OTHER, consumer_id: 8 }, 3);
    for hash in [5, 50, 105, 500, 9] {
        send_at(&mut world, hash);
    }
    assert_eq!(world.entries(), [0, 2, 4]);
}
