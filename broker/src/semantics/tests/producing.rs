//! Producers, access modes, deduplication, failing storage.

use super::*;

pub fn receipts(out: &[Effect]) -> Vec<(u64, Option<u64>)> {
    let receipts = out.iter().filter_map(|effect| match effect {
        Effect::Receipt { sequence_id, position, .. } => Some((*sequence_id, position.map(|position| position.entry))),
        _ => None,
    });
    receipts.collect()
}

pub fn errors(out: &[Effect]) -> Vec<u64> {
    let errors = out.iter().filter_map(|effect| match effect {
        Effect::SendError { sequence_id, .. } => Some(*sequence_id),
        _ => None,
    });
    errors.collect()
}

pub fn ready(out: &[Effect]) -> Option<bool> {
    out.iter().find_map(|effect| match effect {
        Effect::ProducerReady { ready, .. } => Some(*ready),
        _ => None,
    })
}

pub fn refused(out: &[Effect]) -> Option<RefusalKind> {
    out.iter().find_map(|effect| match effect {
        Effect::Refused { refusal, .. } => Some(refusal.kind),
        _ => None,
    })
}

fn deduplicating() -> World {
    let mut world = World::new();
    world.broker.handle_set_policies("public/default", |policies| policies.deduplication = Some(true)).expect("set");
    world.producer(CLIENT, "t", "p", Access::Shared);
    world
}

#[test]
fn a_name_that_cannot_be_stored_beside_a_message_is_refused() {
    let mut world = deduplicating();
    let longest = "n".repeat(usize::from(u16::MAX));
    assert_eq!(ready(&world.producer(ConnectionId(71), "t", &longest, Access::Shared)), Some(true));
    let out = world.producer(ConnectionId(72), "t", &format!("{longest}n"), Access::Shared);
    assert_eq!(refused(&out), Some(RefusalKind::NotAllowed));
}

#[test]
fn a_receipt_comes_after_storing_and_delivery_too() {
    let mut world = world();
    world.consumer(1, Kind::Exclusive, 10);
    world.settle();
    world.automatic = false;
    world.send("k", "x");
    assert!(world.take().is_empty());
    world.store_one();
    let out = world.take();
    assert_eq!(receipts(&out), [(0, Some(0))]);
    assert!(out.iter().any(|effect| matches!(effect, Effect::Deliver { .. })));
}

// covers: deduplication
#[test]
fn a_duplicate_gets_a_receipt_without_position_and_is_not_stored() {
    let mut world = deduplicating();
    for sequence in [0, 1, 1, 0, 2] {
        world.send_sequence(sequence, Facts::default(), "x");
    }
    let out = world.take();
    assert_eq!(receipts(&out), [(0, Some(0)), (1, Some(1)), (1, None), (0, None), (2, Some(2))]);
}

#[test]
fn a_duplicate_of_what_is_still_being_stored_waits_for_it() {
    let mut world = deduplicating();
    world.automatic = false;
    world.send_sequence(0, Facts::default(), "x");
    world.send_sequence(0, Facts::default(), "x");
    assert!(receipts(&world.take()).is_empty());
    world.store_one();
    assert_eq!(receipts(&world.take()), [(0, Some(0)), (0, None)]);
}

// covers: deduplication
#[test]
fn deduplication_knows_a_producer_by_its_name_across_connections() {
    let mut world = deduplicating();
    world.send_sequence(5, Facts::default(), "x");
    world.settle();
    world.broker.handle_disconnected(CLIENT);
    let out = world.producer(CLIENT, "t", "p", Access::Shared);
    assert!(out.iter().any(|effect| matches!(effect, Effect::ProducerReady { last_sequence_id: 5, .. })), "{out:?}");
    world.send_sequence(5, Facts::default(), "x");
    assert_eq!(receipts(&world.take()), [(5, None)]);
}

#[test]
fn without_the_policy_nothing_is_a_duplicate() {
    let mut world = world();
    world.send_sequence(0, Facts::default(), "x");
    world.send_sequence(0, Facts::default(), "x");
    assert_eq!(receipts(&world.take()), [(0, Some(0)), (0, Some(1))]);
}

// covers: producer_name
#[test]
fn a_producer_name_is_used_once() {
    let mut world = world();
    let out = world.producer(OTHER, "t", "p", Access::Shared);
    assert_eq!(refused(&out), Some(RefusalKind::ProducerBusy));
}

#[test]
fn made_up_names_differ() {
    let mut world = World::new();
    let names: Vec<String> = [CLIENT, OTHER]
        .into_iter()
        .flat_map(|connection| world.producer(connection, "t", "", Access::Shared))
        .filter_map(|effect| match effect {
            Effect::ProducerReady { name, .. } => Some(name),
            _ => None,
        })
        .collect();
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
}

// covers: access_modes
#[test]
fn an_exclusive_producer_has_the_topic_for_itself() {
    let mut world = World::new();
    assert_eq!(ready(&world.producer(CLIENT, "t", "a", Access::Exclusive)), Some(true));
    assert_eq!(refused(&world.producer(OTHER, "t", "b", Access::Shared)), Some(RefusalKind::ProducerBusy));
    assert_eq!(refused(&world.producer(OTHER, "t", "b", Access::Exclusive)), Some(RefusalKind::ProducerFenced));
}

// covers: access_modes
#[test]
fn a_waiting_producer_gets_the_topic_when_it_is_free() {
    let mut world = World::new();
    world.producer(CLIENT, "t", "a", Access::Exclusive);
    assert_eq!(ready(&world.producer(OTHER, "t", "b", Access::WaitForExclusive)), Some(false));
    world.broker.handle_disconnected(CLIENT);
    assert_eq!(ready(&world.take()), Some(true));
}

// covers: access_modes
#[test]
fn a_fencing_producer_closes_the_others() {
    let mut world = World::new();
    world.producer(CLIENT, "t", "a", Access::Exclusive);
    let out = world.producer(OTHER, "t", "b", Access::ExclusiveWithFencing);
    assert_eq!(ready(&out), Some(true));
    assert!(out.contains(&Effect::ProducerClosed { connection: CLIENT, producer_id: 1 }));
}

#[test]
fn an_unload_disconnects_everybody_and_begins_a_ledger() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Exclusive, 10);
    world.send("k", "x");
    world.settle();
    world.broker.handle_unload(&TopicName::parse("t").expect("valid")).expect("unloaded");
    let out = world.take();
    assert!(out.contains(&Effect::ProducerClosed { connection: CLIENT, producer_id: 1 }));
    assert!(out.contains(&Effect::ConsumerClosed { consumer }));
    world.producer(CLIENT, "t", "p", Access::Shared);
    world.send("k", "y");
    world.settle();
    let storage = world.broker.topic_storage(&TopicName::parse("t").expect("valid")).expect("exists");
    assert_eq!(storage.stats.last, Some(Position { ledger: 2, entry: 0 }));
    assert_eq!(storage.ledgers, [(1, 1), (2, 1)]);
}

#[test]
fn nothing_is_stored_behind_a_message_that_could_not_be() {
    let mut world = world();
    world.automatic = false;
    for _ in 0..3 {
        world.send("k", "x");
    }
    world.settle();
    world.store_one();
    world.fail_one();
    world.fail_one();
    world.send("k", "y");
    let out = world.take();
    assert_eq!((receipts(&out), errors(&out)), (vec![(0, Some(0))], vec![1, 2, 3]));
    assert!(world.storing.is_empty(), "what followed is not stored either");
    world.automatic = true;
    world.producer(CLIENT, "t", "p", Access::Shared);
    world.send("k", "again");
    let out = world.take();
    assert_eq!(receipts(&out), [(4, Some(0))], "in a new ledger");
}

// covers: deduplication
#[test]
fn a_failed_message_is_no_duplicate_when_it_is_sent_again() {
    let mut world = deduplicating();
    world.automatic = false;
    world.send_sequence(0, Facts::default(), "x");
    world.settle();
    world.fail_one();
    world.take();
    world.automatic = true;
    world.producer(CLIENT, "t", "p", Access::Shared);
    world.send_sequence(0, Facts::default(), "x");
    assert_eq!(receipts(&world.take()), [(0, Some(0))]);
}

// covers: send_errors
#[test]
fn while_changes_cannot_be_stored_nothing_is_accepted_and_then_everything_is() {
    let mut world = world();
    world.automatic = false;
    let out = world.subscribe_as(OTHER, 1, |_| ());
    assert!(out.is_empty());
    world.fail_one();
    assert_eq!(refused(&world.take()), Some(RefusalKind::Storage));
    world.send("k", "x");
    assert_eq!(errors(&world.take()), [0]);
    world.broker.handle_tick(world.now_ms);
    world.automatic = true;
    world.settle();
    assert!(world.stored.iter().any(|effect| matches!(effect, Effect::Log(Change::Subscription { .. }))));
    world.producer(CLIENT, "t", "p", Access::Shared);
    world.send("k", "x");
    assert_eq!(receipts(&world.take()).len(), 1);
}

#[test]
fn cursors_do_not_pile_up_while_the_disk_is_full() {
    let mut world = world();
    let consumer = world.consumer(1, Kind::Shared, 10);
    world.send("k", "x");
    world.settle();
    world.ack(consumer, &[0]);
    world.automatic = false;
    for _ in 0..10 {
        world.broker.handle_tick(world.now_ms);
        world.settle();
        assert!(world.storing.len() <= 1);
        while !world.storing.is_empty() {
            world.fail_one();
        }
    }
}
