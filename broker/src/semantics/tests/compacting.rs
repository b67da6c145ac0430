//! Compaction: what a reader of the compacted part gets, what the log may let go of, what survives a restart.

use super::producing::refused;
use super::restoring::restarted;
use super::*;
use crate::semantics::compaction::{CompactionStatus, LastCompaction, Outcome};

fn topic() -> TopicName {
    TopicName::parse("t").expect("valid")
}

/// What the state machine asks to be compacted.
fn asked(world: &mut World) -> Option<TopicId> {
    world.take().into_iter().find_map(|effect| match effect {
        Effect::Compact { topic } => Some(topic),
        _ => None,
    })
}

/// Compacts as if these entries were the last of their keys.
fn compact(world: &mut World, kept: &[u64]) {
    world.broker.handle_compact(&topic()).expect("asked for");
    let id = asked(world).expect("to be compacted");
    begin(world, id, kept);
    world.broker.handle_end_compaction(id, Ok(Outcome::default()));
    world.settle();
}

fn begin(world: &mut World, id: TopicId, kept: &[u64]) {
    let all = world.broker.handle_begin_compaction(id).expect("something to compact");
    for (position, entry) in all {
        if kept.contains(&position.entry) {
            world.broker.handle_compacted(id, position, entry.facts, Bytes::from_static(b"kept"));
        }
    }
    world.settle();
}

/// What a reader from the earliest message gets.
fn read(world: &mut World, consumer_id: u64) -> Vec<u64> {
    let out = world.subscribe_as(OTHER, consumer_id, |request| {
        request.subscription = format!("reader{consumer_id}");
        request.kind = Kind::Exclusive;
        request.durable = false;
        request.start = Some(Start::Earliest);
        request.read_compacted = true;
    });
    assert_eq!(refused(&out), None);
    world.broker.handle_flow(ConsumerKey { connection: OTHER, consumer_id }, 100);
    world.entries()
}

fn sent(count: u64) -> World {
    let mut world = world();
    for n in 0..count {
        world.send("k", &n.to_string());
    }
    world.settle();
    world
}

/// Lets go of all that is not needed.
fn trim(world: &mut World) {
    world.begin_segment();
    world.broker.handle_retention(world.now_ms, world.segment());
    world.settle();
}

#[test]
fn a_reader_gets_what_was_kept_and_then_the_log() {
    let mut world = sent(6);
    compact(&mut world, &[2, 5]);
    assert_eq!(world.broker.compaction_status(&topic()), Ok(CompactionStatus::Success));
    world.send("k", "6");
    world.settle();
    assert_eq!(read(&mut world, 1), [2, 5, 6]);
    world.send("k", "7");
    assert_eq!(world.entries(), [7], "and what comes later");
    let out =
        world.subscribe_as(OTHER, 2, |request| (request.subscription, request.kind) = ("all".into(), Kind::Failover));
    assert_eq!(refused(&out), None);
    world.broker.handle_flow(ConsumerKey { connection: OTHER, consumer_id: 2 }, 100);
    assert_eq!(world.entries(), (0..8).collect::<Vec<_>>(), "others get everything");
}

#[test]
fn the_next_compaction_starts_from_what_was_kept() {
    let mut world = sent(4);
    compact(&mut world, &[1, 3]);
    for n in 4..6 {
        world.send("k", &n.to_string());
    }
    world.settle();
    world.broker.handle_compact(&topic()).expect("asked for");
    let id = asked(&mut world).expect("to be compacted");
    let all = world.broker.handle_begin_compaction(id).expect("something new");
    assert_eq!(all.iter().map(|(position, _)| position.entry).collect::<Vec<_>>(), [1, 3, 4, 5]);
}

#[test]
fn with_nothing_new_there_is_nothing_to_do() {
    let mut world = sent(2);
    compact(&mut world, &[1]);
    world.broker.handle_compact(&topic()).expect("asked for");
    let id = asked(&mut world).expect("to be compacted");
    assert_eq!(world.broker.handle_begin_compaction(id), None);
    assert_eq!(world.broker.compaction_status(&topic()), Ok(CompactionStatus::Success));
    assert_eq!(read(&mut world, 1), [1]);
}

#[test]
fn what_was_kept_outlives_the_log() {
    let mut world = sent(6);
    compact(&mut world, &[2, 5]);
    trim(&mut world);
    let compacted = world.broker.compacted(&topic()).expect("exists").expect("compacted");
    assert_eq!((compacted.entries, compacted.horizon), (2, Position { ledger: 1, entry: 5 }));
    let stats = world.broker.topic_stats(&topic()).expect("exists");
    assert_eq!(stats.entries, 0, "the log has let go of everything");
    assert_eq!(read(&mut world, 1), [2, 5]);
    let last = world.broker.last_message_id(ConsumerKey { connection: OTHER, consumer_id: 1 }).expect("a consumer");
    assert_eq!(last.position, Some(Position { ledger: 1, entry: 5 }));
    for snapshot in [None, Some((world.broker.snapshot(), world.stored.len()))] {
        // The log of a restarted broker has what its segments have: here, still everything.
        let mut world = restarted(&world, snapshot);
        assert_eq!(read(&mut world, 1), [2, 5]);
    }
}

#[test]
fn once_compacted_the_log_is_held_until_it_is_compacted_again() {
    let mut world = sent(2);
    compact(&mut world, &[1]);
    for n in 2..4 {
        world.send("k", &n.to_string());
    }
    world.settle();
    trim(&mut world);
    assert_eq!(world.broker.topic_stats(&topic()).expect("exists").entries, 2);
    compact(&mut world, &[1, 3]);
    trim(&mut world);
    assert_eq!(world.broker.topic_stats(&topic()).expect("exists").entries, 0);
    assert_eq!(read(&mut world, 1), [1, 3]);
}

#[test]
fn a_crash_in_the_middle_leaves_the_former_result() {
    let mut world = sent(4);
    compact(&mut world, &[1, 3]);
    for n in 4..6 {
        world.send("k", &n.to_string());
    }
    world.settle();
    world.broker.handle_compact(&topic()).expect("asked for");
    let id = asked(&mut world).expect("to be compacted");
    begin(&mut world, id, &[5]);
    for snapshot in [None, Some((world.broker.snapshot(), world.stored.len()))] {
        let mut world = restarted(&world, snapshot);
        assert_eq!(read(&mut world, 1), [1, 3, 4, 5]);
        assert_eq!(world.broker.compaction_status(&topic()), Ok(CompactionStatus::NotRun));
    }
    world.broker.handle_end_compaction(id, Ok(Outcome::default()));
    world.settle();
    for snapshot in [None, Some((world.broker.snapshot(), world.stored.len()))] {
        assert_eq!(read(&mut restarted(&world, snapshot), 1), [5]);
    }
}

#[test]
fn the_stats_tell_of_the_last_compaction() {
    let mut world = world();
    let last = |world: &World| world.broker.topic_stats(&topic()).expect("exists").compaction;
    assert_eq!(last(&world), LastCompaction::default());
    let mut attempt = |outcome: Result<Outcome, String>| {
        world.send("k", "x");
        world.settle();
        world.broker.handle_compact(&topic()).expect("asked for");
        let id = asked(&mut world).expect("to be compacted");
        world.broker.handle_now(world.now_ms);
        begin(&mut world, id, &[]);
        world.now_ms += 30;
        world.broker.handle_now(world.now_ms);
        world.broker.handle_end_compaction(id, outcome);
        (world.now_ms, last(&world))
    };
    let (first, told) = attempt(Ok(Outcome { removed: 5, last_index: None }));
    assert_eq!(told, LastCompaction { removed: 5, succeeded_ms: first, failed_ms: 0, took_ms: 30 });
    let (second, told) = attempt(Err("unreadable".into()));
    assert_eq!(told, LastCompaction { removed: 0, succeeded_ms: first, failed_ms: second, took_ms: 30 });
}

#[test]
fn what_cannot_be_stored_or_read_gives_up_the_attempt_and_its_space() {
    let mut world = sent(4);
    compact(&mut world, &[3]);
    world.send("k", "4");
    world.settle();
    for fails_to_store in [true, false] {
        world.broker.handle_compact(&topic()).expect("asked for");
        let id = asked(&mut world).expect("to be compacted");
        if fails_to_store {
            let all = world.broker.handle_begin_compaction(id).expect("something new");
            world.settle();
            world.automatic = false;
            world.broker.handle_compacted(id, all[0].0, all[0].1.facts, Bytes::new());
            world.settle();
            world.fail_one();
            world.automatic = true;
            world.broker.handle_end_compaction(id, Ok(Outcome::default()));
        } else {
            begin(&mut world, id, &[3, 4]);
            world.broker.handle_end_compaction(id, Err("unreadable".into()));
        }
        let released = world.take().into_iter().filter(|effect| matches!(effect, Effect::Released { .. })).count();
        assert_eq!(released, usize::from(!fails_to_store));
        assert!(matches!(world.broker.compaction_status(&topic()), Ok(CompactionStatus::Error(_))));
    }
    assert_eq!(read(&mut world, 1), [3, 4]);
}

#[test]
fn old_results_and_deleted_topics_give_their_space_back() {
    let released = |out: Vec<Effect>| {
        let released = out.into_iter().map(|effect| match effect {
            Effect::Released { entries, .. } => entries,
            _ => 0,
        });
        released.sum::<u64>()
    };
    let mut world = sent(4);
    compact(&mut world, &[1, 3]);
    world.send("k", "4");
    world.settle();
    world.take();
    world.broker.handle_compact(&topic()).expect("asked for");
    let id = asked(&mut world).expect("to be compacted");
    begin(&mut world, id, &[4]);
    world.broker.handle_end_compaction(id, Ok(Outcome::default()));
    assert_eq!(released(world.take()), 2);
    world.broker.handle_delete_topic(&topic(), true).expect("deleted");
    assert_eq!(released(world.take()), 5 + 1);
}

#[test]
fn a_namespace_can_have_topics_compacted_by_size() {
    let mut world = sent(3);
    let threshold = |policies: &mut Policies| policies.compaction_threshold = Some(250);
    world.broker.handle_set_policies("public/default", threshold).expect("set");
    world.broker.handle_tick(world.now_ms);
    let id = asked(&mut world).expect("three entries of 100 bytes are too many");
    world.broker.handle_tick(world.now_ms);
    assert_eq!(asked(&mut world), None, "it has been asked for");
    begin(&mut world, id, &[2]);
    world.broker.handle_end_compaction(id, Ok(Outcome::default()));
    world.send("k", "3");
    world.settle();
    world.broker.handle_tick(world.now_ms);
    assert_eq!(asked(&mut world), None);
}

#[test]
fn acknowledged_messages_do_not_come_again_though_only_compaction_has_them() {
    let mut world = sent(6);
    compact(&mut world, &[1, 3, 5]);
    trim(&mut world);
    let subscribe = |request: &mut Subscribe| {
        request.kind = Kind::Exclusive;
        request.read_compacted = true;
    };
    world.subscribe_as(CLIENT, 1, subscribe);
    let consumer = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.broker.handle_flow(consumer, 10);
    assert_eq!(world.entries(), [1, 3, 5]);
    world.ack(consumer, &[3]);
    world.ack(consumer, &[1]);
    world.settle();
    world.broker.handle_close_consumer(consumer, 9);
    world.subscribe_as(CLIENT, 1, subscribe);
    world.broker.handle_flow(consumer, 10);
    assert_eq!(world.entries(), [5]);
}

#[test]
fn only_one_consumer_in_order_can_read_so() {
    let mut world = sent(1);
    for kind in [Kind::Shared, Kind::KeyShared] {
        let out = world.subscribe_as(OTHER, 1, |request| (request.kind, request.read_compacted) = (kind, true));
        assert_eq!(refused(&out), Some(RefusalKind::NotAllowed));
    }
    let out = world.subscribe_as(OTHER, 1, |request| {
        request.topic = "non-persistent://public/default/n".into();
        (request.kind, request.read_compacted) = (Kind::Exclusive, true);
    });
    assert_eq!(refused(&out), Some(RefusalKind::NotAllowed));
}
