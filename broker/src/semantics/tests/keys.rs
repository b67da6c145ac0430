//! Key_Shared.

use std::collections::BTreeMap;

use super::*;

/// Keys that belong to each of two consumers named c1 and c2.
pub fn keys() -> (String, String) {
    let mut ring = hash::Ring::default();
    ring.add(1, "c1");
    ring.add(2, "c2");
    let of = |owner| {
        let mut keys = (0..).map(|n: u32| format!("key-{n}"));
        keys.find(|key| ring.owner(hash::ring_place(hash::sticky_hash(key.as_bytes()))) == Some(owner))
            .expect("some key")
    };
    (of(1), of(2))
}

#[test]
fn a_key_goes_to_one_consumer() {
    let mut world = world();
    world.consumer(1, Kind::KeyShared, 1000);
    world.consumer(2, Kind::KeyShared, 1000);
    for n in 0..300 {
        world.send(&format!("key-{}", n % 30), "x");
    }
    let mut owners = BTreeMap::new();
    for (consumer, entry, _) in world.delivered() {
        assert_eq!(*owners.entry(entry % 30).or_insert(consumer), consumer);
    }
    assert_eq!(owners.len(), 30);
    assert!(owners.values().any(|owner| *owner == 1) && owners.values().any(|owner| *owner == 2));
}

// covers: key_shared
#[test]
fn key_does_not_move_while_a_message_of_it_is_unacked() {
    let (_, key) = keys();
    let mut world = world();
    let first = world.consumer(1, Kind::KeyShared, 1000);
    world.send(&key, "held");
    assert_eq!(world.delivered(), [(1, 0, 0)]);
    // The key belongs to the second consumer from now on, but its first message is at the first one.
    world.consumer(2, Kind::KeyShared, 1000);
    world.send(&key, "waits");
    world.send(&key, "waits, too");
    assert!(world.delivered().is_empty());
    world.ack(first, &[0]);
    assert_eq!(world.delivered(), [(2, 1, 0), (2, 2, 0)]);
}

// covers: key_shared
#[test]
fn a_draining_key_moves_in_order_when_its_holder_closes() {
    let (_, key) = keys();
    let mut world = world();
    let first = world.consumer(1, Kind::KeyShared, 1000);
    world.send(&key, "0");
    world.send(&key, "1");
    assert_eq!(world.delivered().len(), 2);
    world.consumer(2, Kind::KeyShared, 1000);
    world.send(&key, "2");
    assert!(world.delivered().is_empty());
    world.broker.handle_close_consumer(first, 9);
    assert_eq!(world.delivered(), [(2, 0, 0), (2, 1, 0), (2, 2, 0)]);
}

#[test]
fn blocked_messages_do_not_block_other_keys() {
    let (mine, key) = keys();
    let mut world = world();
    world.consumer(1, Kind::KeyShared, 100_000);
    world.send(&key, "held");
    world.delivered();
    world.consumer(2, Kind::KeyShared, 100_000);
    for _ in 0..20_000 {
        world.send(&key, "blocked");
    }
    world.send(&mine, "free");
    assert_eq!(world.delivered(), [(1, 20_001, 0)]);
}

#[test]
fn a_consumer_without_permits_does_not_hold_up_the_other() {
    let (one, two) = keys();
    let mut world = world();
    world.consumer(1, Kind::KeyShared, 1);
    world.consumer(2, Kind::KeyShared, 100);
    for key in [&one, &one, &two, &one, &two] {
        world.send(key, "x");
    }
    assert_eq!(world.delivered(), [(1, 0, 0), (2, 2, 0), (2, 4, 0)]);
    world.broker.handle_flow(ConsumerKey { connection: CLIENT, consumer_id: 1 }, 10);
    assert_eq!(world.delivered(), [(1, 1, 0), (1, 3, 0)]);
}

#[test]
fn an_ack_by_another_consumer_frees_a_draining_key() {
    let (_, key) = keys();
    let mut world = world();
    world.consumer(1, Kind::KeyShared, 10);
    world.send(&key, "held");
    assert_eq!(world.delivered(), [(1, 0, 0)]);
    let second = world.consumer(2, Kind::KeyShared, 10);
    world.send(&key, "waits");
    assert!(world.delivered().is_empty());
    world.ack(second, &[0]);
    assert_eq!(world.delivered(), [(2, 1, 0)]);
}

#[test]
fn a_consumer_that_comes_back_has_its_keys_again() {
    let mut world = world();
    world.consumer(1, Kind::KeyShared, 1000);
    let second = world.consumer(2, Kind::KeyShared, 1000);
    let owners = |world: &mut World| {
        for n in 0..50 {
            world.send(&format!("key-{n}"), "x");
        }
        let delivered = world.delivered();
        let owners: BTreeMap<u64, u64> = delivered.iter().map(|(consumer, entry, _)| (entry % 50, *consumer)).collect();
        for (_, entry, _) in delivered {
            world.ack(ConsumerKey { connection: CLIENT, consumer_id: 1 }, &[entry]);
        }
        owners
    };
    let before = owners(&mut world);
    world.broker.handle_close_consumer(second, 9);
    world.consumer(2, Kind::KeyShared, 1000);
    assert_eq!(owners(&mut world), before);
}

// covers: key_shared
#[test]
fn order_within_keys_holds_whatever_happens() {
    // A fixed mixture of joins, leaves, redeliveries and acks; the sequence is arbitrary but always the same.
    let mut world = world();
    let mut seed = 12345u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let mut consumers: Vec<ConsumerKey> = vec![world.consumer(1, Kind::KeyShared, 20)];
    let mut next_consumer = 2;
    let mut sent: Vec<u64> = Vec::new();
    // Entries that are at a consumer now, and those acked.
    let mut held: BTreeMap<u64, u64> = BTreeMap::new();
    let mut acked = std::collections::BTreeSet::new();
    for _ in 0..3000 {
        match random(10) {
            0..5 => {
                let key = random(12);
                world.send(&format!("key-{key}"), "x");
                sent.push(key);
            }
            5..7 => {
                let entries: Vec<u64> = held.keys().copied().collect();
                if !entries.is_empty() {
                    let entry = entries[random(entries.len() as u64) as usize];
                    held.remove(&entry);
                    acked.insert(entry);
                    world.ack(consumers[0], &[entry]);
                }
            }
            7 => {
                let consumer = consumers[random(consumers.len() as u64) as usize];
                world.broker.handle_flow(consumer, 5);
            }
            8 if consumers.len() < 4 => {
                consumers.push(world.consumer(next_consumer, Kind::KeyShared, 20));
                next_consumer += 1;
            }
            _ if consumers.len() > 1 => {
                let gone = consumers.remove(random(consumers.len() as u64) as usize);
                held.retain(|_, consumer| *consumer != gone.consumer_id);
                world.broker.handle_close_consumer(gone, 9);
            }
            _ => {}
        }
        for (consumer, entry, _) in world.delivered() {
            assert!(!acked.contains(&entry), "{entry} came after it was acked");
            assert!(held.insert(entry, consumer).is_none(), "{entry} is at two consumers");
            let key = sent[entry as usize];
            for (other, at) in &held {
                assert!(sent[*other as usize] != key || *at == consumer, "key {key} is at two consumers");
            }
            let earlier = (0..entry).filter(|other| sent[*other as usize] == key);
            for other in earlier {
                assert!(acked.contains(&other) || held.contains_key(&other), "{entry} overtook {other} of its key");
            }
        }
    }
    assert!(acked.len() > 300, "the mixture does something");
}
