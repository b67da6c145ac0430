//! What comes back after a restart is what was stored.

use super::packed::Packed;
use super::restore::Restore;
use super::*;

/// Restarts the world from a snapshot (or none) and everything that was stored after it.
pub fn restarted(world: &World, snapshot: Option<(Snapshot, usize)>) -> World {
    let (snapshot, covered) = snapshot.unwrap_or((Snapshot::initial(), 0));
    let json = serde_json::to_vec(&snapshot).expect("plain data");
    let mut restore = Restore::new(serde_json::from_slice(&json).expect("plain data"));
    for (index, effect) in world.stored.iter().enumerate() {
        match effect {
            Effect::Append { topic, position, facts, origin, .. } => {
                let location = Location { segment: 1, offset: index as u32, len: 100 };
                restore.messages(*topic, *position, Packed::of(&[Entry { location, facts: *facts }]));
                if let Some((name, sequence)) = origin {
                    restore.sequence(*topic, name, *sequence);
                }
            }
            Effect::Log(change) if index >= covered => {
                let json = serde_json::to_vec(change).expect("plain data");
                restore.change(serde_json::from_slice(&json).expect("plain data"));
            }
            _ => {}
        }
    }
    World::restored(restore.finish())
}

fn busy() -> World {
    let mut world = World::new();
    world.broker.handle_create_tenant("acme").expect("created");
    world.broker.handle_create_namespace("acme/shop", Policies::default()).expect("created");
    world.broker.handle_set_policies("public/default", |policies| policies.deduplication = Some(true)).expect("set");
    world.producer(CLIENT, "t", "p", Access::Shared);
    let consumer = world.consumer(1, Kind::Shared, 100);
    for n in 0..10 {
        world.send("k", &n.to_string());
    }
    world.delivered();
    world.ack(consumer, &[0, 1, 2, 4, 5, 9]);
    world
}

fn check(mut world: World) {
    assert!(world.broker.catalog().namespaces.contains_key("acme/shop"));
    world.consumer(1, Kind::Shared, 100);
    assert_eq!(world.entries(), [3, 6, 7, 8]);
    let out = world.producer(CLIENT, "t", "p", Access::Shared);
    assert!(out.iter().any(|effect| matches!(effect, Effect::ProducerReady { last_sequence_id: 9, .. })));
    world.send_sequence(10, Facts::default(), "new");
    let out = world.take();
    let new = out.iter().find_map(|effect| match effect {
        Effect::Receipt { position, .. } => *position,
        _ => None,
    });
    let new = new.expect("a receipt");
    assert!(new.ledger > 1 && new.entry == 0, "{new}");
}

// covers: durable_cursor
#[test]
fn everything_comes_back_from_the_log_alone() {
    let mut world = busy();
    world.broker.save_cursors();
    world.settle();
    check(restarted(&world, None));
}

// covers: durable_cursor
#[test]
fn everything_comes_back_from_a_snapshot_at_any_point() {
    let mut world = busy();
    let early = (world.broker.snapshot(), world.stored.len());
    world.broker.save_cursors();
    world.settle();
    let late = (world.broker.snapshot(), world.stored.len());
    check(restarted(&world, Some(early)));
    check(restarted(&world, Some(late.clone())));
    // Changes that a snapshot has already may come again.
    check(restarted(&world, Some((late.0, 0))));
}

#[test]
fn cursors_that_were_not_saved_only_repeat() {
    let world = busy();
    let mut again = restarted(&world, None);
    again.consumer(1, Kind::Shared, 100);
    assert_eq!(again.entries().len(), 10);
}

#[test]
fn a_deleted_topic_stays_deleted_and_its_namesake_is_empty() {
    let mut world = busy();
    let topic = TopicName::parse("t").expect("valid");
    world.broker.handle_delete_topic(&topic, true).expect("deleted");
    world.settle();
    assert!(restarted(&world, None).broker.topic_stats(&topic).is_err());
    world.broker.handle_create_topic(&topic).expect("created");
    world.settle();
    let again = restarted(&world, None);
    assert_eq!(again.broker.topic_stats(&topic).expect("exists").entries, 0);
}

#[test]
fn acks_of_what_was_trimmed_stay_acks() {
    let mut world = busy();
    let consumer = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    world.ack(consumer, &[3, 6, 7, 8]);
    world.begin_segment();
    world.broker.handle_retention(world.now_ms, world.segment());
    world.broker.save_cursors();
    world.settle();
    // The trimmed entries are still in a file, because something else in it is needed.
    let mut again = restarted(&world, Some((world.broker.snapshot(), world.stored.len())));
    again.consumer(1, Kind::Shared, 100);
    assert!(again.entries().is_empty());
}

#[test]
fn a_cursor_with_many_holes_is_persisted_less_often() {
    let mut world = World::new();
    world.producer(CLIENT, "t", "p", Access::Shared);
    world.consumer(1, Kind::Shared, 10_000);
    for _ in 0..5000 {
        world.send("", "x");
    }
    world.entries();
    let consumer = ConsumerKey { connection: CLIENT, consumer_id: 1 };
    let mut next = 1;
    let mut saved = |world: &mut World, acks: u64, ticks: usize| {
        let before = world.stored.len();
        for _ in 0..ticks {
            let entries: Vec<u64> = (0..acks).map(|n| next + 2 * n).collect();
            next += 2 * acks;
            world.ack(consumer, &entries);
            world.now_ms += 1000;
            world.broker.handle_tick(world.now_ms);
            world.settle();
        }
        let stored = &world.stored[before..];
        stored.iter().filter(|effect| matches!(effect, Effect::Log(Change::Subscription { .. }))).count()
    };
    assert_eq!(saved(&mut world, 3, 6), 6, "few holes, every tick");
    assert_eq!(saved(&mut world, 2100, 1), 0, "many");
    assert_eq!(saved(&mut world, 1, 6), 2, "every third tick");
    assert_eq!(saved(&mut world, 1, 1), 0);
    world.broker.save_cursors();
    world.settle();
    let mut again = restarted(&world, None);
    again.consumer(1, Kind::Shared, 10_000);
    assert_eq!(again.entries().len(), 5000 - (18 + 2100 + 7), "nothing is left unsaved in the end");
}

#[test]
fn producers_are_known_after_a_restart_whatever_their_clocks_said() {
    let mut world = World::new();
    world.broker.handle_set_policies("public/default", |policies| policies.deduplication = Some(true)).expect("set");
    world.producer(CLIENT, "t", "p", Access::Shared);
    let published_long_ago = Facts { publish_time_ms: 1, ..Facts::default() };
    world.send_sequence(5, published_long_ago, "x");
    world.settle();
    let mut world = restarted(&world, None);
    let hour_ms = 60 * 60 * 1000;
    let mut known = |hours: u64| {
        world.now_ms += hours * hour_ms;
        world.broker.handle_tick(world.now_ms);
        let out = world.producer(CLIENT, "t", "p", Access::Shared);
        world.broker.handle_disconnected(CLIENT);
        out.iter().any(|effect| matches!(effect, Effect::ProducerReady { last_sequence_id: 5, .. }))
    };
    assert!(known(0) && known(5), "forgotten at once");
    assert!(!known(2), "remembered for ever");
}
