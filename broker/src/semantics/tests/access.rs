//! Who may write to a topic: access modes and their epochs (PIP-68), policies, initial subscriptions.

use super::producing::{errors, ready, receipts, refused};
use super::restoring::restarted;
use super::*;

fn epoch(out: &[Effect]) -> Option<u64> {
    out.iter().find_map(|effect| match effect {
        Effect::ProducerReady { topic_epoch, .. } => *topic_epoch,
        _ => None,
    })
}

/// Creates a producer that knows this epoch of topic `t`.
fn with_epoch(world: &mut World, producer_id: u64, access: Access, topic_epoch: Option<u64>) -> Vec<Effect> {
    let request_id = world.request();
    let name = Some(format!("p{producer_id}"));
    let topic = "t".to_owned();
    let request = CreateProducer { topic, producer_id, request_id, name, access, topic_epoch, ..Default::default() };
    world.broker.handle_create_producer(CLIENT, request);
    world.take()
}

fn close(world: &mut World, producer_id: u64) -> Vec<Effect> {
    let request_id = world.request();
    world.broker.handle_close_producer(CLIENT, producer_id, request_id);
    world.take()
}

#[test]
fn each_exclusive_producer_begins_an_epoch_and_one_that_comes_back_continues_its_own() {
    let mut world = World::new();
    assert_eq!(epoch(&with_epoch(&mut world, 1, Access::Exclusive, None)), Some(0));
    close(&mut world, 1);
    assert_eq!(epoch(&with_epoch(&mut world, 1, Access::Exclusive, Some(0))), Some(0));
    close(&mut world, 1);
    assert_eq!(epoch(&with_epoch(&mut world, 2, Access::Exclusive, None)), Some(1));
    close(&mut world, 2);
    for access in [Access::Exclusive, Access::WaitForExclusive, Access::ExclusiveWithFencing] {
        let out = with_epoch(&mut world, 1, access, Some(0));
        assert_eq!(refused(&out), Some(RefusalKind::ProducerFenced), "{access:?}");
    }
    assert_eq!(epoch(&with_epoch(&mut world, 1, Access::Shared, None)), Some(1));
}

#[test]
fn the_epoch_survives_a_restart() {
    let mut world = World::new();
    with_epoch(&mut world, 1, Access::Exclusive, None);
    close(&mut world, 1);
    with_epoch(&mut world, 1, Access::Exclusive, None);
    for snapshot in [None, Some((world.broker.snapshot(), world.stored.len()))] {
        let mut world = restarted(&world, snapshot);
        assert_eq!(refused(&with_epoch(&mut world, 1, Access::Exclusive, Some(0))), Some(RefusalKind::ProducerFenced));
        assert_eq!(epoch(&with_epoch(&mut world, 1, Access::Exclusive, Some(1))), Some(1));
    }
}

#[test]
fn who_waits_gets_its_turn_in_order_and_others_are_refused_meanwhile() {
    let mut world = World::new();
    with_epoch(&mut world, 1, Access::Shared, None);
    assert_eq!(refused(&with_epoch(&mut world, 2, Access::Exclusive, None)), Some(RefusalKind::ProducerFenced));
    assert_eq!(ready(&with_epoch(&mut world, 3, Access::WaitForExclusive, None)), Some(false));
    assert_eq!(ready(&with_epoch(&mut world, 4, Access::WaitForExclusive, None)), Some(false));
    assert_eq!(refused(&with_epoch(&mut world, 5, Access::Shared, None)), Some(RefusalKind::ProducerBusy));
    world.publish(Publish { producer_id: 4, ..publish() });
    assert_eq!(errors(&world.take()), [0], "it has not got access yet");
    let out = close(&mut world, 1);
    assert_eq!((ready(&out), epoch(&out)), (Some(true), Some(0)));
    let out = close(&mut world, 3);
    assert_eq!((ready(&out), epoch(&out)), (Some(true), Some(1)));
}

#[test]
fn fencing_closes_the_owner_and_refuses_those_that_wait() {
    let mut world = World::new();
    with_epoch(&mut world, 1, Access::Exclusive, None);
    with_epoch(&mut world, 2, Access::WaitForExclusive, None);
    let out = with_epoch(&mut world, 3, Access::ExclusiveWithFencing, None);
    assert_eq!((refused(&out), epoch(&out)), (Some(RefusalKind::ProducerFenced), Some(1)));
    assert!(out.contains(&Effect::ProducerClosed { connection: CLIENT, producer_id: 1 }));
    close(&mut world, 3);
    assert_eq!(ready(&with_epoch(&mut world, 4, Access::Exclusive, None)), Some(true), "nobody waits any more");
}

#[test]
fn where_encryption_is_required_plain_producers_and_plain_messages_are_refused() {
    let mut world = World::new();
    world.broker.handle_set_policies("public/default", |policies| policies.encryption_required = true).expect("set");
    assert_eq!(refused(&with_epoch(&mut world, 1, Access::Shared, None)), Some(RefusalKind::Unencrypted));
    let request_id = world.request();
    let topic = "t".to_owned();
    let request = CreateProducer { topic, producer_id: 1, request_id, encrypted: true, ..Default::default() };
    world.broker.handle_create_producer(CLIENT, request);
    assert_eq!(ready(&world.take()), Some(true));
    world.publish(publish());
    world.publish(Publish { sequence_id: 1, encrypted: true, ..publish() });
    let out = world.take();
    assert_eq!((errors(&out), receipts(&out)), (vec![0], vec![(1, Some(0))]));
}

#[test]
fn a_namespace_limits_the_producers_of_a_topic() {
    let mut world = World::new();
    let limit = |policies: &mut Policies| policies.max_producers_per_topic = Some(2);
    world.broker.handle_set_policies("public/default", limit).expect("set");
    for producer_id in [1, 2] {
        assert_eq!(ready(&with_epoch(&mut world, producer_id, Access::Shared, None)), Some(true));
    }
    assert_eq!(refused(&with_epoch(&mut world, 3, Access::Shared, None)), Some(RefusalKind::ProducerBusy));
    close(&mut world, 1);
    assert_eq!(ready(&with_epoch(&mut world, 3, Access::Shared, None)), Some(true));
}

#[test]
fn an_initial_subscription_is_there_before_the_first_message() {
    let mut world = World::new();
    let request_id = world.request();
    let initial_subscription = Some("s".to_owned());
    let topic = "t".to_owned();
    let request = CreateProducer { topic, producer_id: 1, request_id, initial_subscription, ..Default::default() };
    world.broker.handle_create_producer(CLIENT, request);
    world.publish(publish());
    world.settle();
    assert_eq!(world.backlog(), 1);
    assert!(world.stored.iter().any(|effect| matches!(effect, Effect::Log(Change::Subscription { .. }))));
}

#[test]
fn chunks_of_a_message_share_a_sequence_id_and_only_the_last_tells_duplicates() {
    let mut world = World::new();
    world.broker.handle_set_policies("public/default", |policies| policies.deduplication = Some(true)).expect("set");
    world.producer(CLIENT, "t", "p", Access::Shared);
    for partial_chunk in [true, true, false, true, true, false] {
        world.publish(Publish { sequence_id: 5, partial_chunk, ..publish() });
    }
    let stored = receipts(&world.take()).into_iter().map(|(_, entry)| entry).collect::<Vec<_>>();
    // What is resent of the first chunks is stored again, as by Apache Pulsar; consumers discard it.
    assert_eq!(stored, [Some(0), Some(1), Some(2), Some(3), Some(4), None]);
}

#[test]
fn a_batch_counts_up_to_its_highest_sequence_id() {
    let mut world = World::new();
    world.broker.handle_set_policies("public/default", |policies| policies.deduplication = Some(true)).expect("set");
    world.producer(CLIENT, "t", "p", Access::Shared);
    world.publish(Publish { sequence_id: 0, highest_sequence_id: 9, ..publish() });
    world.publish(Publish { sequence_id: 9, highest_sequence_id: 9, ..publish() });
    world.publish(Publish { sequence_id: 10, highest_sequence_id: 19, ..publish() });
    assert_eq!(receipts(&world.take()), [(0, Some(0)), (9, None), (10, Some(1))]);
    world.broker.handle_disconnected(CLIENT);
    let out = world.producer(CLIENT, "t", "p", Access::Shared);
    assert!(out.iter().any(|effect| matches!(effect, Effect::ProducerReady { last_sequence_id: 19, .. })), "{out:?}");
}
