//! Acks, redelivery, seeking, retention.

use super::*;

fn sent(kind: Kind, count: usize) -> (World, ConsumerKey) {
    let mut world = world();
    let consumer = world.consumer(1, kind, 100);
    for n in 0..count {
        world.send("k", &n.to_string());
    }
    assert_eq!(world.entries().len(), count);
    (world, consumer)
}

// covers: ack
#[test]
fn any_consumers_ack_counts() {
    let (mut world, holder) = sent(Kind::Shared, 3);
    let other = world.consumer(2, Kind::Shared, 100);
    world.ack(other, &[0, 1, 2]);
    assert_eq!(world.backlog(), 0);
    world.broker.handle_close_consumer(holder, 9);
    assert!(world.delivered().is_empty(), "nothing acknowledged comes again");
}

// covers: ack_cumulative
#[test]
fn a_cumulative_ack_covers_everything_before() {
    let (mut world, consumer) = sent(Kind::Exclusive, 5);
    let id = world.id(3);
    world.broker.handle_ack(consumer, true, &[id]).expect("acked");
    assert_eq!(world.backlog(), 1);
}

#[test]
fn a_cumulative_ack_on_a_shared_subscription_is_refused() {
    let (mut world, consumer) = sent(Kind::Shared, 5);
    let id = world.id(3);
    let refusal = world.broker.handle_ack(consumer, true, &[id]).expect_err("refused");
    assert_eq!(refusal.kind, RefusalKind::NotAllowed);
    assert_eq!(world.backlog(), 5);
}

#[test]
fn an_ack_of_what_does_not_exist_is_ignored() {
    let (mut world, consumer) = sent(Kind::Shared, 1);
    for (ledger, entry) in [(1, 7), (9, 0), (u64::MAX, u64::MAX)] {
        let id = MessageId { position: Position { ledger, entry }, ack_set: Vec::new() };
        world.broker.handle_ack(consumer, false, &[id]).expect("ignored");
    }
    assert_eq!(world.backlog(), 1);
}

// covers: negative_ack, redelivery_count
#[test]
fn a_message_asked_for_again_comes_with_its_count() {
    let (mut world, consumer) = sent(Kind::Shared, 3);
    for count in 1..4 {
        let id = world.id(1).position;
        world.broker.handle_redeliver(consumer, &[id], None);
        assert_eq!(world.delivered(), [(1, 1, count)]);
    }
}

#[test]
fn asking_for_no_message_in_particular_repeats_all_that_is_unacked() {
    let (mut world, consumer) = sent(Kind::Shared, 4);
    world.ack(consumer, &[1]);
    world.broker.handle_redeliver(consumer, &[], None);
    assert_eq!(world.entries(), [0, 2, 3]);
}

#[test]
fn an_exclusive_consumer_gets_everything_unacked_again_in_order() {
    let (mut world, consumer) = sent(Kind::Exclusive, 4);
    world.ack(consumer, &[0, 2]);
    let id = world.id(3).position;
    world.broker.handle_redeliver(consumer, &[id], None);
    assert_eq!(world.entries(), [1, 3]);
}

/// The epoch of everything that comes.
fn epochs(world: &mut World) -> Vec<Option<u64>> {
    let delivered = world.take().into_iter().filter_map(|effect| match effect {
        Effect::Deliver { epoch, .. } => Some(epoch),
        _ => None,
    });
    delivered.collect()
}

#[test]
fn what_comes_again_bears_the_clients_epoch() {
    let mut world = world();
    world.subscribe_as(CLIENT, 1, |request| {
        request.kind = Kind::Failover;
        request.epoch = Some(3);
    });
    let consumer = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.broker.handle_flow(consumer, 10);
    world.send("k", "x");
    assert_eq!(epochs(&mut world), [Some(3)]);
    world.broker.handle_redeliver(consumer, &[], Some(4));
    assert_eq!(epochs(&mut world), [Some(4)]);
    // A request that was overtaken by a later one does not lower it.
    world.broker.handle_redeliver(consumer, &[], Some(2));
    assert_eq!(epochs(&mut world), [Some(4)]);
}

#[test]
fn shared_consumers_have_no_epoch() {
    let mut world = world();
    world.subscribe_as(CLIENT, 1, |request| request.epoch = Some(3));
    world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id: 1 }, 10);
    world.send("k", "x");
    assert_eq!(epochs(&mut world), [None]);
}

#[test]
fn a_redelivery_of_what_another_consumer_has_is_ignored() {
    let (mut world, _) = sent(Kind::Shared, 2);
    let other = world.consumer(2, Kind::Shared, 100);
    let id = world.id(0).position;
    world.broker.handle_redeliver(other, &[id], None);
    assert!(world.delivered().is_empty());
}

#[test]
fn after_the_last_consumer_left_unacked_messages_come_with_count_zero() {
    let (mut world, consumer) = sent(Kind::Shared, 2);
    let id = world.id(1).position;
    world.broker.handle_redeliver(consumer, &[id], None);
    world.delivered();
    world.broker.handle_disconnected(CLIENT);
    world.consumer(1, Kind::Shared, 100);
    assert_eq!(world.delivered(), [(1, 0, 0), (1, 1, 0)]);
}

// covers: seek_by_id
#[test]
fn a_seek_disconnects_and_the_named_message_is_the_next() {
    let (mut world, consumer) = sent(Kind::Shared, 5);
    world.ack(consumer, &[0, 1, 2, 3, 4]);
    world.broker.handle_seek(consumer, 7, Start::At(Position { ledger: 1, entry: 3 }));
    let out = world.take();
    assert!(out.contains(&Effect::ConsumerClosed { consumer }));
    assert!(out.contains(&Effect::Success { connection: CLIENT, request_id: 7 }));
    world.consumer(1, Kind::Shared, 100);
    assert_eq!(world.entries(), [3, 4]);
}

#[test]
fn a_reader_can_seek_and_come_back() {
    let (mut world, _) = sent(Kind::Shared, 5);
    let reader = ConsumerKey { connection: OTHER, consumer_id: 8 };
    let subscribe = |request: &mut Subscribe| {
        request.durable = false;
        request.subscription = "reader".into();
        request.kind = Kind::Exclusive;
        request.start = Some(Start::Latest);
        request.earliest = false;
    };
    world.subscribe_as(OTHER, 8, subscribe);
    world.broker.handle_seek(reader, 7, Start::Earliest);
    world.take();
    world.subscribe_as(OTHER, 8, subscribe);
    world.broker.handle_flow(reader, 100);
    assert_eq!(world.entries(), [0, 1, 2, 3, 4]);
}

// covers: seek_by_time
#[test]
fn a_seek_by_time_starts_at_the_first_message_since() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Exclusive, 100);
    for n in 0..5 {
        world.now_ms = 1000 * (n + 1);
        world.send("k", "x");
    }
    world.delivered();
    world.broker.handle_seek(consumer, 7, Start::Since(2500));
    world.take();
    world.consumer(1, Kind::Exclusive, 100);
    assert_eq!(world.entries(), [2, 3, 4]);
}

fn retained(world: &World) -> u64 {
    world.broker.topic_stats(&TopicName::parse("t").expect("valid")).expect("exists").entries
}

// covers: retention
#[test]
fn acked_messages_go_when_their_segment_is_closed() {
    let (mut world, consumer) = sent(Kind::Shared, 4);
    world.ack(consumer, &[0, 1, 3]);
    world.broker.handle_retention(world.now_ms, world.segment());
    assert_eq!(retained(&world), 4, "the open segment stays");
    world.begin_segment();
    world.broker.handle_retention(world.now_ms, world.segment());
    assert_eq!(retained(&world), 2, "up to the first unacked one");
    let released = Effect::Released { segment: 1, entries: 2 };
    assert!(world.take().contains(&released));
    assert_eq!(world.backlog(), 1);
}

// covers: retention
#[test]
fn retention_keeps_acked_messages_by_time_and_size() {
    for (minutes, size_mb, kept) in [(-1, -1, 4), (10, -1, 4), (1, -1, 0), (-1, 0, 0), (0, 0, 0)] {
        let (mut world, consumer) = sent(Kind::Shared, 4);
        let retention = Some(policies::Retention { minutes, size_mb });
        world.broker.handle_set_policies("public/default", |policies| policies.retention = retention).expect("set");
        world.ack(consumer, &[0, 1, 2, 3]);
        world.begin_segment();
        world.broker.handle_retention(world.now_ms + 5 * 60_000, world.segment());
        assert_eq!(retained(&world), kept, "{minutes} minutes, {size_mb} MB");
    }
}

#[test]
fn a_reader_does_not_hold_messages() {
    let mut world = world();
    world.subscribe_as(OTHER, 8, |request| request.durable = false);
    world.send("k", "x");
    world.settle();
    world.begin_segment();
    world.broker.handle_retention(world.now_ms, world.segment());
    assert_eq!(retained(&world), 0);
}

/// A subscription that is not durable and has unacked what the log has let go of since.
fn trimmed_behind(kind: Kind, send: impl FnOnce(&mut World)) -> (World, ConsumerKey) {
    let mut world = world();
    world.subscribe_as(CLIENT, 1, |request| (request.kind, request.durable) = (kind, false));
    let consumer = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.broker.handle_flow(consumer, 1_000_000);
    send(&mut world);
    world.take();
    (world, consumer)
}

#[test]
fn what_the_log_has_let_go_of_does_not_block_its_consumer() {
    let batches = subscription::UNACKED_PER_CONSUMER_MAX / 1000;
    for kind in [Kind::Shared, Kind::KeyShared] {
        let (mut world, consumer) = trimmed_behind(kind, |world| {
            for _ in 0..batches {
                world.send_as(Facts { batch: 1000, ..Facts::default() }, "x");
            }
        });
        world.send("k", "kept back");
        assert!(world.entries().is_empty(), "{kind:?}: the consumer has too much");
        world.begin_segment();
        world.broker.handle_retention(world.now_ms, world.segment());
        world.send("k", "comes");
        // The one that was kept back is gone with the rest.
        assert_eq!(world.entries(), [batches + 1], "{kind:?}");
        let all: Vec<u64> = (0..batches).collect();
        world.ack(consumer, &all);
        let stats = backlog::stats(&world);
        assert_eq!((stats.backlog, stats.unacked, stats.consumers[0].unacked), (1, 1, 1), "{kind:?}");
    }
}

#[test]
fn a_key_is_free_when_the_log_has_let_go_of_its_messages() {
    let (_, key) = keys::keys();
    let (mut world, _) = trimmed_behind(Kind::KeyShared, |world| world.send(&key, "x"));
    // The key belongs to the second consumer from now on.
    world.subscribe_as(CLIENT, 2, |request| (request.kind, request.durable) = (Kind::KeyShared, false));
    world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id: 2 }, 10);
    world.begin_segment();
    world.send(&key, "waits");
    assert!(world.delivered().is_empty());
    world.broker.handle_retention(world.now_ms, world.segment());
    assert_eq!(world.delivered(), [(2, 1, 0)], "without an ack, which nobody can give");
}

// covers: ttl
#[test]
fn messages_beyond_their_time_to_live_are_skipped() {
    let (mut world, _) = sent(Kind::Shared, 2);
    world
        .broker
        .handle_set_policies("public/default", |policies| policies.message_ttl_seconds = Some(60))
        .expect("set");
    world.now_ms += 61_000;
    world.send("k", "young");
    world.settle();
    world.broker.handle_tick(world.now_ms);
    assert_eq!(world.backlog(), 1);
}
