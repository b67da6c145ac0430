//! Batches that are acknowledged in parts (PIP-54).

use super::*;

/// A batch of three at entry 0 and a single message at entry 1, both with the consumer.
fn delivered(kind: Kind) -> (World, ConsumerKey) {
    let mut world = world();
    let consumer = world.consumer(1, kind, 100);
    world.send_as(Facts { batch: 3, ..Facts::default() }, "abc");
    world.send("k", "d");
    assert_eq!(world.entries(), [0, 1]);
    (world, consumer)
}

fn part(entry: u64, unacked: u64) -> MessageId {
    MessageId { position: Position { ledger: 1, entry }, ack_set: vec![unacked] }
}

/// Entry and bits of what comes.
fn parts(world: &mut World) -> Vec<(u64, Vec<u64>)> {
    let delivered = world.take().into_iter().filter_map(|effect| match effect {
        Effect::Deliver { position, ack_set, .. } => Some((position.entry, ack_set)),
        _ => None,
    });
    delivered.collect()
}

#[test]
fn parts_add_up_to_the_batch() {
    for kind in [Kind::Shared, Kind::KeyShared, Kind::Exclusive] {
        let (mut world, consumer) = delivered(kind);
        world.broker.handle_ack(consumer, false, &[part(0, 0b110)]).expect("acked");
        assert_eq!(world.backlog(), 2);
        world.broker.handle_ack(consumer, false, &[part(0, 0b101)]).expect("acked");
        assert_eq!(world.backlog(), 2, "the third message is left");
        world.broker.handle_ack(consumer, false, &[part(0, 0b011)]).expect("acked");
        assert_eq!(world.backlog(), 1);
    }
}

#[test]
fn what_comes_again_says_what_is_left() {
    let (mut world, consumer) = delivered(Kind::Shared);
    world.broker.handle_ack(consumer, false, &[part(0, 0b101)]).expect("acked");
    world.broker.handle_redeliver(consumer, &[], None);
    assert_eq!(parts(&mut world), [(0, vec![0b101]), (1, vec![])]);
    let (mut world, consumer) = delivered(Kind::Exclusive);
    world.broker.handle_ack(consumer, false, &[part(0, 0b100)]).expect("acked");
    world.broker.handle_redeliver(consumer, &[], None);
    assert_eq!(parts(&mut world), [(0, vec![0b100]), (1, vec![])]);
}

#[test]
fn only_what_is_left_takes_permits_and_counts_as_unacked() {
    let (mut world, consumer) = delivered(Kind::Shared);
    let numbers = |world: &World| {
        let stats = world.broker.consumer_stats(consumer).expect("exists");
        (stats.permits, stats.unacked)
    };
    assert_eq!(numbers(&world), (96, 4));
    world.broker.handle_ack(consumer, false, &[part(0, 0b010)]).expect("acked");
    assert_eq!(numbers(&world), (96, 2));
    world.broker.handle_redeliver(consumer, &[part(0, 0).position], None);
    world.settle();
    assert_eq!(numbers(&world), (95, 2));
    world.ack(consumer, &[0, 1]);
    assert_eq!(numbers(&world), (95, 0));
    assert_eq!(backlog::stats(&world).unacked, 0);
}

#[test]
fn a_cumulative_ack_can_end_within_a_batch() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Exclusive, 100);
    world.send("k", "x");
    world.send_as(Facts { batch: 3, ..Facts::default() }, "abc");
    world.settle();
    world.broker.handle_ack(consumer, true, &[part(1, 0b100)]).expect("acked");
    assert_eq!(world.backlog(), 1);
    world.take();
    world.broker.handle_redeliver(consumer, &[], None);
    assert_eq!(parts(&mut world), [(1, vec![0b100])]);
}

// covers: ack_batch_index, durable_cursor
#[test]
fn parts_survive_a_restart() {
    let (mut world, consumer) = delivered(Kind::Shared);
    world.broker.handle_ack(consumer, false, &[part(0, 0b001)]).expect("acked");
    world.broker.save_cursors();
    world.settle();
    let mut again = restoring::restarted(&world, None);
    again.consumer(1, Kind::Shared, 100);
    assert_eq!(parts(&mut again), [(0, vec![0b001]), (1, vec![])]);
    let snapshot = (world.broker.snapshot(), world.stored.len());
    let mut again = restoring::restarted(&world, Some(snapshot));
    again.consumer(1, Kind::Shared, 100);
    assert_eq!(parts(&mut again), [(0, vec![0b001]), (1, vec![])]);
}

#[test]
fn a_part_of_what_is_no_batch_or_beyond_it_is_the_whole_of_it() {
    let (mut world, consumer) = delivered(Kind::Shared);
    // The bits say that a message is left which does not exist.
    world.broker.handle_ack(consumer, false, &[part(1, 0b10), part(0, 0b1000)]).expect("acked");
    assert_eq!(world.backlog(), 0);
    assert_eq!(backlog::stats(&world).unacked, 0);
}

#[test]
fn an_acked_part_does_not_count_twice_and_does_not_come_back() {
    let (mut world, consumer) = delivered(Kind::Shared);
    for _ in 0..2 {
        world.broker.handle_ack(consumer, false, &[part(0, 0b011)]).expect("acked");
        assert_eq!(world.broker.consumer_stats(consumer).expect("exists").unacked, 3);
    }
    // Bits of what is acknowledged already change nothing.
    world.broker.handle_ack(consumer, false, &[part(0, 0b111)]).expect("acked");
    world.broker.handle_close_consumer(consumer, 9);
    world.consumer(2, Kind::Shared, 100);
    assert_eq!(parts(&mut world), [(0, vec![0b011]), (1, vec![])]);
}

#[test]
fn a_cursor_moves_into_a_batch() {
    for (index, expected) in
        [(0, vec![(0, vec![]), (1, vec![])]), (2, vec![(0, vec![0b100]), (1, vec![])]), (3, vec![(1, vec![])])]
    {
        let (mut world, consumer) = delivered(Kind::Shared);
        world.broker.handle_seek(consumer, 7, Start::Within(part(0, 0).position, index));
        world.take();
        let mut again = restoring::restarted(&world, None);
        for world in [&mut world, &mut again] {
            world.consumer(1, Kind::Shared, 100);
            assert_eq!(parts(world), expected, "from {index} on");
        }
    }
}

#[test]
fn only_a_part_of_the_parts_is_remembered_over_a_restart() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 1_000_000);
    let count = change::PARTIAL_MAX as u64 + 5;
    for _ in 0..count {
        world.send_as(Facts { batch: 2, ..Facts::default() }, "ab");
    }
    world.settle();
    let ids: Vec<MessageId> = (0..count).map(|entry| part(entry, 0b01)).collect();
    world.broker.handle_ack(consumer, false, &ids).expect("acked");
    let state = &world.broker.snapshot().topics[0].subscriptions[0];
    assert_eq!(state.partial.len(), change::PARTIAL_MAX);
    assert_eq!(state.partial[0].0.entry, 0, "the oldest ones");
}
